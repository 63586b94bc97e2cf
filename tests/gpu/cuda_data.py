"""Random tensors on the GPU, and the formula that most tests reduce."""

from __future__ import annotations

from typing import Any


def on_gpu(*shapes: tuple[int, ...], seed: int = 0, **options: Any) -> list[Any]:
    import torch

    generator = torch.Generator("cuda").manual_seed(seed)
    return [torch.randn(s, generator=generator, device="cuda", **options) for s in shapes]


def gaussian(x: Any, y: Any) -> Any:
    from pairfuse.torch import Vi, Vj

    return (-Vi(x).sqdist(Vj(y))).exp()
