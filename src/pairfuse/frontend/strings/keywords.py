"""The keywords that `Genred` and `KernelSolve` have in common: which are kept, and which mean nothing here.

In: what the user gave.  Out: the keywords of a reduction, without those that were left at their default.
"""

from __future__ import annotations

import warnings
from typing import Any

# What the classes are given when the user says nothing; only other values go to the reduction.
DEFAULTS = {"dtype_acc": "auto", "use_double_acc": False, "sum_scheme": "auto"}


def of_class(name: str, dtype: Any, cuda_type: Any, **given: Any) -> dict[str, Any]:
    """The options of the constructor; dtype and cuda_type, ignored by KeOps, too, give a warning at the user's line."""
    if dtype is not None or cuda_type is not None:
        text = f"{name}(dtype=..., cuda_type=...): ignored; the type is that of the arrays."
        warnings.warn(text, DeprecationWarning, stacklevel=3)
    return {key: value for key, value in given.items() if value != DEFAULTS[key]}


def of_call(backend: str, device_id: int, ranges: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a call."""
    if backend != "auto":
        options["backend"] = backend
    if device_id != -1:
        options["device_id"] = device_id
    if ranges is not None:
        options["ranges"] = ranges
    return options
