"""`pykeops.torch.lazytensor`."""

from . import LazyTensor

__all__ = ["LazyTensor"]
