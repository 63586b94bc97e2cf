"""The table of the mathematical functions on vectors, and the one way to emit them.

In: `emit_math(b, name, *args)` with Values of one element type.  Out: the Value of the results.  Short functions are
written in line, where their instructions interleave over the replicas of the tile; long ones become a function of
vectors, written once per module.  The bounds of the table are those of docs/accuracy.md, and tested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import math_erf, math_exp, math_inverse, math_inverse_hyperbolic, math_log, math_pow, math_root, math_trig
from .builder import BITS, Builder, Value


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


_FAR = "C library, lane by lane, beyond 1e5 (float32) or 1e9 (float64)"
_ROWS = (
    MathFunction("exp", math_exp.exp, 1, True, 1.0, 1.0, ""),
    MathFunction("exp2", math_exp.exp2, 1, True, 1.0, 1.0, "exact for integers"),
    MathFunction("log", math_log.log, 1, True, 1.0, 1.0, ""),
    MathFunction("sqrt", math_root.sqrt, 1, True, 0.5, 0.5, "correctly rounded"),
    MathFunction("rsqrt", math_root.rsqrt, 1, True, 1.5, 1.5, "0 at 0 and at infinity"),
    MathFunction("sigmoid", math_exp.sigmoid, 1, True, 2.0, 2.0, "1 / (1 + exp(-x)), tails included"),
    MathFunction("softplus", math_log.softplus, 1, False, 2.0, 2.0, "log(1 + exp(x)), tails included"),
    MathFunction("expm1", math_exp.expm1, 1, False, 1.5, 1.5, ""),
    MathFunction("log1p", math_log.log1p, 1, False, 2.0, 2.0, ""),
    MathFunction("log2", math_log.log2, 1, False, 1.5, 1.5, "exact for powers of two"),
    MathFunction("log10", math_log.log10, 1, False, 1.5, 1.5, ""),
    MathFunction("pow", math_pow.pow, 2, False, 0.6, 1.5, "the special cases of C; float32 through float64"),
    MathFunction("sin", math_trig.sin, 1, False, 1.0, 1.0, _FAR),
    MathFunction("cos", math_trig.cos, 1, False, 1.0, 1.0, _FAR),
    MathFunction("tan", math_trig.tan, 1, False, 1.5, 1.5, _FAR),
    MathFunction("asin", math_inverse.asin, 1, False, 2.0, 2.0, ""),
    MathFunction("acos", math_inverse.acos, 1, False, 1.5, 1.5, ""),
    MathFunction("atan", math_inverse.atan, 1, False, 2.0, 2.0, ""),
    MathFunction("atan2", math_inverse.atan2, 2, False, 2.0, 2.0, "the special cases of C"),
    MathFunction("sinh", math_exp.sinh, 1, False, 2.0, 2.0, ""),
    MathFunction("cosh", math_exp.cosh, 1, False, 1.5, 1.5, ""),
    MathFunction("tanh", math_exp.tanh, 1, False, 2.0, 2.0, ""),
    MathFunction("asinh", math_inverse_hyperbolic.asinh, 1, False, 2.0, 2.0, ""),
    MathFunction("acosh", math_inverse_hyperbolic.acosh, 1, False, 2.0, 2.0, ""),
    MathFunction("atanh", math_inverse_hyperbolic.atanh, 1, False, 2.0, 2.0, ""),
    MathFunction("erf", math_erf.erf, 1, False, 1.5, 1.5, ""),
    MathFunction("erfc", math_erf.erfc, 1, False, 3.5, 3.5, "tail included"),
)

# In a function longer than this (in lines) all functions are called: a formula of thousands of exponentials, written in
# line, would take minutes to compile, and is too long to be interleaved anyway.
MOST_INLINED = 6000

MATH: dict[str, MathFunction] = {row.name: row for row in _ROWS}


def emit_math(b: Builder, name: str, *args: Value) -> Value:
    """The function `name` of the table applied to vectors of one element type, "float" or "double"."""
    function = MATH[name]
    assert len(args) == function.arity, (name, len(args))
    if function.inline and len(b.lines) < MOST_INLINED:
        return function.emit(b, *args)
    return call_in_groups(b, function, args)


def call_in_groups(b: Builder, function: MathFunction, args: Sequence[Value]) -> Value:
    """Call the function out of line on several replicas at a time: their chains of operations interleave."""
    rows, cols = max(a.rows for a in args), max(a.cols for a in args)
    flat = [[name for row in b.expand(a, rows, cols).grid for name in row] for a in args]
    elem = args[0].elem
    size = group_size(b, elem, rows * cols)
    names: list[str] = []
    for start in range(0, rows * cols, size):
        names += call_group(b, function, elem, [of_arg[start : start + size] for of_arg in flat])
    return Value(elem, tuple(tuple(names[r * cols : (r + 1) * cols]) for r in range(rows)))


def group_size(b: Builder, elem: str, count: int) -> int:
    """Replicas of one call: a divisor of `count`, so that one function is enough, whose results fill at most the four
    registers of the calling convention.  Four are 1.2 to 1.5 times as fast as one (Zen 5)."""
    register = 512 if "avx512f" in b.features else 256 if "avx" in b.features else 128
    most = max(1, 4 * register // (b.lanes * BITS[elem]))
    return max(size for size in range(1, min(4, most) + 1) if count % size == 0)


def call_group(b: Builder, function: MathFunction, elem: str, replicas: Sequence[Sequence[str]]) -> list[str]:
    """One call on `replicas[argument][replica]`; the function is written once per module and number of replicas."""
    size, ty = len(replicas[0]), b.vec(elem)
    symbol = f"@pf_{function.name}_{elem}_{b.lanes}_{size}"
    result_ty = ty if size == 1 else "{" + ", ".join([ty] * size) + "}"
    if symbol not in b.functions:
        b.functions[symbol] = ""  # reserved first: a body may use other functions
        b.functions[symbol] = definition(b.sibling(b.lanes), function, elem, symbol, size, result_ty)
    operands = ", ".join(f"{ty} {name}" for of_arg in replicas for name in of_arg)
    result = b.let(f"call fastcc {result_ty} {symbol}({operands})")
    return [result] if size == 1 else [b.let(f"extractvalue {result_ty} {result}, {k}") for k in range(size)]


def definition(b: Builder, function: MathFunction, elem: str, symbol: str, size: int, result_ty: str) -> str:
    """The text of the function of vectors that `call_group` calls."""
    ty = b.vec(elem)
    params = [[f"%arg{a}.{k}" for k in range(size)] for a in range(function.arity)]
    values = function.emit(b, *(Value(elem, (tuple(names),)) for names in params)).grid[0]
    result = values[0]
    if size > 1:
        result = "poison"
        for k, value in enumerate(values):
            result = b.let(f"insertvalue {result_ty} {result}, {ty} {value}, {k}")
    header = ", ".join(f"{ty} {name}" for names in params for name in names)
    # A frame pointer, or LLVM cannot align the stack, and every vector it spills straddles two cache lines.
    first = f'define internal fastcc {result_ty} {symbol}({header}) noinline "frame-pointer"="all" {{'
    return "\n".join([first, "entry:", *b.lines, f"  ret {result_ty} {result}", "}", ""])
