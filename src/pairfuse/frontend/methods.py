"""The operations of the table as methods, and Python's operators.

In: the rows of ir/ops.py.  Out: one method for each public row, with its documentation; adding a row adds the method.
Rows whose method takes other arguments than the row are written out in vectors.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from inspect import Parameter, Signature
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..errors import KeywordError, message
from ..ir.expr import Op
from ..ir.ops import TABLE
from ..ir.ops_complex import ROWS as OF_PAIRS
from . import logic
from .base import Lazy, node

L = TypeVar("L", bound="Operations")
ONE_INPUT: tuple[tuple[int, ...], ...] = ((),)

# Rows without a method of their own name: pieces of other definitions, and what vectors.py and reductions.py write.
INTERNAL = frozenset(
    (
        *("to_real", "to_index", "shift", "pad", "repeat", "tile", "transpose", "extract", "elem", "elem_t"),
        *("sum", "sum_d"),
        *("min_d", "max_d", "argmin_d", "argmax_d", "pow", "powi", "round", "mod", "one_hot", "clamp"),
        *("where", "tensordot", "kron", "weightedsqnorm", "weightedsqdist", "bspline"),
        *OF_PAIRS,
    )
)
ADD, SUB, MUL, DIV = "add", "sub", "mul", "div"
LARGEST_WHOLE_EXPONENT = 1024  # a float exponent that is a whole number up to this is an integer power


class Operations(Lazy):
    """Operators, and the methods made from the table."""

    __slots__ = ()

    if TYPE_CHECKING:  # the methods that `install` adds

        def __getattr__(self, name: str) -> Any: ...

    # Arithmetic. Exact 0, 1 and -1 leave no trace in the formula, so that sums may start from `K = 0`.
    def __add__(self: L, other: Any) -> L:
        return self if _is_exactly(other, 0) else self._apply(ADD, other)

    def __radd__(self: L, other: Any) -> L:
        return self if _is_exactly(other, 0) else self._apply_after(ADD, other)

    def __sub__(self: L, other: Any) -> L:
        return self if _is_exactly(other, 0) else self._apply(SUB, other)

    def __rsub__(self: L, other: Any) -> L:
        return self._apply("neg") if _is_exactly(other, 0) else self._apply_after(SUB, other)

    def __mul__(self: L, other: Any) -> L:
        if _is_exactly(other, 1):
            return self
        return self._apply("neg") if _is_exactly(other, -1) else self._apply(MUL, other)

    def __rmul__(self: L, other: Any) -> L:
        if _is_exactly(other, 1):
            return self
        return self._apply("neg") if _is_exactly(other, -1) else self._apply_after(MUL, other)

    def __truediv__(self: L, other: Any) -> L:
        return self if _is_exactly(other, 1) else self._apply(DIV, other)

    def __rtruediv__(self: L, other: Any) -> L:
        return self._apply("inv") if _is_exactly(other, 1) else self._apply_after(DIV, other)

    def __floordiv__(self: L, other: Any) -> L:
        return self._apply("floordiv", other)

    def __rfloordiv__(self: L, other: Any) -> L:
        return self._apply_after("floordiv", other)

    def __mod__(self: L, other: Any) -> L:
        return self._apply("mod", other, 0)

    def __rmod__(self: L, other: Any) -> L:
        return self._apply_after("mod", other, 0)

    def __pow__(self: L, exponent: Any) -> L:
        """x ** n: an exact integer power; x ** 0.5 and x ** -0.5 are sqrt and rsqrt; otherwise pow(x, p)."""
        if isinstance(exponent, (Integral, np.bool_)):
            return self._whole_power(int(exponent))
        if isinstance(exponent, (float, np.floating)):
            if exponent == 0.5:
                return self._apply("sqrt")
            if exponent == -0.5:
                return self._apply("rsqrt")
            if abs(exponent) <= LARGEST_WHOLE_EXPONENT and float(exponent).is_integer():
                return self._whole_power(int(exponent))
        return self._apply("pow", exponent)

    def _whole_power(self: L, n: int) -> L:
        if n == 1:
            return self
        return self._apply("square") if n == 2 else self._apply("powi", params=(("n", n),))

    def __rpow__(self: L, base: Any) -> L:
        return self._apply("exp2") if _is_exactly(base, 2) else self._apply_after("pow", base)

    def power(self: L, exponent: Any) -> L:
        """The same as ``x ** exponent``."""
        return self**exponent

    def __neg__(self: L) -> L:
        return self._apply("neg")

    def __pos__(self: L) -> L:
        return self

    def __abs__(self: L) -> L:
        return self._apply("abs")

    # Between conditions these are logical, between whole numbers bit by bit: see logic.py.
    def __invert__(self: L) -> L:
        return logic.inverted(self)

    def __or__(self: L, other: Any) -> L:
        """x | y: whether one of two conditions holds; the scalar product of two vectors of the same length (KeOps)."""
        return logic.connected("or", self, other)

    def __ror__(self: L, other: Any) -> L:
        return logic.connected("or", other, self)

    def __and__(self: L, other: Any) -> L:
        """x & y: whether both conditions hold."""
        return logic.connected("and", self, other)

    def __rand__(self: L, other: Any) -> L:
        return logic.connected("and", other, self)

    def __xor__(self: L, other: Any) -> L:
        """x ^ y: whether one of the conditions holds, and not the other."""
        return logic.connected("xor", self, other)

    def __rxor__(self: L, other: Any) -> L:
        return logic.connected("xor", other, self)

    def where(self: L, condition: Any, other: Any) -> L:
        """x where the condition is true, else other, as in torch and pandas; `where(condition, x, y)` is the function.

        Arguments: condition: a comparison, or truth values; other: a symbolic tensor, array or number.
        """
        return logic.chosen(self, condition, other)

    # Comparisons: 1 where true, 0 where false.
    def __lt__(self: L, other: Any) -> L:
        return self._apply("lt", other)

    def __le__(self: L, other: Any) -> L:
        return self._apply("le", other)

    def __gt__(self: L, other: Any) -> L:
        return self._apply("gt", other)

    def __ge__(self: L, other: Any) -> L:
        return self._apply("ge", other)

    def __eq__(self, other: object) -> Any:
        return False if other is None else self._apply("eq", other)

    def __ne__(self, other: object) -> Any:
        return True if other is None else self._apply("ne", other)

    __hash__ = None  # type: ignore[assignment]  # == builds a formula, so a LazyTensor cannot be the key of a dict


def _is_exactly(value: Any, number: int) -> bool:
    """Is it this number, written as a Python int or float (and not True)?"""
    kind = type(value)
    return (kind is int or kind is float) and value == number


# ---------------------------------------------------------------------- methods made from rows


def public_rows() -> list[Op]:
    """The rows that become methods under their own name."""
    return [op for op in TABLE.values() if op.arity and op.name not in INTERNAL]


def install(cls: type[Operations]) -> None:
    """Give the class one method for each public row that it does not write itself."""
    for op in public_rows():
        # aliases are KeOps' names in formulas; those in small letters are methods of NumPy, SciPy or torch
        for name in (op.name, *filter(str.islower, op.aliases)):
            if name not in cls.__dict__:
                setattr(cls, name, method_of(op))


def method_of(op: Op) -> Callable[..., Any]:
    """The method of a row: self is its first argument, then come the other operands, then parameters."""
    name, others, names = op.name, op.arity - 1, names_of(op)  # and not the row itself: torch.compile reads this code
    taken = len(names)

    def unary(self: Any, *args: Any, **named: Any) -> Any:
        if args or named:
            raise _misused(name, (), args, named)
        if self._space.is_complex:
            return self._apply(name)
        return self._make(node(name, (self._expr,), ONE_INPUT, ()), self._bindings, self._space)

    def general(self: Any, *args: Any, **named: Any) -> Any:
        if named or len(args) != taken:
            args = _arranged(name, names, args, named)
        return self._call(name, *args[:others], **dict(zip(names[others:], args[others:], strict=True)))

    # operands of these may be refused, in the user's words
    plain = op.arity == 1 and not op.params and op.operands != "index"
    method: Any = unary if plain else general
    method.__name__ = name
    method.__qualname__ = f"LazyTensor.{name}"
    method.__doc__ = f"{op.doc}\n\n{call_of(name, names)}"
    method.__signature__ = Signature([Parameter(n, Parameter.POSITIONAL_OR_KEYWORD) for n in ("self", *names)])
    return method


def names_of(op: Op) -> tuple[str, ...]:
    """The arguments of the method of a row but self: y, z ... are operands, then come the parameters."""
    return (*"yzuvw"[: op.arity - 1], *op.params)


def call_of(name: str, names: Sequence[str]) -> str:
    """How a method is called: "x.atan2(y)"."""
    return f"x.{name}({', '.join(names)})"


def _arranged(name: str, names: Sequence[str], args: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments in their order, where some are given by keyword."""
    rest = names[len(args) :]
    if len(args) + len(named) != len(names) or not all(n in named for n in rest):
        raise _misused(name, names, args, named)
    return (*args, *[named[n] for n in rest])


def _misused(name: str, names: Sequence[str], args: Sequence[Any], named: Mapping[str, Any]) -> KeywordError:
    """The error of a call with arguments that the method does not take, or without some that it needs."""
    call = call_of(name, names)
    unknown = [n for n in named if n not in names]
    if unknown:
        near = get_close_matches(unknown[0], names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it is called as {call}."
        return KeywordError(message(f"x.{name}({unknown[0]}=...): there is no such keyword.", hint=hint))
    twice = [n for n in named if n in names[: len(args)]]
    if twice:
        return KeywordError(message(f"{call}: {twice[0]} is given twice."))
    count = "no argument" if not names else f"{len(names)} argument{'s' * (len(names) > 1)}"
    return KeywordError(message(f"{call}: takes {count}, not {len(args) + len(named)}."))
