"""LazyTensor on NumPy arrays against the same computation done densely: construction, operations, reductions."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfuse.frontend.methods import public_rows
from pairfuse.ir.expr import Op, evaluate, input_
from pairfuse.ir.expr import call as call_row
from pairfuse.numpy import LazyTensor, Pm, Vi, Vj, concatenate, index_i, index_j, maximum, minimum, where
from pairfuse.transform.expand import expand

TOLERANCE = {np.float32: 2e-5, np.float64: 1e-11}
DTYPES = [np.float32, np.float64]


def close(got: Any, expected: Any, dtype: Any = np.float64) -> None:
    """Raise unless shape, type and values agree."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, (got.shape, expected.shape)
    if expected.dtype.kind in "ib":
        np.testing.assert_array_equal(got, expected)
    else:
        assert got.dtype == dtype
        tolerance = TOLERANCE[dtype]
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def points(*shape: int, seed: int = 0, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def dense_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((x.astype(float) - y.astype(float)) ** 2).sum(-1)


# ---------------------------------------------------------------------- construction


@pytest.mark.parametrize(
    ("shape", "axis", "kind", "symbolic"),
    [
        ((5, 1, 3), None, 0, (5, 1, 3)),
        ((1, 7, 3), None, 1, (1, 7, 3)),
        ((1, 1, 3), None, 2, (1, 1, 3)),
        ((2, 5, 1, 3), None, 0, (2, 5, 1, 3)),
        ((2, 4, 1, 7, 3), None, 1, (2, 4, 1, 7, 3)),
        ((2, 1, 1, 3), None, 2, (2, 1, 1, 3)),
        ((5, 3), 0, 0, (5, 1, 3)),
        ((7, 3), 1, 1, (1, 7, 3)),
        ((1, 3), 2, 2, (1, 1, 3)),
        ((4, 3), 2, 2, (4, 1, 1, 3)),
        ((3,), None, 2, (1, 1, 3)),
        ((3,), 2, 2, (1, 1, 3)),
        ((), None, 2, (1, 1, 1)),
        ((0, 1, 3), None, 0, (0, 1, 3)),
        ((1, 3), 0, 0, (1, 1, 3)),
    ],
)
def test_arrays_become_variables(shape: Any, axis: int | None, kind: int, symbolic: Any) -> None:
    x = LazyTensor(np.zeros(shape), axis=axis)
    assert x.axis == kind
    assert x._shape == symbolic
    assert x.shape == (symbolic if symbolic[-1] > 1 else symbolic[:-1])
    assert x.ndim == symbolic[-1]
    assert x.dim() == len(symbolic)
    assert x.nbatchdims == len(symbolic) - 3
    assert x.batchdims == (symbolic[:-3] or None)


def test_sizes_and_types_are_attributes() -> None:
    x, y = Vi(points(5, 3, dtype=np.float32)), Vj(points(7, 3, dtype=np.float32))
    assert (x.ni, x.nj, y.ni, y.nj) == (5, None, None, 7)
    assert (x - y).shape == (5, 7, 3)
    assert (x.dtype, (x + 1).dtype, LazyTensor(2.0).dtype) == ("float32", "float32", None)
    assert ((x - y) ** 2).sum(-1).shape == (5, 7)
    assert ((x - y) ** 2).sum(-1)._shape == (5, 7, 1)
    assert (x - y).axis is None
    assert not x.is_complex
    assert x.ranges is None


@pytest.mark.parametrize("value", [2.5, np.float32(2.5), np.float64(2.5), np.array(2.5), [2.5], Pm(2.5), Pm([2.5])])
def test_numbers_on_both_sides(value: Any) -> None:
    x, y = points(5, 1, 3), points(1, 7, 3)
    k = LazyTensor(x) * LazyTensor(y)
    for got, expected in [
        (k + value, x * y + 2.5), (value + k, x * y + 2.5), (k - value, x * y - 2.5), (value - k, 2.5 - x * y),
        (k * value, x * y * 2.5), (value * k, x * y * 2.5), (k / value, x * y / 2.5), (value / k, 2.5 / (x * y)),
    ]:  # fmt: skip
        close(got.sum(dim=1), expected.sum(1))


@pytest.mark.parametrize("value", [3, True, np.int64(3), np.int32(3), np.bool_(True)])
def test_integers_are_constants(value: Any) -> None:
    x = points(5, 1, 3)
    k = LazyTensor(x)
    close((k * value + value / (k * k + 1)).sum(dim=1), x[:, 0] * int(value) + int(value) / (x * x + 1)[:, 0])
    assert len((k * value)._bindings) == 1


def test_lists_and_vectors_are_parameters() -> None:
    x = points(5, 1, 3)
    for p in ([1.0, 2.0, 3.0], [1, 2, 3], np.array([1.0, 2.0, 3.0]), np.array([1, 2, 3])):
        close((LazyTensor(x) * p).sum(dim=1), x[:, 0] * [1.0, 2.0, 3.0])
        from_the_left: Any = p * LazyTensor(x)
        close(from_the_left.sum(dim=1), x[:, 0] * [1.0, 2.0, 3.0])


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.bool_])
def test_integer_arrays_are_converted(dtype: Any) -> None:
    x = np.arange(15).reshape(5, 1, 3).astype(dtype)
    y = points(1, 7, 3, dtype=np.float32)
    close((LazyTensor(x) * LazyTensor(y)).sum(dim=1), np.sum(x.astype(float) * y, axis=1), np.float32)
    assert LazyTensor(x).dtype == "float64"
    close((LazyTensor(x) + 1).sum(dim=1), x[:, 0] + 1.0)


