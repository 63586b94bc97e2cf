"""`pykeops.torch.lazytensor.LazyTensor`: the class, and its variables."""

from typing import Any

from pairfuse.torch import ComplexLazyTensor, LazyTensor, Pm, Vi, Vj


def Var(x_or_ind: Any, dim: int | None = None, cat: int | None = None) -> LazyTensor:
    """The variable of category `cat` (0: of i, 1: of j, 2: a parameter), of data or, with `dim`, symbolic."""
    return LazyTensor(x_or_ind, axis=cat) if dim is None else LazyTensor((x_or_ind, dim, cat))


__all__ = ["ComplexLazyTensor", "LazyTensor", "Pm", "Var", "Vi", "Vj"]
