"""Variables without data: how they are declared, and how the arguments of a call take their places.

In: `(number, length, category)`, and later the arguments of a call.  Out: symbolic tensors whose bindings wait, and
those tensors again with every binding filled and every size checked.  Formula strings (strings/) and `Vi(0, D)` are
the same thing here: a formula whose inputs are `Symbol`s.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..errors import PairfuseError, ShapeError, message
from ..ir.expr import Expr
from ..runtime import arrays
from .base import Binding, Bindings, Lazy, variable
from .integers import as_whole
from .messages import describe_value
from .space import EMPTY, LETTERS, Clash, Space, Symbol, join

L = TypeVar("L", bound=Lazy)

CATEGORIES = {"i": 0, "j": 1, "p": 2}  # the numbers that KeOps gives the axes
ROWS = {"i": "(*batch, M, {})", "j": "(*batch, N, {})", "p": "(*batch, {})"}


def symbolic(ind: Any, dim: Any, axis: str) -> tuple[Expr, Bindings, Space]:
    """Formula, binding and space of the variable that stands for argument number `ind`."""
    if not (_is_whole(ind) and _is_whole(dim) and ind >= 0 and dim >= 1):
        hint = "without data, Vi(0, 3) is argument number 0 of the call, an array of rows of length 3."
        text = f"{LETTERS[axis]}(number, length): a number from 0 and a length from 1 declare a variable."
        facts = [f"number: {describe_value(ind)}", f"length: {describe_value(dim)}"]
        raise ShapeError(message(text, facts, hint))
    symbol = Symbol(int(ind), int(dim), axis)
    return variable(axis, symbol.dim), (Binding(symbol, axis),), Space(symbols=(symbol,))


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def symbols_of(operands: Sequence[Lazy]) -> tuple[Symbol, ...]:
    """The arguments that a call of these formulas takes, in the order of their numbers."""
    found: dict[int, Symbol] = {}
    for x in operands:
        for s in x._space.symbols:
            if found.setdefault(s.ind, s) != s:
                text = f"the argument number {s.ind} is declared twice, as {found[s.ind]} and as {s}."
                raise ShapeError(message(text, hint="give every symbolic variable a number of its own."))
    return tuple(found[ind] for ind in sorted(found))


def bind(
    title: str, operands: tuple[L, ...], symbols: tuple[Symbol, ...], shown: tuple[str, ...], args: Sequence[Any]
) -> tuple[L, ...]:
    """The operands with the arguments in the places of their symbols.

    Arguments: symbols: those of the operands; shown: how the user declared each of them, for the errors.
    Raises: ShapeError or DtypeError that names the argument.
    """
    if len(args) != len(symbols):
        hint = "arrays given when the formula was written are not given again." if not symbols else ""
        raise ShapeError(message(f"{title}: takes {len(symbols)} arguments, not {len(args)}.", shown, hint))
    values: dict[int, Argument] = {}
    for place, (symbol, value) in enumerate(zip(symbols, args, strict=True)):
        values[symbol.ind] = _argument(f"{title}: argument {place}, {shown[place]}", symbol, value)
    try:
        return tuple([_filled(x, values) for x in operands])
    except Clash as cause:
        facts = [f"{s}: {describe_value(a)}" for s, a in zip(shown, args, strict=True)]
        raise cause.error(message(f"{title}: {cause.text}", facts, cause.hint)) from None


class Argument(NamedTuple):
    """One argument of a call: its data as a binding holds it, and what it says of the space."""

    data: Any
    library: str | None = None
    dtype: str | None = None
    device: str | None = None
    whole: bool = False

    def space(self, axis: str) -> Space:
        """The space of this argument where the formula uses it along `axis`."""
        if self.library is None:
            return EMPTY
        shape = tuple(self.data.shape)
        if axis == "p":
            return Space(None, None, shape[:-1], self.library, self.dtype, device=self.device)
        ni, nj = (shape[-2], None) if axis == "i" else (None, shape[-2])
        return Space(ni, nj, shape[:-2], self.library, self.dtype, device=self.device)


def _filled(x: L, values: dict[int, Argument]) -> L:
    """x with these values; its space grows by theirs, each along the axis on which the formula uses it."""
    space = x._space._replace(symbols=())
    bindings: list[Binding] = []
    integral: list[int] = []
    unused = {s.ind: s.axis for s in x._space.symbols}
    for binding in x._bindings:
        if type(binding.data) is Symbol:
            value = values[binding.data.ind]
            unused.pop(binding.data.ind, None)
            if value.whole:
                integral.append(len(bindings))
            binding = Binding(value.data, binding.axis)
            space = join(space, value.space(binding.axis))
        bindings.append(binding)
    for ind, axis in unused.items():  # an argument that the formula does not mention still has its rows
        space = join(space, values[ind].space(axis))
    expr = as_whole(x._expr, tuple(integral)) if integral else x._expr
    return x._make(expr, tuple(bindings), space)


def _argument(place: str, symbol: Symbol, value: Any) -> Argument:
    """One argument, checked: an array (*batch, rows, dim) or (*batch, dim), or numbers for a parameter."""
    kind = arrays.library(value)
    if kind is None:
        return _numbers(place, symbol, value)
    try:
        value = arrays.in_single(value, kind)
        dtype: str | None = arrays.number_type(value, kind)
        data = arrays.plain(value, kind)
    except PairfuseError as cause:
        text = str(cause).partition(": ")[2]
        raise type(cause)(f"{place}: {text}") from None
    device = arrays.device(data, kind)
    integral = dtype == arrays.INTEGER
    if integral:
        dtype = None
    if data.ndim == 0 and symbol.axis == "p" and symbol.dim == 1:
        # A single number takes the type of the others, and on the CPU their device, as Python's floats do.
        return Argument(data.reshape(1), kind, None, None if device == "cpu" else device, integral)
    if data.ndim < (1 if symbol.axis == "p" else 2) or data.shape[-1] != symbol.dim:
        raise _misfit(place, symbol, value)
    return Argument(data, kind, dtype, device, integral)


def _numbers(place: str, symbol: Symbol, value: Any) -> Argument:
    """Python's numbers in the place of a parameter take the type of the arrays."""
    numbers = value if isinstance(value, (list, tuple)) else (value,)
    if symbol.axis != "p" or len(numbers) != symbol.dim or not all(isinstance(v, (Real, np.bool_)) for v in numbers):
        raise _misfit(place, symbol, value)
    return Argument(tuple(float(v) for v in numbers))


def _misfit(place: str, symbol: Symbol, value: Any) -> ShapeError:
    shape = ROWS[symbol.axis].format(symbol.dim)
    hint = ""
    if symbol.axis != "p" and arrays.library(value) is not None and value.ndim == 1 and symbol.dim == 1:
        hint = "x[:, None] is an array of rows with one component."
    return ShapeError(message(f"{place}, is an array of shape {shape}.", f"given: {describe_value(value)}", hint))
