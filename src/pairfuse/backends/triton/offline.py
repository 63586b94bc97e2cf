"""Compiles a Triton kernel for a GPU that need not be there: what its code costs in registers, spills and memory.

In: a kernel, its tile, the capability of a GPU (80, 90).  Out: a `Report` for each function of the module.  Used by the
tests, and to see what a tile costs before there is a GPU to measure it on.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...lower.kernel import Kernel
from .compile import run_text
from .emit import emit_kernel
from .launch import OPTIONS
from .tile import UNROLL_FOLD, Tile, long_folds

POINTERS = {"float32": "*fp32", "float64": "*fp64", "float16": "*fp16", "bfloat16": "*bf16"}


@dataclass(frozen=True, slots=True)
class Report:
    """What one function needs on the GPU, by thread and by program, and the number of its PTX instructions."""

    registers: int
    spilled_bytes: int
    shared_bytes: int
    instructions: int


def reports(kernel: Kernel, tile: Tile, capability: int, storage: str | None = None) -> dict[str, Report]:
    """The cost of `kernel` and, where there is one, `merge`. `storage`: type of the arrays, if not the problem's."""
    module = run_text(emit_kernel(kernel, tile))
    found = {
        "kernel": _report(
            module["kernel"], _signature(kernel, tile, storage), _constants(kernel, tile), tile, capability
        )
    }
    if "merge" in module:
        signature = {n: t for n, t in _signature(kernel, tile, storage).items() if n.startswith("out") or n in MERGE}
        found["merge"] = _report(module["merge"], signature, {"BM": tile.rows}, tile, capability)
    return found


MERGE = ("state", "kept", "row_blocks", "parts")


def _signature(kernel: Kernel, tile: Tile, storage: str | None) -> dict[str, str]:
    """Types of the run-time arguments, by name."""
    problem = kernel.problem
    real = POINTERS[storage or problem.dtype]
    number = "i64" if tile.wide else "i32"
    kinds = {f"out{k}": "*i64" if kind == "index" else real for k, (_, kind) in enumerate(problem.record.outputs)}
    kinds["state"] = "*fp64" if tile.split else kinds["out0"]
    for k in range(len(problem.inputs)):
        kinds |= {f"in{k}": real, f"s{k}": number, f"c{k}": number}
    kinds |= {f"b{k}_{r}": "i64" for k in range(len(problem.inputs)) for r in range(tile.batch_rank)}
    kinds |= {f"nb{r}": "i32" for r in range(tile.batch_rank)}
    return kinds | {"kept": number, "reduced": number, "row_blocks": "i32", "per_part": number, "parts": "i32"}


def _constants(kernel: Kernel, tile: Tile) -> dict[str, int]:
    """Compile-time arguments: the components of the arrays are adjacent, or the rows where launch.py transposes."""
    found = {"BM": tile.rows, "BN": tile.cols}
    for k, v in enumerate(kernel.problem.inputs):
        moved = long_folds(kernel) and v.param("axis") == kernel.problem.over and v.dim > UNROLL_FOLD
        found[f"s{k}" if moved else f"c{k}"] = 1
    return found


def _report(function: Any, signature: dict[str, str], constants: dict[str, int], tile: Tile, capability: int) -> Report:
    triton, compiler = importlib.import_module("triton"), importlib.import_module("triton.compiler")
    gpu = importlib.import_module("triton.backends.compiler").GPUTarget
    order = [n for n in function.arg_names if n in signature or n in constants]
    full = {n: "constexpr" if n in constants else signature[n] for n in order}
    source = compiler.ASTSource(fn=function, signature=full, constexprs=constants)
    target = gpu("cuda", capability, 32)
    compiled: Any = triton.compile(source, target=target, options={"num_warps": tile.warps, **OPTIONS})
    registers, spilled = _assembled(compiled.asm["ptx"], capability)
    lines = [line for line in compiled.asm["ptx"].splitlines() if line.startswith("\t") and not line.startswith("\t.")]
    return Report(registers, spilled, compiled.metadata.shared, len(lines))


def _assembled(ptx: str, capability: int) -> tuple[int, int]:
    """Registers and bytes spilled, as NVIDIA's assembler, which comes with Triton, reports them."""
    assembler = importlib.import_module("triton.backends.nvidia.compiler").get_ptxas(capability).path
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "kernel.ptx"
        text.write_text(ptx)
        name = f"sm_{capability}{'a' if capability >= 90 else ''}"
        command = [
            assembler,
            "-v",
            f"--gpu-name={name}",
            str(text),
            "-o",
            str(Path(folder) / "kernel.cubin"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    registers = re.search(r"Used (\d+) registers", said)
    spills = [int(n) for n in re.findall(r"(\d+) bytes spill", said)]
    assert registers is not None, said
    return int(registers[1]), sum(spills)
