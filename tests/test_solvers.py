"""Linear systems: K.solve and KernelSolve against numpy.linalg.solve in float64, and what happens when they cannot.

The kernels are symmetric; `SYSTEMS` lists them with the dense matrix that the test writes out itself.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from dense import points

from pairfuse import (
    ConvergenceWarning,
    DtypeError,
    FormulaError,
    KeywordError,
    PairfuseError,
    ShapeError,
    SolverError,
    UnsupportedError,
)
from pairfuse.config import config
from pairfuse.numpy import KernelSolve, LazyTensor, Pm, Vi, Vj, index_i, index_j, where

N = 60
X = points(N, 3)
B = points(N, 4)


def squared(x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
    y = x if y is None else y
    return ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1)


def lazy_gaussian(x: np.ndarray) -> LazyTensor:
    return (-Vi(x).sqdist(Vj(x))).exp()


def dense_solution(matrix: np.ndarray, b: np.ndarray, alpha: Any) -> np.ndarray:
    n = matrix.shape[-1]
    return np.linalg.solve(matrix + alpha * np.eye(n), b)


def residual(matrix: np.ndarray, u: np.ndarray, b: np.ndarray, alpha: Any) -> np.ndarray:
    """The root mean square of each column of the residual, in float64."""
    r = b - matrix @ u.astype(float) - alpha * u.astype(float)
    return np.sqrt((r**2).mean(-2))


class System(NamedTuple):
    lazy: Callable[[np.ndarray], LazyTensor]
    dense: Callable[[np.ndarray], np.ndarray]
    alpha: float


SYSTEMS: dict[str, System] = {
    "Gaussian": System(lazy_gaussian, lambda x: np.exp(-squared(x)), 0.1),
    "exponential": System(
        lambda x: (-(Vi(x) - Vj(x)).norm2()).exp(), lambda x: np.exp(-np.sqrt(squared(x))), 1e-3
    ),
    "inner products": System(lambda x: Vi(x) | Vj(x), lambda x: x @ x.T, 0.5),
    "scaled rows": System(
        lambda x: lazy_gaussian(x) * Vi(scales(x)) * Vj(scales(x)),
        lambda x: np.exp(-squared(x)) * scales(x) * scales(x).T,
        0.5,
    ),
    "indices": System(
        lambda x: where((index_i() - index_j()).abs() < 3, lazy_gaussian(x), 0),
        lambda x: np.where(np.abs(np.subtract.outer(np.arange(len(x)), np.arange(len(x)))) < 3, np.exp(-squared(x)), 0),
        2.0,
    ),
}  # fmt: skip


def scales(x: np.ndarray) -> np.ndarray:
    return np.logspace(0, 2, len(x)).astype(x.dtype)[:, None]


# ---------------------------------------------------------------------- solutions


@pytest.mark.parametrize("precond", [None, "jacobi", "nystrom"])
@pytest.mark.parametrize("method", ["cg", "minres"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_solutions_are_those_of_the_dense_system(name: str, method: str, precond: str | None) -> None:
    if name == "indices" and precond == "nystrom":
        pytest.skip("the band of a Gaussian is not positive semidefinite")
    system = SYSTEMS[name]
    expected = dense_solution(system.dense(X), B, system.alpha)
    u, info = system.lazy(X).solve(
        B, alpha=system.alpha, eps=1e-11, method=method, precond=precond, rank=30, return_info=True
    )
    assert u.dtype == np.float64
    assert info.reason == "converged"
    np.testing.assert_allclose(u, expected, rtol=0, atol=1e-7 * np.abs(expected).max())
    np.testing.assert_allclose(info.residual, residual(system.dense(X), u, B, system.alpha), atol=2e-12)


@pytest.mark.parametrize("precond", [None, "jacobi", "nystrom"])
@pytest.mark.parametrize("method", ["cg", "minres"])
def test_float32(method: str, precond: str | None) -> None:
    """A solution rounded to float32 has a residual of about (|K| + alpha) |u| roundings, whoever finds it."""
    x, b = X.astype(np.float32), B.astype(np.float32)
    u = lazy_gaussian(x).solve(b, alpha=0.1, method=method, precond=precond, rank=30)
    assert u.dtype == np.float32
    matrix = np.exp(-squared(x.astype(float)))
    rounding = np.finfo(np.float32).eps * (np.linalg.norm(matrix, 2) + 0.1) * np.sqrt((u.astype(float) ** 2).mean(0))
    assert (residual(matrix, u, b, 0.1) <= 1e-6 + 3 * rounding).all()


def test_vectors_and_matrices_of_right_hand_sides() -> None:
    k, expected = lazy_gaussian(X), dense_solution(np.exp(-squared(X)), B, 0.1)
    u = k.solve(B[:, 0], alpha=0.1, eps=1e-11)
    assert u.shape == (N,)
    np.testing.assert_allclose(u, expected[:, 0], atol=1e-8)
    np.testing.assert_allclose(k.solve(Vi(B), alpha=0.1, eps=1e-11), expected, atol=1e-8)
    np.testing.assert_allclose(k.solve(Vj(B), alpha=0.1, eps=1e-11), expected, atol=1e-8)
    wide = points(N, 150)
    got = k.solve(wide, alpha=0.1, eps=1e-11)
    np.testing.assert_allclose(got, dense_solution(np.exp(-squared(X)), wide, 0.1), atol=1e-8)
    integers = np.arange(N)
    np.testing.assert_allclose(k.solve(integers, alpha=0.1, eps=1e-11), k.solve(integers * 1.0, alpha=0.1, eps=1e-11))


def test_strides_do_not_matter() -> None:
    """Transposed and reversed arrays: KeOps' KernelSolve reads them in the wrong order."""
    x, b = np.asfortranarray(X)[::-1], np.repeat(B, 2, axis=1)[::-1, ::2]
    u = lazy_gaussian(x).solve(b, alpha=0.1, eps=1e-11)
    np.testing.assert_allclose(u, dense_solution(np.exp(-squared(x)), b, 0.1), atol=1e-8)


