"""Block-sparse data of the host that passes through a GPU in tiles: only what the rows visit is brought there.

By Triton's interpreter, through the late queues of test_triton_stream.py.
"""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest
from block_sparse import check_outputs, draw_mask, groups, with_ranges
from conformance import Case, draw_case, problem
from interpreted import MARKS, need_interpreter, now
from test_reductions_backends import NAMES, seeded
from test_triton_ranges import small_tiles, term
from test_triton_stream import cut, streamed

from pairfuse.backends.triton.listed import tables
from pairfuse.ir.expr import call, index, input_
from pairfuse.ir.reductions import REDUCTIONS
from pairfuse.lower.problem import Sizes
from pairfuse.lower.ranges import Blocks
from pairfuse.runtime import device, memory
from pairfuse.runtime.chunks import Plan
from pairfuse.runtime.stream_inputs import Table, Visits

pytestmark = MARKS


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    need_interpreter()
    small_tiles(monkeypatch, 4, 8)


def pairs(blocks: Blocks, m: int, n: int) -> np.ndarray:
    """How often each of (m, n) pairs takes part."""
    found = np.zeros((m, n), int)
    for k, (start, stop) in enumerate(blocks.rows):
        for first, last in blocks.columns[blocks.first[k] : blocks.first[k + 1]]:
            found[start:stop, first:last] += 1
    return found


@pytest.mark.parametrize("seed", range(20))
def test_the_part_of_some_rows_and_columns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, n = (int(k) for k in rng.integers(1, 30, 2))
    mask = draw_mask(rng, m, n, (int(rng.integers(1, 6)), int(rng.integers(1, 6))), 0.6)
    a, b, c, d = (int(k) for size in (m, n) for k in np.sort(rng.integers(0, size + 1, 2)))
    part = mask.ranges.over_j.blocks.within((a, b), (c, d))
    right = mask.dense[a:b, c:d]
    assert np.array_equal(pairs(part, *right.shape), right)
    assert (part.row_counts > 0).all()
    assert part.pairs == right.sum()


@pytest.mark.parametrize("seed", range(10))
def test_tables_fit_in_the_room_that_is_made_for_them(seed: int) -> None:
    import torch

    rng = np.random.default_rng(seed)
    m, n, height = 40, 50, int(rng.integers(1, 9))
    visits = Visits(draw_mask(rng, m, n, (9, 7), 0.5).ranges.over_j.blocks)
    p = Plan(((),), ((0, 16), (16, 32), (32, 40)), ((0, 20), (20, 40), (40, 50)))
    steps = list(p.steps(visits.any))
    for k in range(2):
        table = Table(torch, visits, k, height)
        assert max(table.part(s).numel() for s in steps) <= table.room(p.largest)[0]
        first = tables(visits.of(steps[0].rows, steps[0].columns), 16, height)[k]
        assert torch.equal(table.part(steps[0]), torch.from_numpy(first))


def test_columns_that_nobody_visits_are_not_brought() -> None:
    p = Plan(((),), ((0, 2), (2, 4), (4, 5)), ((0, 3), (3, 6), (6, 9)))
    visited = {((0, 2), (3, 6)), ((4, 5), (0, 3)), ((4, 5), (6, 9))}
    steps = list(p.steps(lambda rows, columns: (rows, columns) in visited))
    assert [(s.rows, s.columns, s.first, s.last) for s in steps] == [
        ((0, 2), (3, 6), True, True),
        ((2, 4), (0, 3), True, True),  # its rows have outputs, too
        ((4, 5), (0, 3), True, False),
        ((4, 5), (6, 9), False, True),
    ]


def check_streamed(case: Case, rng: np.random.Generator, rows: int, columns: int, blocks: tuple[int, int]) -> None:
    mask = draw_mask(rng, case.sizes.M, case.sizes.N, blocks, 0.5)
    ranged = with_ranges(case, mask)
    check_outputs(ranged, mask, streamed(ranged, cut(ranged, rows, columns)))


@pytest.mark.parametrize("name", NAMES)
def test_every_reduction(name: str) -> None:
    """One type and one axis each; ranges of rows and columns that cut blocks; batches."""
    k = NAMES.index(name)
    rng = seeded(name, "ranges in tiles")
    over, dtype = "ij"[k // 2 % 2], ("float32", "float64")[k % 2]
    params: dict[str, Any] = {"K": 2} if REDUCTIONS[name].params else {}
    for m, n, blocks, dim, batch in ((23, 50, (5, 6), 1, "none"), (30, 21, (4, 3), 1, "mixed")):
        p = problem(name, *term(name, dim), over=over, dtype=dtype, **params)
        check_streamed(draw_case(rng, p, m, n, batch), rng, 9, 11, blocks)


@pytest.mark.parametrize(("over", "m", "n"), [("j", 25, 60), ("i", 60, 25)])
def test_row_and_column_numbers_are_those_of_the_whole(over: str, m: int, n: int) -> None:
    f = index("i") * 1.5 + index("j") * index("j") * 0.5
    rng = seeded(over)
    mask = draw_mask(rng, m, n, (4, 6), 0.5)
    axis = 1 if over == "j" else 0
    terms = np.where(mask.dense, np.arange(m)[:, None] * 1.5 + np.arange(n) ** 2 * 0.5, 0.0)
    nearest = np.where(mask.dense.any(axis), np.where(mask.dense, -terms, np.inf).argmin(axis), -1)
    for name, formula, expected in (("sum", f, terms.sum(axis)), ("argmin", -f, nearest)):
        case = with_ranges(Case(problem(name, formula, over=over, dtype="float64"), (), Sizes(m, n)), mask)
        (found,) = streamed(case, cut(case, 10, 17))
        np.testing.assert_array_equal(found[:, 0], expected)


def test_gradients_of_long_vectors() -> None:
    x, y = input_(0, "i", 60), input_(1, "j", 60)
    p = problem("sum", (x - y) / (1.0 + call("sqdist", x, y)))
    rng = seeded("gradients")
    check_streamed(draw_case(rng, p, 20, 40, layouts=["plain"]), rng, 9, 17, (3, 4))


def test_large_data_of_the_host_is_streamed_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(device, "ALWAYS_FITS", 0)
    monkeypatch.setattr(memory, "budget", lambda torch, _: 500)
    rng = seeded("host")
    case = draw_case(rng, problem("logsumexp", *term("logsumexp", 1)), 50, 60)
    mask = draw_mask(rng, 50, 60, (5, 6), 0.5)
    ranged = with_ranges(case, mask)
    tensors = [device._tensor(torch, a) for a in case.arrays]
    results = device.from_host(torch, case.problem, tensors, ranged.sizes, torch.device("cpu"), now)
    check_outputs(ranged, mask, [r.numpy() for r in results])
    assert len(groups(mask.dense)) > 2
