"""`pykeops.numpy.lazytensor.LazyTensor`: the class, and its variables."""

from pairfuse.dropin.lazytensor import NUMPY
from pairfuse.dropin.lazytensor import NumpyComplexLazyTensor as ComplexLazyTensor
from pairfuse.dropin.lazytensor import NumpyLazyTensor as LazyTensor

Var, Vi, Vj, Pm = NUMPY.Var, NUMPY.Vi, NUMPY.Vj, NUMPY.Pm

__all__ = ["ComplexLazyTensor", "LazyTensor", "Pm", "Var", "Vi", "Vj"]
