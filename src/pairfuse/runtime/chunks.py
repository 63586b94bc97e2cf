"""How data that is larger than the memory of a GPU is cut: batches, rows and columns that are there at a time.

In: sizes, what a row and a column take, a number of bytes.  Out: a `Plan`; a pure function, nothing is measured.

Rows stay while all columns pass by, so every row is copied once, and the columns once for every range of rows.  A GPU
computes some 3e12 pairs per second and is fed 1e9 numbers in that time: with a few thousand rows there, the columns
arrive faster than they are used up, whatever the formula.  So nothing is gained by more than half of the memory for
the rows, unless the columns need less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

Range = tuple[int, int]  # start and stop

# Ranges are multiples of this, if they are longer: no tile of the kernel is cut.
ALIGNED = 4096


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes on the GPU.

    row       of one row of one batch while it is computed: inputs, outputs, state
    column    of one column of one batch: inputs, and their copy component by component
    fixed     whatever the ranges: parameters
    """

    row: int
    column: int
    fixed: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One launch: these rows and columns of these batches. `first` and `last` of the columns of its rows."""

    batch: tuple[Range, ...]
    rows: Range
    columns: Range
    first: bool
    last: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """The ranges, of which every combination is a step."""

    batches: tuple[tuple[Range, ...], ...]
    rows: tuple[Range, ...]
    columns: tuple[Range, ...]

    def steps(self, visited: Callable[[Range, Range], bool] = lambda *_: True) -> Iterator[Step]:
        """The launches, in order: the columns vary fastest, then the rows.

        visited: do some of these rows visit some of these columns? Else the columns are left out, but for one range for
        each range of rows.
        """
        for batch, rows in product(self.batches, self.rows):
            some = [c for c in self.columns if visited(rows, c)] or [self.columns[0]]
            for k, columns in enumerate(some):
                yield Step(batch, rows, columns, k == 0, k == len(some) - 1)

    @property
    def largest(self) -> Step:
        """The ranges with the most elements, as one step: buffers are made for it."""

        def longest(ranges: tuple[Range, ...]) -> Range:
            return max(ranges, key=lambda r: r[1] - r[0])

        batch = max(self.batches, key=lambda b: math.prod(stop - start for start, stop in b))
        return Step(batch, longest(self.rows), longest(self.columns), True, True)


def plan(kept: int, reduced: int, batch: tuple[int, ...], cost: Cost, limit: int) -> Plan | None:
    """The plan for `limit` bytes, or None if one row and one column are too much.

    While a range is computed the next one is copied: every range has its place twice, but for one that never changes.
    """
    room = limit - cost.fixed
    element = 2 * (kept * cost.row + reduced * cost.column)
    if element <= room and batch:
        return Plan(tuple(_batches(batch, room // max(element, 1))), ((0, kept),), ((0, reduced),))
    turns = 1 if math.prod(batch) == 1 else 2  # with several batches, no range stays to the end
    rows, columns = turns * kept * cost.row, turns * reduced * cost.column
    if columns <= room // 2:
        row_count, column_count = (room - columns) // (2 * cost.row), reduced
    elif rows <= room // 2:
        row_count, column_count = kept, (room - rows) // (2 * cost.column)
    else:
        row_count, column_count = room // 2 // (2 * cost.row), room // 2 // (2 * cost.column)
    if row_count < 1 or column_count < 1:
        return None
    return Plan(tuple(_batches(batch, 1)), tuple(_cut(kept, row_count)), tuple(_cut(reduced, column_count)))


def _cut(size: int, longest: int) -> Iterator[Range]:
    """Ranges of nearly equal length, none longer than `longest`."""
    count = -(-size // min(longest, size))
    length = -(-size // count)
    if longest >= ALIGNED and count > 1:
        length = min(-(-length // ALIGNED) * ALIGNED, longest // ALIGNED * ALIGNED)
    for start in range(0, size, length):
        yield start, min(start + length, size)


def _batches(shape: tuple[int, ...], count: int) -> Iterator[tuple[Range, ...]]:
    """Blocks of at most `count` batches, or one, that together are all: the last axes whole as far as possible."""
    inner, axis = 1, len(shape)
    while axis > 0 and inner * shape[axis - 1] <= max(count, 1):
        axis -= 1
        inner *= shape[axis]
    if axis == 0:
        yield tuple((0, n) for n in shape)
        return
    whole = tuple((0, n) for n in shape[axis:])
    for outer in product(*(range(n) for n in shape[: axis - 1])):
        for part in _cut(shape[axis - 1], max(1, count // inner)):
            yield (*((k, k + 1) for k in outer), part, *whole)
