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
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...dtypes import STORED
from ...ir.expr import Expr, toposort
from ...lower.contract import contractions
from ...lower.index_range import fits_32_bits
from ...lower.kernel import Kernel
from ...lower.problem import Sizes
from .wide import wide_of
from .worth import worth

# Components of the result that one program computes: with 8 accumulators per pair, 8 pairs fill 64 registers.
COMPONENTS = 8
# The same beside products of matrices, which give a thread the columns of 16 or 32 pairs: 8 components of them spill.
COMPONENTS_OF_PRODUCTS = 4
# Rows of 4096 columns are not worth sharing among programs: a part should last longer than a launch.
SPLIT_COLUMNS = 4096
# Matrix units multiply blocks of 16 rows at least.
FEWEST_ROWS = 16
# Components of a wide sum that one program computes: the state in 64 bits of 64 rows by 64 components is 64 registers
# of 4 warps. 8 warps could keep 128 of them, but would compute every number of a pair twice.
WIDEST = 64
# The same where differences are summed, and the distance is multiplied, too: with 64, the tile would have half the
# columns, and would take as many instructions for each pair and component.
WIDEST_DIFFERENCES = 32
UNROLL_FOLD = 8  # sums over more components are loops
LONGEST_WRITTEN_OUT = 16  # longer vectors of a stage are read by the loops that use them
# Numbers of kept vectors (kept.py) that the tile of a program may take; with more of them it has fewer rows.
KEPT_NUMBERS = 2**20
# Programs per processor below which a device is not busy: 4 programs of 4 warps are a quarter of its warps.
BUSY = 4
PARTS = 256  # parts of the columns at most: the merge reads as many states per row
# Lists of the K smallest are written out, and merged by code that grows as K squared.
LONGEST_LIST = 64
LONGEST_MERGED_LIST = 16
# Column tiles whose terms are added in the type of the data, before the sum is added to one of 64 bits.
FLUSH = 64
FLUSH_COSTLY = 128  # the same where that takes exponentials (logsumexp)
FLUSH_MATRICES = 16  # the same for tiles of matrix units, which cut the sums that they round
SHORT_OPERANDS = 64  # longer vectors, and vectors of results, leave registers for half as many pairs
UNROLLED_OPERANDS = 128  # longer operands are read piece by piece, in a loop
WARPGROUPS = 90  # from this capability on, matrix units read both factors from shared memory
PADDING = 64  # operands may be longer than the vectors by this much
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
    dots         what inner products and squared distances are multiplied from by the matrix units: "split", "rounded",
                 "stored" operands (operands.py); "" where they are computed component by component
    sums         what the vectors of a wide sum are multiplied from: "parts" (operands.py), or as they are "stored"
    stages       column tiles whose operands are in shared memory: one is multiplied, the others are on their way
    carried      do the columns come in chunks, one launch after the other, that read and keep the states of the rows?
    listed       are rows, and the intervals of columns that they visit, read from tables (listed.py)?
    columns      how the threads of a program share the columns of the tile: "adjacent" ones, where neighbouring numbers
                 are loaded at once; "apart", one in every so many as there are threads; "" where it is not known
    """

    rows: int
    cols: int
    warps: int = 4
    split: bool = False
    batch_rank: int = 0
    wide: bool = False
    flush: int = FLUSH
    dots: str = ""
    sums: str = "parts"
    stages: int = 2
    carried: bool = False
    listed: bool = False
    columns: str = ""


def is_list(kernel: Kernel) -> bool:
    """Does the state hold lists (of the K smallest)?"""
    return kernel.machine.by_column and any(s.dim > t.dim for s in kernel.slots for t in kernel.terms[:1])


def component_block(kernel: Kernel) -> tuple[int, int]:
    """Components of the result that one program computes, and the number of such blocks."""
    width = max(t.dim for t in kernel.terms)
    wide = wide_of(kernel)
    if wide is not None:
        widest = WIDEST if wide.pair is None else WIDEST_DIFFERENCES
        block = min(widest, 1 << (width - 1).bit_length())
        return block, -(-width // block)
    most = COMPONENTS_OF_PRODUCTS if dots_of(kernel, ()) else COMPONENTS
    blocks = width if kernel.machine.by_column else -(-width // most)
    return -(-width // blocks), blocks


def long_folds(kernel: Kernel) -> bool:
    """Do the pairs fold vectors (distances, inner products) so long that a loop walks over their components?"""
    nodes = toposort(*kernel.terms)
    return any("fold" in n.op.traits and n.args[0].dim > UNROLL_FOLD and len(n.axes) == 2 for n in nodes)


def stored_type(kernel: Kernel, node: Expr, types: Sequence[str]) -> str:
    """The type of 16 bits in which a field is stored that is an input; "" for all others."""
    found = kernel.definition(node)
    kind = str(types[found.param("slot")]) if found.name == "input" and types else ""
    return kind if kind in STORED else ""


def dots_of(kernel: Kernel, types: Sequence[str]) -> str:
    """What the matrix units multiply for the contractions of the terms (`Tile.dots`)."""
    problem = kernel.problem
    nodes = contractions(*kernel.terms)
    vectors = kernel.machine.by_column and kernel.terms[0].dim > 1
    if problem.dtype != "float32" or not nodes or vectors or problem.reduction == "prod" or kernel.kept:
        return ""  # Triton folds sums, minima and maxima of the columns of a tile by itself, products of numbers not
    kinds = [tuple(stored_type(kernel, a, types) for a in n.args) for n in nodes]
    if all(a and a == b for a, b in kinds) and any(worth(kernel, n, True) for n in nodes):
        return "stored"
    return ("rounded" if problem.fast else "split") if any(worth(kernel, n, False) for n in nodes) else ""


def sums_of(kernel: Kernel, types: Sequence[str]) -> str:
    """What the vectors of a wide sum are multiplied from (`Tile.sums`).

    Numbers of pairs may be larger than float16 can hold, so that only bfloat16 is multiplied as it is stored, unless
    it is moved to the centre of a distance.
    """
    wide = wide_of(kernel)
    if wide is None or stored_type(kernel, wide.right, types) != "bfloat16":
        return "parts"
    return "stored" if wide.pair is None or dots_of(kernel, types) == "stored" else "parts"


def kept_by_row(kernel: Kernel, tile: Tile) -> bool:
    """Is there a state per row only, renewed once per tile (folded.py)?"""
    return wide_of(kernel) is not None or (bool(tile.dots) and not is_list(kernel))


def choose(
    kernel: Kernel,
    sizes: Sizes,
    batch_rank: int,
    largest_offset: int,
    processors: int,
    types: Sequence[str] = (),
    capability: int = WARPGROUPS,
) -> Tile:
    """The tile for a problem, its sizes, the types of its tensors, and a device with so many processors.

    capability: of the device, as NVIDIA counts (80, 90).
    """
    problem = kernel.problem
    kept, reduced = sizes.along(problem.kept), sizes.along(problem.over)
    dots, sums = dots_of(kernel, types), sums_of(kernel, types)
    matrices = bool(dots) or wide_of(kernel) is not None
    longest = max((n.args[0].dim for n in contractions(*kernel.terms)), default=0) if dots else 1
    if matrices:
        rows, cols, warps = _matrix_shape(kernel, dots, longest, capability)
        most = 64 if wide_of(kernel) is not None else 128 if longest > SHORT_OPERANDS or is_list(kernel) else 256
    else:
        rows, cols, warps = shape_without_matrices(kernel)
        most = 1024
    fewest = FEWEST_ROWS if matrices else 1
    while rows > fewest and rows >= 2 * kept:  # few rows: the same number of pairs in more columns
        rows, cols = rows // 2, min(2 * cols, most)
    _, blocks = component_block(kernel)
    programs = -(-kept // rows) * math.prod(sizes.batch) * blocks
    merged = dict(problem.params).get("K", 0) <= LONGEST_MERGED_LIST
    split = merged and programs < BUSY * processors and reduced >= SPLIT_COLUMNS
    far = max(kept, reduced) * (longest + PADDING)
    flush = FLUSH if kernel.machine.guard is None else FLUSH_COSTLY
    tile = Tile(rows, cols, warps, split, batch_rank, False, FLUSH_MATRICES if matrices else flush, dots, sums)
    large = max(kept, reduced, largest_offset, far) >= FIRST_WIDE
    return widened(tile, kernel) if large or not fits_32_bits(problem.formulas) else tile


def widened(tile: Tile, kernel: Kernel) -> Tile:
    """The tile with numbers of 64 bits, which fill the registers where they stand in lists: those are of fewer rows."""
    rows = max(1, tile.rows // 2) if is_list(kernel) and not tile.wide else tile.rows
    return replace(tile, wide=True, rows=rows)


def shape_without_matrices(kernel: Kernel) -> tuple[int, int, int]:
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
    if kernel.kept:  # a thread reads each component of some pairs, for as many multiplications
        rows = 4
        while rows > 1 and rows * 128 * kernel.kept_width("pair") > KEPT_NUMBERS:
            rows //= 2
        return rows, 128, 4
    if long_folds(kernel):  # a component of 8 rows and 4 columns is loaded for 32 pairs
        return 8, 512 if per_pair == 1 else 256 if per_pair <= 2 else 128, 4
    rows = 16 if per_pair <= 2 else 8 if per_pair <= 4 else 4
    return rows, 128, 4


def _matrix_shape(kernel: Kernel, dots: str, longest: int, capability: int) -> tuple[int, int, int]:
    """The same where matrix units multiply: they give a thread a few numbers of each of two rows or more.

    A wide sum keeps its state in 64 bits, that of the last tiles, and the product of this one, which leaves registers
    for 16 pairs; before WARPGROUPS, the factors of all products are in registers, too. What spills otherwise is found
    by tools/gpu_registers.py: with 64 x 64, K @ B up to 2376 bytes, a Gaussian of D=128 on sm_80 528 bytes.
    """
    wide = wide_of(kernel)
    short = longest <= SHORT_OPERANDS
    if wide is None:
        block, _ = component_block(kernel)
        room = capability >= WARPGROUPS or (short and block == 1)
        return 64, 64 if room else 32, 4
    if wide.pair is not None:
        cols = 64 if short else 32
        if capability < WARPGROUPS:
            return 16, cols, 2
        return 64, cols, 4 if longest <= UNROLLED_OPERANDS else 8
    if capability >= WARPGROUPS:
        return 64, 32, 4
    return (16, 64, 2) if dots else (64, 16, 4)


def parts_of(tile: Tile, sizes: tuple[int, int, int], processors: int) -> tuple[int, int]:
    """(parts, columns of a part) for (programs without parts, reduced size, kept size); at least 16 tiles in a part."""
    programs, reduced, _ = sizes
    if not tile.split:
        return 1, reduced
    wanted = -(-2 * BUSY * processors // programs)
    parts = max(1, min(PARTS, wanted, -(-reduced // (16 * tile.cols))))
    per_part = -(-reduced // (parts * tile.cols)) * tile.cols
    return -(-reduced // per_part), per_part
