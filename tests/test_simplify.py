"""Simplification: every rule does what its algebra says, values stay what they are, and it comes to an end."""

from __future__ import annotations

import math

import numpy as np
import pytest
from formulas import EXACT_NAMES, Sample, agree, exact_values, formulas, large_formulas, samples, value
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pairfuse.ir.expr import Expr, call, const, evaluate, index, input_, toposort
from pairfuse.ir.text import parse, to_text
from pairfuse.transform.expand import expand
from pairfuse.transform.rewrite import MAX_PASSES, Rule, rewrite, unary
from pairfuse.transform.simplify import EXACT, FAST, simplify

X, Y, Z = (input_(k, "i", 3) for k in range(3))
S, T = input_(3, "i", 1), input_(4, "i", 1)
K, L = index("i"), index("j")
C, D = input_(5, "i", 3) > 0.0, input_(6, "i", 1) > 0.0
NAMES = {"x": X, "y": Y, "z": Z, "s": S, "t": T, "c": C, "d": D, "k": K, "l": L}
POSITIVE = {n: np.random.default_rng(n.param("slot")).uniform(0.5, 2.0, (5, n.dim)) for n in (X, Y, Z, S, T)}
VALUES = POSITIVE | {
    K: np.arange(5)[:, None],
    L: np.arange(5)[::-1, None],
    C.args[0]: np.array([[1.0, -1.0, 1.0]] * 5),
    D.args[0]: np.array([[1.0], [-1.0], [1.0], [-1.0], [1.0]]),
}


def sides(rule: Rule) -> tuple[Expr, Expr]:
    before, _, after = rule.algebra.partition("->")
    return parse(before, NAMES), parse(after, NAMES)


# ---------------------------------------------------------------------- the rules, one by one


@pytest.mark.parametrize("rule", EXACT + FAST, ids=lambda rule: rule.algebra)
def test_rule_does_what_its_algebra_says(rule: Rule) -> None:
    before, after = sides(rule)
    fired: list[str] = []
    (result,) = rewrite([before], EXACT + FAST, lambda algebra, old, new: fired.append(algebra))
    assert rule.algebra in fired, f"rules that were applied: {fired}"
    assert result is rewrite([after], EXACT + FAST)[0]
    assert (result.dim, result.kind) == (before.dim, before.kind)


@pytest.mark.parametrize("rule", EXACT + FAST, ids=lambda rule: rule.algebra)
def test_rule_keeps_the_value(rule: Rule) -> None:
    before, after = sides(rule)
    (alone,) = rewrite([before], [rule])
    assert alone is not before
    exact = rule in EXACT
    for other in (after, alone):
        agree(value(other, VALUES), value(before, VALUES), rtol=0 if exact else 1e-14, atol=0 if exact else 1e-14)


@pytest.mark.parametrize("rule", EXACT, ids=lambda rule: rule.algebra)
def test_exact_rules_keep_infinities_and_nan(rule: Rule) -> None:
    before, after = sides(rule)
    special = np.array([[0.0, math.inf, math.nan], [-math.inf, 1.0, -0.0], [math.nan, -math.inf, 5e-300]])
    values = {**VALUES, **{n: special if n.dim == 3 else special[:, :1] for n in POSITIVE}}
    values = {n: v[:3] for n, v in values.items()}
    agree(value(after, values), value(before, values), rtol=0, atol=0)


def test_rules_have_different_names() -> None:
    names = [rule.algebra for rule in EXACT + FAST]
    assert len(set(names)) == len(names)


