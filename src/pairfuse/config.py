"""Settings: typed, with defaults, read once from the environment, changeable at run time.

    import pairfuse
    pairfuse.config.threads = 4                     # for the process
    with pairfuse.config.override(debug=2): ...     # for a block

Every field has an environment variable PAIRFUSE_<FIELD> in capitals, read when the package is first imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from .errors import PairfuseError, message


def _default_cache_folder() -> str:
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        root = str(Path.home() / "Library" / "Caches")
    else:
        root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return str(Path(root) / "pairfuse")


def _available_cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@dataclass
class Config:
    """The settings of the process.

    backend       "auto", "llvm", "triton" (a GPU) or "reference"
    threads       number of threads of the CPU backend; 0 means one per available core
    cache_folder  where compiled kernels are kept; "" keeps none on disk
    debug         0 quiet, 1 one line per kernel, 2 formulas and schedules, 3 staged kernels, 4 LLVM IR, 5 assembly
    progress      show a progress bar on every long reduction
    instructions  instruction set of the CPU backend: "auto", "avx512", "avx2" or "generic"
    accuracy      "strict": results as good as plain arithmetic in the type of the data; "fast": rules that round
                  differently and, on a GPU, products of 11 bits
    dense_limit   bytes of the largest array that `K.dense()`, `np.asarray(K)` and `K[...]` make
    """

    backend: str = "auto"
    threads: int = 0
    cache_folder: str = ""
    debug: int = 0
    progress: bool = False
    instructions: str = "auto"
    accuracy: str = "strict"
    dense_limit: int = 2**32

    @classmethod
    def from_environment(cls, environment: dict[str, str] | None = None) -> Config:
        """Defaults, overridden by the PAIRFUSE_* variables that are set."""
        environment = dict(os.environ) if environment is None else environment
        config = cls(cache_folder=_default_cache_folder())
        for f in fields(cls):
            text = environment.get(f"PAIRFUSE_{f.name.upper()}")
            if text is not None:
                setattr(config, f.name, text)
        return config

    def __setattr__(self, name: str, value: Any) -> None:
        kinds = {f.name: f.type for f in fields(self)}
        if name not in kinds:
            known = ", ".join(kinds)
            raise PairfuseError(message(f"config.{name}: there is no such setting.", hint=f"the settings are {known}"))
        object.__setattr__(self, name, _checked(name, str(kinds[name]), value))

    @property
    def thread_count(self) -> int:
        """Threads to use: the setting, or one per core available to this process."""
        return self.threads or _available_cores()

    @contextmanager
    def override(self, **settings: Any) -> Iterator[Config]:
        """Change settings for a block, then restore them."""
        saved = {name: getattr(self, name) for name in settings}
        try:
            for name, value in settings.items():
                setattr(self, name, value)
            yield self
        finally:
            for name, value in saved.items():
                setattr(self, name, value)


ACCURACIES = ("strict", "fast")
_CHOICES = {
    "backend": ("auto", "llvm", "triton", "reference"),
    "instructions": ("auto", "avx512", "avx2", "generic"),
    "accuracy": ACCURACIES,
}


def _checked(name: str, kind: str, value: Any) -> Any:
    """The value in the type of the field, or an error that names the setting."""
    try:
        if kind == "bool":
            words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}
            converted = words[value.lower()] if isinstance(value, str) else bool(value)
        elif kind == "int":
            converted = int(value)
            if converted < 0:
                raise ValueError(value)
        else:
            converted = str(value)
            if name in _CHOICES and converted not in _CHOICES[name]:
                raise ValueError(value)
    except (KeyError, TypeError, ValueError):
        allowed = " or ".join(repr(c) for c in _CHOICES.get(name, ())) or {"int": "a whole number >= 0"}.get(kind, kind)
        text = message(f"config.{name} = {value!r}: not a valid value.", hint=f"expected {allowed}")
        raise PairfuseError(text) from None
    return converted


config = Config.from_environment()
