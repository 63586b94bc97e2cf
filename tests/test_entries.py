"""K[rows, columns], dense, blocks, diagonal and trace: what NumPy and torch give of the dense array.

The formulas have batches, vectors, both indices and parameters; keys are drawn at random. The judge is the dense array,
indexed by NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pairfuse
from pairfuse import numpy as on_numpy
from pairfuse import torch as on_torch
from pairfuse.errors import DenseSizeError, SelectionError, ShapeError, UnsupportedError

RANDOM = np.random.default_rng(3)
X, Y, P = RANDOM.normal(size=(2, 5, 1, 3)), RANDOM.normal(size=(1, 1, 7, 3)), RANDOM.normal(size=(2, 1, 1, 3))
ROWS, COLUMNS = np.arange(5)[:, None, None], np.arange(7)[None, :, None]

# name: (the formula of x, y, p and the module of a face; the same in NumPy), for arrays as above, or without batches
FORMULAS: dict[str, tuple[Any, Any]] = {
    "vectors": (lambda x, y, p, f: (x - y) * p, lambda x, y, p: (x - y) * p),
    "numbers": (lambda x, y, p, f: x.sqdist(y * p), lambda x, y, p: ((x - y * p) ** 2).sum(-1, keepdims=True)),
    "of i": (lambda x, y, p, f: x + 0 * p, lambda x, y, p: x + 0 * p),
    "of j": (lambda x, y, p, f: y * 2, lambda x, y, p: y * 2),
    "indices": (
        lambda x, y, p, f: (x | y) * (f.index_i() + 10 * f.index_j()),
        lambda x, y, p: (x * y).sum(-1, keepdims=True) * (ROWS + 10 * COLUMNS),
    ),
}
FACES = {"numpy": on_numpy, "torch": on_torch}


def pair(name: str, face: str = "numpy", batch: bool = True) -> tuple[Any, np.ndarray]:
    """A formula and its dense array (*batch, M, N, D)."""
    data = [v if batch else v[-1] for v in (X, Y, P)]
    lazy, dense = FORMULAS[name]
    convert = torch.from_numpy if face == "torch" else np.asarray
    module = FACES[face]
    variables = [module.LazyTensor(convert(v.copy())) for v in data]
    return lazy(*variables, module), dense(*data)


def without_D(dense: np.ndarray) -> np.ndarray:
    """As K.shape has it: the length of the vectors is left out where it is 1."""
    return dense[..., 0] if dense.shape[-1] == 1 else dense


def check(got: Any, expected: np.ndarray) -> None:
    got = got.dense() if hasattr(got, "dense") else got
    assert tuple(got.shape) == expected.shape
    np.testing.assert_allclose(np.asarray(got), expected, rtol=1e-12, atol=1e-13)


def parts(size: int) -> st.SearchStrategy[Any]:
    """What may stand for one axis of this size."""
    whole = st.integers(-size, size - 1)
    bound = st.none() | st.integers(-size - 2, size + 2)
    step = st.none() | st.integers(-3, 3).filter(bool)
    return st.one_of(
        whole,
        st.builds(slice, bound, bound, step),
        st.lists(whole, min_size=1, max_size=4),
        st.lists(st.booleans(), min_size=size, max_size=size).map(np.array),
    )


@st.composite
def keys(draw: st.DrawFn, sizes: tuple[int, ...]) -> tuple[Any, ...]:
    """A key for some of the axes. Arrays of two axes pair in NumPy, so they are drawn with one length."""
    key = [draw(parts(n)) for n in sizes[: draw(st.integers(1, len(sizes)))]]
    lists = [k for k, part in enumerate(key) if isinstance(part, (list, np.ndarray))]
    if len(lists) > 1:
        length = draw(st.integers(1, 3))
        for k in lists:
            key[k] = draw(st.lists(st.integers(-sizes[k], sizes[k] - 1), min_size=length, max_size=length))
    return tuple(key)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("name", FORMULAS)
def test_dense(name: str, face: str, batch: bool) -> None:
    K, dense = pair(name, face, batch)
    check(K.dense(), without_D(dense))
    assert tuple(K.dense().shape) == K.shape
    check(np.asarray(K), without_D(dense))
    check((K > 0.1).dense(), without_D(dense > 0.1))
    assert str((K > 0.1).dense().dtype).endswith("bool")


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("name", FORMULAS)
@given(data=st.data())
def test_random_keys_select_what_numpy_selects(name: str, face: str, data: st.DataObject) -> None:
    batch = data.draw(st.booleans())
    K, dense = pair(name, face, batch)
    key = data.draw(keys(dense.shape[:-1]))
    check(K[key], without_D(dense[key]))


@pytest.mark.parametrize("face", FACES)
def test_rows_and_columns_that_remain_stay_lazy(face: str) -> None:
    K, dense = pair("numbers", face, batch=False)
    for key in (slice(1, 4), [0, 2], (slice(None), [1, 1, 6]), np.ix_([0, 3], [2, 5]), ..., np.arange(5) > 2):
        part = K[key]
        assert isinstance(part, type(K))
        check(part.sum(dim=1), dense[key].sum(1))
        check(part.argmin(dim=0), dense[key].argmin(0))
    for key in (2, (slice(None), 3), (1, 2), ([0, 1], [2, 3]), dense[..., 0] > 1):
        assert not isinstance(K[key], type(K))


def test_components_are_the_last_axis() -> None:
    K, dense = pair("vectors")
    check(K[..., 1], dense[..., 1])
    check(K[..., -1], dense[..., -1])
    check(K[..., :2], dense[..., :2])
    check(K[..., ::-2], dense[..., ::-2])
    check(K[..., [2, 0, 2]], dense[..., [2, 0, 2]])
    check(K[1, 2, 3, 0], dense[1, 2, 3, 0])
    number, _ = pair("numbers")
    check(number[..., 0], number.dense())


@pytest.mark.parametrize("face", FACES)
def test_diagonal_and_trace(face: str) -> None:
    for name in FORMULAS:
        for batch in (False, True):
            K, dense = pair(name, face, batch)
            if name in ("of i", "of j"):
                continue
            diagonal = np.moveaxis(dense.diagonal(axis1=-3, axis2=-2), -1, -2)
            check(K.diagonal(), without_D(diagonal))
            check(K.trace(), without_D(diagonal.sum(-2)))


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("rows", [1, 2, 5, 100])
def test_blocks(face: str, rows: int) -> None:
    K, dense = pair("indices", face)
    dense, seen = without_D(dense), []
    for part, block in K.blocks(rows):
        check(block, dense[:, part])
        seen += range(5)[part]
    assert seen == list(range(5))


TAKEN = {
    "dense": (lambda K: K.dense(), lambda K: K),
    "part": (lambda K: K[1:4, ::2].dense(), lambda K: K[1:4, ::2]),
    "row": (lambda K: K[2],) * 2,
    "pairs": (lambda K: K[[0, 0, 3], [1, 2, 6]],) * 2,
    "diagonal": (lambda K: K.diagonal(),) * 2,
    "trace": (lambda K: K.trace(), lambda K: K[:, :5].trace()),
}


@pytest.mark.parametrize("name", TAKEN)
def test_entries_have_derivatives(name: str) -> None:
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    y = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    K = (-on_torch.Vi(x).sqdist(on_torch.Vj(y))).exp()
    dense = (-((x[:, None] - y[None]) ** 2).sum(-1)).exp()
    got, expected = TAKEN[name][0](K), TAKEN[name][1](dense)
    weights = torch.randn_like(expected)
    ours = torch.autograd.grad((got * weights).sum(), [x, y], create_graph=True)
    theirs = torch.autograd.grad((expected * weights).sum(), [x, y], create_graph=True)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    second = [torch.autograd.grad((a**2).sum() + (b**2).sum(), [x, y]) for a, b in (ours, theirs)]
    for a, b in zip(*second, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_few_columns_many_rows() -> None:
    x, y = RANDOM.normal(size=(300, 2)), RANDOM.normal(size=(3, 2))
    K = on_numpy.Vi(x).sqdist(on_numpy.Vj(y))
    check(K.dense(), ((x[:, None] - y[None]) ** 2).sum(-1))


def test_complex_entries() -> None:
    x, y = (RANDOM.normal(size=(n, 2)) + 1j * RANDOM.normal(size=(n, 2)) for n in (4, 6))
    K = on_numpy.Vi(x) * on_numpy.Vj(y)
    dense = x[:, None] * y[None]
    check(K.dense(), dense)
    check(K[1], dense[1])
    check(K[..., 1].diagonal(), dense[..., 1].diagonal())


def test_empty_parts() -> None:
    K, dense = pair("numbers", batch=False)
    check(K[5:], without_D(dense[5:]))
    check(K[:, []], without_D(dense[:, []]))
    assert K[3:3].sum(dim=0).tolist() == [[0.0]] * 7


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (9, "index 9 of axis 0, which has the size 5"),
        ((0, -8), "index -8 of axis 1, which has the size 7"),
        (([0, 5],), "index 5 of axis 0"),
        (1.0, "a float selects nothing"),
        (np.array([0.5]), "an array of float64 selects nothing"),
        (slice(0, 3, 0), "step cannot be zero"),
        (np.array([True, False]), "the mask has the shape (2,), its axes have the sizes (5,)"),
        (np.ones((5, 6), dtype=bool), "the mask has the shape (5, 6), its axes have the sizes (5, 7)"),
        ((0, 0, 0, 0), "4 indices"),
        ((..., 0, ...), "2 ellipses"),
        (None, "None makes a new axis"),
        ("rows", "a str selects nothing"),
        (True, "True makes a new axis"),
    ],
    ids=str,
)  # fmt: skip
def test_keys_that_select_nothing(key: Any, text: str) -> None:
    K, _ = pair("numbers", batch=False)
    with pytest.raises(SelectionError, match=r"K\[") as error:
        K[key]
    assert text in str(error.value)
    assert "formula of i and j, shape (5, 7), float64" in str(error.value)


def test_the_limit_of_dense() -> None:
    K, _ = pair("numbers", batch=False)
    with pytest.raises(DenseSizeError, match="would take 280 bytes, the limit is 100") as error:
        K.dense(limit=100)
    assert "config.dense_limit = 280" in str(error.value)
    assert K.dense(limit=280).shape == (5, 7)
    with pairfuse.config.override(dense_limit=100):
        for call in (
            K.dense,
            lambda: np.asarray(K),
            lambda: K[:3][1:3, [0, 1, 2, 3, 4, 5, 6]].dense(),
            lambda: K[0:5, [0] * 40][0],
        ):
            with pytest.raises(DenseSizeError):
                call()


def test_what_has_no_entries() -> None:
    with pytest.raises(ShapeError, match="variables without data"):
        on_numpy.Vi(0, 3).sqdist(on_numpy.Vj(1, 3)).dense()
    K, _ = pair("numbers", batch=False)
    with pytest.raises(ShapeError, match="a whole number, at least 1"):
        K.blocks(0)
    ranges = (
        np.array([[0, 5]]),
        np.array([1]),
        np.array([[0, 7]]),
        np.array([[0, 7]]),
        np.array([1]),
        np.array([[0, 5]]),
    )
    K.ranges = tuple(r.astype(np.int32) for r in ranges)
    with pytest.raises(UnsupportedError, match="K has ranges"):
        K[0]
