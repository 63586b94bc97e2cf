"""The table of operations, part 7: functions of numbers that are accurate where the formula of their parts is not.

In: nothing.  Out: the rows of these functions in `OPS`, all of them defined by those of the other parts.  Written by
hand they are 0 times infinity or 0 / 0 at a point, overflow on the way, or cancel.
"""
# The cells of a row are short functions whose arguments need no annotation:
# pyright: basic

from __future__ import annotations

import math

from .expr import Expr, call, const
from .rows import ANYWHERE, POSITIVE, Interval, derived, where

# ---------------------------------------------------------------------- functions with a hole

derived(
    "xlogx",
    1,
    operands="real",
    expand=lambda x: where(call("eq", x, 0.0), 0.0, x * call("log", x)),
    partials=lambda out, x: (where(call("eq", x, 0.0), 0.0, call("log", x) + 1),),
    domain=(POSITIVE,),
    doc="x log(x), and 0 at 0, where its derivative is taken to be 0.",
    aliases=("XLogX",),
)


def _times_logarithm(name: str, log: str, pole: float, domain: Interval, doc: str) -> None:
    """x times a logarithm of y that is -inf at `pole`."""

    def is_zero(x: Expr) -> Expr:
        return call("eq", x, 0.0)

    def partials(out: Expr, x: Expr, y: Expr) -> tuple[Expr, ...]:
        by_factor = where(is_zero(x) & call("le", y, pole), 0.0, call(log, y))
        return by_factor, where(is_zero(x), 0.0, x / (y - pole if pole else y))

    derived(
        name,
        2,
        operands="real",
        expand=lambda x, y: where(is_zero(x) & ~call("isnan", y), 0.0, x * call(log, y)),
        partials=partials,
        domain=(ANYWHERE, domain),
        doc=doc,
    )


_times_logarithm(
    "xlogy", "log", 0.0, POSITIVE, "x log(y), and 0 where x = 0, whatever y is; no derivative is infinite there."
)
_times_logarithm("xlog1py", "log1p", -1.0, (-0.8, 2.0), "x log(1 + y), and 0 where x = 0; otherwise as xlogy.")


def _sinxdivx(x: Expr) -> Expr:
    """sin(x) / x by its series where |x| < 1, where the derivative of the quotient would lose its digits."""
    u = x * x
    series = const(-1 / math.factorial(19))
    for k in range(8, -1, -1):
        series = series * u + (-1) ** k / math.factorial(2 * k + 1)
    return where(call("abs", x) < 1.0, series, call("sin", x) / x)


derived(
    "sinxdivx",
    1,
    operands="real",
    expand=_sinxdivx,
    doc="sin(x) / x, and 1 at 0; all derivatives are accurate there.",
    aliases=("SinXDivX",),
)
derived(
    "sinc",
    1,
    operands="real",
    expand=lambda x: call("sinxdivx", x * math.pi),
    doc="sin(pi x) / (pi x), and 1 at 0.",
)


def _exprel(x: Expr) -> Expr:
    """(exp(x) - 1) / x by its series where |x| < 1, for the same reason."""
    series = const(1 / math.factorial(20))
    for k in range(18, -1, -1):
        series = series * x + 1 / math.factorial(k + 1)
    quotient = where(call("eq", x, math.inf), x, call("expm1", x) / x)
    return where(call("abs", x) < 1.0, series, quotient)


derived(
    "exprel",
    1,
    operands="real",
    expand=_exprel,
    doc="(exp(x) - 1) / x, and 1 at 0; all derivatives are accurate there.",
)

# ---------------------------------------------------------------------- logarithms of sums and of differences


def _logaddexp(x: Expr, y: Expr) -> Expr:
    # the larger one + softplus(a number <= 0); equal infinities have no difference
    both_infinite = call("eq", x, y) & ~call("isfinite", x)
    value = where(x >= y, x + call("softplus", y - x), y + call("softplus", x - y))
    return where(both_infinite, x, value)


derived("logaddexp", 2, operands="real", expand=_logaddexp, doc="log(exp(x) + exp(y)), without overflow.")

derived(
    "log_sigmoid",
    1,
    operands="real",
    expand=lambda x: -call("softplus", -x),
    doc="log(1 / (1 + exp(-x))), without overflow, tails included.",
    aliases=("logsigmoid",),
)


def _log1mexp(x: Expr) -> Expr:
    # M. Maechler, "Accurately computing log(1 - exp(-|a|))", 2012
    return where(x > -math.log(2), call("log", -call("expm1", x)), call("log1p", -call("exp", x)))


derived(
    "log1mexp",
    1,
    operands="real",
    expand=_log1mexp,
    # -inf at 0, not +inf: hence the absolute value
    partials=lambda out, x: (-(call("exp", x) / call("abs", call("expm1", x))),),
    domain=((-3.0, -0.1),),
    doc="log(1 - exp(x)) of x <= 0, accurate near 0 and far from it; NaN where x > 0.",
)


def _logsubexp(x: Expr, y: Expr) -> Expr:
    return where(call("eq", y, -math.inf), x, x + call("log1mexp", y - x))


derived(
    "logsubexp",
    2,
    operands="real",
    expand=_logsubexp,
    domain=((0.5, 2.0), (-2.0, 0.3)),
    doc="log(exp(x) - exp(y)) of x >= y, without overflow; NaN where x < y.",
)
