"""Launches a Triton kernel on torch tensors: on the current stream of their device, without waiting for it.

In: a loaded kernel, its tile, tensors and sizes.  Out: nothing; the output tensors are filled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...lower.kernel import Kernel
from ...lower.problem import Sizes
from .compile import Binary
from .emit import COMPONENTS, Tile

SPLIT_PARTS = 64


def choose_tile(kernel: Kernel, sizes: Sizes) -> Tile:
    """Shape of the tiles: small ones where long lists or vectors are kept per row."""
    problem = kernel.problem
    kept, reduced = sizes.along(problem.kept), sizes.along(problem.over)
    state = sum(s.dim for s in kernel.slots)
    rows = 16 if kept <= 16 else 32 if state > COMPONENTS else 64
    cols = 32 if state > COMPONENTS else 64
    split = rows_of_grid(kept, rows, sizes) < 64 and reduced >= 4096 and dict(problem.params).get("K", 0) <= 16
    return Tile(rows, cols, split)


def rows_of_grid(kept: int, rows: int, sizes: Sizes) -> int:
    return -(-kept // rows) * math.prod(sizes.batch)


def launch(
    binary: Binary,
    kernel: Kernel,
    tile: Tile,
    blocks: int,
    components: int,
    tensors: Sequence[Any],
    outputs: Sequence[Any],
    sizes: Sizes,
) -> None:
    """Fill the outputs, contiguous tensors of shape (*batch, kept, dim)."""
    import torch

    problem = kernel.problem
    kept, reduced = sizes.along(problem.kept), sizes.along(problem.over)
    batches = math.prod(sizes.batch)
    device = tensors[0].device if tensors else outputs[0].device
    parts = min(SPLIT_PARTS, -(-reduced // tile.cols)) if tile.split else 1
    per_part = -(-reduced // (parts * tile.cols)) * tile.cols
    count = batches * blocks * parts * components * kept if tile.split else 1
    state = torch.empty(count, dtype=torch.float64, device=device)
    arguments: list[Any] = [*outputs, state]
    for tensor, leaf in zip(tensors, problem.inputs, strict=True):
        row = 0 if leaf.param("axis") == "p" else tensor.stride(-2)
        arguments += [tensor, row, tensor.stride(-1)]
    table = offsets(tensors, [v.param("axis") for v in problem.inputs], sizes.batch)
    arguments += [torch.tensor(table, dtype=torch.int64, device=device), kept, reduced, per_part, parts]
    grid = (-(-kept // tile.rows), batches * blocks * parts)
    binary.kernel[grid](*arguments, BM=tile.rows, BN=tile.cols, num_warps=tile.warps)
    if tile.split and binary.merge is not None:
        binary.merge[(grid[0], batches * blocks)](*outputs, state, kept, parts, BM=tile.rows, num_warps=tile.warps)


def offsets(tensors: Sequence[Any], axes: Sequence[str], batch: tuple[int, ...]) -> list[list[int]]:
    """For every batch, where each input starts, in elements."""
    table: list[list[int]] = []
    for number in range(math.prod(batch)):
        place: list[int] = []
        for size in reversed(batch):
            place.append(number % size)
            number //= size
        place.reverse()
        row: list[int] = []
        for tensor, axis in zip(tensors, axes, strict=True):
            lead = tensor.ndim - (1 if axis == "p" else 2)
            steps = [0 if tensor.shape[k] == 1 else tensor.stride(k) for k in range(lead)]
            row.append(sum(p * s for p, s in zip(place[len(place) - lead :], steps, strict=True)))
        table.append(row or [0])
    return table
