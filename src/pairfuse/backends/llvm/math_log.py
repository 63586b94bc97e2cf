"""Logarithms on vectors.

In: the Builder and Values.  Out: Values.  x = 2^e (1 + t), log x = e ln 2 + log(1 + t), where log(1 + t) is
t + t^2 P(t) in float32 and 2 atanh(s), s = t / (2 + t), in float64 (W. J. Cody & W. Waite, "Software manual for the
elementary functions", 1980); with AVX-512, log itself takes a table instead (see `log_with_table`).
"""

from __future__ import annotations

import math

from . import math_coefficients as coefficients
from .builder import Builder, Value
from .math_core import (
    FORMATS,
    avx512,
    bits_of,
    bits_of_constant,
    constant,
    from_bits,
    horner,
    not_positive_normal,
    register_lanes,
    table_lanes,
    table_lookup,
)
from .math_exp import exp, keep_tiny

# ln 2 = HIGH + LOW, HIGH with enough low bits free for its product with an exponent to be exact.
LN2_SPLIT = {
    "float": (0.693145751953125, 1.4286068203094173e-06),
    "double": (0.6931471803691238, 1.9082149292705877e-10),
}
# log2 e, log10 e and log10 2 as the number rounded and the rest.
LOG2_E = {"float": (1.4426950216293335, 1.925963033500011e-08), "double": (1.4426950408889634, 2.0355273740931033e-17)}
LOG10_E = {
    "float": (0.4342944920063019, -1.0103049952192578e-08),
    "double": (0.4342944819032518, 1.098319650216765e-17),
}
LOG10_2 = {
    "float": (0.3010300099849701, -1.432098883924482e-08),
    "double": (0.3010299956639812, -2.8037281277851704e-18),
}


def log1p_tail(b: Builder, t: Value) -> Value:
    """log(1 + t) - t, t in [sqrt(1/2) - 1, sqrt(2) - 1]."""
    if t.elem == "float":
        q = horner(b, t, coefficients.LOG_F32)
        return b.fmul(b.fmul(t, t), q)
    s = b.fdiv(t, b.fadd(t, constant(b, t, 2.0)))
    z = b.fmul(s, s)
    half_square = b.fmul(b.fmul(t, t), constant(b, t, 0.5))
    rest = b.fmul(z, horner(b, z, coefficients.LOG_F64))
    return b.fsub(b.fmul(s, b.fadd(half_square, rest)), half_square)


def log_of_parts(b: Builder, e: Value, t: Value) -> Value:
    """e ln 2 + log(1 + t)."""
    high, low = (constant(b, t, v) for v in LN2_SPLIT[t.elem])
    tail = log1p_tail(b, t)
    return b.fma(e, high, b.fadd(t, b.fma(e, low, tail)))


def split(b: Builder, x: Value) -> tuple[Value, Value]:
    """(e, t): x = 2^e (1 + t), for positive normal x; sqrt(1/2) <= 1 + t < sqrt(2)."""
    f = FORMATS[x.elem]
    d = above_root_half(b, x)
    if x.elem == "float":
        e = b.convert("sitofp", b.ashr(d, b.const(f.int_elem, f.fraction)), x.elem)
    else:  # AVX2 has neither the shift nor the conversion for 64 bits: put e + bias below the first bit of 2^52
        biased = b.lshr(b.add(d, b.const(f.int_elem, f.one)), b.const(f.int_elem, f.fraction))
        magic = 2.0**f.fraction
        shifted = from_bits(b, b.or_(biased, b.const(f.int_elem, bits_of_constant(x.elem, magic))))
        e = b.fsub(shifted, constant(b, x, magic + f.bias))
    fraction = b.and_(d, b.const(f.int_elem, (1 << f.fraction) - 1))
    m = from_bits(b, b.add(fraction, b.const(f.int_elem, root_half_bits(x.elem))))
    return e, b.fsub(m, constant(b, x, 1.0))


def root_half_bits(elem: str) -> int:
    return bits_of_constant(elem, math.sqrt(0.5))


def above_root_half(b: Builder, x: Value) -> Value:
    """The bits of x less those of sqrt(1/2): e in the place of the exponent, above the fraction of the difference."""
    return b.sub(bits_of(b, x), b.const(FORMATS[x.elem].int_elem, root_half_bits(x.elem)))


