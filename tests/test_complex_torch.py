"""Complex LazyTensors on torch tensors: values, gradients in torch's convention, views, transforms.

The judge is the same function of dense tensors.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from pairfuse.errors import DtypeError
from pairfuse.torch import LazyTensor, Pm, Vi, Vj, where

# torch's own, at the first use of forward mode in a process
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

C, F = torch.complex128, torch.float64
M, N, D = 4, 5, 2
Function = Callable[..., Any]


def data(seed: int = 0) -> tuple[Any, ...]:
    """x_i and y_j complex, r_j real, a complex parameter: all followed by torch."""
    g = torch.Generator().manual_seed(seed)
    x, y = torch.randn(M, D, dtype=C, generator=g), torch.randn(N, D, dtype=C, generator=g)
    r, p = torch.rand(N, D, dtype=F, generator=g), torch.randn(D, dtype=C, generator=g)
    return tuple(t.requires_grad_() for t in (x, y, r, p))


# Functions of x, y, r, p, written so that they hold for symbolic and for dense tensors.
FUNCTIONS: dict[str, Function] = {
    "products": lambda x, y, r, p: (x * y * p + r) * r - p * 2j,
    "quotients": lambda x, y, r, p: x * p / (y + 3 * x + 4) + r / (x - 5j) + (y - x) / (r + 1),
    "exponentials": lambda x, y, r, p: (x * y * 0.5 - r * 1j).exp() * p,
    "roots": lambda x, y, r, p: (x - y + 4).sqrt() * (p + 4).log() + (x * r + 5).log(),
    "powers": lambda x, y, r, p: (x - y) ** 3 + (x + 4) ** -2 + (x + 4) ** (y * 0.1 + r) + (y + 4) ** 1.5,
    "parts": lambda x, y, r, p: (x * y).real * p + (x - y).imag * 1j + (x * p).conj() * r,
    "moduli": lambda x, y, r, p: abs(x - y) * r + (x + 4 - y * 0.1).angle() * p + abs(y),
    "trigonometry": lambda x, y, r, p: (x * r).sin() * (y - p).cos() + (x * 0.5).sinh() + (y * 0.5).cosh(),
    "sums": lambda x, y, r, p: (x * y).sum(-1, True) * r if isinstance(x, torch.Tensor) else (x * y).sum(-1) * r,
}


def lazy(f: Function, **options: Any) -> Function:
    return lambda x, y, r, p: f(Vi(x), Vj(y), Vj(r), Pm(p)).sum(dim=1, **options)


def interpreted(f: Function) -> Function:
    """Where many formulas are put together, and none is worth compiling: kernels are checked elsewhere."""
    return lazy(f, backend="reference")


def dense(f: Function) -> Function:
    return lambda x, y, r, p: f(x[:, None], y[None], r[None], p).expand(M, N, D).sum(dim=1)


def close(found: Any, expected: Any, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def squares(tensors: Sequence[Any]) -> Any:
    return torch.cat([(t * t.conj()).real.flatten() for t in tensors]).sum()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients(name: str) -> None:
    """In torch's convention, dL/d Re z + i dL/d Im z; real inputs have real gradients."""
    inputs = data()
    found, expected = lazy(FUNCTIONS[name])(*inputs), dense(FUNCTIONS[name])(*inputs)
    close(found, expected)
    g = torch.randn(expected.shape, dtype=expected.dtype, generator=torch.Generator().manual_seed(1))
    grads = torch.autograd.grad(found, inputs, g, create_graph=True, materialize_grads=True)
    wanted = torch.autograd.grad(expected, inputs, g, create_graph=True, materialize_grads=True)
    for a, b in zip(grads, wanted, strict=True):
        close(a, b)
    again = [torch.autograd.grad(squares(side), inputs[:2]) for side in (grads, wanted)]
    for a, b in zip(*again, strict=True):
        close(a, b, 1e-8)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradcheck(name: str) -> None:
    """Against finite differences, in both modes, mapped, and of second order in both mixes."""
    inputs = tuple(t[:2].detach().requires_grad_() for t in data(seed=3))
    modes = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
    f = interpreted(FUNCTIONS[name])
    assert torch.autograd.gradcheck(f, inputs, fast_mode=True, **modes)
    assert torch.autograd.gradgradcheck(f, inputs, fast_mode=True, check_fwd_over_rev=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_transforms_and_their_mixes(name: str) -> None:
    """Gradients, forward over forward, forward over reverse, and both over a nested map, as of dense tensors."""
    inputs, moves, others = (tuple(t.detach() for t in data(seed)) for seed in (4, 5, 6))
    x, y, r, p = inputs
    several = torch.stack([x, 2 * x, x.conj()], 1)

    def energy(f: Function) -> Function:
        return lambda *z: squares([f(*z)])

    def along(f: Function, direction: tuple[Any, ...]) -> Function:
        return lambda *z: torch.func.jvp(f, z, direction)[1]

    mixes: tuple[Callable[[Function], Any], ...] = (
        lambda f: torch.func.grad(energy(f), argnums=(0, 1, 2, 3))(*inputs),
        lambda f: along(along(f, moves), others)(*inputs),
        lambda f: along(torch.func.grad(energy(f), argnums=(0, 1)), moves)(*inputs),
        lambda f: torch.func.grad(lambda *z: squares([along(f, moves)(*z)]))(*inputs),
        lambda f: torch.func.hessian(lambda r: energy(f)(x, y, r, p))(r),
        lambda f: torch.func.jacrev(lambda r: f(x, y, r, p).abs())(r),
        lambda f: torch.vmap(torch.func.grad(lambda v: energy(f)(v, y, r, p)), in_dims=1, out_dims=2)(several),
        lambda f: torch.vmap(
            torch.vmap(lambda v, q: f(v, y, r, p + q), in_dims=(1, None), out_dims=2), in_dims=(None, -1), out_dims=1
        )(several, torch.stack([p, p * 2], -1)) if name not in ("powers", "sums") else x,  # they have no p
    )  # fmt: skip
    for mix in mixes:
        close(mix(interpreted(FUNCTIONS[name])), mix(dense(FUNCTIONS[name])), 1e-8)


@pytest.mark.parametrize("name", ["quotients", "powers", "parts"])
def test_forward_mode_and_vmap(name: str) -> None:
    inputs = tuple(t.detach() for t in data(seed=4))
    moves = tuple(t.detach() for t in data(seed=5))
    for a, b in zip(
        torch.func.jvp(lazy(FUNCTIONS[name]), inputs, moves),
        torch.func.jvp(dense(FUNCTIONS[name]), inputs, moves),
        strict=True,
    ):
        close(a, b)
    x, *rest = inputs
    several = torch.stack([x, 2 * x, x.conj()])
    found = torch.func.vmap(lambda v: lazy(FUNCTIONS[name])(v, *rest))(several)
    close(found, torch.stack([dense(FUNCTIONS[name])(v, *rest) for v in several]))


def test_gradients_over_the_other_axis() -> None:
    x, y, r, p = data()
    found = (Vi(x) * Vj(y) / (Vj(r) + Pm(p) * 3j)).sum(dim=0)
    expected = (x[:, None] * y[None] / (r[None] + p * 3j)).sum(dim=0)
    close(found, expected)
    for a, b in zip(*[torch.autograd.grad(v.abs().sum(), (x, y, r, p)) for v in (found, expected)], strict=True):
        close(a, b)


def test_batches_are_summed_in_gradients() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(3, 1, M, 1, D, dtype=C, generator=g).requires_grad_()
    y = torch.randn(2, 1, N, 1, dtype=C, generator=g).requires_grad_()
    s = torch.randn(3, 1, 1, 1, D, dtype=F, generator=g).requires_grad_()
    found = ((LazyTensor(x) - LazyTensor(y)) * LazyTensor(s) * 1j).exp().sum(dim=3)
    expected = ((x - y) * s * 1j).exp().sum(dim=3)
    close(found, expected)
    for a, b in zip(*[torch.autograd.grad(v.real.sum(), (x, y, s)) for v in (found, expected)], strict=True):
        assert a.shape == b.shape
        close(a, b)


@pytest.mark.parametrize("function", ["abs", "sqrt", "angle", "norm2", "normalize"])
def test_derivatives_at_zero_are_zero(function: str) -> None:
    z = torch.zeros(2, 1, dtype=C).requires_grad_()
    result = getattr(Vi(z), function)().sum(dim=1)
    assert (result == 0).all()
    (g,) = torch.autograd.grad(result.real.sum() if result.is_complex() else result.sum(), [z])
    assert (g == 0).all()

    def f(z: torch.Tensor) -> torch.Tensor:
        result = getattr(Vi(z), function)().sum(dim=1)
        return result.real.sum() if result.is_complex() else result.sum()

    z, t = z.detach(), torch.full_like(z, 1 + 2j)
    assert torch.func.jvp(f, (z,), (t,))[1] == 0
    assert (torch.func.jvp(torch.func.grad(f), (z,), (t,))[1] == 0).all()
    assert (torch.func.grad(lambda z: torch.view_as_real(torch.func.grad(f)(z)).sum())(z) == 0).all()


def test_powers_of_zero_have_derivatives() -> None:
    z = torch.zeros(1, 1, dtype=C).requires_grad_()
    for exponent, slope in ((0, 0), (1, 1), (2, 0), (3, 0), (1.5, 0), (2.0, 0)):
        (g,) = torch.autograd.grad((Vi(z) ** exponent).sum(dim=1).real.sum(), [z])
        assert g.item() == slope, exponent


def test_choices_do_not_mix_gradients() -> None:
    """The branch that is not taken may have an infinite derivative."""
    x, y, *_ = data()
    zero = torch.zeros(M, D, dtype=C).requires_grad_()
    z = Vi(zero)
    expected = torch.autograd.grad((x[:, None] * y[None]).sum(1).abs().sum(), (x, y))
    for infinite in (1 / z, z.log(), 1 / (z * z), z.log().abs() + z.conj().log().imag * 1j, z**-0.5, (2 / z).exp()):
        found = where(z.abs() > 0, infinite, Vi(x) * Vj(y)).sum(dim=1)
        grads = torch.autograd.grad(found.abs().sum(), (x, y, zero))
        for a, b in zip(grads, (*expected, torch.zeros_like(zero)), strict=True):
            close(a, b)


# ---------------------------------------------------------------------- views of torch


def test_views_that_torch_keeps_lazy() -> None:
    """Conjugates and opposites of memory, also where they come out of another derivative."""
    x, y, *_ = (t.detach() for t in data())
    conjugate, opposite = x.conj(), x.conj().imag
    assert conjugate.is_conj()
    assert opposite.is_neg()
    close((Vi(conjugate) * Vj(y)).sum(dim=1), (conjugate[:, None] * y[None]).sum(1))
    close((Vi(opposite) * Vj(y)).sum(dim=1), (opposite[:, None] * y[None]).sum(1))
    close((Vi(opposite) * Vj(y.real)).sum(dim=1), (opposite[:, None] * y.real[None]).sum(1))
    x.requires_grad_()
    result = (Vi(x.real) * Vj(y.real)).sum(dim=1)
    (g,) = torch.autograd.grad(result, [x], opposite)  # the cotangent is kept as the opposite of its memory
    close(g, (opposite * y.real.sum(0)).to(C))


def test_strides_and_memory() -> None:
    x = torch.randn(2 * M, 2 * D, dtype=C)
    y = torch.randn(N, D, dtype=C)
    for view in (x[::2, ::2], x[:M, :D], x.T[:M, :D], x[:M, 1:3], x[:M, :1].expand(M, D)):
        close((Vi(view) * Vj(y)).sum(dim=1), (view[:, None] * y[None]).sum(1))
    assert Vi(x[:M, 1:3]).variables[0].data_ptr() == x[0, 1:].data_ptr()
    number = torch.tensor(1 + 2j)
    close((Vi(x[:M, :D]) * number).sum(dim=1), x[:M, :D] * number)
    assert (Vi(x[:M, :D]) * number).sum(dim=1).dtype == C  # a number takes the type of the others


@pytest.mark.filterwarnings("ignore:ComplexHalf support")
@pytest.mark.parametrize(("real", "dtype"), [(torch.float32, torch.complex64), (F, C)])
def test_types(real: Any, dtype: Any) -> None:
    x, r = torch.randn(M, D, dtype=dtype), torch.randn(N, D, dtype=real)
    result = (Vi(x) * Vj(r) * 2j + 1).sum(dim=1)
    assert result.dtype == dtype
    close(result, (x[:, None] * r[None] * 2j + 1).sum(1), 1e-5)
    assert (Vi(x) * Vj(r)).abs().sum(dim=1).dtype == real
    other = F if real == torch.float32 else torch.float32
    with pytest.raises(DtypeError, match="number types differ"):
        _ = Vi(x) * Vj(r.to(other))
    with pytest.raises(DtypeError, match=r"convert the array, x\.to\(torch\.complex64\)"):
        Vi(torch.zeros(M, D, dtype=torch.complex32))


def test_matrix_products_have_gradients() -> None:
    x, y, *_ = data()
    v = torch.randn(N, dtype=C).requires_grad_()
    w = torch.randn(N, 3, dtype=F).requires_grad_()
    K, dense_K = (Vi(x) * Vj(y)).sum(-1), x @ y.T
    for found, expected, inputs in (
        (K @ v, dense_K @ v, (x, y, v)),
        (K @ w, dense_K @ w.to(C), (x, y, w)),
        (K.H @ x[:, 0], dense_K.mH @ x[:, 0], (x, y)),
        (x[:, 0] @ K, x[:, 0] @ dense_K, (x, y)),
    ):
        close(found, expected)
        grads = [torch.autograd.grad(t.abs().sum(), inputs, retain_graph=True) for t in (found, expected)]
        for a, b in zip(*grads, strict=True):
            close(a, b)


def test_nothing_and_copies() -> None:
    x, y, *_ = data()
    assert (Vi(x) * Vj(y[:0])).sum(dim=1).tolist() == [[0j] * D] * M
    z = Vi(x) * Vj(y) * 1j
    close(copy.deepcopy(z).sum(dim=1), z.sum(dim=1))
    with torch.no_grad():
        assert not z.sum(dim=1).requires_grad


def test_compiled_functions() -> None:
    """torch.compile traces complex formulas as it does real ones."""
    f = FUNCTIONS["products"]
    compiled = torch.compile(lazy(f), backend="eager", fullgraph=True)
    inputs = data()
    found, expected = compiled(*inputs), dense(f)(*inputs)
    close(found, expected)
    for a, b in zip(*[torch.autograd.grad(t.abs().sum(), inputs) for t in (found, expected)], strict=True):
        close(a, b)
