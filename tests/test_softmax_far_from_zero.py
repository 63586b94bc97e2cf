"""Derivatives of log-sum-exp and softmax where the scores are large: maximum and sum are kept apart.

The probability of a pair is exp(F - m) / s. As exp(F - L) with L = m + log(s) rounded to the type of the data, it was
off by as much as L is. torch in float64, on the same rounded scores, is the judge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pairfuse.numpy import Vi, Vj
from pairfuse.torch import LazyTensor

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

OFFSETS = (0.0, 1e5, -1e6, 1e6, 6e6)
BACKENDS = ("reference", "llvm")
Function = Callable[[Any, Any], Any]


def of_scores(s: torch.Tensor, over: int) -> LazyTensor:
    """Scores s, (batch, rows, columns), as a formula: the axis that is reduced has one variable for each row."""
    rows = torch.eye(s.shape[-2], dtype=s.dtype)
    if over == 1:
        return (LazyTensor(rows[:, None, :]) * LazyTensor(s.mT[:, None, :, :].contiguous())).sum(-1)
    return (LazyTensor(rows[None, :, :]) * LazyTensor(s.mT[:, :, None, :].contiguous())).sum(-1)


def of_values(v: torch.Tensor, over: int) -> LazyTensor:
    return LazyTensor(v[None, :, :] if over == 1 else v[:, None, :])


def ours(name: str, over: int, backend: str) -> Function:
    def value(s: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        f, options = of_scores(s, over), {"dim": 1 + over, "backend": backend}
        if name == "logsumexp":
            return f.logsumexp(**options)
        weight = of_values(v, over)
        return f.logsumexp(weight=weight, **options) if name == "weighted" else f.sumsoftmaxweight(weight, **options)

    return value


def dense(name: str) -> Function:
    def value(s: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        if name == "logsumexp":
            return s.logsumexp(-1, keepdim=True)
        if name == "weighted":
            return (s[..., None] + v.log()).logsumexp(-2)
        return s.softmax(-1) @ v

    return value


def derivatives(f: Function, s: torch.Tensor, v: torch.Tensor, along: torch.Tensor) -> list[torch.Tensor]:
    """Gradients, and those of <gradient, along>: the second derivatives along a direction."""
    s, v = s.clone().requires_grad_(), v.clone().requires_grad_()
    value = f(s, v)
    weights = torch.linspace(0.5, 1.5, value.numel(), dtype=s.dtype).view(value.shape)
    first = torch.autograd.grad((value * weights).sum(), [s, v], create_graph=True, allow_unused=True)
    second = torch.autograd.grad((first[0] * along).sum(), [s, v], allow_unused=True)
    found: list[Any] = [*first, *second]
    return [torch.zeros_like(v) if g is None else g for g in found]


def compare(name: str, offset: float, over: int, backend: str) -> None:
    random = torch.Generator().manual_seed(5)
    s = torch.rand((2, 3, 40), generator=random) * 4 + offset
    v = torch.rand((40, 2), generator=random) + 0.5
    along = torch.randn(s.shape, generator=random)
    found = derivatives(ours(name, over, backend), s, v, along)
    right = derivatives(dense(name), s.double(), v.double(), along.double())
    for g, e in zip(found, right, strict=True):
        torch.testing.assert_close(g.double(), e, rtol=0, atol=1e-6 * max(1.0, float(e.detach().abs().max())))


# ---------------------------------------------------------------------- examples


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradient_of_a_softmax_at_100000(backend: str) -> None:
    s = (torch.tensor([0, 0.5, 1, -1, 0.25]) + 1e5).requires_grad_()
    scores = LazyTensor(torch.zeros(1, 1, 1)) + LazyTensor(s[None, :, None])
    value = scores.sumsoftmaxweight(LazyTensor(torch.arange(5.0)[None, :, None]), dim=1, backend=backend)
    (gradient,) = torch.autograd.grad(value.sum(), s)
    right = torch.tensor([-0.27048, -0.21104, 0.03933, 0.05774, 0.38445])
    torch.testing.assert_close(gradient, right, rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_second_derivatives_of_a_log_sum_exp_at_6_million(backend: str) -> None:
    s = torch.tensor([0, 0.5, 1, -1, 0.25]) + 6e6

    def ours(s: torch.Tensor) -> torch.Tensor:
        scores = LazyTensor(torch.zeros(1, 1, 1, dtype=s.dtype)) + LazyTensor(s[None, :, None])
        return scores.logsumexp(dim=1, backend=backend).sum()

    right = torch.func.hessian(lambda s: s.logsumexp(0))(s.double())
    for found in (torch.func.hessian(ours)(s), torch.func.jacfwd(torch.func.jacfwd(ours))(s)):
        torch.testing.assert_close(found.double(), right, rtol=0, atol=1e-6)


# ---------------------------------------------------------------------- the kind


@pytest.mark.parametrize("name", ["logsumexp", "weighted", "softmax"])
def test_first_and_second_derivatives(name: str) -> None:
    compare(name, 1e6, 1, "llvm")


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("name", ["logsumexp", "weighted", "softmax"])
def test_all_offsets_axes_and_backends(name: str, offset: float, over: int, backend: str) -> None:
    compare(name, offset, over, backend)


def test_value_and_slopes_in_one_pass() -> None:
    """The derivative with respect to the axis that stays, without torch and with it, and the one beside it."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(1000, 1001, (6, 1)), rng.uniform(1000, 1000.003, (9, 1))
    x, y = (a.astype(np.float32) for a in (x, y))
    scores = (x.astype(np.float64) * y.T).astype(np.float32).astype(np.float64)  # the product as the kernel rounds it
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    right = p @ y, p.T @ x
    x_i, y_j = Vi(x), Vj(y)
    _, found = (x_i * y_j).value_and_grad("logsumexp", dim=1, wrt=[x_i, y_j])
    tensors = [torch.from_numpy(a).requires_grad_() for a in (x, y)]
    value = (LazyTensor(tensors[0][:, None, :]) * LazyTensor(tensors[1][None, :, :])).logsumexp(dim=1)
    for g in (found, [t.numpy() for t in torch.autograd.grad(value.sum(), tensors)]):
        np.testing.assert_allclose(g[0], right[0], rtol=1e-6)
        np.testing.assert_allclose(g[1], right[1], rtol=1e-6)


def test_rows_of_minus_infinity_stay_as_they_are() -> None:
    """Derivative 0 of the first and of the second order for a log-sum-exp; a softmax of nothing is NaN."""
    x, y = torch.tensor([-torch.inf, 2.0]), torch.tensor([1.0, 1.0], requires_grad=True)
    f = LazyTensor(x[:, None, None]) + LazyTensor(y[None, :, None])
    value = f.logsumexp(dim=1)
    assert value[0].detach().item() == -torch.inf
    (first,) = torch.autograd.grad(value.sum(), y, create_graph=True)
    (second,) = torch.autograd.grad(first[0], y)
    assert first.tolist() == [0.5, 0.5]
    assert second.tolist() == [0.25, -0.25]
    soft = f.sumsoftmaxweight(LazyTensor(y[None, :, None]), dim=1)
    assert soft[0].isnan().all()
    assert soft[1].detach().item() == 1.0
