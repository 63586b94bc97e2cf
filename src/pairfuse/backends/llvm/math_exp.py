"""The exponential family on vectors: exp, and what is made of it.

In: the Builder and Values.  Out: Values.  e^x = 2^n T_k e^r with x = (n + k/K) ln 2 + r, the reduction in two steps
with fused operations (W. J. Cody & W. Waite, "Software manual for the elementary functions", 1980); T_k = 2^(k/K) comes
from a register (P. T. P. Tang, "Table-driven implementation of the exponential function", 1989) where the machine has
the permutation for it, and K = 1 elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from . import math_coefficients as coefficients
from .builder import Builder, Value
from .math_core import (
    FORMATS,
    avx512,
    bits_of,
    constant,
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


def reduce(b: Builder, x: Value, parts: int, offset: int = 0) -> tuple[Value, Value, Value]:
    """(m, n, r): n = round(x log2 e) in steps of 1/parts, r = x - n ln 2, and m, whose low bits are parts * n + offset."""
    shifter = constant(b, x, (FORMATS[x.elem].shifter + offset) / parts)
    m = b.fma(x, constant(b, x, LOG2E), shifter)
    n = b.fsub(m, shifter)
    high, low = LN2[x.elem]
    r = b.fma(n, constant(b, x, -high), x)
    return m, n, b.fma(n, constant(b, x, -low), r)


def expm1_polynomial(b: Builder, r: Value, coefs: Sequence[float]) -> Value:
    """r + r^2 P(r): e^r - 1 with the rounding error of a number of the size of r."""
    return b.fma(b.fmul(r, r), horner(b, r, coefs), r)


def table_parts(b: Builder, elem: str) -> int:
    """Entries of the table of the AVX-512 path, or 0 where it cannot be taken."""
    parts = 16 if elem == "float" else 8
    return parts if register_lanes(b, elem) and table_lanes(b, elem, parts) else 0


def exp_scalef(b: Builder, x: Value, accurate: bool) -> Value:
    """With AVX-512's vscalef, which rounds to subnormals, overflows and takes infinite exponents as one would wish.

    Where x is infinite or huge, r is garbage or NaN: vrange brings it back to the interval of the polynomial (a NaN
    becomes the bound), and n alone decides; a NaN in x arrives through n.
    """
    parts = table_parts(b, x.elem)
    m, n, r = reduce(b, x, parts)
    r = avx512(b, "range", r, constant(b, x, math.log(2) / parts), immediate=2)  # the smaller magnitude, r's sign
    index = bits_of(b, m)
    t = table_lookup(b, index, coefficients.POWERS_F32 if parts == 16 else coefficients.POWERS_F64)
    if accurate:
        r = b.fadd(r, table_lookup(b, index, coefficients.POWER_ERRORS_F32 if parts == 16 else coefficients.POWER_ERRORS_F64))
    p = expm1_polynomial(b, r, coefficients.EXP_F32_16 if x.elem == "float" else coefficients.EXP_F64_8)
    return avx512(b, "scalef", b.fma(p, t, t), n)


def exp_portable(b: Builder, x: Value) -> Value:
    """With integer arithmetic on exponents: 2^n = 2^(n-k) 2^k, k of x's sign, so that the product alone rounds,
    to subnormals too, or overflows."""
    f = FORMATS[x.elem]
    low, high = LIMITS[x.elem]
    x = b.fmin(constant(b, x, high), b.fmax(constant(b, x, low), x))  # in this order a NaN stays
    m, _, r = reduce(b, x, 1, offset=2 * f.bias)
    half = (f.bias + 1) // 2
    negative = b.icmp("slt", bits_of(b, x), b.const(f.int_elem, 0))
    factor = b.select(negative, constant(b, x, 2.0**-half), constant(b, x, 2.0**half))
    exponent = b.shl(bits_of(b, m), b.const(f.int_elem, f.fraction))
    s = from_bits(b, b.sub(exponent, bits_of(b, factor)))
    coefs = coefficients.EXP_F32 if x.elem == "float" else coefficients.EXP_F64
    q = horner(b, r, (1.0, *coefs))  # with r up to 0.35, q (r s) + s loses less than (r + r^2 P) s + s
    return b.fmul(b.fma(q, b.fmul(r, s), s), factor)


def exp(b: Builder, x: Value, accurate: bool = False) -> Value:
    """e^x; `accurate`: within 0.9 ulp, for functions that add errors of their own."""
    return exp_scalef(b, x, accurate) if table_parts(b, x.elem) else exp_portable(b, x)


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
