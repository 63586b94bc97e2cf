"""The schedule: how a problem is computed on a target. A pure choice, with documented thresholds; no timing here."""

from __future__ import annotations

from dataclasses import dataclass

from ..ir.expr import Expr, toposort
from ..ir.reductions import Machine
from .index_range import fits_32_bits
from .problem import Problem
from .ranges import Blocks
from .scalar import UNROLL, UNROLL_FOLD, UNROLL_LIST


@dataclass(frozen=True, slots=True)
class Target:
    """What the code generator must know of a processor."""

    name: str
    cpu: str
    features: str
    flags: frozenset[str]
    vector_bytes: int
    registers: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """How to walk over the pairs.

    lanes            elements of a vector
    lanes_on         "kept": a vector holds rows and columns are broadcast; "reduced": the other way round (few rows)
    rows             row vectors (or rows, when the lanes are on the reduced axis) of a tile
    cols             columns (or column vectors) taken at a time
    block            columns between two flushes of the short partial sums
    chunk            columns packed at a time
    index_bits       size of the integers of the formula, and of row and column numbers inside the loops
    split            are states merged: of the lanes of a row, of the threads that share its columns?
    unroll_state     longer vectors of the state live in memory and are renewed by a loop
    slice            columns whose terms a fold loop takes at a time, so that differences and sums fit the registers
    listed           do the rows come in blocks, each of which visits listed columns (ranges.py)?
    """

    lanes: int
    lanes_on: str
    rows: int
    cols: int
    block: int
    chunk: int
    index_bits: int
    split: bool
    unroll_state: int
    slice: int
    listed: bool = False

    @property
    def tile_rows(self) -> int:
        return self.rows * (self.lanes if self.lanes_on == "kept" else 1)

    @property
    def tile_cols(self) -> int:
        return self.cols * (1 if self.lanes_on == "kept" else self.lanes)


# Packed columns that one thread holds: half of a common second-level cache (benchmarks/NOTES.md, "Chunks").
CHUNK_BYTES = 256 * 1024
# Short sums run over this many columns before they are added to the long ones. 16 keeps the error of float32 sums
# below 2.7e-7 whatever their length, equal terms included (32: 5e-7) (benchmarks/NOTES.md, "Accumulation").
BLOCK = 16
# The same for vectors of sums in memory, whose columns are added up by steps of 8 before they join: as precise, and a
# quarter faster than blocks of 16.
BLOCK_LONG = 64


@dataclass(frozen=True, slots=True)
class SizeClass:
    """What a schedule may know of the sizes: kernels are compiled per class, never per size.

    few_rows     the lanes go to the reduced axis
    split        several threads share the columns of a row; their states are merged
    wide_index   row and column numbers need 64 bits (what a formula makes of them: lower/index_range.py)
    listed       blocks of rows visit listed columns
    """

    few_rows: bool
    split: bool
    wide_index: bool
    listed: bool = False


# Below this many pairs per row, sharing the columns of a row costs more than it gains.
SPLIT_COLUMNS = 8192


# A state of more components than this, of terms that a loop can walk without index arithmetic, is kept in memory:
# 16 sums of a tile in registers spill, and run at half the speed of the loop (benchmarks/NOTES.md, "Unrolling").
UNROLL_SUMS = 8


def unroll_state(machine: Machine, formulas: tuple[Expr, ...]) -> int:
    """The longest vector of the state that is written out."""
    if machine.by_column:
        return UNROLL_LIST
    nodes = [n for n in toposort(*formulas) if n.dim > 1]
    plain = all(n.op.elementwise or not n.args or "fold" in n.op.traits for n in nodes)
    return UNROLL_SUMS if plain else UNROLL


def is_long(problem: Problem) -> bool:
    """Does the state hold a vector too long to be written out?"""
    return any(s.dim > UNROLL for s in problem.machine().slots)


def mergeable(problem: Problem) -> bool:
    """May partial states be merged by generated code? The lists of K smallest grow as K squared."""
    return dict(problem.params).get("K", 0) <= 16 and not is_long(problem)


