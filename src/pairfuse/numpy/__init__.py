"""Pairfuse on NumPy arrays: LazyTensor, its variables and the functions beside it.

In: NumPy arrays of float32 or float64 (integers and truth values are converted).  Out: NumPy arrays.
"""

from ..frontend.lazytensor import LazyTensor
from ..frontend.public import Pm, Vi, Vj, concatenate, index_i, index_j, maximum, minimum, where

__all__ = ["LazyTensor", "Pm", "Vi", "Vj", "concatenate", "index_i", "index_j", "maximum", "minimum", "where"]
