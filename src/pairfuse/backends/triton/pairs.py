"""States of pairs, as Triton source: pair (m, n) of a tile reduces the columns n, n + BN, n + 2 BN ... of row m.

In: an emitter.  Out: lines that start, renew and flush the states.  The loop over the columns folds nothing; every few
tiles (`flush`) and at the end, the states of a row are folded by the `merge` of the record, and join those of the row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...ir.expr import Expr
from .guards import some_pair

if TYPE_CHECKING:
    from .emit import TritonEmitter


class PairStates:
    """Writes what happens to the states of the pairs of a tile."""

    def __init__(self, emitter: TritonEmitter):
        self.emitter, self.source, self.machine = emitter, emitter.source, emitter.machine

    def start(self) -> dict[Expr, str]:
        names: dict[Expr, str] = {}
        for slot, leaf in zip(self.machine.slots, self.emitter.state_leaves, strict=True):
            for d in range(slot.dim):
                names[self.emitter.scalars.at(leaf, d)] = f"pair_{slot.name}_{d}"
        self._reset(names, [True] * len(self.machine.slots))
        return names

    def _reset(self, names: dict[Expr, str], chosen: list[bool]) -> None:
        for slot, leaf, wanted in zip(self.machine.slots, self.emitter.state_leaves, chosen, strict=True):
            for d in range(slot.dim if wanted else 0):
                value = self.emitter.rows.initial(slot, self.emitter.plan.type_of(slot.kind), "BN")
                self.source.line(f"{names[self.emitter.scalars.at(leaf, d)]} = {value}")

    def update(self, names: dict[Expr, str]) -> None:
        e, machine = self.emitter, self.machine
        e.terms()
        e.bind(names)
        first = e.term_leaves[0]
        if machine.revise is not None and machine.by_column:
            self._replace(names, machine.revise(e.state_leaves, first, e.column_leaf))
        elif machine.revise is not None:
            with self.source.scope():
                condition = some_pair(e)
                with self.source.block(f"if {condition}:"):
                    self._replace(names, machine.revise(e.state_leaves, first, e.column_leaf))
        self._replace(names, machine.update(e.state_leaves, e.term_leaves, e.column_leaf))

    def _replace(self, names: dict[Expr, str], new: tuple[Expr, ...]) -> None:
        """Assign the new state of the pairs, all of it computed from the old one."""
        s, e = self.source, self.emitter
        assignments: list[tuple[str, str]] = []
        with s.scope():
            for slot, value, old in zip(self.machine.slots, new, e.state_leaves, strict=True):
                for d in range(slot.dim if value is not old else 0):
                    name = names[e.scalars.at(old, d)]
                    x = f"tl.broadcast_to({s(e.scalars.at(value, d))}, (BM, BN)).to({e.plan.type_of(slot.kind)})"
                    assignments.append((name, s.let(f"tl.where(valid, {x}, {name})" if e.masked else x)))
        for name, value in assignments:
            s.line(f"{name} = {value}")
        e.bind(names)

    def flush(self, names: dict[Expr, str], rows: dict[Expr, str]) -> None:
        """Fold the states of the pairs into those of the rows. Slots that the guard reads keep their values."""
        self.emitter.rows.fold(rows, list(names.values()))
        keep = self.machine.guard is not None
        self._reset(names, [slot.additive or not keep for slot in self.machine.slots])

    def end(self, rows: dict[Expr, str]) -> None:
        """After the last column: nothing is left to do."""
