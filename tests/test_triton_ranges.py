"""Block-sparse ranges on the Triton backend, by Triton's interpreter: the same comparison as for the CPU's kernels."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from block_sparse import Mask, check_blocks, draw_mask, with_ranges
from conformance import Case, draw_case, problem, run
from interpreted import MARKS, need_interpreter

import pairfuse.numpy as pn
from pairfuse.backends.triton import listed
from pairfuse.backends.triton.tile import Tile
from pairfuse.ir.expr import Expr, call, index, input_
from pairfuse.ir.reductions import REDUCTIONS
from pairfuse.lower.kernel import Kernel
from pairfuse.lower.problem import Sizes
from pairfuse.runtime import device
from pairfuse.torch import LazyTensor

pytestmark = MARKS
NAMES = sorted(REDUCTIONS)


@pytest.fixture(autouse=True)
def _by_the_interpreter() -> None:
    need_interpreter()


def seeded(*key: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def small_tiles(monkeypatch: pytest.MonkeyPatch, rows: int, cols: int) -> None:
    def chosen(kernel: Kernel, sizes: Sizes, *rest: Any) -> Tile:
        return replace(listed.choose_listed(kernel, sizes, *rest), rows=rows, cols=cols, flush=2)

    monkeypatch.setattr(device, "choose_listed", chosen)


def term(name: str, dim: int) -> tuple[Expr, ...]:
    x, y = input_(0, "i", dim), input_(1, "j", dim)
    f = x * y if name != "prod" else 1.0 + 0.001 * x * y
    return (f,) if REDUCTIONS[name].arity == 1 else (f, y + 0.5)


@pytest.mark.parametrize("over", "ij")
@pytest.mark.parametrize("name", NAMES)
def test_every_reduction(name: str, over: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = seeded(name, over)
    small_tiles(monkeypatch, 4, 8)
    params: dict[str, Any] = {"K": 2} if REDUCTIONS[name].params else {}
    for m, n, blocks, dim in ((11, 50, (3, 4), 1), (30, 21, (5, 3), 3)):
        p = problem(name, *term(name, dim), over=over, dtype=str(rng.choice(["float32", "float64"])), **params)
        case = draw_case(rng, p, m, n, str(rng.choice(["none", "mixed"])) if dim == 1 else "none")
        mask = draw_mask(rng, m, n, blocks, 0.6)
        check_blocks(with_ranges(case, mask), mask, "triton")


@pytest.mark.parametrize("formula", ["product of matrices", "long distances", "wide", "long inner products"])
def test_long_vectors(formula: str) -> None:
    """With the tiles of a GPU: what matrix units multiply elsewhere is computed by components here."""
    rng = seeded(formula)
    x, y, b = input_(0, "i", 40), input_(1, "j", 40), input_(2, "j", 20)
    k = call("exp", -0.01 * call("sqdist", x, y))
    p = {
        "product of matrices": problem("sum", k * b),
        "long distances": problem("min_argmin", call("sqdist", x, y)),
        "wide": problem("sumsoftmaxweight", -0.1 * call("sqdist", x, y), b),
        "long inner products": problem("logsumexp", call("dot", x, y)),
    }[formula]
    for m, n, blocks in ((40, 100, (3, 4)), (5, 30, (2, 2))):
        case = draw_case(rng, p, m, n, layouts=["plain"])
        mask = draw_mask(rng, m, n, blocks, 0.6)
        check_blocks(with_ranges(case, mask), mask, "triton")


def test_row_and_column_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    small_tiles(monkeypatch, 4, 8)
    rng = seeded("numbers")
    shifted = call("to_real", index("j")) * input_(1, "j", 1) + call("to_real", index("i")) * input_(0, "i", 1)
    formula = call("where", call("eq", index("i"), index("j")), 1000.0, shifted)
    a, b = (rng.integers(-2, 3, (size, 1)).astype(np.float64) for size in (30, 40))
    mask = draw_mask(rng, 30, 40, (4, 5), 0.6)
    case = Case(problem("min_argmin", formula, dtype="float64"), (a, b), Sizes(30, 40, (), mask.ranges))
    for got, expected in zip(run(case, "triton"), run(case, "reference"), strict=True):
        assert (got == expected).all()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_sums_over_both_axes(share: float) -> None:
    rng = seeded("both", share)
    p = problem("sum", input_(0, "i", 2) * input_(1, "j", 2), over="ij", dtype="float64")
    case = draw_case(rng, p, 9, 30)
    mask = draw_mask(rng, 9, 30, (3, 4), share)
    (actual,), (expected,) = (run(with_ranges(case, mask), backend) for backend in ("triton", "reference"))
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["sum", "argmin", "logsumexp", "sumsoftmaxweight"])
def test_nothing_takes_part(name: str) -> None:
    rng = seeded(name)
    none = np.zeros((0, 2), int)
    for mask in (
        Mask(none, none, np.zeros((0, 0), bool), 5, 6),
        Mask(np.array([[1, 4]]), np.array([[2, 2]]), np.ones((1, 1), bool), 5, 6),
    ):
        case = draw_case(rng, problem(name, *term(name, 1)), 5, 6)
        check_blocks(with_ranges(case, mask), mask, "triton")


# ---------------------------------------------------------------------- as users write them


def gaussian(lazy: Any, x: Any, y: Any, mask: Mask) -> Any:
    K = (-((lazy(x[..., :, None, :]) - lazy(y[..., None, :, :])) ** 2).sum(-1)).exp()
    K.ranges = mask.six
    return K


@pytest.mark.parametrize("reduction", ["sum", "logsumexp", "argmin", "max", "Kmin"])
def test_ranges_of_a_lazytensor_with_batches(reduction: str) -> None:
    """Both axes; rows in no block give what is neutral."""
    rng = seeded("front", reduction)
    x, y = rng.normal(size=(2, 1, 12, 2)), rng.normal(size=(3, 15, 2))
    K = gaussian(pn.LazyTensor, x, y, draw_mask(rng, 12, 15, (4, 5), 0.5))
    more = {"K": 2} if reduction == "Kmin" else {}
    for dim in (2, 3):
        found, expected = (getattr(K, reduction)(dim=dim, backend=b, **more) for b in ("triton", "reference"))
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("reduction", ["sum", "logsumexp", "min"])
def test_derivatives(reduction: str) -> None:
    """Of first and second order, by the points of both axes, one axis of which is walked over by the other table."""
    rng = seeded("derivatives", reduction)
    mask = draw_mask(rng, 8, 9, (3, 3), 0.7)
    points = [torch.from_numpy(rng.normal(size=(n, 2))) for n in (8, 9)]
    found: list[Any] = []
    for backend in ("triton", "llvm"):
        x, y = (p.clone().requires_grad_() for p in points)
        values = getattr(gaussian(LazyTensor, x, y, mask), reduction)(dim=1, backend=backend)
        weights = torch.linspace(1, 2, 8, dtype=torch.float64)[:, None]
        gx, gy = torch.autograd.grad(values, [x, y], weights, create_graph=True)
        second = torch.autograd.grad((gx**2).sum() + (gy**3).sum(), [x, y])
        found.append((values, gx, gy, *second))
    for triton, plain in zip(*found, strict=True):
        torch.testing.assert_close(triton, plain, rtol=1e-10, atol=1e-10)
