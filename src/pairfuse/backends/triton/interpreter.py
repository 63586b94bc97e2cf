"""Lets Triton's interpreter (TRITON_INTERPRET=1) run what it leaves out, or runs one number at a time, by NumPy.

The interpreter executes kernels on a machine without a GPU, one NumPy operation at a time.  Calls of the device library
are not known to it, and a fold with a function of ours calls it for every number: here, for halves of blocks.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...ir.ops import OPS

_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _count_ones(x: Any) -> Any:
    """Of integers that are not negative."""
    count = OPS["bitwise_count"].ref
    assert count is not None
    return count(x)


_NUMPY_NAMES = (
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "floor", "ceil", "trunc"),
    *("sin", "cos", "tan", "sinh", "cosh", "tanh"),
)

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{n: getattr(np, n) for n in _NUMPY_NAMES},
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "copysign": np.copysign,
    "pow": np.power,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "erf": lambda x: _erf(x).astype(x.dtype),
    "erfc": lambda x: _erfc(x).astype(x.dtype),
    "popc": lambda x: _count_ones(x).astype(x.dtype),
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "fast_expf": np.exp,
}


class Library:
    """Stands for `libdevice` in interpreted kernels: its attributes take and give blocks of the interpreter."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = FUNCTIONS[name]

        def call(*blocks: Any, **_: Any) -> Any:
            arrays = np.broadcast_arrays(*(b.handle.data for b in blocks))
            with np.errstate(all="ignore"):
                return _block(function(*arrays), blocks[0].type.scalar)

        return call


def fold_columns(blocks: tuple[Any, ...], axis: int, function: Any, keep_dims: bool) -> tuple[Any, ...]:
    """Stands for `tl.reduce` over axis 1, whose length is a power of 2."""
    assert axis == 1
    assert keep_dims
    kinds = [b.type.scalar for b in blocks]
    data = [b.handle.data for b in blocks]
    while data[0].shape[1] > 1:
        half = data[0].shape[1] // 2
        first = [_block(d[:, :half], kind) for d, kind in zip(data, kinds, strict=True)]
        second = [_block(d[:, half:], kind) for d, kind in zip(data, kinds, strict=True)]
        merged = function.fn(*first, *second)
        data = [m.handle.data for m in (merged if isinstance(merged, tuple) else (merged,))]
    return tuple(_block(d, kind) for d, kind in zip(data, kinds, strict=True))


def any_pair(block: Any) -> bool:
    """Stands for a fold of truth values to a single one."""
    return bool(block.handle.data.any())


def not_all_positive(block: Any) -> bool:
    """Stands for the comparison of the smallest number, NaN included, with 0."""
    return not bool((block.handle.data > 0).all())


def least(block: Any) -> float:
    """Stands for a fold of numbers to the least; NaN is passed by."""
    return float(np.fmin.reduce(block.handle.data, axis=None))


def largest(block: Any) -> float:
    """The same for the largest."""
    return float(np.fmax.reduce(block.handle.data, axis=None))


def multiply(x: Any, y: Any, acc: Any) -> Any:
    """Stands for `tl.dot`, which the interpreter does not compute for bfloat16."""
    tl = importlib.import_module("triton.language")
    a, b = (v.to(tl.float32).handle.data for v in (x, y))
    return _block(acc.handle.data + a @ b, tl.float32)


def _block(data: Any, scalar: Any) -> Any:
    """An array as a block of the interpreter."""
    tl = importlib.import_module("triton.language")
    handle = importlib.import_module("triton.runtime.interpreter").TensorHandle

    data = np.ascontiguousarray(data)
    kind = tl.block_type(scalar, list(data.shape)) if data.ndim else scalar
    return tl.tensor(handle(data, scalar), kind)


# By the names that they replace in a module of generated source.
STAND_INS: dict[str, Any] = {
    "libdevice": Library(),
    "fold_columns": fold_columns,
    "any_pair": any_pair,
    "not_all_positive": not_all_positive,
    "least": least,
    "largest": largest,
    "multiply": multiply,
}
