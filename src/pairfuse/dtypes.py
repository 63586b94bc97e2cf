"""The number types of Pairfuse and their limits, by name, without importing any array library but NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Precision:
    """A floating type of the data: its name in NumPy and in LLVM, its size and its limits."""

    name: str
    llvm: str
    size: int
    largest: float
    smallest_normal: float
    epsilon: float


def _precision(name: str, llvm: str) -> Precision:
    info = np.finfo(name)
    return Precision(name, llvm, info.bits // 8, float(info.max), float(info.smallest_normal), float(info.eps))


FLOAT32 = _precision("float32", "float")
FLOAT64 = _precision("float64", "double")
PRECISIONS = {p.name: p for p in (FLOAT32, FLOAT64)}

# Types of arrays on a GPU that are computed in another type, which holds their sums.
STORED = {"float16": "float32", "bfloat16": "float32"}

# Complex numbers are computed as pairs of real ones, of half their size.
COMPLEX = {"float32": "complex64", "float64": "complex128"}
PARTS = {name: real for real, name in COMPLEX.items()}

# The types of results that are not numbers of the data's type.
RESULT_DTYPES = {"index": "int64", "bool": "bool"}
