"""`pykeops.torch`: LazyTensors, formula strings and solvers of Pairfuse, under PyKeOps' names."""

import pairfuse.torch  # noqa: F401  (what torch must be told)

from . import cluster, generic, lazytensor, operations, utils
from .generic.generic_ops import generic_argkmin, generic_argmin, generic_logsumexp, generic_sum
from .generic.generic_red import Genred
from .lazytensor.LazyTensor import ComplexLazyTensor, LazyTensor, Pm, Vi, Vj
from .operations import KernelSolve

__all__ = [
    "ComplexLazyTensor",
    "Genred",
    "KernelSolve",
    "LazyTensor",
    "Pm",
    "Vi",
    "Vj",
    "cluster",
    "generic",
    "generic_argkmin",
    "generic_argmin",
    "generic_logsumexp",
    "generic_sum",
    "lazytensor",
    "operations",
    "utils",
]
