"""Block-sparse ranges as users pass them: `ranges=` of a reduction, and `K.ranges = ...`.

In: the six integer arrays of KeOps, (ranges_i, slices_i, redranges_j, ranges_j, slices_j, redranges_i), of any library,
integer type, strides and device.  Out: a `Ranges` with copies of its own, checked, or an error that names the array.

What was read is remembered as long as the arrays exist, and found again if they have not been written to: a loop that
passes the same ranges a thousand times has them checked once.
"""

from __future__ import annotations

import math
import operator
import sys
import weakref
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..errors import DtypeError, ShapeError, UnsupportedError, message
from ..lower.ranges import REMEDY, Ranges, checked_half
from ..runtime import arrays
from .evaluate import dtype_of
from .messages import describe_value
from .space import Space

ANY = sys.maxsize
NAMES = ("ranges_i", "slices_i", "redranges_j", "ranges_j", "slices_j", "redranges_i")


class Known(NamedTuple):
    """Ranges that were read before: from which objects, and how often torch had written to them."""

    sources: tuple[weakref.ref[Any], ...]
    versions: tuple[int, ...]
    ranges: Ranges


_known: dict[tuple[int, ...], Known] = {}


@dataclass(frozen=True)
class Unread:
    """Ranges whose numbers are not there yet, because torch is tracing: read and checked when the reduction runs.

    first, last   three tensors each: those for reductions over j, and those for reductions over i
    """

    first: tuple[Any, ...]
    last: tuple[Any, ...]

    def swapped(self) -> Unread:
        """Those of the transposed matrix."""
        return Unread(self.last, self.first)

    def same(self, other: Any) -> bool:
        """Do both consist of the same tensors?"""
        own, others = (*self.first, *self.last), (*other.first, *other.last)
        return not any(map(operator.is_not, own, others))

    def check(self, call: str, m: int, n: int) -> None:
        """Done when the reduction runs."""

    def check_transposed(self, call: str) -> None:
        """Left out: whether derivatives are asked for is not known when the reduction runs."""

    def half(self, over: str) -> Any:
        """Refused: what needs the numbers of terms cannot be traced."""
        text = "mean, var and std count the terms of ranges, which are not known while torch traces."
        raise UnsupportedError(message(text, hint="compute them outside of torch.compile; or K.sum, and divide."))

    @property
    def over_j(self) -> Any:
        return self.half("j")


def read(call: str, given: Any) -> Ranges:
    """The ranges of a call, checked.

    Raises: ShapeError, DtypeError or UnsupportedError, which name the array that is wrong.
    """
    if isinstance(given, (Ranges, Unread)):
        return given  # type: ignore[return-value]
    if not isinstance(given, (tuple, list)) or len(given) != 6:
        what = f"{len(given)} entries" if isinstance(given, (tuple, list)) else describe_value(given)
        facts = f"({', '.join(NAMES)}), given: {what}"
        raise ShapeError(message(f"{call}: ranges are a tuple of six integer arrays.", facts, REMEDY))
    if any(arrays.library(x) == arrays.TORCH and not arrays.plain_tensors([x]) for x in given):
        return Unread(tuple(given[:3]), tuple(given[3:]))  # type: ignore[return-value]
    key = tuple([id(x) for x in given])
    known = _known.get(key)
    if known is not None and _unchanged(known, given):
        return known.ranges
    copies = [_integers(call, name, value) for name, value in zip(NAMES, given, strict=True)]
    home = _home(given)
    first, last = (
        checked_half(call, names, parts, home) for names, parts in ((NAMES[:3], copies[:3]), (NAMES[3:], copies[3:]))
    )
    found = Ranges(first, last)
    if all(arrays.library(x) is not None for x in given):
        _remember(key, given, found)
    return found


def _integers(call: str, name: str, value: Any) -> np.ndarray:
    """A copy of an array of integers."""
    kind = arrays.library(value)
    try:
        array = np.asarray(value) if kind != arrays.TORCH else value.detach().cpu().numpy()
    except (ValueError, TypeError, RuntimeError) as cause:
        text = f"{call}: {name} cannot be read as an array of integers."
        raise DtypeError(message(text, [describe_value(value), str(cause).partition("\n")[0]])) from None
    if array.size == 0:  # an empty list has no type, and no second axis
        array = array.astype(np.int64).reshape(array.shape if array.ndim == 2 or name.startswith("sl") else (0, 2))
    if array.dtype.kind not in "iu":
        hint = "convert it, astype(np.int64) in NumPy, long() in torch."
        raise DtypeError(message(f"{call}: {name} is not of an integer type.", describe_value(value), hint))
    if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise ShapeError(message(f"{call}: {name} holds a number beyond every size.", f"{array.max()}"))
    copy = np.array(array, dtype=np.int64, order="C")
    copy.flags.writeable = False
    return copy


