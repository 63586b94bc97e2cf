"""The exponential family on vectors: exp, exp2, expm1, and what is made of them.

In: the Builder and Values.  Out: Values.  e^x = 2^n T_k e^r with x = (n + k/K) ln 2 + r, the reduction in two steps
with fused operations (W. J. Cody & W. Waite, "Software manual for the elementary functions", 1980); T_k = 2^(k/K) comes
from a register (P. T. P. Tang, "Table-driven implementation of the exponential function", 1989) where the machine has
the permutation for it, and K = 1 elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from . import math_coefficients as coefficients
from .builder import Builder, Value
from .math_core import (
    FORMATS,
    avx512,
    bits_of,
    bits_of_constant,
    constant,
    float_of_bits,
    from_bits,
    horner,
    register_lanes,
    table_lanes,
    table_lookup,
)

LOG2E = math.log2(math.e)
# ln 2 = HIGH + LOW; HIGH has so few bits that n * HIGH is exact for every n of the range, and x - n HIGH as well.
LN2 = {"float": (0.693115234375, 3.194618329871446e-05), "double": (0.6931471805582987, 1.6465949582897082e-12)}
# Below `low`, e^x rounds to 0; above `high`, to infinity.
LIMITS = {"float": (-104.0, 88.75), "double": (-745.2, 709.8)}
LIMITS_BASE_2 = {"float": (-151.0, 129.0), "double": (-1076.0, 1025.0)}
# From here on tanh rounds to 1, and expm1 to -1 at minus this.
SATURATION = {"float": 20.0, "double": 40.0}


# ------------------------------------------------------------------ exp and exp2


@dataclass(frozen=True, slots=True)
class Reduced:
    """x = n + r in units of log(base): m's low bits hold parts * n + offset; base**r = 1 + r q(r)."""

    m: Value
    n: Value
    r: Value
    q: Sequence[float]


def reduce_e(b: Builder, x: Value, parts: int, offset: int = 0) -> Reduced:
    """n = round(x log2 e) in steps of 1/parts, r = x - n ln 2."""
    shifter = constant(b, x, (FORMATS[x.elem].shifter + offset) / parts)
    m = b.fma(x, constant(b, x, LOG2E), shifter)
    n = b.fsub(m, shifter)
    return Reduced(m, n, remainder_e(b, x, n), (1.0, *coefficient_set("EXP", x.elem, parts)))


def remainder_e(b: Builder, x: Value, n: Value) -> Value:
    """x - n ln 2, rounded once."""
    high, low = LN2[x.elem]
    return b.fma(n, constant(b, x, -low), b.fma(n, constant(b, x, -high), x))


def reduce_2(b: Builder, x: Value, parts: int, offset: int = 0) -> Reduced:
    """n = round(x) in steps of 1/parts, r = x - n, exactly."""
    shifter = constant(b, x, (FORMATS[x.elem].shifter + offset) / parts)
    m = b.fadd(x, shifter)
    n = b.fsub(m, shifter)
    return Reduced(m, n, b.fsub(x, n), coefficient_set("EXP2", x.elem, parts))


def coefficient_set(name: str, elem: str, parts: int = 1) -> tuple[float, ...]:
    """The tuple of math_coefficients for this function, element type and number of parts."""
    return getattr(coefficients, f"{name}_F{FORMATS[elem].bits}" + (f"_{parts}" if parts > 1 else ""))


def growth(b: Builder, reduced: Reduced, r: Value) -> Value:
    """base**r - 1, with the rounding error of a number of the size of r where the first coefficient is 1."""
    if reduced.q[0] == 1.0:
        return b.fma(b.fmul(r, r), horner(b, r, reduced.q[1:]), r)
    return b.fmul(r, horner(b, r, reduced.q))


def parts_with_scalef(b: Builder, elem: str) -> int:
    """Entries of the table of the AVX-512 path, or 0 where it cannot be taken."""
    parts = 16 if elem == "float" else 8
    return parts if register_lanes(b, elem) and table_lanes(b, elem, parts) else 0


