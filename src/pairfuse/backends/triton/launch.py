"""Launches a Triton kernel on torch tensors: on the current stream of their device, without waiting for it.

In: a program, tensors and sizes.  Out: the output tensors, filled when the stream gets there.  Nothing is copied from
or to the host: numbers travel as arguments of the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...lower.kernel import Kernel
from ...lower.problem import Problem, Sizes
from .compile import Binary
from .tile import UNROLL_FOLD, Tile, component_block, long_folds, parts_of

# What Triton would otherwise choose by itself, differently from version to version: a product and a sum may become one
# fused operation, which only ever makes them more accurate.
OPTIONS = {"enable_fp_fusion": True}


# Below this number of columns, neighbouring lanes may as well read numbers that are far apart.
TRANSPOSED_COLUMNS = 1024


def by_component(kernel: Kernel, tensors: Sequence[Any], sizes: Sizes) -> list[Any]:
    """The tensors, the long vectors of the columns stored component after component.

    The lanes of a warp hold neighbouring columns: so they read neighbouring numbers. The copy costs as much as reading
    the tensor a few times, and every program reads all of it.
    """
    problem = kernel.problem
    if sizes.along(problem.over) < TRANSPOSED_COLUMNS or not long_folds(kernel):
        return list(tensors)
    return [
        t.transpose(-1, -2).contiguous().transpose(-1, -2)
        if v.param("axis") == problem.over and v.dim > UNROLL_FOLD and t.stride(-1) == 1 and 0 not in t.stride()
        else t
        for t, v in zip(tensors, problem.inputs, strict=True)
    ]


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


def launch(
    binary: Binary,
    kernel: Kernel,
    tile: Tile,
    tensors: Sequence[Any],
    outputs: Sequence[Any],
    sizes: Sizes,
    batch: Batch,
    processors: int,
) -> None:
    """Fill the outputs, contiguous tensors of shape (*batch, kept, dim)."""
    problem = kernel.problem
    kept, reduced = sizes.along(problem.kept), sizes.along(problem.over)
    _, blocks = component_block(kernel)
    row_blocks = -(-kept // tile.rows)
    programs = row_blocks * math.prod(sizes.batch) * blocks
    parts, per_part = parts_of(tile, (programs, reduced, kept), processors)
    state = outputs[0]  # not used without parts
    if tile.split:
        state = _scratch(kernel, outputs[0], math.prod(sizes.batch) * blocks * parts * kept)
    arguments: list[Any] = [*outputs, state]
    for tensor, leaf in zip(tensors, problem.inputs, strict=True):
        strides = tensor.stride()
        arguments += [tensor, 0 if leaf.param("axis") == "p" else strides[-2], strides[-1]]
    for steps in batch.steps:
        arguments += steps
    arguments += [*batch.lengths, kept, reduced, row_blocks, per_part, parts]
    binary.kernel[(programs * parts,)](*arguments, BM=tile.rows, BN=tile.cols, num_warps=tile.warps, **OPTIONS)
    if binary.merge is not None:
        merge = binary.merge[(programs,)]
        merge(*outputs, state, kept, row_blocks, parts, BM=tile.rows, num_warps=tile.warps, **OPTIONS)


def _scratch(kernel: Kernel, like: Any, rows: int) -> Any:
    """Room for the states of all parts."""
    import torch

    block, _ = component_block(kernel)
    machine = kernel.problem.machine(tuple(1 if t.dim == 1 else block for t in kernel.terms))
    return torch.empty(rows * sum(s.dim for s in machine.slots), dtype=torch.float64, device=like.device)
