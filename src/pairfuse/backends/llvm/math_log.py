"""Logarithms on vectors.

In: the Builder and Values.  Out: Values.  x = 2^e (1 + t), log x = e ln 2 + log(1 + t), where log(1 + t) is t + t^2 P(t)
in float32 and 2 atanh(s), s = t / (2 + t), in float64 (W. J. Cody & W. Waite, "Software manual for the elementary
functions", 1980).
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
    register_lanes,
)
from .math_exp import exp, keep_tiny

# ln 2 = HIGH + LOW, HIGH with enough low bits free for its product with an exponent to be exact.
LN2_SPLIT = {"float": (0.693145751953125, 1.4286068203094173e-06), "double": (0.6931471803691238, 1.9082149292705877e-10)}
# log2 e, log10 e and log10 2 as the number rounded and the rest.
LOG2_E = {"float": (1.4426950216293335, 1.925963033500011e-08), "double": (1.4426950408889634, 2.0355273740931033e-17)}
LOG10_E = {"float": (0.4342944920063019, -1.0103049952192578e-08), "double": (0.4342944819032518, 1.098319650216765e-17)}
LOG10_2 = {"float": (0.3010300099849701, -1.432098883924482e-08), "double": (0.3010299956639812, -2.8037281277851704e-18)}


def log1p_tail(b: Builder, t: Value, wide: bool) -> Value:
    """log(1 + t) - t, t in [sqrt(1/2) - 1, sqrt(2) - 1], or in [-1/4, 1/2] if `wide`."""
    if t.elem == "float":
        q = horner(b, t, coefficients.LOG_F32_WIDE if wide else coefficients.LOG_F32)
        return b.fmul(b.fmul(t, t), q)
    s = b.fdiv(t, b.fadd(t, constant(b, t, 2.0)))
    z = b.fmul(s, s)
    half_square = b.fmul(b.fmul(t, t), constant(b, t, 0.5))
    rest = b.fmul(z, horner(b, z, coefficients.LOG_F64_WIDE if wide else coefficients.LOG_F64))
    return b.fsub(b.fmul(s, b.fadd(half_square, rest)), half_square)


def log_of_parts(b: Builder, e: Value, t: Value, wide: bool = False) -> Value:
    """e ln 2 + log(1 + t)."""
    high, low = (constant(b, t, v) for v in LN2_SPLIT[t.elem])
    tail = log1p_tail(b, t, wide)
    return b.fma(e, high, b.fadd(t, b.fma(e, low, tail)))


def split(b: Builder, x: Value) -> tuple[Value, Value]:
    """(e, t): x = 2^e (1 + t), for positive normal x; sqrt(1/2) <= 1 + t < sqrt(2)."""
    f = FORMATS[x.elem]
    ix = bits_of(b, x)
    width = b.const(f.int_elem, f.fraction)
    e = b.ashr(b.sub(ix, b.const(f.int_elem, bits_of_constant(x.elem, math.sqrt(0.5)))), width)
    m = from_bits(b, b.sub(ix, b.shl(e, width)))
    return b.convert("sitofp", e, x.elem), b.fsub(m, constant(b, x, 1.0))


def split_avx512(b: Builder, x: Value) -> tuple[Value, Value]:
    """The same for any x with vgetexp and vgetmant: subnormals are normalised, 0 gives (-inf, 0), +inf (+inf, 0) and a
    negative x a NaN.  3/4 <= 1 + t < 3/2."""
    m = avx512(b, "getmant", x, immediate=0b1011)  # in [3/4, 3/2), NaN for a negative x
    e = b.fsub(avx512(b, "getexp", x), avx512(b, "getexp", m))
    return e, b.fsub(m, constant(b, x, 1.0))


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
    if register_lanes(b, x.elem):
        return log_of_parts(b, *split_avx512(b, x), wide=True)
    f = FORMATS[x.elem]
    y = log_of_parts(b, *split(b, x))
    first = 1 << f.fraction  # the bits of the smallest normal number
    offset = b.sub(bits_of(b, x), b.const(f.int_elem, first))
    special = b.icmp("uge", offset, b.const(f.int_elem, f.infinity - first))

    def rare() -> list[Value]:
        def body(inner: Builder, args: list[Value]) -> Value:
            return log_limits(inner, args[0], log_of_parts(inner, *split_subnormal(inner, args[0])))

        return [b.select(special, b.outline(f"@pf_log_any_{x.elem}_{b.lanes}", x.elem, body, x), y)]

    return b.if_any(special, rare, [y])[0]


def log_to_base(b: Builder, x: Value, per_e: tuple[float, float], per_2: tuple[float, float]) -> Value:
    """e log 2 + log(1 + t) in a base where these are multiples of `per_2` and `per_e`, given in two parts."""
    e, t = split_subnormal(b, x)
    high, low = (constant(b, x, v) for v in per_e)
    y = b.fma(t, high, b.fma(t, low, b.fmul(log1p_tail(b, t, wide=False), high)))
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
    exponent = b.shl(b.convert("fptosi", e, f.int_elem), b.const(f.int_elem, f.fraction))
    scale = from_bits(b, b.sub(b.const(f.int_elem, f.one), exponent))
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
