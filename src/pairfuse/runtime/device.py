"""The driver on a GPU: the counterpart of execute.py for the Triton backend, on torch tensors.

In: a problem, its tensors (or NumPy arrays), sizes.  Out: its outputs, on the device of the tensors.  Tensors on a GPU
are used where they are, with the strides they have; the kernel is put on the current stream of their device, and
nothing here waits for it.  NumPy arrays and CPU tensors are copied to the GPU, and the results back, in tiles if they
are larger than its memory (stream.py); with Triton's interpreter (TRITON_INTERPRET=1 when triton is first imported)
everything is computed on the CPU, slowly, for tests.

torch and triton are imported at the first call, and no call of CUDA happens before.  A further call with the same
sizes, strides and types is a look-up, the allocation of the outputs, and a launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..backends import reference
from ..backends.triton import compile as triton_compile
from ..backends.triton.launch import (
    batch_of,
    by_component,
    largest_offset,
    moved_inputs,
    prepare,
    shared,
    with_columns,
)
from ..backends.triton.listed import choose_listed, tables
from ..backends.triton.tile import Tile, choose
from ..dtypes import PRECISIONS, STORED
from ..errors import DtypeError, UnsupportedError, message
from ..lower.problem import Problem, Sizes
from ..lower.ranges import Blocks
from . import memory, probe, stream, tiles
from .arrays import once
from .gpu_program import Clock, GpuProgram, Ready, output_kinds, program, programs
from .queues import queues_of

# Data of the CPU below this size is copied to the GPU without a look at how much memory is free there.
ALWAYS_FITS = 64 * 2**20
KEPT_LAUNCHES = 256  # of a problem: sizes that come and go do not fill the memory of the host
KEPT_TABLES = 16  # of the same ranges


def clear() -> None:
    """Forget every program of this process, and what was found out about its GPUs."""
    programs.clear()
    probe.clear()


# ---------------------------------------------------------------------- a call


def execute(
    problem: Problem, arrays: Sequence[Any], sizes: Sizes, clock: Clock, storage: str | None = None
) -> tuple[Any, ...] | None:
    """Compute all outputs, each of shape (*batch, kept size, dim), in the library and on the device of the arrays.

    None where the data is on the CPU and the GPU cannot be used: the reason was told, and the CPU is to compute.

    Arguments: arrays, as `runtime.execute.execute` takes them, all NumPy or all torch; storage, the type of the outputs
    of real numbers, if not the problem's ("float16" or "bfloat16" where the problem is of float32).
    """
    if problem.both:
        return _both(problem, arrays, sizes, clock, storage)
    torch = _torch(problem, arrays)
    tensors = [_tensor(torch, a) for a in arrays]
    home = _home(problem, tensors)
    device = home if home is not None and home.type != "cpu" else _default_device(problem)
    if home is not None and home == device:
        results = compute(torch, problem, tensors, sizes, device, clock, storage)
    elif device.type == "cpu" or probe.usable(problem.reduction, device, False):
        results = from_host(torch, problem, tensors, sizes, device, clock)
    else:
        return None
    if not any(isinstance(a, torch.Tensor) for a in arrays):
        return tuple(r.numpy() for r in results)
    return results


def _both(
    problem: Problem, arrays: Sequence[Any], sizes: Sizes, clock: Clock, storage: str | None
) -> tuple[Any, ...] | None:
    """A sum over both axes: the sums of the lines of the shorter axis, added up in 64 bits."""
    over = "j" if sizes.M <= sizes.N or sizes.ranges is not None else "i"
    lines = execute(replace(problem, over=over), arrays, sizes, clock, problem.dtype)
    if lines is None:
        return None
    torch = _torch(problem, arrays)
    total = torch.as_tensor(lines[0]).sum(-2, keepdim=True, dtype=torch.float64)
    total = total.to(getattr(torch, storage or problem.dtype))
    return (total.numpy() if isinstance(lines[0], np.ndarray) else total,)


def compute(
    torch: Any,
    problem: Problem,
    tensors: Sequence[Any],
    sizes: Sizes,
    device: Any,
    clock: Clock,
    storage: str | None = None,
) -> tuple[Any, ...]:
    """The outputs of tensors that are on the device, where they stay."""
    if sizes.M == 0 or sizes.N == 0 or 0 in sizes.batch:
        return _of_nothing(torch, problem, tensors, sizes, device, storage)
    found = programs.get(problem) or program(problem, clock)
    if sizes.ranges is not None:  # not kept: nothing here is to keep the ranges alive
        return launched(torch, problem.reduction, ready(found, tensors, sizes, device, clock, storage), tensors, device)
    key = (device, storage, sizes, *[(t.dtype, t.shape, t.stride()) for t in tensors])
    prepared = found.launches.get(key)
    if prepared is None:
        prepared = ready(found, tensors, sizes, device, clock, storage)
        if len(found.launches) >= KEPT_LAUNCHES:
            found.launches.clear()
        found.launches[key] = prepared
    return launched(torch, problem.reduction, prepared, tensors, device)


def launched(torch: Any, name: str, prepared: Ready, tensors: Sequence[Any], device: Any) -> tuple[Any, ...]:
    """Allocate the outputs and launch. `name`: of the reduction, for errors."""
    launch = prepared.launch
    outputs = [
        memory.empty(torch, name, f"output {k}", shape, kind, device)
        for k, (shape, kind) in enumerate(prepared.outputs)
    ]
    state = None
    if launch.state is not None:
        state = memory.empty(torch, name, "the states of the parts", launch.state, torch.float64, device)
    for k in launch.moved:
        tensors = [*tensors]
        tensors[k] = memory.made(torch, name, f"a copy of input {k}", tensors[k], device, _Moved(tensors[k]))
    room = None
    if launch.operands is not None:
        room = {
            k: memory.empty(torch, name, "the operands of the products", shape, getattr(torch, kind), device)
            for k, (shape, kind) in launch.operands.arrays.items()
        }
    if device.type == "cpu" or torch.cuda.current_device() == device.index:
        launch(tensors, outputs, state, room=room)
    else:  # Triton launches on the current device
        with torch.cuda.device(device):
            launch(tensors, outputs, state, room=room)
    return tuple(outputs)


class _Moved:
    """`by_component` of one tensor, for later."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    def __call__(self) -> Any:
        return by_component(self.tensor)


