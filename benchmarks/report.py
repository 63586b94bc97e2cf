"""Tables of what was measured: for the terminal, and JSON and Markdown for the folder ``results``.

In: the measurements of this run. Out: text and two files named after the processor. A run replaces the measurements
that it repeats and keeps the others, each with its date.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES

RESULTS = Path(__file__).with_name("results")
HEAD = ("engine", "median", "pairs/s", "ours is", "error", "of peak", "first call")


def keep(name: str, machine: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    """Merge the new measurements into the file of this machine, and write its JSON and its Markdown."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept = {"machine": kept.get("machine", {}) | machine, "measured": kept.get("measured", {}) | measured}
    path.write_text(json.dumps(kept, indent=1) + "\n")
    path.with_suffix(".md").write_text(markdown(kept))
    return kept


def markdown(kept: dict[str, Any]) -> str:
    """The whole file as one document: the machine, then a table per measurement, in the order of the cases."""
    order = [f"{c.name}/{dtype}/{threads}" for c in CASES for dtype in c.dtypes for threads in (1, 2)]
    keys = [k for k in order if k in kept["measured"]] + sorted(set(kept["measured"]) - set(order))
    lines = ["# Measured on " + kept["machine"].get("processor", "an unknown processor"), ""]
    lines += [f"- {name}: {value}" for name, value in kept["machine"].items()]
    for key in keys:
        entry = kept["measured"][key]
        lines += ["", f"## {entry['title']}", "", f"{entry['what']}, measured {entry['date']}", ""]
        head, *rows = table(entry)
        lines += [bar(head), bar("---" for _ in head), *map(bar, rows)]
    return "\n".join(lines) + "\n"


def bar(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def terminal(entry: dict[str, Any]) -> str:
    """One measurement as aligned columns."""
    rows = list(table(entry))
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = ["  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([f"{entry['title']} ({entry['what']})", *lines, ""])


def table(entry: dict[str, Any]) -> list[tuple[str, ...]]:
    """Head and rows of one measurement: of engines on a case, or of plain facts."""
    if "facts" in entry:
        return [("what", "value"), *((name, value) for name, value in entry["facts"].items())]
    ours = next((r.get("seconds") for r in entry["records"] if r["engine"] == "pairfuse"), None)
    return [HEAD, *(row(record, entry, ours) for record in entry["records"])]


def row(record: dict[str, Any], entry: dict[str, Any], ours: float | None) -> tuple[str, ...]:
    if "seconds" not in record:
        return (record["engine"], "failed: " + record["failed"].partition("\n")[0][:60], *[""] * (len(HEAD) - 2))
    seconds = record["seconds"]
    faster = f"{seconds / ours:.1f} x faster" if ours and record["engine"] != "pairfuse" else ""
    share = entry["operations"] * entry["pairs"] / seconds / entry["peak"]
    return (
        record["engine"],
        duration(seconds),
        f"{entry['pairs'] / seconds:.2e}",
        faster,
        f"{record['error']:.1e}" if "error" in record else record.get("failed", "")[:30],
        f"{100 * share:.0f} %",
        duration(record["first"]),
    )


def duration(seconds: float) -> str:
    """Three figures, in the unit that suits."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"
