"""The cases that SciPy and scikit-learn have an answer to, with the function that their manuals recommend.

In: the case, its arrays and a number of threads. Out: a tuple of arrays. A k-d tree is another algorithm than all
pairs: it is asked because a user with points in three dimensions would take it, and its building is part of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist
from scipy.special import logsumexp as scipy_logsumexp
from sklearn.metrics import pairwise_distances_argmin
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import NearestNeighbors

from benchmarks.cases import Case

BLOCK = 4_000_000  # numbers in an intermediate matrix, as for PyTorch


def blockwise(step: Callable[[Any], Any], x: Any, columns: int) -> tuple[Any, ...]:
    size = max(1, BLOCK // columns)
    return (np.concatenate([step(x[k : k + size]) for k in range(0, len(x), size)]),)


def scipy_gaussian(case: Case, threads: int, x: Any, y: Any, b: Any) -> tuple[Any, ...]:
    return blockwise(lambda rows: np.exp(-cdist(rows, y, "sqeuclidean")) @ b, x, len(y))


def scipy_logsumexp_(case: Case, threads: int, x: Any, y: Any) -> tuple[Any, ...]:
    return blockwise(lambda r: scipy_logsumexp(-cdist(r, y, "sqeuclidean"), axis=1, keepdims=True), x, len(y))


def scipy_argkmin(case: Case, threads: int, x: Any, y: Any) -> tuple[Any, ...]:
    return (np.reshape(KDTree(y).query(x, k=case.K, workers=threads)[1], (len(x), case.K)),)


def sklearn_gaussian(case: Case, threads: int, x: Any, y: Any, b: Any) -> tuple[Any, ...]:
    return blockwise(lambda rows: rbf_kernel(rows, y, gamma=1.0) @ b, x, len(y))


def sklearn_argmin(case: Case, threads: int, x: Any, y: Any) -> tuple[Any, ...]:
    return (pairwise_distances_argmin(x, y)[:, None],)


def sklearn_argkmin(case: Case, threads: int, x: Any, y: Any) -> tuple[Any, ...]:
    return (NearestNeighbors(n_neighbors=case.K, algorithm="brute").fit(y).kneighbors(x, return_distance=False),)


CLASSICAL: dict[tuple[str, str], Callable[..., tuple[Any, ...]]] = {
    ("scipy", "gaussian"): scipy_gaussian,
    ("scipy", "logsumexp"): scipy_logsumexp_,
    ("scipy", "argmin"): scipy_argkmin,
    ("scipy", "argkmin"): scipy_argkmin,
    ("sklearn", "gaussian"): sklearn_gaussian,
    ("sklearn", "argmin"): sklearn_argmin,
    ("sklearn", "argkmin"): sklearn_argkmin,
}
