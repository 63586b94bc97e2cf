"""Vectors that loops read again and again (lower/keep.py), as Triton source: computed once per tile, kept in memory.

In: an emitter.  Out: lines that compute and read them.  Registers cannot be numbered at run time, and written out, a
product of a matrix and a vector would be as many lines as the matrix has entries.  So every program has a piece of
global memory, small enough to stay in the caches, to which a loop writes the components one after the other.

    parameter, row, column, pair    the vectors of these stages, by component: blocks (1, 1), (BM, 1), (1, BN), (BM, BN)

Long fields of a stage that are made by folds are kept as well: others are computed where they are read.  There are only
so many programs as the device runs at a time, and each takes several tiles of rows in turn, so that the memory does not
grow with the number of rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...ir.expr import Expr, toposort
from ...lower.kernel import Field, Kernel
from ...lower.scalar import loop_var
from .tile import LONGEST_WRITTEN_OUT, Tile
from .wide import wide_of

if TYPE_CHECKING:
    from .emit import TritonEmitter

STAGES = ("parameter", "row", "column", "pair")
KEPT_LOOP = 900  # the number of the loop over the components, beyond those of the loops of lower/scalar.py
# Programs per processor: so many of 4 warps run at a time where each thread takes some 128 registers.
PROGRAMS = 4
# Bytes of all programs at most.
LIMIT = 2**27


def kept_fields(kernel: Kernel, tile: Tile, stage: str) -> tuple[Field, ...]:
    """The vectors of a stage that are kept, arguments first."""
    if tile.dots or wide_of(kernel) is not None:
        return ()
    fields = () if stage == "pair" else kernel.fields(stage)
    return kernel.kept_of(stage) + tuple(f for f in fields if _is_costly(f.expr))


def _is_costly(expr: Expr) -> bool:
    """Is a long vector made by folds of others?"""
    return expr.dim > LONGEST_WRITTEN_OUT and any("fold" in n.op.traits and n.dim > 1 for n in toposort(expr))


def numbers_of_program(kernel: Kernel, tile: Tile) -> int:
    """Numbers that one program keeps."""
    blocks = {"parameter": 1, "row": tile.rows, "column": tile.cols, "pair": tile.rows * tile.cols}
    return sum(blocks[stage] * f.expr.dim for stage in STAGES for f in kept_fields(kernel, tile, stage))


def programs_at_a_time(kernel: Kernel, tile: Tile, processors: int) -> int:
    """Programs that are started, each of which keeps vectors of its own."""
    size = numbers_of_program(kernel, tile) * kernel.problem.precision.size
    return max(1, min(PROGRAMS * processors, LIMIT // max(1, size)))


class KeptVectors:
    """Writes the kept vectors of one kernel."""

    def __init__(self, emitter: TritonEmitter):
        self.emitter, self.source = emitter, emitter.source
        self.fields = {stage: kept_fields(emitter.kernel, emitter.tile, stage) for stage in STAGES}
        self.offsets: dict[Expr, tuple[str, int]] = {}  # of the leaves: their stage, and where they start
        for stage, fields in self.fields.items():
            start = 0
            for f in fields:
                self.offsets[f.leaf] = stage, start
                start += f.expr.dim

    def __bool__(self) -> bool:
        return bool(self.offsets)

    def start(self) -> None:
        """The piece of this program."""
        blocks = {"parameter": "1", "row": "BM", "column": "BN", "pair": "BM * BN"}
        widths = {stage: sum(f.expr.dim for f in self.fields[stage]) for stage in STAGES}
        sizes = {stage: f"{widths[stage]} * {blocks[stage]}" for stage in STAGES}
        self.source.line(f"kept_size = {' + '.join(sizes.values())}")
        place = "kept_memory + tl.program_id(0).to(tl.int64) * kept_size"
        for stage in STAGES:
            self.source.line(f"kept_{stage} = {place}")
            place = f"kept_{stage} + {sizes[stage]}"

    def compute(self, stage: str) -> None:
        """Compute the vectors of a stage. A vector may be read by other threads than those that have written it."""
        s, e = self.source, self.emitter
        for f in self.fields[stage]:
            s.loops[KEPT_LOOP] = s.fresh("d")
            body = s.scalars_here(e.scalars.unroll_fold).at(f.expr, loop_var(KEPT_LOOP, f.expr.dim))
            head = f"for {s.loops[KEPT_LOOP]} in tl.range(0, {f.expr.dim}):"
            number = s.loops.pop(KEPT_LOOP)
            s.hoist(body, KEPT_LOOP)
            s.line("tl.debug_barrier()")
            with s.block(head):
                s.loops[KEPT_LOOP] = number
                value = f"tl.broadcast_to({s(body)}, {self._shape(stage)})"
                s.line(f"tl.store({self._place(f.leaf, loop_var(KEPT_LOOP))}, {value})")
                del s.loops[KEPT_LOOP]
            s.line("tl.debug_barrier()")

    def read(self, leaf: Expr, d: int | Expr) -> str:
        """Component d of a kept vector."""
        return self.source.let(f"tl.load({self._place(leaf, d)})")

    def _shape(self, stage: str) -> str:
        columns = self.emitter.columns.size
        return {"parameter": "(1, 1)", "row": "(BM, 1)", "column": f"(1, {columns})", "pair": f"(BM, {columns})"}[stage]

    def _place(self, leaf: Expr, d: int | Expr) -> str:
        stage, start = self.offsets[leaf]
        number = f"({start} + {d if isinstance(d, int) else self.source(d)})"
        row = "tl.arange(0, BM)[:, None]"
        column = f"tl.arange(0, {self.emitter.columns.size})[None, :]"
        inside = {
            "parameter": f"{number} + tl.zeros((1, 1), tl.int32)",
            "row": f"{number} * BM + {row}",
            "column": f"{number} * BN + {column}",
            "pair": f"{number} * (BM * BN) + {row} * BN + {column}",
        }
        return f"kept_{stage} + {inside[stage]}"
