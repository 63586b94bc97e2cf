"""Products whose partial products leave the range of the type: only the value may, and what is left beside a term.

Mantissas and exponents are multiplied apart. Python's fractions and integers of any size are the judge.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfuse.numpy import LazyTensor, Vj
from pairfuse.torch import LazyTensor as TorchLazyTensor

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

BACKENDS = ("reference", "llvm")
INF, NAN = math.inf, math.nan


def product(terms: Any, dtype: str, backend: str, over: int = 1) -> np.ndarray:
    v = np.asarray(terms, dtype)
    other = LazyTensor(np.ones((1, 1, 1), dtype))
    return (other * LazyTensor(v[None, :, None] if over == 1 else v[:, None, None])).prod(dim=over, backend=backend)


def exact(terms: np.ndarray) -> float:
    """The product, rounded to float64; infinite where it is beyond."""
    if not np.isfinite(terms).all():
        return float(np.prod(np.sign(terms) * np.where(np.isinf(terms), INF, 1.0)))
    result = math.prod(Fraction(float(t)) for t in terms)
    try:
        return float(result)
    except OverflowError:
        return INF if result > 0 else -INF


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("backend", BACKENDS)
def test_large_and_small_terms_in_turn(backend: str, over: int) -> None:
    for dtype, rtol in (("float32", 1e-4), ("float64", 1e-12)):  # 2000 roundings
        found = product(np.tile([1e3, 1e-3], 1000), dtype, backend, over)
        np.testing.assert_allclose(found, [[1.0]], rtol=rtol)
        large = product(np.r_[np.full(300, 1e4), np.full(300, 1e-4)], dtype, backend, over)
        np.testing.assert_allclose(large, [[1.0]], rtol=rtol)


SIZES = st.sampled_from([1e30, -1e30, 1e-30, -3e-25, 1.0, -1.5, 0.75, 1e3, 1e-3])
SPECIAL = st.sampled_from([0.0, INF, -INF, NAN])


@settings(max_examples=40, deadline=None)
@given(
    terms=st.lists(SIZES, min_size=1, max_size=60),
    special=st.lists(SPECIAL, max_size=2),
    dtype=st.sampled_from(["float32", "float64"]),
    backend=st.sampled_from(BACKENDS),
)
def test_only_the_value_may_leave_the_range(terms: list[float], special: list[float], dtype: str, backend: str) -> None:
    v = np.array(terms + special, dtype)
    with np.errstate(all="ignore"):
        right = exact(v.astype(np.float64)) if not np.isnan(v).any() else NAN
        tiny = abs(right) < 2 * np.finfo(dtype).smallest_normal  # subnormal results may be 0
        expected = np.array(right).astype(dtype)
    found = product(v, dtype, backend)[0, 0]
    atol = 2 * np.finfo(dtype).smallest_normal if tiny else 0
    np.testing.assert_allclose(found, expected, rtol=len(v) * np.finfo(dtype).eps, atol=atol)


def test_vectors_batches_and_shared_columns() -> None:
    """Many columns and one row, so that lanes and threads have parts of a product; several rows; a batch."""
    rng = np.random.default_rng(3)
    for rows, columns in ((1, 40_000), (33, 1000)):
        exponents = rng.integers(-30, 31, (2, columns, 3))
        exponents -= np.round(exponents.mean(1, keepdims=True)).astype(int)  # products in range, partial ones not
        exponents[:, 0] -= exponents.sum(1)
        while (np.abs(exponents) > 60).any():  # spread what is left over several terms
            big = np.argwhere(np.abs(exponents) > 60)
            for b, j, d in big:
                move = int(np.sign(exponents[b, j, d])) * 50
                exponents[b, j, d] -= move
                exponents[b, (j + 1) % columns, d] += move
        signs = rng.choice([-1.0, 1.0], exponents.shape)
        y = (signs * 2.0**exponents).astype(np.float32)
        x = np.ones((rows, 1), np.float32)
        found = (LazyTensor(x[:, None, :]) * LazyTensor(y[:, None, :, :])).prod(dim=2)
        assert found.shape == (2, rows, 3)
        np.testing.assert_array_equal(found, np.broadcast_to(signs.prod(1)[:, None, :], found.shape))


def test_what_is_left_beside_a_term() -> None:
    """The product overflows or vanishes; without one of the terms it does not."""
    for terms in (
        [1e30, 1e30],
        [1e30, -1e20, 1e-5, 3.0],
        [1e-30, 1e-20, 1e3],
        [0.0, 1e30, 1e30, 1e-30],
        [0.0, 0.0, 2.0],
    ):
        y = np.array(terms, np.float32)
        right = [exact(np.delete(y.astype(np.float64), k)) for k in range(len(y))]
        with np.errstate(over="ignore", under="ignore"):
            right = np.array(right).astype(np.float32)
        t = torch.from_numpy(y).requires_grad_()
        f = TorchLazyTensor(torch.ones(1, 1, 1)) * TorchLazyTensor(t[None, :, None])
        (found,) = torch.autograd.grad(f.prod(dim=1).sum(), t)
        np.testing.assert_allclose(found.numpy(), right, rtol=1e-6, atol=2e-38)
        y_j = Vj(y[:, None])
        _, found = (y_j * 1.0).value_and_grad("prod", dim=1, wrt=y_j)
        np.testing.assert_allclose(found[:, 0], right, rtol=1e-6, atol=2e-38)


def test_second_derivatives() -> None:
    """Of two different terms; with respect to one of them alone the derivative is a difference of equal numbers."""
    terms = torch.tensor([1e18, 2e18, 1e18, 3.0, -1e-18, 1e-18, 1e-18], dtype=torch.float32)
    right = torch.func.hessian(lambda t: t.prod())(terms.double())

    def ours(t: torch.Tensor) -> torch.Tensor:
        return (TorchLazyTensor(torch.ones(1, 1, 1)) * TorchLazyTensor(t[None, :, None])).prod(dim=1).sum()

    t = terms.clone().requires_grad_()
    (first,) = torch.autograd.grad(ours(t), t, create_graph=True)
    for k in range(len(t)):
        (row,) = torch.autograd.grad(first[k], t, retain_graph=True)
        others = torch.arange(len(t)) != k
        torch.testing.assert_close(row.double()[others], right[k][others], rtol=1e-5, atol=0)
