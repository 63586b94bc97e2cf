"""Forward mode, and forward mixed with reverse: equal to those of dense torch, for every reduction."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad
from torch_cases import CASES, Case, close, points

# torch's own, at the first use of forward mode in a process
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

Tensor = torch.Tensor
ALL = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def directions(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(points(*t.shape, seed=50 + k) for k, t in enumerate(tensors))


@ALL
def test_tangents(case: Case) -> None:
    x = case.tensors()
    t = directions(x)
    (value, moved), (expected_value, expected) = (torch.func.jvp(f, x, t)[:2] for f in (case.lazy, case.dense))
    close(value, expected_value)
    close(moved, expected)


@ALL
def test_tangents_of_single_inputs(case: Case) -> None:
    x = case.tensors()
    for k, t in enumerate(directions(x)):

        def alone(f: object, k: int = k, t: Tensor = t) -> Tensor:
            return torch.func.jvp(lambda v: f(*x[:k], v, *x[k + 1 :]), (x[k],), (t,))[1]  # type: ignore[operator]

        close(alone(case.lazy), alone(case.dense))


@ALL
def test_dual_numbers(case: Case) -> None:
    x = case.tensors()
    t = directions(x)
    with forward_ad.dual_level():
        result = case.lazy(*(forward_ad.make_dual(a, b) for a, b in zip(x, t, strict=True)))
        value, moved = forward_ad.unpack_dual(result)
    assert moved is not None
    close(value, case.dense(*x))
    close(moved, torch.func.jvp(case.dense, x, t)[1])


@ALL
def test_second_derivatives_in_every_mix(case: Case) -> None:
    """Forward over reverse, reverse over forward, forward over forward, reverse over reverse."""
    x = case.tensors()
    t, u = directions(x), directions(x[::-1])[::-1]

    def energy(f, *x: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        return (f(*x) ** 2).sum()

    def along(f, x: tuple[Tensor, ...], t: tuple[Tensor, ...]) -> Tensor:  # type: ignore[no-untyped-def]
        return torch.func.jvp(lambda *x: energy(f, *x), x, t)[1]

    def slopes(f, x: tuple[Tensor, ...]) -> tuple[Tensor, ...]:  # type: ignore[no-untyped-def]
        return torch.func.grad(lambda x: energy(f, *x))(x)

    mixes = (
        lambda f: torch.func.jvp(lambda *x: slopes(f, x), x, t)[1],
        lambda f: torch.func.grad(lambda x: along(f, x, t))(x),
        lambda f: (torch.func.jvp(lambda *x: along(f, x, t), x, u)[1],),
        lambda f: torch.func.grad(lambda x: sum((a * b).sum() for a, b in zip(slopes(f, x), t, strict=True)))(x),
    )
    for mix in mixes:
        for a, b in zip(mix(case.lazy), mix(case.dense), strict=True):
            close(a, b, 1e-8)
