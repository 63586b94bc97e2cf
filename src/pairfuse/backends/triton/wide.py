"""Wide sums: sum_j k_ij b_j of a number per pair and a long vector of the columns, as matrix products compute them.

In: a kernel.  Out: which term and which slots of its state are so (`wide_of`), or None.  The state of a wide slot is a
block (rows, components) per program instead of one block for each component: it grows by the matrix product of the
block of the k_ij and that of the b_j, so that a formula is evaluated once for up to 128 components.  Products with a
matrix (K @ B) and attention are of this kind.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.expr import Expr, call, const, leaf, substitute
from ...lower.contract import SHORTEST, Product
from ...lower.kernel import Kernel


@dataclass(frozen=True, slots=True)
class Wide:
    """Term number `term` is left * right: `left` one number per pair (None: 1), `right` a vector of the columns.

    slots   names of the slots that sum it
    """

    term: int
    left: Expr | None
    right: Expr
    slots: frozenset[str]


def wide_of(kernel: Kernel) -> Wide | None:
    """The wide sum of a kernel of float32, if it is one and nothing in its state is a vector but sums."""
    machine = kernel.machine
    if kernel.problem.dtype != "float32" or machine.by_column:
        return None
    long = [k for k, t in enumerate(kernel.terms) if t.dim > 1]
    slots = frozenset(s.name for s in machine.slots if s.dim > 1)
    sums = all(s.additive and s.kind == "real" for s in machine.slots if s.dim > 1)
    if len(long) != 1 or not sums or not slots or kernel.terms[long[0]].dim < SHORTEST:
        return None
    found = _factors(kernel.terms[long[0]], kernel.problem.over)
    return None if found is None else Wide(long[0], *found, slots)


def _factors(term: Expr, over: str) -> tuple[Expr | None, Expr] | None:
    """(left, right) of a vector term."""
    product = Product.of(term)
    left: Expr | None = None
    right: Expr | None = None
    for x in product.factors:
        if x.dim == 1:
            left = x if left is None else left * x
        elif x.axes <= {over}:
            right = x if right is None else right * x
        else:
            return None
    if right is None or right.axes != frozenset({over}) or right.dim != term.dim:
        return None
    for x in product.divisors:
        if x.dim > 1:
            return None
        left = 1 / x if left is None else left / x
    if product.negative:
        left = const(-1.0) if left is None else -left
    return left, right


def summand(value: Expr, old: Expr, wide: Wide, named: Expr) -> Expr:
    """What is summed times `right`, for the new value `old + fold_columns(sum, ...)` of a wide slot.

    named: the leaf that stands for the wide term in the steps of the machine.
    """
    a, b = value.args
    folded = b if a is old else a
    assert value.name == "add"
    assert old in (a, b)
    assert folded.name == "fold_columns"
    one = leaf("slot", "real", name="one", dim=1, side="one")
    result = substitute(folded.args[0], {named: one})
    return substitute(result, {one: const(1.0) if wide.left is None else wide.left})


def place(width: int, block: int, blocks: int, component: Expr, number: Expr) -> Expr:
    """The component of the whole vector that stands at `number` of a block; beyond the last one, the last one."""
    place = component * block + number if blocks > 1 else number
    if block * blocks == width:
        return place
    last = const(width - 1, "index")
    return call("where", place > last, last, place)
