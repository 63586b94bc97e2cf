"""Products as functions that can be differentiated again, where terms vanish, too.

In: a product, its inputs, its outputs.  Out: reductions of which it is made, and its derivatives with respect to them.

Near a point at which z of the terms of a row are 0, their product is, exactly,

    P = R e_z(f over the terms that vanish),        R = product of the other terms,

where e_z is the elementary symmetric polynomial of degree z: by Newton's identities one of the power sums S_1 ... S_z
of the vanishing terms.  R and the S_m are reductions whose derivatives of all orders are right, so P's are: all that do
not involve more than HIGHEST vanishing terms at once, that is, all up to the order HIGHEST.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch

from ...ir.expr import Expr, call
from ...lower.problem import Problem

Tensor = torch.Tensor
HIGHEST = 4


@lru_cache(maxsize=1024)
def factors(problem: Problem) -> tuple[Problem, Problem]:
    """The product of the terms that do not vanish, and the power sums of those that do, one after the other."""
    terms = problem.formulas[0]
    vanishes = call("eq", terms, 0.0)
    powers: list[Expr] = [call("where", vanishes, call("powi", terms, n=m), 0.0) for m in range(1, HIGHEST + 1)]
    sums = powers[0]
    for power in powers[1:]:
        sums = call("concat", sums, power)
    rest = call("where", vanishes, 1.0, terms)
    return replace(problem, formulas=(rest,)), replace(problem, formulas=(sums,), reduction="sum")


def vanishes_nowhere(problem: Problem) -> bool:
    """Is this the product of terms of which the vanishing ones have been replaced?"""
    f = problem.formulas[0]
    return f.name == "where" and f.args[1].is_const(1.0) and f.args[0] is call("eq", f.args[2], 0.0)


def symmetric(power_sums: Tensor, zeros: Tensor) -> tuple[Tensor, Tensor]:
    """e_z of the vanishing terms, and its derivatives with respect to the power sums.

    Arguments: power_sums: (..., HIGHEST * D), one power after the other; zeros: z, (..., D).
    """
    dim = zeros.shape[-1]
    sums = [power_sums[..., m * dim : (m + 1) * dim] for m in range(HIGHEST)]
    e: list[Tensor] = [torch.ones_like(zeros)]
    for k in range(1, HIGHEST + 1):  # k e_k = sum_m (-1)^(m-1) e_(k-m) S_m
        e.append(_alternating([e[k - m] * sums[m - 1] for m in range(1, k + 1)]) / k)
    value = _chosen(e, zeros)
    # d e_z / d S_m = (-1)^(m-1) e_(z-m) / m
    slopes = [_chosen([torch.zeros_like(zeros)] * m + e[: HIGHEST + 1 - m], zeros) for m in range(1, HIGHEST + 1)]
    signed = [slope * ((-1) ** (m - 1) / m) for m, slope in enumerate(slopes, start=1)]
    return value, torch.cat(signed, -1)


def _alternating(terms: list[Tensor]) -> Tensor:
    total = terms[0]
    for m, term in enumerate(terms[1:], start=1):
        total = total - term if m % 2 else total + term
    return total


def _chosen(by_degree: list[Tensor], zeros: Tensor) -> Tensor:
    """The entry of the list whose number is `zeros`; 0 beyond the list."""
    chosen: Any = torch.zeros_like(zeros)
    for degree, value in enumerate(by_degree):
        chosen = torch.where(zeros == degree, value, chosen)
    return chosen
