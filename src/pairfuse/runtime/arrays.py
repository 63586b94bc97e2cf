"""The array libraries: the only file that knows what a NumPy array and a torch tensor are.

In: what users pass (arrays, tensors, their subclasses).  Out: its library, type and device, a NumPy view of its memory
without a copy, and results in the library of the caller.  torch is never imported here: whoever holds a tensor has
already imported it, so `sys.modules` has it.

Types of numbers.  float32 and float64 are computed as they are, complex64 and complex128 as pairs of them.  Integers
and truth values are converted to the floating type of the arrays they meet, in digits where it does not hold them
(lower/integers.py); when no array of the formula is of a floating type they become float64 (NumPy) or torch's default
type (`torch.get_default_dtype()`).  Other types are refused with the conversion to write.

Along axes where an array repeats its numbers (`expand`, `np.broadcast_to`) they are converted once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..dtypes import COMPLEX, PARTS, PRECISIONS, STORED
from ..errors import DtypeError, UnsupportedError, message
from . import memory

NUMPY, TORCH = "numpy", "torch"
INTEGER = "integer"  # the type of integers and truth values, which adapt to the others


def library(x: Any) -> str | None:
    """The library of an array, "numpy" or "torch"; None for anything else."""
    if isinstance(x, np.ndarray):
        return NUMPY
    torch = sys.modules.get("torch")
    tensor = getattr(torch, "Tensor", None)  # None while torch is still being imported
    return TORCH if tensor is not None and isinstance(x, tensor) else None


def nearly(x: Any) -> np.ndarray | None:
    """What is nearly an array as one: nested lists, columns and tables of pandas and polars, whatever offers
    `__array__` or DLPack on the CPU. Memory is shared where the object allows it; None for anything else.

    Raises DtypeError: lists of different lengths, Python objects, memory on another device.
    """
    if isinstance(x, (list, tuple)):
        if not x or not all(isinstance(row, (list, tuple, np.ndarray)) for row in x):
            return None
        try:
            array = np.array(x)
        except ValueError:
            hint = "rows of a variable have one length; pad them, or make an array of each."
            raise DtypeError(message("LazyTensor(x): the lists in x have different lengths.", hint=hint)) from None
    elif callable(getattr(x, "__array__", None)) and not isinstance(x, np.generic):
        array = np.asarray(x)
    elif callable(getattr(x, "__dlpack__", None)):
        device = x.__dlpack_device__()  # type: ignore[union-attr]
        if int(device[0]) != 1:
            text = f"LazyTensor(x): a {type(x).__name__} on a device, {tuple(map(int, device))} in DLPack's words."
            raise UnsupportedError(message(text, hint="torch.from_dlpack(x) is a tensor that shares its memory."))
        array = np.from_dlpack(x)  # type: ignore[arg-type]
    else:
        return None
    if array.dtype.kind not in "biufc":
        raise _no_numbers(x, array)
    return array


def _no_numbers(x: Any, array: np.ndarray) -> DtypeError:
    """The error of a table or a column that holds something else than numbers."""
    name, kind = type(x).__name__, array.dtype.kind
    if array.ndim == 2 and hasattr(x, "columns"):
        others = [c for c in x.columns if np.asarray(x[c]).dtype.kind not in "biufc"]
        facts = f"columns without numbers: {', '.join(map(repr, others[:5]))}{', ...' if len(others) > 5 else ''}"
        hint = "select the columns of numbers, x[[...]], or put numbers in the place of the others."
    else:
        facts = f"dtype: {getattr(x, 'dtype', array.dtype)}"
        hint = "convert the column: x.astype(float) of pandas, x.cast(float) of polars, the numbers of categories."
        if kind == "O" and isinstance(x, (list, tuple)):
            hint = "build it from numbers, np.array(x, dtype=float)."
    return DtypeError(message(f"LazyTensor(x): the {name} does not hold numbers.", facts, hint))


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
            "supported: float32 and float64; float16 and bfloat16, computed in float32; "
            "integers and truth values, which become floating-point numbers",
            _remedy(name, kind),
        )
    )


def _remedy(name: str, kind: str) -> str:
    if name in PARTS:
        pairs = "x.view(x.real.dtype)" if kind == NUMPY else "torch.view_as_real(x).flatten(-2)"
        return f"symbolic variables are real, and take complex numbers as pairs (real part, imaginary part): {pairs}."
    if name.startswith("complex"):
        return "convert the array, " + ("x.astype(np.complex64)." if kind == NUMPY else "x.to(torch.complex64).")
    if name == "object":
        return "the array holds Python objects; build it from numbers, for example np.array(x, dtype=float)."
    if kind == NUMPY and name.startswith(("str", "bytes", "datetime", "timedelta", "void")):
        return "give numbers: categories by their number, times in seconds, x.astype(float) of strings of digits."
    return "convert the array, " + ("x.astype(np.float32)." if kind == NUMPY else "x.float().")


def in_single(x: Any, kind: str) -> Any:
    """The array, or float32 numbers where it has 16 bits: on the CPU always, on a GPU under torch.autocast.

    A kernel of the CPU computes in float32, and so do torch's own sums and distances under autocast.
    """
    if x.dtype.itemsize != 2:
        return x
    if kind == NUMPY:
        return once(x, lambda a: a.astype(np.float32)) if x.dtype.name in STORED else x
    if not x.is_floating_point():
        return x
    if x.is_cpu:
        return once(x, lambda t: t.float())
    return once(x, lambda t: t.float()) if sys.modules["torch"].is_autocast_enabled(x.device.type) else x


def is_complex(x: Any, kind: str) -> bool:
    """Is this an array of complex64 or complex128?"""
    if not (x.dtype.kind == "c" if kind == NUMPY else x.is_complex()):  # the names of types are slow to ask for
        return False
    return (x.dtype.name if kind == NUMPY else str(x.dtype).removeprefix("torch.")) in PARTS


def as_pairs(x: Any, kind: str) -> Any:
    """An array (..., D) of complex numbers as one of real numbers, (..., 2 D): real part, imaginary part, and so on.

    It shares the memory of x where the numbers of the last axis follow each other.
    """
    if kind == TORCH:
        return once(x, lambda t: sys.modules["torch"].view_as_real(t.resolve_conj().resolve_neg()).flatten(-2), True)
    return once(x, lambda a: a[..., None].view(x.real.dtype).reshape(*a.shape[:-1], 2 * a.shape[-1]), True)


def from_pairs(x: Any, kind: str | None) -> Any:
    """The other way, for the results of a formula."""
    if kind == TORCH:
        torch = sys.modules["torch"]
        return torch.view_as_complex(x.unflatten(-1, (x.shape[-1] // 2, 2)).contiguous())
    return np.ascontiguousarray(x).view(COMPLEX[x.dtype.name])


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
        # z.conj().imag is a view that torch negates when it is read; torch.compile cannot ask for it, and has none
        negated = not sys.modules["torch"].compiler.is_compiling() and x.is_neg()
        return once(x, lambda t: t.resolve_neg()) if negated else x
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
        return _on_stream(x, dtype, device)
    torch = sys.modules["torch"]
    x = x.detach().resolve_neg()
    kind = getattr(torch, dtype)
    if STORED.get(str(x.dtype).removeprefix("torch.")) == dtype:
        kind = x.dtype
    if x.is_cpu and device != "cpu":  # a number; its copy is pageable, and so it is read before `to` returns
        return x.clone().to(device, kind, non_blocking=True)
    try:
        return once(x, lambda t: t.to(device, kind))
    except torch.cuda.OutOfMemoryError:
        pass
    raise memory.shortage(torch, "LazyTensor(x)", f"x as {dtype}", tuple(x.shape), kind, torch.device(device))


def _on_stream(values: tuple[float, ...], dtype: str, device: str) -> Any:
    """A few numbers on a GPU, for work on the current stream."""
    torch = sys.modules["torch"]
    if device == "cpu":
        return _numbers(values, dtype, device, 0)
    if torch.cuda.is_current_stream_capturing():  # written by the graph itself, at each replay, into its own memory
        found = torch.empty(len(values), dtype=getattr(torch, dtype), device=device)
        for k, value in enumerate(values):
            found[k : k + 1].fill_(value)
        return found
    return _numbers(values, dtype, device, torch.cuda.current_stream(device).cuda_stream)


@lru_cache(maxsize=1024)
def _numbers(values: tuple[float, ...], dtype: str, device: str, stream: int) -> Any:
    """A few numbers on a GPU, kept there: the copy is queued on a stream, and only there they are known to be."""
    torch = sys.modules["torch"]
    with torch.inference_mode(False):  # whoever asks first, others may want to differentiate
        return torch.tensor(values, dtype=getattr(torch, dtype)).to(device, non_blocking=True)


def default_dtype(kind: str | None) -> str:
    """The floating type of a formula in which no array has one."""
    if kind == TORCH:
        name = str(sys.modules["torch"].get_default_dtype()).removeprefix("torch.")
        return name if name in PRECISIONS else "float32"
    return "float64"


def view(x: Any, dtype: str) -> np.ndarray:
    """The memory of an array as a NumPy array of this type: no copy unless the type or the byte order differs."""
    array = x if isinstance(x, np.ndarray) else _memory(x.detach())
    if array.dtype != dtype or not array.dtype.isnative:
        return once(array, lambda a: a.astype(dtype))
    return array


def shortened(x: Any, last: bool = False) -> Any:
    """x with length 1 along the axes on which it repeats its numbers; the last one stays if `last`."""
    strides = x.strides if isinstance(x, np.ndarray) else x.stride()
    if 0 not in strides:
        return x
    once_each = [slice(0, 1) if s == 0 else slice(None) for s in strides]
    if last:
        once_each[-1] = slice(None)
    return x[tuple(once_each)]


def once(x: Any, convert: Callable[[Any], Any], last: bool = False) -> Any:
    """convert(x), computed once where x repeats its numbers along axes, and repeated as x is.

    `last`: the conversion needs all of the last axis, and may change its length.
    """
    short = shortened(x, last)
    result = convert(short)
    if short is x:
        return result
    shape = (*x.shape[:-1], result.shape[-1] if last else x.shape[-1])
    return np.broadcast_to(result, shape) if isinstance(result, np.ndarray) else result.expand(shape)


def _memory(x: Any) -> np.ndarray:
    """The numbers of a tensor on the CPU."""
    try:
        return x.numpy()
    except RuntimeError:  # a tensor that torch keeps as the opposite of its memory: the imaginary part of a conjugate
        return once(x, lambda t: t.resolve_neg()).numpy()


def wrap(result: np.ndarray, kind: str | None) -> Any:
    """A result in the library of the caller, sharing memory."""
    return sys.modules["torch"].from_numpy(result) if kind == TORCH else result


def namespace(kind: str) -> Any:
    """The module of a library: where NumPy and torch use one name for a function, it is called by this name."""
    return sys.modules["torch"] if kind == TORCH else np


def concatenate(values: Sequence[Any], kind: str | None) -> Any:
    """Arrays of one library joined along their last axis."""
    return sys.modules["torch"].cat(list(values), -1) if kind == TORCH else np.concatenate(values, axis=-1)


def root(x: Any) -> Any:
    """The square root of each component; where a tensor is 0, derivatives of all orders are 0 and not infinite."""
    if isinstance(x, np.ndarray):
        return x**0.5
    zero = x == 0
    return x.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


def gathered(x: Any, index: Any) -> Any:
    """The rows x[..., index[..., k, d], d] on the axis before the last; for negative numbers any row."""
    index = index * (index >= 0)
    if isinstance(x, np.ndarray):
        return np.take_along_axis(x, index, axis=-2)
    return sys.modules["torch"].take_along_dim(x, index, dim=-2)


def chosen(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition is true, else y."""
    return namespace(NUMPY if isinstance(condition, np.ndarray) else TORCH).where(condition, x, y)


