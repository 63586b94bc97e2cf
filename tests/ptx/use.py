"""What the tests on the PTX machine share: when they can run, and the machine as the device of Pairfuse.

In: pytest's monkeypatch, the capability of a GPU.  Out: the driver, with which `device.execute` on tensors of the CPU,
`run(case, "triton")` and `backend="GPU"` compile for that GPU and run on the machine, by the tiles that it would have.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pairfuse.runtime import device, probe
from pairfuse.runtime.gpu_program import programs

from .driver import MachineDriver, machine

MISSING = [name for name in ("torch", "triton") if importlib.util.find_spec(name) is None]
INTERPRETING = os.environ.get("TRITON_INTERPRET", "1") == "1"


REASON = (
    f"needs {' and '.join(MISSING)}: pip install 'pairfuse[gpu]'"
    if MISSING
    else "triton was imported with TRITON_INTERPRET=1: `make test` has a process without it"
)
needs_compiler = pytest.mark.skipif(bool(MISSING) or INTERPRETING, reason=REASON)


@contextmanager
def as_device(monkeypatch: pytest.MonkeyPatch, capability: int) -> Iterator[MachineDriver]:
    """The machine in the place of a GPU. The CPU is its device, as under Triton's interpreter."""
    monkeypatch.setattr(device, "interpreting", lambda: True)
    monkeypatch.setattr(probe, "generation", lambda _: capability)
    with machine(capability) as gpu:
        yield gpu
    programs.clear()  # their tiles are those of that GPU


def compiled_in(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton keeps what it compiles there."""
    monkeypatch.setenv("TRITON_CACHE_DIR", folder)
