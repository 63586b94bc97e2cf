"""The array libraries: the only file that knows what a NumPy array and a torch tensor are.

In: what users pass (arrays, tensors, their subclasses).  Out: its library, type and device, a NumPy view of its memory
without a copy, and results in the library of the caller.  torch is never imported here: whoever holds a tensor has
already imported it, so `sys.modules` has it.

Types of numbers.  float32 and float64 are computed as they are.  Integers and truth values are converted to the
floating type of the arrays they meet; when no array of the formula is of a floating type they become float64 (NumPy)
or torch's default type (`torch.get_default_dtype()`).  Other types are refused with the conversion to write.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

import numpy as np

from ..dtypes import PRECISIONS, STORED
from ..errors import DtypeError, UnsupportedError, message

NUMPY, TORCH = "numpy", "torch"
INTEGER = "integer"  # the type of integers and truth values, which adapt to the others


def library(x: Any) -> str | None:
    """The library of an array, "numpy" or "torch"; None for anything else."""
    if isinstance(x, np.ndarray):
        return NUMPY
    torch = sys.modules.get("torch")
    tensor = getattr(torch, "Tensor", None)  # None while torch is still being imported
    return TORCH if tensor is not None and isinstance(x, tensor) else None


def number_type(x: Any, kind: str) -> str:
    """ "float32", "float64", on a GPU also "float16" and "bfloat16"; INTEGER for integers and truth values.

    Raises DtypeError for the others.
    """
    return _number_type(x.dtype, kind, kind == TORCH and not x.is_cpu)


@lru_cache(maxsize=64)
def _number_type(dtype: Any, kind: str, on_gpu: bool) -> str:
    name = dtype.name if kind == NUMPY else str(dtype).removeprefix("torch.")
    if name in PRECISIONS or (on_gpu and name in STORED):
        return name
    if name == "bool" or name.startswith(("int", "uint")):
        return INTEGER
    raise DtypeError(
        message(
            f"LazyTensor(x): arrays of {name} are not supported.",
            f"supported: float32 and float64{', float16 and bfloat16' if on_gpu else ''}; "
            "integers and truth values, which become floating-point numbers",
            _remedy(name, kind),
        )
    )


def _remedy(name: str, kind: str) -> str:
    if name.startswith("complex"):
        parts = "x.real and x.imag" if kind == NUMPY else "torch.view_as_real(x)"
        return f"complex numbers are not supported yet; compute with the real and imaginary parts, {parts}."
    if name == "object":
        return "the array holds Python objects; build it from numbers, for example np.array(x, dtype=float)."
    return "convert the array, " + ("x.astype(np.float32)." if kind == NUMPY else "x.float().")


def plain(x: Any, kind: str) -> Any:
    """The array as the plain kind of its library: subclasses lose their own rules, memory is shared.

    Refuses what has no memory that a kernel can read: masked arrays, sparse tensors, tensors on devices that are
    neither the CPU nor a GPU of CUDA or ROCm.
    """
    if kind == TORCH:
        if not (x.is_cpu or x.is_cuda):
            raise UnsupportedError(
                message(
                    f"LazyTensor(x): the tensor is on the device '{x.device}'.",
                    f"x: shape {tuple(x.shape)}, {str(x.dtype).removeprefix('torch.')}",
                    "pairfuse computes on the CPU and on 'cuda' devices; pass x.cpu().",
                )
            )
        if str(x.layout) != "torch.strided":
            raise UnsupportedError(
                message(f"LazyTensor(x): x is a {x.layout} tensor.", hint="pass a dense tensor, x.to_dense().")
            )
        return x
    if type(x) is np.ndarray:
        return x
    masked = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(x, masked.MaskedArray):
        raise UnsupportedError(
            message(
                "LazyTensor(x): x is a masked array, and its mask would be lost.",
                hint="say what masked entries stand for, x.filled(0), or give the mask as a variable of the formula.",
            )
        )
    return np.asarray(x)


def device(x: Any, kind: str) -> str | None:
    """The device of a tensor, "cpu" or "cuda:0"; None for NumPy arrays."""
    if kind == NUMPY:
        return None
    return "cpu" if x.is_cpu else str(x.device)


def on_device(x: Any, dtype: str, device: str) -> Any:
    """A tensor, or a tuple of numbers, as a tensor on a GPU: the memory of the tensor itself where it already is."""
    if type(x) is tuple:
        return _numbers(x, dtype, device)
    torch = sys.modules["torch"]
    x = x.detach()
    kind = getattr(torch, dtype)
    if STORED.get(str(x.dtype).removeprefix("torch.")) == dtype:
        kind = x.dtype
    return x.to(device, kind)


@lru_cache(maxsize=1024)
def _numbers(values: tuple[float, ...], dtype: str, device: str) -> Any:
    """A few numbers on a GPU, kept there: copying them anew at every call would wait for the GPU each time."""
    torch = sys.modules["torch"]
    with torch.inference_mode(False):  # whoever asks first, others may want to differentiate
        return torch.tensor(values, dtype=getattr(torch, dtype), device=device)


def default_dtype(kind: str | None) -> str:
    """The floating type of a formula in which no array has one."""
    if kind == TORCH:
        name = str(sys.modules["torch"].get_default_dtype()).removeprefix("torch.")
        return name if name in PRECISIONS else "float32"
    return "float64"


def view(x: Any, dtype: str) -> np.ndarray:
    """The memory of an array as a NumPy array of this type: no copy unless the type or the byte order differs."""
    array = x if isinstance(x, np.ndarray) else x.detach().numpy()
    if array.dtype != dtype or not array.dtype.isnative:
        return array.astype(dtype)
    return array


def wrap(result: np.ndarray, kind: str | None) -> Any:
    """A result in the library of the caller, sharing memory."""
    return sys.modules["torch"].from_numpy(result) if kind == TORCH else result


def needs_gradient(x: Any) -> bool:
    """Whether torch follows the computations on this array."""
    return not isinstance(x, np.ndarray) and x.requires_grad


def gradients_enabled() -> bool:
    """torch's own switch (torch.no_grad)."""
    return sys.modules["torch"].is_grad_enabled()
