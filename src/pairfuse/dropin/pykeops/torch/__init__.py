"""`pykeops.torch`: LazyTensors, formula strings and solvers of Pairfuse, under PyKeOps' names."""

from importlib import import_module

from . import cluster, generic, lazytensor, operations, utils
from .generic.generic_ops import generic_argkmin, generic_argmin, generic_logsumexp, generic_sum
from .generic.generic_red import Genred
from .lazytensor.LazyTensor import ComplexLazyTensor, LazyTensor, Pm, Vi, Vj
from .operations import KernelSolve

import_module("pairfuse.torch")  # tells torch what its tracers and programs must know

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
