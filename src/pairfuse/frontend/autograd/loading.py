"""Rules for torch.compile, given to it when it is there: its tracer alone takes as long to import as torch itself.

In: the name of a module of torch.  Out: nothing; an action is run once that module has been imported, by whomever.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_log = logging.getLogger("pairfuse")


def when_loaded(name: str, action: Callable[[], None]) -> None:
    """Run the action now, if the module has been imported, or else right after it will have been."""
    if name in sys.modules:
        _attempt(action)
    else:
        sys.meta_path.insert(0, _Watch(name, action))


class _Watch:
    """Python asks such an object where a module is; this one answers what the others say, and adds the action."""

    def __init__(self, name: str, action: Callable[[], None]) -> None:
        self.name, self.action = name, action

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self.name or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)  # type: ignore[arg-type]
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_act(module: ModuleType) -> Any:
                load(module)
                _attempt(self.action)

            spec.loader.exec_module = load_and_act  # type: ignore[method-assign]
        return spec


def _attempt(action: Callable[[], None]) -> None:
    """What fails here must not make torch's own import fail: LazyTensors then break the graphs of torch.compile."""
    try:
        action()
    except Exception:
        _log.warning("this version of torch cannot be told how to compile LazyTensors", exc_info=True)
