"""The tuner behind `python -m pairfuse tune`: which tile runs fastest on this GPU, for the common kernels.

In: a device, a way to time a call.  Out: for each kernel the tiles that were tried and their times; the best ones are
kept in the file that tiles.py reads.  It is run offline, once for a GPU and a version of Triton: calls never measure
anything.  A tile counts only if its results are those of the tile that the table chooses.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..backends.triton.tile import FEWEST_ROWS, Tile
from ..backends.triton.wide import wide_of
from ..errors import PairfuseError
from ..ir.expr import Expr, call, input_
from ..lower.problem import Problem, Sizes
from . import device as gpu
from . import probe, tiles

Timer = Callable[[Callable[[], Any]], float]  # seconds of one call

# Another tile has to be this much faster before it replaces the chosen one: less is within what two runs differ by.
WORTH = 0.97
# Largest difference of two results, relative to the largest number of the result: two orders of float32 sums.
SAME = {"float32": 1e-4, "float64": 1e-10}
REPEATS = 5


@dataclass(frozen=True)
class TuneCase:
    """A kernel to tune: its problem, and the numbers of rows and columns it is timed on."""

    name: str
    problem: Problem
    rows: int
    columns: int


@dataclass(frozen=True)
class Trial:
    """A tile, and the seconds that it took; or why it was left out."""

    tile: Tile
    seconds: float | None
    note: str = ""

    @property
    def shape(self) -> tiles.Shape:
        return self.tile.rows, self.tile.cols, self.tile.warps


def _distance(size: int) -> Expr:
    return call("sqdist", input_(0, "i", size), input_(1, "j", size))


def _gaussian(size: int, **fields: Any) -> Problem:
    return Problem((call("exp", -_distance(size)) * input_(2, "j", 1),), "sum", "j", **fields)


def cases() -> list[TuneCase]:
    """The common kernels, the most common first."""
    b = input_(2, "j", 1)
    gradient = call("exp", -_distance(3)) * b * (input_(0, "i", 3) - input_(1, "j", 3))
    attention = Problem(
        (call("dot", input_(0, "i", 64), input_(1, "j", 64)), input_(2, "j", 64)), "sumsoftmaxweight", "j"
    )
    k = (("K", 10),)
    return [
        TuneCase("gaussian D=3", _gaussian(3), 200_000, 200_000),
        TuneCase("gaussian D=3 gradient", Problem((gradient,), "sum", "j"), 200_000, 200_000),
        TuneCase("logsumexp D=3", Problem((b - _distance(3),), "logsumexp", "j"), 200_000, 200_000),
        TuneCase("argKmin K=10 D=3", Problem((_distance(3),), "argKmin", "j", "float32", k), 200_000, 200_000),
        TuneCase("argmin D=3", Problem((_distance(3),), "argmin", "j"), 200_000, 200_000),
        TuneCase("gaussian D=64", _gaussian(64), 100_000, 100_000),
        TuneCase("gaussian D=64 fast", _gaussian(64, accuracy="fast"), 100_000, 100_000),
        TuneCase("logsumexp D=64", Problem((b - _distance(64),), "logsumexp", "j"), 100_000, 100_000),
        TuneCase("argmin D=128", Problem((_distance(128),), "argmin", "j"), 100_000, 50_000),
        TuneCase("attention D=64", attention, 65_536, 65_536),
        TuneCase("gaussian D=3 float64", _gaussian(3, dtype="float64"), 100_000, 100_000),
    ]


def candidates(tile: Tile, matrices: bool) -> Iterator[Tile]:
    """The chosen tile, then its neighbours: half and twice the rows and columns, other numbers of warps.

    matrices: do matrix units multiply, which need blocks of 16 rows at least?
    """
    yield tile
    least = FEWEST_ROWS if matrices else 1
    for rows in (tile.rows, tile.rows // 2, tile.rows * 2, tile.rows // 4, tile.rows * 4):
        for cols in (tile.cols, tile.cols * 2, tile.cols // 2):
            for warps in (tile.warps, tile.warps * 2, tile.warps // 2):
                other = replace(tile, rows=rows, cols=cols, warps=warps)
                if other != tile and rows >= least and cols >= max(least, 16) and 1 <= warps <= 16 and _fair(other):
                    yield other


def _fair(tile: Tile) -> bool:
    """Has a thread between 2 and 128 pairs, in tiles that Triton compiles in seconds?"""
    return 2 <= tile.rows * tile.cols / (32 * tile.warps) <= 128


def tune_case(case: TuneCase, tensors: Sequence[Any], device: Any, timer: Timer) -> list[Trial]:
    """Try the candidates. The first trial is the chosen tile."""
    import torch

    sizes = Sizes(case.rows, case.columns)
    found = gpu.program(case.problem, _now)
    chosen = gpu.tile_for(found, tensors, sizes, device)
    right: tuple[Any, ...] | None = None
    trials: list[Trial] = []
    for tile in candidates(chosen, bool(chosen.dots) or wide_of(found.kernel) is not None):
        try:
            prepared = gpu.ready(found, tensors, sizes, device, _now, tile=tile)

            def once(prepared: gpu.Ready = prepared) -> tuple[Any, ...]:
                return gpu.launched(torch, case.problem.reduction, prepared, tensors, device)

            outputs = once()
            right = right or outputs
            wrong = not all(_same(torch, a, b, case.problem.dtype) for a, b in zip(outputs, right, strict=True))
            trials.append(Trial(tile, None, "other results") if wrong else Trial(tile, timer(once)))
        except PairfuseError as error:  # too many registers, too much shared memory
            trials.append(Trial(tile, None, str(error).splitlines()[1].strip()))
    return trials


def _now(_: str, step: Callable[[], Any]) -> Any:
    return step()


def _same(torch: Any, a: Any, b: Any, dtype: str) -> bool:
    """Two results of one problem. Indices may differ where terms are equal but for rounding: rarely."""
    if not a.is_floating_point():
        return float((a != b).double().mean()) < 1e-3
    scale = float(b.abs().nan_to_num(0, 0, 0).max()) or 1.0
    return bool(torch.allclose(a, b, rtol=0, atol=SAME[dtype] * scale, equal_nan=True))


def best(trials: Sequence[Trial]) -> Trial:
    """The fastest trial, if that is worth a change; else the first one."""
    timed = [t for t in trials if t.seconds is not None]
    first = trials[0]
    if not timed:
        return first
    fastest = min(timed, key=lambda t: t.seconds or 0.0)
    if first.seconds is not None and (fastest.seconds or 0.0) > WORTH * first.seconds:
        return first
    return fastest


def class_of(case: TuneCase, trials: Sequence[Trial]) -> str:
    """The class of kernels that the trials speak for."""
    return tiles.kernel_class(case.problem, trials[0].tile)


def report(case: TuneCase, trials: Sequence[Trial]) -> str:
    """The trials as a table, the fastest first."""
    winner, pairs = best(trials), case.rows * case.columns
    lines = [f"{case.name}: {case.rows:,} x {case.columns:,}   ({class_of(case, trials)})"]
    order = sorted(trials, key=lambda t: float("inf") if t.seconds is None else t.seconds)
    for t in order:
        what = t.note if t.seconds is None else f"{t.seconds * 1e3:9.3f} ms  {pairs / t.seconds:.2e} pairs/s"
        marks = ["chosen now"] * (t is trials[0]) + ["best"] * (t is winner)
        rows, cols, warps = t.shape
        lines.append(f"  {rows:5} x {cols:<5} {warps:2} warps  {what}  {', '.join(marks)}".rstrip())
    return "\n".join(lines)


def run(
    names: Sequence[str],
    device: Any,
    timer: Timer,
    folder: str,
    seconds: float,
    show: Callable[[str], None],
    chosen: Sequence[TuneCase] | None = None,
) -> dict[str, tiles.Shape]:
    """Tune the cases whose names contain one of `names`; keep what is better in `folder`.

    seconds: no case is begun after that time. Returns the shapes that are better, by class.
    """
    start, found = time.monotonic(), {}
    for case in cases() if chosen is None else chosen:
        if names and not any(n in case.name for n in names):
            continue
        if time.monotonic() - start > seconds:
            show(f"{case.name}: no time left")
            continue
        trials = tune_case(case, arrays_of(case, device), device, timer)
        show(report(case, trials))
        if best(trials) is not trials[0]:
            found[class_of(case, trials)] = best(trials).shape
            if folder:  # after each, so that an interrupted run has kept what it found
                tiles.keep(folder, tiles.device_name(device), found)
    return found


def this_gpu() -> tuple[Any, str]:
    """The current GPU, or None and why there is none that can be used."""
    missing = probe.missing_packages()
    if missing:
        return None, f"{' and '.join(missing)} not installed ({probe.INSTALL})."
    import torch

    if not torch.cuda.is_available():
        return None, f"torch {torch.__version__} sees none; {probe.INFO}."
    if gpu.interpreting():
        return None, "TRITON_INTERPRET=1 runs kernels on the CPU; unset it."
    device = torch.device("cuda", torch.cuda.current_device())
    failure = probe.failure(device)
    return (device, "") if failure is None else (None, f"{failure.reason}; {failure.remedy}.")


def arrays_of(case: TuneCase, device: Any) -> list[Any]:
    """Random tensors for the inputs of a case."""
    import torch

    kind, rows = getattr(torch, case.problem.dtype), {"i": case.rows, "j": case.columns}
    generator = torch.Generator(device).manual_seed(0)
    shapes = [(rows[v.param("axis")], v.dim) for v in case.problem.inputs]
    return [torch.rand(s, generator=generator, device=device).to(kind) for s in shapes]


def cuda_timer(call: Callable[[], Any]) -> float:
    """The median of a few calls, by events of CUDA, after one that warms up."""
    import torch

    call()
    times: list[float] = []
    for _ in range(REPEATS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return sorted(times)[REPEATS // 2]
