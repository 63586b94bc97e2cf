"""Settings: typed, with defaults, read once from the environment, changeable at run time.

    import pairfuse
    pairfuse.config.threads = 4                     # for the process
    with pairfuse.config.override(debug=2): ...     # for a block, in this thread or asynchronous task alone

Every field has an environment variable PAIRFUSE_<FIELD> in capitals, read when the package is first imported.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from . import forks
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


@lru_cache(maxsize=1)
def _openmp_limit() -> int:
    """What OpenMP's variables say, which joblib, Dask and schedulers of batch jobs set for their workers.

    Read at the first reduction of a process, as OpenMP does: the environment is slow to ask.
    """
    limit = sys.maxsize
    for name in ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT"):
        first = os.environ.get(name, "").partition(",")[0].strip()  # "4,2": outermost level first
        if first.isdecimal() and int(first) > 0:
            limit = min(limit, int(first))
    return limit


forks.renewed(_openmp_limit.cache_clear)


def _torch_limit() -> int:
    """The number of torch's own threads, where torch is loaded: 1 in the workers of its DataLoader."""
    count = getattr(sys.modules.get("torch"), "get_num_threads", None)
    return count() if count is not None else sys.maxsize


# The settings of the blocks around the running code, by name; and how many blocks all threads are in.
_overrides: ContextVar[dict[str, Any] | None] = ContextVar("pairfuse settings", default=None)
_open_blocks = [0]
_counting = threading.Lock()
forks.held(_counting)


@dataclass
class Config:
    """The settings of the process.

    backend       "auto", "llvm", "triton" (a GPU) or "reference"
    threads       number of threads of the CPU backend; 0 means one per available core, and no more than
                  OMP_NUM_THREADS and, where torch is loaded, torch.get_num_threads() say
    cache_folder  where compiled kernels are kept; "" keeps none on disk
    cache_disk    megabytes of compiled kernels kept there, those used last; 0 keeps all
    cache_memory  megabytes of compiled kernels kept in memory, those used last; 0 keeps all
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
    cache_disk: int = 1000
    cache_memory: int = 64
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
        object.__setattr__(self, name, _checked(name, _kind(name), value))

    @property
    def thread_count(self) -> int:
        """Threads to use: the setting, or one per core available to this process, and no more than others allow."""
        return self.threads or max(1, min(_available_cores(), _openmp_limit(), _torch_limit()))

    @contextmanager
    def override(self, **settings: Any) -> Iterator[Config]:
        """Other settings for a block, as this thread or asynchronous task sees them.

        What is assigned meanwhile, `config.threads = 4`, is for the process, and the block keeps its own.
        """
        checked = {name: _checked(name, _kind(name), value) for name, value in settings.items()}
        before = _overrides.get()
        _overrides.set({**before, **checked} if before else checked)
        self._count_blocks(+1)
        try:
            yield self
        finally:
            self._count_blocks(-1)
            _overrides.set(before)

    def _count_blocks(self, more: int) -> None:
        """Every call reads several settings: where no thread is in a block, they are plain attributes."""
        with _counting:
            _open_blocks[0] += more
            object.__setattr__(self, "__class__", _InBlocks if _open_blocks[0] else Config)


class _Setting:
    """A field of Config where some thread is in a block: that of the reader's innermost block, or of the process."""

    def __init__(self, name: str):
        self.name = name

    def __get__(self, config: Config, kind: type | None = None) -> Any:
        blocks = _overrides.get()
        return blocks[self.name] if blocks is not None and self.name in blocks else config.__dict__[self.name]

    def __set__(self, config: Config, value: Any) -> None:
        config.__dict__[self.name] = value


KINDS: dict[str, str] = {f.name: str(f.type) for f in fields(Config)}
_InBlocks: type[Config] = type("Config", (Config,), {name: _Setting(name) for name in KINDS})


def _kind(name: str) -> str:
    """The type of a setting."""
    kind = KINDS.get(name)
    if kind is None:
        known = ", ".join(KINDS)
        raise PairfuseError(message(f"config.{name}: there is no such setting.", hint=f"the settings are {known}"))
    return kind


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
