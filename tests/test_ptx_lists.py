"""The K nearest on the PTX machine: how the threads of a program share the columns, and what a pair then takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance import Case, check, draw_case, problem
from ptx.driver import MachineDriver
from ptx.use import as_device, compiled_in, needs_compiler
from test_reductions_backends import seeded

from pairfuse.backends.triton import launch
from pairfuse.backends.triton.tile import Tile
from pairfuse.ir.expr import call, input_
from pairfuse.lower.kernel import Kernel
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.runtime import device

pytestmark = needs_compiler


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MachineDriver]:
    compiled_in(str(tmp_path), monkeypatch)
    with as_device(monkeypatch, 80) as driver:
        yield driver


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How columns are shared, for every tile that is chosen."""
    seen: list[str] = []
    real = device.with_columns

    def told(tile: Tile, kernel: Kernel, tensors: Any) -> Tile:
        found = real(tile, kernel, tensors)
        seen.append(found.columns)
        return found

    monkeypatch.setattr(device, "with_columns", told)
    return seen


def nearest(d: int, over: str = "j") -> Problem:
    return problem("Kmin_argKmin", call("sqdist", input_(0, "i", d), input_(1, "j", d)), over=over, K=5)


SHARED = [(3, "none", "apart"), (1, "none", "adjacent"), (1, "mixed", "apart")]


@pytest.mark.parametrize(("d", "batch", "expected"), SHARED)
def test_small_problems(d: int, batch: str, expected: str, shared: list[str]) -> None:
    """Points as they are stored: vectors one after the other, numbers side by side, or numbers of several batches."""
    m, n = (37, 1100) if batch == "none" else (5, 300)
    check(draw_case(seeded(d, batch), nearest(d), m, n, batch, layouts=["plain"]), "triton")
    assert shared == [expected]


@pytest.mark.parametrize("over", "ij")
def test_points_of_large_problems_are_stored_by_component(
    over: str, shared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of columns is no multiple of 16, that of the lines of the copy is."""
    monkeypatch.setattr(launch, "TRANSPOSED_PAIRS", 1)
    m, n = (37, 1101) if over == "j" else (1101, 37)
    check(draw_case(seeded(over), nearest(3, over), m, n, layouts=["plain"]), "triton")
    assert shared == ["adjacent"]


@pytest.mark.usefixtures("shared")
def test_what_a_pair_takes(gpu: MachineDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns far away, of which only the first tile holds the nearest: 8 floating-point instructions, few others."""
    monkeypatch.setattr(launch, "TRANSPOSED_PAIRS", 1)
    rng = seeded("count")
    x, y = (rng.random((n, 3)).astype(np.float32) for n in (16, 1024))
    y[128:] += 10
    check(Case(nearest(3), (x, y), Sizes(16, 1024)), "triton")
    counts = []
    for columns in (1024, 2048):
        far = np.concatenate([y, y[128:256].repeat(8, 0)])[:columns]
        gpu.launches.clear()
        check(Case(nearest(3), (x, far), Sizes(16, columns)), "triton")
        counts.append(gpu.launches[-1].executed)
    pairs = 16 * 1024
    taken = {name: (counts[1][name] - counts[0][name]) / pairs for name in counts[1]}
    arithmetic = sum(
        n for name, n in taken.items() if name.endswith(".f32") and name.split(".")[0] in ("sub", "mul", "fma")
    )
    assert 5.9 < arithmetic < 6.1
    assert taken["min.f32"] <= 0.8
    assert sum(n for name, n in taken.items() if name.startswith("ld.global")) <= 0.2
    assert sum(taken.values()) <= 12
