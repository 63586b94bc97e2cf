"""The command ``python -m benchmarks.builds FOLDER``: is this build as fast as the one in FOLDER?

In: another checkout of the repository, for example of the commit before (``git worktree add FOLDER COMMIT``). Out: for
each case the seconds of both builds and their ratio, above 1 where this build is faster. The two live in processes of
their own and take turns, as the engines of the suite do (measure.py), so that a slow minute falls on both; the ratio is
the median of the ratios of neighbouring turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from benchmarks import startup
from benchmarks.cases import CASES, Case
from benchmarks.measure import PAUSE, ROOT, SHORTEST, Engine
from benchmarks.report import duration

STARTUP = "startup"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.builds", description="This build beside another.")
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"cases (default: all), or {STARTUP}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--shrink", type=int, default=1, help="divide all sizes, to try the command")
    args = parser.parse_intermixed_args()
    worst = 9.0
    print(f"{'case':24} {'this':>10} {'other':>10}  ratio")
    for case in CASES:
        for dtype in case.dtypes:
            if dtype in args.dtypes and (not args.names or case.name in args.names):
                smaller = case.smaller(args.shrink)
                ratio, mine, theirs = compare(smaller, dtype, args.threads, args.other, args.turns)
                worst = min(worst, ratio)
                line(f"{case.name} {dtype[5:]}", mine, theirs, ratio)
    if not args.names or STARTUP in args.names:
        for part, (ratio, mine, theirs) in first_calls(args.other, args.turns).items():
            line(f"{STARTUP} {part}", mine, theirs, ratio)
    if worst < 9:
        print(f"worst ratio of a case: {worst:.3f}")
    return 0


def line(name: str, mine: float, theirs: float, ratio: float) -> None:
    print(f"{name:24} {duration(mine):>10} {duration(theirs):>10}  {ratio:.3f}", flush=True)


def compare(case: Case, dtype: str, threads: int, other: Path, turns: int) -> tuple[float, float, float]:
    """The ratio (their seconds by ours) and the median seconds of both for one case."""
    with tempfile.TemporaryDirectory() as cache:  # one for each build: they must not share kernels
        roots = enumerate((ROOT, other))
        engines = [Engine("pairfuse", threads, sources=r / "src", cache=Path(cache, str(k))) for k, r in roots]
        try:
            times = 1
            for engine in engines:
                answer = engine.ask(do="prepare", case=asdict(case), dtype=dtype)
                if "failed" in answer:
                    raise RuntimeError(f"{case.name}: {answer['failed']}")
                warm = engine.ask(do="run", times=2)["seconds"]
                times = max(times, round(SHORTEST / max(warm, 1e-6)))
            return judged(*in_turns([lambda e=engine: _turn(e, times) for engine in engines], turns))
        finally:
            for engine in engines:
                engine.close()


def _turn(engine: Engine, times: int) -> float:
    time.sleep(PAUSE)
    engine.ask(do="run", times=1)
    return engine.ask(do="run", times=times)["seconds"]


T = TypeVar("T")


def in_turns(runs: Sequence[Callable[[], T]], turns: int) -> tuple[list[T], list[T]]:
    """What both runs returned; the first one goes first in every other turn."""
    samples: tuple[list[T], list[T]] = ([], [])
    for turn in range(turns):
        for k in (0, 1) if turn % 2 == 0 else (1, 0):
            samples[k].append(runs[k]())
    return samples


def judged(mine: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """The median of the ratios of neighbouring turns, and the median of both."""
    ratio = statistics.median(b / a for a, b in zip(mine, theirs, strict=True))
    return ratio, statistics.median(mine), statistics.median(theirs)


def first_calls(other: Path, turns: int) -> dict[str, tuple[float, float, float]]:
    """The same for the first calls in fresh processes: see startup.py."""
    runs = [lambda r=root: startup.measure("pairfuse", sys.executable, 1, r / "src") for root in (ROOT, other)]
    mine, theirs = in_turns(runs, turns)
    return {part: judged([run[part] for run in mine], [run[part] for run in theirs]) for part in mine[0]}


if __name__ == "__main__":
    sys.exit(main())
