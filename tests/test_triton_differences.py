"""Sums of differences by matrix units: gradients of kernels of long vectors, run by Triton's interpreter.

    sum_j k_ij (x_i - y_j)  =  (x_i - c) sum_j k_ij  -  sum_j k_ij (y_j - c)

where x_i and y_j are far apart; tiles with near points are computed by differences.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest
from block_sparse import check_blocks, draw_mask, with_ranges
from conformance import Case, check, draw_case, problem, run
from interpreted import MARKS, need_interpreter, now, use_tile
from test_reductions_backends import seeded
from test_triton_dots import hard_points

from pairfuse.backends.triton.emit import emit_kernel
from pairfuse.backends.triton.tile import choose
from pairfuse.backends.triton.wide import wide_of
from pairfuse.ir.expr import Expr, call, index, input_
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.runtime import device

pytestmark = MARKS


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    need_interpreter()
    use_tile(monkeypatch, 16, 32)


def vectors(d: int) -> tuple[Expr, Expr]:
    return input_(0, "i", d), input_(1, "j", d)


def gaussian_gradient(d: int, over: str = "j") -> Expr:
    x, y = vectors(d)
    return call("exp", -call("sqdist", x, y)) * input_(2, over, 1) * (x - y)


def rational_gradient(d: int, over: str = "j") -> Expr:
    x, y = vectors(d)
    return (y - x) * (input_(2, over, 1) / (1.0 + call("sqdist", x, y)))


def distance_gradient(d: int, over: str = "j") -> Expr:
    x, y = vectors(d)
    return input_(2, over, 1) * (x - y) / call("sqrt", call("sqdist", x, y) + 1e-3)


def is_by_products(p: Problem) -> bool:
    wide = wide_of(device.program(p, now).kernel)
    return wide is not None and wide.pair is not None


@pytest.mark.parametrize("formula", [gaussian_gradient, rational_gradient, distance_gradient])
@pytest.mark.parametrize(("d", "over"), [(56, "i"), (100, "j")])
def test_gradients(d: int, over: str, formula: Any) -> None:
    """Both signs, several blocks of components, vectors that batches share, tails of rows and of columns."""
    rng = seeded(d, over, formula.__name__)
    p = problem("sum", formula(d, over), over=over)
    assert is_by_products(p)
    for batch in ("none", "mixed"):
        m, n = (21, 75) if batch == "none" else (5, 37)
        domains = [(-0.3, 0.3), (-0.3, 0.3), (-1.0, 1.0)]
        check(draw_case(rng, p, *((m, n) if over == "j" else (n, m)), batch, domains=domains), "triton")


def test_one_evaluation_for_32_components() -> None:
    kernel = device.program(problem("sum", gaussian_gradient(64)), now).kernel
    text = emit_kernel(kernel, choose(kernel, Sizes(10**5, 10**5), 0, 0, 132))
    assert "(other // parts) % 2" in text


def test_value_and_gradient_in_one_pass() -> None:
    x, y = vectors(60)
    k = call("exp", -call("sqdist", x, y)) * input_(2, "j", 1)
    p = problem("sum", call("concat", k, k * (x - y)))
    check(draw_case(seeded("both"), p, 19, 70, domains=[(-0.3, 0.3)] * 2 + [(-1.0, 1.0)]), "triton")


def test_vectors_that_are_computed() -> None:
    """The points are functions of the inputs, of parameters, and of their numbers."""
    x, y, s = input_(0, "i", 60), input_(1, "j", 60), input_(2, "p", 60)
    a, b = call("sin", x) * s, call("normalize", y) + index("j") * 0.01
    p = problem("sum", call("exp", -call("sqdist", a, b)) * (a - b))
    assert is_by_products(p)
    check(draw_case(seeded("computed"), p, 19, 70, domains=[(-0.3, 0.3)] * 2 + [(0.5, 1.0)]), "triton")


def test_what_is_not_a_gradient_is_summed_component_by_component() -> None:
    x, y = vectors(64)
    k = call("exp", -call("sqdist", x, y))
    for f in ((x - y) * (x - y) * k, (x - y) * k * y, (x * 2.0 - y) * k, x * k):
        assert not is_by_products(problem("sum", f))
    assert not is_by_products(problem("sum", call("exp", -call("sqdist", *vectors(40))) * call("sub", *vectors(40))))
    assert is_by_products(
        replace(problem("sum", call("exp", -call("sqdist", *vectors(40))) * call("sub", *vectors(40))), accuracy="fast")
    )


# ---------------------------------------------------------------------- accuracy


def relative(found: np.ndarray, x: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    """The largest error of sum_j w_j (x_i - y_j) / (1 + |x_i - y_j|^2), in the sum of the lengths of all terms."""
    step = x[:, None].astype(np.float64) - y[None]
    weight = w[:, 0] / (1.0 + (step**2).sum(-1))
    size = np.einsum("ij,ij->i", np.abs(weight), np.linalg.norm(step, axis=-1))
    error = np.linalg.norm(found - np.einsum("ij,ijd->id", weight, step), axis=-1)
    return float((error / np.maximum(size, 1e-30)).max())


def plain_sum(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The same in float32, component after component, column after column."""
    step = x[:, None] - y[None]
    distance = np.zeros(step.shape[:2], np.float32)
    for k in range(x.shape[1]):
        distance += step[..., k] * step[..., k]
    total = np.zeros_like(x)
    for j in range(len(y)):
        total += (w[j] / (np.float32(1) + distance[:, j]))[:, None] * step[:, j]
    return total


