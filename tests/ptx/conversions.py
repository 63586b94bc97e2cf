"""Conversions between types, and the packing of registers: cvt, cvta, mov.

In: an instruction and the binder of its function.  Out: a `Step`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import numbers as reals
from .arithmetic import Step
from .operands import BITS, TYPES, Array, Binder, Mask, bits_of
from .parse import Instruction, PtxError, elements

if TYPE_CHECKING:
    from .machine import Run

TO_INTEGER: dict[str, Callable[[Array], Array]] = {
    "rni": np.rint,
    "rzi": np.trunc,
    "rmi": np.floor,
    "rpi": np.ceil,
}
HALVES = ("f16", "bf16")
MODES = ("rn", "rz", "rm", "rp", "rna", *TO_INTEGER)


def convert(instruction: Instruction, binder: Binder) -> Step:
    """cvt: the modifiers, the type of the result, the type of the argument."""
    *modifiers, to, source = instruction.opcode[1:]
    unknown = [m for m in modifiers if m not in (*MODES, "ftz", "sat")]
    if unknown or to not in TYPES or source not in TYPES:
        raise PtxError(f"{instruction}: this conversion is not known")
    store = binder.write(instruction.operands[0])
    if to in ("f16x2", "bf16x2"):
        return _pair(instruction, binder, to.removesuffix("x2"), _mode(modifiers))
    read = binder.read(instruction.operands[1], TYPES[source])
    function = _function(instruction, modifiers, to, source)
    return lambda run, mask: store(run, function(read(run)), mask)


def _mode(modifiers: list[str]) -> str:
    return next((m for m in modifiers if m in MODES), "")


def _pair(instruction: Instruction, binder: Binder, half: str, mode: str) -> Step:
    """Two float32 numbers as two of 16 bits, of which the first is the upper one."""
    store = binder.write(instruction.operands[0])
    high, low = (binder.read(o, TYPES["f32"]) for o in instruction.operands[1:])

    def step(run: Run, mask: Mask) -> None:
        upper, lower = (_to_half(x(run), half, mode).astype(np.uint32) for x in (high, low))
        store(run, (upper << np.uint32(16)) | lower, mask)

    return step


def _to_half(x: Array, half: str, mode: str) -> Array:
    """The 16 bits of a number."""
    if half == "bf16":
        return reals.to_bfloat16(x, mode)
    if mode == "rn":
        return x.astype(np.float16).view(np.uint16)
    assert mode == "rz", mode
    near = x.astype(np.float16)
    beyond = np.abs(near.astype(np.float64)) > np.abs(x)
    return np.where(beyond & np.isfinite(x), np.nextafter(near, np.float16(0)), near).view(np.uint16)


def _function(instruction: Instruction, modifiers: list[str], to: str, source: str) -> Callable[[Array], Array]:
    mode, flush, saturate = _mode(modifiers), "ftz" in modifiers, "sat" in modifiers
    before, after = TYPES[source], TYPES[to]
    if source in HALVES or to in HALVES or to == "tf32":
        if saturate:
            raise PtxError(f"{instruction}: sat is not known here")
        return _of_halves(to, source, mode)
    if before.kind == "f" and after.kind == "f":
        return lambda x: _real_to_real(x, after, mode, flush, saturate)
    if before.kind == "f":
        return lambda x: _real_to_integer(reals.flushed(x) if flush else x, after, mode)
    if after.kind == "f":
        return lambda x: _integer_to_real(x, after, mode)
    if saturate:
        low, high = np.iinfo(after).min, np.iinfo(after).max
        return lambda x: np.clip(x, max(low, np.iinfo(before).min), min(high, np.iinfo(before).max)).astype(after)
    return lambda x: x.astype(after)


def _of_halves(to: str, source: str, mode: str) -> Callable[[Array], Array]:
    if to == "tf32":
        assert mode == "rna", mode
        return reals.to_tf32
    widen = {
        "f16": lambda x: x,
        "bf16": reals.from_bfloat16,
        "f32": lambda x: x,
        "f64": lambda x: x,
    }.get(source, lambda x: x.astype(np.float64))
    if to in HALVES:
        return lambda x: _to_half(widen(x), to, mode or "rn")
    if TYPES[to].kind == "f":
        return lambda x: widen(x).astype(TYPES[to])
    return lambda x: _real_to_integer(widen(x), TYPES[to], mode)


def _real_to_real(x: Array, after: np.dtype[Any], mode: str, flush: bool, saturate: bool) -> Array:
    x = reals.flushed(x) if flush else x
    if mode in TO_INTEGER:
        found = TO_INTEGER[mode](x).astype(after)
    else:
        found = reals.rounded(x.astype(np.float64), 0.0, after.type, mode or "rn")
    found = reals.saturated(found) if saturate else found
    return reals.flushed(found) if flush else found


def _real_to_integer(x: Array, after: np.dtype[Any], mode: str) -> Array:
    """Numbers beyond the type become its ends, NaN becomes 0, or of 64 bits the number of the highest bit."""
    whole = TO_INTEGER[mode](x.astype(np.float64))
    low, high = np.iinfo(after).min, np.iinfo(after).max
    over, under = whole >= float(high), whole <= float(low)
    inside = np.where(over | under | np.isnan(whole), 0.0, whole).astype(after)
    found = np.where(over, after.type(high), np.where(under, after.type(low), inside))
    nan = np.array([1 << 63], "u8").view(after) if after.itemsize == 8 else np.zeros(1, after)
    return np.where(np.isnan(whole), nan, found).astype(after)


def _integer_to_real(x: Array, after: np.dtype[Any], mode: str) -> Array:
    if mode == "rn":
        return x.astype(after)
    assert x.dtype.itemsize <= 4, "directed rounding of 64 bits"
    return reals.rounded(x.astype(np.float64), 0.0, after.type, mode)


def move(instruction: Instruction, binder: Binder) -> Step:
    """mov: a register or number, or several registers that make one."""
    kind = bits_of(TYPES[instruction.opcode[-1]])
    to, source = instruction.operands
    if to.startswith("{"):
        return _unpack(to, source, binder, kind)
    if source.startswith("{"):
        return _pack(to, source, binder, kind)
    store, read = binder.write(to), binder.read(source, kind)
    return lambda run, mask: store(run, read(run), mask)


def _pack(to: str, source: str, binder: Binder, kind: np.dtype[Any]) -> Step:
    parts = elements(source)
    width = kind.itemsize // len(parts)
    store, reads = binder.write(to), [binder.read(p, BITS[width]) for p in parts]

    def step(run: Run, mask: Mask) -> None:
        value = np.zeros(1, kind)
        for k, read in enumerate(reads):
            value = value | (read(run).astype(kind) << kind.type(8 * width * k))
        store(run, value, mask)

    return step


def _unpack(to: str, source: str, binder: Binder, kind: np.dtype[Any]) -> Step:
    parts = elements(to)
    width = kind.itemsize // len(parts)
    stores, read = [binder.write(p) for p in parts], binder.read(source, kind)

    def step(run: Run, mask: Mask) -> None:
        value = read(run)
        for k, store in enumerate(stores):
            store(run, (value >> kind.type(8 * width * k)).astype(BITS[width]), mask)

    return step


def convert_address(instruction: Instruction, binder: Binder) -> Step:
    """cvta: addresses of global and of shared memory are numbers of their own, which no generic access mixes."""
    if "global" not in instruction.opcode:
        raise PtxError(f"{instruction}: generic addresses of this memory are not known")
    store, read = binder.write(instruction.operands[0]), binder.read(instruction.operands[1], TYPES["b64"])
    return lambda run, mask: store(run, read(run), mask)


TABLE: dict[str, Callable[[Instruction, Binder], Step]] = {
    "cvt": convert,
    "mov": move,
    "cvta": convert_address,
}
