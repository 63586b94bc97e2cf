"""The catalogue of operations and reductions as text: what ``python -m pairfuse ops`` prints.

In: the two tables of the ir layer, and the methods of LazyTensor, which say how each is called. Out: an aligned table
of all of them, or one entry in full. The manual's reference pages are written from the same two tables
(docs/reference.py).
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pairfuse.errors import FormulaError
from pairfuse.frontend.lazytensor import LazyTensor
from pairfuse.ir.ops import TABLE
from pairfuse.ir.reductions import REDUCTIONS


def table() -> str:
    """All operations, those of formula strings only, all reductions, and what else a LazyTensor has: one line each."""
    rows = [(op.name, call_of(op), first_line(op.doc), ", ".join(op.aliases)) for op in TABLE.values()]
    methods = [row for row in rows if is_method(row[0])]
    strings = [row for row in rows if not is_method(row[0])]
    reductions = [(r.name, call_of(r), first_line(r.doc), ", ".join(r.aliases)) for r in REDUCTIONS.values()]
    others = [(name, method_call(name), first_line(meaning)) for name, meaning in other_names()]
    return "\n".join(
        [
            *aligned(("operation", "called as", "meaning", "also called in strings"), methods),
            "",
            *aligned(("in formula strings only", "called as", "meaning", "also called"), strings),
            "",
            *aligned(("reduction", "called as", "meaning", "also called in strings"), reductions),
            "",
            *aligned(("other name", "called as", "meaning"), others),
            "",
            f"{len(rows)} operations, {len(reductions)} reductions; `pairfuse ops NAME` shows one in full.",
        ]
    )


# ---------------------------------------------------------------------- how things are called


def is_method(name: str) -> bool:
    """Is the row of this name a method of LazyTensor? The others are names of formula strings."""
    return hasattr(LazyTensor, name)


def call_of(record: Any) -> str:
    """How a row or record is called: "x.atan2(y)"; in strings, "powi(x, n)"; "x.logsumexp(dim, weight=y)"."""
    if is_method(record.name):
        return method_call(record.name)
    if record.name in REDUCTIONS:
        return f"{method_call(record.name.removesuffix('_weight'))[:-1]}, weight=y)"
    return f"{record.name}({', '.join([*'xyzuvw'[: record.arity], *record.params])})"


def method_call(name: str) -> str:
    """A method with the arguments that it needs, `dim` among them; an attribute as it is."""
    method = getattr(LazyTensor, name)
    if not callable(method):
        return f"x.{name}"
    parameters = inspect.signature(method).parameters
    needed = [n for n, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty]
    bound = inspect.ismethod(method)  # of the class
    shown = needed[0 if bound else 1 :] + (["dim"] if "dim" in parameters and "axis" in parameters else [])
    return f"x.{name}({', '.join(shown)})"


def other_names() -> list[tuple[str, str]]:
    """The public names of LazyTensor that are no row of the tables, and what they are."""
    listed = {*TABLE, *REDUCTIONS, *(alias for row in TABLE.values() for alias in row.aliases)}
    names = sorted((n for n in dir(LazyTensor) if not n.startswith("_") and n not in listed), key=str.lower)
    return [(name, inspect.getdoc(getattr(LazyTensor, name)) or "") for name in names]


def entry(name: str) -> str:
    """One operation or reduction in full, found by its name or by one of its aliases."""
    record = find(name)
    lines = [f"{record.name}" + (f" (also {', '.join(record.aliases)})" if record.aliases else "")]
    where = "" if is_method(record.name) or record.name in REDUCTIONS else "in formula strings: "
    lines += ["", where + call_of(record), "", textwrap.dedent(record.doc).strip()]
    return "\n".join(lines)


def find(name: str) -> Any:
    """The row of the table of operations, or the record of the table of reductions, that answers to ``name``."""
    tables: tuple[Mapping[str, Any], ...] = (TABLE, REDUCTIONS)
    for rows in tables:
        for record in rows.values():
            if name == record.name or name in record.aliases:
                return record
    names = [alias for rows in tables for r in rows.values() for alias in (r.name, *r.aliases)]
    near = get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "`pairfuse ops` lists them all."
    raise FormulaError(f"there is no operation or reduction called {name!r}.\n  Hint: {hint}")


def first_line(doc: str) -> str:
    return doc.strip().partition("\n")[0]


def aligned(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Text columns, each as wide as its widest cell, under a rule."""
    rows = list(rows)
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]

    def line(cells: Iterable[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()

    return [line(head), line("-" * width for width in widths), *map(line, rows)]
