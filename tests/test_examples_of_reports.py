"""Examples as users of other systems have reported them, on both faces and two backends, with the values they quote.

What lies behind each is tested where it belongs; here the words of the report are kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import pairfuse.numpy
import pairfuse.torch

FACES = {"numpy": (pairfuse.numpy, np.asarray), "torch": (pairfuse.torch, torch.as_tensor)}
inf, nan = np.inf, np.nan


@pytest.fixture(params=FACES)
def face(request: Any) -> Any:
    return FACES[request.param]


@pytest.fixture(params=["reference", "llvm"])
def backend(request: Any) -> str:
    return request.param


def flat(x: Any) -> list[float]:
    return np.asarray(x).ravel().tolist()


def test_neighbours_at_infinity(face: Any, backend: str) -> None:
    library, of = face
    v = np.array([5, inf, 1, inf, inf, 3, inf])
    K = library.LazyTensor(of(np.zeros((1, 1, 1)))) + library.LazyTensor(of(v[None, :, None]))
    assert flat(K.argKmin(K=5, dim=1, backend=backend)) == [2, 5, 0, 1, 3]
    assert flat((-K).argKmax(K=5, dim=1, backend=backend)) == [2, 5, 0, 1, 3]
    assert flat(K.argKmin(K=8, dim=1, backend=backend)) == [2, 5, 0, 1, 3, 4, 6, -1]
    w = library.LazyTensor(of(np.zeros((1, 1, 1)))) + library.LazyTensor(of(np.array([nan, inf, nan])[None, :, None]))
    assert flat(w.argmin(dim=1, backend=backend)) == flat((-w).argmax(dim=1, backend=backend)) == [1]


def test_labels_beyond_float32(face: Any, backend: str) -> None:
    library, of = face
    ids = of(np.array([16777216, 16777217, 16777218]))
    same = library.LazyTensor(ids[:, None, None]) == library.LazyTensor(ids[None, :, None])
    assert flat(same.sum(dim=1, backend=backend)) == [1, 1, 1]
    ones = library.LazyTensor(of(np.ones((1, 3, 1), np.float32)))
    assert flat((same * ones).sum(dim=1, backend=backend)) == [1, 1, 1]
    numbers = library.LazyTensor(of(np.array([0, 4, 7]))[:, None, None])
    assert flat((library.index_j(6) == numbers).sum(dim=1, backend=backend)) == [1, 1, 0]


def test_integers_that_leave_64_bits(face: Any, backend: str) -> None:
    library, of = face
    y = of(np.array([[1.0], [2.0]]))
    power = library.Genred("2**64 + 0*Sum(x+y)", ["x = Vi(1)", "y = Vj(1)"], axis=1)
    assert flat(power(y, y, backend=backend)) == [2.0**65] * 2
    fifth = (library.index_j(10000) ** 5).sum(dim=1, backend=backend)
    np.testing.assert_allclose(flat(fifth), [float(sum(k**5 for k in range(10000)))], rtol=1e-6)


def test_softmax_of_large_scores(face: Any, backend: str) -> None:
    library, of = face
    scores = (np.array([0, 0.5, 1, -1, 0.25]) + 1e5).astype(np.float32)[:, None]
    given = of(scores)
    K = library.Vj(given) + library.Vi(of(np.zeros((1, 1), np.float32)))
    weight = library.Vj(of(np.arange(5, dtype=np.float32)[:, None]))
    _, gradient = K.value_and_grad("sumsoftmaxweight", dim=1, wrt=given, weight=weight, backend=backend)
    np.testing.assert_allclose(flat(gradient), [-0.2705, -0.2110, 0.0393, 0.0577, 0.3845], atol=1e-4)
    p = np.exp(scores.astype(float) - scores.max())[:, 0]
    p /= p.sum()
    np.testing.assert_allclose(flat(gradient), p * (np.arange(5) - p @ np.arange(5)), atol=1e-6)


def test_sums_over_many_components(face: Any, backend: str) -> None:
    library, of = face

    def constant(value: float, length: int) -> Any:
        return library.LazyTensor(of(np.full((1, 1, length), value, np.float32)))

    u, q = constant(0.3, 1536), constant(0.7, 1536)
    assert abs(flat((1 - (u.normalize() | q.normalize())).sum(dim=1, backend=backend))[0]) < 1e-6
    distance = flat(constant(0.1, 30000).sqdist(constant(0.4, 30000)).sum(dim=1, backend=backend))[0]
    assert distance == pytest.approx(30000 * (float(np.float32(0.1)) - float(np.float32(0.4))) ** 2, rel=3e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_whose_parts_leave_the_range(face: Any, backend: str, dtype: Any) -> None:
    library, of = face
    v = np.tile([1e3, 1e-3], 1000).astype(dtype)
    K = library.LazyTensor(of(v[None, :, None])) + library.LazyTensor(of(np.zeros((1, 1, 1), dtype)))
    exact = np.exp(np.log(v.astype(np.longdouble)).sum())  # 1e-3 is rounded, 1000 times
    np.testing.assert_allclose(flat(K.prod(dim=1, backend=backend)), [exact], rtol=2000 * np.finfo(dtype).eps)


def test_one_hundred_numbers_in_a_vector(face: Any, backend: str) -> None:
    library, of = face
    x, y = np.array([[0.3], [1.0]]), np.array([[0.1], [0.7], [2.0]])
    d = (library.Vi(of(x)) - library.Vj(of(y))).abs()
    vector = (d * 1.0).cos()
    for k in range(1, 100):
        vector = vector.concat((d * (1.0 + k)).cos())
    expected = np.cos(np.abs(x - y.T)[..., None] * np.arange(1.0, 101.0)).sum(1)
    np.testing.assert_allclose(np.asarray(vector.sum(dim=1, backend=backend)), expected, rtol=1e-9, atol=1e-12)


def test_a_right_hand_side_of_1e_30(face: Any, backend: str) -> None:
    library, of = face
    x = np.random.default_rng(0).normal(size=(20, 2))
    b = np.full((20, 1), 1e-30)
    K = (-library.Vi(of(x)).sqdist(library.Vj(of(x)))).exp()
    u = np.asarray(K.solve(of(b), alpha=0.01, backend=backend))
    dense = np.exp(-((x[:, None] - x) ** 2).sum(-1)) + 0.01 * np.eye(20)
    assert np.linalg.norm(dense @ u - b) < 1e-4 * np.linalg.norm(b)
