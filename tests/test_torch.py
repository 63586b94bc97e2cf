"""LazyTensor on torch tensors: the same results as on NumPy arrays, and derivatives equal to those of dense torch."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfuse.torch import LazyTensor, Pm, Vi, Vj, index_i, index_j, where

Tensor = torch.Tensor
DTYPES = [torch.float32, torch.float64]


def points(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64, grad: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_(grad)


def close(got: Tensor, expected: Tensor, tolerance: float | None = None) -> None:
    tolerance = tolerance or (2e-5 if expected.dtype == torch.float32 else 1e-10)
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def same_gradients(lazy: Callable[..., Tensor], dense: Callable[..., Tensor], *tensors: Tensor) -> None:
    """Value and first derivatives of two functions agree, for a random cotangent."""
    tensors = tuple(t.detach().requires_grad_() for t in tensors)
    got, expected = lazy(*tensors), dense(*tensors)
    close(got.detach(), expected.detach())
    g = points(*expected.shape, seed=9, dtype=expected.dtype)
    scale = 50 if expected.dtype == torch.float32 else 1
    for a, b in zip(torch.autograd.grad(got, tensors, g), torch.autograd.grad(expected, tensors, g), strict=True):
        close(a / scale, b / scale)


# ---------------------------------------------------------------------- values


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_are_tensors_of_the_same_type(dtype: torch.dtype) -> None:
    x, y = points(5, 3, dtype=dtype), points(7, 3, dtype=dtype)
    k = (Vi(x) - Vj(y)).sqnorm2()
    assert k.dtype == str(dtype).removeprefix("torch.")
    close(k.sum(dim=1), torch.cdist(x, y).square().sum(1, keepdim=True))
    close(k.min(dim=1), torch.cdist(x, y).square().min(1, keepdim=True).values)
    assert k.argmin(dim=1).dtype == torch.int64
    assert k.Kmin_argKmin(3, dim=0)[1].shape == (7, 3)
    assert (k < 1).any(dim=1).dtype == torch.bool


def test_tensors_on_the_left_of_operators() -> None:
    x, y = points(5, 1, 3).abs(), points(1, 7, 3).abs()
    b = LazyTensor(y)
    for got, expected in [
        (x + b, x + y), (x - b, x - y), (x * b, x * y), (x / b, x / y), (x**b, x**y),
        ((x | b), (x * y).sum(-1, keepdim=True)), (x < b, (x < y).double()), (x >= b, (x >= y).double()),
        (x == b, (x == y).double()), (torch.tensor(2.0) * b + 0 * x, 2 * y + 0 * x),
        (torch.tensor([2.0, 3.0, 4.0]).double() * b + 0 * x, torch.tensor([2.0, 3.0, 4.0]) * y + 0 * x),
    ]:  # fmt: skip
        close(got.sum(dim=1), expected.sum(1))


def test_parameters_of_modules() -> None:
    scale = torch.nn.Parameter(torch.tensor([0.5, 1.0, 2.0]))
    width = torch.nn.Parameter(torch.tensor(0.7))
    x, y = points(5, 3, dtype=torch.float32), points(7, 3, dtype=torch.float32)

    def dense(s: Tensor, w: Tensor) -> Tensor:
        return (-(s * (x[:, None] - y) ** 2).sum(-1) / w).exp().sum(1, keepdim=True)

    result = (-(scale * (Vi(x) - Vj(y)) ** 2).sum(-1) / width).exp().sum(dim=1)
    result.square().sum().backward()
    expected = torch.autograd.grad(dense(scale, width).square().sum(), [scale, width])
    assert scale.grad is not None
    assert width.grad is not None
    assert width.grad.shape == ()
    close(scale.grad, expected[0])
    close(width.grad, expected[1])


def test_integer_tensors_take_the_type_of_the_others() -> None:
    n = torch.arange(5)[:, None, None]
    y = points(1, 7, 1, dtype=torch.float32)
    close((LazyTensor(n) * LazyTensor(y)).sum(dim=1), (n * y).sum(1))
    assert LazyTensor(n).sum(dim=1).dtype == torch.get_default_dtype()
    close((LazyTensor(y) * LazyTensor(y > 0)).sum(dim=1), (y * (y > 0)).sum(1))


def test_output_tensors_are_filled() -> None:
    x, y = points(5, 3), points(7, 3)
    k = Vi(x) * Vj(y)
    out = torch.empty(3, 5, dtype=torch.float64).T
    assert k.logsumexp(dim=1, out=out) is out
    close(out, k.logsumexp(dim=1))


def test_memory_is_shared_with_the_tensors() -> None:
    x, y = points(5, 3), points(7, 3)
    total = (Vi(x) * Vj(y)).sum_reduction(dim=1, call=False)
    x.mul_(2)
    close(total(), (x[:, None] * y).sum(1))


def test_products() -> None:
    x, y, v = points(5, 3), points(7, 3), points(7)
    k, dense = (Vi(x) - Vj(y)).norm2(), torch.cdist(x, y)
    close(k @ v, dense @ v)
    close(points(4, 5) @ k, points(4, 5) @ dense)
    close(k.T @ points(5, 2), dense.T @ points(5, 2))


def test_scipy_drives_torch_operators() -> None:
    x = points(30, 3)
    k = (-(Vi(x) - Vj(x)).sqnorm2()).exp() + where(index_i() == index_j(), 0.1, 0)
    dense = torch.exp(-(torch.cdist(x, x) ** 2)) + 0.1 * torch.eye(30)
    operator = scipy.sparse.linalg.aslinearoperator(k)
    b = points(30).numpy()
    for solve in (scipy.sparse.linalg.cg, scipy.sparse.linalg.gcrotmk):
        solution, failed = solve(operator, b, rtol=1e-10)
        assert failed == 0
        np.testing.assert_allclose(solution, np.linalg.solve(dense.numpy(), b), atol=1e-5)
    x32 = x.float()
    single: Any = scipy.sparse.linalg.aslinearoperator((-(Vi(x32) - Vj(x32)).sqnorm2()).exp())
    np.testing.assert_allclose(single @ b, torch.exp(-(torch.cdist(x, x) ** 2)).numpy() @ b, atol=1e-5)


def test_pickle_and_copies() -> None:
    x = points(5, 3, grad=True)
    k = LazyTensor(x[:, None, :]) * LazyTensor(points(7, 3)[None])
    expected = k.sum(dim=1)
    close(copy.deepcopy(k).sum(dim=1), expected)
    (grad,) = torch.autograd.grad(copy.deepcopy(k).sum(dim=1).sum(), [x])
    close(grad, torch.autograd.grad(expected.sum(), [x])[0])
    plain = Vi(points(5, 3)) * Vj(points(7, 3))
    close(pickle.loads(pickle.dumps(plain)).sum(dim=1), expected.detach())


# ---------------------------------------------------------------------- first derivatives

X, Y, P, W = points(2, 5, 1, 3), points(1, 1, 7, 3), points(2, 1, 1, 3).abs() + 0.5, points(7, 4)
SHAPES = [
    ((5, 1, 3), (1, 7, 3), (1, 1, 3)),
    ((2, 5, 1, 3), (1, 7, 3), (3,)),
    ((5, 1, 3), (2, 1, 7, 3), (1, 1, 1, 1)),
    ((2, 1, 5, 1, 3), (4, 1, 7, 3), (2, 4, 1, 1, 3)),
    ((5, 1, 1), (1, 7, 3), (1, 1, 3)),
    ((5, 1, 3), (1, 7, 1), ()),
]
DENSE: dict[str, Callable[[Tensor, int], Tensor]] = {
    "sum": lambda f, axis: f.sum(axis),
    "prod": lambda f, axis: f.prod(axis),
    "mean": lambda f, axis: f.mean(axis),
    "var": lambda f, axis: f.var(axis, correction=1),
    "std": lambda f, axis: f.std(axis, correction=1),
    "logsumexp": lambda f, axis: f.logsumexp(axis),
    "min": lambda f, axis: f.min(axis).values,
    "max": lambda f, axis: f.max(axis).values,
}


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("name", DENSE)
def test_gradients_of_reductions(name: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    """Of vectors, over both axes, with respect to i-variables, j-variables and parameters, batches included."""
    tensors = [points(*s, seed=k) for k, s in enumerate(shapes)]
    for axis in (-3, -2):

        def lazy(x: Tensor, y: Tensor, p: Tensor, axis: int = axis) -> Tensor:
            return getattr((LazyTensor(x) - Pm(p) * LazyTensor(y) if p.ndim < 2 else
                            LazyTensor(x) - LazyTensor(p) * LazyTensor(y)).sin() + 1.5, name)(dim=axis)  # fmt: skip

        def dense(x: Tensor, y: Tensor, p: Tensor, axis: int = axis) -> Tensor:
            return DENSE[name]((x - p * y).sin() + 1.5, axis)

        same_gradients(lazy, dense, *tensors)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", DENSE)
def test_gradients_of_scalar_formulas(name: str, dtype: torch.dtype) -> None:
    x, y, p = X.to(dtype), Y.to(dtype), P.to(dtype)
    for axis in (-3, -2):
        same_gradients(
            lambda x, y, p, axis=axis: getattr(
                (-(LazyTensor(p) * (LazyTensor(x) - LazyTensor(y)) ** 2).sum(-1)).exp() + 0.5, name
            )(dim=axis),
            lambda x, y, p, axis=axis: DENSE[name]((-(p * (x - y) ** 2).sum(-1, keepdim=True)).exp() + 0.5, axis),
            x, y, p,
        )  # fmt: skip


@pytest.mark.parametrize("K", [1, 3, 9])
@pytest.mark.parametrize("which", ["min", "max"])
def test_gradients_of_K_extrema(which: str, K: int) -> None:
    def dense(x: Tensor, y: Tensor, p: Tensor, axis: int, vector: bool) -> Tensor:
        f = p * (x - y) ** 2
        f = f if vector else f.sum(-1, keepdim=True)
        found = f.topk(min(K, f.shape[axis]), dim=axis, largest=which == "max").values
        found = found.movedim(axis, -2)
        missing = K - found.shape[-2]
        if missing:
            worst = float("inf" if which == "min" else "-inf")
            fill = found.new_full((*found.shape[:-2], missing, found.shape[-1]), worst)
            found = torch.cat([found, fill], -2)
        return found if vector else found[..., 0]

    def lazy(x: Tensor, y: Tensor, p: Tensor, axis: int, vector: bool) -> Tensor:
        f = LazyTensor(p) * (LazyTensor(x) - LazyTensor(y)) ** 2
        f = f if vector else f.sum(-1)
        return getattr(f, f"K{which}_argK{which}")(K, dim=axis)[0] if K == 3 else getattr(f, f"K{which}")(K, dim=axis)

    for axis in (-3, -2):
        for vector in (False, True):
            same_gradients(
                lambda x, y, p, a=axis, v=vector: lazy(x, y, p, a, v),
                lambda x, y, p, a=axis, v=vector: dense(x, y, p, a, v),
                X, Y, P,
            )  # fmt: skip


def test_gradients_of_weighted_reductions() -> None:
    def scores(x: Tensor, y: Tensor, p: Tensor) -> Tensor:
        return -(p * (x - y) ** 2).sum(-1, keepdim=True)

    def lazy(x: Tensor, y: Tensor, p: Tensor) -> LazyTensor:
        return -(LazyTensor(p) * (LazyTensor(x) - LazyTensor(y)) ** 2).sum(-1)

    same_gradients(
        lambda x, y, p, w: lazy(x, y, p).logsumexp(dim=2, weight=Vj(w).exp()),
        lambda x, y, p, w: (scores(x, y, p) + w).logsumexp(-2), X, Y, P, W,
    )  # fmt: skip
    same_gradients(
        lambda x, y, p, w: lazy(x, y, p).sumsoftmaxweight(Vj(w), dim=2),
        lambda x, y, p, w: (scores(x, y, p).softmax(-2) * w).sum(-2), X, Y, P, W,
    )  # fmt: skip


@pytest.mark.parametrize("columns", [0, 1, 4, 50])
def test_gradients_of_products(columns: int) -> None:
    w = points(7, columns) if columns else points(7)
    u = points(columns, 5) if columns else points(5)

    def lazy(x: Tensor, y: Tensor, p: Tensor) -> LazyTensor:
        return (-(LazyTensor(p) * (LazyTensor(x) - LazyTensor(y)) ** 2).sum(-1)).exp()

    def dense(x: Tensor, y: Tensor, p: Tensor) -> Tensor:
        return (-(p * (x - y) ** 2).sum(-1)).exp()

    def flip(u: Tensor) -> Tensor:
        return u.mT if u.ndim > 1 else u

    same_gradients(lambda x, y, p, w: lazy(x, y, p) @ w, lambda x, y, p, w: dense(x, y, p) @ w, X, Y, P, w)
    same_gradients(lambda x, y, p, u: u @ lazy(x, y, p), lambda x, y, p, u: u @ dense(x, y, p), X, Y, P, u)
    same_gradients(
        lambda x, y, p, u: lazy(x, y, p).T @ flip(u), lambda x, y, p, u: dense(x, y, p).mT @ flip(u), X, Y, P, u
    )  # fmt: skip


def test_gradients_of_long_vectors_and_of_many_parameters() -> None:
    same_gradients(
        lambda x, y, m: (Vi(x) - Vj(y)).weightedsqnorm(m).exp().sum(dim=1),
        lambda x, y, m: torch.einsum("ijk,kl,ijl->ij", d := x[:, None] - y, m.view(8, 8), d).exp().sum(1, keepdim=True),
        points(5, 8) / 9, points(7, 8) / 9, (points(8, 8) + points(8, 8).T).view(-1) / 9,
    )  # fmt: skip
    same_gradients(
        lambda x, m: LazyTensor(m).matvecmult(Vi(x)).relu().sum(dim=0),
        lambda x, m: (x @ m.view(6, 8).T).relu().sum(0, keepdim=True),
        points(5, 8), points(48),
    )  # fmt: skip


def test_components_and_choices() -> None:
    same_gradients(
        lambda x, y: where(Vi(x)[..., :2] < Vj(y)[..., 1:], Vi(x)[..., 0] * Vj(y)[..., 2], 0.5).sum(dim=1),
        lambda x, y: torch.where(x[:, None, :2] < y[:, 1:], x[:, None, :1] * y[:, 2:], 0.5).sum(1),
        points(5, 3), points(7, 3),
    )  # fmt: skip
    i, j = torch.arange(5)[:, None], torch.arange(7)
    same_gradients(
        lambda x, y: where(index_i() <= index_j(), (Vi(x) - Vj(y)).sqnorm2() * index_j(), 1e3).min(dim=1),
        lambda x, y: torch.where(i <= j, torch.cdist(x, y).square() * j, 1e3).min(1, keepdim=True).values,
        points(5, 3), points(7, 3),
    )  # fmt: skip


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_gradients_of_any_batches(data: st.DataObject) -> None:
    batch = tuple(data.draw(st.lists(st.sampled_from((1, 2, 3)), max_size=2)))
    shapes = []
    for tail in ([4, 1], [1, 6], [1, 1]):
        lead = [data.draw(st.sampled_from((1, n))) for n in batch][data.draw(st.integers(0, len(batch))) :]
        shapes.append([*lead, *tail, data.draw(st.sampled_from((1, 2)))])
    name, axis = data.draw(st.sampled_from(("sum", "max", "logsumexp"))), data.draw(st.sampled_from((-3, -2)))
    same_gradients(
        lambda x, y, p: getattr((LazyTensor(x) - LazyTensor(y)).sin() * LazyTensor(p), name)(dim=axis),
        lambda x, y, p: DENSE[name]((x - y).sin() * p, axis),
        *(points(*s, seed=k) for k, s in enumerate(shapes)),
    )


# ---------------------------------------------------------------------- what torch asks of a function


def test_upstream_gradients_of_any_strides() -> None:
    x, y, v = points(4, 5, 1, 3, grad=True), points(4, 1, 7, 3), points(4, 7, 2)

    def lazy() -> Tensor:
        return (-(LazyTensor(x) - LazyTensor(y)).sqnorm2()).exp() @ v

    def dense() -> Tensor:
        return (-(x - y).square().sum(-1)).exp() @ v

    for function in (
        lambda a: a.sum(),
        lambda a: a.permute(0, 2, 1).contiguous().clone().mean(),
        lambda a: (a.permute(2, 1, 0)[..., ::2] ** 2).sum(),
        lambda a: torch.cat([a, a], 2).mean(),
    ):
        got, expected = (torch.autograd.grad(function(f()), [x])[0] for f in (lazy, dense))
        close(got, expected)


def test_one_tensor_on_both_axes_and_twice() -> None:
    same_gradients(
        lambda x: (Vi(x) - Vj(x)).sqnorm2().exp().sum(dim=1) * x,
        lambda x: (x[:, None] - x).square().sum(-1, keepdim=True).exp().sum(1) * x,
        points(5, 3) / 3,
    )  # fmt: skip
    same_gradients(
        lambda x: (Vi(x) * Vi(x).sin() - Vj(x) * Vj(x)).sum(dim=0),
        lambda x: ((x * x.sin())[:, None] - x * x).sum(0),
        points(5, 3),
    )  # fmt: skip


def test_only_what_is_asked_is_differentiated() -> None:
    x, y = points(5, 3, grad=True), points(7, 3)
    k = (Vi(x) - Vj(y)).sqnorm2()
    a = k.sum(dim=1)
    assert a.requires_grad
    assert not k.argmin(dim=1).requires_grad
    assert not k.count_nonzero(dim=1).requires_grad
    values, places = k.min_argmin(dim=1)
    assert values.requires_grad
    assert not places.requires_grad
    assert not (Vi(x.detach()) - Vj(y)).sum(dim=1).requires_grad
    with torch.no_grad():
        assert not k.sum(dim=1).requires_grad
        assert not ((Vi(x) - Vj(y)) ** 2).sum(dim=1).requires_grad
    with torch.inference_mode():
        assert not ((Vi(x) - Vj(y)) ** 2).sum(dim=1).requires_grad
    a.sum().backward()
    assert y.grad is None
    assert x.grad is not None


def test_inputs_changed_in_place_are_noticed() -> None:
    x, y = points(5, 3, grad=True), points(7, 3)
    a = (Vi(x) * Vj(y)).exp().sum(dim=1)
    with torch.no_grad():
        x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        a.sum().backward()


def test_backward_twice_and_graph_retained() -> None:
    x, y = points(5, 3, grad=True), points(7, 3)
    a = (Vi(x) * Vj(y)).exp().sum(dim=1).sum()
    first = torch.autograd.grad(a, [x], retain_graph=True)[0]
    close(torch.autograd.grad(a, [x])[0], first)


def test_derivatives_at_coincident_points_are_zero() -> None:
    x = points(5, 3, grad=True)
    for distance in (
        (Vi(x) - Vj(x)).norm2(),
        ((Vi(x) - Vj(x)) ** 2).sum(-1).sqrt(),
        (Vi(x) - Vj(x)).abs().sum(-1),
        ((Vi(x) - Vj(x)) ** 2).sum(-1) ** 0.5,
    ):
        (grad,) = torch.autograd.grad(distance.sum(dim=1).sum(), [x])
        assert grad.isfinite().all()


def test_extrema_over_nothing_have_no_gradient() -> None:
    x, y = points(5, 3, grad=True), points(0, 3, grad=True)
    k = (Vi(x) - Vj(y)).sqnorm2()
    for result in (k.min(dim=1), k.Kmin(2, dim=1), k.sum(dim=1), k.logsumexp(dim=1), k.max(dim=0)):
        gx, gy = torch.autograd.grad(result.sum(), [x, y])
        assert not gx.any()
        assert gy.shape == (0, 3)


def test_ties_send_the_gradient_to_the_first() -> None:
    y = torch.tensor([[1.0], [0.0], [0.0]], requires_grad=True)
    (grad,) = torch.autograd.grad((Vj(y) * 2).min(dim=1).sum(), [y])
    close(grad, torch.tensor([[0.0], [2.0], [0.0]]))
    (grad,) = torch.autograd.grad((Vj(y) * 2).Kmin(2, dim=1)[0, 1], [y])
    close(grad, torch.tensor([[0.0], [0.0], [2.0]]))


def test_deferred_reductions_are_differentiable() -> None:
    x = points(5, 3, grad=True)
    total = (Vi(x) - Vj(x)).sqnorm2().logsumexp_reduction(dim=1, call=False)
    (grad,) = torch.autograd.grad(total().sum(), [x])
    (expected,) = torch.autograd.grad((x[:, None] - x).square().sum(-1).logsumexp(1).sum(), [x])
    close(grad, expected)


# ---------------------------------------------------------------------- second derivatives


@pytest.mark.parametrize("name", ["sum", "logsumexp", "min", "var", "prod"])
def test_second_derivatives(name: str) -> None:
    x, y, p = (t.detach().requires_grad_() for t in (X[:, :3], Y[:, :, :4], P))

    def lazy(x: Tensor, y: Tensor, p: Tensor) -> Tensor:
        return getattr((LazyTensor(p) * (LazyTensor(x) - LazyTensor(y)) ** 2).sum(-1) * 0.3, name)(dim=2)

    assert torch.autograd.gradgradcheck(lazy, (x, y, p))


def test_second_derivatives_of_the_others() -> None:
    x, y, w = (t.detach().requires_grad_() for t in (X[:, :3], Y[:, :, :4], W[:4, :2]))

    def scores(x: Tensor, y: Tensor) -> LazyTensor:
        return -(LazyTensor(x) - LazyTensor(y)).sqnorm2()

    assert torch.autograd.gradgradcheck(lambda x, y, w: scores(x, y).sumsoftmaxweight(Vj(w), dim=2), (x, y, w))
    assert torch.autograd.gradgradcheck(lambda x, y, w: scores(x, y).exp() @ w, (x, y, w))
    assert torch.autograd.gradgradcheck(lambda x, y, w: (scores(x, y) * Vj(w)).Kmax(2, dim=1), (x, y, w))


# ---------------------------------------------------------------------- at size


def test_the_example_of_the_manual_at_size() -> None:
    x, y = points(20_000, 3, dtype=torch.float32, grad=True), points(30_000, 3, dtype=torch.float32)
    x_i = LazyTensor(x[:, None, :])
    y_j = LazyTensor(y[None, :, :])
    D_ij = ((x_i - y_j) ** 2).sum(dim=2)
    K_ij = (-D_ij).exp()
    a_i = K_ij.sum(dim=1)
    (g_x,) = torch.autograd.grad((a_i**2).sum(), [x])
    assert a_i.shape == (20_000, 1)
    some = torch.arange(0, 20_000, 997)
    xs = x[some].detach().double().requires_grad_()
    dense = (-(xs[:, None] - y.double()).square().sum(-1)).exp().sum(1, keepdim=True)
    close(a_i[some].detach().double(), dense.detach(), 1e-5)
    close(g_x[some].double(), torch.autograd.grad((dense**2).sum(), [xs])[0], 1e-4)
