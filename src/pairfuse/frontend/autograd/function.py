"""Derivatives of reductions for torch: reverse mode, forward mode, vmap, of any order and mixed.

In: a problem whose inputs torch follows or transforms.  Out: its visible outputs, with derivatives that are made of
problems again.

The derivative of a reduction with respect to F_ij is a formula of the record, its `cotangents`; pulled back to a
variable by `transform.autodiff.vjp` it is again a formula in i and j.  The derivative with respect to x_i is its sum
over j, that with respect to y_j its sum over i; the tangent is one sum for all inputs.  Those sums are computed by the
same differentiable function, so that torch can differentiate them in turn.  Which sums they are is in ../derivatives;
extrema are in selected.py, products in products.py, the launch is in operator.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch.autograd import Function, forward_ad

from ...errors import UnsupportedError, message
from ...lower.problem import Problem
from ...runtime import arrays
from ..base import Binding, Bindings
from ..derivatives.kept import kept_outputs
from ..derivatives.passes import passes
from ..derivatives.selected_terms import with_index
from ..derivatives.tangents import tangent_pass
from ..evaluate import Settings, dtype_of, gpu_settings, input_axes, sizes_of
from ..messages import differentiable_instead
from ..space import Space
from .batched import with_leading_axis
from .operator import Call, operator_call, run
from .products import factors, symmetric, vanishes_nowhere
from .selected import selection
from .with_slopes import ReduceWithSlopes, needed, slopes_for

Tensor = torch.Tensor


def evaluate(problem: Problem, bindings: Bindings, space: Space, settings: Settings) -> tuple[Tensor, ...]:
    """The visible outputs, connected to torch's graph."""
    visible = problem.record.visible
    problem = with_index(problem)
    used = len(input_axes(problem))  # the last ones may have dropped out of the formula
    if space.on_gpu:
        settings = gpu_settings(settings, space.device or "")
    tensors = [tensor_of(b, problem.dtype, space.device) for b in bindings[:used]]
    results = reduce_tensors(Call(problem, sizes_of(space), settings), tensors)[:visible]
    stored = dtype_of(space)
    if stored != problem.dtype:  # 16 bits on a GPU: derivatives of all orders are computed in 32
        results = tuple(r.to(getattr(torch, stored)) if r.is_floating_point() else r for r in results)
    return results


def tensor_of(binding: Binding, dtype: str, device: str | None) -> Tensor:
    """The data of an input as a tensor of the type of the problem, on the device of the others."""
    if type(binding.data) is tuple:
        if device is None or device == "cpu":
            return numbers(binding.data, getattr(torch, dtype))
        return arrays.on_device(binding.data, dtype, device)
    kind = getattr(torch, dtype)
    if binding.data.dtype == kind:
        return binding.data.to(device)
    return arrays.once(binding.data, lambda t: t.to(device, kind))


def numbers(values: tuple[float, ...], dtype: torch.dtype) -> Tensor:
    """A few Python numbers as a tensor."""
    return torch.tensor(values, dtype=dtype)