def classify(
    kept: int, reduced: int, batches: int, lanes: int, tile_rows: int, threads: int, both: bool = False
) -> SizeClass:
    """The class of these sizes, for a problem whose states may be merged; over `both` axes they always are."""
    few = kept <= lanes and reduced >= 16 * lanes
    if both:
        return SizeClass(few, False, max(kept, reduced) >= 2**31 - 2**16)
    units = batches * -(-kept // (1 if few else tile_rows))
    split = few or (threads > 1 and units < threads and reduced >= SPLIT_COLUMNS)
    return SizeClass(few, split, max(kept, reduced) >= 2**31 - 2**16)


def classify_blocks(blocks: Blocks, size: int, lanes: int, mergeable: bool) -> SizeClass:
    """The class of block-sparse ranges on axes of at most `size`: by the block that a pair lies in, on average."""
    rows = blocks.pairs / max(1, int(blocks.column_counts.sum()))
    columns = blocks.pairs / max(1, int(blocks.row_counts.sum()))
    few = mergeable and rows <= lanes // 2 and columns >= 16 * lanes
    return SizeClass(few, few, size >= 2**31 - 2**16, True)


def choose(problem: Problem, formulas: tuple[Expr, ...], sizes: SizeClass, target: Target) -> Schedule:
    """The schedule of a problem for a class of sizes."""
    size = problem.precision.size
    lanes = max(2, target.vector_bytes // size)
    rows, cols = _fitted(_tile(problem, formulas, target, sizes.few_rows), formulas)
    unit = cols * (lanes if sizes.few_rows else 1)
    unroll = unroll_state(problem.machine(), formulas)
    long_state = any(s.dim > unroll for s in problem.machine().slots)
    block = BLOCK_LONG if long_state else BLOCK * (lanes if sizes.few_rows else 1)
    block = -(-block // unit) * unit
    packed = sum(f.dim for f in problem.inputs if f.param("axis") == problem.columns) or 1
    chunk = max(block, CHUNK_BYTES // (packed * size) // block * block)
    bits = 32 if size == 4 and not sizes.wide_index and fits_32_bits(formulas) else 64
    on = "reduced" if sizes.few_rows else "kept"
    width = max(1, (8 if target.registers >= 32 else 2) // rows)
    return Schedule(lanes, on, rows, cols, block, chunk, bits, sizes.split, unroll, width, sizes.listed)


def _tile(problem: Problem, formulas: tuple[Expr, ...], target: Target, few_rows: bool) -> tuple[int, int]:
    """Row vectors and columns of the register tile (benchmarks/NOTES.md, "Tiles")."""
    machine = problem.machine()
    wide = target.registers >= 32
    long_fold = any(
        "fold" in n.op.traits and n.args[0].dim > UNROLL_FOLD and len(n.axes) == 2 for n in toposort(*formulas)
    )
    long_state = any(s.dim > unroll_state(machine, formulas) for s in machine.slots)
    if machine.by_column and long_state and formulas[0].dim > 1:
        return 1, 1  # columns are inserted one after the other, each by a loop over the components
    if few_rows:
        return 1, 4 if wide else 2
    if wide and not long_state and any(map(_vectors_of_pairs, formulas)):
        return 1, 4
    if long_fold or (long_state and not machine.by_column):
        return (2, 8) if wide else (2, 4)
    if machine.by_column:
        lists = any(s.dim > formulas[0].dim for s in machine.slots)
        return ((2, 8) if lists else (2, 4)) if wide else (1, 8)
    return 2, 4


# A tile is written out for each of its vectors. Of formulas of hundreds of operations the code would be so long that
# the compiler takes seconds for it; there is enough to interleave in one vector of them.
LONGEST_TILE = 8000
# Instructions of an exponential, a logarithm and their kin, roughly.
MATH_INSTRUCTIONS = 20


def _fitted(tile: tuple[int, int], formulas: tuple[Expr, ...]) -> tuple[int, int]:
    """The tile, with fewer columns and rows where the formulas are very long."""
    rows, cols = tile
    size = sum(_instructions(n) for n in toposort(*formulas) if len(n.axes) == 2)
    while rows * cols > 1 and rows * cols * size > LONGEST_TILE:
        rows, cols = (rows, cols // 2) if cols >= rows else (rows // 2, cols)
    return rows, cols


def _instructions(node: Expr) -> int:
    """How long the code for one pair is, roughly."""
    math = isinstance(node.op.llvm, str) and node.op.llvm.startswith("math:")
    return min(node.dim, UNROLL) * (MATH_INSTRUCTIONS if math else 1)


def _vectors_of_pairs(formula: Expr) -> bool:
    """Is the formula a vector that is made of vectors of pairs, x_i - y_j, as derivatives are?

    They stay in registers while the rest of the formula is computed: a tile of two rows spills, and takes 7 % (the
    Gaussian and its derivative, 3 components) to 50 % longer (benchmarks/NOTES.md, "Tiles").
    """
    nodes = toposort(formula) if formula.dim > 1 else []
    return any(a.dim > 1 and len(a.axes) == 2 for n in nodes for a in n.args)
