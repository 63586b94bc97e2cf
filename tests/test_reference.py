"""The oracle itself: the reference backend against plain NumPy, written without a line of Pairfuse's tables.

Every backend is compared to the reference elsewhere; here both are compared to what a user would have written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from conformance import BACKENDS, problem

from pairfuse.ir.expr import Expr, call, index, input_, substitute
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.runtime.execute import execute

X, Y, B, S = input_(0, "i", 3), input_(1, "j", 3), input_(2, "j", 2), input_(3, "p", 1)  # bound to x, y, b, s
RNG = np.random.default_rng(0)
M, N = 11, 23
x, y, b, s = RNG.normal(size=(M, 3)), RNG.normal(size=(N, 3)), RNG.normal(size=(N, 2)), np.array([1.7])
D = ((x[:, None] - y[None]) ** 2).sum(-1)
K = np.exp(-D / s)
SQDIST = call("sqdist", X, Y)


def _gaussian() -> Expr:
    return call("exp", -SQDIST / S)


def _smallest(k: int) -> np.ndarray:
    return np.argsort(D, axis=1, kind="stable")[:, :k]


CASES: dict[str, tuple[Callable[[], Problem], Callable[[], np.ndarray]]] = {
    "matrix product": (lambda: problem("sum", _gaussian() * B, dtype="float64"), lambda: K @ b),
    "its transpose": (
        lambda: problem("sum", _gaussian() * X, over="i", dtype="float64"),
        lambda: K.T @ x,
    ),
    "log-sum-exp": (
        lambda: problem("logsumexp", -SQDIST / S, dtype="float64"),
        lambda: np.log(K.sum(1, keepdims=True)),
    ),
    "softmax": (
        lambda: problem("sumsoftmaxweight", -SQDIST / S, B, dtype="float64"),
        lambda: K / K.sum(1, keepdims=True) @ b,
    ),
    "nearest": (
        lambda: problem("argKmin", SQDIST, dtype="float64", K=4),
        lambda: _smallest(4),
    ),
    "largest distances": (
        lambda: problem("max", call("norm2", X - Y), over="i", dtype="float64"),
        lambda: np.sqrt(D).max(0)[:, None],
    ),
    "below the diagonal": (
        lambda: problem("sum", call("where", call("lt", index("j"), index("i")), B * S, 0.0), dtype="float64"),
        lambda: np.tril(np.ones((M, N)), -1) @ b * s,
    ),
}


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
@pytest.mark.parametrize("name", CASES)
def test_what_a_user_would_have_written(name: str, backend: str) -> None:
    make, plain = CASES[name]
    p, data = make(), [x, y, b, s]
    new = {n: input_(k, n.param("axis"), n.dim) for k, n in enumerate(p.inputs)}  # numbered without a hole
    dense = replace(p, formulas=tuple(substitute(f, new) for f in p.formulas))
    found = execute(dense, [data[n.param("slot")] for n in p.inputs], Sizes(M, N), backend=backend)
    np.testing.assert_allclose(found[0], plain(), rtol=1e-12)


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_batches_broadcast(backend: str) -> None:
    """Batch dimensions of length 1, full length, and none: as NumPy broadcasts them."""
    xs, ys, scale = RNG.normal(size=(2, 1, M, 3)), RNG.normal(size=(4, N, 3)), RNG.normal(size=(2, 4, 1))
    p = problem("sum", call("dot", X, Y) * input_(2, "p", 1), dtype="float64")
    (a,) = execute(p, (xs, ys, scale), Sizes(M, N, (2, 4)), backend=backend)
    full = np.broadcast_to(xs, (2, 4, M, 3)), np.broadcast_to(ys, (2, 4, N, 3)), scale
    expected = np.einsum("abid,abjd,abk->abik", *full)
    np.testing.assert_allclose(a, expected, rtol=1e-12)


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
@pytest.mark.parametrize("batch", [(0,), (2, 0)])
def test_no_batches(batch: tuple[int, ...], backend: str) -> None:
    arrays = np.zeros((*batch, M, 3)), np.zeros((*batch, N, 3))
    (a,) = execute(problem("sum", SQDIST, dtype="float64"), arrays, Sizes(M, N, batch), backend=backend)
    assert a.shape == (*batch, M, 1)
