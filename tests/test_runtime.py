"""The runtime around the kernels: threads, fork, interrupts, the progress bar, memory.

What ends or forks a process, or is measured on one, runs in a process of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conformance import check, draw_case, problem, run

from pairfuse.backends.llvm.target import host_target
from pairfuse.config import config
from pairfuse.ir.expr import Expr, call, input_
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.runtime import cache, execute

X, Y = input_(0, "i", 3), input_(1, "j", 3)
GAUSSIAN = call("exp", -call("sqdist", X, Y))
LINUX = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and fork")

SETUP = """
import os, signal, sys, time
import numpy as np
from pairfuse.config import config
from pairfuse.ir.ops import TABLE
from pairfuse.ir.expr import call, input_
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.runtime.execute import execute

X, Y = input_(0, "i", 3), input_(1, "j", 3)
GAUSSIAN = call("exp", -call("sqdist", X, Y))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite that runs in the background ignores the signal
rng = np.random.default_rng(0)

def data(m, n, dtype="float32"):
    return rng.normal(size=(m, 3)).astype(dtype), rng.normal(size=(n, 3)).astype(dtype)

def right(m=300, n=400, reduction="sum"):
    x, y = data(m, n)
    (a,) = execute(Problem((GAUSSIAN,), reduction, "j"), (x, y), Sizes(m, n))
    (b,) = execute(Problem((GAUSSIAN,), reduction, "j"), (x, y), Sizes(m, n), backend="reference")
    return np.allclose(a, b, rtol=1e-5)
