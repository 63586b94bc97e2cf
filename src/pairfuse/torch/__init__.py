"""Pairfuse on torch tensors: LazyTensor, its variables and the functions beside it, differentiable by torch.

In: torch tensors of float32 or float64, on a GPU also float16 and bfloat16 (integers and truth values are converted).
Out: torch tensors on the same device.
The class is the same as that of `pairfuse.numpy`: the library of the result is that of the data.
"""

from ..frontend.lazytensor import LazyTensor
from ..frontend.public import Pm, Vi, Vj, concatenate, index_i, index_j, maximum, minimum, where

__all__ = ["LazyTensor", "Pm", "Vi", "Vj", "concatenate", "index_i", "index_j", "maximum", "minimum", "where"]
