"""Deep formulas in Triton's interpreter: the values are right. That nothing recurses: test_deep_formulas.py."""

from __future__ import annotations

import pytest
from deep_formulas import SHAPES
from interpreted import MARKS, need_interpreter
from test_deep_formulas import check, gradients

from pairfuse.ir.expr import call

pytestmark = MARKS
FRAMES = 2000  # of the interpreter, and of importing it


@pytest.fixture(autouse=True)
def _interpreted() -> None:
    need_interpreter()


@pytest.mark.parametrize("shape", SHAPES)
def test_results(shape: str) -> None:
    root = SHAPES[shape](20)
    check(root, "triton", FRAMES)
    check(call("sum", gradients(root)[0]), "triton", FRAMES)
