"""Settings: of the process, of blocks in one thread or task, and the number of threads that others leave."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from test_runtime import answer

from pairfuse.config import KINDS, Config, config
from pairfuse.errors import PairfuseError
from pairfuse.runtime import threads

# ---------------------------------------------------------------------- blocks

OTHER = {"bool": True, "int": 7}


@pytest.mark.parametrize("name", KINDS)
def test_a_block_is_for_its_thread(name: str) -> None:
    """Every setting; another thread sees that of the process, which a block of its own does not change."""
    words = {"backend": "reference", "instructions": "generic", "accuracy": "fast"}
    other = OTHER.get(KINDS[name], words.get(name, "elsewhere"))
    plain = getattr(config, name)
    assert other != plain
    inside, leave = threading.Event(), threading.Event()
    seen: list[object] = []

    def work() -> None:
        with config.override(**{name: other}):
            inside.set()
            leave.wait(10)
            seen.append(getattr(config, name))
        seen.append(getattr(config, name))

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(10)
    assert getattr(config, name) == plain
    with config.override(**{name: other}):
        assert getattr(config, name) == other
    assert getattr(config, name) == plain
    leave.set()
    thread.join()
    assert seen == [other, plain]
    assert type(config) is Config, "no thread is in a block: reading costs nothing"


def test_blocks_in_blocks_and_assignments_meanwhile() -> None:
    assert config.debug == 0
    with config.override(threads=3):
        with config.override(debug=1, threads=5) as inner:
            assert (inner.threads, inner.debug, inner.thread_count) == (5, 1, 5)
        assert (config.threads, config.debug) == (3, 0)
        config.threads = 4  # for the process: the block keeps its own
        assert config.threads == 3
        with ThreadPoolExecutor(1) as crowd:
            assert crowd.submit(lambda: config.threads).result() == 4
    assert config.threads == 4
    config.threads = 0
    with pytest.raises(ZeroDivisionError), config.override(threads=3):
        raise ZeroDivisionError
    assert config.threads == 0
    for wrong in ({"threads": -1}, {"thread": 1}, {"accuracy": "exact"}):
        with pytest.raises(PairfuseError), config.override(debug=1, **wrong):
            pass
        assert config.debug == 0


def test_asynchronous_tasks_have_blocks_of_their_own() -> None:
    async def task(count: int) -> list[int]:
        seen = []
        with config.override(threads=count):
            for _ in range(3):
                await asyncio.sleep(0)
                seen.append(config.threads)
        return seen

    async def both() -> list[list[int]]:
        return list(await asyncio.gather(task(2), task(3)))

    assert asyncio.run(both()) == [[2, 2, 2], [3, 3, 3]]


def test_the_threads_of_the_pool_see_the_settings_of_the_caller() -> None:
    pool = threads.Pool()
    both = threading.Barrier(2)
    seen: list[tuple[str, int]] = []

    def task(number: int, scratch: object) -> None:
        both.wait(10)  # so that two threads take part
        seen.append((threading.current_thread().name, config.debug))

    for level in (1, 2):
        seen.clear()
        with config.override(debug=level):
            pool.run(range(2), task, 2)
        assert {debug for _, debug in seen} == {level}
        assert len({name for name, _ in seen}) == 2
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    variable.set(5)
    values: list[int] = []

    def other(number: int, scratch: object) -> None:
        both.wait(10)
        values.append(variable.get())

    pool.run(range(2), other, 2)
    assert values == [5, 5]


# ---------------------------------------------------------------------- the number of threads

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
COUNT = "print(config.thread_count)"
SOURCES = [
    ("", {}, CORES),
    ("", {"OMP_NUM_THREADS": "1"}, 1),
    ("", {"OMP_NUM_THREADS": "1,4"}, 1),
    ("", {"OMP_NUM_THREADS": "1000"}, CORES),
    ("", {"OMP_NUM_THREADS": "many"}, CORES),
    ("", {"OMP_NUM_THREADS": "0"}, CORES),
    ("", {"OMP_THREAD_LIMIT": "1"}, 1),
    ("", {"OMP_NUM_THREADS": "1", "PAIRFUSE_THREADS": "3"}, 3),
    ("config.threads = 5; ", {"OMP_NUM_THREADS": "1"}, 5),
    ("import types; sys.modules['torch'] = types.SimpleNamespace(get_num_threads=lambda: 1); ", {}, 1),
    ("import types; sys.modules['torch'] = types.ModuleType('half imported'); ", {}, CORES),
    ("os.environ['OMP_NUM_THREADS'] = '1'; ", {}, 1),  # a worker that is told so after the import
]


@pytest.mark.parametrize(("script", "environment", "expected"), SOURCES, ids=str)
def test_the_number_of_threads_is_what_others_leave(
    script: str, environment: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "PAIRFUSE_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert int(answer(script + COUNT)) == expected


def test_torch_says_how_many_threads() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert config.thread_count == 1
        with config.override(threads=2):
            assert config.thread_count == 2
    finally:
        torch.set_num_threads(before)


ONE_THREAD = """
import threading
assert right(3000, 3000)
print([t.name for t in threading.enumerate() if t.name.startswith("pairfuse")])
"""


def test_a_worker_of_one_thread_starts_none() -> None:
    """Dask and joblib say so to their processes by this variable."""
    assert answer(ONE_THREAD, OMP_NUM_THREADS="1").strip() == "[]"


CROWD = """
import threading
config.threads = 2
x, y = data(2000, 2000)
def work():
    for _ in range(3):
        execute(Problem((GAUSSIAN,), "sum", "j"), (x, y), Sizes(2000, 2000))
crowd = [threading.Thread(target=work) for _ in range(6)]
for t in crowd:
    t.start()
for t in crowd:
    t.join()
print(len([t.name for t in threading.enumerate() if t.name.startswith("pairfuse")]))
"""


def test_threads_that_call_together_share_one_pool() -> None:
    assert int(answer(CROWD)) <= 2
