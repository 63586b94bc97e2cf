"""Loads, stores and asynchronous copies.

In: an instruction and the binder of its function.  Out: a `Step`.  Only threads whose predicate holds have an access,
which is checked by memory.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .arithmetic import Step
from .operands import TYPES, Array, Binder, Mask, bits_of
from .parse import Instruction, PtxError, elements

if TYPE_CHECKING:
    from .machine import Run

SPACES = ("global", "shared", "local", "param", "const")
# What says how a cache is used, and nothing about the result.
HINTS = frozenset(
    (
        *("ca", "cg", "cs", "cv", "wb", "wt", "nc", "relaxed", "weak", "volatile", "gpu", "cta", "sys"),
        *("L1::evict_last", "L1::evict_first", "L1::evict_normal", "L1::evict_unchanged", "L1::no_allocate"),
        *("L2::cache_hint", "L2::64B", "L2::128B", "L2::256B", "shared::cta"),
    )
)


def _space(instruction: Instruction) -> str:
    space = next((m for m in instruction.opcode if m in SPACES), "")
    known = (*SPACES, "v2", "v4", "v8", *TYPES)
    unknown = [m for m in instruction.opcode[1:] if m not in known and m not in HINTS]
    if unknown or not space:
        raise PtxError(f"{instruction}: {', '.join(unknown) or 'a generic address'} is not known")
    return space


def load(instruction: Instruction, binder: Binder) -> Step:
    """ld: one number, or two or four neighbouring ones."""
    space, kind = _space(instruction), TYPES[instruction.opcode[-1]]
    names = elements(instruction.operands[0])
    stores = [binder.write(n) for n in names]
    base = re.split(r"[\s+\]]", instruction.operands[1].strip("[ "))[0]
    if space == "param" and base not in binder.symbols:
        return _load_parameter(instruction, stores)
    address, count, bits = binder.address(instruction.operands[1]), len(names), bits_of(kind)

    def step(run: Run, mask: Mask) -> None:
        threads, places = run.chosen(address(run), mask)
        found = run.load(space, threads, places, kind.itemsize, count)
        for k, store in enumerate(stores):
            value = found[:, k]
            if threads is not None:
                full = np.zeros(run.lanes, bits)
                full[threads] = value
                value = full
            store(run, value.view(kind), mask)

    return step


def _load_parameter(instruction: Instruction, stores: list[Callable[..., None]]) -> Step:
    """The bits of an argument: no kernel here takes more than plain numbers and pointers."""
    name = instruction.operands[1].strip("[] ")
    kind, (store,) = TYPES[instruction.opcode[-1]], stores

    def step(run: Run, mask: Mask) -> None:
        bits = run.parameters[name]
        if bits.dtype.itemsize < kind.itemsize:
            raise PtxError(f"parameter {name} of {bits.dtype.itemsize} bytes is read as {kind}")
        store(run, bits.view(bits_of(kind))[:1].view(kind), mask)

    return step


def store(instruction: Instruction, binder: Binder) -> Step:
    """st."""
    space, kind = _space(instruction), bits_of(TYPES[instruction.opcode[-1]])
    address = binder.address(instruction.operands[0])
    reads = [binder.read(n, kind) for n in elements(instruction.operands[1])]

    def step(run: Run, mask: Mask) -> None:
        threads, places = run.chosen(address(run), mask)
        columns = [run.chosen(r(run), mask)[1] for r in reads]
        run.store(space, threads, places, np.stack(columns, axis=1))

    return step


# ---------------------------------------------------------------------- asynchronous copies


@dataclass(slots=True)
class Copy:
    """A copy that is on its way: by thread, where to, the bytes, and the number of the group it belongs to."""

    threads: Array
    target: Array
    data: Array
    group: Array


def copy_async(instruction: Instruction, binder: Binder) -> Step:
    """cp.async: bytes from global to shared memory, which are there when the thread has waited for them.

    Until then, the place holds NaN, so that a missing wait shows. With a third number, so many bytes are read, and the
    others are 0.
    """
    kinds = [m for m in instruction.opcode[2:] if m not in HINTS and m not in ("shared", "global")]
    if kinds:
        raise PtxError(f"{instruction}: {', '.join(kinds)} is not known")
    to, source = (binder.address(o) for o in instruction.operands[:2])
    size = int(instruction.operands[2], 0)
    given = binder.read(instruction.operands[3], TYPES["u32"]) if len(instruction.operands) > 3 else None

    def step(run: Run, mask: Mask) -> None:
        threads, places = run.chosen(to(run), mask)
        _, sources = run.chosen(source(run), mask)
        data = np.zeros((len(places), size), np.uint8)
        lengths = run.chosen(given(run), mask)[1] if given is not None else np.full(len(places), size)
        full = lengths >= size
        if not (full | (lengths == 0)).all():
            raise PtxError("a part of an asynchronous copy is not known")
        everyone = np.arange(run.lanes) if threads is None else threads
        if full.any():
            words = run.load("global", everyone[full], sources[full], 4, size // 4)
            data[full] = np.ascontiguousarray(words).view(np.uint8)
        run.store("shared", threads, places, np.full((len(places), size // 4), 0xFFFFFFFF, np.uint32))
        run.copies.append(Copy(everyone, places, data.view(np.uint32), run.groups[everyone]))

    return step


def commit(instruction: Instruction, binder: Binder) -> Step:
    """cp.async.commit_group: the copies since the last one are a group."""

    def step(run: Run, mask: Mask) -> None:
        run.groups = run.groups + (1 if mask is None else mask.astype(np.int64))

    return step


def wait(instruction: Instruction, binder: Binder) -> Step:
    """cp.async.wait_group: all but the latest groups are there."""
    pending = 0 if instruction.opcode[2] == "wait_all" else int(instruction.operands[0])

    def step(run: Run, mask: Mask) -> None:
        everything = instruction.opcode[2] == "wait_all"
        left: list[Copy] = []
        for copy in run.copies:
            done = everything | (copy.group < run.groups[copy.threads] - pending)
            if mask is not None:
                done = done & mask[copy.threads]
            if done.any():
                run.store("shared", copy.threads[done], copy.target[done], copy.data[done])
            if not done.all():
                rest = ~done
                left.append(Copy(copy.threads[rest], copy.target[rest], copy.data[rest], copy.group[rest]))
        run.copies = left

    return step


def asynchronous(instruction: Instruction, binder: Binder) -> Step:
    """cp: of these, copies of single threads only."""
    if instruction.opcode[1] != "async" or instruction.opcode[2] in ("bulk", "mbarrier"):
        raise PtxError(f"{instruction}: this copy is not known")
    found = {"commit_group": commit, "wait_group": wait, "wait_all": wait}.get(instruction.opcode[2], copy_async)
    return found(instruction, binder)


TABLE: dict[str, Callable[[Instruction, Binder], Step]] = {"ld": load, "st": store, "cp": asynchronous}
