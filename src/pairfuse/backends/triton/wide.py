"""Wide sums: sum_j k_ij b_j of a number per pair and a long vector of the columns, as matrix products compute them.

In: a kernel.  Out: which term and which slots of its state are so (`wide_of`), or None.  The state of a wide slot is a
block (rows, components) per program instead of one block for each component: it grows by the matrix product of the
block of the k_ij and that of the b_j, so that a formula is evaluated once for up to 64 components.  Products with a
matrix (K @ B) and attention are of this kind.

Sums of differences are of this kind, too, where k_ij is made of the squared distance of the same two vectors: the
gradients of kernels.

    sum_j k_ij (x_i - y_j)  =  (x_i - c) sum_j k_ij  -  sum_j k_ij (y_j - c)

loses digits where x_i - y_j is much shorter than x_i - c and y_j - c.  But there the distance itself is not exact
enough: dots.py finds such tiles, and they are computed by differences.  In all others |x - y|^2 is larger than
TAU (|x - c|^2 + |y - c|^2), so that the terms of the right side, and what is rounded of them, are at most sqrt(2 / TAU)
times as large as those of the left one: 2.2 times for vectors of 64 components.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.expr import Expr, call, const, leaf, substitute
from ...lower.contract import SHORTEST, SQDIST, Product, contractions, multiplied
from ...lower.kernel import Kernel
from .worth import worth


@dataclass(frozen=True, slots=True)
class Wide:
    """Term number `term` is left * right, or left * (row - right).

    left     one number per pair (None: 1)
    right    a vector of the columns
    slots    names of the slots that sum it
    row      a vector of the rows, or None
    pair     the squared distance of `row` and `right` that is in `left`, or None
    """

    term: int
    left: Expr | None
    right: Expr
    slots: frozenset[str]
    row: Expr | None = None
    pair: Expr | None = None


def wide_of(kernel: Kernel) -> Wide | None:
    """The wide sum of a kernel of float32, if it is one and nothing in its state is a vector but sums.

    None where vectors are kept (kept.py), which matrix units do not read.
    """
    machine = kernel.machine
    if kernel.problem.dtype != "float32" or machine.by_column or kernel.kept:
        return None
    long = [k for k, t in enumerate(kernel.terms) if t.dim > 1]
    slots = frozenset(s.name for s in machine.slots if s.dim > 1)
    sums = all(s.additive and s.kind == "real" for s in machine.slots if s.dim > 1)
    if len(long) != 1 or not sums or not slots or kernel.terms[long[0]].dim < SHORTEST:
        return None
    return _factored(kernel, long[0], slots)


def _factored(kernel: Kernel, number: int, slots: frozenset[str]) -> Wide | None:
    """The wide sum of a vector term."""
    term, over = kernel.terms[number], kernel.problem.over
    product = Product.of(term)
    if any(x.dim > 1 for x in product.divisors):
        return None
    vectors = [x for x in product.factors if x.dim > 1]
    if all(x.axes <= {over} for x in vectors):
        right = multiplied(vectors)
        if right is None or right.axes != frozenset({over}) or right.dim != term.dim:
            return None
        return Wide(number, _number_of_pair(product), right, slots)
    pair = _pair_of(kernel, vectors)
    if pair is None or kernel.machine.revise is not None:
        return None
    row, right = pair.args
    product.negative ^= vectors[0].args[0] is right
    return Wide(number, _number_of_pair(product), right, slots, row, pair)


def _pair_of(kernel: Kernel, vectors: list[Expr]) -> Expr | None:
    """The squared distance from matrix units of which the one vector is the difference."""
    if len(vectors) != 1 or vectors[0].name != "sub":
        return None
    ends = set(vectors[0].args)
    nodes = (n for n in contractions(*kernel.terms) if n.param("form") == SQDIST and worth(kernel, n, False))
    return next((n for n in nodes if set(n.args) == ends), None)


def _number_of_pair(product: Product) -> Expr | None:
    """The product of all that is of length 1."""
    left = multiplied([x for x in product.factors if x.dim == 1])
    for x in product.divisors:
        left = 1 / x if left is None else left / x
    if product.negative:
        left = const(-1.0) if left is None else -left
    return left


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
