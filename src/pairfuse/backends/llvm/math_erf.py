"""The error function on vectors.

In: the Builder and Values.  Out: a Value.  x + x P(x^2) near zero; 1 - e^-G(x), G = -log erfc, elsewhere: erfc is small
there, and the smaller it is the fewer of its digits count, so one polynomial G serves up to where erf rounds to 1.
"""

from __future__ import annotations

from .builder import Builder, Value
from .math_core import constant, horner_pairs
from .math_exp import coefficient_set, exp

NEAR = 0.85
# (centre of the polynomial G, where erf has become 1)
FAR = {"float": (1.25, 4.0), "double": (1.25, 6.0)}


def erf(b: Builder, x: Value) -> Value:
    one = constant(b, x, 1.0)
    centre, last = FAR[x.elem]
    a = b.fabs(x)
    z = b.fmul(x, x)
    near = b.fma(x, horner_pairs(b, z, coefficient_set("ERF", x.elem)), x)
    t = b.fsub(b.fmin(constant(b, x, last), a), constant(b, x, centre))
    first, second, *others = coefficient_set("ERFC_LOG", x.elem)
    g = b.fma(horner_pairs(b, t, others), t, constant(b, x, second))  # these two decide the rounding error
    g = b.fma(g, t, constant(b, x, first))
    far = b.fsub(one, exp(b, b.fneg(g), accurate=True))
    return b.select(b.fcmp("olt", a, constant(b, x, NEAR)), near, b.copysign(far, x))
