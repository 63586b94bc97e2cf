"""Writes a kernel as Triton source, from the same staged program as the CPU's.

In: a Kernel and the tile shape.  Out: the text of two Triton functions, `kernel` and `merge`.  One program of the grid
computes BM rows of one batch, for one block of output components, over one part of the columns:

    pid 0: block of rows        pid 1: batch, then component block, then part

Long vectors of the result are cut into blocks of components: what is of length 1 is computed again for each.  A
reduction that goes through its columns in turn (argmin, the K smallest) takes the best column of the tile out, as long
as one beats the state of some row: the guard makes that rare.  Sums are kept in float64 over the tiles.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.expr import Expr, call, const, leaf
from ...ir.reductions import Machine
from ...lower.kernel import Kernel
from ...lower.scalar import Scalarizer, access, loop_var
from .source import Source

COMPONENTS = 16  # components of the result that one program computes
COMPONENT_LOOP = 1000  # the number of the component block is loop variable COMPONENT_LOOP

HEADER = """\
import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def _times(x, y):
    return x * y


@triton.jit
def _floordiv(x, y):
    q = x // tl.where(y == 0, 1, y)
    rest = x - q * y
    return tl.where(y == 0, 0, tl.where((rest != 0) & ((rest < 0) != (y < 0)), q - 1, q))


@triton.jit
def _first_min(v1, i1, v2, i2):
    take = (v2 < v1) | ((v2 == v1) & (i2 < i1))
    return tl.where(take, v2, v1), tl.where(take, i2, i1)


@triton.jit
def _first_max(v1, i1, v2, i2):
    take = (v2 > v1) | ((v2 == v1) & (i2 < i1))
    return tl.where(take, v2, v1), tl.where(take, i2, i1)

