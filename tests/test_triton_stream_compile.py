"""The kernels of streamed data compiled for a GPU without one: that Triton takes them, and that nothing spills.

They carry the states of the rows from launch to launch (tile.py, `carried`). Compiled in a process of its own, as in
test_triton_compile.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from interpreted import MISSING

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}: pip install 'pairfuse[gpu]'")

PROGRAM = """
import dataclasses, json, sys
from pairfuse.backends.triton.offline import reports
from pairfuse.ir.expr import call, index, input_
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.runtime import device

def distance(d):
    return call("sqdist", input_(0, "i", d), input_(1, "j", d))

numbered = call("where", call("eq", index("i"), index("j")), 0.0, distance(3))
PROBLEMS = {
    "gaussian": Problem((call("exp", -distance(3)) * input_(2, "j", 1),), "sum", "j"),
    "numbers": Problem((numbered,), "sum", "i"),
    "logsumexp": Problem((input_(2, "j", 1) - distance(3),), "logsumexp", "j"),
    "argmin": Problem((distance(3),), "argmin", "j"),
    "neighbours": Problem((distance(3),), "argKmin", "j", "float32", (("K", 10),)),
}
found = {}
for name, problem in PROBLEMS.items():
    if name in sys.argv[1].split(","):
        made = device.program(problem, lambda _, step: step())
        for wide in (False, True):
            tile = device.choose_tile(made.kernel, Sizes(int(sys.argv[2]), 10**6), 0, 3 * 10**6, 132)
            tile = dataclasses.replace(tile, carried=True, wide=wide)
            found[f"{name} {wide}"] = {k: dataclasses.asdict(r) for k, r in reports(made.kernel, tile, 90).items()}
print(json.dumps(found))
"""


def compiled(folder: Path, names: str, kept: int) -> None:
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(folder)}
    command = [sys.executable, "-c", PROGRAM, names, str(kept)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 2 * len(names.split(","))
    for name, functions in found.items():
        for function, cost in functions.items():
            # of 64 bits, for more than 2^31 rows or columns, the numbers in a list fill all registers
            assert cost["spilled_bytes"] <= (16 if name == "neighbours True" else 0), f"{name}, {function}: {cost}"


PROBED = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from pairfuse.backends.triton.compile import run_text
from pairfuse.runtime.probe import PROBE

signature = {"x": "*fp32", "y": "*fp32", "SIZE": "constexpr"}
source = ASTSource(fn=run_text(PROBE)["kernel"], signature=signature, constexprs={"SIZE": 16})
for capability in (75, 80, 90):
    assert "ld.global" in compile(source, target=GPUTarget("cuda", capability, 32)).asm["ptx"]
"""


def test_the_probe(tmp_path: Path) -> None:
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", PROBED], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_sums_and_their_numbers(tmp_path: Path) -> None:
    compiled(tmp_path, "gaussian,numbers", 10**6)


@pytest.mark.slow
def test_other_reductions_and_parts(tmp_path: Path) -> None:
    compiled(tmp_path, "logsumexp,argmin,neighbours", 10**6)
    compiled(tmp_path, "gaussian,logsumexp,argmin,neighbours", 16)
