"""Value and slopes of a reduction in one pass: which reductions have them, and the pass that computes both.

In: a problem, and which of its inputs derivatives are wanted of.  Out: `Slopes`, or None where the pass would cost more
than it saves.  Pure functions of formulas: no array is touched.

The derivative with respect to a variable of the kept axis, x_i, needs the cotangent g_i only as a factor: that of
sum_j F_ij is g_i sum_j dF_ij/dx_i, that of logsumexp is g_i sum_j p_ij dF_ij/dx_i with the softmax p.  These sums, the
slopes, are computed together with the value, while all that F and its derivative have in common is at hand; when the
cotangent comes, the derivative is a product.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from ...ir.expr import Expr, call, const
from ...lower.problem import Problem
from ...transform.autodiff import vjp, zeros
from .passes import LONGEST_WITH_VALUE


class Slopes(NamedTuple):
    """The pass that computes a value of length `dim` and its slopes.

    problem   its inputs are those of the reduction
    joined    the first output is the value, then the slopes; or else the first is the slopes, the others those of the
              reduction
    targets   (slot, dim) of the inputs whose slopes there are; of each, dim components for every component of the value
    """

    problem: Problem
    dim: int
    joined: bool
    targets: tuple[tuple[int, int], ...]


@lru_cache(maxsize=1024)
def slopes(problem: Problem, wanted: tuple[bool, ...]) -> Slopes | None:
    """Value and slopes with respect to the wanted inputs of the kept axis, if they are worth a pass of their own."""
    leaves = [n for n in problem.inputs if wanted[n.param("slot")] and n.param("axis") == problem.kept]
    f = problem.formulas[0]
    length = f.dim * sum(n.dim for n in leaves)
    if not leaves or f.dim + length > LONGEST_WITH_VALUE or problem.reduction not in ("sum", "logsumexp"):
        return None
    if problem.reduction == "logsumexp" and f.dim > 1:
        return None  # a softmax of each component has no pass with weights of their own
    parts: list[list[Expr]] = [[] for _ in leaves]
    for k in range(f.dim):
        component = f if f.dim == 1 else call("extract", f, start=k, size=1)
        for found, derivative in zip(parts, vjp((component,), (const(1.0),), leaves), strict=True):
            found.append(derivative)
    sloping = [k for k, n in enumerate(leaves) if any(d is not zeros(n.dim) for d in parts[k])]
    if not sloping:
        return None
    together = _concatenated([d for k in sloping for d in parts[k]])
    targets = tuple((leaves[k].param("slot"), leaves[k].dim) for k in sloping)
    if problem.reduction == "sum":
        return Slopes(replace(problem, formulas=(_concatenated([f, together]),)), f.dim, True, targets)
    both = replace(problem, formulas=(f, together), reduction="sumsoftmaxweight")
    return Slopes(both, f.dim, False, targets)


def _concatenated(parts: list[Expr]) -> Expr:
    result = parts[0]
    for part in parts[1:]:
        result = call("concat", result, part)
    return result
