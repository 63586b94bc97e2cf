"""`pykeops.numpy.operations`: linear systems of formula strings."""

from pairfuse.dropin.genred import KernelSolve

__all__ = ["KernelSolve"]
