"""Syntax trees that are read without recursion are those of Python, positions included."""

from __future__ import annotations

import ast
import warnings
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfuse.errors import FormulaError
from pairfuse.ir.parse import parse
from pairfuse.ir.syntax import deep_tree

ATOMS = st.sampled_from(["x", "y_1", "2", "2.5", "1e-3", ".5", "3.", "True", "None", "'a'", "0x1f", "3j", "é", "1_0"])
SIGNS = st.sampled_from(
    ["+", "-", "*", "/", "//", "%", "**", "|", "&", "^", "<", "<=", "==", "!=", ">", ">=", "@", "<<", ">>"]
)


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    two = st.tuples(inner, inner)
    return st.one_of(
        st.tuples(inner, SIGNS, inner).map(" ".join),
        st.tuples(inner, SIGNS, inner).map("".join),
        st.tuples(st.sampled_from("-+~"), inner).map("".join),
        inner.map("({})".format),
        inner.map("( {},)".format),
        two.map(lambda p: f"({p[0]}, {p[1]})"),
        two.map(lambda p: f"[{p[0]},\n {p[1]}]"),
        two.map(lambda p: f"f({p[0]}, k={p[1]},)"),
        two.map(lambda p: f"exp({p[0]}, {p[1]})(){'[1]'}"),
        two.map(lambda p: f"x[{p[0]}:{p[1]}]"),
        inner.map("x[:{}][0]".format),
        inner.map("x[{}:]".format),
    )


EXPRESSIONS = st.recursive(ATOMS, _larger, max_leaves=12)
TEXTS = EXPRESSIONS | st.tuples(EXPRESSIONS, EXPRESSIONS).map("t = {0[0]}; # one\n\n{0[1]}".format)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(TEXTS)
def test_trees_are_those_of_python(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python has an opinion on 1(2)
        expected = ast.dump(ast.parse(text), include_attributes=True)
    assert ast.dump(deep_tree(text), include_attributes=True) == expected


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(alphabet="xyij0123_[]()+-*/|&~<=., expsumVPm\n'", max_size=30))
def test_no_text_does_worse_than_a_syntax_error(text: str) -> None:
    with suppress(SyntaxError):
        deep_tree(text)


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        ("i +", "invalid syntax"),
        ("i i", "invalid syntax"),
        ("(lambda: i)", "lambda has no meaning here"),
        ("foo", "nothing called 'foo'"),
        ("i]", "unmatched ']'"),
        ("(i", "never closed"),
        ("i.real", "invalid syntax"),
        ("i < i < i", "cannot be chained"),
        ("i $ i", "invalid syntax"),
    ],
)
def test_mistakes_in_deep_texts_are_pointed_at(inside: str, words: str) -> None:
    with pytest.raises(FormulaError) as caught:
        parse("(" * 300 + inside + ")" * 300)
    assert words in str(caught.value)
    assert max(map(len, str(caught.value).splitlines())) < 200
    assert str(caught.value).splitlines()[2].endswith("^")
