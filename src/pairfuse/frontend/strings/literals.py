"""The numbers that a formula string is written with, taken out of it: strings that differ in them share a kernel.

In: formulas, and the first slot that is free.  Out: formulas in which these numbers are components of one parameter,
and its values.  LazyTensor does the same with Python's floats.

Constants remain: exponents, which decide how a power is computed; powers of two that divide, which become factors; the
numbers that the simplifier looks for; what float32 does not hold, whose rounding is not for this file to decide.
"""

from __future__ import annotations

import math

from ...ir.expr import Expr, call, input_, toposort, with_args

SIMPLIFIED = (0.0, 0.5, 1.0, 2.0)  # of either sign
EXACT = 2.0**24  # whole numbers below it are exact in float32
SMALLEST, LARGEST = 1e-37, 1e38  # normal numbers of float32


def parametrised(exprs: tuple[Expr, ...], slot: int) -> tuple[tuple[Expr, ...], tuple[float, ...]]:
    """The formulas with input `slot`, a parameter, in the place of their numbers; and the numbers."""
    nodes = toposort(*exprs)
    places = {a: None for node in nodes for k, a in enumerate(node.args) if _varies(node, k)}
    if not places:
        return exprs, ()
    vector = input_(slot, "p", len(places))
    leaves = {a: call("elem", vector, index=k) if len(places) > 1 else vector for k, a in enumerate(places)}
    new: dict[Expr, Expr] = {}
    for node in nodes:
        args = [leaves[a] if _varies(node, k) else new[a] for k, a in enumerate(node.args)]
        new[node] = with_args(node, tuple(args))
    return tuple(new[e] for e in exprs), tuple(a.param("value") for a in places)


def _varies(node: Expr, place: int) -> bool:
    """Is this argument a number that another string may have another value of, without another kernel?"""
    x = node.args[place]
    if x.name != "const" or x.kind != "real":
        return False
    value = abs(x.param("value"))
    if value in SIMPLIFIED or not SMALLEST < value < LARGEST or (value.is_integer() and value >= EXACT):
        return False
    return not (place == 1 and (node.name == "pow" or (node.name == "div" and math.frexp(value)[0] == 0.5)))
