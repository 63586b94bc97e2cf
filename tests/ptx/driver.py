"""Stands for Triton's driver: a launch of a kernel on tensors of the CPU is compiled for a GPU, and run by the machine.

In: `with machine(80) as gpu:` makes it Triton's active driver.  Out: `kernel[grid](...)` takes Triton's ordinary way,
with its specialisation of arguments, compiler and assembler; `gpu.launches` tells what has been run.  A kernel may use
the memory of its tensors, from the first to the last number, and nothing else.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import machine as machines
from .memory import HostMemory
from .parse import parse

# Bytes of shared memory that a program may have.
SHARED = {80: 163 * 1024, 90: 227 * 1024}


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch: the function, its grid, the executions of each instruction, counted by thread."""

    name: str
    grid: tuple[int, int, int]
    executed: Counter[str]


class MachineDriver:
    """What Triton asks of a driver, for one GPU, whose number is its capability: compiled code is kept by number."""

    def __init__(self, capability: int):
        self.capability = capability
        self.utils = self
        self.launches: list[Launch] = []
        self._text = ""
        self._programs: dict[str, machines.Program] = {}

    # ------------------------------------------------------------------ the device
    def get_current_target(self) -> Any:
        return importlib.import_module("triton.backends.compiler").GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return self.capability

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": SHARED[self.capability], "multiprocessor_count": 4, "warpSize": 32}

    # ------------------------------------------------------------------ from compiled code to a launch
    def take_text(self, module: Any, function: Any, name: str, files: Mapping[str, str], key: str) -> None:
        """Triton's hook before it loads a binary: keep the PTX that was made on the way to it."""
        self._text = next(Path(path).read_text() for file, path in files.items() if file.endswith(".ptx"))

    def load_binary(self, name: str, binary: bytes, shared: int, device: int) -> tuple[Any, ...]:
        """The machine's program instead of a handle: (module, function, registers, spills, most threads)."""
        key = f"{name} {shared} {self._text}"
        if key not in self._programs:
            module = parse(self._text)
            self._programs[key] = machines.Program(module, module.functions[name], shared)
        return None, self._programs[key], 0, 0, 1024

    def unload_module(self, module: Any) -> None:
        """Nothing is held."""

    def launcher_cls(self, source: Any, metadata: Any) -> Any:
        """What starts a kernel: it is called with the grid, the function, and all arguments of the kernel."""
        kept = [k for k, kind in enumerate(source.signature.values()) if kind != "constexpr"]

        def start(x: int, y: int, z: int, stream: int, program: machines.Program, *rest: Any) -> None:
            values = [rest[4 + k] for k in kept]  # after metadata and hooks
            self._run(program, (x, y, z), metadata, values)

        return start

    def _run(self, program: machines.Program, grid: tuple[int, int, int], metadata: Any, values: list[Any]) -> None:
        ranges = [r for v in values if hasattr(v, "data_ptr") and (r := extent(v)) is not None]
        ranges += [(t.ctypes.data, t.ctypes.data + t.nbytes) for t in program.tables.values()]
        plain = [v.data_ptr() if hasattr(v, "data_ptr") else v for v in values]
        count = len(program.function.parameters) - len(plain)  # two pointers to memory that Triton may ask for
        assert count == 2, program.function.parameters
        assert metadata.global_scratch_size == metadata.profile_scratch_size == 0
        parameters = machines.arguments(program.function, [*plain, 0, 0])
        threads = 32 * metadata.num_warps
        executed = machines.launch(program, grid, threads, parameters, HostMemory(ranges))
        self.launches.append(Launch(program.function.name, grid, executed))


def extent(tensor: Any) -> tuple[int, int] | None:
    """The first byte of a tensor's numbers, and the byte after the last one; None if it has none."""
    if tensor.numel() == 0:
        return None
    span = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True)) + 1
    return tensor.data_ptr(), tensor.data_ptr() + span * tensor.element_size()


@contextmanager
def machine(capability: int) -> Iterator[MachineDriver]:
    """The machine as Triton's active driver."""
    active: Any = importlib.import_module("triton.runtime.driver").driver
    runtime: Any = importlib.import_module("triton").knobs.runtime
    before, hook = active._active, runtime.kernel_load_start_hook
    gpu = MachineDriver(capability)
    active.set_active(gpu)
    runtime.kernel_load_start_hook = gpu.take_text
    try:
        yield gpu
    finally:
        active._active = before
        runtime.kernel_load_start_hook = hook
