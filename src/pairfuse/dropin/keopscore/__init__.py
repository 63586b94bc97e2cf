"""`keopscore`, as far as programs use it: switches, the folder of compiled kernels, the symbolic operations."""

from __future__ import annotations

from pairfuse import info
from pairfuse.config import Config
from pairfuse.config import config as settings
from pairfuse.dropin.absent import INTERNAL, NO_COMPILER, refusing
from pairfuse.runtime import cache, execute

from . import config, formulas

# Accepted, and without effect: equal parts of a formula are always computed once, and what is shown while a formula is
# compiled is said by pairfuse.config.debug.
auto_factorize = False
debug_ops = False
debug_ops_at_exec = False
verbose = True
cuda_block_size = 192


def check_health(config_type: str = "all") -> None:
    """Print what this installation has."""
    print(info.text())


def clean_keops(recompile_jit_binary: bool = True, verbose: bool = True) -> None:
    """Remove every compiled kernel, from the disk and from this process."""
    cache.clear()
    execute.clear()


def set_build_folder(path: str | None = None, **_: object) -> None:
    """Keep compiled kernels in another folder; None: in the default one."""
    settings.cache_folder = Config.from_environment({}).cache_folder if path is None else str(path)
    execute.clear()


__getattr__ = refusing(
    __name__,
    {
        **dict.fromkeys(("cuda_config", "openmp_config", "platform_detector"), NO_COMPILER),
        **dict.fromkeys(("get_config", "get_cuda_config", "get_openmp_config", "get_platform_config"), NO_COMPILER),
        **dict.fromkeys(("get_keops_dll", "mapreduce", "binders", "utils"), INTERNAL),
    },
)

__all__ = ["check_health", "clean_keops", "config", "formulas", "set_build_folder"]
