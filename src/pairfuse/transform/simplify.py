"""Simplify formulas by tables of rules.

In: formulas of primitive operations (derived ones are left alone).  Out: simpler formulas.  EXACT rules give the same
floating-point numbers, up to the sign of a zero, or numbers that are nearer to the exact ones; they are always
applied.  FAST rules may change the rounding, or lose an infinity or a NaN; they are applied where the user's choice of
precision allows it.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..ir.expr import Expr
from .rewrite import Report, rewrite
from .rules_components import COMPONENTS
from .rules_fast import FAST
from .rules_numbers import CHOICES, CONSTANTS, INDICES, SIGNS
from .rules_pairs import PAIRS

EXACT = CONSTANTS + SIGNS + CHOICES + INDICES + COMPONENTS + PAIRS


def simplify(roots: Iterable[Expr], fast: bool = False, report: Report | None = None) -> tuple[Expr, ...]:
    """The roots, simplified; `report(algebra, before, after)` is told of every rule that is applied."""
    return rewrite(roots, EXACT + FAST if fast else EXACT, report)
