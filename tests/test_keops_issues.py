"""What users of KeOps reported, one test for each number of its tracker (and of its clients' trackers).

Every formula is compared with the same computed densely in float64.  Complex formulas and block-sparse ranges have
files of their own.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from dense import points

from pairfuse import ShapeError
from pairfuse.numpy import Genred, LazyTensor, Pm, Vi, Vj

Tensor = torch.Tensor
LIBRARIES = {"numpy": lambda x: x, "torch": torch.from_numpy}
both = pytest.mark.parametrize("library", LIBRARIES)


def on(library: str, *values: np.ndarray) -> Any:
    found = [LIBRARIES[library](v) for v in values]
    return found[0] if len(found) == 1 else found


def lazy(library: str, *values: np.ndarray) -> Any:
    found = [LazyTensor(LIBRARIES[library](v)) for v in values]
    return found[0] if len(found) == 1 else found


def agree(got: Any, expected: Any, tolerance: float = 1e-10) -> None:
    got = got.detach().numpy() if isinstance(got, Tensor) else np.asarray(got)
    expected = expected.detach().numpy() if isinstance(expected, Tensor) else np.asarray(expected)
    assert got.shape == expected.shape, (got.shape, expected.shape)
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def tensors(*shapes: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    return [torch.from_numpy(points(*s, seed=seed + k)).requires_grad_() for k, s in enumerate(shapes)]


def same_gradients(value: Tensor, dense: Tensor, wanted: list[Tensor], tolerance: float = 1e-9) -> None:
    agree(value, dense, tolerance)
    found = torch.autograd.grad(value.sin().sum(), wanted, retain_graph=True)
    for got, expected in zip(found, torch.autograd.grad(dense.sin().sum(), wanted, retain_graph=True), strict=True):
        agree(got, expected, tolerance)


# ---------------------------------------------------------------------- batch axes and broadcasting


@both
def test_issue_366(library: str) -> None:
    """A batch axis that only a parameter has."""
    x, y, p = points(1, 5, 1, 1), points(1, 1, 4, 1), np.abs(points(3, 1, 1, 1))
    a, b, c = lazy(library, x, y, p)
    agree((-c * (a - b) ** 2).exp().sum(dim=2), np.exp(-p * (x - y) ** 2).sum(2))
    agree((-c * (a - b) ** 2).exp().sum(dim=1), np.exp(-p * (x - y) ** 2).sum(1))


@both
def test_issue_382(library: str) -> None:
    """Batch axes of length 1 in a row, one of them broadcast."""
    x, c = points(8, 6, 1, 1, 2), points(8, 1, 1, 32, 2)
    a, b = lazy(library, x, c)
    agree(((a - b) ** 2).sum(4).argmin(dim=3), ((x - c) ** 2).sum(4).argmin(3)[..., None])


def test_issue_103() -> None:
    """Second derivatives with a batch, the scale a tensor without axes."""
    x, momenta = tensors((4, 10, 3), (4, 10, 3))
    sigma = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)

    def energy(kernel: str) -> Tensor:
        if kernel == "lazy":
            d2 = ((LazyTensor(x[:, :, None]) - LazyTensor(x[:, None])) ** 2).sum(-1)
            product = (-d2 / sigma**2).exp() @ momenta
        else:
            product = torch.exp(-((x[:, :, None] - x[:, None]) ** 2).sum(-1) / sigma**2) @ momenta
        return 0.5 * (momenta * product).sum()

    results = []
    for kernel in ("lazy", "dense"):
        first = torch.autograd.grad(energy(kernel), [x, momenta, sigma], create_graph=True)
        second = torch.autograd.grad(torch.stack([(g**2).sum() for g in first]).sum(), [x, momenta, sigma])
        results.append([*first, *second])
    for got, expected in zip(*results, strict=True):
        agree(got, expected, 1e-9)


def test_issue_145() -> None:
    """The gradient has the shape of its tensor, batch included."""
    (x,) = tensors((2, 20, 3))
    value = (-((LazyTensor(x[:, :, None]) - LazyTensor(x[:, None])) ** 2).sum(-1)).exp().sum(dim=2)
    same_gradients(value, torch.exp(-((x[:, :, None] - x[:, None]) ** 2).sum(-1)).sum(2)[..., None], [x])


@both
def test_issue_106(library: str) -> None:
    """A vector of three axes is no batch of vectors: the error says how to write it, and so written it works."""
    x, y, u, eps = points(8, 10, 1, 3), points(8, 1, 15, 3), points(8, 1, 15), np.array(0.5)
    a, b = lazy(library, x, y)
    with pytest.raises(ShapeError, match="batch axes"):
        _ = -((a - b) ** 2).sum(-1) + on(library, u)
    k = (-((a - b) ** 2).sum(-1) + on(library, u[:, :, :, None])) / on(library, eps)
    dense = (-((x - y) ** 2).sum(-1) + u) / eps
    agree(k.logsumexp(dim=2), np.log(np.exp(dense).sum(2))[..., None])


@both
def test_issue_19(library: str) -> None:
    """Batch axes broadcast against each other, and are in the shape."""
    length = points(4, 16, 3)
    a, b = lazy(library, length[:, None, :, None, :], length[None, :, None, :, :])
    d, dense = (a - b) ** 2, (length[:, None, :, None] - length[None, :, None]) ** 2
    assert d.shape == (4, 4, 16, 16, 3)
    assert d.sum(4).shape == (4, 4, 16, 16)
    agree(d.sum(4).sum(3), dense.sum(4).sum(3)[..., None])
    agree(d.sum(4).sum(3).sum(2), dense.sum(4).sum(3)[..., None].sum(2))


def test_issue_299() -> None:
    """Gradients where batch axes are distributed over the operands."""
    heads, n, length, batch = 4, 3, 6, 2
    u, a, p = tensors((batch, heads, 1, length, 1), (1, heads, n, 1, 1), (1, 1, 1, length, 1))
    value = (LazyTensor(u) * (LazyTensor(p) * LazyTensor(a)).exp()).sum(dim=3)
    same_gradients(value, (u * (p * a).exp()).sum(3), [u, a, p])


def test_issue_246() -> None:
    """The gradient of a quotient by a parameter of length 1, and of length D."""
    for length in (1, 3):
        x1, x2, g = tensors((5, 3), (7, 3), (length,))
        scale = (g**2 + 1).detach().requires_grad_()
        value = (-(Vi(x1) / scale).sqdist(Vj(x2) / scale)).exp().sum(dim=1)
        dense = torch.exp(-((x1[:, None] / scale - x2 / scale) ** 2).sum(-1)).sum(1)[:, None]
        same_gradients(value, dense, [x1, x2, scale])
        text = Genred("Exp(-SqDist(x1 / g, x2 / g))", ["x1 = Vi(3)", "x2 = Vj(3)", f"g = Pm({length})"], axis=1)
        same_gradients(text(x1, x2, scale), dense, [x1, x2, scale])


@both
def test_geomloss_issue_26(library: str) -> None:
    """A batch is the same as its members one by one."""
    x, y, h = points(3, 10, 3), points(3, 12, 3), points(3, 12, 1)

    def softmin(x: Any, y: Any, h: Any) -> Any:
        d2 = ((LazyTensor(x[..., :, None, :]) - LazyTensor(y[..., None, :, :])) ** 2).sum(-1) / 2
        return (LazyTensor(h[..., None, :, :]) - d2 / 0.1).logsumexp(dim=x.ndim - 1)

    a, b, c = on(library, x, y, h)
    agree(softmin(a, b, c), np.stack([np.asarray(softmin(a[k], b[k], c[k])) for k in range(3)]))


# ---------------------------------------------------------------------- operations


@both
@pytest.mark.parametrize("length", [1, 3, 9])
def test_issue_220(library: str, length: int) -> None:
    """WeightedSqDist, with a number, a vector and a matrix."""
    s, x, y = np.abs(points(length)), points(5, 3), points(7, 3)
    matrix = s.reshape(3, 3) + s.reshape(3, 3).T if length == 9 else np.diag(np.broadcast_to(s, 3))
    s = matrix.ravel() if length == 9 else s
    d = x[:, None] - y
    dense = np.einsum("ijk,kl,ijl->ij", d, matrix, d).sum(1)[:, None]
    text = Genred("WeightedSqDist(s, x, y)", [f"s = Pm({length})", "x = Vi(3)", "y = Vj(3)"], axis=1)
    agree(text(*on(library, s, x, y)), dense)
    agree(Vi(on(library, x)).weightedsqdist(Vj(on(library, y)), on(library, s)).sum(dim=1), dense)


@both
def test_issue_262(library: str) -> None:
    """A length that is one more than a multiple of a block."""
    for dim in (64 * 3 + 1, 64 * 386 + 1):
        x, y = points(3, dim), points(4, dim)
        d2 = ((Vi(on(library, x)) - Vj(on(library, y))) ** 2).sum(-1)
        agree(d2.sum(dim=1), ((x[:, None] - y) ** 2).sum((1, 2))[:, None])


@both
def test_issue_243(library: str) -> None:
    """A batch of long vectors, and the index of their largest product."""
    a, b = points(10, 20, 1, 500), points(1, 1, 30, 500)
    x, y = lazy(library, a, b)
    agree((x | y).argmax(dim=2), (a * b).sum(-1).argmax(2)[..., None])


@both
def test_issue_331(library: str) -> None:
    """The K smallest of long vectors with a change of sign (also #294)."""
    x, y = points(1, 300), points(96, 300)
    k = -((Vi(on(library, x)) - Vj(on(library, y))) ** 2).sum(-1)
    values, places = k.Kmin_argKmin(2, dim=1, enable_chunks=True)
    dense = -((x[:, None] - y) ** 2).sum(-1)
    agree(places, np.argsort(dense, 1)[:, :2])
    agree(values, np.sort(dense, 1)[:, :2])


@both
def test_issue_304(library: str) -> None:
    """K = 1 ... 10 neighbours in many dimensions."""
    x = points(40, 8192, dtype=np.float32)
    d2 = ((Vi(on(library, x)) - Vj(on(library, x))) ** 2).sum(-1)
    dense = ((x[:, None].astype(float) - x) ** 2).sum(-1)
    for K in (1, 2, 10):
        agree(d2.argKmin(K, dim=1), np.argsort(dense, 1)[:, :K])


@both
def test_issue_209(library: str) -> None:
    """`.max()` without an axis asks for one: over the components it is a formula, over i or j an array."""
    x, y = points(6, 3), points(8, 3)
    cost = 1 - (Vi(on(library, x)) * Vj(on(library, y))).sum(2)
    with pytest.raises(ShapeError, match="which axis"):
        cost.max()
    assert isinstance(cost.max(-1), LazyTensor)
    dense = 1 - x @ y.T
    largest = float(cost.max(dim=1).max())
    assert math.isclose(largest, dense.max())
    kernel = (-cost / largest).exp()
    weights = np.abs(points(8, 1))
    agree(kernel @ on(library, weights), np.exp(-dense / dense.max()) @ weights)


def test_issue_221() -> None:
    """The derivative of a distance at 0 is 0."""
    (x,) = tensors((5, 3))
    distance = ((Vi(x) - Vj(x)) ** 2).sum(-1).sqrt().sum(dim=1)
    (g,) = torch.autograd.grad(distance.sum(), [x])
    d = x[:, None] - x
    off = ~torch.eye(5, dtype=torch.bool)
    (expected,) = torch.autograd.grad(d[off].norm(dim=-1).sum(), [x])
    agree(g, expected)


@both
def test_issue_112(library: str) -> None:
    """Powers of negative numbers."""
    x, y = points(5, 3), points(7, 3)
    product, dense = Vi(on(library, x)) | Vj(on(library, y)), x @ y.T
    for k in (product**2, product.power(2), product.power(2.0), product**2.0, product * product):
        agree(k.sum(dim=1), (dense**2).sum(1)[:, None])
    agree((product**3.0).sum(dim=1), (dense**3).sum(1)[:, None])


@both
def test_issue_370(library: str) -> None:
    """5 and 5.0 are the same scale."""
    x = points(50, 1000, dtype=np.float32)
    row = on(library, x)[0]
    d = (Vi(on(library, x)) - row).abs().sum(-1)
    dense = np.exp(-np.abs(x.astype(float) - x[0]).sum(-1) / 5)[:, None]
    results = [np.asarray((-d / sigma).exp().sum(dim=1)) for sigma in (5, 5.0)]
    for result in results:
        agree(result, dense, 1e-4)
        assert np.isfinite(result).all()


@both
def test_issue_333(library: str) -> None:
    """Sines and cosines far from 0 are as accurate as their argument."""
    x, y = points(5, 1, dtype=np.float32) * 1e4, points(7, 1, dtype=np.float32)
    product = (x[:, None] * y).astype(np.float32)  # rounded as the kernel rounds it
    for name, dense in (("sin", np.sin(product.astype(float))), ("cos", np.cos(product.astype(float)))):
        got = getattr(Vi(on(library, x)) * Vj(on(library, y)), name)().max(dim=1)
        agree(got, dense.max(1), 1e-6)


@both
def test_issue_263(library: str) -> None:
    """one_hot, summed over its components."""
    x = np.array([[0.0], [4.0], [41.0], [42.0], [-3.0]])
    inside = (x >= 0) & (x < 42)
    agree(Vi(on(library, x)).one_hot(42).sum(1 + 1).sum(dim=1), inside * 1.0)
    agree(Genred("Sum(OneHot(x, 42))", ["x = Vi(1)"], axis=1)(on(library, x)), inside * 1.0)


@both
def test_issue_46(library: str) -> None:
    """The sup norm: the largest component may be negative, the start of a maximum is not 0."""
    x, y = points(5, 3), points(7, 3)
    a, b = Vi(on(library, x)), Vj(on(library, y))
    agree((a - b).abs().max(-1).sum(dim=1), np.abs(x[:, None] - y).max(-1).sum(1)[:, None])
    agree((-(a - b).abs()).max(-1).sum(dim=1), (-np.abs(x[:, None] - y)).max(-1).sum(1)[:, None])
    agree((-(a - b).abs()).max(dim=1), (-np.abs(x[:, None] - y)).max(1))


@both
def test_issue_22(library: str) -> None:
    """TensorDot with the keyword Ind, and no variable of j."""
    a, b = points(5, 4), points(5, 4)
    text = Genred("TensorDot(a, b, Ind(2,2), Ind(2,2), Ind(1), Ind(0))", ["a = Vi(4)", "b = Vi(4)"], axis=1)
    agree(text(*on(library, a, b)), (a.reshape(5, 2, 2) @ b.reshape(5, 2, 2)).reshape(5, 4))


@both
def test_issue_58(library: str) -> None:
    """A contraction of large tensors compiles in seconds (the report: three quarters of an hour)."""
    x, y = points(2, 20 * 8 * 27), points(3, 27 * 3 * 64)
    a, b = Vi(on(library, x)), Vj(on(library, y))
    got = a.keops_tensordot(b, (20, 8, 27), (27, 3, 64), (2,), (0,)).sum(dim=1)
    dense = np.einsum("iabc,jcde->iabde", x.reshape(2, 20, 8, 27), y.reshape(3, 27, 3, 64)).reshape(2, -1)
    agree(got, dense)


# ---------------------------------------------------------------------- reductions


@both
def test_issue_344(library: str) -> None:
    """LogSumExpWeight is a name of a reduction, and its result is finished."""
    x, y, w = points(5, 3), points(7, 3), np.abs(points(7, 2))
    text = Genred("-SqDist(x, y)", ["x = Vi(3)", "y = Vj(3)", "w = Vj(2)"], "LogSumExpWeight", axis=1, formula2="w")
    agree(text(*on(library, x, y, w)), np.log(np.exp(-((x[:, None] - y) ** 2).sum(-1)) @ w))


@both
def test_issue_191(library: str) -> None:
    """logsumexp with a weight has the length of the weight."""
    x, y, w = points(5, 3), points(7, 3), np.abs(points(5, 3)) + 0.1
    s = Vi(on(library, x)) | Vj(on(library, y))
    e = np.exp(x @ y.T)
    agree(s.logsumexp(0), np.log(e.sum(0))[:, None])
    agree(s.logsumexp(0, weight=Vi(on(library, w))), np.log(e.T @ w))


@both
def test_issue_125(library: str) -> None:
    """logsumexp of vectors, component by component (also #140)."""
    d, f, g = points(5, 4), points(5, 4), points(7, 4)
    k = -Vi(on(library, d)) * Vj(on(library, g)) + Vi(on(library, f)) + Vj(on(library, g))
    agree(k.logsumexp(axis=1), np.log(np.exp(-d[:, None] * g + f[:, None] + g).sum(1)))


def test_issue_327() -> None:
    """A deferred reduction called with one tensor twice."""
    (x,) = tensors((5, 3))
    dense = torch.logsumexp(((x[:, None] - x) ** 2).sum(-1), 1)[:, None]
    symbolic = ((Vi(0, 3) - Vj(1, 3)) ** 2).sum(-1).logsumexp_reduction(dim=1, call=False)
    same_gradients(symbolic(x, x), dense, [x])
    on_data = ((Vi(x) - Vj(x)) ** 2).sum(-1).logsumexp_reduction(dim=1, call=False)
    same_gradients(on_data(), dense, [x])


# ---------------------------------------------------------------------- shapes and types


@both
def test_issue_211(library: str) -> None:
    """A variable and its transpose in one formula."""
    u, v = points(6, 1), points(6, 2)
    u_i = LazyTensor(on(library, u), axis=0)
    assert LazyTensor(on(library, u).T, axis=1)._shape == (1, 1, 6)
    agree((u_i - u_i.t()) @ on(library, v), (u - u.T) @ v)


@both
def test_issue_292(library: str) -> None:
    """Brackets select rows of a formula, which stay a formula."""
    x, y = points(30, 3), points(40, 3)
    c = (Vi(on(library, x)) - Vj(on(library, y))).norm2()
    assert c[10:20].shape == (10, 40)
    agree(c[10:20].sum(dim=1), np.sqrt(((x[10:20, None] - y) ** 2).sum(-1)).sum(1)[:, None])


@both
def test_issue_346(library: str) -> None:
    """Rank and shape after sums over the components (also #376 and #425): `dim()` is the length of `shape`."""
    x, y = points(5, 3), points(2, 1, 7, 3)
    a, b = Vi(on(library, x)), lazy(library, y)
    once = a.sum(-1)
    assert (once.shape, once._shape, once.dim(), once.ndim) == ((5, 1), (5, 1, 1), 2, 2)
    assert LazyTensor(on(library, np.ones((1, 10, 1)))).shape == (1, 10)
    agree(once.sum(-1).sum(dim=1), x.sum(1)[:, None])
    agree((once * b).sum(dim=2), x.sum(1)[None, :, None] * y.sum(2))


@both
def test_issue_306(library: str) -> None:
    """A number as a parameter beside symbolic variables goes where the arrays are."""
    x, y = points(5, 3), points(7, 3)
    kernel = (-Vi(0, 3).sqdist(Vj(1, 3)) * Pm(2.0)).exp().sum(axis=1)
    agree(kernel(*on(library, x, y)), np.exp(-2 * ((x[:, None] - y) ** 2).sum(-1)).sum(1)[:, None])


def test_issue_359() -> None:
    """Tensors of the CPU stay there."""
    x = torch.from_numpy(points(20, 100))
    places = (Vi(x) - Vj(x)).abs().sum(-1).argKmin(3, dim=1)
    assert places.device == x.device
    agree(places, torch.cdist(x, x, p=1).argsort(1)[:, :3])


@both
def test_issue_82(library: str) -> None:
    """Arrays as files give them: other types, other strides."""
    x = np.asfortranarray(np.arange(15).reshape(5, 3)).astype(np.uint8)
    b = points(5, 2)
    swapped = x.astype(float) if library == "torch" else x.astype(">f8")
    for given in (x, swapped, x.astype(float)[::-1][::-1]):
        given = np.ascontiguousarray(given) if library == "torch" else given
        k = (-((Vi(on(library, given)) - Vj(on(library, given))) ** 2).sum(-1) / 9).exp()
        agree(k @ on(library, b), np.exp(-((x[:, None].astype(float) - x) ** 2).sum(-1) / 9) @ b)


@both
def test_issue_393(library: str) -> None:
    """Half precision on the CPU is computed in float32 (also #436)."""
    x = points(5, 3, dtype=np.float16)
    half = Vi(on(library, x)).sqdist(Vj(on(library, x))).sum(dim=1)
    assert str(half.dtype).endswith("float32")
    wide = x.astype(np.float64)
    agree(half, ((wide[:, None] - wide) ** 2).sum(-1).sum(1)[:, None], 1e-6)


# ---------------------------------------------------------------------- torch


def test_issue_149() -> None:
    """Upstream gradients that are not contiguous."""
    x, c1, c2 = tensors((2, 20, 3), (2, 20, 5), (2, 20, 5))
    k = (-((LazyTensor(x[:, :, None]) - LazyTensor(x[:, None])) ** 2).sum(-1)).exp()
    dense = torch.exp(-((x[:, :, None] - x[:, None]) ** 2).sum(-1))
    found = []
    for matrix in (k, dense):
        d1, d2 = matrix @ c1, matrix @ c2
        first = torch.autograd.grad(d1.permute(0, 2, 1).contiguous().clone().mean(), [x, c1], retain_graph=True)
        second = torch.autograd.grad(torch.cat([d1, d2], 2).mean(), [x, c1, c2])
        found.append([*first, *second])
    for got, expected in zip(*found, strict=True):
        agree(got, expected)


def test_issue_25() -> None:
    """Slices of tensors, and expanded gradients of stride 0."""
    (x,) = tensors((30, 3))
    k = (-((Vi(x[:10]) - Vj(x[10:])) ** 2).sum(-1)).exp()
    dense = torch.exp(-((x[:10, None] - x[10:]) ** 2).sum(-1))
    (g,) = torch.autograd.grad(k.sum(dim=1).sum(), [x])
    (expected,) = torch.autograd.grad(dense.sum(), [x])
    agree(g, expected)


def test_gpytorch_issue_1543() -> None:
    """The gradient of a scale, with points that are not contiguous."""
    x = torch.from_numpy(points(3, 100)).T
    y = torch.from_numpy(points(100, 1))
    scale = torch.tensor([[0.7]], dtype=torch.float64, requires_grad=True)
    u, v = LazyTensor((x / scale)[:, None, :]), LazyTensor((x / scale)[None, :, :])
    value = (-((u - v) ** 2).sum(-1) / 2).exp() @ y
    same_gradients(value, torch.exp(-(((x / scale)[:, None] - x / scale) ** 2).sum(-1) / 2) @ y, [scale])


@pytest.mark.parametrize("n", [10, 600])
def test_gpytorch_issue_1885(n: int) -> None:
    """The gradient of a predicted mean in the test points, for few and many points."""
    (x,) = tensors((4, 2))
    train, weights = torch.from_numpy(points(n, 2)), torch.from_numpy(points(n, 1))
    value = (-((Vi(x) - Vj(train)) ** 2).sum(-1) / 2).exp() @ weights
    same_gradients(value, torch.exp(-((x[:, None] - train) ** 2).sum(-1) / 2) @ weights, [x])


def test_issue_303() -> None:
    """torch.vmap over a function that builds symbolic tensors."""
    x, y = torch.from_numpy(points(4, 5, 3)), torch.from_numpy(points(7, 3))

    def density(points: Tensor) -> Tensor:
        return (-((LazyTensor(points[:, None]) - LazyTensor(y[None])) ** 2).sum(-1)).exp().sum(dim=1)

    agree(torch.vmap(density)(x), torch.exp(-((x[:, :, None] - y) ** 2).sum(-1)).sum(2)[..., None])


# ---------------------------------------------------------------------- processes and memory


@both
def test_issue_284(library: str) -> None:
    """A loop over the same formula with changing numbers does not grow (also #300, #353)."""
    x, y = on(library, points(50, 3), points(60, 3))

    def step(eps: float) -> None:
        ((Vi(x) - Vj(y)).sqnorm2() / -eps).logsumexp(dim=1)

    for k in range(20):
        step(1.0 + k)
    tracemalloc.start()
    try:
        for k in range(20):
            step(100.0 + k)
        before, _ = tracemalloc.get_traced_memory()
        for k in range(200):
            step(1000.0 + k)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 50_000, after - before


def test_issue_444() -> None:
    """A child process that is forked after the parent has computed computes, too (also #45)."""
    code = """
import os, numpy as np
from pairfuse.numpy import Vi, Vj
x = np.arange(30.0).reshape(10, 3)
expected = (Vi(x) - Vj(x)).sqnorm2().sum(dim=1)
child = os.fork()
if child == 0:
    same = np.array_equal((Vi(x) - Vj(x)).sqnorm2().sum(dim=1), expected)
    other = np.isfinite((Vi(x) - Vj(x)).norm2().sum(dim=1)).all()
    os._exit(0 if same and other else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("processes are not forked here")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
