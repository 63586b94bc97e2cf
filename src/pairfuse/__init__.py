"""Pairfuse: pairwise computations on symbolic matrices, without ever storing the matrix.

    from pairfuse.numpy import LazyTensor        # on NumPy arrays
    from pairfuse.torch import LazyTensor        # on torch tensors, differentiable

Importing this package loads nothing heavier than NumPy; what compiles and what differentiates is loaded on first use.
"""

from .config import Config, config
from .errors import (
    CompileError,
    DtypeError,
    FormulaError,
    KeywordError,
    PairfuseError,
    ShapeError,
    SymbolicError,
    UnsupportedError,
)
from .version import __version__

__all__ = [
    "CompileError",
    "Config",
    "DtypeError",
    "FormulaError",
    "KeywordError",
    "PairfuseError",
    "ShapeError",
    "SymbolicError",
    "UnsupportedError",
    "__version__",
    "config",
]