def test_exact_zero_and_one_leave_no_trace() -> None:
    x = Vi(points(5, 3))
    assert x + 0 is x
    assert 0 + x is x
    assert x - 0 is x
    assert x * 1 is x
    assert 1 * x is x
    assert x / 1 is x
    assert +x is x
    assert (0 - x)._expr is (-x)._expr
    assert (x * -1)._expr is (-x)._expr
    assert (1 / x)._expr.name == "inv"
    total: Any = 0
    total += x
    assert total is x


def test_ndarray_subclasses_and_memory_maps(tmp_path: Path) -> None:
    x, y = points(5, 3), points(7, 3)
    expected = (x[:, None] * y[None]).sum(1)
    y_j = Vj(y)
    close((Vi(x.view(np.recarray)) * y_j).sum(dim=1), expected)
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix(x)
    close((Vi(matrix) * y_j).sum(dim=1), expected)
    np.save(tmp_path / "x.npy", x)
    close((Vi(np.load(tmp_path / "x.npy", mmap_mode="r")) * y_j).sum(dim=1), expected)
    swapped = x.astype(x.dtype.newbyteorder())
    close((Vi(swapped) * y_j).sum(dim=1), expected)
    record = np.zeros(5, dtype=[("a", "i1"), ("x", "f8", 3)])
    record["x"] = x
    close((Vi(record["x"]) * y_j).sum(dim=1), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_strides(dtype: Any) -> None:
    x, y = points(10, 6, dtype=dtype), points(3, 14, dtype=dtype)
    views = {
        "step": (x[::2, ::2], y.T[::2]),
        "negative": (x[::-2, 2::-1], y.T[::-2]),
        "fortran": (np.asfortranarray(x[:5, :3]), np.asfortranarray(y.T[:7])),
        "zero": (np.broadcast_to(x[:1, :3], (5, 3)), np.broadcast_to(y.T[:1], (7, 3))),
    }
    for a, b in views.values():
        d = (Vi(a) - Vj(b)).sqnorm2()
        close(d.sum(dim=1), dense_distances(a[:, None], b[None]).sum(1)[:, None], dtype)
        close(d.sum(dim=0), dense_distances(a[:, None], b[None]).sum(0)[:, None], dtype)


def test_no_copy_is_kept_of_the_data() -> None:
    x = points(5, 3)
    k = Vi(x) + Vj(points(7, 3))
    before = k.sum(dim=1)
    x += 1
    close(k.sum(dim=1), before + 7)


# ---------------------------------------------------------------------- operations


@pytest.mark.parametrize("row", public_rows(), ids=lambda op: op.name)
def test_every_row_is_a_method(row: Op) -> None:
    """The method of each row, on an i-variable, a j-variable and a parameter, against the definition of the row."""
    for dims, params in row.samples:
        rng = np.random.default_rng(3)
        letters = "ijp"[: len(dims)]
        data = [
            rng.uniform(low, high, size=(1 if axis == "p" else 4, dim))
            for (low, high), axis, dim in zip(row.domain, letters, dims, strict=True)
        ]
        operands = [LazyTensor(v, axis="ijp".index(a)) for v, a in zip(data, letters, strict=True)]
        formula = getattr(LazyTensor, row.name)(*operands, **params)
        leaves = [input_(k, a, v.shape[-1]) for k, (a, v) in enumerate(zip(letters, data, strict=True))]
        placed = [v[:, None, :] if a == "i" else v[None, :, :] for v, a in zip(data, letters, strict=True)]
        roots = expand([call_row(row.name, *leaves, **params)])
        (dense,) = evaluate(roots, dict(zip(leaves, placed, strict=True)))
        dense = np.asarray(dense) * 1.0
        columns = dense.shape[1]
        assert formula.ndim == dense.shape[-1]
        close(formula.sum(dim=1), np.broadcast_to(dense, (4, columns, dense.shape[-1])).sum(1))


def test_operators() -> None:
    x, y = np.abs(points(5, 1, 3)) + 0.1, np.abs(points(1, 7, 3)) + 0.1
    a, b = LazyTensor(x), LazyTensor(y)
    cases: list[tuple[Any, Any]] = [
        (abs(a - b), abs(x - y)), (-a, -x * np.ones_like(y)), (a**2, x**2 + 0 * y), (a**3, x**3 + 0 * y),
        (a**-2, x**-2.0 + 0 * y), (a**0, np.ones_like(x * y)), (a**0.5, np.sqrt(x) + 0 * y),
        (a**-0.5, 1 / np.sqrt(x) + 0 * y), (a**1.7, x**1.7 + 0 * y), (a**b, x**y), (2**a, 2**x + 0 * y),
        (a.power(b), x**y), (1.5**a, 1.5**x + 0 * y), (a // b, x // y), (a % b, x % y), (5 % a, 5 % x + 0 * y),
        (a | b, (x * y).sum(-1, keepdims=True)), (y | a, (x * y).sum(-1, keepdims=True)),
        (a < b, x < y), (a <= b, x <= y), (a > b, x > y), (a >= b, x >= y), (a == a, x == x + 0 * y),
        (a != b, x != y), (y < a, y < x), (~(a < b), x >= y), (a**np.float64(2), x**2 + 0 * y),
        (a**np.int64(2), x**2 + 0 * y), (a ** np.array([0.5, 1.0, 2.0]), x ** np.array([0.5, 1.0, 2.0]) + 0 * y),
    ]  # fmt: skip
    for formula, dense in cases:
        grid = np.broadcast_to(dense, (5, 7, dense.shape[-1])) * 1.0
        close((formula + 0 * b[..., 0] if formula.nj is None else formula).sum(dim=1), grid.sum(1))


def test_comparison_with_none_is_no_formula() -> None:
    x: Any = Vi(points(5, 3))
    assert (x == None) is False  # noqa: E711
    assert (x != None) is True  # noqa: E711


def test_negative_base_of_a_power() -> None:
    x = points(5, 1, 1)
    for exponent in (2, 2.0, np.float32(2), 3.0):
        close((LazyTensor(x) ** exponent).sum(dim=1), x[:, 0] ** float(exponent))


def test_components() -> None:
    x, y = points(5, 1, 4), points(1, 7, 4)
    k, d = LazyTensor(x) - LazyTensor(y), x - y
    for key, dense in [
        (1, d[..., 1:2]), (-1, d[..., 3:]), (slice(1, 3), d[..., 1:3]), (slice(None, 2), d[..., :2]),
        (slice(-2, None), d[..., 2:]), ((Ellipsis, 0), d[..., :1]), ((Ellipsis, slice(1, 4)), d[..., 1:]),
        ((slice(None), slice(None), 2), d[..., 2:3]), (Ellipsis, d), (slice(None), d),
    ]:  # fmt: skip
        close(k[key].sum(dim=1), dense.sum(1))
    close(k.elem(2).sum(dim=1), d[..., 2:3].sum(1))
    close(k.extract(1, 2).sum(dim=1), d[..., 1:3].sum(1))
    close(k.sum(-1).sum(dim=1), d.sum(-1, keepdims=True).sum(1))
    close(k.sum(dim=2).sum(dim=1), d.sum(-1, keepdims=True).sum(1))
    close(k.mean(-1).sum(dim=1), d.mean(-1, keepdims=True).sum(1))
    close(k.min(-1).sum(dim=1), d.min(-1, keepdims=True).sum(1))
    close(k.max().sum(dim=1), d.max(-1, keepdims=True).sum(1))
    close(k.argmin(-1).sum(dim=1), d.argmin(-1)[..., None].sum(1) * 1.0)
    close(k.argmax(dim=2).sum(dim=1), d.argmax(-1)[..., None].sum(1) * 1.0)
    joined = np.concatenate([d, x + 0 * y, np.ones((5, 7, 1))], axis=-1)
    close(concatenate([k, LazyTensor(x), 1]).sum(dim=1), joined.sum(1))
    close(LazyTensor.concatenate((k, x, [1.0]), axis=-1).sum(dim=1), joined.sum(1))
    close(LazyTensor.cat((k, x, 1), dim=2).sum(dim=1), joined.sum(1))
    close(k.concat(LazyTensor(x)).concat(LazyTensor(1)).sum(dim=1), joined.sum(1))


def test_methods_with_arguments_of_their_own() -> None:
    x, y = points(5, 1, 4), points(1, 7, 4)
    a, b = LazyTensor(x), LazyTensor(y)
    d = x - y
    s, m = np.array([1.0, 2.0, 3.0, 4.0]), points(4, 4)
    m = m + m.T
    quadratic = np.einsum("ijk,kl,ijl->ij", d, m, d)[..., None]
    for got, dense in [
        ((a - b).norm(-1), np.sqrt((d**2).sum(-1, keepdims=True))),
        ((a - b).norm(2), np.sqrt((d**2).sum(-1, keepdims=True))),
        ((a - b).weightedsqnorm(2.5), 2.5 * (d**2).sum(-1, keepdims=True)),
        (a.weightedsqdist(b, s), (s * d**2).sum(-1, keepdims=True)),
        (a.weightedsqdist(y, m.reshape(-1)), quadratic),
        ((a - b).round(1), np.sign(d) * np.floor(np.abs(d) * 10 + 0.5) / 10),
        ((a - b).mod(0.7), d - 0.7 * np.floor(d / 0.7)),
        ((a - b).mod(0.7, 0.2), d - 0.7 * np.floor((d - 0.2) / 0.7)),
        ((a - b).clamp(-1, 1), np.clip(d, -1, 1)),
        ((a - b).clamp(-0.5, b), np.where(d < -0.5, -0.5, np.where(d > y, y, d))),
        ((a - b).ifelse(a, 2), np.where(d >= 0, x, 2)),
        (where(a < b, a, 0.5), np.where(x < y, x, 0.5)),
        (minimum(a, b), np.minimum(x, y)),
        (maximum(0.1, a - b), np.maximum(0.1, d)),
        ((a < b).logical_and(a > 0), (x < y) & (x > 0)),
        ((a[..., 0] * 2).one_hot(3), np.eye(3)[np.clip(np.trunc(2 * x[..., 0] + 0.5), 0, 2).astype(int)]
         * ((2 * x[..., :1] > -0.5) & (2 * x[..., :1] < 2.5)) + 0 * y[..., :1]),
        (a.keops_tensordot(b, (2, 2), (2, 2), (1,), (0,)), np.einsum("iab,jbc->ijac", x.reshape(5, 2, 2),
         y.reshape(7, 2, 2)).reshape(5, 7, 4)),
        (a.keops_kron(b, (2, 2), (2, 2)), np.stack([[np.kron(p.reshape(2, 2), q.reshape(2, 2)).ravel()
         for q in y[0]] for p in x[:, 0]])),
    ]:  # fmt: skip
        grid = np.broadcast_to(dense, (5, 7, dense.shape[-1])) * 1.0
        close(got.sum(dim=0), (grid if got.nj else grid[:, :1]).sum(0))


def test_bspline_is_a_partition_of_unity() -> None:
    knots = np.linspace(-1, 2, 9)
    x = np.linspace(0.2, 0.8, 5)
    values = LazyTensor(knots).bspline(Vi(x[:, None]), 2).sum(dim=1)
    assert values.shape == (5, 6)
    close(values.sum(-1), np.ones(5))


def test_row_and_column_numbers() -> None:
    x, y = points(5, 1, 1), points(1, 7, 1)
    k = LazyTensor(x) * LazyTensor(y)
    i, j = np.arange(5)[:, None, None], np.arange(7)[None, :, None]
    close(where(index_i() >= index_j(), k, 0).sum(dim=1), np.where(i >= j, x * y, 0).sum(1))
    close((k * (index_j() + 1) / (index_i() + 1)).sum(dim=0), (x * y * (j + 1) / (i + 1)).sum(0))
    close((index_i(5) - index_j(7)).sum(dim=1), np.sum(i - j, axis=1) * 1.0)
    close((LazyTensor(x) * (index_j(7) < 3)).sum(dim=1), (x * (j < 3)).sum(1))


def test_the_same_array_is_one_input() -> None:
    x = points(5, 3)
    k = Vi(x) + Vi(x).exp()
    assert len(k._bindings) == 1
    assert len((Vi(x) - Vj(x))._bindings) == 2
    s = LazyTensor(2.5)
    assert len((Vi(x) * s + s)._bindings) == 2
    assert len((Vi(x) * 2.5 + 2.5)._bindings) == 3  # equal numbers need not stay equal


# ---------------------------------------------------------------------- reductions

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
            order = np.pad(order, missing)
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
    close(k.argKmin(2, dim=1), np.zeros((5, 2, 3), dtype=int))
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
        {"enable_chunks": False}, {"use_fast_math": False}, {"keepdim": True}, {"call": True}, {"out": None},
        {"rec_multVar_highdim": 1}, {"progress": False},
    ]  # fmt: skip
    for options in spellings:
        close(k.sum(dim=1, **options), expected)
    k.backend = "reference"
    assert (k + 1).backend == "reference"
    close(k.sum(dim=1), expected)
    k.ranges = None


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


# ---------------------------------------------------------------------- linear operators


@pytest.mark.parametrize("dtype", DTYPES)
def test_products(dtype: Any) -> None:
    x, y = points(5, 1, 3, dtype=dtype), points(1, 7, 3, dtype=dtype)
    k, dense = (-(LazyTensor(x) - LazyTensor(y)).sqnorm2()).exp(), np.exp(-dense_distances(x, y))
    for shape in ((7,), (7, 1), (7, 2), (4, 7, 40)):
        v = points(*shape, dtype=dtype)
        close(k @ v, dense @ v, dtype)
        close(k.T.T @ v, dense @ v, dtype)
    for shape in ((5,), (1, 5), (3, 5), (4, 3, 5)):
        v = points(*shape, dtype=dtype)
        close(v @ k, v @ dense, dtype)
    v, w = points(7, dtype=dtype), points(5, dtype=dtype)
    close(k.matvec(v), dense @ v, dtype)
    close(k.rmatvec(w), dense.T @ w, dtype)
    close(k.matmat(v[:, None]), dense @ v[:, None], dtype)
    close(k.T @ w, dense.T @ w, dtype)
    close(k.t().sum(dim=0), dense.sum(1)[:, None], dtype)
    assert k.T.shape == (7, 5)
    close(k.__matmul__(v, backend="CPU"), dense @ v, dtype)
    close(k @ np.arange(7), dense @ np.arange(7), dtype)


def test_products_with_batches() -> None:
    x, y = points(2, 5, 1, 3), points(1, 7, 3)
    k, dense = (LazyTensor(x) - LazyTensor(y)).norm2(), np.sqrt(dense_distances(x, y))
    close(k @ points(7), dense @ points(7))
    close(k @ points(7, 2), dense @ points(7, 2))
    close(k @ points(3, 1, 7, 2), dense @ points(3, 1, 7, 2))
    close(points(5) @ k, points(5) @ dense)


def test_transpose_exchanges_indices() -> None:
    k = index_i(4) - 2 * index_j(6)
    i, j = np.arange(4)[:, None], np.arange(6)
    close(k.T.sum(dim=0), (i - 2.0 * j).T.sum(0)[:, None])


def test_scipy_takes_it_for_a_linear_operator() -> None:
    x = points(40, 3)
    k = (-(Vi(x) - Vj(x)).sqnorm2()).exp() + where(index_i() == index_j(), 0.1, 0)
    dense = np.exp(-dense_distances(x[:, None], x[None])) + 0.1 * np.eye(40)
    operator = scipy.sparse.linalg.aslinearoperator(k)
    b = points(40)
    solution, failed = scipy.sparse.linalg.cg(operator, b, rtol=1e-10)
    assert failed == 0
    np.testing.assert_allclose(solution, np.linalg.solve(dense, b), atol=1e-6)
    values = scipy.sparse.linalg.eigsh(operator, k=3, return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(values), np.linalg.eigvalsh(dense)[-3:], rtol=1e-8)
    close(operator.rmatvec(b), dense.T @ b)


# ---------------------------------------------------------------------- objects


def test_pickle_and_copies() -> None:
    x, y = points(5, 3), points(7, 3)
    k = (Vi(x) - Vj(y)).sqnorm2() / 2.5
    expected = k.sum(dim=1)
    for other in (pickle.loads(pickle.dumps(k)), copy.deepcopy(k)):
        close(other.sum(dim=1), expected)
        assert other._expr is k._expr
    deep, shallow = copy.deepcopy(k), copy.copy(k)
    x += 1
    close(deep.sum(dim=1), expected)
    close(shallow.sum(dim=1), k.sum(dim=1))


def test_text() -> None:
    k = (Vi(points(5, 3)) - Vj(points(7, 3))).sqnorm2()
    assert str(k).splitlines()[0] == "Pairfuse LazyTensor"
    assert "formula: sqnorm2(x0_i[3] - x1_j[3])" in str(k)
    assert "shape: (5, 7, 1)" in str(k)
    assert "reduction over i (dim=0) or j (dim=1)" in str(k)
    assert repr(k).startswith("LazyTensor(sqnorm2(x0_i[3] - x1_j[3]), shape=(5, 7, 1), float64")
    assert k.formula == "sqnorm2(x0_i[3] - x1_j[3])"
    assert [v.shape for v in k.variables] == [(5, 3), (7, 3)]


def test_explain_shows_every_stage() -> None:
    x, y = Vi(points(5, 3)), Vj(points(7, 3))
    k = (-(x - y).sqnorm2()).exp()
    text = k.explain()
    for stage in ("formula", "simplified", "schedule", "kernel"):
        assert f"--- {stage} ---" in text
    assert "over i" in k.explain("argKmin", dim=0, K=3)
    assert "x2_j[3]" in (k * 1).explain("SoftMax", other=Vj(points(7, 3, seed=1)))


def test_unbound_methods_and_documentation() -> None:
    x = Vi(points(5, 3))
    methods: Any = LazyTensor
    assert methods.exp(x)._expr is x.exp()._expr
    assert methods.exp.__name__ == "exp"
    assert "x.atan2(y)" in methods.atan2.__doc__
    for name in dir(LazyTensor):
        if not name.startswith("_"):
            assert getattr(LazyTensor, name).__doc__, name


def test_subclasses_stay_subclasses() -> None:
    class Mine(LazyTensor):
        """A user's own class."""

    x = Mine(points(5, 1, 3))
    assert type((x + 1).exp() * x) is Mine
    assert type(2.0 - x) is Mine


@pytest.mark.slow
def test_a_million_indices_are_exact() -> None:
    n = (1 << 24) + 3
    y = np.zeros((n, 1), dtype=np.float32)
    y[-1] = -1
    assert Vj(y).argmin(dim=1)[0, 0] == n - 1
    assert (Vj(y) >= -2).count_nonzero(dim=1)[0, 0] == n
