"""Measures the errors of the vector functions and writes the table of docs/accuracy.md.

In: nothing, or the names of functions.  Out: `python tools/accuracy_table.py` rewrites the part of docs/accuracy.md
between its two marks; with names it only prints their rows; with `--every N NAME ...` it measures every N-th float32
there is (N = 1: all of them, minutes for each function and machine).

The package must be importable (`PYTHONPATH=src`), with the packages of the extra "dev".
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import vector_math as vm  # noqa: E402

from pairfuse.backends.llvm.math import MATH, MathFunction  # noqa: E402

MARKS = ("<!-- functions: begin, written by tools/accuracy_table.py -->", "<!-- functions: end -->")
COUNT = 1 << 18
SLOW = {("erf", "double"): 1 << 12, ("erfc", "double"): 1 << 12}  # the exact values come from mpmath


def measured(name: str, elem: str, labels: tuple[str, ...]) -> float:
    """The largest error over the machines, in ulps."""
    rng = np.random.default_rng(2024)
    args = vm.arguments(name, elem, SLOW.get((name, elem), COUNT), rng)
    with np.errstate(all="ignore"):
        exact = vm.reference(name)(*(a.astype(vm.wider(elem)) for a in args))
    machines = [m for m in vm.machines() if m.label in labels]
    return max(vm.worst(vm.vector_function(name, elem, m, 2)(*args), exact, args)[0] for m in machines)


def row(function: MathFunction) -> str:
    columns = [measured(function.name, elem, ("avx512", "avx2")) for elem in ("float", "double")]
    bounds = (function.max_ulp_float, function.max_ulp_double)
    cells = [f"{error:.2f} ({bound:g})" for error, bound in zip(columns, bounds, strict=True)]
    return f"| `{function.name}` | {cells[0]} | {cells[1]} | {function.note} |"


def table() -> Iterator[str]:
    yield "| function | float32: largest error (bound) | float64: largest error (bound) | remark |"
    yield "|---|---|---|---|"
    for function in sorted(MATH.values(), key=lambda f: f.name):
        print(function.name, file=sys.stderr, flush=True)
        yield row(function)


def rewrite(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    path.write_text(before + "\n".join([MARKS[0], "", *table(), "", MARKS[1]]) + after, encoding="utf-8")


def every_float(name: str, machine: vm.Machine, step: int) -> tuple[float, str]:
    """The largest error over the float32 numbers 0, step, 2 step ... in the order of their bits."""
    f = vm.vector_function(name, "float", machine, 2)
    exact = vm.reference(name)
    largest, where = 0.0, ""
    for start in range(0, 1 << 32, step << 22):
        bits = np.arange(start, min(start + (step << 22), 1 << 32), step, dtype=np.uint32)
        x = bits.view(np.float32)
        with np.errstate(all="ignore"):
            error, text = vm.worst(f(x), exact(x.astype(np.float64)), [x])
        if error > largest:
            largest, where = error, text
    return largest, where


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--every", type=int, default=0, metavar="N", help="measure every N-th float32")
    parser.add_argument("--machine", action="append", help="which of the machines of tests/vector_math.py")
    options = parser.parse_args()
    if options.every:
        for name in options.names:
            for machine in vm.machines():
                if machine.label in (options.machine or ["avx512", "avx2"]):
                    error, where = every_float(name, machine, options.every)
                    print(f"{name} {machine.label}: {error:.3f} ulp {where}", flush=True)
    elif options.names:
        print("\n".join(row(MATH[name]) for name in options.names))
    else:
        rewrite(ROOT / "docs" / "accuracy.md")


if __name__ == "__main__":
    main()
