"""Cuts a block-sparse call into tasks: ranges of blocks instead of rectangles of rows and columns.

In: what a dense launch takes, with `Blocks` in the sizes.  Out: a launch whose tasks walk over the tables of tables.py.
A block of rows has one task, however many columns it visits; few blocks with very many columns keep few threads busy.
"""

from __future__ import annotations

from . import layout as words
from .launch import STATE_LIMIT, TASK_ROWS, Launch, Task, address
from .tables import cut, tables


class BlockLaunch(Launch):
    """One call of a kernel that walks over blocks."""

    def _cut(self, threads: int) -> tuple[list[Task], int]:
        problem = self.layout.kernel.problem
        blocks = self.sizes.blocks(problem.over)
        assert blocks is not None
        self.pairs = blocks.pairs * self.batches
        self.work = (self.pairs + self.kept * self.batches) * self.layout.work_per_pair
        wanted = max(1, self._pieces(threads, max(self.kept * self.batches // TASK_ROWS, threads)))
        self.tables = tables(blocks, self.kept, self.schedule.chunk, self._rows_of_block(wanted))
        self.shared = self.both and self.batches < wanted
        if self.batches >= wanted:
            step = -(-self.batches // wanted)
            whole = (0, len(self.tables.blocks))
            return [Task(whole, (0, 0), (b, min(b + step, self.batches)), 0) for b in range(0, self.batches, step)], 1
        per_batch = -(-wanted // self.batches)
        if self.both:
            room = STATE_LIMIT // (8 * self.layout.state_components * self.layout.units(1))
            per_batch = max(1, min(per_batch, max(threads, room)))
        ranges = cut(self.tables.work, per_batch)
        tasks = [
            Task(r, (0, 0), (b, b + 1), p if self.both else 0)
            for b in range(self.batches)
            for p, r in enumerate(ranges)
        ]
        return tasks, len(ranges)

    def _rows_of_block(self, wanted: int) -> int:
        """Rows of a block at most: enough blocks for all tasks, and little state."""
        tile = self.schedule.tile_rows
        limit = STATE_LIMIT // (8 * max(1, self.layout.state_components))
        step = min(-(-self.kept * self.batches // wanted), limit)
        return max(1, step // tile) * tile

    def _describe(self, block: list[int], task: Task) -> int:
        block[words.BLOCKS_BEGIN], block[words.BLOCKS_END] = task.rows
        block[words.BLOCK_TABLE] = address(self.tables.blocks)
        block[words.FILL_TABLE] = address(self.tables.fills)
        block[words.PIECE_TABLE] = address(self.tables.pieces)
        return self.tables.rows