@pytest.mark.parametrize("d", [64, pytest.param(130, marks=pytest.mark.slow)])
def test_sums_are_at_most_twice_as_far_as_by_differences(d: int) -> None:
    """Weights of both signs; measured: never farther than by differences."""
    rng = seeded(d, "accuracy")
    a, b = vectors(d)
    p = problem("sum", input_(2, "j", 1) * (a - b) / (1.0 + call("sqdist", a, b)))
    assert is_by_products(p)
    for name, (x, y) in hard_points(d, rng).items():
        w = rng.standard_normal((len(y), 1)).astype(np.float32)
        (found,) = run(Case(p, (x, y, w), Sizes(len(x), len(y))), "triton")
        error, plain = (relative(v, x, y, w) for v in (found, plain_sum(x, y, w)))
        assert error <= 2 * plain, f"{name}: {error / plain} times as far"


def test_infinities_and_nan() -> None:
    """Rows and columns with special numbers are computed by differences; those of other rows do not see them."""
    rng = seeded("special")
    x, y = (rng.standard_normal((n, 60)).astype(np.float32) for n in (18, 70))
    for k, special in enumerate((np.inf, -np.inf, np.nan, 1e25, 1e-30)):
        x[3 * k, k] = special
        y[11 * k + 3, 7] = special
    x[7], y[9], y[40] = 1e-35, 0.0, 1e-35
    w = rng.standard_normal((70, 1)).astype(np.float32)
    p = problem("sum", rational_gradient(60))
    case = Case(p, (x, y, w), Sizes(18, 70))
    (found,), (expected,) = run(case, "triton"), run(case, "reference")
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    assert np.array_equal(np.isposinf(found), np.isposinf(expected))
    plain = case.arrays[1][~np.isin(np.arange(70), range(3, 59, 11))]
    case = Case(p, (x, plain, w[: len(plain)]), Sizes(18, len(plain)))
    (found,), (expected,) = run(case, "triton"), run(case, "reference")
    finite = np.isfinite(expected)
    assert finite.mean() > 0.7
    assert np.array_equal(finite, np.isfinite(found))
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-4, atol=1e-4)


def test_fast_sums() -> None:
    rng = seeded("fast")
    x, y = (rng.standard_normal((n, 40)).astype(np.float32) for n in (18, 75))
    w = rng.standard_normal((75, 1)).astype(np.float32)
    p = replace(problem("sum", rational_gradient(40)), accuracy="fast")
    (found,) = run(Case(p, (x, y, w), Sizes(18, 75)), "triton")
    error = relative(-found, x, y, w)
    assert error < 2.0**-10
    assert error > 2.0**-20, "not the fast way"


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_arrays_of_16_bits(kind: str) -> None:
    import torch

    rng = seeded(kind)
    x, y, w = (torch.from_numpy(rng.standard_normal(s)).to(getattr(torch, kind)) for s in ((21, 70), (75, 70), (75, 1)))
    p = problem("sum", rational_gradient(70))
    found = device.execute(p, [x, y, w], Sizes(21, 75), now, kind)
    assert found is not None
    plain = tuple(t.double().numpy() for t in (x, y, w))
    (right,) = run(Case(replace(p, dtype="float64"), plain, Sizes(21, 75)), "reference")
    unit = torch.finfo(x.dtype).eps
    np.testing.assert_allclose(found[0].double(), right, rtol=2 * unit, atol=2 * unit * np.abs(right).max())


# ---------------------------------------------------------------------- parts, ranges


def test_parts_of_the_columns_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tile(monkeypatch, 16, 32, split=True)
    p = problem("sum", rational_gradient(57))
    check(draw_case(seeded("parts"), p, 3, 2200, layouts=["plain"]), "triton")


def test_block_sparse_gradients() -> None:
    rng = seeded("blocks")
    p = problem("sum", rational_gradient(60))
    for m, n, blocks in ((40, 100, (3, 4)), (5, 30, (2, 2))):
        case = draw_case(rng, p, m, n, layouts=["plain"])
        mask = draw_mask(rng, m, n, blocks, 0.6)
        check_blocks(with_ranges(case, mask), mask, "triton")
