"""Writes scalar expressions as lines of Triton: the counterpart of backends/llvm/values.py.

In: expressions of dim 1 (lower/scalar.py), whose leaves a resolver knows.  Out: lines of Python text, one assignment
per expression, and the name of each value.  Values of the rows are blocks (BM, 1), of the columns (1, BN), of the pairs
(BM, BN), parameters (1, 1): Triton broadcasts them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ...errors import CompileError
from ...ir.expr import Expr
from ...lower.scalar import free_loops, loop_var

Resolver = Callable[[Expr], str]

INTEGER_OPS = {"add": "+", "sub": "-", "mul": "*", "floordiv": "//"}
TESTS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


class Source:
    """Lines of one kernel under construction, and the names of the values known in the current scope."""

    def __init__(self, real: str, resolve: Resolver):
        self.real = real
        self.lines: list[str] = []
        self.indent = 1
        self.resolve = resolve
        self.scopes: list[dict[Expr, str]] = [{}]
        self.loops: dict[int, str] = {}
        self._free: dict[Expr, frozenset[int]] = {}
        self._count = 0

    # ------------------------------------------------------------------ lines and scopes
    def line(self, text: str) -> None:
        self.lines.append("    " * self.indent + text)

    def fresh(self, hint: str = "t") -> str:
        self._count += 1
        return f"{hint}{self._count}"

    def let(self, text: str) -> str:
        name = self.fresh()
        self.line(f"{name} = {text}")
        return name

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """An indented block with a scope of its own."""
        self.line(head)
        self.indent += 1
        with self.scope():
            yield
        self.indent -= 1

    @contextmanager
    def scope(self) -> Iterator[None]:
        self.scopes.append({})
        try:
            yield
        finally:
            self.scopes.pop()

    def find(self, node: Expr) -> str | None:
        for scope in reversed(self.scopes):
            if node in scope:
                return scope[node]
        return None

    def bind(self, node: Expr, name: str) -> None:
        self.scopes[-1][node] = name

    # ------------------------------------------------------------------ the walk
    def __call__(self, root: Expr) -> str:
        """The name of the value of an expression, writing whatever is not known yet."""
        stack = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if self.find(node) is not None:
                continue
            operands = self._operands(node)
            if ready or not operands:
                self.bind(node, self._write(node))
            else:
                stack.append((node, True))
                stack += [(a, False) for a in reversed(operands)]
        name = self.find(root)
        assert name is not None
        return name

    def _operands(self, node: Expr) -> tuple[Expr, ...]:
        if node.name in ("component", "component_at", "fold_loop"):
            return ()
        return node.args

    def _write(self, node: Expr) -> str:
        if node.name == "const":
            return self._constant(node)
        if node.name == "loop_var":
            return self.loops[node.param("depth")]
        if node.name == "fold_loop":
            return self._fold_loop(node)
        if node.name in ("component", "component_at", "index"):
            return self.resolve(node)
        args = [self._known(a) for a in node.args]
        if node.name == "fold_columns":
            return self.let(self.folded(node.param("fold"), args[0], node.kind))
        return self.let(self._applied(node, args))

    def _known(self, node: Expr) -> str:
        return self.find(node) or self(node)

    def _constant(self, node: Expr) -> str:
        value = node.param("value")
        if node.kind == "index":
            return str(value)
        if node.kind == "bool":
            return self.let(f"tl.full((1, 1), {value}, tl.int1)")
        text = repr(float(value)) if math.isfinite(value) else f'float("{value}")'
        # a block and not a Python number, of which Triton would make a float32 in some places
        return self.let(f"tl.full((1, 1), {text}, {self.real})")

    def _applied(self, node: Expr, args: list[str]) -> str:
        if node.name == "floordiv" and node.kind == "index":
            return f"_floordiv({args[0]}, {args[1]})"
        template = node.op.triton
        if template is None:
            raise CompileError(f"operation {node.name} has no Triton form")
        return template.format(*args).replace(".to(real)", f".to({self.real})").replace(".to(index)", ".to(tl.int64)")

    # ------------------------------------------------------------------ folds
    def folded(self, fold: str, x: str, kind: str) -> str:
        """Fold the columns of a block; columns beyond the last count as the neutral element."""
        neutral = {"sum": "0", "prod": "1", "min": 'float("inf")', "max": 'float("-inf")'}[fold]
        full = f"tl.broadcast_to({x}, (BM, BN))"
        if fold in ("min", "max"):  # NaN is passed over
            full = f"tl.where({x} == {x}, {full}, {neutral})"
        kept = f"tl.where(valid, {full}, {neutral})"
        if fold == "prod":
            return f"tl.reduce({kept}, 1, _times, keep_dims=True)"
        return f"tl.{fold}({kept}, 1, keep_dims=True)"

    def _fold_loop(self, node: Expr) -> str:
        fold, size, depth = node.param("fold"), node.param("size"), node.param("depth")
        (body,) = node.args
        self.hoist(body, depth)
        shape = f"({'BM' if 'row' in self.spans(body) else 1}, {'BN' if 'column' in self.spans(body) else 1})"
        worst = {"sum": "0", "min": 'float("inf")', "max": 'float("-inf")'}[fold.removeprefix("arg")]
        acc = self.let(f"tl.full({shape}, {worst}, {self.real})")
        place = self.let(f"tl.full({shape}, 0, tl.int64)") if fold.startswith("arg") else ""
        index = self.fresh("d")
        with self.block(f"for {index} in range({size}):"):
            self.loops[depth] = index
            x = self(body)
            if fold == "sum":
                self.line(f"{acc} = {acc} + {x}")
            elif not place:
                name = {"min": "minimum", "max": "maximum"}[fold]
                self.line(f"{acc} = tl.{name}({acc}, {x}, propagate_nan=tl.PropagateNan.ALL)")
            else:
                better = self.let(f"{x} {'<' if fold == 'argmin' else '>'} {acc}")
                self.line(f"{place} = tl.where({better}, {self(loop_var(depth))}, {place})")
                self.line(f"{acc} = tl.where({better}, {x}, {acc})")
            del self.loops[depth]
        return place or acc

    spans: Callable[[Expr], set[str]]

    def hoist(self, body: Expr, depth: int) -> None:
        """Write what does not depend on the loop before it."""
        seen: set[Expr] = set()
        stack = [body]
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            free = free_loops(node, self._free)
            if depth in free:
                if node.name != "component_at":
                    stack += node.args
            elif not node.is_const() and free <= set(self.loops):
                self(node)
