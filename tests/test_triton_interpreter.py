"""Every operation and every reduction of the tables on the Triton backend, run by Triton's interpreter on the CPU.

Generated from the tables, against the reference, in float32 and float64, on tiles so small that 40 x 70 pairs are
several of them and a tail.  The interpreter takes milliseconds per tile: a draw of the combinations is run, with a seed
of its own for each test; the full products are marked slow.

TRITON_INTERPRET is read when triton is first imported, which no test module does before all are collected.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
from typing import Any

os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest
from conformance import DTYPES, LAYOUTS, Case, check, draw_case, problem, run
from test_ops_backends import NAMES as OPERATIONS
from test_ops_backends import PLACES, WITH_INDICES, arguments, long_call, special_numbers
from test_reductions_backends import (
    BATCHES,
    LISTS,
    REDUCTIONS,
    constant_terms,
    params,
    sample,
    seeded,
    special_case,
    term,
)
from test_reductions_backends import NAMES as RECORDS

from pairfuse.backends.triton.tile import Tile, choose
from pairfuse.ir.expr import call, index, input_
from pairfuse.ir.ops import TABLE
from pairfuse.lower.kernel import Kernel
from pairfuse.lower.problem import Sizes
from pairfuse.runtime import device

MISSING = [name for name in ("torch", "triton") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}: pip install 'pairfuse[gpu]'"),
    # what the interpreter says of infinities and NaN on its way
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton"),
]
TILES = ((16, 16), (4, 32), (32, 16))


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of which the small sizes here are several, whose shape a test may choose by `shape`."""
    if os.environ["TRITON_INTERPRET"] != "1" or not device.interpreting():
        pytest.skip("triton was imported without TRITON_INTERPRET=1")
    use_tile(monkeypatch, 16, 16)


def use_tile(monkeypatch: pytest.MonkeyPatch, rows: int, cols: int, **fields: Any) -> None:
    def chosen(kernel: Kernel, sizes: Sizes, batch_rank: int, *rest: Any) -> Tile:
        wide = choose(kernel, sizes, batch_rank, *rest).wide
        return Tile(rows, cols, **{"batch_rank": batch_rank, "wide": wide, "flush": 2, **fields})

    monkeypatch.setattr(device, "choose_tile", chosen)


# ---------------------------------------------------------------------- operations


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(name: str, dtype: str) -> None:
    """One call of the row, on one choice of places and sizes."""
    op, rng = TABLE[name], seeded(name, dtype, "triton")
    dims, parameters = op.samples[rng.integers(len(op.samples))]
    args, intervals = arguments(PLACES[op.arity][0 if dtype == "float32" else -1], dims, op.domain)
    p = problem("sum", call(name, *args, **parameters), over=str(rng.choice(["i", "j"])), dtype=dtype)
    m, n = ((17, 21), (5, 33), (33, 3), (1, 1))[rng.integers(4)]
    check(draw_case(rng, p, m, n, str(rng.choice(BATCHES)) if m * n < 20 else "none", domains=intervals), "triton")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_all_calls_and_places(name: str, dtype: str) -> None:
    """Results of more than 16 components are computed by several programs, each run line by line: few rows of those."""
    op, rng = TABLE[name], seeded(name, dtype, "triton")
    for (dims, parameters), places in itertools.product(op.samples, PLACES[op.arity]):
        args, intervals = arguments(places, dims, op.domain)
        f = call(name, *args, **parameters)
        p = problem("sum", f, over=str(rng.choice(["i", "j"])), dtype=dtype)
        m, n, batch = (17, 21, str(rng.choice(BATCHES))) if f.dim <= 16 else (5, 7, "none")
        check(draw_case(rng, p, m, n, batch, domains=intervals), "triton")


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_on_long_vectors(name: str) -> None:
    op, rng = TABLE[name], seeded(name, "triton")
    dims, parameters = long_call(op)
    args, intervals = arguments(PLACES[op.arity][0], dims, op.domain)
    p = problem("sum", call(name, *args, **parameters), dtype=str(rng.choice(DTYPES)))
    check(draw_case(rng, p, 9, 17, domains=intervals), "triton")


@pytest.mark.parametrize("name", OPERATIONS)
def test_special_values(name: str) -> None:
    """Special numbers as arguments; one term in the sum, so that each is seen. No subnormal ones: a GPU drops some."""
    op, rng = TABLE[name], seeded(name, "triton")
    dtype = str(rng.choice(DTYPES))
    dims, parameters = op.samples[0] if op.arity > 1 else op.samples[-1]
    numbers = special_numbers(dtype)
    numbers = numbers[(numbers == 0) | ~(np.abs(numbers) < np.finfo(dtype).smallest_normal)]
    count = 64
    args = [input_(k, "i", d) for k, d in enumerate(dims)]
    arrays = tuple(rng.choice(numbers, (count, d)) for d in dims)
    case = Case(problem("sum", call(name, *args, **parameters), dtype=dtype), arrays, Sizes(count, 1))
    check(case, "triton", informative=0.1)


