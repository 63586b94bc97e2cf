"""Pairfuse: pairwise computations on symbolic matrices, without ever storing the matrix.

    from pairfuse.numpy import LazyTensor        # on NumPy arrays
    from pairfuse.torch import LazyTensor        # on torch tensors, differentiable

Importing this package loads nothing heavier than NumPy; what compiles and what differentiates is loaded on first use.
"""

import importlib

from .config import Config, config
from .errors import (
    CompileError,
    ConvergenceWarning,
    DtypeError,
    FormulaError,
    KeywordError,
    PairfuseError,
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


__all__ = [
    "CompileError",
    "Config",
    "ConvergenceWarning",
    "DtypeError",
    "FormulaError",
    "KeywordError",
    "PairfuseError",
    "ShapeError",
    "SolverError",
    "SymbolicError",
    "UnsupportedError",
    "__version__",
    "config",
    "install_as_pykeops",
]
