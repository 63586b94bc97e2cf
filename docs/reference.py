"""The reference pages of the manual, written from the tables of the library.

In: the tables of operations and reductions, the settings. Out: Markdown files in ``docs/_generated``, which the manual
includes; they are never edited and never committed.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pairfuse.catalogue import call_of, is_method, method_call, other_names
from pairfuse.config import Config
from pairfuse.ir.ops import TABLE
from pairfuse.ir.reductions import REDUCTIONS


def write_pages(folder: Path) -> None:
    """Write every generated page into ``folder``."""
    folder.mkdir(exist_ok=True)
    pages: dict[str, Callable[[], Iterable[str]]] = {
        "operations": operations,
        "reductions": reductions,
        "methods": methods,
        "settings": settings,
    }
    for name, page in pages.items():
        (folder / f"{name}.md").write_text("\n".join(page()) + "\n", encoding="utf-8")


def operations() -> Iterable[str]:
    """One entry per row of the table of operations."""
    yield "# Operations\n"
    yield (
        "Each operation is a name of formula strings, and, where it is called as `x.name(...)`, a method of "
        "`LazyTensor`. A vector of length 1 combines with a vector of any length. Operations marked *derived* are "
        "defined by others.\n"
    )
    for op in sorted(TABLE.values(), key=lambda op: op.name.lower()):
        where = "" if is_method(op.name) else " in formula strings only"
        yield from entry(op, f"`{call_of(op)}`{where}" + (", *derived*" if op.expand else ""))


def reductions() -> Iterable[str]:
    """One entry per record of the table of reductions."""
    yield "# Reductions\n"
    yield (
        "Each reduction is a method of `LazyTensor`, called with the axis over which it runs: `axis=1` reduces over j "
        "and leaves one row per i, `axis=0` reduces over i (after the batch dimensions, if there are any).\n"
    )
    for reduction in REDUCTIONS.values():
        yield from entry(reduction, f"`{call_of(reduction)}`")


def methods() -> Iterable[str]:
    """One line for every other public name of a LazyTensor."""
    yield "# Other methods and attributes\n"
    yield "What a `LazyTensor` has beside [operations](operations.md) and [reductions](reductions.md).\n"
    yield "| called as | meaning |"
    yield "| --- | --- |"
    for name, meaning in other_names():
        text = " ".join(meaning.partition("\n\n")[0].split()).replace("|", "\\|")
        yield f"| `{method_call(name)}` | {text} |"


def entry(record: Any, facts: str) -> Iterable[str]:
    """The heading, the facts and the text of one row or record."""
    yield f"## {record.name}\n"
    also = f"also called {', '.join(f'`{alias}`' for alias in record.aliases)}" if record.aliases else ""
    if line := "; ".join(filter(None, (facts, also))):
        yield line + "\n"
    yield textwrap.dedent(record.doc).strip() + "\n"


def settings() -> Iterable[str]:
    """The table of settings, from the docstring and the defaults of ``Config``."""
    lines = r"^ {4}(\w+) {2,}(.+(?:\n {6,}.+)*)$"
    found = re.findall(lines, Config.__doc__ or "", flags=re.MULTILINE)
    meaning = {name: " ".join(text.split()) for name, text in found}
    yield "| setting | variable | meaning |"
    yield "| --- | --- | --- |"
    for name, text in meaning.items():
        yield f"| `{name}` | `PAIRFUSE_{name.upper()}` | {text} |"
