"""Linear systems on torch tensors: derivatives of every order, in every mode, against torch.linalg.solve in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch_cases import close, points

from pairfuse import ConvergenceWarning, DtypeError, SolverError
from pairfuse.torch import KernelSolve, LazyTensor, Pm, Vi, Vj

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
Tensor = torch.Tensor
EXACT: dict[str, Any] = {"eps": 1e-13, "rtol": 1e-13}
N = 12


def dense_gaussian(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    return (-(scale * (x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1)).exp()


def lazy_gaussian(x: Tensor, y: Tensor, scale: Tensor) -> LazyTensor:
    return (-(Pm(scale) * (Vi(x) - Vj(y)) ** 2).sum(-1)).exp()


def dense_solve(matrix: Tensor, b: Tensor, alpha: Tensor | float) -> Tensor:
    n = matrix.shape[-1]
    return torch.linalg.solve(matrix + alpha * torch.eye(n, dtype=matrix.dtype), b)


def lazy_system(x: Tensor, scale: Tensor, b: Tensor, alpha: Tensor, **kwargs: Any) -> Tensor:
    return lazy_gaussian(x, x, scale).solve(b, alpha=alpha, **EXACT, **kwargs)


def dense_system(x: Tensor, scale: Tensor, b: Tensor, alpha: Tensor) -> Tensor:
    return dense_solve(dense_gaussian(x, x, scale), b, alpha)


def inputs(columns: int = 2, alpha: float = 0.5) -> list[Tensor]:
    return [points(N, 2), points(2).abs() + 0.3, points(N, columns), torch.tensor(alpha, dtype=torch.float64)]


def followed(*tensors: Tensor) -> list[Tensor]:
    return [t.detach().clone().requires_grad_() for t in tensors]


def second_derivatives(value: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    """The gradient, and the products of the Hessian with fixed random directions."""
    first = torch.autograd.grad(value, tensors, create_graph=True)
    along = sum((g * points(*g.shape, seed=5)).sum() for g in first)
    assert isinstance(along, Tensor)
    return [*first, *torch.autograd.grad(along, tensors)]


# ---------------------------------------------------------------------- the promise


def rbf_loss(solve: Callable[..., Tensor], kernel: Callable[..., Any]) -> Callable[..., Tensor]:
    """The error at new points of the interpolation of values b at points x."""
    z, target = points(9, 2, seed=3), points(9, 2, seed=4)

    def loss(x: Tensor, scale: Tensor, b: Tensor, alpha: Tensor) -> Tensor:
        weights = solve(x, scale, b, alpha)
        return ((kernel(z, x, scale) @ weights - target) ** 2).mean()

    return loss


@pytest.mark.parametrize(
    "kwargs", [{}, {"precond": "nystrom", "rank": 6}, {"precond": "jacobi"}, {"method": "minres"}, {"method": "gmres"}]
)
def test_second_derivatives_of_an_interpolation_loss(kwargs: dict[str, Any]) -> None:
    """First and second derivatives in the points, the scale, the values and alpha agree with dense torch."""

    def solve(*tensors: Tensor) -> Tensor:
        return lazy_system(*tensors, **kwargs)

    tensors = followed(*inputs(alpha=0.1))
    lazy, dense = rbf_loss(solve, lazy_gaussian), rbf_loss(dense_system, dense_gaussian)
    close(lazy(*tensors), dense(*tensors), 1e-9)
    got, expected = (second_derivatives(f(*tensors), tensors) for f in (lazy, dense))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-8 * float(b.detach().abs().max()))
    assert all(float(e.detach().abs().max()) > 1e-6 for e in expected)


def test_derivatives_of_a_system_that_is_not_symmetric() -> None:
    """Two orders, and forward mode: systems with the transposed matrix."""
    x, y, b = points(N, 2), points(N, 2, seed=2), points(N, 2, seed=3)
    alpha, scale = torch.tensor(2.0, dtype=torch.float64), torch.ones(2, dtype=torch.float64)

    def lazy(x: Tensor, y: Tensor, b: Tensor, alpha: Tensor) -> Tensor:
        return lazy_gaussian(x, y, scale).solve(b, alpha=alpha, method="gmres", **EXACT)

    def dense(x: Tensor, y: Tensor, b: Tensor, alpha: Tensor) -> Tensor:
        return dense_solve(dense_gaussian(x, y, scale), b, alpha)

    tensors = followed(x, y, b, alpha)
    weights = points(N, 2, seed=4)
    got, expected = (second_derivatives((f(*tensors) ** 2 * weights).sum(), tensors) for f in (lazy, dense))
    for a, e in zip(got, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-7, atol=1e-8 * float(e.detach().abs().max()))
    given, along = (x, y, b, alpha), (y, x, b, alpha)
    close(torch.func.jvp(lazy, given, along)[1], torch.func.jvp(dense, given, along)[1], 1e-8)


def test_the_derivative_of_a_right_hand_side_that_is_a_formula() -> None:
    x = points(N, 2).requires_grad_()
    scale = torch.ones(2, dtype=torch.float64)
    u = lazy_gaussian(x.detach(), x.detach(), scale).solve((Vi(x) ** 2).sum(-1), alpha=0.5, **EXACT)
    expected = dense_solve(dense_gaussian(x, x, scale).detach(), (x**2).sum(-1, keepdim=True), 0.5)
    got, wanted = (torch.autograd.grad((v**2).sum(), x)[0] for v in (u, expected))
    close(got, wanted, 1e-8)


def test_the_whole_hessian() -> None:
    """Entry by entry, of a loss of four unknowns."""
    x, scale, b, alpha = points(4, 2), points(2).abs() + 0.3, points(4, 1), torch.tensor(0.3, dtype=torch.float64)

    def lazy(*tensors: Tensor) -> Tensor:
        return lazy_system(*tensors).square().sum()

    def dense(*tensors: Tensor) -> Tensor:
        return dense_system(*tensors).square().sum()

    given = (x, scale, b, alpha)
    got = torch.autograd.functional.hessian(lazy, given)
    expected = torch.autograd.functional.hessian(dense, given)
    for row, other in zip(got, expected, strict=True):
        for block, reference in zip(row, other, strict=True):
            close(block, reference, 1e-8)


# ---------------------------------------------------------------------- derivatives


def test_gradcheck() -> None:
    tensors = [t[:5] if t.ndim > 1 else t for t in inputs()]
    tensors = followed(*tensors)
    assert torch.autograd.gradcheck(lazy_system, tensors, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lazy_system, tensors)


def test_third_derivatives() -> None:
    def third(f: Callable[..., Tensor]) -> Tensor:
        (x,) = followed(points(4, 2))
        given = points(2).abs() + 0.3, points(4, 1), torch.tensor(0.3, dtype=torch.float64)
        value = f(x, *given).square().sum()
        for seed in range(3):
            (g,) = torch.autograd.grad(value, x, create_graph=seed < 2)
            value = (g * points(4, 2, seed=seed + 1)).sum()
        return g

    close(third(lazy_system), third(dense_system), 1e-7)


@pytest.mark.parametrize("shape", [(), (1,), (N, 1), (2,), (N, 2)])
def test_gradients_in_alpha_of_every_shape(shape: tuple[int, ...]) -> None:
    """One number, one for each row, for each column, for each entry."""
    x, scale, b, _ = inputs()
    alpha, reference = followed(points(*shape).abs() + 0.2, points(*shape).abs() + 0.2)
    matrix = dense_gaussian(x, x, scale)
    columns = [
        torch.linalg.solve(matrix + torch.diag(reference.expand(N, 2)[:, c]), b[:, c]) for c in range(2)
    ]  # fmt: skip
    g = points(N, 2, seed=7)
    got = torch.autograd.grad((lazy_system(x, scale, b, alpha) * g).sum(), alpha)[0]
    close(got, torch.autograd.grad((torch.stack(columns, 1) * g).sum(), reference)[0], 1e-9)


def test_vectors() -> None:
    tensors = followed(*inputs())
    x, scale, b, alpha = tensors
    got = torch.autograd.grad(lazy_system(x, scale, b[:, 0], alpha).sin().sum(), tensors)
    for a, e in zip(got, torch.autograd.grad(dense_system(x, scale, b[:, 0], alpha).sin().sum(), tensors), strict=True):
        close(a, e, 1e-9)


def test_batches_that_broadcast() -> None:
    """Gradients of what is broadcast are sums."""
    x, scale, b, alpha = followed(
        points(2, 1, N, 2), points(2).abs() + 0.3, points(3, N, 2), points(2, 1, 1, 1).abs() + 0.2
    )
    x_i, x_j = LazyTensor(x[..., :, None, :]), LazyTensor(x[..., None, :, :])
    lazy = (-(scale * (x_i - x_j) ** 2).sum(-1)).exp().solve(b, alpha=alpha, **EXACT)
    matrix = (-(scale * (x[..., :, None, :] - x[..., None, :, :]) ** 2).sum(-1)).exp()
    dense = torch.linalg.solve(matrix + alpha * torch.eye(N, dtype=b.dtype), b)
    close(lazy, dense, 1e-9)
    got, expected = (second_derivatives(u.sin().sum(), [x, scale, b, alpha]) for u in (lazy, dense))
    for a, e in zip(got, expected, strict=True):
        close(a, e, 1e-7)


def test_coupled_components() -> None:
    """A matrix-valued kernel, k_ij (1 + x_i x_j^T)."""

    def lazy(x: Tensor, b: Tensor, alpha: Tensor) -> Tensor:
        v = Vj(0, 2)
        k = (-Vi(x).sqdist(Vj(x))).exp() * (v + Vi(x) * (Vj(x) | v))
        return k.solve(Vi(b), var=v, alpha=alpha, **EXACT)

    def dense(x: Tensor, b: Tensor, alpha: Tensor) -> Tensor:
        k = (-((x[:, None] - x) ** 2).sum(-1)).exp()
        blocks = k[:, None, :, None] * (torch.eye(2, dtype=x.dtype)[:, None, :] + x[:, :, None, None] * x[None, None])
        return dense_solve(blocks.reshape(2 * N, 2 * N), b.reshape(-1), alpha).reshape(N, 2)

    tensors = followed(points(N, 2), points(N, 2, seed=2), torch.tensor(0.5, dtype=torch.float64))
    got, expected = (second_derivatives(f(*tensors).sin().sum(), tensors) for f in (lazy, dense))
    for a, e in zip(got, expected, strict=True):
        close(a, e, 1e-7)


def test_rows_and_columns_may_be_different_tensors() -> None:
    """The matrix is symmetric where it is evaluated; its derivatives are not, and need the transposed system."""
    x, scale, b, alpha = inputs()
    (rows,) = followed(x)

    def system(solve: Callable[..., Tensor]) -> list[Tensor]:
        return second_derivatives(solve().sin().sum(), [rows])

    got = system(lambda: lazy_gaussian(rows, x, scale).solve(b, alpha=alpha, **EXACT))
    expected = system(lambda: dense_solve(dense_gaussian(rows, x, scale), b, alpha))
    for a, e in zip(got, expected, strict=True):
        close(a, e, 1e-8)
    columns = system(lambda: lazy_gaussian(x, rows, scale).solve(Vj(b), alpha=alpha, **EXACT))
    for a, e in zip(columns, expected, strict=True):
        close(a, e, 1e-8)


def test_complex_systems() -> None:
    def lazy(x: Tensor, b: Tensor, alpha: Tensor) -> Tensor:
        phase = (Vi(x) - Vj(x)).sum(-1)
        k = (-Vi(x).sqdist(Vj(x))).exp() * (1j * phase).exp()
        return k.solve(b, alpha=alpha, **EXACT)

    def dense(x: Tensor, b: Tensor, alpha: Tensor) -> Tensor:
        phase = (x[:, None] - x).sum(-1)
        k = (-((x[:, None] - x) ** 2).sum(-1)).exp() * (1j * phase).exp()
        return torch.linalg.solve(k + alpha * torch.eye(N, dtype=k.dtype), b)

    b = torch.complex(points(N, 2), points(N, 2, seed=1))
    tensors = followed(points(N, 2), b, torch.tensor(0.5, dtype=torch.float64))
    torch.testing.assert_close(lazy(*tensors), dense(*tensors), rtol=1e-9, atol=1e-9)
    got = torch.autograd.grad(lazy(*tensors).abs().square().sin().sum(), tensors)
    expected = torch.autograd.grad(dense(*tensors).abs().square().sin().sum(), tensors)
    for a, e in zip(got, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-8, atol=1e-8)


def test_gradients_of_small_losses_are_not_lost() -> None:
    """KeOps compares the residual of the backward solve with the eps of the forward one: small gradients become 0."""
    x, scale, b, alpha = inputs()
    (b,) = followed(b)
    u = lazy_gaussian(x, x, scale).solve(b, alpha=alpha)
    big = torch.autograd.grad(u.sum(), b, retain_graph=True)[0]
    small = torch.autograd.grad(1e-12 * u.sum(), b)[0]
    torch.testing.assert_close(small * 1e12, big, rtol=1e-6, atol=1e-9)


def test_cotangents_that_are_not_finite_give_gradients_that_are_not() -> None:
    """A scaler of gradients counts on that; the other columns are not concerned."""
    x, scale, b, alpha = inputs()
    (b,) = followed(b)
    u = lazy_gaussian(x, x, scale).solve(b, alpha=alpha)
    g = torch.ones_like(u)
    g[3, 1] = torch.inf
    (found,) = torch.autograd.grad(u, b, g)
    assert found[:, 1].isnan().all()
    assert found[:, 0].isfinite().all()
    with pytest.raises(SolverError, match="b has entries that are not finite"):
        lazy_gaussian(x, x, scale).solve(g * b, alpha=alpha)


def test_backward_solves_say_so_when_they_fail() -> None:
    x, scale, b, alpha = inputs(alpha=1e-6)
    (b,) = followed(b)
    with pytest.warns(ConvergenceWarning):
        u = lazy_gaussian(x, x, scale).solve(b, alpha=alpha, max_iter=2)
    with pytest.warns(ConvergenceWarning, match="in the system of a derivative"):
        u.sum().backward()


# ---------------------------------------------------------------------- torch's other modes


def test_torch_func() -> None:
    tensors = tuple(inputs())
    moved = tuple(points(*t.shape, seed=8) for t in tensors)
    for got, expected in zip(
        torch.func.jvp(lazy_system, tensors, moved), torch.func.jvp(dense_system, tensors, moved), strict=True
    ):
        close(got, expected, 1e-9)

    def value(f: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *t: f(*t).sin().sum()

    every = (0, 1, 2, 3)
    for transform in (torch.func.grad, torch.func.jacrev, torch.func.jacfwd):
        got, expected = (transform(value(f), argnums=every)(*tensors) for f in (lazy_system, dense_system))
        for a, e in zip(got, expected, strict=True):
            close(a, e, 1e-8)
    small = points(4, 2), tensors[1], points(4, 1), tensors[3]
    for hessian in (torch.func.hessian, lambda f, argnums: torch.func.jacrev(torch.func.grad(f, argnums), argnums)):
        got, expected = (hessian(value(f), argnums=(0, 3))(*small) for f in (lazy_system, dense_system))
        for row, other in zip(got, expected, strict=True):
            for a, e in zip(row, other, strict=True):
                close(a, e, 1e-7)


def test_vmap() -> None:
    x, scale, b, alpha = points(3, N, 2), points(3, 2).abs() + 0.3, points(3, N, 2), points(3).abs() + 0.3
    shared = inputs()
    for given, dims in [
        ((x, scale, b, alpha), (0, 0, 0, 0)),
        ((shared[0], shared[1], b, shared[3]), (None, None, 0, None)),
        ((x, shared[1], shared[2], alpha), (0, None, None, 0)),
        ((x.movedim(0, 1), shared[1], b.movedim(0, 2), shared[3]), (1, None, 2, None)),
    ]:
        got, expected = (torch.func.vmap(f, dims)(*given) for f in (lazy_system, dense_system))
        close(got, expected, 1e-9)

    def per_sample(f: Callable[..., Tensor]) -> Tensor:
        return torch.func.vmap(torch.func.grad(lambda p, q: f(p, shared[1], q, shared[3]).sin().sum()))(x, b)

    close(per_sample(lazy_system), per_sample(dense_system), 1e-8)
    start = torch.func.vmap(lambda p, s: lazy_system(p, shared[1], shared[2], shared[3], x0=s))(x, b)
    close(start, torch.func.vmap(lambda p: dense_system(p, *shared[1:]))(x), 1e-9)


def test_batched_gradients() -> None:
    """`is_grads_batched`, an older vmap than that of torch.func."""
    tensors = followed(*inputs())
    g = points(5, N, 2)
    for f in (lazy_system, dense_system):
        found = torch.autograd.grad(f(*tensors), tensors, g, is_grads_batched=True)
        if f is lazy_system:
            got = found
    for a, e in zip(got, found, strict=True):
        close(a, e, 1e-8)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's tracer looks at it, where graphs end
def test_torch_compile_runs_the_solve_outside_of_its_graph() -> None:
    torch.compiler.reset()
    tensors = followed(*inputs())

    @torch.compile(backend="eager")
    def loss(x: Tensor, scale: Tensor, b: Tensor, alpha: Tensor) -> Tensor:
        return lazy_system(x, scale, 2 * b, alpha).sin().sum()

    expected = dense_system(tensors[0], tensors[1], 2 * tensors[2], tensors[3]).sin().sum()
    got = loss(*tensors)
    close(got, expected, 1e-9)
    for a, e in zip(torch.autograd.grad(got, tensors), torch.autograd.grad(expected, tensors), strict=True):
        close(a, e, 1e-8)


# ---------------------------------------------------------------------- values


def test_tensors_in_tensors_out() -> None:
    x, scale, b, alpha = inputs()
    expected = dense_system(x, scale, b, alpha)
    for u in (
        lazy_system(x, scale, b, alpha),
        lazy_system(x, scale, b, 0.5),  # type: ignore[arg-type]
        lazy_gaussian(x, x, scale).solve(Vi(b), alpha=0.5, **EXACT),
        lazy_gaussian(x, x, scale).solve(b, alpha=0.5, x0=b, **EXACT),
        lazy_gaussian(x, x, scale).solve(b, alpha=0.5, precond=lambda r: r / 1.5, **EXACT),
    ):
        assert u.dtype == torch.float64
        assert not u.requires_grad
        close(u, expected, 1e-9)
    (b,) = followed(b)
    assert lazy_system(x, scale, b, alpha).requires_grad
    with torch.no_grad():
        assert not lazy_system(x, scale, b, alpha).requires_grad
    u, info = lazy_gaussian(x, x, scale).solve(b, alpha=0.5, return_info=True)
    assert info.converged.all()
    assert u.requires_grad
    with pytest.raises(DtypeError, match="x0 is not an array of the library of b"):
        lazy_gaussian(x, x, scale).solve(b, x0=b.detach().numpy())


def test_float32() -> None:
    x, scale, b, alpha = (t.float() for t in inputs())
    tensors = followed(x, scale, b, alpha)
    u = lazy_gaussian(tensors[0], tensors[0], tensors[1]).solve(tensors[2], alpha=tensors[3])
    assert u.dtype == torch.float32
    wide = [t.detach().double().requires_grad_() for t in tensors]
    expected = dense_system(*wide)
    # condition number 20: the tolerance of the solve, 1e-6, times that
    torch.testing.assert_close(u.double(), expected, rtol=0, atol=2e-5)
    for a, e in zip(
        torch.autograd.grad(u.sin().sum(), tensors), torch.autograd.grad(expected.sin().sum(), wide), strict=True
    ):
        torch.testing.assert_close(a.double(), e, rtol=0, atol=1e-4 * float(e.abs().max() + 1))


def test_kernel_solve() -> None:
    aliases = ["x = Vi(2)", "y = Vj(2)", "u = Vj(2)", "s = Pm(2)"]
    inverse = KernelSolve("Exp(-WeightedSqDist(s, x, y)) * u", aliases, "u", axis=1)
    tensors = followed(*inputs())
    x, scale, b, alpha = tensors
    lazy, dense = inverse(x, x, b, scale, alpha=alpha, **EXACT), dense_system(x, scale, b, alpha)
    close(lazy, dense, 1e-9)
    for a, e in zip(
        second_derivatives(lazy.sin().sum(), tensors), second_derivatives(dense.sin().sum(), tensors), strict=True
    ):
        close(a, e, 1e-7)


def test_deferred() -> None:
    (x,) = followed(points(N, 2))
    _, scale, b, alpha = inputs()
    waiting = (-(Pm(scale) * (Vi(0, 2) - Vj(1, 2)) ** 2).sum(-1)).exp().solve(Vi(2, 2), alpha=0.5, **EXACT)
    got = torch.autograd.grad(waiting(x, x, b).sin().sum(), x)[0]
    close(got, torch.autograd.grad(dense_system(x, scale, b, alpha).sin().sum(), x)[0], 1e-8)


@pytest.mark.parametrize("method", ["cg", "minres"])
@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e150])
def test_scales_of_the_right_hand_side_in_batches_with_gradients(scale: float, method: str) -> None:
    """By default the tolerance is relative to each column of each batch; the derivatives are those of scale 1."""
    x, b = points(3, N, 2), points(3, N, 2) * torch.tensor([1.0, scale], dtype=torch.float64)
    factor = points(2).abs() + 0.3
    dense = (-(factor * (x[..., :, None, :] - x[..., None, :, :]) ** 2).sum(-1)).exp()

    def lazy(s: Tensor, b: Tensor) -> Tensor:
        k = (-(Pm(s) * (LazyTensor(x[:, :, None]) - LazyTensor(x[:, None, :])) ** 2).sum(-1)).exp()
        return k.solve(b, alpha=0.5, method=method) / torch.tensor([1.0, scale], dtype=torch.float64)

    leaves = followed(factor, b)
    u = lazy(*leaves)
    expected = dense_solve(dense, b, 0.5) / torch.tensor([1.0, scale], dtype=torch.float64)
    close(u.detach(), expected, 1e-5)
    g_factor, g_b = torch.autograd.grad((u**2).sum(), leaves)
    again = followed(factor, b / torch.tensor([1.0, scale], dtype=torch.float64))
    k = (-(again[0] * (x[..., :, None, :] - x[..., None, :, :]) ** 2).sum(-1)).exp()
    wanted = torch.autograd.grad((dense_solve(k, again[1], 0.5) ** 2).sum(), again)
    close(g_factor, wanted[0], 1e-4)
    close(g_b * torch.tensor([1.0, scale], dtype=torch.float64), wanted[1], 1e-4)
