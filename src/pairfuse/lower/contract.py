"""Contractions: sums over the components of a row vector and a column vector, as a matrix product computes them.

In: expanded, simplified formulas, the names of the kept and of the reduced axis.  Out: the same formulas, in which

    dot       sum_d(a * b)
    sqdist    sum_d((a - b) ** 2)

of a vector `a` of the kept axis and a vector `b` of the reduced axis, both long, are nodes of the operation
`contraction`; constants, parameters and numbers that depend on both axes are taken out of them.

A backend that knows nothing of matrix units may ignore what the node says: its components are the plain loop.  The CPU
backend is not given contracted formulas at all: on vector registers the loop over differences is nearly as fast, exact
for equal points, and loses nothing far from the origin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..ir.expr import Expr, Op, call, rebuild, register, toposort

# Matrix units multiply 16 components at a time.
SHORTEST = 16

DOT, SQDIST = "dot", "sqdist"


def _component(node: Expr, d: Any, at: Callable[..., Expr], fold: Callable[..., Expr]) -> Expr:
    a, b = node.args

    def term(k: Any) -> Expr:
        if node.param("form") == DOT:
            return at(a, k) * at(b, k)
        difference = at(a, k) - at(b, k)
        return difference * difference

    return fold("sum", a.dim, term)


def _value(a: Any, b: Any, form: str) -> Any:
    return (a * b if form == DOT else (a - b) ** 2).sum(-1, keepdims=True)


register(
    Op(
        "contraction",
        2,
        lambda a, b, form: 1,
        params=("form",),
        ref=_value,
        component=_component,
        traits=frozenset({"fold"}),
        doc="The inner product or the squared distance of a row vector and a column vector.",
    )
)


@dataclass(frozen=True, slots=True)
class Contraction:
    """form(row, column) * factor / divisor, with the other sign where it is negative; None stands for 1."""

    form: str
    row: Expr
    column: Expr
    factor: Expr | None = None
    divisor: Expr | None = None
    negative: bool = False

    def node(self) -> Expr:
        """The expression: a `contraction`, and what was taken out of it."""
        result = call("contraction", self.row, self.column, form=self.form)
        if self.factor is not None:
            result = result * self.factor
        if self.divisor is not None:
            result = result / self.divisor
        return -result if self.negative else result


def contract(formulas: Iterable[Expr], kept: str, over: str, shortest: int = SHORTEST) -> tuple[Expr, ...]:
    """The formulas with every contraction of vectors of at least this length made a node."""

    def rule(node: Expr) -> Expr:
        found = recognise(node, kept, over) if node.name == "sum_d" and node.args[0].dim >= shortest else None
        return node if found is None else found.node()

    return rebuild(formulas, rule)


def contractions(*roots: Expr) -> list[Expr]:
    """The `contraction` nodes below the roots."""
    return [n for n in toposort(*roots) if n.name == "contraction"]


def recognise(node: Expr, kept: str, over: str) -> Contraction | None:
    """The contraction that a `sum_d` node is, if it is one."""
    if node.name != "sum_d" or node.dim != 1 or node.args[0].dim == 1:
        return None
    product = Product.of(node.args[0])
    return _squared_distance(product, kept, over) or _inner_product(product, kept, over)


@dataclass(slots=True)
class Product:
    """A product taken apart: its factors and divisors, and whether its sign is changed."""

    factors: list[Expr]
    divisors: list[Expr]
    negative: bool

    @classmethod
    def of(cls, node: Expr) -> Product:
        found = cls([], [], False)
        stack = [(node, found.factors)]
        while stack:
            x, place = stack.pop()
            if x.name == "neg":
                found.negative = not found.negative
                stack.append((x.args[0], place))
            elif x.name == "mul":
                stack += [(a, place) for a in reversed(x.args)]
            elif x.name == "div" and place is found.factors:
                stack += [(x.args[1], found.divisors), (x.args[0], place)]
            else:
                place.append(x)
        return found


def _inner_product(product: Product, kept: str, over: str) -> Contraction | None:
    sides: dict[str, list[Expr]] = {kept: [], over: []}
    outside: list[Expr] = []
    for x in product.factors:
        if len(x.axes) == 1:
            sides[next(iter(x.axes))].append(x)
        elif x.dim == 1:
            outside.append(x)
        elif x.axes:
            return None
        else:  # a vector of parameters weighs the components: it goes with the rows
            sides[kept].append(x)
    if any(x.dim > 1 for x in product.divisors):
        return None
    row, column = multiplied(sides[kept]), multiplied(sides[over])
    if row is None or column is None or row.dim != column.dim or row.dim == 1:
        return None
    return _with_rest(DOT, row, column, outside, product)


def _squared_distance(product: Product, kept: str, over: str) -> Contraction | None:
    vectors = [x for x in (*product.factors, *product.divisors) if x.dim > 1]
    if len(vectors) != 2 or vectors[0] is not vectors[1] or vectors[0] in product.divisors:
        return None
    difference = vectors[0]
    if difference.name not in ("sub", "add"):
        return None
    a, b = difference.args
    if difference.name == "add":
        b = -b
    if (a.axes, b.axes) == (frozenset({over}), frozenset({kept})):
        a, b = b, a
    if (a.axes, b.axes) != (frozenset({kept}), frozenset({over})) or a.dim != b.dim:
        return None
    return _with_rest(SQDIST, a, b, [x for x in product.factors if x.dim == 1], product)


def _with_rest(form: str, row: Expr, column: Expr, outside: list[Expr], product: Product) -> Contraction:
    return Contraction(form, row, column, multiplied(outside), multiplied(product.divisors), product.negative)


def multiplied(factors: list[Expr]) -> Expr | None:
    """The product of all factors; None where there is none."""
    result: Expr | None = None
    for x in factors:
        result = x if result is None else result * x
    return result
