"""Exact rules for what moves and folds the components of vectors.

In: nothing.  Out: the table of rules, one rule for each line, named by its algebra.
"""

from __future__ import annotations

import math
from itertools import pairwise

from ..ir.expr import Expr, call, const
from .patterns import is_value, repeated
from .rewrite import ANY, Rule, binary, unary


def _whole(node: Expr) -> Expr | None:
    """The argument of an operation that leaves the vector as it is."""
    x = node.args[0]
    return x if node.dim == x.dim else None


def _of_repeated(node: Expr) -> Expr | None:
    """However one number is arranged, it stands at every place."""
    return repeated(node.args[0])


def _extract_extract(node: Expr) -> Expr | None:
    x = node.args[0]
    if x.name != "extract":
        return None
    return call("extract", x.args[0], start=x.param("start") + node.param("start"), size=node.dim)


def _extract_concat(node: Expr) -> Expr | None:
    x, start = node.args[0], node.param("start")
    if x.name != "concat":
        return None
    first, second = x.args
    if start + node.dim <= first.dim:
        return call("extract", first, start=start, size=node.dim)
    return call("extract", second, start=start - first.dim, size=node.dim) if start >= first.dim else None


def _extract_pad(node: Expr) -> Expr | None:
    x, start, stop = node.args[0], node.param("start"), node.param("start") + node.dim
    if x.name != "pad":
        return None
    part = x.args[0]
    first, last = x.param("start"), x.param("start") + part.dim
    if stop <= first or start >= last:
        return const(0, x.kind)
    if first <= start and stop <= last:
        return call("extract", part, start=start - first, size=node.dim)
    return call("pad", part, start=first - start, size=node.dim) if start <= first and last <= stop else None


def _pad_pad(node: Expr) -> Expr | None:
    x = node.args[0]
    return (
        call("pad", x.args[0], start=node.param("start") + x.param("start"), size=node.dim) if x.name == "pad" else None
    )


def _pad_zeros(node: Expr) -> Expr | None:
    x = node.args[0]
    return const(0, x.kind) if is_value(repeated(x) or x, 0) else None


def _concat(x: Expr, y: Expr) -> Expr | None:
    if x.name != "extract" or y.name != "extract" or x.args[0] is not y.args[0]:
        return None
    start, stop = x.param("start"), x.param("start") + x.dim
    return call("extract", x.args[0], start=start, size=x.dim + y.dim) if stop == y.param("start") else None


def _twice(node: Expr) -> Expr | None:
    """repeat of repeat, tile of tile."""
    x = node.args[0]
    return call(node.name, x.args[0], times=node.param("times") * x.param("times")) if x.name == node.name else None


def _transpose_less(node: Expr) -> Expr | None:
    sizes, order = node.param("sizes"), node.param("order")
    less = _fewer_axes(sizes, order)
    if len(less[0]) <= 1:
        return node.args[0]
    return call("transpose", node.args[0], sizes=less[0], order=less[1]) if less != (sizes, order) else None


