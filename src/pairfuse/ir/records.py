"""What a reduction is: the record that says everything about one, and the state machine that it names.

A reduction is a state machine whose steps are expressions, so that every backend gets every reduction:

    state   = slots at their initial values
    for each block of columns:
        if guard(state, folded F) holds for some row:      (the costly part, entered for a vanishing share of the pairs)
            state = revise(state, F, j)                    once with the folded F, or for every column in turn
        state = update(state, Fs, j)                       the cheap part; across columns only `fold_columns`
    state   = merge(state, other)                          associative and commutative: lanes, threads, split columns
    outputs = finalize(state)

Additive slots only ever grow by `slot + fold_columns(sum, ...)` in `update`; a backend may therefore keep a short
partial sum and a long, more precise one, and must add both before any other step reads or scales the slot.

In a guard for a folded block NaN is "no number": `fold` passes over NaN, and may make infinity of a block of them, for
which a guard may hold in vain. Where columns are taken in turn, `takes` asks the same for one of them, exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import FormulaError
from .expr import Expr, call, leaf
from .rows import where

State = tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """One value of the state, of `dim` components per row."""

    name: str
    dim: int
    init: float
    kind: str = "real"
    additive: bool = False

    def leaf(self, side: str = "a") -> Expr:
        return leaf("slot", self.kind, name=self.name, dim=self.dim, side=side)


@dataclass(frozen=True, slots=True)
class Machine:
    """The state machine of a reduction for formulas of known lengths.

    guard and revise come together: `fold` says how the columns of a block are folded for the guard ("min" or "max"),
    `by_column` whether revise is called for every column in turn or once with the folded value.
    """

    slots: tuple[Slot, ...]
    update: Callable[[State, tuple[Expr, ...], Expr], State]
    merge: Callable[[State, State], State]
    finalize: Callable[[State], tuple[Expr, ...]]
    fold: str | None = None
    guard: Callable[[State, Expr], Expr] | None = None
    revise: Callable[[State, Expr, Expr], State] | None = None
    by_column: bool = False

    def takes(self, state: State, f: Expr) -> Expr:
        """The guard for one term: where columns are taken in turn, NaN is never taken."""
        assert self.guard is not None
        wanted = self.guard(state, f)
        return call("eq", f, f) & wanted if self.by_column else wanted


@dataclass(frozen=True, slots=True)
class Reduction:
    """One record of the table.

    arity       number of formulas: F, or F and a weight G
    machine     (dims of the formulas, dtype limits, **params) -> Machine
    outputs     (name, kind) of every output of finalize; the first `visible` are what the user asked for, the others
                are what the derivative needs
    ref         the NumPy meaning: (*formulas with columns on axis -2, **params) -> outputs without that axis
    cotangents  (g per visible output, formulas, outputs) -> the derivative of sum(g * output) with respect to every
                F_ij, as expressions; None: not differentiable, or through the index (min, max, K smallest)
    empty       False: a reduction over nothing is an error
    additive    results over parts of the pairs add up to the result over all of them
    skips_nan   a term that is NaN counts as little as one that is not there
    """

    name: str
    arity: int
    machine: Callable[..., Machine]
    outputs: tuple[tuple[str, str], ...]
    ref: Callable[..., tuple[Any, ...]]
    cotangents: Callable[..., tuple[Expr, ...]] | None = None
    visible: int = 1
    empty: bool = True
    params: tuple[str, ...] = ()
    through_index: bool = False
    additive: bool = False
    skips_nan: bool = False
    doc: str = ""
    aliases: tuple[str, ...] = ()


REDUCTIONS: dict[str, Reduction] = {}


def reduction(**cells: Any) -> None:
    record = Reduction(**cells)
    if record.name in REDUCTIONS:
        raise FormulaError(f"reduction {record.name!r} is already registered")
    REDUCTIONS[record.name] = record


def fmin(x: Expr, y: Expr) -> Expr:
    """x if x < y else y: a NaN in x is passed over."""
    return where(x < y, x, y)


def fmax(x: Expr, y: Expr) -> Expr:
    return where(x > y, x, y)


def unchanged(state: State, fs: tuple[Expr, ...], j: Expr) -> State:
    return state
