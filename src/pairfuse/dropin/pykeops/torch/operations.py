"""`pykeops.torch.operations`: linear systems of formula strings."""

from pairfuse.dropin.genred import TorchKernelSolve as KernelSolve

__all__ = ["KernelSolve"]
