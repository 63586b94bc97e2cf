"""Pairfuse on NumPy arrays: LazyTensor, its variables and the functions beside it.

In: NumPy arrays of float32, float64, complex64 or complex128 (integers and truth values are converted).  Out: NumPy
arrays.
"""

from ..frontend.lazytensor import LazyTensor
from ..frontend.public import ComplexLazyTensor, Pm, Vi, Vj, concatenate, index_i, index_j, maximum, minimum, where
from ..frontend.strings.genred import Genred, generic_argkmin, generic_argmin, generic_logsumexp, generic_sum
from ..frontend.strings.kernel_solve import KernelSolve

__all__ = [
    "ComplexLazyTensor",
    "Genred",
    "KernelSolve",
    "LazyTensor",
    "Pm",
    "Vi",
    "Vj",
    "concatenate",
    "generic_argkmin",
    "generic_argmin",
    "generic_logsumexp",
    "generic_sum",
    "index_i",
    "index_j",
    "maximum",
    "minimum",
    "where",
]
