"""The keyword arguments of reductions: which exist, what they may be, and what remains of them.

In: the keywords of a call.  Out: `Settings` and the output array, or an error that names the keyword.  Keywords of
KeOps that only tune its own engine are accepted and checked, and change nothing: sums are always accumulated more
precisely than the data, and there are no chunks to enable.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from ..config import ACCURACIES
from ..errors import DtypeError, KeywordError, ShapeError, UnsupportedError, message
from ..ir.reductions import REDUCTIONS
from ..runtime import arrays
from . import ranges
from .evaluate import Settings
from .messages import describe_value

GPU = {
    "GPU", "GPU_1D", "GPU_2D", "GPU_1D_device", "GPU_1D_host", "GPU_2D_device", "GPU_2D_host",
}  # fmt: skip
OURS = ("llvm", "triton", "reference")
KNOWN = (
    "call",
    "backend",
    "accuracy",
    "device_id",
    "ranges",
    "out",
    "progress",
    "dtype_acc",
    "use_double_acc",
    "sum_scheme",
    "enable_chunks",
    "use_fast_math",
    "keepdim",
    "keepdims",
    "rec_multVar_highdim",
)


def parse(
    name: str, options: dict[str, Any], backend: str | None, dtype: str, record: str = "", owner: type | None = None
) -> Settings:
    """Check the keywords of a reduction and keep those that matter here.

    Arguments: name: the call, for the errors; record: the record of the table, if it has another name; owner: the
    class whose method was called.
    """
    if not options:
        return DEFAULT if backend is None else Settings(backend_name(name, backend), None)
    check_names(name, options, owner)
    if options.get("ranges") is not None:
        ranges.read(f"{name}(ranges=...)", options["ranges"])
    _check_accumulation(name, record or name, options, dtype)
    device = options.get("device_id", -1)
    if not isinstance(device, (int, np.integer)) or isinstance(device, bool):
        raise ShapeError(message(f"{name}(device_id={device!r}): a device is a number; -1 follows the data."))
    chosen = backend_name(name, options.get("backend") or backend)
    progress = options.get("progress")
    return Settings(chosen, None if progress is None else bool(progress), accuracy(name, options.get("accuracy")))


DEFAULT = Settings()


def check_names(name: str, options: dict[str, Any], owner: type | None = None) -> None:
    """Refuse keywords that neither reductions in general nor this method of the class `owner` take."""
    for key in options:
        if key not in KNOWN:
            known = dict.fromkeys((*_keywords_of(getattr(owner, name.removesuffix("_weight"), None)), *KNOWN))
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the keywords are {', '.join(known)}."
            raise KeywordError(message(f"{name}({key}=...): there is no such keyword.", hint=hint))


def _keywords_of(method: Any) -> list[str]:
    """The keywords that a method names itself."""
    if not callable(method):
        return []
    found = list(inspect.signature(method).parameters.values())[1:]
    return [p.name for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def backend_name(name: str, backend: str | None) -> str | None:
    """The driver's name of a backend: None for its own choice."""
    if backend in (None, "auto", "CPU"):
        return None
    if backend in OURS:
        return backend
    if backend in GPU:
        return "triton"
    choices = ", ".join(repr(b) for b in ("auto", "CPU", "GPU", *OURS))
    text = f"{name}(backend={backend!r}): there is no such backend."
    raise UnsupportedError(message(text, hint=f"choose from {choices}."))


def accuracy(name: str, value: Any) -> str | None:
    """The policy asked for; None for that of the configuration."""
    if value is None or (isinstance(value, str) and value in ACCURACIES):
        return value
    hint = "'strict' (the default) or 'fast'; pairfuse.config.accuracy sets it for the process."
    raise UnsupportedError(message(f"{name}(accuracy={value!r}): there is no such policy.", hint=hint))


def _accumulates(record: str) -> bool:
    """Are terms added (or multiplied), so that the precision of that is a question? Not where one is chosen."""
    found = REDUCTIONS.get(record)
    return found is not None and (found.additive or found.cotangents is not None)


def _check_accumulation(name: str, record: str, options: dict[str, Any], dtype: str) -> None:
    """The accumulator's options of KeOps: refused where they contradict each other or the data."""
    acc, double = options.get("dtype_acc", "auto"), options.get("use_double_acc", False)
    scheme = options.get("sum_scheme", "auto")
    if acc not in ("auto", "float16", "float32", "float64"):
        raise DtypeError(message(f"{name}(dtype_acc={acc!r}): not a type.", hint="'auto', 'float32' or 'float64'."))
    if scheme not in ("auto", "direct_sum", "block_sum", "kahan_scheme"):
        hint = "'auto', 'direct_sum', 'block_sum' or 'kahan_scheme'; all give the same, accurate, sum here."
        raise UnsupportedError(message(f"{name}(sum_scheme={scheme!r}): not a scheme.", hint=hint))
    if acc != "auto" and double:
        raise DtypeError(message(f"{name}(dtype_acc={acc!r}, use_double_acc=True): give one of the two."))
    if acc == "float16" or (acc == "float32" and dtype == "float64"):
        raise DtypeError(
            message(f"{name}(dtype_acc={acc!r}): less precise than the data.", f"data: {dtype}", "leave it at 'auto'.")
        )
    if not _accumulates(record) and (acc != "auto" or double or scheme in ("block_sum", "kahan_scheme")):
        raise UnsupportedError(
            message(f"{name}: dtype_acc, use_double_acc and sum_scheme are for sums.", hint="leave them out.")
        )


def deliver(name: str, results: Any, out: Any, library: str | None) -> Any:
    """Copy the results into the caller's arrays, which are returned."""
    several = isinstance(results, tuple)
    values: Sequence[Any] = results if several else (results,)
    targets: Sequence[Any] = out if isinstance(out, (tuple, list)) else (out,)
    if len(values) != len(targets):
        raise ShapeError(
            message(f"{name}(out=...): {len(values)} results and {len(targets)} output arrays.", hint="pass a tuple.")
        )
    for value, target in zip(values, targets, strict=True):
        _fill(name, value, target, library)
    return tuple(targets) if several else targets[0]


def _fill(name: str, value: Any, target: Any, library: str | None) -> None:
    facts = [f"out: {describe_value(target)}", f"result: {describe_value(value)}"]
    if arrays.library(target) != (library or arrays.NUMPY):
        raise DtypeError(message(f"{name}(out=...): out is not of the library of the result.", facts))
    if tuple(target.shape) != tuple(value.shape):
        hint = "the result has the shape (*batch, M or N, D)."
        raise ShapeError(message(f"{name}(out=...): out has not the shape of the result.", facts, hint))
    if target.dtype != value.dtype:
        raise DtypeError(message(f"{name}(out=...): out has not the type of the result.", facts))
    if isinstance(target, np.ndarray):
        if not target.flags.writeable:
            raise UnsupportedError(message(f"{name}(out=...): out is read-only.", facts))
        np.copyto(target, value)
    else:
        target.copy_(value)
