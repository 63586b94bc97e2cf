"""Writes scalar expressions as LLVM values: the heart of the emitter, the same for every stage.

In: expressions of dim 1 (lower/scalar.py) and a `Scope`, which knows the values of the leaves.  Out: `Value`s.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ...errors import CompileError
from ...ir.expr import Expr, toposort
from ...lower.scalar import free_loops, invariants, loop_var
from .builder import Builder, Value
from .component_sums import ComponentSums
from .math import emit_math

Resolver = Callable[[Expr], Value]

INTEGER_OPS = {"add": "add", "sub": "sub", "mul": "mul", "floordiv": "sdiv"}
INTEGER_TESTS = {"lt": "slt", "le": "sle", "gt": "sgt", "ge": "sge", "eq": "eq", "ne": "ne"}
# Products and sums may contract to fused operations, which only ever makes them more accurate.
CONTRACTED = {"fadd": "fadd contract", "fmul": "fmul contract"}


def _may_be_scalar(node: Expr) -> bool:
    return node.name in INTEGER_OPS or node.name in INTEGER_TESTS or node.name in ("where", "logical_and")


class Scope:
    """Known values of expressions in one region of the code; inner scopes see the outer ones."""

    def __init__(self, parent: Scope | None = None, resolve: Resolver | None = None, window: range = range(1)):
        self.parent = parent
        self.known: dict[Expr, Value] = {}
        self.integers: dict[Expr, str] = {}  # of the loops (Values.scalar)
        self.loops: dict[int, str] = dict(parent.loops) if parent else {}
        self.window = window
        self.resolve: Resolver | None = resolve or (parent.resolve if parent else None)

    def find(self, node: Expr) -> Value | None:
        """The value, if known; of an outer scope with more columns, the columns of this scope."""
        scope: Scope | None = self
        while scope is not None:
            value = scope.known.get(node)
            if value is not None:
                if value.cols > len(self.window):
                    start = self.window.start - scope.window.start
                    return value.columns(start, start + len(self.window))
                return value
            scope = scope.parent
        return None

    def find_integer(self, node: Expr) -> str | None:
        """The name of an integer of the loops, if known."""
        scope: Scope | None = self
        while scope is not None:
            name = scope.integers.get(node)
            if name is not None:
                return name
            scope = scope.parent
        return None


class Values:
    """Writes expressions with one builder, for one floating type and one integer type."""

    def __init__(self, b: Builder, real: str, integer: str, shape_of: Callable[[Expr], tuple[int, int]]):
        """`shape_of` gives rows and columns of the grid of an expression before it is written."""
        self.window = range(1)  # columns of the step being written
        self.slice = 1  # columns of a fold loop written at a time
        self.sums_by_step = False  # are the columns of a step added up before they join the sum?
        self.b = b
        self.shape_of = shape_of
        self.real = real
        self.integer = integer
        self.scope = Scope()
        self.sums = ComponentSums(b, real)
        self._free: dict[Expr, frozenset[int]] = {}
        self._scalars: dict[Expr, bool] = {}

    def elem(self, kind: str) -> str:
        return {"real": self.real, "index": self.integer, "bool": "i1"}[kind]

    # ------------------------------------------------------------------ the walk
    def __call__(self, root: Expr) -> Value:
        """The value of an expression, writing whatever is not known yet."""
        stack = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if self.scope.find(node) is not None:
                continue
            if ready or not self._operands(node):
                self.scope.known[node] = self._write(node)
                self.b.end_long_block()
            else:
                stack.append((node, True))
                stack += [(a, False) for a in reversed(self._operands(node))]
        value = self.scope.find(root)
        assert value is not None
        return value

    def _operands(self, node: Expr) -> tuple[Expr, ...]:
        """Arguments to be written before the node."""
        if node.name in ("component", "component_at", "fold_loop") or self._is_scalar(node):
            return ()
        return node.args

    def _is_scalar(self, node: Expr) -> bool:
        """Is the node an integer of the loops, the same on all lanes?"""
        if node.kind == "real":
            return False
        found = self._scalars.get(node)
        if found is not None:
            return found
        stack = [node]
        while stack:
            x = stack[-1]
            parts = [a for a in x.args if a.kind != "real" and a not in self._scalars] if _may_be_scalar(x) else []
            if parts and x not in self._scalars:
                stack += parts
                continue
            self._scalars[x] = x.name == "loop_var" or (_may_be_scalar(x) and self._of_scalars(x))
            stack.pop()
        return self._scalars[node]

    def _of_scalars(self, node: Expr) -> bool:
        """Are all arguments integers of the loops, or constants, but not all of them constants?"""
        if all(a.is_const() for a in node.args) and node.name not in ("where", "logical_and"):
            return False
        return all(a.kind != "real" and (a.is_const() or self._scalars[a]) for a in node.args)

    def _write(self, node: Expr) -> Value:
        if node.name == "const":
            return self.b.const(self.elem(node.kind), node.param("value"))
        if node.name == "fold_loop":
            return self._fold_loop(node)
        if self._is_scalar(node):
            return self._splat_scalar(node)
        if node.name in ("component", "component_at", "index"):
            assert self.scope.resolve is not None
            return self.scope.resolve(node)
        args = [self._known(a) for a in node.args]
        if node.name == "add" and node.kind == "real" and node.args[1].name == "fold_columns":
            return self._accumulate(args[0], node.args[1])
        if node.name == "fold_columns":
            return self._fold_columns(node.param("fold"), args[0])
        return self._apply(node, args)

    def _known(self, node: Expr) -> Value:
        value = self.scope.find(node)
        if value is None:
            value = self(node)
        return value

    # ------------------------------------------------------------------ operations
    def _apply(self, node: Expr, args: list[Value]) -> Value:
        b, op = self.b, node.op
        operand_kind = node.args[-1].kind
        cell = op.llvm_int if operand_kind == "index" and op.llvm_int is not None else op.llvm
        if cell is None:
            raise CompileError(f"operation {op.name} cannot be written for {operand_kind} operands")
        if callable(cell):
            return cell(b, *args)
        if cell == "to_real":
            return b.convert("uitofp" if operand_kind == "bool" else "sitofp", args[0], self.real)
        if cell == "to_index":
            return b.convert("zext" if operand_kind == "bool" else "fptosi", args[0], self.integer)
        if cell.startswith("math:"):
            return emit_math(b, cell[5:], *args)
        if cell in CONTRACTED:
            ty = b.vec(self.real)
            return b.each(self.real, lambda x, y: b.let(f"{CONTRACTED[cell]} {ty} {x}, {y}"), *args)
        return getattr(b, cell)(*args)

    def fold_pair(self, fold: str) -> Callable[[Value, Value], Value]:
        """How two columns fold into one; min and max pass over NaN, which stands on the left."""
        b = self.b
        table: dict[str, Callable[[Value, Value], Value]] = {
            "sum": b.fadd,
            "prod": b.fmul,
            "min": b.fmin,
            "max": b.fmax,
        }
        return table[fold]

    def _fold_columns(self, fold: str, x: Value) -> Value:
        if fold in ("min", "max") and x.cols > 1:
            # start from the neutral element, so that a NaN never stands on the right
            worst = self.b.const(x.elem, float("inf") if fold == "min" else float("-inf"))
            first = self.fold_pair(fold)(x.column(0), worst)
            columns = [first] + [x.column(u) for u in range(1, x.cols)]
            result = first
            for c in columns[1:]:
                result = self.fold_pair(fold)(c, result)
            return result
        # a term that does not depend on the column counts once for each
        return self.b.fold(self.fold_pair(fold), self.b.expand(x, x.rows, len(self.window)))

    def _accumulate(self, acc: Value, fold: Expr) -> Value:
        """acc + sum over the columns, one after the other, so that products fuse with the additions."""
        assert fold.param("fold") == "sum"
        terms = self._known(fold.args[0])
        terms = self.b.expand(terms, terms.rows, len(self.window))
        columns = [terms.column(u) for u in range(terms.cols)]
        if not self.sums_by_step:
            return functools.reduce(self._contracted_sum, columns, acc)
        return self._contracted_sum(acc, functools.reduce(self._contracted_sum, columns))

    def _contracted_sum(self, x: Value, y: Value) -> Value:
        b, ty = self.b, self.b.vec(self.real)
        return b.each(self.real, lambda p, q: b.let(f"fadd contract {ty} {p}, {q}"), x, y)

    # ------------------------------------------------------------------ loops over components
    def _fold_loop(self, node: Expr) -> Value:
        fold, size, depth = node.param("fold"), node.param("size"), node.param("depth")
        (body,) = node.args
        self.hoist(body, depth)
        if fold == "sum":
            return self.sums.total(size, self.shape_of(body), lambda *run: self._fold_run(fold, body, depth, *run))
        return self._fold_run(fold, body, depth, "0", str(size))

    def _fold_run(self, fold: str, body: Expr, depth: int, first: str, stop: str) -> Value:
        """The fold of the components from `first` to `stop`, by a loop that keeps it in registers."""
        b = self.b
        shape = self.shape_of(body)
        start = {"sum": 0.0, "min": float("inf"), "max": float("-inf"), "argmin": float("inf"), "argmax": float("-inf")}
        carried = [b.expand(b.const(self.elem(body.kind), start[fold]), *shape)]
        if fold.startswith("arg"):
            carried.append(b.expand(b.const(self.integer, 0), *shape))
        with b.loop(first, stop, 1, carried) as loop, self.inside(depth, loop.index):
            self._write_rows(body)
            parts = [
                self._fold_slice(fold, body, [c.columns(s.start, s.stop) for c in loop.carried], s, depth)
                for s in self._slices(shape[1])
            ]
            loop.next = [Value.beside(column) for column in zip(*parts, strict=True)]
        return loop.results[-1]

    def _slices(self, cols: int) -> list[range]:
        """The columns in groups, counted from the first column of the window."""
        if cols <= self.slice:
            return [range(cols)]
        return [range(k, min(k + self.slice, cols)) for k in range(0, cols, self.slice)]

    def _fold_slice(self, fold: str, body: Expr, carried: list[Value], part: range, depth: int) -> list[Value]:
        """One step of a fold loop for some of the columns: few differences are alive beside all the sums."""
        window = self.window
        if len(part) < len(window):
            self.window = range(window.start + part.start, window.start + part.stop)
        try:
            with self.nested():
                return self._fold_step(fold, carried, self(body), depth)
        finally:
            self.window = window

    def _write_rows(self, body: Expr) -> None:
        """Write what is the same for all columns once, before the slices."""
        for node in toposort(body):
            one_column = self.shape_of(node)[1] == 1
            if one_column and node.name in ("component", "component_at") and not self._is_bound(node):
                self(node)

    def _is_bound(self, node: Expr) -> bool:
        """Does the node need a loop that is not open yet?"""
        return not free_loops(node, self._free) <= set(self.scope.loops)

    def _fold_step(self, fold: str, carried: list[Value], x: Value, depth: int) -> list[Value]:
        b = self.b
        if fold == "sum":
            ty = b.vec(self.real)
            return [b.each(self.real, lambda p, q: b.let(f"fadd contract {ty} {p}, {q}"), carried[0], x)]
        better = b.fcmp("olt" if fold.endswith("min") else "ogt", x, carried[0])
        if fold in ("min", "max"):
            better = b.or_(better, b.fcmp("uno", x, x))  # as NumPy: one NaN makes the result NaN
            stuck = b.fcmp("uno", carried[0], carried[0])
            return [b.select(b.and_(better, b.not_(stuck)), x, carried[0])]
        return [b.select(better, x, carried[0]), b.select(better, self(loop_var(depth)), carried[1])]

    @contextmanager
    def nested(self, resolve: Resolver | None = None) -> Iterator[Scope]:
        """An inner scope: what is written in it is forgotten at its end (a branch, a loop, a step of the state)."""
        outer = self.scope
        self.scope = Scope(outer, resolve, self.window)
        try:
            yield self.scope
        finally:
            self.scope = outer

    @contextmanager
    def inside(self, depth: int, index: str) -> Iterator[Scope]:
        """An inner scope in which loop_var(depth) is `index`."""
        with self.nested() as scope:
            scope.loops[depth] = index
            yield scope

    def hoist(self, body: Expr, depth: int) -> None:
        """Write what the body needs and what does not depend on the loop, before the loop."""
        for node in invariants(body, depth, self.scope.loops, self._free):
            if not node.is_const() and not self._is_scalar(node):
                self(node)

    # ------------------------------------------------------------------ integers of the loops
    def scalar(self, root: Expr) -> str:
        """An integer (or truth value) of the loops as an SSA name of type i64 (or i1)."""
        stack = [root]
        while stack:
            node = stack[-1]
            if self.scope.find_integer(node) is None:
                missing = [a for a in node.args if self.scope.find_integer(a) is None]
                if missing:
                    stack += reversed(missing)
                    continue
                self.scope.integers[node] = self._scalar(node)
            stack.pop()
        name = self.scope.find_integer(root)
        assert name is not None
        return name

    def _scalar(self, node: Expr) -> str:
        """The same, of a node whose arguments are known."""
        b = self.b
        if node.is_const():
            value = node.param("value")
            return str(int(value)) if node.kind != "bool" else ("true" if value else "false")
        if node.name == "loop_var":
            return self.scope.loops[node.param("depth")]
        names = [self.scope.find_integer(a) for a in node.args]
        if node.name == "where":
            c, x, y = names
            ty = "i1" if node.kind == "bool" else "i64"
            return b.let(f"select i1 {c}, {ty} {x}, {ty} {y}")
        x, y = names
        if node.name == "logical_and":
            return b.let(f"and i1 {x}, {y}")
        if node.name in INTEGER_TESTS:
            return b.let(f"icmp {INTEGER_TESTS[node.name]} i64 {x}, {y}")
        return b.let(f"{INTEGER_OPS[node.name]} i64 {x}, {y}")

    def _splat_scalar(self, node: Expr) -> Value:
        name = self.scalar(node)
        elem = self.elem(node.kind)
        if elem == "i32":
            name = self.b.let(f"trunc i64 {name} to i32")
        return Value(elem, ((self.b.splat(name, elem),),))
