"""The table of operations, part 3: the structure of the vector axis.

In: nothing.  Out: the rows of the primitive operations that move or fold the components of a vector, in `OPS`.
A component number d is an int when the components are written out, an index expression inside a loop over them.
"""
# The cells of a row are short functions whose arguments need no annotation:
# pyright: basic

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ShapeError
from .component_numbers import div, is_int, mod, plus, regroup, times
from .expr import Expr, call, const
from .rows import FOLD, one, structural, where


def _inside(d: Any, start: int, stop: int, then: Callable[[], Expr], otherwise: Callable[[], Expr]) -> Expr:
    """then() if start <= d < stop else otherwise()."""
    if is_int(d):
        return then() if start <= d < stop else otherwise()
    test = call("lt", d, const(stop, "index"))
    if start > 0:
        test = test & call("ge", d, const(start, "index"))
    return where(test, then(), otherwise())


def _clip(d: Any, low: int, high: int) -> Any:
    """d kept inside [low, high], so that the branch not taken reads a valid component."""
    if is_int(d):
        return d
    d = where(call("lt", d, const(low, "index")), const(low, "index"), d)
    return where(call("gt", d, const(high, "index")), const(high, "index"), d)


def _extract_dim(d: int, start: int, size: int) -> int:
    if not (start >= 0 and size >= 1 and start + size <= d):
        raise ShapeError(f"extract: components {start} to {start + size - 1} of a vector of length {d}.")
    return size


structural(
    "extract",
    1,
    _extract_dim,
    params=("start", "size"),
    kind="same",
    operands="any",
    ref=lambda x, start, size: x[..., start : start + size],
    vjp=lambda g, out, x, start, size: (call("pad", g, start=start, size=x.dim),),
    component=lambda node, d, at, fold: at(node.args[0], plus(d, node.param("start"))),
    samples=(((5,), {"start": 1, "size": 3}), ((3,), {"start": 2, "size": 1}), ((2,), {"start": 0, "size": 2})),
    doc="Components start ... start+size-1.",
    aliases=("Extract",),
)


def _pad_dim(d: int, start: int, size: int) -> int:
    if not (start >= 0 and start + d <= size):
        raise ShapeError(f"pad: a vector of length {d} does not fit at {start} in one of length {size}.")
    return size


def _pad_ref(x: Any, start: int, size: int) -> Any:
    out = np.zeros((*x.shape[:-1], size), dtype=x.dtype)
    out[..., start : start + x.shape[-1]] = x
    return out


def _pad_component(node: Expr, d: Any, at: Any, fold: Any) -> Expr:
    x, start = node.args[0], node.param("start")
    inner = _clip(plus(d, -start), 0, x.dim - 1)
    return _inside(d, start, start + x.dim, lambda: at(x, inner), lambda: const(0, x.kind))


structural(
    "pad",
    1,
    _pad_dim,
    params=("start", "size"),
    kind="same",
    operands="any",
    ref=_pad_ref,
    vjp=lambda g, out, x, start, size: (call("extract", g, start=start, size=x.dim),),
    component=_pad_component,
    samples=(((3,), {"start": 1, "size": 5}), ((1,), {"start": 2, "size": 3}), ((2,), {"start": 0, "size": 2})),
    doc="The vector placed at `start` in a vector of `size` zeros.",
    aliases=("ExtractT",),
)


def _concat_ref(x: Any, y: Any) -> Any:
    lead = np.broadcast_shapes(x.shape[:-1], y.shape[:-1])
    return np.concatenate([np.broadcast_to(v, (*lead, v.shape[-1])) for v in (x, y)], axis=-1)


def _concat_component(node: Expr, d: Any, at: Any, fold: Any) -> Expr:
    x, y = node.args
    first, second = _clip(d, 0, x.dim - 1), _clip(plus(d, -x.dim), 0, y.dim - 1)
    return _inside(d, 0, x.dim, lambda: at(x, first), lambda: at(y, second))


