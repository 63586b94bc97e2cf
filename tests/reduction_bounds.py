"""Where the result of a reduction must lie, given its terms and how far each of them may be off.

In: the terms as `Estimate`s of shape (..., columns, dim), the outputs of the reference, the precision.  Out: `judge`
raises AssertionError, with the worst place, where an output lies outside.  Sums are bounded by the sum of the absolute
terms; extrema by the extrema of the ends of the terms' intervals; an index is right when its term may be the extremum,
and must be the first of equals where the terms are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from error_bounds import Estimate, exactly, on_grid, rounding

from pairfuse.dtypes import FLOAT64, Precision
from pairfuse.lower.schedule import BLOCK, BLOCK_LONG, UNROLL_SUMS

# log-sum-exp moves its reference point only when it is exceeded by this much (ir/reductions.py, SLACK), so that an
# exponent is at most twice this far from the way it would have taken with the final maximum.
SLACK = 16.0


def judge(
    reduction: str,
    params: Mapping[str, Any],
    terms: Sequence[Estimate],
    expected: Sequence[np.ndarray],
    actual: Sequence[np.ndarray],
    precision: Precision,
    informative: float = 0.5,
) -> None:
    """Raise unless all outputs are right. `informative`: the least share of the numbers that must be bounded at all."""
    shape = np.broadcast_shapes(*(t.value.shape[:-1] for t in terms))
    full = [
        Estimate(*(np.broadcast_to(np.asarray(v, np.float64), (*shape, t.value.shape[-1])) for v in (t.value, t.error)))
        for t in terms
    ]
    with np.errstate(all="ignore"):
        if reduction in SUMMED:
            told = TOLD[reduction](actual) if reduction in TOLD else actual
            for k, (low, high) in enumerate(SUMMED[reduction](full, expected, precision)):
                assert_between(told[k], low, high, f"{reduction}, output {k}", informative)
        else:
            _judge_extremum(reduction, int(params.get("K", 1)), full[0], actual, precision)


Interval = tuple[np.ndarray, np.ndarray]


def assert_between(actual: Any, low: Any, high: Any, what: str, informative: float = 0.0) -> None:
    """Raise unless low <= actual <= high everywhere, and NaN exactly where the ends are NaN.

    An interval from -inf to inf says that nothing is known; of the others there must be the share `informative`.
    """
    actual = np.asarray(actual, np.float64)
    low, high = np.broadcast_to(low, actual.shape), np.broadcast_to(high, actual.shape)
    unknown = (low == -np.inf) & (high == np.inf)
    inside = (low <= actual) & (actual <= high)
    right = unknown | inside | (np.isnan(low) & np.isnan(high) & np.isnan(actual))
    if not right.all():
        wrong = np.argwhere(~right)
        place = tuple(wrong[0])
        raise AssertionError(
            f"{what}: {len(wrong)} of {actual.size} numbers are wrong, the first at {tuple(map(int, place))}: "
            f"{actual[place]!r}, expected between {low[place]!r} and {high[place]!r}"
        )
    if actual.size and 1 - unknown.mean() < informative:
        raise AssertionError(f"{what}: only {1 - unknown.mean():.0%} of the numbers are bounded: the test says nothing")


def around(expected: np.ndarray, error: Any, precision: Precision) -> Interval:
    """expected -+ error, and the rounding of the result to its type."""
    expected = np.asarray(expected, np.float64)
    error = np.asarray(error) + rounding(expected, 1.0, precision)
    error = np.where(np.isnan(error), np.inf, error)
    low = np.where(error > 0, expected - error, expected)
    high = np.where(error > 0, expected + error, expected)
    unknown = np.isinf(error)
    low, high = np.where(unknown, -np.inf, low), np.where(unknown, np.inf, high)
    # a number may leave the range of the type by rounding
    return np.where(low < -precision.largest, -np.inf, low), np.where(high > precision.largest, np.inf, high)


# ---------------------------------------------------------------------- sums, products, counts


def _accumulation(size: np.ndarray, count: int, dim: int, precision: Precision) -> np.ndarray:
    """Rounding of a sum whose absolute terms add up to `size`: short sums of a block, then doubles (design.md, 5)."""
    block = BLOCK_LONG if dim > UNROLL_SUMS else BLOCK
    return rounding(size, min(count, block + 2) / 2, precision)


def _reference_sum(size: np.ndarray, count: int) -> np.ndarray:
    """Rounding of the same sum by NumPy, which adds the rows of an array in float64 one after the other."""
    return np.asarray(np.where(np.isfinite(size), size, 0) * (count * FLOAT64.epsilon / 2))


def _total(x: np.ndarray) -> np.ndarray:
    """The sum over the columns, in long double where there is such a type."""
    return np.asarray(np.sum(x, axis=-2, dtype=np.longdouble), np.float64)


def _sum(f: list[Estimate], expected: Sequence[np.ndarray], precision: Precision) -> list[Interval]:
    x = f[0]
    size, total, count = np.abs(x.value).sum(-2), _total(x.value), x.value.shape[-2]
    assert_between(expected[0], *around(total, _reference_sum(size, count), precision), "sum, by the reference")
    error = x.error.sum(-2) + _accumulation(size, count, x.value.shape[-1], precision)
    low, high = around(total, error, precision)
    exact = (x.error == 0).all(-2) & on_grid(x.value, precision).all(-2) & on_grid(size, precision)
    return [(np.where(exact, total, low), np.where(exact, total, high))]


def _prod(f: list[Estimate], expected: Sequence[np.ndarray], precision: Precision) -> list[Interval]:
    """The product, the product of the terms that are not 0, the number of zeros. Only they may leave the range."""
    x = f[0]
    zero = x.value == 0
    size = np.abs(np.where(zero, 1.0, x.value))
    relative = np.log1p(x.error / size).sum(-2) + x.value.shape[-2] * precision.epsilon
    rest = _product_of_halves(expected[1:3])
    error = np.where(np.isfinite(rest), np.abs(rest) * np.expm1(relative) + precision.smallest_normal, 0)
    maybe_zero = (x.error > 0) & (size <= x.error)
    doubt = maybe_zero.sum(-2)
    zeros = zero.sum(-2)
    return [
        around(expected[0], np.where(doubt > 0, np.inf, np.where(zeros > 0, 0, error)), precision),
        around(rest, np.where(doubt > 0, np.inf, error), precision),
        (zeros - (zero & (x.error > 0)).sum(-2), zeros + doubt),
    ]


def _product_of_halves(halves: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(halves[0], np.float64) * np.asarray(halves[1], np.float64)


def _count(f: list[Estimate], expected: Sequence[np.ndarray], precision: Precision) -> list[Interval]:
    x = f[0]
    surely = (np.isnan(x.value) | (np.abs(x.value) > x.error)).sum(-2)
    maybe = (np.isnan(x.value) | (np.abs(x.value) + x.error > 0)).sum(-2)
    return [(surely, maybe)]


# ---------------------------------------------------------------------- exponentials


@dataclass(frozen=True, slots=True)
class Weighted:
    """s = sum of exp(F - m) G and t = sum of exp(F - m), the sums of absolute terms for s, and the errors of both."""

    m: np.ndarray
    s: np.ndarray
    size: np.ndarray
    s_error: np.ndarray
    t: np.ndarray
    t_error: np.ndarray
    count: int


def _weighted(f: list[Estimate], precision: Precision) -> Weighted:
    """An exponential is taken once for a term, again whenever the reference point moves, by SLACK at least, and in the
    merge; the way of the exponent over these points is at most 2 SLACK longer than the straight one."""
    x, g = f[0], f[1] if len(f) > 1 else exactly(1.0)
    largest = precision.largest
    m = np.clip(np.fmax.reduce(x.value, axis=-2, keepdims=True, initial=-largest), -largest, largest)
    e = np.exp(x.value - m)
    way = np.where(np.isfinite(x.value), np.abs(x.value - m), 0) + 2 * SLACK
    half = precision.epsilon / 2 * (2 if precision.name == "float64" else 1)
    relative = np.where(e == 0, 0, np.expm1(x.error + half * (way + 4 * (2 + way / SLACK))))
    terms = e * g.value
    count, size, t = e.shape[-2], np.abs(terms).sum(-2), _total(e)
    s_error = (np.abs(terms) * relative + e * (1 + relative) * g.error).sum(-2)
    s_error += _accumulation(size, count, terms.shape[-1], precision)
    t_error = (e * relative).sum(-2) + _accumulation(t, count, e.shape[-1], precision)
    return Weighted(m[..., 0, :], _total(terms), size, s_error, t, t_error, count)


def _logarithm(m: np.ndarray, s: np.ndarray, error: np.ndarray, precision: Precision) -> Interval:
    """m + log(s), where s has this error."""
    relative = np.where(error == 0, 0, error / np.abs(s))
    change = np.where(relative < 1, -np.log1p(-np.minimum(relative, 1)), np.inf)
    change = np.where(np.isfinite(s), change, 0) + rounding(np.log(np.abs(s)), 2.0, precision)
    return around(m + np.log(s), np.where(np.isnan(s), 0, change), precision)


def _logsumexp(f: list[Estimate], expected: Sequence[np.ndarray], precision: Precision) -> list[Interval]:
    w = _weighted(f, precision)
    by_reference = _logarithm(w.m, w.s, w.s_error + _reference_sum(w.size, w.count), precision)
    assert_between(expected[0], *by_reference, "logsumexp, by the reference")
    return [_logarithm(w.m, w.s, w.s_error, precision)] * 2


def _softmax(f: list[Estimate], expected: Sequence[np.ndarray], precision: Precision) -> list[Interval]:
    w = _weighted(f, precision)

    def quotient(s_error: np.ndarray, t_error: np.ndarray) -> Interval:
        ratio, relative = w.s / w.t, t_error / w.t
        error = (s_error / w.t + np.abs(ratio) * relative) / (1 - np.minimum(relative, 1))
        error = np.where(relative < 1, error, np.inf)
        return around(ratio, np.where(np.isfinite(ratio), error + rounding(ratio, 2.0, precision), 0), precision)

    s_loose, t_loose = w.s_error + _reference_sum(w.size, w.count), w.t_error + _reference_sum(w.t, w.count)
    assert_between(expected[0], *quotient(s_loose, t_loose), "softmax, by the reference")
    return [quotient(w.s_error, w.t_error), *[_logarithm(w.m, w.t, w.t_error, precision)] * 2]


def _log_of_parts(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The logarithm that maximum and total stand for; the maximum may be any number near the largest term."""
    return parts[0] + np.log(np.asarray(parts[1], np.float64))


