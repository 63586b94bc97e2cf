"""Derivatives of a choice whose other branch is singular: that branch has no influence, in any mode and order.

The truth is the formula that has the taken branch alone, evaluated by NumPy as the reference backend does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import pairfuse.ir.ops  # noqa: F401  # pyright: ignore[reportUnusedImport]  the table of operations
from pairfuse.ir.expr import Expr, call, const, evaluate, input_
from pairfuse.transform.autodiff import jvp, vjp
from pairfuse.transform.expand import expand
from pairfuse.transform.simplify import simplify

X = input_(0, "i", 1)
SINGULAR: dict[str, Callable[[Expr], Expr]] = {
    "1 / x": lambda x: 1 / x,
    "x ** -2": lambda x: call("powi", x, n=-2),
    "pow": lambda x: call("pow", x, const(-0.75)),
    "pow of itself": lambda x: call("pow", x, x),
    "log": lambda x: call("log", x),
    "log of a quotient": lambda x: call("log", 1 / x),
    "log1p": lambda x: call("log1p", x - 1),
    "sqrt of a quotient": lambda x: call("sqrt", 1 / x),
    "rsqrt of a logarithm": lambda x: call("rsqrt", call("log", x)),
    "asin outside": lambda x: call("asin", x + 2),
    "acos of a quotient": lambda x: call("acos", 1 / x),
    "exp of a quotient": lambda x: call("exp", 1 / x),
    "sin(x) / x": lambda x: call("sin", x) / x,
    "several paths": lambda x: -(1 / x) * (1 / x) - call("log", x) * x,
    "a choice inside": lambda x: call("where", call("gt", x, 0.5), 1 / x, call("log", x)),
    "a choice by a singular value": lambda x: call("where", call("eq", 1 / x, 3.0), 1 / x, 2 / x),
}
OUTER: dict[str, Callable[[Expr], Expr]] = {
    "itself": lambda w: w,
    "w * w - 3 w": lambda w: w * w - w * 3,
    "1 / w": lambda w: 1 / w,
    "of a product": lambda w: call("log", call("where", call("eq", w, 0.0), 1.0, w)),
    "norm": lambda w: call("norm2", call("concat", w, w * 2)),
}


def reverse(f: Expr, x: Expr) -> Expr:
    return vjp([f], [1.0], [x])[0]


def forward(f: Expr, x: Expr) -> Expr:
    return jvp([f], [x], [1.0])[0]


MODES = {"r": reverse, "f": forward}


@pytest.mark.parametrize("outer", OUTER)
@pytest.mark.parametrize("name", SINGULAR)
def test_the_branch_that_is_not_taken(name: str, outer: str) -> None:
    """At 0, where the singular branch is not chosen; the condition is written both ways round."""
    chosen = 3 * X * X + 1 + X
    at_zero = call("eq", X, 0.0)
    right = OUTER[outer](chosen)
    for f in (
        OUTER[outer](call("where", at_zero, chosen, SINGULAR[name](X))),
        OUTER[outer](call("where", ~at_zero, SINGULAR[name](X), chosen)),
    ):
        for chain in ("r", "rr", "fr", "rf"):
            found, truth = f, right
            for mode in chain:
                found, truth = MODES[mode](found, X), MODES[mode](truth, X)
            assert np.allclose(value(found), value(truth), rtol=1e-9, atol=1e-9), chain


def test_vectors_of_choices() -> None:
    """Conditions of every component, through operations that move components, and a scalar that is repeated."""
    v = input_(1, "i", 3)
    moved = (
        call("extract", v, start=1, size=2),
        call("transpose", call("tile", v, times=2), sizes=(2, 3), order=(1, 0)),
        call("concat", v, v),
        call("pad", v, start=1, size=5) + 1.0,
        call("sum_d", v * 1.0, group=3),
    )
    for change in moved:
        inverse = 1 / change if change.dim != 5 else 1 / (change - 1.0)
        mask = call("eq", change if change.dim != 5 else change - 1.0, 0.0)
        f = call("sum", call("where", mask, 1.0, inverse))
        for chain in ("r", "rr", "fr"):
            found = f
            for mode in chain:
                found = call("sum", vjp([found], [1.0], [v])[0]) if mode == "r" else jvp([found], [v], [1.0])[0]
            assert np.isfinite(value(found, v, (0.0, 0.0, 0.0))).all(), (change.name, chain)


@pytest.mark.parametrize("name", SINGULAR)
def test_a_number_in_a_choice_of_vectors(name: str) -> None:
    """Where no component takes it, it has no influence; where some do, that of these."""
    v = input_(1, "i", 2)
    f = call("sum", call("where", call("gt", v, 0.0), SINGULAR[name](X) * v, v * X))
    found, truth = f, call("sum", v * X)
    for _ in range(3):
        found, truth = reverse(found, X), reverse(truth, X)
        for at in ((-1.0, 0.0), (0.0, 0.0)):
            assert np.allclose(value(found, X, (0.0,), {v: np.array(at)}), value(truth, X, (0.0,), {v: np.array(at)}))
    at = {v: np.array((1.0, 2.0))}
    some = {v: np.array((1.0, -2.0))}
    right = reverse(SINGULAR[name](X), X)
    assert np.allclose(value(reverse(f, X), X, (0.9,), at), 3 * value(right, X, (0.9,)), equal_nan=True)
    assert np.allclose(value(reverse(f, X), X, (0.9,), some), value(right, X, (0.9,)) - 2, equal_nan=True)


@pytest.mark.parametrize("seed", range(6))
def test_choices_within_choices(seed: int) -> None:
    """Branches that share parts, each singular somewhere it is not taken; the truth has the taken parts alone."""
    rng = np.random.default_rng(seed)
    parts = [lambda x: call("log", x), lambda x: call("sqrt", x - 1.4), lambda x: 1 / x, lambda x: call("log", x - 2.4)]
    regular = (0.0, 1.4, 0.0, 2.4)  # above these
    g = input_(2, "i", 1)

    def formula(at: float | None) -> Expr:
        random = np.random.default_rng(seed)
        f: Expr = X * X
        for _ in range(4):
            k, factor = int(random.integers(4)), float(random.choice([1.0, 2.0, -0.5]))
            limit = regular[k] + float(random.choice([0.0, 0.15]))
            yes = parts[k](X) * (f if random.random() < 0.7 else X)
            no = f * factor if random.random() < 0.7 else f * X
            f = call("where", call("gt", X, limit), yes, no) if at is None else yes if at > limit else no
        return f * g

    found = formula(None)
    chain = [reverse(found, X)]
    chain += [reverse(chain[-1], X)]
    chain += [reverse(chain[-1], X)]
    for at in (0.0, 0.5, 1.45, 2.0, 3.0, float(rng.uniform(0.1, 3.0))):
        truth = formula(at)
        for f in chain:
            truth = reverse(truth, X)
            assert np.allclose(value(f, X, (at,), {g: np.array([1.0])}), value(truth, X, (at,), {g: np.array([1.0])}))


def value(
    f: Expr, x: Expr = X, at: tuple[float, ...] = (0.0,), others: dict[Expr, np.ndarray] | None = None
) -> np.ndarray:
    with np.errstate(all="ignore"):
        return evaluate(simplify(expand([f])), {x: np.array(at), **(others or {})})[0]