def test_every_column_has_its_own_steps() -> None:
    """Columns of different sizes: each is solved as if it were alone, to the same absolute tolerance."""
    k = lazy_gaussian(X)
    b = points(N, 3) * np.array([1e-3, 1.0, 1e3])
    u, info = k.solve(b, alpha=0.1, eps=1e-9, return_info=True)
    alone = [k.solve(b[:, c], alpha=0.1, eps=1e-9, return_info=True) for c in range(3)]
    assert len({report.iterations for _, report in alone}) == 3
    assert abs(info.iterations - max(report.iterations for _, report in alone)) <= 2
    # Rounding errors differ, and the method magnifies them up to its tolerance: the smallest eigenvalue is above 0.1.
    np.testing.assert_allclose(u, np.stack([v for v, _ in alone], 1), rtol=0, atol=2e-9 * np.sqrt(N) / 0.1)
    assert (residual(np.exp(-squared(X)), u, b, 0.1) <= 1e-9).all()


@pytest.mark.parametrize("method", ["cg", "minres"])
@pytest.mark.parametrize("precond", [None, "jacobi", "nystrom"])
def test_batches(method: str, precond: str | None) -> None:
    """Batch axes of the kernel and of the right-hand side broadcast; each is a system of its own."""
    x, b = points(2, 1, 30, 3), points(3, 30, 2)
    x_i, x_j = LazyTensor(x[..., :, None, :]), LazyTensor(x[..., None, :, :])
    k = (-x_i.sqdist(x_j)).exp()
    alpha = np.array([0.1, 1.0]).reshape(2, 1, 1, 1)
    u = k.solve(b, alpha=alpha, eps=1e-11, method=method, precond=precond, rank=10)
    assert u.shape == (2, 3, 30, 2)
    for p in range(2):
        for q in range(3):
            expected = dense_solution(np.exp(-squared(x[p, 0])), b[q], alpha[p, 0])
            np.testing.assert_allclose(u[p, q], expected, atol=1e-8)


def test_alpha_of_every_row_and_column() -> None:
    k, matrix = lazy_gaussian(X), np.exp(-squared(X))
    rows = np.linspace(0.1, 2, N)
    u = k.solve(B, alpha=rows[:, None], eps=1e-11)
    np.testing.assert_allclose(u, np.linalg.solve(matrix + np.diag(rows), B), atol=1e-8)
    np.testing.assert_allclose(k.solve(B[:, 0], alpha=rows, eps=1e-11), u[:, 0], atol=1e-9)
    np.testing.assert_allclose(k.solve(B, alpha=rows[:, None], eps=1e-11, precond="nystrom", rank=30), u, atol=1e-8)
    columns = np.array([0.1, 0.2, 0.5, 1.0])
    expected = np.stack([dense_solution(matrix, B[:, c], columns[c]) for c in range(4)], 1)
    np.testing.assert_allclose(k.solve(B, alpha=columns, eps=1e-11), expected, atol=1e-8)
    for number in (np.float32(0.5), np.array(0.5), 1, np.array(1)):
        np.testing.assert_allclose(
            k.solve(B, alpha=number, eps=1e-11), dense_solution(matrix, B, float(number)), atol=1e-8
        )


def test_more_than_one_number_for_each_pair() -> None:
    """A kernel of its own for each column, and a matrix-valued one: k_ij (1 + x_i x_j^T)."""
    difference = (Vi(X) - Vj(X)) ** 2
    k = (-difference * Pm([0.1, 1.0, 10.0])).exp()
    u = k.solve(B[:, :3], alpha=0.1, eps=1e-11)
    for c, scale in enumerate((0.1, 1.0, 10.0)):
        matrix = np.exp(-scale * (X[:, None, c] - X[None, :, c]) ** 2)
        np.testing.assert_allclose(u[:, c], dense_solution(matrix, B[:, c], 0.1), atol=1e-8)
    v = Vj(0, 3)
    coupled = lazy_gaussian(X) * (v + Vi(X) * (Vj(X) | v))
    gaussian = np.exp(-squared(X))
    blocks = gaussian[:, None, :, None] * (np.eye(3)[:, None, :] + X[:, :, None, None] * X[None, None])
    matrix = blocks.reshape(3 * N, 3 * N)
    expected = dense_solution(matrix, B[:, :3].reshape(-1), 0.1).reshape(N, 3)
    variants: list[dict[str, Any]] = [{}, {"precond": "jacobi"}, {"method": "minres"}]
    for kwargs in variants:
        u, info = coupled.solve(Vi(B[:, :3]), var=v, alpha=0.1, eps=1e-11, return_info=True, **kwargs)
        np.testing.assert_allclose(u, expected, atol=1e-8)
        assert info.residual.shape == (1,)


