"""What the threads of a warp do together: shuffles, votes, reductions.

In: an instruction and the binder of its function.  Out: a `Step`.  All threads of a warp take part: the machine has
them wait for each other before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .arithmetic import Step
from .operands import TYPES, Array, Binder, Mask
from .parse import Instruction, PtxError

if TYPE_CHECKING:
    from .machine import Run

WARP = 32
LANES = np.arange(WARP)


def by_warp(run: Run, value: Array) -> Array:
    """The numbers of all threads, as an array (warps, 32)."""
    return np.broadcast_to(value, run.lanes).reshape(-1, WARP)


def _members(instruction: Instruction, operand: str) -> None:
    if int(operand, 0) & 0xFFFFFFFF != 0xFFFFFFFF:
        raise PtxError(f"{instruction}: parts of a warp are not known")


def shuffle(instruction: Instruction, binder: Binder) -> Step:
    """shfl.sync: each thread takes the number of another one."""
    mode = instruction.opcode[2]
    *targets, value, lane, clamp, members = instruction.operands
    _members(instruction, members)
    stores = [binder.write(t) for t in targets]
    kind = TYPES["b32"]
    value, lane, clamp = (binder.read(o, kind) for o in (value, lane, clamp))

    def step(run: Run, mask: Mask) -> None:
        numbers, by, limit = (by_warp(run, x(run)).astype(np.int64) for x in (value, lane, clamp))
        by = by & 31
        segment, last = (limit >> 8) & 31, limit & 31
        first = LANES & segment
        top = first | (last & ~segment)
        if mode == "up":
            source = LANES - by
            there = source >= top
        else:
            source = {"down": LANES + by, "bfly": LANES ^ by, "idx": first | (by & ~segment)}[mode]
            there = source <= top
        source = np.where(there, source, LANES)
        found = np.take_along_axis(numbers, source, 1).astype(np.uint32).ravel()
        stores[0](run, found, mask)
        if len(stores) > 1:
            stores[1](run, there.ravel(), mask)

    return step


REDUCTIONS: dict[str, Callable[[Array], Array]] = {
    "add": lambda x: x.sum(1, dtype=x.dtype),
    "min": lambda x: x.min(1),
    "max": lambda x: x.max(1),
    "and": lambda x: np.bitwise_and.reduce(x, 1),
    "or": lambda x: np.bitwise_or.reduce(x, 1),
    "xor": lambda x: np.bitwise_xor.reduce(x, 1),
}


def reduce(instruction: Instruction, binder: Binder) -> Step:
    """redux.sync: a number of all threads."""
    target, value, members = instruction.operands
    fold, kind = REDUCTIONS[instruction.opcode[2]], TYPES[instruction.opcode[3]]
    store, read, mask_of = binder.write(target), binder.read(value, kind), binder.read(members, TYPES["b32"])

    def step(run: Run, mask: Mask) -> None:
        if (run.chosen(mask_of(run), mask)[1] != 0xFFFFFFFF).any():
            raise PtxError("parts of a warp are not known")
        store(run, np.repeat(fold(by_warp(run, read(run))), WARP), mask)

    return step


def vote(instruction: Instruction, binder: Binder) -> Step:
    """vote.sync: of a predicate, whether it holds for any or all threads, or for which (ballot)."""
    target, value, members = instruction.operands
    _members(instruction, members)
    store, read, mode = binder.write(target), binder.read(value, TYPES["pred"]), instruction.opcode[2]

    def step(run: Run, mask: Mask) -> None:
        here = by_warp(run, read(run))
        if mode == "ballot":
            found = (here.astype(np.uint64) << LANES.astype(np.uint64)).sum(1).astype(np.uint32)
        else:
            found = {"any": here.any(1), "all": here.all(1), "uni": here.all(1) | ~here.any(1)}[mode]
        store(run, np.repeat(found, WARP), mask)

    return step


def elect(instruction: Instruction, binder: Binder) -> Step:
    """elect.sync: one thread of each warp, here the first one."""
    number, chosen, members = instruction.operands
    _members(instruction, members)
    stores = binder.write(number), binder.write(chosen)

    def step(run: Run, mask: Mask) -> None:
        stores[0](run, np.zeros(1, np.uint32), mask)
        stores[1](run, np.tile(LANES == 0, run.lanes // WARP), mask)

    return step


TABLE: dict[str, Callable[[Instruction, Binder], Step]] = {
    "shfl": shuffle,
    "redux": reduce,
    "vote": vote,
    "elect": elect,
}
