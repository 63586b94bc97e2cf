"""What the tests of formulas share: samples of every row of the table, random formulas, and the comparison.

In: the table of operations.  Out: expressions with arrays for their leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    *("add", "sub", "mul", "neg", "abs", "square", "minimum", "maximum", "floor", "ceil", "sign", "relu", "clamp", "step"),
    *("lt", "le", "gt", "ge", "eq", "ne", "logical_and", "logical_or", "logical_not", "where", "ifelse", "to_real"),
    *("sum", "sqnorm2", "sqdist", "dot", "norm1", "min_d", "max_d", "argmin_d", "argmax_d", "elem", "one_hot"),
    *("extract", "pad", "concat", "repeat", "tile", "transpose", "sum_d", "matvecmult", "tensorprod", "shift"),
)


@st.composite
def formulas(draw: st.DrawFn, names: Sequence[str] | None = None, size: int = 8) -> Expr:
    """A formula made of up to `size` operations of the table, on LEAVES."""
    pool = list(LEAVES)
    rows = [TABLE[name] for name in names or list(TABLE)]
    for _ in range(draw(st.integers(1, size))):
        op = draw(st.sampled_from(rows))
        dims, params = draw(st.sampled_from(op.samples))
        args = [draw(st.sampled_from([e for e in pool if e.dim == d] or [_of_length(pool[0], d)])) for d in dims]
        try:
            pool.append(call(op.name, *args, **params))
        except ShapeError:
            continue
    return pool[-1]


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