def test_the_unknown_may_be_any_variable() -> None:
    expected = dense_solution(np.exp(-squared(X)), B, 0.1)
    data = Vj(points(N, 4, seed=5))
    np.testing.assert_allclose((lazy_gaussian(X) * data).solve(B, var=data, alpha=0.1, eps=1e-11), expected, atol=1e-8)
    symbol = Vj(0, 4)
    waiting = (lazy_gaussian(X) * symbol).solve(Vi(0, 4), var=symbol, alpha=0.1, eps=1e-11)
    np.testing.assert_allclose(waiting(B), expected, atol=1e-8)
    over_i = Vi(0, 4)
    got = (lazy_gaussian(X) * over_i).solve(Vj(B), var=over_i, alpha=0.1, eps=1e-11)
    np.testing.assert_allclose(got, expected, atol=1e-8)


def test_complex_systems() -> None:
    """A Hermitian matrix: exp(i <w, x_i - x_j>) times a Gaussian."""
    phase = (Vi(X) - Vj(X)).sum(-1)
    k = lazy_gaussian(X) * (1j * phase).exp()
    matrix = np.exp(-squared(X)) * np.exp(1j * (X[:, None] - X).sum(-1))
    b = B + 1j * points(N, 4, seed=3)
    for method in ("cg", "minres"):
        u = k.solve(b, alpha=0.1, eps=1e-11, method=method)
        assert u.dtype == np.complex128
        np.testing.assert_allclose(u, dense_solution(matrix, b, 0.1), atol=1e-8)
    np.testing.assert_allclose(k.solve(B, alpha=0.1, eps=1e-11), dense_solution(matrix, B, 0.1), atol=1e-8)
    np.testing.assert_allclose(
        lazy_gaussian(X).solve(b, alpha=0.1, eps=1e-11), dense_solution(np.exp(-squared(X)), b, 0.1), atol=1e-8
    )


def test_block_sparse_systems() -> None:
    """Two blocks that do not see each other are two systems."""
    half = np.array([[0, 30], [30, 60]], dtype=np.int32)
    slices = np.array([1, 2])
    ranges = (half, slices, half, half, slices, half)
    matrix = np.exp(-squared(X))
    matrix[:30, 30:] = matrix[30:, :30] = 0
    expected = dense_solution(matrix, B, 0.1)
    np.testing.assert_allclose(lazy_gaussian(X).solve(B, alpha=0.1, eps=1e-11, ranges=ranges), expected, atol=1e-8)
    k = lazy_gaussian(X)
    k.ranges = ranges
    np.testing.assert_allclose(k.solve(B, alpha=0.1, eps=1e-11, precond="jacobi"), expected, atol=1e-8)
    with pytest.raises(UnsupportedError, match="needs a matrix without ranges"):
        k.solve(B, precond="nystrom")


def test_memory_is_linear() -> None:
    """A system of 4000 unknowns, whose matrix would take 128 MB."""
    x, b = points(4000, 3), points(4000, 1)
    k = lazy_gaussian(x)
    k.solve(b, alpha=10.0)
    tracemalloc.start()
    k.solve(b, alpha=10.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6


# ---------------------------------------------------------------------- preconditioners


def test_nystrom_takes_fewer_iterations() -> None:
    """A smooth kernel and a small alpha: a condition number of 3e6, of which the approximation leaves little."""
    x, b = points(400, 2), points(400, 2)
    k = (-0.5 * Vi(x).sqdist(Vj(x))).exp()
    expected = dense_solution(np.exp(-0.5 * squared(x)), b, 1e-4)
    u, plain = k.solve(b, alpha=1e-4, eps=1e-8, return_info=True)
    v, better = k.solve(b, alpha=1e-4, eps=1e-8, precond="nystrom", rank=100, return_info=True)
    for got in (u, v):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3 * np.abs(expected).max())
    assert better.iterations * 5 < plain.iterations
    again = k.solve(b, alpha=1e-4, eps=1e-8, precond="nystrom", rank=100)
    np.testing.assert_array_equal(v, again)
    other = k.solve(b, alpha=1e-4, eps=1e-8, precond="nystrom", rank=100, seed=1)
    assert not np.array_equal(v, other)


def test_nystrom_with_all_columns_is_the_inverse() -> None:
    u, info = lazy_gaussian(X).solve(B, alpha=1e-3, eps=1e-9, precond="nystrom", rank=1000, return_info=True)
    assert info.iterations <= 4
    np.testing.assert_allclose(u, dense_solution(np.exp(-squared(X)), B, 1e-3), atol=1e-5)


def test_jacobi_takes_fewer_iterations_on_badly_scaled_rows() -> None:
    system = SYSTEMS["scaled rows"]
    plain = system.lazy(X).solve(B, alpha=0.5, eps=1e-9, return_info=True)[1]
    better = system.lazy(X).solve(B, alpha=0.5, eps=1e-9, precond="jacobi", return_info=True)[1]
    assert better.iterations * 2 < plain.iterations


@pytest.mark.parametrize("method", ["cg", "minres"])
def test_a_preconditioner_of_the_user(method: str) -> None:
    """The inverse itself: one iteration is enough."""
    inverse = np.linalg.inv(np.exp(-squared(X)) + 0.1 * np.eye(N))
    shapes = []

    def apply(r: np.ndarray) -> np.ndarray:
        shapes.append(r.shape)
        return inverse @ r

    u, info = lazy_gaussian(X).solve(B, alpha=0.1, eps=1e-9, method=method, precond=apply, return_info=True)
    assert info.iterations <= 2
    assert set(shapes) == {(N, 4)}
    np.testing.assert_allclose(u, inverse @ B, atol=1e-8)
    with pytest.raises(SolverError, match="the preconditioner is not positive definite"):
        lazy_gaussian(X).solve(B, alpha=0.1, precond=lambda r: -r, method=method)
    with pytest.raises(ShapeError, match="the result of the function is not like its argument"):
        lazy_gaussian(X).solve(B, alpha=0.1, precond=lambda r: r[0], method=method)


