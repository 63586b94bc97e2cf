"""The inputs of streamed data: which part of them a step reads, and how it gets to the device.

In: tensors of the host, block-sparse ranges, the steps of a plan (chunks.py).  Out: a `Channel` for each role, which
brings the next range to one place on the device while the present one is read from another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..backends.triton.listed import tables
from ..lower.ranges import Blocks
from .chunks import Range, Step
from .queues import COPIES, Staging


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

    def room(self, largest: Step) -> tuple[int, Any]:
        """Elements of the largest range, and their type."""
        whole = self.part(largest)
        return whole.numel(), whole.dtype


def input_of(tensor: Any, axis: str, kept: str) -> Input:
    """The input of a tensor with this axis ("i", "j", "p"), where the axis `kept` gives the rows."""
    strides = tensor.stride()
    once = [slice(0, 1) if s == 0 and n > 1 else slice(None) for s, n in zip(strides, tensor.shape, strict=True)]
    once[-1] = slice(None)
    tensor = tensor[tuple(once)]
    if axis == "p" or tensor.shape[-2] == 1:
        return Input(tensor, "fixed", axis != "p")
    return Input(tensor, "row" if axis == kept else "column", True)


class Visits:
    """Which pairs of a range of rows and a range of columns take part, in a block-sparse reduction."""

    def __init__(self, blocks: Blocks):
        self.blocks = blocks
        self.found: dict[tuple[Range, Range], Blocks] = {}

    def of(self, rows: Range, columns: Range) -> Blocks:
        """The blocks of these rows and columns, which are numbered from 0."""
        key = rows, columns
        if key not in self.found:
            self.found[key] = self.blocks.within(rows, columns)
        return self.found[key]

    def any(self, rows: Range, columns: Range) -> bool:
        """Does some pair take part?"""
        return self.of(rows, columns).pairs > 0


@dataclass(frozen=True, slots=True)
class Table:
    """One of the two tables (backends/triton/listed.py) of the blocks of a step, for tiles of so many rows."""

    torch: Any
    visits: Visits
    number: int
    height: int

    def part(self, step: Step) -> Any:
        made = tables(self.visits.of(step.rows, step.columns), step.rows[1] - step.rows[0], self.height)
        return self.torch.from_numpy(made[self.number])

    def room(self, largest: Step) -> tuple[int, Any]:
        """Every block, and every gap between blocks, has at most one tile that is not full."""
        blocks = self.visits.blocks
        tiles = (largest.rows[1] - largest.rows[0]) // self.height + 2 * len(blocks.rows) + 1
        intervals = max((len(b.columns) for b in self.visits.found.values()), default=0) + 1
        return (4 * tiles, 2 * intervals)[self.number], self.torch.int64


@dataclass(slots=True)
class Place:
    """Room on the device for one range of some inputs."""

    buffers: dict[Any, Any] = field(default_factory=dict)
    tensors: dict[Any, Any] = field(default_factory=dict)
    key: Any = None
    arrived: Any = None
    idle: Any = None


class Channel:
    """The ranges of the inputs of one role: one in use, one on its way, in two places."""

    def __init__(self, role: str, inputs: Mapping[Any, Input | Table], largest: Step, make: Callable[..., Any]):
        self.role, self.inputs, self.largest, self.make = role, inputs, largest, make
        self.places = (Place(), Place())
        self.now = 1

    def key(self, step: Step) -> Any:
        keys = {
            "row": (step.batch, step.rows),
            "column": (step.batch, step.columns),
            "table": (step.rows, step.columns),
        }
        return keys.get(self.role, step.batch)

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
                size, kind = source.room(self.largest)
                place.buffers[k] = self.make(f"a part of input {k}", (size,), kind)
            place.tensors[k] = place.buffers[k][: part.numel()].view(part.shape)
            staging.upload(place.tensors[k], part)
        place.key, place.arrived = key, staging.queues.mark(COPIES)
