"""Growth of the GPU backend: what is kept of formulas that come and go, here and in Triton's own tables."""

from __future__ import annotations

import gc
import importlib
import linecache
from collections.abc import Iterator

import numpy as np
import pytest

from pairfuse.backends.triton import compile as triton_compile
from pairfuse.config import config
from pairfuse.ir.expr import Expr, input_
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.runtime import device, execute
from pairfuse.runtime.gpu_program import programs

X, Y = input_(0, "i", 1), input_(1, "j", 1)
A, B = np.linspace(0, 1, 5, dtype="float32")[:, None], np.linspace(1, 2, 6, dtype="float32")[:, None]


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Room for three kernels."""
    execute.clear()
    gc.collect()
    with config.override(cache_memory=1):
        yield
    execute.clear()


def right(k: int) -> bool:
    f: Expr = X * Y
    for _ in range(k):
        f = f + 1.5
    problem = Problem((f,), "sum", "j")
    (a,) = execute.execute(problem, (A, B), Sizes(5, 6), backend="triton")
    return np.allclose(a[:, 0], (A * B.T + 1.5 * k).sum(1), rtol=1e-5)


def lines() -> int:
    return sum(name.startswith("<pairfuse triton") for name in linecache.cache)


def kept_by_triton() -> int:
    """Our functions in the tables of Triton, which are private: a version that has others shows here."""
    interpreter = importlib.import_module("triton.runtime.interpreter")
    compiled = importlib.import_module("triton.runtime.jit")._triton_jit_function_registry
    ours = [f for f in interpreter.InterpretedFunction.rewritten_fn if f.__module__.startswith("<pairfuse triton")]
    return len(ours) + sum(key.startswith("<pairfuse triton") for key in compiled)


@pytest.mark.usefixtures("little_memory")
def test_programs_that_were_not_used_for_long_are_dropped() -> None:
    before = lines(), kept_by_triton()
    for k in range(12):
        assert right(k)
        assert right(0)
    gc.collect()
    assert 2 <= len(programs) <= 4
    assert lines() - before[0] <= len(programs)
    assert kept_by_triton() - before[1] <= 2 * len(programs)  # a kernel, and one that merges
    assert right(1)  # was dropped
    programs.clear()
    gc.collect()
    assert (lines(), kept_by_triton()) == before


def test_two_binaries_of_one_text_share_its_lines() -> None:
    text = "def kernel():\n    return 1\n"
    first, second = (triton_compile.load(text) for _ in range(2))
    name = first.kernel.__module__
    del first
    gc.collect()
    assert name in linecache.cache
    assert second.kernel() == 1
    del second
    gc.collect()
    assert name not in linecache.cache


def test_launches_of_one_problem_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "KEPT_LAUNCHES", 3)
    execute.clear()
    problem = Problem((X * Y,), "sum", "j")
    for m in range(1, 9):
        execute.execute(problem, (A[:1].repeat(m, 0), B), Sizes(m, 6), backend="triton")
        (program,) = programs
        assert len(program.launches) <= 3