# ---------------------------------------------------------------------- indefinite and singular


def test_minres_solves_indefinite_systems() -> None:
    """A Gaussian matrix minus 0.5, and the matrix of distances, which has one positive eigenvalue."""
    matrix = np.exp(-squared(X))
    assert (np.linalg.eigvalsh(matrix) < 0.5).any()
    u = lazy_gaussian(X).solve(B, alpha=-0.5, eps=1e-10, method="minres")
    np.testing.assert_allclose(u, dense_solution(matrix, B, -0.5), atol=1e-7)
    k, distances = (Vi(X) - Vj(X)).norm2(), np.sqrt(squared(X))
    u = k.solve(B, alpha=0.0, eps=1e-10, method="minres")
    np.testing.assert_allclose(u, np.linalg.solve(distances, B), atol=1e-6)
    v = k.solve(B, alpha=0.0, eps=1e-10, method="minres", precond=lambda r: r * np.linspace(1, 2, N)[:, None])
    np.testing.assert_allclose(v, u, atol=1e-6)


def test_conjugate_gradients_refuse_indefinite_systems() -> None:
    for k, alpha in ((lazy_gaussian(X), -0.5), (-lazy_gaussian(X), 0.1), ((Vi(X) - Vj(X)).norm2(), 0.0)):
        with pytest.raises(SolverError, match="the matrix is not positive definite: at iteration") as caught:
            k.solve(B, alpha=alpha)
        assert "minres" in str(caught.value)
        assert "60 rows, 4 right-hand sides, float64, method 'cg'" in str(caught.value)
        assert isinstance(caught.value, np.linalg.LinAlgError)
    with pytest.raises(SolverError, match="not positive semidefinite"):
        (-lazy_gaussian(X)).solve(B, precond="nystrom")
    with pytest.raises(SolverError, match="the diagonal of K"):
        (-lazy_gaussian(X)).solve(B, precond="jacobi")


def test_a_singular_system_ends_with_least_squares() -> None:
    """Rank 3 and alpha = 0: what is left of b is what the matrix does not reach."""
    k, matrix = Vi(X) | Vj(X), X @ X.T
    best = B - matrix @ np.linalg.lstsq(matrix, B, rcond=1e-10)[0]
    with pytest.warns(ConvergenceWarning, match="no smaller residual"):
        u, info = k.solve(B, alpha=0.0, method="minres", return_info=True)
    assert info.reason == "precision"
    assert not info.converged.any()
    np.testing.assert_allclose(residual(matrix, u, B, 0.0), np.sqrt((best**2).mean(0)), rtol=1e-6)
    inside = matrix @ B
    u = k.solve(inside, alpha=0.0, eps=1e-9)  # in the range of the matrix there is a solution
    np.testing.assert_allclose(matrix @ u, inside, atol=1e-7)


# ---------------------------------------------------------------------- how it ends


def test_the_number_of_iterations_is_limited() -> None:
    matrix = np.exp(-squared(X))
    for method in ("cg", "minres"):
        with pytest.warns(ConvergenceWarning, match="not converged after 3 iterations") as caught:
            u, info = lazy_gaussian(X).solve(B, alpha=1e-3, method=method, max_iter=3, return_info=True)
        assert caught[0].filename == __file__
        assert "asked for rtol=1.0e-06; 4 of 4 right-hand sides" in str(caught[0].message)
        assert (info.iterations, info.reason) == (3, "max_iter")
        assert not info.converged.any()
        np.testing.assert_allclose(info.residual, residual(matrix, u, B, 1e-3), rtol=1e-9)
        assert (info.residual <= np.sqrt((B**2).mean(0))).all()
    with pytest.warns(ConvergenceWarning, match="after 0 iterations"):
        np.testing.assert_array_equal(lazy_gaussian(X).solve(B, x0=np.ones((N, 4)), max_iter=0), 1)


@pytest.mark.parametrize("method", ["cg", "minres"])
def test_rounding_errors_end_the_iteration(method: str) -> None:
    """A tolerance that float32 cannot reach: KeOps never returns. The result is as good as float32 allows."""
    x, b = X.astype(np.float32), B.astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        u, info = lazy_gaussian(x).solve(b, alpha=1e-2, eps=1e-12, method=method, return_info=True)
    assert info.reason == "precision" or info.converged.all()
    assert info.iterations < 1000
    assert (residual(np.exp(-squared(x.astype(float))), u, b, 1e-2) < 2e-4).all()
    smooth = (-1e-2 * Vi(x).sqdist(Vj(x))).exp()
    with pytest.warns(ConvergenceWarning, match="rounding errors in float32 allow no smaller residual"):
        smooth.solve(b, eps=1e-12, method=method)


def test_warm_starts() -> None:
    k, matrix = lazy_gaussian(X), np.exp(-squared(X))
    cold, first = k.solve(B, alpha=1e-2, eps=1e-8, return_info=True)
    near = B + 1e-4 * points(N, 4, seed=2)
    for method in ("cg", "minres"):
        u, warm = k.solve(near, alpha=1e-2, eps=1e-8, x0=cold, method=method, return_info=True)
        np.testing.assert_allclose(u, dense_solution(matrix, near, 1e-2), atol=1e-5)
        assert warm.iterations < first.iterations
    assert k.solve(B, alpha=1e-2, eps=1e-8, x0=cold, return_info=True)[1].iterations == 0
    np.testing.assert_array_equal(cold, k.solve(B, alpha=1e-2, eps=1e-8))  # the start is not written to
    u = k.solve(B[:, 0], alpha=1e-2, eps=1e-8, x0=cold[:, 0])
    np.testing.assert_array_equal(u, cold[:, 0])


