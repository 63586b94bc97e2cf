"""Compiled kernels on disk: what one process has compiled the next one loads; no state of the folder is ever fatal."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pairfuse.config import config
from pairfuse.ir.expr import call, input_
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.runtime import cache, execute

FORMULA = call("tan", input_(0, "i", 2) * 0.1) + input_(1, "j", 2)
PROBLEM = Problem((FORMULA,), "sum", "j", "float64")
X, Y = np.linspace(0, 1, 40).reshape(20, 2), np.linspace(-1, 1, 60).reshape(30, 2)
EXPECTED = (np.tan(X[:, None] * 0.1) + Y[None]).sum(1)


@contextmanager
def steps() -> Iterator[list[str]]:
    """The names of the steps that the driver takes."""
    seen: list[str] = []

    def observer(name: str, value: object) -> None:
        seen.append(name)

    execute.observers.append(observer)
    try:
        yield seen
    finally:
        execute.observers.remove(observer)


def computed_with(folder: object) -> list[str]:
    """Compute with this cache folder and no kernel in memory; the steps that it took."""
    execute.clear()
    with config.override(cache_folder=str(folder)), steps() as seen:
        (a,) = execute.execute(PROBLEM, (X, Y), Sizes(20, 30))
    np.testing.assert_allclose(a, EXPECTED, rtol=1e-14, atol=30 * 2**-52)  # 30 terms of both signs, an ulp each
    return seen


def test_an_object_is_compiled_once_and_loaded_afterwards(tmp_path: Path) -> None:
    assert {"emit", "compile", "write", "load"} <= set(computed_with(tmp_path))
    with config.override(cache_folder=str(tmp_path)):
        assert cache.size()[0] == 1
    seen = computed_with(tmp_path)
    assert "load" in seen
    assert not {"emit", "compile", "write"} & set(seen)
    with config.override(cache_folder=str(tmp_path)):
        assert cache.clear() == 1
        assert cache.size() == (0, 0)
    assert "compile" in computed_with(tmp_path)


DAMAGE = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "only the header": lambda data: data[:50],
    "a bit flipped in the code": lambda data: data[:-99] + bytes([data[-99] ^ 1]) + data[-98:],
    "a bit flipped in the checksum": lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
    "something else": lambda data: b"\x7fELF" + os.urandom(1000),
    "longer": lambda data: data + b"\0",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_object_costs_a_recompilation(damage: str, tmp_path: Path) -> None:
    computed_with(tmp_path)
    (path,) = (tmp_path / "objects").iterdir()
    good = path.read_bytes()
    path.write_bytes(DAMAGE[damage](good))
    assert "compile" in computed_with(tmp_path)
    assert path.read_bytes() != DAMAGE[damage](good), "the damaged object was not replaced"
    assert "compile" not in computed_with(tmp_path)


def test_a_folder_that_cannot_be_used_costs_recompilations(tmp_path: Path) -> None:
    """A file in the way, a device, a folder in an object's place (permissions mean nothing to tests run as root)."""
    file = tmp_path / "file"
    file.write_text("in the way")
    for folder in (file, file / "deeper", "/dev/null/pairfuse", "nul\0character"):
        assert "compile" in computed_with(folder)
        assert "compile" in computed_with(folder)
    computed_with(tmp_path / "good")
    (path,) = (tmp_path / "good" / "objects").iterdir()
    path.unlink()
    path.mkdir()
    assert "compile" in computed_with(tmp_path / "good")
    assert not [p for p in (tmp_path / "good" / "objects").iterdir() if p != path], "a temporary file was left"


def _socket(path: Path) -> None:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as made:
        made.bind(str(path.parent.parent / "s"))  # the name of a socket is short
    (path.parent.parent / "s").rename(path)


def _too_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(cache.LARGEST + 1)  # without blocks on the disk


