"""The table of operations, part 2: element-wise functions of numbers.

In: nothing.  Out: the rows of the functions in `OPS` (ir/ops.py explains the table); primitive ones first, then those
that are defined by others.
"""
# The cells of a row are short functions whose arguments need no annotation:
# pyright: basic

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .expr import Expr, call, const
from .rows import ANYWHERE, POSITIVE, Interval, derived, elementwise, where

# ---------------------------------------------------------------------- functions of one number


def _function(
    name: str,
    ref: Any,
    partial: Any,
    doc: str,
    domain: Interval = ANYWHERE,
    triton: str | None = None,
    aliases: tuple[str, ...] = (),
) -> None:
    elementwise(
        name,
        1,
        ref=ref,
        partials=lambda out, x: (partial(out, x),),
        llvm="math:" + name,
        triton=triton or f"libdevice.{name}({{0}})",
        domain=(domain,),
        doc=doc,
        aliases=aliases or (name.capitalize(),),
    )


def _rsqrt_ref(x: Any) -> Any:
    return np.where(x == 0, x * 0, 1 / np.sqrt(x))


def _sigmoid_ref(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1.0) / (1 + e)


def _erf_ref(x: Any) -> Any:
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x)).astype(np.result_type(x, np.float16))


def _erfc_ref(x: Any) -> Any:
    return np.asarray(np.frompyfunc(math.erfc, 1, 1)(x)).astype(np.result_type(x, np.float16))


def _bell(x: Expr) -> Expr:
    """The derivative of erf."""
    return call("exp", -(x * x)) * (2 / math.sqrt(math.pi))


_rsqrt_triton = "tl.where({0} == 0, 0.0, libdevice.rsqrt({0}))"
_softplus_triton = "(tl.where({0} < 0, 0.0, {0}) + libdevice.log1p(libdevice.exp(-tl.abs({0}))))"

_function("exp", np.exp, lambda out, x: out, "Exponential.")
_function("exp2", np.exp2, lambda out, x: out * math.log(2), "2 to the power x.")
_function("expm1", np.expm1, lambda out, x: out + 1, "exp(x) - 1, accurate near 0.")
_function("log", np.log, lambda out, x: 1 / x, "Natural logarithm.", POSITIVE)
_function("log2", np.log2, lambda out, x: 1 / (x * math.log(2)), "Logarithm to base 2.", POSITIVE)
_function("log10", np.log10, lambda out, x: 1 / (x * math.log(10)), "Logarithm to base 10.", POSITIVE)
_function("log1p", np.log1p, lambda out, x: 1 / (x + 1), "log(1 + x), accurate near 0.", (-0.8, 2.0))
_function("sqrt", np.sqrt, lambda out, x: call("rsqrt", x) * 0.5, "Square root; derivative 0 at 0.", POSITIVE)
_function(
    "rsqrt",
    _rsqrt_ref,
    lambda out, x: out * out * out * -0.5,
    "1 / sqrt(x), and 0 at 0, where its derivative is 0 too.",
    POSITIVE,
    _rsqrt_triton,
)
_function("sin", np.sin, lambda out, x: call("cos", x), "Sine.")
_function("cos", np.cos, lambda out, x: -call("sin", x), "Cosine.")
_function("tan", np.tan, lambda out, x: out * out + 1, "Tangent.", (-1.2, 1.2))
_function("asin", np.arcsin, lambda out, x: call("rsqrt", (1 - x) * (x + 1)), "Arc sine.", (-0.9, 0.9))
_function("acos", np.arccos, lambda out, x: -call("rsqrt", (1 - x) * (x + 1)), "Arc cosine.", (-0.9, 0.9))
_function("atan", np.arctan, lambda out, x: 1 / (x * x + 1), "Arc tangent.")
_function("sinh", np.sinh, lambda out, x: call("cosh", x), "Hyperbolic sine.")
_function("cosh", np.cosh, lambda out, x: call("sinh", x), "Hyperbolic cosine.")
_function("tanh", np.tanh, lambda out, x: 1 - out * out, "Hyperbolic tangent.")
_function("sigmoid", _sigmoid_ref, lambda out, x: out * (1 - out), "1 / (1 + exp(-x)).", triton="tl.sigmoid({0})")
_function(
    "softplus",
    lambda x: np.logaddexp(x, 0),
    lambda out, x: call("sigmoid", x),
    "log(1 + exp(x)), without overflow.",
    triton=_softplus_triton,
)
_function("asinh", np.arcsinh, lambda out, x: call("rsqrt", x * x + 1), "Inverse of sinh.")
_function(
    "acosh",
    np.arccosh,
    lambda out, x: call("rsqrt", (x - 1) * (x + 1)),
    "Inverse of cosh, for x >= 1; derivative 0 at 1.",
    (1.2, 4.0),
)
_function("atanh", np.arctanh, lambda out, x: 1 / ((1 - x) * (x + 1)), "Inverse of tanh.", (-0.9, 0.9))
_function("erf", _erf_ref, lambda out, x: _bell(x), "The error function.")
_function(
    "erfc", _erfc_ref, lambda out, x: -_bell(x), "1 - erf(x), to all digits also where erf(x) is nearly 1.", (-2.0, 3.0)
)


