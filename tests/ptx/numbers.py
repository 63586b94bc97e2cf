"""Floating-point arithmetic as PTX defines it: rounding in a given direction, subnormal numbers, NaN.

In: arrays of float32 or float64.  Out: arrays of the same type.  Float32 is computed in float64 and rounded once more;
the sum of a product in `fma` is rounded to 53 bits first, which moves one result in 2^28 by its last bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

SMALLEST = np.float32(2.0**-126)
SPLITTER = 2.0**27 + 1  # cuts a float64 in two halves whose products are exact


def flushed(x: Array) -> Array:
    """Subnormal float32 numbers become zeros of their sign (".ftz")."""
    if x.dtype != np.float32:
        return x
    return np.where(np.abs(x) < SMALLEST, np.copysign(np.float32(0), x), x)


def saturated(x: Array) -> Array:
    """Between 0 and 1, NaN to 0 (".sat")."""
    return np.where(np.isnan(x), x.dtype.type(0), np.clip(x, 0, 1) + x.dtype.type(0))


def rounded(x: Array, rest: Array | float, kind: Any, mode: str) -> Array:
    """The number x + rest, of which x is the float64 next to it, as float32 or float64, rounded in a direction."""
    near = x.astype(kind)
    if mode == "rn":
        return near
    # on which side of `near` the exact number lies
    side = np.sign(x - near.astype(np.float64))
    side = np.where(side == 0, np.sign(rest), side)
    toward = {"rm": -np.inf, "rp": np.inf}.get(mode)
    if mode == "rz":
        wrong = side * np.sign(near) < 0
        return np.where(wrong & np.isfinite(x), np.nextafter(near, near.dtype.type(0)), near)
    assert toward is not None, mode
    wrong = (side < 0) if mode == "rm" else (side > 0)
    return np.where(wrong & np.isfinite(x), np.nextafter(near, near.dtype.type(toward)), near)


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """The sum, and its rounding error."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """The product, and its rounding error; 0 where the parts of the factors would overflow."""
    p = a * b
    c, d = a * SPLITTER, b * SPLITTER
    ah, bh = c - (c - a), d - (d - b)
    al, bl = a - ah, b - bh
    error = ((ah * bh - p) + ah * bl + al * bh) + al * bl
    return p, np.where(np.isfinite(error), error, 0.0)


def add(a: Array, b: Array, mode: str) -> Array:
    kind = a.dtype
    if mode == "rn":
        return a + b
    return rounded(*two_sum(a.astype(np.float64), b.astype(np.float64)), kind, mode)


def subtract(a: Array, b: Array, mode: str) -> Array:
    return add(a, -b, mode) if mode != "rn" else a - b


def multiply(a: Array, b: Array, mode: str) -> Array:
    if mode == "rn":
        return a * b
    return rounded(*two_product(a.astype(np.float64), b.astype(np.float64)), a.dtype, mode)


def fma(a: Array, b: Array, c: Array, mode: str) -> Array:
    """a * b + c, rounded once."""
    if a.dtype == np.float32:
        product = a.astype(np.float64) * b.astype(np.float64)  # exact
        if mode == "rn":
            return (product + c).astype(np.float32)
        return rounded(*two_sum(product, c.astype(np.float64)), np.float32, mode)
    product, rest = two_product(a, b)
    s, t = two_sum(product, c)
    small = t + rest
    total = s + np.where(np.isfinite(small), small, 0.0)
    total = np.where(np.isfinite(s), total, product + c)
    return total if mode == "rn" else rounded(total, (s - total) + small, np.float64, mode)


def minimum(a: Array, b: Array, nan: bool) -> Array:
    """The smaller one; -0 is smaller than 0. NaN: if either is NaN (`nan`), or only if both are."""
    return _extremum(np.minimum if nan else np.fmin, np.bitwise_or, a, b)


def maximum(a: Array, b: Array, nan: bool) -> Array:
    return _extremum(np.maximum if nan else np.fmax, np.bitwise_and, a, b)


def _extremum(function: Any, of_zeros: Any, a: Array, b: Array) -> Array:
    found = function(a, b)
    if not (found == 0).any():
        return found
    bits = f"u{a.dtype.itemsize}"
    zero = of_zeros(a.view(bits), b.view(bits)).view(a.dtype)
    return np.where((a == 0) & (b == 0), zero, found)


# ---------------------------------------------------------------------- numbers of 16 bits that NumPy has not


def from_bfloat16(x: Array) -> Array:
    return (x.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_bfloat16(x: Array, mode: str = "rn") -> Array:
    """To the nearest, ties to even ("rn"), or cut ("rz")."""
    bits = x.astype(np.float32).view(np.uint32)
    if mode == "rn":
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        carried = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    else:
        assert mode == "rz", mode
        carried = bits >> np.uint32(16)
    return np.where(np.isnan(x), np.uint32(0x7FFF), carried).astype(np.uint16)


def to_tf32(x: Array) -> Array:
    """To 10 bits of fraction, ties away from 0; matrix units ignore the other bits."""
    bits = (x.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(x), bits.view(np.float32), x)
