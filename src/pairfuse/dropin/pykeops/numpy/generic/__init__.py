"""`pykeops.numpy.generic`."""

from . import generic_ops, generic_red

__all__ = ["generic_ops", "generic_red"]