@pytest.mark.parametrize("name", WITH_INDICES)
def test_operation_on_indices(name: str) -> None:
    op, rng = TABLE[name], seeded(name, "triton")
    dims, parameters = op.samples[0]
    numbers = [index("i") - 4, index("j") - 9, call("floordiv", index("j"), 3) - index("i")]
    args = [n if d == 1 else call("tile", n, times=d) for n, d in zip(numbers, dims, strict=False)]
    f = call(name, *args, **parameters)
    x, y = input_(0, "i", 1), input_(1, "j", 1)
    p = problem("sum", call("where", call("lt", f, index("i")), x, y) + f, over=str(rng.choice(["i", "j"])))
    check(draw_case(rng, p, 17, 19, layouts=["plain"]), "triton")


def test_index_arithmetic_is_exact_beyond_32_bits() -> None:
    number = index("i") * 200_000_000 + index("j")
    f = call("where", call("eq", call("floordiv", number, 200_000_000), index("i")), 1.0, 0.0) * input_(0, "j", 1)
    (result,) = run(Case(problem("sum", f), (np.ones((30, 1), np.float32),), Sizes(40, 30)), "triton")
    assert (result == 30).all()


# ---------------------------------------------------------------------- reductions


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RECORDS)
def test_reduction(name: str, dtype: str) -> None:
    """Sizes with a tail and without one, both axes, batches, layouts."""
    rng = seeded(name, dtype, "triton")
    dim = int(rng.choice((1, 3)))
    for (m, n), batch in (((40, 70), "none"), ((5, 16), "mixed"), ((17, 3), "parameters")):
        if name in LISTS and batch != "none":
            m, n = min(m, 4), min(n, 17)
        check(sample(rng, name, dtype, dim, m, n, str(rng.choice(["i", "j"])), batch), "triton")