@pytest.mark.parametrize("method", ["cg", "minres"])
def test_no_right_hand_side_is_solved_by_zero(method: str) -> None:
    for x0 in (None, np.ones((N, 2))):
        u, info = lazy_gaussian(X).solve(np.zeros((N, 2)), x0=x0, method=method, return_info=True)
        np.testing.assert_array_equal(u, 0)
        assert (info.iterations, info.reason) == (0, "converged")


@pytest.mark.parametrize("method", ["cg", "minres"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_scale_of_the_right_hand_side_does_not_matter(method: str, dtype: str) -> None:
    """By default a tolerance is relative, each column its own; squares of tiny and huge numbers stay in range."""
    limits = {"float32": (1e-40, 1e-30, 1.0, 1e30), "float64": (1e-300, 1e-30, 1.0, 1e200)}
    k = lazy_gaussian(X.astype(dtype))
    expected = dense_solution(np.exp(-squared(X)), B, 0.1)
    for preconditioner in (None, "jacobi"):
        scales = np.array(limits[dtype])
        b = (B * scales).astype(dtype)
        u, info = k.solve(b, alpha=0.1, method=method, precond=preconditioner, return_info=True)
        assert info.converged.all()
        assert (info.residual > 0).all()
        np.testing.assert_array_less(info.residual, 2e-6 * scales * np.sqrt((B**2).mean(0)) + 1e-45)
        # what is rounded away is only what the smallest float32 numbers, of few digits, cannot hold
        few = 1e-4 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(u / scales, expected, rtol=0, atol=1e-4 + few)
        one_by_one = [k.solve(b[:, e], alpha=0.1, method=method, precond=preconditioner) for e in range(4)]
        np.testing.assert_allclose(u / scales, np.stack(one_by_one, 1) / scales, rtol=0, atol=1e-4)


def test_the_tolerance_that_is_given_is_the_one_that_holds() -> None:
    """rtol or eps: none means rtol=1e-6, one means only this one, both the looser."""
    k, matrix, small = lazy_gaussian(X), np.exp(-squared(X)), 1e-8 * B
    size = np.sqrt((small**2).mean(0))

    def relative(**tolerances: Any) -> Any:
        return residual(matrix, k.solve(small, alpha=0.1, **tolerances), small, 0.1) / size

    assert (relative() <= 1e-6).all()
    np.testing.assert_array_equal(relative(eps=1e-6), 1)  # solved by zero, as KeOps has it
    assert (relative(eps=1e-16) <= 1e-7).all()
    assert ((relative(rtol=1e-3) <= 1e-3) & (relative(rtol=1e-3) > 1e-6)).all()
    np.testing.assert_array_equal(relative(rtol=1e-3, eps=1e-6), 1)


def test_a_solution_that_overflows_is_an_error() -> None:
    x = np.zeros((2, 1), np.float32)
    with pytest.raises(SolverError, match="the solution overflows float32"):
        (1e-30 * (Vi(x) == Vj(np.array([[0.0], [1.0]], np.float32)))).solve(
            np.full((2, 1), 1e20, np.float32), alpha=1e-30
        )


@pytest.mark.parametrize("shape", [(0, 2), (5, 2), (1, 1)])
def test_few_unknowns(shape: tuple[int, int]) -> None:
    x, b = points(shape[0], 3), points(*shape)
    expected = dense_solution(np.exp(-squared(x)), b, 0.1)
    variants: list[dict[str, Any]] = [{}, {"precond": "jacobi"}, {"precond": "nystrom"}, {"method": "minres"}]
    for kwargs in variants:
        np.testing.assert_allclose(lazy_gaussian(x).solve(b, alpha=0.1, eps=1e-12, **kwargs), expected, atol=1e-10)


def test_numbers_that_are_not_finite() -> None:
    bad = B.copy()
    bad[3, 1] = np.nan
    with pytest.raises(SolverError, match="b has entries that are not finite"):
        lazy_gaussian(X).solve(bad)
    worse = X.copy()
    worse[0, 0] = np.inf
    for method in ("cg", "minres"):
        with pytest.raises(SolverError, match="K @ v is not finite at iteration 1"):
            lazy_gaussian(worse).solve(B, method=method)
        with pytest.raises(SolverError, match=r"such as 1 / \|x - y\|"):
            (1 / (Vi(X) - Vj(X)).norm2()).solve(B, method=method)
        with pytest.raises(SolverError, match="K @ x0 is not finite"):
            lazy_gaussian(X).solve(B, x0=np.full((N, 4), np.inf), method=method)
    u = (1e200 * lazy_gaussian(X)).solve(1e200 * B, alpha=1e199)  # all of it can be computed
    np.testing.assert_allclose(u, dense_solution(np.exp(-squared(X)), B, 0.1), atol=1e-4)


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    lazy_gaussian(X).solve(B, alpha=0.1)
    assert capsys.readouterr().err == ""
    lazy_gaussian(X).solve(B, alpha=0.1, progress=True)
    text = capsys.readouterr().err
    assert "cg [" in text
    assert "iteration" in text
    assert text.endswith("\n")
    with config.override(progress=True):
        lazy_gaussian(X).solve(B, alpha=0.1, method="minres")
    assert "minres [" in capsys.readouterr().err


# ---------------------------------------------------------------------- now or later, and with which options


def test_deferred_solves() -> None:
    expected = dense_solution(np.exp(-squared(X)), B, 0.1)
    later = lazy_gaussian(X).solve(B, alpha=0.1, eps=1e-11, call=False)
    np.testing.assert_allclose(later(), expected, atol=1e-8)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(later))(), expected, atol=1e-8)
    out = np.empty((N, 4))
    assert later(out=out) is out
    np.testing.assert_allclose(out, expected, atol=1e-8)
    symbolic = (-Vi(0, 3).sqdist(Vj(1, 3))).exp()
    waiting = symbolic.solve(Vi(2, 4), alpha=0.1, eps=1e-11)
    assert waiting.symbolic_variables == ((0, 3, 0), (1, 3, 1), (2, 4, 0))
    assert "sqdist" in waiting.formula
    np.testing.assert_allclose(waiting(X, X, B), expected, atol=1e-8)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(waiting))(X, X, B), expected, atol=1e-8)
    known = symbolic.solve(B, alpha=0.1, eps=1e-11)
    np.testing.assert_allclose(known(X, X), expected, atol=1e-8)


