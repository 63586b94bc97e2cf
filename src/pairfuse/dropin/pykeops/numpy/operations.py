"""`pykeops.numpy.operations`: linear systems of formula strings."""

from pairfuse.numpy import KernelSolve

__all__ = ["KernelSolve"]
