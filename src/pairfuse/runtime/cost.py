"""What a reduction costs: instructions per pair, bytes, the time to expect, the share of the machine's limit.

In: a problem, and its sizes if they are known.  Out: a `Cost`.  Instructions are counted (backends/llvm/work.py) and
multiplied by how often the parts of the kernel run, which follows from the tasks that a call of these sizes is cut
into.  How many of them this machine does in a second is measured once for each type and number of threads, when a time
is asked for: by short runs of a kernel of known length.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..backends.llvm.launch import Launch
from ..backends.llvm.launch_blocks import BlockLaunch
from ..backends.llvm.work import Count, Taken, Work, work_of
from ..config import config
from ..dtypes import RESULT_DTYPES
from ..ir.expr import call, input_
from ..lower.kernel import Kernel
from ..lower.problem import Problem, Sizes
from ..lower.schedule import Schedule, SizeClass
from . import execute
from .limits import fma_peak

COMMON = SizeClass(few_rows=False, split=False, wide_index=False)


@dataclass(frozen=True, repr=False)
class Cost:
    """What one reduction costs on the CPU; what is not known is None.

    pairs       pairs (i, j) that take part, of all batches
    operations  vector instructions per pair, each for one of its lanes: a multiply-add is one, functions are as many as
                they are made of; of a reduction that keeps the first K, with the insertions that random data needs
    moves       loads and stores per pair, which run beside the operations
    read        bytes of the inputs
    written     bytes of the results
    working     bytes of memory that the threads use meanwhile: never of the order of M N
    threads     that take part
    seconds     expected duration of a warm call
    share       operations of all pairs, as a part of the multiply-adds that the machine does in these seconds; a little
                above 1 where processors have units that add beside those that multiply
    note        why there is no time
    """

    operations: float
    moves: float
    pairs: int | None = None
    read: int | None = None
    written: int | None = None
    working: int | None = None
    threads: int | None = None
    seconds: float | None = None
    share: float | None = None
    note: str = ""

    def __str__(self) -> str:
        lines = [f"per pair  {self.operations:.4g} vector operations, {self.moves:.3g} loads and stores"]
        if self.pairs is not None:
            lines.append(f"pairs     {self.pairs:,}")
        if self.read is not None and self.written is not None and self.working is not None:
            sizes = (f"{_size(self.read)} read", f"{_size(self.written)} written", f"{_size(self.working)} to work in")
            lines.append(f"memory    {', '.join(sizes)}")
        if self.seconds is not None:
            of = "" if self.share is None else f", {self.share:.0%} of the limit of multiply-adds"
            threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
            lines.append(f"time      {_duration(self.seconds)} expected on {threads}{of}")
        if self.note:
            lines.append(f"time      not known: {self.note}")
        return "\n".join(lines)

    __repr__ = __str__


def _size(count: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} bytes"


def _duration(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


# ---------------------------------------------------------------------- without sizes


def count(problem: Problem) -> Cost:
    """The instructions per pair, for the common class of sizes; nothing is run."""
    program = execute.program(problem)
    compiled = program.by_class.get(COMMON) or program.compile(COMMON)
    work = work_of(compiled.kernel, compiled.schedule, compiled.target)
    found = _per_pair(work, taken(compiled.kernel, compiled.schedule, math.inf))
    return Cost(found.arithmetic, found.moves, note="the sizes are not known")


def _per_pair(work: Work, branches: Taken) -> Count:
    return work.step.total(branches) * (work.schedule.lanes / work.pairs)


# ---------------------------------------------------------------------- with sizes


def estimate(problem: Problem, sizes: Sizes, read: int, overhead: Callable[[], float] | None, note: str = "") -> Cost:
    """The cost of a call.

    read: bytes of the inputs; overhead: measures the seconds of a call of hardly any pairs; None: no time is asked for,
    and `note` says why.
    """
    thread_count = config.thread_count
    program = execute.program(problem)
    kept = sizes.along(problem.kept) * math.prod(sizes.batch)
    written = kept * _bytes_of_row(problem, program.output_dims)
    if 0 in (*sizes.batch, sizes.along(problem.rows), sizes.along(problem.columns)):
        nothing = replace(count(problem), pairs=0, read=read, written=written, working=0, threads=1, note=note)
        return nothing if overhead is None else replace(nothing, seconds=overhead())
    compiled = program.compiled(sizes, thread_count)
    launch = _launch(compiled, problem, sizes, thread_count)
    work = work_of(compiled.kernel, compiled.schedule, compiled.target)
    columns = max(1.0, launch.pairs / launch.batches / max(1, launch.kept))
    branches = taken(compiled.kernel, compiled.schedule, columns if launch.parts == 1 else columns / launch.parts)
    pair = _per_pair(work, branches)
    threads = 1 if launch.work < execute.INLINE_WORK else min(thread_count, len(launch.tasks))
    working = threads * _scratch(launch) + launch.state.nbytes
    found = Cost(pair.arithmetic, pair.moves, launch.pairs, read, written, working, threads, note=note)
    if overhead is None:
        return found
    divides = any(c.divisions for c in (work.step.total(branches), work.block, work.tile, work.column))
    rates = _rates(problem.dtype, threads, divides)
    parts = Slots.of(work, branches, rates)
    slots = [parts.of_task(launch, task) for task in launch.tasks]
    seconds = overhead() + max(sum(slots), threads * max(slots)) / rates.slots
    limit = _limit(problem.dtype, threads)
    return replace(found, seconds=seconds, share=launch.pairs * pair.arithmetic / seconds / limit)


def _bytes_of_row(problem: Problem, dims: Sequence[int]) -> int:
    types = [RESULT_DTYPES.get(kind, problem.dtype) for _, kind in problem.record.outputs]
    return sum(dim * np.dtype(dtype).itemsize for dim, dtype in zip(dims, types, strict=True))


def _launch(compiled: Any, problem: Problem, sizes: Sizes, thread_count: int) -> Launch:
    """The call as it would be cut into tasks: on arrays of these shapes without memory of their own."""
    one = np.zeros(1, problem.dtype)
    shapes = [
        (*sizes.batch, v.dim) if v.param("axis") == "p" else (*sizes.batch, sizes.along(v.param("axis")), v.dim)
        for v in problem.inputs
    ]
    arrays = [np.broadcast_to(one, shape) for shape in shapes]
    outputs = [one] * len(problem.record.outputs)
    kind = Launch if sizes.ranges is None else BlockLaunch
    return kind(compiled.binary, compiled.layout, arrays, outputs, sizes, thread_count)


def _scratch(launch: Launch) -> int:
    """Bytes of one thread."""
    layout = launch.layout
    if launch.shared:
        return layout.fixed_bytes
    rows = launch.tables.rows if isinstance(launch, BlockLaunch) else max(t.rows[1] - t.rows[0] for t in launch.tasks)
    return layout.fixed_bytes + layout.state_bytes(rows)


# ---------------------------------------------------------------------- how often branches are taken


def taken(kernel: Kernel, schedule: Schedule, columns: float) -> Taken:
    """How often the branches of the reduction are taken in a step, if the terms come in random order.

    Column j is one of the K first so far with the chance K / j. A branch is taken if that is so for one of the pairs
    that it asks: first those of all columns of a step, then those of each column. Other guards hold at the start only.
    """
    machine = kernel.machine
    if not machine.by_column:
        return (0.0, 0.0)
    length = kernel.terms[0].dim
    first = max(1, kernel.slots[0].dim // length)
    lanes = schedule.lanes if schedule.lanes_on == "reduced" else 1  # each of them sees a part of the columns
    of_column = _chance(first, schedule.rows * schedule.lanes * length, columns / lanes)
    if schedule.cols == 1:
        return (of_column,)
    of_step = _chance(first, schedule.rows * schedule.cols * schedule.lanes * length, columns / lanes)
    return (of_step, of_column / of_step if of_step else 0.0)


def _chance(first: int, asked: int, columns: float) -> float:
    """The mean over the columns j of min(1, asked * first / j)."""
    sure = asked * first
    if columns <= sure:
        return 1.0
    return 0.0 if columns == math.inf else (sure + sure * math.log(columns / sure)) / columns


# ---------------------------------------------------------------------- slots: operations, and what counts like them


# In slots, on processors of the last ten years: they add two to four vectors in the time of one or two loads or of a
# store (sums in memory take one of each), and take some 20 cycles to turn round at a branch that they took wrongly.
MOVE = 2
MISS = 40


@dataclass(frozen=True)
class Rates:
    """What a machine does: slots per second, of all threads together; the slots that a division takes."""

    slots: float
    division: float = 1.0


@dataclass(frozen=True)
class Slots:
    """The slots of the parts of a kernel (`Work` says what these are)."""

    step: float
    rest: float
    block: float
    tile: float
    column: float
    schedule: Schedule

    @classmethod
    def of(cls, work: Work, branches: Taken, rates: Rates) -> Slots:
        """Loads and stores run beside the arithmetic of a loop; in short pieces of code they come after it."""

        def arithmetic(c: Count) -> float:
            return c.operations + c.divisions * rates.division

        step, rest = work.step.total(branches), work.rest.total(branches[:1])
        return cls(
            max(arithmetic(step), MOVE * step.moves) + _misses(branches, work.schedule.cols),
            max(arithmetic(rest), MOVE * rest.moves),
            arithmetic(work.block) + work.block.moves,
            arithmetic(work.tile) + work.tile.moves,
            arithmetic(work.column) + work.column.moves,
            work.schedule,
        )

    def of_tile(self, columns: Any) -> Any:
        """Of a tile of rows over so many packed columns: a number, or an array of them."""
        schedule = self.schedule
        left = columns % schedule.tile_cols
        rest = left if schedule.lanes_on == "kept" else -(-left // schedule.lanes)
        blocks = -(-columns // schedule.block)
        return columns // schedule.tile_cols * self.step + rest * self.rest + blocks * self.block + self.tile

    def of_task(self, launch: Launch, task: Any) -> float:
        """Of a task: its tiles over all columns, and the packing of these."""
        batches = task.batches[1] - task.batches[0]
        if isinstance(launch, BlockLaunch):
            return batches * self._of_blocks(launch.tables.fills[:, 2], launch.tables.blocks[slice(*task.rows)])
        columns = task.cols[1] - task.cols[0]
        whole, left = divmod(columns, self.schedule.chunk)
        tile = whole * self.of_tile(self.schedule.chunk) + (self.of_tile(left) if left else 0)
        return batches * (-(-(task.rows[1] - task.rows[0]) // self.schedule.tile_rows) * tile + columns * self.column)

    def _of_blocks(self, fills: np.ndarray, blocks: np.ndarray) -> float:
        """Of blocks of rows, each with its fills of packed columns (listed.py)."""
        rows, stop, first, last = blocks.T
        tiles = -(-(stop - rows) // self.schedule.tile_rows)
        of_fills, columns = (np.concatenate(([0], np.cumsum(x))) for x in (self.of_tile(fills), fills))
        return float(
            (tiles * (of_fills[last] - of_fills[first]) + self.column * (columns[last] - columns[first])).sum()
        )


def _misses(branches: Taken, columns: int) -> float:
    """The slots of a step that are lost because the processor went the other way at a branch."""
    first, *within = branches
    return MISS * 2 * (first * (1 - first) + first * sum(columns * p * (1 - p) for p in within))


# ---------------------------------------------------------------------- what the machine does, measured when asked

ROWS, COLUMNS, LENGTH = 1024, 1024, 10  # of a kernel between short and long ones: a million pairs for each thread
RUNS = 10
LIMIT_SECONDS, LIMIT_RUNS, LIMIT_CHAINS = 0.001, 3, (10, 12)

_measured: dict[tuple[str, int, str], float] = {}
_divisions: dict[tuple[str, int, str], float] = {}
_limits: dict[tuple[str, int], float] = {}


def _rates(dtype: str, threads: int, divides: bool) -> Rates:
    """The rates of this machine, measured at their first use; a kernel that does not divide needs only the first."""
    key = (dtype, threads, config.instructions)
    distance, weight = call("sqdist", input_(0, "i", LENGTH), input_(1, "j", LENGTH)), input_(2, "j", 1)
    if key not in _measured:
        slots, seconds = _run(Problem((call("exp", -distance) * weight,), "sum", "j", dtype), threads, Rates(1.0))
        _measured[key] = slots / seconds
    if divides and key not in _divisions:
        problem = Problem((weight / (1 + distance),), "sum", "j", dtype)
        others, seconds = _run(problem, threads, Rates(1.0, 0.0))
        divisions = _slots(problem, threads, Rates(1.0, 1.0))[0] - others
        _divisions[key] = max(1.0, (seconds * _measured[key] - others) / divisions)
    return Rates(_measured[key], _divisions.get(key, 1.0))


def _limit(dtype: str, threads: int) -> float:
    """Multiply-adds per second, in numbers."""
    if (dtype, threads) not in _limits:
        _limits[dtype, threads] = fma_peak(dtype, threads, LIMIT_SECONDS, LIMIT_RUNS, LIMIT_CHAINS)
    return _limits[dtype, threads]


def _slots(problem: Problem, threads: int, rates: Rates) -> tuple[float, Sizes]:
    """The slots of a kernel on sizes for a measurement."""
    sizes = Sizes(ROWS, COLUMNS * threads)
    compiled = execute.program(problem).compiled(sizes, threads)
    launch = _launch(compiled, problem, sizes, threads)
    work = work_of(compiled.kernel, compiled.schedule, compiled.target)
    parts = Slots.of(work, (0.0, 0.0), rates)
    return sum(parts.of_task(launch, task) for task in launch.tasks), sizes


def _run(problem: Problem, threads: int, rates: Rates) -> tuple[float, float]:
    """The slots of a kernel, and the seconds of its fastest run."""
    slots, sizes = _slots(problem, threads, rates)
    random = np.random.default_rng(0)
    shapes = [(sizes.along(v.param("axis")), v.dim) for v in problem.inputs]
    arrays = [random.standard_normal(shape).astype(problem.dtype) for shape in shapes]
    with config.override(threads=threads):
        fastest = min(
            _seconds(lambda: execute.execute(problem, arrays, sizes, backend="llvm", progress=False))
            for _ in range(RUNS)
        )
    return slots, fastest


def _seconds(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin
