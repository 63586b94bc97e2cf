"""The comparison of the conformance tests, tested with wrong answers: each of them must be refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conformance import Case, compare, draw_case, laid_out, problem, run, terms
from error_bounds import Estimate, estimate
from reduction_bounds import assert_between

from pairfuse.dtypes import FLOAT32
from pairfuse.ir.expr import Expr, call, const, index, input_
from pairfuse.lower.problem import Sizes

X, Y = input_(0, "i", 3), input_(1, "j", 3)
A, B = input_(0, "i", 1), input_(1, "j", 1)


def case(reduction: str, *formulas: Expr, dtype: str = "float32", **params: Any) -> Case:
    rng = np.random.default_rng(1)
    return draw_case(rng, problem(reduction, *formulas, dtype=dtype, **params), 9, 40, layouts=["plain"])


def refused(c: Case, wrong: tuple[np.ndarray, ...], match: str | None = None) -> None:
    with pytest.raises(AssertionError, match=match):
        compare(c, wrong, run(c, "reference"))


REDUCTIONS = [
    ("sum", (call("sqdist", X, Y),), {}),
    ("prod", (A + B + 4.0,), {}),
    ("logsumexp", (-call("sqdist", X, Y),), {}),
    ("logsumexp_weight", (-call("sqdist", X, Y), call("exp", call("elem", Y, index=0))), {}),
    ("sumsoftmaxweight", (-call("sqdist", X, Y), Y), {}),
    ("min", (call("sqdist", X, Y),), {}),
    ("Kmax", (call("sqdist", X, Y),), {"K": 4}),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("reduction", "formulas", "params"), REDUCTIONS, ids=lambda v: v if isinstance(v, str) else "")
def test_a_number_that_is_a_little_off_is_refused(
    reduction: str, formulas: tuple[Expr, ...], params: dict[str, int], dtype: str
) -> None:
    """One number of one output off by 200 spacings, NaN, infinite; none of them wrong: accepted."""
    c = case(reduction, *formulas, dtype=dtype, **params)
    right = run(c, "reference")
    assert compare(c, right, right) is None
    for wrong in (right[0][3] * (1 + 200 * np.finfo(dtype).eps), np.nan, np.inf, -right[0][3]):
        changed = right[0].copy()
        changed[3] = wrong
        refused(c, (changed, *right[1:]))


def test_a_term_left_out_or_taken_twice_is_refused() -> None:
    """What a wrong tail would do, with 40 columns of similar weight."""
    for reduction, formulas, params in REDUCTIONS[:5]:
        c = case(reduction, *formulas, **params)
        for columns in (np.arange(39), np.r_[0:40, 39]):
            arrays = tuple(a[columns] if len(a) == 40 else a for a in c.arrays)
            refused(c, run(replace(c, arrays=arrays, sizes=Sizes(9, len(columns))), "reference"))


def test_wrong_indices_are_refused() -> None:
    c = case("argKmin", call("sqdist", X, Y), K=3)
    (right,) = run(c, "reference")
    compare(c, (right,), (right,))
    refused(c, (np.roll(right, 1, axis=0),))
    refused(c, (np.repeat(right[:, :1], 3, axis=1),), "twice")
    refused(c, (right + 40,), "out of range")
    refused(c, (right - 40,), "out of range")
    refused(c, (right.astype(np.int32),), "int32")
    ties = case("argmax", call("maximum", call("floor", A), call("floor", B)))
    (first,) = run(ties, "reference")
    compare(ties, (first,), (first,))
    numbers = np.floor(np.maximum(ties.arrays[0], ties.arrays[1].T))
    last = 39 - np.argmax(numbers[:, ::-1], axis=1)[:, None]
    refused(ties, (last,), "first")


def test_wrong_order_shape_or_type_is_refused() -> None:
    c = case("Kmin", call("sqdist", X, Y), K=3)
    (right,) = run(c, "reference")
    refused(c, (right[:, ::-1],), "order")
    refused(c, (right[:, :2],), "shape")
    refused(c, (right[..., None],), "shape")
    refused(c, (right.astype(np.float64),), "float64")
    refused(c, (), "number of outputs")


def test_a_wrong_count_is_refused() -> None:
    c = case("count_nonzero", call("floor", A + B))
    (right,) = run(c, "reference")
    compare(c, (right,), (right,))
    refused(c, (right + 1,))


def test_nan_and_infinity_must_be_where_the_reference_has_them() -> None:
    assert_between([1.0, np.nan, np.inf], [1.0, np.nan, np.inf], [1.5, np.nan, np.inf], "x")
    nan, inf = np.nan, np.inf
    for wrong in ([nan, nan, inf], [1.0, 0.0, inf], [1.0, nan, 3e38], [1.0, nan, -inf], [2.0, nan, inf]):
        with pytest.raises(AssertionError, match="1 of 3"):
            assert_between(wrong, [1.0, nan, inf], [1.5, nan, inf], "x")


def test_a_test_that_says_nothing_is_refused() -> None:
    with pytest.raises(AssertionError, match="says nothing"):
        assert_between(np.zeros(4), np.full(4, -np.inf), np.full(4, np.inf), "x", informative=0.5)
    sums = case("sum", call("exp", A * 1e4 - B * 1e4) * 0.0)
    right = run(sums, "reference")
    with pytest.raises(AssertionError, match="says nothing"):
        compare(sums, right, right)


# ---------------------------------------------------------------------- the bounds themselves


def bound(root: Expr, *values: float) -> Estimate:
    """The estimate of a formula of A and B in float32."""
    leaves = dict(zip((A, B), (np.array([v]) for v in values), strict=False))
    return estimate([root], leaves, FLOAT32)[0]


def test_bounds_follow_cancellation_branches_and_rounding_to_integers() -> None:
    eps = FLOAT32.epsilon
    assert bound(A - B, 1.1, 1.1).error == 0, "a difference of exact equals is exact"
    assert bound(A * B + 1.0, 1.5, 3.0).error == 0, "small multiples of 1/256 are exact"
    assert 1e3 * eps <= bound((A * A + B) - B, 1.1, 1e3).error <= 3e3 * eps, "cancellation keeps the error of the terms"
    assert bound(call("floor", A * B), 3.0, 1 / 3).error == 1, "the product may be just below or at 1"
    assert bound(call("floor", A * B), 3.0, 0.4).error == 0
    assert bound(call("where", A * B < 1.0, A, B), 3.0, 1 / 3).error > 2, "either branch may be taken"
    assert bound(call("argmin_d", call("concat", A * B, B)), 1.0, 0.7).error > 0, "either may be the smaller one"
    assert bound(call("exp", A) - call("exp", A), 100.0).error == np.inf, "an intermediate overflow"
    assert bound(call("exp", A), 100.0).error < np.inf, "the result overflows in the reference, too"
    assert bound(call("sum_d", call("concat", A, B), group=2), 1.0, -1.0).error == 0
    assert bound(call("sum_d", call("concat", A, B), group=2), 1.001, -1.001).error == pytest.approx(2 * eps, rel=0.1)
    assert bound(const(0.1) * A, 1.0).error > abs(0.1 - float(np.float32(0.1)))


def test_bounds_hold_for_numpy_in_the_same_precision_and_are_not_loose() -> None:
    """A long formula computed by NumPy in float32: within the bound, and not a hundred times below it."""
    rng = np.random.default_rng(0)
    x, y = (rng.uniform(-2, 2, (2000, 1)).astype(np.float32) for _ in range(2))
    formula = call("exp", -(A - B) * (A - B)) * call("sin", A * 3.0) + call("sqrt", A * A + 1.0) / (B * B + 0.5)
    e = estimate([formula], {A: x.astype(np.float64), B: y.astype(np.float64)}, FLOAT32)[0]
    plain = np.exp(-(x - y) * (x - y)) * np.sin(x * np.float32(3)) + np.sqrt(x * x + 1) / (y * y + np.float32(0.5))
    assert plain.dtype == np.float32
    error = np.abs(plain - e.value)
    assert (error <= e.error).all()
    assert np.max(error / e.error) > 0.05


# ---------------------------------------------------------------------- the data


@pytest.mark.parametrize("layout", ["plain", "fortran", "reversed", "sliced", "record"])
def test_layouts_hold_the_same_numbers(layout: str) -> None:
    values = np.arange(24.0).reshape(2, 4, 3)
    np.testing.assert_array_equal(laid_out(values, layout), values)
    np.testing.assert_array_equal(laid_out(values[0, 0], layout), values[0, 0])


def test_layouts_are_what_they_say() -> None:
    values = np.arange(24.0).reshape(2, 4, 3)
    assert min(laid_out(values, "reversed").strides[-2:]) < 0
    assert laid_out(values, "stretched").strides[-2] == 0
    assert laid_out(values, "record").strides[-1] % 8 != 0
    assert not laid_out(values, "sliced").flags.c_contiguous


def test_terms_have_the_place_of_the_reduced_axis() -> None:
    c = case("sum", A * 10.0 + index("j"))
    (t,) = terms(c)
    assert t.value.shape == (9, 40, 1)
    np.testing.assert_allclose(t.value[:, :, 0], c.arrays[0].astype(float) * 10 + np.arange(40))
