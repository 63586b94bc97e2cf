"""`pykeops.numpy.generic.generic_red`: reductions of formula strings."""

from pairfuse.numpy import Genred

__all__ = ["Genred"]
