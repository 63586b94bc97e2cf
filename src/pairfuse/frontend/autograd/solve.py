"""Derivatives of the solutions of linear systems for torch: reverse mode, forward mode, vmap, of any order.

In: a system whose data torch follows or transforms.  Out: its solution, with derivatives that are solutions again.

Of A u = b, with A = K + alpha, the differential is A du = db - dalpha u - dK u.  So the tangent of u is one more solve;
and the cotangent of b is the solution v of A^T v = g, from which come those of alpha, -v u, and of the data of K: the
derivative of -<v, K u>, a sum over pairs as for any reduction.  All of it is made of differentiable functions, this one
among them, so that torch can differentiate it in turn.  Nothing of size n x n is stored, nor any iterate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.autograd import Function, forward_ad

from ...runtime import arrays
from ..base import Binding
from ..evaluate import device_value, host_value, input_axes
from ..space import Space
from ..systems.methods import Report
from ..systems.system import System, compute
from .batched import closed, is_batched, opened, with_leading_axis
from .function import gradients, tangent, tensor_of
from .operator import Call

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class Job:
    """One solve: the system, and where its report goes. (No tuple: torch.func would copy what is in one.)"""

    system: System
    reports: list[Report]

    @property
    def product(self) -> Call:
        """The reduction that is the product with K."""
        return Call(self.system.problem, self.system.sizes, self.system.settings)

    def with_batch(self, count: int) -> Job:
        """The same with one more batch axis, before the others."""
        sizes = self.system.sizes
        wider = self.system._replace(sizes=replace(sizes, batch=(count, *sizes.batch)))
        return replace(self, system=wider)


def solution(
    system: System,
    bindings: Sequence[Binding],
    space: Space,
    b: Any,
    shape: tuple[int, ...],
    alpha: Any,
    start: Tensor | None,
) -> tuple[Tensor, Report]:
    """The solution, connected to torch's graph, and how it was found."""
    dtype = getattr(torch, system.problem.dtype)
    tensors = [tensor_of(binding, system.problem.dtype, space.device) for binding in bindings]
    right = tensor_of(Binding(b, "i"), system.problem.dtype, space.device).expand(shape)
    alpha = torch.as_tensor(alpha, dtype=dtype, device=space.device)
    if start is not None:
        start = start.detach().to(space.device, dtype)
    job = Job(system, [])
    u = solve_tensors(job, right, alpha, start, tensors)
    return u, job.reports[0]


def solve_tensors(job: Job, b: Tensor, alpha: Tensor, start: Tensor | None, tensors: Sequence[Tensor]) -> Tensor:
    """The solution; differentiable where torch follows one of the tensors."""
    if not torch.is_grad_enabled() and not arrays.transformed():
        return run(job, b, alpha, start, tensors)
    return Solve.apply(job, b, alpha, start, *tensors)  # type: ignore[return-value]


