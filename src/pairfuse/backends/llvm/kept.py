"""Writes the loops that compute kept vectors (lower/keep.py), and reads their components.

In: a KernelEmitter.  Out: lines in its builder.  A kept vector lies in the thread's scratch memory, vectors of lanes as
[component][column][row], for the columns of the step that is being written; each step writes it anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...ir.expr import Expr
from ...lower.scalar import loop_var
from .builder import Value

if TYPE_CHECKING:
    from .emit import KernelEmitter

KEPT_LOOP = 900  # depth of the loop over the components of a kept vector: beyond those of the formula's folds


class KeptVectors:
    """The kept vectors of all stages of one kernel."""

    def __init__(self, emitter: KernelEmitter):
        self.e = emitter
        self.b = emitter.b
        self.memory = ""
        if emitter.kernel.kept:
            self.memory = self.b.pointer(emitter.number_memory, str(emitter.layout.number_bytes), "i8")
        self.grid = (1, range(1))  # rows, and the columns of the step that has been computed

    def bodies(self, stage: str) -> list[Expr]:
        """A component of each vector of a stage, of the number that the loop knows."""
        return [self.e.scalars.at(f.expr, loop_var(KEPT_LOOP, f.expr.dim)) for f in self.e.kernel.kept_of(stage)]

    def compute(self, stage: str) -> None:
        """Compute the vectors of a stage, each by a loop over its components."""
        values = self.e.values
        rows, cols = (self.e.schedule.rows if stage in ("row", "pair") else 1), range(1)
        self.grid = (rows, values.window if stage == "pair" else cols)
        for f, body in zip(self.e.kernel.kept_of(stage), self.bodies(stage), strict=True):
            values.hoist(body, KEPT_LOOP)
            with self.b.loop("0", str(f.expr.dim), 1) as loop, values.inside(KEPT_LOOP, loop.index):
                value = self.b.expand(values(body), self.grid[0], len(self.grid[1]))
                places = self._places(f.leaf, loop_var(KEPT_LOOP), self.grid[1])
                for names, pointers in zip(value.grid, places, strict=True):
                    for name, pointer in zip(names, pointers, strict=True):
                        self.b.store(name, pointer, self.e.real)

    def read(self, leaf: Expr, d: int | Expr) -> Value:
        """Component d of a kept vector, for the columns of the window."""
        window = self.e.values.window if leaf.param("stage") == "pair" else self.grid[1]
        places = self._places(leaf, d, window)
        return Value(self.e.real, tuple(tuple(self.b.load(p, self.e.real) for p in row) for row in places))

    def _places(self, leaf: Expr, d: int | Expr, window: range) -> list[list[str]]:
        """The addresses of component d, for each row and for each column of the window."""
        b, (rows, cols) = self.b, self.grid
        vectors = rows * len(cols)
        first = b.let(f"mul i64 {self.e.offset(leaf.param('offset'), d)}, {vectors * b.lanes}")
        start = b.pointer(self.memory, first, self.e.real)
        return [
            [b.pointer(start, str(((u - cols.start) * rows + r) * b.lanes), self.e.real) for u in window]
            for r in range(rows)
        ]