def _rounding(name: str, ref: Any, doc: str) -> None:
    elementwise(
        name,
        1,
        operands="number",
        kind="same",
        ref=ref,
        partials=lambda out, x: (None,),
        llvm=name,
        llvm_int=lambda b, x: x,
        triton=f"libdevice.{name}({{0}})",
        triton_int="{0}",
        doc=doc,
        aliases=(name.capitalize(),),
    )


_rounding("floor", np.floor, "The largest integer not above x; derivative 0.")
_rounding("ceil", np.ceil, "The smallest integer not below x; derivative 0.")
_rounding("trunc", np.trunc, "x without its fraction; derivative 0.")

# ---------------------------------------------------------------------- functions of two numbers


def _reciprocal_or_zero(x: Expr) -> Expr:
    return where(call("eq", x, 0.0), 0.0, 1 / x)


def _atan2_partials(out: Expr, y: Expr, x: Expr) -> tuple[Expr, ...]:
    inverse = _reciprocal_or_zero(x * x + y * y)
    return x * inverse, -(y * inverse)


elementwise(
    "atan2",
    2,
    ref=np.arctan2,
    partials=_atan2_partials,
    llvm="math:atan2",
    triton="libdevice.atan2({0}, {1})",
    domain=((0.2, 2.0), ANYWHERE),
    doc="The angle of the point (x, y), written atan2(y, x); derivative 0 at the origin.",
    aliases=("Atan2",),
)


def _power_or_zero(x: Expr, y: Expr) -> Expr:
    """x ** y, and 0 where x = 0 and y < 0: what derivatives of powers are made of, of all orders."""
    power = call("pow", x, y)
    if not y.is_const():
        return where(call("eq", x, 0.0) & call("lt", y, 0.0), 0.0, power)
    return where(call("eq", x, 0.0), 0.0, power) if y.param("value") < 0 else power


def _pow_partials(out: Expr, x: Expr, y: Expr) -> tuple[Expr | None, ...]:
    if y.is_const(0.0):
        return None, None
    less = const(y.param("value") - 1) if y.is_const() else y - 1
    # 0 ** y = 0 for y > 0 near by: no slope, although log(0) is infinite
    return y * _power_or_zero(x, less), where(call("eq", x, 0.0), 0.0, call("log", x) * out)


def _powi_partial(out: Expr, x: Expr, n: int) -> tuple[Expr | None, ...]:
    if n == 0:
        return (None,)
    slope = call("powi", x, n=n - 1) * n
    return (slope if n > 0 else where(call("eq", x, 0.0), 0.0, slope),)


elementwise(
    "pow",
    2,
    ref=np.power,
    partials=_pow_partials,
    llvm="math:pow",
    triton="libdevice.pow({0}, {1})",
    domain=(POSITIVE, ANYWHERE),
    doc="x to the real power y; NaN where x < 0 and y is no integer. Derivatives that are infinite at 0 are 0 there.",
    aliases=("Powf",),
)


def _extremum(name: str, ref: Any, comparison: str, float_code: str, int_predicate: str) -> None:
    def first(x: Expr, y: Expr) -> Expr:
        return call(comparison, x, y)

    elementwise(
        name,
        2,
        operands="number",
        kind="same",
        ref=ref,
        vjp=lambda g, out, x, y: (where(first(x, y), g, 0.0), where(first(x, y), 0.0, g)),
        jvp=lambda t, out, x, y: where(first(x, y), 0.0 if t[0] is None else t[0], 0.0 if t[1] is None else t[1]),
        # the Builder's fmin and fmax give y where one is NaN: x has to be asked for
        llvm=lambda b, x, y: b.select(b.fcmp("uno", x, x), x, getattr(b, float_code)(x, y)),
        llvm_int=lambda b, x, y: b.select(b.icmp(int_predicate, x, y), x, y),
        triton=f"tl.{name}({{0}}, {{1}}, propagate_nan=tl.PropagateNan.ALL)",
        triton_int=f"tl.{name}({{0}}, {{1}})",
        doc=f"The {'smaller' if name == 'minimum' else 'larger'} of both, NaN if one is NaN; of equals, the derivative "
        "goes to the first.",
    )


