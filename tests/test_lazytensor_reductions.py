"""Reductions of LazyTensors of NumPy arrays, against the same done densely: axes, batches, shapes, keywords."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dense import DTYPES, close, points
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfuse import UnsupportedError
from pairfuse.numpy import LazyTensor, Vi, Vj, where

NUMPY: dict[str, Any] = {
    "sum": np.sum,
    "prod": np.prod,
    "mean": np.mean,
    "var": np.var,
    "std": np.std,
    "min": np.min,
    "max": np.max,
    "argmin": np.argmin,
    "argmax": np.argmax,
    "logsumexp": lambda k, axis: np.log(np.exp(k).sum(axis)),
    "count_nonzero": np.count_nonzero,
}
BATCHES = [
    ((5, 1, 3), (1, 7, 3)),
    ((2, 5, 1, 3), (1, 7, 3)),
    ((5, 1, 3), (4, 2, 1, 7, 3)),
    ((4, 1, 5, 1, 3), (4, 2, 1, 7, 3)),
    ((1, 2, 5, 1, 3), (4, 1, 1, 7, 3)),
    ((2, 5, 1, 3), (2, 1, 1, 3)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NUMPY)
def test_reductions_over_both_axes(name: str, dtype: Any) -> None:
    x, y = points(5, 1, 3, dtype=dtype), points(1, 7, 3, dtype=dtype)
    k = (LazyTensor(x) - 0.3 * LazyTensor(y)).sin()
    dense = np.sin(x - dtype(0.3) * y).astype(dtype)
    for axis in (0, 1):
        expected = NUMPY[name](dense.astype(float) if name not in ("argmin", "argmax") else dense, axis=axis)
        method, twin = getattr(k, name), getattr(k, f"{name}_reduction")
        for got in (method(axis=axis), method(dim=axis - 3), twin(dim=axis)):
            close(got, expected, dtype)
    assert getattr(k, f"{name}_reduction")(axis=1).shape == (5, 3)


@pytest.mark.parametrize("shapes", BATCHES, ids=str)
@pytest.mark.parametrize("name", ["sum", "logsumexp", "min", "argmin", "var"])
def test_batch_axes_broadcast(name: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    x, y = (points(*s) for s in shapes)
    k = (LazyTensor(x) * LazyTensor(y)).sum(-1)
    dense = (x * y).sum(-1, keepdims=True)
    batch = dense.ndim - 3
    assert k._shape == dense.shape
    for axis in (0, 1):
        close(getattr(k, name)(dim=batch + axis), NUMPY[name](dense, axis=axis - 3))


def test_one_row_is_broadcast_to_all() -> None:
    x, y, z = points(5, 3), points(1, 3), points(7, 3)
    k = (Vi(x) * Vi(y)) - Vj(z) * Vj(y)
    assert k.shape == (5, 7, 3)
    close(k.sum(dim=1), ((x * y)[:, None] - (z * y)[None]).sum(1))


def test_missing_axes_have_length_one() -> None:
    x, p = points(5, 1, 3), points(1, 1, 3)
    close(LazyTensor(x).sum(dim=1), x[:, 0])
    close(LazyTensor(x).sum(dim=0), x.sum(0))
    close(LazyTensor(p).exp().sum(dim=1), np.exp(p[0]))
    close(LazyTensor(p).argmin(dim=0), np.zeros((1, 3), dtype=int))


def test_weighted_logsumexp_and_softmax() -> None:
    x, y, w = points(5, 1, 3), points(1, 7, 3), np.abs(points(1, 7, 4)) + 0.1
    k = LazyTensor(x) | LazyTensor(y)
    e = np.exp((x * y).sum(-1, keepdims=True))
    close(k.logsumexp(dim=1, weight=LazyTensor(w)), np.log((e * w).sum(1)))
    close(k.logsumexp(axis=1, other=w), np.log((e * w).sum(1)))
    close(k.logsumexp_reduction(axis=1, weight=w), np.log((e * w).sum(1)))
    close(k.sumsoftmaxweight(LazyTensor(w), dim=1), (e * w).sum(1) / e.sum(1))
    close(k.sumsoftmaxweight_reduction(w, axis=1), (e * w).sum(1) / e.sum(1))
    close(k.sumsoftmaxweight(LazyTensor(w.swapaxes(0, 1)[:5]), axis=0), (e * w.swapaxes(0, 1)[:5]).sum(0) / e.sum(0))
    vector = np.exp(x * y)
    close((LazyTensor(x) * LazyTensor(y)).logsumexp(dim=0), np.log(vector.sum(0)))


def test_values_with_their_index() -> None:
    x, y = points(5, 1, 3), points(1, 7, 3)
    k, dense = LazyTensor(x) * LazyTensor(y), x * y
    for axis in (0, 1):
        for which in ("min", "max"):
            values, places = getattr(k, f"{which}_arg{which}")(axis=axis)
            close(values, NUMPY[which](dense, axis=axis))
            close(places, NUMPY[f"arg{which}"](dense, axis=axis))


@pytest.mark.parametrize("K", [1, 3, 7, 12])
@pytest.mark.parametrize("which", ["min", "max"])
def test_K_extrema(which: str, K: int) -> None:
    x, y = points(5, 1, 3), points(1, 7, 3)
    sign = 1 if which == "min" else -1
    for k, dense in [
        ((LazyTensor(x) - LazyTensor(y)).sqnorm2(), ((x - y) ** 2).sum(-1, keepdims=True)),
        (LazyTensor(x) - LazyTensor(y), x - y),
    ]:
        for axis in (0, 1):
            columns = np.moveaxis(dense, axis, -2)  # (kept, reduced, D)
            order = np.argsort(sign * columns, axis=-2, kind="stable")[:, :K]
            values = np.take_along_axis(columns, order, axis=-2)
            missing = [(0, 0), (0, K - order.shape[1]), (0, 0)]
            order = np.pad(order, missing, constant_values=-1)
            values = np.pad(values, missing, constant_values=sign * np.inf)
            if dense.shape[-1] == 1:
                order, values = order[..., 0], values[..., 0]
            close(getattr(k, f"K{which}")(K=K, axis=axis), values)
            close(getattr(k, f"argK{which}")(K, dim=axis), order)
            both = getattr(k, f"K{which}_argK{which}")(K, axis)
            close(both[0], values)
            close(both[1], order)
            close(getattr(k, f"argK{which}_reduction")(K, axis), order)


def test_truth_values() -> None:
    x, y = points(5, 1, 3), points(1, 7, 3)
    k, dense = LazyTensor(x) < LazyTensor(y), x < y
    for axis in (0, 1):
        close(k.count_nonzero(dim=axis), np.count_nonzero(dense, axis=axis))
        close(k.any(dim=axis), dense.any(axis))
        close(k.all(dim=axis), dense.all(axis))
        close(k.sum(dim=axis), dense.sum(axis) * 1.0)
    assert k.any(dim=1).dtype == bool
    assert k.count_nonzero(dim=1).dtype == np.int64


def test_moments_do_not_cancel() -> None:
    x = points(400, 1) + 1e6
    close(Vj(x).var(dim=1), x.var(0)[None])
    close(Vj(x).var(dim=1, ddof=1), x.var(0, ddof=1)[None])
    close(Vj(x).std(axis=1), x.std(0)[None])


def test_names_of_reductions() -> None:
    x, y, w = points(5, 1, 3), points(1, 7, 3), points(1, 7, 2) ** 2
    k = (LazyTensor(x) - LazyTensor(y)).sqnorm2()
    close(k.reduction("Sum", axis=1), k.sum(dim=1))
    close(k.reduction("KMin", opt_arg=3, axis=1), k.Kmin(3, dim=1))
    close(k.reduction("LogSumExp", other=w, axis=1), k.logsumexp(dim=1, weight=w))
    close(k.reduction("Min_ArgMin", dim=0)[1], k.argmin(dim=0))
    close(k.reduction("SoftMax", other=w, dim=1), k.sumsoftmaxweight(w, dim=1))


def test_nothing_to_reduce() -> None:
    x, y = np.zeros((5, 1, 3)), np.zeros((1, 0, 3))
    k = LazyTensor(x) - LazyTensor(y)
    empty = np.zeros((5, 0, 3))
    for name, value in [("sum", 0), ("prod", 1), ("min", np.inf), ("max", -np.inf), ("logsumexp", -np.inf),
                        ("mean", np.nan), ("var", np.nan)]:  # fmt: skip
        close(getattr(k, name)(dim=1), np.full((5, 3), value, dtype=float))
        assert getattr(k, name)(dim=0).shape == (0, 3)
    close(k.count_nonzero(dim=1), np.zeros((5, 3), dtype=int))
    close(k.any(dim=1), empty.any(1))
    close(k.all(dim=1), empty.all(1))
    close(k.Kmin(2, dim=1), np.full((5, 2, 3), np.inf))
    close(k.argKmin(2, dim=1), np.full((5, 2, 3), -1))
    assert (k.sum(-1) @ np.zeros(0)).shape == (5,)
    close((LazyTensor(np.zeros((0, 5, 1, 3))) * 2).sum(dim=2), np.zeros((0, 5, 3)))


def test_infinite_and_missing_terms() -> None:
    y = np.array([np.nan, 2.0, -np.inf, np.nan, 2.0, np.inf, 1.0])[None, :, None]
    k = LazyTensor(np.ones((3, 1, 1))) * LazyTensor(y)
    close(k.min(dim=1), np.full((3, 1), -np.inf))
    close(k.argmax(dim=1), np.full((3, 1), 5))
    close(k.argKmax(4, dim=1), np.tile([5, 1, 4, 6], (3, 1)))
    assert np.isnan(k.sum(dim=1)).all()
    finite = where(k.isfinite(), k, 0)
    close(finite.sum(dim=1), np.full((3, 1), 5.0))


# ---------------------------------------------------------------------- any shapes, any strides


@st.composite
def operand(draw: st.DrawFn, batch: tuple[int, ...], axis: str, rows: int, dim: int, dtype: Any) -> np.ndarray:
    """An array for this axis whose batch is part of `batch`: some axes 1, the first ones left out, any strides."""
    shape = [draw(st.sampled_from((1, n))) for n in batch][draw(st.integers(0, len(batch))) :]
    shape += {"i": [rows, 1], "j": [1, rows], "p": [1, 1]}[axis] + [draw(st.sampled_from((1, dim)))]
    steps = [draw(st.sampled_from((1, 2, -1, -3))) for _ in shape]
    base = points(*[n * abs(s) for n, s in zip(shape, steps, strict=True)], seed=draw(st.integers(0, 9)), dtype=dtype)
    return base[tuple(slice(None, None, s) for s in steps)]


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_shapes_and_strides(data: st.DataObject) -> None:
    batch = tuple(data.draw(st.lists(st.sampled_from((1, 2, 3)), max_size=2)))
    m, n, dim = data.draw(st.sampled_from((1, 2, 17))), data.draw(st.sampled_from((1, 5, 33))), 3
    dtype = data.draw(st.sampled_from(DTYPES))
    x, y, p = (data.draw(operand(batch, a, r, dim, dtype)) for a, r in (("i", m), ("j", n), ("p", 1)))
    # Of M = 1 or N = 1 the array alone does not tell: it is a parameter, which is the same.
    k = (LazyTensor(x) - LazyTensor(y)).sin() * LazyTensor(p)
    dense = np.sin(x.astype(float) - y) * p
    name, axis = data.draw(st.sampled_from(("sum", "max", "logsumexp", "mean"))), data.draw(st.sampled_from((-3, -2)))
    close(getattr(k, name)(dim=axis), NUMPY[name](dense, axis=axis), dtype)
    assert k._shape == dense.shape


# ---------------------------------------------------------------------- keywords of reductions


def test_output_arrays_are_filled() -> None:
    x, y = points(5, 1, 3), points(1, 7, 3)
    k = (LazyTensor(x) - LazyTensor(y)).sqnorm2()
    out = np.empty((5, 1))
    assert k.logsumexp(dim=1, out=out) is out
    close(out, k.logsumexp(dim=1))
    strided = np.empty((3, 10))[:, ::2].T
    assert (LazyTensor(x) * LazyTensor(y)).sum(dim=1, out=strided) is strided
    close(strided, (x * y).sum(1))
    pair = np.empty((5, 2)), np.empty((5, 2), dtype=np.int64)
    assert k.Kmin_argKmin(2, dim=1, out=pair)[1] is pair[1]
    close(pair[1], k.argKmin(2, dim=1))
    assert k.std(dim=1, out=out) is out
    close(out, k.std(dim=1))


def test_keywords_of_keops_are_accepted() -> None:
    k = Vi(points(5, 3)) * Vj(points(7, 3))
    expected = k.sum(dim=1)
    spellings: list[dict[str, Any]] = [
        {"backend": "auto"}, {"backend": "CPU"}, {"backend": "reference"}, {"backend": "llvm"}, {"device_id": -1},
        {"ranges": None}, {"dtype_acc": "float64"}, {"use_double_acc": True}, {"sum_scheme": "kahan_scheme"},
        {"enable_chunks": False}, {"use_fast_math": False}, {"call": True}, {"out": None},
        {"rec_multVar_highdim": 1}, {"progress": False},
    ]  # fmt: skip
    for options in spellings:
        close(k.sum(dim=1, **options), expected)
    k.backend = "reference"
    assert (k + 1).backend == "reference"
    close(k.sum(dim=1), expected)
    k.ranges = None


ACCURACY: list[dict[str, Any]] = [
    {"dtype_acc": "float64"}, {"use_double_acc": True}, {"sum_scheme": "block_sum"}, {"sum_scheme": "kahan_scheme"},
]  # fmt: skip
ADDS: dict[str, Any] = {
    "K @ v": lambda k, o: k.__matmul__(np.ones(7), **o),
    "K @ V": lambda k, o: k.__matmul__(np.ones((7, 2)), **o),
    "matvec": lambda k, o: k.matvec(np.ones(7), **o),
    "rmatvec": lambda k, o: k.rmatvec(np.ones(5), **o),
    "sum over pairs": lambda k, o: k.sum(dim=(0, 1), **o),
    "mean over pairs": lambda k, o: k.mean(dim=(0, 1), **o),
    "value_and_grad": lambda k, o: k.value_and_grad("sum", dim=1, **o)[0],
    "sumsoftmaxweight": lambda k, o: k.sumsoftmaxweight(Vj(np.ones((7, 1))), dim=1, **o),
    "weighted logsumexp": lambda k, o: k.logsumexp(dim=1, weight=Vj(np.ones((7, 1))), **o),
    "Max_SumShiftExp": lambda k, o: k.reduction("Max_SumShiftExp", dim=1, **o),
    **{n: lambda k, o, n=n: getattr(k, n)(dim=1, **o) for n in ("sum", "prod", "mean", "var", "std", "logsumexp")},
}
CHOOSES: dict[str, Any] = {
    **{n: lambda k, o, n=n: getattr(k, n)(dim=1, **o) for n in ("min", "argmin", "max", "argmax", "min_argmin", "any")},
    **{n: lambda k, o, n=n: getattr(k, n)(2, dim=1, **o) for n in ("Kmin", "argKmin", "Kmax_argKmax")},
    "value_and_grad": lambda k, o: k.value_and_grad("min", dim=1, **o),
}


@pytest.mark.parametrize("name", ADDS)
def test_what_adds_takes_the_options_of_sums(name: str) -> None:
    """Whatever the call is named: what counts is the record that it reduces."""
    k = Vi(points(5, 1)) * Vj(points(7, 1))
    for options in ACCURACY:
        np.testing.assert_array_equal(ADDS[name](k, options), ADDS[name](k, {}))


@pytest.mark.parametrize("name", CHOOSES)
def test_what_chooses_has_no_options_of_sums(name: str) -> None:
    k = Vi(points(5, 1)) * Vj(points(7, 1))
    for options in ACCURACY:
        with pytest.raises(UnsupportedError, match="are for sums"):
            CHOOSES[name](k, options)


def test_progress_is_shown_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    k = Vi(points(50, 3)) * Vj(points(70, 3))
    k.sum(dim=1, progress=True, backend="llvm")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err


def test_deferred_reductions_see_new_contents() -> None:
    x, y = points(5, 3), points(7, 3)
    total = (Vi(x) * Vj(y)).sum_reduction(axis=1, call=False)
    close(total(), (x[:, None] * y[None]).sum(1))
    x *= 2
    out = np.empty((5, 3))
    assert total(out=out, backend="CPU") is out
    close(out, (x[:, None] * y[None]).sum(1))
    assert total() is not out
    assert "sum" in repr(total)