def power_with_scalef(b: Builder, reduced: Reduced, parts: int, accurate: bool, low: Value | None, shift: int) -> Value:
    """With AVX-512's vscalef, which rounds to subnormals, overflows and takes infinite exponents as one would wish.

    Where x is infinite or huge, r is garbage or NaN: vrange brings it back to the interval of the polynomial (a NaN
    becomes the bound), and n alone decides; a NaN in x arrives through n.
    """
    r, n = reduced.r, reduced.n
    r = avx512(b, "range", r, constant(b, r, 1.0 / parts), immediate=2)  # the smaller magnitude, r's sign
    index = bits_of(b, reduced.m)
    t = table_lookup(b, index, coefficient_set("POWERS", r.elem, parts))
    if accurate:
        r = b.fadd(r, table_lookup(b, index, coefficient_set("POWER_ERRORS", r.elem, parts)))
    if low is not None:
        r = b.fadd(r, low)
    if shift:
        n = b.fadd(n, constant(b, n, float(shift)))
    if reduced.q[0] == 1.0:
        return avx512(b, "scalef", b.fma(growth(b, reduced, r), t, t), n)
    return avx512(b, "scalef", b.fma(horner(b, r, reduced.q), b.fmul(r, t), t), n)


def power_portable(b: Builder, x: Value, reduced: Reduced, parts: int, low: Value | None) -> Value:
    """With integer arithmetic on exponents: 2^n = 2^(n-k) 2^k, k of x's sign, so that the last product alone rounds,
    to subnormals too, or overflows.  m's offset is that of `exponent_offset`."""
    r, f = reduced.r, FORMATS[x.elem]
    if low is not None:
        r = b.fadd(r, low)
    half = (f.bias + 1) // 2
    negative = b.icmp("slt", bits_of(b, x), b.const(f.int_elem, 0))
    factor = b.select(negative, constant(b, x, 2.0**-half), constant(b, x, 2.0**half))
    step = f.fraction - parts.bit_length() + 1  # the place of 1/parts in an exponent
    index = bits_of(b, reduced.m)
    exponent = b.sub(b.shl(index, b.const(f.int_elem, step)), bits_of(b, factor))
    if parts > 1:  # the entries make up for the bits of k that the shift leaves in the fraction
        table = coefficient_set("POWERS", x.elem, parts)
        shifted = [float_of_bits(x.elem, bits_of_constant(x.elem, t) - (k << step)) for k, t in enumerate(table)]
        exponent = b.add(bits_of(b, table_lookup(b, index, shifted)), exponent)
    s = from_bits(b, exponent)
    if parts > 1 and reduced.q[0] == 1.0:
        return b.fmul(b.fma(growth(b, reduced, r), s, s), factor)
    # with r up to 0.35, q (r s) + s loses less than (r + r^2 P) s + s
    return b.fmul(b.fma(horner(b, r, reduced.q), b.fmul(r, s), s), factor)


def exponent_offset(elem: str, parts: int, shift: int) -> int:
    """What m's low bits hold besides parts * n, so that a shift makes them the exponent field of a power of two."""
    bias = FORMATS[elem].bias
    return parts * (bias + shift) if parts > 1 else 2 * bias + shift


def clamp(b: Builder, x: Value, low: float, high: float) -> Value:
    """x within [low, high]; in this order of the operands a NaN stays a NaN."""
    return b.fmin(constant(b, x, high), b.fmax(constant(b, x, low), x))


def exp(b: Builder, x: Value, accurate: bool = False, low: Value | None = None, shift: int = 0) -> Value:
    """e^(x + low) 2^shift, |low| far below 1 and shift -1 or 0; `accurate`: within 0.9 ulp, for functions that add
    errors of their own."""
    parts = parts_with_scalef(b, x.elem)
    if parts:
        return power_with_scalef(b, reduce_e(b, x, parts), parts, accurate, low, shift)
    parts = 8 if x.elem == "float" and table_lanes(b, x.elem, 8) and not accurate else 1
    first, last = LIMITS[x.elem]
    x = clamp(b, x, first, last - shift)
    return power_portable(b, x, reduce_e(b, x, parts, exponent_offset(x.elem, parts, shift)), parts, low)


def exp2(b: Builder, x: Value) -> Value:
    parts = parts_with_scalef(b, x.elem)
    if parts:
        return power_with_scalef(b, reduce_2(b, x, parts), parts, False, None, 0)
    parts = 8 if x.elem == "float" and table_lanes(b, x.elem, 8) else 1
    x = clamp(b, x, *LIMITS_BASE_2[x.elem])
    return power_portable(b, x, reduce_2(b, x, parts, exponent_offset(x.elem, parts, 0)), parts, None)


