"""What simplification and fused operations may cost: never more than twice the error of the plain float32 evaluation.

Every formula is evaluated pair by pair (a reduction over one column), so that only the formula's own rounding counts,
and compared with float64; the bound is twice the error of NumPy's float32 evaluation, and half an ulp for the store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pairfuse.numpy import LazyTensor

ROWS = 20_000

FORMULAS: dict[str, Callable[[Any, Any, Callable[[Any], Any]], Any]] = {
    "gaussian": lambda x, y, f: f("exp")(-((x - y) ** 2).sum(-1)),
    "narrow gaussian": lambda x, y, f: f("exp")(-((x - y) ** 2).sum(-1) / 0.05),
    "squared distance": lambda x, y, f: ((x - y) ** 2).sum(-1),
    "scalar product": lambda x, y, f: (x * y).sum(-1),
    "polynomial": lambda x, y, f: ((x * y).sum(-1) + 1) ** 3,
    "rational quadratic": lambda x, y, f: 1 / (1 + ((x - y) ** 2).sum(-1) / 3),
    "laplacian": lambda x, y, f: f("exp")(-f("sqrt")(((x - y) ** 2).sum(-1))),
    "difference of squares": lambda x, y, f: (x * x - y * y).sum(-1),
    "product of exponentials": lambda x, y, f: (f("exp")(x) * f("exp")(-y)).sum(-1),
}


def plain(name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The formula written in NumPy, in the type of the arrays."""
    values = FORMULAS[name](x, y, lambda function: getattr(np, function))
    return np.asarray(values).reshape(-1)


@pytest.mark.parametrize("dim", [3, 40])
@pytest.mark.parametrize("name", FORMULAS)
def test_error_is_at_most_twice_the_plain_one(name: str, dim: int) -> None:
    rng = np.random.default_rng(dim)
    x = rng.standard_normal((ROWS, dim), dtype=np.float32)
    y = rng.standard_normal((1, dim), dtype=np.float32)
    exact = plain(name, x.astype(np.float64), y.astype(np.float64))
    x_i, y_j = LazyTensor(x[:, None, :]), LazyTensor(y[None, :, :])
    found = FORMULAS[name](x_i, y_j, lambda function: lambda v: getattr(v, function)()).sum(dim=1).reshape(-1)
    with np.errstate(under="ignore"):
        allowed = 2 * np.abs(plain(name, x, y) - exact).max() + np.spacing(np.abs(exact).max().astype(np.float32))
    assert np.abs(found - exact).max() <= allowed


def test_a_point_is_at_distance_zero_of_itself() -> None:
    x = np.random.default_rng(0).standard_normal((300, 50), dtype=np.float32) * 1e3
    distances = ((LazyTensor(x[:, None, :]) - LazyTensor(x[None, :, :])) ** 2).sum(-1)
    assert np.array_equal(distances.min(dim=1), np.zeros((300, 1), np.float32))
