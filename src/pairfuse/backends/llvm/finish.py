"""Writes the function that finishes states: merges the parts of each row, applies finalize, stores the outputs.

All in double precision: the state holds doubles (exact for float32 values and for indices), one vector of rows at a
time.  `parts` states of a row lie `part_stride` apart (lanes that shared a row, threads that shared the columns).
A sum over both axes is the sum of all units of state, whichever rows, columns and threads they come from.
"""

from __future__ import annotations

from ...ir.expr import Expr
from ...ir.reductions import Slot
from ...lower.kernel import Kernel
from ...lower.scalar import UNROLL, Scalarizer, access, loop_var
from ...lower.schedule import Schedule
from . import layout as words
from .builder import Builder, Value
from .layout import Layout
from .state import DOUBLE, rounding_error
from .values import Values

OUTPUT_LOOP = 3000
SIGNATURE = "void @finish(ptr %args, i64 %state, i64 %parts, i64 %part_stride, i64 %rows, i64 %first)"


class FinishEmitter:
    def __init__(self, kernel: Kernel, schedule: Schedule, b: Builder):
        self.kernel, self.schedule = kernel, schedule
        self.layout = Layout(kernel, schedule)
        self.machine = kernel.machine
        self.b = b
        self.values = Values(self.b, DOUBLE, "i64", lambda node: (1, 1))
        self.scalars = Scalarizer()
        self.leaves = {side: tuple(s.leaf(side) for s in self.machine.slots) for side in "ab"}

    def emit(self) -> str:
        b = self.b
        iota = f"<{', '.join(f'i64 {k}' for k in range(b.lanes))}>"
        pointer = b.let(f"getelementptr i64, ptr %args, i64 {words.UNITS}")
        self.units = b.let(f"load i64, ptr {pointer}, align 8")
        self.state = b.let("inttoptr i64 %state to ptr")
        if self.kernel.problem.both:
            self._all_pairs()
            b.line("ret void")
            return b.function(SIGNATURE)
        row_stride = 1 if self.schedule.lanes_on == "kept" else self.schedule.lanes
        with b.loop("0", "%rows", b.lanes) as loop:
            ty = b.vec("i64")
            rows = b.let(f"add {ty} {b.splat(loop.index, 'i64')}, {iota}")
            self.mask = b.let(f"icmp slt {ty} {rows}, {b.splat('%rows', 'i64')}")
            last = b.splat(b.let("sub i64 %rows, 1"), "i64")
            inside = b.let(f"select {b.vec('i1')} {self.mask}, {ty} {rows}, {ty} {last}")
            self.unit = b.let(f"mul {ty} {inside}, {b.splat(str(row_stride), 'i64')}")
            self.places = b.let(f"add {ty} {inside}, {b.splat('%first', 'i64')}")
            self._rows()
        b.line("ret void")
        return b.function(SIGNATURE)

    # ------------------------------------------------------------------ sums over both axes
    def _all_pairs(self) -> None:
        """One result: all lanes hold it, and the first one stores it."""
        b = self.b
        self.mask = f"<{', '.join(f'i1 {str(k == 0).lower()}' for k in range(b.lanes))}>"
        self.places = b.splat("%first", "i64")
        with self.values.nested(self._total):
            self._store_outputs()

    def _total(self, node: Expr) -> Value:
        """A component of the state, added up over all units, whose number is a multiple of the lanes."""
        slot, d = self._slot_of(node)
        first = self.layout.state_offset(slot.name)
        zero = self.b.const(DOUBLE, 0.0)
        with self.b.loop("0", self.units, self.b.lanes, [zero, zero]) as loop:
            total, error = (v.name for v in loop.carried)
            total, error = self._added(total, error, self._units(first, d, loop.index))
            if self.layout.compensated:
                rest = self._units(first + slot.dim, d, loop.index)
                error = self.b.let(f"fadd {self.b.vec(DOUBLE)} {error}, {rest}")
            loop.next = [Value(DOUBLE, ((total,),)), Value(DOUBLE, ((error,),))]
        total, error = (v.name for v in loop.results)
        distance = 1
        while distance < self.b.lanes:  # every lane receives the total, over lanes ever further apart
            added = self.b.let(f"fadd {self.b.vec(DOUBLE)} {error}, {self._rotated(error, distance)}")
            total, error = self._added(total, added, self._rotated(total, distance))
            distance *= 2
        return self.b.fadd(Value(DOUBLE, ((total,),)), Value(DOUBLE, ((error,),)))

    def _added(self, total: str, error: str, x: str) -> tuple[str, str]:
        """total + x, and the rounding errors of the sum so far."""
        b, ty = self.b, self.b.vec(DOUBLE)
        added = b.let(f"fadd {ty} {total}, {x}")
        return added, b.let(f"fadd {ty} {error}, {rounding_error(b, total, x, added)}")

    def _units(self, first: int, d: int | Expr, unit: str) -> str:
        """A vector of units of component first + d."""
        at = self.b.let(f"mul i64 {self._component(first, d)}, {self.units}")
        return self.b.load(self.b.pointer(self.state, self.b.let(f"add i64 {at}, {unit}"), DOUBLE), DOUBLE)

    def _rotated(self, name: str, distance: int) -> str:
        ty, lanes = self.b.vec(DOUBLE), self.b.lanes
        order = ", ".join(f"i32 {(k + distance) % lanes}" for k in range(lanes))
        return self.b.let(f"shufflevector {ty} {name}, {ty} poison, <{lanes} x i32> <{order}>")

    # ------------------------------------------------------------------ rows
    def _rows(self) -> None:
        if any(s.dim > UNROLL for s in self.machine.slots):
            with self.values.nested(lambda node: self._leaf(node, "0")):
                self._store_outputs()
            return
        state = [self._load(s, d, "0") for s in self.machine.slots for d in range(s.dim)]
        if self.schedule.split:
            with self.b.loop("1", "%parts", 1, state) as loop:
                loop.next = self._merge(loop.carried, self._part(loop.index))
            state = loop.results
        with self.values.nested():
            self._bind("a", state)
            self._store_outputs()

    def _part(self, number: str) -> str:
        """Where part `number` lies: the lanes of a row side by side, the threads' parts `part_stride` apart."""
        if self.schedule.lanes_on == "kept":
            return self.b.let(f"mul i64 {number}, %part_stride")
        lanes = self.schedule.lanes
        thread = self.b.let(f"sdiv i64 {number}, {lanes}")
        lane = self.b.let(f"sub i64 {number}, {self.b.let(f'mul i64 {thread}, {lanes}')}")
        return self.b.let(f"add i64 {lane}, {self.b.let(f'mul i64 {thread}, %part_stride')}")

    def _merge(self, state: list[Value], offset: str) -> list[Value]:
        other = [self._load(s, d, offset) for s in self.machine.slots for d in range(s.dim)]
        with self.values.nested():
            self._bind("a", state)
            self._bind("b", other)
            merged = self.machine.merge(self.leaves["a"], self.leaves["b"])
            return [self.values(x) for m in merged for x in self.scalars.components(m)]

    def _bind(self, side: str, state: list[Value]) -> None:
        names = [self.scalars.at(leaf, d) for leaf in self.leaves[side] for d in range(leaf.dim)]
        for name, value in zip(names, state, strict=True):
            self.values.scope.known[name] = value

    def _leaf(self, node: Expr, offset: str) -> Value:
        return self._load(*self._slot_of(node), offset)

    def _slot_of(self, node: Expr) -> tuple[Slot, int | Expr]:
        """The slot and the component that a leaf of the outputs stands for."""
        source, d = access(node)
        return next(s for s in self.machine.slots if s.name == source.param("name")), d

    def _load(self, slot: Slot, d: int | Expr, offset: str) -> Value:
        """A component of the state of a part, at `offset` doubles: the sum of both doubles of a float64 sum."""
        first = self.layout.state_offset(slot.name)
        value = self._gather(first, d, offset)
        if slot.additive and self.layout.compensated:
            rest = self._gather(first + slot.dim, d, offset)
            value = self.b.let(f"fadd {self.b.vec(DOUBLE)} {value}, {rest}")
        if slot.kind == "index":
            value = self.b.let(f"fptosi {self.b.vec(DOUBLE)} {value} to {self.b.vec('i64')}")
            return Value("i64", ((value,),))
        return Value(DOUBLE, ((value,),))

    def _gather(self, first: int, d: int | Expr, offset: str) -> str:
        b = self.b
        start = b.let(f"add i64 {b.let(f'mul i64 {self._component(first, d)}, {self.units}')}, {offset}")
        base = b.pointer(self.state, start, DOUBLE)
        return b.gather(b.let(f"getelementptr {DOUBLE}, ptr {base}, {b.vec('i64')} {self.unit}"), DOUBLE)

    def _component(self, first: int, d: int | Expr) -> str:
        return str(first + d) if isinstance(d, int) else self.b.let(f"add i64 {self.values.scalar(d)}, {first}")

    # ------------------------------------------------------------------ outputs
    def _store_outputs(self) -> None:
        outputs = self.machine.finalize(self.leaves["a"])
        for k, (output, (_, kind)) in enumerate(zip(outputs, self.kernel.problem.record.outputs, strict=True)):
            word = self.b.let(f"getelementptr i64, ptr %args, i64 {words.FIRST_POINTER + k}")
            base = self.b.let(f"inttoptr i64 {self.b.let(f'load i64, ptr {word}, align 8')} to ptr")
            if output.dim <= UNROLL:
                for d, x in enumerate(self.scalars.components(output)):
                    self._store(base, kind, output.dim, str(d), self.values(x))
                continue
            with self.b.loop("0", str(output.dim), 1) as loop, self.values.inside(OUTPUT_LOOP, loop.index):
                value = self.values(self.scalars.at(output, loop_var(OUTPUT_LOOP, output.dim)))
                self._store(base, kind, output.dim, loop.index, value)

    def _store(self, base: str, kind: str, dim: int, d: str, value: Value) -> None:
        b = self.b
        elem = "i64" if kind == "index" else self.kernel.problem.precision.llvm
        if elem == "float":
            value = b.convert("fptrunc", value, "float")
        ty = b.vec("i64")
        row = b.let(f"mul {ty} {self.places}, {b.splat(str(dim), 'i64')}")
        place = b.let(f"add {ty} {row}, {b.splat(d, 'i64')}")
        pointers = b.let(f"getelementptr {elem}, ptr {base}, {ty} {place}")
        b.scatter(value.name, pointers, elem, self.mask)
