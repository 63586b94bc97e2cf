"""Square roots on vectors: sqrt, and rsqrt with 0 at 0.

In: the Builder and Values.  Out: Values.  With AVX-512 rsqrt takes the instruction's 14 bits and doubles them by
Newton's iteration, once for float32 and twice for float64; elsewhere it is 1 / sqrt(x), two correctly rounded
instructions.  (AVX's 11 bits, tripled, and a path for subnormals and infinities were no faster on Zen 5.)
"""

from __future__ import annotations

from .builder import Builder, Value
from .math_core import avx512, constant, is_class, register_lanes

ZEROS_AND_INFINITY = 0b1110  # of vfpclass: +0, -0, +inf


def sqrt(b: Builder, x: Value) -> Value:
    return b.sqrt(x)


def newton(b: Builder, x: Value, y: Value) -> Value:
    """y + y/2 (1 - x y^2): twice as many right digits of 1 / sqrt(x)."""
    residual = b.fma(b.fneg(b.fmul(x, y)), y, constant(b, x, 1.0))
    return b.fma(b.fmul(y, constant(b, x, 0.5)), residual, y)


def rsqrt(b: Builder, x: Value) -> Value:
    """1 / sqrt(x); 0 at 0, NaN below."""
    zero = constant(b, x, 0.0)
    if register_lanes(b, x.elem):
        y = avx512(b, "rsqrt14", x)
        for _ in range(1 if x.elem == "float" else 2):
            y = newton(b, x, y)
        return b.select(is_class(b, x, ZEROS_AND_INFINITY), zero, y)  # there x y^2 is NaN
    return b.select(b.fcmp("oeq", x, zero), zero, b.fdiv(constant(b, x, 1.0), b.sqrt(x)))
