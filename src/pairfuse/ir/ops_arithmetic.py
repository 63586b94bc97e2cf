"""The table of operations, part 1: leaves, conversions, arithmetic, comparisons, truth values, selection.

In: nothing.  Out: the rows of these operations in `OPS` (ir/ops.py explains the table).
"""
# The cells of a row are short functions whose arguments need no annotation:
# pyright: basic

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .expr import Expr, Op, call, const, register
from .rows import ANYWHERE, COMMUTATIVE, ELEMENTWISE, elementwise, one, total, where

# ---------------------------------------------------------------------- leaves

register(
    Op(
        "input",
        0,
        lambda slot, axis, dim: dim,
        params=("slot", "axis", "dim"),
        doc="A variable: one row of an array of i, of j, or a parameter.",
    )
)
register(Op("const", 0, lambda value: 1, params=("value",), ref=lambda value: np.array([value]), doc="A number."))
register(
    Op(
        "index",
        0,
        one,
        params=("axis",),
        kind="index",
        doc="The row number i or the column number j, an exact integer.",
    )
)
register(
    Op(
        "arange",
        0,
        lambda size: size,
        params=("size",),
        kind="index",
        ref=lambda size: np.arange(size),
        component=lambda node, d, at, fold: d if isinstance(d, Expr) else const(d, "index"),
        doc="The component numbers 0 ... size-1.",
    )
)
register(
    Op(
        "slot",
        0,
        lambda name, dim, side: dim,
        params=("name", "dim", "side"),
        doc="A value of the state of a reduction (ir/reductions.py).",
    )
)

# ---------------------------------------------------------------------- conversions between kinds

elementwise(
    "to_real",
    1,
    operands="any",
    ref=lambda x: np.asarray(x).astype(float),
    partials=lambda out, x: (None,),
    llvm="to_real",
    llvm_int="to_real",
    triton="{0}.to(real)",
    doc="A truth value as 1.0 or 0.0, or an index as a number.",
)
elementwise(
    "to_index",
    1,
    operands="any",
    kind="index",
    ref=lambda x: np.asarray(x).astype(np.int64),
    partials=lambda out, x: (None,),
    llvm="to_index",
    llvm_int="to_index",
    triton="{0}.to(index)",
    doc="A number truncated to an exact integer.",
)

register(
    Op(
        "whole",
        1,
        lambda d, bits: d,
        params=("bits",),
        kind="index",
        ref=lambda x, bits: np.asarray(x).astype(np.int64),
        partials=lambda out, x, bits: (None,),
        llvm="to_index",
        triton="{0}.to(index)",
        traits=ELEMENTWISE,
        doc="A number of the user's integers, below 2^bits in absolute value, as an exact integer (lower/integers.py).",
    )
)

# ---------------------------------------------------------------------- arithmetic


def _over(x: Expr | None, y: Expr) -> Expr | None:
    return None if x is None else x / y


elementwise(
    "add",
    2,
    COMMUTATIVE,
    operands="number",
    kind="same",
    ref=np.add,
    partials=lambda out, x, y: (const(1), const(1)),
    llvm="fadd",
    llvm_int="add",
    triton="({0} + {1})",
    doc="Sum.",
    aliases=("Add",),
)
elementwise(
    "sub",
    2,
    operands="number",
    kind="same",
    ref=np.subtract,
    partials=lambda out, x, y: (const(1), const(-1)),
    llvm="fsub",
    llvm_int="sub",
    triton="({0} - {1})",
    doc="Difference.",
    aliases=("Subtract",),
)
elementwise(
    "mul",
    2,
    COMMUTATIVE,
    operands="number",
    kind="same",
    ref=np.multiply,
    partials=lambda out, x, y: (y, x),
    llvm="fmul",
    llvm_int="mul",
    triton="({0} * {1})",
    doc="Product.",
    aliases=("Mult",),
)
elementwise(
    "div",
    2,
    ref=np.divide,
    vjp=lambda g, out, x, y: (g / y, -(g / y * out)),
    jvp=lambda t, out, x, y: _over(total(t[0], None if t[1] is None else -(t[1] * out)), y),
    llvm="fdiv",
    triton="({0} / {1})",
    domain=(ANYWHERE, (0.5, 2.0)),
    doc="Quotient.",
    aliases=("Divide",),
)
elementwise(
    "neg",
    1,
    operands="number",
    kind="same",
    ref=np.negative,
    partials=lambda out, x: (const(-1),),
    llvm="fneg",
    llvm_int=lambda b, x: b.sub(b.const(x.elem, 0), x),
    triton="(-{0})",
    doc="Opposite.",
    aliases=("Minus",),
)
elementwise(
    "abs",
    1,
    operands="number",
    kind="same",
    ref=np.abs,
    partials=lambda out, x: (call("sign", x),),
    llvm="fabs",
    llvm_int=lambda b, x: b.select(b.icmp("slt", x, b.const(x.elem, 0)), b.sub(b.const(x.elem, 0), x), x),
    triton="tl.abs({0})",
    doc="Absolute value; derivative sign(x), 0 at 0.",
    aliases=("Abs",),
)


