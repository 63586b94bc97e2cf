"""Random networks of vectors: products with matrices, element-wise functions and norms, up to four products deep.

In: nothing.  Out: `networks`, formulas in which vectors are read by the loops of others, with weights of any
axis; `network_cases`, problems of them, or of their derivatives, with data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from conformance import BATCHES, DTYPES, LAYOUTS, Case, draw_case, problem
from hypothesis import strategies as st
from random_formulas import renumbered

from pairfuse.ir.expr import Expr, call, const, input_, inputs
from pairfuse.transform.autodiff import jvp, vjp

WIDTHS = (3, 6, 9, 9)
REDUCTIONS = ("sum", "sum", "sum", "max", "argmin", "logsumexp", "max_argmax", "Kmin", "sumsoftmaxweight")
SMOOTH = ("tanh", "sin", "sigmoid", "atan")


def network(depth: int, units: int, dim: int = 3, axis: str = "p", activation: str = "relu") -> Expr:
    """w . a(W_k a(... W_1 (x_i - y_j))), the weights at this axis."""
    z = input_(0, "i", dim) - input_(1, "j", dim)
    for k in range(depth):
        z = call(activation, call("matvecmult", input_(2 + k, axis, units * z.dim), z))
    return call("dot", z, input_(2 + depth, "p", units))


def network_of_all_stages(units: int, depth: int = 2) -> Expr:
    """The inner product of three networks, of i, of j and of parameters alone, goes through one of the pairs."""
    slot, vectors = 0, []
    for axis in "ijp":
        z = input_(slot, axis, units)
        slot += 1
        for _ in range(depth):
            z = call("tanh", call("matvecmult", input_(slot, "p", units * units) / units, z))
            slot += 1
        vectors.append(z)
    u, v, w = vectors
    square = input_(slot, "p", units * units) / units
    return call("dot", call("matvecmult", square, call("tanh", call("matvecmult", square, u - v))), w)


class Inputs:
    """Numbers the inputs in the order in which they are asked for."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, axis: str, dim: int) -> Expr:
        self.count += 1
        return input_(self.count - 1, axis, dim)


@st.composite
def networks(draw: st.DrawFn, depth: int = 4) -> Expr:
    """A number or a vector made of vectors of i, of j and of both."""
    new = Inputs()
    d = draw(st.sampled_from((3, 6, 9)))
    x, y = new("i", d), new("j", d)
    pool = [x, y, draw(st.sampled_from((x - y, x * y, x + y)))]
    for _ in range(draw(st.integers(2, depth))):
        z = pool[-1 - min(max(0, draw(st.integers(-3, 3))), len(pool) - 1)]
        kind = draw(st.sampled_from(("matvec", "matvec", "matvec", "vecmat", "outer", "shared", "norm")))
        axis = draw(st.sampled_from("pppij"))
        width = draw(st.sampled_from(WIDTHS))
        scale = 1 / math.sqrt(z.dim)
        if kind == "matvec":
            z = call("matvecmult", new(axis, width * z.dim) * scale, z)
        elif kind == "vecmat":
            z = call("vecmatmult", z, new(axis, width * z.dim) * scale)
        elif kind == "outer" and z.dim <= 6:
            z = call("matvecmult", call("tensorprod", z, pool[0]), pool[0]) * 0.2
        elif kind == "shared":  # read by two products, one of which is turned round
            square = new(axis, z.dim * z.dim) * scale
            z = call("matvecmult", square, z) - call("vecmatmult", call("sin", z), square)
        else:
            z = z / (1.0 + call("norm2", z))
        name = draw(st.sampled_from((*SMOOTH, "relu", "none")))
        pool.append(z if name == "none" else call(name, z))
    f = pool[-1]
    if f.axes != frozenset("ij"):
        f = f * call("cos", call("sum", pool[2]))
    return draw(st.sampled_from((call("sum", f), call("norm2", f + 2.0), f)))


SIZES = ((7, 5), (1, 300), (40, 33), (3, 257), (33, 2))


@st.composite
def network_cases(draw: st.DrawFn, depth: int = 4, sizes: Sequence[tuple[int, int]] = SIZES) -> Case:
    """A reduction of a network, or of the gradient or the second derivative of one, with its data."""
    f = draw(networks(depth))
    leaves = inputs(f)
    wrt = draw(st.sampled_from(leaves))
    form = draw(st.sampled_from(("value", "value", "gradient", "second")))
    name = "sum"
    over = draw(st.sampled_from("ij"))
    if form != "value":
        f, over = vjp((call("sum", f),), (const(1.0),), (wrt,))[0], {"i": "j", "j": "i", "p": "ij"}[wrt.param("axis")]
    if form == "second":
        f = jvp((f,), (wrt,), (input_(len(leaves), wrt.param("axis"), wrt.dim),))[0]
    fs = (f,)
    if form == "value":
        name = draw(st.sampled_from(REDUCTIONS))
        if name == "sumsoftmaxweight":
            fs = (call("tanh", call("sum", f)), f)
    params = {"K": 3} if name == "Kmin" else {}
    if params and f.dim > 5:
        fs = (call("sum", f),)
    p = problem(name, *renumbered(fs), over=over, dtype=draw(st.sampled_from(DTYPES)), **params)
    m, n = draw(st.sampled_from(sizes))
    batch = draw(st.sampled_from(BATCHES)) if 20 < m * n < 300 else "none"
    layouts = draw(st.sampled_from((("plain",), LAYOUTS)))
    return draw_case(np.random.default_rng(draw(st.integers(0, 1000))), p, m, n, batch, layouts)
