"""Writes a kernel as Triton source, from the same staged program as the CPU's.

In: a Kernel and the tile.  Out: the text of the Triton functions `kernel` and, where parts of the columns are merged
afterwards, `merge`; where matrix units multiply, those that make their operands ready (operand_kernels.py).  One
program of the one-dimensional grid computes BM rows of one batch, for one block of components of the result, over one
part of the columns; rows vary fastest.

There are three ways in which the states of the rows come about:

    pairs.py    a state for every pair of the tile, folded every few tiles (the common way)
    folded.py   a state for every row, renewed once per tile: terms from matrix units (dots.py), wide sums (wide.py)
    lists.py    a state for every row, changed by the best columns of a tile only: lists of the K smallest, argmin

Long vectors of the result are cut into blocks of components: what is of length 1 is computed again for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ...ir.expr import Expr, const, leaf
from ...lower.contract import SHORTEST
from ...lower.kernel import Kernel
from ...lower.scalar import Scalarizer, access, free_loops, loop_var
from .dots import Dots
from .folded import FoldedStates
from .guards import count_missing
from .kept import KeptVectors
from .lists import take_best
from .operand_kernels import prepare_functions
from .operands import sums_differences
from .pairs import PairStates
from .plan import COMPONENT_LOOP, DOWN, PAIRS, WIDE_LOOP, Columns, plan
from .rows import RowStates
from .source import Source
from .tile import LONGEST_WRITTEN_OUT, UNROLL_FOLD, Tile
from .wide import place

NEAR_COLUMNS = 16  # columns at a time of a tile that matrix units are not exact enough for; wide sums need 16

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


@triton.jit
def _least_or_nan(x, y):
    return tl.minimum(x, y, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def not_all_positive(x):
    return ~(tl.reduce(x, None, _least_or_nan) > 0.0)


@triton.jit
def _lesser(x, y):
    return tl.minimum(x, y)


@triton.jit
def least(x):
    return tl.reduce(x, None, _lesser)


@triton.jit
def _larger(x, y):
    return tl.maximum(x, y)


@triton.jit
def largest(x):
    return tl.reduce(x, None, _larger)


@triton.jit
def multiply(x, y, acc):
    return tl.dot(x, y, acc)
"""

# For products whose mantissas and exponents are kept apart (ir/steps.py). Subnormal numbers are made normal ones first.
APART = """\


@triton.jit
def _normal(x):
    if x.dtype == tl.float64:
        return tl.where(tl.abs(x) < 2.2250738585072014e-308, x * 18446744073709551616.0, x)
    else:
        return tl.where(tl.abs(x) < 1.1754943508222875e-38, x * 18446744073709551616.0, x)


@triton.jit
def _mantissa(x):
    y = _normal(x)
    if x.dtype == tl.float64:
        bits = y.to(tl.int64, bitcast=True)
        found = ((bits & -9218868437227405313) | 4602678819172646912).to(tl.float64, bitcast=True)
        return tl.where((bits & 9218868437227405312) == 9218868437227405312, y, found)
    else:
        bits = y.to(tl.int32, bitcast=True)
        found = ((bits & -2139095041) | 1056964608).to(tl.float32, bitcast=True)
        return tl.where((bits & 2139095040) == 2139095040, y, found)


@triton.jit
def _exponent(x):
    y = _normal(x)
    if x.dtype == tl.float64:
        found = ((y.to(tl.int64, bitcast=True) & 9218868437227405312) >> 52) - 1022
    else:
        found = ((y.to(tl.int32, bitcast=True) & 2139095040) >> 23) - 126
    return tl.where(x == y, found, found - 64).to(x.dtype)


@triton.jit
def _power_of_two(x):
    if x.dtype == tl.float64:
        return ((x.to(tl.int64) + 1023) << 52).to(tl.float64, bitcast=True)
    else:
        return ((x.to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)
"""


def emit_kernel(kernel: Kernel, tile: Tile) -> str:
    """The text of the module."""
    functions = TritonEmitter(kernel, tile).functions()
    apart = [APART.strip()] if any("_mantissa(" in text for text in functions) else []
    return "\n\n\n".join([HEADER.rstrip(), *apart, *functions]) + "\n"


