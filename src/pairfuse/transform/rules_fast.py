"""Rules that may change the rounding, or lose an infinity or a NaN.

In: nothing.  Out: the table of rules, one rule for each line, named by its algebra.
"""

from __future__ import annotations

from ..ir.expr import Expr, call, const
from .patterns import divide_by_constant, inner, is_value, merge_factors, number
from .rewrite import Rule, binary, unary


def _exponentials(x: Expr, y: Expr, name: str) -> Expr | None:
    return call("exp", call(name, x.args[0], y.args[0])) if x.name == y.name == "exp" else None


def _common_factor(x: Expr, y: Expr, name: str) -> Expr | None:
    """a * b + a * d = a * (b + d)."""
    if x.name != "mul" or y.name != "mul":
        return None
    for n in (0, 1):
        for m in (0, 1):
            if x.args[n] is y.args[m]:
                return x.args[n] * call(name, x.args[1 - n], y.args[1 - m])
    return None


def _factor_of_sum(node: Expr) -> Expr | None:
    x = node.args[0]
    if x.name not in ("mul", "div") or node.param("group") == 1:
        return None
    a, b = x.args
    if a.dim > b.dim == 1:
        return call(x.name, call("sum_d", a, group=node.param("group")), b)
    return a * call("sum_d", b, group=node.param("group")) if b.dim > a.dim == 1 and x.name == "mul" else None


def _sum_of_sums(node: Expr) -> Expr | None:
    x = node.args[0]
    return call("sum_d", x.args[0], group=node.param("group") * x.param("group")) if x.name == "sum_d" else None


def _small_power(x: Expr, y: Expr) -> Expr | None:
    value = number(y)
    if value is None or not value.is_integer() or not 2 < value <= 8:
        return None
    result, bit = x, int(value)
    for digit in f"{bit:b}"[1:]:
        result = result * result * x if digit == "1" else result * result
    return result


FAST = (
    binary("mul", "x * 3.0 * 5.0 -> x * 15.0", lambda x, y: merge_factors(x, y, exact=False)),
    binary("div", "x / 3.0 -> x * (1.0 / 3.0)", lambda x, y: divide_by_constant(x, y, exact=False)),
    binary("mul", "x * 0.0 -> repeat(0.0, 3)", lambda x, y: y if is_value(y, 0) else None),
    binary("sub", "x - x -> repeat(0.0, 3)", lambda x, y: const(0) if x is y else None),
    binary("div", "x / x -> repeat(1.0, 3)", lambda x, y: const(1) if x is y else None),
    binary("mul", "exp(x) * exp(y) -> exp(x + y)", lambda x, y: _exponentials(x, y, "add")),
    binary("div", "exp(x) / exp(y) -> exp(x - y)", lambda x, y: _exponentials(x, y, "sub")),
    unary("exp", "exp(log(x)) -> x", lambda x: inner(x, "log")),
    unary("log", "log(exp(x)) -> x", lambda x: inner(x, "exp")),
    binary("mul", "sqrt(x) * sqrt(x) -> x", lambda x, y: inner(x, "sqrt") if x is y else None),
    unary(
        "sqrt",
        "sqrt(x * x) -> abs(x)",
        lambda x: call("abs", x.args[0]) if x.name == "mul" and x.args[0] is x.args[1] else None,
    ),
    binary("pow", "pow(x, 0.5) -> sqrt(x)", lambda x, y: call("sqrt", x) if is_value(y, 0.5) else None),
    binary("pow", "pow(x, 3.0) -> x * x * x", _small_power),
    binary("add", "x * y + x * z -> x * (y + z)", lambda x, y: _common_factor(x, y, "add")),
    binary("sub", "x * y - x * z -> x * (y - z)", lambda x, y: _common_factor(x, y, "sub")),
    Rule("sum_d(s * x, 3) -> s * sum_d(x, 3)", "sum_d", _factor_of_sum),
    Rule("sum_d(sum_d(concat(x, y), 3), 2) -> sum_d(concat(x, y), 6)", "sum_d", _sum_of_sums),
)
