"""Reading and writing registers, numbers and special registers, as prepared functions.

In: the registers of a function and the addresses of its variables.  Out: a `Binder`, which makes of every operand a
function that fetches it in the type of the instruction, or that stores a result.

A register is an array of unsigned integers (truth values for predicates), one for each thread of the programs that run
together, or a single one where all threads have the same number.  Arrays in registers are never changed, only replaced.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .parse import PtxError

if TYPE_CHECKING:
    from .machine import Run

Array = np.ndarray[Any, Any]
Mask = Array | None  # threads that take part; None: all of them
Fetch = Callable[["Run"], Array]
Store = Callable[["Run", Array, Mask], None]

TYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(kind)
    for name, kind in {
        "pred": "?",
        "b8": "u1",
        "b16": "u2",
        "b32": "u4",
        "b64": "u8",
        "u8": "u1",
        "u16": "u2",
        "u32": "u4",
        "u64": "u8",
        "s8": "i1",
        "s16": "i2",
        "s32": "i4",
        "s64": "i8",
        "f16": "f2",
        "bf16": "u2",
        "f32": "f4",
        "f64": "f8",
        "f16x2": "u4",
        "bf16x2": "u4",
        "tf32": "f4",
    }.items()
}
BITS = {1: np.dtype("u1"), 2: np.dtype("u2"), 4: np.dtype("u4"), 8: np.dtype("u8")}
SPECIAL = frozenset(
    f"%{name}" for name in ("tid.x", "tid.y", "tid.z", "ctaid.x", "ctaid.y", "ctaid.z", "laneid", "warpid")
) | {"%ntid.x", "%nctaid.x", "%nctaid.y", "%nctaid.z"}
UNKNOWN = 0xCDCDCDCDCDCDCDCD  # what a register holds for threads that have not written it: NaN in every type


def bits_of(kind: np.dtype[Any]) -> np.dtype[Any]:
    return kind if kind.kind == "b" else BITS[kind.itemsize]


def number(text: str, kind: np.dtype[Any]) -> Array:
    """A literal number, as an array of one."""
    if text[:2] in ("0f", "0F"):
        value = struct.unpack(">f", bytes.fromhex(text[2:]))[0]
        exact = np.array([int(text[2:], 16)], "u4")
        return exact.view(kind) if kind.itemsize == 4 else np.array([value], kind)
    if text[:2] in ("0d", "0D"):
        exact = np.array([int(text[2:], 16)], "u8")
        return exact.view(kind) if kind.itemsize == 8 else exact.view("f8").astype(kind)
    if kind.kind == "b":
        return np.array([int(text, 0) != 0])
    if "." in text:
        return np.array([float(text)], kind)
    value = int(text.rstrip("U"), 0) & ((1 << (8 * kind.itemsize)) - 1)
    return np.array([value], BITS[kind.itemsize]).view(kind)


class Binder:
    """Makes the functions that fetch and store operands. `symbols`: addresses of variables."""

    def __init__(self, registers: dict[str, str], symbols: dict[str, int]):
        self.numbers = {name: k for k, name in enumerate(registers)}
        self.types = [TYPES[kind] for kind in registers.values()]
        self.names = list(registers)
        self.symbols = symbols

    def read(self, operand: str, kind: np.dtype[Any]) -> Fetch:
        """Fetches the operand in a type: the lower bits of a larger register."""
        if operand.startswith("!"):
            inner = self.read(operand[1:], kind)
            return lambda run: ~inner(run)
        place = self.numbers.get(operand)
        if place is not None:
            return _register(place, self.types[place], kind)
        if operand in SPECIAL:
            return lambda run: run.special[operand].astype(kind)
        if operand in self.symbols:
            constant = np.array([self.symbols[operand]], "u8").astype(kind)
        elif operand == "WARP_SZ":
            constant = np.array([32], kind)
        elif operand and (operand[0].isdigit() or operand[0] == "-"):
            constant = number(operand, kind)
        else:
            raise PtxError(f"operand {operand!r} is not known")
        return lambda run: constant

    def write(self, operand: str) -> Store:
        """Stores a result: a number that is narrower than the register is extended by its sign, or by 0."""
        if operand == "_":
            return lambda run, value, mask: None
        place = self.numbers.get(operand)
        if place is None:
            raise PtxError(f"register {operand!r} is not declared")
        own = self.types[place]
        bits = bits_of(own)

        def store(run: Run, value: Array, mask: Mask) -> None:
            kind = value.dtype
            if kind != bits:
                if kind.itemsize != own.itemsize:
                    value = value.astype(f"{'i' if kind.kind == 'i' else 'u'}{own.itemsize}")
                value = value.view(bits)
            if mask is not None:
                old = run.registers[place]
                value = np.where(mask, value, np.array([UNKNOWN], "u8").astype(bits) if old is None else old)
            run.registers[place] = value

        return store

    def address(self, operand: str) -> Fetch:
        """Fetches the address in `[register + number]`, as 64 bits; the sum has the bits of the register."""
        base, _, offset = operand.strip("[] ").partition("+")
        base, step = base.strip(), int(offset.strip() or "0", 0)
        place = self.numbers.get(base)
        if place is None:
            fixed = np.array([self._fixed(base) + step], "u8")
            return lambda run: fixed
        kind = bits_of(self.types[place])
        fetch = _register(place, self.types[place], kind)
        if step == 0:
            return lambda run: fetch(run).astype("u8", copy=False)
        shift = np.array([step]).astype(kind)
        return lambda run: (fetch(run) + shift).astype("u8", copy=False)

    def _fixed(self, base: str) -> int:
        if base in self.symbols:
            return self.symbols[base]
        if base.isdigit() or base.startswith("0x"):
            return int(base, 0)
        raise PtxError(f"address {base!r} is not known")


def _register(place: int, own: np.dtype[Any], kind: np.dtype[Any]) -> Fetch:
    """Fetches a register. One that nothing was written to is None: reading it is an error that the machine explains."""
    if own.itemsize == kind.itemsize:
        if bits_of(own) == kind:
            return lambda run: _written(run, place)
        return lambda run: _written(run, place).view(kind)
    if own.itemsize < kind.itemsize:
        raise PtxError(f"a register of {own.itemsize} bytes is read as {kind}")
    bits = bits_of(kind)
    return lambda run: _written(run, place).astype(bits).view(kind)


def _written(run: Run, place: int) -> Array:
    value = run.registers[place]
    if value is None:
        raise PtxError(f"register {run.program.binder.names[place]} is read before it is written")
    return value
