"""The catalogue of operations and reductions as text: what ``python -m pairfuse ops`` prints.

In: the two tables of the ir layer. Out: an aligned table of all of them, or one entry in full. The manual's reference
pages are written from the same two tables (docs/reference.py).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pairfuse.errors import FormulaError
from pairfuse.ir.ops import TABLE
from pairfuse.ir.reductions import REDUCTIONS


def table() -> str:
    """All operations, then all reductions, one line each."""
    operations = [(op.name, str(op.arity), first_line(op.doc), ", ".join(op.aliases)) for op in TABLE.values()]
    reductions = [(red.name, first_line(red.doc), ", ".join(red.aliases)) for red in REDUCTIONS.values()]
    return "\n".join(
        [
            *aligned(("operation", "args", "meaning", "also called"), operations),
            "",
            *aligned(("reduction", "meaning", "also called"), reductions),
            "",
            f"{len(operations)} operations, {len(reductions)} reductions; `pairfuse ops NAME` shows one in full.",
        ]
    )


def entry(name: str) -> str:
    """One operation or reduction in full, found by its name or by one of its aliases."""
    record = find(name)
    lines = [f"{record.name}" + (f" (also {', '.join(record.aliases)})" if record.aliases else "")]
    lines += ["", textwrap.dedent(record.doc).strip()]
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
