"""Each case written with LazyTensors: one text, run by Pairfuse and by PyKeOps.

In: the LazyTensor class of the engine, the case and its arrays. Out: a tuple of arrays. A call builds its LazyTensors
anew, as a user's function would, so their construction is part of what is timed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from benchmarks import blocks
from benchmarks.cases import Case


def squared_distances(lazy: Any, x: Any, y: Any) -> Any:
    return ((lazy(x[:, None, :]) - lazy(y[None, :, :])) ** 2).sum(axis=2)


def gaussian(lazy: Any, case: Case, x: Any, y: Any, b: Any) -> tuple[Any, ...]:
    return ((-squared_distances(lazy, x, y)).exp() @ b,)


def block_sparse(lazy: Any, case: Case, x: Any, y: Any, b: Any) -> tuple[Any, ...]:
    kernel = (-squared_distances(lazy, x, y)).exp()
    kernel.ranges = blocks.ranges(case)
    return (kernel @ b,)


def logsumexp(lazy: Any, case: Case, x: Any, y: Any) -> tuple[Any, ...]:
    return ((-squared_distances(lazy, x, y)).logsumexp(axis=1),)


def argmin(lazy: Any, case: Case, x: Any, y: Any) -> tuple[Any, ...]:
    return (squared_distances(lazy, x, y).argmin(axis=1),)


def argkmin(lazy: Any, case: Case, x: Any, y: Any) -> tuple[Any, ...]:
    return (squared_distances(lazy, x, y).argKmin(K=case.K, axis=1),)


def density_gradient(lazy: Any, case: Case, x: Any, y: Any, w: Any) -> tuple[Any, ...]:
    from torch.autograd import grad  # the cases without gradients do without torch

    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    density = (-squared_distances(lazy, x, y)).exp().sum(axis=1)
    return (density.detach(), *grad(density, [x, y], w))


def sinkhorn_gradient(lazy: Any, case: Case, x: Any, y: Any) -> tuple[Any, ...]:
    """Dual potentials of optimal transport between the two clouds, with entropy 1; see exact.py."""
    from torch.autograd import grad

    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    cost = squared_distances(lazy, x, y)
    f, g = x.new_zeros(len(x), 1), y.new_zeros(len(y), 1)
    for _ in range(case.steps):
        f = math.log(len(y)) - (lazy(g[None, :, :]) - cost).logsumexp(axis=1)
        g = math.log(len(x)) - (lazy(f[:, None, :]) - cost).logsumexp(axis=0)
    value = f.mean() + g.mean()
    return (value.detach()[None], *grad(value, [x, y]))


def attention(lazy: Any, case: Case, x: Any, y: Any, b: Any) -> tuple[Any, ...]:
    scores = lazy(x[:, None, :]) | lazy(y[None, :, :])
    return (scores.sumsoftmaxweight(lazy(b[None, :, :]), axis=1),)


def fourier(lazy: Any, case: Case, x: Any, y: Any, c: Any) -> tuple[Any, ...]:
    phases = lazy(x[:, None, :]) | lazy(y[None, :, :])
    return ((phases.exp1j() * lazy(c[None, :, :])).sum(axis=1),)


FORMULAS: dict[str, Callable[..., tuple[Any, ...]]] = {
    "gaussian": gaussian,
    "block_sparse": block_sparse,
    "logsumexp": logsumexp,
    "argmin": argmin,
    "argkmin": argkmin,
    "density_gradient": density_gradient,
    "sinkhorn_gradient": sinkhorn_gradient,
    "attention": attention,
    "fourier": fourier,
}
