"""Derivatives at the awkward points: what docs/derivatives.md promises there, in both modes, and once more."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch_cases import close, points

from pairfuse.errors import UnsupportedError
from pairfuse.frontend.autograd.function import check_differentiable
from pairfuse.lower.problem import Problem
from pairfuse.torch import LazyTensor, Vi, Vj, index_i, index_j, maximum, minimum, where

# torch's own, at the first use of forward mode in a process
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

Tensor = torch.Tensor
INF = math.inf
# function, point: value, first derivative, second derivative
NUMBERS: dict[str, tuple[Callable[[LazyTensor], LazyTensor], float, tuple[float, float, float]]] = {
    "sqrt": (lambda x: x.sqrt(), 0.0, (0, 0, 0)),
    "x ** 0.5": (lambda x: x**0.5, 0.0, (0, 0, 0)),
    "rsqrt": (lambda x: x.rsqrt(), 0.0, (0, 0, 0)),
    "norm": (lambda x: x.norm2(), 0.0, (0, 0, 0)),
    "sqrt of a square": (lambda x: (x**2).sqrt(), 0.0, (0, 0, 0)),
    "abs": (lambda x: x.abs(), 0.0, (0, 0, 0)),
    "relu": (lambda x: x.relu(), 0.0, (0, 1, 0)),  # as in KeOps
    "sign": (lambda x: x.sign(), 0.0, (0, 0, 0)),
    "x log x": (lambda x: x.xlogx(), 0.0, (0, 0, 0)),
    "sinxdivx": (lambda x: x.sinxdivx(), 0.0, (1, 0, -1 / 3)),
    "sinc": (lambda x: x.sinc(), 0.0, (1, 0, -(math.pi**2) / 3)),
    "atan2": (lambda x: x.atan2(x), 0.0, (0, 0, 0)),
    "asin": (lambda x: x.asin(), 1.0, (math.pi / 2, 0, 0)),
    "acos": (lambda x: x.acos(), -1.0, (math.pi, 0, 0)),
    "normalize": (lambda x: x.normalize(), 0.0, (0, 0, 0)),
    "round at a half": (lambda x: x.round(), 0.5, (1, 0, 0)),
    "mod at a multiple": (lambda x: x.mod(1), 2.0, (0, 1, 0)),
    "clamp at its lower end": (lambda x: x.clamp(0, 1), 0.0, (0, 1, 0)),
    "clamp at its upper end": (lambda x: x.clamp(0, 1), 1.0, (1, 1, 0)),
    "abs of a root": (lambda x: x.abs().sqrt(), 0.0, (0, 0, 0)),
    "x ** 0": (lambda x: x**0, 0.0, (1, 0, 0)),
    "x ** 1.0": (lambda x: x**1.0, 0.0, (0, 1, 0)),
    "x ** 2.0": (lambda x: x**2.0, 0.0, (0, 0, 2)),
    "the smaller of equals": (lambda x: minimum(2 * x, x**2), 0.0, (0, 2, 0)),
    "the larger of equals": (lambda x: maximum(3 * x, x**2), 0.0, (0, 3, 0)),
    "a branch that is not taken": (lambda x: where(x > 0, x.log(), x), 0.0, (0, 1, 0)),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name: str) -> None:
    f, at, expected = NUMBERS[name]
    x = torch.tensor([[at]], dtype=torch.float64)

    def g(x: Tensor) -> Tensor:
        return f(Vi(x)).sum(dim=1).sum()

    def tangent(g: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda x: torch.func.jvp(g, (x,), (torch.ones_like(x),))[1]

    reverse = torch.func.grad(g)
    for found in (
        (g(x), reverse(x), torch.func.grad(lambda x: reverse(x).sum())(x)),
        (g(x), tangent(g)(x), tangent(tangent(g))(x)),
    ):
        for got, want in zip(found, expected, strict=True):
            close(got.sum(), torch.tensor(float(want), dtype=torch.float64))


def test_coincident_points() -> None:
    """Distances of a cloud to itself: finite derivatives of every order, and those of the other pairs."""
    x = points(5, 3)
    others = ~torch.eye(5, dtype=torch.bool)

    def energy(x: Tensor) -> Tensor:
        return (-(Vi(x) - Vj(x)).norm2()).exp().sum(dim=1).sum()

    def dense(x: Tensor) -> Tensor:
        d = (x[:, None] - x).square().sum(-1).where(others, torch.ones(()).double()).sqrt()
        return (-d).exp().where(others, torch.ones(()).double()).sum()

    close(torch.func.grad(energy)(x), torch.func.grad(dense)(x))
    close(torch.func.hessian(energy)(x), torch.func.hessian(dense)(x), 1e-9)


def test_first_of_equal_terms() -> None:
    y = torch.tensor([[1.0], [0.0], [0.0]], dtype=torch.float64)
    t = torch.tensor([[10.0], [20.0], [30.0]], dtype=torch.float64)
    for f, weights in (
        (lambda y: (Vj(y) * 2).min(dim=1).sum(), [0.0, 2.0, 0.0]),
        (lambda y: (Vj(y) * 2).Kmin(2, dim=1)[0, 1], [0.0, 0.0, 2.0]),
        (lambda y: (Vj(-y) * 2).max(dim=1).sum(), [0.0, -2.0, 0.0]),
    ):
        expected = torch.tensor(weights, dtype=torch.float64)[:, None]
        close(torch.func.grad(f)(y), expected)
        close(torch.func.jvp(f, (y,), (t,))[1], (expected * t).sum())


def test_terms_without_weight() -> None:
    """A term -inf of a log-sum-exp or a softmax has weight 0, and a row of nothing else does not move."""
    x, b = points(4, 2), torch.tensor([[0.3], [-INF], [0.1]], dtype=torch.float64)
    y = points(3, 2)

    def lazy(x: Tensor) -> Tensor:
        s = -(Vi(x) - Vj(y)).sqnorm2() + Vj(b)
        return torch.cat([s.logsumexp(dim=1), s.sumsoftmaxweight(Vj(y), dim=1)], -1)

    def dense(x: Tensor) -> Tensor:
        s = (-(x[:, None] - y[[0, 2]]).square().sum(-1) + b[[0, 2], 0])[..., None]
        return torch.cat([s.logsumexp(1), (s.softmax(1) * y[[0, 2]]).sum(1)], -1)

    close(lazy(x), dense(x))
    close(torch.func.jacrev(lazy)(x), torch.func.jacrev(dense)(x))
    close(torch.func.jacfwd(lazy)(x), torch.func.jacfwd(dense)(x))
    close(torch.func.jacfwd(torch.func.jacrev(lazy))(x), torch.func.jacfwd(torch.func.jacrev(dense))(x))

    def nothing(x: Tensor) -> Tensor:
        return (where(index_i() == 1, -INF, 0) - (Vi(x) - Vj(y)).sqnorm2()).logsumexp(dim=1)

    assert nothing(x)[1].item() == -INF
    leaf = x.clone().requires_grad_()
    (plain,) = torch.autograd.grad(nothing(leaf)[1].sum(), [leaf])
    assert not plain.any()
    for slope in (torch.func.jacrev(nothing)(x), torch.func.jacfwd(nothing)(x)):
        assert slope.isfinite().all()
        assert not slope[1].any()


def test_weights_that_vanish() -> None:
    """log(b) is -inf where b is 0: chosen by a condition, its derivative leaves no trace."""
    x, b = points(4, 2), torch.tensor([[0.5], [0.0], [2.0]], dtype=torch.float64)
    y = points(3, 2)

    def lazy(b: Tensor) -> Tensor:
        s = -(Vi(x) - Vj(y)).sqnorm2()
        return (s + where(Vj(b) > 0, Vj(b).log(), -INF)).logsumexp(dim=1)

    slopes = torch.func.jacrev(lazy)(b)
    assert slopes.isfinite().all()
    assert not slopes[:, :, 1].any()
    close(torch.func.jacfwd(lazy)(b), slopes)


def test_masks_keep_NaN_and_infinity_out() -> None:
    x, y = points(4, 2), points(3, 2)
    bad = y.clone()
    bad[1] = math.nan
    x[0, 0] = 0.0
    mask = index_j() == 1

    def masked(x: Tensor, y: Tensor) -> Tensor:
        return where(mask, 0.0, (Vi(x) * Vj(y)).sin()).sum(dim=1)

    def dense(x: Tensor, y: Tensor) -> Tensor:
        return (x[:, None] * y[[0, 2]]).sin().sum(1)

    close(masked(x, bad), dense(x, y))
    for argument in (0, 1):
        got, expected = (torch.func.jacrev(f, argument)(x, v) for f, v in ((masked, bad), (dense, y)))
        close(got, expected)
        close(torch.func.jacfwd(masked, argument)(x, bad), expected)
    close(torch.func.hessian(lambda x: masked(x, bad).sum())(x), torch.func.hessian(lambda x: dense(x, y).sum())(x))


def test_deviations_of_equal_terms_are_flat() -> None:
    y = torch.full((3, 2), 0.25, dtype=torch.float64, requires_grad=True)
    for name in ("var", "std"):
        result = getattr(Vj(y), name)(dim=1)
        assert not result.any()
        assert not torch.autograd.grad(result.sum(), [y])[0].any()


def test_second_derivatives_of_a_product_of_quotients() -> None:
    """Of a branch that is not taken, where it is infinite; a product differentiates through its own choices, too."""
    x, y = torch.tensor([[1.0], [2.0]]).double(), torch.tensor([[1.0], [3.0], [0.5]]).double()

    def lazy(x: Tensor) -> Tensor:
        d = Vi(x) - Vj(y)
        return where(d == 0, 1, 1 / d).prod(dim=1).sum()

    def dense(x: Tensor) -> Tensor:
        d = x[:, None] - y
        one = torch.ones(()).double()
        return torch.where(d == 0, one, 1 / torch.where(d == 0, one, d)).prod(1).sum()

    for first in (torch.func.jacrev, torch.func.jacfwd):
        close(first(lazy)(x), first(dense)(x))
        for second in (torch.func.jacrev, torch.func.jacfwd):
            close(second(first(lazy))(x), second(first(dense))(x))


@pytest.mark.parametrize("power", [1.5, 0.25, 2.5, -0.25, -2, 0.5, -0.5])
def test_powers_of_distances_of_coincident_points(power: float) -> None:
    """At 0, all derivatives of a power that would be infinite are 0, as those of a root."""
    x, others = points(4, 3), ~torch.eye(4, dtype=torch.bool)

    def lazy(x: Tensor) -> Tensor:
        return where(index_i() == index_j(), 0.0, (Vi(x) - Vj(x)).sqnorm2() ** power).sum(dim=1).sum()

    def unmasked(x: Tensor) -> Tensor:
        return ((Vi(x) - Vj(x)).sqnorm2() ** power).sum(dim=1).sum()

    def dense(x: Tensor) -> Tensor:
        d = (x[:, None] - x).square().sum(-1).where(others, torch.ones(()).double())
        return (d**power).where(others, torch.zeros(()).double()).sum()

    for f in (lazy, unmasked):
        close(torch.func.grad(f)(x), torch.func.grad(dense)(x))
        close(torch.func.hessian(f)(x), torch.func.hessian(dense)(x), 1e-9)


def test_powers_whose_exponent_is_data() -> None:
    """The same as with the number written in the formula; and d2 (x ** y) / dx dy at y = 0 is 1 / x."""
    zero = torch.zeros(1, 1).double()
    for number, slope, curvature in ((-1.0, 0, 0), (0.0, 0, 0), (0.25, 0, 0), (1.0, 1, 0), (1.5, 0, 0), (2.0, 0, 2)):
        y = torch.full((1, 1), number).double()

        def power(x: Tensor, y: Tensor) -> Tensor:
            return (Vi(x) ** Vj(y)).sum(dim=1).sum()

        assert torch.func.grad(power)(zero, y).item() == slope
        assert torch.func.grad(power, 1)(zero, y).item() == 0
        hessian = torch.func.hessian(power, (0, 1))(zero, y)
        assert hessian[0][0].item() == curvature
        assert all(h.isfinite().all() for row in hessian for h in row)
    mixed = torch.func.hessian(lambda x, y: (Vi(x) ** Vj(y)).sum(dim=1).sum(), (0, 1))(zero + 2, zero)
    assert mixed[0][1].item() == mixed[1][0].item() == 0.5


# ---------------------------------------------------------------------- products

ZEROS = [(), (1,), (0, 2), (0, 1, 3), (0, 1, 2, 3)]


@pytest.mark.parametrize("zeros", ZEROS, ids=str)
def test_derivatives_of_products_where_terms_vanish(zeros: tuple[int, ...]) -> None:
    """Up to the fourth order, whatever the number of zeros; the truth is the product written out."""
    y = torch.tensor([1.5, -0.5, 2.0, 0.75, 1.25], dtype=torch.float64)
    y[list(zeros)] = 0.0

    def lazy(y: Tensor) -> Tensor:
        return Vj(y[:, None]).prod(dim=1).sum()

    def dense(y: Tensor) -> Tensor:
        return y[0] * y[1] * y[2] * y[3] * y[4]

    reverse, forward = torch.func.jacrev, torch.func.jacfwd
    for chain in ((reverse,), (forward,), (reverse, reverse), (reverse, forward), (forward, reverse),
                  (forward, forward), (reverse, forward, forward), (reverse, reverse, forward, forward)):  # fmt: skip
        f, g = lazy, dense
        for mode in chain:
            f, g = mode(f), mode(g)
        close(f(y), g(y), 1e-9)


def test_products_of_vectors_where_terms_vanish() -> None:
    x, y = torch.tensor([[1.0, 2.0], [0.5, 0.0]]).double(), torch.tensor([[1.0, 0.0], [0.25, 2.0], [1.0, 3.0]]).double()

    def lazy(x: Tensor) -> Tensor:
        return ((Vi(x) - Vj(y)).prod(dim=1) ** 2 + (Vi(x) - Vj(y)).prod(dim=1)).sum()

    def dense(x: Tensor) -> Tensor:
        d = x[:, None] - y
        p = d[:, 0] * d[:, 1] * d[:, 2]
        return (p**2 + p).sum()

    close(torch.func.grad(lazy)(x), torch.func.grad(dense)(x))
    close(torch.func.hessian(lazy)(x), torch.func.hessian(dense)(x))
    leaf = x.clone().requires_grad_()
    assert torch.autograd.gradgradcheck(lazy, (leaf,))
    close(torch.func.grad(lambda x: torch.func.grad(lazy)(x).square().sum())(x),
          torch.func.grad(lambda x: torch.func.grad(dense)(x).square().sum())(x))  # fmt: skip


# ---------------------------------------------------------------------- what has no derivative


@pytest.mark.parametrize("name", ["argmin", "argmax", "argKmin", "argKmax", "count_nonzero"])
def test_integers_have_no_derivative(name: str) -> None:
    """torch refuses them, as those of its own, and the record says what to differentiate instead."""
    x, y = points(4, 2, grad=True), points(3, 2)
    k = (Vi(x) - Vj(y)).sqnorm2()
    found = getattr(k, name)(*([2] if "K" in name else []), dim=1)
    assert found.dtype == torch.int64
    with pytest.raises(RuntimeError, match="does not require grad"):
        found.sum().backward()
    problem = Problem((k._expr,), name, "j", "float64", (("K", 2),) if "K" in name else ())
    with pytest.raises(UnsupportedError, match=r"Hint: '(min|max|Kmin|Kmax|sum)' .*(which have|has) one"):
        check_differentiable(problem)
