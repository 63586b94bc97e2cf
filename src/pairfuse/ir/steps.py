"""Operations that only the steps of reductions use: folds of columns, comparisons with what may not be there yet, and
products that keep mantissa and exponent apart.

Each is a row like those of ops_*.py, but none has a name for the user, a derivative, or an entry in the manual.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .expr import Expr, Op, call, register
from .rows import ELEMENTWISE, same_dim

register(
    Op(
        "fold_columns",
        1,
        lambda d, fold: d,
        operands="any",
        kind="same",
        ref=lambda x, fold: {"sum": np.sum, "min": np.fmin.reduce, "max": np.fmax.reduce, "prod": np.prod}[fold](
            x, axis=-2, keepdims=True
        ),
        doc="Fold the columns of a block; only the steps of reductions use it.",
    )
)


def fold_columns(fold: str, x: Expr) -> Expr:
    return call("fold_columns", x, fold=fold)


def _step(name: str, arity: int, **cells: Any) -> None:
    register(Op(name, arity, same_dim(name), traits=ELEMENTWISE, **cells))


# ---------------------------------------------------------------------- comparisons
# In a state NaN stands for "nothing yet". It is one comparison to ask whether x comes before y or y is not there; for a
# NaN in x the answer is wrong, and who cannot exclude it asks for x == x beside.

_step(
    "not_ge",
    2,
    kind="bool",
    ref=lambda x, y: ~np.greater_equal(x, y),
    llvm=lambda b, x, y: b.fcmp("ult", x, y),
    triton="(~({0} >= {1}))",
    doc="Is x below y, or one of both NaN?",
)
_step(
    "not_le",
    2,
    kind="bool",
    ref=lambda x, y: ~np.less_equal(x, y),
    llvm=lambda b, x, y: b.fcmp("ugt", x, y),
    triton="(~({0} <= {1}))",
    doc="Is x above y, or one of both NaN?",
)


def _found(predicate: str) -> Any:
    return lambda b, x, y: b.and_(b.fcmp("ord", x, x), b.fcmp(predicate, x, y))


def _chosen(predicate: str) -> Any:
    found = _found(predicate)
    return lambda b, x, y: b.select(found(b, x, y), x, y)


# A GPU has one instruction for the lesser of two numbers, and one to ask whether it is another one: written so, both
# take no longer than a comparison and a choice.
_step(
    "lesser",
    2,
    ref=np.fmin,
    llvm=_chosen("ult"),
    triton="tl.minimum({0}, {1})",
    doc="The smaller one; of a number and NaN, the number.",
)
_step(
    "larger",
    2,
    ref=np.fmax,
    llvm=_chosen("ugt"),
    triton="tl.maximum({0}, {1})",
    doc="The larger one; of a number and NaN, the number.",
)
_step(
    "is_lesser",
    2,
    kind="bool",
    ref=lambda x, y: ~np.isnan(x) & ~np.greater_equal(x, y),
    llvm=_found("ult"),
    triton="(tl.minimum({0}, {1}) != {1})",
    doc="Is x a number, and below y or y NaN? Where both are NaN, any answer.",
)
_step(
    "is_larger",
    2,
    kind="bool",
    ref=lambda x, y: ~np.isnan(x) & ~np.less_equal(x, y),
    llvm=_found("ugt"),
    triton="(tl.maximum({0}, {1}) != {1})",
    doc="Is x a number, and above y or y NaN? Where both are NaN, any answer.",
)

# ---------------------------------------------------------------------- mantissas and exponents
# x = mantissa 2^exponent, where the size of the mantissa is in [1/2, 1); infinity and NaN are their own mantissas.

# By type: the integer of its size, the bits of the exponent, their place, the exponent of 1/2 as it is stored.
LAYOUTS = {"float": ("i32", 0x7F800000, 23, 126), "double": ("i64", 0x7FF0000000000000, 52, 1022)}


def _mantissa(b: Any, x: Any) -> Any:
    integer, field, place, half = LAYOUTS[x.elem]
    bits, mask = b.bitcast(x, integer), b.const(integer, field)
    rest = b.or_(b.and_(bits, b.const(integer, ~field)), b.const(integer, half << place))
    return b.select(b.icmp("eq", b.and_(bits, mask), mask), x, b.bitcast(rest, x.elem))


def _exponent(b: Any, x: Any) -> Any:
    integer, field, place, half = LAYOUTS[x.elem]
    stored = b.lshr(b.and_(b.bitcast(x, integer), b.const(integer, field)), b.const(integer, place))
    # integers of 32 bits, for which there is an instruction everywhere
    return b.convert("sitofp", b.convert("trunc", b.sub(stored, b.const(integer, half)), "i32"), x.elem)


def _power_of_two(b: Any, x: Any) -> Any:
    integer, _, place, half = LAYOUTS[x.elem]
    stored = b.add(b.convert("fptosi", x, integer), b.const(integer, half + 1))
    return b.bitcast(b.shl(stored, b.const(integer, place)), x.elem)


_step(
    "mantissa",
    1,
    ref=lambda x: np.frexp(x)[0],
    llvm=_mantissa,
    triton="_mantissa({0})",
    doc="x / 2^exponent(x): its size is in [1/2, 1).",
)
_step(
    "exponent",
    1,
    ref=lambda x: np.where(np.isfinite(x), np.frexp(x)[1], 0).astype(np.float64),
    llvm=_exponent,
    triton="_exponent({0})",
    doc="The exponent of 2 that belongs to `mantissa`, a whole number; any number for infinity and NaN.",
)
_step(
    "power_of_two",
    1,
    ref=lambda x: np.ldexp(1.0, np.asarray(x, np.int64)),
    llvm=_power_of_two,
    triton="_power_of_two({0})",
    doc="2^x for a whole number x, exactly, where the result is a normal number.",
)
