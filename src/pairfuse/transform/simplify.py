"""Simplify formulas by tables of rules, one rule for each line, named by its algebra.

In: formulas of primitive operations (derived ones are left alone).  Out: simpler formulas.  EXACT rules give the same
floating-point numbers, up to the sign of a zero, or numbers that are nearer to the exact ones; they are always
applied.  FAST rules may change the rounding, or lose an infinity or a NaN; they are applied where the user's choice of
precision allows it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ..ir.expr import Expr, call, const
from .rewrite import ANY, Report, Rule, binary, rewrite, ternary, unary


def simplify(roots: Iterable[Expr], fast: bool = False, report: Report | None = None) -> tuple[Expr, ...]:
    """The roots, simplified; `report(algebra, before, after)` is told of every rule that is applied."""
    return rewrite(roots, EXACT + FAST if fast else EXACT, report)


# ---------------------------------------------------------------------- questions


def _is(x: Expr, value: float) -> bool:
    return x.is_const(value)


def _number(x: Expr) -> float | None:
    """The value of a constant number (not of an index or a truth value)."""
    return x.param("value") if x.is_const() and x.kind == "real" else None


def _power_of_two(value: float | None) -> bool:
    """Products with it are exact; beyond 2 ** 16 they might leave the range of float32 on the way."""
    return value is not None and value != 0 and abs(math.frexp(value)[0]) == 0.5 and abs(math.frexp(value)[1]) <= 16


def _times_constant(x: Expr) -> tuple[Expr, float] | None:
    """(y, c) if x is y * c."""
    if x.name != "mul":
        return None
    value = _number(x.args[1])
    return None if value is None else (x.args[0], value)


def _inner(x: Expr, name: str) -> Expr | None:
    """The argument of x if x is an operation of this name."""
    return x.args[0] if x.name == name else None


def _repeated(x: Expr) -> Expr | None:
    """s if x is one number s repeated."""
    return x.args[0] if x.name == "repeat" and x.args[0].dim == 1 else None


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


def _merge_factors(x: Expr, y: Expr, exact: bool) -> Expr | None:
    found, value = _times_constant(x), _number(y)
    if found is None or value is None or (exact and not (_power_of_two(found[1]) or _power_of_two(value))):
        return None
    return found[0] * (found[1] * value)


def _divide_by_constant(x: Expr, y: Expr, exact: bool) -> Expr | None:
    value = _number(y)
    if value is None or value == 0 or (exact and not _power_of_two(value)):
        return None
    return x * (1 / value)


CONSTANTS = (
    Rule("exp(0.0) -> 1.0", ANY, _fold_constants),
    Rule("2.0 * x -> x * 2.0", ANY, _constant_last),
    binary("mul", "x * 3.0 * 0.5 -> x * 1.5", lambda x, y: _merge_factors(x, y, exact=True)),
    binary("div", "x / 4.0 -> x * 0.25", lambda x, y: _divide_by_constant(x, y, exact=True)),
    binary("pow", "pow(x, 0.0) -> repeat(1.0, 3)", lambda x, y: const(1) if _is(y, 0) else None),
    binary("pow", "pow(x, 1.0) -> x", lambda x, y: x if _is(y, 1) else None),
    binary("pow", "pow(x, 2.0) -> x * x", lambda x, y: x * x if _is(y, 2) else None),
    binary("pow", "pow(x, -1.0) -> 1.0 / x", lambda x, y: 1 / x if _is(y, -1) else None),
)

# ---------------------------------------------------------------------- zeros, ones, signs
# A sign moves to where it costs least: into a constant, else to the shorter factor, else to the front.


def _negated_product(x: Expr) -> Expr | None:
    if x.name not in ("mul", "div"):
        return None
    a, b = x.args
    for k, factor in ((1, b), (0, a)):
        if (value := _number(factor)) is not None:
            return call(x.name, *(const(-value) if n == k else f for n, f in enumerate(x.args)))
    if a.dim < x.dim:
        return call(x.name, -a, b)
    return call(x.name, a, -b) if b.dim < x.dim else None


def _negated_factor(node: Expr) -> Expr | None:
    a, b = node.args
    if a.name == "neg" and a.dim == node.dim:
        return -call(node.name, a.args[0], b)
    return -call(node.name, a, b.args[0]) if b.name == "neg" and b.dim == node.dim else None


SIGNS = (
    binary("add", "x + 0.0 -> x", lambda x, y: x if _is(y, 0) else None),
    binary("add", "x + -y -> x - y", lambda x, y: x - y.args[0] if y.name == "neg" else None),
    binary("add", "-x + y -> y - x", lambda x, y: y - x.args[0] if x.name == "neg" else None),
    binary("sub", "x - 0.0 -> x", lambda x, y: x if _is(y, 0) else None),
    binary("sub", "0.0 - x -> -x", lambda x, y: -y if _is(x, 0) else None),
    binary("sub", "x - -y -> x + y", lambda x, y: x + y.args[0] if y.name == "neg" else None),
    binary("mul", "x * 1.0 -> x", lambda x, y: x if _is(y, 1) else None),
    binary("mul", "x * -1.0 -> -x", lambda x, y: -x if _is(y, -1) else None),
    binary("div", "x / 1.0 -> x", lambda x, y: x if _is(y, 1) else None),
    unary("neg", "--x -> x", lambda x: _inner(x, "neg")),
    unary("neg", "-(x - y) -> y - x", lambda x: x.args[1] - x.args[0] if x.name == "sub" else None),
    unary("neg", "-(s * x) -> -s * x", _negated_product),
    Rule("-x * y -> -(x * y)", "mul", _negated_factor),
    Rule("-x / y -> -(x / y)", "div", _negated_factor),
    unary("abs", "abs(-x) -> abs(x)", lambda x: call("abs", x.args[0]) if x.name == "neg" else None),
    unary("abs", "abs(abs(x)) -> abs(x)", lambda x: x if x.name == "abs" else None),
    unary("abs", "abs(x * x) -> x * x", lambda x: x if x.name == "mul" and x.args[0] is x.args[1] else None),
    binary(
        "mul", "abs(x) * abs(x) -> x * x", lambda x, y: x.args[0] * x.args[0] if x is y and x.name == "abs" else None
    ),
    binary("minimum", "minimum(x, x) -> x", lambda x, y: x if x is y else None),
    binary("maximum", "maximum(x, x) -> x", lambda x, y: x if x is y else None),
)

# ---------------------------------------------------------------------- choices and truth values


def _truth_of(x: Expr) -> Expr | None:
    """c if x is c as a number, 1 or 0."""
    if x.name == "to_real" and x.args[0].kind == "bool":
        return x.args[0]
    return x.args[0] if x.name == "where" and _is(x.args[1], 1) and _is(x.args[2], 0) else None


def _not(x: Expr | None) -> Expr | None:
    return None if x is None else ~x


def _opposite(x: Expr) -> Expr | None:
    if x.name in ("eq", "ne"):  # the other comparisons are all false on NaN
        return call("ne" if x.name == "eq" else "eq", *x.args)
    opposite = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}.get(x.name)
    return call(opposite, *x.args) if opposite and x.args[0].kind == "index" else None


CHOICES = (
    ternary("where", "where(True, x, y) -> x", lambda c, a, b: a if _is(c, True) else None),
    ternary("where", "where(False, x, y) -> y", lambda c, a, b: b if _is(c, False) else None),
    ternary("where", "where(c, x, x) -> x", lambda c, a, b: a if a is b else None),
    ternary("where", "where(~c, x, y) -> where(c, y, x)", lambda c, a, b: _where_not(c, a, b)),
    ternary(
        "where",
        "where(c, True, False) -> c",
        lambda c, a, b: c if _is(a, True) and _is(b, False) and a.kind == "bool" else None,
    ),
    ternary("where", "where(c, where(c, x, y), z) -> where(c, x, z)", lambda c, a, b: _where_known(c, a, b)),
    unary("logical_not", "~~c -> c", lambda c: _inner(c, "logical_not")),
    unary("logical_not", "~(x == y) -> x != y", _opposite),
    binary("logical_and", "c & True -> c", lambda c, d: c if _is(d, True) or c is d else None),
    binary("logical_and", "c & False -> False", lambda c, d: d if _is(d, False) else None),
    binary("logical_or", "c | False -> c", lambda c, d: c if _is(d, False) or c is d else None),
    binary("logical_or", "c | True -> True", lambda c, d: d if _is(d, True) else None),
    binary("ne", "to_real(c) != 0.0 -> c", lambda x, y: _truth_of(x) if _is(y, 0) else None),
    binary("eq", "to_real(c) == 0.0 -> ~c", lambda x, y: _not(_truth_of(x)) if _is(y, 0) else None),
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


INDICES = (
    binary("floordiv", "k // 1 -> k", lambda x, n: x if n.kind == "index" and _is(n, 1) else None),
    binary("floordiv", "k * 3 // 3 -> k", _multiple_divided),
    binary("sub", "k - k -> 0", lambda x, y: const(0, "index") if x is y and x.kind == "index" else None),
    binary("mul", "k * 0 -> 0", lambda x, y: y if y.kind == "index" and _is(y, 0) else None),
    unary("to_index", "to_index(to_real(k)) -> k", lambda x: _index_of(x)),
    unary("floor", "floor(floor(x)) -> floor(x)", lambda x: x if x.name in ("floor", "ceil", "trunc") else None),
    unary("floor", "floor(to_real(k)) -> to_real(k)", lambda x: x if x.name == "to_real" else None),
)


def _index_of(x: Expr) -> Expr | None:
    return x.args[0] if x.name == "to_real" and x.args[0].kind == "index" else None


# ---------------------------------------------------------------------- components


def _extract(node: Expr) -> Expr | None:
    x, start, size = node.args[0], node.param("start"), node.param("size")
    if size == x.dim:
        return x
    if x.name == "extract":
        return call("extract", x.args[0], start=x.param("start") + start, size=size)
    if (s := _repeated(x)) is not None:
        return s
    if x.name == "concat":
        first, second = x.args
        if start + size <= first.dim:
            return call("extract", first, start=start, size=size)
        return call("extract", second, start=start - first.dim, size=size) if start >= first.dim else None
    return _extract_padded(x, start, size) if x.name == "pad" else None


def _extract_padded(x: Expr, start: int, size: int) -> Expr | None:
    inner = x.args[0]
    first, last = x.param("start"), x.param("start") + inner.dim
    if start + size <= first or start >= last:
        return const(0, x.kind)
    if first <= start and start + size <= last:
        return call("extract", inner, start=start - first, size=size)
    if start <= first and last <= start + size:
        return call("pad", inner, start=first - start, size=size)
    return None


def _pad(node: Expr) -> Expr | None:
    x, start = node.args[0], node.param("start")
    if x.dim == node.dim:
        return x
    if x.name == "pad":
        return call("pad", x.args[0], start=start + x.param("start"), size=node.dim)
    return const(0, x.kind) if _is(_repeated(x) or x, 0) else None


def _concat(x: Expr, y: Expr) -> Expr | None:
    if x.name != "extract" or y.name != "extract" or x.args[0] is not y.args[0]:
        return None
    start, stop = x.param("start"), x.param("start") + x.dim
    return call("extract", x.args[0], start=start, size=x.dim + y.dim) if stop == y.param("start") else None


def _repeat(node: Expr) -> Expr | None:
    x, times = node.args[0], node.param("times")
    if times == 1:
        return x
    return call("repeat", x.args[0], times=times * x.param("times")) if x.name == "repeat" else None


def _tile(node: Expr) -> Expr | None:
    x, times = node.args[0], node.param("times")
    if times == 1 or x.dim == 1:
        return x
    if (s := _repeated(x)) is not None:
        return s
    return call("tile", x.args[0], times=times * x.param("times")) if x.name == "tile" else None


def _transpose(node: Expr) -> Expr | None:
    x, sizes, order = node.args[0], node.param("sizes"), node.param("order")
    if (s := _repeated(x)) is not None:
        return s
    less = _fewer_axes(sizes, order)
    if len(less[0]) <= 1:
        return x
    if less != (sizes, order):
        return call("transpose", x, sizes=less[0], order=less[1])
    if x.name == "transpose" and tuple(x.param("sizes")[k] for k in x.param("order")) == sizes:
        inner = x.param("order")
        return call("transpose", x.args[0], sizes=x.param("sizes"), order=tuple(inner[k] for k in order))
    return None


def _fewer_axes(sizes: tuple[int, ...], order: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Leave out axes of length 1, and join neighbours that stay together."""
    runs: list[list[int]] = []  # of the axes that are left, in their new order
    axes = [k for k in range(len(sizes)) if sizes[k] > 1]
    for k in (k for k in order if sizes[k] > 1):
        if runs and axes.index(k) == axes.index(runs[-1][-1]) + 1:
            runs[-1].append(k)
        else:
            runs.append([k])
    source = sorted(runs)
    return tuple(math.prod(sizes[k] for k in run) for run in source), tuple(source.index(run) for run in runs)


