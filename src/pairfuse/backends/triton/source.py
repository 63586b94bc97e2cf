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
from ...lower.long_sums import BLOCK, levels
from ...lower.scalar import Scalarizer, invariants, loop_var

Resolver = Callable[[Expr], str]

# float32 by the units of the processor: 2 ulp, and for exp one more for every 8 by which its argument differs from 0.
# Elsewhere, and for all other functions, the templates of the table name the device library.
# (tl.exp and tl.exp2 keep subnormal results, at 3 instructions each; these flush them to 0.)
FAST_FLOAT32 = {"exp": "libdevice.fast_expf({0})", "sqrt": "tl.sqrt({0})"}

# Loop variables from this number on are blocks of components, and no loops (plan.py).
BLOCKS = 1000

# Components per turn of a loop: their addresses differ by constants, and those of a row are loaded together.
UNROLLED = 4


class Source:
    """Lines of one kernel under construction, and the names of the values known in the current scope.

    real, index   Triton's names of the types
    resolve       writes a leaf
    shape         of the block of a value, as Triton writes it
    scalar        are values single numbers? So they are in a function that folds blocks.
    """

    def __init__(self, real: str, index: str, resolve: Resolver, shape: Callable[[Expr], str], scalar: bool = False):
        self.real, self.index = real, index
        self.lines: list[str] = []
        self.indent = 1
        self.resolve, self.shape, self.scalar = resolve, shape, scalar
        self.unrolled = UNROLLED
        self.fold: Callable[[str, str], str] | None = None  # writes a fold of the columns of a tile
        self.scopes: list[dict[Expr, str]] = [{}]
        self.loops: dict[int, str] = {}
        self._free: dict[Expr, frozenset[int]] = {}
        self._scalars: dict[int, Scalarizer] = {}
        self._count = 0

    # ------------------------------------------------------------------ definitions
    def scalars_here(self, unroll_fold: int) -> Scalarizer:
        """For a definition that is written inside of the loops that are open: its own loops get other numbers."""
        depth = 1 + max((d for d in self.loops if d < BLOCKS), default=-1)
        if depth not in self._scalars:
            self._scalars[depth] = Scalarizer(unroll_fold=unroll_fold)
            self._scalars[depth].depth = depth
        return self._scalars[depth]

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
            # where a pair has a state of its own, its block is one column
            return args[0] if self.fold is None else self.fold(node.param("fold"), args[0])
        return self.let(self._applied(node, args))

    def _known(self, node: Expr) -> str:
        return self.find(node) or self(node)

    def _constant(self, node: Expr) -> str:
        """A block of one number, and not a Python number, which has no type of ours."""
        value = node.param("value")
        kind = {"index": self.index, "bool": "tl.int1"}.get(node.kind, self.real)
        if node.kind == "real":
            value = repr(float(value)) if math.isfinite(value) else f'float("{value}")'
        return self.let(f"tl.cast({value}, {kind})" if self.scalar else f"tl.full((1, 1), {value}, {kind})")

    def _applied(self, node: Expr, args: list[str]) -> str:
        integral = node.args[-1].kind == "index"
        if node.name == "floordiv" and integral:
            return f"_floordiv({args[0]}, {args[1]})"
        template = (node.op.triton_int if integral else None) or node.op.triton
        if self.real == "tl.float32" and not integral:
            template = FAST_FLOAT32.get(node.name, template)
        if template is None:
            raise CompileError(f"operation {node.name} has no Triton form")
        return (
            template.format(*args).replace(".to(real)", f".to({self.real})").replace(".to(index)", f".to({self.index})")
        )

    # ------------------------------------------------------------------ loops over components
    def _fold_loop(self, node: Expr) -> str:
        fold, size, depth = node.param("fold"), node.param("size"), node.param("depth")
        (body,) = node.args
        self.hoist(body, depth)
        if fold == "sum":
            return self._sum(body, depth, levels(size), "0", str(size))
        shape = self.shape(body)
        worst = {"min": 'float("inf")', "max": 'float("-inf")'}[fold.removeprefix("arg")]
        acc = self.let(f"tl.full({shape}, {worst}, {self.real})")
        place = self.let(f"tl.full({shape}, 0, {self.index})") if fold.startswith("arg") else ""
        with self._components(depth, "0", str(size)):
            x = self(body)
            if not place:
                name = {"min": "minimum", "max": "maximum"}[fold]
                self.line(f"{acc} = tl.{name}({acc}, {x}, propagate_nan=tl.PropagateNan.ALL)")
            else:
                better = self.let(f"{x} {'<' if fold == 'argmin' else '>'} {acc}")
                self.line(f"{place} = tl.where({better}, {self(loop_var(depth))}, {place}).to({self.index})")
                self.line(f"{acc} = tl.where({better}, {x}, {acc})")
        return place or acc

    def _sum(self, body: Expr, depth: int, level: int, first: str, stop: str) -> str:
        """The sum of the components from `first` to `stop`, in blocks of blocks (lower/long_sums.py)."""
        acc = self.let(f"tl.full({self.shape(body)}, 0, {self.real})")
        if level == 0:
            with self._components(depth, first, stop):
                self.line(f"{acc} = {acc} + {self(body)}")
            return acc
        start, size = self.fresh("d"), BLOCK**level
        with self.block(f"for {start} in range({first}, {stop}, {size}):"):
            end = self.let(f"tl.minimum({start} + {size}, {stop})")
            self.line(f"{acc} = {acc} + {self._sum(body, depth, level - 1, start, end)}")
        return acc

    @contextmanager
    def _components(self, depth: int, first: str, stop: str) -> Iterator[None]:
        """A loop over components, whose number is loop_var(depth)."""
        index = self.fresh("d")
        with self.block(f"for {index} in tl.range({first}, {stop}, loop_unroll_factor={self.unrolled}):"):
            self.loops[depth] = index
            yield
            del self.loops[depth]

    def hoist(self, body: Expr, depth: int) -> None:
        """Write what does not depend on the loop before it."""
        for node in invariants(body, depth, self.loops, self._free):
            if not node.is_const():
                self(node)
