"""What every part of the text of a kernel must know: the block of components, the machine for it, types, loop numbers.

In: a kernel and its tile.  Out: a `Plan`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.expr import Expr
from ...ir.reductions import Machine, Slot
from ...lower.kernel import Kernel
from ...lower.scalar import Scalarizer, loop_var
from .tile import Tile, component_block, is_list, kept_by_row
from .wide import Wide, wide_of

# Numbers of loop variables beyond those of the loops of lower/scalar.py.
COMPONENT_LOOP = 1000  # the number of the block of components of this program
WIDE_LOOP = 1001  # the components of a wide sum: a block (1, components)
PIECE_LOOP = 1002  # the components of an operand that is prepared: a block (1, components)

# How values lie in blocks: rows by columns; columns by components; rows, or one column, by components.
PAIRS, DOWN, ONE = "pairs", "down", "one"


@dataclass(frozen=True, slots=True)
class Plan:
    """The blocks of components, the machine for one of them, and Triton's names of the types.

    by_row   is the state kept per row, and renewed by folds of each tile? Else it is kept per pair.
    wide     the wide sum, if the kernel is one: its slots are blocks (rows, components)
    """

    kernel: Kernel
    tile: Tile
    block: int
    blocks: int
    machine: Machine
    real: str
    index: str
    by_row: bool
    wide: Wide | None

    @property
    def multiplies(self) -> bool:
        """Do matrix units take part?"""
        return bool(self.tile.dots) or self.wide is not None

    @property
    def takes_best(self) -> bool:
        """Is the best column of a tile taken out as long as it changes the state of some row?"""
        return is_list(self.kernel) or (self.by_row and self.machine.by_column)

    def type_of(self, kind: str, additive: bool = False, long: bool = False) -> str:
        """Triton's type of a slot; `long`: of the state of a row, into which those of its pairs are folded."""
        return self.index if kind == "index" else "tl.float64" if additive and long else self.real

    def is_wide(self, slot: Slot) -> bool:
        return self.wide is not None and slot.name in self.wide.slots

    def places(self, slot: Slot) -> list[int | Expr]:
        """The components of a slot that have names of their own: all, or the one block of a wide slot."""
        return [loop_var(WIDE_LOOP)] if self.is_wide(slot) else list(range(slot.dim))

    def columns(self, slot: Slot) -> str:
        """The number of columns of the block that holds the state of a slot for the rows."""
        return str(self.block) if self.is_wide(slot) else "1"

    def keys(self, scalars: Scalarizer, leaves: tuple[Expr, ...]) -> list[Expr]:
        """The components of the leaves of all slots, in the order of `places`."""
        return [scalars.at(x, d) for slot, x in zip(self.machine.slots, leaves, strict=True) for d in self.places(slot)]

    def each_slot(self) -> list[Slot]:
        """The slot of every component."""
        return [s for s in self.machine.slots for _ in self.places(s)]


@dataclass(frozen=True, slots=True)
class Columns:
    """The names that the columns of a tile have in the text.

    number, inside          blocks (1, size) of column numbers, and of those that are read: the last one stands for more
    down, down_inside       the same as blocks (size, 1)
    one                     one of the columns, (1, 1), where they are taken one after the other
    valid                   which pairs count, in the last tile
    size                    of the tile, along the columns
    """

    size: str = "BN"
    prefix: str = ""

    @property
    def number(self) -> str:
        return self.prefix + "col"

    @property
    def inside(self) -> str:
        return self.prefix + "col_in"

    @property
    def down(self) -> str:
        return self.prefix + "down"

    @property
    def down_inside(self) -> str:
        return self.prefix + "down_in"

    @property
    def one(self) -> str:
        return self.prefix + "one"

    @property
    def valid(self) -> str:
        return self.prefix + "valid"

    def names(self, view: str) -> tuple[str, str]:
        """The column numbers as they lie in a view, and those that are read."""
        found = {PAIRS: (self.number, self.inside), DOWN: (self.down, self.down_inside), ONE: (self.one, self.one)}
        return found[view]

    @property
    def pairs(self) -> str:
        """The shape of the tile."""
        return f"(BM, {self.size})"


def plan(kernel: Kernel, tile: Tile) -> Plan:
    real = {"float32": "tl.float32", "float64": "tl.float64"}[kernel.problem.dtype]
    block, blocks = component_block(kernel)
    machine = kernel.problem.machine(tuple(1 if t.dim == 1 else block for t in kernel.terms))
    wide = wide_of(kernel)
    index = "tl.int64" if tile.wide else "tl.int32"
    return Plan(kernel, tile, block, blocks, machine, real, index, kept_by_row(kernel, tile), wide)
