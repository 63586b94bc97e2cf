"""Pairfuse on torch tensors: LazyTensor, its variables and the functions beside it, differentiable by torch.

In: torch tensors of float32, float64, complex64 or complex128, on a GPU also float16 and bfloat16 (integers and truth
values are converted).  Out: torch tensors on the same device.
The class is the same as that of `pairfuse.numpy`: the library of the result is that of the data.  Importing this
package also registers the operator that exported programs contain, and the rules that torch.compile needs.
"""

from importlib import import_module

from ..frontend.autograd.loading import when_loaded
from ..frontend.lazytensor import LazyTensor
from ..frontend.public import ComplexLazyTensor, Pm, Vi, Vj, concatenate, index_i, index_j, maximum, minimum, where
from ..frontend.strings.genred import Genred, generic_argkmin, generic_argmin, generic_logsumexp, generic_sum
from ..frontend.strings.kernel_solve import KernelSolve

import_module("pairfuse.frontend.autograd.function")  # registers the operator
when_loaded("torch._dynamo", lambda: import_module("pairfuse.frontend.autograd.compile").register())

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
