"""The formula of a reduction that selects terms, at given indices: the pure part of the derivatives of extrema.

In: a problem (min, max, K smallest).  Out: the problem that also gives the indices, and the problem whose terms are the
selected ones.  No array is touched.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from ...ir.expr import Expr, call, const, index, input_, substitute, toposort
from ...lower.problem import Problem
from ..evaluate import input_axes

# The reduction that also gives the indices.
WITH_INDEX = {"min": "min_argmin", "max": "max_argmax", "Kmin": "Kmin_argKmin", "Kmax": "Kmax_argKmax"}
INDEX_BITS = 20  # an index travels as two real numbers, high and low bits, each exact in float32


@lru_cache(maxsize=1024)
def with_index(problem: Problem) -> Problem:
    """The reduction that gives the indices, too, which the derivatives of a selection need."""
    return replace(problem, reduction=WITH_INDEX.get(problem.reduction, problem.reduction))


@lru_cache(maxsize=1024)
def selected_terms(problem: Problem) -> Problem:
    """The formula at given indices: variables of the reduced axis become variables of the kept axis.

    After the inputs of the problem come the indices, then the choice of the component.  At the index -1, where no term
    was found, it is 0, whatever stands in the place of the variables.
    """
    count = len(input_axes(problem))
    kept, over = problem.kept, problem.over
    formula = problem.formulas[0]
    halves = input_(count, kept, 2)
    parts = [call("extract", halves, start=k, size=1) for k in (0, 1)]
    new: dict[Expr, Expr] = {}
    for n in toposort(formula):
        if n.name == "input" and n.param("axis") == over:
            new[n] = input_(n.param("slot"), kept, n.dim)
        elif n is index(over):
            high, low = (call("to_index", part) for part in parts)
            new[n] = high * const(1 << INDEX_BITS, "index") + low
    terms = substitute(formula, new)
    if formula.dim > 1:
        chosen = call("ne", input_(count + 1, "p", formula.dim), 0.0)
        terms = call("sum_d", call("where", chosen, terms, 0.0), group=formula.dim)
    terms = call("where", parts[0] >= 0.0, terms, 0.0)
    return Problem((terms,), "sum", over, problem.dtype, accuracy=problem.accuracy)