@pytest.mark.slow
@pytest.mark.parametrize("dim", [1, 3, 20])
@pytest.mark.parametrize("name", RECORDS)
def test_all_sizes_and_axes(name: str, dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = seeded(name, dim, "triton")
    for dtype, over, (m, n) in itertools.product(DTYPES, "ij", ((40, 70), (2, 17), (16, 16), (1, 1), (33, 2))):
        use_tile(monkeypatch, *TILES[rng.integers(len(TILES))])
        check(sample(rng, name, dtype, dim if name not in LISTS else min(dim, 3), m, n, over, "none"), "triton")


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_which_a_thread_holds_several_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns that are adjacent numbers, and vectors that are apart; one warp, twice as many columns as threads."""
    use_tile(monkeypatch, 4, 64, warps=1)
    rng = seeded(name, "threads")
    for dim in (1, 3):
        f = -call("sqdist", input_(0, "i", dim), input_(1, "j", dim))
        p = problem(name, f, over=str(rng.choice(["i", "j"])), K=3)
        m, n = (6, 150) if p.over == "j" else (150, 6)
        check(draw_case(rng, p, m, n, layouts=["plain"]), "triton")


@pytest.mark.parametrize("over", "ij")
def test_every_layout(over: str) -> None:
    rng = seeded(over, "triton")
    for layout, batch in zip(LAYOUTS, itertools.cycle(BATCHES), strict=False):
        check(draw_case(rng, problem("sum", *term("sum", 3), over=over), 17, 9, batch, layouts=[layout]), "triton")


@pytest.mark.parametrize("name", RECORDS)
def test_parts_of_the_columns_are_merged(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows and many columns: the columns are shared by programs, whose states a second kernel merges."""
    use_tile(monkeypatch, 4, 32, split=True)
    rng = seeded(name, "triton")
    over, dtype = str(rng.choice(["i", "j"])), str(rng.choice(DTYPES))
    m, n = (3, 1100) if over == "j" else (1100, 3)
    check(sample(rng, name, dtype, 1, m, n, over, "none"), "triton")


@pytest.mark.parametrize("name", RECORDS)
def test_nothing_to_reduce_or_nothing_to_keep(name: str) -> None:
    rng = seeded(name, "triton")
    for m, n in [(0, 5), (5, 0)] if REDUCTIONS[name].empty else [(0, 5)]:
        check(sample(rng, name, "float32", 1, m, n, "j", "none"), "triton")


@pytest.mark.parametrize("name", RECORDS)
def test_ties_nan_and_infinities(name: str) -> None:
    rng = seeded(name, "triton")
    dtype = str(rng.choice(DTYPES))
    for special in (0.0, 0.05, 0.9):
        check(special_case(rng, name, dtype, 20, 37, special), "triton", informative=0.0)


@pytest.mark.parametrize("name", RECORDS)
def test_terms_that_are_all_the_same(name: str) -> None:
    """Rows of NaN only, of -inf only, of inf only."""
    case = special_case(seeded(name), name, "float32", 6, 21, 0.0)
    x = np.resize(np.array([np.nan, np.inf, -np.inf], np.float32), (6, 1))
    check(Case(case.problem, (x, np.zeros_like(case.arrays[1]), *case.arrays[2:]), case.sizes), "triton", 0.0)


@pytest.mark.parametrize("name", RECORDS)
def test_terms_of_one_axis_of_none_and_of_indices(name: str) -> None:
    rng = seeded(name, "triton")
    for f in constant_terms():
        formulas = (f,) if REDUCTIONS[name].arity == 1 else (f, f * 0.25 + 1.0)
        p = problem(name, *formulas, over=str(rng.choice(["i", "j"])), **params(name, rng))
        check(draw_case(rng, p, 9, 18, domains=[(0.5, 1.0)] * len(p.inputs)), "triton", informative=0.0)


@pytest.mark.parametrize("name", ["logsumexp", "logsumexp_weight", "sumsoftmaxweight"])
def test_exponents_that_grow(name: str) -> None:
    """The reference point of each pair moves many times, or once."""
    x = np.array([[1.0], [-1.0], [30.0], [-30.0], [1e4], [0.0]], np.float32)
    for columns in (np.linspace(-3, 3, 150) ** 3, np.r_[np.zeros(70), 4, np.zeros(70)]):
        y = columns[:, None].astype(np.float32)
        f = input_(0, "i", 1) * input_(1, "j", 1)
        formulas = (f,) if name == "logsumexp" else (f, input_(2, "j", 1))
        arrays = (x, y, np.cos(y) + 2)[: len(formulas) + 1]
        check(Case(problem(name, *formulas), arrays, Sizes(6, len(y))), "triton")


@pytest.mark.parametrize(("k", "dim"), [(1, 1), (5, 3), (17, 1), (40, 1)])
def test_lists_of_all_lengths(k: int, dim: int) -> None:
    """Also K beyond the number of terms."""
    rng = seeded(k, dim, "triton")
    p = problem("Kmax_argKmax", *term("Kmax", dim), dtype=DTYPES[k % 2], K=k)
    for m, n in ((5, 41), (17, 3)):
        check(draw_case(rng, p, m, n), "triton")


@pytest.mark.parametrize("name", ["sum", "logsumexp_weight", "sumsoftmaxweight", "max_argmax"])
def test_long_vectors(name: str) -> None:
    """More components than one program computes, and sums over components that are loops."""
    rng = seeded(name, "triton")
    x, y, b = input_(0, "i", 20), input_(1, "j", 20), input_(2, "j", 21)
    f = -call("sqdist", x, y) * 0.1
    formulas = (call("exp", f) * b,) if name == "sum" else (f, b) if REDUCTIONS[name].arity == 2 else (x * y,)
    p = problem(name, *formulas)
    check(draw_case(rng, p, 9, 35), "triton")


@pytest.mark.parametrize("over", "ij")
def test_folds_inside_of_long_vectors(over: str) -> None:
    """Functions of a row or column whose components are sums themselves, inside of a sum over the components."""
    rng = seeded(over, "triton")
    x, y, a = input_(0, "i", 20), input_(1, "j", 20), input_(2, "p", 400)
    f = call("dot", call("normalize", x), call("matvecmult", a, call("normalize", y)))
    check(draw_case(rng, problem("sum", f, over=over), 9, 18), "triton")


# ---------------------------------------------------------------------- tensors


def test_half_precision_arrays_are_computed_in_float32() -> None:
    import torch

    rng = seeded("half")
    p = problem("sum", call("exp", -call("sqdist", input_(0, "i", 3), input_(1, "j", 3))) * input_(2, "j", 1))
    arrays = [torch.from_numpy(rng.standard_normal(s).astype("f")) for s in ((20, 3), (37, 3), (37, 1))]
    for name in ("float16", "bfloat16"):
        kind = getattr(torch, name)
        stored = [a.to(kind) for a in arrays]
        results: Any = device.execute(p, stored, Sizes(20, 37), lambda _, step: step(), name)
        wanted: Any = device.execute(p, [s.float() for s in stored], Sizes(20, 37), lambda _, step: step())
        result, expected = results[0], wanted[0]
        assert result.dtype == kind
        # the interpreter cuts where a GPU rounds
        torch.testing.assert_close(result, expected.to(kind), rtol=torch.finfo(kind).eps, atol=0)


def test_batch_axes_are_joined_where_the_strides_allow() -> None:
    import torch

    from pairfuse.backends.triton.launch import batch_of

    x = torch.empty(4, 5, 7, 3)
    assert batch_of([x], ["i"], (4, 5)).lengths == (20,)
    assert batch_of([x, torch.empty(5, 8, 2)], ["i", "j"], (4, 5)).lengths == (4, 5)
    assert batch_of([x.transpose(0, 1)], ["i"], (5, 4)).steps == ((21, 105),)
    assert batch_of([torch.empty(1, 1, 7, 3)], ["i"], (1, 6)).lengths == (6,)
    assert batch_of([x, torch.empty(3)], ["i", "p"], (4, 5)).steps[1] == (0,)
