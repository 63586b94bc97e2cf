"""Gradients of kernels of long vectors on the PTX machine, with the tiles that are chosen for GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conformance import Case, check, draw_case, problem
from ptx.driver import MachineDriver
from ptx.use import as_device, compiled_in, needs_compiler
from test_reductions_backends import seeded

from pairfuse.ir.expr import call, input_
from pairfuse.lower.problem import Problem, Sizes

pytestmark = needs_compiler


def slow(*values: object) -> object:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture(params=[80, 90], autouse=True)
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MachineDriver]:
    compiled_in(str(tmp_path), monkeypatch)
    with as_device(monkeypatch, request.param) as driver:
        yield driver


def gradient(d: int, over: str = "j") -> Problem:
    x, y = input_(0, "i", d), input_(1, "j", d)
    return problem("sum", (y - x) * (input_(2, over, 1) / (1.0 + call("sqdist", x, y))), over=over)


@pytest.mark.parametrize(("d", "over"), [(60, "j"), slow(100, "i"), slow(150, "j")])
def test_gradients(d: int, over: str, gpu: MachineDriver) -> None:
    """Rows and columns that are no multiple of a tile; matrix units take part, and differences for the near points."""
    rng = seeded(d, over)
    m, n = (70, 150) if over == "j" else (150, 70)
    case = draw_case(rng, gradient(d, over), m, n, layouts=["plain"], domains=[(-0.3, 0.3)] * 2 + [(-1.0, 1.0)])
    check(case, "triton")
    assert any(name.startswith(("mma", "wgmma")) for name in gpu.launches[-1].executed)


def test_points_that_are_near_or_equal() -> None:
    rng = seeded("near")
    x, y = (rng.standard_normal((n, 64)).astype(np.float32) for n in (70, 150))
    y[:70] = x
    y[70:140] = x + np.float32(1e-3)
    check(Case(gradient(64), (x, y, rng.random((150, 1), dtype=np.float32)), Sizes(70, 150)), "triton")


@pytest.mark.slow
def test_parts_of_the_columns() -> None:
    case = draw_case(seeded("parts"), gradient(60), 5, 4300, layouts=["plain"], domains=[(-0.3, 0.3)] * 3)
    check(case, "triton")
