"""Parts and entries of a symbolic matrix: K[rows, columns], K.dense(), K.blocks(n), K.diagonal(), K.trace().

In: a symbolic tensor.  Out: symbolic tensors where rows and columns remain, arrays where they do not.  Entries are
computed by the same kernels as reductions, so they come with derivatives, batches, and on a GPU: a whole matrix is a
batch of M problems of N rows and one column (20,000 x 5,000 entries of a Gaussian: 0.26 s, torch 2.97 s).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import prod
from typing import Any, TypeVar

import numpy as np

from ...config import config
from ...dtypes import PRECISIONS
from ...errors import DenseSizeError, ShapeError, UnsupportedError, message
from ..base import Lazy
from ..deferred import Task, perform
from ..evaluate import Settings, computed_in
from ..linear import LinearOperator
from ..messages import describe
from ..reduce import reduce
from .keys import Key, read, show
from .moves import of_diagonal, of_entries, part_of_axis, part_of_batch, with_rows_as_batches

E = TypeVar("E", bound="Entries")
FULL = slice(None)
SHORT_ROW = 64  # of fewer columns than this, a kernel of one row would leave lanes of its vectors empty


class Entries(LinearOperator):
    """A look inside of the matrix."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        """K[rows, columns]: what NumPy gives of the array (*batch, M, N, D), and lazy where rows and columns remain.

        Arguments: key: whole numbers, slices, arrays of whole numbers, masks, ``...``. With batches they come first.
        ``K[..., k]`` is component k of the vectors, also where D is 1 and left out of the shape.

        Returns: a symbolic tensor where both axes remain (slices, one array, `np.ix_(rows, columns)`), else an array.
        Raises: SelectionError: out of range, too many indices, a mask of another shape.

        Example::

            >>> import numpy as np
            >>> from pairfuse.numpy import Vi, Vj
            >>> K = Vi(np.arange(3.0)[:, None]) * Vj(np.arange(4.0)[:, None])
            >>> K[2], K[2, 3]
            (array([0., 2., 4., 6.]), array(6.))
            >>> K[1:, [0, 3]].shape
            (2, 2)
        """
        found = read(key, (*self._space.sizes, self._length), describe(self))
        x = _components(self, found.components)
        if all(isinstance(part, slice) and part == FULL for part in found.axes):
            return x
        _refuse_symbols(x, f"K[{show(key)}]")
        outer = found.outer
        if outer is None or _moves_axes(outer):
            return _picked(x, found, f"K[{show(key)}]")
        x = part_of_batch(x, outer[:-2])
        return part_of_axis(part_of_axis(x, "i", outer[-2]), "j", outer[-1])  # type: ignore[arg-type]

    def dense(self, limit: int | None = None) -> Any:
        """All entries, an array of the shape K.shape: (*batch, M, N), and (*batch, M, N, D) for vectors.

        Arguments: limit: the largest size in bytes that is made; None: `config.dense_limit` (4 GiB).
        Returns: array; of comparisons, one of truth values. Differentiable.
        Raises: DenseSizeError: the array would be larger than the limit.

        Example::

            >>> import numpy as np
            >>> from pairfuse.numpy import Vi, Vj
            >>> (Vi(np.array([[1.0], [2.0]])) + Vj(np.array([[0.0], [10.0]]))).dense()
            array([[ 1., 11.],
                   [ 2., 12.]])
        """
        _refuse_symbols(self, "K.dense()")
        *batch, m, n = self._space.sizes
        _check_size("K.dense()", self, prod(self._space.sizes), config.dense_limit if limit is None else limit)
        if m > n and n < SHORT_ROW:  # the kernel's rows are the columns of the matrix: they should be many
            return _evaluated(with_rows_as_batches(self.t()), (*batch, n, m)).swapaxes(len(batch), len(batch) + 1)
        return _evaluated(with_rows_as_batches(self), (*batch, m, n))

    def blocks(self, rows: int) -> Iterator[tuple[slice, Any]]:
        """The entries in blocks of rows: pairs (slice of the rows, array (*batch, rows, N) or (*batch, rows, N, D)).

        Arguments: rows: the number of rows of a block, of which the last may have fewer.

        Example: ``for part, block in K.blocks(1000): nearest[part] = block.argmin(1)``.
        """
        if isinstance(rows, bool) or not hasattr(rows, "__index__") or rows.__index__() < 1:
            raise ShapeError(message(f"K.blocks({rows!r}): the number of rows is a whole number, at least 1."))
        return self._blocks(rows.__index__())

    def _blocks(self, rows: int) -> Iterator[tuple[slice, Any]]:
        m = self._space.sizes[-2]
        for start in range(0, m, rows):
            part = slice(start, min(start + rows, m))
            yield part, part_of_axis(self, "i", part).dense()

    def diagonal(self) -> Any:
        """The entries K_ii, an array (*batch, min(M, N)), and (*batch, min(M, N), D) for vectors. Differentiable."""
        _refuse_symbols(self, "K.diagonal()")
        *batch, m, n = self._space.sizes
        return _evaluated(of_diagonal(self), (*batch, min(m, n)))

    def trace(self) -> Any:
        """The sum of the diagonal, an array (*batch,), and (*batch, D) for vectors. Differentiable."""
        _refuse_symbols(self, "K.trace()")
        return perform(Task("trace", "i", partial(_traced, self._space.batch)), (of_diagonal(self),), {})

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """`dense()` for NumPy, `np.asarray(K)`: under the same limit."""
        entries = self.dense()
        array = entries if isinstance(entries, np.ndarray) else entries.detach().cpu().numpy()
        return array if dtype is None else array.astype(dtype, copy=False)


def _moves_axes(parts: tuple[Any, ...]) -> bool:
    """Whether NumPy puts the axis of an array first: where a slice stands between it and a whole number."""
    advanced = [k for k, p in enumerate(parts) if not isinstance(p, slice)]
    apart = bool(advanced) and advanced[-1] - advanced[0] >= len(advanced)
    return apart and any(isinstance(p, np.ndarray) for p in parts)


def _components(x: E, part: Any) -> E:
    """The components that the last part of a key selects."""
    if isinstance(part, int):
        return x if x._length == 1 else x._call("extract", start=part, size=1)
    if isinstance(part, slice):
        chosen = range(*part.indices(x._length))
        if chosen == range(x._length):
            return x
        if chosen and chosen.step == 1:
            return x._call("extract", start=chosen.start, size=len(chosen))
    else:
        chosen = part.tolist()
    if not chosen or (isinstance(part, np.ndarray) and part.ndim != 1):
        hint = "x[..., :2], x[..., [0, 2]] and x[..., k] select components."
        raise ShapeError(message("K[...]: a vector needs at least one component.", f"K: {describe(x)}", hint))
    return x.concatenate([x if x._length == 1 else x._call("extract", start=k, size=1) for k in chosen])


def _picked(x: Entries, key: Key, call: str) -> Any:
    """The entries of a key that does not leave rows and columns: an array of the shape that NumPy gives."""
    sizes = x._space.sizes
    numbers = []
    for axis, size in enumerate(sizes):
        along = np.arange(size).reshape(-1, *[1] * (len(sizes) - axis - 1))
        numbers.append(np.broadcast_to(along, sizes)[key.axes])
    shape = numbers[0].shape
    _check_size(call, x, numbers[0].size, config.dense_limit)
    *batch, rows, columns = [n.ravel() for n in numbers]
    return _evaluated(of_entries(x, tuple(batch), rows, columns), shape)


def _evaluated(x: Lazy, shape: tuple[int, ...]) -> Any:
    """The value of a formula of i in every row, as an array (*shape, D), without D where it is 1."""
    return perform(Task("dense", "j", partial(_values, shape)), (x,), {})


def _values(shape: tuple[int, ...], settings: Settings, x: Lazy) -> Any:
    values = reduce(x, "sum", "j", settings)[0]
    values = values.reshape(shape if values.shape[-1] == 1 else (*shape, values.shape[-1]))
    return values != 0 if x._expr.kind == "bool" else values


def _traced(batch: tuple[int, ...], settings: Settings, x: Lazy) -> Any:
    total = reduce(x, "sum", "i", settings)[0]
    return total.reshape(batch if total.shape[-1] == 1 else (*batch, total.shape[-1]))


def _refuse_symbols(x: Lazy, call: str) -> None:
    if x._space.symbols:
        hint = "call a reduction with the arrays, or write the formula with the arrays themselves."
        raise ShapeError(message(f"{call}: the formula has variables without data.", f"K: {describe(x)}", hint))
    if x._space.ranges is not None:
        hint = "select first and set ranges then; with ranges, only reductions have a meaning."
        raise UnsupportedError(message(f"{call}: K has ranges.", f"K: {describe(x)}", hint))


def _check_size(call: str, x: Lazy, entries: int, limit: int) -> None:
    size = entries * x._expr.dim * PRECISIONS[computed_in(x._space)].size
    if size > limit:
        hint = f"reduce K, take K.blocks(rows), or raise the limit: K.dense(limit={size}), config.dense_limit = {size}."
        facts = [f"K: {describe(x)}", f"{entries:,} entries of {x._expr.dim} numbers"]
        text = f"{call}: the array would take {size:,} bytes, the limit is {limit:,}."
        raise DenseSizeError(message(text, facts, hint))
