"""Guards, as Triton source: is the costly step of the record needed for some pair of the tile?

In: an emitter.  Out: the text of a condition, one truth value for the whole program.  The guard of a folded block holds
for a row when it holds for one of its terms: `Machine.fold` is the extremum that it compares.  Columns beyond the last
one, which repeat it, may hold what the costly step then finds not to count, and so may NaN in a row of nothing else.

Triton's compiler packs the truth values of many comparisons into words before it tests them, which takes four
instructions for a pair.  So numbers are folded first, where they are those of pairs: one or two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...ir.expr import Expr, call

if TYPE_CHECKING:
    from .emit import TritonEmitter

# How a comparison folds: the function that folds a block, that of two numbers, and the sign.
DIFFERENCES = {
    "gt": ("largest", "maximum", ">"),
    "not_ge": ("least", "minimum", "<"),
    "not_le": ("largest", "maximum", ">"),
}


def some_row(emitter: TritonEmitter, term: Expr | None = None) -> str:
    """Is the costly step needed for a value of some row? `term`: that of the row, if it is not the first term."""
    takes = emitter.machine.takes(emitter.state_leaves, emitter.term_leaves[0] if term is None else term)
    return _any(emitter, [emitter.scalars.at(takes, d) for d in range(takes.dim)])


def some_pair(emitter: TritonEmitter) -> str:
    """Does the guard hold for the first term of some pair?"""
    return _of_folded(emitter) if _folds_by_thread(emitter) else _of_differences(emitter)


def count_missing(emitter: TritonEmitter) -> None:
    """Say whether a list of some row has a place left: a difference from what is not there says nothing.

    The truth value changes with the lists only. Where the guard is not one of differences, nobody asks for it.
    """
    if not (emitter.plan.takes_best and _asks_differences(emitter)):
        return
    last = [g.args[1] for g in _guards(emitter)]
    emitter.source.line(f"missing = {_any(emitter, [call('isnan', x) for x in last])}")


def _any(emitter: TritonEmitter, conditions: list[Expr]) -> str:
    return f"any_pair({' | '.join(map(emitter.source, conditions))})"


def _guards(emitter: TritonEmitter) -> list[Expr]:
    """The guard, by component."""
    assert emitter.machine.guard is not None
    guard = emitter.machine.guard(emitter.state_leaves, emitter.term_leaves[0])
    return [emitter.scalars.at(guard, d) for d in range(guard.dim)]


def _asks_differences(emitter: TritonEmitter) -> bool:
    return not (emitter.plan.by_row or _folds_by_thread(emitter))


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
        return _any(emitter, _guards(emitter))


def _of_differences(emitter: TritonEmitter) -> str:
    """Is the extreme difference of the sides of the comparisons beyond 0? Two instructions for a pair.

    Where all are compared with the same constant, it is not subtracted.
    """
    s, guards = emitter.source, _guards(emitter)
    name, bound = guards[0].name, guards[0].args[1]
    assert all(g.name == name for g in guards)
    function, other, sign = DIFFERENCES[name]
    plain = bound.name == "const" and all(g.args[1] is bound for g in guards)
    value = ""
    for g in guards:
        x = s(g.args[0] if plain else g.args[0] - g.args[1])
        value = s.let(f"tl.{other}({value}, {x})") if value else x
    limit = repr(float(bound.param("value"))) if plain else "0.0"
    found = f"({function}(tl.broadcast_to({value}, {emitter.columns.pairs})) {sign} {limit})"
    return f"{found} | missing" if emitter.plan.takes_best else found
