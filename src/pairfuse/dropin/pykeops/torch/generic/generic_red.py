"""`pykeops.torch.generic.generic_red`: reductions of formula strings."""

from pairfuse.torch import Genred

__all__ = ["Genred"]
