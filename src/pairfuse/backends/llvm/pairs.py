"""Writes the loops over the columns of a tile and the steps of the reduction's state.

In: a KernelEmitter with its row and column stages in place.  Out: lines in its builder.  Short slots live in
registers, carried by the loops; long ones (vectors, lists) in the tile memory.  Additive slots are short sums in
the data's type, which `flush` adds to the doubles of the state after every block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ...ir.expr import Expr, leaf, toposort
from ...ir.reductions import Slot, fold_columns
from ...lower.scalar import UNROLL, access, loop_var
from .builder import Value

if TYPE_CHECKING:
    from .emit import KernelEmitter

SLOT_LOOP = 2000  # depth of the loop over the components of the long slots
DOUBLE = "double"


class PairLoops:
    """The pair and state stages of one kernel."""

    def __init__(self, emitter: KernelEmitter):
        self.e = emitter
        self.b = emitter.b
        self.kernel, self.schedule, self.layout = emitter.kernel, emitter.schedule, emitter.layout
        self.machine = emitter.kernel.machine
        self.values, self.scalars = emitter.values, emitter.scalars
        self.real = emitter.real
        self.rows = self.schedule.rows
        self.values.window = range(self.schedule.cols)
        self.slots = self.machine.slots
        self.in_registers = [s for s in self.slots if not self.layout.in_memory(s.name)]
        self.in_memory = [s for s in self.slots if self.layout.in_memory(s.name)]
        self.leaves = tuple(s.leaf("a") for s in self.slots)
        self.column_leaf = leaf("slot", "index", name="j", dim=1, side="f")
        self.registers: dict[Expr, Value] = {}  # component(slot leaf, d) -> value, now
        self.revising = False
        long_state = any(self._is_long(s) for s in self.slots)
        # A term that is walked by a loop is written inside it; all others are written once, and named.
        self.inlined = [t.dim > UNROLL or (long_state and t.dim > 1) for t in self.kernel.terms]
        self.term_leaves = tuple(
            leaf("slot", "real", name=f"F{k}", dim=t.dim, side="f") for k, t in enumerate(self.kernel.terms)
        )
        self.components = [
            [] if inlined else self.scalars.components(t)
            for t, inlined in zip(self.kernel.terms, self.inlined, strict=True)
        ]
        self.formulas = tuple(
            t if inlined else f for t, f, inlined in zip(self.kernel.terms, self.term_leaves, self.inlined, strict=True)
        )

    def _is_long(self, slot: Slot) -> bool:
        """Is the slot renewed by a loop over its components?"""
        return slot.dim > self.schedule.unroll_state

    @property
    def cols(self) -> int:
        """Columns (or vectors of columns) of the step being written."""
        return len(self.values.window)

    @property
    def numbered_rows(self) -> bool:
        """Are row fields addressed by a number that only a loop knows?"""
        nodes = toposort(*(x for components in self.components for x in components))
        return any(self.inlined) or any(
            n.name == "component_at" and n.args[0].name == "field" and n.args[0].param("stage") == "row" for n in nodes
        )

    # ------------------------------------------------------------------ the state in memory
    def state_place(self, component: str, unit: str) -> str:
        at = self.b.let(f"mul i64 {component}, {self.e.units}")
        return self.b.pointer(self.e.state, self.b.let(f"add i64 {at}, {unit}"), DOUBLE)

    def initialise_state(self) -> None:
        b = self.b
        with b.loop("0", self.e.local_units, b.lanes) as loop:
            for s in self.slots:
                first = self.layout.state_offset(s.name)
                count = s.dim * (2 if s.additive and self.layout.compensated else 1)
                init = b.const(DOUBLE, s.init).name
                if count <= UNROLL:
                    for d in range(count):
                        b.store(init, self.state_place(str(first + d), loop.index), DOUBLE)
                    continue
                with b.loop(str(first), str(first + count), 1) as component:
                    b.store(init, self.state_place(component.index, loop.index), DOUBLE)

    def _unit(self, r: int) -> str:
        """The unit of state of row vector r of the tile."""
        b = self.b
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

    def _read_state(self, slot: Slot, d: int | Expr) -> Value:
        place = self.e.offset(self.layout.state_offset(slot.name), d)
        elem = self.values.elem(slot.kind)
        names = [self.b.load(self.state_place(place, u), DOUBLE) for u in self.unit_names]
        return Value(elem, tuple((self._from_double(n, elem),) for n in names))

    def _write_state(self, slot: Slot, d: int | Expr, value: Value) -> None:
        place = self.e.offset(self.layout.state_offset(slot.name), d)
        full = self.b.expand(value, self.rows, 1)
        for row, unit in zip(full.grid, self.unit_names, strict=True):
            self.b.store(self._to_double(row[0], value.elem), self.state_place(place, unit), DOUBLE)

    # ------------------------------------------------------------------ the long slots in the tile memory
    def _tile_place(self, slot: Slot, d: int | Expr, r: int) -> str:
        base = self.b.pointer(self.e.tile_memory, str(self.layout.tile_offset(slot.name)), "i8")
        vector = self.b.let(f"mul i64 {self.e.offset(0, d)}, {self.rows}")
        place = self.b.let(f"add i64 {vector}, {r}")
        return self.b.pointer(base, self.b.let(f"mul i64 {place}, {self.layout.slot_vector_bytes}"), "i8")

    def _read_tile(self, slot: Slot, d: int | Expr) -> Value:
        elem = self.values.elem(slot.kind)
        return Value(elem, tuple((self.b.load(self._tile_place(slot, d, r), elem),) for r in range(self.rows)))

    def _write_tile(self, slot: Slot, d: int | Expr, value: Value) -> None:
        full = self.b.expand(value, self.rows, 1)
        for r in range(self.rows):
            self.b.store(full.grid[r][0], self._tile_place(slot, d, r), value.elem)

    def _each(self, slot: Slot, do: Callable[[int | Expr], None]) -> None:
        """do(d) for every component of a slot."""
        if slot.dim <= UNROLL:
            for d in range(slot.dim):
                do(d)
            return
        with self.b.loop("0", str(slot.dim), 1) as loop, self.values.inside(SLOT_LOOP, loop.index):
            do(loop_var(SLOT_LOOP))

    # ------------------------------------------------------------------ one tile
    def tile(self, tile: str, begin: str, end: str) -> None:
        self.begin = begin
        self.unit_names = [self._unit(r) for r in range(self.rows)]
        self._open_state()
        count = self.b.let(f"sub i64 {end}, {begin}")
        carried = self._carried()
        with self.b.loop("0", count, self.schedule.block, carried) as blocks:
            self._set_carried(blocks.carried)
            self._block(blocks.index, count)
            blocks.next = self._carried()
        self._set_carried(blocks.results)
        self._close_state()

    def _open_state(self) -> None:
        for s in self.in_registers:
            for d in range(s.dim):
                value = self._zero(s) if s.additive else self._read_state(s, d)
                self.registers[self.scalars.at(s.leaf("a"), d)] = self.b.expand(value, self.rows, 1)
        for s in self.in_memory:
            first = self._zero if s.additive else self._read_state
            self._each(s, lambda d, s=s, first=first: self._write_tile(s, d, first(s, d)))

    def _close_state(self) -> None:
        for s in self.in_registers:
            if not s.additive:
                for d in range(s.dim):
                    self._write_state(s, d, self.registers[self.scalars.at(s.leaf("a"), d)])
        for s in self.in_memory:
            if not s.additive:
                self._each(s, lambda d, s=s: self._write_state(s, d, self._read_tile(s, d)))

    def _zero(self, slot: Slot, d: int | Expr = 0) -> Value:
        return self.b.const(self.values.elem(slot.kind), 0)

    def _carried(self) -> list[Value]:
        return list(self.registers.values())

    def _set_carried(self, values: Sequence[Value]) -> None:
        for key, value in zip(self.registers, values, strict=True):
            self.registers[key] = value

    # ------------------------------------------------------------------ one block of columns
    def _block(self, start: str, count: str) -> None:
        b = self.b
        over = b.let(f"add i64 {start}, {self.schedule.block}")
        below = b.let(f"icmp slt i64 {over}, {count}")
        stop = b.let(f"select i1 {below}, i64 {over}, i64 {count}")
        unit = self.schedule.tile_cols
        whole = b.let(f"sdiv i64 {b.let(f'sub i64 {stop}, {start}')}, {unit}")
        middle = b.let(f"add i64 {start}, {b.let(f'mul i64 {whole}, {unit}')}")
        self._columns(start, middle, self.schedule.cols, None)
        if unit > 1:
            self._columns(middle, stop, 1, None if self.e.on_rows else stop)
        for s in self.slots:
            if s.additive:
                self._flush(s)

    def _columns(self, start: str, stop: str, cols: int, masked_beyond: str | None) -> None:
        """The loop over [start, stop), `cols` columns (or vectors of columns) at a time."""
        b = self.b
        step = cols if self.e.on_rows else cols * b.lanes
        self.values.window = range(cols)
        with b.loop(start, stop, step, self._carried()) as loop:
            self._set_carried(loop.carried)
            self.column = loop.index
            self.mask = None
            if masked_beyond is not None:
                ty = b.vec("i64")
                numbers = b.let(f"add {ty} {b.splat(loop.index, 'i64')}, {self.e.iota}")
                limit = b.splat(masked_beyond, "i64")
                self.mask = Value("i1", ((b.let(f"icmp slt {ty} {numbers}, {limit}"),),))
            with self.values.nested(self.resolve):
                self._pairs()
            loop.next = self._carried()
        self._set_carried(loop.results)
        self.values.window = range(self.schedule.cols)

    def _flush(self, slot: Slot) -> None:
        self._each(slot, lambda d: self._flush_component(slot, d))

    def _flush_component(self, slot: Slot, d: int | Expr) -> None:
        b = self.b
        short = self._short_sum(slot, d)
        place = self.e.offset(self.layout.state_offset(slot.name), d)
        errors = self.e.offset(self.layout.state_offset(slot.name) + slot.dim, d) if self.layout.compensated else ""
        ty = b.vec(DOUBLE)
        for row, unit in zip(b.expand(short, self.rows, 1).grid, self.unit_names, strict=True):
            x = self._to_double(row[0], short.elem)
            pointer = self.state_place(place, unit)
            long = b.load(pointer, DOUBLE)
            total = b.let(f"fadd {ty} {long}, {x}")
            b.store(total, pointer, DOUBLE)
            if self.layout.compensated:
                self._add_error(long, x, total, self.state_place(errors, unit))
        self._set_short_sum(slot, d, self._zero(slot))

    def _add_error(self, a: str, x: str, total: str, pointer: str) -> None:
        """The rounding error of total = a + x, exactly (Knuth's two-sum); dropped where it is not a number."""
        b, ty = self.b, self.b.vec(DOUBLE)
        part = b.let(f"fsub {ty} {total}, {a}")
        error_a = b.let(f"fsub {ty} {a}, {b.let(f'fsub {ty} {total}, {part}')}")
        error_x = b.let(f"fsub {ty} {x}, {part}")
        error = b.let(f"fadd {ty} {error_a}, {error_x}")
        valid = b.let(f"fcmp ord {ty} {error}, {error}")
        kept = b.let(f"select {b.vec('i1')} {valid}, {ty} {error}, {ty} zeroinitializer")
        b.store(b.let(f"fadd {ty} {b.load(pointer, DOUBLE)}, {kept}"), pointer, DOUBLE)

    def _short_sum(self, slot: Slot, d: int | Expr) -> Value:
        if slot in self.in_memory:
            return self._read_tile(slot, d)
        return self.registers[self.scalars.at(slot.leaf("a"), d)]

    def _set_short_sum(self, slot: Slot, d: int | Expr, value: Value) -> None:
        if slot in self.in_memory:
            self._write_tile(slot, d, value)
        else:
            self.registers[self.scalars.at(slot.leaf("a"), d)] = self.b.expand(value, self.rows, 1)

    # ------------------------------------------------------------------ leaves of the pair stage
    def resolve(self, node: Expr) -> Value:
        from_state = node.name != "index" and node.args[0].name == "slot"
        if from_state:
            return self._resolve_state(node)
        axis = node.param("axis") if node.name == "index" else node.args[0].param("axis")
        if axis != self.e.problem.over:
            return self.e.row_index() if node.name == "index" else self.e.resolve_row(node)
        if node.name == "index":
            return self._column_numbers()
        return self._packed(node)

    def _packed(self, node: Expr) -> Value:
        b = self.b
        source, d = access(node)
        width = self.kernel.width("column")
        place = self.e.offset(source.param("offset"), d)
        names: list[str] = []
        start = b.let(f"mul i64 {self.column}, {width}")
        lane_width = 1 if self.e.on_rows else b.lanes
        first = b.let(f"add i64 {start}, {b.let(f'mul i64 {place}, {lane_width}')}")
        pointer = b.pointer(self.e.pack, first, self.real)
        for u in self.values.window:
            at = b.pointer(pointer, str(u * width * lane_width), self.real)
            names.append(b.broadcast(at, self.real) if self.e.on_rows else b.load(at, self.real))
        return Value(self.real, (tuple(names),))

    def _column_numbers(self) -> Value:
        """The numbers of the columns of this step, counted from the first column of all."""
        b, elem = self.b, self.e.integer
        names: list[str] = []
        for u in self.values.window:
            shift = u if self.e.on_rows else u * b.lanes
            number = b.let(f"add i64 {b.let(f'add i64 {self.column}, {self.begin}')}, {shift}")
            if self.e.on_rows:
                number = b.let(f"trunc i64 {number} to i32") if elem == "i32" else number
                names.append(b.splat(number, elem))
                continue
            ty = b.vec("i64")
            vector = b.let(f"add {ty} {b.splat(number, 'i64')}, {self.e.iota}")
            names.append(b.let(f"trunc {ty} {vector} to {b.vec(elem)}") if elem == "i32" else vector)
        return Value(elem, (tuple(names),))

    def _resolve_state(self, node: Expr) -> Value:
        """A component of the state, or of a term (when bound by the step)."""
        source, d = access(node)
        slot = next(s for s in self.slots if s.name == source.param("name"))
        value = self.registers.get(node)
        if value is None:
            value = self._read_tile(slot, d)
        if self.revising and slot.additive:
            value = self.b.fadd(value, self._take_long_sum(slot, d))
        return value

    def _take_long_sum(self, slot: Slot, d: int | Expr) -> Value:
        """The long sum with its rounding errors, which are scaled along with it."""
        long = self._read_state(slot, d)
        if not self.layout.compensated:
            return long
        place = self.e.offset(self.layout.state_offset(slot.name) + slot.dim, d)
        errors = tuple((self.b.load(self.state_place(place, u), DOUBLE),) for u in self.unit_names)
        return self.b.fadd(long, Value(DOUBLE, errors))

    def _clear_long_sum(self, slot: Slot, d: int | Expr) -> None:
        zero = self.b.const(DOUBLE, 0.0).name
        for part in range(2 if self.layout.compensated else 1):
            place = self.e.offset(self.layout.state_offset(slot.name) + part * slot.dim, d)
            for unit in self.unit_names:
                self.b.store(zero, self.state_place(place, unit), DOUBLE)

    # ------------------------------------------------------------------ one step: terms, guard, revise, update
    def _pairs(self) -> None:
        known = self.values.scope.known
        for components, named in zip(self.components, self.term_leaves, strict=True):
            for d, x in enumerate(components):
                known[self.scalars.at(named, d)] = self.values(x)
        if self.machine.guard is not None:
            self._guarded()
        new = self.machine.update(self.leaves, self.formulas, self.column_leaf)
        self._step(new, revising=False)

    def _guarded(self) -> None:
        assert self.machine.guard is not None
        assert self.machine.fold is not None
        first = self.formulas[0]
        if self.inlined[0]:
            if first.dim > UNROLL:
                self._revise(None)
            else:
                folded = fold_columns(self.machine.fold, first)
                self._if(self.machine.guard(self.leaves, folded), lambda: self._revise(None))
            return
        guard = self.machine.guard(self.leaves, first)
        terms = [self.values(self.scalars.at(first, d)) for d in range(first.dim)]
        folded = [self.values._fold_columns(self.machine.fold, t) for t in terms]
        with self.values.nested():
            self._bind(first, folded)
            if not self.machine.by_column:
                self._if(guard, lambda: self._revise(None))
                return
            self._if(guard, lambda: self._revise_columns(guard, first, terms))

    def _bind(self, term: Expr, values: Sequence[Value]) -> None:
        for d, v in enumerate(values):
            self.values.scope.known[self.scalars.at(term, d)] = v

    def _revise_columns(self, guard: Expr, term: Expr, terms: Sequence[Value]) -> None:
        """Columns in ascending order, so that the first of equals stays in front."""
        if self.cols > 1 and self.in_memory:
            self._revise_columns_in_loop(guard, term, terms)
            return
        for u in range(self.cols):
            with self.values.nested():
                self._bind(term, [t.column(u) for t in terms])
                if self.cols > 1:
                    self._if(guard, lambda u=u: self._revise(u))
                else:
                    self._revise(u)

    def _revise_columns_in_loop(self, guard: Expr, term: Expr, terms: Sequence[Value]) -> None:
        """The same as a loop over the columns, through memory: long lists would make the code grow eightfold."""
        b = self.b
        places = [(d, u, r) for d in range(term.dim) for u in range(self.cols) for r in range(self.rows)]
        for d, u, r in places:
            full = b.expand(terms[d], self.rows, self.cols)
            b.store(full.grid[r][u], self._term_place(d, str(u), r), self.real)
        step = 1 if self.e.on_rows else b.lanes
        with b.loop("0", str(self.cols), 1, self._carried()) as loop:
            self._set_carried(loop.carried)
            column, window = self.column, self.values.window
            self.column = b.let(f"add i64 {column}, {b.let(f'mul i64 {loop.index}, {step}')}")
            self.values.window = range(1)
            with self.values.nested():
                values = [
                    tuple((b.load(self._term_place(d, loop.index, r), self.real),) for r in range(self.rows))
                    for d in range(term.dim)
                ]
                self._bind(term, [Value(self.real, grid) for grid in values])
                self._if(guard, lambda: self._revise(0))
            self.column, self.values.window = column, window
            loop.next = self._carried()
        self._set_carried(loop.results)

    def _term_place(self, d: int, u: str, r: int) -> str:
        """Where a term waits: [component][column][row vector]."""
        b = self.b
        row = b.let(f"add i64 {b.let(f'mul i64 {u}, {self.rows}')}, {(d * self.schedule.cols * self.rows) + r}")
        return b.pointer(self.e.term_memory, b.let(f"mul i64 {row}, {self.layout.vector_bytes}"), "i8")

    def _if(self, guard: Expr, then: Callable[[], None]) -> None:
        """Do `then` if the guard holds on some lane; the registers are carried around the branch."""
        with self.values.nested():
            conditions = [self.values(self.scalars.at(guard, d)) for d in range(guard.dim)]
        condition = conditions[0]
        for c in conditions[1:]:
            condition = self.b.or_(condition, c)
        if self.mask is not None:
            condition = self.b.and_(condition, self.mask)

        before = self._carried()

        def taken() -> list[Value]:
            then()
            return self._carried()

        self._set_carried(self.b.if_any(condition, taken, before))

    def _revise(self, u: int | None) -> None:
        assert self.machine.revise is not None
        assert self.machine.fold is not None
        term = self.formulas[0]
        if self.inlined[0] and not self.machine.by_column:
            term = fold_columns(self.machine.fold, term)
        with self.values.nested() as scope:
            if u is not None:
                numbers = self._column_numbers()
                scope.known[self.scalars.at(self.column_leaf, 0)] = numbers.column(u)
            elif self.machine.by_column:
                scope.known[self.scalars.at(self.column_leaf, 0)] = self._column_numbers()
            self._step(self.machine.revise(self.leaves, term, self.column_leaf), revising=True)

    def _step(self, new: Sequence[Expr], revising: bool) -> None:
        """Replace the state by expressions of the old one."""
        changed = [(s, x) for s, x, old in zip(self.slots, new, self.leaves, strict=True) if x is not old]
        self.revising = revising
        short: list[tuple[Slot, int, Value]] = []
        with self.values.nested():
            for s, x in changed:
                if not self._is_long(s):
                    short += [(s, d, self._selected(s, d, self.values(self.scalars.at(x, d)))) for d in range(s.dim)]
            self._long_step([(s, x) for s, x in changed if self._is_long(s)])
        for s, d, value in short:
            self._set_short_sum(s, d, value)
            if revising and s.additive:
                self._clear_long_sum(s, d)
        self.revising = False

    def _long_step(self, changed: Sequence[tuple[Slot, Expr]]) -> None:
        for dim in sorted({s.dim for s, _ in changed}):
            group = [(s, x) for s, x in changed if s.dim == dim]
            var = loop_var(SLOT_LOOP)
            for _, x in group:
                self.values.hoist(self.scalars.at(x, var), SLOT_LOOP)
            with self.b.loop("0", str(dim), 1) as loop:
                # from the last component to the first: a list is shifted in place
                index = self.b.let(f"sub i64 {dim - 1}, {loop.index}")
                with self.values.inside(SLOT_LOOP, index):
                    fresh = [(s, self._selected(s, var, self.values(self.scalars.at(x, var)))) for s, x in group]
                    for s, value in fresh:
                        self._write_tile(s, var, value)
                        if self.revising and s.additive:
                            self._clear_long_sum(s, var)

    def _selected(self, slot: Slot, d: int | Expr, value: Value) -> Value:
        """Lanes beyond the last column keep their state."""
        if self.mask is None:
            return value
        old = self.values(self.scalars.at(slot.leaf("a"), d))
        return self.b.select(self.mask, value, old)
