"""Where things lie in memory: the words of the argument block and the parts of a thread's scratch memory.

Both the emitter, which writes addresses, and the driver, which allocates and fills, read this one description.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...forks import cached_property
from ...lower.kernel import Kernel
from ...lower.schedule import Schedule

# Words (int64) of the argument block.
ROW_BEGIN, ROW_END, COL_BEGIN, COL_END, BATCH_BEGIN, BATCH_END = range(6)
SCRATCH, STATE, CANCEL, OFFSETS, FINISH, KEPT_SIZE = range(6, 12)
UNITS = 12  # units of state of one component, of all parts
LOCAL_UNITS = 13  # units of state of this task
# The same words in a kernel of blocks (listed.py): a range of blocks, and the addresses of the three tables.
BLOCKS_BEGIN, BLOCKS_END, BLOCK_TABLE, FILL_TABLE = range(4)
PIECE_TABLE = 13
FIRST_POINTER = 14  # the outputs, then (pointer, row stride, component stride) of every input

# Vectors of row fields, and of state, that are kept in registers rather than in memory.
ROW_FIELDS_IN_REGISTERS = 32
PARAMETERS_IN_REGISTERS = 32
LIST_IN_REGISTERS = 4


@dataclass(frozen=True)
class Layout:
    """Sizes in bytes and in components of everything that a thread needs besides the arrays."""

    kernel: Kernel
    schedule: Schedule

    @cached_property
    def real_bytes(self) -> int:
        return self.kernel.problem.precision.size

    @cached_property
    def n_outputs(self) -> int:
        return len(self.kernel.problem.record.outputs)

    @cached_property
    def input_words(self) -> int:
        return FIRST_POINTER + self.n_outputs

    @cached_property
    def words(self) -> int:
        return self.input_words + 3 * len(self.kernel.problem.inputs)

    @cached_property
    def inputs(self) -> tuple[tuple[str, int], ...]:
        """Axis and length of every input."""
        return tuple((v.param("axis"), v.param("dim")) for v in self.kernel.problem.inputs)

    @cached_property
    def work_per_pair(self) -> int:
        """A rough count of vector operations per pair, to size tasks."""
        return 4 + self.kernel.width("column") + self.kernel.width("row") + self.kernel.kept_width("pair")

    # state: doubles, [component][unit], a unit being a row (lanes on rows) or a lane of a row (lanes on columns)
    @cached_property
    def compensated(self) -> bool:
        """float64 sums carry a second double, the rounding errors."""
        return self.real_bytes == 8

    @cached_property
    def state_components(self) -> int:
        return sum(s.dim * (2 if s.additive and self.compensated else 1) for s in self.kernel.slots)

    def state_offset(self, name: str) -> int:
        """First component of a slot; the second doubles of a sum follow its first ones."""
        offset = 0
        for s in self.kernel.slots:
            if s.name == name:
                return offset
            offset += s.dim * (2 if s.additive and self.compensated else 1)
        raise KeyError(name)

    def units(self, rows: int) -> int:
        """Units of state for this many rows, padded to whole tiles; a sum over all rows has those of one tile."""
        tile = self.schedule.tile_rows
        padded = tile if self.kernel.problem.both else -(-rows // tile) * tile
        return padded * (1 if self.schedule.lanes_on == "kept" else self.schedule.lanes)

    # scratch: packed columns, row fields, parameter fields, tile memory of the long slots, waiting terms,
    # numbers of listed columns, kept vectors, state
    @cached_property
    def pack_bytes(self) -> int:
        columns = self._packed_columns
        return _aligned(columns * max(1, self.kernel.width("column")) * self.real_bytes)

    @cached_property
    def _packed_columns(self) -> int:
        """Columns that there is room for: whole vectors; pieces side by side may end anywhere (listed.py)."""
        lanes = self.schedule.lanes
        return -(-self.schedule.chunk // lanes) * lanes + (lanes if self.schedule.listed else 0)

    @cached_property
    def number_bytes(self) -> int:
        """The numbers of packed columns, where these are listed."""
        return _aligned(8 * self._packed_columns) if self.schedule.listed else 0

    @cached_property
    def vector_bytes(self) -> int:
        return self.schedule.lanes * self.real_bytes

    @cached_property
    def row_bytes(self) -> int:
        return _aligned(self.kernel.width("row") * self.schedule.rows * self.vector_bytes)

    @cached_property
    def parameter_bytes(self) -> int:
        return _aligned(self.kernel.width("parameter") * self.real_bytes)

    def in_memory(self, name: str) -> bool:
        """Does a slot live in the tile memory (long vectors, lists) rather than in registers?"""
        slot = next(s for s in self.kernel.slots if s.name == name)
        return slot.dim > self.schedule.unroll_state or (self.kernel.machine.by_column and slot.dim > LIST_IN_REGISTERS)

    def tile_offset(self, name: str) -> int:
        """Byte offset of a slot in the tile memory."""
        offset = 0
        for s in self.kernel.slots:
            if s.name == name:
                return offset
            if self.in_memory(s.name):
                offset += s.dim * self.schedule.rows * self.slot_vector_bytes
        raise KeyError(name)

    @cached_property
    def slot_vector_bytes(self) -> int:
        return self.schedule.lanes * 8

    @cached_property
    def tile_bytes(self) -> int:
        total = sum(s.dim for s in self.kernel.slots if self.in_memory(s.name))
        return _aligned(total * self.schedule.rows * self.slot_vector_bytes)

    @cached_property
    def term_bytes(self) -> int:
        """Terms of a block of columns that wait to enter a list."""
        return _aligned(self.kernel.terms[0].dim * self.schedule.cols * self.schedule.rows * self.vector_bytes)

    @cached_property
    def kept_bytes(self) -> int:
        """Vectors that a stage keeps for its loops: one stage runs after the other, in the same memory."""
        rows, cols = self.schedule.rows, self.schedule.cols
        values = {"parameter": 1, "row": rows, "column": 1, "pair": rows * cols}
        largest = max(self.kernel.kept_width(stage) * count for stage, count in values.items())
        return _aligned(largest * self.vector_bytes)

    @cached_property
    def fixed_bytes(self) -> int:
        """Scratch memory before the state."""
        before = self.pack_bytes + self.row_bytes + self.parameter_bytes + self.tile_bytes
        return before + self.term_bytes + self.number_bytes + self.kept_bytes

    def state_bytes(self, rows: int) -> int:
        # a vector of slack: the last load of a row of state may reach beyond it
        return self.state_components * self.units(rows) * 8 + 64 * self.schedule.rows


def _aligned(n: int) -> int:
    return -(-n // 64) * 64
