"""Lets Triton's interpreter (TRITON_INTERPRET=1) run the functions of libdevice, by NumPy.

The interpreter executes kernels on a machine without a GPU, one NumPy operation at a time, but leaves out calls of
the device library.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

_erf = np.vectorize(math.erf, otypes=[np.float64])

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{
        n: getattr(np, n)
        for n in ("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "floor", "ceil", "trunc")
    },
    **{n: getattr(np, n) for n in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    **{"asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "atan2": np.arctan2, "pow": np.power},
    "erf": lambda x: _erf(x).astype(x.dtype),
    "rsqrt": lambda x: 1 / np.sqrt(x),
}


class Library:
    """Stands for `libdevice` in interpreted kernels: its attributes take and give blocks of the interpreter."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = FUNCTIONS[name]

        def call(*blocks: Any, **_: Any) -> Any:
            from triton import language as tl
            from triton.runtime.interpreter import TensorHandle

            arrays = np.broadcast_arrays(*(b.handle.data for b in blocks))
            with np.errstate(all="ignore"):
                data = np.ascontiguousarray(function(*arrays))
            scalar = blocks[0].type.scalar
            kind = tl.block_type(scalar, list(data.shape)) if data.ndim else scalar
            return tl.tensor(TensorHandle(data, scalar), kind)

        return call
