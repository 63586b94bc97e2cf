"""Derivatives of reductions for torch, of any order: the only file that imports torch.

In: a problem whose inputs torch follows.  Out: its visible outputs, with a backward pass made of problems again.

The derivative of a reduction with respect to F_ij is a formula of the record, its `cotangents`; pulled back to a
variable by `transform.autodiff.vjp` it is again a formula in i and j.  The derivative with respect to x_i is its sum
over j, that with respect to y_j its sum over i.  Those sums are computed by the same differentiable function, so that
torch can differentiate them in turn.  Which sums they are is in passes.py; extrema are in selected.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.autograd import Function

from ..ir.expr import call
from ..lower.problem import Problem, Sizes
from ..runtime import arrays
from .base import Binding, Bindings
from .evaluate import Settings, device_value, dtype_of, gpu_settings, host_value, input_axes, launch, sizes_of
from .passes import passes, rows_of_parameters
from .selected import WITH_INDEX, selection
from .space import Space

Tensor = torch.Tensor


class Call(NamedTuple):
    """What one reduction needs beside its tensors."""

    problem: Problem
    sizes: Sizes
    settings: Settings


def evaluate(problem: Problem, bindings: Bindings, space: Space, settings: Settings) -> tuple[Tensor, ...]:
    """The visible outputs, connected to torch's graph."""
    visible = problem.record.visible
    if problem.reduction in WITH_INDEX:
        problem = Problem(problem.formulas, WITH_INDEX[problem.reduction], problem.over, problem.dtype, problem.params)
    used = len(input_axes(problem))  # the last ones may have dropped out of the formula
    if space.on_gpu:
        settings = gpu_settings(settings, space.device or "")
    tensors = [_tensor(b, problem.dtype, space.device) for b in bindings[:used]]
    results = reduce_tensors(Call(problem, sizes_of(space), settings), tensors)[:visible]
    stored = dtype_of(space)
    if stored != problem.dtype:  # 16 bits on a GPU: derivatives of all orders are computed in 32
        results = tuple(r.to(getattr(torch, stored)) if r.is_floating_point() else r for r in results)
    return results


def _tensor(binding: Binding, dtype: str, device: str | None) -> Tensor:
    """The data of an input as a tensor of the type of the problem, on the device of the others."""
    if type(binding.data) is tuple:
        if device is None or device == "cpu":
            return torch.tensor(binding.data, dtype=getattr(torch, dtype))
        return arrays.on_device(binding.data, dtype, device)
    return binding.data.to(device, getattr(torch, dtype))


def reduce_tensors(request: Call, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """All outputs of the problem; differentiable where torch follows one of the inputs."""
    record = request.problem.record
    if (record.cotangents is None and not record.through_index) or not torch.is_grad_enabled():
        return run(request, tensors)
    return Reduce.apply(request, *tensors)  # type: ignore[return-value]


def run(request: Call, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """All outputs of the problem, as plain numbers."""
    problem, sizes, settings = request
    pairs = zip(tensors, input_axes(problem), strict=False)  # what follows the last input in use is left out
    if tensors and not tensors[0].is_cpu:
        device = str(tensors[0].device)
        values = [device_value(Binding(t, axis), problem.dtype, sizes, device) for t, axis in pairs]
        return launch(problem, values, sizes, settings)
    values = [host_value(Binding(t, axis), problem.dtype, sizes) for t, axis in pairs]
    return tuple(torch.from_numpy(r) for r in launch(problem, values, sizes, settings))


class Reduce(Function):
    """One reduction as a function that torch can differentiate."""

    @staticmethod
    def forward(request: Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        return run(request, tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        request, *tensors = inputs
        record = request.problem.record
        ctx.request = request
        ctx.save_for_backward(*tensors, *output)
        ctx.set_materialize_grads(False)
        # Outputs that only serve the derivative are constants for torch: `reconnected` computes them again if need be.
        fixed = [o for k, o in enumerate(output) if k >= record.visible or record.outputs[k][1] != "real"]
        ctx.mark_non_differentiable(*fixed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        request: Call = ctx.request
        saved = ctx.saved_tensors
        wanted = tuple(ctx.needs_input_grad[1:])
        tensors, outputs = saved[: len(wanted)], saved[len(wanted) :]
        g = grads[0]  # every record with a derivative has one visible output of real numbers
        if g is None:
            return (None,) * (1 + len(wanted))
        if request.problem.record.through_index:
            chosen = selection(request.problem, request.sizes, tensors, outputs, g)
            moved = Call(chosen.problem, chosen.sizes, request.settings)
            more = (False,) * (len(chosen.tensors) - len(wanted))
            parts = gradients(moved, chosen.tensors, (), chosen.g, wanted + more)
            return (None, *[chosen.restore(k, t, parts[k]) for k, t in enumerate(tensors)])
        if torch.is_grad_enabled():
            outputs = reconnected(request, tensors, outputs)
        return (None, *gradients(request, tensors, outputs, g, wanted))


def reconnected(request: Call, tensors: Sequence[Tensor], outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The outputs as functions of the inputs, for a derivative that will be differentiated again.

    The first output is one already; the others, which only the derivative uses, are computed as reductions of their
    own. The number of zeros of a product is locally constant.
    """
    problem, sizes, settings = request
    if problem.reduction == "sumsoftmaxweight":
        formula, name = problem.formulas[0], "logsumexp"
    elif problem.reduction == "prod":
        terms = problem.formulas[0]
        formula, name = call("where", call("eq", terms, 0.0), 1.0, terms), "prod"
    else:
        return tuple(outputs)
    again = Problem((formula,), name, problem.over, problem.dtype)
    return (outputs[0], reduce_tensors(Call(again, sizes, settings), tensors)[0], *outputs[2:])


def gradients(
    request: Call, tensors: Sequence[Tensor], outputs: Sequence[Tensor], g: Tensor, wanted: tuple[bool, ...]
) -> list[Tensor | None]:
    """The derivatives of <g, first output> with respect to the wanted inputs, each in the shape of its tensor."""
    problem, sizes, settings = request
    known = [*tensors, g, *outputs]
    found: list[Tensor | None] = [None] * len(tensors)
    axes = input_axes(problem)
    for p in passes(problem, wanted, rows_of_parameters(axes, sizes, wanted)):
        result = reduce_tensors(Call(p.problem, sizes, settings), [known[s] for s in p.slots])[0]
        start = 0
        for slot, dim in p.targets:
            part = result[..., start : start + dim] if len(p.targets) > 1 else result
            start += dim
            if axes[slot] == "p":
                part = part.sum(-2)
            shape = tensors[slot].shape
            found[slot] = part if part.shape == shape else part.sum_to_size(shape)
    return found
