"""Growth: what a process keeps of formulas that come and go is bounded, and what is dropped may still be in use."""

from __future__ import annotations

import gc
import importlib
import pkgutil
import threading
import weakref
from collections.abc import Iterator
from functools import _lru_cache_wrapper
from typing import Any

import numpy as np
import pytest
import torch
from test_runtime import LINUX, answer

import pairfuse
import pairfuse.torch
from pairfuse.config import config
from pairfuse.ir.expr import Expr, call, input_
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.runtime import execute
from pairfuse.runtime.recent import Recent

X, Y = input_(0, "i", 2), input_(1, "j", 2)
RNG = np.random.default_rng(5)
A, B = RNG.uniform(0.5, 1.5, (7, 2)), RNG.uniform(0.5, 1.5, (9, 2))


def formula(k: int) -> Expr:
    """Formula number k: its digits say whether to add or to multiply."""
    f = X * Y
    for b in range(6):
        f = f + 1.5 if k >> b & 1 else f * 1.5
    return f


def right(k: int) -> bool:
    (found,) = execute.execute(Problem((formula(k),), "sum", "j", "float64"), (A, B), Sizes(7, 9))
    f = A[:, None] * B[None]
    for b in range(6):
        f = f + 1.5 if k >> b & 1 else f * 1.5
    return np.allclose(found, f.sum(1), rtol=1e-13)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Room for about ten kernels, in all threads."""
    execute.clear()
    before, config.cache_memory = config.cache_memory, 1
    yield
    config.cache_memory = before
    execute.clear()


@pytest.mark.usefixtures("little_memory")
def test_kernels_that_were_not_used_for_long_are_dropped() -> None:
    engines: list[weakref.ref[object]] = []
    for k in range(30):
        assert right(k)
        assert right(0)  # stays, as the one used again and again
        (compiled,) = list(execute._programs)[-1].by_class.values()
        engines.append(weakref.ref(compiled.binary.engine))
        del compiled
    assert 5 < len(execute._programs) < 14
    gc.collect()
    assert sum(e() is not None for e in engines) <= len(execute._programs)
    steps: list[str] = []
    execute.observers.append(lambda name, value: steps.append(name))
    try:
        assert right(0)
        assert steps == []
        assert right(1)  # was dropped, and is made again
        assert "load" in steps
    finally:
        execute.observers.pop()
    with config.override(cache_memory=0):
        for k in range(30):
            assert right(k)
        assert len(execute._programs) >= 30


@pytest.mark.usefixtures("little_memory")
def test_threads_that_drop_each_others_kernels() -> None:
    """A kernel that runs is not freed, nor one that two threads make at the same time."""
    config.cache_memory = 0
    plain = Recent.trim
    failures: list[object] = []

    def drop_all(self: Recent[execute.Program]) -> None:
        self._kept.clear()

    def work(seed: int) -> None:
        try:
            for k in range(12):
                if not right((seed + k) % 5):
                    failures.append(k)
        except BaseException as error:
            failures.append(error)

    Recent.trim = drop_all  # type: ignore[method-assign]
    try:
        crowd = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
        for t in crowd:
            t.start()
        for t in crowd:
            t.join()
    finally:
        Recent.trim = plain  # type: ignore[method-assign]
    assert failures == []


def test_a_kernel_that_runs_outlives_its_program() -> None:
    """It is dropped in the middle of a long call: the launch holds its code."""
    n = 20_000
    x, y = (RNG.normal(size=(n, 2)) for _ in range(2))
    problem = Problem((call("exp", -call("sqdist", X, Y)),), "sum", "j", "float64")
    (expected,) = execute.execute(problem, (x, y), Sizes(n, n))
    found: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: found.append(execute.execute(problem, (x, y), Sizes(n, n))[0]))
    thread.start()
    while thread.is_alive():
        execute._programs.clear()
        gc.collect()
        thread.join(0.001)
    np.testing.assert_array_equal(found[0], expected)


@pytest.mark.usefixtures("little_memory")
def test_a_graph_of_torch_outlives_its_kernels() -> None:
    x, y = torch.tensor(A, requires_grad=True), torch.tensor(B)
    tensor = pairfuse.torch.LazyTensor
    result = (-((tensor(x[:, None]) - tensor(y[None])) ** 2).sum(-1)).exp().sum(dim=1)
    execute.clear()
    (g,) = torch.autograd.grad(result.sum(), [x])
    d = x[:, None] - y[None]
    (expected,) = torch.autograd.grad((-(d**2).sum(-1)).exp().sum(), [x])
    torch.testing.assert_close(g, expected)


class Thing:
    used = 0


def test_the_table_keeps_what_was_used_last() -> None:
    table: Recent[Thing] = Recent(lambda thing: 2**18)
    with config.override(cache_memory=4):  # 16 of them
        for k in range(100):
            table.add(k, Thing())
            assert table.get(0) is not None
            assert len(table) <= 16
        kept = {key for key in range(100) if key in table._kept}
        assert 0 in kept
        assert kept - {0} == set(range(101 - len(kept), 100))
        first = table.add("same", Thing())
        assert table.add("same", Thing()) is first, "of two threads that make the same thing both keep one"
    table.clear()
    assert len(table) == 0


def test_every_cache_of_functions_is_bounded() -> None:
    """All `lru_cache`s of the package, but those of functions without arguments."""
    unbounded: list[str] = []
    count = 0
    for info in pkgutil.walk_packages(pairfuse.__path__, "pairfuse."):
        if any(part in info.name for part in ("__main__", "dropin", "triton", "demo")):
            continue
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if isinstance(value, _lru_cache_wrapper):
                count += 1
                size: Any = value.cache_parameters()["maxsize"]
                if size is None and value.__wrapped__.__code__.co_argcount:
                    unbounded.append(f"{info.name}.{name}")
    assert count > 30
    assert unbounded == []


# ---------------------------------------------------------------------- memory of many formulas

MANY = """
import gc
from pairfuse.numpy import LazyTensor

x, y = (v[..., :2] for v in data(20, 30))
x, y = x[:, None], y[None]

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def compute(k):
    f = (LazyTensor(x) - LazyTensor(y)).sqnorm2()
    for b in range(13):
        f = (f + (1 + (k >> b & 1))).sqrt() if b % 2 else f * (3 + (k >> b & 1))
    f.sum(dim=1)

compute(2**13 - 1)
before = resident()
for k in range(int(sys.argv[1])):
    compute(k)
print((resident() - before) / 1e6)
"""


@LINUX
def test_memory_of_some_formulas_is_that_of_the_kernels_kept() -> None:
    grown = float(answer(MANY, "60", PAIRFUSE_CACHE_MEMORY="1"))
    assert grown < 12, f"{grown:.1f} MB for 60 formulas, of which about 10 are kept"


@LINUX
@pytest.mark.slow
def test_memory_of_five_thousand_formulas() -> None:
    grown = float(answer(MANY, "5000", limit=7200))
    assert grown < 150, f"{grown:.0f} MB for 5000 formulas"
