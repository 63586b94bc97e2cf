"""How a row of the table of operations is written: shared cells, and one function for each family of rows.

In: the cells of one row.  Out: the row, registered in `OPS`, and in `TABLE`, which leaves out the leaves and what is
only used inside reductions and kernels.  The rows themselves stand in ops_*.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .expr import Expr, Op, broadcast_dim, call, register

TABLE: dict[str, Op] = {}  # the operations of the user

ELEMENTWISE = frozenset({"elementwise"})
COMMUTATIVE = frozenset({"elementwise", "commutative"})
FOLD = frozenset({"fold"})

Interval = tuple[float, float]
ANYWHERE: Interval = (-2.0, 2.0)
POSITIVE: Interval = (0.2, 3.0)

# Calls of a row with one, two and three arguments: equal lengths, and a length of 1 against a longer one.
BROADCASTS: dict[int, tuple[tuple[int, ...], ...]] = {
    1: ((1,), (3,)),
    2: ((1, 1), (3, 3), (1, 3), (3, 1)),
    3: ((1, 1, 1), (3, 3, 3), (3, 1, 1), (1, 3, 1), (1, 1, 3)),
}


def where(c: Expr, a: Expr | float, b: Expr | float) -> Expr:
    """a where c is true, else b."""
    return call("where", c, a, b)


def total(*terms: Expr | None) -> Expr | None:
    """The sum of the terms that are not None (None stands for zero)."""
    present = [t for t in terms if t is not None]
    if not present:
        return None
    result = present[0]
    for term in present[1:]:
        result = result + term
    return result


def same_dim(name: str) -> Callable[..., int]:
    """The `dim` cell of element-wise rows: equal lengths, or 1."""

    def dim(*dims: int, **_: Any) -> int:
        return broadcast_dim(name, *dims)

    return dim


def one(*_: int, **__: Any) -> int:
    """The `dim` cell of rows that give one number."""
    return 1


def _row(name: str, arity: int, dim: Callable[..., int], cells: dict[str, Any]) -> Op:
    nothing: dict[str, Any] = {}
    cells.setdefault("domain", (ANYWHERE,) * arity)
    cells.setdefault("samples", tuple((dims, nothing) for dims in BROADCASTS.get(arity, ())))
    TABLE[name] = register(Op(name=name, arity=arity, dim=dim, **cells))
    return TABLE[name]


def elementwise(name: str, arity: int, traits: frozenset[str] = ELEMENTWISE, **cells: Any) -> Op:
    """A row whose result has one component for each component of the arguments."""
    return _row(name, arity, same_dim(name), {"traits": traits, **cells})


def structural(name: str, arity: int, dim: Callable[..., int], **cells: Any) -> Op:
    """A row that moves or folds components; its tangent map is itself unless `jvp` is given."""
    return _row(name, arity, dim, cells)


def derived(name: str, arity: int, dim: Callable[..., int] | None = None, **cells: Any) -> Op:
    """A row that is only a definition by other operations."""
    return _row(name, arity, dim or same_dim(name), {"operands": "any", **cells})
