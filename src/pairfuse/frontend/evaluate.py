"""From a problem and the data of its inputs to arrays of the caller's library: the bridge to the driver.

In: a `Problem`, the bindings of its inputs, the space of its formulas.  Out: the visible outputs, each of shape
(*batch, kept size, dim).  When torch follows one of the inputs, the differentiable path (autograd/) is taken.
This is the warm path of every reduction: nothing here may depend on the length of the formula.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .. import forks
from ..dtypes import STORED
from ..errors import ShapeError, UnsupportedError, message
from ..lower.problem import Problem, Sizes
from ..runtime import arrays
from ..runtime.execute import execute
from .base import Binding, Bindings
from .integers import resolved
from .space import Space


class Settings(NamedTuple):
    """What the user asked of one reduction beyond its formula; None: what the configuration says."""

    backend: str | None = None
    progress: bool | None = None
    accuracy: str | None = None


def evaluate(problem: Problem, bindings: Bindings, space: Space, settings: Settings) -> tuple[Any, ...]:
    """The visible outputs of the problem."""
    check_sizes(problem, space)
    problem, bindings, space = resolved(problem, bindings, space)
    if space.library == arrays.TORCH and (
        (arrays.gradients_enabled() and any(map(followed, bindings))) or arrays.transformed()
    ):
        # Loaded on first use: it is the only file of the package that needs torch.
        autograd = forks.load("pairfuse.frontend.autograd.function")
        return autograd.evaluate(problem, bindings, space, settings)
    sizes = sizes_of(space)
    if space.on_gpu:
        return on_device(problem, bindings, space, settings)[: problem.record.visible]
    values = [host_value(b, problem.dtype, sizes) for b in bindings]
    results = launch(problem, values, sizes, settings)
    return tuple([arrays.wrap(r, space.library) for r in results[: problem.record.visible]])


def on_device(problem: Problem, bindings: Bindings, space: Space, settings: Settings) -> tuple[Any, ...]:
    """Every output of the problem, as tensors of the type and on the GPU of the data."""
    used = bindings[: len(input_axes(problem))]
    assert space.device is not None
    values = [device_value(b, problem.dtype, sizes_of(space), space.device) for b in used]
    return launch(problem, values, sizes_of(space), gpu_settings(settings, space.device), dtype_of(space))


def gpu_settings(settings: Settings, device: str) -> Settings:
    """The settings for data on a GPU, which stays there."""
    if settings.backend in (None, "triton"):
        return settings._replace(backend="triton")
    raise UnsupportedError(
        message(
            f"backend={settings.backend!r}: the data is on the device '{device}', this backend computes on the CPU.",
            hint="leave the backend out, or pass x.cpu().",
        )
    )


def launch(
    problem: Problem, values: list[Any], sizes: Sizes, settings: Settings, storage: str | None = None
) -> tuple[Any, ...]:
    """Every output of the problem, from the driver; `storage`: their type on a GPU, if not the problem's."""
    return execute(problem, values, sizes, backend=settings.backend, progress=settings.progress, storage=storage)


def sizes_of(space: Space) -> Sizes:
    """The run-time sizes: an axis without variables has length 1."""
    return Sizes(1 if space.ni is None else space.ni, 1 if space.nj is None else space.nj, space.batch, space.ranges)


def dtype_of(space: Space) -> str:
    """The number type of the arrays, and of the result."""
    return space.dtype or arrays.default_dtype(space.library)


def computed_in(space: Space) -> str:
    """The number type of the computation: float32 for the arrays of 16 bits that a GPU takes."""
    dtype = dtype_of(space)
    return STORED.get(dtype, dtype)


def followed(binding: Binding) -> bool:
    """Whether torch wants the derivative with respect to this input."""
    return type(binding.data) is not tuple and arrays.needs_gradient(binding.data)


def host_value(binding: Binding, dtype: str, sizes: Sizes) -> np.ndarray:
    """The data of an input as the driver takes it: (*batch, rows, dim) or (*batch, dim), of this type."""
    data, axis = binding
    if type(data) is tuple:
        return np.array(data, dtype=dtype)
    value = arrays.view(data, dtype)
    if axis == "p":
        return value
    rows = sizes.M if axis == "i" else sizes.N
    if value.shape[-2] != rows:  # one row for all
        return np.broadcast_to(value, (*value.shape[:-2], rows, value.shape[-1]))
    return value


def device_value(binding: Binding, dtype: str, sizes: Sizes, device: str) -> Any:
    """The same as a tensor on a GPU."""
    data, axis = binding
    value = arrays.on_device(data, dtype, device)
    if axis == "p":
        return value
    rows = sizes.M if axis == "i" else sizes.N
    return value if value.shape[-2] == rows else value.expand(*value.shape[:-2], rows, value.shape[-1])


@lru_cache(maxsize=1024)
def input_axes(problem: Problem) -> tuple[str, ...]:
    """The axis of every input slot, in order; "p" for a slot that the formulas do not use."""
    axes = {n.param("slot"): n.param("axis") for n in problem.inputs}
    return tuple(axes.get(slot, "p") for slot in range(max(axes, default=-1) + 1))


def check_sizes(problem: Problem, space: Space) -> None:
    """Refuse what has no value: an unknown size, the index of an extremum over nothing, ranges beyond the data."""
    if space.ranges is not None:
        space.ranges.check(problem.reduction, *space.sizes[-2:])
    for formula in problem.formulas:
        for axis in formula.axes:
            if space.along(axis) is None:
                raise ShapeError(
                    message(
                        f"{problem.reduction}: the formula uses the index {axis}, but its range is not known.",
                        f"no variable of the formula is indexed by {axis}",
                        f"say it: index_{axis}(size).",
                    )
                )
    if not problem.record.empty and space.along(problem.over) == 0:
        raise ShapeError(
            message(
                f"{problem.reduction}: no index to return, the reduction over {problem.over} has no term.",
                f"shape {space.sizes}",
                "min and max over nothing are +inf and -inf.",
            )
        )
