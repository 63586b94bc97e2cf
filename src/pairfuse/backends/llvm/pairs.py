"""Writes the loops over the columns of a tile and the steps of the reduction's machine.

In: a KernelEmitter with its row and column stages in place, and the state of the tile (state.py).  Out: lines in its
builder: terms of a few columns at a time, then guard, revise and update.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ...ir.expr import Expr, call, leaf, toposort
from ...ir.reductions import Slot, fold_columns
from ...lower.scalar import KEPT, UNROLL, access, loop_var
from .builder import Value
from .state import SLOT_LOOP, TileState

if TYPE_CHECKING:
    from .emit import KernelEmitter


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
        self.state = TileState(emitter)
        self.leaves = tuple(s.leaf("a") for s in self.slots)
        self.column_leaf = leaf("slot", "index", name="j", dim=1, side="f")
        self.revising = False
        self.lists = self.machine.by_column and any(s.dim > self.kernel.terms[0].dim for s in self.slots)
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
        nodes = toposort(*(x for components in self.components for x in components), *self.e.kept.bodies("pair"))
        return any(self.inlined) or any(
            n.name == "component_at" and n.args[0].name == "field" and n.args[0].param("stage") == "row" for n in nodes
        )

    # ------------------------------------------------------------------ one tile
    def tile(self, tile: str, begin: str, end: str) -> None:
        self.begin = begin
        with self.b.part("tile"):
            self.state.open()
        count = self.b.let(f"sub i64 {end}, {begin}")
        carried = self.state.carried()
        with self.b.loop("0", count, self.schedule.block, carried) as blocks:
            self.state.set_carried(blocks.carried)
            self._block(blocks.index, count)
            blocks.next = self.state.carried()
        self.state.set_carried(blocks.results)
        with self.b.part("tile"):
            self.state.close()

    # ------------------------------------------------------------------ one block of columns
    def _block(self, start: str, count: str) -> None:
        b = self.b
        over = b.let(f"add i64 {start}, {self.schedule.block}")
        below = b.let(f"icmp slt i64 {over}, {count}")
        stop = b.let(f"select i1 {below}, i64 {over}, i64 {count}")
        unit = self.schedule.tile_cols
        whole = b.let(f"sdiv i64 {b.let(f'sub i64 {stop}, {start}')}, {unit}")
        middle = b.let(f"add i64 {start}, {b.let(f'mul i64 {whole}, {unit}')}")
        with b.part("step"):
            self._columns(start, middle, self.schedule.cols, None)
        if unit > 1:
            with b.part("rest"):
                self._columns(middle, stop, 1, None if self.e.on_rows else stop)
        with b.part("block"):
            for s in self.slots:
                if s.additive:
                    self.state.flush(s)

    def _columns(self, start: str, stop: str, cols: int, masked_beyond: str | None) -> None:
        """The loop over [start, stop), `cols` columns (or vectors of columns) at a time."""
        b = self.b
        step = cols if self.e.on_rows else cols * b.lanes
        self.values.window = range(cols)
        with b.loop(start, stop, step, self.state.carried()) as loop:
            self.state.set_carried(loop.carried)
            self.column = loop.index
            self.mask = None
            if masked_beyond is not None:
                ty = b.vec("i64")
                numbers = b.let(f"add {ty} {b.splat(loop.index, 'i64')}, {self.e.iota}")
                limit = b.splat(masked_beyond, "i64")
                self.mask = Value("i1", ((b.let(f"icmp slt {ty} {numbers}, {limit}"),),))
            with self.values.nested(self.resolve):
                self._pairs()
            loop.next = self.state.carried()
        self.state.set_carried(loop.results)
        self.values.window = range(self.schedule.cols)

    # ------------------------------------------------------------------ leaves of the pair stage
    def resolve(self, node: Expr) -> Value:
        from_state = node.name != "index" and node.args[0].name == "slot"
        if from_state:
            return self._resolve_state(node)
        if node.name != "index" and node.args[0].name == KEPT:
            return self.e.kept.read(*access(node))
        axis = node.param("axis") if node.name == "index" else node.args[0].param("axis")
        if axis != self.e.problem.columns:
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
            listed = self.e.listed  # then the number is that of a place, at which the column's number is packed
            if self.e.on_rows:
                number = number if listed is None else listed.column_number(number)
                number = b.let(f"trunc i64 {number} to i32") if elem == "i32" else number
                names.append(b.splat(number, elem))
                continue
            ty = b.vec("i64")
            if listed is None:
                vector = b.let(f"add {ty} {b.splat(number, 'i64')}, {self.e.iota}")
            else:
                vector = listed.column_numbers(number)
            names.append(b.let(f"trunc {ty} {vector} to {b.vec(elem)}") if elem == "i32" else vector)
        return Value(elem, (tuple(names),))

    def _resolve_state(self, node: Expr) -> Value:
        """A component of the state, or of a term (when bound by the step)."""
        source, d = access(node)
        slot = next(s for s in self.slots if s.name == source.param("name"))
        value = self.state.registers.get(node)
        if value is None:
            value = self.state.read_tile(slot, d)
        if self.revising and slot.additive:
            value = self.b.fadd(value, self.state.long_sum(slot, d))
        return value

    # ------------------------------------------------------------------ one step: terms, guard, revise, update
    def _pairs(self) -> None:
        self.e.kept.compute("pair")
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
                self._if(self.machine.takes(self.leaves, folded), lambda: self._revise(None))
            return
        guard = self.machine.guard(self.leaves, first)
        # an insertion into a list is not entered for NaN; the single best term is renewed as fast as it is asked
        one = self.machine.takes(self.leaves, first) if self.lists else guard
        terms = [self.values(self.scalars.at(first, d)) for d in range(first.dim)]
        if self.machine.by_column and self.cols > 1:
            self._when(self._some_better(guard, terms), lambda: self._revise_columns(one, first, terms))
            return
        folded = [self.values._fold_columns(self.machine.fold, t) for t in terms]
        with self.values.nested():
            self._bind(first, folded)
            if not self.machine.by_column:
                self._if(guard, lambda: self._revise(None))
                return
            self._if(one, lambda: self._revise_columns(one, first, terms))

    def _some_better(self, guard: Expr, terms: Sequence[Value]) -> list[Value]:
        """The guard of the columns of a step, by component: is one of them in front of the last place, or that empty?

        The fold starts from the last place, which then takes one comparison: of what has been found with itself. A NaN
        in it stays, so that an empty place is unequal to itself.
        """
        b, fold = self.b, self.values.fold_pair(self.machine.fold or "")
        found: list[Value] = []
        with self.values.nested():
            for d, term in enumerate(terms):
                last = self.values(self.scalars.at(guard, d).args[1])
                best = last
                for u in range(term.cols):
                    best = fold(term.column(u), best)
                found.append(b.fcmp("une", best, last))
        return found

    def _bind(self, term: Expr, values: Sequence[Value]) -> None:
        for d, v in enumerate(values):
            self.values.scope.known[self.scalars.at(term, d)] = v

    def _revise_columns(self, one: Expr, term: Expr, terms: Sequence[Value]) -> None:
        """Columns in ascending order, so that the first of equals stays in front."""
        if self.cols > 1 and self.state.in_memory:
            self._revise_columns_in_loop(one, term, terms)
            return
        for u in range(self.cols):
            with self.values.nested():
                self._bind(term, [t.column(u) for t in terms])
                if self.cols > 1:
                    self._if(one, lambda u=u: self._revise_column(u))
                else:
                    self._revise_column(u)

    def _revise_column(self, u: int) -> None:
        """One column of a block. Lists ask first whether it is of numbers only: then they are not asked place by place.

        The step is written twice, for it is most of the work of long lists.
        """
        if not self.lists:
            self._revise(u)
            return
        b, term = self.b, self.formulas[0]
        terms = [self.values(self.scalars.at(term, d)) for d in range(term.dim)]
        odd = functools.reduce(b.or_, [b.fcmp("uno", x, x) for x in terms])
        some = b.any(odd)
        numbers = [self.scalars.at(call("eq", term, term), d) for d in range(term.dim)]

        def step(of_numbers: bool) -> list[Value]:
            with self.values.nested() as scope:
                if of_numbers:
                    scope.known.update(dict.fromkeys(numbers, b.const("i1", True)))
                self._revise(u)
            return self.state.carried()

        for condition in (some, b.let(f"xor i1 {some}, true")):
            before = self.state.carried()
            self.state.set_carried(b.if_scalar(condition, lambda c=condition: step(c is not some), before))

    def _revise_columns_in_loop(self, one: Expr, term: Expr, terms: Sequence[Value]) -> None:
        """The same as a loop over the columns, through memory: long lists would make the code grow eightfold."""
        b = self.b
        places = [(d, u, r) for d in range(term.dim) for u in range(self.cols) for r in range(self.rows)]
        for d, u, r in places:
            full = b.expand(terms[d], self.rows, self.cols)
            b.store(full.grid[r][u], self._term_place(d, str(u), r), self.real)
        step = 1 if self.e.on_rows else b.lanes
        with b.loop("0", str(self.cols), 1, self.state.carried()) as loop:
            self.state.set_carried(loop.carried)
            column, window = self.column, self.values.window
            self.column = b.let(f"add i64 {column}, {b.let(f'mul i64 {loop.index}, {step}')}")
            self.values.window = range(1)
            with self.values.nested():
                values = [
                    tuple((b.load(self._term_place(d, loop.index, r), self.real),) for r in range(self.rows))
                    for d in range(term.dim)
                ]
                self._bind(term, [Value(self.real, grid) for grid in values])
                self._if(one, lambda: self._revise_column(0))
            self.column, self.values.window = column, window
            loop.next = self.state.carried()
        self.state.set_carried(loop.results)

    def _term_place(self, d: int, u: str, r: int) -> str:
        """Where a term waits: [component][column][row vector]."""
        b = self.b
        row = b.let(f"add i64 {b.let(f'mul i64 {u}, {self.rows}')}, {(d * self.schedule.cols * self.rows) + r}")
        return b.pointer(self.e.term_memory, b.let(f"mul i64 {row}, {self.layout.vector_bytes}"), "i8")

    def _if(self, guard: Expr, then: Callable[[], None]) -> None:
        """Do `then` if the guard holds on some lane; the registers are carried around the branch."""
        with self.values.nested():
            conditions = [self.values(self.scalars.at(guard, d)) for d in range(guard.dim)]
        self._when(conditions, then)

    def _when(self, conditions: Sequence[Value], then: Callable[[], None]) -> None:
        condition = functools.reduce(self.b.or_, conditions)
        if self.mask is not None:
            condition = self.b.and_(condition, self.mask)

        before = self.state.carried()

        def taken() -> list[Value]:
            then()
            return self.state.carried()

        self.state.set_carried(self.b.if_any(condition, taken, before))

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
            self.state.set_short_sum(s, d, value)
            if revising and s.additive:
                self.state.clear_long_sum(s, d)
        self.revising = False

    def _long_step(self, changed: Sequence[tuple[Slot, Expr]]) -> None:
        for dim in sorted({s.dim for s, _ in changed}):
            group = [(s, x) for s, x in changed if s.dim == dim]
            var = loop_var(SLOT_LOOP, dim)
            for _, x in group:
                self.values.hoist(self.scalars.at(x, var), SLOT_LOOP)
            with self.b.loop("0", str(dim), 1) as loop:
                # from the last component to the first: a list is shifted in place
                index = self.b.let(f"sub i64 {dim - 1}, {loop.index}")
                with self.values.inside(SLOT_LOOP, index):
                    fresh = [(s, self._selected(s, var, self.values(self.scalars.at(x, var)))) for s, x in group]
                    for s, value in fresh:
                        self.state.write_tile(s, var, value)
                        if self.revising and s.additive:
                            self.state.clear_long_sum(s, var)

    def _selected(self, slot: Slot, d: int | Expr, value: Value) -> Value:
        """Lanes beyond the last column keep their state."""
        if self.mask is None:
            return value
        old = self.values(self.scalars.at(slot.leaf("a"), d))
        return self.b.select(self.mask, value, old)
