"""The reductions that give the derivatives of a reduction: which there are, and which inputs share one.

In: a problem, and which of its inputs derivatives are wanted of.  Out: `Pass`es, each a problem again, whose inputs are
those of the reduction, its cotangent and its outputs.  Pure functions of formulas: no array is touched.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from ..ir.expr import Expr, call, input_, inputs
from ..lower.problem import Problem, Sizes
from ..transform.autodiff import vjp
from .base import renumbered

LONGEST_SHARED_PASS = 32  # components; more than that gain nothing from sharing the evaluation of the formula
PREFERRED_ROWS = 4  # derivatives of parameters join an existing pass unless its rows are this much more numerous


class Pass(NamedTuple):
    """One reduction that gives the derivatives with respect to several inputs, component after component.

    slots    which tensors are its inputs: those of the reduction, then its cotangent, then its outputs
    targets  (slot, dim) of the inputs whose derivatives are in the result, in this order
    """

    problem: Problem
    slots: tuple[int, ...]
    targets: tuple[tuple[int, int], ...]


def rows_of_parameters(axes: tuple[str, ...], sizes: Sizes, wanted: tuple[bool, ...]) -> str:
    """The axis that the derivatives of parameters are first indexed by, before they are summed over it, too.

    They join the pass of the other variables; or else the shorter axis, because this costs one number per row.
    """
    others = {axis for axis, want in zip(axes, wanted, strict=False) if want} - {"p"}
    shorter, longer = ("i", "j") if sizes.M <= sizes.N else ("j", "i")
    joins = others == {longer} and sizes.along(longer) <= PREFERRED_ROWS * sizes.along(shorter)
    return longer if joins else shorter


@lru_cache(maxsize=1024)
def passes(problem: Problem, wanted: tuple[bool, ...], parameter_rows: str) -> tuple[Pass, ...]:
    """The reductions that together give the derivatives with respect to the wanted inputs."""
    record, count = problem.record, len(wanted)
    dims = problem.output_dims()
    g = (input_(count, problem.kept, dims[0]),)
    outputs = tuple(input_(count + 1 + k, problem.kept, d) for k, d in enumerate(dims))
    assert record.cotangents is not None
    cotangents = record.cotangents(g, problem.formulas, outputs)
    seeds = [_fitted(c, f) for c, f in zip(cotangents, problem.formulas, strict=True)]
    leaves = [n for n in problem.inputs if wanted[n.param("slot")]]
    derivatives = zip(leaves, vjp(problem.formulas, seeds, leaves), strict=True)
    found: dict[str, list[tuple[int, Expr]]] = {"i": [], "j": []}
    for leaf, derivative in derivatives:
        axis = leaf.param("axis")
        found[parameter_rows if axis == "p" else axis].append((leaf.param("slot"), derivative))
    return tuple(
        _pass(group, "j" if axis == "i" else "i", problem.dtype)
        for axis, parts in found.items()
        for group in _groups(parts)
    )


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


def _pass(parts: list[tuple[int, Expr]], over: str, dtype: str) -> Pass:
    formula = parts[0][1]
    for _, derivative in parts[1:]:
        formula = call("concat", formula, derivative)
    slots = tuple(n.param("slot") for n in inputs(formula))
    places = {s: k for k, s in enumerate(slots)}
    mapping = tuple(places.get(s, 0) for s in range(max(slots, default=-1) + 1))
    problem = Problem((renumbered(formula, mapping),), "sum", over, dtype)
    return Pass(problem, slots, tuple((slot, d.dim) for slot, d in parts))
