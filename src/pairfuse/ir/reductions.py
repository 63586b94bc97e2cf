"""The table of reductions: one record says everything about one reduction.

In: the files of records, imported here, so that importing this module fills the whole table.  Out: `REDUCTIONS`, and
what a record is made of (records.py).
"""

from __future__ import annotations

from . import reductions_extrema, reductions_softmax, reductions_sums
from .records import REDUCTIONS, Machine, Reduction, Slot, State
from .steps import fold_columns

__all__ = ["PARTS", "REDUCTIONS", "Machine", "Reduction", "Slot", "State", "fold_columns"]

PARTS = (reductions_sums, reductions_softmax, reductions_extrema)  # importing them has filled the table
