"""`pykeops.config`: what is installed, and where compiled kernels are kept."""

from __future__ import annotations

import importlib.util

import keopscore
from keopscore.config import (
    any_gpu,
    config,
    cuda_config,
    get_config,
    get_cuda_config,
    get_openmp_config,
    get_platform_config,
    openmp_config,
    platform_detector,
)

numpy_found = True
torch_found = importlib.util.find_spec("torch") is not None
pykeops_base, pykeops_cuda, pykeops_openmp = config, cuda_config, openmp_config


def get_build_folder() -> str:
    """The folder in which compiled kernels are kept."""
    return config.get_build_folder()


def __getattr__(name: str) -> object:
    if name == "gpu_available":
        return any_gpu()
    raise AttributeError(name)


__all__ = [
    "config",
    "cuda_config",
    "get_build_folder",
    "get_config",
    "get_cuda_config",
    "get_openmp_config",
    "get_platform_config",
    "keopscore",
    "numpy_found",
    "openmp_config",
    "platform_detector",
    "pykeops_base",
    "pykeops_cuda",
    "pykeops_openmp",
    "torch_found",
]