structural(
    "concat",
    2,
    lambda a, b: a + b,
    operands="number",
    kind="same",
    ref=_concat_ref,
    vjp=lambda g, out, x, y: (call("extract", g, start=0, size=x.dim), call("extract", g, start=x.dim, size=y.dim)),
    component=_concat_component,
    samples=(((2, 3), {}), ((1, 1), {})),
    doc="The components of x, then those of y.",
    aliases=("Concat",),
)


def _times_dim(name: str) -> Callable[..., int]:
    def dim(d: int, times: int) -> int:
        if times < 1:
            raise ShapeError(f"{name}: a vector of length {d} cannot be repeated {times} times.")
        return d * times

    return dim


structural(
    "repeat",
    1,
    _times_dim("repeat"),
    params=("times",),
    kind="same",
    operands="any",
    ref=lambda x, times: np.repeat(x, times, axis=-1),
    vjp=lambda g, out, x, times: (call("sum_d", g, group=times),),
    component=lambda node, d, at, fold: at(node.args[0], div(d, node.param("times"))),
    samples=(((3,), {"times": 2}), ((1,), {"times": 3})),
    doc="Every component `times` times in a row.",
    aliases=("SumT",),
)
structural(
    "tile",
    1,
    _times_dim("tile"),
    params=("times",),
    kind="same",
    operands="any",
    ref=lambda x, times: np.tile(x, times),
    vjp=lambda g, out, x, times: (
        call("sum_d", call("transpose", g, sizes=(times, x.dim), order=(1, 0)), group=times),
    ),
    component=lambda node, d, at, fold: at(node.args[0], mod(d, node.args[0].dim)),
    samples=(((3,), {"times": 2}), ((1,), {"times": 3})),
    doc="The whole vector `times` times in a row.",
)


def _transpose_ref(x: Any, sizes: tuple[int, ...], order: tuple[int, ...]) -> Any:
    lead = x.shape[:-1]
    n = len(lead)
    return x.reshape((*lead, *sizes)).transpose((*range(n), *(n + k for k in order))).reshape((*lead, math.prod(sizes)))


def _transpose_dim(d: int, sizes: tuple[int, ...], order: tuple[int, ...]) -> int:
    if math.prod(sizes) != d or sorted(order) != list(range(len(sizes))):
        raise ShapeError(f"transpose: sizes {sizes} and order {order} do not fit a vector of length {d}.")
    return d


def _transpose_vjp(g: Expr, out: Expr, x: Expr, sizes: tuple[int, ...], order: tuple[int, ...]) -> tuple[Expr, ...]:
    back = tuple(order.index(k) for k in range(len(order)))
    return (call("transpose", g, sizes=tuple(sizes[k] for k in order), order=back),)


structural(
    "transpose",
    1,
    _transpose_dim,
    params=("sizes", "order"),
    kind="same",
    operands="any",
    ref=_transpose_ref,
    vjp=_transpose_vjp,
    component=lambda node, d, at, fold: at(node.args[0], regroup(d, node.param("sizes"), node.param("order"))),
    samples=(
        ((6,), {"sizes": (2, 3), "order": (1, 0)}),
        ((24,), {"sizes": (2, 3, 4), "order": (2, 0, 1)}),
        ((12,), {"sizes": (2, 3, 2), "order": (0, 2, 1)}),
        ((3,), {"sizes": (3,), "order": (0,)}),
    ),
    doc="The vector read as an array of `sizes` (row-major), its axes put in `order`, and flattened.",
)


def _group_dim(d: int, group: int) -> int:
    if group < 1 or d % group:
        raise ShapeError(f"sum: a vector of length {d} has no groups of {group}.")
    return d // group


