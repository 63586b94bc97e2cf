"""Variables of integers on their way to a reduction: looked at, and given as the numbers of a floating type.

In: a problem, its data, its space.  Out: the same with real inputs only, exact where lower/integers.py says so; or an
error where the formula needs integers as real numbers that would round them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ..errors import DtypeError, message
from ..ir.expr import LARGEST, Expr, as_real_variables, rebuild, whole
from ..lower.integers import DIGIT, HELD, Whole, concerned, of_type, resolve, unseen
from ..lower.problem import Problem
from ..runtime import integers
from .base import Binding, Bindings
from .messages import describe_value
from .space import Space


def resolved(problem: Problem, bindings: Bindings, space: Space) -> tuple[Problem, Bindings, Space]:
    """The problem on real inputs, their data, and the space, whose type may have widened to float64.

    Raises: DtypeError for integers that would be rounded, FormulaError for comparisons of what leaves 64 bits.
    """
    if not concerned(problem):
        return problem, bindings, space
    sizes = (1 if space.ni is None else space.ni, 1 if space.nj is None else space.nj)
    if not (type(sizes[0]) is type(sizes[1]) is int):  # sizes with which torch traces
        return *traced(problem, bindings), space
    data = tuple([_whole(b.data) for b in bindings])
    found = resolve(problem, data, sizes, space.dtype is not None)
    if found.rounded is not None:
        raise _rounded(found.problem, bindings[found.rounded].data, data[found.rounded])
    if found.problem.dtype != problem.dtype:
        space = space._replace(dtype=found.problem.dtype)
    return found.problem, _given(found.problem.dtype, found.digits, bindings), space


def traced(problem: Problem, bindings: Bindings) -> tuple[Problem, Bindings]:
    """The same while torch traces: nothing is known of the numbers, and nothing is refused."""
    problem, digits = unseen(problem, tuple([integers.bits_of(b.data) for b in bindings]))
    return problem, _given(problem.dtype, digits, bindings)


def _given(dtype: str, digits: tuple[int, ...], bindings: Bindings) -> Bindings:
    if max(digits, default=0) <= 1:
        return bindings
    return tuple(
        [
            Binding(integers.digits(b.data, dtype, n, DIGIT[dtype]), b.axis) if n > 1 else b
            for b, n in zip(bindings, digits, strict=True)
        ]
    )


def _whole(x: Any) -> Whole | None:
    bits = integers.bits_of(x)
    if bits == 0 or bits <= integers.SHORT:
        return of_type(bits) if bits else None
    found = integers.bounds(x)
    if found is None:
        return of_type(bits)
    if found[1] >= LARGEST or found[0] < -LARGEST:
        raise DtypeError(
            message(
                f"LazyTensor(x): x holds integers up to {found[1]}, beyond those of 64 bits.",
                f"x: {describe_value(x)}",
                "where they are only compared for equality, x.view('int64') has the same answers; otherwise give them "
                "as float64.",
            )
        )
    return Whole(*found)


def held(x: Any, dtype: str) -> bool:
    """Does the floating type hold the numbers of x, or are they of a floating type themselves?"""
    d = _whole(x)
    return d is None or d.bits > 0 or max(d.high, -d.low) <= 1 << HELD[dtype]


def check_held(call: str, name: str, x: Any, dtype: str) -> None:
    """Refuse integers that this type rounds, where they have to be real numbers."""
    if not held(x, dtype):
        facts = [f"{name}: {describe_value(x)}", f"{dtype} holds the integers up to 2^{HELD[dtype]}"]
        hint = f"convert {name} yourself, to accept the rounding."
        raise DtypeError(message(f"{call}: {name} holds integers that {dtype} would round.", facts, hint))


def _rounded(problem: Problem, x: Any, d: Whole | None) -> DtypeError:
    assert d is not None
    largest = d.high if d.high >= -d.low else d.low
    return DtypeError(
        message(
            f"{problem.reduction}: the formula uses integers as real numbers, and {problem.dtype} would round them.",
            [
                f"x: {describe_value(x)}, up to {largest}",
                f"{problem.dtype} holds the integers up to 2^{HELD[problem.dtype]}",
            ],
            (
                "give the other arrays as float64; or convert x yourself, to accept the rounding."
                if problem.dtype == "float32"
                else "subtract an offset from x, or convert it to float64 yourself, to accept the rounding."
            ),
        )
    )


@lru_cache(maxsize=1024)
def as_whole(expr: Expr, slots: tuple[int, ...]) -> Expr:
    """The formula with these inputs as variables of integers."""

    def rule(n: Expr) -> Expr:
        return whole(n) if n.op.name == "input" and n.param("slot") in slots else n

    return rebuild((expr,), rule)[0]


@lru_cache(maxsize=1024)
def as_real(expr: Expr, slots: frozenset[int] | None) -> Expr:
    """The formula with these inputs, or all, as real numbers, as their derivatives need them."""
    return as_real_variables((expr,), lambda n: slots is None or n.args[0].param("slot") in slots)[0]
