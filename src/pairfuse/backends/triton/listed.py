"""Block-sparse ranges on a GPU: the tile of a kernel that reads its rows and its columns from tables, and the tables.

In: `Blocks`, the number of rows, the tile.  Out: two int64 arrays. A program of the kernel takes one entry of the
first,

    tiles        first row, end of the rows, first interval, end of the intervals

and walks over the tiles of the intervals of the second, (start, end) each; the last tile of every interval is masked.
Rows that no block covers form tiles without intervals.  Columns are not shared among programs, and matrix units do not
multiply: their operands would have to be cut where the intervals are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...lower.kernel import Kernel
from ...lower.problem import Sizes
from ...lower.ranges import Blocks
from .tile import FLUSH, FLUSH_COSTLY, Tile, choose, shape_without_matrices, widened
from .wide import wide_of


def choose_listed(
    kernel: Kernel,
    sizes: Sizes,
    batch_rank: int,
    largest_offset: int,
    processors: int,
    types: Sequence[str],
    capability: int,
) -> Tile:
    """The tile for ranges: for a block with as many rows and columns as one of them has on average."""
    problem = kernel.problem
    blocks = sizes.blocks(problem.over)
    assert blocks is not None
    rows = max(1, blocks.pairs // max(1, int(blocks.column_counts.sum())))
    columns = max(1, blocks.pairs // max(1, int(blocks.row_counts.sum())))
    m, n = (rows, columns) if problem.kept == "i" else (columns, rows)
    far = max(largest_offset, sizes.M, sizes.N)
    tile = choose(kernel, Sizes(m, n, sizes.batch), batch_rank, far, processors, types, capability)
    if tile.dots and wide_of(kernel) is None:
        height, width, warps = shape_without_matrices(kernel)
        flush = FLUSH if kernel.machine.guard is None else FLUSH_COSTLY
        narrow = replace(tile, rows=height, cols=width, warps=warps, flush=flush, wide=False)
        tile = widened(narrow, kernel) if tile.wide else narrow
    return replace(tile, split=False, dots="", listed=True)


def tables(blocks: Blocks, kept: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The tables for `kept` rows in tiles of `rows`."""
    spans, source = blocks.cut(kept, rows)
    first = np.append(blocks.first, blocks.first[-1])  # rows that no block covers: no interval
    ends = np.stack((first[:-1], first[1:]), 1)
    tiles = np.concatenate((spans, ends[source]), 1)
    # An array without entries has no address: an entry that nobody reads gives it one.
    intervals = blocks.columns if len(blocks.columns) else np.zeros((1, 2), np.int64)
    return tiles, np.array(intervals)
