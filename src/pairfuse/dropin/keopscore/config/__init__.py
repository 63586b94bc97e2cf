"""`keopscore.config`: a place for the switches that programs set; they have no effect here.

Data on the CPU is computed on the CPU, data on a GPU there, whatever `use_cuda` says.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from pairfuse import info
from pairfuse.config import Config as Defaults
from pairfuse.config import config as settings
from pairfuse.dropin.absent import NO_COMPILER, refusal
from pairfuse.runtime import execute

use_cuda = False


def any_gpu() -> bool:
    """Does torch see a GPU that Triton can compile for? Asked anew each time: importing this module calls no CUDA."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("triton") is None:
        return False
    return bool(importlib.import_module("torch").cuda.is_available())


class Settings:
    """What programs ask of KeOps' settings; whatever else they set is kept, and has no effect."""

    use_cuda = False

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def get_use_cuda(self) -> bool:
        """Is there a GPU that can be used?"""
        return any_gpu()

    def get_build_folder(self) -> str:
        """The folder in which compiled kernels are kept."""
        return settings.cache_folder

    def set_different_build_folder(self, path: str | None = None, **_: Any) -> None:
        """Keep compiled kernels in another folder; None: in the default one."""
        settings.cache_folder = Defaults.from_environment({}).cache_folder if path is None else str(path)
        execute.clear()

    def get_cuda_block_size(self) -> int:
        """A number of KeOps' kernels, without effect here."""
        return 192

    def set_cuda_block_size(self, cuda_block_size: int = 192) -> None:
        """Nothing."""

    def print_all(self) -> None:
        """Print what this installation has."""
        print(info.text())

    @property
    def config(self) -> Settings:
        """The settings of the build folder: `keopscore.config` is a module and, after an import of it, this object."""
        return config

    def __getattr__(self, name: str) -> Any:
        raise refusal(f"keopscore.config.{self.__dict__.get('__name__', '')}.{name}", why=NO_COMPILER)


config, cuda_config = Settings("config"), Settings("cuda_config")
openmp_config, platform_detector = Settings("openmp_config"), Settings("platform_detector")


def get_config() -> Settings:
    """The settings of the build folder."""
    return config


def get_cuda_config() -> Settings:
    """The settings of GPUs."""
    return cuda_config


def get_openmp_config() -> Settings:
    """The settings of threads."""
    return openmp_config


def get_platform_config() -> Settings:
    """The settings of the machine."""
    return platform_detector
