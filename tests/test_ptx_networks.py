"""Networks of vectors, compiled for a GPU: kept vectors in global memory, which threads of a program share.

Nothing grows with the number of units but the loops, so that networks of a few units show all of the code.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conformance import check, draw_case, problem
from interpreted import now
from ptx.driver import MachineDriver
from ptx.use import as_device, compiled_in, needs_compiler
from random_networks import network, network_of_all_stages

from pairfuse.backends.triton.offline import trace
from pairfuse.backends.triton.tile import choose
from pairfuse.ir.expr import const, input_
from pairfuse.lower.problem import Sizes
from pairfuse.runtime import device
from pairfuse.transform.autodiff import vjp

pytestmark = needs_compiler


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MachineDriver]:
    """The machine, as a GPU of capability 8.0."""
    compiled_in(str(tmp_path), monkeypatch)
    with as_device(monkeypatch, 80) as driver:
        yield driver


def test_a_network_of_pairs() -> None:
    check(draw_case(np.random.default_rng(0), problem("sum", network(2, 9)), 6, 40, layouts=("plain",)), "triton")


@pytest.mark.slow
@pytest.mark.parametrize("over", ["i", "j"])
def test_networks_of_all_stages(over: str) -> None:
    p = problem("logsumexp", network_of_all_stages(9), over=over)
    check(draw_case(np.random.default_rng(0), p, 6, 40, layouts=("plain",)), "triton")


@pytest.mark.parametrize("units", [16, pytest.param(512, marks=pytest.mark.slow)])
def test_values_and_gradients_are_read_by_the_compiler(units: int) -> None:
    f = network(3, units)
    slopes = [vjp((f,), (const(1.0),), (v,))[0] for v in (input_(0, "i", 3), input_(3, "p", units * units))]
    for form in (f, *slopes):
        kernel = device.program(problem("sum", form), now).kernel
        trace(kernel, choose(kernel, Sizes(10**4, 10**4), 0, 0, 132), 90)