def ready(
    found: GpuProgram,
    tensors: Sequence[Any],
    sizes: Sizes,
    device: Any,
    clock: Clock,
    storage: str | None = None,
    tile: Tile | None = None,
) -> Ready:
    """The launch for tensors of these types, shapes and strides, after all checks; `tile`: not the chosen one."""
    import torch

    problem = found.problem
    if device.type != "cpu":
        probe.usable(problem.reduction, device, True)
    check_types(problem, tensors, device)
    moved = moved_inputs(found.kernel, tensors, sizes)
    seen = [by_component(_shadow(t)) if k in moved else t for k, t in enumerate(tensors)]
    tile = tile or tile_for(found, seen, sizes, device)
    listed = _tables(found, sizes, tile, device)
    binary = found.binary(tile, clock)
    launch = prepare(binary, found.kernel, tile, seen, sizes, processors(device), moved, tables=listed)
    lead = (*sizes.batch, sizes.along(problem.kept))
    kinds = output_kinds(torch, problem, storage or problem.dtype)
    return Ready(launch, tuple(((*lead, d), kind) for d, kind in zip(found.output_dims, kinds, strict=True)))


def tile_for(found: GpuProgram, tensors: Sequence[Any], sizes: Sizes, device: Any) -> Tile:
    """The tile for these tensors: that of the table in tile.py, or what the tuner has found on this GPU."""
    problem = found.problem
    batch = batch_of(tensors, [v.param("axis") for v in problem.inputs], sizes.batch)
    far = largest_offset(tensors, problem, sizes.along(problem.kept), found.output_dims)
    types = tuple(str(t.dtype).removeprefix("torch.") for t in tensors)
    select = choose_tile if sizes.ranges is None else choose_listed
    tile = select(found.kernel, sizes, len(batch.lengths), far, processors(device), types, probe.generation(device))
    if sizes.ranges is None and device.type != "cpu":
        tile = tiles.tuned(tile, problem, sizes, device, processors(device))
    return with_columns(tile, found.kernel, tensors)


_tables_made: WeakKeyDictionary[Blocks, dict[Any, tuple[Any, ...]]] = WeakKeyDictionary()


