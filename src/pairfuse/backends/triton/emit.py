"""Writes a kernel as Triton source, from the same staged program as the CPU's.

In: a Kernel and the tile.  Out: the text of the Triton functions `kernel` and, where parts of the columns are merged
afterwards, `merge`.  One program of the one-dimensional grid computes BM rows of one batch, for one block of components
of the result, over one part of the columns; rows vary fastest.

A state is kept for every *pair* of the tile, so that the loop over the columns folds nothing: pair (m, n) of a tile
reduces the columns n, n + BN, n + 2 BN ... of row m.  Every few tiles (`flush`) and at the end, the states of a row are
folded by the `merge` of the record, and join those of the row, whose additive slots are of 64 bits.  Only lists (the K
smallest) are kept per row: as long as some pair of the tile beats the list of its row, the best column of each row is
inserted and taken out of the tile; that is rare.

Long vectors of the result are cut into blocks of components: what is of length 1 is computed again for each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...ir.expr import Expr, call, const, leaf
from ...ir.reductions import Machine
from ...lower.kernel import Kernel
from ...lower.scalar import Scalarizer, access, loop_var
from .rows import RowStates
from .source import Source
from .tile import SHORTEST_DOT, UNROLL_FOLD, Tile, component_block, inner_products, is_list

UNROLL = 16  # longer vectors of a stage are read by the loops that use them
COMPONENT_LOOP = 1000  # the number of the component block is loop variable COMPONENT_LOOP
ROW_LOOP, COLUMN_LOOP = 1001, 1002  # blocks of component numbers, of the operands of an inner product

HEADER = """\
import triton
import triton.language as tl
from triton.language import reduce as fold_columns
from triton.language.extra import libdevice


@triton.jit
def _floordiv(x, y):
    q = x // tl.where(y == 0, 1, y)
    rest = x - q * y
    return tl.where(y == 0, 0, tl.where((rest != 0) & ((rest < 0) != (y < 0)), q - 1, q))


@triton.jit
def _or(x, y):
    return x | y


@triton.jit
def any_pair(x):
    return tl.reduce(x, None, _or)
"""


def emit_kernel(kernel: Kernel, tile: Tile) -> str:
    """The text of the module."""
    emitter = TritonEmitter(kernel, tile)
    return "\n\n\n".join([HEADER.rstrip(), *emitter.functions()]) + "\n"


@dataclass(frozen=True, slots=True)
class Plan:
    """What every part of the text must know of a kernel: the blocks of components, the machine for one of them."""

    kernel: Kernel
    tile: Tile
    block: int
    blocks: int
    machine: Machine
    real: str
    index: str

    @property
    def is_list(self) -> bool:
        return is_list(self.kernel)

    def type_of(self, kind: str, additive: bool = False, long: bool = False) -> str:
        """Triton's type of a slot; `long`: of the state of a row, into which those of its pairs are folded."""
        return self.index if kind == "index" else "tl.float64" if additive and long else self.real


def plan(kernel: Kernel, tile: Tile) -> Plan:
    real = {"float32": "tl.float32", "float64": "tl.float64"}[kernel.problem.dtype]
    block, blocks = component_block(kernel)
    machine = kernel.problem.machine(tuple(1 if t.dim == 1 else block for t in kernel.terms))
    return Plan(kernel, tile, block, blocks, machine, real, "tl.int64" if tile.wide else "tl.int32")


