"""Inverse trigonometric functions on vectors: asin, acos, atan, atan2.

In: the Builder and Values.  Out: Values.  Arguments are brought to an interval around zero by the addition theorem of
the arc tangent (one division) or by asin x = pi/2 - 2 asin sqrt((1 - x) / 2), then x + x^3 P(x^2)
(W. J. Cody & W. Waite, "Software manual for the elementary functions", 1980).
"""

from __future__ import annotations

import math

from . import math_coefficients as coefficients
from .builder import Builder, Value
from .math_core import FORMATS, bits_of, constant, horner_pairs, two_sum

# pi as the number rounded and the rest.
PI = {"float": (3.1415927410125732, -8.742277657347586e-08), "double": (3.141592653589793, 1.2246467991473532e-16)}


def atan_near(b: Builder, t: Value) -> Value:
    """atan(t) - t, |t| <= 1/2."""
    z = b.fmul(t, t)
    p = horner_pairs(b, z, coefficients.ATAN_F32 if t.elem == "float" else coefficients.ATAN_F64)
    return b.fmul(b.fmul(z, t), p)


def atan_ratio(b: Builder, top: Value, bottom: Value) -> tuple[Value, Value]:
    """atan(top / bottom), 0 <= top <= bottom, as the sum of a number and a small correction.

    From 1/2 on it is pi/4 + atan((top - bottom) / (top + bottom)): there the difference is exact (P. H. Sterbenz 1974).
    """
    upper = b.fcmp("oge", top, b.fmul(bottom, constant(b, top, 0.5)))
    t = b.fdiv(b.select(upper, b.fsub(top, bottom), top), b.select(upper, b.fadd(top, bottom), bottom))
    zero = constant(b, top, 0.0)
    start, rest = (b.select(upper, constant(b, top, v / 4), zero) for v in PI[top.elem])
    total, carry = two_sum(b, start, t)
    return total, b.fadd(b.fadd(carry, rest), atan_near(b, t))


def from_quarter(b: Builder, steep: Value, angle: Value, correction: Value) -> Value:
    """The angle, or pi/2 less it where `steep`."""
    high, low = (constant(b, angle, v / 2) for v in PI[angle.elem])
    complement = b.fadd(b.fsub(high, angle), b.fsub(low, correction))
    return b.select(steep, complement, b.fadd(angle, correction))


def atan(b: Builder, x: Value) -> Value:
    one = constant(b, x, 1.0)
    a = b.fabs(x)
    steep = b.fcmp("ogt", a, one)
    finite = b.fmin(constant(b, x, 2.0 ** (FORMATS[x.elem].bias - 1)), a)
    angle, correction = atan_ratio(b, b.select(steep, one, finite), b.select(steep, finite, one))
    return b.copysign(from_quarter(b, steep, angle, correction), x)


def atan2(b: Builder, y: Value, x: Value) -> Value:
    """The angle of the point (x, y), with the signs and the limits of C."""
    f = FORMATS[x.elem]
    zero, one = constant(b, x, 0.0), constant(b, x, 1.0)
    infinity = constant(b, x, math.inf)
    ax, ay = b.fabs(x), b.fabs(y)
    nan = b.fcmp("uno", x, y)
    steep = b.fcmp("ogt", ay, ax)
    top, bottom = b.select(steep, ax, ay), b.select(steep, ay, ax)
    # Two zeros, two infinities: quotients 0 and 1.
    bottom = b.select(b.fcmp("oeq", bottom, zero), one, bottom)
    both = b.fcmp("oeq", top, infinity)
    top, bottom = b.select(both, one, top), b.select(both, one, bottom)
    # Far from the limits of the format, so that neither the sum overflows nor the quotient loses digits; a subnormal
    # number over one below 1 may be a normal quotient, and is made a normal number.
    big = b.fcmp("ogt", bottom, constant(b, x, 2.0 ** (f.bias - 2)))
    small = b.fcmp("olt", bottom, one)
    scale = b.select(big, constant(b, x, 0.25), b.select(small, constant(b, x, 2.0 ** (f.fraction + 1)), one))
    angle, correction = atan_ratio(b, b.fmul(top, scale), b.fmul(bottom, scale))
    result = from_quarter(b, steep, angle, correction)
    negative = b.icmp("slt", bits_of(b, x), b.const(f.int_elem, 0))
    high, low = (constant(b, x, v) for v in PI[x.elem])
    result = b.select(negative, b.fadd(high, b.fsub(low, result)), result)
    return b.select(nan, b.fadd(x, y), b.copysign(result, y))


def asin_near(b: Builder, t: Value, z: Value) -> Value:
    """asin(t) - t, z = t^2, |t| <= 1/2."""
    p = horner_pairs(b, z, coefficients.ASIN_F32 if t.elem == "float" else coefficients.ASIN_F64)
    return b.fmul(b.fmul(z, t), p)


def asin_parts(b: Builder, x: Value) -> tuple[Value, Value, Value, Value]:
    """(near, t, rest, low): asin of t + low is t + (rest + low), t = |x| where near, else sqrt((1 - |x|) / 2)."""
    half = constant(b, x, 0.5)
    a = b.fabs(x)
    near = b.fcmp("olt", a, half)
    far_z = b.fmul(b.fsub(constant(b, x, 1.0), a), half)  # exact
    root = b.sqrt(far_z)
    z = b.select(near, b.fmul(a, a), far_z)
    t = b.select(near, a, root)
    # The rounding error of the root: (z - root^2) / (2 root), 0 at 0.
    tiny = constant(b, x, FORMATS[x.elem].smallest_normal)
    error = b.fdiv(b.fma(b.fneg(root), root, far_z), b.fmax(b.fadd(root, root), tiny))
    low = b.select(near, constant(b, x, 0.0), error)
    return near, t, asin_near(b, t, z), low


def asin(b: Builder, x: Value) -> Value:
    near, t, rest, low = asin_parts(b, x)
    high, high_rest = (constant(b, x, v / 2) for v in PI[x.elem])
    two = constant(b, x, 2.0)
    far = b.fadd(b.fma(b.fneg(two), t, high), b.fma(b.fneg(two), b.fadd(rest, low), high_rest))
    return b.copysign(b.select(near, b.fadd(t, rest), far), x)


def acos(b: Builder, x: Value) -> Value:
    """pi/2 - asin x near 0; 2 asin(...) near 1, and pi less that near -1."""
    near, t, rest, low = asin_parts(b, x)
    high, high_rest = (constant(b, x, v) for v in PI[x.elem])
    half_high, half_rest = (constant(b, x, v / 2) for v in PI[x.elem])
    sign = b.copysign(constant(b, x, 1.0), x)
    middle = b.fadd(b.fma(b.fneg(sign), t, half_high), b.fma(b.fneg(sign), rest, half_rest))
    two = constant(b, x, 2.0)
    tail = b.fadd(rest, low)
    right = b.fmul(two, b.fadd(t, tail))
    left = b.fadd(b.fma(b.fneg(two), t, high), b.fma(b.fneg(two), tail, high_rest))
    negative = b.fcmp("olt", x, constant(b, x, 0.0))
    return b.select(near, middle, b.select(negative, left, right))
