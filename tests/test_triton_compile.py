"""Kernels for GPUs compiled without one: what they cost in registers, and that nothing spills.

The compiler and NVIDIA's assembler come with triton.  They run in a process of their own, because in this one
TRITON_INTERPRET=1 may have turned triton into an interpreter.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None or importlib.util.find_spec("torch") is None,
    reason="needs torch and triton: pip install 'pairfuse[gpu]'",
)

PROGRAM = """
import dataclasses, json, sys
from pairfuse.backends.triton.offline import reports
from pairfuse.backends.triton.tile import choose
from pairfuse.ir.expr import call, input_
from pairfuse.ir.ops import TABLE
from pairfuse.lower.kernel import lower
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.transform.expand import expand
from pairfuse.transform.simplify import simplify

def distance(d):
    return call("sqdist", input_(0, "i", d), input_(1, "j", d))

b = input_(2, "j", 1)
PROBLEMS = {
    "gaussian": Problem((call("exp", -distance(3)) * b,), "sum", "j"),
    "gradient": Problem((call("exp", -distance(3)) * b * (input_(0, "i", 3) - input_(1, "j", 3)),), "sum", "j"),
    "gaussian64": Problem((call("exp", -distance(64)) * b,), "sum", "j"),
    "logsumexp": Problem((b - distance(3),), "logsumexp", "j"),
    "argmin": Problem((distance(3),), "argmin", "j"),
    "neighbours": Problem((distance(3),), "argKmin", "j", "float32", (("K", 10),)),
}
names, capability, kept, storage = sys.argv[1].split(","), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] or None
found = {}
for name in names:
    problem = PROBLEMS[name]
    kernel = lower(problem, simplify(expand(problem.formulas)))
    tile = choose(kernel, Sizes(kept, 10**6), 0, 3 * 10**6, 132)
    found[name] = {k: dataclasses.asdict(r) for k, r in reports(kernel, tile, capability, storage).items()}
print(json.dumps(found))
"""


def costs(folder: Path, names: str, capability: int, kept: int = 10**6, storage: str = "") -> dict[str, Any]:
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(folder)}
    command = [sys.executable, "-c", PROGRAM, names, str(capability), str(kept), storage]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


# Registers of a thread, at most: 128 let 16 warps live on a processor, 168 let 12, 208 let 9, 255 is all
# there are.
REGISTERS = {"gaussian": 152, "gradient": 168, "gaussian64": 208, "logsumexp": 168, "argmin": 184, "neighbours": 240}


def judge(found: dict[str, Any]) -> None:
    for name, functions in found.items():
        for function, cost in functions.items():
            assert cost["spilled_bytes"] == 0, f"{name}, {function}: {cost}"
            assert cost["registers"] <= REGISTERS[name], f"{name}, {function}: {cost}"
            assert cost["shared_bytes"] <= 48 * 1024, f"{name}, {function}: {cost}"


@pytest.mark.parametrize("capability", [80, 90])
def test_golden_kernels_do_not_spill(capability: int, tmp_path: Path) -> None:
    judge(costs(tmp_path, "gaussian,gaussian64,logsumexp,neighbours", capability))


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_other_kernels_do_not_spill(capability: int, tmp_path: Path) -> None:
    judge(costs(tmp_path, "gradient,argmin", capability))
    shared = costs(tmp_path, "gaussian,gradient,logsumexp,argmin,neighbours", capability, kept=16)
    assert all(set(functions) == {"kernel", "merge"} for functions in shared.values())
    judge(shared)


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
def test_arrays_of_16_bits(storage: str, tmp_path: Path) -> None:
    judge(costs(tmp_path, "gaussian,logsumexp", 90, storage=storage))
