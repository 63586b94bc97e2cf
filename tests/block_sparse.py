"""What the tests of block-sparse ranges share: random masks of blocks, and the comparison block by block.

In: a case of conformance.py whose sizes have ranges.  Out: `check_blocks` computes it with a backend and compares every
block of rows, and the rows that no block covers, with a dense reduction of the reference over the columns that they
visit, gathered: the ranges themselves play no part in what is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from conformance import Case, compare, run

from pairfuse.frontend.ranges import read
from pairfuse.lower.problem import Sizes
from pairfuse.lower.ranges import Ranges

Six = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Mask:
    """Blocks of i, blocks of j, and which of their pairs take part."""

    ranges_i: np.ndarray
    ranges_j: np.ndarray
    keep: np.ndarray
    m: int
    n: int

    @property
    def six(self) -> Six:
        """The ranges, intervals in any order."""
        slices = [np.cumsum(self.keep.sum(axis)) for axis in (1, 0)]
        columns = [np.flatnonzero(row)[::-1] for row in self.keep]
        rows = [np.flatnonzero(column)[::-1] for column in self.keep.T]
        visited_j = self.ranges_j[np.concatenate([*columns, np.zeros(0, int)])]
        visited_i = self.ranges_i[np.concatenate([*rows, np.zeros(0, int)])]
        return self.ranges_i, slices[0], visited_j, self.ranges_j, slices[1], visited_i

    @property
    def ranges(self) -> Ranges:
        return read("test", self.six)

    @property
    def dense(self) -> np.ndarray:
        """Which pairs take part, (M, N)."""
        found = np.zeros((self.m, self.n), bool)
        for a, (start, stop) in enumerate(self.ranges_i):
            for b in np.flatnonzero(self.keep[a]):
                found[start:stop, slice(*self.ranges_j[b])] = True
        return found


def draw_mask(rng: np.random.Generator, m: int, n: int, blocks: tuple[int, int], share: float) -> Mask:
    """A random mask: some rows and columns in no block, some blocks empty, blocks in any order."""
    ranges_i, ranges_j = (_draw_ranges(rng, size, count) for size, count in zip((m, n), blocks, strict=True))
    return Mask(ranges_i, ranges_j, rng.random((len(ranges_i), len(ranges_j))) < share, m, n)


def _draw_ranges(rng: np.random.Generator, size: int, count: int) -> np.ndarray:
    cuts = np.sort(rng.integers(0, size + 1, count - 1))
    starts, stops = np.concatenate(([0], cuts)), np.concatenate((cuts, [size]))
    kept = rng.permutation(count)[: max(1, count - count // 5)]
    return np.stack((starts, stops), 1)[kept]


# ---------------------------------------------------------------------- the comparison


def groups(mask: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows that visit the same columns, and these."""
    patterns, which = np.unique(mask, axis=0, return_inverse=True)
    return [(np.flatnonzero(which.reshape(-1) == k), np.flatnonzero(p)) for k, p in enumerate(patterns)]


def check_blocks(case: Case, mask: Mask, backend: str = "llvm", informative: float = 0.0) -> None:
    """Raise unless the backend computes the case, whose sizes have the ranges of the mask, as it should."""
    check_outputs(case, mask, run(case, backend), informative, backend)


def check_outputs(
    case: Case, mask: Mask, actual: Sequence[np.ndarray], informative: float = 0.0, backend: str = ""
) -> None:
    """Raise unless these are the outputs of the case. `backend`: for the message."""
    p = case.problem
    dense = mask.dense if p.over == "j" else mask.dense.T
    for rows, columns in groups(dense):
        part = _part(case, rows, columns)
        got = [_local(a[..., rows, :], columns, name) for a, (name, _) in zip(actual, p.record.outputs, strict=True)]
        expected = run(part, "reference")
        if len(columns) == 0:
            for (name, _), a, e in zip(p.record.outputs, got, expected, strict=True):
                if name == "maximum":  # of log-sum-exp and softmax: of no term it is any finite number
                    assert np.isfinite(a).all()
                    continue
                assert np.array_equal(a, e, equal_nan=True), f"{name} of rows without columns: {a}, expected {e}"
            continue
        try:
            compare(part, got, expected, informative)
        except AssertionError as error:
            raise AssertionError(f"{error}\n  rows {rows}, columns {columns}, {backend}: {case}") from None


def _part(case: Case, rows: np.ndarray, columns: np.ndarray) -> Case:
    """The dense case of some rows and columns."""
    p = case.problem
    taken = {p.kept: rows, p.over: columns}
    axes = {leaf.param("slot"): leaf.param("axis") for leaf in p.inputs}
    arrays = tuple(
        a if axes.get(k, "p") == "p" else np.ascontiguousarray(a[..., taken[axes[k]], :])
        for k, a in enumerate(case.arrays)
    )
    m, n = (len(rows), len(columns)) if p.kept == "i" else (len(columns), len(rows))
    return replace(case, arrays=arrays, sizes=Sizes(m, n, case.sizes.batch))


def _local(values: np.ndarray, columns: np.ndarray, name: str) -> np.ndarray:
    """An output of indices as places among the columns; a place that was not found has the index -1."""
    if not name.startswith("arg") or len(columns) == 0:
        return values
    places = np.searchsorted(columns, values)
    inside = np.isin(values, columns)
    assert (inside | (values == -1)).all(), f"{name}: an index of a column that is not visited"
    return np.where(inside, places, -1)


def with_ranges(case: Case, mask: Mask) -> Case:
    return replace(case, sizes=replace(case.sizes, ranges=mask.ranges))
