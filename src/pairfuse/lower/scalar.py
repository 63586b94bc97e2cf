"""From vectors to scalars: component d of an expression as an expression of dim 1.

In: expressions whose leaves are vectors (inputs, fields, slots).  Out: expressions of dim 1 over the leaves
`component(leaf, index=d)`, or `component_at(leaf, d)` where d is only known inside a loop.

Short vectors are written out.  A fold over a long vector becomes a `fold_loop` node, whose body is the term at
`loop_var(depth)`; so a long vector is never materialised, and what does not depend on the loop variable is left
outside by the emitter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from ..errors import FormulaError
from ..ir.expr import OPS, Expr, Op, call, const, leaf, register, toposort

# Beyond this length a vector is walked by a loop: the code of a fully unrolled tile no longer fits the micro-op cache,
# and compilation takes longer than the loop costs (benchmarks/NOTES.md, "Unrolling").
UNROLL = 32
# A fold over more terms is a loop: written out over a tile of pairs, it spills (benchmarks/NOTES.md, "Unrolling").
UNROLL_FOLD = 4
# Longer lists (of the K smallest) are shifted by a loop: written out, they compile slowly and insert no faster.
UNROLL_LIST = 16

KEPT = "kept"  # the leaves of kernel.py for vectors that a stage stores for its own loops
LEAVES = frozenset({"input", "field", "slot", KEPT})


def _one(*_: int, **__: Any) -> int:
    return 1


register(Op("component", 1, _one, operands="any", kind="same", doc="Component `index` of a leaf."))
register(Op("component_at", 2, _one, operands="any", doc="Component of a leaf at a number known at run time."))
register(Op("loop_var", 0, _one, kind="index", doc="The number of the current component of a loop."))
register(Op("fold_loop", 1, _one, operands="any", doc="Fold of the body over loop_var(depth) in range(size)."))

FOLDS: dict[str, Callable[[Expr, Expr], Expr]] = {
    "sum": lambda acc, x: acc + x,
    "max": lambda acc, x: call("maximum", acc, x),
    "min": lambda acc, x: call("minimum", acc, x),
}


def component(x: Expr, d: int | Expr) -> Expr:
    """The leaf access of component d."""
    if isinstance(d, int):
        return call("component", x, index=d)
    return Expr(OPS["component_at"], (x, d), (), x.kind, x.axes)


def access(node: Expr) -> tuple[Expr, int | Expr]:
    """The leaf and the component number of a `component` or `component_at` node."""
    if node.name == "component":
        return node.args[0], node.param("index")
    return node.args[0], node.args[1]


def loop_var(depth: int, size: int = 0) -> Expr:
    """The number of the component in the loop `depth`, over `size` of them (0: of which the length is not told)."""
    return leaf("loop_var", "index", depth=depth, size=size)


class Scalarizer:
    """Writes components of vector expressions; one instance for the formulas of one kernel."""

    def __init__(self, unroll: int = UNROLL, unroll_fold: int = UNROLL_FOLD):
        self.unroll, self.unroll_fold = unroll, unroll_fold
        self.depth = 0
        self._known: dict[tuple[Expr, int | Expr], Expr] = {}

    def components(self, node: Expr) -> list[Expr]:
        """All components of a vector that is short enough to be written out."""
        for n in toposort(node):  # arguments first, so that `at` never recurses deeply
            if n.dim <= self.unroll and n.name not in LEAVES:
                for d in range(n.dim):
                    self.at(n, d)
        return [self.at(node, d) for d in range(node.dim)]

    def at(self, node: Expr, d: int | Expr) -> Expr:
        """Component d of the node; a vector of length 1 stands for all lengths.

        No recursion, however deep the formula is: where a component is written before those that it needs, the writing
        stops at the first of them (`_Missing`), and is taken up again when that one is there.
        """
        known, depth = self._known, self.depth
        first = _key(node, d)
        found = known.get(first)
        if found is not None:
            return found
        stack = [(first, depth)]
        try:
            while stack:
                key, self.depth = stack[-1]
                if key not in known:
                    try:
                        known[key] = self._write(*key)
                    except _Missing as missing:
                        stack.append((missing.key, self.depth + missing.loops))
                        continue
                stack.pop()
        finally:
            self.depth = depth
        return known[first]

    def _part(self, node: Expr, d: int | Expr) -> Expr:
        """Component d of an argument of what is being written."""
        key = _key(node, d)
        found = self._known.get(key)
        if found is None:
            raise _Missing(key)
        return found

    def _write(self, node: Expr, d: int | Expr) -> Expr:
        op = node.op
        if op.name in LEAVES:
            return component(node, d)
        if not node.args and op.component is None:
            return node  # const, index, loop_var
        if op.component is not None:
            return op.component(node, d, self._part, self.fold)
        if op.elementwise or op.name == "fold_columns":
            return call(op.name, *(self._part(a, d) for a in node.args), **dict(node.params))
        raise FormulaError(f"operation {op.name} has no components: expand the formula first")

    def fold(self, kind: str, size: int, body: Callable[[int | Expr], Expr]) -> Expr:
        """Fold body(k) over k in range(size): written out, or as a loop."""
        if size <= self.unroll_fold:
            return _written_out(kind, [body(k) for k in range(size)])
        depth = self.depth
        self.depth += 1
        try:
            inner = body(loop_var(depth, size))
        except _Missing as missing:
            missing.loops += 1
            raise
        finally:
            self.depth -= 1
        result_kind = "index" if kind.startswith("arg") else inner.kind
        params = (("depth", depth), ("fold", kind), ("size", size))
        return Expr(OPS["fold_loop"], (inner,), params, result_kind, inner.axes)


class _Missing(Exception):
    """A component is needed that is not written yet, inside of so many loops of what needs it."""

    def __init__(self, key: tuple[Expr, int | Expr]):
        self.key, self.loops = key, 0


def _key(node: Expr, d: int | Expr) -> tuple[Expr, int | Expr]:
    return (node, 0 if node.dim == 1 else d)


def _written_out(kind: str, terms: list[Expr]) -> Expr:
    result = terms[0]
    if not kind.startswith("arg"):
        for t in terms[1:]:
            result = FOLDS[kind](result, t)
        return result
    place = const(0, "index")
    for k, t in enumerate(terms[1:], start=1):
        better = t < result if kind == "argmin" else t > result
        # a NaN never wins, and loses to whatever follows it
        better = better | (call("isnan", result) & ~call("isnan", t))
        result, place = call("where", better, t, result), call("where", better, const(k, "index"), place)
    return place


def free_loops(root: Expr, memo: dict[Expr, frozenset[int]]) -> frozenset[int]:
    """Depths of the loop variables on which an expression depends (those of its own loops excepted)."""
    stack = [root]
    while stack:
        node = stack[-1]
        missing = [] if node in memo else [a for a in node.args if a not in memo]
        stack += missing
        if missing:
            continue
        stack.pop()
        if node in memo:
            continue
        free = NONE_DEPTHS.union(*(memo[a] for a in node.args))
        if node.name == "loop_var":
            free = frozenset((node.param("depth"),))
        elif node.name == "fold_loop":
            free = free - {node.param("depth")}
        memo[node] = free
    return memo[root]


def invariants(body: Expr, depth: int, opened: Collection[int], memo: dict[Expr, frozenset[int]]) -> Iterator[Expr]:
    """The largest parts of the body of a loop that can be written before it, where the loops `opened` are open."""
    seen: set[Expr] = set()
    stack = [body]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        free = free_loops(node, memo)
        if depth not in free and free.issubset(opened):
            yield node
        elif node.name != "component_at":
            stack += node.args


NONE_DEPTHS: frozenset[int] = frozenset()
