"""The arrays of a case: random, and the same in every process.

In: a case and a data type. Out: x (M, D), y (N, D), and b (N, E), the right-hand side, or w (M, 1), the weights of a
gradient. b and w are positive: no cancellation hides in a relative error. c (N, 1) are complex weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import Case

Arrays = dict[str, NDArray[np.inexact]]


def arrays(case: Case, dtype: str) -> Arrays:
    """The inputs of ``case``; float32 and float64 runs get the same numbers, rounded to float32."""
    random = np.random.default_rng(0)
    made = {
        "x": random.standard_normal((case.M, case.D), dtype=np.float32) * np.float32(case.scale),
        "y": random.standard_normal((case.N, case.D), dtype=np.float32) * np.float32(case.scale),
    }
    if case.formula in ("gaussian", "attention", "block_sparse"):
        made["b"] = random.random((case.N, case.E), dtype=np.float32)
    if case.formula == "density_gradient":
        made["w"] = random.random((case.M, 1), dtype=np.float32)
    if case.formula == "fourier":
        parts = random.standard_normal((2, case.N, 1), dtype=np.float32)
        made["c"] = parts[0] + 1j * parts[1]
    types = {"f": np.dtype(dtype), "c": np.result_type(dtype, np.complex64)}
    return {name: array.astype(types[array.dtype.kind]) for name, array in made.items()}
