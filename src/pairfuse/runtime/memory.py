"""Memory of a GPU: all that Pairfuse takes there, it takes here, from torch's allocator.

In: what the memory is for, shape, type, device.  Out: a tensor, or an error that names the tensor, the device and a
remedy.  torch gives memory that nobody uses any more to the next call by itself, so nothing is kept here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..errors import DeviceMemoryError, message

# Share of the memory that is free, or kept by torch for later, that data of the CPU may take: the rest is for kernels,
# for what torch rounds up, and for others.
SHARE = 0.8


def empty(torch: Any, title: str, what: str, shape: tuple[int, ...], kind: Any, device: Any) -> Any:
    """An uninitialised tensor. `title`: the user's call; `what`: the role of the tensor in it."""
    try:
        return torch.empty(shape, dtype=kind, device=device)
    except torch.cuda.OutOfMemoryError:
        pass  # the error below is raised outside, so that it holds no frame of torch's
    raise shortage(torch, title, what, shape, kind, device)


def made(torch: Any, title: str, what: str, like: Any, device: Any, make: Callable[[], Any]) -> Any:
    """The tensor that `make` makes, a copy of `like` on the device."""
    try:
        return make()
    except torch.cuda.OutOfMemoryError:
        pass
    raise shortage(torch, title, what, tuple(like.shape), like.dtype, device)


def shortage(torch: Any, title: str, what: str, shape: tuple[int, ...], kind: Any, device: Any) -> DeviceMemoryError:
    """The error of a tensor that does not fit."""
    size = math.prod(shape) * kind.itemsize
    return DeviceMemoryError(
        message(
            f"{title}: CUDA out of memory for {what}.",
            [
                f"{what}: shape {tuple(shape)}, {str(kind).removeprefix('torch.')}, {amount(size)}",
                f"{device}: {_free_text(torch, device)}",
            ],
            "pass the data on the CPU, x.cpu(), with backend='GPU': it is then streamed through the GPU in tiles; "
            "or compute a part of the rows at a time, x[a:b].",
        )
    )


def _free_text(torch: Any, device: Any) -> str:
    if device.type == "cpu":
        return "memory of the host"
    free, total = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return f"{amount(free)} of {amount(total)} free, {amount(kept)} more kept by torch for later"


def budget(torch: Any, device: Any) -> int | None:
    """Bytes that data of the CPU may take on the device; None where there is no limit to respect."""
    if device.type == "cpu":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(SHARE * (free + kept))


def amount(size: float) -> str:
    """A number of bytes for people: 3.2 GB."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.0f} bytes"
