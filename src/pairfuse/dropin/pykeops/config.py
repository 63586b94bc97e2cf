"""`pykeops.config`: what is installed, and where compiled kernels are kept."""

from __future__ import annotations

import importlib
import importlib.util

from pairfuse.config import config as settings
from pairfuse.dropin.absent import INTERNAL, NO_COMPILER, refusing

numpy_found = True
torch_found = importlib.util.find_spec("torch") is not None


def get_build_folder() -> str:
    """The folder in which compiled kernels are kept."""
    return settings.cache_folder


def any_gpu() -> bool:
    """Does torch see a GPU that Triton can compile for? Asked anew each time: importing this module calls no CUDA."""
    if not torch_found or importlib.util.find_spec("triton") is None:
        return False
    return bool(importlib.import_module("torch").cuda.is_available())


__getattr__ = refusing(
    __name__,
    {
        **dict.fromkeys(("pykeops_base", "pykeops_cuda", "pykeops_openmp", "python_includes"), NO_COMPILER),
        **dict.fromkeys(("pykeops_nvrtc_name", "pykeops_cpp_name"), NO_COMPILER),
        **dict.fromkeys(("config", "platform_detector", "cuda_config", "openmp_config"), INTERNAL),
        **dict.fromkeys(("get_config", "get_platform_config", "get_cuda_config", "get_openmp_config"), INTERNAL),
    },
    {"gpu_available": any_gpu},
)
