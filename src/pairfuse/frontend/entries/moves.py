"""A formula on other axes or on a part of its rows: the same expression, and its data selected, moved or repeated.

In: a symbolic tensor.  Out: another one, of which a reduction gives the entries that were asked for.  Selecting is
done by the library of the data, so torch follows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ...ir.expr import Expr, I, J, P, const, index, input_, substitute, toposort
from ...runtime import arrays
from ..base import Binding, Bindings, Lazy, renumbered
from ..space import Space, join

L = TypeVar("L", bound=Lazy)
Numbers = Callable[[str], Expr | Lazy]  # what stands for the number of the row ("i") or column ("j")


def moved(x: L, letter: Callable[[Binding], str], data: Callable[[Binding], Any], numbers: Numbers, space: Space) -> L:
    """x with each of its inputs on the axis letter(binding), its data being data(binding), on this space."""
    slots = [letter(b) for b in x._bindings]
    bindings = tuple([Binding(data(b), axis) for b, axis in zip(x._bindings, slots, strict=True)])
    found: dict[str, Expr] = {}
    for axis in sorted({n.param("axis") for n in toposort(x._expr) if n.op.name == "index"}):
        number = numbers(axis)
        if isinstance(number, Lazy):
            found[axis], bindings, space = _with_variable(number, bindings, space)
        else:
            found[axis] = number

    leaves = {}
    for node in toposort(x._expr):
        if node.op.name == "input":
            leaves[node] = input_(node.param("slot"), slots[node.param("slot")], node.dim)
        elif node.op.name == "index":
            leaves[node] = found[node.param("axis")]
    return x._make(substitute(x._expr, leaves), bindings, space)


def _stays(binding: Binding) -> str:
    return binding.axis


def _with_variable(number: Lazy, bindings: Bindings, space: Space) -> tuple[Expr, Bindings, Space]:
    """A variable added to the inputs of a formula."""
    expr = renumbered(number._expr, (len(bindings),))
    return expr, (*bindings, *number._bindings), join(space, number._space)


def _variable(x: Lazy, numbers: np.ndarray) -> Lazy:
    """Numbers of rows or columns as a variable beside the data of x."""
    array = arrays.wrap(_owned(numbers), x._space.library)
    return x._lift(array.to(x._space.device) if x._space.on_gpu else array)


def _owned(numbers: np.ndarray) -> np.ndarray:
    """torch warns of memory that cannot be written, such as that of broadcast arrays."""
    return numbers if numbers.flags.writeable else numbers.copy()


def taken(data: Any, key: tuple[Any, ...]) -> Any:
    """data[key] in the library of the data."""
    if isinstance(data, np.ndarray):
        return data[key]
    as_tensor = arrays.namespace(arrays.TORCH).as_tensor
    plain: list[Any] = []
    for axis, part in enumerate(key):
        if isinstance(part, slice) and (part.step or 1) < 0:  # torch has no views that go backwards
            numbers = np.arange(*part.indices(data.shape[axis]))
            data, part = data.index_select(axis, as_tensor(numbers, device=data.device)), slice(None)
        plain.append(as_tensor(_owned(part), device=data.device) if isinstance(part, np.ndarray) else part)
    return data[tuple(plain)]


# ---------------------------------------------------------------------- a part of the rows, the columns, the batches


def part_of_axis(x: L, axis: str, part: slice | np.ndarray) -> L:
    """The rows ("i") or columns ("j") of a slice or of an array of numbers."""
    size = x._space.along(axis)
    if isinstance(part, slice):
        start, stop, step = part.indices(1 if size is None else size)
        count = len(range(start, stop, step))
        if (start, step, count) == (0, 1, size) or (size is None and count == 1):
            return x
        if step < 0:  # torch has no such views
            part = np.arange(start, stop, step)
    else:
        start, step, count = 0, 1, len(part)

    def data(b: Binding) -> Any:
        return b.data if b.axis != axis or b.data.shape[-2] != size else taken(b.data, (..., part, slice(None)))

    def numbers(which: str) -> Expr | Lazy:
        if which != axis:
            return index(which)
        if isinstance(part, slice):
            return index(axis) * const(step, "index") + const(start, "index")
        return _variable(x, part[:, None, None] if axis == I else part[None, :, None])

    space = x._space._replace(**{"ni" if axis == I else "nj": count})
    return moved(x, _stays, data, numbers, space)


def part_of_batch(x: L, parts: tuple[Any, ...]) -> L:
    """The batches that whole numbers, slices and at most one array select, one part for every batch axis."""
    if all(isinstance(p, slice) and p == slice(None) for p in parts):
        return x
    sizes = x._space.batch
    batch = np.broadcast_to(np.int8(0), sizes)[parts].shape

    def data(b: Binding) -> Any:
        if type(b.data) is tuple:
            return b.data
        own = b.data.shape[: -1 if b.axis == P else -2]
        key: list[Any] = []
        for part, mine, all_of_them in zip(
            parts[len(sizes) - len(own) :], own, sizes[len(sizes) - len(own) :], strict=True
        ):
            one_for_all = mine == 1 and all_of_them != 1
            key.append(part if not one_for_all else 0 if isinstance(part, int) else slice(None))
        return taken(b.data, tuple(key)) if key else b.data

    return moved(x, _stays, data, index, x._space._replace(batch=batch))


# ---------------------------------------------------------------------- all axes on one


def of_entries(x: L, batch: tuple[np.ndarray, ...], rows: np.ndarray, columns: np.ndarray) -> L:
    """The entries (batch[k], rows[k], columns[k]) as a formula of i alone, k being the number of its row."""
    sizes = x._space.batch

    def for_all(b: Binding) -> bool:
        return type(b.data) is tuple or (b.axis == P and b.data.ndim == 1)

    def data(b: Binding) -> Any:
        if for_all(b):
            return b.data
        own = b.data.shape[: -1 if b.axis == P else -2]
        key = [where if n > 1 else 0 for where, n in zip(batch[len(sizes) - len(own) :], own, strict=True)]
        if b.axis != P:
            key.append((rows if b.axis == I else columns) if b.data.shape[-2] > 1 else 0)
        picked = taken(b.data, tuple(key))
        return picked if picked.ndim > 1 else picked[None]

    def numbers(axis: str) -> Lazy:
        return _variable(x, (rows if axis == I else columns)[:, None, None])

    space = x._space._replace(ni=len(rows), nj=None, batch=())
    return moved(x, lambda b: P if for_all(b) else I, data, numbers, space)


def of_diagonal(x: L) -> L:
    """The entries with equal numbers of row and column, as a formula of i alone, in the batches of x."""
    *_, m, n = x._space.sizes
    size = min(m, n)

    def data(b: Binding) -> Any:
        return b.data if b.axis == P or b.data.shape[-2] == 1 else b.data[..., :size, :]

    space = x._space._replace(ni=size, nj=None)
    return moved(x, lambda b: P if b.axis == P else I, data, lambda axis: index(I), space)


def with_rows_as_batches(x: L) -> L:
    """Every row of the matrix as a batch, in which i numbers the columns: what is computed is the whole matrix."""
    m = x._space.sizes[-2]

    def data(b: Binding) -> Any:
        if b.axis == J:
            return b.data[..., None, :, :]
        if b.axis == I or type(b.data) is tuple or b.data.ndim == 1:
            return b.data
        return b.data[..., None, :]

    def numbers(axis: str) -> Expr | Lazy:
        return index(I) if axis == J else _variable(x, np.arange(m)[:, None, None, None])

    sizes = x._space._replace(ni=x._space.sizes[-1], nj=None, batch=(*x._space.batch, m))
    return moved(x, lambda b: I if b.axis == J else P, data, numbers, sizes)
