"""Makes the operands of the matrix units ready, before the launch of a kernel that multiplies them.

In: a kernel, its tile, the batch axes, sizes.  Out: a `Preparation`: the arrays that the operands take, and the
launches that fill them.  Memory is linear in the number of rows and columns; batch axes along which an operand does
not change are not repeated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...lower.kernel import Kernel
from .operands import COLUMN, LINES, ROW, SAMPLE, Operand, centre_of, operands, pair_of
from .tile import Tile, dots_of, sums_of

KINDS = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32", "i32": "int32"}
BYTES = {"fp16": 2, "bf16": 2, "fp32": 4, "i32": 4}
WARPS = 4


@dataclass(frozen=True, slots=True)
class Step:
    """One launch: the name of the function, its grid, the arrays it fills or reads, the inputs, and numbers."""

    function: str
    programs: int
    arrays: tuple[str, ...]
    middle: tuple[int, ...]
    lines: int
    inputs: tuple[int, ...]
    numbers: tuple[int, ...]
    block: int


@dataclass(frozen=True, slots=True)
class Preparation:
    """Arrays, by name: shape and type; the launches in their order; steps of the operands for the main kernel."""

    arrays: dict[str, tuple[tuple[int, ...], str]]
    pointers: tuple[str, ...]
    steps: tuple[Step, ...]
    operand_steps: tuple[int, ...]

    def __call__(
        self,
        functions: dict[str, Any],
        tensors: Sequence[Any],
        strides: Sequence[tuple[int, int]],
        options: dict[str, Any],
        room: dict[str, Any] | None = None,
    ) -> list[Any]:
        """Fill the arrays, `room` or new ones on the device of the tensors; return what the main kernel reads."""
        room = room or self.allocated(tensors[0].device)
        for step in self.steps:
            arguments: list[Any] = [*(room[a] for a in step.arrays), *step.middle, step.lines]
            for k in step.inputs:
                arguments += (tensors[k], *strides[k])
            arguments += step.numbers
            functions[step.function][(step.programs,)](*arguments, BM=step.block, num_warps=WARPS, **options)
        return [room[p] for p in self.pointers]

    def allocated(self, device: Any) -> dict[str, Any]:
        import torch

        return {
            name: torch.empty(shape, dtype=getattr(torch, kind), device=device)
            for name, (shape, kind) in self.arrays.items()
        }


def preparation(
    kernel: Kernel, tile: Tile, lengths: Sequence[int], steps: Sequence[Sequence[int]], kept: int, reduced: int
) -> Preparation | None:
    """What has to be made ready for tensors whose batch axes have these lengths and steps; None: nothing."""
    every = [o for o in operands(kernel, tile) if o.is_prepared]
    if not every:
        return None
    rank = len(lengths)
    own = {o.number: [any(steps[k][r] for k in o.inputs) for r in range(rank)] for o in every}

    def along(axes: Sequence[bool]) -> list[int]:
        return [n if here else 1 for n, here in zip(lengths, axes, strict=True)]

    def strides(axes: Sequence[bool]) -> list[int]:
        sizes = along(axes)
        return [math.prod(sizes[r + 1 :]) if axes[r] else 0 for r in range(rank)]

    def numbers(o: Operand, axes: Sequence[bool]) -> tuple[int, ...]:
        return (*(n for k in o.inputs for n in steps[k]), *along(axes))

    arrays: dict[str, tuple[tuple[int, ...], str]] = {}
    launches: list[Step] = []
    operand_steps: list[int] = []
    for o in every:
        lines = kept if o.side == ROW else reduced
        batches, blocks = math.prod(along(own[o.number])), -(-lines // LINES)
        operand_steps += [n * lines for n in strides(own[o.number])]
        shapes = {"component": (batches, lines, o.length), "line": (batches, lines), "block": (batches, blocks)}
        for name, (kind, of) in o.arrays.items():
            arrays[name] = (shapes[of], KINDS[kind])
    for o in sorted(every, key=lambda o: centre_of(kernel, tile, o) != o):  # the centres first
        lines = kept if o.side == ROW else reduced
        points = pair_of(kernel, tile, o)
        read: list[str] = []
        shift: list[int] = []
        if points is not None:
            centre = points.column
            common = [a and b for a, b in zip(own[points.row.number], own[centre.number], strict=True)]
            name = f"middle{centre.number}"
            read, shift = [name], [n * centre.length for n in strides(common)]
            if centre == o:
                count = math.prod(along(common))
                arrays[name] = ((count, o.length), "float32")
                values = numbers(o, common)
                launches.append(Step(f"centre{o.number}", count, (name,), (), lines, o.inputs, values, SAMPLE))
        programs = math.prod(along(own[o.number])) * -(-lines // LINES)
        names = (*o.arrays, *read)
        values = numbers(o, own[o.number])
        launches.append(Step(f"prepare{o.number}", programs, names, tuple(shift), lines, o.inputs, values, LINES))
    pointers = tuple(name for o in operands(kernel, tile) for name in o.arrays)
    return Preparation(arrays, pointers, tuple(launches), tuple(operand_steps))


def bytes_per_line(kernel: Kernel, types: Sequence[str], matrices: bool = True) -> dict[str, int]:
    """Bytes of the operands of each row and of each column, for inputs of these types.

    matrices: do inner products and distances go to the matrix units, where they may?
    """
    dots = dots_of(kernel, types) if matrices else ""
    tile = Tile(1, 1, dots=dots, sums=sums_of(kernel, types))
    found = {ROW: 0, COLUMN: 0}
    for o in operands(kernel, tile):
        numbers = {"component": o.length, "line": 1, "block": 0}  # of a block there are few
        found[o.side] += sum(BYTES[kind] * numbers[of] for kind, of in o.arrays.values())
    return found
