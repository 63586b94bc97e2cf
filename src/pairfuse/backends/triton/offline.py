"""Compiles a Triton kernel for a GPU that need not be there: what its code costs in registers, spills and memory.

In: a kernel, its tile, the capability of a GPU (80, 90).  Out: a `Report` for each function of the module.  Used by the
tests, and to see what a tile costs before there is a GPU to measure it on.  Times are not among the figures: the
instructions of the loop over the columns are the nearest to them.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...lower.kernel import Kernel
from .compile import run_text
from .emit import emit_kernel
from .kept import numbers_of_program
from .launch import OPTIONS, moves
from .operands import LINES, SAMPLE, operands
from .preparation import WARPS
from .tile import Tile, is_list, long_folds
from .wide import wide_of

POINTERS = {"float32": "*fp32", "float64": "*fp64", "float16": "*fp16", "bfloat16": "*bf16"}


@dataclass(frozen=True, slots=True)
class Report:
    """What one function needs on the GPU, by thread and by program, and the number of its instructions.

    loop   instructions of the loop over the column tiles, without those of the loops inside of it; 0 if there is none
    """

    registers: int
    spilled_bytes: int
    shared_bytes: int
    instructions: int
    loop: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Function:
    """One function of a module, and what Triton is told of its arguments.

    signature    types of the run-time arguments, by name
    constants    values of the compile-time arguments
    multiples    numbers that are multiples of 16, which Triton sees at a launch, too
    """

    function: Any
    signature: dict[str, str]
    constants: dict[str, int]
    warps: int
    stages: int
    multiples: frozenset[str] = frozenset()

    @property
    def source(self) -> Any:
        """The function as Triton's compiler takes it."""
        compiler, names = importlib.import_module("triton.compiler"), self.function.arg_names
        order = [n for n in names if n in self.signature or n in self.constants]
        full = {n: "constexpr" if n in self.constants else self.signature[n] for n in order}
        # as torch allocates arrays: Triton finds out at a launch
        aligned = [["tt.divisibility", 16]]
        attributes = {(k,): aligned for k, n in enumerate(order) if full[n].startswith("*") or n in self.multiples}
        constants = {n: self.constants[n] for n in order if n in self.constants}
        return compiler.ASTSource(fn=self.function, signature=full, constexprs=constants, attrs=attributes)

    @property
    def options(self) -> dict[str, Any]:
        return {"num_warps": self.warps, "num_stages": self.stages, **OPTIONS}


def reports(kernel: Kernel, tile: Tile, capability: int, storage: str | None = None) -> dict[str, Report]:
    """The cost of all functions of the module. `storage`: type of the arrays, if not the problem's."""
    return {name: _report(f, capability) for name, f in _functions(kernel, tile, storage).items()}


def trace(kernel: Kernel, tile: Tile, capability: int) -> None:
    """Let Triton read all functions of the module, and raise what it says of them; nothing is compiled."""
    backend = importlib.import_module("triton.compiler.compiler").make_backend(_target(capability))
    libtriton = importlib.import_module("triton._C.libtriton")
    for f in _functions(kernel, tile, None).values():
        context = libtriton.ir.context()
        libtriton.ir.load_dialects(context)
        backend.load_dialects(context)
        options = backend.parse_options(f.options)
        generators, modules = backend.get_codegen_implementation(options), backend.get_module_map()
        f.source.make_ir(_target(capability), options, generators, modules, context)


def _functions(kernel: Kernel, tile: Tile, storage: str | None) -> dict[str, Function]:
    """All functions of the module, by name."""
    module = run_text(emit_kernel(kernel, tile))
    signature, constants = _signature(kernel, tile, storage), _constants(kernel, tile)
    own = Function(module["kernel"], signature, constants, tile.warps, tile.stages, _multiples(kernel, tile))
    found = {"kernel": own}
    if "merge" in module:
        merged = {n: t for n, t in signature.items() if n.startswith("out") or n in MERGE}
        found["merge"] = Function(module["merge"], merged, {"BM": tile.rows}, tile.warps, tile.stages)
    prepared = signature | {f"middle{k.number}": "*fp32" for k in operands(kernel, tile)} | {"n_lines": "i32"}
    prepared |= {f"steps{r}": "i32" for r in range(tile.batch_rank)}
    for o in operands(kernel, tile):
        for name, block in ((f"centre{o.number}", SAMPLE), (f"prepare{o.number}", LINES)):
            if name in module:
                found[name] = Function(module[name], prepared, constants | {"BM": block}, WARPS, tile.stages)
    return found


MERGE = ("state", "kept", "row_blocks", "parts")


def _target(capability: int) -> Any:
    return importlib.import_module("triton.backends.compiler").GPUTarget("cuda", capability, 32)


