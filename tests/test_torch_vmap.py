"""vmap and the transforms of torch.func that are made of it: equal to those of dense torch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch_cases import CASES, Case, close, points

from pairfuse.errors import ShapeError
from pairfuse.torch import LazyTensor, Pm, Vi, Vj, index_j

# torch's own, at the first use of forward mode in a process
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

Tensor = torch.Tensor
ALL = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def same(transform: Callable[[Callable[..., Any]], Any], case: Case, *tensors: Tensor, tolerance: float = 1e-9) -> None:
    """The transformed functions agree, whatever they return."""
    got, expected = transform(case.lazy)(*tensors), transform(case.dense)(*tensors)
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def stacked(case: Case, dims: tuple[int | None, ...], size: int = 3) -> tuple[Tensor, ...]:
    """Inputs of the case with one more axis at the place `dims` says."""
    tensors = []
    for k, (shape, dim) in enumerate(zip(case.shapes, dims, strict=True)):
        longer = shape if dim is None else (*shape[:dim], size, *shape[dim:])
        tensors.append(points(*longer, seed=k))
    return tuple(tensors)


@ALL
def test_mapped_over_all_inputs(case: Case) -> None:
    dims = (0,) * len(case.shapes)
    same(torch.vmap, case, *stacked(case, dims))


@ALL
def test_mapped_over_inner_axes_and_over_some_inputs(case: Case) -> None:
    for k in range(len(case.shapes)):
        dims = tuple(min(1, len(s)) if n == k else None for n, s in enumerate(case.shapes))
        same(lambda f, dims=dims: torch.vmap(f, in_dims=dims, out_dims=1), case, *stacked(case, dims))
    dims = tuple(len(s) for s in case.shapes)
    same(lambda f: torch.vmap(f, in_dims=dims, out_dims=-1), case, *stacked(case, dims))


@ALL
def test_nested_maps(case: Case) -> None:
    count = len(case.shapes)
    inner = stacked(case, (0,) * count)
    outer = tuple(torch.stack([t, t + 0.1]) if k != 1 else t for k, t in enumerate(inner))
    dims = tuple(None if k == 1 else 0 for k in range(count))
    same(lambda f: torch.vmap(torch.vmap(f), in_dims=dims), case, *outer)


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_maps_in_chunks(chunk: int) -> None:
    case = CASES["Gaussian"]
    same(lambda f: torch.vmap(f, chunk_size=chunk), case, *stacked(case, (0, 0, 0)))


def test_single_numbers_are_mapped() -> None:
    x, y = points(4, 2), points(3, 2)

    def lazy(s: Tensor) -> Tensor:
        return (-(Vi(x) - Vj(y)).sqnorm2() * s).exp().sum(dim=1)

    widths = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    expected = (-torch.cdist(x, y).square() * widths[:, None, None]).exp().sum(-1, keepdim=True)
    close(torch.vmap(lazy)(widths), expected)


def test_results_that_are_indices_and_truth_values() -> None:
    x, y = points(5, 4, 2), points(3, 2)
    squares = torch.cdist(x, y).square()

    def lazy(x: Tensor) -> tuple[Tensor, ...]:
        d = (Vi(x) - Vj(y)).sqnorm2()
        return d.argmin(dim=1), *d.Kmin_argKmin(2, dim=1), (d < 1).any(dim=1), (d < 1).count_nonzero(dim=0)

    nearest, values, places, any_near, count = torch.vmap(lazy)(x)
    assert torch.equal(nearest[..., 0], squares.argmin(-1))
    expected = squares.topk(2, dim=-1, largest=False)
    close(values, expected.values)
    assert torch.equal(places, expected.indices)
    assert torch.equal(any_near[..., 0], (squares < 1).any(-1))
    assert torch.equal(count[..., 0], (squares < 1).sum(-2))


def test_nothing_to_map_and_sizes_of_one() -> None:
    y = points(3, 2)
    for size in (0, 1):
        result = torch.vmap(lambda x: (Vi(x) - Vj(y)).sqnorm2().sum(dim=1))(points(size, 4, 2))
        assert result.shape == (size, 4, 1)
    one_row = torch.vmap(lambda x: (Vi(x) * Vj(y)).sum(dim=0))(points(5, 1, 2))
    close(one_row, points(5, 1, 2) * y)


def test_formulas_made_outside_of_the_map() -> None:
    y, x = points(3, 2), points(5, 4, 2)
    scores = Vj(y).sin() + index_j()
    got = torch.vmap(lambda x: (Vi(x) * scores).sum(dim=1))(x)
    close(got, (x[:, :, None] * (y.sin() + torch.arange(3.0)[:, None])).sum(2))


def test_errors_are_those_of_the_unmapped_function() -> None:
    y = points(3, 3)
    with pytest.raises(ShapeError, match="different lengths"):
        torch.vmap(lambda x: (Vi(x) - Vj(y)).sum(dim=1))(points(5, 4, 2))


# ---------------------------------------------------------------------- torch.func

TRANSFORMS: dict[str, Callable[[Callable[..., Any]], Any]] = {
    "jacrev": lambda f: torch.func.jacrev(f, argnums=(0, 1)),
    "jacrev in chunks": lambda f: torch.func.jacrev(f, argnums=1, chunk_size=3),
    "jacfwd": lambda f: torch.func.jacfwd(f, argnums=(0, 1)),
    "vjp": lambda f: lambda *x: (pulled := torch.func.vjp(f, *x))[1](torch.ones_like(pulled[0])),
    "map of gradients": lambda f: (
        lambda *x: torch.vmap(torch.func.grad(lambda *x: f(*x).square().sum()), in_dims=(0, *[None] * (len(x) - 1)))(
            torch.stack([x[0], x[0] + 1]), *x[1:]
        )
    ),
    "gradient of a map": lambda f: (
        lambda *x: torch.func.grad(lambda *x: torch.vmap(f, in_dims=(0, *[None] * (len(x) - 1)))(*x).square().sum())(
            torch.stack([x[0], x[0] + 1]), *x[1:]
        )
    ),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@ALL
def test_transforms(case: Case, name: str) -> None:
    same(TRANSFORMS[name], case, *case.tensors())


@ALL
def test_hessians(case: Case) -> None:
    for transform in (torch.func.hessian, lambda f: torch.func.jacrev(torch.func.jacrev(f))):
        same(lambda f, t=transform: t(lambda x, *rest: (f(x, *rest) ** 2).sum()), case, *case.tensors(), tolerance=1e-8)


@ALL
def test_the_older_functional_interface(case: Case) -> None:
    x = case.tensors()
    for vectorize in (False, True):
        got = torch.autograd.functional.jacobian(case.lazy, x, vectorize=vectorize)
        expected = torch.autograd.functional.jacobian(case.dense, x, vectorize=vectorize)
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_functional_calls_of_modules() -> None:
    """Ensembles: many sets of weights of one module, mapped."""

    class Kernel(torch.nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.centres = torch.nn.Parameter(points(3, 2, seed=seed))
            self.width = torch.nn.Parameter(torch.tensor(0.5 + seed, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return (-(Vi(x) - Vj(self.centres)).sqnorm2() / self.width).exp().sum(dim=1)

    models = [Kernel(seed) for seed in range(4)]
    weights, buffers = torch.func.stack_module_state(models)  # type: ignore[arg-type]
    x = points(5, 2)
    got = torch.vmap(lambda w, b: torch.func.functional_call(models[0], (w, b), (x,)))(weights, buffers)
    close(got, torch.stack([model(x) for model in models]))

    def loss(w: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(models[0], w, (x[None],)).square().sum()

    each = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(dict(models[0].named_parameters()), x)
    for k in range(5):
        one = torch.func.grad(loss)(dict(models[0].named_parameters()), x[k])
        close(each["centres"][k], one["centres"])
        close(each["width"][k], one["width"])


def test_third_derivatives() -> None:
    x, y = points(2, 1), points(3, 1)
    lazy = lambda x: (Vi(x) - Vj(y)).sqnorm2().logsumexp(dim=1).sum()  # noqa: E731
    dense = lambda x: (x - y.T).square().logsumexp(1).sum()  # noqa: E731
    for chain in (
        (torch.func.jacfwd, torch.func.jacrev, torch.func.jacfwd),
        (torch.func.jacrev, torch.func.jacfwd, torch.func.jacrev),
        (torch.func.jacfwd, torch.func.jacfwd, torch.func.jacfwd),
    ):
        third = functools.reduce(lambda f, transform: transform(f), chain, lazy)
        close(third(x), functools.reduce(lambda f, transform: transform(f), chain, dense)(x), 1e-8)


def test_batch_axes_and_mapped_axes_together() -> None:
    x, y, p = points(3, 2, 4, 1, 2), points(5, 1, 3, 2), points(2)
    got = torch.vmap(
        lambda x: torch.vmap(lambda y: (LazyTensor(x) - Pm(p) * LazyTensor(y)).sin().max(dim=-2))(y[:, None])
    )(x)
    dense = (x[:, None] - p * y[None, :, None]).sin().max(-2).values
    close(got, dense)
