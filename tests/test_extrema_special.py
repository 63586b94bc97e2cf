"""Extrema of infinite terms, of NaN, and of too few terms: indices of what there is, -1 where there is nothing.

The state of an extremum starts from "nothing yet", which no number equals: an infinite term is a term like others.
NumPy's stable order is the judge: NaN comes last, equal terms in the order of their indices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfuse.numpy import LazyTensor, Vi, Vj, where
from pairfuse.torch import LazyTensor as TorchLazyTensor
from pairfuse.torch import where as where_torch

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

INF, NAN = np.inf, np.nan
BACKENDS = ("reference", "llvm")


def of_columns(values: Any, dtype: str = "float32") -> LazyTensor:
    """One row of pairs with these terms."""
    v = np.asarray(values, dtype)
    return LazyTensor(np.zeros((1, 1, 1), dtype)) + LazyTensor(v[None, :, None])


def expected(terms: np.ndarray, which: str, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Values and indices of the K first along the columns of (..., rows, columns): (..., rows, K)."""
    worst = INF if which == "min" else -INF
    order = np.argsort(terms if which == "min" else -terms, axis=-1, kind="stable")[..., :k]
    room = [(0, 0)] * (terms.ndim - 1) + [(0, k - order.shape[-1])]
    values = np.pad(np.take_along_axis(terms, order, -1), room, constant_values=NAN)
    places = np.pad(order, room, constant_values=-1)
    return np.where(np.isnan(values), worst, values), np.where(np.isnan(values), -1, places)


# ---------------------------------------------------------------------- examples


