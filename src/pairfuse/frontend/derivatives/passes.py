"""The reductions that give the derivatives of a reduction: which there are, and which inputs share one.

In: a problem, and which of its inputs derivatives are wanted of.  Out: `Pass`es, each a problem again, whose inputs are
those of the reduction, its cotangent and its outputs.  Pure functions of formulas: no array is touched.

The derivatives with respect to variables of one axis share a pass, and with it the evaluation of what their formulas
have in common.  Different axes cannot: a kernel keeps its sums by row, and walks each pair once.  Derivatives with
respect to parameters are sums over both axes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from ...ir.expr import Expr, call, input_, inputs
from ...lower.problem import Problem
from ...lower.schedule import UNROLL_SUMS
from ...transform.autodiff import vjp, zeros
from ..base import renumbered

LONGEST_SHARED_PASS = 32  # components; more than that gain nothing from sharing the evaluation of the formula
# Components of a value and its derivatives that share a pass: as many sums as a kernel keeps in registers. Beyond, the
# derivatives cost more than the value that is saved (benchmarks/NOTES.md, "Value and slopes").
LONGEST_WITH_VALUE = UNROLL_SUMS
VALUE = -1
# The axes over which the derivative with respect to a variable of each axis is summed.
OVER = {"i": "j", "j": "i", "p": "ij"}


class Pass(NamedTuple):
    """One reduction that gives the derivatives with respect to several inputs, component after component.

    slots    which tensors are its inputs: those of the reduction, then its cotangent, then its outputs
    targets  (slot, dim) of the inputs whose derivatives are in the result, in this order; VALUE for the value itself
    """

    problem: Problem
    slots: tuple[int, ...]
    targets: tuple[tuple[int, int], ...]


@lru_cache(maxsize=1024)
def passes(problem: Problem, wanted: tuple[bool, ...]) -> tuple[Pass, ...]:
    """The reductions that together give the derivatives with respect to the wanted inputs.

    An input on which the value does not depend smoothly (a condition, a sign) is in none: its derivative is 0.
    """
    found = _by_axis(problem, wanted).items()
    return tuple(_pass(group, OVER[axis], problem) for axis, parts in found for group in _groups(parts))


@lru_cache(maxsize=1024)
def pass_with_value(problem: Problem, wanted: tuple[bool, ...]) -> Pass | None:
    """The value, and the derivatives with respect to all wanted inputs of the kept axis, whose cotangent is known.

    Only for sums, whose derivatives do not need the result; None where the pass would cost more than it saves. The
    first target is the value, of slot VALUE.
    """
    parts = _by_axis(problem, wanted)[problem.kept] if problem.record.additive else []
    f = problem.formulas[0]
    if not parts or f.dim + sum(d.dim for _, d in parts) > LONGEST_WITH_VALUE:
        return None
    return _pass([(VALUE, f), *parts], problem.over, problem)


def _by_axis(problem: Problem, wanted: tuple[bool, ...]) -> dict[str, list[tuple[int, Expr]]]:
    """The derivatives (slot, formula) with respect to the wanted inputs, by the axis of these, but for zeros."""
    record, count = problem.record, len(wanted)
    dims = problem.output_dims()
    g = (input_(count, problem.kept, dims[0]),)
    outputs = tuple(input_(count + 1 + k, problem.kept, d) for k, d in enumerate(dims))
    assert record.cotangents is not None
    cotangents = record.cotangents(g, problem.formulas, outputs)
    seeds = [_fitted(c, f) for c, f in zip(cotangents, problem.formulas, strict=True)]
    leaves = [n for n in problem.inputs if wanted[n.param("slot")]]
    derivatives = zip(leaves, vjp(problem.formulas, seeds, leaves), strict=True)
    found: dict[str, list[tuple[int, Expr]]] = {"i": [], "j": [], "p": []}
    for leaf, derivative in derivatives:
        if derivative is not zeros(leaf.dim):
            found[leaf.param("axis")].append((leaf.param("slot"), derivative))
    return found


def _fitted(cotangent: Expr, formula: Expr) -> Expr:
    """A formula of length 1 against a longer one counts for all its components."""
    if cotangent.dim > formula.dim:
        return call("sum_d", cotangent, group=cotangent.dim // formula.dim)
    return cotangent


def _groups(parts: list[tuple[int, Expr]]) -> list[list[tuple[int, Expr]]]:
    """The derivatives that share a pass."""
    groups: list[list[tuple[int, Expr]]] = []
    for slot, derivative in parts:
        if groups and sum(d.dim for _, d in groups[-1]) + derivative.dim <= LONGEST_SHARED_PASS:
            groups[-1].append((slot, derivative))
        else:
            groups.append([(slot, derivative)])
    return groups


def _pass(parts: list[tuple[int, Expr]], over: str, of: Problem) -> Pass:
    formula = parts[0][1]
    for _, derivative in parts[1:]:
        formula = call("concat", formula, derivative)
    slots = tuple(n.param("slot") for n in inputs(formula))
    places = {s: k for k, s in enumerate(slots)}
    mapping = tuple(places.get(s, 0) for s in range(max(slots, default=-1) + 1))
    problem = Problem((renumbered(formula, mapping),), "sum", over, of.dtype, accuracy=of.accuracy)
    return Pass(problem, slots, tuple((slot, d.dim) for slot, d in parts))
