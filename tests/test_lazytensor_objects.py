"""LazyTensors as linear operators and as Python objects: products, transpose, pickle, text, subclasses."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg
from dense import DTYPES, close, dense_distances, points

from pairfuse.numpy import LazyTensor, Vi, Vj, index_i, index_j, where


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
    assert "shape: (5, 7)" in str(k)
    assert "reduction over i (dim=0) or j (dim=1)" in str(k)
    assert repr(k).startswith("LazyTensor(sqnorm2(x0_i[3] - x1_j[3]), shape=(5, 7), float64")
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
