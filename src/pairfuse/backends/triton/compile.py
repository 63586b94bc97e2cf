"""From Triton source text to functions that can be launched."""

from __future__ import annotations

import hashlib
import linecache
from dataclasses import dataclass
from typing import Any

from .interpreter import Library


@dataclass(frozen=True, slots=True)
class Binary:
    """The functions of a module of generated source."""

    kernel: Any
    merge: Any | None


def load(source: str) -> Binary:
    """Make generated source callable. Triton reads it again through `linecache`, so it needs no file."""
    import triton

    name = f"<pairfuse triton {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    module: dict[str, Any] = {"__name__": name}
    exec(compile(source, name, "exec"), module)  # our own text, made of the kernel's expressions
    if triton.knobs.runtime.interpret:
        module["libdevice"] = Library()
    return Binary(module["kernel"], module.get("merge"))
