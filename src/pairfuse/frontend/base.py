"""The core of a LazyTensor: a formula, the data of its inputs, the space it lives on; and how operations combine them.

In: operands.  Out: a new symbolic tensor.  Nothing is computed here, and no array is touched: an operation on warm
caches costs a few microseconds, because the nodes of formulas are looked up by the identity of their operands.

The inputs of a formula are numbered 0, 1, 2 ... in the order in which it meets them; `bindings[k]` is the data of
input k.  When two formulas meet, the inputs of the second are renumbered after those of the first, and inputs that
are the same array object on the same axis become one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from ..errors import PairfuseError
from ..ir.expr import Expr, I, J, call, index, input_, inputs, leaf_of, rebuild, substitute, whole
from ..ir.ops import check_integers
from .messages import operation_error
from .pairs import on_pairs
from .space import EMPTY, Clash, Space, Symbol, join

L = TypeVar("L", bound="Lazy")
Mapping = tuple[int, ...]  # new slot of each slot; () leaves them as they are
Params = tuple[tuple[str, Any], ...]

FEW = 32  # inputs, up to which nothing is gained by numbering them cleverly
CACHED_NODES = 1 << 14  # formulas kept alive for the next time the user writes them


class Binding(NamedTuple):
    """The data of one input.

    data  array of shape (*batch, M, D), (*batch, N, D) or (*batch, D); or a tuple of Python numbers, which take the
          type of the arrays when the formula is reduced; or a Symbol, which waits for its array
    axis  "i", "j" or "p"
    """

    data: Any
    axis: str


Bindings = tuple[Binding, ...]


class Lazy:
    """A formula and its data. LazyTensor adds the operations, the reductions and the constructor."""

    __slots__ = ("__weakref__", "_bindings", "_expr", "_space")

    _expr: Expr
    _bindings: Bindings
    _space: Space

    # NumPy arrays on the left of an operator leave the operation to us.
    __array_priority__ = 1e6
    # So do tables and columns of pandas, whose own priorities end at 4000.
    __pandas_priority__ = 1e6

    @classmethod
    def _make(cls: type[L], expr: Expr, bindings: Bindings = (), space: Space = EMPTY) -> L:
        self = object.__new__(cls)
        self._expr, self._bindings, self._space = expr, bindings, space
        return self

    @classmethod
    def _lift(cls: type[L], value: Any) -> L:
        """Any operand as a symbolic tensor: numbers, lists and arrays are converted (variables.py)."""
        raise NotImplementedError

    def _operand(self: L, name: str, value: Any) -> L:
        """The other operand of an operation, a number, list or array; LazyTensor refuses what has two meanings."""
        return self._lift(value)

    def _apply(self: L, name: str, *others: Any, params: Params = ()) -> L:
        """The operation of this name of the table on self and the others."""
        if not others and not self._space.is_complex:
            return self._make(node(name, (self._expr,), ((),), params), self._bindings, self._space)
        try:
            operands = (self, *[x if isinstance(x, Lazy) else self._operand(name, x) for x in others])
            bindings, space, mappings = merge(operands) if len(operands[-1]._bindings) <= FEW else merge_long(operands)
            exprs = tuple([x._expr for x in operands])
            if space.is_complex:
                flags = tuple([x._space.is_complex for x in operands])
                expr, pairs = node_of_pairs(name, exprs, mappings, flags, params)
                space = space if pairs else space._replace(is_complex=False)
            else:
                expr = node(name, exprs, mappings, params)
        except (Clash, PairfuseError) as cause:
            raise operation_error(name, (self, *others), params, cause) from None
        return self._make(expr, bindings, space)

    def _apply_after(self: L, name: str, first: Any, *others: Any, params: Params = ()) -> L:
        """The operation whose first argument is another operand, such as 2 - x."""
        try:
            lifted = first if isinstance(first, Lazy) else self._operand(name, first)
        except (Clash, PairfuseError) as cause:
            raise operation_error(name, (first, self, *others), params, cause) from None
        return lifted._apply(name, self, *others, params=params)  # type: ignore[return-value]

    def _call(self: L, name: str, *others: Any, **params: Any) -> L:
        """`_apply` with the parameters as keywords."""
        if not others and not self._space.is_complex:
            try:
                return self._apply(name, params=tuple(params.items()))
            except PairfuseError as cause:
                raise operation_error(name, (self,), tuple(params.items()), cause) from None
        return self._apply(name, *others, params=tuple(params.items()))

    @property
    def axis_letter(self) -> str | None:
        """ "i", "j" or "p" when this is a variable, None when it is a formula."""
        leaf = leaf_of(self._expr)
        return leaf.param("axis") if leaf.op.name == "input" else None

    @property
    def _length(self) -> int:
        """How many components the vectors have, complex ones counted once."""
        return self._expr.dim // 2 if self._space.is_complex else self._expr.dim

    @property
    def _shape(self) -> tuple[int, ...]:
        """(*batch, M, N, D), with the length of the vector even if it is 1, and 1 for an axis that is not used."""
        return (*self._space.sizes, self._expr.dim)


# ---------------------------------------------------------------------- formulas, cached


@lru_cache(maxsize=CACHED_NODES)
def node(name: str, args: tuple[Expr, ...], mappings: tuple[Mapping, ...], params: Params) -> Expr:
    """The operation on the arguments, whose inputs are renumbered."""
    check_integers(name, args)
    return call(name, *[renumbered(e, m) for e, m in zip(args, mappings, strict=True)], **dict(params))


@lru_cache(maxsize=CACHED_NODES)
def node_of_pairs(
    name: str, args: tuple[Expr, ...], mappings: tuple[Mapping, ...], flags: tuple[bool, ...], params: Params
) -> tuple[Expr, bool]:
    """The same where some arguments, those with a flag, are complex numbers; and whether the result is."""
    return on_pairs(name, [renumbered(e, m) for e, m in zip(args, mappings, strict=True)], flags, dict(params))


@lru_cache(maxsize=CACHED_NODES)
def renumbered(expr: Expr, mapping: Mapping) -> Expr:
    """The formula with slot k replaced by slot mapping[k]."""
    if not mapping:
        return expr
    leaves = inputs(expr)
    new = {n: input_(mapping[n.param("slot")], n.param("axis"), n.dim) for n in leaves}
    return substitute(expr, new)


@lru_cache(maxsize=CACHED_NODES)
def variable(axis: str, dim: int) -> Expr:
    return input_(0, axis, dim)


@lru_cache(maxsize=CACHED_NODES)
def variable_of_integers(axis: str, dim: int) -> Expr:
    return whole(input_(0, axis, dim))


@lru_cache(maxsize=CACHED_NODES)
def transposed(expr: Expr) -> Expr:
    """The formula with i and j exchanged."""
    other = {I: J, J: I}

    def rule(n: Expr) -> Expr:
        if n.op.name == "input" and n.param("axis") in other:
            return input_(n.param("slot"), other[n.param("axis")], n.dim)
        return index(other[n.param("axis")]) if n.op.name == "index" else n

    return rebuild((expr,), rule)[0]


# ---------------------------------------------------------------------- data


def merge(operands: tuple[Lazy, ...]) -> tuple[Bindings, Space, tuple[Mapping, ...]]:
    """The inputs of several formulas as those of one: all data, the common space, and the new number of each input."""
    first = operands[0]
    bindings, space = first._bindings, first._space
    mappings: list[Mapping] = [()]
    for x in operands[1:]:
        if x._space is not space:
            space = join(space, x._space)
        bindings, mapping = _append(bindings, x._bindings)
        mappings.append(mapping)
    return bindings, space, tuple(mappings)


def merge_long(operands: tuple[Lazy, ...]) -> tuple[Bindings, Space, tuple[Mapping, ...]]:
    """The same where the last operand has many inputs: those of the longest one come first, and keep their numbers.

    A recurrence z = x + f(z) would renumber the whole of z at every step, otherwise.
    """
    order = sorted(range(len(operands)), key=lambda k: -len(operands[k]._bindings))
    bindings, space, mappings = merge(tuple([operands[k] for k in order]))
    return bindings, space, tuple([mappings[order.index(k)] for k in range(len(operands))])


def _append(have: Bindings, more: Bindings) -> tuple[Bindings, Mapping]:
    if not more or have is more:
        return have, ()
    if not have:
        return more, ()
    joined = list(have)
    mapping: list[int] = []
    objects: list[int] = []
    for item in more:
        if len(have) > FEW and type(item.data) is tuple:  # numbers are the same only as one object
            objects = objects or [*map(id, have)]
            if id(item) in objects:
                mapping.append(objects.index(id(item)))
            else:
                mapping.append(len(joined))
                joined.append(item)
            continue
        for slot, known in enumerate(have):
            if known is item or (known.axis == item.axis and _same_data(known.data, item.data)):
                mapping.append(slot)
                break
        else:
            mapping.append(len(joined))
            joined.append(item)
    return tuple(joined), () if mapping == list(range(len(mapping))) else tuple(mapping)


def _same_data(a: Any, b: Any) -> bool:
    """Equal numbers need not stay equal, but a symbol stands for one argument wherever it is written."""
    return (a is b and type(a) is not tuple) or (type(a) is Symbol and type(b) is Symbol and a == b)
