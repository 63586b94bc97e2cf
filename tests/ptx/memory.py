"""The memories of the machine: that of the host within allowed ranges, shared memory by program, local by thread.

In: addresses, one for each thread.  Out: the numbers there, as unsigned integers; or a `Fault`, where an address is
outside of what the kernel was given, or not a multiple of the size of the access.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from .operands import BITS, Array

LINE = 16  # bytes of the largest access: views of the memory begin at multiples of it


class Fault(Exception):
    """An access that is not allowed. `which`: the number of the first one among the addresses; `reason` says why."""

    def __init__(self, which: int, address: int, reason: str):
        super().__init__(f"address {address:#x}: {reason}")
        self.which, self.address, self.reason = which, address, reason


class HostMemory:
    """Ranges of the memory of this process, that kernels may use with the addresses they have."""

    def __init__(self, ranges: Sequence[tuple[int, int]]):
        """`ranges`: first byte and the byte after the last one."""
        merged: list[tuple[int, int]] = []
        for start, end in sorted(r for r in ranges if r[0] < r[1]):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        self.starts = np.array([r[0] for r in merged], np.uint64)
        self.ends = np.array([r[1] for r in merged], np.uint64)
        self.bases = [start // LINE * LINE for start, _ in merged]
        self.bytes = [_view(base, end) for base, (_, end) in zip(self.bases, merged, strict=True)]

    def load(self, addresses: Array, width: int, count: int) -> Array:
        """`count` neighbouring numbers of `width` bytes for each address: an array (addresses, count)."""
        parts = self._parts(addresses, width * count)
        if isinstance(parts, int):
            return self._words(parts, width, count)[self._indices(parts, addresses, width * count)]
        found = np.empty((len(addresses), count), BITS[width])
        for part in np.unique(parts):
            own = parts == part
            found[own] = self._words(part, width, count)[self._indices(part, addresses[own], width * count)]
        return found

    def store(self, addresses: Array, values: Array) -> None:
        """`values`: (addresses, count). Where addresses are equal, the last one stays."""
        width, count = values.dtype.itemsize, values.shape[1]
        parts = self._parts(addresses, width * count)
        if isinstance(parts, int):
            self._words(parts, width, count)[self._indices(parts, addresses, width * count)] = values
            return
        for part in np.unique(parts):
            own = parts == part
            self._words(part, width, count)[self._indices(part, addresses[own], width * count)] = values[own]

    def _parts(self, addresses: Array, size: int) -> Array | int:
        """The range of each address, or that of all of them."""
        if not len(self.starts):
            raise Fault(0, int(addresses[0]), "the kernel was given no memory")
        _aligned(addresses, size)
        parts = np.searchsorted(self.starts, addresses, side="right") - 1
        inside = (parts >= 0) & (addresses + np.uint64(size) <= self.ends[parts])
        if not inside.all():
            which = int(np.argmin(inside))
            raise Fault(which, int(addresses[which]), self._place(int(addresses[which]), size))
        first = int(parts[0])
        return first if (parts == first).all() else parts

    def _place(self, address: int, size: int) -> str:
        """Where an address is that lies in no range."""
        after = int(np.searchsorted(self.starts, np.uint64(address), side="right"))
        said = [f"{size} bytes outside of the memory that the kernel was given"]
        if after > 0:
            said.append(f"{address - int(self.ends[after - 1])} bytes after the end of a tensor")
        if after < len(self.starts):
            said.append(f"{int(self.starts[after]) - address} bytes before the start of one")
        return ", ".join(said)

    def _indices(self, part: int, addresses: Array, size: int) -> Array:
        return (addresses - np.uint64(self.bases[part])) // np.uint64(size)

    def _words(self, part: int, width: int, count: int) -> Array:
        return self.bytes[part].view(BITS[width]).reshape(-1, count)


def _aligned(addresses: Array, size: int) -> None:
    off = addresses & np.uint64(size - 1)
    if off.any():
        which = int(np.argmax(off != 0))
        raise Fault(which, int(addresses[which]), f"not a multiple of {size}, the bytes of the access")


def _view(base: int, end: int) -> Array:
    """The bytes from `base` to `end`, and up to the end of the line: accesses are checked before they come here."""
    size = -(-(end - base) // LINE) * LINE
    block: Any = (ctypes.c_uint8 * size).from_address(base)
    return np.frombuffer(block, np.uint8)


class OwnMemory:
    """Memory of the machine itself, as many times as there are owners: programs (shared), threads (local)."""

    def __init__(self, owners: int, size: int, title: str):
        self.size, self.title = size, title
        self.stride = -(-size // LINE) * LINE
        # what nobody has written is NaN in every type, and no index
        self.bytes = np.full(owners * self.stride, 0xFF, np.uint8)

    def load(self, owners: Array, addresses: Array, width: int, count: int) -> Array:
        places = self._places(owners, addresses, width * count)
        return self.bytes.view(BITS[width]).reshape(-1, count)[places]

    def store(self, owners: Array, addresses: Array, values: Array) -> None:
        width, count = values.dtype.itemsize, values.shape[1]
        self.bytes.view(BITS[width]).reshape(-1, count)[self._places(owners, addresses, width * count)] = values

    def _places(self, owners: Array, addresses: Array, size: int) -> Array:
        _aligned(addresses, size)
        inside = addresses + np.uint64(size) <= np.uint64(self.size)
        if not inside.all():
            which = int(np.argmin(inside))
            raise Fault(which, int(addresses[which]), f"beyond the {self.size} bytes of {self.title} memory")
        return (owners * np.uint64(self.stride) + addresses) // np.uint64(size)