# ------------------------------------------------------------------ expm1 and the hyperbolic functions


def half_expm1(b: Builder, x: Value) -> Value:
    """(e^x - 1) / 2 = h p + (h - 1/2), h = 2^(n-1), p = e^r - 1; x lies between -40 and the limit of exp.

    n stays 0 up to |x| = 0.52 rather than 0.35, so that h p never cancels much of h - 1/2.
    """
    f = FORMATS[x.elem]
    shifter = constant(b, x, f.shifter + f.bias - 1)
    m = b.fma(x, constant(b, x, LOG2E), shifter)
    m = b.select(b.fcmp("olt", b.fabs(x), constant(b, x, 0.52)), shifter, m)
    r = remainder_e(b, x, b.fsub(m, shifter))
    p = b.fma(b.fmul(r, r), horner(b, r, coefficient_set("EXPM1", x.elem)), r)
    h = from_bits(b, b.shl(bits_of(b, m), b.const(f.int_elem, f.fraction)))
    return b.fma(h, p, b.fsub(h, constant(b, x, 0.5)))


def keep_tiny(b: Builder, x: Value, y: Value) -> Value:
    """y, but x itself where it is so small that f(x) = x + O(x^2) rounds to it: subnormals and the sign of zero."""
    tiny = b.fcmp("olt", b.fabs(x), constant(b, x, 2.0 ** -(FORMATS[x.elem].fraction + 2)))
    return b.select(tiny, x, y)


def expm1(b: Builder, x: Value) -> Value:
    y = half_expm1(b, clamp(b, x, -SATURATION[x.elem], LIMITS[x.elem][1]))
    return keep_tiny(b, x, b.fadd(y, y))


def tanh(b: Builder, x: Value) -> Value:
    """q = y / d, d = y + 1, y = (e^(2|x|) - 1) / 2, and one step that takes back the rounding errors of d and q."""
    one = constant(b, x, 1.0)
    a = b.fmin(constant(b, x, SATURATION[x.elem]), b.fabs(x))
    y = half_expm1(b, b.fadd(a, a))
    d = b.fadd(y, one)
    inverse = b.fdiv(one, d)
    q = b.fmul(y, inverse)
    error_of_d = b.fsub(b.fmin(y, one), b.fsub(d, b.fmax(y, one)))
    minus_q = b.fneg(q)
    remainder = b.fma(minus_q, error_of_d, b.fma(minus_q, d, y))
    q = b.fma(remainder, inverse, q)
    return keep_tiny(b, x, b.copysign(q, x))


def sinh(b: Builder, x: Value) -> Value:
    """x + x^3 P(x^2) up to 1, then h - 1 / (4h), h = e^|x| / 2."""
    a = b.fabs(x)
    z = b.fmul(x, x)
    near = b.fma(b.fmul(z, x), horner(b, z, coefficient_set("SINH", x.elem)), x)
    h = exp(b, a, accurate=True, shift=-1)
    far = b.copysign(b.fsub(h, b.fdiv(constant(b, x, 0.25), h)), x)
    return keep_tiny(b, x, b.select(b.fcmp("olt", a, constant(b, x, 1.0)), near, far))


def cosh(b: Builder, x: Value) -> Value:
    """h + 1 / (4h), h = e^|x| / 2."""
    h = exp(b, b.fabs(x), accurate=True, shift=-1)
    return b.fadd(h, b.fdiv(constant(b, x, 0.25), h))


def sigmoid(b: Builder, x: Value) -> Value:
    """1 / (1 + e^-x) = 1 - w, or z - z w on the negative side, where z = e^-|x| and w = z / (1 + z).

    No overflow, the tails keep all their digits, and the rounding errors of w count less than they would in a quotient.
    """
    one = constant(b, x, 1.0)
    z = exp(b, b.fneg(b.fabs(x)), accurate=True)
    w = b.fdiv(z, b.fadd(one, z))
    negative = b.fcmp("olt", x, constant(b, x, 0.0))
    start = b.select(negative, z, one)
    return b.fma(b.fneg(start), w, start)