def _home(given: Any) -> tuple[str, str | None]:
    """The library of the arrays and the device they are on."""
    kind = arrays.library(given[0]) or arrays.NUMPY
    return kind, None if kind == arrays.NUMPY else str(given[0].device)


# ---------------------------------------------------------------------- what was read before


def _remember(key: tuple[int, ...], given: Any, ranges: Ranges) -> None:
    def forget(_: Any) -> None:
        _known.pop(key, None)

    _known[key] = Known(tuple(weakref.ref(x, forget) for x in given), _versions(given), ranges)


def _unchanged(known: Known, given: Any) -> bool:
    """Are these the objects that were read, with the same numbers? What NumPy may write to is compared."""
    if any(source() is not x for source, x in zip(known.sources, given, strict=True)):
        return False
    if known.versions != _versions(given):
        return False
    pairs = zip(given, _arrays(known.ranges), strict=True)
    return all(np.array_equal(_memory(x), copy) for x, copy in pairs if isinstance(x, np.ndarray) or x.is_cpu)


def _versions(given: Any) -> tuple[int, ...]:
    return tuple(0 if isinstance(x, np.ndarray) else x._version for x in given)


def _memory(x: Any) -> np.ndarray:
    return x if isinstance(x, np.ndarray) else x.detach().numpy()


def _arrays(ranges: Ranges) -> tuple[np.ndarray, ...]:
    a, b = ranges.over_j, ranges.over_i
    return a.rows, a.slices, a.columns, b.rows, b.slices, b.columns


def clear() -> None:
    """Forget what was read."""
    _known.clear()


# ---------------------------------------------------------------------- what they are for others


def as_given(ranges: Ranges) -> tuple[Any, ...]:
    """The six arrays, int64, in the library and on the device of those that were given."""
    if isinstance(ranges, Unread):
        return (*ranges.first, *ranges.last)
    kind, device = ranges.over_j.home
    copies = tuple(np.array(a) for a in _arrays(ranges))
    if kind == arrays.NUMPY:
        return copies
    return tuple(arrays.wrap(a, kind).to(device) for a in copies)


def as_tensors(ranges: Ranges) -> list[Any]:
    """The six arrays as torch tensors on the CPU, for a call that torch records."""
    if isinstance(ranges, Unread):
        return [*ranges.first, *ranges.last]
    return [arrays.wrap(np.array(a), arrays.TORCH) for a in _arrays(ranges)]


def set_on(call: str, space: Space, given: Any) -> Space:
    """The space with these ranges, which are checked against the sizes that are known; None removes them."""
    if given is None:
        return space._replace(ranges=None)
    ranges = read(call, given)
    # An axis of length 1 may still become longer, where the formula meets another variable.
    m, n = [ANY if size is None or size == 1 else size for size in (space.ni, space.nj)]
    ranges.check(call, m, n)
    return space._replace(ranges=ranges)


def terms_per_row(space: Space, over: str) -> Any:
    """How many terms each result has: a number; with ranges an array of shape (rows, 1), like the results."""
    if space.ranges is None:
        sizes = [space.along(axis) for axis in over]
        return math.prod([1 if size is None else size for size in sizes])
    if over == "ij":
        return space.ranges.over_j.blocks.pairs
    kept = space.along("i" if over == "j" else "j")
    counts = space.ranges.half(over).blocks.counts(1 if kept is None else kept)[:, None].astype(np.float64)
    if space.library != arrays.TORCH:
        return counts.astype(dtype_of(space))
    return arrays.on_device(arrays.wrap(counts, arrays.TORCH), dtype_of(space), space.device or "cpu")


def divided(total: Any, count: Any) -> Any:
    """total / count, where the count of some rows may be nothing, or less: NaN."""
    if isinstance(count, (int, float)):
        return total / count if count > 0 else total * math.nan
    if isinstance(count, np.ndarray):
        return total / np.where(count > 0, count, np.nan)
    return total / count.masked_fill(count <= 0, math.nan)
