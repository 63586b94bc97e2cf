"""The tables of a block-sparse kernel: which rows and which pieces of columns it takes one after the other.

In: `Blocks`, the number of rows, and what the schedule fixes: columns packed at a time, rows of a block at most.
Out: `Tables`, three arrays that the kernel walks over (listed.py says what their entries are).

Blocks with many rows are cut into several, which share their pieces.  Rows that no block covers form blocks without
columns, so that their results are those of a reduction over nothing.  Intervals are cut where a fill is complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from weakref import WeakKeyDictionary

import numpy as np

from ...lower.ranges import Blocks

# What a block costs beside its pairs, in pairs for each row and for each column: state, packing.
COST_OF_ROW = 8
COST_OF_COLUMN = 2
KEPT = 16  # tables of the same blocks, for kernels of different chunks and other numbers of rows


@dataclass(frozen=True)
class Tables:
    """The tables, and what the driver needs to cut them into tasks.

    blocks, fills, pieces   int64, as listed.py describes them
    work                    of every block and all before it, in pairs
    rows                    of the largest block
    """

    blocks: np.ndarray
    fills: np.ndarray
    pieces: np.ndarray
    work: np.ndarray
    rows: int


_made: WeakKeyDictionary[Blocks, dict[tuple[int, int, int], Tables]] = WeakKeyDictionary()


def tables(blocks: Blocks, kept: int, chunk: int, step: int) -> Tables:
    """The tables for `kept` rows, fills of `chunk` columns and blocks of at most `step` rows; kept with the blocks."""
    known = _made.setdefault(blocks, {})
    key = (kept, chunk, step)
    found = known.get(key)
    if found is None:
        if len(known) >= KEPT:
            known.clear()
        found = known[key] = _make(blocks, kept, chunk, step)
    return found


def _make(blocks: Blocks, kept: int, chunk: int, step: int) -> Tables:
    counts = blocks.column_counts
    fill_counts = -(-counts // chunk)
    first_fill = np.concatenate(([0], np.cumsum(fill_counts)))
    pieces, fill_of_piece = _pieces(blocks, chunk, first_fill)
    total = int(first_fill[-1])
    first_piece = np.searchsorted(fill_of_piece, np.arange(total + 1))
    block_of_fill = np.repeat(np.arange(len(counts)), fill_counts)
    place = (np.arange(total) - first_fill[block_of_fill]) * chunk
    columns = np.minimum(chunk, counts[block_of_fill] - place)
    fills = np.stack((first_piece[:-1], first_piece[1:], columns), 1)

    rows, source = blocks.cut(kept, step)
    first_fill = np.append(first_fill, total)  # rows that no block covers: no fill, no column
    span = np.stack((first_fill[:-1], first_fill[1:]), 1)
    counts = np.append(counts, 0)
    height = rows[:, 1] - rows[:, 0]
    counts = counts[source]
    work = height * counts + COST_OF_ROW * height + COST_OF_COLUMN * counts
    table = np.concatenate((rows, span[source]), 1)
    return Tables(_words(table), _words(fills), _words(pieces), np.cumsum(work), int(height.max(initial=1)))


def _words(table: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(table, np.int64)


def _pieces(blocks: Blocks, chunk: int, first_fill: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The intervals cut at whole fills, (first column, end, place in the fill), and the fill of each piece."""
    lengths = blocks.columns[:, 1] - blocks.columns[:, 0]
    block = np.repeat(np.arange(len(blocks.rows)), np.diff(blocks.first))
    along = np.cumsum(lengths) - lengths  # columns of all intervals before
    before = np.concatenate((along, [0]))[blocks.first[:-1]] if len(along) else np.zeros(len(blocks.rows), np.int64)
    start = along - before[block]  # columns of its block before
    if blocks.column_counts.max(initial=0) <= chunk:  # each block is one fill: nothing is cut
        return np.column_stack((blocks.columns, start)), first_fill[block]
    parts = (start + lengths - 1) // chunk - start // chunk + 1
    interval = np.repeat(np.arange(len(lengths)), parts)
    number = np.arange(len(interval)) - np.repeat(np.cumsum(parts) - parts, parts)
    fill = start[interval] // chunk + number
    a = np.maximum(start[interval], fill * chunk)
    b = np.minimum(start[interval] + lengths[interval], (fill + 1) * chunk)
    shift = blocks.columns[interval, 0] - start[interval]
    pieces = np.stack((a + shift, b + shift, a - fill * chunk), 1)
    return pieces, first_fill[block[interval]] + fill


def cut(work: np.ndarray, pieces: int) -> list[tuple[int, int]]:
    """Ranges of blocks of about equal work, at most so many."""
    total = int(work[-1])
    goals = [total * k // pieces for k in range(1, pieces)]
    cuts = [0, *(int(c) + 1 for c in np.searchsorted(work, goals)), len(work)]
    return [(a, b) for a, b in pairwise(cuts) if a < b]
