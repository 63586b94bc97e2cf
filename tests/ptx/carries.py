"""Sums and products of integers with the carry of the one before: what numbers of many words are made of.

In: an instruction and the binder of its function.  Out: a `Step`.  Each thread has one carry flag.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .integers import multiply_high
from .operands import TYPES, Array, Binder, Fetch, Mask
from .parse import Instruction, PtxError

if TYPE_CHECKING:
    from .machine import Run


def carrying(instruction: Instruction, binder: Binder) -> Callable[[Run, Mask], None]:
    """add, sub, mad: ".cc" sets the flag, a "c" at the end of the name reads it."""
    name, kind = instruction.opcode[0], TYPES[instruction.opcode[-1].replace("s", "u")]
    unknown = [m for m in instruction.opcode[1:-1] if m not in ("cc", "lo", "hi")]
    if unknown:
        raise PtxError(f"{instruction}: {', '.join(unknown)} is not known")
    reads, sets = name.endswith("c"), "cc" in instruction.opcode
    store = binder.write(instruction.operands[0])
    operands = [binder.read(o, kind) for o in instruction.operands[1:]]

    def step(run: Run, mask: Mask) -> None:
        first, second = _addends(instruction, run, operands)
        before = run.carry.astype(kind) if reads else np.zeros(1, kind)
        if name.startswith("sub"):
            difference = first - second
            found = difference - before
            after = (first < second) | (difference < before)
        else:
            total = first + second
            found = total + before
            after = (total < first) | (found < total)
        store(run, found, mask)
        if sets:
            run.carry = after if mask is None else np.where(mask, after, run.carry)

    return step


def _addends(instruction: Instruction, run: Run, operands: list[Fetch]) -> tuple[Array, Array]:
    """Two numbers; of a product, its lower or upper half and the third operand."""
    numbers = [o(run) for o in operands]
    if len(numbers) == 2:
        return numbers[0], numbers[1]
    a, b, c = numbers
    return (multiply_high(a, b) if "hi" in instruction.opcode else a * b), c


TABLE: dict[str, Callable[[Instruction, Binder], Callable[[Run, Mask], None]]] = {
    "addc": carrying,
    "subc": carrying,
    "madc": carrying,
}
