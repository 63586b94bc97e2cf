"""Contractions are found where they are, with what belongs to them, and nowhere else; and they keep the values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pairfuse.ir.expr import Expr, call, evaluate, index, input_
from pairfuse.lower.contract import Contraction, contract, contractions, recognise
from pairfuse.lower.kernel import lower
from pairfuse.lower.problem import Problem
from pairfuse.lower.scalar import Scalarizer
from pairfuse.transform.expand import expand
from pairfuse.transform.simplify import simplify

D = 17
X, Y, Z = input_(0, "i", D), input_(1, "j", D), input_(2, "j", D)
S, T, P, W = input_(3, "p", 1), input_(4, "i", 1), input_(5, "p", D), input_(6, "j", 1)
VALUES = {v: np.random.default_rng(v.param("slot")).uniform(0.5, 2.0, (5, v.dim)) for v in (X, Y, Z, S, T, P, W)} | {
    index("i"): np.arange(5)[:, None]
}


def total(x: Expr) -> Expr:
    return call("sum_d", x, group=x.dim)


def normal(formula: Expr) -> Expr:
    return simplify(expand([formula]))[0]


FOUND: dict[str, tuple[Expr, str, Expr, Expr]] = {
    "dot": (call("dot", X, Y), "dot", X, Y),
    "dot, the other way round": (call("dot", Y, X), "dot", X, Y),
    "dot of functions": (call("dot", call("exp", X), call("sin", Y)), "dot", call("exp", X), call("sin", Y)),
    "dot with a constant": (call("dot", X * 0.3, Y), "dot", X, Y),
    "dot with a parameter": (total(X * Y / S), "dot", X, Y),
    "dot with a number of the pair": (total((X * (T - W)) * Y), "dot", X, Y),
    "dot with numbers of the axes": (total((X * T) * (Y * W)), "dot", X * T, Y * W),
    "weighted dot": (total(X * Y * P), "dot", X * P, Y),
    "negative dot": (-total((-X) * Y * 2.0), "dot", X, Y),
    "product of three": (total(X * Y * Z), "dot", X, Y * Z),
    "sqdist": (call("sqdist", X, Y), "sqdist", X, Y),
    "sqdist, the other way round": (total((Y - X) * (Y - X)), "sqdist", X, Y),
    "scaled before": (call("sqdist", X / S, Y / S), "sqdist", X / S, Y / S),
    "scaled after": (total(((X - Y) / S) * ((X - Y) / S)), "sqdist", X, Y),
    "scaled by a number of the pair": (total((X - Y) * (X - Y) * (T - W)), "sqdist", X, Y),
    "negative": (-call("sqdist", X, Y), "sqdist", X, Y),
    "sum instead of difference": (call("sqnorm2", X + Y), "sqdist", X, -Y),
}
LEFT: dict[str, Expr] = {
    "of one axis": call("dot", X, X + 1.0) + call("sqnorm2", Y),
    "a third power": total((X - Y) * (X - Y) * (X - Y)),
    "different differences": total((X - Y) * (X - Z)),
    "weighted distance": total(P * (X - Y) * (X - Y)),
    "three terms": call("sqnorm2", X - Y - P),
    "L1": call("norm1", X - Y),
    "divided by a vector": total(X * Y / P),
    "groups": call("sum_d", call("concat", X * Y, X * Z), group=D),
    "a number times a vector": total(T * Y),
}


@pytest.mark.parametrize("name", FOUND)
def test_found(name: str) -> None:
    formula, form, row, column = FOUND[name]
    (after,) = contract([normal(formula)], "i", "j")
    (node,) = contractions(after)
    assert (node.param("form"), node.args[0], node.args[1]) == (form, normal(row), normal(column))
    np.testing.assert_allclose(evaluate([after], VALUES)[0], evaluate(expand([formula]), VALUES)[0], rtol=1e-12)


@pytest.mark.parametrize("name", LEFT)
def test_left_alone(name: str) -> None:
    formula = normal(LEFT[name])
    assert contract([formula], "i", "j") == (formula,)


def test_axes_are_those_of_the_problem() -> None:
    (node,) = contractions(*contract([normal(call("sqdist", X, Y))], "j", "i"))
    assert node.args == (Y, X)


def test_short_vectors_are_left() -> None:
    formula = normal(call("sqdist", X, Y))
    assert contractions(*contract([formula], "i", "j", shortest=D))
    assert contract([formula], "i", "j", shortest=D + 1) == (formula,)


def test_what_is_taken_out() -> None:
    found = recognise(normal(total(X * Y * 3.0 / S)), "i", "j")
    assert isinstance(found, Contraction)
    assert (found.row, found.column, found.divisor, found.negative) == (X, Y, S, False)
    assert found.factor is not None
    assert found.factor.is_const(3.0)


def test_inside_of_formulas_and_shared() -> None:
    f = call("sin", -call("sqdist", X, Y)) * call("sqdist", X, Y) + call("dot", X, Z)
    assert len(contractions(*contract([normal(f)], "i", "j"))) == 2


@pytest.mark.parametrize("make", [lambda: call("dot", X, Y), lambda: call("sqdist", X, Y)])
def test_components_are_the_plain_loop(make: Callable[[], Expr]) -> None:
    """A backend without matrix units computes the same terms as without contraction, to the bit."""
    plain = normal(make())
    (after,) = contract([plain], "i", "j")
    assert Scalarizer().at(after, 0) is Scalarizer().at(plain, 0)


def test_stages_hand_the_vectors_on() -> None:
    p = Problem((call("exp", -call("sqdist", X / S, Y / S)),), "sum", "j")
    kernel = lower(p, contract(simplify(expand(p.formulas)), "i", "j"))
    (node,) = contractions(*kernel.terms)
    assert [n.name for n in node.args] == ["field", "field"]
    assert (kernel.definition(node.args[0]).name, kernel.definition(X)) == ("div", X)
    assert "contraction(" in str(kernel)
