"""States of rows that are renewed tile by tile, as Triton source: where the terms come from matrix units.

In: an emitter.  Out: lines that start, renew and flush the states.  Matrix units give a thread a few numbers of each of
two rows or more.  A state per pair would double the registers of the tile; folding it costs one operation per pair, as
the state per pair does, and some exchanges between four neighbouring threads.  So the steps of the record are taken
once per tile, with `fold_columns` over the tile, on blocks (rows, 1); wide sums (wide.py) are blocks (rows, components)
that a matrix product renews.

The sums of some tiles (`flush`) are of the type of the data, and are then added to those of the rows, of 64 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...ir.expr import Expr, leaf
from ...lower.scalar import loop_var
from .guards import some_row
from .operands import Operand, parts_of_sum
from .plan import COMPONENT_LOOP, DOWN, ONE, WIDE_LOOP
from .wide import place, summand

if TYPE_CHECKING:
    from .emit import TritonEmitter

# What does not count in a fold.
NEUTRAL = {"sum": "0.0", "min": 'float("inf")', "max": 'float("-inf")'}


class FoldedStates:
    """Writes what happens to the states of the rows in a tile."""

    def __init__(self, emitter: TritonEmitter):
        self.emitter, self.source, self.plan = emitter, emitter.source, emitter.plan
        self.machine = emitter.machine
        self.moved = emitter.dots.operand_of_sum("moved")
        self.best = leaf("slot", "real", name="best of F0", dim=emitter.term_leaves[0].dim, side="f")

    def start(self) -> dict[Expr, str]:
        keys = self.plan.keys(self.emitter.scalars, self.emitter.state_leaves)
        each = enumerate(zip(keys, self.plan.each_slot(), strict=True))
        names = {key: f"tile_{slot.name}_{k}" for k, (key, slot) in each}
        self._reset(names, everything=True)
        if self.moved is not None:
            self.source.line("row_weight = tl.zeros((BM, 1), tl.float64)")
        return names

    def _reset(self, names: dict[Expr, str], everything: bool) -> None:
        """The states over no column; slots that the guard reads keep their values."""
        for slot, name in zip(self.plan.each_slot(), names.values(), strict=True):
            if everything or slot.additive or self.machine.guard is None:
                value = self.emitter.rows.initial(slot, self.plan.type_of(slot.kind), self.plan.columns(slot))
                self.source.line(f"{name} = {value}")
        if self.moved is not None:
            self.source.line("tile_weight = tl.zeros((BM, 1), tl.float32)")

    # ------------------------------------------------------------------ a tile
    def update(self, names: dict[Expr, str]) -> None:
        e, s, machine = self.emitter, self.source, self.machine
        e.terms()
        e.bind(names)
        if machine.revise is not None:
            assert machine.fold is not None
            for d in range(self.best.dim):
                term = s(e.scalars.at(e.term_leaves[0], d))
                s.bind(e.scalars.at(self.best, d), self._fold(machine.fold, term))
            with s.scope():
                condition = some_row(e, self.best)
                with s.block(f"if {condition}:"):
                    self._replace(names, machine.revise(e.state_leaves, self.best, e.column_leaf))
        s.fold = self._fold
        self._replace(names, machine.update(e.state_leaves, e.term_leaves, e.column_leaf), products=True)
        s.fold = None

    def _fold(self, fold: str, block: str) -> str:
        """A fold of the columns of the tile that count."""
        s = self.source
        full = f"tl.broadcast_to({block}, {self.emitter.columns.pairs})"
        if self.emitter.masked:
            full = f"tl.where({self.emitter.columns.valid}, {full}, {NEUTRAL[fold]})"
        return s.let(f"tl.{fold}({full}, 1, keep_dims=True)")

    def _replace(self, names: dict[Expr, str], new: tuple[Expr, ...], products: bool = False) -> None:
        """Assign the new state of the rows, all of it computed from the old one."""
        s, e = self.source, self.emitter
        assignments: list[tuple[str, str]] = []
        with s.scope():
            for slot, value, old in zip(self.machine.slots, new, e.state_leaves, strict=True):
                for d in self.plan.places(slot) if value is not old else ():
                    name = names[e.scalars.at(old, d)]
                    if products and self.plan.is_wide(slot):
                        assignments.append((name, self._wide(name, value, old)))
                    else:
                        shape = f"(BM, {self.plan.columns(slot)})"
                        x = f"tl.broadcast_to({s(e.scalars.at(value, d))}, {shape}).to({self.plan.type_of(slot.kind)})"
                        assignments.append((name, s.let(x)))
        for name, value in assignments:
            s.line(f"{name} = {value}")
        e.bind(names)

    # ------------------------------------------------------------------ wide sums
    def _wide(self, name: str, value: Expr, old: Expr) -> str:
        """The state of a wide slot and the sum of this tile."""
        s, e, wide = self.source, self.emitter, self.plan.wide
        assert wide is not None
        left = s(e.scalars.at(summand(value, old, wide, e.term_leaves[wide.term]), 0))
        left = f"tl.broadcast_to({left}, {e.columns.pairs})"
        left = s.let(f"tl.where({e.columns.valid}, {left}, 0.0)" if e.masked else left)
        if wide.pair is None:
            return s.let(f"{name} + {self._product(left)}")
        if e.differences:
            return self._differences(name, left)
        s.line(f"tile_weight += tl.sum({left}, 1, keep_dims=True)")
        return s.let(f"{name} - {self._product(left)}")

    def _product(self, left: str) -> str:
        """The block of numbers times the block of vectors.

        Both are cut in parts of bfloat16; products of small parts are added first. A tile has a sum of its own, because
        matrix units cut the sums that they round.
        """
        s, e = self.source, self.emitter
        lefts, rights = parts_of_sum(e.kernel, e.tile)
        right = self._right(rights)
        products = [(m, n) for m in range(lefts) for n in range(rights) if m + n < max(lefts, rights)]
        parts: list[str] = []
        for m in range(lefts):
            parts.append(s.let(f"{left}.to({right[0]}.dtype)"))
            if m + 1 < lefts:
                left = s.let(f"{left} - {parts[m]}.to(tl.float32)")
        total = s.let(f"tl.zeros((BM, {self.plan.block}), tl.float32)")
        for m, n in sorted(products, key=sum, reverse=True):
            s.line(f"{total} = multiply({parts[m]}, {right[n]}, {total})")
        return total

    def _component(self, dim: int) -> int | Expr:
        """The numbers of the components of this program, in a vector."""
        component, number = loop_var(COMPONENT_LOOP), loop_var(WIDE_LOOP)
        return place(dim, self.plan.block, self.plan.blocks, component, number)

    def _right(self, parts: int) -> list[str]:
        """The vectors of the columns of this tile: blocks (columns, components), zeros beyond the last column."""
        s, e, wide = self.source, self.emitter, self.plan.wide
        assert wide is not None
        shape = f"({e.columns.size}, {self.plan.block})"
        with e.seen(DOWN):
            prepared = e.dots.operand_of_sum("parts")
            if prepared is None:
                found = [e.stored(wide.right, self._component(wide.right.dim))]
            else:
                first = self._place_of(prepared, e.columns.down_inside)
                found = [s.let(f"tl.load({name} + {first})") for name in prepared.arrays][:parts]
            if e.masked:
                there = f"tl.broadcast_to({e.columns.down} < stop, {shape})"
                found = [s.let(f"tl.where({there}, {x}, 0.0)") for x in found]
        return found

    def _place_of(self, operand: Operand, line: str) -> str:
        """Where the components of this program stand in the arrays of an operand."""
        k = operand.number
        return f"(q{k} + {line}) * {operand.length} + block * {self.plan.block} + wide"

    def _differences(self, name: str, left: str) -> str:
        """The same from differences of the vectors of each row and each column, one column after the other."""
        s, e, wide = self.source, self.emitter, self.plan.wide
        assert wide is not None
        assert wide.row is not None
        columns, k = e.columns, s.fresh("k")
        total = s.let(name)
        with s.block(f"for {k} in range(0, tl.minimum({columns.size}, stop - {e.first})):"):
            s.line(f"{columns.one} = {e.first} + {k} + tl.zeros((1, 1), {self.plan.index})")
            weight = s.let(f"tl.sum(tl.where({columns.number} == {columns.one}, {left}, 0.0), 1, keep_dims=True)")
            with e.seen(ONE):
                ends = [s(e.scalars.at(v, self._component(v.dim))) for v in (wide.row, wide.right)]
            s.line(f"{total} += {weight} * ({ends[0]} - {ends[1]})")
        return total

    def flush(self, names: dict[Expr, str], rows: dict[Expr, str]) -> None:
        """The states of the last tiles join those of the rows."""
        self.emitter.rows.merge(rows, list(names.values()))
        if self.moved is not None:
            self.source.line("row_weight += tile_weight.to(tl.float64)")
        self._reset(names, everything=False)

    def end(self, rows: dict[Expr, str]) -> None:
        """Add what is in common of the sums of differences by products: the vector of the row, times all numbers."""
        if self.moved is None:
            return
        x = self.source.let(f"tl.load(moved{self.moved.number} + {self._place_of(self.moved, 'row_in')})")
        for slot, name in zip(self.plan.each_slot(), rows.values(), strict=True):
            if self.plan.is_wide(slot):
                # a row all of whose tiles were computed by differences may be infinite
                self.source.line(f"{name} += tl.where(row_weight != 0.0, {x} * row_weight, 0.0)")
