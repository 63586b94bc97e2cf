"""What is measured on a GPU: the cases, their formulas, and how each result is judged.

In: nothing.  Out: `CASES`, the most important first.  A formula is written once for any LazyTensor, ours or PyKeOps';
`judge` computes a few rows densely in float64 and says how far from them the result is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

SAMPLED = 16  # rows that are computed densely
M = 10**6


@dataclass(frozen=True)
class GpuCase:
    """One thing to measure.

    shapes, dtype   of the arrays, random numbers between 0 and 1
    formula         (LazyTensor, *arrays, **options) -> tensor, or a tuple of them
    judge           (arrays in float64, result, rows) -> the error relative to the largest true number
    pairs           of one call
    target          what is aimed at on an H200, in words
    options         keyword arguments of the reduction that only Pairfuse knows
    torch           the same by PyTorch, where it has it
    """

    name: str
    title: str
    shapes: tuple[tuple[int, ...], ...]
    pairs: float
    formula: Callable[..., Any]
    judge: Callable[..., float]
    dtype: str = "float32"
    target: str = ""
    options: tuple[tuple[str, Any], ...] = ()
    torch: Callable[..., Any] | None = None
    keops: bool = True

    def smaller(self, factor: int) -> GpuCase:
        """The case with fewer rows, to try the suite."""
        shapes = tuple(tuple(max(1, n // factor) if n > 256 else n for n in s) for s in self.shapes)
        return replace(self, shapes=shapes, pairs=self.pairs / factor**2)


# ---------------------------------------------------------------------- formulas


def distance(lazy: Any, x: Any, y: Any) -> Any:
    """|x_i - y_j|^2"""
    return ((lazy(x[..., :, None, :].contiguous()) - lazy(y[..., None, :, :].contiguous())) ** 2).sum(-1)


def gaussian(lazy: Any, x: Any, y: Any, b: Any, **options: Any) -> Any:
    """sum_j exp(-|x_i - y_j|^2) b_j"""
    return ((-distance(lazy, x, y)).exp() * lazy(b[None, :, :])).sum(dim=1, **options)


def value_and_gradient(lazy: Any, x: Any, y: Any, b: Any, **options: Any) -> Any:
    from torch.autograd import grad

    x = x.detach().requires_grad_()
    value = gaussian(lazy, x, y, b, **options)
    return value, *grad(value.sum(), x)


def density_and_gradient(lazy: Any, x: Any, y: Any, **options: Any) -> Any:
    """The example of the README: log-density and its gradient."""
    from torch.autograd import grad

    x = x.detach().requires_grad_()
    value = (-distance(lazy, x, y)).exp().sum(dim=1, **options)
    return value, *grad(value.log().sum(), x)


def sinkhorn(lazy: Any, x: Any, y: Any, b: Any, **options: Any) -> Any:
    """log sum_j exp(b_j - |x_i - y_j|^2)"""
    return (lazy(b[None, :, :]) - distance(lazy, x, y)).logsumexp(dim=1, **options)


def neighbours(lazy: Any, x: Any, y: Any, **options: Any) -> Any:
    return distance(lazy, x, y).argKmin(K=10, dim=1, **options)


def nearest(lazy: Any, x: Any, y: Any, **options: Any) -> Any:
    return distance(lazy, x, y).argmin(dim=1, **options)


def batches(lazy: Any, x: Any, y: Any, **options: Any) -> Any:
    return (-distance(lazy, x, y)).exp().sum(dim=2, **options)


def attention(lazy: Any, q: Any, k: Any, v: Any, **options: Any) -> Any:
    scores = (lazy(q[:, None, :]) | lazy(k[None, :, :])) * (1 / math.sqrt(q.shape[-1]))
    return scores.sumsoftmaxweight(lazy(v[None, :, :]), axis=1, **options)


def attention_of_torch(q: Any, k: Any, v: Any) -> Any:
    from torch.nn.functional import scaled_dot_product_attention

    return scaled_dot_product_attention(q[None, None], k[None, None], v[None, None])[0, 0]


# ---------------------------------------------------------------------- judges: some rows densely, in float64


def _squared(x: Any, y: Any) -> Any:
    """|x_i - y_j|^2, one component at a time, so that nothing of size rows x columns x components is held."""
    total = 0
    for d in range(x.shape[-1]):
        total = total + (x[..., :, None, d] - y[..., None, :, d]) ** 2
    return total


def _off(found: Any, exact: Any) -> float:
    return float((found.detach().double() - exact).abs().max() / exact.abs().max())


def _of_gaussian(arrays: Any, result: Any, rows: Any) -> float:
    x, y, b = arrays
    return _off(result[rows], (-_squared(x[rows], y)).exp() @ b)


def _of_gradient(arrays: Any, result: Any, rows: Any) -> float:
    x, y, b = arrays
    weights = (-_squared(x[rows], y)).exp() * b[:, 0]
    slope = 2 * (weights @ y - weights.sum(1, keepdim=True) * x[rows])
    return max(_off(result[0][rows], weights.sum(1, keepdim=True)), _off(result[1][rows], slope))


def _of_density(arrays: Any, result: Any, rows: Any) -> float:
    x, y = arrays
    weights = (-_squared(x[rows], y)).exp()
    value = weights.sum(1, keepdim=True)
    return max(_off(result[0][rows], value), _off(result[1][rows], 2 * (weights @ y / value - x[rows])))


def _of_sinkhorn(arrays: Any, result: Any, rows: Any) -> float:
    x, y, b = arrays
    return _off(result[rows][:, 0], (b[:, 0] - _squared(x[rows], y)).logsumexp(1))


def _of_neighbours(arrays: Any, result: Any, rows: Any) -> float:
    """By how much the distances of what was found exceed those of the true neighbours."""
    x, y = arrays
    d2 = _squared(x[rows], y)
    found = result[rows].long()
    exact = d2.topk(found.shape[1], largest=False).values
    return _off(d2.gather(1, found).sort(1).values, exact)


def _of_batches(arrays: Any, result: Any, rows: Any) -> float:
    x, y = arrays
    return _off(result[rows][..., 0], (-_squared(x[rows], y[rows])).exp().sum(-1))


def _of_attention(arrays: Any, result: Any, rows: Any) -> float:
    q, k, v = arrays
    return _off(result[rows], (q[rows] @ k.T / math.sqrt(q.shape[-1])).softmax(1) @ v)


def sampled(case: GpuCase, arrays: Any, result: Any) -> float:
    """The error of a result on some of its rows."""
    import torch

    first = arrays[0]
    rows = torch.linspace(0, first.shape[0] - 1, min(SAMPLED, first.shape[0]), device=first.device).long()
    return case.judge([a.detach().double() for a in arrays], result, rows)


# ---------------------------------------------------------------------- the cases


def _points(m: int, n: int, d: int, *more: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return ((m, d), (n, d), *more)


L, S = 2 * 10**5, 10**5
FAST = (("accuracy", "fast"),)

CASES = (
    GpuCase(
        "gaussian-d3", "Gaussian sum, D=3", _points(M, M, 3, (M, 1)), 1e12, gaussian, _of_gaussian,
        target="at most 0.33 s, error at most 1e-6",
    ),
    GpuCase(
        "gaussian-d64-strict", "Gaussian sum, D=64", _points(L, L, 64, (L, 1)), 4e10, gaussian, _of_gaussian,
        target="8e11 pairs/s",
    ),
    GpuCase(
        "gaussian-d64-fast", "Gaussian sum, D=64, accuracy='fast'", _points(L, L, 64, (L, 1)), 4e10, gaussian,
        _of_gaussian, target="2e12 pairs/s", options=FAST,
    ),
    GpuCase(
        "argkmin-d3", "10 nearest, D=3", _points(M, M, 3), 1e12, neighbours, _of_neighbours, target="3e12 pairs/s",
    ),
    GpuCase(
        "value-gradient-d3", "Gaussian sum and gradient, D=3", _points(M, M, 3, (M, 1)), 1e12, value_and_gradient,
        _of_gradient,
    ),
    GpuCase(
        "value-gradient-d64", "Gaussian sum and gradient, D=64", _points(L, L, 64, (L, 1)), 4e10, value_and_gradient,
        _of_gradient,
    ),
    GpuCase("sinkhorn-d3", "Sinkhorn step, D=3", _points(M, M, 3, (M, 1)), 1e12, sinkhorn, _of_sinkhorn),
    GpuCase("sinkhorn-d64", "Sinkhorn step, D=64", _points(L, L, 64, (L, 1)), 4e10, sinkhorn, _of_sinkhorn),
    GpuCase(
        "attention-d64", "Attention, D=64, bfloat16", ((65536, 64),) * 3, 65536**2, attention, _of_attention,
        dtype="bfloat16", target="beside scaled_dot_product_attention", torch=attention_of_torch, keops=False,
    ),
    GpuCase(
        "argmin-d128", "Nearest, D=128, float16", _points(L, S, 128), 2e10, nearest, _of_neighbours, dtype="float16",
        keops=False,
    ),
    GpuCase(
        "few-rows", "Gaussian sum, 16 rows x 1e7, D=3", _points(16, 10**7, 3, (10**7, 1)), 1.6e8, gaussian,
        _of_gaussian,
    ),
    GpuCase(
        "batches", "1024 batches of 256 x 256, D=3", ((1024, 256, 3), (1024, 256, 3)), 1024 * 256 * 256, batches,
        _of_batches,
    ),
    GpuCase(
        "warm-call", "Warm call, 100 x 100, D=3", _points(100, 100, 3, (100, 1)), 1e4, gaussian, _of_gaussian,
        target="100 us for the caller",
    ),
    GpuCase("gaussian-d3-1e5", "Gaussian sum, D=3", _points(S, S, 3, (S, 1)), 1e10, gaussian, _of_gaussian),
    GpuCase(
        "readme", "The example of the README: log-density and gradient, D=3", _points(M, 2 * M, 3), 2e12,
        density_and_gradient, _of_density,
    ),
    GpuCase(
        "gaussian-d3-float64", "Gaussian sum, D=3, float64", _points(S, S, 3, (S, 1)), 1e10, gaussian, _of_gaussian,
        dtype="float64",
    ),
)  # fmt: skip
BY_NAME = {case.name: case for case in CASES}
