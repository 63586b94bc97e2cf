"""The table of the mathematical functions on vectors, and the one way to emit them.

In: `emit_math(b, name, *args)` with Values of one element type.  Out: the Value of the results.  Short functions are
written in line, where their instructions interleave over the replicas of the tile; long ones become a function of
vectors, written once per module.  The bounds of the table are those of docs/accuracy.md, and tested.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import math_exp, math_log, math_trig
from .builder import Builder, Value
from .math_core import constant


@dataclass(frozen=True, slots=True)
class MathFunction:
    """One function: `emit(b, *args)` writes it; max_ulp_* bound the error over the whole range of the format."""

    name: str
    emit: Callable[..., Value]
    arity: int
    inline: bool
    max_ulp_float: float
    max_ulp_double: float
    note: str


def from_libm(symbol: str) -> Callable[..., Value]:
    """The C library's function, lane by lane, in double precision."""
    return lambda b, *args: b.call_lanes(symbol, args[0].elem, *args)


def sqrt(b: Builder, x: Value) -> Value:
    return b.sqrt(x)


def rsqrt(b: Builder, x: Value) -> Value:
    """1 / sqrt(x), and 0 at 0."""
    zero = constant(b, x, 0.0)
    return b.select(b.fcmp("oeq", x, zero), zero, b.fdiv(constant(b, x, 1.0), b.sqrt(x)))


_LIBM = "the C library, lane by lane"
_ROWS = (
    MathFunction("exp", math_exp.exp, 1, True, 1.0, 1.0, ""),
    MathFunction("log", math_log.log, 1, True, 1.0, 1.0, ""),
    MathFunction("sqrt", sqrt, 1, True, 0.5, 0.5, "correctly rounded"),
    MathFunction("rsqrt", rsqrt, 1, True, 1.5, 1.5, "0 at 0"),
    MathFunction("sigmoid", math_exp.sigmoid, 1, True, 2.0, 2.0, ""),
    MathFunction("softplus", math_log.softplus, 1, False, 2.0, 2.0, ""),
    MathFunction("exp2", math_exp.exp2, 1, True, 1.0, 1.0, ""),
    MathFunction("expm1", math_exp.expm1, 1, False, 2.0, 2.0, ""),
    MathFunction("tanh", math_exp.tanh, 1, False, 2.0, 2.0, ""),
    MathFunction("sinh", math_exp.sinh, 1, False, 2.0, 2.0, ""),
    MathFunction("cosh", math_exp.cosh, 1, False, 2.0, 2.0, ""),
    MathFunction("sin", math_trig.sin, 1, False, 1.0, 1.0, ""),
    MathFunction("cos", math_trig.cos, 1, False, 1.0, 1.0, ""),
    MathFunction("tan", math_trig.tan, 1, False, 2.0, 2.0, ""),
    MathFunction("log1p", math_log.log1p, 1, False, 2.0, 2.0, ""),
    *(
        MathFunction(name, from_libm(name), arity, False, 1.0, 2.0, _LIBM)
        for name, arity in [
            ("log2", 1),
            ("log10", 1),
            ("asin", 1),
            ("acos", 1),
            ("atan", 1),
            ("atan2", 2),
            ("pow", 2),
            ("erf", 1),
        ]
    ),
)

MATH: dict[str, MathFunction] = {row.name: row for row in _ROWS}


def emit_math(b: Builder, name: str, *args: Value) -> Value:
    """The function `name` of the table applied to vectors of one element type, "float" or "double"."""
    function = MATH[name]
    assert len(args) == function.arity, (name, len(args))
    if function.inline:
        return function.emit(b, *args)
    elem = args[0].elem
    return b.outline(f"@pf_{name}_{elem}_{b.lanes}", elem, lambda inner, params: function.emit(inner, *params), *args)
