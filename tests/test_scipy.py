"""A LazyTensor as SciPy's LinearOperator: every solver of scipy.sparse.linalg, on NumPy arrays and on torch tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg as sp
import torch
from dense import points

from pairfuse.numpy import LazyTensor, Vi, Vj

N = 40
X, B = points(N, 2), points(N)
MATRIX = np.exp(-np.sqrt(((X[:, None] - X) ** 2).sum(-1))) + np.diag(np.full(N, 0.5))
LIBRARIES = ("numpy", "torch")
DTYPES = ("float64", "float32")
SOLVERS: dict[str, dict[str, Any]] = {
    "cg": {"rtol": 1e-10},
    "minres": {"rtol": 1e-10},
    "gmres": {"rtol": 1e-10},
    "lgmres": {"rtol": 1e-10},
    "gcrotmk": {"rtol": 1e-10},
    "bicg": {"rtol": 1e-10},
    "bicgstab": {"rtol": 1e-10},
    "cgs": {"rtol": 1e-10},
    "qmr": {"rtol": 1e-10},
    "tfqmr": {"rtol": 1e-10},
    "lsqr": {"atol": 1e-12, "btol": 1e-12},
    "lsmr": {"atol": 1e-12, "btol": 1e-12, "maxiter": 200},
}


def operator(library: str, dtype: str = "float64", shift: float = 0.5) -> Any:
    """exp(-|x - y|), with a diagonal that is a function of the pair: 0.5 where x is y."""
    x = X.astype(dtype)
    points_ = torch.from_numpy(x) if library == "torch" else x
    x_i, x_j = Vi(points_), Vj(points_)
    k = (-(x_i - x_j).norm2()).exp() + shift * (x_i.sqdist(x_j) == 0)
    assert isinstance(k, LazyTensor)
    return sp.aslinearoperator(k)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", SOLVERS)
def test_solvers(name: str, library: str) -> None:
    """Issue 403 of KeOps: lsmr, tfqmr and gcrotmk fail on tensors there."""
    found = getattr(sp, name)(operator(library), B, **SOLVERS[name])
    assert found[1] == 0 if name not in ("lsqr", "lsmr") else found[1] in (1, 2)
    assert isinstance(found[0], np.ndarray)
    np.testing.assert_allclose(found[0], np.linalg.solve(MATRIX, B), atol=1e-7)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # SciPy's lsmr begins with the number 1e100
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_in_float32(name: str, library: str) -> None:
    """The vectors of SciPy are float64 or float32, as it likes; the products are those of float32."""
    kwargs = {key: value if key == "maxiter" else 1e-5 for key, value in SOLVERS[name].items()}
    found = getattr(sp, name)(operator(library, "float32"), B.astype(np.float32), **kwargs)
    np.testing.assert_allclose(found[0], np.linalg.solve(MATRIX, B), atol=5e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_eigenvalues(library: str, dtype: str) -> None:
    exact = np.linalg.eigvalsh(MATRIX)
    tolerance = 1e-8 if dtype == "float64" else 1e-4
    k = operator(library, dtype)
    values, vectors = sp.eigsh(k, k=4)
    np.testing.assert_allclose(np.sort(values), exact[-4:], rtol=tolerance)
    np.testing.assert_allclose(MATRIX @ vectors, vectors * values, atol=20 * tolerance)
    np.testing.assert_allclose(np.sort(np.real(sp.eigs(k, k=2)[0])), exact[-2:], rtol=tolerance)
    np.testing.assert_allclose(np.sort(sp.svds(k, k=2)[1]), exact[-2:], rtol=tolerance)
    start = points(N, 2, seed=1).astype(dtype)
    reached = 1e-6 if dtype == "float64" else 1e-4  # the norm of a residual
    np.testing.assert_allclose(np.sort(sp.lobpcg(k, start, tol=reached, maxiter=200)[0]), exact[-2:], rtol=1e-3)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_protocol(library: str) -> None:
    """shape, dtype, products with vectors and matrices, of every kind of array that SciPy passes."""
    x, y = X, points(7, 2)
    if library == "torch":
        x, y = torch.from_numpy(x), torch.from_numpy(y)
    k = (-(Vi(x) - Vj(y)).norm2()).exp()
    dense = np.exp(-np.sqrt(((X[:, None] - points(7, 2)) ** 2).sum(-1)))
    a: Any = sp.aslinearoperator(k)
    assert (a.shape, a.dtype) == ((N, 7), np.float64)
    v, w, m, q = points(7), points(N), points(7, 3), points(N, 3)
    np.testing.assert_allclose(a.matvec(v), dense @ v, atol=1e-12)
    np.testing.assert_allclose(a.matvec(v[:, None]), dense @ v[:, None], atol=1e-12)
    np.testing.assert_allclose(a.rmatvec(w), dense.T @ w, atol=1e-12)
    np.testing.assert_allclose(a.matmat(m), dense @ m, atol=1e-12)
    np.testing.assert_allclose(a.rmatmat(q), dense.T @ q, atol=1e-12)
    np.testing.assert_allclose(a @ m, dense @ m, atol=1e-12)
    np.testing.assert_allclose(a.H @ w, dense.T @ w, atol=1e-12)
    np.testing.assert_allclose(a.T @ q, dense.T @ q, atol=1e-12)
    np.testing.assert_allclose((2 * a + a) @ v, 3 * dense @ v, atol=1e-12)
    np.testing.assert_allclose((a.T @ a) @ v, dense.T @ dense @ v, atol=1e-12)
    frozen, integers = v.copy(), np.arange(7)
    frozen.flags.writeable = False
    np.testing.assert_allclose(a.matvec(frozen), dense @ v, atol=1e-12)
    np.testing.assert_allclose(a.matvec(np.asfortranarray(m)[::-1, 1]), dense @ m[::-1, 1], atol=1e-12)
    np.testing.assert_allclose(a.matvec(v.astype(np.float32)), dense @ v, atol=1e-5)
    np.testing.assert_allclose(a.matvec(integers), dense @ integers, atol=1e-12)
    complex_vector = v + 1j * m[:, 0]
    np.testing.assert_allclose(a.matvec(complex_vector), dense @ complex_vector, atol=1e-12)


@pytest.mark.parametrize("library", LIBRARIES)
def test_complex_operators(library: str) -> None:
    """A Hermitian matrix."""
    x: Any = torch.from_numpy(X) if library == "torch" else X
    k = (-(Vi(x) - Vj(x)).norm2()).exp() * (1j * (Vi(x) - Vj(x)).sum(-1)).exp()
    dense = np.exp(-np.sqrt(((X[:, None] - X) ** 2).sum(-1))) * np.exp(1j * (X[:, None] - X).sum(-1))
    a = sp.aslinearoperator(k)
    assert a.dtype == np.complex128
    b = B + 1j * points(N, seed=2)
    np.testing.assert_allclose(a.matvec(b), dense @ b, atol=1e-12)
    np.testing.assert_allclose(a.rmatvec(b), dense.conj().T @ b, atol=1e-12)
    solution, failed = sp.gmres(a, b, rtol=1e-10, restart=N)
    assert failed == 0
    np.testing.assert_allclose(solution, np.linalg.solve(dense, b), atol=1e-7)
    np.testing.assert_allclose(np.sort(sp.eigsh(a, k=2)[0]), np.linalg.eigvalsh(dense)[-2:], rtol=1e-9)
