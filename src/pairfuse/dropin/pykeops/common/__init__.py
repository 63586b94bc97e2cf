"""`pykeops.common`: what programs use of the parts that both bindings share."""

from . import gpu_utils, keops_io, operations, parse_type, utils

__all__ = ["gpu_utils", "keops_io", "operations", "parse_type", "utils"]
