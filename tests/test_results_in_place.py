"""Results changed in place before the backward pass, and what a reduction keeps for it.

Only what the formula of the derivative needs is kept, so everything else is the user's to change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from torch_cases import close, points

from pairfuse.torch import LazyTensor, Vi, Vj

Tensor = torch.Tensor


def kernel(x: Tensor, y: Tensor) -> LazyTensor:
    return (-(Vi(x) - Vj(y)).sqnorm2()).exp()


# What does not need its result: a sum or product of it with the data, or terms that are selected by their indices.
FREE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": lambda x, y: kernel(x, y).sum(dim=1),
    "sum over i": lambda x, y: kernel(x, y).sum(dim=0),
    "sum over both": lambda x, y: kernel(x, y).sum(dim=(0, 1)),
    "mean": lambda x, y: kernel(x, y).mean(dim=1),
    "product": lambda x, y: kernel(x, y) @ y,
    "product with one column": lambda x, y: kernel(x, y) @ y[:, 0],
    "transposed product": lambda x, y: kernel(x, y).T @ x,
    "min": lambda x, y: kernel(x, y).min(dim=1),
    "max": lambda x, y: kernel(x, y).max(dim=1),
    "Kmin": lambda x, y: kernel(x, y).Kmin(2, dim=1),
    "Kmax": lambda x, y: kernel(x, y).Kmax(2, dim=1),
    "value beside its index": lambda x, y: kernel(x, y).min_argmin(dim=1)[0],
    "prod": lambda x, y: (1 + kernel(x, y)).prod(dim=1),
    "prod with zeros": lambda x, y: (Vi(x) - Vj(x)).prod(dim=1),
}


def changed(r: Tensor) -> Tensor:
    r += 1
    r *= 2
    r.clamp_(min=-100.0)
    return r


@pytest.mark.parametrize("name", FREE)
def test_results_that_derivatives_do_not_need(name: str) -> None:
    """First and second derivatives, of the variables of either axis and of both, with checkpoints."""
    x, y = points(5, 3, grad=True), points(4, 3, grad=True)
    f = FREE[name]
    plain = 2 * f(x, y).sum()
    expected: Any = torch.autograd.grad(plain, [x, y], allow_unused=True)
    for wanted in ([x], [y], [x, y]):
        right = [e for e, v in zip(expected, (x, y), strict=True) if any(v is w for w in wanted)]
        if any(r is None for r in right):
            continue
        for found in (
            torch.autograd.grad(changed(f(x, y)).sum(), wanted),
            torch.autograd.grad(checkpoint(lambda x, y: changed(f(x, y)), x, y, use_reentrant=False).sum(), wanted),
        ):
            for a, b in zip(found, right, strict=True):
                close(a, b)

    def penalty(change: Callable[[Tensor], Tensor]) -> Tensor:
        (slope,) = torch.autograd.grad(change(f(x, y)).sum(), [x], create_graph=True)
        return torch.autograd.grad(slope.square().sum(), [x])[0]

    close(penalty(changed), penalty(lambda r: 2 * r))


def test_a_bias_added_in_place() -> None:
    x, b = points(5, 3, grad=True), points(4, 2)
    bias = points(5, 2, grad=True)
    r = kernel(x, points(4, 3)) @ b
    r += bias
    r.sum().backward()
    assert bias.grad is not None
    close(bias.grad, torch.ones_like(bias))


@pytest.mark.parametrize("name", ["sum", "product", "min", "prod"])
def test_compiled_functions(name: str) -> None:
    x, y = points(5, 3, grad=True), points(4, 3)
    f = FREE[name]
    (right,) = torch.autograd.grad(2 * f(x, y).sum(), [x])
    compiled = torch.compile(lambda x, y: changed(f(x, y)).sum(), fullgraph=True, backend="aot_eager")
    close(torch.autograd.grad(compiled(x, y), [x])[0], right)


def saved(f: Callable[[], Tensor]) -> list[Tensor]:
    """The tensors that torch is given to keep."""
    found: list[Tensor] = []

    def pack(t: Tensor) -> Tensor:
        found.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        f()
    return found


def test_no_result_is_kept_without_need() -> None:
    """A sum keeps its inputs; a minimum keeps indices and a truth value for each row."""
    x, y = points(50, 3), points(4, 3, grad=True)
    inputs = {x.data_ptr(), y.data_ptr()}
    for name in ("sum", "mean", "product"):
        kept = [t for t in saved(lambda name=name: FREE[name](x, y)) if t.data_ptr() not in inputs]
        assert not any(t.shape[-2:-1] == (50,) for t in kept), name
    kept = [t for t in saved(lambda: FREE["min"](x, y)) if t.shape == (50, 1)]
    assert sorted(str(t.dtype) for t in kept) == ["torch.int64"]
