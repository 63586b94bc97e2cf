"""The problem: what to compute, free of data and sizes. It is the key of every cache."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..dtypes import PRECISIONS, Precision
from ..ir.expr import Expr, inputs
from ..ir.reductions import REDUCTIONS, Machine, Reduction


@dataclass(frozen=True, slots=True)
class Problem:
    """Reduce `formulas` over axis `over` ("i" or "j") with the reduction of this name, in this precision.

    The inputs of the formulas are numbered 0, 1, 2 ... in the order in which `execute` takes their arrays.
    """

    formulas: tuple[Expr, ...]
    reduction: str
    over: str
    dtype: str = "float32"
    params: tuple[tuple[str, Any], ...] = ()

    @property
    def record(self) -> Reduction:
        return REDUCTIONS[self.reduction]

    @property
    def precision(self) -> Precision:
        return PRECISIONS[self.dtype]

    @property
    def kept(self) -> str:
        """The axis that indexes the result."""
        return "i" if self.over == "j" else "j"

    @property
    def inputs(self) -> tuple[Expr, ...]:
        """The input leaves, by slot."""
        return _inputs(self.formulas)

    def machine(self, dims: tuple[int, ...] | None = None) -> Machine:
        lengths = dims or tuple(f.dim for f in self.formulas)
        return self.record.machine(lengths, self.precision.largest, **dict(self.params))

    def output_dims(self) -> tuple[int, ...]:
        """Vector length of every output."""
        machine = self.machine()
        return tuple(o.dim for o in machine.finalize(tuple(s.leaf() for s in machine.slots)))


@lru_cache(maxsize=4096)
def _inputs(formulas: tuple[Expr, ...]) -> tuple[Expr, ...]:
    return tuple(inputs(*formulas))


@dataclass(frozen=True, slots=True)
class Sizes:
    """Run-time sizes: rows M (axis i), columns N (axis j), batch shape."""

    M: int
    N: int
    batch: tuple[int, ...] = ()

    def along(self, axis: str) -> int:
        return self.M if axis == "i" else self.N