def _signature(kernel: Kernel, tile: Tile, storage: str | None) -> dict[str, str]:
    """Types of the run-time arguments, by name."""
    problem = kernel.problem
    real = POINTERS[storage or problem.dtype]
    number = "i64" if tile.wide else "i32"
    kinds = {f"out{k}": "*i64" if kind == "index" else real for k, (_, kind) in enumerate(problem.record.outputs)}
    kinds["state"] = "*fp64" if tile.split or tile.carried else kinds["out0"]
    for k in range(len(problem.inputs)):
        kinds |= {f"in{k}": real, f"s{k}": number, f"c{k}": number}
    kinds |= {f"b{k}_{r}": "i64" for k in range(len(problem.inputs)) for r in range(tile.batch_rank)}
    kinds |= {f"nb{r}": "i32" for r in range(tile.batch_rank)}
    for o in operands(kernel, tile):
        kinds |= {name: f"*{kind}" for name, (kind, _) in o.arrays.items()}
        kinds |= {f"q{o.number}_{r}": "i64" for r in range(tile.batch_rank)}
    kinds |= {"first_row": number, "first_col": number, "last": "i32"} if tile.carried else {}
    kinds |= {"tiles": "*i64", "intervals": "*i64"} if tile.listed else {}
    kinds |= {"kept_memory": POINTERS[problem.dtype], "programs": "i32"} if numbers_of_program(kernel, tile) else {}
    return kinds | {"kept": number, "reduced": number, "row_blocks": "i32", "per_part": number, "parts": "i32"}


def _constants(kernel: Kernel, tile: Tile) -> dict[str, int]:
    """Compile-time arguments: the components of the arrays are adjacent, or the lines where launch.py copies them.

    A loop over components that reads columns row after row takes 199 registers (D=64 by differences) instead of 168: a
    figure that is of no kernel, because launch.py stores these columns by component.
    """
    found = {"BM": tile.rows, "BN": tile.cols}
    for k, v in enumerate(kernel.problem.inputs):
        found[f"s{k}" if _is_moved(kernel, tile, k) else f"c{k}"] = 1
        if v.dim == 1:
            found |= {f"s{k}": 1, f"c{k}": 1}
    return found


def _is_moved(kernel: Kernel, tile: Tile, slot: int) -> bool:
    """Is an input stored by component, in a problem of many pairs?"""
    plain = not tile.dots and wide_of(kernel) is None
    return plain and (long_folds(kernel) or is_list(kernel)) and moves(kernel, slot)


def _multiples(kernel: Kernel, tile: Tile) -> frozenset[str]:
    """Numbers that are multiples of 16."""
    inputs = enumerate(kernel.problem.inputs)
    return frozenset(
        f"c{k}" if _is_moved(kernel, tile, k) else f"s{k}"
        for k, v in inputs
        if v.dim % 16 == 0 or _is_moved(kernel, tile, k)
    )


def _report(function: Function, capability: int) -> Report:
    """The cost of one function."""
    triton = importlib.import_module("triton")
    start = time.perf_counter()
    compiled: Any = triton.compile(function.source, target=_target(capability), options=function.options)
    seconds = time.perf_counter() - start
    registers, spilled, code = _assembled(compiled.asm["ptx"], capability)
    return Report(registers, spilled, compiled.metadata.shared, len(code), _loop(code), round(seconds, 2))


def _assembled(ptx: str, capability: int) -> tuple[int, int, list[str]]:
    """Registers, bytes spilled, and instructions, as NVIDIA's assembler, which comes with Triton, makes them.

    Of an instruction, its text, or the label that stands before it.
    """
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
        tools = [Path(assembler).with_name("nvdisasm"), "-c", Path(folder) / "kernel.cubin"]
        listed = subprocess.run(tools, capture_output=True, text=True, check=True).stdout
    said = done.stdout + done.stderr
    registers = re.search(r"Used (\d+) registers", said)
    spills = [int(n) for n in re.findall(r"(\d+) bytes spill", said)]
    assert registers is not None, said
    code = re.findall(r"^\s*(\.L\w+:|/\*[0-9a-f]{4,}\*/\s+[^;]*;)", listed, re.M)
    return int(registers[1]), sum(spills), code


# Instructions of the matrix units; HFMA2.MMA, which also loads constants, is none of them.
MATRIX_UNITS = re.compile(r"\b(HMMA|HGMMA|DMMA)\b")


def _loop(code: list[str]) -> int:
    """Instructions of the loop over the column tiles: that which multiplies matrices, or else loads the columns."""
    labels = {line.rstrip(":"): k for k, line in enumerate(code) if line.endswith(":")}
    found: list[tuple[int, int]] = []
    for k, line in enumerate(code):
        target = re.search(r"BRA.*`\((\.L\w+)\)", line)
        if target and labels.get(target[1], k) < k and not _is_aside(code, k):
            found.append((labels[target[1]], k))

    def own(loop: tuple[int, int]) -> list[str]:
        """Without the loops inside of it."""
        inside = {k for x in found if loop[0] <= x[0] and x[1] <= loop[1] and x != loop for k in range(x[0], x[1] + 1)}
        return [code[k] for k in range(loop[0], loop[1] + 1) if k not in inside and not code[k].endswith(":")]

    multiplying = [x for x in found if any(MATRIX_UNITS.search(line) for line in own(x))]
    loading = [x for x in found if any(" LDG" in line for line in own(x))]
    innermost = [x for x in loading if not any(x[0] < y[0] and y[1] < x[1] for y in loading)]
    return max((len(own(x)) for x in multiplying or innermost), default=0)


def _is_aside(code: list[str], branch: int) -> bool:
    """Does the branch return from code that stands aside, for warps whose threads have parted? It ends no loop."""
    start = next((k for k in range(branch - 1, -1, -1) if re.search(r"\*/\s+(BRA|EXIT|RET)", code[k])), 0)
    return any("COLLECTIVE" in line for line in code[start:branch])