class Solve(Function):
    """A linear system as a function that torch can differentiate, in both modes, and map over batches."""

    @staticmethod
    def forward(job: Job, b: Tensor, alpha: Tensor, start: Tensor | None, *tensors: Tensor) -> Tensor:
        return run(job, b, alpha, start, tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        job, b, alpha, _, *tensors = inputs
        ctx.job, ctx.shape = job, b.shape
        ctx.save_for_backward(alpha, *tensors, output)
        ctx.save_for_forward(alpha, *tensors, output)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        (g,) = grads
        _, of_b, of_alpha, _, *wanted = ctx.needs_input_grad
        if g is None:
            return (None,) * len(ctx.needs_input_grad)
        alpha, *tensors, u = ctx.saved_tensors
        job: Job = ctx.job
        v = solve_tensors(Job(job.system.adjoint(), []), g, alpha, None, tensors)
        parts: list[Tensor | None] = [None] * len(wanted)
        if any(wanted):
            parts = gradients(job.product, [*tensors, u], (), -v, (*wanted, False))[: len(wanted)]
        return (None, v if of_b else None, -(v * u).sum_to_size(alpha.shape) if of_alpha else None, None, *parts)

    @staticmethod
    def jvp(ctx: Any, _: None, b: Tensor | None, alpha: Tensor | None, __: None, *moved: Tensor | None) -> Tensor:
        b, alpha, *along = (None if t is None or t._is_zerotensor() else t for t in (b, alpha, *moved))
        # As in function.py: torch switches forward mode off here, and with it the outer levels of nested jvp.
        nested = torch._C._are_functorch_transforms_active()
        saved = ctx.saved_tensors
        with forward_ad._set_fwd_grad_enabled(nested):
            if nested:
                saved = tuple(forward_ad.unpack_dual(t).primal for t in saved)
            number, *tensors, u = saved
            right = torch.zeros_like(u) if b is None else b.expand(u.shape)
            if alpha is not None:
                right = right - alpha * u
            if any(t is not None for t in along):
                right = right - tangent(ctx.job.product, [*tensors, u], (), [*along, None])
            return solve_tensors(Job(ctx.job.system.derived(), []), right, number, None, tensors)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[Any, ...],
        job: Job,
        b: Tensor,
        alpha: Tensor,
        start: Tensor | None,
        *tensors: Tensor,
    ) -> tuple[Tensor, int]:
        """The mapped axis is one more batch axis, before the others."""
        wider = _with_leading_axis(job, info.batch_size, in_dims[1:], (b, alpha, start, *tensors))
        return solve_tensors(job.with_batch(info.batch_size), *wider), 0


def _with_leading_axis(
    job: Job, count: int, dims: Sequence[int | None], given: Sequence[Tensor | None]
) -> tuple[Tensor, Tensor, Tensor | None, list[Tensor]]:
    """The tensors of a job with the axis over which they are mapped before the others."""
    rank = len(job.system.sizes.batch)
    (b, alpha, start, *tensors), (of_b, of_alpha, of_start, *rest) = given, dims
    assert b is not None
    assert alpha is not None
    right = b if of_b is None else b.movedim(of_b, 0)
    right = right.expand(count, *right.shape[-rank - 2 :])
    alpha = alpha if of_alpha is None else with_leading_axis(alpha, of_alpha, rank + 2)
    if start is not None and of_start is not None:
        start = with_leading_axis(start, of_start, rank + 2)
    axes = input_axes(job.system.problem)
    moved = [
        t if dim is None else with_leading_axis(t, dim, rank + (1 if axis == "p" else 2))
        for t, dim, axis in zip(tensors, rest, axes, strict=False)
        if t is not None
    ]
    return right, alpha, start, moved


# ---------------------------------------------------------------------- without derivatives


def run(job: Job, b: Tensor, alpha: Tensor, start: Tensor | None, tensors: Sequence[Tensor]) -> Tensor:
    """The solution, as plain numbers."""
    given = (b, alpha, start, *tensors)
    if any(map(is_batched, given)):
        return _mapped(job, given)
    system = job.system
    dtype, sizes = system.problem.dtype, system.sizes
    pairs = [Binding(t, axis) for t, axis in zip(tensors, input_axes(system.problem), strict=False)]
    if b.is_cpu:
        values = [host_value(binding, dtype, sizes) for binding in pairs]
        block, first = arrays.view(b, dtype), None if start is None else arrays.view(start, dtype)
        number = float(alpha.detach()) if alpha.ndim == 0 else arrays.view(alpha, dtype)
    else:
        values = [device_value(binding, dtype, sizes, str(b.device)) for binding in pairs]
        block, first = b.detach(), start
        number = float(alpha.detach()) if alpha.ndim == 0 else alpha.detach()
    if first is not None and first.shape != block.shape:
        first = first + 0 * block
    u, report = compute(system, values, block, number, first)
    job.reports.append(report)
    return torch.from_numpy(u) if b.is_cpu else u


def _mapped(job: Job, given: Sequence[Tensor | None]) -> Tensor:
    """The same for batched tensors (batched.py)."""
    inner, dims, count, level = opened(given)
    return closed(run(job.with_batch(count), *_with_leading_axis(job, count, dims, inner)), level)
