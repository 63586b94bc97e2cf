"""What the conformance tests share: cases (a problem and its data), random data in awkward layouts, the comparison.

In: a problem.  Out: `check(case)` runs it on a backend and on the reference, and raises AssertionError unless every
output has the right shape, type and values, within the bound that error_bounds.py and reduction_bounds.py derive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from error_bounds import Estimate, estimate
from reduction_bounds import judge

from pairfuse.dtypes import RESULT_DTYPES
from pairfuse.ir.expr import Expr, as_kind, toposort
from pairfuse.ir.text import to_text
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.runtime.execute import execute
from pairfuse.transform.expand import expand

BACKENDS = ("llvm",)  # all but the reference, to which they are compared
DTYPES = ("float32", "float64")
SIZES = (1, 2, 17, 257)
BATCHES = ("none", "mixed", "parameters")
LAYOUTS = ("plain", "fortran", "reversed", "sliced", "stretched", "record")
Interval = tuple[float, float]


@dataclass(frozen=True)
class Case:
    """A problem, its arrays and sizes."""

    problem: Problem
    arrays: tuple[np.ndarray, ...]
    sizes: Sizes

    def __str__(self) -> str:
        """Everything that is needed to run it again but the numbers."""
        p = self.problem
        formulas = " ; ".join(to_text(f, separator="; ") for f in p.formulas)
        layouts = ", ".join(f"{a.shape} strides {a.strides}" for a in self.arrays)
        return f"{p.reduction}{dict(p.params) or ''} over {p.over} of {formulas}, {p.dtype}, {self.sizes}: {layouts}"


def problem(reduction: str, *formulas: Expr, over: str = "j", dtype: str = "float32", **params: Any) -> Problem:
    """A problem; truth values and indices are reduced as numbers, as the front end does."""
    return Problem(tuple(as_kind(f, "real") for f in formulas), reduction, over, dtype, tuple(sorted(params.items())))


# ---------------------------------------------------------------------- data


def draw_case(
    rng: np.random.Generator,
    p: Problem,
    m: int,
    n: int,
    batch: str = "none",
    layouts: Sequence[str] = LAYOUTS,
    domains: Sequence[Interval] = (),
) -> Case:
    """Random arrays for the inputs of a problem. `domains`: an interval for each input, in the order of their slots."""
    shape = {"none": (), "mixed": (2, 3), "parameters": (4,)}[batch]
    arrays: list[np.ndarray] = []
    for k, leaf in enumerate(p.inputs):
        axis = leaf.param("axis")
        lead = batch_of(rng, batch, axis)
        rows = {"i": (m,), "j": (n,), "p": ()}[axis]
        low, high = domains[k] if domains else (-2.0, 2.0)
        values = rng.uniform(low, high, (*lead, *rows, leaf.dim)).astype(p.dtype)
        layout = str(rng.choice(layouts))
        if axis == "p" and layout == "stretched":
            layout = "plain"
        arrays.append(laid_out(values, layout))
    return Case(p, tuple(arrays), Sizes(m, n, shape))


def batch_of(rng: np.random.Generator, batch: str, axis: str) -> tuple[int, ...]:
    """Leading dimensions of an input: lengths of 1 in different places, and missing ones."""
    if batch == "mixed":
        return ((2, 3), (2, 1), (1, 3), (3,), ())[rng.integers(5)]
    return (4,) if batch == "parameters" and axis == "p" else ()


def laid_out(values: np.ndarray, layout: str) -> np.ndarray:
    """The same numbers in another place of memory ("stretched": the numbers of the first row in all of them)."""
    if layout == "fortran":
        return np.asfortranarray(values)
    if layout == "reversed":
        flip = (..., slice(None, None, -1), slice(None, None, -1)) if values.ndim > 1 else slice(None, None, -1)
        return values[flip].copy()[flip]
    if layout == "sliced":
        room = np.full(tuple(2 * s + 1 for s in values.shape), np.nan, values.dtype)
        inside = room[tuple(slice(1, None, 2) for _ in values.shape)]
        inside[...] = values
        return inside
    if layout == "stretched":
        return np.broadcast_to(values[..., :1, :], values.shape)
    if layout == "record":
        room = np.zeros(values.shape, [("tag", np.int16), ("value", values.dtype)])
        room["value"] = values
        return room["value"]
    return values


# ---------------------------------------------------------------------- the comparison


def run(case: Case, backend: str) -> tuple[np.ndarray, ...]:
    return execute(case.problem, case.arrays, case.sizes, backend=backend)


def terms(case: Case) -> list[Estimate]:
    """The terms of the reduction, (*batch, kept, reduced, dim), and how far from them a backend may be.

    Where both axes are reduced, all pairs are terms of one result: (*batch, 1, pairs, dim).
    """
    formulas = expand(case.problem.formulas)
    values: dict[Expr, Any] = {}
    for node in toposort(*formulas):
        if node.name == "input":
            array = np.asarray(case.arrays[node.param("slot")], np.float64)
            values[node] = _placed(array, node.param("axis"), case.problem.rows)
        elif node.name == "index":
            axis = node.param("axis")
            values[node] = _placed(np.arange(case.sizes.along(axis))[:, None], axis, case.problem.rows)
    rows, columns = case.sizes.along(case.problem.rows), case.sizes.along(case.problem.columns)
    lead, pairs = (*case.sizes.batch, rows, columns), (*case.sizes.batch, 1, rows * columns)
    found: list[Estimate] = []
    for f, t in zip(formulas, estimate(formulas, values, case.problem.precision), strict=True):
        value = np.broadcast_to(np.asarray(t.value, np.float64), (*lead, f.dim))
        error = np.broadcast_to(np.asarray(t.error, np.float64), value.shape)
        if case.problem.both:
            value, error = (v.reshape(*pairs, f.dim) for v in (value, error))
        found.append(Estimate(value, error))
    return found


def _placed(array: np.ndarray, axis: str, kept: str) -> np.ndarray:
    if axis == "p":
        return array[..., None, None, :]
    return array[..., :, None, :] if axis == kept else array[..., None, :, :]


def check(case: Case, backend: str = "llvm", informative: float = 0.5) -> None:
    """Raise unless the backend computes the case as the reference does."""
    try:
        compare(case, run(case, backend), run(case, "reference"), informative)
    except AssertionError as error:
        raise AssertionError(f"{error}\n  {backend}: {case}") from None


def compare(case: Case, actual: Sequence[np.ndarray], expected: Sequence[np.ndarray], informative: float = 0.5) -> None:
    """Raise unless the outputs are as good as the precision allows."""
    p = case.problem
    assert len(actual) == len(expected) == len(p.record.outputs), "the number of outputs"
    for (name, kind), dim, a, e in zip(p.record.outputs, p.output_dims(), actual, expected, strict=True):
        shape = (*case.sizes.batch, case.sizes.along(p.kept), dim)
        assert a.shape == e.shape == shape, f"{name}: shape {a.shape}, expected {shape}"
        dtype = np.dtype(RESULT_DTYPES.get(kind, p.dtype))
        assert a.dtype == e.dtype == dtype, f"{name}: {a.dtype}, expected {dtype}"
    judge(p.reduction, dict(p.params), terms(case), expected, actual, p.precision, informative)


def with_dtype(case: Case, dtype: str) -> Case:
    return replace(case, problem=replace(case.problem, dtype=dtype), arrays=tuple(a.astype(dtype) for a in case.arrays))
