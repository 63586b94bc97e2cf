"""The command ``python -m benchmarks.costs``: what `K.cost()` expects beside what is measured, for the suite.

In: names of cases, see ``--help``. Out: a line for each reduction that the formulas of the cases compute themselves, with
its expected and its measured seconds (the fastest of a few calls), and the worst ratio of the two. Of gradients only the
passes forwards are asked; of the iterations of Sinkhorn, one step.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from benchmarks.cases import CASES, Case
from benchmarks.data import arrays
from benchmarks.formulas import squared_distances
from benchmarks.report import duration
from benchmarks.worker import as_tensors
from pairfuse import config

SECONDS = 1.0  # for the calls of one line
FEWEST, MOST = 3, 200


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.costs", description="Expected times beside measured.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="cases (default: all)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    parser.add_argument("--shrink", type=int, default=1, help="divide all sizes, to try the command")
    args = parser.parse_intermixed_args()
    print(f"{'case':34} {'operations':>10} {'limit':>6} {'expected':>10} {'measured':>10}  ratio")
    worst = (1.0, "none")
    for name, formula, case, reduction in questions(args):
        expected = formula().cost(**reduction_arguments(reduction))
        seconds = fastest(lambda: reduction_of(formula(), reduction))
        ratio = expected.seconds / seconds
        figures = f"{expected.operations:10.1f} {expected.share:6.0%} {duration(expected.seconds):>10}"
        print(f"{name:34} {figures} {duration(seconds):>10}  {ratio:.2f}", flush=True)
        worst = max(worst, (max(ratio, 1 / ratio), name))
    print(f"farthest from measured: {worst[0]:.2f} times, {worst[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
