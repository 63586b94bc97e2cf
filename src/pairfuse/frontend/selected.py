"""Extrema as functions of the selected terms: what their derivative needs.

In: a reduction that selects terms (min, max, K smallest), its inputs, the indices it found.  Out: the same values as a
sum of one term for each row, in which the variables of the reduced axis have been gathered at those indices, so that
they are variables of the kept axis, one set for each selected place (a batch axis); and the way back to the inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..ir.expr import Expr, call, const, index, input_, substitute, toposort
from ..lower.problem import Problem, Sizes
from .evaluate import input_axes

Tensor = Any  # torch's, of which this file only calls methods

# The reduction that also gives the indices.
WITH_INDEX = {"min": "min_argmin", "max": "max_argmax", "Kmin": "Kmin_argKmin", "Kmax": "Kmax_argKmax"}
INDEX_BITS = 20  # an index travels as two real numbers, high and low bits, each exact in float32


@dataclass(frozen=True)
class Selection:
    """The values as a sum of one term for each row and place: its problem, sizes, inputs and cotangent.

    tensors  variables of the kept axis and parameters with an axis of length 1 for the places; gathered variables
             (*batch, places, rows, D); then the indices and the choice of components
    flat     the indices, (*batch, places * rows)
    """

    problem: Problem
    sizes: Sizes
    tensors: list[Tensor]
    g: Tensor
    axes: tuple[str, ...]
    over: str
    flat: Tensor

    def restore(self, slot: int, tensor: Tensor, gradient: Tensor | None) -> Tensor | None:
        """The derivative with respect to an input, from that with respect to what was made of it."""
        if gradient is None:
            return None
        if self.axes[slot] != self.over:
            return gradient.squeeze(_places_axis(self.axes[slot]))
        rows, dim = tensor.shape[-2:]
        lead = self.flat.shape
        parts = gradient.reshape(*lead, dim)
        if rows == 1:  # one row for all indices
            return parts.sum(-2, keepdim=True).sum_to_size(tensor.shape)
        total = parts.new_zeros(*lead[:-1], rows, dim)
        if rows:
            total = total.scatter_add(-2, self.flat.unsqueeze(-1).expand(*lead, dim), parts)
        return total.sum_to_size(tensor.shape)


def selection(
    problem: Problem, sizes: Sizes, tensors: Sequence[Tensor], outputs: Sequence[Tensor], g: Tensor
) -> Selection:
    """The selected terms of a reduction whose outputs are (values, indices), each (*batch, rows, length * K).

    There is one tensor for every slot of the problem.
    """
    values, indices = outputs
    by_place = indices.movedim(-1, -2)
    flat = by_place.reshape(*sizes.batch, by_place.shape[-2] * by_place.shape[-1])
    axes = input_axes(problem)
    moved = [
        _gathered(t, flat, by_place.shape) if axis == problem.over else t.unsqueeze(_places_axis(axis))
        for t, axis in zip(tensors, axes, strict=True)
    ]
    moved.append(_halves(by_place, values.dtype))
    moved.append(_components(values, problem.formulas[0].dim))
    rows = sizes.along(problem.kept)
    m, n = (rows, 1) if problem.kept == "i" else (1, rows)
    # Where nothing was found the value is a constant.
    g = g.masked_fill(values.isinf(), 0.0).movedim(-1, -2).unsqueeze(-1)
    new_sizes = Sizes(m, n, (*sizes.batch, values.shape[-1]))
    return Selection(selected_terms(problem), new_sizes, moved, g, axes, problem.over, flat)


def _places_axis(axis: str) -> int:
    """Where the axis of the places stands in what was made of an input of this axis."""
    return -2 if axis == "p" else -3


def _gathered(t: Tensor, flat: Tensor, by_place: Sequence[int]) -> Tensor:
    """Rows of an array (*some batch, N, D) at the given indices: (*batch, places, rows, D)."""
    rows, dim = t.shape[-2:]
    source = t.expand(*flat.shape[:-1], rows, dim)
    if rows == 0:
        return t.new_zeros(*by_place, dim)
    where = flat if rows > 1 else flat * 0
    return source.gather(-2, where.unsqueeze(-1).expand(*flat.shape, dim)).reshape(*by_place, dim)


def _halves(indices: Tensor, dtype: Any) -> Tensor:
    """The indices as pairs of real numbers, high bits and low bits."""
    high, low = indices >> INDEX_BITS, indices & ((1 << INDEX_BITS) - 1)
    halves = indices.new_empty((*indices.shape, 2), dtype=dtype)
    halves[..., 0], halves[..., 1] = high, low
    return halves


def _components(values: Tensor, length: int) -> Tensor:
    """For each place, which component of the formula it selects: rows of zeros and a one, (places, length)."""
    return values.new_ones(length).diag().repeat_interleave(values.shape[-1] // length, dim=0)


@lru_cache(maxsize=1024)
def selected_terms(problem: Problem) -> Problem:
    """The formula at given indices: variables of the reduced axis become variables of the kept axis.

    After the inputs of the problem come the indices, then the choice of the component.
    """
    count = len(input_axes(problem))
    kept, over = problem.kept, problem.over
    formula = problem.formulas[0]
    new: dict[Expr, Expr] = {}
    for n in toposort(formula):
        if n.name == "input" and n.param("axis") == over:
            new[n] = input_(n.param("slot"), kept, n.dim)
        elif n is index(over):
            halves = input_(count, kept, 2)
            high, low = (call("to_index", call("extract", halves, start=k, size=1)) for k in (0, 1))
            new[n] = high * const(1 << INDEX_BITS, "index") + low
    terms = substitute(formula, new)
    if formula.dim > 1:
        chosen = call("ne", input_(count + 1, "p", formula.dim), 0.0)
        terms = call("sum_d", call("where", chosen, terms, 0.0), group=formula.dim)
    return Problem((terms,), "sum", over, problem.dtype)
