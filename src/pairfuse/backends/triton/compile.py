"""From Triton source text to functions that can be launched.

In: source text.  Out: its functions, not yet compiled: Triton compiles each at its first launch, for the device and
the types of its arguments, and keeps the result on disk.
"""

from __future__ import annotations

import hashlib
import importlib
import linecache
import sys
import weakref
from collections import Counter
from dataclasses import dataclass
from typing import Any

from ...errors import CompileError, DeviceMemoryError, message
from .interpreter import STAND_INS


@dataclass(frozen=True, eq=False)
class Binary:
    """The functions of a module of generated source. Triton keeps what it makes of them until this is gone."""

    kernel: Any
    merge: Any | None
    functions: dict[str, Any]  # those that make operands ready, by name


def load(source: str) -> Binary:
    """Make generated source callable. Triton reads it again through `linecache`, so it needs no file."""
    module = run_text(source)
    if interpreting():
        module |= STAND_INS
    prepare = {name: f for name, f in module.items() if name.startswith(("prepare", "centre"))}
    binary = Binary(module["kernel"], module.get("merge"), prepare)
    name = module["__name__"]
    _loaded[name] += 1
    weakref.finalize(binary, _forget, name).atexit = False
    return binary


def run_text(source: str) -> dict[str, Any]:
    """The names that the text defines."""
    name = f"<pairfuse triton {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    module: dict[str, Any] = {"__name__": name}
    exec(compile(source, name, "exec"), module)  # our own text, made of the kernel's expressions
    return module


_loaded: Counter[str] = Counter()  # how many binaries of a text there are


def _forget(name: str) -> None:
    """A binary is gone: with the last of its text go the lines, and what Triton itself keeps under the name."""
    _loaded[name] -= 1
    if _loaded[name]:
        return
    del _loaded[name]
    linecache.cache.pop(name, None)
    known = getattr(sys.modules.get("triton.runtime.jit"), "_triton_jit_function_registry", {})
    for key in [k for k in list(known) if k.startswith(f"{name}:")]:
        known.pop(key, None)
    interpreted = getattr(sys.modules.get("triton.runtime.interpreter"), "InterpretedFunction", None)
    rewritten = getattr(interpreted, "rewritten_fn", {})
    for function in [f for f in list(rewritten) if f.__module__ == name]:
        rewritten.pop(function, None)


def interpreting() -> bool:
    """Are kernels run by Triton's interpreter, on the CPU? Decided when triton is first imported."""
    triton: Any = importlib.import_module("triton")
    interpreted = importlib.import_module("triton.runtime.interpreter").InterpretedFunction
    return isinstance(triton.jit(interpreting), interpreted)


# Errors by which Triton and NVIDIA's assembler refuse a kernel, by name: their modules move from version to version.
REFUSALS = (
    *("CompilationError", "CompileTimeAssertionFailure", "UnsupportedLanguageConstruct"),
    *("OutOfResources", "PTXASError"),
)


def failure_text(error: BaseException) -> str | None:
    """What Triton says where it cannot compile or start a kernel; None for errors that are not about that."""
    if type(error).__name__ in REFUSALS and type(error).__module__.startswith("triton"):
        return str(error)
    return None


def full(title: str, tile: Any) -> DeviceMemoryError:
    """The error of a kernel that the driver does not start for want of memory: it needs some of its own."""
    return DeviceMemoryError(
        message(
            f"{title}: CUDA out of memory for starting the kernel.",
            str(tile),
            "free memory on the GPU: nvidia-smi shows who holds it, torch.cuda.empty_cache() returns what torch keeps.",
        )
    )


def refused(title: str, tile: Any, text: str) -> CompileError:
    """The error of a kernel that Triton refuses."""
    lines = [line for line in text.splitlines() if line.strip()] or ["no message"]
    return CompileError(
        message(
            f"{title}: Triton could not compile the kernel for this GPU.",
            [lines[-1].strip(), str(tile)],
            "compute on the CPU, x.cpu(), and report this text with `K.explain()` and `python -m pairfuse info`.",
        )
    )