class TritonEmitter:
    """State of the emission of one kernel."""

    def __init__(self, kernel: Kernel, tile: Tile):
        self.plan = plan(kernel, tile)
        self.kernel, self.tile, self.problem = kernel, tile, kernel.problem
        self.machine = self.plan.machine
        self.scalars = Scalarizer(unroll_fold=UNROLL_FOLD)
        self.source = Source(self.plan.real, self.plan.index, self.resolve, self.shape)
        self.rows = RowStates(self.plan, self.scalars, self.source)
        self.columns, self.view = Columns(), PAIRS
        self.differences = sums_differences(kernel, tile)  # of the present tile: no product is exact enough
        self.loops: dict[Expr, frozenset[int]] = {}
        self.state_leaves = tuple(s.leaf("a") for s in self.machine.slots)
        self.term_leaves = tuple(
            leaf("slot", "real", name=f"F{k}", dim=1 if t.dim == 1 else self.plan.block, side="f")
            for k, t in enumerate(kernel.terms)
        )
        self.column_leaf = leaf("slot", "index", name="j", dim=1, side="f")
        self.masked, self.first = False, ""  # of the present tile: the number of its first column
        self.dots = Dots(self)
        self.kept = KeptVectors(self)

    def functions(self) -> list[str]:
        kernel = self.kernel_text()
        found = [*self.rows.fold_functions(), kernel, *([self.rows.merge_kernel()] if self.tile.split else [])]
        return [*prepare_functions(self.kernel, self.tile), *found]

    # ------------------------------------------------------------------ leaves
    def shape(self, node: Expr) -> str:
        """The shape of the block of a value."""
        row, column = self.problem.kept in node.axes, self.problem.over in node.axes
        if self.view == PAIRS:
            return f"({'BM' if row else 1}, {self.columns.size if column else 1})"
        first = self.columns.size if column and self.view == DOWN else "BM" if row else 1
        along = WIDE_LOOP in free_loops(node, self.loops)
        return f"({first}, {self.plan.block if along else 1})"

    @contextmanager
    def seen(self, view: str) -> Iterator[None]:
        """Write values on their own, as blocks of this view."""
        before = self.source.scopes, self.view
        self.source.scopes, self.view = [{}], view
        try:
            yield
        finally:
            self.source.scopes, self.view = before

    def resolve(self, node: Expr) -> str:
        if node.name == "index":
            if node.param("axis") == self.problem.kept:
                return self.number("row", "row")
            return self.number(self.columns.names(self.view)[0], "col")
        source, d = access(node)
        if source in self.kept.offsets:
            return self.kept.read(source, d)
        if source.name == "field":
            scalars = self.source.scalars_here(UNROLL_FOLD)
            return self.source(scalars.at(self.kernel.definition(source), d))
        return self.source.let(f"{self._loaded(source, d)}.to({self.plan.real})")

    def stored(self, vector: Expr, d: int | Expr) -> str:
        """A component of a field that is an input, in the type in which it is stored."""
        return self.source.let(self._loaded(self.kernel.definition(vector), d))

    def _loaded(self, source: Expr, d: int | Expr) -> str:
        slot, axis = source.param("slot"), source.param("axis")
        component = f"{d} * c{slot}" if isinstance(d, int) else f"{self.source(d)} * c{slot}"
        place = "tl.zeros((1, 1), tl.int32)" if axis == "p" else f"{self._line_of(axis)} * s{slot}"
        return f"tl.load(p{slot} + {place} + {component})"

    def number(self, name: str, line: str) -> str:
        """The number of a row or column in the whole problem, of which a streamed launch sees a chunk (launch.py)."""
        return self.source.let(f"{name} + first_{line}.to({self.plan.index})") if self.tile.carried else name

    def _line_of(self, axis: str) -> str:
        if axis == self.problem.kept:
            return "row_in"
        return self.columns.names(self.view)[1]

    # ------------------------------------------------------------------ the main kernel
    def kernel_text(self) -> str:
        s, rank = self.source, self.tile.batch_rank
        slots = range(len(self.problem.inputs))
        arguments = [f"out{k}" for k in range(len(self.problem.record.outputs))] + ["state"]
        arguments += ["kept_memory"] if self.kept else []
        steps = [f"b{k}_{r}" for k in slots for r in range(rank)]
        lengths = [f"nb{r}" for r in range(rank)]
        for k in slots:
            arguments += [f"in{k}", f"s{k}", f"c{k}"]
        arguments += self.dots.pointers()
        arguments += ["tiles", "intervals"] if self.tile.listed else []
        sizes = [*steps, *lengths, *self.dots.steps(), "kept", "reduced", "row_blocks", "per_part", "parts"]
        sizes += ["programs"] if self.kept else []
        sizes += ["first_row", "first_col", "last"] if self.tile.carried else []
        arguments += [*sizes, "BM: tl.constexpr", "BN: tl.constexpr"]
        if self.kept:  # a program takes several tiles of rows in turn, and keeps vectors in the same memory
            self.kept.start()
            with s.block("for pid in range(tl.program_id(0), programs, tl.num_programs(0)):"):
                self._program()
        else:
            s.line("pid = tl.program_id(0)")
            self._program()
        fixed = ", ".join(f'"{n}"' for n in sizes)
        head = f"@triton.jit(do_not_specialize=[{fixed}])\ndef kernel({', '.join(arguments)}):"
        return "\n".join([head, *s.lines])

    def _program(self) -> None:
        """All that is computed for the tile of rows, the block of components and the part of the columns of `pid`."""
        s, rank = self.source, self.tile.batch_rank
        s.line("other = pid // row_blocks")
        s.line("part = other % parts")
        s.line(f"block = (other // parts) % {self.plan.blocks}")
        s.line(f"batch = other // (parts * {self.plan.blocks})")
        self._number_rows()
        s.line("rest = batch")
        for r in reversed(range(rank)):
            s.line(f"n{r} = (rest % nb{r}).to(tl.int64)")
            s.line(f"rest = rest // nb{r}")
        for k in range(len(self.problem.inputs)):
            s.line(f"p{k} = in{k}" + "".join(f" + n{r} * b{k}_{r}" for r in range(rank)))
        s.loops[COMPONENT_LOOP] = "block"
        self._stage("parameter")
        self._stage("row")
        self.rows.number_components()
        self.dots.start()
        if self.plan.takes_best:
            names = self.rows.begin()
            with self.source.scope():
                self.bind(names)
                count_missing(self)
            self._columns(lambda: take_best(self, names), lambda: None)
        else:
            states = FoldedStates(self) if self.plan.by_row else PairStates(self)
            short = states.start()
            names = self.rows.begin()
            self._columns(lambda: states.update(short), lambda: states.flush(short, names))
            states.end(names)
        self.rows.end(names)

    def _number_rows(self) -> None:
        """The rows of the tile: they follow from the number of the program, or stand in a table (listed.py)."""
        s, index = self.source, self.plan.index
        if not self.tile.listed:
            s.line(f"row = (pid % row_blocks).to({index}) * BM + tl.arange(0, BM)[:, None].to({index})")
            s.line("row_in = tl.minimum(row, kept - 1)")
            return
        s.line("entry = tiles + (pid % row_blocks).to(tl.int64) * 4")
        s.line(f"row = tl.load(entry).to({index}) + tl.arange(0, BM)[:, None].to({index})")
        s.line(f"row_stop = tl.load(entry + 1).to({index})")
        s.line("row_in = tl.minimum(row, row_stop - 1)")

    def _stage(self, name: str) -> None:
        """Compute the short fields of a stage where they are needed; long ones are read by the loops that use them.

        Of these, what is the same for all components, such as the length of the vector, is computed here, too.
        """
        self.kept.compute(name)
        longest = SHORTEST - 1 if self.plan.multiplies else LONGEST_WRITTEN_OUT
        for f in self.kernel.fields(name):
            if f.expr.dim <= longest:
                for d in range(f.expr.dim):
                    self.source.bind(self.scalars.at(f.leaf, d), self.source(self.scalars.at(f.expr, d)))
            elif f.leaf not in self.kept.offsets:
                self.source.loops[0] = ""  # as inside of the loop that will read it
                component = self.source.scalars_here(UNROLL_FOLD).at(f.expr, loop_var(0))
                del self.source.loops[0]
                self.source.hoist(component, 0)

    def _columns(self, update: Callable[[], None], flush: Callable[[], None]) -> None:
        """The loops over the columns of this part: whole tiles, then the last one, whose columns are masked.

        The starts of both loops are of the same type as the column numbers.
        """
        s, index = self.source, self.plan.index
        if self.tile.listed:
            with s.block("for interval in range(tl.load(entry + 2), tl.load(entry + 3)):"):
                s.line(f"start = tl.load(intervals + interval * 2).to({index})")
                s.line(f"stop = tl.load(intervals + interval * 2 + 1).to({index})")
                self._tiles_between(update, flush)
            return
        first = f"part.to({index}) * per_part"
        # a short last chunk leaves parts without columns
        # the parts begin at whole tiles: then neighbouring columns are loaded together
        s.line(f"start = tl.minimum({first}, reduced)" if self.tile.carried else f"start = tl.multiple_of({first}, BN)")
        s.line("stop = tl.minimum(start + per_part, reduced)")
        self._tiles_between(update, flush)

    def _tiles_between(self, update: Callable[[], None], flush: Callable[[], None]) -> None:
        """The tiles of the columns from `start` to `stop`."""
        s = self.source
        s.line("whole = start + (stop - start) // BN * BN")
        chunk = f"BN * {self.tile.flush}"
        with s.block(f"for chunk in range(start, whole, {chunk}):"):
            with s.block(f"for first in range(chunk, tl.minimum(chunk + {chunk}, whole), BN):"):
                self._tile("first", update)
            flush()
        with s.block("if whole < stop:"):
            self.masked = True
            self._tile("whole", update)
            self.masked = False
            flush()

    def _tile(self, first: str, update: Callable[[], None]) -> None:
        """The steps of a tile. Products that are not exact enough somewhere in it are left, and its pairs computed."""
        s = self.source
        known = len(s.scopes)
        with s.scope():
            self._number_columns(first)
            found = self.dots.products()
            if not self.dots.guarded:
                self.dots.bind(found)
                update()
                return
            with s.block(f"if {self.dots.near(found, first)}:"):
                self._near(first, update, known)
            with s.block("else:"):
                self.dots.bind(found)
                update()

    def _near(self, first: str, update: Callable[[], None], known: int) -> None:
        """The tile again, without matrix units, a few columns at a time: the code takes fewer registers than theirs.

        known: the number of scopes whose values are not those of the tile.
        """
        s = self.source
        whole, self.columns = self.columns, Columns(str(NEAR_COLUMNS), "near_")
        scopes, s.scopes = s.scopes, [*s.scopes[:known], {}]
        self.differences = True
        end = f"tl.minimum({first} + BN, stop)" if self.masked else f"{first} + BN"
        with s.block(f"for near in range({first}, {end}, {NEAR_COLUMNS}):"):
            self._number_columns("near")
            update()
        self.columns, s.scopes, self.differences = whole, scopes, False

    def _number_columns(self, first: str) -> None:
        """The columns of a tile, along its second axis; where matrices are multiplied, along the first one, too."""
        s, index, names = self.source, self.plan.index, self.columns
        self.first = first
        axes = [(names.number, names.inside, "[None, :]")]
        if self.plan.multiplies:
            axes.append((names.down, names.down_inside, "[:, None]"))
        for name, inside, axis in axes:
            s.line(f"{name} = {first} + tl.arange(0, {names.size}){axis}.to({index})")
            s.line(f"{inside} = tl.minimum({name}, reduced - 1)" if self.masked else f"{inside} = {name}")
        if self.masked:
            s.line(f"{names.valid} = tl.broadcast_to({names.number} < stop, {names.pairs})")
        self._stage("column")

    # ------------------------------------------------------------------ terms
    def terms(self) -> None:
        """Compute the components of the terms that this program reduces, and bind the leaves that stand for them."""
        self.kept.compute("pair")
        for k, (named, term) in enumerate(zip(self.term_leaves, self.kernel.terms, strict=True)):
            if self.plan.wide is not None and k == self.plan.wide.term:
                continue  # folded.py multiplies its two parts
            for d in range(named.dim):
                at: int | Expr = d
                if term.dim > 1 and self.plan.blocks > 1:
                    component, number = loop_var(COMPONENT_LOOP), const(d, "index")
                    at = place(term.dim, self.plan.block, self.plan.blocks, component, number)
                self.source.bind(self.scalars.at(named, d), self.source(self.scalars.at(term, at)))
        self.source.bind(self.scalars.at(self.column_leaf, 0), self.number(self.columns.number, "col"))

    def bind(self, names: dict[Expr, str]) -> None:
        for key, name in names.items():
            self.source.bind(key, name)
