"""What the tests of LazyTensor share: random points, and a comparison with the same computation done densely.

In: results and what they should be.  Out: an AssertionError unless shape, type and values agree.
"""

from __future__ import annotations

from typing import Any

import numpy as np

TOLERANCE = {np.float32: 2e-5, np.float64: 1e-11}
DTYPES = [np.float32, np.float64]


def close(got: Any, expected: Any, dtype: Any = np.float64) -> None:
    """Raise unless shape, type and values agree."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, (got.shape, expected.shape)
    if expected.dtype.kind in "ib":
        np.testing.assert_array_equal(got, expected)
    else:
        assert got.dtype == dtype
        tolerance = TOLERANCE[dtype]
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def points(*shape: int, seed: int = 0, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def dense_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((x.astype(float) - y.astype(float)) ** 2).sum(-1)
