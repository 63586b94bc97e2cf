"""Integer arithmetic as PTX defines it.

In: arrays of integers of one type.  Out: arrays of the same type, or of twice its size; they wrap around.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def divide(a: Array, b: Array) -> Array:
    """Towards zero; what a division by zero gives is not specified, here it is -1."""
    safe = np.where(b == 0, a.dtype.type(1), b)
    quotient = a // safe
    if a.dtype.kind == "i":
        quotient = quotient + ((quotient * safe != a) & ((a < 0) != (safe < 0)))
    return np.where(b == 0, np.array(-1).astype(a.dtype), quotient).astype(a.dtype)


def remainder(a: Array, b: Array) -> Array:
    """Of the sign of a; that of a division by zero is a."""
    return np.where(b == 0, a, a - divide(a, b) * b)


def wide(kind: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"{kind.kind}{2 * kind.itemsize}")


def multiply_wide(a: Array, b: Array) -> Array:
    double = wide(a.dtype)
    return a.astype(double) * b.astype(double)


def multiply_high(a: Array, b: Array) -> Array:
    """The upper half of the product."""
    if a.dtype.itemsize < 8:
        return (multiply_wide(a, b) >> (8 * a.dtype.itemsize)).astype(a.dtype)
    x, y = a.view(np.uint64), b.view(np.uint64)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    xl, xh, yl, yh = x & low, x >> half, y & low, y >> half
    middle = xh * yl + ((xl * yl) >> half)
    other = xl * yh + (middle & low)
    high = xh * yh + (middle >> half) + (other >> half)
    if a.dtype.kind == "i":
        high = high - np.where(a < 0, y, np.uint64(0)) - np.where(b < 0, x, np.uint64(0))
    return high.view(a.dtype)


def shift_left(a: Array, count: Array) -> Array:
    """Shifts by the width or more give 0."""
    width = 8 * a.dtype.itemsize
    inside = np.minimum(count, np.uint32(width - 1)).astype(a.dtype)
    return np.where(count < width, a << inside, a.dtype.type(0))


def shift_right(a: Array, count: Array) -> Array:
    """Shifts by the width or more give 0, or the sign."""
    width = 8 * a.dtype.itemsize
    inside = np.minimum(count, np.uint32(width - 1)).astype(a.dtype)
    shifted = a >> inside
    return shifted if a.dtype.kind == "i" else np.where(count < width, shifted, a.dtype.type(0))


def field_of(a: Array, start: Array, length: Array) -> Array:
    """Some bits of a number ("bfe"), extended by their highest one if it is signed."""
    width, bits = 8 * a.dtype.itemsize, f"u{a.dtype.itemsize}"
    start, length = start & np.uint32(0xFF), length & np.uint32(0xFF)
    got = shift_right(a.view(bits), start) & mask_of(length, bits)
    if a.dtype.kind == "u":
        return got
    last = np.clip(start.astype(np.int64) + length - 1, 0, width - 1).astype(np.uint32)
    sign = shift_right(a.view(bits), last) & np.array(1, bits)
    filled = got | np.where(sign == 1, ~mask_of(length, bits), np.array(0, bits))
    return np.where(length == 0, np.array(0, bits), filled).astype(bits).view(a.dtype)


def insert(a: Array, b: Array, start: Array, length: Array) -> Array:
    """The lowest bits of a in the place of some bits of b ("bfi")."""
    mask = shift_left(mask_of(length & np.uint32(0xFF), a.dtype), start & np.uint32(0xFF))
    return (b & ~mask) | (shift_left(a, start & np.uint32(0xFF)) & mask)


def mask_of(length: Array, kind: Any) -> Array:
    """So many ones."""
    ones: Array = ~np.zeros(1, np.dtype(kind))
    return ~shift_left(np.broadcast_to(ones, length.shape), length)


def count_ones(a: Array) -> Array:
    return np.array([int(x).bit_count() for x in a.ravel()], np.uint32)


def leading_zeros(a: Array) -> Array:
    width = 8 * a.dtype.itemsize
    return np.array([width - int(x).bit_length() for x in a.ravel()], np.uint32)


def reversed_bits(a: Array) -> Array:
    width = 8 * a.dtype.itemsize
    return np.array([int(f"{int(x):0{width}b}"[::-1], 2) for x in a.ravel()], a.dtype)


def highest_one(a: Array) -> Array:
    """The place of the highest bit that differs from the sign ("bfind"); all ones where there is none."""
    found = np.where(a < 0, ~a, a) if a.dtype.kind == "i" else a
    return np.array([int(x).bit_length() - 1 & 0xFFFFFFFF for x in found.ravel()], np.uint32)


def permute(a: Array, b: Array, selector: Array) -> Array:
    """Four bytes, chosen among the eight of a and b ("prmt"); bit 3 of a choice takes the sign of the byte only."""
    both = a.astype(np.uint64) | (b.astype(np.uint64) << np.uint64(32))
    result = np.zeros(np.broadcast_shapes(a.shape, b.shape, selector.shape), np.uint32)
    for k in range(4):
        choice = (selector >> np.uint32(4 * k)).astype(np.uint64)
        byte = (both >> ((choice & np.uint64(7)) * np.uint64(8))) & np.uint64(0xFF)
        sign = np.where(byte & np.uint64(0x80), np.uint64(0xFF), np.uint64(0))
        byte = np.where(choice & np.uint64(8), sign, byte)
        result = result | (byte.astype(np.uint32) << np.uint32(8 * k))
    return result


def logic(a: Array, b: Array, c: Array, table: int) -> Array:
    """The function of three bits that a table of eight states ("lop3")."""
    result: Array = np.zeros(1, a.dtype)
    for k in range(8):
        if table >> k & 1:
            result = result | ((a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c))
    return result


def funnel(low: Array, high: Array, count: Array, left: bool, wrap: bool) -> Array:
    """32 bits of the 64 of two registers, shifted ("shf")."""
    both = low.astype(np.uint64) | (high.astype(np.uint64) << np.uint64(32))
    count = (count & np.uint32(31) if wrap else np.minimum(count, np.uint32(32))).astype(np.uint64)
    return ((both << count) >> np.uint64(32) if left else both >> count).astype(np.uint32)
