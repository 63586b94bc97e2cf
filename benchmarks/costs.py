"""The command ``python -m benchmarks.costs``: what `K.cost()` expects beside what is measured, for the suite.

In: names of cases, see ``--help``. Out: a line for each reduction of each case, with its expected and its measured
seconds (the fastest of some calls, the making of the formula included), and which of them lie farthest apart. Of the
cases with gradients these are the passes forwards; of the iterations of Sinkhorn, the two of one step.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from benchmarks import blocks
from benchmarks.cases import CASES, Case
from benchmarks.data import arrays
from benchmarks.formulas import squared_distances
from benchmarks.report import duration
from benchmarks.worker import as_tensors
from pairfuse import config

SECONDS = 1.0  # of the calls of one line, together
FEWEST, MOST = 3, 300


class Question(NamedTuple):
    """A reduction of a formula: its name in the table and as a method, its axis, what else it takes."""

    formula: Any
    reduction: str = "sum"
    dim: int = 1
    other: Any = None
    K: int = 1

    def cost(self) -> Any:
        return self.formula.cost(self.reduction, self.dim, other=self.other, K=self.K)

    def compute(self) -> Any:
        method = getattr(self.formula, self.reduction)
        more = [] if self.other is None else [self.other]
        return method(*more, dim=self.dim, **({"K": self.K} if self.K > 1 else {}))


def kernel(lazy: Any, x: Any, y: Any) -> Any:
    return (-squared_distances(lazy, x, y)).exp()


def block_sparse(lazy: Any, case: Case, x: Any, y: Any, b: Any) -> Question:
    formula = kernel(lazy, x, y) * lazy(b[None, :, :])
    formula.ranges = blocks.ranges(case)
    return Question(formula)


def dots(lazy: Any, x: Any, y: Any) -> Any:
    return lazy(x[:, None, :]) | lazy(y[None, :, :])


def potential(lazy: Any, x: Any, y: Any, axis: int) -> Any:
    """The terms of one half of a step of Sinkhorn's algorithm, with the potential 0 of the points of this axis."""
    zero = x[:, None, :1] * 0 if axis == 0 else y[None, :, :1] * 0
    return lazy(zero) - squared_distances(lazy, x, y)


# The reductions of each formula of the suite, as they are asked for.
QUESTIONS: dict[str, tuple[Callable[..., Question], ...]] = {
    "gaussian": (lambda lazy, case, x, y, b: Question(kernel(lazy, x, y) * lazy(b[None, :, :])),),
    "block_sparse": (block_sparse,),
    "logsumexp": (lambda lazy, case, x, y: Question(-squared_distances(lazy, x, y), "logsumexp"),),
    "argmin": (lambda lazy, case, x, y: Question(squared_distances(lazy, x, y), "argmin"),),
    "argkmin": (lambda lazy, case, x, y: Question(squared_distances(lazy, x, y), "argKmin", K=case.K),),
    "density_gradient": (lambda lazy, case, x, y, w: Question(kernel(lazy, x, y)),),
    "sinkhorn_gradient": (
        lambda lazy, case, x, y: Question(potential(lazy, x, y, 1), "logsumexp", 1),
        lambda lazy, case, x, y: Question(potential(lazy, x, y, 0), "logsumexp", 0),
    ),
    "attention": (
        lambda lazy, case, x, y, b: Question(dots(lazy, x, y), "sumsoftmaxweight", other=lazy(b[None, :, :])),
    ),
    "fourier": (lambda lazy, case, x, y, c: Question(dots(lazy, x, y).exp1j() * lazy(c[None, :, :])),),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.costs", description="Expected times beside measured.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="cases (default: all)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    parser.add_argument("--shrink", type=int, default=1, help="divide all sizes, to try the command")
    args = parser.parse_intermixed_args()
    head = f"{'operations':>10} {'of limit':>8} {'expected':>10} {'measured':>10}  ratio"
    print(f"{'case, type, threads':38} {head}")
    worst = (1.0, "none")
    for name, threads, ask in questions(args):
        with config.override(threads=threads):
            question = ask()
            seconds = fastest(lambda ask=ask: ask().compute())
            cost = question.cost()
        ratio = cost.seconds / seconds
        figures = f"{cost.operations:10.1f} {cost.share:8.0%} {duration(cost.seconds):>10} {duration(seconds):>10}"
        print(f"{name:38} {figures}  {ratio:5.2f}", flush=True)
        worst = max(worst, (max(ratio, 1 / ratio), name))
    print(f"farthest from what is measured: {worst[1]}, {worst[0]:.2f} times")
    return 0


def questions(args: argparse.Namespace) -> Iterator[tuple[str, int, Callable[[], Question]]]:
    """Each reduction of the cases asked for: its name, the threads, and what makes its formula anew."""
    for case in (case.smaller(args.shrink) for case in CASES if not args.names or case.name in args.names):
        lazy = importlib.import_module(f"pairfuse.{case.face}").LazyTensor
        for dtype in (d for d in case.dtypes if d in args.dtypes):
            data = arrays(case, dtype)
            data = as_tensors(data) if case.face == "torch" else data
            for k, question in enumerate(QUESTIONS[case.formula]):
                for threads in args.threads:
                    name = f"{case.name}{f' ({k + 1})' if k else ''} {dtype} {threads}"
                    yield name, threads, lambda q=question, c=case, d=data, z=lazy: q(z, c, **d)


def fastest(call: Callable[[], Any]) -> float:
    """Seconds of the fastest call, after one that compiles."""
    call()
    times: list[float] = []
    while len(times) < FEWEST or (sum(times) < SECONDS and len(times) < MOST):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


if __name__ == "__main__":
    sys.exit(main())
