"""Preconditioners of kernel matrices: cheap, symmetric, positive definite maps that are about the inverse of K + alpha.

In: a `Matrix` (the sum that is the product with K, and its data), alpha.  Out: a function r -> z on blocks of vectors.
Neither stores more than n * rank numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ...errors import SolverError, UnsupportedError, message
from ...ir.expr import Expr, I, J, call, index, input_, rebuild
from ...lower.problem import Problem, Sizes
from ...runtime import arrays
from ...transform.linear import diagonal, factor
from ..evaluate import Settings, input_axes, launch
from .methods import Columns, Vectors

Map = Callable[[Vectors], Vectors]
OTHER = {I: J, J: I}


class Matrix(NamedTuple):
    """K as a sum over the last input of a problem, with the data of the other inputs, as the driver takes it."""

    problem: Problem
    values: Sequence[Any]
    sizes: Sizes
    settings: Settings
    columns: Columns

    @property
    def batch(self) -> tuple[int, ...]:
        """The batch axes of the matrix, which may be fewer than those of the right-hand side."""
        axes = input_axes(self.problem)
        leads = [v.shape[: -1 if axis == "p" else -2] for v, axis in zip(self.values, axes, strict=False)]
        return tuple(np.broadcast_shapes(*leads))


# ---------------------------------------------------------------------- the diagonal


def jacobi(matrix: Matrix, alpha: Any) -> Map:
    """Division by the diagonal K_ii + alpha.

    Raises: SolverError where it is not positive.
    """
    entries = _diagonal(matrix) + alpha
    if not bool((entries > 0).all()):
        lowest = float(entries.min())
        text = f"K.solve(b, precond='jacobi'): the diagonal of K + alpha is not positive, but down to {lowest:.2e}."
        raise SolverError(message(text, hint="without precond, or a larger alpha."))
    return lambda r: r / entries


def _diagonal(matrix: Matrix) -> Any:
    """K_ii, of shape (*batch, n, 1) or (*batch, n, E): the formula with the same row on both axes."""
    problem = matrix.problem
    on_rows = _on_one_axis(diagonal(problem.formulas[0], problem.inputs[-1]), problem.over)
    sizes = matrix.sizes
    sizes = replace(sizes, ranges=None, batch=matrix.batch, **{"N" if problem.over == J else "M": 1})
    found = replace(problem, formulas=(on_rows,))
    return launch(found, list(matrix.values)[: len(input_axes(found))], sizes, matrix.settings)[0]


@lru_cache(maxsize=1024)
def _on_one_axis(formula: Expr, over: str) -> Expr:
    """The formula on the diagonal: what was indexed by `over` is indexed by the other axis."""
    kept = OTHER[over]

    def rule(n: Expr) -> Expr:
        if n.name == "input" and n.param("axis") == over:
            return input_(n.param("slot"), kept, n.dim)
        return index(kept) if n is index(over) else n

    return rebuild((formula,), rule)[0]


# ---------------------------------------------------------------------- Nyström


def nystrom(matrix: Matrix, alpha: Any, rank: int, seed: int) -> Map:
    """The inverse of U S U^T + alpha, with a low-rank approximation U S U^T of K from some of its columns.

    The columns C of `rank` random points, and their rows W, give K ~ C W^-1 C^T, which is brought to the form U S U^T
    with orthonormal U (n x rank) by eigenvalues of W, a QR factorisation and singular values, in float64. With m the
    smallest of the S, the map is  U (m + alpha) / (S + alpha) U^T + (1 - U U^T):  the matrix times it has eigenvalues
    of about m + alpha where the approximation is good, and its own, smaller ones elsewhere.

    Source: Z. Frangella, J. Tropp, M. Udell, Randomized Nyström preconditioning, 2023.

    Raises: SolverError if W has negative eigenvalues; UnsupportedError unless K is one number for each pair, dense.
    """
    number = factor(matrix.problem.formulas[0], matrix.problem.inputs[-1])
    if number is None or matrix.sizes.ranges is not None:
        needs = "one number for each pair (i, j)" if number is None else "a matrix without ranges"
        hint = "precond='jacobi', or a function of your own."
        raise UnsupportedError(message(f"K.solve(b, precond='nystrom'): needs {needs}.", hint=hint))
    columns = matrix.columns
    noise = rank * columns.rounding
    points = _some_points(matrix, rank, seed)
    entries = _columns_at(matrix, number, points)
    corner = _on_host(entries[..., _index(points, columns), :])
    root = entries @ _like(_inverse_root(corner, noise), columns)
    q, small = arrays.namespace(columns.kind).linalg.qr(root)
    axes, roots, _ = np.linalg.svd(_on_host(small))
    u, gain = q @ _like(axes, columns), _gain(roots**2, _smallest(alpha, columns), noise)
    transposed, gain = u.swapaxes(-1, -2), _like(gain, columns)

    def apply(r: Vectors) -> Vectors:
        wide = _as(r, columns, "float64")
        return _as(wide + u @ (gain * (transposed @ wide)), columns, columns.dtype)

    return apply


def _inverse_root(corner: np.ndarray, noise: float) -> np.ndarray:
    """T with T T^T = W^-1 on the space where W is more than noise."""
    scales, axes = np.linalg.eigh((corner + corner.swapaxes(-1, -2)) / 2)
    top = scales[..., -1:]
    if (scales[..., :1] < -noise * top).any():
        text = "K.solve(b, precond='nystrom'): the matrix is not positive semidefinite."
        facts = f"an eigenvalue of a part of K: {float(scales.min()):.2e}"
        raise SolverError(message(text, facts, "without precond, and with method='minres' if K is symmetric."))
    kept = scales > noise * top
    return axes * np.where(kept, np.where(kept, scales, 1.0) ** -0.5, 0.0)[..., None, :]


def _gain(spectrum: np.ndarray, alpha: np.ndarray, noise: float) -> np.ndarray:
    """(m + alpha) / (S + alpha) - 1 as a column; 0 for the S that are noise."""
    known = spectrum > noise * spectrum[..., :1]
    lowest = np.where(known, spectrum, np.inf).min(-1, keepdims=True)
    return np.where(known, (lowest + alpha) / np.where(known, spectrum + alpha, 1.0) - 1, 0.0)[..., :, None]


def _smallest(alpha: Any, columns: Columns) -> np.ndarray:
    """The smallest alpha of each system of the batch, not below 0: (*batch, 1), or (1,)."""
    if isinstance(alpha, (int, float)):
        return np.array([max(float(alpha), 0.0)])
    numbers = np.atleast_2d(_on_host(alpha))
    return np.maximum(numbers.min((-2, -1), keepdims=True)[..., 0], 0.0)


def _some_points(matrix: Matrix, rank: int, seed: int) -> np.ndarray:
    """The numbers of random points, each once, in ascending order."""
    count = matrix.sizes.along(matrix.problem.over)
    chosen = np.random.default_rng(seed).choice(count, min(rank, count), replace=False)
    return np.sort(chosen)


def _columns_at(matrix: Matrix, number: Expr, points: np.ndarray) -> Any:
    """The entries K_is at some points s, (*batch, n, rank), in float64: K restricted to them, times the identity."""
    problem, columns, rank = matrix.problem, matrix.columns, len(points)
    over, slot = problem.over, len(matrix.values)
    restricted = replace(problem, formulas=(_with_points(number, over, slot, rank),))
    axes = input_axes(problem)
    where = _index(points, columns)
    values = [v[..., where, :] if axis == over else v for v, axis in zip(matrix.values, axes, strict=False)]
    values += [_as(_like(v, columns), columns, columns.dtype) for v in (np.eye(rank), points[:, None].astype(float))]
    sizes = replace(matrix.sizes, batch=matrix.batch, **{"N" if over == J else "M": rank})
    found = launch(restricted, values[: len(input_axes(restricted))], sizes, matrix.settings)[0]
    return _as(found, columns, "float64")


@lru_cache(maxsize=1024)
def _with_points(number: Expr, over: str, slot: int, rank: int) -> Expr:
    """The entries times a row of the identity; the index of a column is read from one more input."""
    place = call("to_index", input_(slot + 1, over, 1))
    (found,) = rebuild((number,), lambda n: place if n is index(over) else n)
    return found * input_(slot, over, rank)


# ---------------------------------------------------------------------- between NumPy and where the vectors are


def _on_host(x: Any) -> np.ndarray:
    return arrays.view(x if isinstance(x, np.ndarray) else x.cpu(), "float64")


def _like(x: np.ndarray, columns: Columns) -> Any:
    """Numbers of NumPy where the vectors are, in float64."""
    return x if columns.kind == arrays.NUMPY else arrays.wrap(x, columns.kind).to(columns.device)


def _index(points: np.ndarray, columns: Columns) -> Any:
    return _like(points, columns)


def _as(x: Any, columns: Columns, dtype: str) -> Any:
    """The array in another number type."""
    return x.astype(dtype) if columns.kind == arrays.NUMPY else arrays.on_device(x, dtype, columns.device or "cpu")
