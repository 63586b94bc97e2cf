"""Sums over i and j at once: every backend against the reference, their precision, their memory, what users call."""

from __future__ import annotations

import itertools
import tracemalloc
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from conformance import BACKENDS, BATCHES, DTYPES, LAYOUTS, SIZES, Case, check, draw_case, problem, run

from pairfuse.config import config
from pairfuse.errors import FormulaError
from pairfuse.ir.expr import Expr, call, index, input_
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.runtime.execute import execute

A, B = input_(0, "i", 1), input_(1, "j", 1)


def seeded(*key: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def terms(dim: int) -> Expr:
    """A formula of all axes and both indices."""
    x, y, p = input_(0, "i", dim), input_(1, "j", dim), input_(2, "p", 1)
    return x * y + p + call("where", call("lt", index("i"), index("j")), 0.5, -0.25)


def both(f: Expr, dtype: str = "float32") -> Problem:
    return problem("sum", f, over="ij", dtype=dtype)


# ---------------------------------------------------------------------- every backend against the reference


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [1, 3, 12, 40])
def test_sizes_batches_and_layouts(dim: int, dtype: str, backend: str) -> None:
    rng = seeded(dim, dtype)
    for _ in range(8):
        m, n = (int(s) for s in rng.choice(SIZES, 2))
        batch = str(rng.choice(BATCHES)) if m * n * dim < 1e5 else "none"
        check(draw_case(rng, both(terms(dim), dtype), m, n, batch), backend)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dim", [1, 3, 12, 40])
