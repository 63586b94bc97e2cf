"""Value and slopes in one pass for torch: what a training step asks for, in one kernel less.

In: a reduction whose inputs torch follows, outside of all transforms.  Out: its outputs; their derivative with respect
to variables of the kept axis is a product with the slopes (slopes.py), which came with the value.

A derivative that will itself be differentiated (`create_graph=True`) does not use them: it is computed by `gradients`,
the general way of function.py, which is handed in so that this file stands below that one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd import Function

from ...runtime import arrays
from ..derivatives.kept import kept_outputs
from ..derivatives.slopes import Slopes, slopes
from .operator import Call, run

Tensor = torch.Tensor
Gradients = Callable[[Call, Sequence[Tensor], Sequence[Tensor | None], Tensor, tuple[bool, ...]], list[Tensor | None]]


def slopes_for(request: Call, tensors: Sequence[Tensor]) -> Slopes | None:
    """The pass of value and slopes, if it pays for these tensors."""
    wanted = tuple([t.requires_grad for t in tensors])
    return slopes(request.problem, wanted) if True in wanted else None


def needed(ctx: Any, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
    """Which of the derivatives that could be asked for this backward pass will use.

    A Function is told which inputs require gradients, but `torch.autograd.grad(value, [x])` may ask for fewer, and each
    axis costs a pass. torch's engine knows.
    """
    if sum(wanted) < 2 or arrays.transformed():
        return wanted
    nodes = [node for node, _ in ctx.next_functions]  # one for each tensor
    if len(nodes) != len(wanted):
        return wanted
    return tuple([want and (node is None or _is_executed(node)) for want, node in zip(wanted, nodes, strict=True)])


def _is_executed(node: Any) -> bool:
    try:
        return torch._C._will_engine_execute_node(node)
    except (AttributeError, RuntimeError):  # its answer for a leaf that was asked for; or another version of torch
        return True


class ReduceWithSlopes(Function):
    """One reduction, and with it what its first derivative needs."""

    @staticmethod
    def forward(ctx: Any, request: Call, plan: Slopes, gradients: Gradients, *tensors: Tensor) -> tuple[Tensor, ...]:
        results = run(request._replace(problem=plan.problem), tensors)
        if plan.joined:
            (joined,) = results
            value, slope = joined[..., : plan.dim].contiguous(), joined[..., plan.dim :]
            hidden: Sequence[Tensor] = ()
        else:
            slope, value, *hidden = results
            # where all terms are -inf, no softmax is defined, and the value is constant
            slope = slope.where(value != -torch.inf, 0.0)
        ctx.request, ctx.plan, ctx.gradients = request, plan, gradients
        kept = value if 0 in kept_outputs(request.problem) else None
        ctx.save_for_backward(*tensors, slope, kept, *hidden)
        ctx.count = len(tensors)
        ctx.set_materialize_grads(False)
        return (value,)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        plan: Slopes = ctx.plan
        wanted = needed(ctx, tuple(ctx.needs_input_grad[3:]))
        g = grads[0]
        if g is None:
            return (None,) * (3 + len(wanted))
        saved = ctx.saved_tensors
        tensors, slope, outputs = saved[: ctx.count], saved[ctx.count], saved[ctx.count + 1 :]
        if torch.is_grad_enabled():  # it may be differentiated itself
            return (None, None, None, *ctx.gradients(ctx.request, tensors, outputs, g, wanted))
        known = {slot for slot, _ in plan.targets if wanted[slot]}
        others = tuple([want and slot not in known for slot, want in enumerate(wanted)])
        found: list[Tensor | None] = [None] * len(tensors)
        if True in others:
            found = ctx.gradients(ctx.request, tensors, outputs, g, others)
        start = 0
        for slot, dim in plan.targets:
            part = slope[..., start : start + plan.dim * dim]
            start += plan.dim * dim
            if slot in known:
                found[slot] = _product(g, part, dim, ctx.request.problem.both, tensors[slot])
        return (None, None, None, *found)


def _product(g: Tensor, slope: Tensor, dim: int, both: bool, like: Tensor) -> Tensor:
    """sum_k g_k slope_k, in the shape of the input."""
    if g.shape[-1] == 1:
        found = g * slope
    else:
        found = torch.matmul(g.unsqueeze(-2), slope.unflatten(-1, (g.shape[-1], dim))).squeeze(-2)
    if both:  # an input of no axis has no rows
        found = found.squeeze(-2)
    return found if found.shape == like.shape else found.sum_to_size(like.shape)
