"""How far a formula computed in float32 or float64 may be from its exact value: forward error analysis, run on arrays.

In: expanded formulas, float64 arrays for the leaves, the precision of the computation.  Out: for every formula its
value in float64 and a bound of the error, of the same shape.  Each operation is evaluated at all corners of the box
that the errors of its arguments span, and its own rounding is added; so cancellation, a branch that may be taken
the wrong way and a rounding to an integer that may fall on either side are all seen,
and no tolerance is chosen by hand.

An error of infinity means that the precision of the computation defines nothing: an intermediate overflow, for example.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pairfuse.backends.llvm.math import MATH
from pairfuse.dtypes import Precision
from pairfuse.ir.expr import Expr, toposort


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, and how far the computed one may be from it. The error of a truth value: may it be the other one?"""

    value: np.ndarray
    error: np.ndarray

    @property
    def exact(self) -> bool:
        return not self.error.any()


# One unit is a whole spacing of the numbers, twice what a correctly rounded operation may lose: backends may fold a
# formula into a form that is at most twice as far from the exact value (issue 2, "It must show").
ROUNDED = {"add": 1.0, "sub": 1.0, "mul": 1.0, "div": 1.0}
GRID = frozenset({"add", "sub", "mul"})
COMPARISONS = frozenset({"lt", "le", "gt", "ge", "eq", "ne"})


def estimate(roots: Iterable[Expr], values: Mapping[Expr, Any], precision: Precision) -> list[Estimate]:
    """Value and error of every root; the leaves in `values` are exact."""
    roots = tuple(roots)
    known = {node: exactly(v) for node, v in values.items()}
    with np.errstate(all="ignore"):
        for node in toposort(*roots):
            if node not in known:
                known[node] = _estimate(node, [known[a] for a in node.args], precision, node in roots)
    return [known[r] for r in roots]


def exactly(value: Any) -> Estimate:
    value = np.asarray(value)
    return Estimate(value, np.zeros((), value.dtype if value.dtype.kind in "bi" else np.float64))


def _estimate(node: Expr, args: list[Estimate], precision: Precision, is_root: bool) -> Estimate:
    if node.name == "const" and node.kind == "real":
        value = np.asarray([node.param("value")], np.float64)
        return Estimate(value, difference(value.astype(precision.name).astype(np.float64), value))
    function = _reference(node)
    out = np.asarray(function(*[a.value for a in args]))
    special = SPECIAL.get(node.name)
    if special is not None:
        error = special(node, out, args, precision)
    else:
        error = _at_corners(function, out, args)
    if node.name == "to_index" and args[0].value.dtype.kind == "f":  # beyond 64 bits: any number of 64 bits
        error = np.where(np.abs(args[0].value) < 2.0**62, error, 2.0**64)
    if out.dtype.kind in "bi":
        return Estimate(out, error)
    lost = rounding(out, _units(node.name), precision)
    if node.name in GRID and all(a.exact for a in args):  # sums and products of such numbers are exact
        coarse = on_grid(out, precision)
        for a in args:
            coarse = coarse & on_grid(a.value, precision)
        lost = np.where(coarse, 0.0, lost)
    error = error + lost
    if node.name == "sum_d":  # the order of the terms decides whether a partial sum overflows
        size = _reference(node)(np.abs(args[0].value))
        finite = _reference(node)(np.where(np.isfinite(args[0].value), 0.0, 1.0)) == 0
        error = np.where(finite & (size > precision.largest), np.inf, error)
    if not is_root:  # beyond the range of the type nothing is known; a result beyond it is an infinity for both
        infinite = np.isinf(out)
        if node.name in GRID:  # a fused operation does not round, nor overflow, in between
            infinite &= ~np.logical_and.reduce(np.broadcast_arrays(*(np.isfinite(a.value) for a in args)))
        error = np.where(np.abs(out) + error > precision.largest, np.where(infinite, error, np.inf), error)
    return Estimate(out, error)


def _reference(node: Expr) -> Callable[..., Any]:
    assert node.op.ref is not None, f"{node.name}: expand the formula first"
    return lambda *xs: node.op.ref(*xs, **dict(node.params))  # type: ignore[misc]


def _units(name: str) -> float:
    """Spacings that the operation itself may lose, whatever its arguments."""
    if name in MATH:
        return max(MATH[name].max_ulp_float, MATH[name].max_ulp_double)
    return ROUNDED.get(name, 0.0)


def rounding(value: np.ndarray, units: float, precision: Precision) -> np.ndarray:
    """`units` spacings of the numbers at `value`; the reference, too, rounds when it works in the same precision.

    Results, and partial sums, below the smallest normal number may be 0 (backends/llvm/underflow.py). A difference of
    two numbers is so small only if they are not larger than that by as much as the type has digits.
    """
    if units == 0:
        return np.zeros(())
    units *= 2 if precision.name == "float64" else 1
    size = np.abs(value)
    flushed = np.where(size < 4 * precision.smallest_normal / precision.epsilon, precision.smallest_normal, 0.0)
    lost = units * size * precision.epsilon + max(1.0, 2 * units) * flushed
    return np.where(np.isfinite(value), np.where(value == 0, 0, lost), 0)


