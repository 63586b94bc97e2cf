"""`pykeops.numpy.generic.generic_ops`: formula strings in short."""

from pairfuse.numpy import generic_argkmin, generic_argmin, generic_logsumexp, generic_sum

__all__ = ["generic_argkmin", "generic_argmin", "generic_logsumexp", "generic_sum"]
