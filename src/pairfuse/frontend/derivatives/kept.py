"""Which of its results a reduction must keep for its derivatives.

In: a problem.  Out: numbers of outputs.  What is not kept may be changed in place, and its memory is free.
"""

from __future__ import annotations

from functools import lru_cache

from ...ir.expr import input_, inputs
from ...lower.problem import Problem


@lru_cache(maxsize=1024)
def kept_outputs(problem: Problem) -> frozenset[int]:
    """The outputs of which the formulas of the derivatives are made; of products, the number of zeros, too."""
    record = problem.record
    if record.through_index:
        return frozenset({1})  # the indices
    if record.cotangents is None:
        return frozenset()
    dims = problem.output_dims()
    slots = [n.param("slot") for n in problem.inputs]
    first = max(slots, default=-1) + 1
    leaves = [input_(first + k, problem.kept, d) for k, d in enumerate((dims[0], *dims))]
    cotangents = record.cotangents((leaves[0],), problem.formulas, tuple(leaves[1:]))
    used = {n.param("slot") - first - 1 for n in inputs(*cotangents)}
    return frozenset(k for k in range(len(dims)) if k in used or (problem.reduction == "prod" and k == 3))
