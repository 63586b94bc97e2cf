"""Arithmetic of component numbers: integers where components are written out, index expressions inside of loops.

In: a number d.  Out: d + a, d * a, d // a, d % a, and the place of d in an array whose axes are in another order.
Quotients are divided while the formula is written wherever the ranges of the loops allow it: (3 d + k) // 3 is d for a
loop k over 3 components.  Such divisions would stand in the innermost loops.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .expr import Expr, call, const


def regroup(d: Any, sizes: tuple[int, ...], order: tuple[int, ...]) -> Any:
    """Position in the source of component d of the transposed vector (row-major on both sides)."""
    strides = [math.prod(sizes[k + 1 :]) for k in range(len(sizes))]
    position: Any = 0
    rest = d
    for axis in reversed(order):
        size = sizes[axis]
        # d is inside the vector: what is left for the outermost axis needs no modulo
        digit, rest = (rest, 0) if axis == order[0] else (mod(rest, size), div(rest, size))
        position = plus(position, times(digit, strides[axis]))
    return position


def is_int(*xs: Any) -> bool:
    return all(isinstance(x, int) for x in xs)


def plus(a: Any, b: Any) -> Any:
    if is_int(a, b):
        return a + b
    return b if is_int(a) and a == 0 else a if is_int(b) and b == 0 else call("add", as_index(a), as_index(b))


def times(a: Any, n: int) -> Any:
    return a * n if is_int(a) else a if n == 1 else call("mul", a, const(n, "index"))


def div(a: Any, n: int) -> Any:
    if is_int(a):
        return a // n
    parts = None if n == 1 else _divided(a, n)
    return parts[0] if parts is not None else a if n == 1 else call("floordiv", a, const(n, "index"))


def mod(a: Any, n: int) -> Any:
    if is_int(a):
        return a % n
    parts = None if n == 1 else _divided(a, n)
    return parts[1] if parts is not None else 0 if n == 1 else call("sub", a, times(div(a, n), n))


def as_index(a: Any) -> Expr:
    return a if isinstance(a, Expr) else const(a, "index")


# ---------------------------------------------------------------------- divisions that need no instruction


def _divided(a: Expr, n: int) -> tuple[Any, Any] | None:
    """a // n and a % n, if a is a multiple of n and something from 0 to n - 1."""
    factors, constant = _linear(a)
    rest = constant % n
    highest = rest
    quotient: Any = constant // n
    for x, factor in factors.items():
        if factor % n == 0:
            quotient = plus(quotient, times(x, factor // n))
            continue
        below = _below(x)
        if below is None or factor < 0:
            return None
        rest = plus(times(x, factor), rest)
        highest += factor * (below - 1)
    return (quotient, rest) if highest < n else None


def _linear(a: Expr) -> tuple[Mapping[Expr, int], int]:
    """a as a sum of expressions times integers, and an integer."""
    factors: dict[Expr, int] = {}
    constant = 0
    stack = [(a, 1)]
    while stack:
        x, factor = stack.pop()
        if x.is_const():
            constant += factor * x.param("value")
        elif x.name == "add":
            stack += [(arg, factor) for arg in reversed(x.args)]
        elif x.name == "mul" and x.args[1].is_const():
            stack.append((x.args[0], factor * x.args[1].param("value")))
        else:
            factors[x] = factors.get(x, 0) + factor
    return factors, constant


def _below(x: Expr) -> int | None:
    """What a number from 0 on stays below, for those of loops and rests of divisions; None where it is not known."""
    if x.name == "loop_var":
        return x.param("size") or None
    if x.name == "sub" and x.args[1].name == "mul" and x.args[1].args[0].name == "floordiv":
        quotient, divisor = x.args[1].args
        if divisor.is_const() and quotient.args == (x.args[0], divisor):
            return divisor.param("value")
    return None