def on_grid(value: np.ndarray, precision: Precision) -> np.ndarray:
    """Multiples of 1/256 so small that the type holds them, and their sums and products, exactly."""
    scaled = value * 256.0
    return (np.abs(value) < (2.0**15 if precision.name == "float32" else 2.0**20)) & (scaled == np.rint(scaled))


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a - b|: 0 where both are the same infinity or NaN, infinite where only one of them is a number."""
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    gap = np.where(same, 0.0, np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)))
    return np.where(np.isnan(gap), np.inf, gap)


def _at_corners(function: Callable[..., Any], out: np.ndarray, args: list[Estimate]) -> np.ndarray:
    """The largest change of the result when every argument moves to an end of its interval."""
    if all(a.exact for a in args):
        return np.zeros((), out.dtype if out.dtype.kind in "bi" else np.float64)
    sides: list[list[np.ndarray]] = []
    unknown: Any = False
    for a in args:
        if a.exact:
            sides.append([a.value])
        elif a.value.dtype.kind == "b":
            sides.append([a.value, a.value ^ a.error])
        else:
            finite = np.where(np.isfinite(a.error), a.error, 0) if a.error.dtype.kind == "f" else a.error
            sides.append([a.value - finite, a.value + finite])
            if a.error.dtype.kind == "f" and not np.isfinite(a.error).all():
                # a row of the vector axis is unknown as soon as one of its components is
                unknown = unknown | np.isinf(
                    np.broadcast_to(a.error, np.broadcast_shapes(a.error.shape, a.value.shape))
                )
    error = np.zeros(out.shape)
    for corner in itertools.product(*sides):
        moved = np.asarray(function(*corner))
        error = np.maximum(error, difference(moved, out))
    if unknown is not False:
        same_length = unknown.shape[-1:] == out.shape[-1:]
        error = np.where(unknown if same_length else unknown.any(-1, keepdims=True), np.inf, error)
    if out.dtype.kind == "b":
        return error > 0
    return np.ceil(np.minimum(error, 2.0**62)).astype(np.int64) if out.dtype.kind == "i" else error


# ---------------------------------------------------------------------- operations whose corners do not tell all


def _comparison(node: Expr, out: np.ndarray, args: list[Estimate], precision: Precision) -> np.ndarray:
    """A comparison may go the other way where the intervals of both sides meet."""
    x, y = args
    reach = x.error + y.error
    gap = np.where(x.value == y.value, 0, np.abs(x.value - y.value))
    return np.asarray((reach > 0) & ((gap <= reach) | np.isinf(reach)))


def _sum(node: Expr, out: np.ndarray, args: list[Estimate], precision: Precision) -> np.ndarray:
    """Every addition of a group may lose half a spacing of the sum of absolute values, however they are ordered."""
    (x,) = args
    group = node.param("group")
    error = node.op.ref(np.broadcast_to(x.error, x.value.shape), group=group)  # type: ignore[misc]
    size = node.op.ref(np.abs(x.value), group=group)  # type: ignore[misc]
    coarse = on_grid(x.value, precision) & (np.broadcast_to(x.error, x.value.shape) == 0)
    coarse = coarse.reshape(*out.shape, group).all(-1) & on_grid(size, precision)
    return error + np.where(coarse | (group == 1), 0, rounding(size, group / 2, precision))


def _place(node: Expr, out: np.ndarray, args: list[Estimate], precision: Precision) -> np.ndarray:
    """The place of an extremum is unknown where another component may be as good."""
    (x,) = args
    length = x.value.shape[-1]
    best = np.take_along_axis(x.value, out, axis=-1)
    reach = np.broadcast_to(x.error, x.value.shape)
    reach_best = np.take_along_axis(reach, out, axis=-1)
    other = np.arange(length) != out
    rival = other & (reach + reach_best > 0) & (np.abs(x.value - best) <= reach + reach_best)
    return np.where(rival.any(-1, keepdims=True), length, 0)


def _floored_quotient(node: Expr, out: np.ndarray, args: list[Estimate], precision: Precision) -> np.ndarray:
    """The quotient is rounded before its floor is taken."""
    if out.dtype.kind == "i":
        return _at_corners(_reference(node), out, args)
    quotient = args[0].value / args[1].value
    reach = _at_corners(np.divide, quotient, args) + rounding(quotient, 1.0, precision)
    return np.maximum(difference(np.floor(quotient + reach), out), difference(np.floor(quotient - reach), out))


def _quotient(node: Expr, out: np.ndarray, args: list[Estimate], precision: Precision) -> np.ndarray:
    """A divisor that may be 0 makes any quotient; no corner is there."""
    divisor = args[-1]
    pole = (np.abs(divisor.value) <= divisor.error) & (divisor.error > 0)
    return np.where(pole, np.inf, _at_corners(_reference(node), out, args))


def _bits(node: Expr, out: np.ndarray, args: list[Estimate], precision: Precision) -> np.ndarray:
    """Neighbouring integers may differ in all of their bits."""
    return np.where(np.logical_or.reduce(np.broadcast_arrays(*(a.error > 0 for a in args))), 2.0**64, 0.0)


BITWISE = ("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_count")
SPECIAL = {
    "div": _quotient,
    **dict.fromkeys(COMPARISONS, _comparison),
    "sum_d": _sum,
    "argmin_d": _place,
    "argmax_d": _place,
    "floordiv": _floored_quotient,
    **dict.fromkeys(BITWISE, _bits),
}
