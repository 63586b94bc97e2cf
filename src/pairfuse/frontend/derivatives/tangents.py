"""The reduction that gives the tangent of a reduction: forward mode, as formulas.

In: a problem, and which of its inputs move.  Out: one sum over the same axis, for the tangents of all inputs together,
or a zero.  Pure functions of formulas: no array is touched.

A reduction whose result has the derivative w_ij with respect to F_ij moves by sum_j w_ij dF_ij; the weights are the
cotangents of its record for the cotangent 1.
"""

from __future__ import annotations

from functools import lru_cache

from ...ir.expr import Expr, call, const, input_, inputs
from ...lower.problem import Problem
from ...transform.autodiff import jvp, weighted, zeros
from ..base import renumbered
from .passes import Pass


@lru_cache(maxsize=1024)
def tangent_pass(problem: Problem, moving: tuple[bool, ...]) -> Pass:
    """The sum that is the tangent of the first output.

    Its slots number the inputs of the problem, then their tangents, then the outputs of the problem.
    """
    record, count = problem.record, len(moving)
    assert record.cotangents is not None
    dims = problem.output_dims()
    outputs = tuple(input_(2 * count + k, problem.kept, d) for k, d in enumerate(dims))
    weights = record.cotangents((const(1.0),), problem.formulas, outputs)
    leaves = [n for n in problem.inputs if moving[n.param("slot")]]
    tangents = [input_(count + n.param("slot"), n.param("axis"), n.dim) for n in leaves]
    moved = jvp(problem.formulas, leaves, tangents)
    total: Expr | None = None
    for weight, tangent in zip(weights, moved, strict=True):
        if tangent is not zeros(tangent.dim):
            term = weighted(weight, tangent)
            total = term if total is None else total + term
    total = zeros(dims[0]) if total is None else total
    if total.dim < dims[0]:
        total = call("repeat", total, times=dims[0])
    slots = tuple(n.param("slot") for n in inputs(total))
    places = {s: k for k, s in enumerate(slots)}
    mapping = tuple(places.get(s, 0) for s in range(max(slots, default=-1) + 1))
    again = Problem((renumbered(total, mapping),), "sum", problem.over, problem.dtype, accuracy=problem.accuracy)
    return Pass(again, slots, ())