# What may lie in the place of an object; and whether the object takes that place when it is compiled again.
OBSTACLES = {
    "a named pipe": (lambda path: os.mkfifo(path), True),
    "a folder": (lambda path: path.mkdir(), False),
    "a socket": (_socket, True),
    "a link to itself": (lambda path: path.symlink_to(path), True),
    "a link to nowhere": (lambda path: path.symlink_to(path.parent / "missing" / "file"), True),
    "a link to a device that never ends": (lambda path: path.symlink_to("/dev/zero"), True),
    "a link to a pipe": (lambda path: (os.mkfifo(path.parent.parent / "p"), path.symlink_to("../p")), True),
    "a file too large": (_too_large, True),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX files")
@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_what_is_no_object_is_not_waited_for(obstacle: str, tmp_path: Path) -> None:
    make, replaced = OBSTACLES[obstacle]
    computed_with(tmp_path)
    (path,) = (tmp_path / "objects").iterdir()
    path.unlink()
    make(path)
    start = time.perf_counter()
    assert "compile" in computed_with(tmp_path)
    assert time.perf_counter() - start < 20
    assert ("compile" not in computed_with(tmp_path)) == replaced
    assert list((tmp_path / "objects").iterdir()) == [path], "a temporary file was left"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX files")
@pytest.mark.parametrize("place", ["", "objects"])
def test_a_folder_that_is_a_pipe_costs_recompilations(place: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / (place or "pipe"))
    folder = tmp_path if place else tmp_path / "pipe"
    assert "compile" in computed_with(folder)
    assert "compile" in computed_with(folder)


FULL_DISK = """
import resource
from test_disk_cache import computed_with
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # the error of a full disk, in the middle of a file
assert "compile" in computed_with(sys.argv[1])
assert "compile" in computed_with(sys.argv[1])
"""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX limits")
def test_a_full_disk_costs_recompilations_and_leaves_nothing(tmp_path: Path) -> None:
    script = "import sys\n" + FULL_DISK
    paths = [str(Path(__file__).parent), str(Path(cache.__file__).parents[2])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", script, str(tmp_path)]
    subprocess.run(command, env=environment, check=True, timeout=120)
    assert list((tmp_path / "objects").iterdir()) == []


# ---------------------------------------------------------------------- growth


def stored(folder: Path, numbers: range) -> list[str]:
    """Objects of 10 kB under the digests of these numbers."""
    keys = [hashlib.sha256(str(k).encode()).hexdigest() for k in numbers]
    for key in keys:
        cache.store(key, bytes(10_000))
    return keys


def test_the_folder_does_not_grow_without_bound(tmp_path: Path) -> None:
    """Twenty times the limit is stored: never much more than the limit is there, and never nothing."""
    with config.override(cache_folder=str(tmp_path), cache_disk=1):
        most = 0
        for first in range(0, 2000, 50):
            stored(tmp_path, range(first, first + 50))
            most = max(most, cache.size()[1])
        assert 1e6 < most < 3.5e6  # the folder is looked through at one file of 32, on average
        assert cache.size()[1] > 0.5e6
        with config.override(cache_disk=0):
            before = cache.size()[0]
            stored(tmp_path, range(2000, 2200))
            assert cache.size()[0] == before + 200


def test_what_was_used_last_stays(tmp_path: Path) -> None:
    with config.override(cache_folder=str(tmp_path), cache_disk=0):
        keys = stored(tmp_path, range(100))
        root = tmp_path / "objects"
        for age, key in enumerate(reversed(keys)):
            os.utime(root / key, (1e9 - age, 1e9 - age))
        for key in keys[:5]:
            assert cache.load(key) == bytes(10_000)
        old = root / ".1-2-3"
        old.write_bytes(b"left behind")
        os.utime(old, (1e9, 1e9))
        (root / ".2-3-4").write_bytes(b"being written")
        (root / "folder").mkdir()
        cache.trim(root, 500_000)
        left = {p.name for p in root.iterdir()}
        assert {*keys[:5], ".2-3-4", "folder"} <= left
        assert old.name not in left
        assert not set(keys[5:50]) & left
        assert 30 < len(left) < 50
        assert sum((root / name).stat().st_size for name in left & set(keys)) <= 500_000


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_costs_recompilations(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects").chmod(0o500)
    assert "compile" in computed_with(tmp_path)


def test_no_folder_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    computed_with("")
    assert not list(tmp_path.iterdir())


def test_types_reductions_and_instructions_have_objects_of_their_own(tmp_path: Path) -> None:
    """Everything that changes the code is in the key."""
    execute.clear()
    problems = [
        PROBLEM,
        Problem((FORMULA,), "sum", "j", "float32"),
        Problem((FORMULA,), "max", "j", "float64"),
        Problem((FORMULA,), "sum", "i", "float64"),
        Problem((FORMULA * 2.0,), "sum", "j", "float64"),
        *(Problem((FORMULA,), "Kmin", "j", "float64", (("K", k),)) for k in (2, 3)),
    ]
    with config.override(cache_folder=str(tmp_path)):
        for p in problems:
            execute.execute(p, (X.astype(p.dtype), Y.astype(p.dtype)), Sizes(20, 30))
        with config.override(instructions="generic"):
            execute.execute(PROBLEM, (X, Y), Sizes(20, 30))
        assert cache.size()[0] == len(problems) + 1


# ---------------------------------------------------------------------- other processes

PROGRAM = """
import json, sys
import numpy as np
from test_disk_cache import EXPECTED, PROBLEM, X, Y, steps
from pairfuse.lower.problem import Sizes
from pairfuse.runtime.execute import execute
with steps() as seen:
    (a,) = execute(PROBLEM, (X, Y), Sizes(20, 30))
assert np.allclose(a, EXPECTED, rtol=1e-14)
print(json.dumps(seen))
"""


def process(folder: Path) -> subprocess.Popen[str]:
    here = Path(__file__).parent
    paths = [str(here), str(Path(cache.__file__).parents[2])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PAIRFUSE_CACHE_FOLDER": str(folder)}
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def answer(p: subprocess.Popen[str]) -> str:
    out, err = p.communicate(timeout=60)
    assert p.returncode == 0, err[-3000:]
    return out


def test_a_second_process_loads_and_does_not_compile(tmp_path: Path) -> None:
    """With a function of the C library in the formula, whose address is another one in each process."""
    answers = [answer(process(tmp_path)) for _ in range(2)]
    assert '"compile"' in answers[0]
    assert '"load"' in answers[1]
    assert '"compile"' not in answers[1]
    assert '"emit"' not in answers[1]


def test_processes_that_start_together(tmp_path: Path) -> None:
    """All compile, or load, the same kernel at the same time; one object is left, and no temporary file."""
    together = [process(tmp_path) for _ in range(3)]
    for p in together:
        assert '"load"' in answer(p)
    assert len(list((tmp_path / "objects").iterdir())) == 1
    assert '"compile"' not in answer(process(tmp_path))
