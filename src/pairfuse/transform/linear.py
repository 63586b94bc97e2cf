"""Formulas that are linear in one of their variables: whether they are, and the numbers by which they multiply it.

In: a formula f and its variable v, f = A v with a matrix A for each pair (i, j).  Out: answers, and formulas without v.
Linear systems are made of them: `is_separable` says whether the components of v are systems of their own, `diagonal`
and `factor` are what preconditioners need of A.  The transpose of A is `calculus.adjoint_operator`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import FormulaError
from ..ir.expr import Expr, call, const, evaluate, inputs, substitute, toposort
from .calculus import adjoint_operator
from .expand import expand


@lru_cache(maxsize=1024)
def is_linear(f: Expr, v: Expr) -> bool:
    """Is f = A v, with A free of v?

    The derivative of such a formula is free of v, and its value at v = 0 is 0. The value is taken at a random point,
    by the definition of the operations: a constant part that vanishes there is none.
    """
    try:
        adjoint_operator(f, v, 1.0)
    except FormulaError:
        return False
    (expanded,) = expand((f,))
    random = np.random.default_rng(0)
    values: dict[Expr, Any] = {}
    for leaf in toposort(expanded):
        if leaf.name == "input":
            values[leaf] = np.zeros(v.dim) if leaf is v else random.uniform(0.2, 0.8, leaf.dim)
        elif leaf.name == "index":
            values[leaf] = np.array([1])
    with np.errstate(all="ignore"):
        at_zero = np.asarray(evaluate((expanded,), values)[0], dtype=np.float64)
    return v in inputs(f) and not np.any(np.abs(at_zero) > 0)  # where it is not a number, nothing is known


@lru_cache(maxsize=1024)
def is_separable(f: Expr, v: Expr) -> bool:
    """Does component k of f depend on component k of v only, for every k?"""
    if f.dim != v.dim:
        return False
    (expanded,) = expand((f,))
    dependent = {v}
    for node in toposort(expanded):
        through = [a for a in node.args if a in dependent]
        if not through:
            continue
        if not node.op.elementwise or any(a.dim != v.dim for a in through):
            return False
        dependent.add(node)
    return True


@lru_cache(maxsize=1024)
def diagonal(f: Expr, v: Expr) -> Expr:
    """The factors A_kk of v_k in component k of f = A v: as long as f, or of length 1 if all are the same."""
    if is_separable(f, v):
        return substitute(f, {v: const(1.0)})
    entries = [
        call("extract", substitute(f, {v: call("pad", const(1.0), start=k, size=v.dim)}), start=k, size=1)
        for k in range(v.dim)
    ]
    result = entries[0]
    for entry in entries[1:]:
        result = call("concat", result, entry)
    return result


def factor(f: Expr, v: Expr) -> Expr | None:
    """The number a of f = a v, the same for all components; None where there is none."""
    if not is_separable(f, v):
        return None
    a = diagonal(f, v)
    return a if a.dim == 1 else None
