"""Data of the CPU that is larger than the memory of a GPU: passed through in ranges of rows and of columns.

In: a program, tensors of the CPU, a plan (chunks.py).  Out: tensors of the CPU.  Every step of the plan is one launch
on rows and columns that are on the device; the states of the rows are carried from launch to launch, in 64 bits, so the
result is that of a single launch but for the order in which its parts are added, and indices are those of the whole.

Two queues (queues.py) run side by side: `copies` brings the next ranges while `work` computes with the present ones.
Each range has two places, taken in turns (stream_inputs.py), and events order who may write or read them.

Of block-sparse problems, only ranges of columns that the rows visit are brought, with the tables of their blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ..backends.triton.launch import (
    Launch,
    batch_of,
    by_component,
    initial_state,
    largest_offset,
    moved_inputs,
    prepare,
)
from ..backends.triton.preparation import bytes_per_line
from ..backends.triton.tile import FIRST_WIDE, Tile, component_block, widened
from ..errors import DeviceMemoryError, message
from ..lower.problem import Problem, Sizes
from . import memory
from .chunks import Cost, Plan, Step, plan
from .gpu_program import GpuProgram
from .queues import COPIES, STAGING, WORK, Staging
from .stream_inputs import Channel, Place, Table, Visits, input_of

# ---------------------------------------------------------------------- the loop


def size_on_device(found: GpuProgram, tensors: Sequence[Any], sizes: Sizes) -> int:
    """Bytes that the data takes on the device if all of it is there: inputs, what is made of them, outputs."""
    problem = found.problem
    size = sum(t.numel() * t.element_size() for t in tensors)
    made = _made_bytes(found, tensors, sizes)
    for role, axis in (("row", problem.kept), ("column", problem.over)):
        lengths = [
            t.numel() // t.shape[-1] for t, v in zip(tensors, problem.inputs, strict=True) if v.param("axis") == axis
        ]
        size += made[role] * max(lengths, default=0)
    return size + math.prod(sizes.batch) * sizes.along(problem.kept) * _output_bytes(found)


def _made_bytes(found: GpuProgram, tensors: Sequence[Any], sizes: Sizes) -> dict[str, int]:
    """Bytes of each row and of each column of what is made of the inputs.

    These are copies by component, and operands of the matrix units, which take no part where there are ranges.
    """
    kernel, problem = found.kernel, found.problem
    types = [str(t.dtype).removeprefix("torch.") for t in tensors]
    made = bytes_per_line(kernel, types, matrices=sizes.ranges is None)
    for k in moved_inputs(kernel, tensors, sizes):
        role = "row" if problem.inputs[k].param("axis") == problem.kept else "column"
        made[role] += problem.inputs[k].dim * tensors[k].element_size()
    return made


def _output_bytes(found: GpuProgram) -> int:
    return 8 * sum(found.output_dims)


def plan_for(found: GpuProgram, tensors: Sequence[Any], sizes: Sizes, limit: int) -> Plan:
    """The plan for this number of bytes on the device."""
    problem = found.problem
    _, blocks = component_block(found.kernel)
    bytes_of = _made_bytes(found, tensors, sizes)
    bytes_of["row"] += _output_bytes(found) + 8 * blocks * len(initial_state(found.kernel))
    fixed = 0
    for t, v in zip(tensors, problem.inputs, strict=True):
        source = input_of(t, v.param("axis"), problem.kept)
        if source.role == "fixed":
            fixed += 2 * source.tensor.numel() * t.element_size()
        else:
            bytes_of[source.role] += v.dim * t.element_size()
    cost = Cost(bytes_of["row"], max(1, bytes_of["column"]), fixed)
    kept, reduced = sizes.along(problem.kept), sizes.along(problem.over)
    found_plan = plan(kept, reduced, sizes.batch, cost, limit)
    if found_plan is None:
        need = fixed + 2 * (cost.row + cost.column)
        raise DeviceMemoryError(
            message(
                f"{problem.reduction}(backend='GPU'): the memory of the GPU is too small for one row and one column.",
                f"they take {memory.amount(need)}, {memory.amount(max(limit, 0))} may be used",
                "free memory on the GPU, or leave the backend out to compute on the CPU.",
            )
        )
    return found_plan


class Streamed:
    """One reduction of data of the host, step by step."""

    def __init__(
        self,
        torch: Any,
        found: GpuProgram,
        tensors: Sequence[Any],
        sizes: Sizes,
        steps: Plan,
        queues: Any,
        device: Any,
        tile: Callable[[Sequence[Any], Sizes], Tile],
        parts: Callable[[Tile, Sizes], int],
        clock: Any,
    ):
        self.torch, self.found, self.sizes, self.plan, self.device = torch, found, sizes, steps, device
        self.problem: Problem = found.problem
        self.queues, self.clock = queues, clock
        self.staging = Staging(queues, STAGING)
        largest = steps.largest
        axes = [v.param("axis") for v in self.problem.inputs]
        self.inputs = [input_of(t, a, self.problem.kept) for t, a in zip(tensors, axes, strict=True)]
        self.channels = [self._channel(role, largest) for role in ("fixed", "row", "column")]
        local = self.local_sizes(largest)
        chosen = self._chosen(tile, largest, local)
        self.tile = replace(chosen, carried=True, columns="apart" if chosen.columns else "")
        blocks = sizes.blocks(self.problem.over)
        self.visits = None if blocks is None else Visits(blocks)
        self.steps = list(steps.steps() if self.visits is None else steps.steps(self.visits.any))
        if self.visits is not None:
            both = {name: Table(torch, self.visits, k, self.tile.rows) for k, name in enumerate(("tiles", "intervals"))}
            self.channels.append(Channel("table", both, largest, self.empty))
        self.parts = parts(self.tile, local)
        self.launches: dict[Any, Launch] = {}
        self.rooms: list[list[Any]] = [[], []]
        self.state: Any = None
        self.start = torch.tensor(initial_state(found.kernel), dtype=torch.float64).to(device)[:, None]

    def _channel(self, role: str, largest: Step) -> Channel:
        return Channel(role, {k: x for k, x in enumerate(self.inputs) if x.role == role}, largest, self.empty)

    def _chosen(self, tile: Callable[[Sequence[Any], Sizes], Tile], largest: Step, local: Sizes) -> Tile:
        """The tile of the largest step, for numbers as large as those of the whole problem.

        That of ranges is chosen for the average block of the whole problem.
        """
        shapes = [x.part(largest) for x in self.inputs]
        meta = [self.torch.empty(p.shape, dtype=p.dtype, device="meta") for p in shapes]
        of = local if self.sizes.ranges is None else replace(self.sizes, batch=local.batch)
        seen, moved = self._seen(meta, local), moved_inputs(self.found.kernel, meta, local)
        chosen = tile([by_component(t) if k in moved else t for k, t in enumerate(seen)], of)
        return widened(chosen, self.found.kernel) if max(self.sizes.M, self.sizes.N) >= FIRST_WIDE else chosen

    def empty(self, what: str, shape: tuple[int, ...], kind: Any) -> Any:
        return memory.empty(self.torch, self.problem.reduction, what, shape, kind, self.device)

    def local_sizes(self, step: Step) -> Sizes:
        """The sizes of a step."""
        rows, columns = step.rows[1] - step.rows[0], step.columns[1] - step.columns[0]
        m, n = (rows, columns) if self.problem.kept == "i" else (columns, rows)
        return Sizes(m, n, tuple(stop - start for start, stop in step.batch))

    def _seen(self, tensors: Sequence[Any], local: Sizes) -> list[Any]:
        """The tensors as the kernel takes them: one row for all is as many rows as there are."""
        seen: list[Any] = []
        for t, x, v in zip(tensors, self.inputs, self.problem.inputs, strict=True):
            rows = local.along(v.param("axis")) if x.has_rows else 1
            seen.append(t.expand(*t.shape[:-2], rows, t.shape[-1]) if x.has_rows and t.shape[-2] != rows else t)
        return seen

    def run(self) -> tuple[Any, ...]:
        """All outputs, on the host."""
        kept = self.sizes.along(self.problem.kept)
        self.kinds = self.found.output_kinds(self.torch)
        results = [
            self.torch.empty((*self.sizes.batch, kept, d), dtype=kind)
            for d, kind in zip(self.found.output_dims, self.kinds, strict=True)
        ]
        with self._closing():
            self._loop(results)
        return tuple(results)

    @contextmanager
    def _closing(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.queues.close()

    def _loop(self, results: list[Any]) -> None:
        steps = self.steps
        finished: tuple[Step, list[Any], Any] | None = None
        ready = [c.fetch(steps[0], self.staging) for c in self.channels]
        turn = 0
        for number, step in enumerate(steps):
            outputs = self._outputs(turn, step)
            self._launch(step, ready, outputs)
            done = self.queues.mark(WORK)
            for place in ready:
                place.idle = done
            if finished is not None:
                self._collect(results, *finished)
                finished = None
            if number + 1 < len(steps):
                ready = [c.fetch(steps[number + 1], self.staging) for c in self.channels]
            if step.last:
                finished, turn = (step, outputs, done), 1 - turn
        if finished is not None:
            self._collect(results, *finished)

    def _outputs(self, turn: int, step: Step) -> list[Any]:
        """Room on the device for the outputs of a step: there are two, as those of the last rows are fetched later."""
        shape = self._row_shape(step)
        if not self.rooms[turn]:
            most = math.prod(self._row_shape(self.plan.largest))
            self.rooms[turn] = [
                self.empty(f"output {k}", (most * d,), kind)
                for k, (d, kind) in enumerate(zip(self.found.output_dims, self.kinds, strict=True))
            ]
        dims = self.found.output_dims
        return [r[: math.prod(shape) * d].view(*shape, d) for r, d in zip(self.rooms[turn], dims, strict=True)]

    def _row_shape(self, step: Step) -> tuple[int, ...]:
        return (*(stop - start for start, stop in step.batch), step.rows[1] - step.rows[0])

    def _collect(self, results: list[Any], step: Step, outputs: list[Any], done: Any) -> None:
        """Bring the outputs of some rows to the host."""
        self.queues.follow(COPIES, done)
        index = (*(slice(*r) for r in step.batch), slice(*step.rows))
        for result, output in zip(results, outputs, strict=True):
            self.staging.download(result[index], output)

    # ------------------------------------------------------------------ one step
    def _launch(self, step: Step, ready: Sequence[Place], outputs: list[Any]) -> None:
        for place in ready:
            self.queues.follow(WORK, place.arrived)
        found = {k: t for place in ready for k, t in place.tensors.items()}
        local = self.local_sizes(step)
        tensors = self._seen([found[k] for k in range(len(self.inputs))], local)
        listed = () if self.visits is None else (found["tiles"].view(-1, 4), found["intervals"].view(-1, 2))
        launch = self._ready(tensors, local, listed)
        state = self._state(launch)
        chunk = (step.rows[0], step.columns[0], step.last)
        first = step.first

        def work() -> None:
            if first:
                state.copy_(self.start)
            seen = [self._moved(k, t) if k in launch.moved else t for k, t in enumerate(tensors)]
            launch(seen, outputs, state, chunk, self._operands(launch))

        self.queues.put(WORK, work)

    def _moved(self, k: int, tensor: Any) -> Any:
        title = f"a copy of input {k}"
        return memory.made(self.torch, self.problem.reduction, title, tensor, self.device, lambda: by_component(tensor))

    def _operands(self, launch: Launch) -> dict[str, Any]:
        """Room for what the launch makes ready for the matrix units."""
        arrays = launch.operands.arrays if launch.operands is not None else {}
        what = "the operands of the products"
        return {name: self.empty(what, shape, getattr(self.torch, kind)) for name, (shape, kind) in arrays.items()}

    def _state(self, launch: Launch) -> Any:
        assert launch.state is not None
        size = math.prod(launch.state)
        if self.state is None or self.state.numel() < size:
            self.state = self.empty("the states of the rows", (size,), self.torch.float64)
        return self.state[:size].view(launch.state)

    def _ready(self, tensors: Sequence[Any], local: Sizes, listed: tuple[Any, ...]) -> Launch:
        """The launch of a step; kept for steps of the same sizes, but for tables, which are those of one step."""
        key = (local, *(t.stride() for t in tensors))
        found = self.launches.get(key)
        if found is None or listed:
            found = self.launches[key] = self._prepared(tensors, local, listed)
        return found

    def _prepared(self, tensors: Sequence[Any], local: Sizes, listed: tuple[Any, ...]) -> Launch:
        kernel, axes = self.found.kernel, [v.param("axis") for v in self.problem.inputs]
        moved = moved_inputs(kernel, tensors, local)
        meta = [t.new_empty_strided(t.shape, t.stride(), device="meta") for t in tensors]
        seen = [by_component(t) if k in moved else t for k, t in enumerate(meta)]
        far = largest_offset(seen, self.problem, local.along(self.problem.kept), self.found.output_dims)
        batch = batch_of(seen, axes, local.batch)
        tile = replace(self.tile, batch_rank=len(batch.lengths))
        if far >= FIRST_WIDE:
            tile = widened(tile, kernel)
        binary = self.found.binary(tile, self.clock)
        return prepare(binary, kernel, tile, seen, local, 1, moved, self.parts, listed)
