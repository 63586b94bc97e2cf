"""The table of operations: one row says everything about one operation.

Primitive rows fill every cell; derived rows only have `expand`, a definition by other operations.  From a row come
the method of LazyTensor, the name in the formula language, the page of the manual, the random tests and the code of
every backend.  To add an operation, add a row (CONTRIBUTING.md shows how).  Conventions at special points follow
NumPy, except where the field relies on another one: rsqrt(0) = 0, and so the derivatives of sqrt and of norms at 0.

In: the files of rows, imported here, so that importing this module fills the whole table.  Out: `OPS` (every row),
`TABLE` (the operations of the user) and `lookup`.
"""

from __future__ import annotations

from . import ops_arithmetic, ops_complex, ops_composed, ops_functions, ops_integers, ops_structure, ops_vector
from .expr import OPS, Op
from .ops_integers import check_integers
from .rows import TABLE, where

__all__ = ["OPS", "PARTS", "TABLE", "Op", "check_integers", "lookup", "where"]

# Importing them has filled the table.
PARTS = (
    ops_arithmetic,
    ops_functions,
    ops_structure,
    ops_vector,
    ops_complex,
    ops_integers,
    ops_composed,
)


def lookup(name: str) -> Op:
    """The row of a canonical name or of an alias."""
    if name in OPS:
        return OPS[name]
    for op in OPS.values():
        if name in op.aliases:
            return op
    raise KeyError(name)
