"""Arithmetic on blocks of vectors, column by column: what the iterative solvers compute with.

In: blocks (*batch, rows, E), NumPy arrays or tensors on any device.  Out: blocks, or one number for each column.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dtypes import PRECISIONS
from ...runtime import arrays

Vectors = Any  # a block (*batch, rows, E)
Numbers = np.ndarray  # one number for each column, (*batch, 1, E) or (*batch, 1, 1)


class Columns:
    """Arithmetic on blocks of vectors like a given one."""

    def __init__(self, like: Vectors, coupled: bool) -> None:
        self.kind = arrays.library(like) or arrays.NUMPY
        self.device = arrays.device(like, self.kind)
        self.dtype = arrays.number_type(like, self.kind)
        self.rounding = PRECISIONS[self.dtype].epsilon
        self.axes = (-2, -1) if coupled else (-2,)
        rows, width = like.shape[-2:]
        self.count = rows * width if coupled else rows

    def inner(self, a: Vectors, b: Vectors) -> Numbers:
        """The inner product of each column of a with that of b, in float64; infinite or NaN where that overflows."""
        if self.kind == arrays.NUMPY:
            with np.errstate(over="ignore", invalid="ignore"):
                return np.multiply(a, b, dtype=np.float64).sum(self.axes, keepdims=True)
        return arrays.view((a.double() * b.double()).sum(self.axes, keepdim=True).cpu(), "float64")

    def scale(self, *blocks: Vectors) -> Numbers:
        """For each column a power of two that brings its largest entry, of all blocks, near 1; 1 where all are 0.

        Times such a number no digit changes, but squares neither overflow nor vanish.
        """
        largest = self._largest(blocks[0])
        for block in blocks[1:]:
            largest = np.maximum(largest, self._largest(block))
        limit = 126 if self.dtype == "float32" else 1022
        usual = np.isfinite(largest) & (largest > 0)
        exponent = np.clip(-np.frexp(np.where(usual, largest, 1.0))[1], -limit, limit)
        return np.ldexp(1.0, np.where(usual, exponent, 0))

    def _largest(self, a: Vectors) -> Numbers:
        if self.kind == arrays.NUMPY:
            return np.abs(a).max(self.axes, keepdims=True).astype(np.float64)
        return arrays.view(a.abs().amax(self.axes, keepdim=True).double().cpu(), "float64")

    def norm(self, a: Vectors) -> Numbers:
        """The Euclidean norm of each column."""
        return np.sqrt(self.inner(a, a))

    def times(self, numbers: Numbers, a: Vectors) -> Vectors:
        """Each column of a times its number."""
        factors = numbers.astype(self.dtype)
        if self.kind == arrays.NUMPY:
            return factors * a
        return arrays.on_device(arrays.wrap(factors, self.kind), self.dtype, self.device or "cpu") * a

    def choose(self, first: np.ndarray, a: Vectors, b: Vectors) -> Vectors:
        """Column by column, a or b."""
        if self.kind == arrays.NUMPY:
            return np.where(first, a, b)
        return arrays.namespace(self.kind).where(arrays.wrap(first, self.kind).to(self.device), a, b)