def test_options_of_reductions() -> None:
    expected = dense_solution(np.exp(-squared(X)), B, 0.1)
    accepted: list[dict[str, Any]] = [
        {"backend": "reference"},
        {"dtype_acc": "float64"},
        {"sum_scheme": "kahan_scheme"},
        {"device_id": -1},
    ]
    for options in accepted:
        np.testing.assert_allclose(lazy_gaussian(X).solve(B, alpha=0.1, eps=1e-11, **options), expected, atol=1e-8)
    k = lazy_gaussian(X)
    k.backend = "reference"
    np.testing.assert_allclose(k.solve(B, alpha=0.1, eps=1e-11), expected, atol=1e-8)
    with pytest.raises(KeywordError, match=r"solve\(aplha=\.\.\.\): there is no such keyword"):
        lazy_gaussian(X).solve(B, aplha=0.1)


K = lazy_gaussian(X)
# ---------------------------------------------------------------------- matrices that are not symmetric

ONE_SIDED: dict[str, Callable[[np.ndarray], tuple[LazyTensor, np.ndarray]]] = {
    "rank one": lambda x: (
        (2 * Vi(x[:, :1]) + Vj(x[:, :1])).exp(), np.exp(2 * x[:, None, 0] + x[None, :, 0])
    ),
    "scaled rows": lambda x: (lazy_gaussian(x) * Vi(1 + x[:, :1] ** 2), np.exp(-squared(x)) * (1 + x[:, :1] ** 2)),
    "other points": lambda x: (
        (-Vi(x).sqdist(Vj(2 * x))).exp(), np.exp(-squared(x, 2 * x))
    ),
    "antisymmetric": lambda x: ((Vi(x) - Vj(x)).sum(-1), np.subtract.outer(x.sum(-1), x.sum(-1))),
}  # fmt: skip


def test_the_smallest_system_that_is_not_symmetric() -> None:
    """Conjugate gradients returned zeros after 10,000 steps."""
    x = np.array([[0.0], [1.0], [0.0]])
    k = (2 * Vi(x) + Vj(x)).exp()
    for method in ("cg", "minres"):
        with pytest.raises(SolverError, match="the matrix is not symmetric") as caught:
            k.solve(np.ones(3), alpha=0.5, method=method)
        assert "method='gmres'" in str(caught.value)
    u, report = k.solve(np.ones(3), alpha=0.5, method="gmres", return_info=True)
    np.testing.assert_allclose(u, [1.58218555, -1.0872544, 1.58218555], rtol=1e-8)
    assert report.iterations <= 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ONE_SIDED)
def test_gmres_solves_what_the_others_refuse(name: str, dtype: Any) -> None:
    x, b = X.astype(dtype), B.astype(dtype)
    lazy, dense = ONE_SIDED[name](x)
    alpha = 3.0 * np.abs(np.linalg.eigvals(dense.astype(float))).max()
    expected = dense_solution(dense.astype(float), b.astype(float), alpha)
    tolerance = 1e-11 if dtype is np.float64 else 1e-5
    for method in ("cg", "minres"):
        if dtype is np.float64 or name in ("other points", "antisymmetric"):
            with pytest.raises(SolverError, match="the matrix is not symmetric"):
                lazy.solve(b, alpha=alpha, method=method)
        else:  # beside this alpha it is so nearly symmetric in float32 that it does not hinder them
            u = lazy.solve(b, alpha=alpha, method=method)
            np.testing.assert_allclose(u, expected, atol=1e-4 * np.abs(expected).max())
    variants: list[dict[str, Any]] = [{}, {"restart": 4}, {"precond": lambda r: r / alpha}, {"x0": b}]
    for options in variants:
        u = lazy.solve(b, alpha=alpha, rtol=tolerance, method="gmres", **options)
        assert u.dtype == dtype
        np.testing.assert_allclose(u, expected, rtol=20 * tolerance, atol=20 * tolerance * np.abs(expected).max())


