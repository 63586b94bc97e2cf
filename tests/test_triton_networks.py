"""Networks of vectors, run by Triton's interpreter: layers are kept in memory by the programs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest
from block_sparse import check_blocks, draw_mask, with_ranges
from conformance import Case, check, draw_case, problem
from hypothesis import given, settings
from interpreted import MARKS, need_interpreter, now, use_tile
from random_networks import network, network_cases, network_of_all_stages

from pairfuse.backends.triton import kept
from pairfuse.backends.triton.emit import emit_kernel
from pairfuse.backends.triton.kept import PROGRAMS, STAGES, kept_fields, programs_at_a_time
from pairfuse.backends.triton.tile import Tile
from pairfuse.ir.expr import Expr, call, input_
from pairfuse.lower.problem import Problem
from pairfuse.runtime import device

pytestmark = MARKS

QUICK = settings(max_examples=6)
LARGE = settings(max_examples=200)
# A step of the interpreter takes the same time for a large block as for a small one.
SIZES = ((3, 5), (5, 18), (1, 20))


@pytest.fixture(scope="module", autouse=True)
def _small_tiles() -> Iterator[None]:
    need_interpreter()
    with pytest.MonkeyPatch.context() as patch:
        use_tile(patch, 4, 16)
        yield


@QUICK
@given(case=network_cases(depth=2, sizes=SIZES))
def test_random_networks(case: Case) -> None:
    check(case, "triton", informative=0.0)


@pytest.mark.slow
@LARGE
@given(case=network_cases(depth=4, sizes=SIZES))
def test_many_random_networks(case: Case) -> None:
    check(case, "triton", informative=0.0)


def kept_stages(p: Problem) -> set[str]:
    kernel = device.program(p, now).kernel
    return {stage for stage in STAGES if kept_fields(kernel, Tile(4, 16), stage)}


@pytest.mark.parametrize("over", [pytest.param("i", marks=pytest.mark.slow), "j"])
def test_every_stage_keeps_vectors(over: str) -> None:
    """Networks of the rows, of the columns and of parameters alone, whose results the pairs read."""
    p = problem("sum", network_of_all_stages(9), over=over)
    assert kept_stages(p) == set(STAGES)
    check(draw_case(np.random.default_rng(0), p, 5, 6, layouts=("plain",)), "triton")


def test_long_fields_made_by_folds_are_kept() -> None:
    x, y = input_(0, "i", 3), input_(1, "j", 3)
    u, v = call("matvecmult", input_(2, "p", 60), x), call("matvecmult", input_(3, "p", 60), y)
    p = problem("sum", call("sum", call("matvecmult", input_(4, "p", 40), u * v)))
    assert kept_stages(p) == {"row", "column"}
    check(draw_case(np.random.default_rng(0), p, 5, 6, layouts=("plain",)), "triton")


def test_parts_of_the_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tile(monkeypatch, 4, 16, split=True)
    case = draw_case(np.random.default_rng(0), problem("logsumexp", network(2, 9)), 2, 20, layouts=("plain",))
    check(case, "triton")


def test_block_sparse() -> None:
    rng = np.random.default_rng(0)
    case = draw_case(rng, problem("sum", network(2, 9)), 6, 20, layouts=("plain",))
    mask = draw_mask(rng, 6, 20, (2, 2), 0.6)
    check_blocks(with_ranges(case, mask), mask, "triton")


def test_programs_share_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program takes several tiles: no more run at a time than there is memory for."""
    p = problem("sum", network(2, 9))
    kernel = device.program(p, now).kernel
    assert programs_at_a_time(kernel, Tile(4, 16), 1) == PROGRAMS
    monkeypatch.setattr(kept, "LIMIT", 0)
    assert programs_at_a_time(kernel, Tile(4, 16), 1) == 1
    check(draw_case(np.random.default_rng(0), p, 9, 5, layouts=("plain",)), "triton")


@pytest.mark.parametrize("depth", [2, 3])
def test_operations_grow_as_those_of_the_network(depth: int) -> None:
    """Twice the units: four times the operations, and text that does not grow."""
    counts = {h: counted(text_of(network(depth, h))) for h in (16, 32, 64)}
    assert counts[32][0] < 4.1 * counts[16][0]
    assert counts[64][0] < 4.1 * counts[32][0]
    assert counts[16][1] >= counts[64][1]  # of 16 components some are written out


def text_of(f: Expr) -> str:
    kernel = device.program(problem("sum", f), now).kernel
    return emit_kernel(kernel, Tile(4, 128))


def counted(text: str) -> tuple[int, int]:
    """Assignments of the kernel, each as often as the loops of known length around it; and lines of its text."""
    total, loops = 0, [(0, 1)]
    lines = text[text.index("def kernel(") :].splitlines()
    for line in lines:
        indent = len(line) - len(line.lstrip())
        while len(loops) > 1 and indent <= loops[-1][0]:
            loops.pop()
        total += loops[-1][1] * (" = " in line)
        if found := re.search(r"in tl\.range\(0, (\d+)", line):
            loops.append((indent, loops[-1][1] * int(found[1])))
    return total, len(lines)
