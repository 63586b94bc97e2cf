"""x^y on vectors, with the special cases of C.

In: the Builder and Values.  Out: a Value.  |x|^y = e^(y log |x|).  In float64 the logarithm is the sum of two
doubles, right to about 2^-66, by 2 atanh(s) with its first two terms in extended precision (T. J. Dekker, "A
floating-point technique for extending the available precision", 1971), since y log |x| reaches 745 and its absolute
error is the relative error of the result.  In float32 plain float64 vectors are enough.
"""

from __future__ import annotations

import math

from . import math_coefficients as coefficients
from .builder import Builder, Value
from .math_core import constant, horner_pairs, two_sum
from .math_exp import exp
from .math_log import log_of_parts, split, split_subnormal

LN2 = (0.6931471805592082, 7.371002565167799e-13)  # the first has 40 bits: its product with an exponent is exact
TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)


def two_product(b: Builder, x: tuple[Value, Value], y: tuple[Value, Value]) -> tuple[Value, Value]:
    """The product of two sums of two, without the product of the low parts."""
    high = b.fmul(x[0], y[0])
    error = b.fma(x[0], y[0], b.fneg(high))
    return high, b.fadd(error, b.fma(x[0], y[1], b.fmul(x[1], y[0])))


def log_two_parts(b: Builder, e: Value, t: Value) -> tuple[Value, Value]:
    """e ln 2 + log(1 + t) as a sum of two doubles; sqrt(1/2) <= 1 + t < sqrt(2)."""
    one, two = constant(b, t, 1.0), constant(b, t, 2.0)
    d = b.fadd(t, two)
    s = b.fdiv(t, d)
    remainder = b.fma(b.fneg(s), b.fsub(t, b.fsub(d, two)), b.fma(b.fneg(s), d, t))
    s_low = b.fmul(remainder, b.fmul(b.fsub(one, s), constant(b, t, 0.5)))  # (1 - s) / 2 = 1 / d
    z = b.fmul(s, s)
    z_low = b.fma(b.fadd(s, s), s_low, b.fma(s, s, b.fneg(z)))
    rest = b.fma(z, horner_pairs(b, z, coefficients.POW_LOG_F64), constant(b, t, TWO_THIRDS[1]))
    factor = two_product(b, (z, z_low), two_sum(b, constant(b, t, TWO_THIRDS[0]), rest))
    third, third_low = two_product(b, (s, s_low), factor)
    high, low = two_sum(b, b.fadd(s, s), third)
    low = b.fadd(low, b.fadd(third_low, b.fadd(s_low, s_low)))
    high, carry = two_sum(b, b.fmul(e, constant(b, t, LN2[0])), high)
    return high, b.fadd(carry, b.fma(e, constant(b, t, LN2[1]), low))


def magnitude_double(b: Builder, a: Value, y: Value) -> Value:
    """a^y for a >= 0."""
    high, low = log_two_parts(b, *split_subnormal(b, a))
    high = limits_of_log(b, a, high)
    p = b.fmul(y, high)
    p_low = b.fma(y, low, b.fma(y, high, b.fneg(p)))
    bounded = b.fcmp("olt", b.fabs(p), constant(b, y, 2000.0))
    return exp(b, p, accurate=True, low=b.select(bounded, p_low, constant(b, y, 0.0)))


def magnitude_float(b: Builder, a: Value, y: Value) -> Value:
    """The same for floats, through doubles, where every float is normal."""
    wide = b.convert("fpext", a, "double")
    log = limits_of_log(b, wide, log_of_parts(b, *split(b, wide)))
    return b.convert("fptrunc", exp(b, b.fmul(b.convert("fpext", y, "double"), log)), "float")


def limits_of_log(b: Builder, a: Value, y: Value) -> Value:
    """y = log a, but -inf at 0, and infinity and NaN where a is."""
    y = b.select(b.fcmp("olt", a, constant(b, a, math.inf)), y, a)
    return b.select(b.fcmp("oeq", a, constant(b, a, 0.0)), constant(b, a, -math.inf), y)


def pow(b: Builder, x: Value, y: Value) -> Value:
    one, zero, infinity = (constant(b, x, v) for v in (1.0, 0.0, math.inf))
    a = b.fabs(x)
    magnitude = magnitude_float if x.elem == "float" else magnitude_double
    result = magnitude(b, a, y)
    # A negative base: the sign of an odd power, NaN where the exponent is no integer.
    whole = b.fcmp("oeq", b.trunc(y), y)
    half = b.fmul(y, constant(b, y, 0.5))
    odd = b.and_(whole, b.fcmp("one", b.trunc(half), half))
    result = b.select(odd, b.copysign(result, x), result)
    below_zero = b.and_(b.fcmp("olt", x, zero), b.fcmp("olt", a, infinity))
    result = b.select(b.and_(below_zero, b.not_(whole)), constant(b, x, math.nan), result)
    # 1^y, x^0, and (-1) to an infinite power are 1.
    endless = b.fcmp("oeq", b.fabs(y), infinity)
    unit = b.or_(b.fcmp("oeq", x, one), b.or_(b.fcmp("oeq", y, zero), b.and_(b.fcmp("oeq", a, one), endless)))
    return b.select(unit, one, result)
