"""No kernel reads or writes out of bounds: arrays that end, and begin, where the memory of the process ends.

Every array is placed against a page without access, at its end or at its start, in a process of its own: one element
too far and it crashes.  The scratch memory and the partial states of the kernels are placed in the same way.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pairfuse.runtime import cache

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs mmap and mprotect")

SETUP = """
import ctypes, faulthandler, mmap, itertools, sys
import numpy as np
from conformance import BACKENDS, DTYPES, Case, compare, draw_case, problem, run
from pairfuse.backends.llvm import launch
from pairfuse.config import config
from pairfuse.ir.expr import call, index, input_
from pairfuse.lower.problem import Sizes
from pairfuse.runtime.execute import execute

libc = ctypes.CDLL(None, use_errno=True)
PAGE = mmap.PAGESIZE
KEEP = []  # guarded memory lives as long as the process

def guarded(n, at):
    "Address of n bytes that end (at='end') or start (at='start') at a page without access, and the memory."
    pages = -(-n // PAGE) + 2
    memory = mmap.mmap(-1, pages * PAGE)
    first = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (0, pages - 1):
        assert libc.mprotect(ctypes.c_void_p(first + page * PAGE), ctypes.c_size_t(PAGE), 0) == 0
    KEEP.append(memory)
    offset = PAGE if at == "start" else (pages - 1) * PAGE - n
    return first + offset, np.frombuffer(memory, np.uint8, n, offset)

def array(values, at):
    "A copy of an array whose memory, with the same strides, is against a page without access."
    values = np.asarray(values)
    lowest = sum((n - 1) * s for n, s in zip(values.shape, values.strides) if s < 0)
    highest = sum((n - 1) * s for n, s in zip(values.shape, values.strides) if s > 0) + values.itemsize
    _, memory = guarded(highest - lowest, at)
    placed = np.ndarray(values.shape, values.dtype, memory, -lowest, values.strides)
    if 0 in values.strides:
        placed[tuple(slice(0, 1) if s == 0 else slice(None) for s in values.strides)] = values[
            tuple(slice(0, 1) if s == 0 else slice(None) for s in values.strides)]
    else:
        placed[...] = values
    return placed
"""

READ_BEYOND = "address, _ = guarded(100, sys.argv[1]); ctypes.string_at(address + int(sys.argv[2]), 1)"

GUARDS = """
side, scratch_side = sys.argv[1], sys.argv[2]
rng = np.random.default_rng(int(sys.argv[3]))

class GuardedScratch(launch.Scratch):
    def bytes(self, n):
        n = -(-n // 64) * 64
        return guarded(n, scratch_side)[0]

    def trim(self, limit):
        pass

from pairfuse.runtime import threads
threads.Scratch = GuardedScratch
threads._local.__dict__.clear()
# of the partial states: not less than asked for, and no more
class GuardedNumpy:
    def __getattr__(self, name):
        return getattr(np, name)

    def empty(self, n, dtype=float):
        return guarded(n, scratch_side)[1] if np.isscalar(n) and n else np.empty(n, dtype)

launch.np = GuardedNumpy()
"""

DENSE = """
def formula(dim):
    x, y, p = input_(0, "i", dim), input_(1, "j", dim), input_(2, "p", 1)
    return x * y + p

SIZES = [(1, 1), (2, 3), (7, 5), (17, 257), (257, 17), (3, 300), (33, 1), (1, 1001), (15, 31), (9, 8200)]
CASES = [("sum", 1, {}), ("sum", 3, {}), ("sum", 40, {}), ("logsumexp", 1, {}), ("min_argmin", 1, {}), ("max", 3, {}),
    ("Kmin_argKmin", 1, {"K": 5}), ("Kmin_argKmin", 1, {"K": 40}), ("argKmax", 3, {"K": 17}), ("prod", 1, {}),
    ("sumsoftmaxweight", 3, {}), ("count_nonzero", 40, {})]
done = 0
config.threads = 2
for name, dim, params in CASES:
    f = formula(dim)
    formulas = (f,) if name != "sumsoftmaxweight" else (call("sum", f), input_(1, "j", dim))
    for dtype in DTYPES:
        p = problem(name, *formulas, over=str(rng.choice(["i", "j"])), dtype=dtype, **params)
        for m, n in rng.permutation(SIZES)[:4]:
            batch = str(rng.choice(["none", "mixed", "parameters"])) if m * n < 2000 else "none"
            case = draw_case(rng, p, int(m), int(n), batch)
            arrays = tuple(a if a.strides[-1] % a.itemsize else array(a, side) for a in case.arrays)
            guardedcase = Case(p, arrays, case.sizes)
            expected = run(case, "reference")
            out = array(np.zeros_like(expected[0]), side)
            found = execute(p, arrays, case.sizes, out=out)
            assert found[0] is out
            compare(case, found, expected, informative=0.0)
            done += 1
print("computed", done)
"""


BLOCKS = """
from block_sparse import check_blocks, draw_mask, with_ranges
from pairfuse.backends.llvm import launch_blocks
from pairfuse.lower import schedule
from dataclasses import replace

make = launch_blocks.tables
def guarded_tables(*arguments):
    made = make(*arguments)
    placed = {name: array(getattr(made, name), side) for name in ("blocks", "fills", "pieces")}
    return replace(made, **placed)
launch_blocks.tables = guarded_tables
schedule.CHUNK_BYTES = 200  # fills are short, and full

CASES = [("sum", 1, {}), ("sum", 40, {}), ("logsumexp", 1, {}), ("min_argmin", 1, {}), ("Kmin_argKmin", 1, {"K": 5}),
    ("argKmax", 3, {"K": 17}), ("prod", 3, {})]
done = 0
config.threads = 2
for name, dim, params in CASES:
    x, y = input_(0, "i", dim), input_(1, "j", dim)
    for dtype in DTYPES:
        p = problem(name, x * y + call("exp", -y), over=str(rng.choice(["i", "j"])), dtype=dtype, **params)
        for m, n in ((1, 1), (33, 70), (70, 33), (3, 1001), (1001, 3)):
            case = draw_case(rng, p, m, n, "none")
            arrays = tuple(a if a.strides[-1] % a.itemsize else array(a, side) for a in case.arrays)
            mask = draw_mask(rng, m, n, (3, 5), 0.6)
            check_blocks(with_ranges(replace(case, arrays=arrays), mask), mask)
            done += 1
print("computed", done)
"""


def process(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [str(Path(__file__).parent), str(Path(cache.__file__).parents[2])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PAIRFUSE_CACHE_FOLDER": ""}
    command = [sys.executable, "-X", "faulthandler", "-c", SETUP + script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


@pytest.mark.parametrize(
    ("side", "offset", "crash"), [("end", 99, 0), ("end", 100, 1), ("start", 0, 0), ("start", -1, 1)]
)
def test_the_guard_works(side: str, offset: int, crash: int) -> None:
    assert (process(READ_BEYOND, side, str(offset)).returncode < 0) == bool(crash)


@pytest.mark.parametrize(("side", "scratch_side"), [("end", "end"), ("start", "start")])
def test_kernels_stay_within_their_arrays(side: str, scratch_side: str) -> None:
    answer = process(GUARDS + DENSE, side, scratch_side, "0")
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert "computed 96" in answer.stdout


@pytest.mark.parametrize(("side", "scratch_side"), [("end", "end"), ("start", "start")])
def test_kernels_of_blocks_stay_within_their_arrays_and_tables(side: str, scratch_side: str) -> None:
    answer = process(GUARDS + BLOCKS, side, scratch_side, "0")
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert "computed 70" in answer.stdout


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("side", ["start", "end"])
@pytest.mark.parametrize("instructions", ["avx2", "generic", "auto"])
def test_kernels_of_all_instructions_stay_within_their_arrays(instructions: str, side: str, seed: int) -> None:
    for script in (DENSE, BLOCKS):
        answer = process(f"config.instructions = {instructions!r}\n" + GUARDS + script, side, "end", str(seed))
        assert answer.returncode == 0, answer.stderr[-3000:]
        assert "computed" in answer.stdout