def test_all_sizes_batches_and_layouts(dim: int, backend: str) -> None:
    rng = seeded(dim)
    for dtype, m, n, batch in itertools.product(DTYPES, SIZES, SIZES, BATCHES):
        if m * n * dim > 4e5:  # the dense reference takes its time
            m = 17
        check(draw_case(rng, both(terms(dim), dtype), m, n, batch), backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout: str, backend: str) -> None:
    for batch in BATCHES:
        check(draw_case(seeded(layout, batch), both(terms(3)), 17, 33, batch, layouts=[layout]), backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_small_size(dtype: str, backend: str) -> None:
    """All tails of tiles, blocks and vectors, on small integers, so that every result is exact."""
    p = both(A * B, dtype)
    x, y = np.arange(1.0, 67.0)[:, None].astype(dtype), np.resize([3.0, 2.0, 5.0, 1.0, 4.0], (66, 1)).astype(dtype)
    for m, n in itertools.product(range(1, 67), repeat=2):
        (a,) = run(Case(p, (x[:m], y[:n]), Sizes(m, n)), backend)
        assert a.shape == (1, 1)
        assert a == x[:m].sum() * y[:n].sum(), f"sizes {m} and {n}"


@pytest.mark.parametrize("backend", BACKENDS)
def test_formulas_of_one_axis_or_none(backend: str) -> None:
    for f in (A * A, input_(0, "j", 3), input_(0, "p", 2), call("to_real", index("i"))):
        for m, n in ((1, 1), (3, 5000), (700, 41), (5000, 3)):
            check(draw_case(seeded(m, n), both(f), m, n), backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_to_sum(backend: str) -> None:
    for m, n in ((0, 5), (5, 0), (0, 0)):
        (a,) = run(draw_case(seeded(m, n), both(terms(3)), m, n), backend)
        assert a.shape == (1, 3)
        assert (a == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinities(dtype: str, backend: str) -> None:
    """They count where they are; the lanes beyond the last row do not count them again, or at all."""
    for m, n in ((17, 40), (3, 600)):
        x, y = np.ones((m, 1), dtype), np.ones((n, 1), dtype)
        for special in (np.nan, np.inf, -np.inf):
            x[m - 1] = special
            (a,) = run(Case(both(A * B, dtype), (x, y), Sizes(m, n)), backend)
            np.testing.assert_array_equal(a, special)
        x[m - 1] = 1.0  # the last row, which the lanes beyond it repeat
        f = call("where", call("eq", index("i"), m), np.nan, A * B)
        (a,) = run(Case(both(f, dtype), (x, y), Sizes(m, n)), backend)
        assert a == m * n


# ---------------------------------------------------------------------- many tasks, many batches, long vectors


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_parts_of_threads(threads: int, backend: str) -> None:
    """Large enough for several tasks: cut along rows, columns, both; and computed again, the same to the last bit."""
    with config.override(threads=threads):
        for m, n, dim in ((3000, 3000, 1), (5, 400_000, 1), (400_000, 2, 1), (600, 20_000, 3), (40, 9001, 40)):
            case = draw_case(seeded(m, n), both(input_(0, "i", dim) * input_(1, "j", dim) + 0.5), m, n)
            results = [run(case, backend)[0] for _ in range(3)]
            np.testing.assert_array_equal(results[0], results[1])
            np.testing.assert_array_equal(results[0], results[2])
            x, y = (v.astype(np.float64).sum(0) for v in case.arrays)
            size = np.prod([np.abs(v.astype(np.float64)).sum(0) for v in case.arrays], axis=0)
            error = np.abs(results[0][0] - (x * y + 0.5 * m * n)) / (size + 0.5 * m * n)
            assert error.max() < 3e-7


@pytest.mark.parametrize("backend", BACKENDS)
def test_batches_for_all_threads(backend: str) -> None:
    """A task takes many batches, and finishes each."""
    for threads, dtype in ((1, "float32"), (2, "float64")):
        for m, n, batches in ((1, 300, 300), (33, 40, 41), (300, 300, 100)):
            arrays = tuple(seeded(m).normal(size=(batches, k, 1)).astype(dtype) for k in (m, n))
            with config.override(threads=threads):
                check(Case(both(A * B, dtype), arrays, Sizes(m, n, (batches,))), backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_ten_thousand_components(dtype: str, backend: str) -> None:
    """The state of a long vector lives in memory, and its units are added up by a loop."""
    dim = 10_000
    for m, n in ((20, 130), (2, 130), (1, 600)):
        x, y = (seeded(m, k).normal(size=(k, d)).astype(dtype) for k, d in ((m, dim), (n, 1)))
        (a,) = run(Case(both(input_(0, "i", dim) * B, dtype), (x, y), Sizes(m, n)), backend)
        exact = x.astype(np.float64).sum(0) * y.astype(np.float64).sum()
        size = np.abs(x.astype(np.float64)).sum(0) * np.abs(y.astype(np.float64)).sum()
        assert (np.abs(a[0] - exact) < (3e-6 if dtype == "float32" else 1e-14) * size).all()


# ---------------------------------------------------------------------- precision and memory


@pytest.mark.parametrize("dtype", DTYPES)
def test_ten_million_equal_terms(dtype: str) -> None:
    """Right to 3e-7 in float32 and to 1e-14 in float64, whichever axis is the long one."""
    for m, n in ((3000, 3500), (1, 10_000_000), (10_000_000, 1), (1_000_000, 10)):
        x, y = np.full((m, 1), 0.1, dtype), np.ones((n, 1), dtype)
        (a,) = execute(both(A * B, dtype), (x, y), Sizes(m, n))
        exact = float(x[0, 0]) * m * n
        error = abs(float(a[0, 0]) - exact) / exact
        assert error < (3e-7 if dtype == "float32" else 1e-14), f"{m} x {n}: {error:.1e}"


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def test_memory_does_not_depend_on_the_sizes(traced: None) -> None:
    """The scratch memory of threads is kept from call to call: what is measured are the calls after the first."""
    p = both(input_(0, "i", 3) * input_(1, "j", 3))
    peaks: dict[int, int] = {}
    for size in (2_000, 40_000):
        arrays = [seeded(size, k).normal(size=(size, 3)).astype(np.float32) for k in range(2)]
        execute(p, arrays, Sizes(size, size))
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        execute(p, arrays, Sizes(size, size))
        peaks[size] = tracemalloc.get_traced_memory()[1] - before
    assert peaks[40_000] < peaks[2_000] + 50_000, peaks
    assert peaks[40_000] < 40_000 * 3 * 4, "a vector for every row"


def test_only_sums_are_reduced_over_both_axes() -> None:
    with pytest.raises(FormulaError, match="over both axes"):
        problem("min", A * B, over="ij")
