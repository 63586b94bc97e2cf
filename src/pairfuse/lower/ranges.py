"""Block-sparse ranges: which pairs (i, j) take part in a reduction, as blocks of rows and intervals of columns.

In: for each direction three integer arrays, `Half`: blocks of the kept axis, the cumulative numbers of their intervals,
and the intervals of the reduced axis that they visit.  Out: `Blocks`, the same in canonical form, on which the backends
walk.  Both directions are kept, because a reduction over i, and derivatives, walk over the transposed description.

Everything is checked before a backend sees it: an index beyond an array would be read.  All checks are array operations
on the descriptions, never on pairs; they are made once for each object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ShapeError, message
from ..forks import cached_property

REMEDY = "from_matrix(ranges_i, ranges_j, keep) makes valid ones (pairfuse.numpy.cluster, pairfuse.torch.cluster)."


@dataclass(frozen=True, eq=False)
class Blocks:
    """Which columns each block of rows visits, in canonical form.

    rows      (B, 2) int64: rows [start, stop) of every block; none is empty, no two overlap
    first     (B + 1,) int64: block k visits columns[first[k]:first[k + 1]]
    columns   (R, 2) int64: columns [start, stop); within a block ascending, apart from each other, none empty
    """

    rows: np.ndarray
    first: np.ndarray
    columns: np.ndarray

    @cached_property
    def row_counts(self) -> np.ndarray:
        """Rows of every block."""
        return self.rows[:, 1] - self.rows[:, 0]

    @cached_property
    def column_counts(self) -> np.ndarray:
        """Columns that every block visits."""
        total = np.concatenate(([0], np.cumsum(self.columns[:, 1] - self.columns[:, 0])))
        return total[self.first[1:]] - total[self.first[:-1]]

    @cached_property
    def pairs(self) -> int:
        """How many pairs take part."""
        return int(self.row_counts @ self.column_counts)

    def counts(self, kept: int) -> np.ndarray:
        """The number of terms of each of the rows 0 ... kept - 1."""
        steps = np.zeros(kept + 1, np.int64)
        steps[self.rows[:, 0]] += self.column_counts  # no two blocks start at the same row
        np.subtract.at(steps, self.rows[:, 1], self.column_counts)
        return np.cumsum(steps[:-1])

    def uncovered(self, kept: int) -> np.ndarray:
        """The intervals (U, 2) of 0 ... kept - 1 that no block covers."""
        ordered = self.rows[np.argsort(self.rows[:, 0])]
        starts = np.concatenate(([0], ordered[:, 1]))
        stops = np.concatenate((ordered[:, 0], [kept]))
        return np.stack((starts, stops), 1)[starts < stops]

    def within(self, rows: tuple[int, int], columns: tuple[int, int]) -> Blocks:
        """The pairs of these rows and columns [start, stop), which are numbered from 0."""
        inside = np.clip(self.rows, *rows) - rows[0]
        visited = np.clip(self.columns, *columns) - columns[0]
        block = np.repeat(np.arange(len(self.rows)), np.diff(self.first))
        kept = inside[:, 0] < inside[:, 1]
        whole = (visited[:, 0] < visited[:, 1]) & kept[block]
        per_block = np.bincount(block[whole], minlength=len(inside))[kept]
        first = np.concatenate((np.zeros(1, np.int64), np.cumsum(per_block, dtype=np.int64)))
        return Blocks(inside[kept], first, visited[whole])

    def cut(self, kept: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Each of the rows 0 ... kept - 1 once: ranges (T, 2) of at most `step` rows, and the block that each is from.

        After those of the blocks come the rows that no block covers, as if from a block number B.
        """
        empty = self.uncovered(kept)
        rows = np.concatenate((self.rows, empty))
        block = np.minimum(np.arange(len(rows)), len(self.rows))
        parts = -(-(rows[:, 1] - rows[:, 0]) // step)
        source = np.repeat(np.arange(len(rows)), parts)
        number = np.arange(len(source)) - np.repeat(np.cumsum(parts) - parts, parts)
        start = rows[source, 0] + number * step
        return np.stack((start, np.minimum(start + step, rows[source, 1])), 1), block[source]


@dataclass(frozen=True, eq=False)
class Half:
    """One direction as the user gave it: int64 copies of the three arrays, whose shapes and order have been checked.

    names     what the user calls the three arrays
    rows      (B, 2): blocks of the kept axis
    slices    (B,): block k visits columns[slices[k - 1]:slices[k]]
    columns   (R, 2): intervals of the reduced axis
    home      library and device of the user's arrays
    """

    names: tuple[str, str, str]
    rows: np.ndarray
    slices: np.ndarray
    columns: np.ndarray
    home: Any

    @cached_property
    def row_stop(self) -> int:
        """The size that the kept axis must have."""
        return int(self.rows[:, 1].max(initial=0))

    @cached_property
    def column_stop(self) -> int:
        """The size that the reduced axis must have."""
        return int(self.columns[:, 1].max(initial=0))

    @cached_property
    def blocks(self) -> Blocks:
        """The canonical form; made, with the last checks, when a reduction in this direction is first computed."""
        return canonical(self)


@dataclass(frozen=True)
class Ranges:
    """Both directions of one block-sparse mask. Equal only if they were read from the same objects.

    over_j    blocks of i and the j that they visit: for reductions over j
    over_i    the transposed description: for reductions over i
    """

    over_j: Half
    over_i: Half

    def half(self, over: str) -> Half:
        """The description for a reduction over this axis."""
        return self.over_j if over == "j" else self.over_i

    def swapped(self) -> Ranges:
        """That of the transposed matrix."""
        return Ranges(self.over_i, self.over_j)

    def same(self, other: Ranges) -> bool:
        """Do both say the same?"""
        if self == other:
            return True
        halves = ((self.over_j, other.over_j), (self.over_i, other.over_i))
        return all(
            np.array_equal(a.rows, b.rows)
            and np.array_equal(a.slices, b.slices)
            and np.array_equal(a.columns, b.columns)
            for a, b in halves
        )

    def check(self, call: str, m: int, n: int) -> None:
        """Refuse ranges beyond the M rows and N columns of a reduction."""
        for half, kept, reduced, axes in ((self.over_j, m, n, "ij"), (self.over_i, n, m, "ji")):
            if half.row_stop > kept:
                raise _beyond(call, half.names[0], half.row_stop, axes[0], kept)
            if half.column_stop > reduced:
                raise _beyond(call, half.names[2], half.column_stop, axes[1], reduced)

    def check_transposed(self, call: str) -> None:
        """Refuse two directions that cannot be those of one mask, where both are used: their pairs are counted."""
        i, j = self.over_j.blocks.pairs, self.over_i.blocks.pairs
        if i != j:
            facts = [f"{' / '.join(self.over_j.names)}: {i} pairs", f"{' / '.join(self.over_i.names)}: {j} pairs"]
            text = f"{call}: the two halves of ranges describe different masks, and a derivative needs both."
            raise ShapeError(message(text, facts, REMEDY))


def _beyond(call: str, name: str, stop: int, axis: str, size: int) -> ShapeError:
    letter = "M" if axis == "i" else "N"
    facts = f"{name} ends at {stop}, axis {axis} has the size {letter} = {size}"
    return ShapeError(message(f"{call}: ranges beyond the data.", facts, "make the ranges for the arrays in use."))


# ---------------------------------------------------------------------- checks


def checked_half(call: str, names: tuple[str, str, str], parts: Sequence[np.ndarray], home: Any = None) -> Half:
    """One direction from int64 arrays of its own, which nobody else may change."""
    rows, slices, columns = parts
    for name, array in ((names[0], rows), (names[2], columns)):
        if array.ndim != 2 or array.shape[1] != 2:
            raise _wrong(call, f"{name} is not an array of intervals.", f"{name}: shape {array.shape}, not (..., 2)")
        _check_intervals(call, name, array)
    if slices.shape != (len(rows),):
        facts = f"{names[0]}: {len(rows)} blocks, {names[1]}: shape {slices.shape}, not ({len(rows)},)"
        raise _wrong(call, f"{names[1]} does not have one entry for each block.", facts)
    steps = np.diff(slices, prepend=0)
    if (steps < 0).any():
        k = int(np.argmax(steps < 0))
        facts = f"{names[1]}[{k}] = {slices[k]}, after {slices[k - 1] if k else 0}"
        raise _wrong(call, f"{names[1]} decreases.", facts)
    last = int(slices[-1]) if len(slices) else 0
    if last != len(columns):
        facts = f"the last entry of {names[1]}: {last}, {names[2]}: {len(columns)} intervals"
        raise _wrong(call, f"{names[1]} does not end at the number of intervals.", facts)
    return Half(names, rows, slices, columns, home)


def _check_intervals(call: str, name: str, array: np.ndarray) -> None:
    start, stop = array[:, 0], array[:, 1]
    wrong = (start < 0) | (stop < start)
    if wrong.any():
        k = int(np.argmax(wrong))
        facts = f"{name}[{k}] = [{start[k]}, {stop[k]}), not 0 <= start <= end"
        raise _wrong(call, f"{name} holds an interval that is none.", facts)


def _wrong(call: str, text: str, facts: str) -> ShapeError:
    return ShapeError(message(f"{call}: {text}", facts, REMEDY))


# ---------------------------------------------------------------------- canonical form


def canonical(half: Half) -> Blocks:
    """Without what is empty, intervals in ascending order, those that touch joined; overlaps are refused."""
    counts = np.diff(half.slices, prepend=0)
    block = np.repeat(np.arange(len(counts)), counts)
    columns = half.columns
    whole = (columns[:, 0] < columns[:, 1]) & (half.rows[:, 0] < half.rows[:, 1])[block]
    block, columns = block[whole], columns[whole]
    if ((block[1:] == block[:-1]) & (columns[1:, 0] < columns[:-1, 0])).any():
        order = np.lexsort((columns[:, 0], block))
        columns = columns[order]
    same = block[1:] == block[:-1]
    _check_apart(half, block, columns, same)
    _check_rows(half)
    new = np.concatenate(([True], ~(same & (columns[1:, 0] == columns[:-1, 1]))))[: len(columns)]
    starts = np.flatnonzero(new)
    stops = np.append(starts[1:], len(columns))[: len(starts)] - 1
    joined = np.stack((columns[starts, 0], columns[stops, 1]), 1)
    kept = half.rows[:, 0] < half.rows[:, 1]
    per_block = np.bincount(block[starts], minlength=len(counts))[kept]
    first = np.concatenate((np.zeros(1, np.int64), np.cumsum(per_block, dtype=np.int64)))
    return Blocks(np.ascontiguousarray(half.rows[kept]), first, np.ascontiguousarray(joined))


def _check_apart(half: Half, block: np.ndarray, columns: np.ndarray, same: np.ndarray) -> None:
    overlap = same & (columns[1:, 0] < columns[:-1, 1])
    if overlap.any():
        k = int(np.argmax(overlap))
        a, b = columns[k].tolist(), columns[k + 1].tolist()
        raise ShapeError(
            message(
                f"ranges: the intervals of a block overlap, its pairs would count twice ({half.names[2]}).",
                f"block {block[k]} of {half.names[0]}: [{a[0]}, {a[1]}) and [{b[0]}, {b[1]})",
                "list every column of a block once: join the intervals.",
            )
        )


def _check_rows(half: Half) -> None:
    rows = half.rows[half.rows[:, 0] < half.rows[:, 1]]
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    overlap = rows[1:, 0] < rows[:-1, 1]
    if overlap.any():
        k = int(np.argmax(overlap))
        a, b = rows[k].tolist(), rows[k + 1].tolist()
        raise ShapeError(
            message(
                f"ranges: blocks of rows overlap ({half.names[0]}), so that a result would have two values.",
                f"[{a[0]}, {a[1]}) and [{b[0]}, {b[1]})",
                "every row belongs to at most one block.",
            )
        )
