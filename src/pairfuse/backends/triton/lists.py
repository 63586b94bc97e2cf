"""The best columns of each row, as Triton source: lists of the K smallest, and argmin where a tile has no pair states.

In: an emitter.  Out: the lines of one tile.  As long as some pair of the tile beats the state of its row, the best
column of each row is inserted and taken out of the tile; that is rare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...ir.expr import Expr
from .guards import count_missing, some_pair, some_row

if TYPE_CHECKING:
    from .emit import TritonEmitter

LAST = {"tl.int32": "2147483647", "tl.int64": "9223372036854775807"}


def take_best(emitter: TritonEmitter, names: dict[Expr, str]) -> None:
    """While some column beats the state of some row: insert the best column of each row, and take it out."""
    e, s, machine = emitter, emitter.source, emitter.machine
    assert machine.revise is not None
    which = machine.fold
    worst = 'float("inf")' if which == "min" else 'float("-inf")'
    first = e.scalars.at(e.term_leaves[0], 0)
    e.terms()
    e.bind(names)
    term = s.find(first)

    if e.plan.by_row:
        # a thread holds few rows of a tile: the best of each row costs one comparison per pair, and decides
        full = f"tl.broadcast_to({term}, {e.columns.pairs})"
        block = f"tl.where({e.columns.valid}, {full}, {worst})" if e.masked else full
        with s.scope():
            s.bind(first, s.let(f"tl.{which}({block}, 1, keep_dims=True)"))
            condition = some_row(e)
    else:
        with s.scope():
            condition = some_pair(e)
    with s.block(f"if {condition}:"):
        full = s.let(f"tl.broadcast_to({term}, {e.columns.pairs})")
        there = s.let(f"({full} == {full})" + (f" & {e.columns.valid}" if e.masked else ""))
        left = s.let(f"tl.where({there}, {full}, {worst})")
        columns = s.let(f"tl.broadcast_to({e.columns.number}, {e.columns.pairs})")
        best, place, going = s.fresh("best"), s.fresh("place"), s.fresh("going")
        last = LAST[e.plan.index]

        def search() -> None:
            """The best of what is left, which may be infinite; NaN in a row of which nothing is left."""
            s.line(f"{best} = tl.{which}({left}, 1, keep_dims=True)")
            chosen = f"({left} == {best}) & {there}"
            s.line(f"{place} = tl.min(tl.where({chosen}, {columns}, {last}), 1, keep_dims=True)")
            s.line(f'{best} = tl.where({place} < {last}, {best}, float("nan"))')
            with s.scope():
                e.bind(names)
                s.bind(first, best)
                s.line(f"{going} = {some_row(e)}")

        search()
        with s.block(f"while {going}:"):
            s.bind(first, best)
            s.bind(e.scalars.at(e.column_leaf, 0), e.number(place, "col"))
            e.rows.replace(names, machine.revise(e.state_leaves, e.term_leaves[0], e.column_leaf))
            s.line(f"{there} = {there} & ({columns} != {place})")
            s.line(f"{left} = tl.where({there}, {left}, {worst})")
            search()
        with s.scope():
            e.bind(names)
            count_missing(e)
