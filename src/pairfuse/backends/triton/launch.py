"""Launches a Triton kernel on torch tensors: on the current stream of their device, without waiting for it.

In: a kernel, its tile, and the shapes of its tensors.  Out: a `Launch`, which is called with the tensors, again and
again, and fills the outputs when the stream gets there.  Nothing is copied from or to the host: numbers travel as
arguments of the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...lower.kernel import Kernel
from ...lower.problem import Problem, Sizes
from .compile import Binary, failure_text, full, refused
from .kept import numbers_of_program, programs_at_a_time
from .operands import inputs_of
from .preparation import Preparation, preparation
from .tile import UNROLL_FOLD, Tile, component_block, dots_of, is_list, long_folds, parts_of
from .wide import wide_of

# What Triton would otherwise choose by itself, differently from version to version: a product and a sum may become one
# fused operation, which only ever makes them more accurate.
OPTIONS = {"enable_fp_fusion": True}


# Below this number of columns, neighbouring lanes may as well read numbers that are far apart.
TRANSPOSED_COLUMNS = 1024
# The same in pairs, for the short vectors of lists: a kernel of so many takes some 20 microseconds, the copy 5.
TRANSPOSED_PAIRS = 2**26
# Lines of copies by component are a multiple of this: so each component begins where 16 bytes are loaded at once.
PADDED_LINES = 16


def moved_inputs(kernel: Kernel, tensors: Sequence[Any], sizes: Sizes) -> tuple[int, ...]:
    """Which inputs are copied before the launch: vectors of the columns, to be stored by component.

    The lanes of a warp hold neighbouring columns: so they read neighbouring numbers. The copy costs as much as reading
    the tensor a few times, and every program reads all of it. Worth it are long vectors, and those of lists, where few
    rows share what is loaded.
    """
    problem = kernel.problem
    if sizes.along(problem.over) < TRANSPOSED_COLUMNS:
        return ()
    if not long_folds(kernel) and not (is_list(kernel) and sizes.M * sizes.N >= TRANSPOSED_PAIRS):
        return ()
    if dots_of(kernel, [str(t.dtype).removeprefix("torch.") for t in tensors]):
        return ()  # matrix units read row after row
    wide = wide_of(kernel)
    multiplied = inputs_of(kernel, wide.right) if wide is not None else ()
    return tuple(
        k
        for k, t in enumerate(tensors)
        if moves(kernel, k) and t.stride(-1) == 1 and 0 not in t.stride() and k not in multiplied
    )


def moves(kernel: Kernel, slot: int) -> bool:
    """Is an input a vector of the columns that is copied in large problems without matrix units?"""
    leaf = kernel.problem.inputs[slot]
    shortest = UNROLL_FOLD + 1 if long_folds(kernel) else 2
    return leaf.param("axis") == kernel.problem.over and leaf.dim >= shortest


def by_component(tensor: Any) -> Any:
    """The tensor, stored component after component."""
    *batch, lines, dim = tensor.shape
    room = tensor.new_empty((*batch, dim, -(-lines // PADDED_LINES) * PADDED_LINES))[..., :lines]
    return room.copy_(tensor.transpose(-1, -2)).transpose(-1, -2)


def with_columns(tile: Tile, kernel: Kernel, tensors: Sequence[Any]) -> Tile:
    """The tile of lists, told how the threads of a program share the columns (`Tile.columns`)."""
    problem = kernel.problem
    if tile.dots or not is_list(kernel):
        return tile
    steps = [t.stride(-2) for t, v in zip(tensors, problem.inputs, strict=True) if v.param("axis") == problem.over]
    # Triton loads neighbouring numbers at once where it knows that a tile begins at a multiple of 16 bytes
    aligned = tile.batch_rank == 0 and not tile.listed and not tile.carried
    if not aligned or all(s > 1 for s in steps):
        return replace(tile, columns="apart")
    return replace(tile, columns="adjacent") if all(s == 1 for s in steps) else tile


@dataclass(frozen=True, slots=True)
class Batch:
    """The batch axes as a kernel sees them: their lengths, and for every input the steps along them, in elements."""

    lengths: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]


def batch_of(tensors: Sequence[Any], axes: Sequence[str], shape: tuple[int, ...]) -> Batch:
    """Drop axes of length 1, and join adjacent axes along which every input moves in equal steps."""
    steps = [_steps(t, t.ndim - (1 if axis == "p" else 2), len(shape)) for t, axis in zip(tensors, axes, strict=True)]
    lengths: list[int] = []
    kept: list[list[int]] = [[] for _ in steps]
    for r, length in enumerate(shape):
        if length == 1:
            continue
        if lengths and all(k[-1] == s[r] * length for k, s in zip(kept, steps, strict=True)):
            lengths[-1] *= length
            for k, s in zip(kept, steps, strict=True):
                k[-1] = s[r]
        else:
            lengths.append(length)
            for k, s in zip(kept, steps, strict=True):
                k.append(s[r])
    return Batch(tuple(lengths), tuple(tuple(k) for k in kept))


def _steps(tensor: Any, lead: int, rank: int) -> list[int]:
    strides = tensor.stride()
    own = [0 if tensor.shape[k] == 1 else strides[k] for k in range(lead)]
    return [0] * (rank - lead) + own


def largest_offset(tensors: Sequence[Any], problem: Problem, kept: int, dims: Sequence[int]) -> int:
    """The largest distance, in elements, between two numbers of one batch that a kernel reads or writes."""
    largest = kept * max(dims)
    for tensor, leaf in zip(tensors, problem.inputs, strict=True):
        own = 1 if leaf.param("axis") == "p" else 2
        spans = zip(tensor.shape[-own:], tensor.stride()[-own:], strict=True)
        largest = max(largest, sum((length - 1) * step for length, step in spans))
    return largest


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch that is ready but for its tensors: what depends on their sizes and strides, and not on their numbers.

    title         of the reduction, for errors
    moved         inputs to be copied by `by_component` before
    numbers       arguments of the kernel after the tensors
    strides       of every input, along its rows and along its components
    grid, parts   programs, and how many of them share the columns of a row
    state         shape of the states that are stored: (groups, components, rows), or None where there are none
    operands      what is made ready before the launch, for the matrix units
    tables        of block-sparse ranges, on the device (listed.py)
    kept          numbers that all programs keep, and their type, or None (kept.py)
    """

    title: str
    binary: Binary
    tile: Tile
    moved: tuple[int, ...]
    strides: tuple[tuple[int, int], ...]
    numbers: tuple[int, ...]
    grid: tuple[int]
    merge_grid: tuple[int]
    merge_numbers: tuple[int, ...]
    state: tuple[int, int, int] | None
    operands: Preparation | None = None
    tables: tuple[Any, ...] = ()
    kept: tuple[int, str] | None = None

    def __call__(
        self,
        tensors: Sequence[Any],
        outputs: Sequence[Any],
        state: Any = None,
        chunk: tuple[int, int, bool] | None = None,
        room: dict[str, Any] | None = None,
    ) -> None:
        """Fill the outputs, contiguous tensors of shape (*batch, kept, dim).

        state: room for the states. chunk: for the tile of a streamed problem, the numbers of the first row and column,
        and whether these are the last columns; before, the outputs are left alone. room: the arrays of the operands, if
        they are allocated already.
        """
        try:
            self._start(tensors, outputs, state, chunk, room)
            return
        except Exception as error:
            failed = failure_text(error)
            lacking = isinstance(error, RuntimeError) and "out of memory" in str(error)
            if failed is None and not lacking:
                raise
        raise full(self.title, self.tile) if failed is None else refused(self.title, self.tile, failed)

    def _start(self, tensors: Sequence[Any], outputs: Sequence[Any], state: Any, chunk: Any, room: Any) -> None:
        tile = self.tile
        states = outputs[0] if state is None else state  # not used without states
        arguments: list[Any] = [*outputs, states]
        if self.kept is not None:
            arguments.append(_room(tensors[0].device, *self.kept))
        for tensor, strides in zip(tensors, self.strides, strict=True):
            arguments += (tensor, *strides)
        if self.operands is not None:
            arguments += self.operands(self.binary.functions, tensors, self.strides, OPTIONS, room)
        arguments += (*self.tables, *self.numbers)
        if chunk is not None:
            arguments += (chunk[0], chunk[1], int(chunk[2]))
        self.binary.kernel[self.grid](
            *arguments, BM=tile.rows, BN=tile.cols, num_warps=tile.warps, num_stages=tile.stages, **OPTIONS
        )
        if self.binary.merge is not None and (chunk is None or chunk[2]):
            merge = self.binary.merge[self.merge_grid]
            merge(*outputs, states, *self.merge_numbers, BM=tile.rows, num_warps=tile.warps, **OPTIONS)


