"""Every reduction of the table, on every backend, against the reference: sizes, axes, types, layouts, special values.

Combinations are drawn with a seed of their own for each test; the full products are marked slow.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conformance import BACKENDS, BATCHES, DTYPES, LAYOUTS, SIZES, Case, check, draw_case, problem, run

from pairfuse.config import config
from pairfuse.ir.expr import Expr, call, index, input_, inputs, substitute
from pairfuse.ir.reductions import REDUCTIONS
from pairfuse.lower.problem import Sizes
from pairfuse.lower.schedule import SizeClass
from pairfuse.runtime import execute

NAMES = sorted(REDUCTIONS)
LISTS = [n for n in NAMES if REDUCTIONS[n].params]
WEIGHTED = [n for n in NAMES if REDUCTIONS[n].arity == 2]


def seeded(*key: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def term(name: str, dim: int = 1) -> tuple[Expr, ...]:
    """Formulas for a reduction, whose first one has this length: inputs 0 (i), 1 (j), 2 (p), all of them used."""
    x, y, p = input_(0, "i", dim), input_(1, "j", dim), input_(2, "p", 1)
    f = x * y + p
    if name == "prod":
        f = 1.0 + 0.001 * f  # so that the products of all numbers of terms stay in range
    if REDUCTIONS[name].arity == 1:
        return (f,)
    return f, y + input_(3, "j", dim) * 0.5


def listed(name: str, k: int) -> dict[str, Any]:
    """The parameters of a reduction: K, if it is one of lists."""
    return {"K": k} if name in LISTS else {}


def params(name: str, rng: np.random.Generator) -> dict[str, Any]:
    return listed(name, int(rng.choice([1, 2, 5])))


def sample(rng: np.random.Generator, name: str, dtype: str, dim: int, m: int, n: int, over: str, batch: str) -> Case:
    return draw_case(rng, problem(name, *term(name, dim), over=over, dtype=dtype, **params(name, rng)), m, n, batch)


# ---------------------------------------------------------------------- sizes, axes, types, batches, layouts


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_sizes_axes_and_layouts(name: str, dtype: str, backend: str) -> None:
    """Drawn from all sizes x both axes x the batch patterns, one vector length a test, so that few kernels compile."""
    rng = seeded(name, dtype)
    dims = (1, 3) if name in LISTS else (1, 3, 40)
    dim, over = int(rng.choice(dims)), str(rng.choice(["i", "j"]))
    for _ in range(6):
        m, n = (int(s) for s in rng.choice(SIZES, 2))
        if m * n * dim > 4e5:  # the dense reference takes its time
            m = 17
        batch = str(rng.choice(BATCHES)) if m * n * dim < 1e5 else "none"
        check(sample(rng, name, dtype, dim, m, n, over, batch), backend)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dim", [1, 3, 40])
@pytest.mark.parametrize("name", NAMES)
def test_all_sizes_axes_and_layouts(name: str, dim: int, backend: str) -> None:
    rng = seeded(name, dim)
    for dtype, over, m, n, batch in itertools.product(DTYPES, "ij", SIZES, SIZES, BATCHES):
        check(sample(rng, name, dtype, dim, m, n, over, batch), backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("over", "ij")
def test_every_layout(over: str, layout: str, backend: str) -> None:
    rng = seeded(layout, over)
    for batch in BATCHES:
        p = problem("sum", *term("sum", 3), over=over)
        check(draw_case(rng, p, 17, 33, batch, layouts=[layout]), backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sum", "argmin"])
def test_every_small_size(name: str, dtype: str, backend: str) -> None:
    """All tails of tiles, blocks and vectors: sizes 1 to 66, on small integers, so that every result is exact."""
    p = problem(name, input_(0, "i", 1) * input_(1, "j", 1), dtype=dtype)
    x, y = np.arange(1.0, 67.0)[:, None].astype(dtype), np.resize([3.0, 2.0, 5.0, 1.0, 4.0], (66, 1)).astype(dtype)
    for m, n in itertools.product(range(1, 67), repeat=2):
        (a,) = run(Case(p, (x[:m], y[:n]), Sizes(m, n)), backend)
        expected = x[:m] * y[:n].sum() if name == "sum" else np.full((m, 1), np.argmin(y[:n]))
        assert (a == expected).all(), f"sizes {m} and {n}"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_reduce_or_nothing_to_keep(name: str, backend: str) -> None:
    rng = seeded(name)
    sizes = [(0, 5), (5, 0), (0, 0)] if REDUCTIONS[name].empty else [(0, 5)]
    for m, n in sizes:
        check(sample(rng, name, "float32", 1, m, n, "j", "none"), backend)


# ---------------------------------------------------------------------- shared rows: states that are merged


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_few_rows_and_many_columns(name: str, backend: str) -> None:
    """Lanes and threads share the columns of a row; 20,000 columns are several chunks when a row is long."""
    rng = seeded(name)
    dtype, over = str(rng.choice(DTYPES)), str(rng.choice(["i", "j"]))
    with config.override(threads=2):
        for kept, batch in ((3, "none"), (1, "mixed"), (17, "none")):
            m, n = (kept, 20_000) if over == "j" else (20_000, kept)
            if batch == "mixed":
                m, n = min(m, 3001), min(n, 3001)
            check(sample(rng, name, dtype, 1, m, n, over, batch), backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_columns_of_many_chunks(name: str, backend: str) -> None:
    """Long rows of y, so that 3300 of them are packed in several chunks; terms and results that know their number."""
    rng = seeded(name)
    x, y = input_(0, "i", 40), input_(1, "j", 40)
    f = call("sqnorm2", x - y) * 0.02 + call("where", call("lt", index("j"), 1700), 0.5, call("elem", y, index=1))
    if name == "prod":
        f = 1.0 + 0.001 * f
    fs = (f,) if REDUCTIONS[name].arity == 1 else (f, call("elem", y, index=0))
    p = problem(name, *fs, **params(name, rng))
    kind = SizeClass(few_rows=False, split=False, wide_index=False)
    if backend == "llvm":
        chunk = execute.program(p).compile(kind).schedule.chunk
        assert chunk < 1700, "these columns are one chunk: the test says nothing"
    m = int(rng.choice([2, 17]))
    check(draw_case(rng, p, m, 3300, layouts=["plain"]), backend)


@pytest.mark.parametrize("name", ["max_argmax", "Kmin_argKmin", "count_nonzero", "sum"])
def test_numbers_of_64_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels of sizes beyond 2 ** 31, on sizes that fit a test."""
    plain = execute.classify

    def wide(*sizes: Any) -> SizeClass:
        return replace(plain(*sizes), wide_index=True)

    monkeypatch.setattr(execute, "classify", wide)
    execute.clear()
    rng = seeded(name)
    f = input_(0, "i", 1) * input_(1, "j", 1) + call("where", call("lt", index("i"), index("j")), 0.5, -0.5)
    for m, n in ((17, 40), (2, 700), (40, 9001)):
        check(draw_case(rng, problem(name, f, **params(name, rng)), m, n))
    (compiled, *_) = next(iter(execute._programs)).by_class.values()
    assert compiled.schedule.index_bits == 64


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["sum", "logsumexp", "sumsoftmaxweight", "max_argmax", "Kmin_argKmin"])
def test_a_shared_row_of_vectors(name: str, backend: str) -> None:
    rng = seeded(name)
    with config.override(threads=2):
        for dtype in DTYPES:
            check(sample(rng, name, dtype, 3, 5, 9001, "j", "none"), backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["sum", "logsumexp", "Kmax_argKmax"])
