"""A table of things that are costly to make, of which those used last are kept.

In: a key.  Out: what was kept under it, or None.  Whoever uses a thing holds it, so that dropping it here is harmless.
There is no lock: each step is one operation of a dict, and of two threads that make the same thing both may keep it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

from ..config import config


class Used(Protocol):
    """What is kept says when it was used last, by a number that grows."""

    used: int


V = TypeVar("V", bound=Used)
now = count(1).__next__  # the number of the next use


class Recent(Generic[V]):
    """Things whose bytes together are at most config.cache_memory; `size` gives the bytes of one."""

    def __init__(self, size: Callable[[V], int]):
        self._size = size
        self._kept: dict[Any, V] = {}

    def get(self, key: Any) -> V | None:
        """What is kept under the key, which is now the one used last."""
        found = self._kept.get(key)
        if found is not None:
            found.used = now()
        return found

    def add(self, key: Any, value: V) -> V:
        """Keep a new thing; gives back what is kept under the key, which another thread may have made."""
        value.used = now()
        kept = self._kept.setdefault(key, value)
        self.trim()
        return kept

    def trim(self) -> None:
        """Drop what was used longest ago, and a little more than needed, so that this is not done every time."""
        limit = config.cache_memory * 2**20
        pairs = list(self._kept.items())
        surplus = sum(self._size(value) for _, value in pairs) - limit
        if not limit or surplus <= 0:
            return
        surplus += limit // 16
        for key, value in sorted(pairs, key=lambda pair: pair[1].used)[:-1]:  # the last one is about to be used
            self._kept.pop(key, None)
            surplus -= self._size(value)
            if surplus <= 0:
                break

    def clear(self) -> None:
        """Drop everything."""
        self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[V]:
        return iter(list(self._kept.values()))
