"""Inverse hyperbolic functions on vectors: asinh, acosh, atanh.

In: the Builder and Values.  Out: Values.  Each is the logarithm of a number near 1 where it is small; that number is
kept as a sum of two, so that all of its digits reach the logarithm (`log_of_sum`), whose error is then all there is.
"""

from __future__ import annotations

import math

from .builder import Builder, Value
from .math_core import FORMATS, constant, from_bits, two_sum
from .math_exp import keep_tiny
from .math_log import above_root_half, log_of_parts, split


def log_of_sum(b: Builder, u: Value, low: Value, doubled: Value) -> Value:
    """log(u + low), or log(2 u) where `doubled`; u is normal, positive and finite, low below its last bit."""
    f = FORMATS[u.elem]
    zero, one = constant(b, u, 0.0), constant(b, u, 1.0)
    e, t = split(b, u)
    exponent = b.and_(above_root_half(b, u), b.const(f.int_elem, -(1 << f.fraction)))
    scale = from_bits(b, b.sub(b.const(f.int_elem, f.one), exponent))  # 2^-e
    t = b.fma(low, b.select(doubled, zero, scale), t)
    return log_of_parts(b, b.fadd(e, b.select(doubled, one, zero)), t)


def large(elem: str) -> float:
    """From here on x^2 + 1 is x^2, and 2^-e of x is a normal number below."""
    return 2.0 ** (FORMATS[elem].fraction + 2)


def root_of_sum(b: Builder, high: Value, low: Value) -> tuple[Value, Value]:
    """sqrt(high + low) as a rounded root and its error."""
    root = b.sqrt(high)
    rest = b.fadd(b.fma(b.fneg(root), root, high), low)
    tiny = constant(b, high, FORMATS[high.elem].smallest_normal)
    return root, b.fdiv(rest, b.fmax(b.fadd(root, root), tiny))


def asinh(b: Builder, x: Value) -> Value:
    """log(a + sqrt(a^2 + 1)), a = |x|, with the sign of x; log(2 a) far from 0."""
    one = constant(b, x, 1.0)
    a = b.fabs(x)
    far = b.fcmp("oge", a, constant(b, x, large(x.elem)))
    c = b.select(far, one, a)
    square = b.fmul(c, c)
    square_low = b.fma(c, c, b.fneg(square))
    high, carry = two_sum(b, b.fmax(square, one), b.fmin(square, one))
    root, root_low = root_of_sum(b, high, b.fadd(carry, square_low))
    u, carry = two_sum(b, root, c)
    y = log_of_sum(b, b.select(far, a, u), b.fadd(carry, root_low), far)
    y = b.select(b.fcmp("olt", a, constant(b, x, math.inf)), y, a)
    return keep_tiny(b, x, b.copysign(y, x))


def acosh(b: Builder, x: Value) -> Value:
    """log(1 + (d + sqrt(d^2 + 2 d))), d = x - 1; log(2 x) far from 1; NaN below 1."""
    one, two = constant(b, x, 1.0), constant(b, x, 2.0)
    far = b.fcmp("oge", x, constant(b, x, large(x.elem)))
    c = b.select(b.fcmp("ogt", x, one), b.select(far, two, x), one)
    d = b.fsub(c, one)
    d_low = b.fsub(b.fsub(c, d), one)
    factor, factor_low = two_sum(b, b.fmax(d, two), b.fmin(d, two))
    p = b.fmul(d, factor)
    rest = b.fma(d, b.fadd(factor_low, d_low), b.fma(d_low, factor, b.fma(d, factor, b.fneg(p))))
    root, root_low = root_of_sum(b, p, rest)
    w, w_low = two_sum(b, root, d)
    w_low = b.fadd(w_low, b.fadd(root_low, d_low))
    u, carry = two_sum(b, b.fmax(w, one), b.fmin(w, one))
    y = log_of_sum(b, b.select(far, x, u), b.fadd(carry, w_low), far)
    y = b.select(b.fcmp("olt", x, constant(b, x, math.inf)), y, x)
    return b.select(b.fcmp("olt", x, one), constant(b, x, math.nan), y)


def atanh(b: Builder, x: Value) -> Value:
    """log(1 + 2 a / (1 - a)) / 2, a = |x|, with the sign of x; infinite at 1, NaN beyond."""
    one, zero = constant(b, x, 1.0), constant(b, x, 0.0)
    a = b.fabs(x)
    c = b.select(b.fcmp("olt", a, one), a, zero)
    d = b.fsub(one, c)
    d_low = b.fsub(b.fsub(one, d), c)
    twice = b.fadd(c, c)
    q = b.fdiv(twice, d)
    rest = b.fma(b.fneg(q), d_low, b.fma(b.fneg(q), d, twice))
    u, carry = two_sum(b, b.fmax(q, one), b.fmin(q, one))
    y = log_of_sum(b, u, b.fadd(carry, b.fdiv(rest, d)), b.fcmp("olt", one, zero))
    y = b.fmul(y, constant(b, x, 0.5))
    y = b.select(b.fcmp("oeq", a, one), constant(b, x, math.inf), y)
    y = b.select(b.fcmp("ole", a, one), y, constant(b, x, math.nan))
    return keep_tiny(b, x, b.copysign(y, x))
