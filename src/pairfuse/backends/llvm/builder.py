"""Writes LLVM IR text for vectors of lanes, one instruction for all replicas at a time.

In: calls such as `b.fma(x, y, z)` on `Value`s.  Out: the text of one module.

A `Value` is a grid of SSA names, rows x columns, one name for each replica of the register tile: a quantity of the
rows has R x 1 names, a quantity of the columns 1 x U, a pair R x U, a uniform one 1 x 1.  An operation broadcasts its
operands' grids and emits the instructions of all replicas side by side (breadth first), which is what keeps the
pipelines of the processor full without any optimisation pass (benchmarks/NOTES.md, "Instruction order").
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

BITS = {"float": 32, "double": 64, "i1": 1, "i32": 32, "i64": 64, "i8": 8}


@dataclass(frozen=True, slots=True)
class Value:
    """A grid of SSA names (or literals) holding vectors of `elem`."""

    elem: str
    grid: tuple[tuple[str, ...], ...]

    @property
    def rows(self) -> int:
        return len(self.grid)

    @property
    def cols(self) -> int:
        return len(self.grid[0])

    @property
    def name(self) -> str:
        """The only name of a 1 x 1 grid."""
        assert self.rows == self.cols == 1
        return self.grid[0][0]

    def columns(self, start: int, stop: int) -> Value:
        """Some of the columns (the value itself, when it does not depend on the column)."""
        return self if self.cols == 1 else Value(self.elem, tuple(row[start:stop] for row in self.grid))

    @staticmethod
    def beside(parts: Sequence[Value]) -> Value:
        """Grids of the same rows, side by side."""
        if len(parts) == 1:
            return parts[0]
        rows = max(p.rows for p in parts)
        full = [p.grid if p.rows == rows else p.grid * rows for p in parts]
        return Value(parts[0].elem, tuple(sum((g[r] for g in full), ()) for r in range(rows)))

    def column(self, u: int) -> Value:
        """The replicas of column u (all of them, when the value does not depend on the column)."""
        return Value(self.elem, tuple((row[u if len(row) > 1 else 0],) for row in self.grid))


def float_literal(elem: str, x: float) -> str:
    """LLVM's exact spelling of a constant: the bits of the double that equals it."""
    if elem == "float":
        try:
            x = struct.unpack("<f", struct.pack("<f", x))[0]
        except OverflowError:  # what rounds to infinity in single precision
            x = math.copysign(math.inf, x)
    return f"0x{struct.unpack('<Q', struct.pack('<d', x))[0]:016X}"


@dataclass
class Loop:
    """What the body of `Builder.loop` sees: the index, the carried values, and where to leave the next ones."""

    index: str
    carried: list[Value]
    next: list[Value] = field(default_factory=list)
    results: list[Value] = field(default_factory=list)


LONGEST_BLOCK = 1000  # lines


