"""Writes how the state of a tile is kept: in registers, in the tile memory, and in the doubles of the state.

In: a KernelEmitter and its slots.  Out: lines in its builder.  Short slots live in registers, carried by the loops;
long ones (vectors, lists) in the tile memory.  Additive slots are short sums in the data's type, which `flush` adds to
the doubles of the state after every block; float64 sums keep the rounding errors beside.  A sum over both axes has one
tile of units for all tiles of rows: what lies beyond the last row is left out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ...ir.expr import Expr
from ...ir.reductions import Slot
from ...lower.scalar import UNROLL, loop_var
from .builder import Builder, Value

if TYPE_CHECKING:
    from .emit import KernelEmitter

SLOT_LOOP = 2000  # depth of the loop over the components of the long slots
DOUBLE = "double"


def rounding_error(b: Builder, a: str, x: str, total: str) -> str:
    """The rounding error of total = a + x, exactly (Knuth's two-sum); 0 where it is not a number."""
    ty = b.vec(DOUBLE)
    part = b.let(f"fsub {ty} {total}, {a}")
    error_a = b.let(f"fsub {ty} {a}, {b.let(f'fsub {ty} {total}, {part}')}")
    error_x = b.let(f"fsub {ty} {x}, {part}")
    error = b.let(f"fadd {ty} {error_a}, {error_x}")
    valid = b.let(f"fcmp ord {ty} {error}, {error}")
    return b.let(f"select {b.vec('i1')} {valid}, {ty} {error}, {ty} zeroinitializer")


class TileState:
    """The state of the tile that is being written."""

    def __init__(self, emitter: KernelEmitter):
        self.e = emitter
        self.b = emitter.b
        self.layout = emitter.layout
        self.values, self.scalars = emitter.values, emitter.scalars
        self.rows = emitter.schedule.rows
        self.slots = emitter.kernel.machine.slots
        self.in_registers = [s for s in self.slots if not self.layout.in_memory(s.name)]
        self.in_memory = [s for s in self.slots if self.layout.in_memory(s.name)]
        self.registers: dict[Expr, Value] = {}  # component(slot leaf, d) -> value, now
        self.unit_names: list[str] = []
        self.inside: list[str] = []  # masks of the lanes that hold a row, where lanes without one must not count

    # ------------------------------------------------------------------ the state in memory
    def place(self, component: str, unit: str) -> str:
        at = self.b.let(f"mul i64 {component}, {self.e.units}")
        return self.b.pointer(self.e.state, self.b.let(f"add i64 {at}, {unit}"), DOUBLE)

    def initialise(self) -> None:
        b = self.b
        with b.loop("0", self.e.local_units, b.lanes) as loop:
            for s in self.slots:
                first = self.layout.state_offset(s.name)
                count = s.dim * (2 if s.additive and self.layout.compensated else 1)
                init = b.const(DOUBLE, s.init).name
                if count <= UNROLL:
                    for d in range(count):
                        b.store(init, self.place(str(first + d), loop.index), DOUBLE)
                    continue
                with b.loop(str(first), str(first + count), 1) as component:
                    b.store(init, self.place(component.index, loop.index), DOUBLE)

    def _unit(self, r: int) -> str:
        """The unit of state of row vector r of the tile."""
        b = self.b
        if self.e.problem.both:
            return str(r * b.lanes)
        local = b.let(f"sub i64 {self.e.tile}, {self.e.row_begin}")
        if self.e.on_rows:
            return b.let(f"add i64 {local}, {r * b.lanes}")
        row = b.let(f"add i64 {local}, {r}")
        return b.let(f"mul i64 {row}, {b.lanes}")

    def _to_double(self, name: str, elem: str) -> str:
        if elem == DOUBLE:
            return name
        verb = "fpext" if elem == "float" else "sitofp"
        return self.b.let(f"{verb} {self.b.vec(elem)} {name} to {self.b.vec(DOUBLE)}")

    def _from_double(self, name: str, elem: str) -> str:
        if elem == DOUBLE:
            return name
        verb = "fptrunc" if elem == "float" else "fptosi"
        return self.b.let(f"{verb} {self.b.vec(DOUBLE)} {name} to {self.b.vec(elem)}")

    def read(self, slot: Slot, d: int | Expr) -> Value:
        place = self.e.offset(self.layout.state_offset(slot.name), d)
        elem = self.values.elem(slot.kind)
        names = [self.b.load(self.place(place, u), DOUBLE) for u in self.unit_names]
        return Value(elem, tuple((self._from_double(n, elem),) for n in names))

    def write(self, slot: Slot, d: int | Expr, value: Value) -> None:
        place = self.e.offset(self.layout.state_offset(slot.name), d)
        full = self.b.expand(value, self.rows, 1)
        for row, unit in zip(full.grid, self.unit_names, strict=True):
            self.b.store(self._to_double(row[0], value.elem), self.place(place, unit), DOUBLE)

    # ------------------------------------------------------------------ the long slots in the tile memory
    def _tile_place(self, slot: Slot, d: int | Expr, r: int) -> str:
        base = self.b.pointer(self.e.tile_memory, str(self.layout.tile_offset(slot.name)), "i8")
        vector = self.b.let(f"mul i64 {self.e.offset(0, d)}, {self.rows}")
        place = self.b.let(f"add i64 {vector}, {r}")
        return self.b.pointer(base, self.b.let(f"mul i64 {place}, {self.layout.slot_vector_bytes}"), "i8")

    def read_tile(self, slot: Slot, d: int | Expr) -> Value:
        elem = self.values.elem(slot.kind)
        return Value(elem, tuple((self.b.load(self._tile_place(slot, d, r), elem),) for r in range(self.rows)))

    def write_tile(self, slot: Slot, d: int | Expr, value: Value) -> None:
        full = self.b.expand(value, self.rows, 1)
        for r in range(self.rows):
            self.b.store(full.grid[r][0], self._tile_place(slot, d, r), value.elem)

    def each(self, slot: Slot, do: Callable[[int | Expr], None]) -> None:
        """do(d) for every component of a slot."""
        if slot.dim <= UNROLL:
            for d in range(slot.dim):
                do(d)
            return
        with self.b.loop("0", str(slot.dim), 1) as loop, self.values.inside(SLOT_LOOP, loop.index):
            do(loop_var(SLOT_LOOP))

    def open(self) -> None:
        """Read the state of the rows of the tile; short sums start from zero."""
        self.unit_names = [self._unit(r) for r in range(self.rows)]
        self.inside = self._rows_inside() if self.e.problem.both and self.e.on_rows else []
        for s in self.in_registers:
            for d in range(s.dim):
                value = self._zero(s) if s.additive else self.read(s, d)
                self.registers[self.scalars.at(s.leaf("a"), d)] = self.b.expand(value, self.rows, 1)
        for s in self.in_memory:
            first = self._zero if s.additive else self.read
            self.each(s, lambda d, s=s, first=first: self.write_tile(s, d, first(s, d)))

    def _rows_inside(self) -> list[str]:
        b, ty = self.b, self.b.vec("i64")
        numbers = b.let(f"add {ty} {b.splat(self.e.tile, 'i64')}, {self.e.iota}")
        end = b.splat(self.e.row_end, "i64")
        rows = [b.let(f"add {ty} {numbers}, {b.const('i64', r * b.lanes).name}") for r in range(self.rows)]
        return [b.let(f"icmp slt {ty} {n}, {end}") for n in rows]

    def close(self) -> None:
        """Write the state back (sums are there already)."""
        for s in self.in_registers:
            if not s.additive:
                for d in range(s.dim):
                    self.write(s, d, self.registers[self.scalars.at(s.leaf("a"), d)])
        for s in self.in_memory:
            if not s.additive:
                self.each(s, lambda d, s=s: self.write(s, d, self.read_tile(s, d)))

    def _zero(self, slot: Slot, d: int | Expr = 0) -> Value:
        return self.b.const(self.values.elem(slot.kind), 0)

    # ------------------------------------------------------------------ registers, carried by the loops
    def carried(self) -> list[Value]:
        return list(self.registers.values())

    def set_carried(self, values: Sequence[Value]) -> None:
        for key, value in zip(self.registers, values, strict=True):
            self.registers[key] = value

    # ------------------------------------------------------------------ short and long sums
    def flush(self, slot: Slot) -> None:
        self.each(slot, lambda d: self._flush_component(slot, d))

    def _flush_component(self, slot: Slot, d: int | Expr) -> None:
        b = self.b
        short = self.short_sum(slot, d)
        place = self.e.offset(self.layout.state_offset(slot.name), d)
        errors = self.e.offset(self.layout.state_offset(slot.name) + slot.dim, d) if self.layout.compensated else ""
        ty, elem = b.vec(DOUBLE), b.vec(short.elem)
        names = [row[0] for row in b.expand(short, self.rows, 1).grid]
        for k, mask in enumerate(self.inside):
            names[k] = b.let(f"select {b.vec('i1')} {mask}, {elem} {names[k]}, {elem} zeroinitializer")
        for name, unit in zip(names, self.unit_names, strict=True):
            x = self._to_double(name, short.elem)
            pointer = self.place(place, unit)
            long = b.load(pointer, DOUBLE)
            total = b.let(f"fadd {ty} {long}, {x}")
            b.store(total, pointer, DOUBLE)
            if self.layout.compensated:
                self._add_error(long, x, total, self.place(errors, unit))
        self.set_short_sum(slot, d, self._zero(slot))

    def _add_error(self, a: str, x: str, total: str, pointer: str) -> None:
        b = self.b
        error = rounding_error(b, a, x, total)
        b.store(b.let(f"fadd {b.vec(DOUBLE)} {b.load(pointer, DOUBLE)}, {error}"), pointer, DOUBLE)

    def short_sum(self, slot: Slot, d: int | Expr) -> Value:
        if slot in self.in_memory:
            return self.read_tile(slot, d)
        return self.registers[self.scalars.at(slot.leaf("a"), d)]

    def set_short_sum(self, slot: Slot, d: int | Expr, value: Value) -> None:
        if slot in self.in_memory:
            self.write_tile(slot, d, value)
        else:
            self.registers[self.scalars.at(slot.leaf("a"), d)] = self.b.expand(value, self.rows, 1)

    def long_sum(self, slot: Slot, d: int | Expr) -> Value:
        """The long sum with its rounding errors, which are scaled along with it."""
        long = self.read(slot, d)
        if not self.layout.compensated:
            return long
        place = self.e.offset(self.layout.state_offset(slot.name) + slot.dim, d)
        errors = tuple((self.b.load(self.place(place, u), DOUBLE),) for u in self.unit_names)
        return self.b.fadd(long, Value(DOUBLE, errors))

    def clear_long_sum(self, slot: Slot, d: int | Expr) -> None:
        zero = self.b.const(DOUBLE, 0.0).name
        for part in range(2 if self.layout.compensated else 1):
            place = self.e.offset(self.layout.state_offset(slot.name) + part * slot.dim, d)
            for unit in self.unit_names:
                self.b.store(zero, self.place(place, unit), DOUBLE)
