"""Formulas of n steps in every shape, for tests that no pass recurses with the depth or walks shared parts again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pairfuse.ir.expr import Expr, call, index, input_
from pairfuse.ir.ops import OPS

assert OPS  # the table, without which there are no formulas

X, Y, P = input_(0, "i", 3), input_(1, "j", 3), input_(2, "p", 2)
D2 = call("sqdist", X, Y)


def chain(n: int) -> Expr:
    """z = cos(z a + d), a recurrence."""
    z = D2
    for _ in range(n):
        z = call("cos", z * call("elem", P, index=0) + D2)
    return z


def of_vectors(n: int) -> Expr:
    """The same with vectors of pairs, their signs changed."""
    z = X - Y
    for _ in range(n):
        z = -call("sin", z + Y)
    return call("sum", z)


def wide_sum(n: int) -> Expr:
    """A sum of kernels, written in a loop."""
    total = call("exp", -D2)
    for k in range(1, n):
        total = total + call("exp", -D2 * (1 + k / n))
    return total


def from_the_right(n: int) -> Expr:
    """The same sum in brackets from the right."""
    total = D2
    for k in range(n):
        total = D2 * (1 / (k + 1)) - total
    return total


def balanced(n: int) -> Expr:
    """A tree of sums."""
    parts = [D2 * (k / n) for k in range(n)]
    while len(parts) > 1:
        pairs = [a + b for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = [*pairs, *parts[2 * len(pairs) :]]
    return parts[0]


def doubled(n: int) -> Expr:
    """z = (z + z) / 2: 2^n paths, n nodes."""
    z = D2
    for _ in range(n):
        z = (z + z) / 2.0000001
    return z


def choices(n: int) -> Expr:
    """Choices within choices."""
    z = D2
    for k in range(n):
        z = call("where", k / n > D2, D2 * (k / n), z * 0.999)
    return z


def truths(n: int) -> Expr:
    """A truth value of n comparisons, some of rows only."""
    row = call("sum", X)
    z = row < 0.5
    for k in range(n):
        z = (z | (row < k / n)) & ~(-k / n > D2)
    return call("where", z, D2, 1.0)


def integers(n: int) -> Expr:
    """A row number that is moved to and fro."""
    k = index("i")
    for step in range(n):
        k = call("where", k < step, k + 1, k - index("i"))
    return call("to_real", k) + D2


def joined(n: int) -> Expr:
    """A vector of n numbers, joined one after the other, of which one component is taken at the end."""
    z = D2
    for k in range(1, n):
        z = call("concat", z, D2 * (k / n))
    return call("sum", z)


def moved(n: int) -> Expr:
    """Components moved to and fro, in a vector too long to be written out."""
    z = call("tile", X - Y, times=13)
    for _ in range(n):
        z = call("pad", call("extract", z * 0.5, start=1, size=38), start=0, size=39) + 0.25
    return call("sum", z)


SHAPES: dict[str, Callable[[int], Expr]] = {
    f.__name__: f
    for f in (
        chain,
        of_vectors,
        wide_sum,
        from_the_right,
        balanced,
        doubled,
        choices,
        truths,
        integers,
        joined,
        moved,
    )
}


@contextmanager
def shallow(frames: int = 150) -> Iterator[None]:
    """Only so many frames more than now."""
    depth, frame = 0, sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(depth + frames)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
