"""Expressions: the immutable, interned formula of Pairfuse.

In: calls of operations, `call("add", x, y)`.  Out: `Expr` nodes; two equal expressions are the same object, so `is`
means equal and caches may key on the node.  Nothing here knows an array: the leaves are `input` (slot k of the
problem, axis i, j or p, vector length), `const`, `index` (the row or column number) and `arange` (the component
numbers).

An expression is a vector of `dim` components, the same for every pair (i, j); `axes` says on what it depends.  Its
`kind` is "real" (the floating type of the problem), "bool" (a truth value) or "index" (an exact integer).
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import FormulaError, ShapeError, shown_number

LONGEST_VECTOR = 2**27  # components; what is longer is a mistake, such as products of products of tensors
I, J, P = "i", "j", "p"  # noqa: E741 - the field's own names of the axes
NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False, slots=True)
class Op:
    """One row of the table of operations (ir/ops.py): everything that Pairfuse knows of an operation.

    name       canonical snake_case name; `aliases` are the names of KeOps' formula language
    arity      number of expression arguments
    dim        (*dims, **params) -> vector length of the result; raises ShapeError
    params     names of the parameters (integers, tuples of integers ...) that follow the arguments, in this order
    operands   what the arguments are converted to: "real", "number" (all index, or all real), "bool", or "any";
               or a function (**params) -> one of these
    kind       kind of the result: "real", "bool", "index", or "same" as the (converted) last argument
    ref        the NumPy meaning, on arrays whose last axis is the vector axis
    partials   element-wise operations: (out, *args, **params) -> the partial derivatives, None for zero
    vjp        other operations: (g, out, *args, **params) -> the cotangents of the arguments, None for zero
    jvp        other operations: (tangents, out, *args, **params) -> the tangent of the result, None for zero; an
               operation that has `vjp` and no `jvp` is linear
    component  other operations: (node, d, at, fold) -> component d of the result as an expression of dim 1, where
               d is an int or an index expression, `at(x, d)` gives component d of an argument, and
               `fold("sum" | "max" | "min" | "argmax" | "argmin", size, body)` folds body(k) over k in range(size)
    expand     derived operations: definition by other operations; such a row needs none of the cells above but dim
    llvm       how the LLVM backend writes it on vectors: a Builder method, a function of the builder, or "math:<name>"
    llvm_int   the same for index operands
    triton     how the Triton backend writes it: a template over {0}, {1}, ...
    triton_int the same for index operands, where it differs
    domain     intervals from which the tests draw each argument
    samples    (dims of the arguments, parameters): calls of which every test of the table makes use
    doc        one line of the manual, then the details
    """

    name: str
    arity: int
    dim: Callable[..., int]
    params: tuple[str, ...] = ()
    operands: str | Callable[..., str] = "real"
    kind: str = "real"
    ref: Callable[..., Any] | None = None
    partials: Callable[..., tuple[Expr | None, ...]] | None = None
    vjp: Callable[..., tuple[Expr | None, ...]] | None = None
    jvp: Callable[..., Expr | None] | None = None
    component: Callable[..., Expr] | None = None
    expand: Callable[..., Expr] | None = None
    llvm: str | Callable[..., Any] | None = None
    llvm_int: str | Callable[..., Any] | None = None
    triton: str | None = None
    triton_int: str | None = None
    domain: tuple[tuple[float, float], ...] = ()
    samples: tuple[tuple[tuple[int, ...], Mapping[str, Any]], ...] = ()
    traits: frozenset[str] = NONE
    doc: str = ""
    aliases: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    @property
    def elementwise(self) -> bool:
        """Component d of the result needs component d of the arguments only."""
        return "elementwise" in self.traits


OPS: dict[str, Op] = {}


def register(op: Op) -> Op:
    """Add a row to the table; names and aliases are unique."""
    if op.name in OPS:
        raise FormulaError(f"operation {op.name!r} is already registered")
    OPS[op.name] = op
    return op


class Expr:
    """A node of a formula. Never built directly: use `call`, `input_`, `const`, `index`."""

    __slots__ = ("__weakref__", "args", "axes", "dim", "kind", "op", "params")

    op: Op
    args: tuple[Expr, ...]
    params: tuple[tuple[str, Any], ...]
    dim: int
    kind: str
    axes: frozenset[str]

    _table: ClassVar[weakref.WeakValueDictionary[tuple[Any, ...], Expr]] = weakref.WeakValueDictionary()

    def __new__(
        cls, op: Op, args: tuple[Expr, ...], params: tuple[tuple[str, Any], ...], kind: str, axes: frozenset[str]
    ) -> Expr:
        key = (op.name, args, params, kind, _types(params))
        found = cls._table.get(key)
        if found is not None:
            return found
        self = object.__new__(cls)
        self.op, self.args, self.params, self.kind, self.axes = op, args, params, kind, axes
        self.dim = op.dim(*[a.dim for a in args], **dict(params))
        if self.dim > LONGEST_VECTOR:
            what = f"{op.name}: a vector of {shown_number(self.dim)} components is too long"
            raise ShapeError(f"{what}, {LONGEST_VECTOR} are the most.")
        # setdefault and not assignment: of two threads that build the same node, both must get one object
        return cls._table.setdefault(key, self)

    def param(self, name: str) -> Any:
        """The value of one parameter of the operation."""
        for key, value in self.params:
            if key == name:
                return value
        raise KeyError(name)

    @property
    def name(self) -> str:
        return self.op.name

    def is_const(self, value: float | None = None) -> bool:
        return self.op.name == "const" and (value is None or self.param("value") == value)

    def __repr__(self) -> str:
        return _shown(self, REPR_DEPTH)

    # Equal expressions are one object, so they are compared and hashed as objects. This is what any class does that
    # says nothing; torch.compile takes a class for a constant only if it says so.
    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def __reduce__(self) -> tuple[Any, ...]:
        # all nodes in a row: pickle would go down the arguments by recursion
        nodes = toposort(self)
        places = {node: k for k, node in enumerate(nodes)}
        return rebuild_nodes, ([(n.op.name, [places[a] for a in n.args], n.params, n.kind) for n in nodes],)

    def __copy__(self) -> Expr:
        return self

    def __deepcopy__(self, memo: Any) -> Expr:
        return self

    # Arithmetic, so that definitions and rules read like formulas.
    def __add__(self, other: Operand) -> Expr:
        return call("add", self, other)

    def __radd__(self, other: Operand) -> Expr:
        return call("add", other, self)

    def __sub__(self, other: Operand) -> Expr:
        return call("sub", self, other)

    def __rsub__(self, other: Operand) -> Expr:
        return call("sub", other, self)

    def __mul__(self, other: Operand) -> Expr:
        return call("mul", self, other)

    def __rmul__(self, other: Operand) -> Expr:
        return call("mul", other, self)

    def __truediv__(self, other: Operand) -> Expr:
        return call("div", self, other)

    def __rtruediv__(self, other: Operand) -> Expr:
        return call("div", other, self)

    def __neg__(self) -> Expr:
        return call("neg", self)

    def __lt__(self, other: Operand) -> Expr:
        return call("lt", self, other)

    def __le__(self, other: Operand) -> Expr:
        return call("le", self, other)

    def __gt__(self, other: Operand) -> Expr:
        return call("gt", self, other)

    def __ge__(self, other: Operand) -> Expr:
        return call("ge", self, other)

    def __and__(self, other: Operand) -> Expr:
        return call("logical_and", self, other)

    def __or__(self, other: Operand) -> Expr:
        return call("logical_or", self, other)

    def __invert__(self) -> Expr:
        return call("logical_not", self)


Operand = Expr | float | int | bool

REPR_DEPTH = 6  # shared nodes are written out again and again: the whole of a deep formula is for ir/text.py


def _shown(node: Expr, depth: int) -> str:
    if node.args and depth == 0:
        return f"{node.op.name}(...)"
    shown = [_shown(a, depth - 1) for a in node.args] + [f"{k}={v}" for k, v in node.params]
    return f"{node.op.name}({', '.join(shown)})"


def _types(params: tuple[tuple[str, Any], ...]) -> tuple[type, ...]:
    # 1, 1.0, True and 0.0, -0.0 are equal as keys but not as constants
    return tuple(type(v) if not isinstance(v, float) else (float, str(v)) for _, v in params)  # type: ignore[misc]


def rebuild_nodes(rows: Iterable[tuple[str, list[int], tuple[tuple[str, Any], ...], str]]) -> Expr:
    """The last of the nodes of this description, which names arguments by their places (used by pickle)."""
    nodes: list[Expr] = []
    for name, places, params, kind in rows:
        args = [nodes[k] for k in places]
        nodes.append(call(name, *args, **dict(params)) if args else leaf(name, kind, **dict(params)))
    return nodes[-1]


# ---------------------------------------------------------------------- leaves


def leaf(name: str, kind: str, /, **params: Any) -> Expr:
    axis = params.get("axis")
    if params.get("value") != params.get("value"):
        params["value"] = math.nan  # one object: NaN is equal to nothing but, inside a key, to itself
    axes = frozenset((axis,)) if axis in (I, J) else NONE
    return Expr(OPS[name], (), tuple(sorted(params.items())), kind, axes)


LAST_WHOLE = 2**53  # from here on not every integer is a float64
LARGEST = 2**63  # exact integers are below


def input_(slot: int, axis: str, dim: int) -> Expr:
    """The variable of slot `slot`: a row of an array indexed by `axis` ("i", "j"), or a parameter ("p")."""
    return leaf("input", "real", slot=slot, axis=axis, dim=dim)


def const(value: float | int | bool, kind: str | None = None) -> Expr:
    """A number known at compile time; an integer that float64 does not hold, but 64 bits do, stays one."""
    if kind is None:
        kind = "bool" if isinstance(value, bool) else "real"
        whole = type(value) is int and abs(value) > LAST_WHOLE and -LARGEST <= value < LARGEST
        if whole and value != float(value):
            kind = "index"
    try:
        value = bool(value) if kind == "bool" else int(value) if kind == "index" else float(value)
    except OverflowError:
        raise FormulaError(f"the number {shown_number(int(value))} is too large, floats end at 1.8e308.") from None
    return leaf("const", kind, value=value)


def index(axis: str) -> Expr:
    """The number of the row ("i") or of the column ("j"): an exact integer."""
    return leaf("index", "index", axis=axis)


def whole(variable: Expr) -> Expr:
    """The variable of an array of integers: exact, until it meets a real number (lower/integers.py)."""
    return call("whole", variable, bits=64)


def leaf_of(expr: Expr) -> Expr:
    """The input of a variable, of real numbers or of integers; other expressions are returned as they are."""
    return expr.args[0] if expr.op.name == "whole" else expr


# ---------------------------------------------------------------------- calls


def as_kind(x: Expr, kind: str) -> Expr:
    """Convert a value: a truth value or an index to a number, a number to a truth value (x != 0)."""
    if x.kind == kind:
        return x
    if x.is_const():
        return const(x.param("value"), kind)
    if kind == "bool":
        return call("ne", x, const(0, x.kind))
    return Expr(OPS["to_" + kind], (x,), (), kind, x.axes)


def _is_whole(value: float) -> bool:
    return isinstance(value, int) or value.is_integer()  # as integers may be larger than floats


def _common_kind(args: list[Expr]) -> str:
    integral = all(a.kind == "index" or (a.is_const() and _is_whole(a.param("value"))) for a in args)
    return "index" if integral and any(a.kind == "index" for a in args) else "real"


def _converted(op: Op, args: list[Expr], params: Mapping[str, Any]) -> list[Expr]:
    operands = op.operands if isinstance(op.operands, str) else op.operands(**params)
    if operands == "any":
        return args
    if operands == "number":
        kind = _common_kind(args)
        return [as_kind(a, kind) for a in args]
    if operands == "where":
        kind = _common_kind(args[1:])
        if all(a.kind == "bool" for a in args[1:]):
            kind = "bool"
        return [as_kind(args[0], "bool"), *(as_kind(a, kind) for a in args[1:])]
    return [as_kind(a, operands) for a in args]


def call(name: str, /, *args: Operand, **params: Any) -> Expr:
    """Apply an operation of the table; numbers become constants, kinds are converted as the row says."""
    op = OPS.get(name)
    if op is None:
        raise FormulaError(f"unknown operation {name!r}")
    if len(args) != op.arity:
        raise FormulaError(f"{name} takes {op.arity} arguments, not {len(args)}")
    nodes = _converted(op, [a if isinstance(a, Expr) else const(a) for a in args], params)
    kind = op.kind if op.kind != "same" else nodes[-1].kind
    axes = NONE.union(*(a.axes for a in nodes))
    return Expr(op, tuple(nodes), tuple(sorted(params.items())), kind, axes)


# ---------------------------------------------------------------------- walking and rebuilding


def toposort(*roots: Expr) -> list[Expr]:
    """Every node below the roots once, arguments first (no recursion: formulas may be deep)."""
    seen: set[Expr] = set()
    out: list[Expr] = []
    stack = [(r, False) for r in reversed(roots)]
    while stack:
        node, done = stack.pop()
        if done:
            out.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(a, False) for a in reversed(node.args)]
    return out


def with_args(node: Expr, args: tuple[Expr, ...]) -> Expr:
    """The same operation on other arguments."""
    if all(a is b for a, b in zip(args, node.args, strict=True)):
        return node
    return call(node.op.name, *args, **dict(node.params))


def rebuild(roots: Iterable[Expr], rule: Callable[[Expr], Expr]) -> tuple[Expr, ...]:
    """Rewrite bottom-up: every node, its arguments already rewritten, is passed through `rule`."""
    roots = tuple(roots)
    new: dict[Expr, Expr] = {}
    for node in toposort(*roots):
        new[node] = rule(with_args(node, tuple(new[a] for a in node.args)))
    return tuple(new[r] for r in roots)


def substitute(root: Expr, mapping: Mapping[Expr, Expr]) -> Expr:
    """Replace nodes by others."""
    new: dict[Expr, Expr] = {}
    for node in toposort(root):
        new[node] = mapping[node] if node in mapping else with_args(node, tuple(new[a] for a in node.args))
    return new[root]


def as_real_variables(roots: Iterable[Expr], variables: Callable[[Expr], bool]) -> tuple[Expr, ...]:
    """The formulas with those variables of integers taken for real numbers for which `variables(node)` holds."""

    def rule(n: Expr) -> Expr:
        if n.op.name == "to_real" and n.args[0].kind == "real":  # it had been an integer
            return n.args[0]
        return n.args[0] if n.op.name == "whole" and variables(n) else n

    return rebuild(roots, rule)


def inputs(*roots: Expr) -> list[Expr]:
    """The input leaves below the roots, ordered by slot."""
    found = [n for n in toposort(*roots) if n.op.name == "input"]
    return sorted(found, key=lambda n: n.param("slot"))


def broadcast_dim(name: str, *dims: int) -> int:
    """The rule of element-wise operations: equal lengths, or 1."""
    longest = max(dims)
    for d in dims:
        if d not in (1, longest):
            raise ShapeError(f"{name}: the vectors have different lengths, {' and '.join(map(str, dims))}.")
    return longest


def evaluate(roots: Iterable[Expr], values: Mapping[Expr, Any]) -> list[Any]:
    """Evaluate on NumPy arrays by the `ref` cells: the definition of right.

    `values` gives the arrays of the leaves (last axis = vector axis). Derived operations must have been expanded.
    """
    roots = tuple(roots)
    known: dict[Expr, Any] = dict(values)
    for node in toposort(*roots):
        if node not in known:
            ref = node.op.ref
            if ref is None:
                raise FormulaError(f"operation {node.op.name} has no value: expand the formula first")
            known[node] = ref(*[known[a] for a in node.args], **dict(node.params))
    return [known[r] for r in roots]