def _floordiv_ref(x: Any, y: Any) -> Any:
    if np.result_type(x, y).kind in "iu":
        return np.floor_divide(x, y)
    return np.floor(x / y)


def _floordiv_int(b: Any, x: Any, y: Any) -> Any:
    # The instruction traps where y = 0 and rounds towards zero: divide by 1 there, give 0, and correct the rounding.
    zero, unit = b.const(x.elem, 0), b.const(x.elem, 1)
    nothing = b.icmp("eq", y, zero)
    safe = b.select(nothing, unit, y)
    q = b.sdiv(x, safe)
    rest = b.sub(x, b.mul(q, safe))
    opposite = b.xor(b.icmp("slt", rest, zero), b.icmp("slt", safe, zero))
    low = b.and_(b.icmp("ne", rest, zero), opposite)
    return b.select(nothing, zero, b.select(low, b.sub(q, unit), q))


elementwise(
    "floordiv",
    2,
    operands="number",
    kind="same",
    ref=_floordiv_ref,
    partials=lambda out, x, y: (None, None),
    llvm=lambda b, x, y: b.floor(b.fdiv(x, y)),
    llvm_int=_floordiv_int,
    triton="libdevice.floor({0} / {1})",
    triton_int="({0} // {1} - (({0} % {1} != 0) & (({0} % {1} < 0) != ({1} < 0))).to(index))",
    domain=(ANYWHERE, (0.5, 2.0)),
    doc="Quotient rounded down, floor(x / y); of indices, the exact integer (0 where the divisor is 0).",
)

# ---------------------------------------------------------------------- comparisons and truth values


def _comparison(name: str, ref: Any, predicate: str, int_predicate: str, symbol: str, aliases: tuple[str, ...]) -> None:
    elementwise(
        name,
        2,
        COMMUTATIVE if name in ("eq", "ne") else ELEMENTWISE,
        operands="number",
        kind="bool",
        ref=ref,
        partials=lambda out, x, y: (None, None),
        llvm=lambda b, x, y: b.fcmp(predicate, x, y),
        llvm_int=lambda b, x, y: b.icmp(int_predicate, x, y),
        triton=f"({{0}} {symbol} {{1}})",
        doc=f"x {symbol} y: 1 where true, else 0 (exact on indices).",
        aliases=aliases,
    )


_comparison("lt", np.less, "olt", "slt", "<", ("LessThan",))
_comparison("le", np.less_equal, "ole", "sle", "<=", ("LessOrEqual",))
_comparison("gt", np.greater, "ogt", "sgt", ">", ())
_comparison("ge", np.greater_equal, "oge", "sge", ">=", ())
_comparison("eq", np.equal, "oeq", "eq", "==", ("Equal",))
_comparison("ne", np.not_equal, "une", "ne", "!=", ("NotEqual",))


def _logical(name: str, arity: int, ref: Any, llvm: str, triton: str, doc: str) -> None:
    elementwise(
        name,
        arity,
        COMMUTATIVE if arity == 2 else ELEMENTWISE,
        operands="bool",
        kind="bool",
        ref=ref,
        partials=lambda out, *xs: (None,) * arity,
        llvm=llvm,
        triton=triton,
        doc=doc,
    )


_logical("logical_and", 2, np.logical_and, "and_", "({0} & {1})", "1 where both are non-zero.")
_logical("logical_or", 2, np.logical_or, "or_", "({0} | {1})", "1 where one of both is non-zero.")
_logical("logical_xor", 2, np.logical_xor, "xor", "({0} ^ {1})", "1 where exactly one is non-zero.")
_logical("logical_not", 1, np.logical_not, "not_", "(~{0})", "1 where the argument is zero.")

elementwise(
    "isnan",
    1,
    kind="bool",
    ref=np.isnan,
    partials=lambda out, x: (None,),
    llvm=lambda b, x: b.fcmp("uno", x, x),
    triton="({0} != {0})",
    doc="1 where x is NaN.",
)
elementwise(
    "isfinite",
    1,
    kind="bool",
    ref=np.isfinite,
    partials=lambda out, x: (None,),
    llvm=lambda b, x: b.fcmp("olt", b.fabs(x), b.const(x.elem, math.inf)),
    triton="(tl.abs({0}) < float('inf'))",
    doc="1 where x is neither infinite nor NaN.",
)
elementwise(
    "where",
    3,
    operands="where",
    kind="same",
    ref=np.where,
    vjp=lambda g, out, c, a, b: (None, where(c, g, 0.0), where(c, 0.0, g)),
    jvp=lambda t, out, c, a, b: where(c, 0.0 if t[1] is None else t[1], 0.0 if t[2] is None else t[2]),
    llvm="select",
    llvm_int="select",
    triton="tl.where({0}, {1}, {2})",
    doc="a where c is non-zero, else b; the derivative of the branch not taken is 0, even where it is infinite.",
)
elementwise(
    "stop_gradient",
    1,
    operands="number",
    kind="same",
    ref=np.positive,
    partials=lambda out, x: (None,),
    llvm=lambda b, x: x,
    llvm_int=lambda b, x: x,
    triton="{0}",
    doc="x itself, taken for a constant by derivatives.",
)
