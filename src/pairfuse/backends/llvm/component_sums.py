"""Sums over the components of a long vector, in blocks: their error does not grow like their length.

In: the size of a sum, and how a run of its components is added up in registers.  Out: the value of the sum.

Inside of a block the loop is what it would be for a short vector.  Blocks are added up in memory (lower/long_sums.py
says how they are cut): a block costs an addition, a load and a store for each vector of the tile, beside the 64 or 128
operations of its components (benchmarks/NOTES.md, "Long vectors").
"""

from __future__ import annotations

from collections.abc import Callable

from ...lower.long_sums import BLOCK, levels
from .builder import Builder, Value

# Sums the components from `start` to `stop`, both i64, in registers.
Run = Callable[[str, str], Value]


class ComponentSums:
    """Writes long sums of one function; those that are open inside of each other have separate memory."""

    def __init__(self, b: Builder, elem: str):
        self.b, self.elem = b, elem
        self.open = 0
        self.memory: dict[tuple[int, int, int, int], str] = {}

    def total(self, size: int, shape: tuple[int, int], run: Run) -> Value:
        """The sum of components 0 to size - 1, a grid of this shape."""
        self.open += 1
        try:
            return self._of_blocks(levels(size), "0", str(size), shape, run)
        finally:
            self.open -= 1

    def _of_blocks(self, level: int, start: str, stop: str, shape: tuple[int, int], run: Run) -> Value:
        if level == 0:
            return run(start, stop)
        b = self.b
        places = self._places(level, shape)
        self._store(b.const(self.elem, 0.0), places, shape)
        with b.loop(start, stop, BLOCK**level) as blocks:
            over = b.let(f"add i64 {blocks.index}, {BLOCK**level}")
            below = b.let(f"icmp slt i64 {over}, {stop}")
            end = b.let(f"select i1 {below}, i64 {over}, i64 {stop}")
            part = self._of_blocks(level - 1, blocks.index, end, shape, run)
            self._store(b.fadd(self._load(places, shape), part), places, shape)
        return self._load(places, shape)

    # ------------------------------------------------------------------ memory
    def _places(self, level: int, shape: tuple[int, int]) -> list[str]:
        """Where the vectors of the sum of a level are, row after row."""
        rows, cols = shape
        key = (self.open, level, rows, cols)
        if key not in self.memory:
            self.memory[key] = self.b.stack(self.b.vec(self.elem), rows * cols)
        ty = self.b.vec(self.elem)
        return [self.b.let(f"getelementptr {ty}, ptr {self.memory[key]}, i64 {k}") for k in range(rows * cols)]

    def _store(self, x: Value, places: list[str], shape: tuple[int, int]) -> None:
        names = [name for row in self.b.expand(x, *shape).grid for name in row]
        for name, place in zip(names, places, strict=True):
            self.b.store(name, place, self.elem)

    def _load(self, places: list[str], shape: tuple[int, int]) -> Value:
        cols = shape[1]
        names = [self.b.load(place, self.elem) for place in places]
        return Value(self.elem, tuple(tuple(names[k : k + cols]) for k in range(0, len(names), cols)))
