"""CONTRIBUTING's promise: an operation is added in one row, and everything else follows from it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from formulas import ROWS, agree, value

from pairfuse.errors import FormulaError
from pairfuse.ir import rows
from pairfuse.ir.expr import OPS, call, const, input_
from pairfuse.ir.ops import TABLE
from pairfuse.ir.text import parse, to_text
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.runtime.execute import execute
from pairfuse.transform.autodiff import jvp, vjp
from pairfuse.transform.expand import expand
from pairfuse.transform.simplify import simplify

X, Y = input_(0, "i", 3), input_(1, "j", 3)
VALUES = {X: np.linspace(-2, 2, 3 * ROWS).reshape(ROWS, 3), Y: np.ones((ROWS, 3))}


@pytest.fixture(autouse=True)
def _table_as_before() -> Iterator[None]:
    before = dict(OPS), dict(TABLE)
    yield
    for table, rows_before in zip((OPS, TABLE), before, strict=True):
        table.clear()
        table.update(rows_before)


def test_a_derived_operation() -> None:
    rows.derived(
        "gelu_of_the_test",
        1,
        expand=lambda x: 0.5 * x * (1 + call("erf", x / 2**0.5)),
        doc="Gaussian error linear unit: x times the normal distribution function.",
        aliases=("GeluOfTheTest",),
    )
    root = call("gelu_of_the_test", X - Y)
    assert parse("GeluOfTheTest(x0_i[3] - x1_j[3])") is root
    assert to_text(root) == "gelu_of_the_test(x0_i[3] - x1_j[3])"

    d = VALUES[X] - 1
    normal = np.vectorize(lambda u: (1 + math.erf(u / math.sqrt(2))) / 2)(d)
    agree(value(root, VALUES), d * normal)
    (slope,) = simplify(expand(vjp([root], [1.0], [X])))
    agree(value(slope, VALUES), normal + d * np.exp(-d * d / 2) / math.sqrt(2 * math.pi))

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 3)), rng.normal(size=(9, 3))
    problem = Problem((root,), "sum", over="j", dtype="float64")
    (compiled,), (reference,) = (execute(problem, [x, y], Sizes(7, 9), backend=b) for b in ("llvm", "reference"))
    agree(compiled, reference)


def test_a_primitive_operation() -> None:
    rows.elementwise(
        "cube_of_the_test",
        1,
        ref=lambda x: x**3,
        partials=lambda out, x: (3 * (x * x),),
        llvm=lambda b, x: b.fmul(x, b.fmul(x, x)),
        triton="({0} * {0} * {0})",
        doc="x times x times x.",
    )
    root = call("cube_of_the_test", X)
    agree(value(root, VALUES), VALUES[X] ** 3)
    (slope,) = vjp([root], [Y], [X])
    (tangent,) = jvp([root], [X], [Y])
    agree(value(slope, VALUES), 3 * VALUES[X] ** 2)
    agree(value(tangent, VALUES), 3 * VALUES[X] ** 2)
    assert simplify([call("cube_of_the_test", const(2.0))]) == (const(8.0),)  # folded by its `ref`

    x = np.linspace(-2, 2, 21).reshape(7, 3)
    (result,) = execute(Problem((root * Y,), "sum", over="j", dtype="float64"), [x, np.ones((9, 3))], Sizes(7, 9))
    agree(result, 9 * x**3)


def test_a_name_is_given_once() -> None:
    with pytest.raises(FormulaError, match="'exp' is already registered"):
        rows.derived("exp", 1, expand=lambda x: x, doc="Something else.")


def test_the_table_was_cleaned_up() -> None:
    assert not [name for name in (*OPS, *TABLE) if name.endswith("of_the_test")]


def test_a_definition_that_goes_round_in_a_circle() -> None:
    rows.derived("ping_of_the_test", 1, expand=lambda x: call("pong_of_the_test", x), doc="A mistake.")
    rows.derived("pong_of_the_test", 1, expand=lambda x: call("ping_of_the_test", x), doc="A mistake.")
    with pytest.raises(FormulaError, match="circle"):
        expand([call("ping_of_the_test", X)])


def test_a_definition_of_another_length() -> None:
    rows.derived("short_of_the_test", 1, expand=lambda x: call("sum", x), doc="A mistake.")
    with pytest.raises(FormulaError, match="has length 1, its row says 3"):
        expand([call("short_of_the_test", X)])
