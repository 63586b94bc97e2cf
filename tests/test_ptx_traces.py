"""Every reduction in every kind of kernel, as Triton reads it: shapes and types that it refuses.

Triton's interpreter does not look at branches that are not taken; its compiler looks at all of them.  Nothing is run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from interpreted import now
from ptx.use import needs_compiler
from test_reductions_backends import LISTS

from pairfuse.backends.triton.offline import trace
from pairfuse.backends.triton.tile import Tile, choose, widened
from pairfuse.ir.expr import Expr, call, input_
from pairfuse.ir.reductions import REDUCTIONS
from pairfuse.lower.kernel import Kernel
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.runtime import device

pytestmark = needs_compiler

MANY, FEW = Sizes(10**5, 10**5), Sizes(8, 10**6)


def problem_of(name: str, kind: str, dtype: str = "float32") -> Problem:
    """Terms for a reduction: of short vectors, contracted ones, wide ones, truth values and positive ones as needed."""
    long = kind in ("contracted", "wide", "gradient")
    x, y, b = input_(0, "i", 60 if long else 3), input_(1, "j", 60 if long else 3), input_(2, "j", 40)
    f: Expr = call("sqdist", x, y) if kind != "vectors" else x * y
    if kind == "gradient":
        f = call("exp", -f) * (x - y)
    if name == "count_nonzero":
        f = call("lt", f, 0.5)
    second = b if kind == "wide" else input_(2, "j", 2)
    terms = (f,) if REDUCTIONS[name].arity == 1 else (f, second)
    return Problem(terms, name, "j", dtype, (("K", 3),) if REDUCTIONS[name].params else ())


def kernel_of(p: Problem) -> Kernel:
    return device.program(p, now).kernel


def tile_of(kernel: Kernel, sizes: Sizes, capability: int, **fields: Any) -> Tile:
    return replace(choose(kernel, sizes, 1, 0, 132, (), capability), **fields)


KINDS = ["contracted", "wide", *(pytest.param(k, marks=pytest.mark.slow) for k in ("short", "vectors", "gradient"))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", sorted(REDUCTIONS))
def test_reductions(name: str, kind: str) -> None:
    """Whole, in parts that are merged, streamed, and with numbers of 64 bits."""
    kernel = kernel_of(problem_of(name, kind))
    for k, sizes in enumerate((MANY, FEW)):
        tile = tile_of(kernel, sizes, (80, 90)[k])
        trace(kernel, tile, 80)
        trace(kernel, widened(replace(tile, carried=True), kernel), 80)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", sorted(REDUCTIONS))
def test_block_sparse_and_double(name: str, kind: str) -> None:
    kernel = kernel_of(problem_of(name, kind))
    listed = tile_of(kernel, MANY, 80, split=False, dots="", listed=True)
    trace(kernel, listed, 80)
    trace(kernel, replace(listed, carried=True), 80)
    kernel = kernel_of(problem_of(name, kind, "float64"))
    trace(kernel, tile_of(kernel, FEW, 80), 80)


@pytest.mark.parametrize("columns", ["adjacent", "apart"])
@pytest.mark.parametrize("name", LISTS)
def test_lists(name: str, columns: str) -> None:
    kernel = kernel_of(problem_of(name, "short"))
    tile = tile_of(kernel, MANY, 90, columns=columns)
    trace(kernel, tile, 90)
