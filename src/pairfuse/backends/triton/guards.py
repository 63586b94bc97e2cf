"""Guards, as Triton source: is the costly step of the record needed for some pair of the tile?

In: an emitter.  Out: the text of a condition, one truth value for the whole program.  The guard of a folded block holds
for a row when it holds for one of its terms: `Machine.fold` is the extremum that it compares.  Columns beyond the last
one, which repeat it, may hold what the costly step then finds not to count.

Triton's compiler packs the truth values of many comparisons into words before it tests them, which takes four
instructions for a pair.  So numbers are folded first, where they are those of pairs: one or two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...ir.expr import Expr

if TYPE_CHECKING:
    from .emit import TritonEmitter


def some_row(emitter: TritonEmitter, term: Expr | None = None) -> str:
    """Does the guard hold for a value of some row? `term`: that of the row, if it is not the first term."""
    return f"any_pair({' | '.join(map(emitter.source, _guards(emitter, term)))})"


def some_pair(emitter: TritonEmitter) -> str:
    """Does the guard hold for the first term of some pair?"""
    return _of_folded(emitter) if _folds_by_thread(emitter) else _of_differences(emitter)


def _guards(emitter: TritonEmitter, term: Expr | None = None) -> list[Expr]:
    """The guard, by component."""
    assert emitter.machine.guard is not None
    guard = emitter.machine.guard(emitter.state_leaves, emitter.term_leaves[0] if term is None else term)
    return [emitter.scalars.at(guard, d) for d in range(guard.dim)]


def _folds_by_thread(emitter: TritonEmitter) -> bool:
    """Does a thread hold several columns of each row, and is it known which?"""
    tile, threads = emitter.tile, 32 * emitter.tile.warps
    return bool(tile.columns) and emitter.plan.takes_best and tile.cols % threads == 0 and tile.cols > threads


def _of_folded(emitter: TritonEmitter) -> str:
    """The guard of the best of the columns that a thread holds: one instruction for a pair."""
    s, threads = emitter.source, 32 * emitter.tile.warps
    first = emitter.scalars.at(emitter.term_leaves[0], 0)
    block = f"tl.broadcast_to({s(first)}, {emitter.columns.pairs})"
    shape, axis = (f"(BM, BN // {threads}, {threads})", 1)
    if emitter.tile.columns == "adjacent":
        shape, axis = (f"(BM, {threads}, BN // {threads})", 2)
    with s.scope():
        s.bind(first, s.let(f"tl.{emitter.machine.fold}(tl.reshape({block}, {shape}), {axis})"))
        return some_row(emitter)


def _of_differences(emitter: TritonEmitter) -> str:
    """Is the extreme difference of the sides of the comparisons beyond 0? Two instructions for a pair.

    Where all are compared with the same constant, it is not subtracted.
    """
    s, guards = emitter.source, _guards(emitter)
    name, bound = guards[0].name, guards[0].args[1]
    assert all(g.name == name for g in guards)
    function, other, sign = {"lt": ("least", "minimum", "<"), "gt": ("largest", "maximum", ">")}[name]
    plain = bound.name == "const" and all(g.args[1] is bound for g in guards)
    value = ""
    for g in guards:
        x = s(g.args[0] if plain else g.args[0] - g.args[1])
        value = s.let(f"tl.{other}({value}, {x})") if value else x
    limit = repr(float(bound.param("value"))) if plain else "0.0"
    return f"{function}(tl.broadcast_to({value}, {emitter.columns.pairs})) {sign} {limit}"
