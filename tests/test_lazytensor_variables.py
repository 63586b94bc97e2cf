"""How arrays, numbers and lists become variables of a LazyTensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dense import DTYPES, close, dense_distances, points

from pairfuse.numpy import LazyTensor, Pm, Vi, Vj


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
    assert x.ndim == x.dim() == len(x.shape)
    assert repr(x).count(f"shape={x.shape}") == 1
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
