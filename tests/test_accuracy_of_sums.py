"""Long sums: ten million positive terms are right to 3e-7 in float32 and to 1e-14 in float64, and what threads change.

The exact sums are taken in long double (or by math.fsum where that is no longer than a double).
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from conformance import DTYPES, Case, check, draw_case, problem

from pairfuse.config import config
from pairfuse.ir.expr import call, input_
from pairfuse.lower.problem import Sizes
from pairfuse.lower.schedule import BLOCK_LONG
from pairfuse.runtime.execute import execute

N = 10_000_000
BOUND = {"float32": 3e-7, "float64": 1e-14}
A, B = input_(0, "i", 1), input_(1, "j", 1)


def sequence(name: str, dtype: str, n: int = N) -> np.ndarray:
    numbers = {
        "uniform": lambda: np.random.default_rng(0).random(n),
        "all equal to 0.1": lambda: np.full(n, 0.1),
        "all equal to 1/3": lambda: np.full(n, 1 / 3),
        "decreasing": lambda: 1 / np.arange(1, n + 1),
        "increasing": lambda: 1 / np.arange(n, 0, -1),
        "one large, then small": lambda: np.r_[1e7, np.full(n - 1, 1e-3)],
        "over twelve decades": lambda: 10.0 ** np.random.default_rng(0).uniform(-12, 0, n),
    }
    return numbers[name]().astype(dtype)[:, None]


def exact_sum(y: np.ndarray) -> float:
    if np.finfo(np.longdouble).nmant > 60:
        return float(np.sum(y, dtype=np.longdouble))
    return math.fsum(y[:, 0].tolist())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "name",
    [
        *("uniform", "all equal to 0.1", "all equal to 1/3", "decreasing", "increasing", "one large, then small"),
        "over twelve decades",
    ],
)
def test_ten_million_positive_terms(name: str, dtype: str) -> None:
    """One row: lanes and threads share the columns. Forty rows: the lanes hold rows."""
    y = sequence(name, dtype)
    exact = exact_sum(y)
    for rows in (1, 40):
        x = np.ones((rows, 1), dtype)
        (a,) = execute(problem("sum", A * B, dtype=dtype), (x, y), Sizes(rows, N))
        error = float(np.max(np.abs(a.astype(np.float64) - exact)) / exact)
        assert error < BOUND[dtype], f"{rows} rows: {error:.1e}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [3, 40])
def test_a_million_vectors(dim: int, dtype: str) -> None:
    """The sums of a long vector live in memory, and their short sums are longer: equal terms lose more."""
    n = 1_000_000
    x = np.ones((17, dim), dtype)
    for name, bound in (("uniform", BOUND[dtype]), ("all equal to 0.1", BOUND[dtype])):
        y = sequence(name, dtype, n)
        if dim == 40 and name != "uniform":
            # BLOCK_LONG equal terms are added before they reach a double: each addition may lose in the same direction
            bound = max(bound, BLOCK_LONG / 4 * float(np.finfo(dtype).eps))
        (a,) = execute(problem("sum", input_(0, "i", dim) * B, dtype=dtype), (x, y), Sizes(17, n))
        error = float(np.max(np.abs(a.astype(np.float64) - exact_sum(y))) / exact_sum(y))
        assert error < bound, f"{name}: {error:.1e}"


@pytest.mark.parametrize("name", ["sum", "logsumexp", "sumsoftmaxweight", "prod"])
def test_terms_that_cancel(name: str) -> None:
    """Terms of both signs: the error is that of the terms, not of their sum."""
    rng = np.random.default_rng(0)
    for dtype in DTYPES:
        for m, n in ((1, 30_001), (33, 3001)):
            y = rng.normal(size=(n, 1))
            y[: n // 2] = -y[n // 2 : n // 2 * 2]
            x = 1.0 + np.arange(m)[:, None] / m
            f = {"prod": 1.0 + 0.001 * A * B}.get(name, A * B)
            fs = (f, B) if name == "sumsoftmaxweight" else (f,)
            check(Case(problem(name, *fs, dtype=dtype), (x.astype(dtype), y.astype(dtype)), Sizes(m, n)))


def test_mean_and_variance_of_distant_numbers() -> None:
    """Sums of squares far from zero, in the way of a variance: within the bound of their terms."""
    rng = np.random.default_rng(0)
    y = (1000 + rng.normal(size=(20_001, 1))).astype("float32")
    x = np.full((5, 1), 1000, "float32")
    for f in ((A - B) * (A - B), A * A - 2.0 * A * B + B * B):
        check(Case(problem("sum", f), (x, y), Sizes(5, len(y))))


@pytest.mark.parametrize("dim", [3, 64])
@pytest.mark.parametrize("name", ["sum", "logsumexp", "min_argmin"])
def test_distances_of_distant_points(name: str, dim: int) -> None:
    """Far from the origin, some of them in both sets: the errors are those of differences."""
    rng = np.random.default_rng(0)
    x, y = input_(0, "i", dim), input_(1, "j", dim)
    f = call("sqdist", x, y) / dim
    for m, n in ((40, 70), (2, 300)):
        points = [(1000 + rng.normal(size=(size, dim))).astype("float32") for size in (m, n)]
        points[1][:2] = points[0][:2]
        check(Case(problem(name, f if name == "min_argmin" else call("exp", -f)), tuple(points), Sizes(m, n)))


# ---------------------------------------------------------------------- what threads change


def results(case: Case, threads: int) -> np.ndarray:
    with config.override(threads=threads):
        return execute(case.problem, case.arrays, case.sizes)[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sum", "logsumexp"])
def test_results_do_not_depend_on_the_threads_where_rows_are_many(name: str, dtype: str) -> None:
    """Bit for bit: every row is computed by one thread, whose way over the columns is the same."""
    x, y = input_(0, "i", 3), input_(1, "j", 3)
    f = call("exp", -call("sqdist", x, y))
    case = draw_case(np.random.default_rng(0), problem(name, f, dtype=dtype), 1000, 1500, layouts=["plain"])
    one = results(case, 1)
    for threads in (1, 2, 3):
        np.testing.assert_array_equal(results(case, threads), one)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 20])
def test_results_of_shared_rows_depend_on_the_threads_by_one_rounding(rows: int, dtype: str) -> None:
    """Threads share the columns of few rows: the same number of threads gives the same bits, another one may round
    the last digit of the total differently."""
    case = draw_case(np.random.default_rng(0), problem("sum", A * B, dtype=dtype), rows, 300_001, layouts=["plain"])
    one, two = results(case, 1), results(case, 2)
    np.testing.assert_array_equal(results(case, 2), two)
    np.testing.assert_array_equal(results(case, 1), one)
    np.testing.assert_array_max_ulp(one, two, 1)
