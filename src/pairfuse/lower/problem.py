"""The problem: what to compute, free of data and sizes. It is the key of every cache."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..dtypes import PRECISIONS, Precision
from ..errors import FormulaError
from ..ir.expr import Expr, inputs
from ..ir.reductions import REDUCTIONS, Machine, Reduction
from .ranges import Blocks, Ranges

KEPT = {"i": "j", "j": "i", "ij": "p"}


@dataclass(frozen=True, slots=True)
class Problem:
    """Reduce `formulas` over axis `over` ("i", "j" or, for sums, "ij") with the reduction of this name and precision.

    The inputs of the formulas are numbered 0, 1, 2 ... in the order in which `execute` takes their arrays.
    accuracy: "strict" or "fast", by which formulas are simplified and products are rounded (docs/accuracy.md).
    """

    formulas: tuple[Expr, ...]
    reduction: str
    over: str
    dtype: str = "float32"
    params: tuple[tuple[str, Any], ...] = ()
    accuracy: str = "strict"

    def __post_init__(self) -> None:
        if self.both and not self.record.additive:
            raise FormulaError(f"{self.reduction} over both axes: only sums are computed so.")

    @property
    def both(self) -> bool:
        """Is it a sum over both axes, one vector for all pairs?"""
        return self.over == "ij"

    @property
    def fast(self) -> bool:
        """May the formulas be rounded differently from what they say?"""
        return self.accuracy == "fast"

    @property
    def record(self) -> Reduction:
        return REDUCTIONS[self.reduction]

    @property
    def precision(self) -> Precision:
        return PRECISIONS[self.dtype]

    @property
    def kept(self) -> str:
        """The axis that indexes the result: "p", as for parameters, where both are reduced."""
        return KEPT[self.over]

    @property
    def rows(self) -> str:
        """The axis of the rows of the kernel, which it walks in tiles: the kept one, if there is one."""
        return "j" if self.over == "i" else "i"

    @property
    def columns(self) -> str:
        """The axis of its columns, over which every row is reduced."""
        return "i" if self.over == "i" else "j"

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
    """Run-time sizes: rows M (axis i), columns N (axis j), batch shape; and the pairs that take part, if not all."""

    M: int
    N: int
    batch: tuple[int, ...] = ()
    ranges: Ranges | None = None

    def along(self, axis: str) -> int:
        if axis == "p":
            return 1
        return self.M if axis == "i" else self.N

    def blocks(self, over: str) -> Blocks | None:
        """Which columns the rows visit in a reduction over this axis; None: all. Checked against the sizes."""
        if self.ranges is None:
            return None
        self.ranges.check("ranges", self.M, self.N)
        return self.ranges.half("i" if over == "i" else "j").blocks
