"""The text form of formulas: what is printed, what is understood, what is refused, and that nothing is lost."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from contextlib import suppress

import pytest
from formulas import formulas, large_formulas, samples
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfuse.errors import FormulaError, PairfuseError, ShapeError
from pairfuse.ir.expr import Expr, call, const, index, input_, leaf, toposort
from pairfuse.ir.ops import TABLE
from pairfuse.ir.text import digest, parse, parse_all, to_text
from pairfuse.transform.autodiff import vjp
from pairfuse.transform.expand import expand

X, Y, S, ROW = input_(0, "i", 3), input_(1, "j", 3), input_(2, "p", 1), index("i")

# ---------------------------------------------------------------------- round trips


def check_round_trip(*roots: Expr) -> None:
    assert parse_all(to_text(*roots)) == roots
    assert parse_all(to_text(*roots, separator="; ")) == roots


@pytest.mark.parametrize("name", TABLE)
def test_every_operation_comes_back(name: str) -> None:
    for sample in samples():
        if sample.op.name == name:
            check_round_trip(sample.out)
            check_round_trip(*expand([sample.out]))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(formulas() | large_formulas(), min_size=1, max_size=3))
def test_random_formulas_come_back(roots: list[Expr]) -> None:
    check_round_trip(*roots)


@pytest.mark.parametrize(
    "value", [0.0, -0.0, 1.0, -2.5, 1e300, 5e-324, 0.1, math.pi, math.inf, -math.inf, math.nan, True, False]
)
def test_constants_come_back(value: float | bool) -> None:
    check_round_trip(const(value))
    check_round_trip(X + value)
    check_round_trip(call("neg", const(value)))


@pytest.mark.parametrize("value", [0, -3, 2**62, -(2**62)])
def test_integers_come_back(value: int) -> None:
    check_round_trip(const(value, "index"))
    check_round_trip(ROW + value)
    assert parse("i + 1").kind == "index"
    assert parse("i + 0.5").kind == "real"


def test_the_state_of_a_reduction_comes_back() -> None:
    check_round_trip(leaf("slot", "real", name="acc", dim=3, side="a") + X)
    check_round_trip(leaf("slot", "index", name="place", dim=1, side="b") + 1)


# ---------------------------------------------------------------------- what is printed


@pytest.mark.parametrize(
    ("root", "text"),
    [
        (call("exp", -call("sqdist", X, Y)), "exp(-sqdist(x0_i[3], x1_j[3]))"),
        ((X + Y) * S - X / S, "(x0_i[3] + x1_j[3]) * x2_p[1] - x0_i[3] / x2_p[1]"),
        (X - (Y - S), "x0_i[3] - (x1_j[3] - x2_p[1])"),
        (X - Y - S, "x0_i[3] - x1_j[3] - x2_p[1]"),
        (-(X + Y) * S, "-(x0_i[3] + x1_j[3]) * x2_p[1]"),
        (-(X * Y), "-(x0_i[3] * x1_j[3])"),
        ((X < Y) & ~(X < S), "logical_and(x0_i[3] < x1_j[3], logical_not(x0_i[3] < x2_p[1]))"),
        (call("elem", X, index=1), "elem(x0_i[3], index=1)"),
        (call("extract", X, start=1, size=2), "extract(x0_i[3], start=1, size=2)"),
        (call("lt", ROW + 1, index("j")), "i + 1 < j"),
        (X * -2.0, "x0_i[3] * -2.0"),
        (call("neg", const(2.0)), "neg(2.0)"),
    ],
)
def test_text(root: Expr, text: str) -> None:
    assert to_text(root) == text
    assert parse(text) is root


def test_shared_parts_are_named() -> None:
    d = X - Y
    assert to_text(call("sum", d * d) + call("sum", d)) == "t0 = x0_i[3] - x1_j[3]\nsum(t0 * t0) + sum(t0)"
    assert to_text(d, d * 2.0) == "t0 = x0_i[3] - x1_j[3]\n[t0, t0 * 2.0]"


def test_text_is_as_long_as_the_formula() -> None:
    root = S
    for _ in range(200):
        root = root * root
    assert len(to_text(root)) < 200 * 20
    check_round_trip(root)
    for _ in range(2000):
        root = call("sin", root + 1.0)
    assert len(to_text(root)) < 100_000
    check_round_trip(root)


def test_repr_of_a_deep_formula_is_short() -> None:
    root = S
    for _ in range(100):
        root = root * root
    assert len(repr(root)) < 10_000


# ---------------------------------------------------------------------- what is understood


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("SqDist(Vi(0,3), Vj(1,3))", "sqdist(x0_i[3], x1_j[3])"),
        ("Vi(0,3) | Var(1,3,1)", "dot(x0_i[3], x1_j[3])"),
        ("Pm(2,1) ** 2", "square(x2_p[1])"),
        ("Pm(2,1) ** -3", "powi(x2_p[1], n=-3)"),
        ("Pm(2,1) ** 0.5", "sqrt(x2_p[1])"),
        ("Pm(2,1) ** -0.5", "rsqrt(x2_p[1])"),
        ("Pm(2,1) ** 1.5", "pow(x2_p[1], 1.5)"),
        ("2 * x0_i[3] / 3", "2.0 * x0_i[3] / 3.0"),
        ("x0_i[3][1]", "elem(x0_i[3], index=1)"),
        ("x0_i[3][1:]", "extract(x0_i[3], start=1, size=2)"),
        ("x0_i[3][:2]", "extract(x0_i[3], start=0, size=2)"),
        ("i % 2", "mod(i, 2, 0)"),
        ("(i < j) | (i == 3)", "logical_or(i < j, i == 3)"),
        ("(i < j) & ~(i == 3) ^ True", "logical_xor(logical_and(i < j, logical_not(i == 3)), True)"),
        ("Elem(x0_i[3], 2)", "elem(x0_i[3], index=2)"),
        ("TensorDot(x0_i[6], x1_j[6], [2,3], [3,2], [1], [0], [])",)
        + ("tensordot(x0_i[6], x1_j[6], dimfa=(2, 3), dimfb=(3, 2), contfa=(1,), contfb=(0,), perm=())",),
        ("d = x0_i[3] - x1_j[3]; d | d", "t = x0_i[3] - x1_j[3]\ndot(t, t)"),
        ("arange(4)", "arange(size=4)"),
    ],
)
def test_other_ways_to_write(text: str, same: str) -> None:
    assert parse(text) is parse(same)


def test_names_from_outside() -> None:
    assert parse("exp(-g * SqDist(x, y))", {"g": S, "x": X, "y": Y}) is call("exp", -S * call("sqdist", X, Y))
    assert parse("i + 1", {"i": S}) is S + 1


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("exp(expp(x0_i[3]))", 4, "there is no operation called 'expp'"),
        ("x0_i[3] + foo", 10, "nothing called 'foo'"),
        ("1.0 + x0_i", 6, "write x0_i[3] for vectors of length 3"),
        ("x0_i[0]", 0, "a length from 1"),
        ("x0_i[3][0.5]", 8, "whole numbers, not 0.5"),
        ("x0_i[3][:i]", 9, "a parameter is a number"),
        ("powi(x0_i[3], 0.5)", 14, "n is like -3, not like 0.5"),
        ("transpose(x0_i[6], 6, (0, 1))", 19, "sizes is like (2, 3), not like 6"),
        ("exp(", 3, "no formula"),
        ("", 0, "empty"),
        ("1.0 < i < 3", 0, "cannot be chained"),
        ("extract(x0_i[3], 1)", 0, "extract takes start, size, not start"),
        ("extract(x0_i[3], 1, 2, 3)", 0, "2 parameters"),
        ("extract(x0_i[3], start=1, size=2, step=3)", 0, "not start, size, step"),
        ("extract(x0_i[3], start=1, size='a')", 31, "size is like 3, not like 'a'"),
        ("extract(x0_i[3], start=i, size=2)", 23, "a parameter is a number"),
        ("exp(x0_i[3], x1_j[3])", 0, "1 arguments and 0 parameters"),
        ("add(x0_i[3])", 0, "takes 2 arguments, not 1"),
        ("input(0, 'i', 3)", 0, "not called"),
        ("Var(0, 3, 5)", 0, "category"),
        ("Vi(0)", 0, "takes a slot and a length"),
        ("__import__('os').system('ls')", 0, "only operations can be called"),
        ("x0_i[3].real", 0, "attribute has no meaning"),
        ("lambda: 1", 0, "lambda has no meaning"),
        ("'text'", 0, "no real number"),
        ("3j", 0, "no real number"),
        ("x0_i[3] @ x1_j[3]", 0, "MatMult"),
        ("+x0_i[3]", 0, "only - and ~"),
        ("i in j", 0, "comparison"),
        ("import os", 0, "last line"),
        ("import os; i", 0, "definition"),
        ("i.x = 3; i", 0, "only names"),
        ("[1.0 for t in i]", 0, "listcomp"),
        ("t = 1.0", 0, "last line"),
        ("x0_i[4][::2]", 0, "no step"),
    ],
)
def test_mistakes_are_pointed_at(text: str, column: int, words: str) -> None:
    with pytest.raises(FormulaError) as error:
        parse(text)
    message = str(error.value)
    assert words in message
    lines = message.splitlines()
    marks = [line for line in lines if line.strip() == "^"]
    assert marks == [" " * (2 + column) + "^"], message


def test_lengths_that_do_not_fit_are_pointed_at() -> None:
    with pytest.raises(ShapeError) as error:
        parse("t = 2.0\nexp(t * (x0_i[3] - x1_j[2]))")
    assert "different lengths, 3 and 2" in str(error.value)
    assert str(error.value).endswith("  exp(t * (x0_i[3] - x1_j[2]))\n           ^")


@pytest.mark.parametrize("text", ["(" * 300 + "i" + ")" * 299, "(" * 300 + "i i" + ")" * 300, "\0", "i\n  j"])
def test_what_python_cannot_read_is_a_mistake_too(text: str) -> None:
    with pytest.raises(FormulaError):
        parse(text)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(alphabet="xyij0123_[]()+-*/|&~<=., expsumVPm\n'", max_size=30))
def test_no_text_does_worse_than_an_error(text: str) -> None:
    with suppress(PairfuseError):
        parse_all(text)


# ---------------------------------------------------------------------- digests


def test_digest_tells_formulas_apart() -> None:
    d = call("sqdist", X, Y)
    different = [
        (d,),
        (d, d),
        (call("sqdist", Y, X),),
        (X * 0.0,),
        (X * -0.0,),
        (ROW + 1,),
        (call("to_real", ROW) + 1,),
    ]
    different += [(call("exp", d),), (X,), (Y,), (input_(0, "i", 2),), (input_(0, "j", 3),), (X - Y,), (X - Y, d)]
    assert len({digest(roots) for roots in different}) == len(different)


def test_digest_is_the_same_everywhere() -> None:
    code = "from pairfuse.ir.text import digest, parse; print(digest([parse('exp(-SqDist(Vi(0,3), Vj(1,3)) * 0.1)')]))"
    here = digest([parse("exp(-SqDist(Vi(0,3), Vj(1,3)) * 0.1)")])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == here


def test_pickled_formulas_come_back() -> None:
    (root,) = vjp([call("exp", -call("sqdist", X, Y))], [S], [X])
    assert pickle.loads(pickle.dumps(root)) is root
    assert pickle.loads(pickle.dumps(const(math.nan))) is const(math.nan)


def test_deep_formulas_have_a_digest() -> None:
    root = S
    for _ in range(5000):
        root = call("sin", root)
    assert len(toposort(root)) == 5001
    assert len(digest([root])) == 64
