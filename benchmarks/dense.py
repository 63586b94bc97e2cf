"""Each case in eager PyTorch, as an experienced user writes it: blocks of rows, matrix products for the distances.

In: the case and its tensors. Out: a tuple of tensors. A block holds at most BLOCK numbers, so that the intermediate
matrices stay in the cache of the processor's last level or close to it, and memory never limits the size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks import blocks
from benchmarks.cases import Case

BLOCK = 4_000_000  # numbers in an intermediate matrix: 16 MB in float32


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x|^2 - 2 <x, y> + |y|^2 for long vectors, differences for small problems: what is faster in each case."""
    if len(x) * len(y) * x.shape[1] <= 100_000:
        return ((x[:, None, :] - y[None, :, :]) ** 2).sum(dim=2)
    squares_x, squares_y = (x**2).sum(dim=1, keepdim=True), (y**2).sum(dim=1)
    return torch.addmm(squares_y, x, y.T, alpha=-2).add_(squares_x).clamp_(min=0)


def blockwise(step: Callable[[Tensor], Tensor], x: Tensor, columns: int) -> tuple[Tensor]:
    """``step`` on blocks of rows, put together."""
    return (torch.cat([step(rows) for rows in x.split(max(1, BLOCK // columns))]),)


def gaussian(case: Case, x: Tensor, y: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    return blockwise(lambda rows: squared_distances(rows, y).neg_().exp_() @ b, x, len(y))


def block_sparse(case: Case, x: Tensor, y: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    numbers = torch.arange(len(x))

    def step(rows: Tensor) -> Tensor:
        mask = torch.from_numpy(blocks.mask(case, rows.numpy()))
        return (squared_distances(x[rows], y).neg_().exp_() * mask) @ b

    return blockwise(step, numbers, len(y))


def logsumexp(case: Case, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return blockwise(lambda rows: squared_distances(rows, y).neg_().logsumexp(dim=1, keepdim=True), x, len(y))


def argmin(case: Case, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return blockwise(lambda rows: squared_distances(rows, y).argmin(dim=1, keepdim=True), x, len(y))


def argkmin(case: Case, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return blockwise(lambda rows: squared_distances(rows, y).topk(case.K, dim=1, largest=False).indices, x, len(y))


def density_gradient(case: Case, x: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    """The gradients by hand, from the kernel matrix of each block: autograd would need several more passes."""
    densities, gradients_x, gradient_y = [], [], torch.zeros_like(y)
    size = max(1, BLOCK // len(y))
    for rows, weights in zip(x.split(size), w.split(size), strict=True):
        kernel = squared_distances(rows, y).neg_().exp_()
        densities.append(kernel.sum(dim=1, keepdim=True))
        kernel *= weights
        gradients_x.append(2 * (kernel @ y - kernel.sum(dim=1, keepdim=True) * rows))
        gradient_y += 2 * (kernel.T @ rows - kernel.sum(dim=0)[:, None] * y)
    return torch.cat(densities), torch.cat(gradients_x), gradient_y


def sinkhorn_gradient(case: Case, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """By autograd, on whole matrices: for small sizes only."""
    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    cost = ((x[:, None, :] - y[None, :, :]) ** 2).sum(dim=2)
    f, g = x.new_zeros(len(x), 1), y.new_zeros(len(y), 1)
    for _ in range(case.steps):
        f = math.log(len(y)) - (g.T - cost).logsumexp(dim=1, keepdim=True)
        g = math.log(len(x)) - (f - cost).logsumexp(dim=0)[:, None]
    value = f.mean() + g.mean()
    return (value.detach()[None], *torch.autograd.grad(value, [x, y]))


def attention(case: Case, x: Tensor, y: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    q, k, v = (t[None, None] for t in (x, y, b))
    return (torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=1.0)[0, 0],)


def fourier(case: Case, x: Tensor, y: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    def step(rows: Tensor) -> Tensor:
        phases = rows @ y.T
        return torch.complex(phases.cos(), phases.sin()) @ c

    return blockwise(step, x, len(y))


DENSE: dict[str, Callable[..., tuple[Any, ...]]] = {
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