# ---------------------------------------------------------------------- more cases of rules with several


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("0.0 + x", "x"),
        ("-(-x * -y)", "-(x * y)"),
        ("-(x * 2.0)", "x * -2.0"),
        ("-(2.0 / x)", "-2.0 / x"),
        ("-(x * s)", "x * -s"),
        ("x * -s", "x * -s"),
        ("s * -x", "-s * x"),
        ("x / -y", "-(x / y)"),
        ("x * 0.1 * 0.3", "x * 0.1 * 0.3"),
        ("x * 4.0 * 0.3", "x * 1.2"),
        ("x * 1048576.0 * 0.3", "x * 1048576.0 * 0.3"),
        ("x / 3.0", "x / 3.0"),
        ("sqrt(2.0) * x", f"x * {math.sqrt(2)!r}"),
        ("log(-1.0) + x", "x + nan"),
        ("where(1.0 < 2.0, x, s)", "x"),
        ("where(2.0 < 1.0, x, s)", "repeat(s, 3)"),
        ("where(c, x, where(c, y, z))", "where(c, x, z)"),
        ("where(to_real(c) != 0.0, x, y)", "where(c, x, y)"),
        ("where(to_real(c) == 0.0, x, y)", "where(c, y, x)"),
        ("~(k < l)", "k >= l"),
        ("~(x < y)", "~(x < y)"),
        ("True & d", "d"),
        ("extract(concat(x, y), 1, 2)", "extract(x, 1, 2)"),
        ("extract(concat(x, y), 2, 2)", "extract(concat(x, y), 2, 2)"),
        ("extract(pad(x, 2, 6), 0, 2)", "repeat(0.0, 2)"),
        ("extract(pad(x, 2, 6), 3, 2)", "extract(x, 1, 2)"),
        ("extract(pad(x, 2, 6), 1, 2)", "extract(pad(x, 2, 6), 1, 2)"),
        ("extract(x, 0, 3)", "x"),
        ("pad(x, 0, 3)", "x"),
        ("pad(repeat(0.0, 2), 1, 4)", "repeat(0.0, 4)"),
        ("concat(extract(x, 0, 1), extract(x, 2, 1))", "concat(extract(x, 0, 1), extract(x, 2, 1))"),
        ("repeat(x, 1)", "x"),
        ("tile(s, 4)", "repeat(s, 4)"),
        ("transpose(x, (1, 3), (1, 0))", "x"),
        ("transpose(concat(x, y), (2, 3, 1), (1, 0, 2))", "transpose(concat(x, y), (2, 3), (1, 0))"),
        ("transpose(tile(x, 4), (2, 2, 3), (2, 0, 1))", "transpose(tile(x, 4), (4, 3), (1, 0))"),
        ("transpose(transpose(tile(x, 4), (2, 2, 3), (1, 0, 2)), (2, 2, 3), (1, 0, 2))", "tile(x, 4)"),
        ("transpose(transpose(tile(x, 8), (2, 3, 4), (1, 2, 0)), (3, 4, 2), (0, 2, 1))",)
        + ("transpose(tile(x, 8), (2, 3, 4), (1, 0, 2))",),
        ("transpose(transpose(tile(x, 8), (2, 3, 4), (1, 2, 0)), (3, 4, 2), (1, 2, 0))",)
        + ("transpose(tile(x, 8), (6, 4), (1, 0))",),
        ("sum_d(x, 1)", "x"),
        ("sum_d(repeat(x, 4), 2)", "repeat(x * 2.0, 2)"),
        ("sum_d(repeat(x, 2), 6)", "sum_d(x, 3) * 2.0"),
        ("min_d(s)", "s"),
        ("repeat(s, 3) + repeat(t, 3)", "repeat(s + t, 3)"),
        ("exp(repeat(s, 3))", "repeat(exp(s), 3)"),
        ("(k + 0) * 1", "k"),
        ("to_real(k - k) + x", "x"),
        ("x * exp(0.0)", "x"),
    ],
)
def test_exact_simplification(before: str, after: str) -> None:
    root, expected = parse(before, NAMES), parse(after, NAMES)
    (result,) = simplify([root])
    assert result is expected, to_text(result)
    agree(value(result, VALUES), value(root, VALUES), rtol=1e-15, atol=0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("exp(-x) * exp(-y) * 2.0", "exp(-x - y) * 2.0"),
        ("x / 3.0 * 6.0", "x * 2.0"),
        ("x * 2.0 - x * y", "x * (2.0 - y)"),
        ("sum_d(x / s, 3)", "sum_d(x, 3) / s"),
        ("pow(x, 7.0)", "(x * x * x) * (x * x * x) * x"),
        ("s * 0.0 + x", "x"),
    ],
)
def test_fast_simplification(before: str, after: str) -> None:
    root, expected = parse(before, NAMES), parse(after, NAMES)
    (result,) = simplify([root], fast=True)
    assert result is expected, to_text(result)
    agree(value(result, VALUES), value(root, VALUES), rtol=1e-14)
    assert simplify([root])[0] is not result


