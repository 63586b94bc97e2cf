"""`pykeops.common.utils`: axes and categories, broadcasting, messages."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pykeops

c_type = {"float16": "half2", "float32": "float", "float64": "double"}


def axis2cat(axis: int) -> int:
    """The category that a reduction over this axis leaves: 0 (over i) leaves 1 (j), and the other way round."""
    if axis in (0, 1):
        return 1 - axis
    raise ValueError(f"axis is 0 (over i) or 1 (over j), not {axis!r}.")


def cat2axis(cat: int) -> int:
    """The axis that is reduced over where this category is left."""
    if cat in (0, 1):
        return 1 - cat
    raise ValueError(f"cat is 0 (indexed by i) or 1 (indexed by j), not {cat!r}.")


def check_broadcasting(dims_1: tuple[int, ...] | None, dims_2: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """The shape of two batch shapes together; None stands for no batch. Raises ValueError where they do not fit."""
    if dims_1 is None or dims_2 is None:
        return dims_2 if dims_1 is None else dims_1
    return np.broadcast_shapes(dims_1, dims_2)


def max_tuple(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The larger of both, place by place."""
    return tuple(max(x, y) for x, y in zip(a, b, strict=True))


def get_tools(lang: str) -> Any:
    """The functions of a library under common names: "numpy" or "torch"."""
    lang = "torch" if lang == "pytorch" else lang
    if lang not in ("numpy", "torch"):
        raise ValueError(f'get_tools({lang!r}): "numpy" or "torch".')
    return getattr(importlib.import_module(f"pykeops.{lang}.utils"), f"{lang}tools")


def pyKeOps_Print(message: str, **options: Any) -> None:
    """Print a text, unless pykeops.verbose is False."""
    if pykeops.verbose:
        print(message, **options)


def pyKeOps_Message(message: str, use_tag: bool = True, **options: Any) -> None:
    """Print a text with the name of the package before it."""
    pyKeOps_Print(f"[pyKeOps] {message}" if use_tag else message, **options)


def pyKeOps_Warning(message: str) -> None:
    """Print a warning."""
    pyKeOps_Print(f"[pyKeOps] Warning : {message}")


def WarmUpGpu(lang: str) -> None:
    """Nothing: a GPU is warmed up by the first call that uses it."""
