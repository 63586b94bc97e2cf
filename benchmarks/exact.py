"""Each case in float64 NumPy on a few rows, and how far an engine's answer is from it.

In: the case, its arrays, the engine's outputs. Out: one number, the largest relative error on the rows looked at.

- Sums of positive terms and log-sum-exp: relative error of each entry (of the exponential for log-sum-exp, whose own
  value may be near zero).
- Gradients and Fourier sums, whose terms cancel: error relative to the largest entry.
- Indices: the distances of the points found against the distances of the nearest points, so that two points at equal
  distance in the engine's precision may be exchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import blocks
from benchmarks.cases import Case

ROWS = 64


def error(case: Case, arrays: dict[str, Any], outputs: tuple[Any, ...]) -> float:
    """Largest relative error of ``outputs`` on ROWS evenly spread rows, against float64."""
    rows = np.unique(np.linspace(0, case.M - 1, ROWS).astype(int))
    doubles = {name: array.astype(np.result_type(array, np.float64)) for name, array in arrays.items()}
    return float(ERRORS[case.formula](case, rows, outputs, **doubles))


def squared_distances(x: Any, y: Any) -> Any:
    """By differences, one component after the other: no cancellation, and no (M, N, D) array."""
    total = np.zeros((len(x), len(y)))
    for k in range(x.shape[1]):
        total += (x[:, None, k] - y[None, :, k]) ** 2
    return total


def relative(found: Any, expected: Any) -> Any:
    return np.max(np.abs(found - expected) / np.abs(expected))


def relative_to_largest(found: Any, expected: Any) -> Any:
    return np.max(np.abs(found - expected)) / np.max(np.abs(expected))


def gaussian(case: Case, rows: Any, outputs: tuple[Any, ...], x: Any, y: Any, b: Any) -> Any:
    return relative(outputs[0][rows], np.exp(-squared_distances(x[rows], y)) @ b)


def block_sparse(case: Case, rows: Any, outputs: tuple[Any, ...], x: Any, y: Any, b: Any) -> Any:
    kernel = np.exp(-squared_distances(x[rows], y)) * blocks.mask(case, rows)
    return relative(outputs[0][rows], kernel @ b)


def logsumexp(case: Case, rows: Any, outputs: tuple[Any, ...], x: Any, y: Any) -> Any:
    expected = np.log(np.exp(-squared_distances(x[rows], y)).sum(axis=1, keepdims=True))
    return np.max(np.abs(np.expm1(outputs[0][rows] - expected)))


def nearest(case: Case, rows: Any, outputs: tuple[Any, ...], x: Any, y: Any) -> Any:
    distances = squared_distances(x[rows], y)
    found = np.take_along_axis(distances, outputs[0][rows].astype(np.int64), axis=1)
    return relative(found, np.sort(np.partition(distances, case.K, axis=1)[:, : case.K], axis=1))


def density_gradient(case: Case, rows: Any, outputs: tuple[Any, ...], x: Any, y: Any, w: Any) -> Any:
    kernel = np.exp(-squared_distances(x[rows], y))
    weighted = kernel * w[rows]
    gradient_x = 2 * (weighted @ y - weighted.sum(axis=1, keepdims=True) * x[rows])
    columns = np.unique(np.linspace(0, case.N - 1, ROWS).astype(int))
    weighted = np.exp(-squared_distances(x, y[columns])) * w
    gradient_y = 2 * (weighted.T @ x - weighted.sum(axis=0)[:, None] * y[columns])
    return max(
        relative(outputs[0][rows], kernel.sum(axis=1, keepdims=True)),
        relative_to_largest(outputs[1][rows], gradient_x),
        relative_to_largest(outputs[2][columns], gradient_y),
    )


def sinkhorn_gradient(case: Case, rows: Any, outputs: tuple[Any, ...], x: Any, y: Any) -> Any:
    """Every row: the iterations and their derivative by hand. Minutes at full size, and 1 GB."""
    m, n = len(x), len(y)
    cost = squared_distances(x, y)
    f, g = np.zeros((m, 1)), np.zeros((1, n))
    potentials = []
    for _ in range(case.steps):
        before = g
        f = np.log(n) - log_sum_exp(g - cost, axis=1)
        g = np.log(m) - log_sum_exp(f - cost, axis=0)
        potentials.append((before, f, g))
    # The derivative of f_i = log N - log sum_j exp(g_j - C_ij) is P_ij in C_ij and -P_ij in g_j, P being its softmax.
    slope_f, slope_g, slope_cost = np.full((m, 1), 1 / m), np.full((1, n), 1 / n), np.zeros((m, n))
    for before, f_k, g_k in reversed(potentials):
        plan = np.exp(f_k - cost + g_k - np.log(m)) * slope_g
        slope_cost += plan
        slope_f = slope_f - plan.sum(axis=1, keepdims=True)
        plan = np.exp(before - cost + f_k - np.log(n)) * slope_f
        slope_cost += plan
        slope_g, slope_f = -plan.sum(axis=0, keepdims=True), np.zeros((m, 1))
    gradient_x = 2 * (slope_cost.sum(axis=1, keepdims=True) * x - slope_cost @ y)
    gradient_y = 2 * (slope_cost.sum(axis=0)[:, None] * y - slope_cost.T @ x)
    return max(
        relative(outputs[0], f.mean() + g.mean()),
        relative_to_largest(outputs[1], gradient_x),
        relative_to_largest(outputs[2], gradient_y),
    )


def log_sum_exp(f: Any, axis: int) -> Any:
    largest = f.max(axis=axis, keepdims=True)
    return largest + np.log(np.exp(f - largest).sum(axis=axis, keepdims=True))


def attention(case: Case, rows: Any, outputs: tuple[Any, ...], x: Any, y: Any, b: Any) -> Any:
    scores = x[rows] @ y.T
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return relative(outputs[0][rows], weights @ b / weights.sum(axis=1, keepdims=True))


def fourier(case: Case, rows: Any, outputs: tuple[Any, ...], x: Any, y: Any, c: Any) -> Any:
    return relative_to_largest(outputs[0][rows], np.exp(1j * (x[rows] @ y.T)) @ c)


ERRORS: dict[str, Callable[..., Any]] = {
    "gaussian": gaussian,
    "block_sparse": block_sparse,
    "logsumexp": logsumexp,
    "argmin": nearest,
    "argkmin": nearest,
    "density_gradient": density_gradient,
    "sinkhorn_gradient": sinkhorn_gradient,
    "attention": attention,
    "fourier": fourier,
}
