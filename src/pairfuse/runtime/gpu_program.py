"""What is made of a problem for a GPU: its kernel, the sources by tile, the launches that are ready.

In: a problem.  Out: a `GpuProgram`, made once in a process.  No tensor is held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..backends.triton import compile as triton_compile
from ..backends.triton.emit import emit_kernel
from ..backends.triton.launch import Launch
from ..backends.triton.tile import LONGEST_LIST, Tile
from ..dtypes import RESULT_DTYPES
from ..errors import UnsupportedError, message
from ..ir.expr import Expr
from ..lower.contract import contract
from ..lower.kernel import Kernel, lower
from ..lower.problem import Problem
from ..transform.expand import expand
from ..transform.simplify import simplify
from .recent import Recent

Clock = Callable[[str, Callable[[], Any]], Any]


@dataclass(frozen=True, slots=True)
class Ready:
    """A launch, and the shapes and types of its outputs in torch."""

    launch: Launch
    outputs: tuple[tuple[tuple[int, ...], Any], ...]


@dataclass(slots=True)
class GpuProgram:
    """Everything made of one problem, by tile. Triton keeps what is compiled for each device and each type of data.

    launches: those that are ready, by device, sizes, and the types, shapes and strides of the tensors.
    """

    problem: Problem
    formulas: tuple[Expr, ...]
    kernel: Kernel
    output_dims: tuple[int, ...]
    by_tile: dict[Tile, triton_compile.Binary]
    launches: dict[Any, Ready] = field(default_factory=dict)
    used: int = 0

    def output_kinds(self, torch: Any) -> list[Any]:
        """The types of the outputs in torch."""
        return output_kinds(torch, self.problem, self.problem.dtype)

    def binary(self, tile: Tile, clock: Clock) -> triton_compile.Binary:
        found = self.by_tile.get(tile)
        if found is None:
            source = clock("emit for GPU", lambda: emit_kernel(self.kernel, tile))
            found = self.by_tile[tile] = clock("load", lambda: triton_compile.load(source))
            programs.trim()
        return found


def output_kinds(torch: Any, problem: Problem, real: str) -> list[Any]:
    """The types of the outputs in torch, where numbers are of the type `real`."""
    return [getattr(torch, RESULT_DTYPES.get(kind, real)) for _, kind in problem.record.outputs]


# Bytes that a kernel is counted as: its source, what Triton makes of it, and its machine code; and a launch.
BINARY_SIZE, LAUNCH_SIZE = 2**17, 2**11

# By problem. What is dropped here stays as long as a launch that is under way holds it.
programs: Recent[GpuProgram] = Recent(
    lambda program: BINARY_SIZE * (1 + len(program.by_tile)) + LAUNCH_SIZE * len(program.launches)
)


def program(problem: Problem, clock: Clock) -> GpuProgram:
    """The program of a problem, made at its first use."""
    found = programs.get(problem)
    if found is None:
        _check(problem)
        formulas: tuple[Expr, ...] = clock("simplify", lambda: tuple(simplify(expand(problem.formulas), problem.fast)))
        kernel = clock("lower", lambda: lower(problem, contract(formulas, problem.rows, problem.columns)))
        found = programs.add(problem, GpuProgram(problem, formulas, kernel, problem.output_dims(), {}))
    return found


def _check(problem: Problem) -> None:
    k = dict(problem.params).get("K", 0)
    if k > LONGEST_LIST:
        raise UnsupportedError(
            message(
                f"{problem.reduction}(K={k}): on a GPU, lists have at most {LONGEST_LIST} entries.",
                hint="compute on the CPU, x.cpu(), or ask for fewer neighbours.",
            )
        )