"""


def start(script: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    paths = [str(Path(__file__).parent), str(Path(cache.__file__).parents[2])]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PAIRFUSE_CACHE_FOLDER": "", **environment}
    command = [sys.executable, "-c", SETUP + script, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)


def answer(script: str, *arguments: str, limit: float = 120, **environment: str) -> str:
    """What the script prints, which ends by itself within so many seconds."""
    process = start(script, *arguments, **environment)
    try:
        out, err = process.communicate(timeout=limit)
    finally:
        process.kill()
    assert process.returncode == 0, err[-3000:]
    return out


# ---------------------------------------------------------------------- threads


def formulas() -> list[Expr]:
    d = call("sqdist", X, Y)
    return [call("exp", -d), call("sqrt", d + 0.5), d, call("dot", X, Y), call("norm1", X - Y), d * 3.0]


def test_many_python_threads_at_once() -> None:
    """They compile the same and different problems, new and known, on small and large data, and all are right."""
    execute.clear()
    failures: list[BaseException] = []
    barrier = threading.Barrier(6)

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            barrier.wait()
            for k in range(5):
                f = formulas()[(k + seed % 2) % 6]
                p = problem("sum" if k % 2 else "logsumexp", f, dtype=("float32", "float64")[seed % 2])
                check(draw_case(rng, p, int(rng.integers(1, 200)), int(rng.integers(1, 1500)), layouts=["plain"]))
        except BaseException as error:
            failures.append(error)

    with config.override(threads=2):
        crowd = [threading.Thread(target=work, args=(k,)) for k in range(6)]
        for t in crowd:
            t.start()
        for t in crowd:
            t.join()
    assert not failures, failures[0]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_number_of_threads(count: int) -> None:
    """More threads than rows, fewer, and more than cores; jobs of many tasks and of one."""
    rng = np.random.default_rng(count)
    with config.override(threads=count):
        for p in (
            problem("sum", GAUSSIAN),
            problem("Kmin_argKmin", GAUSSIAN, K=3),
            problem("sumsoftmaxweight", GAUSSIAN, Y),
        ):
            for m, n in ((200, 2000), (1, 20_000), (3, 1), (20, 9000)):
                check(draw_case(rng, p, m, n))


def test_a_failure_in_a_task_reaches_the_caller_and_the_pool_lives_on() -> None:
    pool = execute.threads.Pool()

    def task(number: int, scratch: object) -> None:
        if number == 3:
            raise RuntimeError("task three")

    for _ in range(3):
        with pytest.raises(RuntimeError, match="task three"):
            pool.run(range(8), task, 2)
    seen: list[int] = []
    pool.run(range(100), lambda number, scratch: seen.append(number), 3)
    assert sorted(seen) == list(range(100))


def test_many_small_batches_are_few_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task costs some microseconds: batches of one row, too, are taken many at a time."""
    seen: list[int] = []
    plain = execute._run

    def counted(launch: execute.Launch, *others: object) -> None:
        seen.append(len(launch.tasks))
        plain(launch, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(execute, "_run", counted)
    for m, n in ((1, 300), (17, 20), (3, 2)):
        x, y = np.ones((5000, m, 3), "float32"), np.ones((5000, n, 3), "float32")
        (a,) = execute.execute(problem("sum", X * Y), (x, y), Sizes(m, n, (5000,)))
        assert (a == n).all()
    assert max(seen) <= 200


# ---------------------------------------------------------------------- fork

FORK = """
import warnings
warnings.simplefilter("ignore")  # Python 3.12 warns of threads and fork
config.threads = 2
assert right(3000, 3000)  # starts the pool
pid = os.fork()
if pid == 0:
    os._exit(0 if right(3000, 3000) and right(300, 400, "max") else 1)
assert right(3000, 3000)
assert os.waitpid(pid, 0)[1] == 0
import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.starmap(right, [(2000, 2000), (10, 20), (1, 30000)]) == [True] * 3
"""


@POSIX
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_computes() -> None:
    answer(FORK)


SPAWN = """
import multiprocessing
from test_runtime import computed
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(computed, [3]) == [True]
"""


def computed(seed: int) -> bool:
    check(draw_case(np.random.default_rng(seed), problem("sum", GAUSSIAN), 20, 30))
    return True


@pytest.mark.slow
def test_a_spawned_process_computes() -> None:
    answer(SPAWN)


# ---------------------------------------------------------------------- interrupts

# Rows that are all the same take no memory: these reductions would run for minutes.
INTERRUPTED = """
m, n, reduction, params = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], eval(sys.argv[4])
x, y = data(1, 1)
long = np.broadcast_to(x, (m, 3)), np.broadcast_to(y, (n, 3))
assert right()
print("started", flush=True)
try:
    execute(Problem((GAUSSIAN,), reduction, "j", "float32", params), long, Sizes(m, n))
except KeyboardInterrupt:
    print("interrupted", flush=True)
assert right() and right(3000, 3000) and right(1, 30000)
print("right", flush=True)
"""
LONG = [
    (10**6, 10**7, "sum", ()),
    (10**9 // 4, 10**4, "logsumexp", ()),
    (3, 10**11, "max", ()),
    (10**6, 10**7, "Kmin_argKmin", (("K", 40),)),
]


@POSIX
@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("size", LONG[:1], ids=str)
def test_an_interrupt_stops_a_long_reduction(size: tuple[object, ...], threads: str) -> None:
    interrupted(size, threads)


@POSIX
@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("size", LONG[1:], ids=str)
def test_an_interrupt_stops_other_long_reductions(size: tuple[object, ...], threads: str) -> None:
    interrupted(size, threads)


def interrupted(size: tuple[object, ...], threads: str) -> None:
    """Ctrl-C: KeyboardInterrupt within a second, and the process computes on."""
    process = start(INTERRUPTED, *map(str, size), PAIRFUSE_THREADS=threads)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "started\n"
        time.sleep(0.5)
        sent = time.perf_counter()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        waited = time.perf_counter() - sent
        out, err = process.communicate(timeout=30)
        assert out == "right\n", err[-3000:]
        assert process.returncode == 0
        assert waited < 1.5, f"the interrupt took {waited:.1f} s"
    finally:
        process.kill()
        process.communicate()


# ---------------------------------------------------------------------- the mode of the processor


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_subnormal_numbers(dtype: str) -> None:
    """Data keep them, results in a kernel are 0 instead (underflow.py), the caller's arithmetic is as before."""
    info, x = np.finfo(dtype), input_(0, "j", 1)
    tiny = np.full((5, 1), info.smallest_subnormal, dtype)
    (kept,) = execute.execute(problem("max", x, dtype=dtype), (tiny,), Sizes(1, 5))
    assert kept == info.smallest_subnormal
    small = np.full((5, 1), np.log(info.smallest_normal) - 2, dtype)
    (flushed,) = execute.execute(problem("sum", call("exp", x), dtype=dtype), (small,), Sizes(1, 5))
    if "sse2" in host_target().flags:
        assert flushed == 0
    assert np.array([info.smallest_normal])[0] / 2 > 0


# ---------------------------------------------------------------------- the progress bar


def test_the_progress_bar_counts_to_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    case = draw_case(np.random.default_rng(0), problem("sum", GAUSSIAN), 3000, 3000, layouts=["plain"])
    for threads in (1, 2):
        with config.override(threads=threads, progress=True):
            run(case, "llvm")
        shown = capsys.readouterr()
        last = shown.err.split("\r")[-1]
        assert shown.out == ""
        assert "sum" in last
        assert "100%" in last
        assert last.endswith("\n")
    execute.execute(case.problem, case.arrays, case.sizes, progress=True)
    assert "100%" in capsys.readouterr().err
    with config.override(progress=True):
        execute.execute(case.problem, case.arrays, case.sizes, progress=False)
    assert capsys.readouterr().err == ""


# ---------------------------------------------------------------------- outputs given by the caller


@pytest.mark.parametrize("layout", ["plain", "reversed", "transposed"])
def test_results_go_to_the_array_of_the_caller(layout: str) -> None:
    case = draw_case(np.random.default_rng(0), problem("sum", X * Y), 20, 30)
    room = np.full((20, 3), np.nan, np.float32)
    out = {"plain": room, "reversed": room[::-1], "transposed": np.full((3, 20), np.nan, np.float32).T}[layout]
    result = execute.execute(case.problem, case.arrays, case.sizes, out=out)
    assert result[0] is out
    np.testing.assert_array_equal(out, run(case, "llvm")[0])


# ---------------------------------------------------------------------- memory

FLAT = """
config.threads = 2
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

problems = [Problem((GAUSSIAN,), "sum", "j"), Problem((GAUSSIAN,), "Kmin_argKmin", "j", "float32", (("K", 5),))]
def calls(count):
    for k in range(count):
        m, n = (2000, 900) if k % 100 == 0 else (200 + k % 17, 100 + k % 13) if k % 3 else (3, 5000)
        execute(problems[k % 2], data(m, n), Sizes(m, n))
calls(300)
before = resident()
calls(1000)
print(resident() - before)
"""


@LINUX
def test_memory_stays_flat_over_a_thousand_calls() -> None:
    grown = int(answer(FLAT))
    assert grown < 3e6, f"{grown / 1e6:.1f} MB more after 1000 calls"


LARGE = """
import resource
m, n = 20_000, 30_000
x, y = data(m, n)
assert right()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(a,) = execute(Problem((GAUSSIAN,), "sum", "j"), (x, y), Sizes(m, n))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = [0, 1, 9_999, m - 1]
z = np.exp(-((x[rows, None].astype(float) - y[None]) ** 2).sum(-1)).sum(1)
assert np.allclose(a[rows, 0], z, rtol=1e-6), (a[rows, 0], z)
print(after - before)
"""


@LINUX
def test_memory_of_a_large_reduction_is_that_of_its_data() -> None:
    """20,000 x 30,000 pairs: a matrix of them would take 2.4 GB."""
    kilobytes = int(answer(LARGE))
    assert kilobytes < 20_000, f"{kilobytes / 1000:.1f} MB beyond the inputs"


def test_the_number_of_programs_is_that_of_the_problems() -> None:
    """A new size compiles nothing."""
    execute.clear()
    compiled: list[str] = []

    def observer(name: str, value: object) -> None:
        compiled.append(name)

    p = Problem((call("exp", -call("sqdist", X, Y)),), "sum", "j", "float32")
    rng = np.random.default_rng(0)
    execute.observers.append(observer)
    try:
        for m, n in ((20, 30), (21, 30), (20, 3000), (500, 7)):
            x, y = rng.normal(size=(m, 3)).astype("float32"), rng.normal(size=(n, 3)).astype("float32")
            execute.execute(p, (x, y), Sizes(m, n))
    finally:
        execute.observers.remove(observer)
    assert compiled.count("compile") == 1
