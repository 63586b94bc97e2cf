"""What the drop-in packages say of names that they do not have: an AttributeError with the reason.

In: a table of names and reasons.  Out: the `__getattr__` of a module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

NO_COMPILER = (
    "Pairfuse compiles with LLVM inside of the process: there is no C++ compiler, no header and no shared library"
)
INTERNAL = "it is a step of KeOps' own engine, which Pairfuse does not have"


def refusing(module: str, reasons: Mapping[str, str], values: Mapping[str, Callable[[], Any]] | None = None) -> Any:
    """A module's `__getattr__`: `values` are computed when they are asked for, `reasons` say why a name is missing."""

    def __getattr__(name: str) -> Any:
        if values is not None and name in values:
            return values[name]()
        reason = f": {reasons[name]}" if name in reasons else ""
        raise AttributeError(f"module {module!r} of Pairfuse's drop-in has no attribute {name!r}{reason}")

    return __getattr__
