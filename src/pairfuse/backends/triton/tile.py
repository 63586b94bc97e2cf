"""The tile: how a Triton kernel walks over the pairs. The table of shapes, and why they are so.

In: a kernel, sizes, the number of processors of the device.  Out: a `Tile`; a pure choice, nothing is timed.

Triton lays a block of BM rows and BN columns out with lanes and warps along the columns: a thread of W warps holds all
BM rows of BN / (32 W) columns.  So a column is loaded once for BM pairs, and every component of a row, of its
coordinates or of its list, costs BM registers.  The shapes below were chosen by the registers and instructions of the
code that Triton 3.9 makes for sm_90 (offline.py; docs/gpu.md has the figures), none has been measured on a GPU yet:
about 130 registers, so that 16 warps fit on a processor, and nothing spilled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...ir.expr import Expr, toposort
from ...lower.index_range import fits_32_bits
from ...lower.kernel import Kernel
from ...lower.problem import Sizes

# Components of the result that one program computes: with 8 accumulators per pair, 8 pairs fill 64 registers.
COMPONENTS = 8
# Rows of 4096 columns are not worth sharing among programs: a part should last longer than a launch.
SPLIT_COLUMNS = 4096
# Are inner products of long vectors given to the matrix units? Not before a GPU has measured it: what Triton 3.9 makes
# of it for sm_90 holds 241 to 255 registers, spills on tiles of 64 x 64, and took 180 seconds to compile for one of
# 32 x 32 (docs/gpu.md).
MATRIX_UNITS = False
# Shorter inner products would leave the smallest matrix unit idle.
SHORTEST_DOT = 16
UNROLL_FOLD = 8  # sums over more components are loops
# Programs per processor below which a device is not busy: 4 programs of 4 warps are a quarter of its warps.
BUSY = 4
PARTS = 256  # parts of the columns at most: the merge reads as many states per row
# Lists of the K smallest are written out, and merged by code that grows as K squared.
LONGEST_LIST = 64
LONGEST_MERGED_LIST = 16
# Column tiles whose terms are added in the type of the data, before the sum is added to one of 64 bits.
FLUSH = 64
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
    dots         are inner products of long vectors computed by the matrix units?
    """

    rows: int
    cols: int
    warps: int = 4
    split: bool = False
    batch_rank: int = 0
    wide: bool = False
    flush: int = FLUSH
    dots: bool = False


def is_list(kernel: Kernel) -> bool:
    """Does the state hold lists (of the K smallest)?"""
    return kernel.machine.by_column and any(s.dim > t.dim for s in kernel.slots for t in kernel.terms[:1])


def component_block(kernel: Kernel) -> tuple[int, int]:
    """Components of the result that one program computes, and the number of such blocks."""
    width = max(t.dim for t in kernel.terms)
    blocks = width if kernel.machine.by_column else -(-width // COMPONENTS)
    return -(-width // blocks), blocks


def long_folds(kernel: Kernel) -> bool:
    """Do the pairs fold vectors (distances, inner products) so long that a loop walks over their components?"""
    nodes = toposort(*kernel.terms)
    return any("fold" in n.op.traits and n.args[0].dim > UNROLL_FOLD and len(n.axes) == 2 for n in nodes)


def inner_products(kernel: Kernel) -> list[tuple[Expr, Expr, Expr]]:
    """(node, row vector, column vector) of the inner products of long vectors in the terms."""
    found: list[tuple[Expr, Expr, Expr]] = []
    row, column = frozenset({kernel.problem.kept}), frozenset({kernel.problem.over})
    for n in toposort(*kernel.terms):
        if n.name == "sum_d" and n.dim == 1 and n.args[0].name == "mul" and n.args[0].dim >= SHORTEST_DOT:
            a, b = n.args[0].args
            if a.dim == b.dim and {a.axes, b.axes} == {row, column}:
                found.append((n, a, b) if a.axes == row else (n, b, a))
    return found


def choose(kernel: Kernel, sizes: Sizes, batch_rank: int, largest_offset: int, processors: int) -> Tile:
    """The tile for a problem, its sizes and a device with this many processors."""
    problem = kernel.problem
    kept, reduced = sizes.along(problem.kept), sizes.along(problem.over)
    dots = MATRIX_UNITS and problem.dtype == "float32" and bool(inner_products(kernel))
    rows, cols, warps = _dot_shape(kernel) if dots else _shape(kernel)
    while (
        rows > (SHORTEST_DOT if dots else 1) and rows >= 2 * kept
    ):  # few rows: the same number of pairs in more columns
        rows, cols = rows // 2, min(2 * cols, 1024)
    _, blocks = component_block(kernel)
    programs = -(-kept // rows) * math.prod(sizes.batch) * blocks
    merged = dict(problem.params).get("K", 0) <= LONGEST_MERGED_LIST
    split = merged and programs < BUSY * processors and reduced >= SPLIT_COLUMNS
    wide = max(kept, reduced, largest_offset) >= FIRST_WIDE or not fits_32_bits(problem.formulas)
    flush = FLUSH if kernel.machine.guard is None else FLUSH_COSTLY
    return Tile(rows, cols, warps, split, batch_rank, wide, flush, dots)


def _shape(kernel: Kernel) -> tuple[int, int, int]:
    """Rows, columns and warps.

    Where a test over all pairs of the tile decides whether a costly step is taken (logsumexp, lists), a program is one
    warp, so that the test needs no barrier.
    """
    size = kernel.problem.precision.size // 4
    if is_list(kernel):  # K values and K indices for each row
        k = int(dict(kernel.problem.params).get("K", 1))
        return (4, 2, 1)[0 if k <= 16 else 1 if k <= 32 else 2], 128 // size, 1
    block, _ = component_block(kernel)
    per_pair = size * sum(min(s.dim, block) for s in kernel.slots)  # registers of the state
    if kernel.machine.guard is not None and not kernel.machine.by_column:
        return (8, 64, 1) if per_pair <= 2 else (4, 32, 1)
    if long_folds(kernel):  # a component of 8 rows and 4 columns is loaded for 32 pairs
        return 8, 512 if per_pair == 1 else 256 if per_pair <= 2 else 128, 4
    rows = 16 if per_pair <= 2 else 8 if per_pair <= 4 else 4
    return rows, 128, 4


def _dot_shape(kernel: Kernel) -> tuple[int, int, int]:
    """The same where matrix units compute the terms: they give a thread two numbers of each of several rows."""
    if is_list(kernel):
        return 16, 128, 4
    block, _ = component_block(kernel)
    per_pair = sum(min(s.dim, block) for s in kernel.slots)
    return (32, 64, 4) if per_pair <= 2 else (16, 64, 4)


def parts_of(tile: Tile, sizes: tuple[int, int, int], processors: int) -> tuple[int, int]:
    """(parts, columns of a part) for (programs without parts, reduced size, kept size); at least 16 tiles in a part."""
    programs, reduced, _ = sizes
    if not tile.split:
        return 1, reduced
    wanted = -(-2 * BUSY * processors // programs)
    parts = max(1, min(PARTS, wanted, -(-reduced // (16 * tile.cols))))
    per_part = -(-reduced // (parts * tile.cols)) * tile.cols
    return -(-reduced // per_part), per_part