SUMMED = {
    "sum": _sum,
    "prod": _prod,
    "count_nonzero": _count,
    "logsumexp": _logsumexp,
    "logsumexp_weight": _logsumexp,
    "sumsoftmaxweight": _softmax,
}
# What outputs tell where one of them alone says nothing.
TOLD: dict[str, Callable[[Sequence[np.ndarray]], list[np.ndarray]]] = {
    "prod": lambda out: [out[0], _product_of_halves(out[1:3]), out[3]],
    "logsumexp": lambda out: [out[0], _log_of_parts(out[1:])],
    "logsumexp_weight": lambda out: [out[0], _log_of_parts(out[1:])],
    "sumsoftmaxweight": lambda out: [out[0], out[1], _log_of_parts(out[2:])],
}

# ---------------------------------------------------------------------- extrema


def _judge_extremum(name: str, k: int, x: Estimate, actual: Sequence[np.ndarray], precision: Precision) -> None:
    """The K first of the terms in order, values and indices as far as they are asked for."""
    sign = 1.0 if "min" in name else -1.0
    # "arg" first in the name: only indices; "min", "Kmin": only values; "min_argmin": both
    with_value, with_index = not name.startswith("arg"), "arg" in name
    values = actual[0].astype(np.float64) * sign if with_value else None
    places = actual[-1] if with_index else None
    term = Estimate(x.value * sign, np.where(np.isnan(x.value), 0, x.error))
    low, high = term.value - term.error, term.value + term.error
    unknown = np.isinf(term.error)
    low, high = np.where(unknown, -np.inf, low), np.where(unknown, np.inf, high)
    low, high = np.where(np.isnan(x.value), np.nan, low), np.where(np.isnan(x.value), np.nan, high)
    first_low, first_high = _by_rank(low, k), _by_rank(high, k)
    if values is not None:
        found = _by_rank_layout(values, k)
        if found.shape[-2] > 1:
            assert (found[..., 1:, :] >= found[..., :-1, :]).all(), f"{name}: the values are not in order"
        least, most = (np.where(np.isnan(v), np.inf, v) for v in (first_low, first_high))  # nothing there: infinite
        slack = rounding(least, 1.0, precision), rounding(most, 1.0, precision)
        exact = least == most
        assert_between(
            found, np.where(exact, least, least - slack[0]), np.where(exact, most, most + slack[1]), f"{name}, values"
        )
    if places is not None:
        _judge_places(name, _by_rank_layout(places, k), term, first_high)