@pytest.mark.parametrize("backend", BACKENDS)
def test_infinite_terms_have_their_own_indices(backend: str) -> None:
    v = np.array([5, INF, 1, INF, INF, 3, INF])
    assert of_columns(v).argKmin(K=5, dim=1, backend=backend).tolist() == [[2, 5, 0, 1, 3]]
    assert of_columns(-v).argKmax(K=5, dim=1, backend=backend).tolist() == [[2, 5, 0, 1, 3]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_infinite_term_comes_before_nan(backend: str) -> None:
    assert of_columns([NAN, INF, NAN]).argmin(dim=1, backend=backend).tolist() == [[1]]
    assert of_columns([NAN, -INF, NAN]).argmax(dim=1, backend=backend).tolist() == [[1]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_masked_neighbours_are_never_repeated(backend: str) -> None:
    x = np.arange(6, dtype=np.float32)[:, None]
    x_i, y_j = LazyTensor(x[:, None, :]), LazyTensor(x[None, :, :])
    places = where((x_i - y_j).abs() > 1.5, (x_i - y_j).abs(), INF).argKmin(K=6, dim=1, backend=backend)
    assert (np.sort(places, -1) == np.arange(6)).all()
    assert places[0].tolist() == [2, 3, 4, 5, 0, 1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_places_without_a_term(backend: str) -> None:
    values, places = of_columns([3, NAN, INF]).Kmin_argKmin(K=4, dim=1, backend=backend)
    assert values.tolist() == [[3, INF, INF, INF]]
    assert places.tolist() == [[0, 2, -1, -1]]
    values, places = of_columns([NAN] * 300).max_argmax(dim=1, backend=backend)
    assert (values.tolist(), places.tolist()) == ([[-INF]], [[-1]])
    assert of_columns([NAN, NAN]).argmin(dim=1, backend=backend).tolist() == [[-1]]


# ---------------------------------------------------------------------- the kind

TERMS = st.sampled_from([NAN, INF, -INF, 0.0, -0.0, 1.0, -2.0, 3.0])
ROWS = 4


def matrix(terms: np.ndarray, over: int) -> Any:
    """Pairs with these terms, (2, ROWS, columns), as a formula: a choice among the components of a column.

    In the lanes of a vector stand rows that differ.
    """
    columns = np.ascontiguousarray(np.swapaxes(terms, -1, -2))
    rows = np.arange(ROWS, dtype=terms.dtype)[:, None]
    if over == 1:
        number, y = LazyTensor(rows[:, None, :]), LazyTensor(columns[:, None, :, :])
    else:
        number, y = LazyTensor(rows[None, :, :]), LazyTensor(columns[:, :, None, :])
    f = y[..., 0]
    for r in range(1, ROWS):
        f = where(number == r, y[..., r], f)
    return f


@settings(max_examples=15, deadline=None)
@given(
    data=st.data(), columns=st.integers(1, 70), k=st.sampled_from([1, 2, 5, 17]), which=st.sampled_from(["min", "max"])
)
def test_lists_are_in_numpys_order(data: Any, columns: int, k: int, which: str) -> None:
    """Special terms, most of them equal to others; a batch, both axes, both types."""
    drawn = data.draw(st.lists(TERMS, min_size=2 * ROWS * columns, max_size=2 * ROWS * columns))
    over, backend = data.draw(st.sampled_from([0, 1])), data.draw(st.sampled_from(BACKENDS))
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    check(np.array(drawn, dtype).reshape(2, ROWS, columns), which, k, over, backend)


@pytest.mark.parametrize("which", ["min", "max"])
@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("share", [0.1, 0.9, 0.999])
def test_many_columns_of_nan_and_infinity(which: str, over: int, share: float) -> None:
    """More columns than a chunk; rows that no number fills; threads and lanes that share the columns are merged."""
    rng = np.random.default_rng(int(1000 * share) + over)
    terms = rng.choice([NAN, INF, -INF, 2.0, -2.0], (2, ROWS, 20_000)).astype(np.float32)
    terms[rng.random(terms.shape) < share] = NAN
    terms[1, 1] = NAN
    terms[1, 2] = INF
    for k in (1, 3, 30):
        check(terms, which, k, over, "llvm")


def check(terms: np.ndarray, which: str, k: int, over: int, backend: str) -> None:
    """The lists; for K = 1 the extremum and its index, too."""
    f = matrix(terms, over)
    right = expected(terms, which, k)
    found = getattr(f, f"K{which}_argK{which}")(K=k, dim=1 + over, backend=backend)
    np.testing.assert_array_equal(found[0], right[0])
    np.testing.assert_array_equal(found[1], right[1])
    np.testing.assert_array_equal(getattr(f, f"argK{which}")(K=k, dim=1 + over, backend=backend), right[1])
    if k == 1:
        best, place = getattr(f, f"{which}_arg{which}")(dim=1 + over, backend=backend)
        np.testing.assert_array_equal(best, right[0])
        np.testing.assert_array_equal(place, right[1])
        np.testing.assert_array_equal(getattr(f, f"arg{which}")(dim=1 + over, backend=backend), right[1])
        np.testing.assert_array_equal(getattr(f, which)(dim=1 + over, backend=backend), right[0])


def test_blocks_of_ranges_without_numbers() -> None:
    """Rows that no block covers, and blocks whose terms are NaN or infinite."""
    f = of_columns([NAN, INF, 1, 0, NAN, NAN]) + LazyTensor(np.zeros((4, 1, 1), np.float32))
    ranges = (
        np.array([[0, 1], [1, 2], [3, 4]]),
        np.array([1, 2, 3]),
        np.array([[0, 2], [4, 6], [1, 3]]),
        np.array([[0, 2], [4, 6], [1, 3]]),
        np.array([1, 2, 3]),
        np.array([[0, 1], [1, 2], [3, 4]]),
    )
    for backend in BACKENDS:
        values, places = f.Kmin_argKmin(K=2, dim=1, ranges=ranges, backend=backend)
        assert places.tolist() == [[1, -1], [-1, -1], [-1, -1], [2, 1]]
        assert values.tolist() == [[INF, INF], [INF, INF], [INF, INF], [1, INF]]


# ---------------------------------------------------------------------- derivatives


@pytest.mark.parametrize("name", ["Kmin", "Kmax"])
def test_places_without_a_term_have_no_derivative(name: str) -> None:
    """Whatever stands at the index 0, infinite slopes included."""
    y = torch.tensor([0.0, -1.0, 4.0], dtype=torch.float64, requires_grad=True)
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    p = torch.ones(1, dtype=torch.float64, requires_grad=True)

    def lists(x: Any, y: Any, p: Any) -> Any:
        # 1 / 0, the root of -1: an infinite slope at the index 0, which no place has, and NaN
        f = TorchLazyTensor(x[:, None, None]) * TorchLazyTensor(y[None, :, None]).sqrt() / 2 + p[0]
        return getattr(where_torch(TorchLazyTensor(y[None, :, None]) == 0.0, NAN, f), name)(K=3, dim=1)

    found = torch.autograd.grad(lists(x, y, p).sum(), [x, y, p])
    for gradient, right in zip(found, ([1.0, 1.0], [0.0, 0.0, 0.25], [2.0]), strict=True):
        torch.testing.assert_close(gradient, torch.tensor(right, dtype=torch.float64))
    moved = torch.func.jvp(lists, (x.detach(), y.detach(), p.detach()), tuple(map(torch.ones_like, (x, y, p))))[1]
    assert moved.tolist() == [[2.125, 0.0, 0.0]] * 2
    x_n, y_n = Vi(x.detach().numpy()[:, None]), Vj(y.detach().numpy()[:, None])
    f = where(y_n == 0.0, NAN, x_n * y_n.sqrt() / 2)
    _, (g_x, g_y) = f.value_and_grad(name, dim=1, K=3, wrt=[x_n, y_n])
    assert g_x.tolist() == [[1.0], [1.0]]
    assert g_y.tolist() == [[0.0], [0.0], [0.25]]


def test_rows_of_nan_have_no_derivative() -> None:
    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    f = TorchLazyTensor(x[:, None, None]).log() * 0 + TorchLazyTensor(torch.ones(1, 2, 1, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(f.min(dim=1).sum(), x)
    assert gradient.tolist() == [0.0, 0.0, 0.0]


def test_tensors_have_the_same_indices() -> None:
    v = torch.tensor([5, INF, 1, INF, INF, 3, INF])
    f = TorchLazyTensor(torch.zeros(1, 1, 1)) + TorchLazyTensor(v[None, :, None])
    assert f.argKmin(K=9, dim=1).tolist() == [[2, 5, 0, 1, 3, 4, 6, -1, -1]]