def log_with_table(b: Builder, x: Value) -> Value:
    """With AVX-512: log x = e ln 2 - log c_k + log(m c_k), c_k near 1/m from a register, chosen by m's first bits
    (P. T. P. Tang, "Table-driven implementation of the logarithm function", 1990).

    vgetexp and vgetmant normalise subnormals, give (-inf, 1) for 0, (inf, 1) for inf and NaN for a negative x: there
    is no branch.
    """
    kind = f"F{FORMATS[x.elem].bits}"
    c, log_high, log_rest, polynomial = (
        getattr(coefficients, name)
        for name in (f"LOG_INVERSES_{kind}", f"LOG_HIGH_{kind}", f"LOG_REST_{kind}", f"LOG_{kind}_TABLE")
    )
    m = avx512(b, "getmant", x, immediate=0b1011)  # in [3/4, 3/2)
    e = b.fsub(avx512(b, "getexp", x), avx512(b, "getexp", m))
    k = b.lshr(bits_of(b, m), b.const(FORMATS[x.elem].int_elem, FORMATS[x.elem].fraction - 4))
    t = b.fma(m, table_lookup(b, k, c), constant(b, x, -1.0))
    high, low = (constant(b, x, v) for v in LN2_SPLIT[x.elem])
    start = b.fma(e, high, table_lookup(b, k, log_high))  # exact
    rest = b.fma(e, low, table_lookup(b, k, log_rest))
    return b.fadd(start, b.fadd(t, b.fma(b.fmul(t, t), horner(b, t, polynomial), rest)))


def split_subnormal(b: Builder, x: Value) -> tuple[Value, Value]:
    """(e, t) for positive finite x."""
    f = FORMATS[x.elem]
    tiny = b.fcmp("olt", x, constant(b, x, f.smallest_normal))
    up = f.fraction + 1
    e, t = split(b, b.select(tiny, b.fmul(x, constant(b, x, 2.0**up)), x))
    return b.select(tiny, b.fsub(e, constant(b, x, float(up))), e), t


def log_limits(b: Builder, x: Value, y: Value) -> Value:
    """y, the logarithm of positive finite x; for the others: -inf at 0, NaN below, +inf and NaN themselves."""
    zero = constant(b, x, 0.0)
    y = b.select(b.fcmp("olt", x, constant(b, x, math.inf)), y, x)
    y = b.select(b.fcmp("oeq", x, zero), constant(b, x, -math.inf), y)
    return b.select(b.fcmp("olt", x, zero), constant(b, x, math.nan), y)


def log(b: Builder, x: Value) -> Value:
    """In line for positive normal numbers; the others, where there are any, by a function of their own."""
    if register_lanes(b, x.elem) and table_lanes(b, x.elem, 16):
        return log_with_table(b, x)
    y = log_of_parts(b, *split(b, x))
    special = not_positive_normal(b, x)

    def rare() -> list[Value]:
        def body(inner: Builder, args: list[Value]) -> Value:
            return log_limits(inner, args[0], log_of_parts(inner, *split_subnormal(inner, args[0])))

        return [b.select(special, b.outline(f"@pf_log_any_{x.elem}_{b.lanes}", x.elem, body, x), y)]

    return b.if_any(special, rare, [y], rare=True)[0]


def log_to_base(b: Builder, x: Value, per_e: tuple[float, float], per_2: tuple[float, float]) -> Value:
    """e log 2 + log(1 + t) in a base where these are multiples of `per_2` and `per_e`, given in two parts."""
    e, t = split_subnormal(b, x)
    high, low = (constant(b, x, v) for v in per_e)
    y = b.fma(t, high, b.fma(t, low, b.fmul(log1p_tail(b, t), high)))
    high, low = (constant(b, x, v) for v in per_2)
    return log_limits(b, x, b.fma(e, high, b.fma(e, low, y) if per_2[1] else y))


def log2(b: Builder, x: Value) -> Value:
    return log_to_base(b, x, LOG2_E[x.elem], (1.0, 0.0))


def log10(b: Builder, x: Value) -> Value:
    return log_to_base(b, x, LOG10_E[x.elem], LOG10_2[x.elem])


def log1p_near(b: Builder, u: Value, low: Value) -> Value:
    """log(u + low) for positive normal u and low below its last bit."""
    f = FORMATS[u.elem]
    e, t = split(b, u)
    exponent = b.and_(above_root_half(b, u), b.const(f.int_elem, -(1 << f.fraction)))
    scale = from_bits(b, b.sub(b.const(f.int_elem, f.one), exponent))  # 2^-e
    scale = b.select(b.fcmp("olt", u, constant(b, u, 2.0 ** (f.fraction + 2))), scale, constant(b, u, 0.0))
    return log_of_parts(b, e, b.fma(low, scale, t))


def log1p(b: Builder, x: Value) -> Value:
    one = constant(b, x, 1.0)
    u = b.fadd(x, one)
    # The rounding error of 1 + x (T. J. Dekker's Fast2Sum, the larger operand first).
    big = b.fcmp("ogt", x, one)
    low = b.select(big, b.fsub(one, b.fsub(u, x)), b.fsub(x, b.fsub(u, one)))
    y = log1p_near(b, u, low)
    return keep_tiny(b, x, log_limits(b, u, y))


def softplus(b: Builder, x: Value) -> Value:
    """log(1 + e^x) = max(x, 0) + log1p(e^-|x|)."""
    one = constant(b, x, 1.0)
    z = exp(b, b.fneg(b.fabs(x)), accurate=True)
    u = b.fadd(z, one)
    y = log1p_near(b, u, b.fsub(z, b.fsub(u, one)))
    return b.fadd(b.fmax(constant(b, x, 0.0), x), y)
