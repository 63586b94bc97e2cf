"""Block-sparse ranges as users write them: in both libraries, in all ways to give them, with derivatives, and wrong."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from block_sparse import Mask, draw_mask
from scipy.sparse.linalg import aslinearoperator

import pairfuse.numpy as pn
from pairfuse.errors import DtypeError, PairfuseError, ShapeError
from pairfuse.frontend import ranges as reading
from pairfuse.numpy.cluster import from_matrix
from pairfuse.torch import LazyTensor  # the class of both libraries; torch.compile knows it

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

rng = np.random.default_rng(7)
M, N = 30, 40
X, Y, B = rng.normal(size=(M, 2)), rng.normal(size=(N, 2)), rng.normal(size=(N, 3))
MASK = draw_mask(rng, M, N, (5, 6), 0.5)
D2 = ((X[:, None] - Y[None]) ** 2).sum(-1)
KEPT = MASK.dense * np.exp(-D2)


def kernel(x: Any = X, y: Any = Y) -> LazyTensor:
    """exp(-|x_i - y_j|^2) in the library of the points."""
    return (-((LazyTensor(x[..., :, None, :]) - LazyTensor(y[..., None, :, :])) ** 2).sum(-1)).exp()


def sparse(mask: Mask = MASK) -> LazyTensor:
    K = kernel()
    K.ranges = mask.six
    return K


# ---------------------------------------------------------------------- the example of the specification


def test_the_worked_example() -> None:
    x, y = np.arange(12.0)[:, None], np.arange(30.0)[:, None]
    r_i, r_j = np.array([[2, 5], [7, 12]]), np.array([[1, 4], [4, 9], [20, 30]])
    ranges = from_matrix(r_i, r_j, np.array([[1, 1, 0], [0, 1, 0]], bool))
    K = pn.Vi(x) * 100 + pn.Vj(y)
    over_j, over_i = K.sum(dim=1, ranges=ranges)[:, 0], K.sum(dim=0, ranges=ranges)[:, 0]
    assert over_j.tolist() == [
        *[0, 0], *(8 * 100 * i + sum(range(1, 9)) for i in (2, 3, 4)),
        *[0, 0], *(5 * 100 * i + sum(range(4, 9)) for i in range(7, 12)),
    ]  # fmt: skip
    assert over_i.tolist() == [
        0, *(900 + 3 * j for j in (1, 2, 3)), *(900 + 4500 + 8 * j for j in range(4, 9)), *[0] * 21,
    ]  # fmt: skip


# ---------------------------------------------------------------------- ways to give them


def test_attribute_and_keyword() -> None:
    expected = KEPT @ B
    np.testing.assert_allclose(sparse() @ B, expected, rtol=1e-12)
    np.testing.assert_allclose(kernel().__matmul__(B, ranges=MASK.six), expected, rtol=1e-12)
    np.testing.assert_allclose((kernel() * pn.Vj(B)).sum(dim=1, ranges=MASK.six), expected, rtol=1e-12)
    np.testing.assert_allclose(sparse().T @ X, KEPT.T @ X, rtol=1e-12)
    np.testing.assert_allclose(X.T @ sparse(), X.T @ KEPT, rtol=1e-12)


def test_the_keyword_replaces_the_attribute() -> None:
    other = draw_mask(np.random.default_rng(1), M, N, (3, 4), 0.6)
    found = sparse().sum(dim=1, ranges=other.six)
    np.testing.assert_allclose(found[:, 0], (other.dense * np.exp(-D2)).sum(1), rtol=1e-12)
    np.testing.assert_allclose(sparse().sum(dim=1, ranges=None)[:, 0], KEPT.sum(1), rtol=1e-12)


def test_operations_keep_the_ranges() -> None:
    K = sparse()
    expected = (MASK.dense * (2 * np.exp(-D2) + D2)).sum(1)
    distance = ((LazyTensor(X[:, None]) - LazyTensor(Y[None])) ** 2).sum(-1)
    for made in (2 * K + distance, distance + K * 2, pn.where(1, 2 * K + distance, 0)):
        np.testing.assert_allclose(made.sum(dim=1)[:, 0], expected, rtol=1e-12)
    for made in (copy.copy(K), copy.deepcopy(K), pickle.loads(pickle.dumps(K))):
        np.testing.assert_allclose(made.sum(dim=1)[:, 0], KEPT.sum(1), rtol=1e-12)
    assert kernel().ranges is None
    K.ranges = None
    np.testing.assert_allclose(K.sum(dim=1)[:, 0], np.exp(-D2).sum(1), rtol=1e-12)


def test_what_was_given_can_be_read() -> None:
    K = sparse()
    assert K.ranges is not None
    assert all(np.array_equal(a, b) for a, b in zip(K.ranges, MASK.six, strict=True))
    swapped = K.T.ranges
    assert swapped is not None
    assert all(np.array_equal(a, b) for a, b in zip(swapped, (*MASK.six[3:], *MASK.six[:3]), strict=True))
    again = kernel()
    again.ranges = K.ranges
    np.testing.assert_allclose((again + K).sum(dim=1), 2 * K.sum(dim=1), rtol=1e-12)


def test_the_transpose_of_the_transpose() -> None:
    K = sparse()
    np.testing.assert_allclose((K.T.T + K).sum(dim=1), 2 * K.sum(dim=1), rtol=1e-12)


def test_two_different_ranges() -> None:
    other = draw_mask(np.random.default_rng(1), M, N, (3, 4), 0.6)
    with pytest.raises(ShapeError, match=r"x \+ y: the operands have different ranges\.\n(.|\n)*Hint: set the same"):
        _ = sparse() + sparse(other)


def test_genred_and_deferred_calls() -> None:
    f = pn.Genred("Exp(-SqDist(x,y)) * b", ["x = Vi(2)", "y = Vj(2)", "b = Vj(3)"], axis=1)
    np.testing.assert_allclose(f(X, Y, B, ranges=MASK.six), KEPT @ B, rtol=1e-12)
    np.testing.assert_allclose(f(X, Y, B), np.exp(-D2) @ B, rtol=1e-12)
    g = (-pn.Vi(0, 2).sqdist(pn.Vj(1, 2))).exp().sum(axis=0)
    np.testing.assert_allclose(g(X, Y, ranges=MASK.six)[:, 0], KEPT.sum(0), rtol=1e-12)
    h = sparse().sum(dim=1, call=False)
    np.testing.assert_allclose(h()[:, 0], KEPT.sum(1), rtol=1e-12)
    waiting = (-pn.Vi(0, 2).sqdist(pn.Vj(1, 2))).exp()
    waiting.ranges = MASK.six
    np.testing.assert_allclose(waiting.sum(axis=1)(X, Y)[:, 0], KEPT.sum(1), rtol=1e-12)


def test_scipy_operator() -> None:
    operator: Any = aslinearoperator(sparse())
    np.testing.assert_allclose(operator @ B[:, 0], KEPT @ B[:, 0], rtol=1e-12)
    np.testing.assert_allclose(operator.rmatvec(X[:, 0]), KEPT.T @ X[:, 0], rtol=1e-12)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("library", ["numpy", "torch", "list"])
def test_integers_of_every_kind(kind: str, library: str) -> None:
    """Also as columns of a larger array, that is, not contiguous."""
    given: list[Any] = []
    for a in MASK.six:
        wide = np.zeros((len(a), 5), kind)
        wide[:, 1:4:2] = a.reshape(len(a), -1)
        view = wide[:, 1:4:2] if a.ndim == 2 else wide[:, 1]
        given.append(
            view.tolist() if library == "list" else torch.from_numpy(wide)[:, 1:4:2] if library == "torch" else view
        )
        if library == "torch" and a.ndim == 1:
            given[-1] = torch.from_numpy(wide)[:, 1]
    np.testing.assert_allclose(kernel().sum(dim=1, ranges=tuple(given))[:, 0], KEPT.sum(1), rtol=1e-12)
    np.testing.assert_allclose(kernel().sum(dim=0, ranges=given)[:, 0], KEPT.sum(0), rtol=1e-12)


def test_torch_ranges_stay_in_torch() -> None:
    K = kernel(torch.from_numpy(X), torch.from_numpy(Y))
    K.ranges = tuple(torch.from_numpy(np.array(a)).int() for a in MASK.six)
    held: Any = K.ranges
    assert all(isinstance(a, torch.Tensor) and a.dtype == torch.int64 for a in held)
    np.testing.assert_allclose(K.sum(dim=1).numpy()[:, 0], KEPT.sum(1), rtol=1e-12)


# ---------------------------------------------------------------------- batches, means, truth values


@pytest.mark.parametrize("reduction", ["sum", "logsumexp", "argmin", "max"])
def test_batches_share_the_ranges(reduction: str) -> None:
    x, y = rng.normal(size=(3, 1, M, 2)), rng.normal(size=(2, N, 2))
    for dim in (2, 3):
        found = getattr(kernel(x, y), reduction)(dim=dim, ranges=MASK.six)
        for a in range(3):
            for b in range(2):
                single = getattr(kernel(x[a, 0], y[b]), reduction)(dim=dim - 2, ranges=MASK.six)
                np.testing.assert_allclose(found[a, b], single, rtol=1e-12)


def test_means_count_the_pairs_that_take_part() -> None:
    K = sparse()
    values = np.where(MASK.dense, np.exp(-D2), np.nan)
    counts = MASK.dense.sum(1)
    assert (counts == 0).any(), "some rows are to be empty"
    rows = counts > 1
    assert np.isnan(K.mean(dim=1)[counts == 0]).all()
    np.testing.assert_allclose(K.mean(dim=1)[rows, 0], np.nanmean(values[rows], 1), rtol=1e-12)
    np.testing.assert_allclose(K.var(dim=1)[rows, 0], np.nanvar(values[rows], 1), rtol=1e-10)
    np.testing.assert_allclose(K.std(dim=1, ddof=1)[rows, 0], np.nanstd(values[rows], 1, ddof=1), rtol=1e-10)
    columns = MASK.dense.sum(0) > 0
    np.testing.assert_allclose(K.mean(dim=0)[columns, 0], np.nanmean(values[:, columns], 0), rtol=1e-12)
    np.testing.assert_allclose(K.mean(dim=(0, 1)), np.array([np.nanmean(values)]), rtol=1e-12)
    np.testing.assert_allclose(K.sum(dim=(0, 1)), [KEPT.sum()], rtol=1e-12)


def test_truth_values() -> None:
    near = sparse() > 0.3
    mask = KEPT > 0.3
    assert (near.any(dim=1)[:, 0] == mask.any(1)).all()
    assert (near.all(dim=1)[:, 0] == (mask | ~MASK.dense).all(1)).all()
    assert (near.count_nonzero(dim=0)[:, 0] == mask.sum(0)).all()


def test_rows_without_columns() -> None:
    """As over an empty axis; an index is -1."""
    K = kernel()
    K.ranges = ([[0, 10]], [1], [[5, 6]], [[5, 6]], [1], [[0, 10]])
    assert (K.sum(dim=1)[10:] == 0).all()
    assert (K.logsumexp(dim=1)[10:] == -np.inf).all()
    assert (K.min(dim=1)[10:] == np.inf).all()
    assert (K.argmax(dim=1) == np.where(np.arange(M) < 10, 5, -1)[:, None]).all()
    assert (K.argKmin(2, dim=1)[10:] == -1).all()
    assert np.isnan(K.sumsoftmaxweight(pn.Vj(B), dim=1)[10:]).all()


# ---------------------------------------------------------------------- derivatives


def of_tensors(reduce: Callable[[LazyTensor, LazyTensor], Any]) -> Callable[..., torch.Tensor]:
    ranges = tuple(torch.from_numpy(np.array(a)) for a in FULL.six)

    def function(x: torch.Tensor, y: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        K = (-((LazyTensor(x[:, None]) - LazyTensor(y[None])) ** 2).sum(-1) * LazyTensor(p.view(1, 1, 1))).exp()
        K.ranges = ranges
        return reduce(K, LazyTensor(y[None]))

    return function


# Every row and column takes part, so that no result is infinite.
FULL = Mask(
    np.array([[0, 3], [5, 8], [3, 5]]),
    np.array([[0, 2], [2, 6], [6, 9]]),
    np.array([[1, 1, 0], [0, 1, 1], [1, 0, 0]], bool),
    8,
    9,
)
FOLLOWED = {
    "sum over j": lambda K, y: K.sum(dim=1),
    "sum over i": lambda K, y: K.sum(dim=0),
    "sum of both": lambda K, y: K.sum(dim=(0, 1)),
    "product": lambda K, y: (K * y).sum(dim=1),
    "logsumexp": lambda K, y: K.logsumexp(dim=1),
    "logsumexp over i": lambda K, y: K.logsumexp(dim=0),
    "softmax": lambda K, y: K.sumsoftmaxweight(y, dim=1),
    "prod": lambda K, y: K.prod(dim=0),
    "min": lambda K, y: K.min(dim=1),
    "K smallest": lambda K, y: K.Kmin(2, dim=0),
    "mean": lambda K, y: K.mean(dim=1),
    "variance": lambda K, y: K.var(dim=0),
    "transpose": lambda K, y: K.t().sum(dim=1),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_derivatives(name: str) -> None:
    """First and second order, in both modes, with respect to points and parameter, against finite differences."""
    generator = torch.Generator().manual_seed(3)
    x, y = (torch.randn(n, 2, generator=generator, dtype=torch.float64, requires_grad=True) for n in (8, 9))
    p = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    f = of_tensors(FOLLOWED[name])
    assert torch.autograd.gradcheck(f, (x, y, p), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(f, (x, y, p))


def test_derivatives_of_infinite_rows() -> None:
    """Rows without columns have the derivative 0."""
    x = torch.from_numpy(X).requires_grad_()
    K = kernel(x, torch.from_numpy(Y))
    K.ranges = MASK.six
    empty = torch.from_numpy(MASK.dense.sum(1) == 0)
    for values in (K.logsumexp(dim=1), K.min(dim=1), K.Kmin(2, dim=1)):
        weights = torch.ones_like(values)
        (g,) = torch.autograd.grad(values, [x], weights)
        assert (g[empty] == 0).all()
        assert g.isfinite().all()


def test_maps_over_batches() -> None:
    f = of_tensors(FOLLOWED["logsumexp"])
    x, y, p = torch.randn(4, 8, 2), torch.randn(9, 2), torch.ones(1)
    mapped = torch.func.vmap(f, (0, None, None))(x, y, p)
    torch.testing.assert_close(mapped, torch.stack([f(v, y, p) for v in x]))


def test_torch_compile() -> None:
    """Ranges are tensors of the graph, and are checked when it runs."""
    ranges = tuple(torch.from_numpy(np.array(a)) for a in FULL.six)

    def loss(x: torch.Tensor, y: torch.Tensor, ranges: Any) -> torch.Tensor:
        K = kernel(x, y)
        K.ranges = ranges
        return (K.sum(dim=1) ** 2).sum()

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    x, y = (torch.randn(n, 2, dtype=torch.float64, requires_grad=True) for n in (8, 9))
    expected = torch.autograd.grad(loss(x, y, ranges), [x, y])
    torch.testing.assert_close(torch.autograd.grad(compiled(x, y, ranges), [x, y]), expected)
    beyond = (*ranges[:2], ranges[2] + 100, *ranges[3:])
    with pytest.raises(ShapeError, match="redranges_j ends at"):
        compiled(x, y, beyond)


def test_two_halves_of_different_masks() -> None:
    """Where both are used; a reduction over j alone needs the first only."""
    half = Mask(FULL.ranges_i, FULL.ranges_j, np.eye(3, dtype=bool), 8, 9)
    mixed = (*FULL.six[:3], *half.six[3:])
    x, y = torch.randn(8, 2), torch.randn(9, 2, requires_grad=True)
    K = kernel(x, y)
    K.ranges = mixed
    result = K.sum(dim=1)
    with pytest.raises(ShapeError, match="two halves of ranges describe different masks"):
        torch.autograd.grad(result.sum(), [y])


# ---------------------------------------------------------------------- wrong ranges


def changed(k: int, value: Any) -> tuple[Any, ...]:
    """Valid ranges but for the array number k."""
    six: list[Any] = [
        [[2, 5], [7, 12]],
        [2, 3],
        [[1, 4], [4, 9], [4, 9]],
        [[1, 4], [4, 9]],
        [1, 3],
        [[2, 5], [2, 5], [7, 12]],
    ]
    six[k] = value
    return tuple(np.array(v) if isinstance(v, list) else v for v in six)


WRONG: dict[str, tuple[Any, type[PairfuseError], str]] = {
    "five arrays": (changed(0, [[2, 5], [7, 12]])[:5], ShapeError, "ranges are a tuple of six integer arrays"),
    "an array": (np.zeros((6, 2), int), ShapeError, "ranges are a tuple of six integer arrays"),
    "real numbers": (changed(2, [[1.0, 4.0], [4, 9], [4, 9]]), DtypeError, "redranges_j is not of an integer type"),
    "truth values": (changed(1, [True, True]), DtypeError, "slices_i is not of an integer type"),
    "no array": (changed(4, object()), DtypeError, "slices_j is not of an integer type"),
    "ragged": (changed(3, ()), ShapeError, "slices_j does not have one entry for each block"),
    "three columns": (changed(0, [[2, 5, 6], [7, 12, 13]]), ShapeError, "ranges_i is not an array of intervals"),
    "flat": (changed(5, [2, 5, 7, 12]), ShapeError, "redranges_i is not an array of intervals"),
    "backwards": (changed(2, [[1, 4], [9, 4], [4, 9]]), ShapeError, r"redranges_j\[1\] = \[9, 4\)"),
    "negative": (changed(0, [[-2, 5], [7, 12]]), ShapeError, r"ranges_i\[0\] = \[-2, 5\)"),
    "decreasing slices": (changed(1, [3, 2]), ShapeError, "slices_i decreases"),
    "slices beyond": (changed(1, [2, 4]), ShapeError, "slices_i does not end at the number of intervals"),
    "short slices": (changed(4, [3]), ShapeError, "slices_j does not have one entry for each block"),
    "rows beyond": (changed(0, [[2, 5], [7, 31]]), ShapeError, "ranges_i ends at 31, axis i has the size M = 30"),
    "columns beyond": (
        changed(2, [[1, 4], [4, 9], [4, 41]]),
        ShapeError,
        "redranges_j ends at 41, axis j has the size N = 40",
    ),
    "other half beyond": (changed(5, [[2, 5], [2, 5], [7, 99]]), ShapeError, "redranges_i ends at 99"),
    "overlapping rows": (changed(0, [[2, 8], [7, 12]]), ShapeError, r"blocks of rows overlap \(ranges_i\)"),
    "overlapping columns": (
        changed(2, [[1, 5], [4, 9], [4, 9]]),
        ShapeError,
        r"block 0 of ranges_i: \[1, 5\) and \[4, 9\)",
    ),
    "far beyond": (changed(2, np.full((3, 2), 2**64 - 1, np.uint64)), ShapeError, "redranges_j holds a number beyond"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_ranges(name: str) -> None:
    given, error, text = WRONG[name]
    with pytest.raises(error, match=text):
        kernel().sum(dim=1, ranges=given)

    def by_attribute() -> None:
        K = kernel()
        K.ranges = given
        K.sum(dim=1)

    with pytest.raises(error, match=text):
        by_attribute()
    np.testing.assert_allclose(sparse().sum(dim=1)[:, 0], KEPT.sum(1), rtol=1e-12)  # nothing is left behind


def test_messages_name_the_call() -> None:
    with pytest.raises(
        ShapeError, match=r"^logsumexp\(ranges=\.\.\.\): slices_i decreases\.\n(.|\n)*Hint: from_matrix"
    ):
        kernel().logsumexp(dim=1, ranges=changed(1, [3, 2]))
    K = kernel()
    with pytest.raises(ShapeError, match=r"^K\.ranges = \.\.\.: ranges beyond the data\.\n"):
        K.ranges = changed(0, [[2, 5], [7, 31]])


def test_overlapping_blocks_of_the_other_axis_are_no_error_there() -> None:
    """Windows that overlap: blocks of j are results only of reductions over i."""
    windows = np.array([[0, 12], [8, 22], [18, 40]])
    ranges = from_matrix(np.array([[0, 10], [10, 20], [20, 30]]), windows, np.eye(3, dtype=bool))
    found = kernel().sum(dim=1, ranges=ranges)
    expected = [np.exp(-D2[i, slice(*windows[i // 10])]).sum() for i in range(M)]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-12)
    with pytest.raises(ShapeError, match=r"blocks of rows overlap \(ranges_j\)"):
        kernel().sum(dim=0, ranges=ranges)


# ---------------------------------------------------------------------- read once, and let go


def test_ranges_are_read_once() -> None:
    reading.clear()
    six = tuple(np.array(a) for a in MASK.six)
    first = reading.read("test", six)
    assert reading.read("test", six) is first
    assert reading.read("test", tuple(six)) is first
    six[2][...] = six[2][::-1].copy()
    assert reading.read("test", six) is not first, "the array was written to"
    tensors = tuple(torch.from_numpy(np.array(a)) for a in MASK.six)
    second = reading.read("test", tensors)
    assert reading.read("test", tensors) is second
    tensors[0][0] = torch.tensor([0, 0])
    assert reading.read("test", tensors) is not second


def test_ranges_that_were_changed_afterwards_are_not_those_in_use() -> None:
    six = tuple(np.array(a) for a in MASK.six)
    K = kernel()
    K.ranges = six
    for a in six:
        a[...] = 10**6
    np.testing.assert_allclose(K.sum(dim=1)[:, 0], KEPT.sum(1), rtol=1e-12)


def test_nothing_keeps_ranges_alive() -> None:
    six = tuple(np.array(a) for a in MASK.six)
    K = kernel()
    K.ranges = six
    (K * 2 + K).sum(dim=1)
    read = weakref.ref(reading.read("test", six).over_j)
    assert read() is not None
    del K, six
    gc.collect()
    assert read() is None
