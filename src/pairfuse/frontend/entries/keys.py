"""What stands between the brackets of K[...], read as NumPy reads it.

In: the key and the sizes (*batch, M, N, D).  Out: one entry for every axis: a slice, a whole number, or an array of
whole numbers, all of them checked.  Masks have become the numbers of the places where they are true.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...errors import SelectionError, message
from ...runtime import arrays

Part = int | slice | np.ndarray
HINT = "K[rows, columns] takes whole numbers, slices, arrays of whole numbers and masks, as NumPy does."


class Key(NamedTuple):
    """axes: one part for every axis of (*batch, M, N); components: that of the vectors."""

    axes: tuple[Part, ...]
    components: Part

    @property
    def outer(self) -> tuple[Part, ...] | None:
        """The parts that select along each axis by itself, so that rows and columns remain; None: they do not.

        Arrays of two axes pair with each other (NumPy), unless they have the shapes (R, 1) and (1, C) of `np.ix_`.
        """
        *batch, rows, columns = self.axes
        if isinstance(rows, int) or isinstance(columns, int):
            return None
        paired = [p for p in self.axes if isinstance(p, np.ndarray)]
        if len(paired) < 2:
            return self.axes if not paired or paired[0].ndim == 1 else None
        if len(paired) > 2 or not (isinstance(rows, np.ndarray) and isinstance(columns, np.ndarray)):
            return None
        if rows.ndim == columns.ndim == 2 and rows.shape[1] == columns.shape[0] == 1:
            return (*batch, rows.ravel(), columns.ravel())
        return None


def read(key: Any, sizes: Sequence[int], shown: str) -> Key:
    """The key of axes of these sizes, the last being that of the components; `shown` describes K in errors.

    Raises SelectionError: too many indices, out of range, of a type that selects nothing.
    """
    try:
        given = [_plain(k) for k in (key if isinstance(key, tuple) else (key,))]
    except ValueError:
        hint = "lists of indices have one length: pad them, or select one after the other."
        raise _error(key, "lists of different lengths.", shown, hint) from None
    taken = sum(_axes_of(k) for k in given)
    dots = [n for n, k in enumerate(given) if k is Ellipsis]
    if len(dots) > 1 or taken > len(sizes):
        raise _error(key, f"{taken} indices and {len(dots)} ellipses for {len(sizes)} axes.", shown)
    if not dots:
        given.append(Ellipsis)
        dots = [len(given) - 1]
    full: list[Any] = [slice(None)] * (len(sizes) - taken)
    spread = [*given[: dots[0]], *full, *given[dots[0] + 1 :]]
    parts = tuple(_parts(key, spread, sizes, shown))
    return Key(parts[:-1], parts[-1])


def _plain(part: Any) -> Any:
    """Lists, tensors and columns of tables as arrays."""
    kind = arrays.library(part)
    if kind == arrays.TORCH:
        return part.detach().cpu().numpy()
    if kind is None and callable(getattr(part, "__array__", None)) and not isinstance(part, np.generic):
        return np.asarray(part)
    return np.array(part) if isinstance(part, (list, range)) else part


def _axes_of(part: Any) -> int:
    """How many axes a part of the key takes."""
    if part is Ellipsis or part is None:
        return 0
    return part.ndim if isinstance(part, np.ndarray) and part.dtype == bool else 1


def _parts(key: Any, spread: list[Any], sizes: Sequence[int], shown: str) -> Iterator[Part]:
    """One part for every axis."""
    axis = 0
    for part in spread:
        if isinstance(part, np.ndarray) and part.dtype == bool and part.ndim:
            wanted = tuple(sizes[axis : axis + part.ndim])
            if part.shape != wanted:
                raise _error(key, f"the mask has the shape {part.shape}, its axes have the sizes {wanted}.", shown)
            yield from part.nonzero()
            axis += part.ndim
        else:
            yield _part(key, part, sizes[axis], axis, shown)
            axis += 1


def _part(key: Any, part: Any, size: int, axis: int, shown: str) -> Part:
    if isinstance(part, slice):
        try:
            part.indices(size)
        except (ValueError, TypeError) as cause:  # a step of 0, bounds that are not whole numbers
            raise _error(key, f"{cause}.", shown) from None
        return part
    if isinstance(part, np.ndarray) and part.ndim:
        if part.dtype.kind not in "iu" and part.size:
            raise _error(key, f"an array of {part.dtype} selects nothing.", shown, "convert it: x.astype(int).")
        part = part.astype(np.int64, copy=False)
        outside = part[(part < -size) | (part >= size)]
        if outside.size:
            raise _error(key, f"index {outside[0]} of axis {axis}, which has the size {size}.", shown)
        return np.where(part < 0, part + size, part)
    if isinstance(part, (bool, np.bool_)) or part is None:
        raise _error(key, f"{part!r} makes a new axis in NumPy, and a formula has those it has.", shown)
    try:
        number = operator.index(part)
    except TypeError:
        raise _error(key, f"a {type(part).__name__} selects nothing.", shown) from None
    if not -size <= number < size:
        raise _error(key, f"index {number} of axis {axis}, which has the size {size}.", shown)
    return number % size


def show(key: Any) -> str:
    """The key as the user wrote it, in short."""
    return ", ".join(map(_show, key)) if isinstance(key, tuple) else _show(key)


def _show(part: Any) -> str:
    if part is Ellipsis:
        return "..."
    if isinstance(part, slice):
        start, stop = ("" if v is None else str(v) for v in (part.start, part.stop))
        return f"{start}:{stop}" + ("" if part.step is None else f":{part.step}")
    text = repr(part)
    return text if len(text) <= 30 and "\n" not in text else f"<{type(part).__name__}>"


def _error(key: Any, text: str, shown: str, hint: str = HINT) -> SelectionError:
    return SelectionError(message(f"K[{show(key)}]: {text}", f"K: {shown}", hint))
