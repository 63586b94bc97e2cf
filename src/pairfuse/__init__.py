"""Pairfuse: pairwise computations on symbolic matrices, without ever storing the matrix.

    from pairfuse.numpy import LazyTensor        # on NumPy arrays
    from pairfuse.torch import LazyTensor        # on torch tensors, differentiable

Importing this package loads nothing heavier than NumPy; what compiles and what differentiates is loaded on first use.
"""

import importlib
from typing import Any

from .config import Config, config
from .errors import (
    CompileError,
    ConvergenceWarning,
    DenseSizeError,
    DtypeError,
    FormulaError,
    KeywordError,
    PairfuseError,
    SelectionError,
    ShapeError,
    SolverError,
    SymbolicError,
    UnsupportedError,
)
from .version import __version__


def install_as_pykeops() -> None:
    """Let `import pykeops` and `import keopscore` give Pairfuse from now on, in this process.

    For programs written for PyKeOps, where the real one is installed; call it before they import it.

    Example::

        >>> import pairfuse
        >>> pairfuse.install_as_pykeops()
        >>> from pykeops.numpy import LazyTensor
        >>> LazyTensor.__module__
        'pairfuse.dropin.lazytensor'
    """
    importlib.import_module("pairfuse.dropin").install()


OF_FACES = ("ComplexLazyTensor", "Genred", "LazyTensor", "Pm", "Vi", "Vj", "index_i", "index_j", "where")


def __getattr__(name: str) -> Any:
    if name in OF_FACES:  # an ImportError, because Python hides the text of an AttributeError behind its own
        raise ImportError(
            f"{name} has two faces: `from pairfuse.numpy import {name}` for NumPy arrays, "
            f"`from pairfuse.torch import {name}` for torch tensors."
        )
    raise AttributeError(f"module 'pairfuse' has no attribute {name!r}")


__all__ = [
    "CompileError",
    "Config",
    "ConvergenceWarning",
    "DenseSizeError",
    "DtypeError",
    "FormulaError",
    "KeywordError",
    "PairfuseError",
    "SelectionError",
    "ShapeError",
    "SolverError",
    "SymbolicError",
    "UnsupportedError",
    "__version__",
    "config",
    "install_as_pykeops",
]
