"""Exact rules for numbers, truth values and indices, component by component.

In: nothing.  Out: the tables of rules, one rule for each line, named by its algebra.
"""

from __future__ import annotations

import numpy as np

from ..ir.expr import Expr, call, const
from .patterns import divide_by_constant, inner, is_truth, is_value, merge_factors, number
from .rewrite import ANY, Rule, binary, ternary, unary

# ---------------------------------------------------------------------- constants


def _fold_constants(node: Expr) -> Expr | None:
    if not node.args or not node.op.elementwise or node.op.ref is None or not all(a.is_const() for a in node.args):
        return None
    with np.errstate(all="ignore"):
        value = node.op.ref(*(np.array([a.param("value")]) for a in node.args), **dict(node.params))
    return const(np.asarray(value).item(), node.kind)


def _constant_last(node: Expr) -> Expr | None:
    x, y = node.args if len(node.args) == 2 else (node, node)
    return call(node.name, y, x) if "commutative" in node.op.traits and x.is_const() and not y.is_const() else None


CONSTANTS = (
    Rule("exp(0.0) -> 1.0", ANY, _fold_constants),
    Rule("2.0 * x -> x * 2.0", ANY, _constant_last),
    binary("mul", "x * 3.0 * 0.5 -> x * 1.5", lambda x, y: merge_factors(x, y, exact=True)),
    binary("div", "x / 4.0 -> x * 0.25", lambda x, y: divide_by_constant(x, y, exact=True)),
    binary("pow", "pow(x, 0.0) -> repeat(1.0, 3)", lambda x, y: const(1) if is_value(y, 0) else None),
    binary("pow", "pow(x, 1.0) -> x", lambda x, y: x if is_value(y, 1) else None),
    binary("pow", "pow(x, 2.0) -> x * x", lambda x, y: x * x if is_value(y, 2) else None),
    binary("pow", "pow(x, -1.0) -> 1.0 / x", lambda x, y: 1 / x if is_value(y, -1) else None),
)

# ---------------------------------------------------------------------- zeros, ones, signs
# A sign moves to where it costs least: into a constant, else to the shorter factor, else to the front.


def _negated_product(x: Expr) -> Expr | None:
    if x.name not in ("mul", "div"):
        return None
    a, b = x.args
    for k, factor in ((1, b), (0, a)):
        if (value := number(factor)) is not None:
            return call(x.name, *(const(-value) if n == k else f for n, f in enumerate(x.args)))
    if a.dim < x.dim:
        return call(x.name, -a, b)
    return call(x.name, a, -b) if b.dim < x.dim else None


def _negated_factor(node: Expr) -> Expr | None:
    a, b = node.args
    if a.name == "neg" and a.dim == node.dim:
        return -call(node.name, a.args[0], b)
    return -call(node.name, a, b.args[0]) if b.name == "neg" and b.dim == node.dim else None


def _squared(x: Expr | None) -> Expr | None:
    return None if x is None else x * x


SIGNS = (
    binary("add", "x + 0.0 -> x", lambda x, y: x if is_value(y, 0) else None),
    binary("add", "x + -y -> x - y", lambda x, y: x - y.args[0] if y.name == "neg" else None),
    binary("add", "-x + y -> y - x", lambda x, y: y - x.args[0] if x.name == "neg" else None),
    binary("sub", "x - 0.0 -> x", lambda x, y: x if is_value(y, 0) else None),
    binary("sub", "0.0 - x -> -x", lambda x, y: -y if is_value(x, 0) else None),
    binary("sub", "x - -y -> x + y", lambda x, y: x + y.args[0] if y.name == "neg" else None),
    binary("mul", "x * 1.0 -> x", lambda x, y: x if is_value(y, 1) else None),
    binary("mul", "x * -1.0 -> -x", lambda x, y: -x if is_value(y, -1) else None),
    unary("neg", "--x -> x", lambda x: inner(x, "neg")),
    unary("neg", "-(x - y) -> y - x", lambda x: x.args[1] - x.args[0] if x.name == "sub" else None),
    unary("neg", "-(s * x) -> -s * x", _negated_product),
    Rule("-x * y -> -(x * y)", "mul", _negated_factor),
    Rule("-x / y -> -(x / y)", "div", _negated_factor),
    unary("abs", "abs(-x) -> abs(x)", lambda x: call("abs", x.args[0]) if x.name == "neg" else None),
    unary("abs", "abs(abs(x)) -> abs(x)", lambda x: x if x.name == "abs" else None),
    unary("abs", "abs(x * x) -> x * x", lambda x: x if x.name == "mul" and x.args[0] is x.args[1] else None),
    binary("mul", "abs(x) * abs(x) -> x * x", lambda x, y: _squared(inner(x, "abs")) if x is y else None),
    binary("minimum", "minimum(x, x) -> x", lambda x, y: x if x is y else None),
    binary("maximum", "maximum(x, x) -> x", lambda x, y: x if x is y else None),
)