def _grouped(x: Any, group: int) -> Any:
    return x.reshape((*x.shape[:-1], x.shape[-1] // group, group))


def _grouped_sum(x: Any, group: int) -> Any:
    # NumPy adds by halves along the axis that is contiguous; along another one it adds in one chain
    return np.ascontiguousarray(_grouped(x, group)).sum(-1)


structural(
    "sum_d",
    1,
    _group_dim,
    params=("group",),
    ref=_grouped_sum,
    vjp=lambda g, out, x, group: (call("repeat", g, times=group),),
    component=lambda node, d, at, fold: fold(
        "sum",
        node.param("group"),
        lambda k: at(node.args[0], plus(times(d, node.param("group")), k)),
    ),
    traits=FOLD,
    samples=(((6,), {"group": 3}), ((3,), {"group": 3}), ((2,), {"group": 1})),
    doc="Sum over groups of `group` neighbouring components.",
)


def _extremum_rows(which: str) -> None:
    pick, arg_pick = (np.min, np.argmin) if which == "min" else (np.max, np.argmax)

    def clean(x: Any) -> Any:
        return np.where(np.isnan(x), math.inf if which == "min" else -math.inf, x)

    def chosen(x: Expr) -> Expr:
        return call("eq", call("arange", size=x.dim), call(f"arg{which}_d", x))

    structural(
        f"{which}_d",
        1,
        one,
        ref=lambda x: pick(x, axis=-1, keepdims=True),
        vjp=lambda g, out, x: (where(chosen(x), g, 0.0),),
        jvp=lambda t, out, x: call("sum_d", where(chosen(x), t[0], 0.0), group=x.dim),
        component=lambda node, d, at, fold: fold(which, node.args[0].dim, lambda k: at(node.args[0], k)),
        traits=FOLD,
        doc=f"The {which}imum of the components, NaN if one is NaN; its derivative goes to the first of equals.",
        aliases=(which.capitalize(),),
    )
    structural(
        f"arg{which}_d",
        1,
        one,
        kind="index",
        ref=lambda x: arg_pick(clean(x), axis=-1)[..., None],
        vjp=lambda g, out, x: (None,),
        jvp=lambda t, out, x: None,
        component=lambda node, d, at, fold: fold("arg" + which, node.args[0].dim, lambda k: at(node.args[0], k)),
        traits=FOLD,
        doc=f"The number of the first {which}imal component, NaN passed over.",
        aliases=("Arg" + which.capitalize(),),
    )


_extremum_rows("min")
_extremum_rows("max")


def _shift_dim(d: int, group: int, fill: float) -> int:
    if group < 1 or d % group:
        raise ShapeError(f"shift: a vector of length {d} has no groups of {group}.")
    return d


def _shift_ref(x: Any, group: int, fill: float) -> Any:
    parts = np.roll(_grouped(x, group), 1, axis=-1)
    parts[..., 0] = fill
    return parts.reshape(x.shape)


def _shift_vjp(g: Expr, out: Expr, x: Expr, group: int, fill: float) -> tuple[Expr | None]:
    if group == 1:
        return (None,)
    # one place down: the last cotangent of a group goes nowhere, and what enters from the next group is masked
    moved = call("pad", call("extract", g, start=1, size=x.dim - 1), start=0, size=x.dim)
    place = mod(call("arange", size=x.dim), group)
    return (where(call("ne", place, const(group - 1, "index")), moved, 0.0),)


def _shift_component(node: Expr, d: Any, at: Any, fold: Any) -> Expr:
    x, group, fill = node.args[0], node.param("group"), node.param("fill")
    if is_int(d):
        return const(fill, x.kind) if d % group == 0 else at(x, d - 1)
    first = call("eq", mod(d, group), const(0, "index"))
    return where(first, const(fill, x.kind), at(x, _clip(plus(d, -1), 0, x.dim - 1)))


structural(
    "shift",
    1,
    _shift_dim,
    params=("group", "fill"),
    kind="same",
    operands=lambda group, fill: "any" if float(fill).is_integer() else "real",
    ref=_shift_ref,
    vjp=_shift_vjp,
    jvp=lambda t, out, x, group, fill: call("shift", t[0], group=group, fill=0.0),
    component=_shift_component,
    samples=(((6,), {"group": 3, "fill": 1.5}), ((3,), {"group": 3, "fill": 0.0}), ((2,), {"group": 1, "fill": 0.5})),
    doc="Inside each group, every component moves one place up; the first becomes `fill` (used by K-min).",
)