_extremum("minimum", np.minimum, "le", "fmin", "slt")
_extremum("maximum", np.maximum, "ge", "fmax", "sgt")

elementwise(
    "copysign",
    2,
    ref=np.copysign,
    partials=lambda out, x, y: (call("sign", x) * call("copysign", const(1.0), y), None),
    llvm="copysign",
    triton="libdevice.copysign({0}, {1})",
    doc="|x| with the sign of y, be it that of a zero; as a function of y, taken for constant.",
)

# ---------------------------------------------------------------------- defined by others: powers, signs, steps

derived(
    "square",
    1,
    operands="number",
    kind="same",
    expand=lambda x: x * x,
    doc="x times x.",
    aliases=("Square",),
)


def _powi(x: Expr, n: int) -> Expr:
    """Repeated squaring: about log2(n) products."""
    if n < 0:
        return 1 / _powi(x, -n)
    if n == 0:
        return call("repeat", const(1, x.kind), times=x.dim)
    result = None
    while n:
        if n & 1:
            result = x if result is None else result * x
        n >>= 1
        if n:
            x = x * x
    assert result is not None
    return result


derived(
    "powi",
    1,
    params=("n",),
    operands=lambda n: "number" if n >= 0 else "real",
    kind="same",
    expand=_powi,
    # given, so that the derivative of x ** n is n x ** (n-1) and not the derivatives of all the products
    partials=_powi_partial,
    domain=((0.3, 2.0),),
    samples=tuple(((3,), {"n": n}) for n in (-3, -1, 0, 1, 2, 3, 7)),
    doc="x to the integer power n, by repeated multiplication; x ** 0 is 1 everywhere.",
    aliases=("Pow",),
)
derived("inv", 1, operands="real", expand=lambda x: 1 / x, domain=(POSITIVE,), doc="1 / x.", aliases=("Inv",))
derived(
    "sign",
    1,
    operands="number",
    kind="same",
    # the last branch is 0, or NaN
    expand=lambda x: where(x > 0, const(1, x.kind), where(x < 0, const(-1, x.kind), call("stop_gradient", x))),
    doc="-1, 0 or 1; 0 at 0; derivative 0.",
    aliases=("Sign",),
)
derived(
    "step",
    1,
    expand=lambda x: where(x < 0, 0.0, 1.0),
    doc="0 where x < 0, else 1; derivative 0.",
    aliases=("Step",),
)
derived(
    "relu",
    1,
    operands="number",
    kind="same",
    expand=lambda x: where(x < 0, const(0, x.kind), x),
    doc="x where x >= 0, else 0; derivative 1 at 0.",
    aliases=("ReLU",),
)
derived(
    "clamp",
    3,
    operands="number",
    kind="same",
    expand=lambda x, a, b: where(x < a, a, where(x > b, b, x)),
    domain=(ANYWHERE, (-1.5, -0.5), (0.5, 1.5)),
    doc="a where x < a, b where x > b, else x; derivative 1 on [a, b].",
    aliases=("Clamp", "ClampInt"),
)
derived(
    "clamp_min",
    2,
    operands="number",
    kind="same",
    expand=lambda x, a: where(x < a, a, x),
    doc="a where x < a, else x; derivative 1 at a.",
)
derived(
    "clamp_max",
    2,
    operands="number",
    kind="same",
    expand=lambda x, b: where(x > b, b, x),
    doc="b where x > b, else x; derivative 1 at b.",
)
derived(
    "ifelse",
    3,
    operands="number",
    kind="same",
    expand=lambda c, a, b: where(c >= 0, a, b),
    doc="a where c >= 0, else b.",
    aliases=("IfElse",),
)
derived(
    "mod",
    3,
    operands="number",
    kind="same",
    expand=lambda x, n, d: x - n * call("floordiv", x - d, n),
    domain=(ANYWHERE, (0.5, 2.0), ANYWHERE),
    doc="x - n floor((x - d) / n): x brought into [d, d + n) by multiples of n.",
    aliases=("Mod",),
)


def _round(x: Expr, d: int) -> Expr:
    scale = const(10.0 ** abs(d))
    size = call("abs", x) * scale if d >= 0 else call("abs", x) / scale
    whole = call("floor", size)
    # size - whole is exact, whereas floor(size + 1/2) is wrong for the number just below 1/2
    whole = where(size - whole >= 0.5, whole + 1.0, whole)
    return call("sign", x) * (whole / scale if d >= 0 else whole * scale)


derived(
    "round",
    1,
    params=("d",),
    operands="real",
    expand=_round,
    samples=(((3,), {"d": 0}), ((3,), {"d": 2}), ((1,), {"d": -1})),
    domain=((-30.0, 30.0),),
    doc="x rounded to d decimals, halves away from 0; derivative 0.",
    aliases=("Round",),
)
