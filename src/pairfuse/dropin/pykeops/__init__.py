"""`pykeops`, as Pairfuse offers it: the names of PyKeOps 2.3, computed by Pairfuse.

`import pykeops` imports neither torch nor a compiler; `pykeops.numpy` and `pykeops.torch` are imported when asked for.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import keopscore
import numpy as np

from . import common, config
from . import config as pykeopsconfig
from .common import keops_io
from .config import get_build_folder, numpy_found, torch_found

__version__ = "2.3"  # the version of PyKeOps whose contract is kept
verbose = os.environ.get("PYKEOPS_VERBOSE", "1") != "0"
default_device_id = 0
keops_get_build_folder = get_build_folder


def set_verbose(val: bool) -> None:
    """Should the bindings' tests print their result?"""
    global verbose
    verbose = bool(val)
    keopscore.verbose = bool(val)


def clean_pykeops(recompile_jit_binaries: bool = True) -> None:
    """Remove every compiled kernel, from the disk and from this process."""
    keopscore.clean_keops(recompile_jit_binaries)


def set_build_folder(path: str | None = None) -> None:
    """Keep compiled kernels in another folder; None: in the default one."""
    keopscore.set_build_folder(path)


def check_health() -> None:
    """Print what this installation has."""
    keopscore.check_health()


def test_numpy_bindings() -> None:
    """Compute one small formula on NumPy arrays, and say whether the result is right."""
    x, y = np.arange(1, 10, dtype=np.float32), np.arange(3, 9, dtype=np.float32)
    _check("numpy", x.reshape(-1, 3), y.reshape(-1, 3))


def test_torch_bindings() -> None:
    """The same on torch tensors."""
    torch: Any = importlib.import_module("torch")
    x, y = torch.arange(1.0, 10.0), torch.arange(3.0, 9.0)
    _check("torch", x.view(-1, 3), y.view(-1, 3))


def _check(binding: str, x: Any, y: Any) -> None:
    genred = importlib.import_module(f"{__name__}.{binding}").Genred
    result = genred("SqNorm2(x - y)", ["x = Vi(3)", "y = Vj(3)"], reduction_op="Sum", axis=0)(x, y)
    right = [float(v) for v in result.reshape(-1)] == [63.0, 90.0]
    if verbose:
        print(f"pyKeOps with {binding} bindings {'is working!' if right else f'gives a wrong result: {result}'}")


def __getattr__(name: str) -> object:
    if name == "show_cuda_status":
        return config.any_gpu()
    raise AttributeError(name)


__all__ = [
    "check_health",
    "clean_pykeops",
    "common",
    "config",
    "default_device_id",
    "get_build_folder",
    "keops_get_build_folder",
    "keops_io",
    "numpy_found",
    "pykeopsconfig",
    "set_build_folder",
    "set_verbose",
    "test_numpy_bindings",
    "test_torch_bindings",
    "torch_found",
    "verbose",
]
