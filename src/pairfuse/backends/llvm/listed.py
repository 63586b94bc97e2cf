"""Writes the walk of a block-sparse kernel: blocks of rows, each with its own list of intervals of columns.

In: a KernelEmitter whose schedule says `listed`.  Out: lines in its builder, in the place of the loops over chunks of
all columns.  The tables that the kernel reads are made by tables.py; their entries are int64:

    blocks   first row, end of the rows, first fill, end of the fills
    fills    first piece, end of the pieces, columns
    pieces   first column, end of the columns, place of the first one among the packed columns

A *fill* is what is packed at a time: the pieces of several intervals side by side, so that the loops over pairs, which
are those of a dense kernel, see one range of columns however short the intervals are.  Only the numbers of the columns
are no longer those of their places: where a formula or the machine asks for them, they are packed, too.

    for every block:            the state of its rows is set to its initial values
      for every fill:           its pieces are packed
        for every tile of rows  as in a dense kernel
      the state is finished, unless rows are summed over, too
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...ir.expr import index, toposort
from ...lower.kernel import Kernel
from . import layout as words
from .builder import Value

if TYPE_CHECKING:
    from .emit import KernelEmitter

# Words of an entry of each table.
BLOCK_WORDS, FILL_WORDS, PIECE_WORDS = 4, 3, 3


def needs_numbers(kernel: Kernel) -> bool:
    """Does the pair stage, or the machine, ask for the numbers of the columns?"""
    number = index(kernel.problem.columns)
    return any(s.kind == "index" for s in kernel.slots) or any(n is number for n in toposort(*kernel.terms))


class ListedWalk:
    """The walk of one kernel over the blocks, fills and pieces of the tables."""

    def __init__(self, emitter: KernelEmitter):
        self.e = emitter
        self.b = emitter.b
        self.numbered = needs_numbers(emitter.kernel)
        self.tables = [self._table(word) for word in (words.BLOCK_TABLE, words.FILL_TABLE, words.PIECE_TABLE)]

    def _table(self, word: int) -> str:
        return self.b.let(f"inttoptr i64 {self.e.word(word)} to ptr")

    def _entry(self, table: int, number: str, count: int) -> list[str]:
        """The words of an entry."""
        b = self.b
        start = b.pointer(self.tables[table], b.let(f"mul i64 {number}, {count}"), "i64")
        return [b.let(f"load i64, ptr {b.pointer(start, str(k), 'i64')}, align 8") for k in range(count)]

    # ------------------------------------------------------------------ blocks
    def walk(self, batch: str) -> None:
        """All blocks of the task, for one batch."""
        b, e = self.b, self.e
        if e.problem.both:
            e.local_units = str(e.layout.units(1))
            e.pairs.state.initialise()
        with b.loop(e.word(words.BLOCKS_BEGIN), e.word(words.BLOCKS_END), 1) as block:
            e.row_begin, e.row_end, first, last = self._entry(0, block.index, BLOCK_WORDS)
            if not e.problem.both:
                e.local_units = self._units()
                e.pairs.state.initialise()
            with b.loop(first, last, 1) as fill:
                b.if_scalar(e.go_on(), lambda: self._fill(fill.index), [])
            if not e.problem.both:
                e.call_finish(batch)

    def _units(self) -> str:
        """Units of state of the rows of the block, padded to whole tiles (as Layout.units)."""
        b, schedule = self.b, self.e.schedule
        rows = b.let(f"sub i64 {self.e.row_end}, {self.e.row_begin}")
        tiles = b.let(f"sdiv i64 {b.let(f'add i64 {rows}, {schedule.tile_rows - 1}')}, {schedule.tile_rows}")
        lanes = 1 if self.e.on_rows else schedule.lanes
        return b.let(f"mul i64 {tiles}, {schedule.tile_rows * lanes}")

    # ------------------------------------------------------------------ fills
    def _fill(self, fill: str) -> list[Value]:
        first, last, columns = self._entry(1, fill, FILL_WORDS)
        with self.b.loop(first, last, 1) as piece:
            self._pack(piece.index)
        self.e.tiles("0", columns)
        return []

    def _pack(self, piece: str) -> None:
        """Pack the columns of a piece. Beyond its end a vector repeats the last one, until the next piece is packed."""
        begin, end, place = self._entry(2, piece, PIECE_WORDS)
        self.e.pack_columns(begin, end, self.b.let(f"sub i64 {begin}, {place}"))
        if self.numbered:
            with self.b.loop(begin, end, self.b.lanes) as loop:
                at = self.b.let(f"add i64 {place}, {self.b.let(f'sub i64 {loop.index}, {begin}')}")
                self.b.store(self.e.numbers(loop.index, end), self._number_place(at), "i64")

    def _number_place(self, place: str) -> str:
        return self.b.pointer(self.e.number_memory, place, "i64")

    # ------------------------------------------------------------------ the numbers of packed columns
    def column_number(self, place: str) -> str:
        """The number of the column packed at a place, a scalar."""
        return self.b.let(f"load i64, ptr {self._number_place(place)}, align 8")

    def column_numbers(self, place: str) -> str:
        """The numbers of a vector of columns."""
        return self.b.load(self._number_place(place), "i64")
