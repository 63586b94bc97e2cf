"""Replace derived operations by their definitions.

In: formulas.  Out: the same formulas written with primitive operations only, each of the same length and kind.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from ..errors import FormulaError
from ..ir.expr import Expr, as_kind, toposort, with_args

MAX_DEPTH = 64  # definitions within definitions: the table has 5, more than this many is a circle


def expand(
    roots: Iterable[Expr],
    leaves: Collection[Expr] = (),
    only: Callable[[Expr], bool] = lambda node: True,
) -> tuple[Expr, ...]:
    """The roots with every derived operation replaced by its definition.

    `leaves` are left as they are, with all that is below them; `only` says which derived nodes are replaced.
    """
    roots = tuple(roots)
    for _ in range(MAX_DEPTH):
        new = _once(roots, leaves, only)
        if new == roots:
            return roots
        roots = new
    raise FormulaError(f"the definitions of {_derived_names(roots)} go round in a circle")


def is_derived(node: Expr) -> bool:
    return node.op.expand is not None


def _once(roots: tuple[Expr, ...], leaves: Collection[Expr], only: Callable[[Expr], bool]) -> tuple[Expr, ...]:
    new: dict[Expr, Expr] = {leaf: leaf for leaf in leaves}
    for node in toposort(*roots):
        if node not in new:
            same = with_args(node, tuple(new[a] for a in node.args))
            new[node] = _definition(same) if is_derived(same) and only(same) else same
    return tuple(new[r] for r in roots)


def _definition(node: Expr) -> Expr:
    assert node.op.expand is not None
    result = as_kind(node.op.expand(*node.args, **dict(node.params)), node.kind)
    if result.dim != node.dim:
        raise FormulaError(f"the definition of {node.name} has length {result.dim}, its row says {node.dim}")
    return result


def _derived_names(roots: tuple[Expr, ...]) -> str:
    return ", ".join(sorted({n.name for n in toposort(*roots) if is_derived(n)}))
