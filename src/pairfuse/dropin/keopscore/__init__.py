"""`keopscore`, as far as programs use it: switches, the folder of compiled kernels, the symbolic operations."""

from __future__ import annotations

import importlib
import os

from pairfuse.runtime import cache, execute

__version__ = "2.3"
# Accepted, and without effect: equal parts of a formula are always computed once, and what is shown while a formula is
# compiled is said by pairfuse.config.debug.
auto_factorize = False
debug_ops = False
debug_ops_at_exec = False
verbose = os.environ.get("KEOPS_VERBOSE", "1") != "0"
cuda_block_size = 192

_settings = importlib.import_module("keopscore.config")  # the module: `config` is the object of this name

from . import formulas, utils  # noqa: E402
from .config import (  # noqa: E402
    cuda_config,
    get_config,
    get_cuda_config,
    get_openmp_config,
    get_platform_config,
    openmp_config,
    platform_detector,
)
from .utils.misc_utils import CHECK_MARK, CROSS_MARK  # noqa: E402

config = _settings.config
build_folder = _settings.config.get_build_folder()
show_gpu_config = cuda_config
set_build_folder = _settings.config.set_different_build_folder


def check_health(config_type: str = "all") -> None:
    """Print what this installation has."""
    _settings.config.print_all()


def clean_keops(recompile_jit_binary: bool = True, verbose: bool = True) -> None:
    """Remove every compiled kernel, from the disk and from this process."""
    cache.clear()
    execute.clear()


def __getattr__(name: str) -> object:
    if name == "show_cuda_status":
        return _settings.any_gpu()
    raise AttributeError(name)


__all__ = [
    "CHECK_MARK",
    "CROSS_MARK",
    "check_health",
    "clean_keops",
    "config",
    "cuda_config",
    "formulas",
    "get_config",
    "get_cuda_config",
    "get_openmp_config",
    "get_platform_config",
    "openmp_config",
    "platform_detector",
    "set_build_folder",
    "utils",
]
