"""The tile: how a Triton kernel walks over the pairs. The table of shapes, and why they are so.

In: a kernel, sizes, the number of processors of the device.  Out: a `Tile`; a pure choice, nothing is timed.

Triton lays a block of BM rows and BN columns out with the 32 lanes of a warp along the columns and the warps along the
rows: a thread of W warps holds BM / W rows times BN / 32 columns.  What depends on a row only is held by all lanes of
its warp, so the shapes below keep 8 rows and 4 columns per thread (32 pairs) where the registers allow it: a load of a
column serves 8 pairs, and a row's coordinates cost 8 registers each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...lower.index_range import fits_32_bits
from ...lower.kernel import Kernel
from ...lower.problem import Sizes

LANES = 32  # threads of a warp (64 on some AMD devices: then a thread holds half the columns)
# Components of the result that one program computes: with 8 accumulators per pair, 8 pairs fill 64 registers.
COMPONENTS = 8
# Rows of 4096 columns are not worth sharing among programs: a part should last longer than a launch.
SPLIT_COLUMNS = 4096
# Programs per processor below which a device is not busy: 4 programs of 4 warps are a quarter of its warps.
BUSY = 4
PARTS = 256  # parts of the columns at most: the merge reads as many states per row
# Lists of the K smallest are written out, and merged by code that grows as K squared.
LONGEST_LIST = 64
LONGEST_MERGED_LIST = 16
# Column tiles whose terms are added in the type of the data, before the sum is added to one of 64 bits.
FLUSH = 32
FLUSH_COSTLY = 128  # the same where that takes exponentials (logsumexp)
FIRST_WIDE = 2**31 - 2**16


@dataclass(frozen=True, slots=True)
class Tile:
    """Shape of the work of one program.

    rows, cols   of the block of pairs
    warps        per program
    split        are the columns cut into parts, whose states a second kernel merges?
    batch_rank   number of batch axes that the kernel sees (adjacent ones are joined where the strides allow)
    wide         are row and column numbers, and offsets, of 64 bits?
    flush        column tiles between two flushes of the partial sums
    """

    rows: int
    cols: int
    warps: int = 4
    split: bool = False
    batch_rank: int = 0
    wide: bool = False
    flush: int = FLUSH


def is_list(kernel: Kernel) -> bool:
    """Does the state hold lists (of the K smallest)?"""
    return kernel.machine.by_column and any(s.dim > t.dim for s in kernel.slots for t in kernel.terms[:1])


def component_block(kernel: Kernel) -> tuple[int, int]:
    """Components of the result that one program computes, and the number of such blocks."""
    width = max(t.dim for t in kernel.terms)
    blocks = width if kernel.machine.by_column else -(-width // COMPONENTS)
    return -(-width // blocks), blocks


def choose(kernel: Kernel, sizes: Sizes, batch_rank: int, largest_offset: int, processors: int) -> Tile:
    """The tile for a problem, its sizes and a device with this many processors."""
    problem = kernel.problem
    kept, reduced = sizes.along(problem.kept), sizes.along(problem.over)
    rows, cols, warps = _shape(kernel)
    while rows > 4 and rows >= 2 * kept:  # few rows: the same number of pairs in more columns
        rows, cols = rows // 2, min(2 * cols, 512)
        warps = min(warps, rows)
    _, blocks = component_block(kernel)
    programs = -(-kept // rows) * math.prod(sizes.batch) * blocks
    merged = dict(problem.params).get("K", 0) <= LONGEST_MERGED_LIST
    split = merged and programs < BUSY * processors and reduced >= SPLIT_COLUMNS
    wide = max(kept, reduced, largest_offset) >= FIRST_WIDE or not fits_32_bits(problem.formulas)
    flush = FLUSH if kernel.machine.guard is None else FLUSH_COSTLY
    return Tile(rows, cols, warps, split, batch_rank, wide, flush)


def _shape(kernel: Kernel) -> tuple[int, int, int]:
    """Rows, columns and warps.

    Where a test over all pairs of the tile decides whether a costly step is taken (logsumexp, lists), a program is one
    warp, so that the test needs no barrier.
    """
    size = kernel.problem.precision.size // 4
    if is_list(kernel):
        k = int(dict(kernel.problem.params).get("K", 1))
        # a list of K values and indices takes 2 K registers per row
        return (8, 128 // size, 1) if k <= 4 else (4, 128 // size, 1) if k <= 16 else (4, 64, 4)
    block, _ = component_block(kernel)
    dims = [1 if s.dim == 1 else min(s.dim, block) for s in kernel.slots]
    registers = size * sum(dims)  # per pair
    warps = 1 if kernel.machine.guard is not None and not kernel.machine.by_column else 4
    if registers <= 2:
        return 8 * warps, 128, warps
    if registers <= 4:
        return 4 * warps, 128, warps
    return 4 * warps, 64, warps


def parts_of(tile: Tile, sizes: tuple[int, int, int], processors: int) -> tuple[int, int]:
    """(parts, columns of a part) for (programs without parts, reduced size, kept size); at least 16 tiles in a part."""
    programs, reduced, _ = sizes
    if not tile.split:
        return 1, reduced
    wanted = -(-2 * BUSY * processors // programs)
    parts = max(1, min(PARTS, wanted, -(-reduced // (16 * tile.cols))))
    per_part = -(-reduced // (parts * tile.cols)) * tile.cols
    return -(-reduced // per_part), per_part
