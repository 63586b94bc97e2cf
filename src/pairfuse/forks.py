"""What has to be whole when the process forks.

A forked child has one thread, and the locks as they were: one that another thread of the parent holds at that moment
is never released in the child, and what that thread was building stays half built.  So a fork waits until the locks
named here are free, holds them while the process is copied, and releases them on both sides.

In: locks, by `held`, and functions that make a child's own state, by `renewed`.  Out: nothing to call.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

V = TypeVar("V")

# Modules that are loaded at their first use (LLVM, the derivatives of torch) are loaded under this lock.
LOADING = threading.RLock()

# Taken in this order, which is that of the code where one is taken inside of another: LOADING is the outermost.
_locks: list[AbstractContextManager[Any]] = [LOADING]
_renew: list[Callable[[], None]] = []
_mine = threading.local()  # what this thread has taken for its fork


def held(lock: AbstractContextManager[Any]) -> None:
    """Have a fork wait for the lock; called by a holder of LOADING, so that no fork is under way.

    Who holds the lock must not wait for one of those that were named before.
    """
    if lock not in _locks:
        _locks.append(lock)


def renewed(function: Callable[[], None]) -> Callable[[], None]:
    """Have the function called in every forked child, before anything else of it runs. Gives the function back."""
    _renew.append(function)
    return function


class cached_property(Generic[V]):
    """A property that is computed once for each object.

    That of functools has, before Python 3.12, a lock for all objects of a class, which a child would wait for.
    """

    def __init__(self, function: Callable[[Any], V]):
        self.function = function
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, owner: Any, kind: type | None = None) -> V:
        value = owner.__dict__[self.name] = self.function(owner)  # found there from now on, without this method
        return value


def load(name: str) -> Any:
    """The module of this name, which is loaded at its first use."""
    with LOADING:
        return importlib.import_module(name)


def _before() -> None:
    _mine.taken = []
    for lock in _locks:  # it may grow while this waits for LOADING, and not afterwards
        lock.__enter__()
        _mine.taken.append(lock)


def _after() -> None:
    for lock in reversed(_mine.taken):
        lock.__exit__(None, None, None)
    _mine.taken = []


def _after_in_child() -> None:
    _after()
    for function in _renew:
        function()


# The hooks of logging are older than these, so that its lock is taken last: modules that are loaded may log.
assert logging.root

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
