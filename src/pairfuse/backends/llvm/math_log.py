"""Logarithms on vectors.

In: the Builder and Values.  Out: Values.  x = 2^e m with m near 1, log x = e ln 2 + log m, where log m is t + t^2 P(t),
t = m - 1, in float32 and 2 atanh(s), s = t / (2 + t), in float64 (W. J. Cody & W. Waite 1980).
"""

from __future__ import annotations

import math

from . import math_coefficients as coefficients
from .builder import Builder, Value
from .math_core import FORMATS, avx512, bits_of, constant, from_bits, horner, register_lanes

# ln 2 = HIGH + LOW; HIGH leaves enough low bits free for its product with an exponent to be exact.
LN2_SPLIT = {"float": (0.693145751953125, 1.428606765330187e-06), "double": (0.6931471803691238, 1.9082149292705877e-10)}


def log_of_parts(b: Builder, e: Value, t: Value, wide: bool = False) -> Value:
    """e ln 2 + log(1 + t), t in [sqrt(1/2) - 1, sqrt(2) - 1], or in [-1/4, 1/2] if `wide`."""
    high, low = (constant(b, t, v) for v in LN2_SPLIT[t.elem])
    if t.elem == "float":
        q = horner(b, t, coefficients.LOG_F32_WIDE if wide else coefficients.LOG_F32)
        y = b.fma(b.fmul(t, t), q, b.fmul(e, low))
        return b.fma(e, high, b.fadd(t, y))
    s = b.fdiv(t, b.fadd(t, constant(b, t, 2.0)))
    z = b.fmul(s, s)
    half_square = b.fmul(b.fmul(t, t), constant(b, t, 0.5))
    rest = b.fmul(z, horner(b, z, coefficients.LOG_F64_WIDE if wide else coefficients.LOG_F64))
    tail = b.fma(s, b.fadd(half_square, rest), b.fmul(e, low))
    return b.fma(e, high, b.fsub(t, b.fsub(half_square, tail)))


def split(b: Builder, x: Value) -> tuple[Value, Value]:
    """(e, t): x = 2^e (1 + t), for positive normal x; sqrt(1/2) <= 1 + t < sqrt(2)."""
    f = FORMATS[x.elem]
    ix = bits_of(b, x)
    origin = bits_of_constant(x.elem, math.sqrt(0.5))
    width = b.const(f.int_elem, f.fraction)
    e = b.ashr(b.sub(ix, b.const(f.int_elem, origin)), width)
    m = from_bits(b, b.sub(ix, b.shl(e, width)))
    return b.convert("sitofp", e, x.elem), b.fsub(m, constant(b, x, 1.0))


def bits_of_constant(elem: str, value: float) -> int:
    """The bits of a positive constant."""
    f = FORMATS[elem]
    m, e = math.frexp(value)
    return ((e - 1 + f.bias) << f.fraction) + round((2 * m - 1) * 2.0**f.fraction)


def split_avx512(b: Builder, x: Value) -> tuple[Value, Value]:
    """The same for any x with vgetexp and vgetmant: subnormals are normalised, 0 gives (-inf, 0), +inf (+inf, 0) and a
    negative x a NaN.  3/4 <= 1 + t < 3/2."""
    m = avx512(b, "getmant", x, immediate=0b1011)  # in [3/4, 3/2), NaN for a negative x
    e = b.fsub(avx512(b, "getexp", x), avx512(b, "getexp", m))
    return e, b.fsub(m, constant(b, x, 1.0))


def log_any(b: Builder, x: Value) -> Value:
    """log for every x, with selects: the rare path of `log`."""
    f = FORMATS[x.elem]
    zero, infinity = constant(b, x, 0.0), constant(b, x, math.inf)
    tiny = b.fcmp("olt", x, constant(b, x, f.smallest_normal))
    up = f.fraction + 1
    e, t = split(b, b.select(tiny, b.fmul(x, constant(b, x, 2.0**up)), x))
    e = b.select(tiny, b.fsub(e, constant(b, x, float(up))), e)
    y = log_of_parts(b, e, t)
    y = b.select(b.fcmp("olt", x, infinity), y, x)  # +inf and NaN are their own logarithm
    y = b.select(b.fcmp("oeq", x, zero), constant(b, x, -math.inf), y)
    return b.select(b.fcmp("olt", x, zero), constant(b, x, math.nan), y)


def log(b: Builder, x: Value) -> Value:
    if register_lanes(b, x.elem):
        return log_of_parts(b, *split_avx512(b, x), wide=True)
    f = FORMATS[x.elem]
    y = log_of_parts(b, *split(b, x))
    first = f.one - (f.bias - 1 << f.fraction)
    offset = b.sub(bits_of(b, x), b.const(f.int_elem, first))
    special = b.icmp("uge", offset, b.const(f.int_elem, f.infinity - first))

    def rare() -> list[Value]:
        full = b.outline(f"@pf_log_any_{x.elem}_{b.lanes}", x.elem, lambda inner, a: log_any(inner, a[0]), x)
        return [b.select(special, full, y)]

    return b.if_any(special, rare, [y])[0]