# ---------------------------------------------------------------------- choices and truth values


def _truth_of(x: Expr) -> Expr | None:
    """c if x is c as a number, 1 or 0."""
    if x.name == "to_real" and x.args[0].kind == "bool":
        return x.args[0]
    return x.args[0] if x.name == "where" and is_value(x.args[1], 1) and is_value(x.args[2], 0) else None


def _not(x: Expr | None) -> Expr | None:
    return None if x is None else ~x


def _opposite(x: Expr) -> Expr | None:
    if x.name in ("eq", "ne"):  # the other comparisons are all false on NaN
        return call("ne" if x.name == "eq" else "eq", *x.args)
    opposite = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}.get(x.name)
    return call(opposite, *x.args) if opposite and x.args[0].kind == "index" else None


CHOICES = (
    ternary("where", "where(True, x, y) -> x", lambda c, a, b: a if is_truth(c, True) else None),
    ternary("where", "where(False, x, y) -> y", lambda c, a, b: b if is_truth(c, False) else None),
    ternary("where", "where(c, x, x) -> x", lambda c, a, b: a if a is b else None),
    ternary("where", "where(~c, x, y) -> where(c, y, x)", lambda c, a, b: _where_not(c, a, b)),
    ternary(
        "where", "where(c, True, False) -> c", lambda c, a, b: c if is_truth(a, True) and is_truth(b, False) else None
    ),
    ternary("where", "where(c, where(c, x, y), z) -> where(c, x, z)", lambda c, a, b: _where_known(c, a, b)),
    unary("logical_not", "~~c -> c", lambda c: inner(c, "logical_not")),
    unary("logical_not", "~(x == y) -> x != y", _opposite),
    binary("logical_and", "d & True -> d", lambda c, d: c if is_truth(d, True) or c is d else None),
    binary("logical_and", "d & False -> False", lambda c, d: d if is_truth(d, False) else None),
    binary("logical_or", "d | False -> d", lambda c, d: c if is_truth(d, False) or c is d else None),
    binary("logical_or", "d | True -> True", lambda c, d: d if is_truth(d, True) else None),
    binary("ne", "to_real(c) != 0.0 -> c", lambda x, y: _truth_of(x) if is_value(y, 0) else None),
    binary("eq", "to_real(c) == 0.0 -> ~c", lambda x, y: _not(_truth_of(x)) if is_value(y, 0) else None),
)


def _where_not(c: Expr, a: Expr, b: Expr) -> Expr | None:
    return call("where", c.args[0], b, a) if c.name == "logical_not" else None


def _where_known(c: Expr, a: Expr, b: Expr) -> Expr | None:
    """Inside of a branch, its condition is known."""
    if a.name == "where" and a.args[0] is c:
        return call("where", c, a.args[1], b)
    return call("where", c, a, b.args[2]) if b.name == "where" and b.args[0] is c else None


# ---------------------------------------------------------------------- indices


def _multiple_divided(x: Expr, n: Expr) -> Expr | None:
    exact = n.kind == "index" and n.is_const() and n.param("value") > 0
    return x.args[0] if exact and x.name == "mul" and x.args[1] is n else None


def _is_rounded(x: Expr) -> bool:
    return x.name in ("floor", "ceil", "trunc")


def _is_whole(x: Expr) -> bool:
    return x.name == "to_real" and x.args[0].kind != "real"


INDICES = (
    binary("floordiv", "k // 1 -> k", lambda x, n: x if n.kind == "index" and is_value(n, 1) else None),
    binary("floordiv", "k * 3 // 3 -> k", _multiple_divided),
    binary("sub", "k - k -> 0", lambda x, y: const(0, "index") if x is y and x.kind == "index" else None),
    binary("mul", "k * 0 -> 0", lambda x, y: y if y.kind == "index" and is_value(y, 0) else None),
    unary("to_index", "to_index(to_real(k)) -> k", lambda x: _index_of(x)),
    unary("floor", "floor(floor(x)) -> floor(x)", lambda x: x if _is_rounded(x) else None),
    unary("floor", "floor(to_real(k)) -> to_real(k)", lambda x: x if _is_whole(x) else None),
    unary("to_real", "to_real(x) -> x", lambda x: x if x.kind == "real" else None),
    unary("to_index", "to_index(k) -> k", lambda x: x if x.kind == "index" else None),
)


def _index_of(x: Expr) -> Expr | None:
    return x.args[0] if x.name == "to_real" and x.args[0].kind == "index" else None
