"""The batched tensors of `torch.autograd.grad(is_grads_batched=True)`, made by a vmap that is older than torch.func's.

In: tensors, some of which have a mapped axis that their shape does not show.  Out: the same with that axis first.
torch calls no rule of a Function for them; they arrive where memory is read, and are opened there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

Tensor = torch.Tensor
_torch: Any = torch  # for what torch does not declare


class Opened(NamedTuple):
    """Tensors whose innermost mapped axis is visible.

    tensors  with the axis as their first, where they have it
    dims     0 where they have it, else None
    count    its length
    level    how many vmaps were around it, for `closed`
    """

    tensors: list[Any]
    dims: list[int | None]
    count: int
    level: int


def is_batched(t: Any) -> bool:
    """Whether a tensor has a hidden axis; None has not."""
    return t is not None and _torch._C._functorch.is_legacy_batchedtensor(t)


def opened(tensors: Sequence[Any]) -> Opened:
    """The tensors with their innermost mapped axis as the first; None stays."""
    level = torch._C._vmapmode_increment_nesting() - 1
    torch._C._vmapmode_decrement_nesting()
    inner, count = list(tensors), 1
    dims: list[int | None] = [None] * len(inner)
    for k, t in enumerate(tensors):
        if is_batched(t):
            inner[k] = _torch._remove_batch_dim(t, level, 1, 0)  # a new axis of length 1, if it is of another level
            count, dims[k] = max(count, inner[k].shape[0]), 0
    return Opened(inner, dims, count, level)


def closed(t: Tensor, level: int) -> Tensor:
    """A result whose first axis is the mapped one, as torch expects it."""
    return _torch._add_batch_dim(t, 0, level)


def with_leading_axis(t: Tensor, dim: int, rank: int) -> Tensor:
    """The tensor with axis `dim` before `rank` others, of which those that it does not have are of length 1."""
    t = t.movedim(dim, 0)
    return t[(slice(None), *[None] * (rank + 1 - t.ndim))]
