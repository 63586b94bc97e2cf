"""`pykeops.numpy`: LazyTensors, formula strings and solvers of Pairfuse, under PyKeOps' names."""

from pairfuse.numpy import (
    ComplexLazyTensor,
    Genred,
    LazyTensor,
    Pm,
    Vi,
    Vj,
    generic_argkmin,
    generic_argmin,
    generic_logsumexp,
    generic_sum,
)

from .operations import KernelSolve

__all__ = [
    "ComplexLazyTensor",
    "Genred",
    "KernelSolve",
    "LazyTensor",
    "Pm",
    "Vi",
    "Vj",
    "generic_argkmin",
    "generic_argmin",
    "generic_logsumexp",
    "generic_sum",
]
