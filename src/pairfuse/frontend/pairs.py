"""What the operations and reductions of the table are on complex numbers: on pairs (real part, imaginary part).

In: the name of an operation that the user applies, formulas, and which of them are pairs.  Out: a formula, and whether
it is pairs again.  Real operands are promoted.  What is not in the tables below is refused: no operation ever acts on
pairs as if they were real vectors of twice the length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import DtypeError, ShapeError, message
from ..ir.expr import Expr, call, const

Form = Callable[..., Expr]


def _row(name: str) -> Form:
    """The row of this name, with the parameters of the operation."""
    return lambda *zs, **params: call(name, *zs, **params)


def _parts(z: Expr) -> tuple[Expr, Expr]:
    return call("complex_real", z), call("complex_imag", z)


def _both(name: str, join: str) -> Form:
    """A test of both parts, joined."""

    def form(*zs: Expr) -> Expr:
        re, im = zip(*map(_parts, zs), strict=True)
        return call(join, call(name, *re), call(name, *im))

    return form


def _of_moduli(name: str) -> Form:
    """A norm: that of the vector of moduli."""
    return lambda z: call(name, call("complex_abs", z))


def _times(factor: float, name: str) -> Form:
    """factor * row(z)"""
    return lambda z: call(name, z) * const(factor)


def _square_norm(z: Expr) -> Expr:
    return call("sum", call("complex_sqabs", z))


def _extract(z: Expr, start: int, size: int) -> Expr:
    return call("extract", z, start=2 * start, size=2 * size)


def _as_long(zs: Sequence[Expr]) -> list[Expr]:
    """Complex vectors brought to one length, one number repeated."""
    longest = max(z.dim for z in zs)
    if any(z.dim not in (2, longest) for z in zs):
        lengths = " and ".join(str(z.dim // 2) for z in zs)
        raise ShapeError(f"where: the vectors have different lengths, {lengths}.")
    return [call("tile", z, times=longest // z.dim) if z.dim < longest else z for z in zs]


def _where(condition: Expr, z: Expr, w: Expr) -> Expr:
    """One truth value for each complex number."""
    (z, w), n = _as_long((z, w)), condition.dim
    if n == 1:
        return call("where", condition, z, w)
    both = call("repeat", call("ne", condition, 0.0) if condition.kind == "real" else condition, times=2)
    if z.dim == 2:
        z, w = (call("tile", v, times=n) for v in (z, w))
    elif z.dim != 2 * n:
        raise ShapeError(f"where: the vectors have different lengths, {n} and {z.dim // 2}.")
    return call("where", both, z, w)


NONZERO = _both("ne", "logical_or")


def _nonzero(z: Expr) -> Expr:
    return NONZERO(z, zero_pairs(z.dim // 2))


def zero_pairs(n: int) -> Expr:
    """n complex zeros."""
    return call("repeat", const(0.0), times=2 * n)


GIVES_PAIRS: Mapping[str, Form] = {
    **{
        name: _row(row)
        for name, row in {
            "add": "complex_add",
            "sub": "complex_subtract",
            "mul": "complex_mult",
            "div": "complex_divide",
            "pow": "complex_pow",
            "powi": "complex_powi",
            "square": "complex_square",
            "inv": "complex_inv",
            "exp": "complex_exp",
            "log": "complex_log",
            "sqrt": "complex_sqrt",
            "sin": "complex_sin",
            "cos": "complex_cos",
            "sinh": "complex_sinh",
            "cosh": "complex_cosh",
            "sum": "complex_sum",
            "matvecmult": "complex_matvecmult",
            "vecmatmult": "complex_vecmatmult",
            "tensorprod": "complex_tensorprod",
            "tensordot": "complex_tensordot",
            "kron": "complex_kron",
            "conj": "conj",
        }.items()
    },
    # the rows of real numbers, which act on pairs as they should
    **{name: _row(name) for name in ("neg", "concat", "normalize", "stop_gradient")},
    "extract": _extract,
    "exp2": lambda z: call("complex_exp", z * const(math.log(2))),
    "log2": _times(1 / math.log(2), "complex_log"),
    "log10": _times(1 / math.log(10), "complex_log"),
    "rsqrt": lambda z: call("complex_inv", call("complex_sqrt", z)),
}

GIVES_REALS: Mapping[str, Form] = {
    **{name: _row(name) for name in ("complex_real", "complex_imag", "complex_sqabs")},
    "abs": _row("complex_abs"),
    "angle": _row("complex_angle"),
    "sqnorm2": _square_norm,
    "norm2": lambda z: call("sqrt", _square_norm(z)),
    "norm1": _of_moduli("norm1"),
    "norminf": _of_moduli("norminf"),
    "sqdist": lambda z, w: _square_norm(call("complex_subtract", z, w)),
    "eq": _both("eq", "logical_and"),
    "ne": NONZERO,
    "isnan": _both("isnan", "logical_or"),
    "isfinite": _both("isfinite", "logical_and"),
    "logical_not": lambda z: ~_nonzero(z),
}

# ---------------------------------------------------------------------- what is refused, and what to write instead

NO_ORDER = "complex numbers have no order; compare x.real, x.imag, x.abs() or x.angle()."
ELSEWHERE = "take x.real, x.imag, x.abs() or x.angle(), or write it with + - * / **, exp, log and sqrt."
HINTS = {
    **dict.fromkeys(("lt", "le", "gt", "ge", "minimum", "maximum", "clamp", "sign", "step", "relu"), NO_ORDER),
    **dict.fromkeys(("min_d", "max_d", "argmin_d", "argmax_d", "ifelse", "clamp_min", "clamp_max"), NO_ORDER),
    "dot": "(x * y).sum(-1) is the sum of the products, (x.conj() * y).sum(-1) the one with conjugates.",
    "weightedsqnorm": "(s * x.abs() ** 2).sum(-1).",
    "weightedsqdist": "(s * (x - y).abs() ** 2).sum(-1).",
    "tan": "x.sin() / x.cos().",
    "tanh": "x.sinh() / x.cosh().",
    "sigmoid": "1 / (1 + (-x).exp()).",
    "expm1": "x.exp() - 1.",
    "log1p": "(1 + x).log().",
    "asinh": "(x + (x * x + 1).sqrt()).log().",
    "acosh": "(x + (x - 1).sqrt() * (x + 1).sqrt()).log().",
    "atanh": "((1 + x).log() - (1 - x).log()) / 2.",
    "log_sigmoid": "-(1 + (-x).exp()).log().",
    "exprel": "(x.exp() - 1) / x.",
    **dict.fromkeys(("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_count"), "bits are those of integers."),
    **dict.fromkeys(("real2complex", "imag2complex", "exp1j"), "it takes real numbers; x * 1j and (1j * x).exp()."),
}
REDUCTION_HINTS = {
    "prod": "x.log().sum(dim=...) is a logarithm of the product.",
    "logsumexp": "x.exp().sum(dim=...), or logsumexp of x.real.",
}


def refusal(name: str) -> DtypeError:
    """The error of an operation that has no meaning on complex numbers; the caller puts the user's words before it."""
    return DtypeError(message(f"{name}: not defined for complex numbers.", hint=HINTS.get(name, ELSEWHERE)))


