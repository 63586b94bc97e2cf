"""Forks: whatever the other threads of a process are at, the child computes, and the parent goes on.

What forks runs in a process of its own; a child that hangs is ended by the script and counted.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from test_runtime import answer

from pairfuse import forks
from pairfuse.backends.llvm import target

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

CHILDREN = """
import random, threading, warnings
warnings.simplefilter("ignore")  # Python 3.12 warns of threads and fork
config.threads = 2

def data(m, n, dtype="float32"):
    "With generators of its own: they have a lock, which a child would wait for."
    own = np.random.default_rng(m)
    return own.normal(size=(m, 3)).astype(dtype), own.normal(size=(n, 3)).astype(dtype)

def child(task, limit=60):
    "What a forked child makes of the task: 0 if it is true; it is ended after the limit, in seconds."
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if task() else 1)
        finally:
            os._exit(2)
    end = time.time() + limit
    while time.time() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hung"

def background(task):
    "Threads that do nothing but this task, until the process ends."
    for _ in range(2):
        threading.Thread(target=lambda: [task() for _ in iter(int, 1)], daemon=True).start()

numbers = iter(range(10**9))
def new_formula():
    "A formula that was never compiled."
    k = next(numbers)
    f = call("sqdist", X, Y)
    for b in range(16):
        f = f + (1.0 + (k >> b & 1)) if b % 2 else call("sqrt", f * (3.0 + (k >> b & 1)))
    (a,) = execute(Problem((f,), "sum", "j"), data(20, 30), Sizes(20, 30))
    return np.isfinite(a).all()
"""

WHILE_COMPILING = """
background(new_formula)
count = int(sys.argv[1])
for k in range(count):
    time.sleep(random.random() * 0.01)
    status = child(new_formula if k % 3 == 0 else right)
    assert status == 0, f"child {k} of {count}: {status}"
assert right()
"""


def test_a_child_of_a_process_that_compiles_computes() -> None:
    answer(CHILDREN + WHILE_COMPILING, "10")


@pytest.mark.slow
def test_a_thousand_children_of_a_process_that_compiles_compute() -> None:
    answer(CHILDREN + WHILE_COMPILING, "1000", limit=3600)


WHILE_REDUCING = """
assert right(300, 1000)  # starts the pool
background(lambda: execute(Problem((GAUSSIAN,), "sum", "j"), data(6000, 6000), Sizes(6000, 6000)))
for k in range(4):
    time.sleep(random.random() * 0.02)
    status = child(lambda: right(300, 1000) and right(1, 9000, "max"))
    assert status == 0, f"child {k}: {status}"
assert right(300, 1000)
"""


def test_a_child_of_a_process_whose_pool_works_computes() -> None:
    """The threads of the pool do not exist in the child."""
    answer(CHILDREN + WHILE_REDUCING)


WHILE_LOADING = """
assert "llvmlite" not in sys.modules
threading.Thread(target=right, daemon=True).start()
while "llvmlite" not in sys.modules:
    time.sleep(1e-4)
status = child(right)
assert status == 0, status
"""


def test_a_child_of_a_process_that_loads_llvm_computes() -> None:
    """A module that another thread was importing would stay half imported in the child."""
    answer(CHILDREN + WHILE_LOADING)


OF_MULTIPROCESSING = """
import multiprocessing
background(new_formula)
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.starmap_async(right, [(200, 200), (10, 20), (1, 30000)] * 3).get(60) == [True] * 9
"""


def test_workers_of_multiprocessing_compute_while_the_parent_compiles() -> None:
    answer(CHILDREN + OF_MULTIPROCESSING)


WITH_TORCH = """
import torch
from pairfuse.torch import LazyTensor

def gradient(dim):
    x, y = torch.rand(300, dim, dtype=torch.float64, requires_grad=True), torch.rand(400, dim, dtype=torch.float64)
    d = ((LazyTensor(x[:, None]) - LazyTensor(y[None])) ** 2).sum(-1)
    (g,) = torch.autograd.grad((-d).exp().sum(dim=1).sum(), [x])
    distance = ((x[:, None] - y[None]) ** 2).sum(-1)
    (expected,) = torch.autograd.grad((-distance).exp().sum(), [x])
    return torch.allclose(g, expected)

class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, k):
        return gradient(2 + k % 3), config.thread_count

config.threads = 0
background(new_formula)
for k in range(2):
    status = child(lambda: gradient(2 + k))
    assert status == 0, f"child {k}: {status}"
loader = torch.utils.data.DataLoader(Rows(), num_workers=2, multiprocessing_context="fork", timeout=60)
assert [(bool(right), int(count)) for right, count in loader] == [(True, 1)] * 6  # a worker has one thread
"""


def test_gradients_in_children_and_in_workers_of_a_data_loader() -> None:
    answer(CHILDREN + WITH_TORCH)


# ---------------------------------------------------------------------- what is held around a fork


def test_a_fork_waits_for_locks_and_the_child_has_them_free(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = threading.RLock()
    monkeypatch.setattr(forks, "_locks", [*forks._locks, lock])
    taken = threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            time.sleep(0.2)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    forks._before()
    try:
        assert not thread.is_alive() or lock.acquire(blocking=False)  # the holder has ended, and this thread has it
        assert forks._mine.taken[-1] is lock
    finally:
        forks._after()
    other = threading.Thread(target=lock.acquire)
    other.start()
    other.join(10)
    assert not other.is_alive(), "the lock is still held"


def test_the_lock_of_llvm_is_among_them() -> None:
    """It is a private name of llvmlite: a version that renames it shows here."""
    llvm = target._binding()
    assert llvm.ffi.lib._lock in forks._locks


def test_a_property_that_another_thread_computes_is_not_waited_for() -> None:
    """functools.cached_property of Python 3.10 and 3.11 has a lock: one child in a thousand waited for it for ever."""
    entered, leave = threading.Event(), threading.Event()

    class Thing:
        def __init__(self, slow: bool) -> None:
            self.slow = slow
            self.count = 0

        @forks.cached_property
        def value(self) -> int:
            self.count += 1
            if self.slow:
                entered.set()
                leave.wait(10)
            return 7

    slow, quick = Thing(True), Thing(False)
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    entered.wait(10)
    start = time.perf_counter()
    assert (quick.value, quick.value, quick.count) == (7, 7, 1)
    assert time.perf_counter() - start < 5
    leave.set()
    thread.join()


def test_no_lock_of_the_standard_library_is_held_while_computing() -> None:
    package = Path(forks.__file__).parent
    for file in package.rglob("*.py"):
        text = file.read_text()
        assert "import cached_property" not in text.replace("forks import cached_property", ""), file
        assert "functools.cached_property" not in text, file