class TritonEmitter:
    """State of the emission of one kernel."""

    def __init__(self, kernel: Kernel, tile: Tile):
        self.plan = plan(kernel, tile)
        self.kernel, self.tile, self.problem = kernel, tile, kernel.problem
        self.machine = self.plan.machine
        self.scalars = Scalarizer(unroll_fold=UNROLL_FOLD)
        self.source = Source(self.plan.real, self.plan.index, self.resolve, self.spans)
        self.rows = RowStates(self.plan, self.scalars, self.source)
        self.state_leaves = tuple(s.leaf("a") for s in self.machine.slots)
        self.term_leaves = tuple(
            leaf("slot", "real", name=f"F{k}", dim=1 if t.dim == 1 else self.plan.block, side="f")
            for k, t in enumerate(kernel.terms)
        )
        self.column_leaf = leaf("slot", "index", name="j", dim=1, side="f")
        self.masked = False

    def functions(self) -> list[str]:
        kernel = self.kernel_text()
        return [*self.rows.fold_functions(), kernel, *([self.rows.merge_kernel()] if self.tile.split else [])]

    # ------------------------------------------------------------------ leaves
    def spans(self, node: Expr) -> set[str]:
        """Which axes of the tile a value has."""
        return {name for name, axis in (("row", self.problem.kept), ("column", self.problem.over)) if axis in node.axes}

    def resolve(self, node: Expr) -> str:
        if node.name == "index":
            return "row" if node.param("axis") == self.problem.kept else "col"
        source, d = access(node)
        if source.name == "field":
            field = next(f for f in self.kernel.fields(source.param("stage")) if f.leaf is source)
            return self.source(self.scalars.at(field.expr, d))
        slot, axis = source.param("slot"), source.param("axis")
        component = f"{d} * c{slot}" if isinstance(d, int) else f"{self.source(d)} * c{slot}"
        place = "tl.zeros((1, 1), tl.int32)" if axis == "p" else f"{self._line_of(axis)} * s{slot}"
        return self.source.let(f"tl.load(p{slot} + {place} + {component}).to({self.plan.real})")

    def _line_of(self, axis: str) -> str:
        return "row_in" if axis == self.problem.kept else "col_in"

    # ------------------------------------------------------------------ the main kernel
    def kernel_text(self) -> str:
        s, rank, index = self.source, self.tile.batch_rank, self.plan.index
        slots = range(len(self.problem.inputs))
        arguments = [f"out{k}" for k in range(len(self.problem.record.outputs))] + ["state"]
        steps = [f"b{k}_{r}" for k in slots for r in range(rank)]
        lengths = [f"nb{r}" for r in range(rank)]
        for k in slots:
            arguments += [f"in{k}", f"s{k}", f"c{k}"]
        sizes = [*steps, *lengths, "kept", "reduced", "row_blocks", "per_part", "parts"]
        arguments += [*sizes, "BM: tl.constexpr", "BN: tl.constexpr"]
        s.line("pid = tl.program_id(0)")
        s.line("other = pid // row_blocks")
        s.line("part = other % parts")
        s.line(f"block = (other // parts) % {self.plan.blocks}")
        s.line(f"batch = other // (parts * {self.plan.blocks})")
        s.line(f"row = (pid % row_blocks).to({index}) * BM + tl.arange(0, BM)[:, None].to({index})")
        s.line("row_in = tl.minimum(row, kept - 1)")
        s.line("rest = batch")
        for r in reversed(range(rank)):
            s.line(f"n{r} = (rest % nb{r}).to(tl.int64)")
            s.line(f"rest = rest // nb{r}")
        for k in slots:
            s.line(f"p{k} = in{k}" + "".join(f" + n{r} * b{k}_{r}" for r in range(rank)))
        s.loops[COMPONENT_LOOP] = "block"
        self._stage("parameter")
        self._stage("row")
        if self.plan.is_list:
            names = self.rows.start()
            self._columns(lambda: self._take_best(names), lambda: None)
        else:
            pairs = self._pair_states()
            names = self.rows.start()
            self._columns(lambda: self._update_pairs(pairs), lambda: self._flush(pairs, names))
        if self.tile.split:
            self.rows.store(names)
        else:
            self.rows.finish(names)
        fixed = ", ".join(f'"{n}"' for n in sizes)
        head = f"@triton.jit(do_not_specialize=[{fixed}])\ndef kernel({', '.join(arguments)}):"
        return "\n".join([head, *s.lines])

    def _stage(self, name: str) -> None:
        """Compute the short fields of a stage where they are needed; long ones are read by the loops that use them."""
        for f in self.kernel.fields(name):
            if f.expr.dim <= UNROLL:
                for d in range(f.expr.dim):
                    self.source.bind(self.scalars.at(f.leaf, d), self.source(self.scalars.at(f.expr, d)))

    def _columns(self, body: Callable[[], None], flush: Callable[[], None]) -> None:
        """The loops over the columns of this part: whole tiles, then the last one, whose columns are masked.

        The starts of both loops are of the same type as the column numbers.
        """
        s, index = self.source, self.plan.index
        s.line(f"start = part.to({index}) * per_part")
        s.line("stop = tl.minimum(start + per_part, reduced)")
        s.line("whole = start + (stop - start) // BN * BN")
        chunk = f"BN * {self.tile.flush}"
        with s.block(f"for chunk in range(start, whole, {chunk}):"):
            with s.block(f"for first in range(chunk, tl.minimum(chunk + {chunk}, whole), BN):"):
                s.line(f"col = first + tl.arange(0, BN)[None, :].to({index})")
                s.line("col_in = col")
                self._stage("column")
                body()
            flush()
        with s.block("if whole < stop:"):
            s.line(f"col = whole + tl.arange(0, BN)[None, :].to({index})")
            s.line("col_in = tl.minimum(col, reduced - 1)")
            s.line("valid = tl.broadcast_to(col < stop, (BM, BN))")
            self._stage("column")
            self.masked = True
            body()
            self.masked = False
            flush()

    # ------------------------------------------------------------------ terms
    def _dots(self) -> None:
        """Compute the inner products of long vectors by the matrix units, 16 or 32 components at a time.

        A vector is evaluated at a block of component numbers, along the columns for the rows and the other way round.
        tf32x3: each number is split in two of 11 bits, and of the four products only the smallest is left out, so that
        the error is that of float32 sums.
        """
        s = self.source
        for node, row, column in inner_products(self.kernel):
            size = row.dim
            step = SHORTEST_DOT if size <= SHORTEST_DOT else 2 * SHORTEST_DOT
            acc = s.let("tl.zeros((BM, BN), tl.float32)")
            with s.block(f"for k in range(0, {size}, {step}):"):
                operands: list[str] = []
                for depth, vector, place, shape in (
                    (ROW_LOOP, row, "[None, :]", f"(BM, {step})"),
                    (COLUMN_LOOP, column, "[:, None]", f"({step}, BN)"),
                ):
                    number = s.let(f"k + tl.arange(0, {step}){place}")
                    s.loops[depth] = s.let(f"tl.minimum({number}, {size - 1})")
                    value = f"tl.broadcast_to({s(self.scalars.at(vector, loop_var(depth)))}, {shape})"
                    del s.loops[depth]
                    operands.append(s.let(f"tl.where({number} < {size}, {value}, 0.0)" if size % step else value))
                s.line(f'{acc} = tl.dot({", ".join(operands)}, {acc}, input_precision="tf32x3")')
            s.bind(self.scalars.at(node, 0), acc)

    def _terms(self) -> None:
        """Compute the components of the terms that this program reduces, and bind the leaves that stand for them."""
        if self.tile.dots:
            self._dots()
        for named, term in zip(self.term_leaves, self.kernel.terms, strict=True):
            if term.dim == 1 or self.plan.blocks == 1:
                places: list[int | Expr] = list(range(term.dim))
            else:
                first = loop_var(COMPONENT_LOOP) * self.plan.block
                places = [self._clipped(first + d, term.dim - 1) for d in range(self.plan.block)]
            for d, place in enumerate(places):
                value = self.source(self.scalars.at(term, place))
                self.source.bind(self.scalars.at(named, d), value)
        self.source.bind(self.scalars.at(self.column_leaf, 0), "col")

    def _clipped(self, place: Expr, last: int) -> Expr:
        limit = const(last, "index")
        return call("where", place > limit, limit, place)

    # ------------------------------------------------------------------ one state per pair
    def _pair_states(self) -> dict[Expr, str]:
        names: dict[Expr, str] = {}
        for slot, leaf_ in zip(self.machine.slots, self.state_leaves, strict=True):
            for d in range(slot.dim):
                names[self.scalars.at(leaf_, d)] = f"pair_{slot.name}_{d}"
        self._reset(names, [True] * len(self.machine.slots))
        return names

    def _reset(self, names: dict[Expr, str], chosen: list[bool]) -> None:
        for slot, leaf_, wanted in zip(self.machine.slots, self.state_leaves, chosen, strict=True):
            for d in range(slot.dim if wanted else 0):
                value = self.rows.initial(slot, self.plan.type_of(slot.kind), "BN")
                self.source.line(f"{names[self.scalars.at(leaf_, d)]} = {value}")

    def _bind(self, names: dict[Expr, str]) -> None:
        for key, name in names.items():
            self.source.bind(key, name)

    def _update_pairs(self, names: dict[Expr, str]) -> None:
        s, machine = self.source, self.machine
        self._terms()
        self._bind(names)
        first = self.term_leaves[0]
        if machine.revise is not None and machine.by_column:
            self._replace(names, machine.revise(self.state_leaves, first, self.column_leaf))
        elif machine.revise is not None:
            with s.scope():
                condition = self._some_pair()
                with s.block(f"if {condition}:"):
                    self._replace(names, machine.revise(self.state_leaves, first, self.column_leaf))
        self._replace(names, machine.update(self.state_leaves, self.term_leaves, self.column_leaf))

    def _some_pair(self) -> str:
        """A scalar: does the guard hold for some pair of the tile?

        The guard of a folded block holds for a row when it holds for one of its terms: `fold` is the extremum that the
        guard compares.
        """
        assert self.machine.guard is not None
        guard = self.machine.guard(self.state_leaves, self.term_leaves[0])
        names = [self.source(self.scalars.at(guard, d)) for d in range(guard.dim)]
        masked = " & valid" if self.masked else ""
        return f"any_pair(tl.broadcast_to(({' | '.join(names)}){masked}, (BM, BN)))"

    def _replace(self, names: dict[Expr, str], new: tuple[Expr, ...]) -> None:
        """Assign the new state of the pairs, all of it computed from the old one."""
        s = self.source
        assignments: list[tuple[str, str]] = []
        with s.scope():
            for slot, value, old in zip(self.machine.slots, new, self.state_leaves, strict=True):
                for d in range(slot.dim if value is not old else 0):
                    name = names[self.scalars.at(old, d)]
                    x = f"tl.broadcast_to({s(self.scalars.at(value, d))}, (BM, BN)).to({self.plan.type_of(slot.kind)})"
                    assignments.append((name, s.let(f"tl.where(valid, {x}, {name})" if self.masked else x)))
        for name, value in assignments:
            s.line(f"{name} = {value}")
        self._bind(names)

    def _flush(self, pairs: dict[Expr, str], rows: dict[Expr, str]) -> None:
        """Fold the states of the pairs into those of the rows. Slots that the guard reads keep their values."""
        self.rows.fold(rows, list(pairs.values()))
        keep = self.machine.guard is not None
        self._reset(pairs, [slot.additive or not keep for slot in self.machine.slots])

    # ------------------------------------------------------------------ lists
    def _take_best(self, names: dict[Expr, str]) -> None:
        """While some column beats the list of some row: insert the best column of each row, and take it out."""
        s, which = self.source, self.machine.fold
        assert self.machine.revise is not None
        worst = 'float("inf")' if which == "min" else 'float("-inf")'
        self._terms()
        self._bind(names)
        term = s.find(self.scalars.at(self.term_leaves[0], 0))
        with s.scope():
            condition = self._some_pair()
        with s.block(f"if {condition}:"):
            full = s.let(f"tl.broadcast_to({term}, (BM, BN))")
            seen = f"({full} == {full})" + (" & valid" if self.masked else "")
            left = s.let(f"tl.where({seen}, {full}, {worst})")
            columns = s.let("tl.broadcast_to(col, (BM, BN))")
            best, place = s.fresh("best"), s.fresh("place")
            going, last = s.fresh("going"), LAST[self.plan.index]

            def search() -> None:
                s.line(f"{best} = tl.{which}({left}, 1, keep_dims=True)")
                s.line(f"{place} = tl.min(tl.where({left} == {best}, {columns}, {last}), 1, keep_dims=True)")
                with s.scope():
                    self._bind(names)
                    s.bind(self.scalars.at(self.term_leaves[0], 0), best)
                    guard = self.machine.guard(self.state_leaves, self.term_leaves[0])  # type: ignore[misc]
                    test = s(self.scalars.at(guard, 0))
                    s.line(f"{going} = any_pair({test})")

            search()
            with s.block(f"while {going}:"):
                s.bind(self.scalars.at(self.term_leaves[0], 0), best)
                s.bind(self.scalars.at(self.column_leaf, 0), place)
                self.rows.replace(names, self.machine.revise(self.state_leaves, self.term_leaves[0], self.column_leaf))
                s.line(f"{left} = tl.where({columns} == {place}, {worst}, {left})")
                search()


LAST = {"tl.int32": "2147483647", "tl.int64": "9223372036854775807"}