"""


@dataclass(frozen=True, slots=True)
class Tile:
    """Shape of the work of one program, and whether parts of the columns are merged afterwards."""

    rows: int
    cols: int
    split: bool
    warps: int = 4


def emit_kernel(kernel: Kernel, tile: Tile) -> str:
    """The text of the module."""
    emitter = TritonEmitter(kernel, tile)
    return HEADER + emitter.kernel_text() + ("\n\n" + emitter.merge_text() if tile.split else "")


class TritonEmitter:
    """State of the emission of one kernel."""

    def __init__(self, kernel: Kernel, tile: Tile):
        self.kernel, self.tile = kernel, tile
        self.problem = kernel.problem
        self.real = {"float32": "tl.float32", "float64": "tl.float64"}[self.problem.dtype]
        self.scalars = Scalarizer()
        dims = [t.dim for t in kernel.terms]
        self.width = max(dims)  # components of the result, before K
        self.by_column = kernel.machine.by_column
        self.block = 1 if self.by_column else min(self.width, COMPONENTS)
        self.blocks = -(-self.width // self.block)
        self.machine: Machine = self.problem.machine(tuple(1 if d == 1 else self.block for d in dims))
        self.leaves = {side: tuple(s.leaf(side) for s in self.machine.slots) for side in "ab"}
        self.term_leaves = tuple(
            leaf("slot", "real", name=f"F{k}", dim=1 if d == 1 else self.block, side="f") for k, d in enumerate(dims)
        )
        self.column_leaf = leaf("slot", "index", name="j", dim=1, side="f")
        self.n_inputs = len(self.problem.inputs)
        self.n_outputs = len(self.problem.record.outputs)

    # ------------------------------------------------------------------ leaves
    def spans(self, node: Expr) -> set[str]:
        """Which axes of the tile a value has."""
        return ({"row"} if self.problem.kept in node.axes else set[str]()) | (
            {"column"} if self.problem.over in node.axes else set[str]()
        )

    def resolve(self, node: Expr) -> str:
        if node.name == "index":
            return "row" if node.param("axis") == self.problem.kept else "col"
        source, d = access(node)
        if source.name == "field":
            field = next(f for f in self.kernel.fields(source.param("stage")) if f.leaf is source)
            return self.source(self.scalars.at(field.expr, d))
        slot, axis = source.param("slot"), source.param("axis")
        component = str(d) if isinstance(d, int) else self.source(d)
        along = "" if axis == "p" else f" + {'row' if axis == self.problem.kept else 'col'}_in * s{slot}"
        zero = "" if axis != "p" else " + tl.zeros((1, 1), tl.int64)"
        return self.source.let(f"tl.load(p{slot}{along}{zero} + {component} * c{slot})")

    # ------------------------------------------------------------------ the main kernel
    def kernel_text(self) -> str:
        s = self.source = Source(self.real, self.resolve)
        s.spans = self.spans
        arguments = [f"out{k}" for k in range(self.n_outputs)] + ["state"]
        for k in range(self.n_inputs):
            arguments += [f"in{k}", f"s{k}", f"c{k}"]
        arguments += ["offsets", "kept", "reduced", "per_part", "parts", "BM: tl.constexpr", "BN: tl.constexpr"]
        head = f"@triton.jit\ndef kernel({', '.join(arguments)}):"
        s.line("row = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)[:, None].to(tl.int64)")
        s.line("row_in = tl.minimum(row, kept - 1)")
        s.line("other = tl.program_id(1).to(tl.int64)")
        s.line("part = other % parts")
        s.line(f"block = (other // parts) % {self.blocks}")
        s.line(f"batch = other // (parts * {self.blocks})")
        for k in range(self.n_inputs):
            s.line(f"p{k} = in{k} + tl.load(offsets + batch * {self.n_inputs} + {k})")
        s.loops[COMPONENT_LOOP] = "block"
        self._stage("parameter")
        self._stage("row")
        state = self._initial_state()
        s.line("start = part * per_part")
        s.line("stop = tl.minimum(start + per_part, reduced)")
        with s.block("for first in range(start, stop, BN):"):
            s.line("col = first + tl.arange(0, BN)[None, :].to(tl.int64)")
            s.line("valid = (col < stop) & (row_in >= 0)")
            s.line("col_in = tl.minimum(col, reduced - 1)")
            self._stage("column")
            self._pairs(state)
        if self.tile.split:
            self._store_state(state)
        else:
            self._finish(state)
        return "\n".join([head, *s.lines])

    def _stage(self, name: str) -> None:
        """Compute the short fields of a stage where they are needed; long ones are read by the loops that use them."""
        for f in self.kernel.fields(name):
            if f.expr.dim <= COMPONENTS:
                for d in range(f.expr.dim):
                    self.source.bind(self.scalars.at(f.leaf, d), self.source(self.scalars.at(f.expr, d)))

    def _initial_state(self) -> dict[Expr, str]:
        names: dict[Expr, str] = {}
        for slot in self.machine.slots:
            kind = "tl.int64" if slot.kind == "index" else "tl.float64" if slot.additive else self.real
            value = repr(float(slot.init)) if abs(slot.init) < float("inf") else f'float("{slot.init}")'
            value = str(int(slot.init)) if slot.kind == "index" else value
            for d in range(slot.dim):
                name = f"{slot.name}_{d}"
                self.source.line(f"{name} = tl.full((BM, 1), {value}, {kind})")
                names[self.scalars.at(slot.leaf("a"), d)] = name
        return names

    def _terms(self) -> list[list[str]]:
        """The components of the terms that this program computes."""
        out: list[list[str]] = []
        for term in self.kernel.terms:
            if term.dim == 1 or self.blocks == 1:
                out.append([self.source(self.scalars.at(term, d)) for d in range(term.dim)])
                continue
            number = loop_var(COMPONENT_LOOP)
            places = [number * self.block + d if self.block > 1 else number for d in range(self.block)]
            last = term.dim - 1
            out.append([self.source(self.scalars.at(term, self._clipped(p, last))) for p in places])
        return out

    def _clipped(self, place: Expr, last: int) -> Expr:
        limit = const(last, "index")
        return call("where", place > limit, limit, place)

    def _pairs(self, state: dict[Expr, str]) -> None:
        s = self.source
        terms = self._terms()
        for key, name in state.items():
            s.bind(key, name)
        for named, values in zip(self.term_leaves, terms, strict=True):
            for d, value in enumerate(values):
                s.bind(self.scalars.at(named, d), value)
        if self.by_column:
            self._take_best(state, terms[0][0])
            return
        if self.machine.guard is not None:
            self._revise_folded(state, terms[0])
        self._replace(state, self.machine.update(self.leaves["a"], self.term_leaves, self.column_leaf))

    def _bind_term(self, values: list[str]) -> None:
        for d, value in enumerate(values):
            self.source.bind(self.scalars.at(self.term_leaves[0], d), value)

    def _guard(self) -> str:
        """A scalar: does the guard hold for some row?"""
        assert self.machine.guard is not None
        guard = self.machine.guard(self.leaves["a"], self.term_leaves[0])
        names = [self.source(self.scalars.at(guard, d)) for d in range(guard.dim)]
        return f"tl.max(({' | '.join(names)}).to(tl.int32)) > 0"

    def _revise_folded(self, state: dict[Expr, str], terms: list[str]) -> None:
        s = self.source
        assert self.machine.fold is not None
        assert self.machine.revise is not None
        folded = [s.let(s.folded(self.machine.fold, t, "real")) for t in terms]
        with s.scope():
            self._bind_term(folded)
            condition = self._guard()
            with s.block(f"if {condition}:"):
                self._replace(state, self.machine.revise(self.leaves["a"], self.term_leaves[0], self.column_leaf))

    def _take_best(self, state: dict[Expr, str], term: str) -> None:
        """While some column beats the state of some row: revise with the best column of each row, and take it out."""
        s = self.source
        assert self.machine.revise is not None
        which = self.machine.fold
        worst = 'float("inf")' if which == "min" else 'float("-inf")'
        full = s.let(f"tl.broadcast_to({term}, (BM, BN))")
        left = s.let(f"tl.where(valid & ({full} == {full}), {full}, {worst})")
        columns = s.let("tl.broadcast_to(col, (BM, BN))")
        best, place = s.fresh("best"), s.fresh("place")
        search = f"{best}, {place} = tl.reduce(({left}, {columns}), 1, _first_{which}, keep_dims=True)"
        s.line(search)
        with s.scope():
            self._bind_term([best])
            s.bind(self.scalars.at(self.column_leaf, 0), place)
            going = s.fresh("going")
            s.line(f"{going} = {self._guard()}")
        with s.block(f"while {going}:"):
            self._bind_term([best])
            s.bind(self.scalars.at(self.column_leaf, 0), place)
            self._replace(state, self.machine.revise(self.leaves["a"], self.term_leaves[0], self.column_leaf))
            s.line(f"{left} = tl.where({columns} == {place}, {worst}, {left})")
            s.line(search)
            with s.scope():
                for key, name in state.items():
                    s.bind(key, name)
                self._bind_term([best])
                s.line(f"{going} = {self._guard()}")

    def _replace(self, state: dict[Expr, str], new: tuple[Expr, ...]) -> None:
        """Assign the new state, all of it computed from the old one."""
        s = self.source
        assignments: list[tuple[str, str]] = []
        with s.scope():
            for slot, value, old in zip(self.machine.slots, new, self.leaves["a"], strict=True):
                if value is old:
                    continue
                for d in range(slot.dim):
                    name = state[self.scalars.at(old, d)]
                    assignments.append((name, self._state_value(self.scalars.at(value, d), slot.additive, slot.kind)))
            fresh = [s.let(text) for _, text in assignments]
        for (name, _), value in zip(assignments, fresh, strict=True):
            s.line(f"{name} = {value}")
        for key, name in state.items():
            s.bind(key, name)

    def _state_value(self, x: Expr, additive: bool, kind: str) -> str:
        target = "tl.int64" if kind == "index" else "tl.float64" if additive else self.real
        if additive and x.name == "add" and x.args[1].name == "fold_columns":
            fold = x.args[1]
            total = self.source.folded("sum", self.source(fold.args[0]), "real")
            return f"{self.source(x.args[0])} + {total}.to(tl.float64)"
        return f"tl.broadcast_to({self.source(x)}, (BM, 1)).to({target})"

    # ------------------------------------------------------------------ results
    def _components(self) -> list[Expr]:
        return [self.scalars.at(leaf_, d) for leaf_ in self.leaves["a"] for d in range(leaf_.dim)]

    def _state_place(self, k: int, part: str) -> str:
        """[batch][component block][part][state component][row]"""
        count = len(self._components())
        return f"((((batch * {self.blocks} + block) * parts + {part}) * {count} + {k}) * kept + row)"

    def _store_state(self, state: dict[Expr, str]) -> None:
        for k, key in enumerate(self._components()):
            self.source.line(
                f"tl.store(state + {self._state_place(k, 'part')}, {state[key]}.to(tl.float64), row < kept)"
            )

    def _finish(self, state: dict[Expr, str]) -> None:
        """finalize in float64, and store."""
        s = self.source
        real, s.real = s.real, "tl.float64"
        with s.scope():
            for slot, leaf_ in zip(self.machine.slots, self.leaves["a"], strict=True):
                for d in range(slot.dim):
                    key = self.scalars.at(leaf_, d)
                    kind = "tl.int64" if slot.kind == "index" else "tl.float64"
                    s.bind(key, s.let(f"{state[key]}.to({kind})"))
            outputs = self.machine.finalize(self.leaves["a"])
            for k, (output, total) in enumerate(zip(outputs, self.problem.output_dims(), strict=True)):
                for d in range(output.dim):
                    value = s(self.scalars.at(output, d))
                    self._store_output(k, total, output.dim, d, value)
        s.real = real

    def _store_output(self, k: int, total: int, width: int, d: int, value: str) -> None:
        kind = self.problem.record.outputs[k][1]
        target = "tl.int64" if kind == "index" else self.real
        place = f"block * {width} + {d}" if total > width else str(d)
        inside = f" & (row * 0 + {place} < {total})" if total > width else ""
        self.source.line(
            f"tl.store(out{k} + (batch * kept + row) * {total} + {place}, {value}.to({target}), (row < kept){inside})"
        )

    def merge_text(self) -> str:
        """The kernel that merges the parts of each row and finishes them."""
        s = self.source = Source("tl.float64", self.resolve)
        s.spans = self.spans
        arguments = [f"out{k}" for k in range(self.n_outputs)] + ["state", "kept", "parts", "BM: tl.constexpr"]
        s.line("row = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)[:, None].to(tl.int64)")
        s.line("other = tl.program_id(1).to(tl.int64)")
        s.line(f"block = other % {self.blocks}")
        s.line(f"batch = other // {self.blocks}")
        state = {key: f"a{k}" for k, key in enumerate(self._components())}
        kinds = [slot.kind for slot in self.machine.slots for _ in range(slot.dim)]

        def load(name: str, k: int, part: str) -> None:
            cast = ".to(tl.int64)" if kinds[k] == "index" else ""
            s.line(f"{name} = tl.load(state + {self._state_place(k, part)}, row < kept, other=0.0){cast}")

        for k, name in enumerate(state.values()):
            load(name, k, "0")
        with s.block("for part in range(1, parts):"):
            for k, (slot_leaf, d) in enumerate((x, d) for x in self.leaves["b"] for d in range(x.dim)):
                load(f"b{k}", k, "part")
                s.bind(self.scalars.at(slot_leaf, d), f"b{k}")
            for key, name in state.items():
                s.bind(key, name)
            merged = self.machine.merge(self.leaves["a"], self.leaves["b"])
            values = [s(self.scalars.at(x, d)) for x in merged for d in range(x.dim)]
            fresh = [s.let(f"{v} + 0") for v in values]
            for name, value in zip(state.values(), fresh, strict=True):
                s.line(f"{name} = {value}")
        self._finish(state)
        return "\n".join([f"@triton.jit\ndef merge({', '.join(arguments)}):", *s.lines])
