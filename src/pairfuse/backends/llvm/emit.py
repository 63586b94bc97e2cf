"""Writes the main function of a kernel: the loops over batches, chunks, tiles and columns.

In: a Kernel, a Schedule, a Target.  Out: LLVM IR text.  The function walks

    for every batch:            parameters are read; the state of all rows is set to its initial values
      for every chunk:          columns are packed: what depends on the column only, side by side
        for every tile of rows: what depends on the row only; the state is read
          for every block:      pairs, `cols` columns at a time, then one at a time; short sums are added to long ones
        the state is written
      the state is finished (backends/llvm/finish.py) unless other threads hold parts of it

Where blocks of rows have lists of columns (block-sparse ranges), listed.py writes the loops over blocks and chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...ir.expr import Expr
from ...lower.kernel import Field, Kernel
from ...lower.scalar import KEPT, UNROLL, Scalarizer, access, loop_var
from ...lower.schedule import Schedule, Target
from . import layout as words
from .builder import Builder, Value
from .finish import FinishEmitter
from .kept import KeptVectors
from .layout import Layout
from .listed import ListedWalk
from .pairs import PairLoops
from .underflow import Underflow
from .values import Values

# The depth of the loops that the emitter opens itself lies beyond those of the formula's folds.
COMPONENT_LOOP = 1000
UNROLL_COPY = 8


def emit_kernel(kernel: Kernel, schedule: Schedule, target: Target) -> str:
    """The text of the module: functions `kernel` and `finish`."""
    b = Builder(schedule.lanes, target.flags)
    main = KernelEmitter(kernel, schedule, b).emit()
    finish = FinishEmitter(kernel, schedule, b.sibling(max(2, target.vector_bytes // 8))).emit()
    return b.module(finish, main)


class KernelEmitter:
    """State of the emission of one kernel: the builder, names of addresses, the values of the stages."""

    def __init__(self, kernel: Kernel, schedule: Schedule, b: Builder):
        self.kernel, self.schedule = kernel, schedule
        self.layout = Layout(kernel, schedule)
        self.problem = kernel.problem
        self.real = self.problem.precision.llvm
        self.integer = f"i{schedule.index_bits}"
        self.on_rows = schedule.lanes_on == "kept"
        self.scalars = Scalarizer()
        self.b = b
        self.values = Values(self.b, self.real, self.integer, self.shape_of)
        self.values.slice = schedule.slice
        self.values.sums_by_step = any(s.dim > schedule.unroll_state for s in kernel.slots)
        self.bases: list[str] = []
        self.strides: list[tuple[str, str]] = []

    def shape_of(self, node: Expr) -> tuple[int, int]:
        rows = self.schedule.rows if self.problem.rows in node.axes else 1
        cols = len(self.values.window) if self.problem.columns in node.axes else 1
        return rows, cols

    # ------------------------------------------------------------------ the function
    def emit(self) -> str:
        b = self.b
        self.iota = f"<{', '.join(f'i64 {k}' for k in range(b.lanes))}>"
        self.row_begin, self.row_end = self.word(words.ROW_BEGIN), self.word(words.ROW_END)
        self.col_begin, self.col_end = self.word(words.COL_BEGIN), self.word(words.COL_END)
        scratch = b.let(f"inttoptr i64 {self.word(words.SCRATCH)} to ptr")
        self.pack = scratch
        self.row_memory = b.pointer(scratch, str(self.layout.pack_bytes), "i8")
        self.parameter_memory = b.pointer(self.row_memory, str(self.layout.row_bytes), "i8")
        self.tile_memory = b.pointer(self.parameter_memory, str(self.layout.parameter_bytes), "i8")
        self.term_memory = b.pointer(self.tile_memory, str(self.layout.tile_bytes), "i8")
        self.number_memory = b.pointer(self.term_memory, str(self.layout.term_bytes), "i8")
        self.kept = KeptVectors(self)
        self.state = b.let(f"inttoptr i64 {self.word(words.STATE)} to ptr")
        self.units = self.word(words.UNITS)
        self.local_units = self.word(words.LOCAL_UNITS)
        self.cancel = b.let(f"inttoptr i64 {self.word(words.CANCEL)} to ptr")
        offsets = b.let(f"inttoptr i64 {self.word(words.OFFSETS)} to ptr")
        first = self.layout.input_words
        pointers = [b.let(f"inttoptr i64 {self.word(first + 3 * k)} to ptr") for k in range(self.n_inputs)]
        self.strides = [(self.word(first + 3 * k + 1), self.word(first + 3 * k + 2)) for k in range(self.n_inputs)]
        self.listed = ListedWalk(self) if self.schedule.listed else None
        self.pairs = PairLoops(self)
        self.underflow = Underflow(b)
        self.underflow.flush()
        with b.loop(self.word(words.BATCH_BEGIN), self.word(words.BATCH_END), 1) as batch:
            self._batch(batch.index, pointers, offsets)
        self.underflow.restore()
        b.line("ret void")
        return b.function("void @kernel(ptr noalias %args)")

    @property
    def n_inputs(self) -> int:
        return len(self.problem.inputs)

    def word(self, k: int) -> str:
        pointer = self.b.let(f"getelementptr i64, ptr %args, i64 {k}")
        return self.b.let(f"load i64, ptr {pointer}, align 8")

    def _batch(self, batch: str, pointers: Sequence[str], offsets: str) -> None:
        b = self.b
        row = b.let(f"mul i64 {batch}, {self.n_inputs}")
        self.bases = []
        for k, pointer in enumerate(pointers):
            place = b.pointer(offsets, b.let(f"add i64 {row}, {k}"), "i64")
            offset = b.let(f"load i64, ptr {place}, align 8")
            self.bases.append(b.pointer(pointer, offset, self.real))
        with self.values.nested(self.resolve_parameter):
            self._parameters()
            if self.listed is not None:
                self.listed.walk(batch)
            else:
                self.pairs.state.initialise()
                with b.loop(self.col_begin, self.col_end, self.schedule.chunk) as chunk:
                    self._chunk(chunk.index)
            if self.listed is None or self.problem.both:
                finish = b.let(f"icmp ne i64 {self.word(words.FINISH)}, 0")
                b.if_scalar(finish, lambda: self.call_finish(batch), [])

    def call_finish(self, batch: str) -> list[Value]:
        self.underflow.restore()
        self._call_finish(batch)
        self.underflow.flush()
        return []

    def _call_finish(self, batch: str) -> None:
        b = self.b
        state = b.let(f"ptrtoint ptr {self.state} to i64")
        if self.problem.both:
            b.line(f"call void @finish(ptr %args, i64 {state}, i64 1, i64 0, i64 1, i64 {batch})")
            return
        rows = b.let(f"sub i64 {self.row_end}, {self.row_begin}")
        first = b.let(f"add i64 {b.let(f'mul i64 {batch}, {self.word(words.KEPT_SIZE)}')}, {self.row_begin}")
        parts = 1 if self.on_rows else b.lanes
        b.line(f"call void @finish(ptr %args, i64 {state}, i64 {parts}, i64 0, i64 {rows}, i64 {first})")

    def _chunk(self, begin: str) -> None:
        b = self.b
        over = b.let(f"add i64 {begin}, {self.schedule.chunk}")
        below = b.let(f"icmp slt i64 {over}, {self.col_end}")
        end = b.let(f"select i1 {below}, i64 {over}, i64 {self.col_end}")
        b.if_scalar(self.go_on(), lambda: self._packed(begin, end), [])

    def go_on(self) -> str:
        """Has nobody asked to stop?"""
        flag = self.b.let(f"load volatile i32, ptr {self.cancel}, align 4")
        return self.b.let(f"icmp eq i32 {flag}, 0")

    def _packed(self, begin: str, end: str) -> list[Value]:
        self.pack_columns(begin, end, begin)
        self.tiles(begin, end)
        return []

    def tiles(self, begin: str, end: str) -> None:
        """All tiles of rows over the columns that are packed, of which the first one has the number `begin`."""
        with self.b.loop(self.row_begin, self.row_end, self.schedule.tile_rows) as tile:
            self.b.if_scalar(self.go_on(), lambda: self._tile(tile.index, begin, end), [])

    def _tile(self, tile: str, begin: str, end: str) -> list[Value]:
        with self.values.nested(self.resolve_row):
            self.tile = tile
            with self.b.part("tile"):
                self._rows()
            self.pairs.tile(tile, begin, end)
        return []

    # ------------------------------------------------------------------ parameter stage
    def _parameters(self) -> None:
        """Parameters are the same on all lanes: computed as vectors, stored once, read as broadcasts."""
        self.kept.compute("parameter")
        for f in self.kernel.parameter:
            self._each_component(f, lambda value, d, f=f: self._store_parameter(value, f.offset, d))
        if self.kernel.width("parameter") <= words.PARAMETERS_IN_REGISTERS:
            for f in self.kernel.parameter:
                for d in range(f.expr.dim):
                    leaf = self.scalars.at(f.leaf, d)
                    self.values.scope.known[leaf] = self.resolve_parameter(leaf)

    def _store_parameter(self, value: Value, offset: int, d: int | Expr) -> None:
        lane = self.b.let(f"extractelement {self.b.vec(self.real)} {value.name}, i32 0")
        self.b.line(f"store {self.real} {lane}, ptr {self._parameter_place(offset, d)}, align 4")

    def _parameter_place(self, offset: int, d: int | Expr) -> str:
        return self.b.pointer(self.parameter_memory, self.offset(offset, d), self.real)

    def offset(self, base: int, d: int | Expr) -> str:
        """base + d as an i64."""
        if isinstance(d, int):
            return str(base + d)
        index = self.values.scalar(d)
        return index if base == 0 else self.b.let(f"add i64 {index}, {base}")

    def resolve_parameter(self, node: Expr) -> Value:
        source, d = access(node)
        if source.name == KEPT:
            return self.kept.read(source, d)
        if source.name == "input":
            slot = source.param("slot")
            return self._splat_from(self.bases[slot], self._strided(d, self.strides[slot][1]))
        place = self._parameter_place(source.param("offset"), d)
        return Value(self.real, ((self.b.broadcast(place, self.real),),))

    def _strided(self, d: int | Expr, stride: str) -> str:
        return self.b.let(f"mul i64 {self.offset(0, d)}, {stride}")

    def _splat_from(self, base: str, offset: str) -> Value:
        return Value(self.real, ((self.b.broadcast(self.b.pointer(base, offset, self.real), self.real),),))

    # ------------------------------------------------------------------ gathering rows of the user's arrays
    def numbers(self, start: str, stop: str) -> str:
        """start + (0, 1, ...), clipped below stop: lanes beyond the end repeat the last valid element."""
        b, ty = self.b, self.b.vec("i64")
        last = b.splat(b.let(f"sub i64 {stop}, 1"), "i64")
        place = b.let(f"add {ty} {b.splat(start, 'i64')}, {self.iota}")
        inside = b.let(f"icmp slt {ty} {place}, {last}")
        return b.let(f"select {b.vec('i1')} {inside}, {ty} {place}, {ty} {last}")

    def gather(self, slot: int, numbers: str, d: int | Expr) -> str:
        """Component d of the rows `numbers` of an input."""
        b, ty = self.b, self.b.vec("i64")
        row_stride, stride = self.strides[slot]
        along = b.let(f"mul {ty} {numbers}, {b.splat(row_stride, 'i64')}")
        base = b.pointer(self.bases[slot], self._strided(d, stride), self.real)
        pointers = b.let(f"getelementptr {self.real}, ptr {base}, {ty} {along}")
        return b.gather(pointers, self.real)

    # ------------------------------------------------------------------ row stage
    def _rows(self) -> None:
        b, rows = self.b, self.schedule.rows
        if self.on_rows:
            starts = [self.tile] + [b.let(f"add i64 {self.tile}, {r * b.lanes}") for r in range(1, rows)]
            self.row_numbers = [self.numbers(s, self.row_end) for s in starts]
        else:
            last = b.let(f"sub i64 {self.row_end}, 1")
            self.row_numbers = []
            for r in range(rows):
                place = b.let(f"add i64 {self.tile}, {r}")
                inside = b.let(f"icmp slt i64 {place}, {last}")
                self.row_numbers.append(b.let(f"select i1 {inside}, i64 {place}, i64 {last}"))
        self.kept.compute("row")
        if self.rows_in_registers:
            for f in self.kernel.row:
                for d in range(f.expr.dim):
                    value = self.values(self.scalars.at(f.expr, d))
                    self.values.scope.known[self.scalars.at(f.leaf, d)] = b.expand(value, rows, 1)
            return
        for f in self.kernel.row:
            self._each_component(f, lambda value, d, f=f: self._store_row(value, f.offset, d))

    @property
    def rows_in_registers(self) -> bool:
        short = sum(f.expr.dim for f in self.kernel.row) <= words.ROW_FIELDS_IN_REGISTERS
        return short and not self.pairs.numbered_rows

    def _each_component(self, f: Field, store: Callable[[Value, int | Expr], None]) -> None:
        """Compute the components of a field, by a loop if there are many, and pass each to `store(value, d)`."""
        if f.expr.dim <= UNROLL:
            for d in range(f.expr.dim):
                store(self.values(self.scalars.at(f.expr, d)), d)
            return
        var = loop_var(COMPONENT_LOOP, f.expr.dim)
        body = self.scalars.at(f.expr, var)
        self.values.hoist(body, COMPONENT_LOOP)
        with self.b.loop("0", str(f.expr.dim), 1) as loop, self.values.inside(COMPONENT_LOOP, loop.index):
            store(self.values(body), var)

    def _row_place(self, offset: int, d: int | Expr, r: int) -> str:
        component = self.b.let(f"mul i64 {self.offset(offset, d)}, {self.schedule.rows * self.b.lanes}")
        return self.b.pointer(self.row_memory, self.b.let(f"add i64 {component}, {r * self.b.lanes}"), self.real)

    def _store_row(self, value: Value, offset: int, d: int | Expr) -> None:
        full = self.b.expand(value, self.schedule.rows, 1)
        for r in range(self.schedule.rows):
            self.b.store(full.grid[r][0], self._row_place(offset, d, r), self.real)

    def resolve_row(self, node: Expr) -> Value:
        if node.name == "index":
            return self.row_index()
        source, d = access(node)
        if source.name == KEPT:
            return self.kept.read(source, d)
        if source.param("axis") == "p":
            return self.resolve_parameter(node)
        b = self.b
        if source.name == "field":
            grid = [
                (b.load(self._row_place(source.param("offset"), d, r), self.real),) for r in range(self.schedule.rows)
            ]
        elif self.on_rows:
            grid = [(self.gather(source.param("slot"), n, d),) for n in self.row_numbers]
        else:
            slot = source.param("slot")
            row_stride, stride = self.strides[slot]
            grid = []
            for n in self.row_numbers:
                along = b.let(f"mul i64 {n}, {row_stride}")
                place = b.let(f"add i64 {along}, {self._strided(d, stride)}")
                grid.append((self._splat_from(self.bases[slot], place).name,))
        return Value(self.real, tuple(grid))

    def row_index(self) -> Value:
        """The numbers of the rows of the tile."""
        b = self.b
        ty = self.integer
        if self.on_rows:
            names = self.row_numbers
            if ty == "i32":
                names = [b.let(f"trunc {b.vec('i64')} {n} to {b.vec('i32')}") for n in names]
            return Value(ty, tuple((n,) for n in names))
        names = [b.let(f"trunc i64 {n} to i32") if ty == "i32" else n for n in self.row_numbers]
        return Value(ty, tuple((b.splat(n, ty),) for n in names))

    # ------------------------------------------------------------------ column stage
    def pack_columns(self, begin: str, end: str, origin: str) -> None:
        """Compute the column fields of [begin, end), a vector of columns at a time; column `origin` has the place 0."""
        b = self.b
        copied = [f for f in self.kernel.column if self.on_rows and f.expr.name == "input"]
        computed = [f for f in self.kernel.column if f not in copied]
        if copied:
            with b.loop(begin, end, 1) as loop, b.part("column"):
                for f in copied:
                    self._copy_column(f, loop.index, origin)
        if not computed:
            return
        window, self.values.window = self.values.window, range(1)  # the lanes hold columns
        with b.loop(begin, end, b.lanes) as loop, b.part("columns"), self.values.nested(self.resolve_packed):
            self.column_numbers = self.numbers(loop.index, end)
            local = b.let(f"sub i64 {loop.index}, {origin}")
            self.kept.compute("column")
            for f in computed:
                self._each_component(f, lambda value, d, f=f: self._store_packed(value, local, f.offset, d))
        self.values.window = window

    def _copy_column(self, f: Field, column: str, origin: str) -> None:
        """One column of an input as it is, number by number: gathers and scatters take four times as long."""
        b = self.b
        slot = f.expr.param("slot")
        row_stride, stride = self.strides[slot]
        source = b.pointer(self.bases[slot], b.let(f"mul i64 {column}, {row_stride}"), self.real)
        local = b.let(f"mul i64 {b.let(f'sub i64 {column}, {origin}')}, {self.kernel.width('column')}")
        target = b.pointer(self.pack, b.let(f"add i64 {local}, {f.offset}"), self.real)

        def copy(d: str) -> None:
            place = b.pointer(source, b.let(f"mul i64 {d}, {stride}"), self.real)
            number = b.let(f"load {self.real}, ptr {place}, align {self.layout.real_bytes}")
            to = b.pointer(target, d, self.real)
            b.line(f"store {self.real} {number}, ptr {to}, align {self.layout.real_bytes}")

        if f.expr.dim <= UNROLL_COPY:
            for d in range(f.expr.dim):
                copy(str(d))
            return
        with b.loop("0", str(f.expr.dim), 1) as loop:
            copy(loop.index)

    def _store_packed(self, value: Value, local: str, offset: int, d: int | Expr) -> None:
        """Lanes on rows: [column][component]. Lanes on columns: [vector of columns][component][lane]."""
        b = self.b
        width = self.kernel.width("column")
        place = self.offset(offset, d)
        start = b.let(f"mul i64 {local}, {width}")
        if self.on_rows:
            base = b.pointer(self.pack, b.let(f"add i64 {start}, {place}"), self.real)
            strides = f"<{', '.join(f'i64 {k * width}' for k in range(b.lanes))}>"
            pointers = b.let(f"getelementptr {self.real}, ptr {base}, {b.vec('i64')} {strides}")
            b.scatter(value.name, pointers, self.real)
        elif self.listed is not None:  # at any place, not only at that of a whole vector
            b.scatter(value.name, self._packed_lanes(local, place), self.real)
        else:
            along = b.let(f"mul i64 {place}, {b.lanes}")
            b.store(value.name, b.pointer(self.pack, b.let(f"add i64 {start}, {along}"), self.real), self.real)

    def _packed_lanes(self, local: str, place: str) -> str:
        """The addresses of a component of the columns local + (0, 1, ...), where the lanes hold columns."""
        b, ty = self.b, self.b.vec("i64")
        column = b.let(f"add {ty} {b.splat(local, 'i64')}, {self.iota}")
        lanes = b.splat(str(b.lanes), "i64")
        vector = b.let(f"sdiv {ty} {column}, {lanes}")
        lane = b.let(f"srem {ty} {column}, {lanes}")
        row = b.let(f"mul {ty} {vector}, {b.splat(str(self.kernel.width('column')), 'i64')}")
        row = b.let(f"add {ty} {row}, {b.splat(place, 'i64')}")
        at = b.let(f"add {ty} {b.let(f'mul {ty} {row}, {lanes}')}, {lane}")
        return b.let(f"getelementptr {self.real}, ptr {self.pack}, {ty} {at}")

    def resolve_packed(self, node: Expr) -> Value:
        """Leaves of the column stage, where the lanes hold columns."""
        if node.name == "index":
            names = self.column_numbers
            if self.integer == "i32":
                names = self.b.let(f"trunc {self.b.vec('i64')} {names} to {self.b.vec('i32')}")
            return Value(self.integer, ((names,),))
        source, d = access(node)
        if source.name == KEPT:
            return self.kept.read(source, d)
        if source.param("axis") == "p":
            return self.resolve_parameter(node)
        return Value(self.real, ((self.gather(source.param("slot"), self.column_numbers, d),),))
