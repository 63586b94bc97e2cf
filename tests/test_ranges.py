"""Block-sparse ranges in the backends: every reduction over blocks, against dense reductions of the reference."""

from __future__ import annotations

import itertools
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from block_sparse import Mask, check_blocks, draw_mask, with_ranges
from conformance import BACKENDS, DTYPES, Case, draw_case, problem, run

from pairfuse.backends.llvm import launch, launch_blocks
from pairfuse.backends.llvm.tables import cut, tables
from pairfuse.config import config
from pairfuse.errors import ShapeError
from pairfuse.ir.expr import Expr, call, index, input_
from pairfuse.ir.reductions import REDUCTIONS
from pairfuse.lower import schedule
from pairfuse.lower.problem import Sizes
from pairfuse.runtime import execute

NAMES = sorted(REDUCTIONS)
BOTH = (*BACKENDS, "reference")


def seeded(*key: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def term(name: str, dim: int) -> tuple[Expr, ...]:
    x, y, p = input_(0, "i", dim), input_(1, "j", dim), input_(2, "p", 1)
    f = x * y + p
    if name == "prod":
        f = 1.0 + 0.001 * f
    return (f,) if REDUCTIONS[name].arity == 1 else (f, y + input_(3, "j", dim) * 0.5)


def sample(
    rng: np.random.Generator, name: str, over: str, dtype: str, m: int, n: int, dim: int = 1, batch: str = "none"
) -> Case:
    params: dict[str, Any] = {"K": int(rng.choice([1, 2, 5]))} if REDUCTIONS[name].params else {}
    return draw_case(rng, problem(name, *term(name, dim), over=over, dtype=dtype, **params), m, n, batch)


def check_drawn(rng: np.random.Generator, case: Case, blocks: tuple[int, int], share: float, backend: str) -> None:
    mask = draw_mask(rng, case.sizes.M, case.sizes.N, blocks, share)
    check_blocks(with_ranges(case, mask), mask, backend)


# ---------------------------------------------------------------------- every reduction


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("over", "ij")
@pytest.mark.parametrize("name", NAMES)
def test_every_reduction(name: str, over: str, backend: str) -> None:
    """Drawn: types, sizes, batches, and masks that leave rows and columns out; short and long blocks."""
    rng = seeded(name, over)
    for m, n, blocks, share in (
        (3, 5, (2, 3), 0.5),
        (61, 90, (5, 7), 0.4),
        (130, 40, (3, 9), 0.3),
        (9, 33, (9, 2), 0.7),
    ):
        dtype, batch = str(rng.choice(DTYPES)), str(rng.choice(["none", "mixed", "parameters"]))
        case = sample(rng, name, over, dtype, m, n, dim=int(rng.choice([1, 3])), batch=batch)
        check_drawn(rng, case, blocks, share, backend)


@pytest.mark.parametrize("over", "ij")
@pytest.mark.parametrize("name", NAMES)
def test_few_rows_and_many_columns(name: str, over: str) -> None:
    """Blocks of one to three rows: the lanes hold columns, the pieces of the intervals begin anywhere in a vector."""
    rng = seeded(name, over, "few")
    m, n, blocks = (3, 3000, (3, 20)) if over == "j" else (3000, 3, (20, 3))
    case = sample(rng, name, over, "float32", m, n)
    mask = draw_mask(rng, m, n, blocks, 0.7)
    check_blocks(with_ranges(case, mask), mask)
    program = execute.program(case.problem)
    if program.mergeable:
        assert any(kind.few_rows and kind.listed for kind in program.by_class), "the lanes held rows"


@pytest.mark.parametrize("dim", [40, 300])
@pytest.mark.parametrize("name", ["sum", "logsumexp_weight", "min", "count_nonzero"])
def test_long_vectors(name: str, dim: int) -> None:
    rng = seeded(name, dim)
    check_drawn(rng, sample(rng, name, "j", "float32", 40, 70, dim=dim), (4, 6), 0.5, "llvm")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_all_combinations(name: str) -> None:
    rng = seeded(name, "all")
    for over, dtype, dim, batch in itertools.product("ij", DTYPES, (1, 3), ("none", "mixed", "parameters")):
        for m, n in ((1, 1), (2, 17), (17, 2), (257, 129)):
            check_drawn(rng, sample(rng, name, over, dtype, m, n, dim, batch), (4, 6), 0.4, "llvm")


# ---------------------------------------------------------------------- how blocks are walked


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Few columns are packed at a time, so that intervals are cut and a block has several fills."""
    monkeypatch.setattr(schedule, "CHUNK_BYTES", 64)
    execute.clear()
    yield
    execute.clear()


@pytest.mark.parametrize("over", "ij")
@pytest.mark.parametrize("name", ["sum", "logsumexp", "argmin", "Kmin_argKmin", "prod"])
@pytest.mark.usefixtures("small_chunks")
def test_blocks_of_several_fills(name: str, over: str) -> None:
    rng = seeded(name, over, "fills")
    for m, n, blocks in ((40, 500, (3, 9)), (500, 40, (9, 3)), (6, 3000, (4, 8)), (3000, 6, (8, 4))):
        check_drawn(rng, sample(rng, name, over, "float32", m, n), blocks, 0.5, "llvm")


@pytest.mark.parametrize("batch", ["none", "mixed"])
@pytest.mark.parametrize("name", ["sum", "argKmin", "sumsoftmaxweight"])
def test_many_tasks(name: str, batch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of blocks for several threads, long blocks in several parts."""
    monkeypatch.setattr(launch, "TASK_WORK", 1)
    monkeypatch.setattr(launch_blocks, "TASK_ROWS", 4)
    rng = seeded(name, batch)
    with config.override(threads=3):
        for m, n, blocks in ((300, 90, (3, 9)), (200, 90, (50, 9)), (5, 700, (2, 5))):
            check_drawn(rng, sample(rng, name, "j", "float64", m, n, batch=batch), blocks, 0.5, "llvm")


def test_tables_cover_every_pair_once() -> None:
    """Whatever the sizes of fills and of blocks."""
    rng = seeded("tables")
    for _ in range(30):
        m, n = (int(v) for v in rng.integers(1, 60, 2))
        mask = draw_mask(rng, m, n, (int(rng.integers(1, 6)), int(rng.integers(1, 9))), 0.5)
        chunk, step = int(rng.integers(1, 40)), int(rng.integers(1, 40))
        made = tables(mask.ranges.over_j.blocks, m, chunk, step)
        found, rows = np.zeros((m, n), int), np.zeros(m, int)
        for first, last, fill, end in made.blocks:
            assert 0 < last - first <= min(step, made.rows)
            rows[first:last] += 1
            for piece, stop, columns in made.fills[fill:end]:
                place = 0
                for a, b, at in made.pieces[piece:stop]:
                    assert at == place, "pieces lie side by side"
                    place += b - a
                    found[first:last, a:b] += 1
                assert place == columns <= chunk
        assert (rows == 1).all(), "every row belongs to one block"
        assert (found == mask.dense).all()


def test_tasks_share_the_work() -> None:
    work = np.cumsum([5, 1, 1, 1, 8, 0, 3])
    for pieces in range(1, 12):
        ranges = cut(work, pieces)
        assert [k for a, b in ranges for k in range(a, b)] == list(range(7))
        assert len(ranges) <= pieces


def test_a_task_is_stopped() -> None:
    """The flag that Ctrl-C sets ends a kernel of blocks, too."""
    rng = seeded("stop")
    mask = draw_mask(rng, 200, 200, (5, 5), 0.5)
    case = with_ranges(sample(rng, "sum", "j", "float32", 200, 200), mask)
    compiled = execute.program(case.problem).compiled(case.sizes, 1)
    out = np.zeros((200, 1), np.float32)
    made = launch_blocks.BlockLaunch(compiled.binary, compiled.layout, case.arrays, [out], case.sizes, 1)
    made.cancel[0] = 1
    for task in made.tasks:
        made.run(task, launch.Scratch())
    assert (out == 0).all(), "pairs were computed"


# ---------------------------------------------------------------------- formulas with row and column numbers


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("over", "ij")
def test_indices_are_those_of_the_arrays(over: str, backend: str) -> None:
    """i and j in the formula, in the pair stage and in that of the columns, and indices as results."""
    i, j = index("i"), index("j")
    x, y = input_(0, "i", 1), input_(1, "j", 1)
    shifted = call("to_real", j) * y + call("to_real", i) * x
    formula = call("where", call("eq", i, j), 1000.0, shifted)
    rng = seeded(over)
    for m, n, blocks in ((70, 50, (4, 6)), (4, 2000, (3, 7)), (2000, 4, (7, 3))):
        a, b = (rng.integers(-2, 3, (size, 1)).astype(np.float64) for size in (m, n))
        mask = draw_mask(rng, m, n, blocks, 0.6)
        rows, columns = np.arange(m)[:, None], np.arange(n)[None]
        values = np.where(rows == columns, 1000.0, columns * b.T + rows * a)
        dense = np.where(mask.dense, values, np.inf)
        p = problem("min_argmin", formula, over=over, dtype="float64")
        best, place = run(Case(p, (a, b), Sizes(m, n, (), mask.ranges)), backend)
        axis = 1 if over == "j" else 0
        assert (best[:, 0] == dense.min(axis)).all()
        assert (place[:, 0] == np.where(np.isinf(dense.min(axis)), -1, dense.argmin(axis))).all()
        total = problem("sum", formula, over=over, dtype="float64")
        (s,) = run(Case(total, (a, b), Sizes(m, n, (), mask.ranges)), backend)
        assert (s[:, 0] == np.where(mask.dense, values, 0).sum(axis)).all(), "whole numbers add up exactly"


def test_more_indices_than_32_bits_hold() -> None:
    """The class of indices of 64 bits, on small sizes."""
    rng = seeded("wide")
    mask = draw_mask(rng, 30, 40, (3, 5), 0.6)
    case = with_ranges(sample(rng, "argmin", "j", "float32", 30, 40), mask)
    program = execute.program(case.problem)
    wide = replace(schedule.classify_blocks(mask.ranges.over_j.blocks, 40, 8, True), wide_index=True)
    compiled = program.compile(wide)
    out = np.zeros((30, 1), np.int64)
    made = launch_blocks.BlockLaunch(compiled.binary, compiled.layout, case.arrays, [out], case.sizes, 1)
    for task in made.tasks:
        made.run(task, launch.Scratch())
    assert (out == run(case, "reference")[0]).all()
    execute.clear()


# ---------------------------------------------------------------------- sums over both axes


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", ["none", "mixed"])
def test_sums_over_both_axes(dtype: str, batch: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = seeded(dtype, batch)
    for m, n, blocks in ((70, 50, (4, 6)), (3, 900, (2, 7)), (900, 30, (20, 3))):
        monkeypatch.setattr(launch, "TASK_WORK", int(rng.choice([1, 2**23])))
        case = sample(rng, "sum", "ij", dtype, m, n, dim=int(rng.choice([1, 3, 40])), batch=batch)
        mask = draw_mask(rng, m, n, blocks, 0.5)
        pairs = case.problem.formulas[0]
        arrays = [np.asarray(a, np.float64) for a in case.arrays]
        terms = arrays[0][..., :, None, :] * arrays[1][..., None, :, :] + arrays[2][..., None, None, :]
        terms = terms * mask.dense[:, :, None]
        expected, size = terms.sum((-3, -2)), np.abs(terms).sum((-3, -2))
        (actual,) = run(with_ranges(case, mask), backend)
        assert actual.shape == (*case.sizes.batch, 1, pairs.dim)
        eps = np.finfo(dtype).eps
        # a float32 sum of terms that are rounded three times, and accumulated by blocks of 16 columns
        assert (np.abs(actual[..., 0, :] - expected) <= (20 * eps) * size + eps).all()


# ---------------------------------------------------------------------- special masks


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_takes_part(name: str, backend: str) -> None:
    """No block, blocks that visit nothing, blocks without rows: as over an empty axis, and index -1."""
    rng = seeded(name)
    none, columns = np.zeros((0, 2), int), np.array([[0, 3], [4, 4]])
    for mask in (
        Mask(none, columns, np.zeros((0, 2), bool), 5, 6),
        Mask(np.array([[0, 3]]), columns, np.zeros((1, 2), bool), 5, 6),
        Mask(np.array([[2, 2], [5, 5]]), columns, np.ones((2, 2), bool), 5, 6),
        Mask(np.array([[1, 4]]), columns, np.array([[False, True]]), 5, 6),
    ):
        case = sample(rng, name, "j", "float32", 5, 6)
        check_blocks(with_ranges(case, mask), mask, backend)


def test_touching_intervals_are_joined() -> None:
    columns = np.array([[4, 6], [0, 4], [6, 6], [9, 10], [6, 9], [12, 20]])
    mask = Mask(np.array([[0, 2], [2, 3]]), columns, np.ones((2, 6), bool), 3, 20)
    blocks = mask.ranges.over_j.blocks
    assert blocks.columns.tolist() == [[0, 10], [12, 20]] * 2
    assert blocks.first.tolist() == [0, 2, 4]
    assert blocks.pairs == 3 * 18
    assert blocks.counts(5).tolist() == [18, 18, 18, 0, 0]


def test_a_whole_mask_gives_the_dense_result() -> None:
    rng = seeded("whole")
    case = sample(rng, "sum", "j", "float64", 50, 60)
    whole = Mask(np.array([[0, 50]]), np.array([[0, 60]]), np.ones((1, 1), bool), 50, 60)
    (sparse,), (dense,) = run(with_ranges(case, whole), "llvm"), run(case, "llvm")
    assert (sparse == dense).all()


def test_ranges_beyond_the_sizes_never_reach_a_backend() -> None:
    rng = seeded("beyond")
    case = sample(rng, "sum", "j", "float32", 5, 6)
    mask = Mask(np.array([[0, 6]]), np.array([[0, 6]]), np.ones((1, 1), bool), 6, 6)
    for backend in BOTH:
        with pytest.raises(ShapeError, match="ranges_i ends at 6, axis i has the size M = 5"):
            run(replace(case, sizes=Sizes(5, 6, (), mask.ranges)), backend)


def test_the_check_sees_a_wrong_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that forgets the ranges, or one interval, is found out."""
    rng = seeded("forgets")
    case, mask = sample(rng, "sum", "j", "float64", 50, 60), draw_mask(rng, 50, 60, (4, 6), 0.5)
    dense = replace(case, sizes=Sizes(50, 60))
    monkeypatch.setattr("block_sparse.run", lambda c, backend: run(dense if c is sparse else c, backend))
    sparse = with_ranges(case, mask)
    with pytest.raises(AssertionError, match="numbers are wrong"):
        check_blocks(sparse, mask)