def _tables(found: GpuProgram, sizes: Sizes, tile: Tile, device: Any) -> tuple[Any, ...]:
    """The tables of ranges on the device."""
    import torch

    blocks = sizes.blocks(found.problem.over)
    if blocks is None:
        return ()
    known = _tables_made.setdefault(blocks, {})
    key = (sizes.along(found.problem.kept), tile.rows, device)
    made = known.get(key)
    if made is None:
        if len(known) >= KEPT_TABLES:
            known.clear()
        made = known[key] = tuple(torch.from_numpy(t).to(device) for t in tables(blocks, *key[:2]))
    return made


choose_tile = choose  # tests take smaller tiles


def _shadow(tensor: Any) -> Any:
    """A tensor without memory, of the same shape and strides."""
    return tensor.new_empty_strided(tensor.shape, tensor.stride(), device="meta")


def _of_nothing(
    torch: Any, problem: Problem, tensors: Sequence[Any], sizes: Sizes, device: Any, storage: str | None
) -> tuple[Any, ...]:
    """Outputs over no term, or of no row: the reference gives them."""
    kinds = output_kinds(torch, problem, storage or problem.dtype)
    host = [t.to("cpu", getattr(torch, problem.dtype)).numpy() for t in tensors]
    results = reference.run(problem, host, sizes)
    return tuple(torch.from_numpy(r).to(device, k) for r, k in zip(results, kinds, strict=True))


# ---------------------------------------------------------------------- data of the CPU


def from_host(
    torch: Any, problem: Problem, tensors: Sequence[Any], sizes: Sizes, device: Any, clock: Clock
) -> tuple[Any, ...]:
    """The outputs, on the CPU, of tensors of the CPU: copied to the device, as a whole or in tiles."""
    if sizes.M and sizes.N and 0 not in sizes.batch:
        found = program(problem, clock)
        size = stream.size_on_device(found, tensors, sizes)
        limit = memory.budget(torch, device) if size > ALWAYS_FITS else None
        if limit is not None and size > limit:
            return streamed(torch, found, tensors, sizes, device, limit, clock)
    moved = [
        memory.made(torch, problem.reduction, f"input {k}", t, device, lambda t=t: _copied(t, device))
        for k, t in enumerate(tensors)
    ]
    return tuple(r.cpu() for r in compute(torch, problem, moved, sizes, device, clock))


def _copied(t: Any, device: Any) -> Any:
    return once(t, lambda short: short.to(device, non_blocking=True))


def streamed(
    torch: Any,
    found: GpuProgram,
    tensors: Sequence[Any],
    sizes: Sizes,
    device: Any,
    limit: int,
    clock: Clock,
) -> tuple[Any, ...]:
    """The same through at most `limit` bytes of the device."""
    check_types(found.problem, tensors, device)
    work = stream.Streamed(
        torch,
        found,
        tensors,
        sizes,
        stream.plan_for(found, tensors, sizes, limit),
        queues_of(torch, device),
        device,
        tile=lambda seen, local: tile_for(found, seen, local, device),
        parts=lambda tile, local: shared(found.kernel, tile, local, processors(device))[0],
        clock=clock,
    )
    if device.type == "cpu":
        return work.run()
    with torch.cuda.device(device):
        return work.run()


# ---------------------------------------------------------------------- devices


def _torch(problem: Problem, arrays: Sequence[Any]) -> Any:
    """torch, if it and triton are there."""
    missing = missing_packages()
    if missing:
        there = any(getattr(a, "is_cuda", False) for a in arrays)
        raise probe.no_packages(problem.reduction, missing, there)
    import torch

    return torch


missing_packages = probe.missing_packages


@lru_cache(maxsize=1)
def interpreting() -> bool:
    return triton_compile.interpreting()


def _default_device(problem: Problem) -> Any:
    """Where data of the CPU is computed."""
    import torch

    if interpreting():
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise probe.no_gpu(problem.reduction, torch)
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
def processors(device: Any) -> int:
    """Multiprocessors of the device."""
    if device.type == "cpu":
        return 4
    import torch

    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _tensor(torch: Any, array: Any) -> Any:
    """A tensor on the memory of an array, or on a copy where torch cannot have it."""
    if isinstance(array, torch.Tensor):
        return array.detach() if array.requires_grad else array
    if not array.flags.writeable or any(s < 0 or s % array.itemsize for s in array.strides):
        array = np.array(array, order="C")
    return torch.from_numpy(array)


def check_types(problem: Problem, tensors: Sequence[Any], device: Any) -> None:
    """Refuse types that the problem is not computed from, or that the device does not have."""
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
        probe.check_type(problem.reduction, k, name, device)