def logarithm(x: Any) -> Any:
    """log(x), -inf at 0 without a warning."""
    if isinstance(x, np.ndarray):
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(x)
    return x.log()


def detached(x: Any) -> Any:
    """The array without its derivatives."""
    return x if isinstance(x, np.ndarray) else x.detach()


def needs_gradient(x: Any) -> bool:
    """Whether torch follows the computations on this array."""
    return not isinstance(x, np.ndarray) and x.requires_grad


def gradients_enabled() -> bool:
    """torch's own switch (torch.no_grad)."""
    return sys.modules["torch"].is_grad_enabled()


def transformed() -> bool:
    """Whether torch does more than compute, whoever requires gradients: vmap, forward mode, tracing."""
    torch = sys.modules["torch"]
    return functional() or torch._C._len_torch_dispatch_stack() > 0


def functional() -> bool:
    """Whether a transform of torch.func or forward mode is active; what tracing alone is not."""
    torch = sys.modules["torch"]
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


def plain_tensors(tensors: Sequence[Any]) -> bool:
    """Whether the tensors have memory to read, and nobody records what is done with them."""
    torch = sys.modules["torch"]
    kinds = (torch.Tensor, torch.nn.Parameter)
    return not tensors or (
        torch._C._len_torch_dispatch_stack() == 0
        and all(
            type(t) in kinds or type(t).__torch_dispatch__ is torch._C._disabled_torch_dispatch_impl for t in tensors
        )
    )
