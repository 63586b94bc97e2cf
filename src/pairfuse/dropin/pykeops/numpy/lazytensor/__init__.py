"""`pykeops.numpy.lazytensor`."""

from . import LazyTensor

__all__ = ["LazyTensor"]
