"""Compiles the common kernels for GPUs that need not be there: registers, spills, shared memory, instructions per pair.

In: names of kernels (none: all of them), and how they are made.  Out: a table on the terminal, JSON with `--json`;
`--write` renews the part of docs/gpu.md between its two marks.  The tests read the JSON.

    python tools/gpu_registers.py gaussian argmin --capability 80 --rows 16

The package must be importable (`PYTHONPATH=src`), with the packages of the extra "gpu".
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "0"  # read when triton is first imported: here it is to compile

from pairfuse.backends.triton.offline import reports
from pairfuse.backends.triton.tile import Tile, choose, component_block, is_list, widened
from pairfuse.ir.expr import Expr, call, index, input_
from pairfuse.ir.ops import TABLE  # noqa: F401
from pairfuse.lower.kernel import Kernel
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.runtime.gpu_program import program

PAGE = Path(__file__).resolve().parent.parent / "docs" / "gpu.md"
MARKS = ("<!-- registers: begin, written by tools/gpu_registers.py -->", "<!-- registers: end -->")
PROCESSORS = 132  # of an H100 or H200
COLUMNS = 10**6


def vectors(d: int) -> tuple[Expr, Expr]:
    return input_(0, "i", d), input_(1, "j", d)


def distance(d: int) -> Expr:
    return call("sqdist", *vectors(d))


def gaussian(d: int) -> Expr:
    return call("exp", -distance(d))


def gradient(d: int) -> Expr:
    x, y = vectors(d)
    return gaussian(d) * input_(2, "j", 1) * (x - y)


B, WIDE = input_(2, "j", 1), input_(2, "j", 64)
NUMBERED = call("where", call("eq", index("i"), index("j")), 0.0, distance(3))
NEAREST = (("K", 10),)
# "strict", and what the title says beyond the name.
GOLDEN: dict[str, tuple[str, Problem]] = {
    "gaussian": ("Gaussian sum, D=3", Problem((gaussian(3) * B,), "sum", "j")),
    "gradient": ("its gradient, D=3", Problem((gradient(3),), "sum", "j")),
    "logsumexp": ("log-sum-exp, D=3", Problem((B - distance(3),), "logsumexp", "j")),
    "argmin": ("argmin, D=3", Problem((distance(3),), "argmin", "j")),
    "neighbours": ("10 nearest, D=3", Problem((distance(3),), "argKmin", "j", "float32", NEAREST)),
    "numbers": ("sum over i without its diagonal, D=3", Problem((NUMBERED,), "sum", "i")),
    "gaussian32": ("Gaussian sum, D=32", Problem((gaussian(32) * B,), "sum", "j")),
    "gaussian64": ("Gaussian sum, D=64", Problem((gaussian(64) * B,), "sum", "j")),
    "gaussian128": ("Gaussian sum, D=128", Problem((gaussian(128) * B,), "sum", "j")),
    "gaussian784": ("Gaussian sum, D=784", Problem((gaussian(784) * B,), "sum", "j")),
    "gradient64": ("its gradient, D=64", Problem((gradient(64),), "sum", "j")),
    "gradient128": ("its gradient, D=128", Problem((gradient(128),), "sum", "j")),
    "gradient784": ("its gradient, D=784", Problem((gradient(784),), "sum", "j")),
    "logsumexp64": ("log-sum-exp, D=64", Problem((B - distance(64),), "logsumexp", "j")),
    "argmin128": ("argmin, D=128", Problem((distance(128),), "argmin", "j")),
    "neighbours64": ("10 nearest, D=64", Problem((distance(64),), "argKmin", "j", "float32", NEAREST)),
    "product": ("K @ B, 64 columns, D=3", Problem((gaussian(3) * WIDE,), "sum", "j")),
    "attention": ("attention, D=64", Problem((call("dot", *vectors(64)) * 0.125, WIDE), "sumsoftmaxweight", "j")),
    "double": ("Gaussian sum, D=3, float64", Problem((gaussian(3) * B,), "sum", "j", "float64")),
}


def measured(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """What the functions of a kernel cost, and its tile."""
    problem = dataclasses.replace(GOLDEN[name][1], accuracy=options.accuracy)
    kernel = program(problem, lambda _, step: step()).kernel
    types = (options.storage,) * len(problem.inputs) if options.storage else ()
    m, n = (options.rows, COLUMNS) if problem.over == "j" else (COLUMNS, options.rows)
    tile = choose(kernel, Sizes(m, n), 0, 3 * COLUMNS, PROCESSORS, types, options.capability)
    tile = changed(tile, kernel, options)
    if is_list(kernel) and not tile.dots:  # launch.py stores the columns by component
        tile = dataclasses.replace(tile, columns="adjacent")
    found = reports(kernel, tile, options.capability, options.storage or None)
    pairs = tile.rows * tile.cols / (32 * tile.warps)
    costs = {k: dataclasses.asdict(r) for k, r in found.items()}
    _, blocks = component_block(kernel)
    return {"tile": f"{tile.rows} x {tile.cols}, {tile.warps}", "pairs": pairs, "blocks": blocks, "functions": costs}


def changed(tile: Tile, kernel: Kernel, options: argparse.Namespace) -> Tile:
    """The tile of a streamed, of a very large problem; or another shape, to try it."""
    tile = dataclasses.replace(tile, carried=options.carried)
    tile = widened(tile, kernel) if options.wide else tile
    if options.shape:
        rows, cols, warps = options.shape
        tile = dataclasses.replace(tile, rows=rows, cols=cols, warps=warps)
    return dataclasses.replace(tile, listed=True, split=False, dots="") if options.listed else tile


def table(names: list[str], options: argparse.Namespace) -> Iterator[str]:
    yield "| kernel | tile, warps | registers | spilled bytes | shared bytes | instructions per pair | times |"
    yield "|---|---|---|---|---|---|---|"
    for name in names:
        found = measured(name, options)
        print(name, found, file=sys.stderr, flush=True)
        cost = found["functions"]["kernel"]
        loop = f"{cost['loop'] / found['pairs']:.1f}"
        memory = (cost["spilled_bytes"], cost["shared_bytes"])
        cells = [GOLDEN[name][0], found["tile"], cost["registers"], *memory, loop, found["blocks"]]
        yield "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(GOLDEN))
    parser.add_argument("--capability", type=int, default=90, help="of the GPU: 80, 90")
    parser.add_argument("--rows", type=int, default=10**6, help="few of them: the columns are shared by programs")
    parser.add_argument("--storage", default="", help="type of the arrays: float16, bfloat16")
    parser.add_argument("--accuracy", default="strict", choices=["strict", "fast"])
    parser.add_argument("--shape", type=int, nargs=3, metavar=("ROWS", "COLS", "WARPS"), help="another tile")
    parser.add_argument("--carried", action="store_true", help="as streamed data is computed")
    parser.add_argument("--wide", action="store_true", help="with offsets of 64 bits")
    parser.add_argument("--listed", action="store_true", help="with block-sparse ranges")
    parser.add_argument("--json", action="store_true", help="print JSON, by name")
    parser.add_argument("--write", action="store_true", help="renew the table of docs/gpu.md")
    options = parser.parse_args()
    names = options.names or list(GOLDEN)
    if options.json:
        print(json.dumps({name: measured(name, options) for name in names}))
    elif options.write:
        text = PAGE.read_text(encoding="utf-8")
        before, rest = text.split(MARKS[0])
        after = rest.split(MARKS[1])[1]
        PAGE.write_text(
            before + "\n".join([MARKS[0], "", *table(names, options), "", MARKS[1]]) + after, encoding="utf-8"
        )
    else:
        print("\n".join(table(names, options)))


if __name__ == "__main__":
    main()
