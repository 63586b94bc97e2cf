"""The reference backend: dense NumPy in float64, the definition of what every other backend must compute.

In: a problem, its arrays, the sizes.  Out: the arrays of all outputs.  Memory is bounded by walking over blocks of
the kept axis; nothing else here is meant to be fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import RESULT_DTYPES
from ..ir.expr import Expr, evaluate, toposort
from ..lower.problem import Problem, Sizes
from ..transform.expand import expand

BLOCK_PAIRS = 1 << 21  # pairs held at a time


def run(problem: Problem, arrays: Sequence[np.ndarray], sizes: Sizes) -> tuple[np.ndarray, ...]:
    """All outputs of the problem, each of shape (*batch, kept size, dim)."""
    formulas = expand(problem.formulas)
    kept = sizes.along(problem.kept)
    columns = max(1, sizes.along(problem.over) * int(np.prod(sizes.batch, dtype=int)))
    step = max(1, BLOCK_PAIRS // columns)
    parts: list[tuple[Any, ...]] = []
    for start in range(0, max(kept, 1), step):
        stop = min(kept, start + step)
        parts.append(_block(problem, formulas, arrays, sizes, start, stop))
    kinds = [kind for _, kind in problem.record.outputs]
    with np.errstate(over="ignore"):  # what is beyond the range of the type becomes infinite, as on other backends
        return tuple(
            np.concatenate(column, axis=-2).astype(RESULT_DTYPES.get(kind, problem.dtype))
            for column, kind in zip(zip(*parts, strict=True), kinds, strict=True)
        )


def _block(
    problem: Problem, formulas: Sequence[Expr], arrays: Sequence[np.ndarray], sizes: Sizes, start: int, stop: int
) -> tuple[Any, ...]:
    """The outputs for rows start:stop of the kept axis."""
    rows = slice(start, stop)
    spans = {problem.kept: rows, problem.over: slice(0, sizes.along(problem.over))}
    values: dict[Expr, Any] = {}
    for node in toposort(*formulas):
        if node.name == "input":
            array = np.asarray(arrays[node.param("slot")], dtype=np.float64)
            values[node] = _placed(array, node.param("axis"), problem.kept, rows)
        elif node.name == "index":
            span = spans[node.param("axis")]
            numbers = np.arange(span.start, span.stop)[:, None]
            values[node] = _placed(numbers, node.param("axis"), problem.kept, slice(None))
    with np.errstate(all="ignore"):
        terms = evaluate(formulas, values)
        shape = (*sizes.batch, stop - start, sizes.along(problem.over))
        dense = [np.broadcast_to(_as_float(t), (*shape, f.dim)) for t, f in zip(terms, formulas, strict=True)]
        return problem.record.ref(*dense, **dict(problem.params))


def _as_float(term: Any) -> np.ndarray:
    return np.asarray(term, dtype=np.float64)


def _placed(array: np.ndarray, axis: str, kept: str, rows: slice) -> np.ndarray:
    """Give an array its place among (*batch, kept, reduced, dim)."""
    if axis == "p":
        return array[..., None, None, :]
    if axis == kept:
        return array[..., rows, None, :]
    return array[..., None, :, :]
