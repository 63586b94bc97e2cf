"""Data of the CPU that is larger than the memory of a GPU: passed through in ranges of rows and of columns.

In: a program, tensors of the CPU, a plan (chunks.py).  Out: tensors of the CPU.  Every step of the plan is one launch
on rows and columns that are on the device; the states of the rows are carried from launch to launch, in 64 bits, so the
result is that of a single launch but for the order in which its parts are added, and indices are those of the whole.

Two queues (queues.py) run side by side: `copies` brings the next ranges while `work` computes with the present ones.
Each range has two places, taken in turns, and events order who may write or read them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
from ..backends.triton.tile import FIRST_WIDE, Tile, component_block, dots_of, widened
from ..errors import DeviceMemoryError, message
from ..lower.problem import Problem, Sizes
from . import memory
from .chunks import Cost, Plan, Step, plan
from .gpu_program import GpuProgram
from .queues import COPIES, STAGING, WORK, Staging

# ---------------------------------------------------------------------- inputs


@dataclass(frozen=True, slots=True)
class Input:
    """A tensor of the host, axes along which its numbers repeat cut to length 1.

    role: "row" or "column" where it is cut into ranges, "fixed" where every range has all of it
    """

    tensor: Any
    role: str
    has_rows: bool

    def part(self, step: Step) -> Any:
        """What a step reads of it."""
        lead = self.tensor.ndim - (2 if self.has_rows else 1)
        ranges = step.batch[len(step.batch) - lead :]
        index = [slice(*r) if n > 1 else slice(None) for r, n in zip(ranges, self.tensor.shape, strict=False)]
        span = {"row": step.rows, "column": step.columns}.get(self.role)
        return self.tensor[(*index, slice(*span))] if span else self.tensor[tuple(index)]


def input_of(tensor: Any, axis: str, kept: str) -> Input:
    """The input of a tensor with this axis ("i", "j", "p"), where the axis `kept` gives the rows."""
    strides = tensor.stride()
    once = [slice(0, 1) if s == 0 and n > 1 else slice(None) for s, n in zip(strides, tensor.shape, strict=True)]
    once[-1] = slice(None)
    tensor = tensor[tuple(once)]
    if axis == "p" or tensor.shape[-2] == 1:
        return Input(tensor, "fixed", axis != "p")
    return Input(tensor, "row" if axis == kept else "column", True)


@dataclass(slots=True)
class Place:
    """Room on the device for one range of some inputs."""

    buffers: dict[int, Any] = field(default_factory=dict)
    tensors: dict[int, Any] = field(default_factory=dict)
    key: Any = None
    arrived: Any = None
    idle: Any = None


class Channel:
    """The ranges of the inputs of one role: one in use, one on its way, in two places."""

    def __init__(self, role: str, inputs: dict[int, Input], largest: Step, make: Callable[..., Any]):
        self.role, self.inputs, self.largest, self.make = role, inputs, largest, make
        self.places = (Place(), Place())
        self.now = 1

    def key(self, step: Step) -> Any:
        return {"row": (step.batch, step.rows), "column": (step.batch, step.columns)}.get(self.role, step.batch)

    def fetch(self, step: Step, staging: Staging) -> Place:
        """The place of the range of a step; its numbers are on their way when this returns."""
        key = self.key(step)
        if self.places[self.now].key != key:
            self.now = 1 - self.now
            self._fill(self.places[self.now], key, step, staging)
        return self.places[self.now]

    def _fill(self, place: Place, key: Any, step: Step, staging: Staging) -> None:
        if place.idle is not None:
            staging.queues.follow(COPIES, place.idle)
        for k, source in self.inputs.items():
            part = source.part(step)
            if k not in place.buffers:
                whole = source.part(self.largest)
                place.buffers[k] = self.make(f"a part of input {k}", (whole.numel(),), whole.dtype)
            place.tensors[k] = place.buffers[k][: part.numel()].view(part.shape)
            staging.upload(place.tensors[k], part)
        place.key, place.arrived = key, staging.queues.mark(COPIES)


# ---------------------------------------------------------------------- the loop


def size_on_device(found: GpuProgram, tensors: Sequence[Any], sizes: Sizes) -> int:
    """Bytes that the data takes on the device if all of it is there: inputs, what is made of them, outputs."""
    twice = _twice(found, tensors, sizes)
    size = sum(t.numel() * t.element_size() * (2 if k in twice else 1) for k, t in enumerate(tensors))
    return size + math.prod(sizes.batch) * sizes.along(found.problem.kept) * _output_bytes(found)


def _twice(found: GpuProgram, tensors: Sequence[Any], sizes: Sizes) -> set[int]:
    """The inputs of which a copy is made: by component, or as operands of the matrix units, of the same size."""
    types = [str(t.dtype).removeprefix("torch.") for t in tensors]
    twice = set(moved_inputs(found.kernel, tensors, sizes))
    if dots_of(found.kernel, types):
        twice |= {k for k, v in enumerate(found.problem.inputs) if v.dim > 1}
    return twice


def _output_bytes(found: GpuProgram) -> int:
    return 8 * sum(found.output_dims)


def plan_for(found: GpuProgram, tensors: Sequence[Any], sizes: Sizes, limit: int) -> Plan:
    """The plan for this number of bytes on the device."""
    problem = found.problem
    twice = _twice(found, tensors, sizes)
    _, blocks = component_block(found.kernel)
    bytes_of = {"row": _output_bytes(found) + 8 * blocks * len(initial_state(found.kernel)), "column": 0}
    fixed = 0
    for k, (t, v) in enumerate(zip(tensors, problem.inputs, strict=True)):
        source = input_of(t, v.param("axis"), problem.kept)
        if source.role == "fixed":
            fixed += 2 * source.tensor.numel() * t.element_size()
        else:
            bytes_of[source.role] += v.dim * t.element_size() * (2 if k in twice else 1)
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
        first_row: int = 0,
    ):
        self.torch, self.found, self.sizes, self.plan, self.device = torch, found, sizes, steps, device
        self.problem: Problem = found.problem
        self.queues, self.clock, self.first_row = queues, clock, first_row
        self.staging = Staging(queues, STAGING)
        largest = steps.largest
        axes = [v.param("axis") for v in self.problem.inputs]
        self.inputs = [input_of(t, a, self.problem.kept) for t, a in zip(tensors, axes, strict=True)]
        self.channels = [self._channel(role, largest) for role in ("fixed", "row", "column")]
        local = self.local_sizes(largest)
        self.tile = replace(self._chosen(tile, largest, local), carried=True)
        self.parts = parts(self.tile, local)
        self.launches: dict[Any, Launch] = {}
        self.rooms: list[list[Any]] = [[], []]
        self.state: Any = None
        self.start = torch.tensor(initial_state(found.kernel), dtype=torch.float64).to(device)[:, None]

    def _channel(self, role: str, largest: Step) -> Channel:
        return Channel(role, {k: x for k, x in enumerate(self.inputs) if x.role == role}, largest, self.empty)

    def _chosen(self, tile: Callable[[Sequence[Any], Sizes], Tile], largest: Step, local: Sizes) -> Tile:
        """The tile of the largest step, for numbers as large as those of the whole problem."""
        shapes = [x.part(largest) for x in self.inputs]
        meta = [self.torch.empty(p.shape, dtype=p.dtype, device="meta") for p in shapes]
        chosen = tile(self._seen(meta, local), local)
        return widened(chosen, self.found.kernel) if max(self.sizes.M, self.sizes.N) >= FIRST_WIDE else chosen

    def empty(self, what: str, shape: tuple[int, ...], kind: Any) -> Any:
        return memory.empty(self.torch, self.problem.reduction, what, shape, kind, self.device)

    def local_sizes(self, step: Step) -> Sizes:
        """The sizes of a step."""
        rows, columns = step.rows[1] - step.rows[0], step.columns[1] - step.columns[0]
        m, n = (rows, columns) if self.problem.kept == "i" else (columns, rows)
        return replace(self.sizes, M=m, N=n, batch=tuple(stop - start for start, stop in step.batch))

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
        steps = list(self.plan.steps())
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
        launch = self._ready(tensors, local)
        state = self._state(launch)
        chunk = (self.first_row + step.rows[0], step.columns[0], step.last)
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

    def _ready(self, tensors: Sequence[Any], local: Sizes) -> Launch:
        """The launch of a step, kept for steps of the same sizes."""
        key = (local, *(t.stride() for t in tensors))
        if key not in self.launches:
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
            self.launches[key] = prepare(binary, kernel, tile, seen, local, 1, moved, self.parts)
        return self.launches[key]
