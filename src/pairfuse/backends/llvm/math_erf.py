"""The error function and its complement on vectors.

In: the Builder and Values.  Out: Values.  erf is x + x P(x^2) near zero; 1 - e^-G(x), G = -log erfc, elsewhere: erfc
is small there, and the smaller it is the fewer of its digits count, so one polynomial G serves up to where erf rounds
to 1.  For erfc all of them count: it is e^(-x^2) R(t) / (1 + 2 x), t = (x - K) / (x + K), where R lies between 1.1 and
1.3 on all positive numbers (M. M. Shepherd & J. G. Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x in
0 <= x < infinity", 1981).
"""

from __future__ import annotations

from .builder import Builder, Value
from .math_core import constant, horner_pairs, two_sum
from .math_exp import coefficient_set, exp

NEAR = 0.85
# (centre of the polynomial G, where erf has become 1)
FAR = {"float": (1.25, 4.0), "double": (1.25, 6.0)}
# Where 1 - erf(x) begins to lose digits; (K, where erfc has become 0).
NEAR_ONE = 0.46875
TAIL = {"float": (2.0, 10.6), "double": (3.5, 27.5)}


def erf_near(b: Builder, x: Value) -> Value:
    """erf(x), |x| <= 0.85."""
    return b.fma(x, horner_pairs(b, b.fmul(x, x), coefficient_set("ERF", x.elem)), x)


def erf(b: Builder, x: Value) -> Value:
    one = constant(b, x, 1.0)
    centre, last = FAR[x.elem]
    a = b.fabs(x)
    near = erf_near(b, x)
    t = b.fsub(b.fmin(constant(b, x, last), a), constant(b, x, centre))
    first, second, *others = coefficient_set("ERFC_LOG", x.elem)
    g = b.fma(horner_pairs(b, t, others), t, constant(b, x, second))  # these two decide the rounding error
    g = b.fma(g, t, constant(b, x, first))
    far = b.fsub(one, exp(b, b.fneg(g), accurate=True))
    return b.select(b.fcmp("olt", a, constant(b, x, NEAR)), near, b.copysign(far, x))


def erfc(b: Builder, x: Value) -> Value:
    one, two = constant(b, x, 1.0), constant(b, x, 2.0)
    middle, last = TAIL[x.elem]
    a = b.fmin(constant(b, x, last), b.fabs(x))
    k = constant(b, x, middle)
    # x^2 in two parts: the rounding error of the product would be a relative error of its exponential.
    square = b.fmul(a, a)
    square_low = b.fma(a, a, b.fneg(square))
    bell = exp(b, b.fneg(square), accurate=True, low=b.fneg(square_low))
    t = b.fdiv(b.fsub(a, k), b.fadd(a, k))
    r = horner_pairs(b, t, coefficient_set("ERFCX", x.elem))
    # r / (1 + 2 a), and what its two roundings have lost.
    twice = b.fadd(a, a)
    d, d_low = two_sum(b, b.fmax(twice, one), b.fmin(twice, one))
    q = b.fdiv(r, d)
    minus_q = b.fneg(q)
    q_low = b.fdiv(b.fma(minus_q, d_low, b.fma(minus_q, d, r)), d)
    tail = b.fma(bell, q, b.fmul(bell, q_low))
    far = b.select(b.fcmp("olt", x, constant(b, x, 0.0)), b.fsub(two, tail), tail)
    return b.select(b.fcmp("olt", a, constant(b, x, NEAR_ONE)), b.fsub(one, erf_near(b, x)), far)
