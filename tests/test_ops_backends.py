"""Every operation of the table, on every backend, against the reference: where it stands, types, sizes, special values.

The tests are generated from the table: a new row is tested without a line here, except that an operation with
parameters has to name a call on a long vector in LONG.  Combinations are drawn with a seed of their own for each test.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from conformance import BACKENDS, BATCHES, DTYPES, SIZES, Case, Interval, check, draw_case, problem, run

from pairfuse.ir.expr import Expr, Op, call, const, index, input_, inputs, substitute
from pairfuse.ir.ops import TABLE
from pairfuse.lower.problem import Sizes

NAMES = list(TABLE)
# Where each argument of an operation comes from: a row of x_i, of y_j, the parameters, or a sum of the first two.
PLACES: dict[int, tuple[tuple[str, ...], ...]] = {
    1: (("ij",), ("i",), ("j",), ("p",)),
    2: (("i", "j"), ("j", "i"), ("ij", "p"), ("p", "ij"), ("i", "ij"), ("j", "p"), ("p", "i")),
    3: (("i", "j", "p"), ("ij", "p", "i"), ("p", "ij", "j"), ("j", "p", "ij"), ("ij", "i", "j")),
}


def seeded(*key: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def arguments(
    places: Sequence[str], dims: Sequence[int], domain: Sequence[Interval]
) -> tuple[list[Expr], list[Interval]]:
    """The arguments of an operation as expressions of inputs 0, 1 ..., and the interval of every input."""
    args: list[Expr] = []
    intervals: list[Interval] = []
    for place, dim, (low, high) in zip(places, dims, domain, strict=True):
        if place == "ij":
            middle = (low + high) / 2
            args.append(input_(len(intervals), "i", dim) + input_(len(intervals) + 1, "j", dim))
            intervals += [(low, middle), (0.0, high - middle)]
        else:
            args.append(input_(len(intervals), place, dim))
            intervals.append((low, high))
    return args, intervals


def cases(rng: np.random.Generator, f: Expr, intervals: Sequence[Interval], dtype: str, sizes: Any) -> list[Case]:
    """The sum of the formula over one axis, on these sizes."""
    p = problem("sum", f, over=str(rng.choice(["i", "j"])), dtype=dtype)
    found: list[Case] = []
    for m, n in sizes:
        batch = str(rng.choice(BATCHES)) if m * n * f.dim < 2e4 else "none"
        found.append(draw_case(rng, p, int(m), int(n), batch, domains=intervals))
    return found


# ---------------------------------------------------------------------- all operations, where they are smooth


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_operation(name: str, dtype: str, backend: str) -> None:
    """One call of the row and one choice of places, on two sizes."""
    op, rng = TABLE[name], seeded(name, dtype)
    dims, params = op.samples[rng.integers(len(op.samples))]
    places = PLACES[op.arity][0 if dtype == "float32" else rng.integers(len(PLACES[op.arity]))]
    args, intervals = arguments(places, dims, op.domain)
    for case in cases(rng, call(name, *args, **params), intervals, dtype, rng.choice(SIZES, (2, 2))):
        check(case, backend)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_all_calls_places_and_sizes(name: str, dtype: str, backend: str) -> None:
    op, rng = TABLE[name], seeded(name, dtype)
    for (dims, params), places in itertools.product(op.samples, PLACES[op.arity]):
        args, intervals = arguments(places, dims, op.domain)
        sizes = rng.permutation(list(itertools.product(SIZES, SIZES)))[:6]
        for case in cases(rng, call(name, *args, **params), intervals, dtype, sizes):
            check(case, backend)


# ---------------------------------------------------------------------- long vectors, which are walked by loops

LONG: dict[str, tuple[tuple[int, ...], Mapping[str, Any]]] = {
    "extract": ((50,), {"start": 5, "size": 40}),
    "pad": ((35,), {"start": 3, "size": 40}),
    "concat": ((40, 3), {}),
    "repeat": ((20,), {"times": 2}),
    "tile": ((20,), {"times": 2}),
    "transpose": ((40,), {"sizes": (4, 2, 5), "order": (2, 0, 1)}),
    "sum_d": ((120,), {"group": 3}),
    "shift": ((40,), {"group": 8, "fill": 0.5}),
    "powi": ((40,), {"n": 3}),
    "round": ((40,), {"d": 1}),
    "elem": ((40,), {"index": 37}),
    "elem_t": ((1,), {"size": 40, "index": 33}),
    "one_hot": ((1,), {"size": 40}),
    "weightedsqnorm": ((40, 40), {}),
    "weightedsqdist": ((40, 40, 40), {}),
    "matvecmult": ((120, 40), {}),
    "vecmatmult": ((40, 120), {}),
    "tensorprod": ((8, 5), {}),
    "tensordot": (
        (40, 40),
        {"dimfa": (5, 8), "dimfb": (8, 5), "contfa": (1,), "contfb": (0,), "perm": (1, 0)},
    ),
    "kron": ((10, 4), {"dimfa": (5, 2), "dimfb": (2, 2)}),
    "bspline": ((44, 1), {"k": 2}),
    "softdtw_sqdist": ((4, 3, 1), {}),  # written out: a long one has thousands of operations
    "deinterleave": ((80,), {"part": 1}),
    "complex_sum_t": ((2,), {"dim": 40}),
    "complex_powi": ((40,), {"n": 3}),
    "complex_matvecmult": ((120, 20), {}),
    "complex_vecmatmult": ((20, 120), {}),
    "complex_tensorprod": ((8, 10), {}),
    "complex_tensordot": (
        (40, 40),
        {"dimfa": (5, 4), "dimfb": (4, 5), "contfa": (1,), "contfb": (0,), "perm": (1, 0)},
    ),
    "complex_kron": ((20, 4), {"dimfa": (5, 2), "dimfb": (2, 1)}),
}


def long_call(op: Op) -> tuple[tuple[int, ...], Mapping[str, Any]]:
    if op.name in LONG:
        return LONG[op.name]
    assert not op.params, f"{op.name} has parameters: add a call on a long vector to LONG"
    dims, _ = max(op.samples, key=lambda s: sum(s[0]))
    return tuple({3: 40, 6: 80}.get(d, d) for d in dims), {}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_operation_on_long_vectors(name: str, backend: str) -> None:
    """Results of more than 32 components are walked by a loop over them, with one of both kinds of lanes."""
    op, rng = TABLE[name], seeded(name)
    dims, params = long_call(op)
    dtype = str(rng.choice(DTYPES))
    args, intervals = arguments(PLACES[op.arity][0], dims, op.domain)
    f = call(name, *args, **params)
    for case in cases(rng, f, intervals, dtype, [(17, 17) if rng.random() < 0.5 else (2, 257)]):
        check(case, backend)


def _total(x: Expr) -> Expr:
    return call("sum", x)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_long_vectors_that_are_folded(dtype: str, backend: str) -> None:
    """Folds of long vectors of every stage, inside each other, and of vectors of different lengths."""
    rng = seeded(dtype)
    x, y, p = input_(0, "i", 40), input_(1, "j", 40), input_(2, "p", 40)
    z = input_(3, "j", 1600)
    formulas = [
        _total(x * y) + _total(x * p) * _total(y * p) + _total(p),
        _total(call("exp", x * _total(x * y) * 0.01) * y),
        call("norm2", x - y) + call("max_d", x * y) - call("min_d", y + p),
        call("dot", call("matvecmult", z, x), y),
        call("matvecmult", z, x - y) * _total(x),
        call("extract", call("concat", x * y, y), start=10, size=60),
        call("argmax_d", x * y) * 0.5 + call("argmin_d", x),
    ]
    for k, f in enumerate(formulas):
        slots = sorted({n.param("slot") for n in problem("sum", f).inputs})
        dense = problem("sum", _renumbered(f, {s: place for place, s in enumerate(slots)}), dtype=dtype)
        m, n = (19, 21) if (k % 2 == 0) == (dtype == "float32") else (2, 300)
        check(draw_case(rng, dense, m, n, domains=[(-1.0, 1.0)] * len(slots)), backend)


def _renumbered(f: Expr, new: Mapping[int, int]) -> Expr:
    return substitute(f, {n: input_(new[n.param("slot")], n.param("axis"), n.dim) for n in inputs(f)})


# ---------------------------------------------------------------------- NaN, infinities, zeros, subnormals


def special_numbers(dtype: str) -> np.ndarray:
    info = np.finfo(dtype)
    small, tiny = info.smallest_normal, info.smallest_subnormal
    numbers = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 3.0, -2.5, 7.0, 1e4, -1e4, np.inf, -np.inf, np.nan]
    return np.array([*numbers, tiny, -tiny, small / 3, -small / 3, small, info.eps, info.max, -info.max], dtype)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_special_values(name: str, dtype: str, backend: str) -> None:
    """Every pair of special numbers (a draw of the triples) as arguments; one term in the sum, so that each is seen."""
    op, rng = TABLE[name], seeded(name, dtype)
    dims, params = op.samples[0] if op.arity > 1 else op.samples[-1]
    numbers = special_numbers(dtype)
    combinations = np.array(list(itertools.product(numbers, repeat=min(op.arity, 2))))
    if op.arity == 3:
        combinations = rng.choice(numbers, (500, 3))
    count = len(combinations)
    axes = "jjj" if op.arity == 1 else "iji"  # rows and batches: the columns of a batch are its only term
    args = [input_(k, axes[k], d) for k, d in enumerate(dims)]
    arrays: list[np.ndarray] = []
    for k, d in enumerate(dims):
        column = combinations[:, k].astype(dtype)[:, None]
        other = rng.choice(numbers, (count, d - 1)) if d > 1 else np.empty((count, 0), dtype)
        arrays.append(np.concatenate([column, other], axis=1)[:, None, :])
    case = Case(problem("sum", call(name, *args, **params), dtype=dtype), tuple(arrays), Sizes(1, 1, (count,)))
    check(case, backend, informative=0.2)


FOLDING = [n for n, op in TABLE.items() if op.arity == 1 and not op.params and call(n, input_(0, "i", 40)).dim == 1]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FOLDING)
def test_special_values_in_folds_of_long_vectors(name: str, dtype: str, backend: str) -> None:
    """One special number, or two, at the first, the last, or another place of a vector that a loop folds."""
    rng = seeded(name, dtype)
    numbers = special_numbers(dtype)
    x = rng.choice([1.0, 2.0, -1.0], (3 * len(numbers), 40)).astype(dtype)
    for row, number in zip(x, np.tile(numbers, 3), strict=True):
        row[rng.choice([0, 39, *range(40)])] = number
        row[rng.integers(40)] = rng.choice(numbers)
    y = np.ones((1, 40), dtype)
    f = call(name, call("maximum", input_(0, "i", 40), input_(1, "j", 40) * -np.inf))  # of both axes: a pair
    for formula, arrays in ((call(name, input_(0, "i", 40)), (x,)), (f, (x, y))):
        check(Case(problem("sum", formula, dtype=dtype), arrays, Sizes(len(x), 1)), backend, informative=0.2)


# ---------------------------------------------------------------------- indices and truth values

INDICES = ("number", "any", "where", "index")
WITH_INDICES = [n for n, op in TABLE.items() if op.operands in INDICES or callable(op.operands)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", WITH_INDICES)
def test_operation_on_indices(name: str, backend: str) -> None:
    """Exact integers of both signs; the result as it is, and compared with another index."""
    op, rng = TABLE[name], seeded(name)
    dtype = str(rng.choice(DTYPES))
    dims, params = op.samples[0]
    numbers = [index("i") - 4, index("j") - 9, call("floordiv", index("j"), 3) - index("i")]
    args = [n if d == 1 else call("tile", n, times=d) for n, d in zip(numbers, dims, strict=False)]
    f = call(name, *args, **params)
    x, y = input_(0, "i", 1), input_(1, "j", 1)
    for g in (f + 0.0 * x * y, call("where", call("lt", f, index("i")), x, y)):
        p = problem("sum", g, over=str(rng.choice(["i", "j"])), dtype=dtype)
        m, n = (17, 19) if rng.random() < 0.5 else (2, 257)
        check(draw_case(rng, p, m, n, layouts=["plain"]), backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_truth_values_as_operands(dtype: str, backend: str) -> None:
    """Truth values of every stage, combined, selected, counted and used as numbers."""
    x, y, p = input_(0, "i", 1), input_(1, "j", 3), input_(2, "p", 1)
    below, positive, near = x < y, y > 0.0, call("abs", x - p) < 1.0
    formulas = [
        call("to_real", below & positive) + call("to_real", ~near | positive),
        call("where", below, call("where", near, x, y), p),
        call("where", call("where", near, positive, below), y, -y),
        call("sum", below & near) + below * 2.0,
        call("argmax_d", call("concat", below, positive)) + call("to_index", near),
        call("logical_xor", below, index("i") < index("j")) * (p < 0.0),
        call("extract", below, start=1, size=2) * call("pad", call("elem", positive, index=0), start=1, size=2),
    ]
    for k, f in enumerate(formulas):
        m, n = (17, 19) if (k % 2 == 0) == (dtype == "float32") else (3, 300)
        check(draw_case(seeded(dtype), problem("sum", f, dtype=dtype), m, n), backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_index_arithmetic_is_exact_beyond_32_bits(backend: str) -> None:
    """The number of a pair, i * 100,000 + j, is more than 2 ** 31 for the last rows."""
    number = index("i") * 100_000 + index("j")
    f = call("where", call("eq", call("floordiv", number, 100_000), index("i")), 1.0, 0.0) * input_(0, "j", 1)
    ones = np.ones((30, 1), np.float32)
    case = Case(problem("sum", f), (ones,), Sizes(30_000, 30))
    assert (run(case, backend)[0] == 30).all()
    big = call("to_index", input_(0, "j", 1) * 2.0**30) * 1024 + 1
    case = Case(
        problem("sum", call("eq", big - 1, call("to_index", input_(0, "j", 1) * 2.0**40))), (ones,), Sizes(3, 30)
    )
    assert (run(case, backend)[0] == 30).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_constants_of_every_kind(backend: str) -> None:
    """Formulas without a variable, and constants at the ends of the range."""
    rng = seeded(0)
    for value in (0.1, -3.0, 1e30, float("inf"), 16777217.0, 5e-324, 1e-40):
        p = problem("sum", const(value) * input_(0, "i", 1))
        check(draw_case(rng, p, 5, 3, domains=[(1.0, 1.0)]), backend)
        check(Case(problem("sum", const(value)), (), Sizes(5, 1)), backend)
    check(Case(problem("sum", const(True)), (), Sizes(5, 300)), backend)
    check(Case(problem("max", const(7, "index") + index("i")), (), Sizes(300, 5)), backend)
