"""Value and derivatives of one reduction on plain NumPy arrays, without a tape.

In: a problem, its arrays, a cotangent, and which inputs derivatives are wanted of.  Out: the value, and the derivatives
of <cotangent, value> in the shapes of the arrays.  The formulas are those that torch's users get (passes.py, slopes.py,
selected_terms.py); here they are computed once, and nothing is kept for a second derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...lower.problem import Problem, Sizes
from ..evaluate import Settings, input_axes, launch
from .passes import VALUE, Pass, pass_with_value, passes
from .selected_terms import INDEX_BITS, selected_terms, with_index
from .slopes import Slopes, slopes

Array = np.ndarray


@dataclass(frozen=True)
class Question:
    """One reduction to differentiate: the problem, one array for each of its inputs, their sizes, the cotangent."""

    problem: Problem
    values: Sequence[Array]
    sizes: Sizes
    settings: Settings
    g: Array

    def run(self, problem: Problem, known: Sequence[Array]) -> tuple[Any, ...]:
        return launch(problem, list(known), self.sizes, self.settings)


def value_and_gradients(asked: Question, wanted: tuple[bool, ...]) -> tuple[Array, list[Array | None]]:
    """The first output, (*batch, rows, dim), and a derivative (*batch, rows or none, dim) for every wanted input."""
    problem = asked.problem
    if problem.record.through_index:
        problem = with_index(problem)
        outputs = asked.run(problem, asked.values)
        return outputs[0], _selected(problem, asked, outputs, wanted)
    joined, plan = pass_with_value(problem, wanted), slopes(problem, wanted)
    if joined is not None:
        found: list[Array | None] = [None] * len(wanted)
        value = _passed(asked, joined, (), found)
        assert value is not None
        outputs: tuple[Array, ...] = (value,)
    elif plan is not None and not plan.joined:
        outputs, found = _with_slopes(asked, plan)
    else:
        found = [None] * len(wanted)
        outputs = asked.run(problem, asked.values)
    rest = tuple(want and part is None for want, part in zip(wanted, found, strict=True))
    for p in passes(problem, rest):
        _passed(asked, p, outputs, found)
    return outputs[0], found


def _passed(asked: Question, p: Pass, outputs: Sequence[Array], found: list[Array | None]) -> Array | None:
    """Compute a pass, put its derivatives into `found`; the value, if it has one."""
    known = [*asked.values, asked.g, *outputs]
    if asked.problem.both:  # what is indexed by no axis is a parameter of the passes
        known[len(asked.values) :] = [v[..., 0, :] for v in (asked.g, *outputs)]
    result = asked.run(p.problem, [known[s] for s in p.slots])[0]
    value, start = None, 0
    for slot, dim in p.targets:
        part = result[..., start : start + dim] if len(p.targets) > 1 else result
        start += dim
        if slot == VALUE:
            value = np.ascontiguousarray(part)
        else:
            found[slot] = part[..., 0, :] if p.problem.both else part
    return value


def _with_slopes(asked: Question, plan: Slopes) -> tuple[tuple[Array, ...], list[Array | None]]:
    """The outputs, and the derivatives that are a product with the slopes of the value."""
    slope, *outputs = asked.run(plan.problem, asked.values)
    value = outputs[0]
    found: list[Array | None] = [None] * len(asked.values)
    start = 0
    for slot, dim in plan.targets:
        # where all terms are -inf, no softmax is defined, and the value is constant
        part = np.where(value != -np.inf, slope[..., start : start + dim], 0)
        found[slot] = asked.g * part
        start += dim
    return tuple(outputs), found


# ---------------------------------------------------------------------- extrema


def _selected(
    problem: Problem, asked: Question, outputs: Sequence[Array], wanted: tuple[bool, ...]
) -> list[Array | None]:
    """The derivatives of selected terms: those of the formula at the indices, added up by index."""
    values, indices = outputs
    axes, sizes = input_axes(problem), asked.sizes
    places = np.swapaxes(indices, -1, -2)  # (*batch, places, rows)
    halves = np.stack((places >> INDEX_BITS, places & ((1 << INDEX_BITS) - 1)), -1).astype(problem.dtype)
    places = np.maximum(places, 0)  # where there is no term, the formula is 0
    rows = sizes.along(problem.kept)
    m, n = (rows, 1) if problem.kept == "i" else (1, rows)
    moved = [
        _gathered(v, places) if axis == problem.over else v[..., None, :] if axis == "p" else v[..., None, :, :]
        for v, axis in zip(asked.values, axes, strict=True)
    ]
    length = problem.formulas[0].dim
    component = np.repeat(np.eye(length, dtype=problem.dtype), values.shape[-1] // length, axis=0)
    g = np.swapaxes(asked.g, -1, -2)[..., None]
    terms = Question(
        selected_terms(problem), [*moved, halves, component], Sizes(m, n, places.shape[:-1]), asked.settings, g
    )
    found: list[Array | None] = [None] * len(terms.values)
    for p in passes(terms.problem, (*wanted, False, False)):
        _passed(terms, p, (), found)
    for slot, (part, axis) in enumerate(zip(found, axes, strict=False)):
        if part is None:
            continue
        if axis == problem.over:
            found[slot] = _added_up(part, places, sizes.along(axis))
        else:
            found[slot] = part.sum(-2 if axis == "p" else -3)
    return found[: len(wanted)]


def _gathered(v: Array, places: Array) -> Array:
    """Rows of an array (*some batch, N, D) at the given indices: (*batch, places, rows, D)."""
    if v.shape[-2] == 0:  # nothing was selected
        return np.zeros((*places.shape, v.shape[-1]), v.dtype)
    source = np.broadcast_to(v[..., None, :, :], (*places.shape[:-1], *v.shape[-2:]))
    return np.take_along_axis(source, places[..., None], -2)


def _added_up(parts: Array, places: Array, rows: int) -> Array:
    """The other way: (*batch, rows, D), where those of equal indices are added up."""
    *batch, _, _, dim = parts.shape
    total = np.zeros((*batch, rows, dim), parts.dtype)
    if rows == 0:
        return total
    grid = np.ix_(*map(np.arange, places.shape))
    np.add.at(total, (*grid[: len(batch)], places), parts)
    return total
