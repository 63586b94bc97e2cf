"""Trigonometric functions on vectors: sin, cos, tan.

In: the Builder and Values.  Out: Values.  x = n pi/2 + r + s, |r| <= pi/4, s the rounding error of r, by pi/2 in three
parts and fused operations (W. J. Cody & W. Waite, "Software manual for the elementary functions", 1980), then a
polynomial of the sine or of the cosine.  Beyond `LIMITS` the C library's function serves, lane by lane, in a path that
is entered only where such an argument occurs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from . import math_coefficients as coefficients
from .builder import Builder, Value
from .math_core import FORMATS, bits_of, constant, from_bits, horner, two_sum

# pi/2 = A + B + C, A rounded down so that B is positive (it keeps the sign of zero).
HALF_PI = {
    "float": (1.570796251296997, 7.549790126404332e-08, -1.7151245100058819e-15),
    "double": (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
}
# n stays so small that x - n A is exact and n is right to 1/100.
LIMITS = {"float": 1e5, "double": 1e9}


@dataclass(frozen=True, slots=True)
class Octant:
    """x = n pi/2 + r + s; `n` as an integer (its low bits count)."""

    n: Value
    r: Value
    s: Value
    z: Value  # r^2


def reduce(b: Builder, x: Value) -> Octant:
    f = FORMATS[x.elem]
    shifter = constant(b, x, f.shifter)
    m = b.fma(x, constant(b, x, 2 / math.pi), shifter)
    n = b.fsub(m, shifter)
    first, second, third = (constant(b, x, v) for v in HALF_PI[x.elem])
    minus_n = b.fneg(n)
    start = b.fma(minus_n, first, x)  # exact
    p = b.fmul(n, second)
    p_error = b.fma(n, second, b.fneg(p))
    r = b.fsub(start, p)
    s = b.fsub(b.fsub(b.fsub(start, r), p), b.fma(n, third, p_error))
    return Octant(bits_of(b, m), r, s, b.fmul(r, r))


def sin_near(b: Builder, o: Octant) -> tuple[Value, Value]:
    """sin(r + s) as r + (r^3 P(r^2) + s), |r| <= pi/4."""
    p = horner(b, o.z, coefficients.SIN_F32 if o.r.elem == "float" else coefficients.SIN_F64)
    return o.r, b.fma(b.fmul(o.z, o.r), p, o.s)


def cos_near(b: Builder, o: Octant) -> tuple[Value, Value]:
    """cos(r + s) as w + (((1 - w) - z/2) + z^2 P(z) - r s), w = 1 - z/2 rounded, so that 1 - w is exact."""
    p = horner(b, o.z, coefficients.COS_F32 if o.r.elem == "float" else coefficients.COS_F64)
    one = constant(b, o.r, 1.0)
    half = b.fmul(o.z, constant(b, o.r, 0.5))
    w = b.fsub(one, half)
    rest = b.fma(b.fneg(o.r), o.s, b.fsub(b.fsub(one, w), half))
    return w, b.fma(b.fmul(o.z, o.z), p, rest)


def quadrant(b: Builder, n: Value, plain: Value, swapped: Value) -> Value:
    """+plain, +swapped, -plain, -swapped for n = 0, 1, 2, 3 modulo 4."""
    elem = n.elem
    one = b.const(elem, 1)
    odd = b.icmp("ne", b.and_(n, one), b.const(elem, 0))
    sign = b.shl(b.and_(n, b.const(elem, 2)), b.const(elem, FORMATS[plain.elem].bits - 2))
    return from_bits(b, b.xor(bits_of(b, b.select(odd, swapped, plain)), sign))


def unless_huge(b: Builder, x: Value, y: Value, symbol: str) -> Value:
    """y, or the C library's `symbol` for the lanes beyond the limit of the reduction, NaN included."""
    huge = b.fcmp("ugt", b.fabs(x), constant(b, x, LIMITS[x.elem]))

    def rare() -> list[Value]:
        def body(inner: Builder, args: list[Value]) -> Value:
            return inner.call_lanes(symbol, x.elem, args[0])

        return [b.select(huge, b.outline(f"@pf_{symbol}_huge_{x.elem}_{b.lanes}", x.elem, body, x), y)]

    return b.if_any(huge, rare, [y], rare=True)[0]


def keep_small(b: Builder, x: Value, y: Value) -> Value:
    """x where it is so small that f(x) = x + O(x^3) rounds to it: subnormals and the sign of zero."""
    small = b.fcmp("olt", b.fabs(x), constant(b, x, 2.0 ** -(FORMATS[x.elem].fraction // 2 + 2)))
    return b.select(small, x, y)


def sin(b: Builder, x: Value) -> Value:
    o = reduce(b, x)
    y = quadrant(b, o.n, b.fadd(*sin_near(b, o)), b.fadd(*cos_near(b, o)))
    return unless_huge(b, x, keep_small(b, x, y), "sin")


def cos(b: Builder, x: Value) -> Value:
    o = reduce(b, x)
    n = b.add(o.n, b.const(o.n.elem, 1))
    return unless_huge(b, x, quadrant(b, n, b.fadd(*sin_near(b, o)), b.fadd(*cos_near(b, o))), "cos")


def tan(b: Builder, x: Value) -> Value:
    """sin / cos or -cos / sin, of two parts each, and one step that takes back the rounding errors of the quotient."""
    o = reduce(b, x)
    sine, sine_low = two_sum(b, *sin_near(b, o))
    cosine, cosine_low = two_sum(b, *cos_near(b, o))
    odd = b.icmp("ne", b.and_(o.n, b.const(o.n.elem, 1)), b.const(o.n.elem, 0))
    top = b.select(odd, b.fneg(cosine), sine)
    top_low = b.select(odd, b.fneg(cosine_low), sine_low)
    bottom = b.select(odd, sine, cosine)
    bottom_low = b.select(odd, sine_low, cosine_low)
    inverse = b.fdiv(constant(b, x, 1.0), bottom)
    q = b.fmul(top, inverse)
    minus_q = b.fneg(q)
    remainder = b.fadd(b.fma(minus_q, bottom, top), b.fma(minus_q, bottom_low, top_low))
    return unless_huge(b, x, keep_small(b, x, b.fma(remainder, inverse, q)), "tan")
