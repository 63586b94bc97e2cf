"""Cuts a call into tasks for threads, and runs one task.

In: a compiled kernel, arrays, sizes.  Out: a `Launch`, whose tasks may run in any order on any thread, and whose
`complete` merges what tasks that shared rows have left.  Nothing here starts a thread.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...lower.problem import Sizes
from . import layout as words
from .compile import Binary
from .layout import Layout

# Less work than this is not worth a task of its own.
TASK_WORK = 2**23
# Every task packs all columns: with fewer rows than this, packing takes more than a few percent of the time
# (benchmarks/NOTES.md, "Tasks").
TASK_ROWS = 512
# Long calls are cut finer than that, so that a progress bar moves.
LONG_TASK = 2**31
# Tasks per thread: enough for a bar to move and for the last thread to end soon.
TASKS_PER_THREAD = 4
NO_OFFSETS = np.zeros(64, np.int64)
STATE_SLACK = 1024  # the last vector of state may be read beyond its end
STATE_LIMIT = 32 * 2**20  # bytes of state of one task


@dataclass(frozen=True, slots=True)
class Task:
    """A rectangle of rows and columns of a range of batches; `part` numbers the tasks that share rows."""

    rows: tuple[int, int]
    cols: tuple[int, int]
    batches: tuple[int, int]
    part: int


class Launch:
    """One call of a kernel."""

    def __init__(
        self,
        binary: Binary,
        layout: Layout,
        arrays: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        sizes: Sizes,
        threads: int,
    ):
        self.binary, self.layout, self.schedule = binary, layout, layout.schedule
        self.sizes = sizes
        problem = layout.kernel.problem
        self.kept, self.reduced = sizes.along(problem.rows), sizes.along(problem.columns)
        self.both = problem.both
        self.batches = math.prod(sizes.batch)
        self.cancel = np.zeros(1, np.int32)
        self.pairs = self.kept * self.reduced * self.batches
        self.work = self.pairs * layout.work_per_pair
        self.tasks, self.parts = self._cut(threads)
        self.offsets = _offsets(arrays, layout.inputs, sizes.batch, self.batches)
        self.base = self._words(arrays, outputs)
        self._keep = (arrays, outputs)
        self.state = np.empty(0, np.uint8)
        if self.shared:
            self.part_units = layout.units(self.kept)
            self.state_bytes = 8 * layout.state_components * self.parts * self.part_units + STATE_SLACK
            self.state = np.empty(self.batches * self.state_bytes, np.uint8)

    # ------------------------------------------------------------------ cutting
    def _cut(self, threads: int) -> tuple[list[Task], int]:
        if self.both:
            return self._cut_both(threads)
        # with batches enough for all threads nobody shares the columns of a row, and a task takes many batches
        self.shared = self.schedule.split and self.batches < TASKS_PER_THREAD * threads
        if self.shared:
            return self._cut_columns(threads)
        return self._cut_rows(threads), 1

    def _cut_both(self, threads: int) -> tuple[list[Task], int]:
        """Rectangles of pairs, each with one tile of state whatever its size; or ranges of whole batches."""
        wanted = self._pieces(threads)
        self.shared = self.batches < wanted
        if not self.shared:
            step = -(-self.batches // wanted)
            every = range(0, self.batches, step)
            return [Task((0, self.kept), (0, self.reduced), (b, min(b + step, self.batches)), 0) for b in every], 1
        room = STATE_LIMIT // (8 * self.layout.state_components * self.layout.units(self.kept))
        per_batch = max(1, min(-(-wanted // self.batches), max(threads, room)))
        by_rows = min(per_batch, max(1, self.kept // TASK_ROWS))
        rows = _cuts(self.kept, by_rows, self.schedule.tile_rows)
        columns = _cuts(self.reduced, -(-per_batch // len(rows)), self.schedule.block)
        parts = list(enumerate((r, c) for r in rows for c in columns))
        return [Task(r, c, (b, b + 1), p) for b in range(self.batches) for p, (r, c) in parts], len(parts)

    def _pieces(self, threads: int, most: float = math.inf) -> int:
        """How many tasks are worth it: a few for each thread, more of them where a call takes long."""
        pieces = int(min(self.work // TASK_WORK + 1, most))
        if pieces > TASKS_PER_THREAD * threads:
            pieces = max(TASKS_PER_THREAD * threads, min(pieces, self.work // LONG_TASK))
        return pieces

    def _cut_columns(self, threads: int) -> tuple[list[Task], int]:
        unit = self.schedule.block
        wanted = max(1, min(TASKS_PER_THREAD * threads, self.work // TASK_WORK + 1, -(-self.reduced // unit)))
        step = -(-self.reduced // (wanted * unit)) * unit
        cuts = list(range(0, self.reduced, step))
        tasks = [
            Task((0, self.kept), (c, min(c + step, self.reduced)), (b, b + 1), p)
            for b in range(self.batches)
            for p, c in enumerate(cuts)
        ]
        return tasks, len(cuts)

    def _cut_rows(self, threads: int) -> list[Task]:
        columns = (0, self.reduced)
        rows = self.kept * self.batches
        pieces = self._pieces(threads, max(rows // TASK_ROWS, threads))
        limit = max(1, STATE_LIMIT // (8 * max(1, self.layout.state_components)))
        if self.batches >= pieces and self.kept <= limit:
            step = -(-self.batches // pieces)
            return [
                Task((0, self.kept), columns, (b, min(b + step, self.batches)), 0) for b in range(0, self.batches, step)
            ]
        per_batch = -(-pieces // self.batches)
        tile = self.schedule.tile_rows
        step = max(1, -(-self.kept // (per_batch * tile))) * tile
        step = max(tile, min(step, limit // tile * tile))
        return [
            Task((r, min(r + step, self.kept)), columns, (b, b + 1), 0)
            for b in range(self.batches)
            for r in range(0, self.kept, step)
        ]

    # ------------------------------------------------------------------ running
    def _words(self, arrays: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> list[int]:
        block = [0] * self.layout.words
        block[words.CANCEL] = address(self.cancel)
        block[words.OFFSETS] = address(self.offsets)
        block[words.KEPT_SIZE] = self.kept
        for k, out in enumerate(outputs):
            block[words.FIRST_POINTER + k] = address(out)
        first = self.layout.input_words
        for k, (array, (axis, _)) in enumerate(zip(arrays, self.layout.inputs, strict=True)):
            size = array.itemsize
            strides = array.strides
            block[first + 3 * k] = address(array)
            block[first + 3 * k + 1] = 0 if axis == "p" else strides[-2] // size
            block[first + 3 * k + 2] = strides[-1] // size
        return block

    def run(self, task: Task, scratch: Scratch) -> None:
        """Compute one task with this thread's scratch memory."""
        block = list(self.base)
        layout = self.layout
        block[words.BATCH_BEGIN], block[words.BATCH_END] = task.batches
        rows = self._describe(block, task)
        units = layout.units(rows)
        if self.shared:
            memory = scratch.bytes(layout.fixed_bytes)
            start = task.batches[0] * self.state_bytes + task.part * units * 8
            block[words.STATE] = address(self.state) + start
            block[words.UNITS] = self.parts * units
        else:
            memory = scratch.bytes(layout.fixed_bytes + layout.state_bytes(rows))
            block[words.STATE] = memory + layout.fixed_bytes
            block[words.UNITS] = units
            block[words.FINISH] = 1
        block[words.SCRATCH] = memory
        argument = (ctypes.c_int64 * len(block))(*block)
        self.binary.kernel(ctypes.addressof(argument))

    def _describe(self, block: list[int], task: Task) -> int:
        """Write the pairs of the task into the argument block; returns how many rows have their state at a time."""
        block[words.ROW_BEGIN], block[words.ROW_END] = task.rows
        block[words.COL_BEGIN], block[words.COL_END] = task.cols
        rows = task.rows[1] - task.rows[0]
        block[words.LOCAL_UNITS] = self.layout.units(rows)
        return rows

    def complete(self) -> None:
        """Merge and finish what split tasks have left."""
        if not self.shared:
            return
        block = list(self.base)
        block[words.UNITS] = self.parts * self.part_units
        argument = (ctypes.c_int64 * len(block))(*block)
        lanes = 1 if self.schedule.lanes_on == "kept" else self.schedule.lanes
        rows = 1 if self.both else self.kept
        for b in range(self.batches):
            state = address(self.state) + b * self.state_bytes
            self.binary.finish(ctypes.addressof(argument), state, self.parts * lanes, self.part_units, rows, b * rows)


