"""Runs a function of PTX: the programs of a grid, some of them at a time, all their threads in lock step.

In: a `Program`, which is prepared once from the text; the grid, the arguments, the memory that may be used.  Out: the
numbers are in the memory; a Counter of the instructions that the threads have executed.

Threads that stand at the same instruction execute it together.  Where they part, those at the smallest place go on,
until they meet the others; who comes to a barrier waits for the living threads of its program.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import access, arithmetic, carries, conversions, matrix, warpgroup, warps
from .calls import inlined
from .memory import Fault, HostMemory, OwnMemory
from .operands import TYPES, Array, Binder, Fetch, Mask
from .parse import Function, Instruction, Module, PtxError, Variable
from .races import Races

TABLE: dict[str, Callable[[Instruction, Binder], arithmetic.Step]] = {
    **arithmetic.TABLE,
    **carries.TABLE,
    **conversions.TABLE,
    **access.TABLE,
    **warps.TABLE,
    **matrix.TABLE,
    **warpgroup.TABLE,
}
# Together: NumPy takes microseconds per instruction, however few threads there are.
LANES_TOGETHER = 4096
NOWHERE = 1 << 60


class MachineError(Exception):
    """What went wrong at an instruction, of which program and thread."""


@dataclass(frozen=True, slots=True)
class Jump:
    """A branch, with its target; a barrier, or an end."""

    kind: str
    target: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """An instruction: its predicate, what it does, and how many threads wait for each other there."""

    instruction: Instruction
    guard: Fetch | None
    step: arithmetic.Step | None
    jump: Jump | None
    together: int = 1


class Program:
    """A function whose instructions are prepared. `shared`: bytes of shared memory that a launch adds to its own."""

    def __init__(self, module: Module, function: Function, shared: int = 0):
        self.function = function = inlined(module, function)
        variables = [*module.variables.values(), *function.variables.values()]
        symbols, self.shared_size = _placed(variables, "shared", shared)
        local, self.local_size = _placed([v for v in variables if v.space in ("local", "param")], "", 0)
        self.tables = {v.name: _table(v) for v in variables if v.space in ("global", "const")}
        symbols |= local | {name: table.ctypes.data for name, table in self.tables.items()}
        self.binder = Binder(function.registers, symbols)
        self.code = [self._prepared(i) for i in function.code]

    def _prepared(self, instruction: Instruction) -> Prepared:
        guard = self.binder.read(instruction.guard, TYPES["pred"]) if instruction.guard else None
        jump = self._jump(instruction)
        if jump is not None:
            return Prepared(instruction, guard, None, jump)
        if instruction.name == "bar.warp.sync":
            return Prepared(instruction, guard, lambda run, mask: None, None, warps.WARP)
        prepare, name = TABLE.get(instruction.opcode[0]), instruction.opcode[0]
        if prepare is None:
            raise PtxError(f"{instruction}: the machine does not know {instruction.name}")
        together = _together(name)
        if together > 1 and guard is not None:
            raise PtxError(f"{instruction}: a predicate is not known here")
        return Prepared(instruction, guard, prepare(instruction, self.binder), None, together)

    def _jump(self, instruction: Instruction) -> Jump | None:
        if instruction.opcode[0] == "bra":
            return Jump("branch", self.function.labels[instruction.operands[0]])
        if instruction.opcode[0] in ("ret", "exit"):
            return Jump("end")
        if instruction.name in ("bar.sync", "barrier.sync", "barrier.sync.aligned"):
            if instruction.operands != ("0",):
                raise PtxError(f"{instruction}: barriers of some threads are not known")
            return Jump("barrier")
        return None


def _together(name: str) -> int:
    """Threads that execute an instruction together."""
    if name in warps.TABLE or name in matrix.TABLE:
        return warps.WARP
    return warpgroup.WARPGROUP if name == "wgmma" else 1


def _placed(variables: list[Variable], space: str, extra: int) -> tuple[dict[str, int], int]:
    """The addresses of the variables of a space, one after the other; that without a size gets `extra` bytes."""
    symbols, at = {}, 0
    for v in sorted((v for v in variables if not space or v.space == space), key=lambda v: v.count == 0):
        at = -(-at // 16) * 16
        symbols[v.name] = at
        at += v.width * v.count
    return symbols, at + extra


def _table(variable: Variable) -> Array:
    values = variable.values or (0,) * variable.count
    return np.array(values, f"u{variable.width}")


class Run:
    """Some programs of the grid, while they run.

    lanes        threads of all of them; a register holds a number for each
    groups       of asynchronous copies, that each thread has closed
    """

    def __init__(self, program: Program, threads: int, numbers: Array, grid: tuple[int, int, int], memory: HostMemory):
        self.program, self.threads, self.memory = program, threads, memory
        self.lanes = threads * len(numbers)
        self.numbers, self.grid = numbers, grid
        self.registers: list[Array | None] = [None] * len(program.binder.names)
        self.parameters: Mapping[str, Array] = {}
        thread = np.tile(np.arange(threads, dtype=np.uint32), len(numbers))
        self.owner = np.repeat(np.arange(len(numbers), dtype=np.uint64), threads)
        self.special = self._special(thread, np.repeat(numbers, threads))
        self.shared = OwnMemory(len(numbers), program.shared_size, "shared")
        self.races = Races(len(self.shared.bytes))
        self.barriers = np.zeros(len(numbers), np.int64)
        self.local = OwnMemory(self.lanes, program.local_size, "local")
        self.carry: Array = np.zeros(1, bool)
        self.copies: list[access.Copy] = []
        self.groups = np.zeros(self.lanes, np.int64)
        self.executed = [0] * len(program.code)
        self.waiting: dict[int, Array] = {}
        self.incomplete: dict[int, Array] = {}
        self.alive = np.ones(self.lanes, bool)

    def _special(self, thread: Array, number: Array) -> dict[str, Array]:
        zero = np.zeros(1, np.uint32)
        x, y, z = self.grid
        return {
            "%tid.x": thread,
            "%tid.y": zero,
            "%tid.z": zero,
            "%laneid": thread % np.uint32(32),
            "%warpid": thread // np.uint32(32),
            "%ctaid.x": number % x,
            "%ctaid.y": number // x % y,
            "%ctaid.z": number // (x * y),
            "%nctaid.x": zero + x,
            "%nctaid.y": zero + y,
            "%nctaid.z": zero + z,
            "%ntid.x": zero + self.threads,
        }

    # ------------------------------------------------------------------ memory
    def chosen(self, values: Array, mask: Mask) -> tuple[Array | None, Array]:
        """The threads of a mask (None: all), and their values."""
        if mask is None:
            return None, np.broadcast_to(values, self.lanes)
        threads = np.flatnonzero(mask)
        return threads, values[threads] if len(values) == self.lanes else np.broadcast_to(values, len(threads))

    def load(self, space: str, threads: Array | None, addresses: Array, width: int, count: int) -> Array:
        try:
            if space in ("global", "const"):
                return self.memory.load(addresses, width, count)
            memory, owners = self._own(space, threads)
            found = memory.load(owners, addresses, width, count)
            if space == "shared":
                first, warp, now = self._who(threads, addresses)
                self.races.load(first, width * count, warp, now, addresses)
            return found
        except Fault as fault:
            raise self._at(threads, fault) from None

    def store(self, space: str, threads: Array | None, addresses: Array, values: Array) -> None:
        try:
            if space == "global":
                self.memory.store(addresses, values)
                return
            memory, owners = self._own(space, threads)
            if space == "shared":
                width, count = values.dtype.itemsize, values.shape[1]
                same = (memory.load(owners, addresses, width, count) == values).all(1)
                first, warp, now = self._who(threads, addresses)
                self.races.store(first, width * count, warp, now, addresses, same)
            memory.store(owners, addresses, values)
        except Fault as fault:
            raise self._at(threads, fault) from None

    def _who(self, threads: Array | None, addresses: Array) -> tuple[Array, Array, Array]:
        """Of accesses to shared memory: the first bytes, the warps, the barriers that their programs have passed."""
        threads = np.arange(self.lanes) if threads is None else threads
        owners = self.owner[threads].astype(np.int64)
        first = owners * self.shared.stride + addresses.astype(np.int64)
        return first, threads // warps.WARP, self.barriers[owners]

    def _own(self, space: str, threads: Array | None) -> tuple[OwnMemory, Array]:
        """Shared or local memory, and the owners of these threads' part of it."""
        memory = self.shared if space == "shared" else self.local
        owners = self.owner if space == "shared" else np.arange(self.lanes, dtype=np.uint64)
        return memory, owners if threads is None else owners[threads]

    def _at(self, threads: Array | None, fault: Fault) -> MachineError:
        lane = fault.which if threads is None else int(threads[fault.which])
        number, thread = self.numbers[lane // self.threads], lane % self.threads
        return MachineError(f"program {number}, thread {thread}: {fault}")

    # ------------------------------------------------------------------ the walk through the code
    def go(self) -> None:
        """Run until all threads have ended."""
        places: dict[int, Array] = {0: self.alive.copy()}
        while places:
            at = min(places)
            mask = places.pop(at)
            self._walk(at, mask, places)
        stuck = [at - 1 for at in self.waiting] + [*self.incomplete]
        if stuck:
            raise MachineError(f"threads wait for others for ever at {self.program.code[min(stuck)].instruction}")

    def _walk(self, at: int, here: Array, places: dict[int, Array]) -> None:
        """The threads `here` go on from a place, until they end or wait, part, or meet others."""
        code, executed = self.program.code, self.executed
        mask: Mask = None if here.all() else here
        count = int(here.sum())
        meeting = min(places, default=NOWHERE)
        while True:
            if at >= meeting:
                _add(places, at, here)
                return
            prepared = code[at]
            if prepared.together > 1 and mask is not None:
                here = self._complete(at, here, prepared.together)
                mask, count = None if here.all() else here, int(here.sum())
                if count == 0:
                    return
            executed[at] += count
            try:
                if prepared.jump is None:
                    self._execute(prepared, mask)
                    at += 1
                    continue
                jumping, staying = self._parted(prepared, here)
            except Exception as error:
                raise MachineError(f"{prepared.instruction}: {error}") from error
            if prepared.jump.kind == "branch" and not (jumping.any() and staying.any()):
                at = prepared.jump.target if jumping.any() else at + 1
                continue
            if prepared.jump.kind == "branch":
                _add(places, prepared.jump.target, jumping)
            elif prepared.jump.kind == "end":
                self.alive = self.alive & ~jumping
                self._release(places)
            else:
                _add(self.waiting, at + 1, jumping)
                self._release(places)
            if staying.any():
                _add(places, at + 1, staying)
            return

    def _complete(self, at: int, here: Array, size: int) -> Array:
        """Of the threads here and those that wait at this place, the warps that are complete; the others wait."""
        here = here | self.incomplete.pop(at, np.zeros(1, bool))
        whole = np.repeat(here.reshape(-1, size).all(1), size)
        if (here & ~whole).any():
            self.incomplete[at] = here & ~whole
        return here & whole

    def _execute(self, prepared: Prepared, mask: Mask) -> None:
        assert prepared.step is not None
        if prepared.guard is None:
            prepared.step(self, mask)
            return
        taking = prepared.guard(self)
        if mask is not None:
            taking = taking & mask
        if taking.all():
            prepared.step(self, None if len(taking) == self.lanes else mask)
        elif taking.any():
            prepared.step(self, np.broadcast_to(taking, self.lanes))

    def _parted(self, prepared: Prepared, here: Array) -> tuple[Array, Array]:
        """The threads that jump, and those that do not."""
        if prepared.guard is None:
            return here, np.zeros(1, bool)
        taking = prepared.guard(self)
        return here & taking, here & ~taking

    def _release(self, places: dict[int, Array]) -> None:
        """Let those programs go on all of whose threads wait."""
        if not self.waiting:
            return
        everyone = np.logical_or.reduce(list(self.waiting.values()))
        arrived = (everyone | ~self.alive).reshape(-1, self.threads).all(1)
        free = np.repeat(arrived, self.threads) & everyone
        if not free.any():
            return
        self.barriers = self.barriers + free.reshape(-1, self.threads).any(1)
        for at, mask in list(self.waiting.items()):
            if (mask & free).any():
                _add(places, at, mask & free)
            self.waiting[at] = mask & ~free
            if not self.waiting[at].any():
                del self.waiting[at]


def _add(places: dict[int, Array], at: int, mask: Array) -> None:
    places[at] = places[at] | mask if at in places else mask


def launch(
    program: Program,
    grid: tuple[int, int, int],
    threads: int,
    parameters: Mapping[str, Array],
    memory: HostMemory,
) -> Counter[str]:
    """Run all programs of a grid; the executions of each opcode, by thread, whether a predicate holds or not."""
    counted: Counter[str] = Counter()
    together = max(1, LANES_TOGETHER // threads)
    total = grid[0] * grid[1] * grid[2]
    for first in range(0, total, together):
        numbers = np.arange(first, min(first + together, total), dtype=np.uint32)
        run = Run(program, threads, numbers, grid, memory)
        run.parameters = parameters
        with np.errstate(all="ignore"):
            run.go()
        for prepared, times in zip(program.code, run.executed, strict=True):
            counted[prepared.instruction.name] += int(times)
    return +counted


def arguments(function: Function, values: list[Any]) -> dict[str, Array]:
    """The bits of the arguments, by the names of the parameters."""
    found: dict[str, Array] = {}
    for (name, kind), value in zip(function.parameters.items(), values, strict=True):
        exact = TYPES[kind]
        if exact.kind in "iu":
            value = np.array([int(value) & ((1 << (8 * exact.itemsize)) - 1)], f"u{exact.itemsize}")
        found[name] = np.asarray(value, exact).reshape(1)
    return found
