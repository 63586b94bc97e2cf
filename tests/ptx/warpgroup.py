"""The matrix units of capability 9.0: products by four warps together, whose factors may lie in shared memory.

In: an instruction and the binder of its function.  Out: a `Step`.  Where an element lies is said by a descriptor: an
address, the steps between blocks of the matrix, and how the address is swizzled.  The product is there at once; that
the code waits for it is not checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .arithmetic import Step
from .matrix import GROUP, INSIDE, halves_a, layout, matrices, unpacked
from .numbers import from_bfloat16
from .operands import TYPES, Array, Binder, Mask
from .parse import Instruction, PtxError, elements

if TYPE_CHECKING:
    from .machine import Run

WARPGROUP = 128
ROWS, DEPTH = 64, 16
SHAPE = re.compile(r"m64n(\d+)k16$")
# By the highest bits of a descriptor: bytes of a row of the block whose addresses are swizzled.
SWIZZLED = {0: 16, 1: 128, 2: 64, 3: 32}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Where a matrix of 16-bit numbers lies, one for each warpgroup. `leading`, `stride`: steps in bytes."""

    start: Array
    leading: Array
    stride: Array
    width: int

    def addresses(self, lines: int, transposed: bool) -> Array:
        """Of the elements (warpgroups, lines, 16): lines are the rows of the first factor, the columns of the second.

        Not transposed, the 16 numbers of a line are neighbours, and 8 lines are a block. Transposed, the numbers of
        neighbouring lines are.
        """
        line, depth = np.arange(lines)[:, None], np.arange(DEPTH)[None]
        outer, inner = (line, depth) if not transposed else (depth, line)
        per_row = self.width // 2
        near = outer % 8 * self.width + inner % per_row * 2
        far_outer, far_inner = (x[:, None, None] for x in (self.stride, self.leading))
        if self.width == 16 and transposed:  # without swizzling, the two steps have the opposite meaning
            far_outer, far_inner = far_inner, far_outer
        linear = self.start[:, None, None] + near + outer // 8 * far_outer + inner // per_row * far_inner
        chunks = self.width // 16 - 1
        return linear ^ ((linear >> 7 & chunks) << 4)


def descriptor(bits: Array) -> Descriptor:
    if (bits >> np.uint64(49) & np.uint64(7)).any():
        raise PtxError("a base offset of a descriptor is not known")
    modes = np.unique(bits >> np.uint64(62))
    if len(modes) != 1:
        raise PtxError("descriptors of several kinds")
    start, leading, stride = ((bits >> np.uint64(k) & np.uint64(0x3FFF)).astype(np.int64) << 4 for k in (0, 16, 32))
    return Descriptor(start, leading, stride, SWIZZLED[int(modes[0])])


def multiply(instruction: Instruction, binder: Binder) -> Step:
    """wgmma.mma_async: d = a * b, or with d added."""
    opcode = instruction.opcode
    shape = SHAPE.match(opcode[4])
    kind = opcode[6]
    if opcode[1:4] != ("mma_async", "sync", "aligned") or shape is None or opcode[5:] != ("f32", kind, kind):
        raise PtxError(f"{instruction}: this product is not known")
    if kind not in ("f16", "bf16"):
        raise PtxError(f"{instruction}: factors of type {kind} are not known")
    columns = int(shape[1])
    sums, first, second, adds, *scales = instruction.operands
    names, in_registers = elements(sums), first.startswith("{")
    if scales[:2] != ["1", "1"]:
        raise PtxError(f"{instruction}: signs of factors are not known")
    swapped = [s == "1" for s in scales[2:]]
    stores, reads = [binder.write(n) for n in names], [binder.read(n, TYPES["f32"]) for n in names]
    left = [binder.read(n, TYPES["b32"]) for n in elements(first)] if in_registers else []
    place = None if in_registers else binder.read(first, TYPES["b64"])
    right, added = binder.read(second, TYPES["b64"]), binder.read(adds, TYPES["pred"])
    where = layout([(GROUP + r, INSIDE * 2 + k + e) for k in range(0, columns, 8) for r in (0, 8) for e in (0, 1)])

    def step(run: Run, mask: Mask) -> None:
        groups = np.ones(run.lanes // WARPGROUP, bool) if mask is None else mask.reshape(-1, WARPGROUP)[:, 0]
        if place is None:
            warps = [unpacked(by_warp(run, r(run), groups), kind) for r in left]
            a = matrices(halves_a(DEPTH), warps).reshape(-1, ROWS, DEPTH)
        else:
            a = _factor(run, groups, place(run), ROWS, swapped[0], kind)
        b = _factor(run, groups, right(run), columns, swapped[-1], kind)
        total = a @ b.swapaxes(1, 2)
        adding = np.broadcast_to(added(run), run.lanes).reshape(-1, WARPGROUP)[groups][:, :1, None]
        if adding.any():  # else the registers may hold nothing yet
            start = matrices(where, [by_warp(run, r(run), groups)[None] for r in reads]).reshape(total.shape)
            total = total + np.where(adding, start, 0.0)
        found = total.astype(np.float32).reshape(-1, 16, columns)
        for k, store in enumerate(stores):
            full = np.zeros((len(groups), WARPGROUP), np.float32)
            full[groups] = found[:, where.rows[k], where.columns[k]].reshape(-1, WARPGROUP)
            store(run, full.ravel(), mask)

    return step


def by_warp(run: Run, value: Array, groups: Array) -> Array:
    """The numbers of these warpgroups, as an array (warps, 32)."""
    return np.broadcast_to(value, run.lanes).reshape(-1, WARPGROUP)[groups].reshape(-1, 32)


def _factor(run: Run, groups: Array, bits: Array, lines: int, transposed: bool, kind: str) -> Array:
    """A factor in shared memory: (warpgroups, lines, 16)."""
    first = np.flatnonzero(groups) * WARPGROUP
    own = np.broadcast_to(bits, run.lanes)[first]
    places = descriptor(own).addresses(lines, transposed)
    threads = np.repeat(first, lines * DEPTH)
    halves = run.load("shared", threads, places.ravel().astype(np.uint64), 2, 1)[:, 0]
    numbers = halves.view(np.float16) if kind == "f16" else from_bfloat16(halves)
    return numbers.astype(np.float64).reshape(places.shape)


def warpgroup(instruction: Instruction, binder: Binder) -> Step:
    """wgmma: the product; what orders products and accesses has nothing to do here."""
    if instruction.opcode[1] in ("fence", "commit_group", "wait_group"):
        return lambda run, mask: None
    return multiply(instruction, binder)


def fence(instruction: Instruction, binder: Binder) -> Step:
    """fence, membar: accesses are in order here."""
    return lambda run, mask: None


TABLE: dict[str, Callable[[Instruction, Binder], Step]] = {"wgmma": warpgroup, "fence": fence, "membar": fence}
