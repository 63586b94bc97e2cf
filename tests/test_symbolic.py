"""Symbolic variables and deferred reductions: arguments take the places of `Vi(0, D)`, options are kept."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from dense import close, points

from pairfuse import DtypeError, KeywordError, PairfuseError, ShapeError, UnsupportedError
from pairfuse.numpy import LazyTensor, Pm, Vi, Vj, where

X, Y, B, W = points(5, 3), points(7, 3), points(7, 2), np.abs(points(7, 4)) + 0.1
D2 = ((X[:, None] - Y) ** 2).sum(-1)
x_i, y_j = Vi(0, 3), Vj(1, 3)
d2 = x_i.sqdist(y_j)

# A reduction of symbolic variables, the arrays of the call, the dense result.
CASES: dict[str, tuple[Any, tuple[Any, ...], Any]] = {
    "sum": ((-d2).exp().sum(axis=1), (X, Y), np.exp(-D2).sum(1)[:, None]),
    "sum over i": ((-d2).exp().sum(dim=0), (X, Y), np.exp(-D2).sum(0)[:, None]),
    "vectors": ((x_i - y_j).abs().max(axis=1), (X, Y), np.abs(X[:, None] - Y).max(1)),
    "mean": (d2.mean(axis=1), (X, Y), D2.mean(1)[:, None]),
    "variance": (d2.var(axis=1), (X, Y), D2.var(1)[:, None]),
    "deviation": (d2.std(axis=0, ddof=1), (X, Y), D2.std(0, ddof=1)[:, None]),
    "any": ((d2 < 1).any(axis=1), (X, Y), (D2 < 1).any(1)[:, None]),
    "all": ((d2 < 9).all(axis=1), (X, Y), (D2 < 9).all(1)[:, None]),
    "argmin": (d2.argmin(axis=1), (X, Y), D2.argmin(1)[:, None]),
    "K": (d2.argKmin(3, axis=1), (X, Y), np.argsort(D2, 1)[:, :3]),
    "K of vectors": ((x_i - y_j).Kmin(2, axis=1), (X, Y), np.sort(X[:, None] - Y, 1)[:, :2]),
    "weight": ((-d2).logsumexp(axis=1, weight=Vj(2, 4)), (X, Y, W), np.log(np.exp(-D2) @ W)),
    "softmax": (
        (-d2).sumsoftmaxweight(Vj(2, 2), axis=1), (X, Y, B), np.exp(-D2) @ B / np.exp(-D2).sum(1, keepdims=True),
    ),
    "product": ((-d2).exp() @ B, (X, Y), np.exp(-D2) @ B),
    "product with a vector": ((-d2).exp() @ B[:, 0], (X, Y), np.exp(-D2) @ B[:, 0]),
    "data and symbols": ((Vi(X) - Vj(0, 3)).sqnorm2().sum(axis=1), (Y,), D2.sum(1)[:, None]),
    "symbols and data": ((x_i - Vj(Y)).sqnorm2().sum(axis=1), (X,), D2.sum(1)[:, None]),
    "three kinds": ((d2 * Pm(2, 1) + Pm([0.5]) - 1).sum(axis=1), (X, Y, [2.0]), (D2 * 2 - 0.5).sum(1)[:, None]),
    "later first": ((Vj(1, 3) * Vi(0, 3)).sum(-1).sum(axis=1), (X, Y), (X @ Y.T).sum(1)[:, None]),
    "tuples": ((LazyTensor((0, 3, 0)) | LazyTensor((1, 3, 1))).sum(axis=1), (X, Y), (X @ Y.T).sum(1)[:, None]),
    "one on both axes": ((x_i - x_i.t()).sqnorm2().sum(axis=1), (X,), ((X[:, None] - X) ** 2).sum((1, 2))[:, None]),
    "transposed": ((2 * d2 - x_i.sum(-1)).t().sum(axis=0), (Y, X), (2 * D2 - Y.sum(1)).sum(0)[:, None]),
    "a gap": ((Vi(0, 3) | Vj(2, 3)).sum(axis=1), (X, Y), (X @ Y.T).sum(1)[:, None]),
    "no data at all": ((x_i * 2).sum(axis=1), (X,), 2 * X),
    "where": (where(d2 < 2, d2, 0).sum(axis=1), (X, Y), np.where(D2 < 2, D2, 0).sum(1)[:, None]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_arguments_take_their_places(name: str) -> None:
    reduction, arguments, dense = CASES[name]
    close(reduction(*arguments), dense)
    again = pickle.loads(pickle.dumps(reduction))
    close(again(*arguments), dense)
    tensors = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]
    if not reduction.variables or all(isinstance(v, list) for v in reduction.variables):
        close(reduction(*tensors).numpy(), dense)


def test_parameters_may_be_numbers() -> None:
    scaled = (d2 * Pm(2, 1)).sum(axis=1)
    for value in (2.0, 2, np.float64(2), np.array(2.0), np.array([2.0]), [2.0], (2,)):
        close(scaled(X, Y, value), 2 * D2.sum(1)[:, None])
    close(scaled(torch.from_numpy(X), torch.from_numpy(Y), torch.tensor(2.0)).numpy(), 2 * D2.sum(1)[:, None])
    assert scaled(X.astype("f"), Y.astype("f"), np.array(2.0)).dtype == np.float32


def test_batch_axes_broadcast() -> None:
    reduction = (d2 * Pm(2, 1)).sum(axis=1)
    x, y, p = points(2, 1, 5, 3), points(4, 7, 3), points(2, 4, 1)
    dense = (((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1) * p[..., None]).sum(-1, keepdims=True)
    close(reduction(x, y, p), dense)
    weighted = (-d2).logsumexp(axis=1, weight=Vj(2, 4))
    w = np.abs(points(3, 7, 4)) + 0.1
    close(weighted(X, Y, w), np.log(np.exp(-D2) @ w))


def test_options_are_kept() -> None:
    """Those given with the reduction hold for every call, those of a call for that call only."""
    out = np.zeros((5, 1))
    reduction = d2.sum(axis=1, backend="reference", out=out)
    assert reduction.kwargs == {"backend": "reference", "out": out}
    assert reduction.backend == "reference"
    assert reduction(X, Y) is out
    other = np.zeros((5, 1))
    assert reduction(X, Y, out=other, backend="llvm") is other
    assert reduction(X, Y) is out
    assert reduction.kwargs["backend"] == "reference"
    reduction.backend = "llvm"
    assert reduction(X, Y, out=None).shape == (5, 1)
    with pytest.raises(UnsupportedError, match="no such backend"):
        reduction.backend = "zz"
    with pytest.raises(DtypeError, match="less precise"):
        d2.sum(axis=1, dtype_acc="float32")(X, Y)
    assert d2.sum(axis=1, dtype_acc="float32")(X.astype("f"), Y.astype("f")).dtype == np.float32
    with pytest.raises(KeywordError, match="did you mean"):
        d2.sum(axis=1, bakend="CPU")
    k = d2 * 1.0
    k.backend = "reference"
    assert k.sum(axis=1).backend == "reference"


def test_data_that_changes_is_seen() -> None:
    x = X.copy()
    reduction = (Vi(x) - Vj(Y)).sqnorm2().sum(axis=1, call=False)
    before = reduction()
    x *= 2
    close(reduction(), ((x[:, None] - Y) ** 2).sum((1, 2))[:, None])
    assert not np.allclose(before, reduction())


def test_what_a_reduction_says_of_itself() -> None:
    k = (x_i - Vj(Y)).sqnorm2() * 2.5
    f = k.argKmin(3, axis=1)
    assert (f.reduction_op, f.axis, f.opt_arg) == ("ArgKMin", 1, 3)
    assert f.formula == "sqnorm2(x0_i[3] - x1_j[3]) * x2_p[1]"
    assert (f.formula2, f.shape, f._shape) == (None, (1, 7), (1, 7, 1))
    assert f.symbolic_variables == ((0, 3, 0),)
    assert f.variables[0] is Y
    assert f.variables[1] == [2.5]
    assert repr(f) == "<deferred reduction: argKmin(Vi(0, 3)); call it to compute>"
    assert str(f).splitlines()[:6] == [
        "Pairfuse reduction",
        "  formula: sqnorm2(x0_i[3] - x1_j[3]) * x2_p[1]",
        "  symbolic variables: Vi(0, 3)",
        "  shape: (1, 7)",
        "  reduction: ArgKMin (axis=1)",
        "    opt_arg: 3",
    ]
    weighted = (-d2).logsumexp(axis=0, weight=Vi(2, 2))
    assert (weighted.reduction_op, weighted.axis, weighted.formula2) == ("LogSumExpWeight", 0, "x2_i[2]")
    assert "    formula2: x2_i[2]" in str(weighted)
    assert (d2 @ B).reduction_op == "Sum"
    assert d2.mean(axis=1).reduction_op == "mean"
    assert f.ranges is None


def test_symbolic_variables_are_attributes() -> None:
    assert (x_i.ind, y_j.ind, d2.ind, Vi(X).ind, LazyTensor(2).ind) == (0, 1, None, None, None)
    assert d2.symbolic_variables == ((0, 3, 0), (1, 3, 1))
    assert (d2 * Pm(2, 1)).symbolic_variables[2] == (2, 1, 2)
    assert (d2.shape, d2._shape, d2.ni, d2.nj, d2.dtype) == ((1, 1), (1, 1, 1), None, None, None)
    assert (Vj(Y) - x_i).formula == "x1_j[3] - x0_i[3]"
    assert "symbolic variables: Vi(0, 3), Vj(1, 3)" in str(d2)
    assert d2.variables == ()


def test_copies_stay_symbolic() -> None:
    for k in (copy.copy(d2), copy.deepcopy(d2), pickle.loads(pickle.dumps(d2))):
        assert k.symbolic_variables == d2.symbolic_variables
        close((k + d2).sum(axis=1)(X, Y), 2 * D2.sum(1)[:, None])


def test_torch_differentiates_calls() -> None:
    """One tensor for both variables, too: the gradients of both places are added."""
    x = torch.from_numpy(X).requires_grad_()
    f = (-d2).logsumexp_reduction(dim=1)
    (g,) = torch.autograd.grad(f(x, x).sum(), [x])
    dense = torch.logsumexp(-((x[:, None] - x) ** 2).sum(-1), 1).sum()
    (expected,) = torch.autograd.grad(dense, [x])
    torch.testing.assert_close(g, expected)
    again = (-(Vi(x) - Vj(x)).sqnorm2()).logsumexp_reduction(dim=1, call=False)
    for _ in range(2):
        (g,) = torch.autograd.grad(again().sum(), [x])
        torch.testing.assert_close(g, expected)
    parameter = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    f = (-d2 * Pm(2, 1)).exp().sum(axis=1)
    f(x.detach(), x.detach(), parameter).sum().backward()
    dense = torch.exp(-parameter * ((x[:, None] - x) ** 2).sum(-1)).sum()
    (expected,) = torch.autograd.grad(dense, [parameter])
    torch.testing.assert_close(parameter.grad, expected)


def test_gradients_of_symbolic_weights() -> None:
    x, y, w = (torch.from_numpy(v).requires_grad_() for v in (X, Y, W))
    value = (-d2).sumsoftmaxweight(Vj(2, 4), axis=1)(x, y, w)
    dense = torch.softmax(-((x[:, None] - y) ** 2).sum(-1), 1) @ w
    for got, expected in zip(
        torch.autograd.grad(value.sin().sum(), [x, y, w]),
        torch.autograd.grad(dense.sin().sum(), [x, y, w]),
        strict=True,
    ):
        torch.testing.assert_close(got, expected)


f = d2.sum(axis=1)
MISTAKES: list[tuple[Any, type[PairfuseError], str, str]] = [
    (lambda: f(X), ShapeError, "sum: takes 2 arguments, not 1.", "Vj(1, 3)"),
    (lambda: f(X, Y, B), ShapeError, "sum: takes 2 arguments, not 3.", "Vi(0, 3)"),
    (lambda: Vi(X).sum(axis=1, call=False)(X), ShapeError, "sum: takes 0 arguments, not 1.", "not given again"),
    (lambda: f(X, B), ShapeError, "sum: argument 1, Vj(1, 3), is an array of shape (*batch, N, 3).", "shape (7, 2)"),
    (lambda: f(X[0], Y), ShapeError, "sum: argument 0, Vi(0, 3), is an array", "shape (3,)"),
    (lambda: f(X, 2.0), ShapeError, "sum: argument 1, Vj(1, 3), is an array", "float 2.0"),
    (lambda: f(X, "a"), ShapeError, "sum: argument 1, Vj(1, 3), is an array", "str 'a'"),
    (lambda: Vi(0, 1).sum(axis=1)(X[:, 0]), ShapeError, "sum: argument 0, Vi(0, 1)", "x[:, None]"),
    (lambda: f(X, Y.astype("f")), DtypeError, "sum: the number types differ, float64 and float32.", "Vj(1, 3): NumPy"),
    (
        lambda: f(X, torch.from_numpy(Y)),
        DtypeError,
        "sum: a NumPy array and a torch tensor cannot be mixed.",
        "Vi(0, 3)",
    ),
    (lambda: f(points(2, 5, 3), points(3, 7, 3)), ShapeError, "sum: the batch shapes (2,) and (3,)", "(3, 7, 3)"),
    (lambda: (Vi(X) - x_i).sum(axis=1)(points(6, 3)), ShapeError, "sum: the numbers of rows (axis i) differ", "(6, 3)"),
    (lambda: f(np.array(["a"]), Y), DtypeError, "sum: argument 0, Vi(0, 3): arrays of", "supported"),
    (lambda: f(X, Y, foo=1), KeywordError, "sum(foo=...): there is no such keyword.", "keywords"),
    (lambda: d2.sum(axis=1, call=False)(X), ShapeError, "sum: takes 2 arguments, not 1.", "Vj(1, 3)"),
    (lambda: x_i + Vj(0, 3), ShapeError, "x + y: the argument number 0 is declared twice, as Vi(0, 3)", "of its own"),
    (
        lambda: d2.logsumexp(axis=1, weight=Vi(1, 2)),
        ShapeError,
        "the argument number 1 is declared twice",
        "of its own",
    ),
    (lambda: d2.argmin(axis=1)(X, Y[:0]), ShapeError, "argmin: no index to return", "no term"),
]


@pytest.mark.parametrize(("call", "kind", "first", "words"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes(call: Any, kind: type[PairfuseError], first: str, words: str) -> None:
    with pytest.raises(PairfuseError) as caught:
        call()
    assert type(caught.value) is kind, caught.value
    assert str(caught.value).startswith(first), caught.value
    assert words in str(caught.value), caught.value


def test_a_mistake_leaves_the_reduction_usable() -> None:
    with pytest.raises(ShapeError):
        f(X)
    close(f(X, Y), D2.sum(1)[:, None])


def test_formulas_are_not_called() -> None:
    formula: Any = d2
    with pytest.raises(TypeError):
        formula(X, Y)
    with pytest.raises(TypeError):
        f + 1  # type: ignore[operator]