# ---------------------------------------------------------------------- the way in


def on_pairs(name: str, args: Sequence[Expr], flags: Sequence[bool], params: Mapping[str, Any]) -> tuple[Expr, bool]:
    """The operation `name` on operands of which those with a flag are pairs: a formula, and whether it is pairs."""
    if name == "where":
        condition = _nonzero(args[0]) if flags[0] else args[0]
        if not any(flags[1:]):
            return call("where", condition, *args[1:]), False
        return _where(condition, *promoted(args[1:], flags[1:])), True
    if name in GIVES_PAIRS:
        return GIVES_PAIRS[name](*promoted(args, flags), **params), True
    if name in GIVES_REALS:
        return GIVES_REALS[name](*promoted(args, flags), **params), False
    raise refusal(name)


def promoted(args: Sequence[Expr], flags: Sequence[bool]) -> list[Expr]:
    """All operands as pairs."""
    return [a if pairs else call("real2complex", a) for a, pairs in zip(args, flags, strict=True)]


def reduced_pairs(name: str, exprs: tuple[Expr, ...], flags: tuple[bool, ...]) -> tuple[tuple[Expr, ...], bool]:
    """The formulas of a reduction of which those with a flag are pairs, and whether its results are pairs."""
    if name == "sum":
        return exprs, True
    if name == "count_nonzero":
        return (_nonzero(exprs[0]),), False
    if name == "sumsoftmaxweight" and flags == (False, True):
        scores, values = exprs
        return (scores if scores.dim == 1 else call("repeat", scores, times=2), values), True
    plain = name.removesuffix("_weight")
    hint = REDUCTION_HINTS.get(plain, f"complex numbers have no order; reduce x.real, or x.abs().{plain}(dim=...).")
    raise DtypeError(message(f"{name}: this reduction is not defined for complex numbers.", hint=hint))