class Scratch:
    """Memory of one thread, reused from call to call."""

    def __init__(self) -> None:
        self._buffer = np.empty(0, np.uint8)

    def bytes(self, n: int) -> int:
        """Address, aligned to 64, of at least n bytes."""
        if self._buffer.size < n + 64:
            self._buffer = np.empty(n + 64, np.uint8)
        return -(-address(self._buffer) // 64) * 64

    def trim(self, limit: int) -> None:
        """Give memory beyond `limit` back."""
        if self._buffer.size > limit:
            self._buffer = np.empty(0, np.uint8)


def _cuts(size: int, pieces: int, unit: int) -> list[tuple[int, int]]:
    """range(size) cut into at most so many ranges of whole units."""
    step = max(1, -(-size // (pieces * unit))) * unit
    return [(start, min(start + step, size)) for start in range(0, size, step)]


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _offsets(
    arrays: Sequence[np.ndarray], inputs: Sequence[tuple[str, int]], batch: tuple[int, ...], batches: int
) -> np.ndarray:
    """For every batch, where each input starts, in elements."""
    if not batch:
        return NO_OFFSETS if len(arrays) <= NO_OFFSETS.size else np.zeros(len(arrays), np.int64)
    table = np.zeros((*batch, max(1, len(arrays))), np.int64)
    for k, (array, (axis, _)) in enumerate(zip(arrays, inputs, strict=True)):
        trailing = 1 if axis == "p" else 2
        lead = array.shape[: array.ndim - trailing]
        steps = [0 if n == 1 else s // array.itemsize for n, s in zip(lead, array.strides, strict=False)]
        for place, step in enumerate(steps, start=len(batch) - len(lead)):
            if step:
                shape = [1] * len(batch)
                shape[place] = batch[place]
                table[..., k] += (np.arange(batch[place]) * step).reshape(shape)
    return table.reshape(batches, -1)