def test_kinds_do_not_change() -> None:
    """Index constants that meet stay indices."""
    root = (K - K) + const(1, "index")
    (result,) = simplify([root])
    assert result is const(1, "index")
    (result,) = simplify([call("where", C, K - K, K - K + 1) * 2])
    assert result.kind == "index"


# ---------------------------------------------------------------------- all together


@settings(max_examples=150, deadline=None, derandomize=True)
@given(formulas(EXACT_NAMES) | large_formulas(EXACT_NAMES), st.integers(0, 3), st.booleans())
def test_random_formulas_keep_their_value(root: Expr, seed: int, fast: bool) -> None:
    values = exact_values(root, seed)
    (primitive,) = expand([root])
    nodes = toposort(primitive)
    assume(sum(n.dim for n in nodes) < 20_000)
    sizes = [np.max(np.abs(np.asarray(v, dtype=float))) for v in evaluate(nodes, values)]
    assume(max(sizes) < 2**20)  # beyond, sums and products of these numbers might be rounded
    (result,) = simplify([primitive], fast=fast)
    assert (result.dim, result.kind) == (root.dim, root.kind)
    agree(value(result, values), value(root, values), rtol=0, atol=0)


@pytest.mark.parametrize("sample", list(samples()), ids=str)
def test_definitions_keep_their_value(sample: Sample) -> None:
    (root,) = expand([sample.out])
    (result,) = simplify([root])
    agree(value(result, sample.values), value(root, sample.values), rtol=1e-13, atol=1e-13)
    (result,) = simplify([root], fast=True)
    agree(value(result, sample.values), value(root, sample.values), rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(formulas() | large_formulas(), st.booleans())
def test_simplification_is_finished(root: Expr, fast: bool) -> None:
    (primitive,) = expand([root])
    assume(len(toposort(primitive)) < 400)
    once = simplify([primitive], fast=fast)
    fired: list[str] = []
    assert simplify(once, fast, lambda algebra, old, new: fired.append(algebra)) == once
    assert fired == []


def test_report_tells_what_happened() -> None:
    seen: list[tuple[str, str, str]] = []
    simplify([X * 1.0 - -Y], report=lambda algebra, old, new: seen.append((algebra, to_text(old), to_text(new))))
    assert seen == [
        ("x * 1.0 -> x", "x0_i[3] * 1.0", "x0_i[3]"),
        ("x - -y -> x + y", "x0_i[3] - -x1_i[3]", "x0_i[3] + x1_i[3]"),
    ]


def test_rules_that_undo_each_other_come_to_an_end() -> None:
    there = unary("sin", "sin(x) -> cos(x)", lambda x: call("cos", x))
    back = unary("cos", "cos(x) -> sin(x)", lambda x: call("sin", x))
    fired: list[str] = []
    rewrite([call("sin", X)], [there, back], lambda algebra, old, new: fired.append(algebra))
    assert 0 < len(fired) <= MAX_PASSES**2


def test_several_roots_keep_their_order_and_share() -> None:
    a, b = simplify([X + Y * 1.0, X + Y])
    assert a is b
    assert simplify([]) == ()


def test_a_large_formula_is_quick() -> None:
    root: Expr = X
    for _ in range(2000):
        root = call("sin", root * 1.0) + 0.0
    (result,) = simplify([root])
    assert len(toposort(result)) == 2001