def _sum_d(node: Expr) -> Expr | None:
    x, group = node.args[0], node.param("group")
    if group == 1:
        return x
    if x.name == "neg":
        return -call("sum_d", x.args[0], group=group)
    if x.name == "pad" and group == x.dim:
        return call("sum_d", x.args[0], group=x.args[0].dim)
    if x.name == "repeat" and x.param("times") % group == 0:
        return call("repeat", x.args[0] * float(group), times=x.param("times") // group)
    if x.name == "repeat" and group % x.param("times") == 0:
        times = x.param("times")
        return call("sum_d", x.args[0], group=group // times) * float(times)
    return None


def _extremum(x: Expr) -> Expr | None:
    return x if x.dim == 1 else _repeated(x)


def _extremum_place(x: Expr) -> Expr | None:
    return const(0, "index") if x.dim == 1 or _repeated(x) is not None else None


def _short_arguments(node: Expr) -> Expr | None:
    """Element-wise operations repeat short vectors by themselves, or are repeated as a whole."""
    if not node.op.elementwise:
        return None
    short = [_repeated(a) or a for a in node.args]
    return call(node.name, *short, **dict(node.params)) if short != list(node.args) else None


COMPONENTS = (
    Rule("extract(extract(x, 1, 2), 1, 1) -> extract(x, 2, 1)", "extract", _extract),
    Rule("extract(concat(x, y), 4, 2) -> extract(y, 1, 2)", "extract", _extract),
    Rule("extract(pad(x, 1, 5), 0, 4) -> pad(x, 1, 4)", "extract", _extract),
    Rule("extract(repeat(s, 5), 1, 2) -> repeat(s, 2)", "extract", _extract),
    Rule("pad(pad(x, 1, 5), 2, 9) -> pad(x, 3, 9)", "pad", _pad),
    binary("concat", "concat(extract(x, 0, 1), extract(x, 1, 2)) -> extract(x, 0, 3)", _concat),
    Rule("repeat(repeat(x, 2), 3) -> repeat(x, 6)", "repeat", _repeat),
    Rule("tile(tile(x, 2), 3) -> tile(x, 6)", "tile", _tile),
    Rule("transpose(transpose(repeat(x, 2), (3, 2), (1, 0)), (2, 3), (1, 0)) -> repeat(x, 2)", "transpose", _transpose),
    Rule("sum_d(repeat(x, 3), 3) -> x * 3.0", "sum_d", _sum_d),
    Rule("sum_d(-x, 3) -> -sum_d(x, 3)", "sum_d", _sum_d),
    Rule("sum_d(pad(x, 1, 5), 5) -> sum_d(x, 3)", "sum_d", _sum_d),
    unary("min_d", "min_d(repeat(s, 3)) -> s", _extremum),
    unary("max_d", "max_d(repeat(s, 3)) -> s", _extremum),
    unary("argmin_d", "argmin_d(repeat(s, 3)) -> 0", _extremum_place),
    unary("argmax_d", "argmax_d(repeat(s, 3)) -> 0", _extremum_place),
    Rule("repeat(s, 3) * x -> s * x", ANY, _short_arguments),
)

# ---------------------------------------------------------------------- rules that change the rounding


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
    value = _number(y)
    if value is None or not value.is_integer() or not 2 < value <= 8:
        return None
    result, bit = x, int(value)
    for digit in f"{bit:b}"[1:]:
        result = result * result * x if digit == "1" else result * result
    return result


FAST = (
    binary("mul", "x * 3.0 * 5.0 -> x * 15.0", lambda x, y: _merge_factors(x, y, exact=False)),
    binary("div", "x / 3.0 -> x * (1.0 / 3.0)", lambda x, y: _divide_by_constant(x, y, exact=False)),
    binary("mul", "x * 0.0 -> repeat(0.0, 3)", lambda x, y: y if _is(y, 0) else None),
    binary("sub", "x - x -> repeat(0.0, 3)", lambda x, y: const(0) if x is y else None),
    binary("div", "x / x -> repeat(1.0, 3)", lambda x, y: const(1) if x is y else None),
    binary("mul", "exp(x) * exp(y) -> exp(x + y)", lambda x, y: _exponentials(x, y, "add")),
    binary("div", "exp(x) / exp(y) -> exp(x - y)", lambda x, y: _exponentials(x, y, "sub")),
    unary("exp", "exp(log(x)) -> x", lambda x: _inner(x, "log")),
    unary("log", "log(exp(x)) -> x", lambda x: _inner(x, "exp")),
    binary("mul", "sqrt(x) * sqrt(x) -> x", lambda x, y: _inner(x, "sqrt") if x is y else None),
    unary(
        "sqrt",
        "sqrt(x * x) -> abs(x)",
        lambda x: call("abs", x.args[0]) if x.name == "mul" and x.args[0] is x.args[1] else None,
    ),
    binary("pow", "pow(x, 0.5) -> sqrt(x)", lambda x, y: call("sqrt", x) if _is(y, 0.5) else None),
    binary("pow", "pow(x, 3.0) -> x * x * x", _small_power),
    binary("add", "x * y + x * z -> x * (y + z)", lambda x, y: _common_factor(x, y, "add")),
    binary("sub", "x * y - x * z -> x * (y - z)", lambda x, y: _common_factor(x, y, "sub")),
    Rule("sum_d(s * x, 3) -> s * sum_d(x, 3)", "sum_d", _factor_of_sum),
    Rule("sum_d(sum_d(repeat(x, 4), 2), 6) -> sum_d(repeat(x, 4), 12)", "sum_d", _sum_of_sums),
)

EXACT = CONSTANTS + SIGNS + CHOICES + INDICES + COMPONENTS