def test_gmres_of_symmetric_batched_coupled_and_complex_systems() -> None:
    expected = dense_solution(np.exp(-squared(X)), B, 0.1)
    np.testing.assert_allclose(lazy_gaussian(X).solve(B, alpha=0.1, rtol=1e-12, method="gmres"), expected, atol=1e-8)
    y = points(2, 20, 3)
    lazy = (-LazyTensor(y[:, :, None]).sqdist(LazyTensor(2 * y[:, None]))).exp()
    dense = np.exp(-squared(y, 2 * y))
    got = lazy.solve(y, alpha=2.0, rtol=1e-12, method="gmres")
    np.testing.assert_allclose(got, dense_solution(dense, y, 2.0), atol=1e-9)
    turned = np.array([0.0, 2.0, -1.0, 0.0])  # of the two components of an unknown
    coupled = lazy_gaussian(X) * (Pm(turned).matvecmult(Vj(0, 2)))
    matrix = np.kron(np.exp(-squared(X)), turned.reshape(2, 2))
    b = B[:, :2]
    got = coupled.solve(b, var=Vj(0, 2), alpha=60.0, rtol=1e-12, method="gmres")
    np.testing.assert_allclose(got.ravel(), dense_solution(matrix, b.ravel(), 60.0), atol=1e-11)
    phases = (1j * Vi(X[:, :1]) * Vj(X[:, 1:2])).exp()
    dense = np.exp(1j * X[:, :1] * X[:, 1])
    got = phases.solve(B, alpha=80.0, rtol=1e-12, method="gmres")
    np.testing.assert_allclose(got, dense_solution(dense, B + 0j, 80.0), atol=1e-11)


def test_gmres_stops_where_the_residual_no_longer_falls() -> None:
    """A cyclic shift of n rows: nothing is gained before step n. With fewer vectors it never is."""
    n = 8
    shift = Vi(np.roll(np.eye(n), 1, 0)) | Vj(np.eye(n))
    b = np.eye(n)[0]
    np.testing.assert_allclose(shift.solve(b, alpha=0.0, method="gmres"), np.roll(np.eye(n), -1, 1)[0], atol=1e-12)
    with pytest.warns(ConvergenceWarning, match="the residual no longer falls") as caught:
        u, report = shift.solve(b, alpha=0.0, method="gmres", restart=3, return_info=True)
    assert "restart=12" in str(caught[0].message)
    assert (report.reason, report.iterations) == ("stagnation", 3)
    assert np.isfinite(u).all()
    with pytest.warns(ConvergenceWarning, match="not converged after 2 iterations"):
        shift.solve(b, alpha=0.0, method="gmres", max_iter=2)
    singular = Vi(np.ones((n, 1))) * Vj(np.arange(n)[:, None] * 1.0)
    with pytest.warns(ConvergenceWarning):
        assert np.isfinite(singular.solve(b, alpha=0.0, method="gmres")).all()


def test_symmetric_up_to_rounding_is_symmetric() -> None:
    """Entries of float32 whose rounding differs above and below the diagonal."""
    x = X.astype(np.float32) + 30
    k = (-((Vi(x) ** 2).sum(-1) + (Vj(x) ** 2).sum(-1) - 2 * (Vi(x) | Vj(x)))).exp()
    assert np.isfinite(k.solve(B.astype(np.float32), alpha=10.0)).all()


def test_right_hand_sides_that_are_formulas() -> None:
    k, dense = lazy_gaussian(X), np.exp(-squared(X))
    expected = dense_solution(dense, (X**2).sum(-1, keepdims=True), 0.1)
    np.testing.assert_allclose(k.solve((Vi(X) ** 2).sum(-1), alpha=0.1, rtol=1e-12), expected, atol=1e-8)
    np.testing.assert_allclose(k.solve((Vj(X) ** 2).sum(-1), alpha=0.1, rtol=1e-12), expected, atol=1e-8)
    np.testing.assert_allclose(
        k.solve(X[:, 0].tolist(), alpha=0.1, rtol=1e-12), k.solve(X[:, 0], alpha=0.1, rtol=1e-12)
    )