def test_few_rows_of_many_batches(name: str, backend: str) -> None:
    """With batches for all threads nobody shares a row's columns: a task merges the lanes of many batches itself."""
    x, y = input_(0, "i", 1), input_(1, "j", 1)
    for count, dtype in ((1, "float32"), (2, "float64")):
        p = problem(name, x * y, dtype=dtype, **listed(name, 3))
        for m, batches in ((1, 300), (3, 41), (2, 7)):
            rng = seeded(name, m)
            arrays = tuple(rng.normal(size=(batches, n, 1)).astype(dtype) for n in (m, 300))
            with config.override(threads=count):
                check(Case(p, arrays, Sizes(m, 300, (batches,))), backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ties_across_lanes_and_threads_go_to_the_first(backend: str) -> None:
    """One minimum per row, repeated in every lane and every part: the first index wins."""
    y = np.tile(np.array([3.0, 1.0, 2.0], np.float32), 7000)[:, None]
    x = np.zeros((3, 1), np.float32)
    f = input_(0, "i", 1) + input_(1, "j", 1)
    with config.override(threads=2):
        (places,) = run(Case(problem("argKmin", f, K=5), (x, y), Sizes(3, len(y))), backend)
        np.testing.assert_array_equal(places, np.broadcast_to(np.arange(5) * 3 + 1, (3, 5)))
        (places,) = run(Case(problem("argmax", f), (x, y), Sizes(3, len(y))), backend)
        np.testing.assert_array_equal(places, np.zeros((3, 1)))


# ---------------------------------------------------------------------- ties, NaN, infinities

NUMBERS = [0.0, 1.0, 1.0, 2.0, -1.0, -0.0]
SPECIAL = [np.nan, np.inf, -np.inf]


def special_case(rng: np.random.Generator, name: str, dtype: str, m: int, n: int, special: float) -> Case:
    """Small integers, so that there are ties and no rounding; a share `special` of both inputs is NaN or infinite."""
    f = input_(0, "i", 1) + input_(1, "j", 1)
    formulas = (f,) if REDUCTIONS[name].arity == 1 else (f, input_(2, "j", 1))
    p = problem(name, *formulas, dtype=dtype, **listed(name, 5))

    def numbers(size: int, share: float) -> np.ndarray:
        plain, odd = rng.choice(NUMBERS, size), rng.choice(SPECIAL, size)
        return np.where(rng.random(size) < share, odd, plain)[:, None].astype(dtype)

    arrays = (numbers(m, 0.3), numbers(n, special), numbers(n, special / 2))
    return Case(p, arrays[: len(p.inputs)], Sizes(m, n))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_ties_nan_and_infinities(name: str, dtype: str, backend: str) -> None:
    rng = seeded(name, dtype)
    for m, n in ((40, 57), (3, 600)):
        for special in (0.0, 0.05, 0.9):
            check(special_case(rng, name, dtype, m, n, special), backend, informative=0.0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_terms_that_are_all_the_same(name: str, backend: str) -> None:
    """Rows of NaN only, of -inf only, of inf only."""
    for n in (1, 5, 300):
        case = special_case(seeded(name), name, "float32", 20, n, 0.0)
        x = np.resize(np.array([np.nan, np.inf, -np.inf], np.float32), (20, 1))
        check(Case(case.problem, (x, np.zeros_like(case.arrays[1]), *case.arrays[2:]), case.sizes), backend, 0.0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["logsumexp", "logsumexp_weight", "sumsoftmaxweight"])
def test_exponents_that_grow(name: str, dtype: str, backend: str) -> None:
    """The largest term comes last, first, or far above all others: the reference point moves many times, or once.

    In the last sequence a sum has grown large, with the rounding errors that belong to it, when the point moves.
    """
    late = np.r_[0.0, np.random.default_rng(0).uniform(14, 15.9, 300), 17.5, np.zeros(10)]
    x = np.array([[1.0], [-1.0], [30.0], [-30.0], [1e4], [0.0]], dtype)
    lone = np.r_[np.zeros(300), 4, np.zeros(300)]
    for columns in (np.linspace(-3, 3, 700), np.linspace(-3, 3, 700) ** 3, lone, late):
        y = columns[:, None].astype(dtype)
        f = input_(0, "i", 1) * input_(1, "j", 1)
        formulas = (f,) if name == "logsumexp" else (f, input_(2, "j", 1))
        arrays = (x, y, np.cos(y) + 2)[: len(formulas) + 1]
        for rows in (6, 36):
            full = (np.resize(x, (rows, 1)), *arrays[1:])
            check(Case(problem(name, *formulas, dtype=dtype), full, Sizes(rows, len(y))), backend)


# ---------------------------------------------------------------------- lists of K, weights, vectors


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("k", "dim"), [(1, 1), (1, 40), (5, 3), (5, 40), (16, 1), (17, 1), (17, 3), (40, 1), (300, 1)])
@pytest.mark.parametrize("which", ["min", "max"])
def test_lists_of_all_lengths(which: str, k: int, dim: int, backend: str) -> None:
    """Both outputs; K beyond the number of terms; the other records of the family are the same machine."""
    rng = seeded(which, k, dim)
    name, dtype = f"K{which}_argK{which}", DTYPES[(k + dim) % 2]
    p = problem(name, *term(name, dim), dtype=dtype, K=k)
    for m, n in ((17, 257), (2, 257), (33, 3), (2, 700)):
        check(draw_case(rng, p, m, n), backend)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", LISTS)
def test_all_lists(name: str, backend: str) -> None:
    rng = seeded(name)
    combinations = list(itertools.product([1, 2, 3, 4, 5, 16, 17, 40, 300], [1, 3, 40], DTYPES, "ij"))
    for choice in rng.permutation(len(combinations))[:36]:  # all of them take 15 minutes
        k, dim, dtype, over = combinations[choice]
        p = problem(name, *term(name, dim), dtype=dtype, over=over, K=k)
        for m, n in ((17, 257), (257, 17), (2, 600), (1, 1)):
            check(draw_case(rng, p, m, n, str(rng.choice(BATCHES))), backend)


WEIGHTS = [(1, 1), (1, 3), (3, 1), (3, 3), (1, 40), (40, 1), (40, 40)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dims", WEIGHTS, ids=str)
@pytest.mark.parametrize("name", WEIGHTED)
def test_weights_of_all_lengths(name: str, dims: tuple[int, int], backend: str) -> None:
    """The weight of the j, of the pair and of the i; positive or of both signs."""
    rng = seeded(name, dims)
    x, y, w, v = (
        input_(k, axis, d) for k, (axis, d) in enumerate(zip("ijji", (*dims[:1] * 2, *dims[1:] * 2), strict=True))
    )
    for g, dtype in ((w, "float32"), (w * v, "float64"), (v + 1.0, "float32")):
        p = problem(name, -(x - y) * (x - y), g, dtype=dtype)
        domains = [((-2.0, 2.0) if leaf.param("slot") < 2 else (0.1, 2.0)) for leaf in p.inputs]
        p = problem(name, *_dense(p.formulas), dtype=dtype)
        m, n = (17, 33) if rng.random() < 0.5 else (2, 300)
        check(draw_case(rng, p, m, n, domains=domains), backend)


def _dense(formulas: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """The formulas with their inputs numbered 0, 1, 2 ... without a hole."""
    new = {n: input_(k, n.param("axis"), n.dim) for k, n in enumerate(inputs(*formulas))}
    return tuple(substitute(f, new) for f in formulas)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_long_vectors(name: str, backend: str) -> None:
    """More components than are written out: the state lives in memory, and is walked by loops."""
    rng = seeded(name)
    for dtype in DTYPES:
        for m, n in ((17, 40), (2, 300)):
            check(sample(rng, name, dtype, 40, m, n, "j", "none"), backend)


# ---------------------------------------------------------------------- terms that leave an axis out


def constant_terms() -> Iterator[Expr]:
    yield input_(0, "i", 1) * 2.0
    yield input_(0, "j", 1) + 1.0
    yield input_(0, "p", 3) * 0.5
    yield call("where", call("lt", index("j"), index("i")), 1.0, input_(0, "j", 1))
    yield index("j") - index("i") * 2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_terms_of_one_axis_of_none_and_of_indices(name: str, backend: str) -> None:
    """A term that does not depend on the column counts once for each column."""
    rng = seeded(name)
    for f in constant_terms():
        formulas = (f,) if REDUCTIONS[name].arity == 1 else (f, f * 0.25 + 1.0)
        over, dtype = str(rng.choice(["i", "j"])), str(rng.choice(DTYPES))
        p = problem(name, *formulas, over=over, dtype=dtype, **params(name, rng))
        m, n = (19, 23) if rng.random() < 0.5 else (2, 400) if over == "j" else (400, 2)
        check(draw_case(rng, p, m, n, domains=[(0.5, 1.0)] * len(p.inputs)), backend, informative=0.0)