def _fewer_axes(sizes: tuple[int, ...], order: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Leave out axes of length 1, and join neighbours that stay together."""
    axes = [k for k in range(len(sizes)) if sizes[k] > 1]
    runs: list[list[int]] = []  # of the axes that are left, in their new order
    for k in (k for k in order if sizes[k] > 1):
        if runs and axes.index(k) == axes.index(runs[-1][-1]) + 1:
            runs[-1].append(k)
        else:
            runs.append([k])
    source = sorted(runs)
    return tuple(math.prod(sizes[k] for k in run) for run in source), tuple(source.index(run) for run in runs)


def _transpose_transpose(node: Expr) -> Expr | None:
    """Two transpositions are one, on axes cut so finely that both are permutations of them."""
    x = node.args[0]
    if x.name != "transpose":
        return None
    sizes, order = x.param("sizes"), x.param("order")
    fine = _common_axes(tuple(sizes[k] for k in order), node.param("sizes"))
    if fine is None:
        return None
    pieces, inner_axes, outer_axes = fine
    before = [place for k in range(len(sizes)) for place in inner_axes[order.index(k)]]
    after = [place for k in node.param("order") for place in outer_axes[k]]
    new_sizes, new_order = tuple(pieces[p] for p in before), tuple(before.index(p) for p in after)
    return call("transpose", x.args[0], sizes=new_sizes, order=new_order)


Sizes = tuple[int, ...]


def _common_axes(a: Sizes, b: Sizes) -> tuple[list[int], list[list[int]], list[list[int]]] | None:
    """Axes into which both shapes of one vector can be cut: their sizes, and which make up each axis of a and of b."""
    strides = [sorted({math.prod(s[k:]) for k in range(len(s) + 1)}, reverse=True) for s in (a, b)]
    cuts = sorted({*strides[0], *strides[1]}, reverse=True)
    if any(larger % smaller for larger, smaller in pairwise(cuts)):
        return None
    pieces = [larger // smaller for larger, smaller in pairwise(cuts)]
    parts = [
        [
            [p for p in range(len(pieces)) if math.prod(s[k + 1 :]) <= cuts[p + 1] < math.prod(s[k:])]
            for k in range(len(s))
        ]
        for s in (a, b)
    ]
    return pieces, parts[0], parts[1]


def _sum_neg(node: Expr) -> Expr | None:
    x = node.args[0]
    return -call("sum_d", x.args[0], group=node.param("group")) if x.name == "neg" else None


def _sum_pad(node: Expr) -> Expr | None:
    x = node.args[0]
    return call("sum_d", x.args[0], group=x.args[0].dim) if x.name == "pad" and node.dim == 1 else None


def _sum_repeat(node: Expr) -> Expr | None:
    x, group = node.args[0], node.param("group")
    if x.name != "repeat":
        return None
    inner, times = x.args[0], x.param("times")
    if times % group == 0:
        return call("repeat", inner * float(group), times=times // group)
    return call("sum_d", inner, group=group // times) * float(times) if group % times == 0 else None


def _extremum(x: Expr) -> Expr | None:
    return x if x.dim == 1 else repeated(x)


def _extremum_place(x: Expr) -> Expr | None:
    return const(0, "index") if _extremum(x) is not None else None


def _short_arguments(node: Expr) -> Expr | None:
    """Element-wise operations repeat short vectors by themselves, or are repeated as a whole."""
    if not node.op.elementwise:
        return None
    short = [repeated(a) or a for a in node.args]
    return call(node.name, *short, **dict(node.params)) if short != list(node.args) else None


COMPONENTS = (
    Rule("repeat(s, 3) * x -> s * x", ANY, _short_arguments),
    Rule("extract(x, 0, 3) -> x", "extract", _whole),
    Rule("extract(repeat(s, 5), 1, 2) -> repeat(s, 2)", "extract", _of_repeated),
    Rule("extract(extract(x, 1, 2), 1, 1) -> extract(x, 2, 1)", "extract", _extract_extract),
    Rule("extract(concat(x, y), 4, 2) -> extract(y, 1, 2)", "extract", _extract_concat),
    Rule("extract(pad(x, 1, 5), 0, 4) -> pad(x, 1, 4)", "extract", _extract_pad),
    Rule("pad(x, 0, 3) -> x", "pad", _whole),
    Rule("pad(pad(x, 1, 5), 2, 9) -> pad(x, 3, 9)", "pad", _pad_pad),
    Rule("pad(repeat(0.0, 2), 1, 4) -> repeat(0.0, 4)", "pad", _pad_zeros),
    binary("concat", "concat(extract(x, 0, 1), extract(x, 1, 1)) -> extract(x, 0, 2)", _concat),
    Rule("repeat(x, 1) -> x", "repeat", _whole),
    Rule("repeat(repeat(x, 2), 3) -> repeat(x, 6)", "repeat", _twice),
    Rule("tile(x, 1) -> x", "tile", _whole),
    unary("tile", "tile(s, 3) -> repeat(s, 3)", lambda x: x if x.dim == 1 else repeated(x)),
    Rule("tile(tile(x, 2), 3) -> tile(x, 6)", "tile", _twice),
    Rule("transpose(x, (1, 3), (1, 0)) -> x", "transpose", _transpose_less),
    Rule(
        "transpose(transpose(repeat(x, 2), (3, 2), (1, 0)), (2, 3), (1, 0)) -> repeat(x, 2)",
        "transpose",
        _transpose_transpose,
    ),
    Rule("transpose(repeat(s, 4), (2, 2), (1, 0)) -> repeat(s, 4)", "transpose", _of_repeated),
    Rule("sum_d(x, 1) -> x", "sum_d", _whole),
    Rule("sum_d(-x, 3) -> -sum_d(x, 3)", "sum_d", _sum_neg),
    Rule("sum_d(pad(x, 1, 5), 5) -> sum_d(x, 3)", "sum_d", _sum_pad),
    Rule("sum_d(repeat(x, 4), 2) -> repeat(x * 2.0, 2)", "sum_d", _sum_repeat),
    unary("min_d", "min_d(repeat(s, 3)) -> s", _extremum),
    unary("max_d", "max_d(repeat(s, 3)) -> s", _extremum),
    unary("argmin_d", "argmin_d(repeat(s, 3)) -> 0", _extremum_place),
    unary("argmax_d", "argmax_d(repeat(s, 3)) -> 0", _extremum_place),
)
