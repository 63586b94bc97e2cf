"""`pykeops.numpy.generic.generic_red`: reductions of formula strings."""

from pairfuse.dropin.genred import Genred

__all__ = ["Genred"]
