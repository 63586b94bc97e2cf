"""Functions on LazyTensors and the same functions on dense tensors: what the tests of torch's modes share.

Every case takes tensors in float64 and gives one tensor. Sizes are small, terms are positive and of order 1, so that
products, divisions and roots are far from their singular points.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from pairfuse.torch import LazyTensor, Pm, Vi, Vj

Tensor = torch.Tensor


def points(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64, grad: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_(grad)


def close(got: Tensor, expected: Tensor, tolerance: float | None = None) -> None:
    tolerance = tolerance or (2e-5 if expected.dtype == torch.float32 else 1e-10)
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


class Case(NamedTuple):
    """lazy and dense agree on tensors of these shapes."""

    lazy: Callable[..., Tensor]
    dense: Callable[..., Tensor]
    shapes: tuple[tuple[int, ...], ...]

    def tensors(self, seed: int = 0) -> tuple[Tensor, ...]:
        return tuple(points(*shape, seed=seed + 7 * k) for k, shape in enumerate(self.shapes))


def _lazy_scores(x: Tensor, y: Tensor, p: Tensor) -> LazyTensor:
    return -(Pm(p) * (Vi(x) - Vj(y)) ** 2).sum(-1)


def _scores(x: Tensor, y: Tensor, p: Tensor) -> Tensor:
    return -(p * (x[:, None] - y) ** 2).sum(-1, keepdim=True)


def _lazy_vectors(x: Tensor, y: Tensor, p: Tensor) -> LazyTensor:
    return (Vi(x) - Pm(p) * Vj(y)).sin() + 1.5


def _vectors(x: Tensor, y: Tensor, p: Tensor) -> Tensor:
    return (x[:, None] - p * y).sin() + 1.5


def _topk(f: Tensor, dim: int, largest: bool) -> Tensor:
    return f.topk(2, dim=dim, largest=largest).values.movedim(dim, -2)


_DENSE: dict[str, Callable[[Tensor, int], Tensor]] = {
    "sum": lambda f, dim: f.sum(dim),
    "mean": lambda f, dim: f.mean(dim),
    "var": lambda f, dim: f.var(dim, correction=1),
    "std": lambda f, dim: f.std(dim, correction=1),
    "prod": lambda f, dim: f.prod(dim),
    "logsumexp": lambda f, dim: f.logsumexp(dim),
    "min": lambda f, dim: f.min(dim).values,
    "max": lambda f, dim: f.max(dim).values,
}
_XYP = ((4, 2), (3, 2), (2,))


def _reduction(name: str, dim: int) -> Case:
    def lazy(x: Tensor, y: Tensor, p: Tensor) -> Tensor:
        return getattr(_lazy_vectors(x, y, p), name)(dim=dim)

    return Case(lazy, lambda x, y, p: _DENSE[name](_vectors(x, y, p), dim), _XYP)


CASES: dict[str, Case] = {
    **{f"{name}, dim={dim}": _reduction(name, dim) for name in _DENSE for dim in (0, 1)},
    "Gaussian": Case(
        lambda x, y, p: _lazy_scores(x, y, p).exp().sum(dim=1),
        lambda x, y, p: _scores(x, y, p).exp().sum(1),
        _XYP,
    ),
    "logsumexp of scores": Case(
        lambda x, y, p: _lazy_scores(x, y, p).logsumexp(dim=1),
        lambda x, y, p: _scores(x, y, p).logsumexp(1),
        _XYP,
    ),
    "weighted logsumexp": Case(
        lambda x, y, p, w: _lazy_scores(x, y, p).logsumexp(dim=1, weight=Vj(w).exp()),
        lambda x, y, p, w: (_scores(x, y, p) + w).logsumexp(1),
        (*_XYP, (3, 2)),
    ),
    "attention": Case(
        lambda x, y, p, w: _lazy_scores(x, y, p).sumsoftmaxweight(Vj(w), dim=1),
        lambda x, y, p, w: (_scores(x, y, p).softmax(1) * w).sum(1),
        (*_XYP, (3, 2)),
    ),
    "product with a vector": Case(
        lambda x, y, p, w: _lazy_scores(x, y, p).exp() @ w,
        lambda x, y, p, w: _scores(x, y, p).exp()[..., 0] @ w,
        (*_XYP, (3,)),
    ),
    "product with a matrix, from the left": Case(
        lambda x, y, p, w: w @ _lazy_scores(x, y, p).exp(),
        lambda x, y, p, w: w @ _scores(x, y, p).exp()[..., 0],
        (*_XYP, (2, 4)),
    ),
    "Kmin": Case(
        lambda x, y, p: _lazy_vectors(x, y, p).Kmin(2, dim=1),
        lambda x, y, p: _topk(_vectors(x, y, p), 1, largest=False),
        _XYP,
    ),
    "Kmax of scores": Case(
        lambda x, y, p: _lazy_scores(x, y, p).Kmax(2, dim=0),
        lambda x, y, p: _topk(_scores(x, y, p), 0, largest=True)[..., 0],
        _XYP,
    ),
    "batches": Case(
        lambda x, y, p: (LazyTensor(x) - LazyTensor(p) * LazyTensor(y)).sin().logsumexp(dim=3),
        lambda x, y, p: (x - p * y).sin().logsumexp(3),
        ((2, 4, 1, 2), (1, 3, 2), (3, 1, 1, 1, 1)),
    ),
}
