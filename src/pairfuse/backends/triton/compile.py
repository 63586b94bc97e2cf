"""From Triton source text to functions that can be launched.

In: source text.  Out: its functions, not yet compiled: Triton compiles each at its first launch, for the device and
the types of its arguments, and keeps the result on disk.
"""

from __future__ import annotations

import hashlib
import importlib
import linecache
from dataclasses import dataclass
from typing import Any

from .interpreter import Library, any_pair, fold_columns


@dataclass(frozen=True, slots=True)
class Binary:
    """The functions of a module of generated source."""

    kernel: Any
    merge: Any | None


def load(source: str) -> Binary:
    """Make generated source callable. Triton reads it again through `linecache`, so it needs no file."""
    module = run_text(source)
    if interpreting():
        module["libdevice"] = Library()
        module["fold_columns"] = fold_columns
        module["any_pair"] = any_pair
    return Binary(module["kernel"], module.get("merge"))


def run_text(source: str) -> dict[str, Any]:
    """The names that the text defines."""
    name = f"<pairfuse triton {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    module: dict[str, Any] = {"__name__": name}
    exec(compile(source, name, "exec"), module)  # our own text, made of the kernel's expressions
    return module


def interpreting() -> bool:
    """Are kernels run by Triton's interpreter, on the CPU? Decided when triton is first imported."""
    triton: Any = importlib.import_module("triton")
    interpreted = importlib.import_module("triton.runtime.interpreter").InterpretedFunction
    return isinstance(triton.jit(interpreting), interpreted)
