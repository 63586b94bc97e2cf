"""Kernels for GPUs compiled without one: what they cost in registers, and that nothing spills.

The compiler and NVIDIA's assembler come with triton.  tools/gpu_registers.py, which also writes the table of
docs/gpu.md, runs them in a process of its own, because in this one TRITON_INTERPRET=1 may have turned triton into an
interpreter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from interpreted import MISSING

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}: pip install 'pairfuse[gpu]'")
TOOL = Path(__file__).resolve().parent.parent / "tools" / "gpu_registers.py"


def costs(folder: Path, names: str, capability: int, *options: str) -> dict[str, Any]:
    """By kernel, what its functions cost; `folder`: for what Triton keeps."""
    environment = os.environ | {"TRITON_CACHE_DIR": str(folder)}
    command = [sys.executable, str(TOOL), *names.split(), "--capability", str(capability), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


SHORT = "gaussian gradient logsumexp argmin neighbours numbers double"
GRADIENTS = "gradient64 gradient128 gradient784"
LONG = f"gaussian32 gaussian64 gaussian128 gaussian784 logsumexp64 argmin128 neighbours64 {GRADIENTS}"
WIDE = "product attention"
# Registers of a thread, at most: 128 let 16 warps live on a processor, 168 let 12, 255 is all there are. Kernels that
# are not named here need matrix units, whose factors are in registers on sm_80.
REGISTERS = {
    "gaussian": 144,
    "gradient": 136,
    "logsumexp": 168,
    "argmin": 168,
    # 189 before lists told infinite terms from places without a term: 237 of 255 now, without spills
    "neighbours": 240,
    "numbers": 136,
    "gaussian32": 168,
}
REGISTERS_90 = {"gaussian64": 136, "gaussian128": 168, "logsumexp64": 168, "argmin128": 176, "neighbours64": 232}
# Bytes that may be spilled. The assembler itself gives the merge of a list 80 registers of 255; it runs once per row
# and part.
SPILLED = {("neighbours64", "merge"): 8}
# Shared memory of a processor: programs take a part of it.
SHARED = {80: 163 * 1024, 90: 227 * 1024}


def judge(found: dict[str, Any], capability: int) -> None:
    """Raise unless no function spills, and each keeps to its limits."""
    limits = REGISTERS | (REGISTERS_90 if capability == 90 else {})
    for name, kernel in found.items():
        for function, cost in kernel["functions"].items():
            limit = limits.get(name, 255) if function == "kernel" else 255
            assert cost["spilled_bytes"] <= SPILLED.get((name, function), 0), f"{name}, {function}: {cost}"
            assert cost["registers"] <= limit, f"{name}, {function}: {cost}"
            assert cost["shared_bytes"] <= SHARED[capability], f"{name}, {function}: {cost}"


@pytest.mark.parametrize("capability", [80, 90])
def test_golden_kernels_do_not_spill(capability: int, tmp_path: Path) -> None:
    judge(costs(tmp_path, f"{SHORT} gaussian32 gaussian64", capability), capability)


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_with_long_vectors_do_not_spill(capability: int, tmp_path: Path) -> None:
    judge(costs(tmp_path, f"{LONG} {WIDE}", capability), capability)


def test_stored_operands_need_no_preparation(tmp_path: Path) -> None:
    found = costs(tmp_path, "attention", 90, "--storage", "bfloat16")
    assert set(found["attention"]["functions"]) == {"kernel"}  # its arrays are multiplied as they are
    judge(found, 90)


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_few_rows_do_not_spill(capability: int, tmp_path: Path) -> None:
    found = costs(tmp_path, f"{SHORT} {LONG} {WIDE}", capability, "--rows", "16")
    assert all({"kernel", "merge"} <= set(kernel["functions"]) for kernel in found.values())
    for name, kernel in found.items():
        for function, cost in kernel["functions"].items():
            assert cost["spilled_bytes"] <= SPILLED.get((name, function), 0), f"{name}, {function}: {cost}"
            assert cost["shared_bytes"] <= SHARED[capability], f"{name}, {function}: {cost}"


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_fast_kernels_do_not_spill(capability: int, tmp_path: Path) -> None:
    judge(costs(tmp_path, f"{LONG} {WIDE}", capability, "--accuracy", "fast"), capability)


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
def test_arrays_of_16_bits(storage: str, tmp_path: Path) -> None:
    judge(costs(tmp_path, f"gaussian logsumexp gaussian128 argmin128 {WIDE}", 90, "--storage", storage), 90)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["--carried", "--listed", "--wide"])
def test_streamed_block_sparse_and_very_large_data(how: str, tmp_path: Path) -> None:
    names = "gaussian logsumexp argmin neighbours"
    found = costs(tmp_path, names, 90, how, *(["--wide"] if how == "--carried" else []))
    for name, kernel in found.items():
        assert kernel["functions"]["kernel"]["spilled_bytes"] == 0, f"{name}: {kernel}"


# Instructions of the loop over the columns, for each pair: what limits these kernels, beside the matrix units.
# argmin: 9.8 before it told infinite terms from none, 10.7 since; whether that costs time is for a GPU to say.
INSTRUCTIONS = {"gaussian": 10.0, "argmin": 11.0, "gradient": 14.0}


def test_instructions_of_a_pair(tmp_path: Path) -> None:
    for name, found in costs(tmp_path, " ".join(INSTRUCTIONS), 90).items():
        loop = found["functions"]["kernel"]["loop"] / found["pairs"]
        assert loop <= INSTRUCTIONS[name], f"{name}: {loop}, {found}"
