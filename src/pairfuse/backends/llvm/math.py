"""The table of the mathematical functions on vectors, and the one way to emit them.

In: `emit_math(b, name, *args)` with Values of one element type.  Out: the Value of the results.  Short functions are
written in line, where their instructions interleave over the replicas of the tile; long ones become a function of
vectors, written once per module.  The bounds of the table are those of docs/accuracy.md, and tested.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import math_erf, math_exp, math_inverse, math_log, math_pow, math_root, math_trig
from .builder import Builder, Value


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


_ROWS = (
    MathFunction("exp", math_exp.exp, 1, True, 1.0, 1.0, ""),
    MathFunction("log", math_log.log, 1, True, 1.0, 1.0, ""),
    MathFunction("sqrt", math_root.sqrt, 1, True, 0.5, 0.5, "correctly rounded"),
    MathFunction("rsqrt", math_root.rsqrt, 1, True, 1.5, 1.5, "0 at 0"),
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
    MathFunction("asin", math_inverse.asin, 1, False, 2.0, 2.0, ""),
    MathFunction("acos", math_inverse.acos, 1, False, 2.0, 2.0, ""),
    MathFunction("atan", math_inverse.atan, 1, False, 2.0, 2.0, ""),
    MathFunction("atan2", math_inverse.atan2, 2, False, 2.0, 2.0, ""),
    MathFunction("pow", math_pow.pow, 2, False, 1.0, 1.0, ""),
    MathFunction("log2", math_log.log2, 1, False, 2.0, 2.0, ""),
    MathFunction("log10", math_log.log10, 1, False, 2.0, 2.0, ""),
    MathFunction("log1p", math_log.log1p, 1, False, 2.0, 2.0, ""),
    MathFunction("erf", math_erf.erf, 1, False, 2.0, 2.0, ""),
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