def _by_rank(v: np.ndarray, k: int) -> np.ndarray:
    """The k smallest along the columns, NaN after all numbers, filled up with NaN: (..., k, dim)."""
    ranked = np.sort(v, axis=-2)[..., :k, :]
    missing = [(0, 0)] * (v.ndim - 2) + [(0, k - ranked.shape[-2]), (0, 0)]
    return np.pad(ranked, missing, constant_values=np.nan)


def _by_rank_layout(v: np.ndarray, k: int) -> np.ndarray:
    """Outputs lie component after component, each with its k places: to (..., k, dim)."""
    return np.swapaxes(v.reshape(*v.shape[:-1], v.shape[-1] // k, k), -1, -2)


def _judge_places(name: str, places: np.ndarray, term: Estimate, bound: np.ndarray) -> None:
    """`bound`: what the term of each place may be at most; NaN where there is no term left for it."""
    count = term.value.shape[-2]
    assert places.dtype == np.int64
    assert ((places >= -1) & (places < count)).all(), f"{name}: an index is out of range"
    if count == 0:
        assert (places == -1).all(), f"{name}: an index over nothing is not -1"
        return
    known = ~np.isinf(term.error).any(-2, keepdims=True)  # what may be any number may be none
    there = places >= 0
    assert (there == ~np.isnan(bound))[np.broadcast_to(known, places.shape)].all(), f"{name}: places without a term"
    best = np.take_along_axis(term.value, np.maximum(places, 0), axis=-2)
    reach = np.take_along_axis(term.error, np.maximum(places, 0), axis=-2)
    chosen = there & ~np.isnan(bound)
    if not ((best == bound) | np.isinf(reach) | (best - reach <= bound))[chosen].all():
        raise AssertionError(f"{name}: an index does not belong to one of the best terms")
    numbered = np.where(there, places, -1 - np.arange(places.shape[-2])[:, None])
    ordered = np.sort(numbered, axis=-2)
    assert (ordered[..., 1:, :] != ordered[..., :-1, :]).all(), f"{name}: an index occurs twice"
    exact = np.asarray(term.error.any(-2) == 0)
    first = np.argsort(term.value, axis=-2, kind="stable")[..., : places.shape[-2], :]
    first = np.pad(first, [(0, 0)] * (first.ndim - 2) + [(0, places.shape[-2] - first.shape[-2]), (0, 0)])
    wrong = (places != np.where(np.isnan(bound), -1, first)) & exact[..., None, :]
    assert not wrong.any(), f"{name}: of equal terms, the first index was not taken"
