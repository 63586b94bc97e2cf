"""`pykeops.numpy.generic.generic_ops`: formula strings in short."""

from pairfuse.dropin.genred import Genred, generic_argkmin, generic_argmin, generic_logsumexp, generic_sum

__all__ = ["Genred", "generic_argkmin", "generic_argmin", "generic_logsumexp", "generic_sum"]
