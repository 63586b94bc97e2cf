"""Random problems for the conformance tests: well-typed formulas of moderate values, and data in random layouts.

Every building block keeps numbers away from the edges of its domain, so that the error bound of the result says
something; what happens at the edges is for tests/test_ops_backends.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from conformance import BATCHES, DTYPES, LAYOUTS, Case, draw_case, problem
from hypothesis import strategies as st

from pairfuse.errors import ShapeError
from pairfuse.ir.expr import Expr, call, index, input_, inputs, substitute
from pairfuse.ir.reductions import REDUCTIONS

LENGTHS = (1, 1, 2, 3, 3, 36)
SIZES = (1, 2, 3, 5, 16, 17, 40, 257, 300)


def _one_to_three(x: Expr) -> Expr:
    return call("tile", x, times=3) if x.dim == 1 else call("extract", x, start=x.dim // 3, size=1)


def _unary(name: str) -> Callable[[Expr], Expr]:
    return lambda x: call(name, x)


def _binary(name: str) -> Callable[[Expr, Expr], Expr]:
    return lambda x, y: call(name, x, y)


NAMED_UNARY = (
    *("sin", "cos", "tanh", "sigmoid", "softplus", "atan", "erf", "expm1", "abs", "neg", "floor", "sign", "step"),
    *("relu", "square", "sum", "norm2", "sqnorm2", "norm1", "norminf", "normalize", "max_d", "min_d", "sinxdivx"),
)
NAMED_BINARY = (
    *("add", "sub", "mul", "minimum", "maximum", "logaddexp", "sqdist", "dot", "concat", "tensorprod"),
    *("matvecmult", "vecmatmult"),
)
UNARY: dict[str, Callable[[Expr], Expr]] = {
    "bell": lambda x: call("exp", -(x * x)),
    "log": lambda x: call("log", x * x + 1.0),
    "root": lambda x: call("sqrt", call("abs", x) + 0.25),
    "inverse root": lambda x: call("rsqrt", x * x + 0.5),
    "lengthen": _one_to_three,
    "scaled": lambda x: x * -0.37 + 0.11,
    "by index": lambda x: call("where", call("lt", index("i"), index("j")), x, -x),
    "plus index": lambda x: x + (index("i") - index("j") * 2) * 0.01,
    "one hot": lambda x: call("one_hot", call("elem", x, index=0), size=5),
    "reversed": lambda x: call("transpose", x, sizes=(x.dim // 3, 3), order=(1, 0)) if x.dim % 3 == 0 else x,
    "argmax": lambda x: call("argmax_d", x) * 0.5,
    "parity": lambda x: x + call("mod", index("j"), 2, 0),
    **{name: _unary(name) for name in NAMED_UNARY},
}
BINARY: dict[str, Callable[[Expr, Expr], Expr]] = {
    "quotient": lambda x, y: x / (y * y + 0.5),
    "select": lambda x, y: call("where", x < y, x, y * 0.5),
    "both": lambda x, y: call("to_real", (x < 0.5) & (y > -0.5)),
    "angle": lambda x, y: call("atan2", x, y * y + 0.1),
    "power": lambda x, y: call("pow", call("abs", x) + 0.5, call("tanh", y)),
    "cancelled": lambda x, y: (x + y) - y,
    **{name: _binary(name) for name in NAMED_BINARY},
}
LONGEST = 60


@st.composite
def formulas(draw: st.DrawFn, size: int) -> Expr:
    """A formula of about `size` building blocks on up to five inputs, one of i and one of j among them."""
    leaves = [input_(0, "i", draw(st.sampled_from(LENGTHS))), input_(1, "j", draw(st.sampled_from(LENGTHS)))]
    for slot in range(2, draw(st.integers(2, 5))):
        leaves.append(input_(slot, draw(st.sampled_from("ijp")), draw(st.sampled_from(LENGTHS))))
    pool = list(leaves)
    for _ in range(draw(st.integers(1, size))):
        # what was built last is used most: deep formulas rather than many shallow ones
        x, y = (pool[-1 - min(draw(st.integers(0, 7)), len(pool) - 1)] for _ in range(2))
        try:
            if draw(st.booleans()):
                new = UNARY[draw(st.sampled_from(sorted(UNARY)))](x)
            else:
                new = BINARY[draw(st.sampled_from(sorted(BINARY)))](x, y)
        except ShapeError:
            continue
        if new.dim <= LONGEST:
            pool.append(new)
    f = pool[-1]
    if draw(st.integers(0, 5)):  # most formulas depend on the pair
        for leaf in leaves[:2]:
            if not leaf.axes <= f.axes:
                f = f * call("sin", call("sum", leaf)) + 0.5
    return f


@st.composite
def cases(draw: st.DrawFn, size: int = 10) -> Case:
    """A random problem with its data."""
    name = draw(st.sampled_from(sorted(REDUCTIONS)))
    f = draw(formulas(size))
    fs = (f,)
    if REDUCTIONS[name].arity == 2:
        g = draw(formulas(3))
        shift = 1 + max((n.param("slot") for n in inputs(f)), default=-1)
        g = substitute(g, {n: input_(n.param("slot") + shift, n.param("axis"), n.dim) for n in inputs(g)})
        if not (g.dim == f.dim or 1 in (g.dim, f.dim)):
            g = call("sum", g)
        fs = (f, g)
    if name == "prod":
        fs = (1.0 + 0.01 * call("tanh", f),)
    params = {"K": draw(st.sampled_from([1, 2, 5, 17]))} if REDUCTIONS[name].params else {}
    if params and f.dim > 5:
        fs = (call("sum", f),)
    fs = renumbered(fs)
    p = problem(name, *fs, over=draw(st.sampled_from("ij")), dtype=draw(st.sampled_from(DTYPES)), **params)
    m, n = draw(st.sampled_from(SIZES)), draw(st.sampled_from(SIZES))
    batch = draw(st.sampled_from(BATCHES)) if m * n * max(f.dim for f in fs) < 3000 else "none"
    layouts = draw(st.sampled_from([("plain",), LAYOUTS]))
    return draw_case(np.random.default_rng(draw(st.integers(0, 1000))), p, m, n, batch, layouts)


def renumbered(fs: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """The formulas with their inputs numbered 0, 1, 2 ... without a hole."""
    new = {n: input_(k, n.param("axis"), n.dim) for k, n in enumerate(inputs(*fs))}
    return tuple(substitute(f, new) for f in fs)