class Builder:
    """One LLVM function under construction, and the module-level declarations that it needs."""

    def __init__(self, lanes: int, features: frozenset[str] = frozenset()):
        self.lanes = lanes
        self.features = features
        self.lines: list[str] = []
        self.stacked: list[str] = []  # what the function keeps on the stack
        self.declarations: dict[str, str] = {}
        self.functions: dict[str, str] = {}
        self.block, self._block_start = "entry", 0
        self._count = 0

    # ------------------------------------------------------------------ names, lines, types
    def fresh(self, hint: str = "t") -> str:
        self._count += 1
        return f"%{hint}{self._count}"

    def line(self, text: str) -> None:
        self.lines.append("  " + text)

    def let(self, text: str) -> str:
        """Emit `%t = text` and return the name."""
        name = self.fresh()
        self.lines.append(f"  {name} = {text}")
        return name

    def vec(self, elem: str) -> str:
        return f"<{self.lanes} x {elem}>"

    def declare(self, name: str, text: str) -> str:
        self.declarations.setdefault(name, f"declare {text}")
        return name

    # ------------------------------------------------------------------ values
    def const(self, elem: str, x: float | int | bool) -> Value:
        if elem in ("float", "double"):
            text = float_literal(elem, float(x))
        elif elem == "i1":
            text = "true" if x else "false"
        else:
            text = str(int(x))
        return Value(elem, ((f"splat ({elem} {text})",),))

    def each(self, elem: str, emit: Callable[..., str], *operands: Value) -> Value:
        """Apply `emit(*names) -> name` to the broadcast grids of the operands."""
        rows = max(v.rows for v in operands)
        cols = max(v.cols for v in operands)
        grid: list[tuple[str, ...]] = []
        for r in range(rows):
            row: list[str] = []
            for u in range(cols):
                names = [v.grid[r if v.rows > 1 else 0][u if v.cols > 1 else 0] for v in operands]
                row.append(emit(*names))
            grid.append(tuple(row))
        return Value(elem, tuple(grid))

    def _binary(self, instruction: str, x: Value, y: Value) -> Value:
        assert x.elem == y.elem, (instruction, x.elem, y.elem)
        ty = self.vec(x.elem)
        return self.each(x.elem, lambda a, b: self.let(f"{instruction} {ty} {a}, {b}"), x, y)

    # floating point ---------------------------------------------------
    def fadd(self, x: Value, y: Value) -> Value:
        return self._binary("fadd", x, y)

    def fsub(self, x: Value, y: Value) -> Value:
        return self._binary("fsub", x, y)

    def fmul(self, x: Value, y: Value) -> Value:
        return self._binary("fmul", x, y)

    def fdiv(self, x: Value, y: Value) -> Value:
        return self._binary("fdiv", x, y)

    def fneg(self, x: Value) -> Value:
        ty = self.vec(x.elem)
        return self.each(x.elem, lambda a: self.let(f"fneg {ty} {a}"), x)

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        return self.intrinsic("fma", x.elem, x, y, z)

    def fabs(self, x: Value) -> Value:
        return self.intrinsic("fabs", x.elem, x)

    def sqrt(self, x: Value) -> Value:
        return self.intrinsic("sqrt", x.elem, x)

    def floor(self, x: Value) -> Value:
        return self.intrinsic("floor", x.elem, x)

    def ceil(self, x: Value) -> Value:
        return self.intrinsic("ceil", x.elem, x)

    def trunc(self, x: Value) -> Value:
        return self.intrinsic("trunc", x.elem, x)

    def roundeven(self, x: Value) -> Value:
        return self.intrinsic("roundeven", x.elem, x)

    def copysign(self, x: Value, y: Value) -> Value:
        return self.intrinsic("copysign", x.elem, x, y)

    def fmin(self, x: Value, y: Value) -> Value:
        """x if x < y else y: one x86 instruction; y where either is NaN."""
        return self.select(self.fcmp("olt", x, y), x, y)

    def fmax(self, x: Value, y: Value) -> Value:
        """x if x > y else y: one x86 instruction; y where either is NaN."""
        return self.select(self.fcmp("ogt", x, y), x, y)

    def fcmp(self, predicate: str, x: Value, y: Value) -> Value:
        """predicate: olt, ole, ogt, oge, oeq, one, une, uno, ord ... (o: false on NaN, u: true on NaN)."""
        ty = self.vec(x.elem)
        return self.each("i1", lambda a, b: self.let(f"fcmp {predicate} {ty} {a}, {b}"), x, y)

    # integers and bits -------------------------------------------------
    def icmp(self, predicate: str, x: Value, y: Value) -> Value:
        """predicate: eq, ne, slt, sle, sgt, sge, ult ..."""
        ty = self.vec(x.elem)
        return self.each("i1", lambda a, b: self.let(f"icmp {predicate} {ty} {a}, {b}"), x, y)

    def add(self, x: Value, y: Value) -> Value:
        return self._binary("add", x, y)

    def sub(self, x: Value, y: Value) -> Value:
        return self._binary("sub", x, y)

    def mul(self, x: Value, y: Value) -> Value:
        return self._binary("mul", x, y)

    def sdiv(self, x: Value, y: Value) -> Value:
        """Rounds towards zero; traps where y is 0."""
        return self._binary("sdiv", x, y)

    def and_(self, x: Value, y: Value) -> Value:
        return self._binary("and", x, y)

    def or_(self, x: Value, y: Value) -> Value:
        return self._binary("or", x, y)

    def xor(self, x: Value, y: Value) -> Value:
        return self._binary("xor", x, y)

    def shl(self, x: Value, y: Value) -> Value:
        return self._binary("shl", x, y)

    def lshr(self, x: Value, y: Value) -> Value:
        return self._binary("lshr", x, y)

    def ashr(self, x: Value, y: Value) -> Value:
        return self._binary("ashr", x, y)

    def not_(self, x: Value) -> Value:
        return self.xor(x, self.const("i1", True))

    def select(self, c: Value, x: Value, y: Value) -> Value:
        ct, ty = self.vec("i1"), self.vec(x.elem)
        return self.each(x.elem, lambda k, a, b: self.let(f"select {ct} {k}, {ty} {a}, {ty} {b}"), c, x, y)

    # conversions --------------------------------------------------------
    def convert(self, instruction: str, x: Value, elem: str) -> Value:
        """bitcast, fptosi, sitofp, uitofp, fpext, fptrunc, trunc, zext, sext."""
        if x.elem == elem:
            return x
        a_ty, b_ty = self.vec(x.elem), self.vec(elem)
        return self.each(elem, lambda a: self.let(f"{instruction} {a_ty} {a} to {b_ty}"), x)

    def bitcast(self, x: Value, elem: str) -> Value:
        return self.convert("bitcast", x, elem)

    # intrinsics and calls ------------------------------------------------
    def intrinsic(self, name: str, elem: str, *args: Value) -> Value:
        """llvm.<name>.v<lanes><type> on operands that all have the type of the result."""
        suffix = {"float": "f32", "double": "f64", "i1": "i1", "i32": "i32", "i64": "i64"}[elem]
        full = f"@llvm.{name}.v{self.lanes}{suffix}"
        ty = self.vec(elem)
        self.declare(full, f"{ty} {full}({', '.join([ty] * len(args))})")
        return self.each(elem, lambda *n: self.let(f"call {ty} {full}({', '.join(f'{ty} {a}' for a in n)})"), *args)

    def call_vector(self, symbol: str, elem: str, *args: Value) -> Value:
        """Call a function of vectors defined in this module (see `outline`)."""
        ty = self.vec(elem)
        operands = [self.vec(a.elem) for a in args]

        def emit(*names: str) -> str:
            text = ", ".join(f"{t} {n}" for t, n in zip(operands, names, strict=True))
            return self.let(f"call fastcc {ty} {symbol}({text})")

        return self.each(elem, emit, *args)

    def call_lanes(self, symbol: str, elem: str, *args: Value) -> Value:
        """Call the C library's function of doubles `symbol` for every lane: right, and slow; for rare functions."""
        self.declare(f"@{symbol}", f"double @{symbol}({', '.join(['double'] * len(args))})")

        def emit(*names: str) -> str:
            result = "poison"
            for k in range(self.lanes):
                scalars: list[str] = []
                for a, n in zip(args, names, strict=True):
                    s = self.let(f"extractelement {self.vec(a.elem)} {n}, i32 {k}")
                    scalars.append(self.let(f"fpext float {s} to double") if a.elem == "float" else s)
                r = self.let(f"call double @{symbol}({', '.join('double ' + s for s in scalars)})")
                r = self.let(f"fptrunc double {r} to float") if elem == "float" else r
                result = self.let(f"insertelement {self.vec(elem)} {result}, {elem} {r}, i32 {k}")
            return result

        return self.each(elem, emit, *args)

    def outline(self, symbol: str, elem: str, body: Callable[[Builder, list[Value]], Value], *args: Value) -> Value:
        """Call `body` through a function of its own, written once per module: for long functions on many replicas."""
        if symbol not in self.functions:
            self.functions[symbol] = ""  # reserved first: a body may use other outlined functions
            inner = Builder(self.lanes, self.features)
            inner.declarations, inner.functions = self.declarations, self.functions
            params = [Value(a.elem, ((f"%arg{k}",),)) for k, a in enumerate(args)]
            result = body(inner, params)
            header = ", ".join(f"{self.vec(a.elem)} %arg{k}" for k, a in enumerate(args))
            self.functions[symbol] = (
                f"define internal fastcc {self.vec(elem)} {symbol}({header}) noinline {{\nentry:\n"
                + "\n".join(inner.lines)
                + f"\n  ret {self.vec(elem)} {result.name}\n}}\n"
            )
        return self.call_vector(symbol, elem, *args)

    # folds over replicas and lanes ----------------------------------------
    def fold(self, op: Callable[[Value, Value], Value], x: Value) -> Value:
        """Fold the columns of a grid into one by a balanced tree."""
        parts = [x.column(u) for u in range(x.cols)]
        while len(parts) > 1:
            paired = [op(a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
            parts = paired + parts[len(paired) * 2 :]
        return parts[0]

    def any(self, x: Value) -> str:
        """A scalar i1: is any lane of any replica true?"""
        names = [n for row in x.grid for n in row]
        ty = self.vec("i1")
        while len(names) > 1:
            paired = [self.let(f"or {ty} {a}, {b}") for a, b in zip(names[::2], names[1::2], strict=False)]
            names = paired + names[len(paired) * 2 :]
        full = f"@llvm.vector.reduce.or.v{self.lanes}i1"
        self.declare(full, f"i1 {full}({ty})")
        return self.let(f"call i1 {full}({ty} {names[0]})")

    # memory ----------------------------------------------------------------
    def pointer(self, base: str, offset: str, elem: str) -> str:
        """base + offset elements."""
        return self.let(f"getelementptr {elem}, ptr {base}, i64 {offset}")

    def load(self, pointer: str, elem: str) -> str:
        """A vector from consecutive elements."""
        return self.let(f"load {self.vec(elem)}, ptr {pointer}, align {BITS[elem] // 8}")

    def stack(self, ty: str, count: int) -> str:
        """Memory for `count` values of a type, for as long as the function runs."""
        name = self.fresh("stack")
        self.stacked.append(f"  {name} = alloca {ty}, i64 {count}")
        return name

    def store(self, name: str, pointer: str, elem: str) -> None:
        self.line(f"store {self.vec(elem)} {name}, ptr {pointer}, align {BITS[elem] // 8}")

    def splat(self, scalar: str, elem: str) -> str:
        ty = self.vec(elem)
        one = self.let(f"insertelement {ty} poison, {elem} {scalar}, i32 0")
        return self.let(f"shufflevector {ty} {one}, {ty} poison, <{self.lanes} x i32> zeroinitializer")

    def broadcast(self, pointer: str, elem: str) -> str:
        """One element from memory on all lanes."""
        scalar = self.let(f"load {elem}, ptr {pointer}, align {BITS[elem] // 8}")
        return self.splat(scalar, elem)

    def _lanes_of_memory(self, name: str, elem: str) -> tuple[str, str, str]:
        """Full name and types of a masked memory intrinsic on separate addresses."""
        suffix = {"float": "f32", "double": "f64", "i32": "i32", "i64": "i64"}[elem]
        return f"@llvm.masked.{name}.v{self.lanes}{suffix}.v{self.lanes}p0", self.vec("ptr"), self.vec("i1")

    def gather(self, pointers: str, elem: str) -> str:
        """One element from each of the addresses."""
        full, pt, mt = self._lanes_of_memory("gather", elem)
        ty = self.vec(elem)
        self.declare(full, f"{ty} {full}({pt}, i32, {mt}, {ty})")
        align = BITS[elem] // 8
        return self.let(f"call {ty} {full}({pt} {pointers}, i32 {align}, {mt} splat (i1 true), {ty} poison)")

    def scatter(self, name: str, pointers: str, elem: str, mask: str = "splat (i1 true)") -> None:
        """One element to each of the addresses whose lane of the mask is set."""
        full, pt, mt = self._lanes_of_memory("scatter", elem)
        ty = self.vec(elem)
        self.declare(full, f"void {full}({ty}, {pt}, i32, {mt})")
        self.line(f"call void {full}({ty} {name}, {pt} {pointers}, i32 {BITS[elem] // 8}, {mt} {mask})")

    # control flow ------------------------------------------------------------
    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")
        self.block, self._block_start = name, len(self.lines)

    def branch(self, target: str) -> None:
        self.line(f"br label %{target}")

    def end_long_block(self) -> None:
        """Begin another block if this one is very long: some passes of LLVM take the square of its length."""
        if len(self.lines) - self._block_start > LONGEST_BLOCK:
            following = self.new_label("on")
            self.branch(following)
            self.label(following)

    def branch_if(self, condition: str, yes: str, no: str) -> None:
        self.line(f"br i1 {condition}, label %{yes}, label %{no}")

    def new_label(self, hint: str) -> str:
        self._count += 1
        return f"{hint}{self._count}"

    def _phi_names(self, like: Value) -> Value:
        return Value(like.elem, tuple(tuple(self.fresh("p") for _ in row) for row in like.grid))

    def _phi_lines(self, phi: Value, incoming: Sequence[tuple[Value, str]]) -> list[str]:
        ty = self.vec(phi.elem)
        out: list[str] = []
        for r, row in enumerate(phi.grid):
            for u, name in enumerate(row):
                arms = ", ".join(
                    f"[ {v.grid[r if v.rows > 1 else 0][u if v.cols > 1 else 0]}, %{block} ]" for v, block in incoming
                )
                out.append(f"  {name} = phi {ty} {arms}")
        return out

    def expand(self, x: Value, rows: int, cols: int) -> Value:
        """The same value with its names repeated to a rows x cols grid."""
        full = [row if len(row) == cols else row * cols for row in x.grid]
        return Value(x.elem, tuple(full if len(full) == rows else full * rows))

    @contextmanager
    def loop(self, start: str, stop: str, step: int | str, carried: Sequence[Value] = ()) -> Iterator[Loop]:
        """for index in range(start, stop, step), zero trips allowed; the body sets `loop.next`.

        `loop.results`, the carried values after the last trip, may be used once the block is left.
        """
        head, body, done = self.new_label("head"), self.new_label("body"), self.new_label("done")
        before = self.block
        self.branch(head)
        self.label(head)
        phis = [self._phi_names(v) for v in carried]
        state = Loop(self.fresh("i"), list(phis))
        slot = len(self.lines)  # the phi lines go here, once the last block of the body is known
        inside = self.let(f"icmp slt i64 {state.index}, {stop}")
        self.branch_if(inside, body, done)
        self.label(body)
        yield state
        assert len(state.next) == len(phis)
        following = self.let(f"add i64 {state.index}, {step}")
        last = self.block
        self.branch(head)
        text = [f"  {state.index} = phi i64 [ {start}, %{before} ], [ {following}, %{last} ]"]
        for phi, first, after in zip(phis, carried, state.next, strict=True):
            text += self._phi_lines(phi, [(first, before), (after, last)])
        self.lines[slot:slot] = text
        self.label(done)
        state.results = list(phis)

    def if_any(
        self, condition: Value, then: Callable[[], Sequence[Value]], otherwise: Sequence[Value], rare: bool = False
    ) -> list[Value]:
        """Run `then` only if some lane of some replica satisfies the condition; else keep `otherwise`.

        rare: is that so for odd arguments only? It makes no difference here, but to those who count (work.py).
        """
        return self.if_scalar(self.any(condition), then, otherwise)

    def if_scalar(self, condition: str, then: Callable[[], Sequence[Value]], otherwise: Sequence[Value]) -> list[Value]:
        yes, join = self.new_label("then"), self.new_label("join")
        before = self.block
        self.branch_if(condition, yes, join)
        self.label(yes)
        taken = list(then())
        last = self.block
        self.branch(join)
        self.label(join)
        out: list[Value] = []
        for a, b in zip(taken, otherwise, strict=True):
            rows, cols = max(a.rows, b.rows), max(a.cols, b.cols)
            phi = self._phi_names(self.expand(b, rows, cols))
            self.lines += self._phi_lines(phi, [(a, last), (b, before)])
            out.append(phi)
        return out

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What is written inside is a named part of the kernel: for those who count (work.py), the text is the same."""
        yield

    # the text -------------------------------------------------------------
    def function(self, signature: str) -> str:
        """The text of the function written so far."""
        # With a frame pointer LLVM aligns the stack also when it finds out late that vectors spill.
        return "\n".join(
            [f'define {signature} "frame-pointer"="all" {{', "entry:", *self.stacked, *self.lines, "}", ""]
        )

    def sibling(self, lanes: int) -> Builder:
        """A builder for another function of the same module."""
        other = Builder(lanes, self.features)
        other.declarations, other.functions = self.declarations, self.functions
        return other

    def module(self, *functions: str) -> str:
        """The text of the module made of these functions and of all they need."""
        return "\n".join([*self.declarations.values(), *self.functions.values(), *functions])