MISTAKES: list[tuple[Callable[[], Any], type[PairfuseError], str]] = [
    (lambda: K.solve(B[:59]), ShapeError, r"K.solve\(b\): the numbers of rows \(axis i\) differ, 60 and 59"),
    (lambda: (-Vi(X).sqdist(Vj(X[:50]))).exp().solve(B), ShapeError, "the matrix is not square, 60 x 50"),
    (lambda: K.solve(B[:1]), ShapeError, "b has 1 rows"),
    (lambda: (Vi(X) - Vj(X)).solve(B), ShapeError, "K cannot be multiplied by an unknown like b"),
    (lambda: (Vi(X) - Vj(X)).solve(B[:, :1]), ShapeError, "K times the unknown is not as long as b"),
    (lambda: K.solve(B.astype("f")), DtypeError, "the number types differ, float64 and float32"),
    (lambda: K.solve(3.0), DtypeError, "b is not an array of rows"),
    (lambda: K.solve(np.array(3.0)), DtypeError, "b is not an array of rows"),
    (lambda: K.solve(K), FormulaError, "b does not depend on i alone"),
    (lambda: K.solve(Pm([1.0])), FormulaError, "b does not depend on i alone"),
    (lambda: K.solve(Vi(0, 3) * 2), FormulaError, "b has variables without data"),
    (lambda: K.solve(B, method="gmres", restart=0), ShapeError, "restart=0.*a whole number, at least 1"),
    (lambda: K.solve(B, alpha="a"), DtypeError, "alpha is a number or an array"),
    (lambda: K.solve(B, alpha=np.ones(7)), ShapeError, "alpha does not broadcast to b"),
    (lambda: K.solve(B, alpha=np.ones((2, N, 1))), ShapeError, "alpha does not broadcast to b"),
    (lambda: K.solve(B, x0=np.ones((3, 3))), ShapeError, "x0 is not like b"),
    (lambda: K.solve(B, x0=[1, 2]), DtypeError, "x0 is not an array"),
    (lambda: K.solve(B, method="lu"), UnsupportedError, "there is no such method"),
    (lambda: K.solve(B, precond="ilu"), UnsupportedError, "there is no such preconditioner"),
    (lambda: K.solve(B, eps=-1), ShapeError, "a tolerance is a number, at least 0"),
    (lambda: K.solve(B, rtol=float("nan")), ShapeError, "a tolerance is a number, at least 0"),
    (lambda: K.solve(B, max_iter=1.5),  # type: ignore[arg-type]
     ShapeError, "max_iter=1.5.*a whole number"),
    (lambda: K.solve(B, rank=0), ShapeError, "rank=0.*a whole number, at least 1"),
    (lambda: (K * Vj(0, 4)).solve(B, var=Vj(1, 4)), FormulaError, "v is not a variable of K"),
    (lambda: (K * Vj(0, 4)).solve(B, var=Vi(0, 4)), FormulaError, "v is no variable of j"),
    (lambda: (K * Vj(0, 4)).solve(B, var=B), FormulaError, "v is no variable of j"),
    (lambda: (K * Vj(0, 4) ** 2).solve(B, var=Vj(0, 4)), FormulaError, "K is not linear in v"),
    (lambda: (K * Vj(0, 4) + 1).solve(B, var=Vj(0, 4)), FormulaError, "K is not linear in v"),
    (lambda: (K * Vj(0, 3)).solve(B, var=Vj(0, 3)), ShapeError, "K times the unknown is not as long as b"),
    (lambda: (Vi(X) - Vj(X)).solve(B[:, :3], precond="nystrom"), UnsupportedError, "one number for each pair"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_mistakes(number: int) -> None:
    mistake, error, text = MISTAKES[number]
    with pytest.raises(error, match=text) as caught:
        mistake()
    assert str(caught.value).startswith("K.solve(b")


# ---------------------------------------------------------------------- formula strings


def test_kernel_solve() -> None:
    formula, aliases = "Exp(-g * SqDist(x, y)) * b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(4)", "g = Pm(1)"]
    expected = dense_solution(np.exp(-0.5 * squared(X)), B, 0.1)
    g = np.array([0.5])
    inverse = KernelSolve(formula, aliases, "b", axis=1)
    for again in (inverse, pickle.loads(pickle.dumps(inverse)), KernelSolve(formula, tuple(aliases), "b", 1)):
        np.testing.assert_allclose(again(X, X, B, g, alpha=0.1, eps=1e-11), expected, atol=1e-8)
    u, info = inverse(X, X, B, 0.5, alpha=0.1, eps=1e-11, precond="nystrom", rank=30, return_info=True, backend="CPU")
    np.testing.assert_allclose(u, expected, atol=1e-8)
    assert info.reason == "converged"
    over_i = KernelSolve("Exp(-g * SqDist(x, y)) * b", ["x = Vi(3)", "y = Vj(3)", "b = Vi(4)", "g = Pm(1)"], "b")
    np.testing.assert_allclose(over_i(X, X, B, g, alpha=0.1, eps=1e-11), expected, atol=1e-8)
    written = KernelSolve(
        "Exp(-g * SqDist(x, y)) * Var(3,4,1)", ["x = Vi(3)", "y = Vj(3)", "g = Pm(1)"], "Var(3,4,1)", 1
    )
    np.testing.assert_allclose(written(X, X, g, B, alpha=0.1, eps=1e-11), expected, atol=1e-8)
    assert (inverse.aliases, inverse.varinvalias, inverse.axis) == (aliases, "b", 1)
    assert repr(inverse).startswith("KernelSolve('Exp(-g")
    with pytest.warns(DeprecationWarning, match="the type is that of the arrays"):
        KernelSolve(formula, aliases, "b", axis=1, dtype="float64")


def test_mistakes_of_kernel_solve() -> None:
    aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(4)"]
    with pytest.raises(FormulaError, match="there is no unknown 'c'"):
        KernelSolve("Exp(-SqDist(x, y)) * b", aliases, "c", axis=1)
    with pytest.raises(FormulaError, match=r"'b' is declared as .*, the sum is over i"):
        KernelSolve("Exp(-SqDist(x, y)) * b", aliases, "b")
    with pytest.raises(FormulaError, match="K is not linear in v"):
        KernelSolve("Exp(-SqDist(x, y)) * b * b", aliases, "b", axis=1)
    with pytest.raises(ShapeError, match=r"KernelSolve\(axis=2\)"):
        KernelSolve("Exp(-SqDist(x, y)) * b", aliases, "b", axis=2)
    inverse = KernelSolve("Exp(-SqDist(x, y)) * b", aliases, "b", axis=1)
    with pytest.raises(ShapeError, match="takes 3 arguments, not 2"):
        inverse(X, X)
    with pytest.raises(ShapeError, match="the matrix is not square"):
        inverse(X, X[:50], B)


def test_solving_loads_neither_torch_nor_scipy() -> None:
    code = (
        "import sys; import numpy as np; from pairfuse.numpy import Vi, Vj; x = np.eye(3);"
        "(-Vi(x).sqdist(Vj(x))).exp().solve(x, alpha=1.0, precond='nystrom');"
        "print([m for m in ('torch', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
