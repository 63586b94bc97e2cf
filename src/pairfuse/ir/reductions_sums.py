"""The table of reductions, part 1: sums, products, counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from .expr import Expr, call, const
from .records import Machine, Slot, State, fmax, fmin, reduction
from .rows import where
from .steps import fold_columns

# ---------------------------------------------------------------------- sums and products


def _sum_machine(dims: tuple[int, ...], largest: float) -> Machine:
    return Machine(
        slots=(Slot("acc", dims[0], 0.0, additive=True),),
        update=lambda s, fs, j: (s[0] + fold_columns("sum", fs[0]),),
        merge=lambda a, b: (a[0] + b[0],),
        finalize=lambda s: s,
    )


reduction(
    name="sum",
    arity=1,
    machine=_sum_machine,
    outputs=(("sum", "real"),),
    ref=lambda f: (f.sum(-2),),
    cotangents=lambda g, fs, out: (g[0],),
    additive=True,
    doc="Sum of the terms; 0 over nothing.",
    aliases=("Sum",),
)


# Mantissas and exponents are multiplied apart, so that no partial product leaves the range unless the result does.
# The result is m 2^e; `rest` 2^h = m 2^(e - h) 2^h, with h = e / 2, is that of the terms that are not 0: both halves
# have the range of a number twice as large, and so has what is left when it is divided by one of the terms.
LARGEST_EXPONENT = 2044.0  # twice that of the numbers: beyond, a half is 0 or infinite


def _halves(mantissa: Expr, exponent: Expr) -> State:
    """Two numbers whose product is mantissa * 2^exponent; the second is a power of 2."""
    e = fmin(fmax(exponent, const(-LARGEST_EXPONENT)), const(LARGEST_EXPONENT))
    half = call("floor", e * 0.5)
    return mantissa * call("power_of_two", e - half), call("power_of_two", half)


def _prod_machine(dims: tuple[int, ...], largest: float) -> Machine:
    d = dims[0]

    def update(s: State, fs: tuple[Expr, ...], j: Expr) -> State:
        is_zero = call("eq", fs[0], 0.0)
        f = where(is_zero, 1.0, fs[0])
        product = s[0] * fold_columns("prod", call("mantissa", f))
        exponent = s[1] + fold_columns("sum", call("exponent", f))
        return (
            call("mantissa", product),
            exponent + call("exponent", product),
            s[2] + fold_columns("sum", call("to_real", is_zero)),
        )

    def merge(a: State, b: State) -> State:
        product = a[0] * b[0]
        return call("mantissa", product), a[1] + b[1] + call("exponent", product), a[2] + b[2]

    def finalize(s: State) -> tuple[Expr, ...]:
        rest, scale = _halves(s[0], s[1])
        nothing = s[0] * 0.0 + 0.0  # NaN beside an infinite term or NaN: what a product with a zero is
        return where(s[2] > 0.0, nothing, rest * scale), rest, scale, s[2]

    return Machine(
        slots=(
            Slot("mantissa", d, 1.0),
            Slot("exponent", d, 0.0, additive=True),
            Slot("zeros", d, 0.0, additive=True),
        ),
        update=update,
        merge=merge,
        finalize=finalize,
    )


COLUMNS_AT_ONCE = 512  # products of so many mantissas do not leave the range of float64


def _prod_ref(f: Any) -> tuple[Any, ...]:
    zeros = (f == 0).sum(-2).astype(f.dtype)
    m, e = np.frexp(np.where(f == 0, 1, f))
    e = np.where(np.isfinite(m), e, 0).sum(-2)
    while m.shape[-2] > 1:
        missing = -m.shape[-2] % COLUMNS_AT_ONCE
        m = np.pad(m, [(0, 0)] * (m.ndim - 2) + [(0, missing), (0, 0)], constant_values=1.0)
        m, shift = np.frexp(
            m.reshape(*m.shape[:-2], m.shape[-2] // COLUMNS_AT_ONCE, COLUMNS_AT_ONCE, m.shape[-1]).prod(-2)
        )
        e = e + shift.sum(-2)
    m = m.prod(-2)
    e = np.clip(e, -LARGEST_EXPONENT, LARGEST_EXPONENT).astype(np.int64)
    half = e // 2
    rest, scale = np.ldexp(m, e - half), np.ldexp(np.ones_like(m), half)
    return np.where(zeros > 0, m * 0.0 + 0.0, rest * scale).astype(f.dtype), rest, scale, zeros


def _prod_cotangents(g: tuple[Expr, ...], fs: tuple[Expr, ...], out: tuple[Expr, ...]) -> tuple[Expr, ...]:
    f, (_, rest, scale, zeros) = fs[0], out
    is_zero = call("eq", f, 0.0)
    alone = where(zeros > 1.0, 0.0, rest * scale)
    beside = where(zeros > 0.0, 0.0, rest / where(is_zero, 1.0, f) * scale)
    return (g[0] * where(is_zero, alone, beside),)


reduction(
    name="prod",
    arity=1,
    machine=_prod_machine,
    outputs=(("prod", "real"), ("rest", "real"), ("scale", "real"), ("zeros", "real")),
    ref=_prod_ref,
    cotangents=_prod_cotangents,
    doc="Product of the terms; 1 over nothing. It overflows only where the result does. Differentiable where terms "
    "vanish, too.",
)

# ---------------------------------------------------------------------- counts


def _count_machine(dims: tuple[int, ...], largest: float) -> Machine:
    return Machine(
        slots=(Slot("count", dims[0], 0, kind="index"),),
        # a block has few columns: their number is exact as a real
        update=lambda s, fs, j: (
            s[0] + call("to_index", fold_columns("sum", call("to_real", call("ne", fs[0], 0.0)))),
        ),
        merge=lambda a, b: (a[0] + b[0],),
        finalize=lambda s: s,
    )


reduction(
    name="count_nonzero",
    arity=1,
    machine=_count_machine,
    outputs=(("count_nonzero", "index"),),
    ref=lambda f: ((f != 0).sum(-2),),
    doc="Number of terms that are not 0, an exact integer. any and all are made of it.",
)
