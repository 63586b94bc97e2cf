"""The numbers of integer arrays: how large they are, and their digits as numbers of a floating type.

In: arrays of both libraries, tuples of Python integers.  Out: the interval that the numbers lie in, or nothing where
they cannot be read, as while torch traces; and arrays of digits (lower/integers.py says when they are needed).
"""

from __future__ import annotations

import sys
import weakref
from functools import lru_cache
from typing import Any

import numpy as np

from . import arrays

Bounds = tuple[int, int]
SHORT = 16  # integers of so many bits are held by every floating type that computes: nobody looks at them
MOST_NOTES = 64
_known: dict[int, tuple[weakref.ref[Any], dict[Any, Any]]] = {}


def bits_of(x: Any) -> int:
    """How many bits the integers of an array or a tuple have; 0 for real numbers."""
    if type(x) is tuple:
        return 64 if x and all(type(v) is int for v in x) else 0
    kind = arrays.library(x)
    return 0 if kind is None else _bits(x.dtype, kind)


@lru_cache(maxsize=64)
def _bits(dtype: Any, kind: str) -> int:
    name = dtype.name if kind == arrays.NUMPY else str(dtype).removeprefix("torch.")
    return 1 if name == "bool" else 8 * dtype.itemsize if name.startswith(("int", "uint")) else 0


def bounds(x: Any) -> Bounds | None:
    """The smallest and the largest number; None where they cannot be read. Long axes of equal numbers are read once."""
    if type(x) is tuple:
        return min(x), max(x)
    if isinstance(x, np.ndarray):
        return _extremes(x)
    x = _innermost(x)
    if x is None:
        return None
    return _extremes(x.numpy()) if x.is_cpu else _on_gpu(x)


def _extremes(x: np.ndarray) -> Bounds:
    x = arrays.shortened(x)
    if not x.size:
        return 0, 0
    return int(np.minimum.reduce(x, axis=None)), int(np.maximum.reduce(x, axis=None))


def _innermost(x: Any) -> Any:
    """The tensor in which the numbers of one of torch.func lie; None for those without memory."""
    functorch = sys.modules["torch"]._C._functorch
    while functorch.is_functorch_wrapped_tensor(x):
        x = functorch.get_unwrapped(x)
    return x if arrays.plain_tensors((x,)) and not functorch.is_legacy_batchedtensor(x) else None


def _on_gpu(x: Any) -> Bounds | None:
    """Reading waits for the GPU, so what was read is noted on the tensor until torch changes it."""
    torch = sys.modules["torch"]
    if torch.cuda.is_current_stream_capturing():  # a graph may find other numbers each time it runs
        return None
    notes = _notes(x if x._base is None else x._base)
    place = (x.storage_offset(), tuple(x.shape), x.stride())
    version = None if x.is_inference() else x._version
    known = notes.get(place)
    if known is not None and known[0] == version and version is not None:
        return known[1]
    short = arrays.shortened(x)
    short = short if short.dtype in (torch.int32, torch.int64) else short.to(torch.int64)
    low, high = torch.stack(torch.aminmax(short)).tolist() if short.numel() else (0, 0)
    if len(notes) >= MOST_NOTES:
        notes.clear()
    notes[place] = (version, (low, high))
    return low, high


def _notes(owner: Any) -> dict[Any, Any]:
    """What is known of parts of a tensor, as long as it lives."""
    key = id(owner)
    found = _known.get(key)
    if found is None or found[0]() is not owner:
        found = _known[key] = (weakref.ref(owner, lambda _: _known.pop(key, None)), {})
    return found[1]


def digits(x: Any, dtype: str, count: int, bits: int) -> Any:
    """Integers (..., D) as numbers (..., count * D) of a floating type: the upper digits of all, and so on.

    A digit has so many bits; the first has the sign.
    """
    if type(x) is tuple:
        return tuple(float(_digit(v, k, count, bits)) for k in range(count) for v in x)
    if isinstance(x, np.ndarray):
        return arrays.once(x, lambda a: _digits(a.astype(np.int64, copy=False), dtype, count, bits), last=True)
    torch = sys.modules["torch"]
    return arrays.once(
        x,
        lambda t: torch.cat(
            [_digit(t.to(torch.int64), k, count, bits).to(getattr(torch, dtype)) for k in range(count)], -1
        ),
        last=True,
    )


def _digits(x: np.ndarray, dtype: str, count: int, bits: int) -> np.ndarray:
    return np.concatenate([_digit(x, k, count, bits).astype(dtype) for k in range(count)], axis=-1)


def _digit(x: Any, k: int, count: int, bits: int) -> Any:
    moved = x >> (bits * (count - 1 - k))
    return moved if k == 0 else moved & ((1 << bits) - 1)