def reduce_tensors(request: Call, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """All outputs of the problem; differentiable where torch follows one of the inputs."""
    real = request.problem.record.outputs[0][1] == "real"  # integers have no derivative
    derived = real and torch.is_grad_enabled()
    if not (derived or arrays.transformed()):
        return run(request, tensors)
    if derived and not arrays.functional():
        plan = slopes_for(request, tensors)
        if plan is not None:
            return ReduceWithSlopes.apply(request, plan, gradients, *tensors)  # type: ignore[return-value]
    return Reduce.apply(request, *tensors)  # type: ignore[return-value]


def followed_further() -> bool:
    """While a derivative is computed: may it be differentiated itself?"""
    return torch.is_grad_enabled() or arrays.transformed()


class Reduce(Function):
    """One reduction as a function that torch can differentiate, in both modes, and map over batches."""

    @staticmethod
    def forward(request: Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        return run(request, tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        request, *tensors = inputs
        record = request.problem.record
        ctx.request = request
        kept = kept_of(request.problem, output)
        ctx.save_for_backward(*tensors, *kept)
        ctx.save_for_forward(*tensors, *kept)
        ctx.set_materialize_grads(False)
        # Outputs that only serve the derivative are constants for torch: `reconnected` computes them again if need be.
        fixed = [o for k, o in enumerate(output) if k >= record.visible or record.outputs[k][1] != "real"]
        ctx.mark_non_differentiable(*fixed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        wanted = needed(ctx, tuple(ctx.needs_input_grad[1:]))
        g = grads[0]  # every record with a derivative has one visible output of real numbers, the first
        if g is None:
            return (None,) * (1 + len(wanted))
        saved = ctx.saved_tensors
        return (None, *gradients(ctx.request, saved[: len(wanted)], saved[len(wanted) :], g, wanted))

    @staticmethod
    def jvp(ctx: Any, _: None, *moved: Tensor | None) -> tuple[Any, ...]:
        # A tensor of zeros that torch has not filled in has no memory.
        moved = tuple(None if t is None or t._is_zerotensor() else t for t in moved)
        saved: Sequence[Any] = ctx.saved_tensors  # the inputs, and the outputs that were kept
        if ctx.request.problem.record.outputs[0][1] != "real":
            return (None,) * len(saved[len(moved) :])
        # torch switches forward mode off while it calls this function, and with it the tangents of the outer levels of
        # nested `torch.func.jvp`: jvp(jvp(f)) would be wrong. At this level nothing moves, so it may be switched on.
        nested = torch._C._are_functorch_transforms_active()
        with forward_ad._set_fwd_grad_enabled(nested):
            if nested:
                saved = tuple([None if t is None else forward_ad.unpack_dual(t, level=0).primal for t in saved])
            tensors, outputs = saved[: len(moved)], saved[len(moved) :]
            return (tangent(ctx.request, tensors, outputs, moved), *[None] * (len(outputs) - 1))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], request: Call, *tensors: Tensor) -> tuple[Any, ...]:
        """The mapped axis is one more batch axis, before the others."""
        problem, sizes, settings = request
        rank = len(sizes.batch)
        leading = [
            t if dim is None else with_leading_axis(t, dim, rank + (1 if axis == "p" else 2))
            for t, dim, axis in zip(tensors, in_dims[1:], input_axes(problem), strict=False)
        ]
        wider = replace(sizes, batch=(info.batch_size, *sizes.batch))
        outputs = reduce_tensors(Call(problem, wider, settings), leading)
        return outputs, (0,) * len(outputs)


def kept_of(problem: Problem, output: Sequence[Tensor]) -> list[Tensor | None]:
    """The outputs that derivatives need, None for the others.

    What is not kept may be changed in place before the derivative is computed.
    """
    needed_ones = kept_outputs(problem)
    return [o if k in needed_ones else None for k, o in enumerate(output)]


# ---------------------------------------------------------------------- reverse mode


def gradients(
    request: Call, tensors: Sequence[Tensor], outputs: Sequence[Tensor | None], g: Tensor, wanted: tuple[bool, ...]
) -> list[Tensor | None]:
    """The derivatives of <g, first output> with respect to the wanted inputs, each in the shape of its tensor.

    outputs: those that were kept (`kept_of`).
    """
    problem, sizes, settings = request
    if problem.record.through_index:
        chosen = selection(problem, sizes, tensors, outputs)
        moved = Call(chosen.problem, chosen.sizes, settings)
        more = (False,) * (len(chosen.tensors) - len(wanted))
        parts = gradients(moved, chosen.tensors, (), chosen.cotangent(g), wanted + more)
        return [chosen.restore(k, t, parts[k]) for k, t in enumerate(tensors)]
    if not followed_further():
        return summed_gradients(request, tensors, outputs, g, wanted)
    if has_vanishing_terms(problem):
        found: list[Tensor | None] = [None] * len(tensors)
        for part, values, slope in product_rule(request, tensors, outputs):
            along = torch.cat([g] * (slope.shape[-1] // g.shape[-1]), -1) * slope
            found = [_sum(a, b) for a, b in zip(found, gradients(part, tensors, values, along, wanted), strict=True)]
        return found
    return summed_gradients(request, tensors, reconnected(request, tensors, outputs), g, wanted)


def summed_gradients(
    request: Call, tensors: Sequence[Tensor], outputs: Sequence[Tensor | None], g: Tensor, wanted: tuple[bool, ...]
) -> list[Tensor | None]:
    """The same as sums over all pairs, from the cotangents of the record."""
    problem, sizes, settings = request
    check_differentiable(problem)
    known: list[Any] = [*tensors, g, *outputs]
    if problem.both:  # what is indexed by no axis is a parameter of the passes
        known[len(tensors) :] = [None if v is None else v.squeeze(-2) for v in (g, *outputs)]
    found: list[Tensor | None] = [None] * len(tensors)
    for p in passes(problem, wanted):
        if sizes.ranges is not None and p.problem.columns != problem.columns:
            sizes.ranges.check_transposed(problem.reduction)
        result = reduce_tensors(Call(p.problem, sizes, settings), [known[s] for s in p.slots])[0]
        if p.problem.both:
            result = result.squeeze(-2)
        start = 0
        for slot, dim in p.targets:
            part = result[..., start : start + dim] if len(p.targets) > 1 else result
            start += dim
            shape = tensors[slot].shape
            found[slot] = part if part.shape == shape else part.sum_to_size(shape)
    # what no pass computes is 0, as torch says it for a sign; None would mean that the input is not in the graph
    return [torch.zeros_like(t) if w and f is None else f for t, w, f in zip(tensors, wanted, found, strict=False)]


# ---------------------------------------------------------------------- forward mode


def tangent(
    request: Call, tensors: Sequence[Tensor], outputs: Sequence[Tensor | None], moved: Sequence[Tensor | None]
) -> Tensor:
    """The derivative of the first output when the inputs move along `moved`; None stays."""
    problem, sizes, settings = request
    if problem.record.through_index:
        chosen = selection(problem, sizes, tensors, outputs)
        along = [None if t is None else chosen.chosen(k, t) for k, t in enumerate(moved)]
        along += [None] * (len(chosen.tensors) - len(along))
        return chosen.values(tangent(Call(chosen.problem, chosen.sizes, settings), chosen.tensors, (), along))
    check_differentiable(problem)
    if followed_further():
        if has_vanishing_terms(problem):
            total: Tensor | None = None
            for part, values, slope in product_rule(request, tensors, outputs):
                terms = slope * tangent(part, tensors, values, moved)
                dim = problem.output_dims()[0]
                total = _sum(total, terms.reshape(*terms.shape[:-1], terms.shape[-1] // dim, dim).sum(-2))
            assert total is not None
            return total
        outputs = reconnected(request, tensors, outputs)
    p = tangent_pass(problem, tuple(t is not None for t in moved))
    if problem.both:  # what is indexed by no axis is a parameter of the pass
        outputs = [None if v is None else v.squeeze(-2) for v in outputs]
    known = [*tensors, *moved, *outputs]
    return reduce_tensors(Call(p.problem, sizes, settings), [known[s] for s in p.slots])[0]  # type: ignore[misc]


# ---------------------------------------------------------------------- derivatives that are differentiated again


def reconnected(
    request: Call, tensors: Sequence[Tensor], outputs: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """The outputs as functions of the inputs, for a derivative that will be differentiated again.

    The first output is one already, or is not needed, and None; the others, which only the derivative uses, follow it,
    computed once more where it was not kept. The maximum of a softmax is a constant, which the derivatives do not
    depend on; so is the number of zeros of a product, and the scale of its other factor.
    """
    reduction = request.problem.reduction
    if reduction == "sumsoftmaxweight":
        value, logarithm, maximum, total = outputs
        assert total is not None
        again = request._replace(problem=normaliser(request.problem))
        return value, logarithm, maximum, _following(total, reduce_tensors(again, tensors)[0])
    if reduction in ("logsumexp", "logsumexp_weight"):
        value, maximum, total = outputs
        assert total is not None
        value = reduce_tensors(request, tensors)[0] if value is None else value
        return value, maximum, _following(total, value)
    if reduction == "prod":
        value, rest, scale, zeros = outputs
        value = reduce_tensors(request, tensors)[0] if value is None else value
        assert rest is not None
        assert scale is not None
        moved = (value - value.detach()) / scale.where(scale != 0.0, 1.0)
        return value, rest + moved, scale, zeros
    return tuple(outputs)


def _following(total: Tensor, logarithm: Tensor) -> Tensor:
    """A sum of exponentials that moves with its logarithm, of which a constant may have been taken away."""
    moved = logarithm - logarithm.detach()
    return total * moved.where(moved == 0.0, 0.0).exp()  # an infinite one does not move


@lru_cache(maxsize=1024)
def normaliser(problem: Problem) -> Problem:
    """The log-sum-exp of the scores of a softmax."""
    return replace(problem, formulas=problem.formulas[:1], reduction="logsumexp")


def has_vanishing_terms(problem: Problem) -> bool:
    """Is this a product whose terms may be 0? The second derivative is then another formula."""
    return problem.reduction == "prod" and not vanishes_nowhere(problem)


def product_rule(
    request: Call, tensors: Sequence[Tensor], outputs: Sequence[Tensor | None]
) -> list[tuple[Call, tuple[Tensor, ...], Tensor]]:
    """The reductions that a product is made of, their outputs, and its derivatives with respect to them."""
    rest, powers = (request._replace(problem=part) for part in factors(request.problem))
    rest_outputs, power_outputs = reduce_tensors(rest, tensors), reduce_tensors(powers, tensors)
    assert outputs[3] is not None
    value, slopes = symmetric(power_outputs[0], outputs[3])
    count = slopes.shape[-1] // value.shape[-1]
    return [
        (rest, rest_outputs, value),
        (powers, power_outputs, torch.cat([rest_outputs[0]] * count, -1) * slopes),
    ]


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def check_differentiable(problem: Problem) -> None:
    """Refuse what has no derivative."""
    if problem.record.cotangents is None:
        raise UnsupportedError(
            message(
                f"{problem.reduction}: this reduction has no derivative.",
                f"its result: {', '.join(f'{name} ({kind})' for name, kind in problem.record.outputs)}",
                differentiable_instead(problem.reduction),
            )
        )


# ---------------------------------------------------------------------- the operator in graphs that keep it


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    tensors, key, m, n, batch, ranges = inputs
    ctx.request, ctx.count = operator_call(key, m, n, batch, ranges), len(tensors)
    ctx.others = (None, None, None, [None] * len(batch), [None] * len(ranges))  # they have no derivatives
    ctx.save_for_backward(*tensors, *kept_of(ctx.request.problem, output))


def _pull_back(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
    saved = ctx.saved_tensors
    tensors, outputs = saved[: ctx.count], saved[ctx.count :]
    if grads[0] is None:
        return ([None] * ctx.count, *ctx.others)
    wanted = tuple(t.requires_grad for t in tensors)
    return (gradients(ctx.request, tensors, outputs, grads[0], wanted), *ctx.others)


torch.library.register_autograd("pairfuse::reduce", _pull_back, setup_context=_keep)
