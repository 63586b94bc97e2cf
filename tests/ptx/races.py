"""Finds accesses to shared memory by several warps whose order nothing decides.

In: the bytes of every access, the warps, and how many barriers their programs have passed.  Out: a `Fault`, where two
warps use a byte between the same two barriers, and one of them changes it.  In lock step such code would give right
results; on hardware, one warp may be far ahead.  Equal numbers may be written by all: programs do so on purpose.
"""

from __future__ import annotations

import numpy as np

from .memory import Fault
from .operands import Array

NOBODY, SEVERAL = -1, -2


class Races:
    """Who has written and read each byte last, and when: numbers of warps, numbers of barriers."""

    def __init__(self, size: int):
        self.writer, self.written = np.full(size, NOBODY), np.full(size, -1)
        self.reader, self.read = np.full(size, NOBODY), np.full(size, -1)

    def load(self, first: Array, size: int, warps: Array, now: Array, addresses: Array) -> None:
        """Accesses of `size` bytes from each first one; addresses: what they are called in an error."""
        places, warps, now = _bytes(first, size, warps, now)
        others = (self.written[places] == now) & (self.writer[places] != warps)
        _raise(others, addresses, "read, without a barrier after another warp has written it")
        known = self.read[places] == now
        self.reader[places] = np.where(known & (self.reader[places] != warps), SEVERAL, warps)
        self.read[places] = now
        # threads of this access that read the same byte
        shared = self.reader[places] != warps
        self.reader[places[shared]] = SEVERAL

    def store(self, first: Array, size: int, warps: Array, now: Array, addresses: Array, same: Array) -> None:
        """`same`: does the access leave its bytes as they are?"""
        places, warps, now = _bytes(first, size, warps, now)
        others = (self.written[places] == now) & (self.writer[places] != warps) & ~same[:, None]
        _raise(others, addresses, "written, without a barrier after another warp has written it")
        others = (self.read[places] == now) & (self.reader[places] != warps) & ~same[:, None]
        _raise(others, addresses, "written, without a barrier after another warp has read it")
        self.writer[places], self.written[places] = warps, now


def _bytes(first: Array, size: int, warps: Array, now: Array) -> tuple[Array, Array, Array]:
    """One row of bytes for each access."""
    places = first.astype(np.int64)[:, None] + np.arange(size)
    return places, np.broadcast_to(warps[:, None], places.shape), np.broadcast_to(now[:, None], places.shape)


def _raise(wrong: Array, addresses: Array, reason: str) -> None:
    if wrong.any():
        which = int(np.argmax(wrong.any(1)))
        raise Fault(which, int(addresses[which]), reason)
