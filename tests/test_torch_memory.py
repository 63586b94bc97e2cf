"""What a training loop keeps: nothing. And products with Hessians at a size at which no Hessian fits."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch_cases import CASES, Case, close, points

from pairfuse.torch import Pm, Vi, Vj

# torch's own, at the first use of forward mode in a process
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

Tensor = torch.Tensor


@pytest.fixture
def _no_collector() -> Iterator[None]:
    torch.func.jvp(torch.sin, (torch.ones(1),), (torch.ones(1),))  # torch's first use of forward mode leaves cycles
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def released(run: Callable[[tuple[Tensor, ...]], object], case: Case) -> None:
    """All inputs, and the result, are freed as soon as the last name for them is gone."""
    tensors = tuple(t.requires_grad_() for t in case.tensors())
    watched = [weakref.ref(t) for t in tensors]
    result = run(tensors)
    if isinstance(result, Tensor):
        watched.append(weakref.ref(result))
    del tensors, result
    assert not any(w() is not None for w in watched)


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_nothing_waits_for_the_garbage_collector(case: Case) -> None:
    released(lambda x: case.lazy(*x), case)  # a graph that nobody ran
    released(lambda x: case.lazy(*x).sum().backward(), case)
    released(lambda x: torch.autograd.grad(case.lazy(*x).sum(), x, create_graph=True)[0], case)
    released(lambda x: torch.func.jvp(case.lazy, tuple(t.detach() for t in x), x)[1].detach(), case)


def step(x: Tensor, y: Tensor, b: Tensor, optimiser: torch.optim.Optimizer) -> None:
    """Three reductions, their gradient, and the gradient of its square."""
    d = (Vi(x) - Vj(y)).sqnorm2()
    loss = ((-d).exp() @ b).square().mean() + (-d).logsumexp(dim=1).mean() + d.Kmin(3, dim=1).mean()
    (slope,) = torch.autograd.grad(loss, [x], create_graph=True)
    optimiser.zero_grad()
    (loss + slope.square().sum()).backward()
    optimiser.step()


def test_a_thousand_training_steps_leave_memory_flat() -> None:
    """What Python holds, arrays and tensors among it; the whole process is measured in test_fused_gradients."""
    x, y, b = points(6, 2, grad=True), points(7, 2), points(7)
    optimiser = torch.optim.SGD([x], lr=1e-4)

    def held(steps: int) -> tuple[int, int]:
        for _ in range(steps):
            step(x, y, b, optimiser)
        gc.collect()
        return len(gc.get_objects()), sys.getallocatedblocks()

    objects, blocks = held(100)
    more_objects, more_blocks = held(1000)
    # a single one kept by each step would be 1000; some come and go
    assert more_objects - objects < 900
    assert more_blocks - blocks < 900


class Largest(TorchDispatchMode):
    """Notes the number of entries of the largest tensor that an operator of torch or a reduction makes."""

    entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        made = [t.numel() for t in tree_leaves(result) if isinstance(t, Tensor)]
        self.entries = max(self.entries, *made, 0)
        return result


def test_derivatives_make_no_matrix() -> None:
    """Of each reduction, first and second order: O(M + N) entries, those of the K smallest for each of their places."""
    m, n, dim, K = 300, 400, 2, 3
    x, y, p = points(m, dim, grad=True), points(n, dim, grad=True), points(dim, grad=True)
    d = (Vi(x) - Vj(y) * Pm(p)).sqnorm2()
    results: dict[str, Callable[[], Tensor]] = {
        "sum": lambda: (-d).exp().sum(dim=1),
        "prod": lambda: (d * 0.01 + 1).prod(dim=1),
        "std": lambda: d.std(dim=1),
        "logsumexp": lambda: (-d).logsumexp(dim=1),
        "attention": lambda: (-d).sumsoftmaxweight(Vj(y), dim=1),
        "min": lambda: d.min(dim=1),
        "Kmin": lambda: d.Kmin(K, dim=1),
        "vectors of Kmax": lambda: (Vi(x) * Vj(y)).Kmax(K, dim=0),
    }
    for name, result in results.items():
        with Largest() as largest:
            value = result().square().sum()
            slopes = torch.autograd.grad(value, [x, y, p], create_graph=True, materialize_grads=True)
            total = torch.cat([g.flatten() for g in slopes]).square().sum()
            torch.autograd.grad(total, [x, y, p], materialize_grads=True)
        assert 0 < largest.entries <= 8 * max(m, n) * dim * K, f"{name}: {largest.entries}"


def energy(x: Tensor) -> Tensor:
    return (-(Vi(x) - Vj(x)).sqnorm2()).exp().sum(dim=1).sum()


def forward_over_reverse(x: Tensor, v: Tensor) -> Tensor:
    return torch.func.jvp(torch.func.grad(energy), (x,), (v,))[1]


def reverse_over_reverse(x: Tensor, v: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(energy(x), [x], create_graph=True)
    return torch.autograd.grad((slope * v).sum(), [x])[0]


@pytest.mark.parametrize("product", [forward_over_reverse, reverse_over_reverse])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_with_the_Hessian_of_a_Gaussian_energy(
    product: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype
) -> None:
    x, v = points(40, 3, dtype=dtype), points(40, 3, seed=1, dtype=dtype)

    def dense(x: Tensor) -> Tensor:
        return (-(x[:, None] - x).square().sum(-1)).exp().sum()

    expected = torch.func.jvp(torch.func.grad(dense), (x.double(),), (v.double(),))[1]
    scale = expected.abs().max()
    close(product(x, v).double() / scale, expected / scale, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("product", [forward_over_reverse, reverse_over_reverse])
def test_products_with_the_Hessian_at_size(product: Callable[[Tensor, Tensor], Tensor]) -> None:
    """20,000 points: rows of the product, against those of the same sums in NumPy."""
    x, v = points(20_000, 3, dtype=torch.float32), points(20_000, 3, seed=1, dtype=torch.float32)
    got = product(x, v)
    xs, vs = x.double(), v.double()
    for i in range(0, 20_000, 4999):
        d, w = xs[i] - xs, vs[i] - vs
        k = (-d.square().sum(-1)).exp()
        expected = (4 * k[:, None] * (2 * (d * w).sum(-1, keepdim=True) * d - w)).sum(0)
        close(got[i].double() / expected.abs().max(), expected / expected.abs().max(), 1e-4)
