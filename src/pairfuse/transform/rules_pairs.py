"""Exact rules for complex numbers, the pairs of ir/ops_complex.py.

In: nothing.  Out: the table of rules, one rule for each line, named by its algebra.  `interleave` moves to the outside
of a formula and `deinterleave` to its variables, where it only says which number is read.  What remains in between is
arithmetic of real and imaginary parts, to which the other rules apply.
"""

from __future__ import annotations

from ..ir.expr import Expr, call
from ..ir.ops_complex import LONGEST_WRITTEN_OUT
from .patterns import repeated
from .rewrite import ANY, Rule, binary


def _part(x: Expr, part: int) -> Expr:
    """Real (0) or imaginary (1) parts; a number alone stands for all components."""
    return x if x.dim == 1 else call("deinterleave", x, part=part)


def _outside(node: Expr) -> Expr | None:
    """An element-wise operation on pairs that are put together is taken on the parts.

    Not on long vectors: of a loop over the components, the pairs are put together before it, where they can be.
    """
    written_out = node.op.elementwise and node.dim <= LONGEST_WRITTEN_OUT
    if not written_out or not any(a.name == "interleave" for a in node.args):
        return None
    params = dict(node.params)
    parts = [call(node.name, *(_half(a, k) for a in node.args), **params) for k in (0, 1)]
    n = node.dim // 2
    first = parts[0] if max(p.dim for p in parts) == n else call("repeat", parts[0], times=n)
    return call("interleave", first, parts[1])


def _half(x: Expr, part: int) -> Expr:
    return x.args[part] if x.name == "interleave" else _part(x, part)


def _inside(node: Expr) -> Expr | None:
    """The parts of the result of an element-wise operation are the results of the parts."""
    x = node.args[0]
    if not x.op.elementwise or x.name == "interleave":
        return None
    return call(x.name, *(_part(a, node.param("part")) for a in x.args), **dict(x.params))


def _of_interleave(node: Expr) -> Expr | None:
    x = node.args[0]
    return x.args[node.param("part")] if x.name == "interleave" else None


def _of_repeat(node: Expr) -> Expr | None:
    x = node.args[0]
    even = x.name == "repeat" and x.param("times") % 2 == 0
    return call("repeat", x.args[0], times=x.param("times") // 2) if even else None


def _of_tile(node: Expr) -> Expr | None:
    x = node.args[0]
    even = x.name == "tile" and x.args[0].dim % 2 == 0
    return call("tile", _part(x.args[0], node.param("part")), times=x.param("times")) if even else None


def _of_concat(node: Expr) -> Expr | None:
    x = node.args[0]
    even = x.name == "concat" and x.args[0].dim % 2 == 0
    return call("concat", *(_part(a, node.param("part")) for a in x.args)) if even else None


def _of_extract(node: Expr) -> Expr | None:
    x = node.args[0]
    if x.name != "extract" or x.args[0].dim % 2:
        return None
    first = x.param("start") + node.param("part")
    return call("extract", _part(x.args[0], first % 2), start=first // 2, size=node.dim)


def _of_pad(node: Expr) -> Expr | None:
    x = node.args[0]
    if x.name != "pad" or x.param("start") % 2 or x.args[0].dim % 2:
        return None
    return call("pad", _part(x.args[0], node.param("part")), start=x.param("start") // 2, size=node.dim)


def _taken_apart(x: Expr, y: Expr) -> Expr | None:
    """z of its own parts."""
    same = x.name == y.name == "deinterleave" and x.args[0] is y.args[0]
    return x.args[0] if same and (x.param("part"), y.param("part")) == (0, 1) else None


def _extract_interleave(node: Expr) -> Expr | None:
    x, start = node.args[0], node.param("start")
    if x.name != "interleave":
        return None
    if node.dim == 1:
        part = x.args[start % 2]
        return part if part.dim == 1 else call("extract", part, start=start // 2, size=1)
    if start % 2 or node.dim % 2:
        return None
    n = node.dim // 2
    parts = [p if p.dim == 1 else call("extract", p, start=start // 2, size=n) for p in x.args]
    if max(p.dim for p in parts) < n:
        parts[0] = call("repeat", parts[0], times=n)
    return call("interleave", *parts)


def _short(node: Expr) -> Expr | None:
    """interleave repeats a number by itself where the other vector is longer."""
    x, y = node.args
    for k, v in ((0, x), (1, y)):
        inner = repeated(v)
        if inner is not None and node.args[1 - k].dim == v.dim > 1:
            return call("interleave", inner, y) if k == 0 else call("interleave", x, inner)
    return None


PAIRS = (
    Rule("interleave(x, y) * interleave(y, s) -> interleave(x * y, y * s)", ANY, _outside),
    Rule("deinterleave(exp(concat(x, s)), 1) -> exp(deinterleave(concat(x, s), 1))", "deinterleave", _inside),
    Rule("deinterleave(interleave(x, y), 1) -> y", "deinterleave", _of_interleave),
    Rule("deinterleave(repeat(x, 4), 0) -> repeat(x, 2)", "deinterleave", _of_repeat),
    Rule("deinterleave(tile(concat(x, s), 3), 0) -> tile(deinterleave(concat(x, s), 0), 3)", "deinterleave", _of_tile),
    Rule(
        "deinterleave(concat(concat(x, s), concat(y, t)), 0) -> "
        "concat(deinterleave(concat(x, s), 0), deinterleave(concat(y, t), 0))",
        "deinterleave",
        _of_concat,
    ),
    Rule(
        "deinterleave(extract(concat(x, y), 1, 4), 0) -> extract(deinterleave(concat(x, y), 1), 0, 2)",
        "deinterleave",
        _of_extract,
    ),
    Rule(
        "deinterleave(pad(concat(x, y), 2, 10), 1) -> pad(deinterleave(concat(x, y), 1), 1, 5)",
        "deinterleave",
        _of_pad,
    ),
    binary(
        "interleave",
        "interleave(deinterleave(concat(x, s), 0), deinterleave(concat(x, s), 1)) -> concat(x, s)",
        _taken_apart,
    ),
    binary(
        "interleave", "interleave(x, x) -> repeat(x, 2)", lambda x, y: call("repeat", x, times=2) if x is y else None
    ),
    Rule("interleave(x, repeat(s, 3)) -> interleave(x, s)", "interleave", _short),
    Rule("extract(interleave(x, s), 2, 4) -> interleave(extract(x, 1, 2), s)", "extract", _extract_interleave),
)
