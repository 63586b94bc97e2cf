"""Bugs of systems that do the same job, as users reported them: each is one test here.

"keops_N" is issue N of getkeops/keops, "gpytorch_N" of cornellius-gp/gpytorch, and so on. Expected values are computed
densely. Those that need what Pairfuse does not have yet (complex numbers, block sparsity, string formulas, GPUs,
float16) are not here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pairfuse.errors import ShapeError
from pairfuse.numpy import LazyTensor as NumpyTensor
from pairfuse.torch import LazyTensor, Pm, Vi, Vj

Tensor = torch.Tensor


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + len(shape)), dtype=torch.float64).to(dtype)


def close(got: Any, expected: Any, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def test_keops_366_batch_axis_of_a_parameter_alone() -> None:
    x, y, p = randn(1, 5, 1, 1), randn(1, 1, 4, 1), randn(3, 1, 1, 1)
    got = (-LazyTensor(p) * (LazyTensor(x) - LazyTensor(y)) ** 2).exp()
    dense = (-p * (x - y) ** 2).exp()
    close(got.sum(dim=2), dense.sum(2))
    close(got.sum(dim=1), dense.sum(1))


def test_keops_382_singleton_batch_axes_in_a_row() -> None:
    x, c = randn(64, 32, 1, 1, 2), randn(64, 1, 1, 256, 2, seed=1)
    got = ((LazyTensor(x) - LazyTensor(c)) ** 2).sum(4).argmin(dim=3)
    close(got, ((x - c) ** 2).sum(-1, keepdim=True).argmin(3))


def test_keops_103_second_derivative_with_batches() -> None:
    x, m = randn(4, 30, 3).requires_grad_(), randn(4, 30, 3, seed=1)
    sigma = torch.tensor(0.7, dtype=torch.float64)

    def energy(lazy: bool) -> Tensor:
        if lazy:
            d = ((LazyTensor(x[:, :, None]) - LazyTensor(x[:, None])) ** 2).sum(-1)
            return (m * ((-d / sigma**2).exp() @ m)).sum() / 2
        d = ((x[:, :, None] - x[:, None]) ** 2).sum(-1)
        return (m * ((-d / sigma**2).exp() @ m)).sum() / 2

    results = []
    for lazy in (True, False):
        (g,) = torch.autograd.grad(energy(lazy), [x], create_graph=True)
        assert g.shape == x.shape
        results.append(torch.autograd.grad((g**2).sum(), [x])[0])
    close(*results)


def test_keops_145_gradient_of_a_batch_has_its_shape() -> None:
    x = randn(2, 20, 3).requires_grad_()
    k = (-((LazyTensor(x[:, :, None]) - LazyTensor(x[:, None])) ** 2).sum(-1)).exp()
    k.sum(dim=2).sum().backward()
    assert x.grad is not None
    assert x.grad.shape == (2, 20, 3)


def test_keops_106_vectors_of_three_axes_are_explained() -> None:
    x, y, u = randn(8, 10, 1, 3), randn(8, 1, 15, 3), randn(8, 1, 15)
    d = -((LazyTensor(x) - LazyTensor(y)) ** 2).sum(-1)
    with pytest.raises(ShapeError, match=r"with batch axes write out the four"):
        _ = d + LazyTensor(u)
    eps = torch.tensor(0.1, dtype=torch.float64)
    got = ((d + LazyTensor(u[..., None])) / eps).logsumexp(dim=2)
    close(got, ((-((x - y) ** 2).sum(-1) + u) / eps).logsumexp(2, keepdim=True))


def test_keops_19_double_broadcasting() -> None:
    v = randn(4, 64, 3)
    k = ((LazyTensor(v[:, None, :, None, :]) - LazyTensor(v[None, :, None, :, :])) ** 2).sum(4)
    assert k.shape == (4, 4, 64, 64)
    dense = ((v[:, None, :, None, :] - v[None, :, None, :, :]) ** 2).sum(4)
    close(k.sum(3), dense.sum(3, keepdim=True))
    close(k.sum(2), dense.sum(2)[..., None])


def test_keops_299_backward_of_mixed_batch_layouts() -> None:
    a, p = randn(1, 6, 5, 1, 1).requires_grad_(), randn(1, 1, 1, 7, 1)
    u = randn(2, 6, 1, 7, 1, seed=3).requires_grad_()
    grads = []
    for wrap in (LazyTensor, lambda t: t):
        k = wrap(u) * (wrap(p) * wrap(a)).exp()
        k.sum(dim=3).mean().backward()
        grads.append([t.grad for t in (a, u)])
        a.grad = u.grad = None
    for got, expected in zip(*grads, strict=True):
        close(got, expected)


def test_keops_246_gradient_of_a_quotient_by_a_parameter() -> None:
    for g in (randn(1).abs() + 0.5, randn(3).abs() + 0.5):
        x, y, v, g = (t.requires_grad_() for t in (randn(5, 3), randn(7, 3, seed=1), randn(7, 2), g))
        got = (-(Vi(x) / Pm(g)).sqdist(Vj(y) / Pm(g)) / 2).exp() @ v
        dense = (-((x[:, None] / g - y / g) ** 2).sum(-1) / 2).exp() @ v
        for a, b in zip(
            torch.autograd.grad(got.sin().sum(), [x, y, v, g]),
            torch.autograd.grad(dense.sin().sum(), [x, y, v, g]), strict=True,
        ):  # fmt: skip
            close(a, b)


def test_keops_220_weighted_squared_distance() -> None:
    x, y, s = randn(5, 3), randn(7, 3, seed=1), randn(3).abs()
    close(Vi(x).weightedsqdist(Vj(y), Pm(s)).sum(dim=1), ((x[:, None] - y) ** 2 * s).sum(-1).sum(1, keepdim=True))


def test_keops_262_a_length_that_no_tile_divides() -> None:
    x, y = randn(3, 386 * 64 + 1) / 100, randn(4, 386 * 64 + 1, seed=1) / 100
    close((Vi(x) | Vj(y)).sum(dim=1), (x @ y.T).sum(1, keepdim=True), 1e-9)


def test_keops_243_argmax_of_batched_products() -> None:
    a, b = randn(3, 50, 1, 60), randn(1, 1, 40, 60, seed=1)
    close((LazyTensor(a) | LazyTensor(b)).argmax(dim=2), (a * b).sum(-1, keepdim=True).argmax(2))


def test_keops_331_K_smallest_of_a_negated_formula() -> None:
    x, y = randn(1, 300), randn(96, 300, seed=1)
    values, places = (-((Vi(x) - Vj(y)) ** 2).sum(-1)).Kmin_argKmin(2, dim=1, enable_chunks=True)
    expected = (-((x[:, None] - y) ** 2).sum(-1)).topk(2, largest=False)
    close(values, expected.values)
    close(places, expected.indices)


def test_keops_304_every_K() -> None:
    x, y = randn(6, 50), randn(20, 50, seed=1)
    order = torch.cdist(x, y).argsort(1)
    for k in range(1, 11):
        close((Vi(x) - Vj(y)).sqnorm2().argKmin(k, dim=1), order[:, :k])


def test_keops_221_gradient_at_coincident_points() -> None:
    x = randn(6, 3).requires_grad_()
    (grad,) = torch.autograd.grad((Vi(x) - Vj(x)).sqnorm2().sqrt().sum(dim=1).sum(), [x])
    d = x.detach()[:, None] - x.detach()
    unit = torch.nan_to_num(d / d.norm(dim=-1, keepdim=True))
    close(grad, 2 * unit.sum(1))


def test_keops_112_powers_of_negative_numbers() -> None:
    x, y = randn(5, 3), randn(7, 3, seed=1)
    for power in (2, 2.0, 3, 3.0):
        close(((Vi(x) | Vj(y)) ** power).sum(dim=1), ((x @ y.T) ** power).sum(1, keepdim=True))
        close((Vi(x) | Vj(y)).power(power).sum(dim=1), ((x @ y.T) ** power).sum(1, keepdim=True))


def test_keops_370_integer_and_float_constants_agree() -> None:
    x = randn(50, 100, dtype=torch.float32)
    results = []
    for sigma in (5, 5.0, np.float32(5), torch.tensor(5.0)):
        d = (Vi(x) - Pm(x[0])).abs().sum(-1)
        results.append((-d / sigma).exp().sum(dim=1))
    dense = (-(x - x[0]).abs().sum(-1, keepdim=True) / 5).exp()
    for result in results:
        close(result, dense, 1e-5)


def test_keops_333_sine_of_large_arguments() -> None:
    x = torch.linspace(-1e5, 1e5, 1001, dtype=torch.float32)[:, None]
    close(Vi(x).sin().sum(dim=1), x.double().sin().float(), 1e-6)
    close(Vi(x).cos().sum(dim=1), x.double().cos().float(), 1e-6)


def test_keops_149_upstream_gradients_of_batches() -> None:
    x, y, c = randn(2, 10, 1, 5).requires_grad_(), randn(2, 1, 12, 5), randn(2, 12, 5)

    def both(lazy: bool) -> tuple[Tensor, Tensor]:
        d1 = ((LazyTensor(x) - LazyTensor(y)).sqnorm2() * 0.1).exp() @ c if lazy else _dense_149(x, y) @ c
        first = torch.autograd.grad(d1.permute(0, 2, 1).contiguous().clone().mean(), [x], retain_graph=True)[0]
        return first, torch.autograd.grad(torch.cat([d1, d1 * 2], 2).mean(), [x])[0]

    for a, b in zip(both(True), both(False), strict=True):
        close(a, b)


def _dense_149(x: Tensor, y: Tensor) -> Tensor:
    return (((x - y) ** 2).sum(-1) * 0.1).exp()


def test_keops_25_expanded_gradients_and_slices() -> None:
    x = randn(20, 3).requires_grad_()
    k = (-(Vi(x[:10]) - Vj(x[::2])).sqnorm2()).exp()
    (got,) = torch.autograd.grad(k.sum(dim=1).sum(), [x])
    (expected,) = torch.autograd.grad((-((x[:10, None] - x[::2]) ** 2).sum(-1)).exp().sum(), [x])
    close(got, expected)


def test_gpytorch_1543_gradient_of_a_hyperparameter_with_transposed_data() -> None:
    x, y = randn(3, 100).T, randn(100, 1)
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    x_i, x_j = LazyTensor((x / scale)[:, None]), LazyTensor((x / scale)[None])
    ((-((x_i - x_j) ** 2).sum(-1)).exp() @ y).sum().backward()
    (expected,) = torch.autograd.grad(((-(torch.cdist(x / scale, x / scale) ** 2)).exp() @ y).sum(), [scale])
    assert scale.grad is not None
    close(scale.grad, expected)


def test_keops_327_deferred_reduction_of_one_tensor_twice() -> None:
    x = randn(9, 3).requires_grad_()
    d = (Vi(x) - Vj(x)).sqnorm2()
    total = d.logsumexp_reduction(dim=1, call=False)
    total().sum().backward()
    (expected,) = torch.autograd.grad(((x[:, None] - x) ** 2).sum(-1).logsumexp(1).sum(), [x])
    assert x.grad is not None
    close(x.grad, expected)


def test_keops_191_logsumexp_with_and_without_weight() -> None:
    x, y, w = randn(5, 3), randn(7, 3, seed=1), randn(7, 3, seed=2).abs()
    s = -(Vi(x) - Vj(y)).sqnorm2()
    dense = -((x[:, None] - y) ** 2).sum(-1, keepdim=True)
    close(s.T.logsumexp(0), dense.logsumexp(1))
    close(s.logsumexp(1, weight=Vj(w)), (dense.exp() * w).sum(1).log())


def test_keops_125_logsumexp_of_vectors() -> None:
    x, y = randn(5, 4), randn(7, 4, seed=1)
    close((-((Vi(x) - Vj(y)) ** 2)).logsumexp(axis=1), (-((x[:, None] - y) ** 2)).logsumexp(1))


def test_keops_263_one_hot() -> None:
    x = torch.tensor([[0.0], [4.0], [3.0], [2.0]])
    close(Vi(x).one_hot(42).sum(1), torch.eye(42)[x[:, 0].long()])


def test_keops_268_one_hot_out_of_range() -> None:
    x = torch.tensor([[0.0], [8.0], [-3.0], [2.0]])
    expected = torch.zeros(4, 6)
    expected[0, 0] = expected[3, 2] = 1
    close(Vi(x).one_hot(6).sum(1), expected)


def test_keops_46_largest_component() -> None:
    x, y = randn(5, 3), randn(7, 3, seed=1)
    dense = (x[:, None] - y).abs().max(-1, keepdim=True).values
    close((Vi(x) - Vj(y)).abs().max(-1).sum(dim=1), dense.sum(1))
    negative = (-(Vi(x) - Vj(y)).abs() - 1).max(-1)
    close(negative.max(dim=1), (-(x[:, None] - y).abs() - 1).max(-1, keepdim=True).values.max(1).values)


def test_keops_211_a_vector_and_its_transpose() -> None:
    u, v = randn(9, 1), randn(9, 2)
    u_l = Vi(u)
    close((u_l - u_l.t()) @ v, (u - u.T) @ v)
    assert LazyTensor(u.t(), axis=1).shape == (1, 1, 9)


def test_keops_292_slices_are_of_rows() -> None:
    x, y = randn(30, 3), randn(40, 3)
    c = (Vi(x) - Vj(y)).norm2()
    assert c.shape == (30, 40)
    close(c[10:20].sum(dim=1), (x[10:20, None] - y).norm(dim=-1).sum(1, keepdim=True))


def test_keops_346_rank_and_shape() -> None:
    k = Vi(randn(5, 3)) - Vj(randn(7, 3))
    assert (k.dim(), k.ndim, k.shape) == (3, 3, (5, 7, 3))
    d = k.sum(-1)
    assert (d.dim(), d.ndim, d.shape, d.D) == (2, 2, (5, 7), 1)
    assert d.sum(-1).sum(-1)._shape == (5, 7, 1)
    assert LazyTensor(torch.ones(1, 10, 1)).shape == (1, 10)
    batch = LazyTensor(randn(2, 5, 1, 3))
    assert (d * batch).shape == (2, 5, 7, 3)


def test_keops_22_contraction_without_column_variables() -> None:
    a, b = randn(5, 4), randn(5, 4, seed=1)
    got = Vi(a).keops_tensordot(Vi(b), (2, 2), (2, 2), (1,), (0,)).sum(dim=1)
    close(got, (a.view(5, 2, 2) @ b.view(5, 2, 2)).view(5, 4))


def test_keops_58_large_contraction_compiles() -> None:
    a, b = randn(3, 4 * 3 * 5), randn(2, 5 * 3 * 6, seed=1)
    got = Vi(a).keops_tensordot(Vj(b), (4, 3, 5), (5, 3, 6), (1, 2), (1, 0)).sum(dim=1)
    close(got, torch.einsum("iabc,jcbd->iad", a.view(3, 4, 3, 5), b.view(2, 5, 3, 6)).reshape(3, 24))


def test_keops_306_parameters_take_the_type_of_the_others() -> None:
    for dtype in (torch.float32, torch.float64):
        x = randn(5, 3, dtype=dtype)
        assert (Pm(2.0) * Vi(x)).sum(dim=1).dtype == dtype
        assert (Pm(2.0) * Vi(x) ** Pm([2.0])).sum(dim=1).dtype == dtype


def test_keops_82_data_of_foreign_byte_order_and_layout() -> None:
    x = np.asfortranarray(randn(30, 3).numpy()).astype(">f8")
    b = randn(30, 1).numpy().astype(">f8")
    k = (-((NumpyTensor(x[:, None]) - NumpyTensor(x[None])) ** 2).sum(-1)).exp()
    dense = np.exp(-((x[:, None] - x) ** 2).sum(-1))
    np.testing.assert_allclose(k @ b, dense @ b)


def test_geomloss_26_a_batch_is_a_loop() -> None:
    x, y = randn(4, 9, 1, 3), randn(4, 1, 8, 3, seed=1)
    k = (LazyTensor(x) - LazyTensor(y)).norm2()
    whole = (k.logsumexp(dim=2), k.argKmin(3, dim=1), k @ randn(8, 2))
    for b in range(4):
        one = (LazyTensor(x[b]) - LazyTensor(y[b])).norm2()
        for got, expected in zip(whole, (one.logsumexp(dim=1), one.argKmin(3, dim=0), one @ randn(8, 2)), strict=True):
            close(got[b], expected)


def test_torch_42479_distances_of_large_numbers_do_not_cancel() -> None:
    x = torch.tensor([[512695.0]])
    y = torch.tensor([[512804.0]])
    close((Vi(x) - Vj(y)).norm2().sum(dim=1), torch.tensor([[109.0]]))


@pytest.mark.parametrize("sizes", [(1, 1), (17, 3), (3, 17), (127, 129), (1, 1000)])
def test_torch_153799_gradients_at_odd_sizes(sizes: tuple[int, int]) -> None:
    x, y = randn(sizes[0], 3).requires_grad_(), randn(sizes[1], 3, seed=1).requires_grad_()
    got = (Vi(x) | Vj(y)).sumsoftmaxweight(Vj(y), dim=1)
    expected = (x @ y.T).softmax(1) @ y
    close(got.detach(), expected.detach())
    grads = [torch.autograd.grad(a.square().sum(), [x, y]) for a in (got, expected)]
    for a, b in zip(*grads, strict=True):
        close(a, b)


def test_pytorch_cluster_164_K_beyond_a_hundred() -> None:
    x, y = randn(3, 3), randn(400, 3, seed=1)
    close((Vi(x) - Vj(y)).sqnorm2().argKmin(150, dim=1), torch.cdist(x, y).argsort(1)[:, :150])


def test_keops_defect_1_division_by_an_integer_keeps_double_precision() -> None:
    x = randn(50, 1)
    close((Vi(x) / 3).sum(dim=1), x / 3, 1e-15)


def test_keops_defect_2_real_powers_keep_double_precision() -> None:
    x = randn(50, 1).abs()
    close((Vi(x) ** 1.5).sum(dim=1), x**1.5, 1e-15)


def test_keops_defect_6_choice_between_results_of_folds() -> None:
    x, y = randn(5, 3).requires_grad_(), randn(7, 3, seed=1)
    got = (Vi(x) - Vj(y)).ifelse(Vi(x).sqnorm2(), (Vi(x) | Vj(y))).sum(dim=1)
    dense = torch.where(x[:, None] >= y, (x**2).sum(-1)[:, None, None], (x @ y.T)[..., None]).sum(1)
    close(torch.autograd.grad(got.sin().sum(), [x])[0], torch.autograd.grad(dense.sin().sum(), [x])[0])


def test_keops_defect_9_derivatives_in_the_holes_of_functions() -> None:
    for name in ("sinxdivx", "sinc", "xlogx"):
        x = torch.zeros(4, 1, dtype=torch.float64, requires_grad=True)
        (grad,) = torch.autograd.grad(getattr(Vi(x), name)().sum(dim=1).sum(), [x])
        close(grad, torch.zeros(4, 1, dtype=torch.float64))
