"""The reference backend: dense NumPy in float64, the definition of what every other backend must compute.

In: a problem, its arrays, the sizes.  Out: the arrays of all outputs.  Memory is bounded by walking over blocks of
the kept axis; nothing else here is meant to be fast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..dtypes import RESULT_DTYPES
from ..ir.expr import Expr, evaluate, toposort
from ..lower.problem import Problem, Sizes
from ..transform.expand import expand

BLOCK_PAIRS = 1 << 21  # pairs held at a time


def run(problem: Problem, arrays: Sequence[np.ndarray], sizes: Sizes) -> tuple[np.ndarray, ...]:
    """All outputs of the problem, each of shape (*batch, kept size, dim), of length 1 where both axes are reduced."""
    formulas = expand(problem.formulas)
    parts = [_block(problem, formulas, arrays, sizes, rows, columns) for rows, columns in _walk(problem, sizes)]
    if problem.both:  # the blocks are reduced as their pairs were
        parts = [tuple(v[..., None, :] for v in problem.record.ref(*map(_beside, zip(*parts, strict=True))))]
    kinds = [kind for _, kind in problem.record.outputs]
    with np.errstate(over="ignore"):  # what is beyond the range of the type becomes infinite, as on other backends
        return tuple(
            np.concatenate(column, axis=-2).astype(RESULT_DTYPES.get(kind, problem.dtype))
            for column, kind in zip(zip(*parts, strict=True), kinds, strict=True)
        )


def _walk(problem: Problem, sizes: Sizes) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of rows, in ascending order and none too large, with the numbers of the columns that they visit."""
    rows, batches = sizes.along(problem.rows), int(np.prod(sizes.batch, dtype=int))
    for start, stop, columns in _spans(problem, sizes, rows):
        width = sizes.along(problem.columns) if problem.record.skips_nan else len(columns)
        step = max(1, BLOCK_PAIRS // max(1, width * batches))
        for first in range(start, max(stop, start + 1), step):
            yield slice(first, min(stop, first + step)), columns


def _spans(problem: Problem, sizes: Sizes, rows: int) -> list[tuple[int, int, np.ndarray]]:
    """Ranges of rows that visit the same columns."""
    blocks = sizes.blocks(problem.over)
    if blocks is None:
        return [(0, rows, np.arange(sizes.along(problem.columns)))]
    nothing = np.zeros(0, np.int64)
    found = [(int(start), int(stop), nothing) for start, stop in blocks.uncovered(rows)]
    for k, (start, stop) in enumerate(blocks.rows):
        listed = [np.arange(a, b) for a, b in blocks.columns[blocks.first[k] : blocks.first[k + 1]]]
        found.append((int(start), int(stop), np.concatenate([nothing, *listed])))
    return sorted(found, key=lambda span: span[0]) or [(0, 0, nothing)]


def _block(
    problem: Problem,
    formulas: Sequence[Expr],
    arrays: Sequence[np.ndarray],
    sizes: Sizes,
    rows: slice,
    columns: np.ndarray,
) -> tuple[Any, ...]:
    """The outputs for some rows of the kept axis; for all of their pairs together, where it is reduced, too."""
    numbers = {problem.rows: np.arange(rows.start, rows.stop), problem.columns: columns}
    chosen: slice | np.ndarray = slice(None) if sizes.ranges is None else columns
    values: dict[Expr, Any] = {}
    for node in toposort(*formulas):
        if node.name == "input":
            array = np.asarray(arrays[node.param("slot")], dtype=np.float64)
            values[node] = _placed(array, node.param("axis"), problem.rows, rows, chosen)
        elif node.name == "index":
            axis = node.param("axis")
            values[node] = _placed(numbers[axis][:, None], axis, problem.rows, slice(None), slice(None))
    with np.errstate(all="ignore"):
        terms = evaluate(formulas, values)
        shape = (*sizes.batch, rows.stop - rows.start, len(columns))
        dense = [np.broadcast_to(_as_float(t), (*shape, f.dim)) for t, f in zip(terms, formulas, strict=True)]
        if problem.both:
            dense = [t.reshape(*sizes.batch, shape[-2] * shape[-1], t.shape[-1]) for t in dense]
        if sizes.ranges is not None and problem.record.skips_nan:
            dense = [_among_all(t, columns, sizes.along(problem.columns)) for t in dense]
        return problem.record.ref(*dense, **dict(problem.params))


def _among_all(term: np.ndarray, columns: np.ndarray, count: int) -> np.ndarray:
    """The terms of some columns at their places among all of them, so that indices are right: the others are NaN."""
    full = np.full((*term.shape[:-2], count, term.shape[-1]), np.nan)
    full[..., columns, :] = term
    return full


def _beside(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Results of blocks as terms of one reduction: (*batch, blocks, dim)."""
    return np.stack(parts, axis=-2)


def _as_float(term: Any) -> np.ndarray:
    return np.asarray(term, dtype=np.float64)


def _placed(array: np.ndarray, axis: str, kept: str, rows: slice, columns: slice | np.ndarray) -> np.ndarray:
    """Give an array its place among (*batch, kept, reduced, dim)."""
    if axis == "p":
        return array[..., None, None, :]
    if axis == kept:
        return array[..., rows, None, :]
    return array[..., columns, :][..., None, :, :]
