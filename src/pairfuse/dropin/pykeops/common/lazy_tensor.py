"""`pykeops.common.lazy_tensor`: the classes of LazyTensors, and questions about them."""

from __future__ import annotations

from typing import Any

from keopscore.utils.misc_utils import KeOps_Error

from pairfuse.dropin.lazytensor import ComplexGenericLazyTensor, GenericLazyTensor

from .utils import check_broadcasting


def is_complex_lazytensor(x: Any) -> bool:
    """Is it a LazyTensor of complex numbers?"""
    return isinstance(x, GenericLazyTensor) and x.is_complex


def is_scalar_and_equals(x: Any, val: float) -> bool:
    """Is it a Python number of this value (and not True)?"""
    return type(x) in (int, float, complex) and x == val


def same_or_one_test(*dims: int) -> bool:
    """Are all of these lengths equal, or 1?"""
    return len({d for d in dims if d != 1}) <= 1


__all__ = [
    "ComplexGenericLazyTensor",
    "GenericLazyTensor",
    "KeOps_Error",
    "check_broadcasting",
    "is_complex_lazytensor",
    "is_scalar_and_equals",
    "same_or_one_test",
]
