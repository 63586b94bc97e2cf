"""Derivatives: every row against finite differences, reverse against forward mode, infinite branches, higher orders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from formulas import LEAVES, ROWS, Sample, agree, formulas, large_formulas, samples, value
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfuse.errors import ShapeError, UnsupportedError
from pairfuse.ir.expr import Expr, call, const, index, input_, toposort
from pairfuse.ir.reductions import fold_columns
from pairfuse.ir.text import to_text
from pairfuse.transform.autodiff import jvp, vjp, zeros
from pairfuse.transform.expand import expand
from pairfuse.transform.simplify import simplify

NOT_ON_NUMBERS = {"to_real", "to_index"}  # their arguments are indices and truth values
REAL = [s for s in samples() if s.out.kind == "real" and s.op.name not in NOT_ON_NUMBERS]
CONSTANT_BY_DEFINITION = {"stop_gradient"}


def difference(root: Expr, values: dict[Expr, Any], direction: dict[Expr, Any], step: float = 1e-6) -> Any:
    """The derivative along a direction by central differences."""
    ahead = value(root, values | {k: values[k] + step * d for k, d in direction.items()})
    behind = value(root, values | {k: values[k] - step * d for k, d in direction.items()})
    return (ahead - behind) / (2 * step)


def dot(a: Any, b: Any) -> Any:
    return (a * b).sum(-1)


def both_modes(root: Expr, wrt: Sequence[Expr], values: dict[Expr, Any], seed: int = 1) -> tuple[Any, Any, Any]:
    """<g, J t> by reverse mode, by forward mode, by differences, for random g and t."""
    rng = np.random.default_rng(seed)
    g = input_(90, "i", root.dim)
    tangents = [input_(91 + k, "i", v.dim) for k, v in enumerate(wrt)]
    data = {n: rng.normal(size=(ROWS, n.dim)) for n in (g, *tangents)}
    grads = vjp([root], [g], wrt)
    assert [n.dim for n in grads] == [v.dim for v in wrt]
    assert all(n.kind == "real" for n in grads)
    (tangent,) = jvp([root], wrt, tangents)
    assert tangent.dim == root.dim
    reverse = sum(dot(value(d, values | data), data[t]) for d, t in zip(grads, tangents, strict=True))
    forward = dot(data[g], value(tangent, values | data))
    direction = {v: data[t] for v, t in zip(wrt, tangents, strict=True)}
    return reverse, forward, dot(data[g], difference(root, values, direction))


@pytest.mark.parametrize("sample", REAL, ids=str)
def test_derivative_agrees_with_differences(sample: Sample) -> None:
    reverse, forward, differences = both_modes(sample.out, sample.args, sample.values)
    agree(reverse, forward, rtol=1e-10)
    if sample.op.name in CONSTANT_BY_DEFINITION:
        assert not np.any(reverse)
    else:
        agree(reverse, differences, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sample", REAL, ids=str)
def test_derivative_of_the_definition_is_the_same(sample: Sample) -> None:
    """Rows that know their own derivative, and derivatives that pass through `simplify`."""
    g = input_(90, "i", sample.out.dim)
    values = sample.values | {g: np.linspace(-1, 1, ROWS * g.dim).reshape(ROWS, g.dim)}
    direct = vjp([sample.out], [g], sample.args)
    by_definition = vjp(expand([sample.out]), [g], sample.args)
    simplified = simplify(expand(direct))
    for a, b, c in zip(direct, by_definition, simplified, strict=True):
        agree(value(a, values), value(b, values), rtol=1e-9, atol=1e-10)
        agree(value(a, values), value(c, values), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    "sample", [s for s in REAL if s.op.name not in CONSTANT_BY_DEFINITION and max(a.dim for a in s.args) <= 4], ids=str
)
def test_second_derivative(sample: Sample) -> None:
    """The derivative of <1, dF/dx0> once more."""
    first = vjp([sample.out], [1.0], sample.args)[0]
    reverse, forward, differences = both_modes(first, sample.args, sample.values)
    agree(reverse, forward, rtol=1e-9)
    agree(reverse, differences, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------- the form of the result

X, Y, S, T = input_(0, "i", 3), input_(1, "j", 3), input_(2, "i", 1), input_(3, "j", 1)
GAUSS = call("exp", -call("sqdist", X, Y))


def test_derivative_of_a_gaussian_is_what_one_would_write() -> None:
    (root,) = simplify(expand(vjp([GAUSS], [T], [X])))
    assert to_text(root) == "t0 = x0_i[3] - x1_j[3]\nx3_j[1] * exp(-sum_d(t0 * t0, group=3)) * -2.0 * t0"


def test_derivatives_share_their_parts() -> None:
    both = simplify(expand(vjp([GAUSS], [1.0], [X, Y])))
    assert len(toposort(*both)) <= len(toposort(both[0])) + 3


def test_broadcast_arguments_are_summed() -> None:
    (by_s, by_x) = vjp([S * X], [Y], [S, X])
    assert (by_s.dim, by_x.dim) == (1, 3)
    assert to_text(by_s) == "sum_d(x1_j[3] * x0_i[3], group=3)"


def test_a_cotangent_of_length_one_counts_for_all_components() -> None:
    (g,) = vjp([call("square", X)], [1.0], [X])
    values = {X: np.array([[1.0, 2.0, 3.0]])}
    agree(value(g, values), [[2.0, 4.0, 6.0]])
    with pytest.raises(ShapeError, match="length 2, the formula 3"):
        vjp([X], [input_(5, "i", 2)], [X])


def test_what_does_not_occur_has_derivative_zero() -> None:
    assert vjp([GAUSS], [1.0], [S, input_(9, "p", 2)]) == (zeros(1), zeros(2))
    assert jvp([GAUSS, S], [T], [1.0]) == (zeros(1), zeros(1))
    assert vjp([call("to_real", X < Y)], [1.0], [X]) == (zeros(3),)
    assert vjp([call("exp", index("i"))], [1.0], [X]) == (zeros(3),)


def test_several_outputs_add_up() -> None:
    (g,) = vjp([X * 2, call("sum", X)], [Y, T], [X])
    values = {X: np.ones((1, 3)), Y: np.array([[1.0, 2.0, 3.0]]), T: np.array([[10.0]])}
    agree(value(g, values), [[12.0, 14.0, 16.0]])


def test_with_respect_to_an_inner_expression() -> None:
    distance = call("sqdist", X, Y)
    (by_distance, by_x) = vjp([call("exp", -distance) * S], [1.0], [distance, X])
    assert by_x == zeros(3)  # the distance is taken for independent
    values = {X: np.ones((1, 3)), Y: np.zeros((1, 3)), S: np.array([[2.0]])}
    agree(value(by_distance, values), [[-2 * math.exp(-3)]])


def test_an_output_that_is_the_variable() -> None:
    assert vjp([X, X], [Y, Y], [X]) == (Y * 2.0,)
    assert jvp([X], [X], [Y]) == (Y,)


def test_powers_and_quotients_stay_small() -> None:
    assert to_text(*vjp([call("powi", S, n=3)], [1.0], [S])) == "powi(x2_i[1], n=2) * 3.0"
    assert to_text(*vjp([call("log", S)], [T], [S])) == "x3_j[1] / x2_i[1]"
    assert to_text(*vjp([S * S], [T], [S])) == "x3_j[1] * 2.0 * x2_i[1]"


def test_operations_without_derivative_say_so() -> None:
    with pytest.raises(UnsupportedError, match="fold_columns"):
        vjp([fold_columns("sum", X)], [1.0], [X])


# ---------------------------------------------------------------------- branches that are not taken

POSITIVE = call("gt", S, 0.0)


@pytest.mark.parametrize(
    "root",
    [
        call("where", POSITIVE, call("log", S), 0.0),
        call("where", POSITIVE, call("log", S), S),
        call("where", call("le", S, 0.0), S * 2.0, 1 / S),
        call("where", POSITIVE, 1 / S, 0.0) + call("where", S > 1.0, 1 / S, 0.0),
        call("where", POSITIVE, S * call("log", S) + 1 / S, 0.0) * 3.0,
        call("sum", call("where", POSITIVE, X * call("log", S), X)),
        call("where", POSITIVE, call("sum", call("log", X * S)), 0.0),
        call("where", POSITIVE, call("where", S > 2.0, 1 / S, call("log", S)), 0.0),
        call("where", POSITIVE, call("xlogx", S), 0.0),
        call("logaddexp", call("where", POSITIVE, call("log", S), 0.0), S),
    ],
    ids=lambda root: to_text(root, separator="; "),
)
def test_infinite_branches_leave_no_trace(root: Expr) -> None:
    values = {S: np.array([[0.0], [-1.0], [0.5], [3.0]]), X: np.full((4, 3), 2.0)}
    (g,) = vjp([root], [1.0], [S])
    (t,) = jvp([root], [S], [1.0])
    (second,) = vjp([g], [1.0], [S])
    assert np.isfinite(value(g, values)).all()
    assert np.isfinite(value(second, values)).all()
    if root.dim == 1:
        agree(value(g, values), value(t, values))
    regular = {k: v[2:] for k, v in values.items()}
    agree(value(g, regular), difference(root, regular, {S: np.ones((2, 1))}), rtol=1e-6)


def test_choices_join_their_branches() -> None:
    """where(c, x, y) of the same variable: one choice, not two masks."""
    root = call("where", POSITIVE, S * 2.0, S * 3.0)
    assert to_text(*vjp([root], [T], [S])) == "where(x2_i[1] > 0.0, x3_j[1] * 2.0, x3_j[1] * 3.0)"


# ---------------------------------------------------------------------- random compositions

SMOOTH = (
    *("add", "sub", "mul", "sin", "cos", "tanh", "atan", "sigmoid", "square", "softplus", "where", "normalize"),
    *("sqdist", "dot", "matvecmult", "tensorprod", "concat", "extract", "sum_d", "repeat", "tile", "transpose"),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_random_formulas(data: st.DataObject) -> None:
    root = data.draw(formulas(SMOOTH) | large_formulas(SMOOTH, size=12))
    if root.kind != "real" or root.dim > 60:
        return
    rng = np.random.default_rng(2)
    values = {n: rng.uniform(0.3, 1.5, size=(ROWS, n.dim)) for n in LEAVES if n.name == "input"}
    values |= {n: rng.integers(0, 4, size=(ROWS, 1)) for n in LEAVES if n.name == "index"}
    wrt = [n for n in LEAVES if n.name == "input"]
    reverse, forward, _ = both_modes(root, wrt, values)
    scale = 1 + float(np.max(np.abs(forward)))
    agree(reverse / scale, forward / scale, rtol=1e-9, atol=1e-9)


def test_deep_formulas_do_not_recurse() -> None:
    root: Expr = S
    for _ in range(3000):
        root = call("sin", root) + T
    (g,) = simplify(expand(vjp([root], [1.0], [S])))
    assert g.dim == 1


def test_constants_have_no_slope() -> None:
    assert vjp([const(3.0)], [1.0], [S]) == (zeros(1),)
