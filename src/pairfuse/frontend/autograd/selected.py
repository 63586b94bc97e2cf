"""Extrema as functions of the selected terms: what their derivatives need.

In: a reduction that selects terms (min, max, K smallest), its inputs, the indices it found.  Out: the same values as a
sum of one term for each row, in which the variables of the reduced axis have been gathered at those indices, so that
they are variables of the kept axis, one set for each selected place (a batch axis); and the way back to the inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ...lower.problem import Problem, Sizes
from ..derivatives.selected_terms import INDEX_BITS, selected_terms
from ..evaluate import input_axes

Tensor = torch.Tensor


@dataclass(frozen=True)
class Selection:
    """The values as a sum of one term for each row and place: its problem, sizes and inputs.

    tensors  variables of the kept axis and parameters with an axis of length 1 for the places; gathered variables
             (*batch, places, rows, D); then the indices and the choice of components
    flat     the indices, (*batch, places * rows), 0 where no term was found: there the terms are the constant 0
    by_place the shape of the places, (*batch, places, rows)
    """

    problem: Problem
    sizes: Sizes
    tensors: list[Tensor]
    axes: tuple[str, ...]
    over: str
    flat: Tensor
    by_place: tuple[int, ...]

    def cotangent(self, g: Tensor) -> Tensor:
        """The cotangent of the terms, from that of the values (*batch, rows, places)."""
        return g.movedim(-1, -2).unsqueeze(-1)

    def values(self, terms: Tensor) -> Tensor:
        """The other way: the result of the sum in the shape of the values."""
        return terms.squeeze(-1).movedim(-1, -2)

    def chosen(self, slot: int, t: Tensor) -> Tensor:
        """What is made of an input, or of its tangent."""
        if self.axes[slot] == self.over:
            return _gathered(t, self.flat, self.by_place)
        return t.unsqueeze(_places_axis(self.axes[slot]))

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


def selection(problem: Problem, sizes: Sizes, tensors: Sequence[Tensor], outputs: Sequence[Tensor | None]) -> Selection:
    """The selected terms of a reduction whose outputs are (values, indices), of which only the indices are needed.

    They are (*batch, rows, length * K); there is one tensor for every slot of the problem.
    """
    indices = outputs[1]
    assert indices is not None
    dtype = getattr(torch, problem.dtype)
    components = _components(indices, problem.formulas[0].dim, dtype)
    indices = indices.movedim(-1, -2)
    by_place = tuple(indices.shape)
    flat = indices.reshape(*sizes.batch, by_place[-2] * by_place[-1]).clamp(min=0)
    rows = sizes.along(problem.kept)
    m, n = (rows, 1) if problem.kept == "i" else (1, rows)
    chosen = Selection(
        selected_terms(problem),
        Sizes(m, n, (*sizes.batch, by_place[-2])),
        [],
        input_axes(problem),
        problem.over,
        flat,
        by_place,
    )
    moved = [chosen.chosen(slot, t) for slot, t in enumerate(tensors)]
    moved += [_halves(indices, dtype), components]
    return replace(chosen, tensors=moved)


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


def _halves(indices: Tensor, dtype: torch.dtype) -> Tensor:
    """The indices as pairs of real numbers, high bits and low bits."""
    high, low = indices >> INDEX_BITS, indices & ((1 << INDEX_BITS) - 1)
    return torch.stack((high, low), -1).to(dtype)


def _components(indices: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """For each place, which component of the formula it selects: rows of zeros and a one, (places, length)."""
    one_hot = torch.eye(length, dtype=dtype, device=indices.device)
    return one_hot.repeat_interleave(indices.shape[-1] // length, dim=0)