def _room(device: Any, count: int, kind: str) -> Any:
    import torch

    return torch.empty(count, dtype=getattr(torch, kind), device=device)


def prepare(
    binary: Binary,
    kernel: Kernel,
    tile: Tile,
    tensors: Sequence[Any],
    sizes: Sizes,
    processors: int,
    moved: tuple[int, ...] = (),
    parts: int | None = None,
    tables: tuple[Any, ...] = (),
) -> Launch:
    """The launch of tensors of these shapes and strides.

    parts: of the columns, where others have chosen it. tables: of ranges, on the device.
    """
    problem = kernel.problem
    kept, reduced = sizes.along(problem.kept), sizes.along(problem.over)
    batch = batch_of(tensors, [v.param("axis") for v in problem.inputs], sizes.batch)
    _, blocks = component_block(kernel)
    row_blocks = len(tables[0]) if tile.listed else -(-kept // tile.rows)
    groups = math.prod(sizes.batch) * blocks
    if parts is None:
        parts, per_part = shared(kernel, tile, sizes, processors)
    else:
        per_part = -(-reduced // (parts * tile.cols)) * tile.cols
    strides = tuple(
        (0 if v.param("axis") == "p" else t.stride(-2), t.stride(-1))
        for t, v in zip(tensors, problem.inputs, strict=True)
    )
    steps = [n for steps in batch.steps for n in steps]
    operands = preparation(kernel, tile, batch.lengths, batch.steps, kept, reduced)
    places = operands.operand_steps if operands is not None else ()
    programs = row_blocks * groups * parts
    numbers = [*steps, *batch.lengths, *places, kept, reduced, row_blocks, per_part, parts]
    room, grid = numbers_of_program(kernel, tile), programs
    if room:
        numbers.append(programs)
        grid = min(programs, programs_at_a_time(kernel, tile, processors))
    return Launch(
        title=f"{problem.reduction} in {problem.dtype}",
        binary=binary,
        tile=tile,
        moved=moved,
        strides=strides,
        numbers=tuple(numbers),
        grid=(grid,),
        merge_grid=(row_blocks * groups,),
        merge_numbers=(kept, row_blocks, parts),
        state=(groups * parts, len(initial_state(kernel)), kept) if tile.split or tile.carried else None,
        operands=operands,
        tables=tables,
        kept=(grid * room, problem.dtype) if room else None,
    )


def shared(kernel: Kernel, tile: Tile, sizes: Sizes, processors: int) -> tuple[int, int]:
    """Among how many programs the columns of a row are shared, and how many of them each has."""
    kept, reduced = sizes.along(kernel.problem.kept), sizes.along(kernel.problem.over)
    _, blocks = component_block(kernel)
    programs = -(-kept // tile.rows) * math.prod(sizes.batch) * blocks
    return parts_of(tile, (programs, reduced, kept), processors)


def initial_state(kernel: Kernel) -> list[float]:
    """The state over no column, as it is stored: the components of all slots."""
    block, _ = component_block(kernel)
    machine = kernel.problem.machine(tuple(1 if t.dim == 1 else block for t in kernel.terms))
    return [s.init for s in machine.slots for _ in range(s.dim)]
