"""`pykeops.torch.lazytensor.LazyTensor`: the class, and its variables."""

from pairfuse.dropin.lazytensor import TORCH
from pairfuse.dropin.lazytensor import TorchComplexLazyTensor as ComplexLazyTensor
from pairfuse.dropin.lazytensor import TorchLazyTensor as LazyTensor

Var, Vi, Vj, Pm = TORCH.Var, TORCH.Vi, TORCH.Vj, TORCH.Pm

__all__ = ["ComplexLazyTensor", "LazyTensor", "Pm", "Var", "Vi", "Vj"]
