"""What the tests of formulas share: samples of every row of the table, random formulas, and the comparison.

In: the table of operations.  Out: expressions with arrays for their leaves.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pairfuse.errors import ShapeError
from pairfuse.ir.expr import Expr, Op, call, const, evaluate, index, input_, toposort
from pairfuse.ir.ops import TABLE
from pairfuse.transform.expand import expand

ROWS = 5  # pairs at which formulas are evaluated


def agree(actual: Any, expected: Any, rtol: float = 1e-12, atol: float = 1e-12, what: str = "") -> None:
    """Raise unless both arrays have the same shape and close values, NaN and infinities in the same places."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol, equal_nan=True, err_msg=what)


def value(root: Expr, values: Mapping[Expr, Any]) -> Any:
    """The formula on arrays of shape (pairs, dim), by the `ref` cells, as float64."""
    with np.errstate(all="ignore"):
        result = evaluate(expand([root]), values)[0]
    lead = np.broadcast_shapes(*(np.shape(v)[:-1] for v in values.values()))
    return np.broadcast_to(np.asarray(result, dtype=float), (*lead, root.dim))


# ---------------------------------------------------------------------- samples of the table


class Sample:
    """One call of a row on variables x0, x1 ..., with arrays from the row's domain."""

    def __init__(self, op: Op, dims: tuple[int, ...], params: Mapping[str, Any], seed: int = 0):
        rng = np.random.default_rng(seed)
        self.op = op
        self.args = [input_(k, "i", d) for k, d in enumerate(dims)]
        self.params = dict(params)
        self.out = call(op.name, *self.args, **params)
        self.arrays = [rng.uniform(*op.domain[k], size=(ROWS, d)) for k, d in enumerate(dims)]

    def __repr__(self) -> str:
        return "-".join([self.op.name, *(str(a.dim) for a in self.args), *(str(v) for v in self.params.values())])

    @property
    def values(self) -> dict[Expr, Any]:
        return dict(zip(self.args, self.arrays, strict=True))


def samples() -> Iterator[Sample]:
    """Every sample of every operation of the user."""
    for op in TABLE.values():
        for dims, params in op.samples:
            yield Sample(op, dims, params)


# ---------------------------------------------------------------------- random formulas

LEAVES = [
    *(input_(0, "i", 3), input_(1, "j", 3), input_(2, "p", 3), input_(3, "i", 1), input_(4, "j", 6)),
    *(index("i"), index("j"), const(2), const(-0.5), const(1), const(0)),
]
# Small numbers, on which sums and products of a few of them are exact.
EXACT_NUMBERS = np.array([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0])

# Operations that are exact on such numbers, as long as these stay small.
EXACT_NAMES = (
    *(
        "add",
        "sub",
        "mul",
        "neg",
        "abs",
        "square",
        "minimum",
        "maximum",
        "floor",
        "ceil",
        "sign",
        "relu",
        "clamp",
        "step",
    ),
    *("lt", "le", "gt", "ge", "eq", "ne", "logical_and", "logical_or", "logical_not", "where", "ifelse", "to_real"),
    *("sum", "sqnorm2", "sqdist", "dot", "norm1", "min_d", "max_d", "argmin_d", "argmax_d", "elem", "one_hot"),
    *("extract", "pad", "concat", "repeat", "tile", "transpose", "sum_d", "matvecmult", "tensorprod", "shift"),
)


def random_formula(choose: Callable[[Sequence[Any]], Any], names: Sequence[str] | None = None, size: int = 8) -> Expr:
    """A formula made of `size` operations of the table on LEAVES; `choose` draws from a sequence."""
    made: list[Expr] = []
    rows = [TABLE[name] for name in names or list(TABLE)]
    for _ in range(size):
        op: Op = choose(rows)
        dims, params = choose(op.samples)
        pool = made * 4 + LEAVES  # rather what was made before, so that formulas grow
        args = [choose([e for e in pool if e.dim == d] or [_of_length(LEAVES[0], d)]) for d in dims]
        with suppress(ShapeError):
            made.append(call(op.name, *args, **params))
    result = made[-1] if made else LEAVES[0]
    for other in made[-size // 3 : -1]:  # of a large one, more than what the last operation happens to use
        result = call("concat", result, other)
    return result


@st.composite
def formulas(draw: st.DrawFn, names: Sequence[str] | None = None, size: int = 8) -> Expr:
    """Small formulas, which hypothesis can make smaller when a test fails."""
    return random_formula(lambda items: draw(st.sampled_from(items)), names, draw(st.integers(1, size)))


def large_formulas(names: Sequence[str] | None = None, size: int = 20) -> st.SearchStrategy[Expr]:
    """Formulas of many operations, drawn by a seed."""
    return st.integers(0, 10**6).map(lambda seed: random_formula(random.Random(seed).choice, names, size))


def _of_length(x: Expr, dim: int) -> Expr:
    return call("extract", call("repeat", x, times=dim), start=0, size=dim)


def exact_values(root: Expr, seed: int) -> dict[Expr, Any]:
    """Small numbers for the leaves of a random formula."""
    rng = np.random.default_rng(seed)
    leaves = [n for n in toposort(root) if n.name in ("input", "index")]
    return {
        n: rng.integers(0, 4, size=(ROWS, 1)) if n.name == "index" else rng.choice(EXACT_NUMBERS, size=(ROWS, n.dim))
        for n in leaves
    }
