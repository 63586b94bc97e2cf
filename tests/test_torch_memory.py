"""What a training loop keeps: nothing. And products with Hessians at a size at which no Hessian fits."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
from torch_cases import CASES, Case, close, points

from pairfuse.torch import Vi, Vj

# torch's own, at the first use of forward mode in a process
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is:DeprecationWarning")

Tensor = torch.Tensor


@pytest.fixture
def _no_collector() -> Iterator[None]:
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


TRAINING = """
import resource
import torch
from pairfuse.torch import LazyTensor, Vi, Vj

x = torch.randn(200, 3, requires_grad=True)
y, b = torch.randn(300, 3), torch.randn(300)
optimiser = torch.optim.SGD([x], lr=1e-4)


def step():
    d = (Vi(x) - Vj(y)).sqnorm2()
    loss = ((-d).exp() @ b).square().mean() + (-d).logsumexp(dim=1).mean() + d.Kmin(3, dim=1).mean()
    (slope,) = torch.autograd.grad(loss, [x], create_graph=True)
    optimiser.zero_grad()
    (loss + slope.square().sum()).backward()
    optimiser.step()


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


for _ in range(100):
    step()
before = peak()
for _ in range(1000):
    step()
print(peak() - before)
"""


def test_a_thousand_training_steps_leave_memory_flat() -> None:
    """Kibibytes that the largest memory of the process grows by: a kept matrix of one step would add 200 MB."""
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", TRAINING], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 4096


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
