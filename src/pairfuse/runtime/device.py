"""The driver on a GPU: the counterpart of execute.py for the Triton backend, on torch tensors.

In: a problem, its tensors (or NumPy arrays), sizes.  Out: its outputs, on the device of the tensors.  Tensors on a GPU
are used where they are, with the strides they have; the kernel is put on the current stream of their device, and
nothing here waits for it.  NumPy arrays and CPU tensors are copied to the GPU, and the results back; with Triton's
interpreter (TRITON_INTERPRET=1 when triton is first imported) everything is computed on the CPU, slowly, for tests.

torch and triton are imported at the first call, and no call of CUDA happens before.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..backends import reference
from ..backends.triton import compile as triton_compile
from ..backends.triton.emit import emit_kernel
from ..backends.triton.launch import batch_of, by_component, largest_offset, launch
from ..backends.triton.tile import LONGEST_LIST, Tile, choose
from ..dtypes import PRECISIONS, RESULT_DTYPES, STORED
from ..errors import DtypeError, UnsupportedError, message
from ..ir.expr import Expr
from ..lower.kernel import Kernel, lower
from ..lower.problem import Problem, Sizes
from ..transform.expand import expand
from ..transform.simplify import simplify

INSTALL = "pip install 'pairfuse[gpu]'"

Clock = Callable[[str, Callable[[], Any]], Any]


@dataclass(slots=True)
class GpuProgram:
    """Everything made of one problem, by tile. Triton keeps what is compiled for each device and each type of data."""

    problem: Problem
    formulas: tuple[Expr, ...]
    kernel: Kernel
    output_dims: tuple[int, ...]
    by_tile: dict[Tile, triton_compile.Binary]

    def binary(self, tile: Tile, clock: Clock) -> triton_compile.Binary:
        found = self.by_tile.get(tile)
        if found is None:
            source = clock("emit for GPU", lambda: emit_kernel(self.kernel, tile))
            found = self.by_tile[tile] = clock("load", lambda: triton_compile.load(source))
        return found


_programs: dict[Problem, GpuProgram] = {}


def program(problem: Problem, clock: Clock) -> GpuProgram:
    """The program of a problem, made at its first use."""
    found = _programs.get(problem)
    if found is None:
        _check(problem)
        formulas: tuple[Expr, ...] = clock("simplify", lambda: tuple(simplify(expand(problem.formulas))))
        kernel = clock("lower", lambda: lower(problem, formulas))
        found = _programs[problem] = GpuProgram(problem, formulas, kernel, problem.output_dims(), {})
    return found


def clear() -> None:
    """Forget every program of this process."""
    _programs.clear()


def _check(problem: Problem) -> None:
    k = dict(problem.params).get("K", 0)
    if k > LONGEST_LIST:
        raise UnsupportedError(
            message(
                f"{problem.reduction}(K={k}): on a GPU, lists have at most {LONGEST_LIST} entries.",
                hint="compute on the CPU, x.cpu(), or ask for fewer neighbours.",
            )
        )


# ---------------------------------------------------------------------- a call


def execute(
    problem: Problem, arrays: Sequence[Any], sizes: Sizes, clock: Clock, storage: str | None = None
) -> tuple[Any, ...]:
    """Compute all outputs, each of shape (*batch, kept size, dim), in the library and on the device of the arrays.

    Arguments: arrays, as `runtime.execute.execute` takes them, all NumPy or all torch; storage, the type of the outputs
    of real numbers, if not the problem's ("float16" or "bfloat16" where the problem is of float32).
    """
    torch = _torch(problem, arrays)
    tensors = [_tensor(torch, a) for a in arrays]
    home = _home(problem, tensors)
    device = home if home is not None and home.type != "cpu" else _default_device(problem)
    if home != device:
        tensors = [t.to(device, non_blocking=True) for t in tensors]
    _check_types(problem, tensors)
    results = _launched(torch, problem, tensors, sizes, device, clock, storage or problem.dtype)
    if home != device and (home is not None or not arrays):
        results = tuple(r.cpu() for r in results)
    if not any(isinstance(a, torch.Tensor) for a in arrays):
        return tuple(r.numpy() for r in results)
    return results


def _launched(
    torch: Any, problem: Problem, tensors: list[Any], sizes: Sizes, device: Any, clock: Clock, storage: str
) -> tuple[Any, ...]:
    kept, reduced = sizes.along(problem.kept), sizes.along(problem.over)
    kinds = [getattr(torch, RESULT_DTYPES.get(kind, storage)) for _, kind in problem.record.outputs]
    if kept == 0 or reduced == 0 or 0 in sizes.batch:
        host = [t.detach().to("cpu", getattr(torch, problem.dtype)).numpy() for t in tensors]
        return tuple(
            torch.from_numpy(r).to(device, k) for r, k in zip(reference.run(problem, host, sizes), kinds, strict=True)
        )
    found = program(problem, clock)
    outputs = [
        torch.empty((*sizes.batch, kept, d), dtype=k, device=device)
        for d, k in zip(found.output_dims, kinds, strict=True)
    ]
    tensors = by_component(found.kernel, tensors, sizes)
    batch = batch_of(tensors, [v.param("axis") for v in problem.inputs], sizes.batch)
    processors = _processors(device)
    far = largest_offset(tensors, problem, kept, found.output_dims)
    tile = choose_tile(found.kernel, sizes, len(batch.lengths), far, processors)
    binary = found.binary(tile, clock)
    if device.type == "cpu" or torch.cuda.current_device() == device.index:
        launch(binary, found.kernel, tile, tensors, outputs, sizes, batch, processors)
    else:  # Triton launches on the current device
        with torch.cuda.device(device):
            launch(binary, found.kernel, tile, tensors, outputs, sizes, batch, processors)
    return tuple(outputs)


choose_tile = choose  # tests take smaller tiles


# ---------------------------------------------------------------------- devices


def _torch(problem: Problem, arrays: Sequence[Any]) -> Any:
    """torch, if it and triton are there."""
    missing = missing_packages()
    if missing:
        asked = "" if any(getattr(a, "is_cuda", False) for a in arrays) else "(backend='GPU')"
        raise UnsupportedError(
            message(
                f"{problem.reduction}{asked}: computing on a GPU needs {' and '.join(missing)}, which "
                f"{'is' if len(missing) == 1 else 'are'} not installed.",
                hint=f"{INSTALL} (Linux), or compute on the CPU, x.cpu().",
            )
        )
    import torch

    return torch


@lru_cache(maxsize=1)
def missing_packages() -> tuple[str, ...]:
    """What has to be installed before a GPU can be used."""
    return tuple(name for name in ("torch", "triton") if importlib.util.find_spec(name) is None)


@lru_cache(maxsize=1)
def interpreting() -> bool:
    return triton_compile.interpreting()


def _default_device(problem: Problem) -> Any:
    """Where data of the CPU is computed."""
    import torch

    if interpreting():
        return torch.device("cpu")
    if not torch.cuda.is_available():
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        raise UnsupportedError(
            message(
                f"{problem.reduction}(backend='GPU'): torch sees no GPU on this machine.",
                f"torch {torch.__version__}, built {built}",
                "leave the backend out, or check the driver with nvidia-smi; `python -m pairfuse info` says more.",
            )
        )
    return torch.device("cuda", torch.cuda.current_device())


def _home(problem: Problem, tensors: Sequence[Any]) -> Any:
    """The device that the tensors are on."""
    found = None
    for k, t in enumerate(tensors):
        if found is not None and t.device != found:
            facts = f"input 0: {found}, input {k}: {t.device}, shape {tuple(t.shape)}"
            raise UnsupportedError(
                message(f"{problem.reduction}: the tensors are on different devices.", facts, f"x.to('{found}').")
            )
        found = t.device
    return found


@lru_cache(maxsize=64)
def _processors(device: Any) -> int:
    """Multiprocessors of the device."""
    if device.type == "cpu":
        return 4
    import torch

    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _tensor(torch: Any, array: Any) -> Any:
    """A tensor on the memory of an array, or on a copy where torch cannot have it."""
    if isinstance(array, torch.Tensor):
        return array.detach()
    if not array.flags.writeable or any(s < 0 or s % array.itemsize for s in array.strides):
        array = np.array(array, order="C")
    return torch.from_numpy(array)


def _check_types(problem: Problem, tensors: Sequence[Any]) -> None:
    allowed = {problem.dtype, *(stored for stored, computed in STORED.items() if computed == problem.dtype)}
    for k, t in enumerate(tensors):
        name = str(t.dtype).removeprefix("torch.")
        if name not in allowed:
            known = ", ".join([*PRECISIONS, *STORED])
            raise DtypeError(
                message(
                    f"{problem.reduction}: input {k} is of type {name}, the computation of {problem.dtype}.",
                    f"on {t.device}; supported: {known}",
                    f"x.to(torch.{problem.dtype}).",
                )
            )
