"""Questions that rules ask about an expression, and steps that several tables of rules share.

In: expressions.  Out: their parts, or None where the answer is no.
"""

from __future__ import annotations

import math

from ..ir.expr import Expr


def is_value(x: Expr, value: float) -> bool:
    """Is x this number, or this index?"""
    return x.is_const(value) and x.kind != "bool"


def is_truth(x: Expr, value: bool) -> bool:
    """Is x this truth value?"""
    return x.is_const(value) and x.kind == "bool"


def number(x: Expr) -> float | None:
    """The value of a constant number (not of an index or a truth value)."""
    return x.param("value") if x.is_const() and x.kind == "real" else None


def power_of_two(value: float | None) -> bool:
    """Products with it are exact; beyond 2 ** 16 they might leave the range of float32 on the way."""
    return value is not None and value != 0 and abs(math.frexp(value)[0]) == 0.5 and abs(math.frexp(value)[1]) <= 16


def times_constant(x: Expr) -> tuple[Expr, float] | None:
    """(y, c) if x is y * c."""
    if x.name != "mul":
        return None
    value = number(x.args[1])
    return None if value is None else (x.args[0], value)


def inner(x: Expr, name: str) -> Expr | None:
    """The argument of x if x is an operation of this name."""
    return x.args[0] if x.name == name else None


def repeated(x: Expr) -> Expr | None:
    """s if x is one number s repeated."""
    return x.args[0] if x.name == "repeat" and x.args[0].dim == 1 else None


def merge_factors(x: Expr, y: Expr, exact: bool) -> Expr | None:
    """z * (c * d) if x is z * c and y is d."""
    found, value = times_constant(x), number(y)
    if found is None or value is None or (exact and not (power_of_two(found[1]) or power_of_two(value))):
        return None
    return found[0] * (found[1] * value)


def divide_by_constant(x: Expr, y: Expr, exact: bool) -> Expr | None:
    """x * (1 / c) if y is c."""
    value = number(y)
    if value is None or value == 0 or (exact and not power_of_two(value)):
        return None
    return x * (1 / value)
