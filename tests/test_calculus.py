"""Symbolic calculus against torch's derivatives of the dense formula, in float64: methods and names of formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from dense import points

from pairfuse import FormulaError, PairfuseError, ShapeError, UnsupportedError
from pairfuse.ir.expr import OPS, Expr, call, const, evaluate, input_
from pairfuse.ir.ops import TABLE
from pairfuse.numpy import Genred, LazyTensor, Pm, Vi, Vj, where
from pairfuse.transform.autodiff import jvp
from pairfuse.transform.calculus import diff, divergence, grad, grad_matrix, laplacian, trace_operator
from pairfuse.transform.expand import expand
from pairfuse.transform.simplify import simplify

Tensor = torch.Tensor
X, Y, E, S, A = points(5, 3), points(7, 3), points(5, 1), points(7, 1), points(9)
x_i, y_j, e_i, s_j, a = Vi(X), Vj(Y), Vi(E), Vj(S), Pm(A)

# A formula of x, y, a as LazyTensors, and the same on torch vectors of length 3 and a matrix of 9 components.
FORMULAS: dict[str, tuple[Callable[..., Any], Callable[..., Tensor]]] = {
    "gaussian": (lambda x, y, a: (-x.sqdist(y)).exp(), lambda x, y, a: torch.exp(-((x - y) ** 2).sum(-1, True))),
    "laplacian kernel": (
        lambda x, y, a: (-(x - y).norm2()).exp(),
        lambda x, y, a: torch.exp(-(x - y).norm(dim=-1, keepdim=True)),
    ),
    "cauchy": (lambda x, y, a: 1 / (1 + x.sqdist(y)), lambda x, y, a: 1 / (1 + ((x - y) ** 2).sum(-1, True))),
    "quadratic": (lambda x, y, a: x | a.matvecmult(x), lambda x, y, a: (x * (a.view(3, 3) @ x)).sum(-1, True)),
    "vector kernel": (
        lambda x, y, a: (x - y) * (-x.sqdist(y)).exp(),
        lambda x, y, a: (x - y) * torch.exp(-((x - y) ** 2).sum(-1, True)),
    ),
    "element-wise": (
        lambda x, y, a: (x * y).sin() + x**3 / (1 + y**2),
        lambda x, y, a: torch.sin(x * y) + x**3 / (1 + y**2),
    ),
    "linear": (
        lambda x, y, a: a.matvecmult(x) - 2 * (x | y) * y,
        lambda x, y, a: a.view(3, 3) @ x - 2 * (x * y).sum() * y,
    ),
    "parts": (
        lambda x, y, a: (x[..., :2] * y[..., 1:]).concat(x.norm2()),
        lambda x, y, a: torch.cat([x[:2] * y[1:], x.norm().view(1)]),
    ),
    "choices": (
        lambda x, y, a: where(x < y, x * y, x**2) + abs(x),
        lambda x, y, a: torch.where(x < y, x * y, x**2) + x.abs(),
    ),
    "constant": (lambda x, y, a: y * 2.0, lambda x, y, a: y * 2.0),
}
SCALAR = ("gaussian", "laplacian kernel", "cauchy", "quadratic")
VECTOR = tuple(name for name in FORMULAS if name not in SCALAR)


def lazy(name: str) -> Any:
    return FORMULAS[name][0](x_i, y_j, a) + 0 * (x_i | y_j)


def pairs(f: Callable[[Tensor, Tensor], Any]) -> np.ndarray:
    """f of every pair of points, (5, 7, D)."""
    return np.array([[np.asarray(f(torch.from_numpy(x), torch.from_numpy(y))) for y in Y] for x in X])


def dense_jacobian(name: str) -> np.ndarray:
    """The Jacobians with respect to x of every pair, (5, 7, D, 3)."""
    matrix = torch.from_numpy(A)
    return pairs(lambda x, y: torch.autograd.functional.jacobian(lambda v: FORMULAS[name][1](v, y, matrix), x))


def check(formula: LazyTensor, dense: np.ndarray) -> None:
    """The sums of the formula over j are those of the dense values (5, 7, D)."""
    dense = np.broadcast_to(dense, (5, 7, dense.shape[-1]))
    np.testing.assert_allclose((formula + 0 * (x_i | y_j)).sum(dim=1), dense.sum(1), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", FORMULAS)
def test_first_derivatives(name: str) -> None:
    jacobian, f = dense_jacobian(name), lazy(name)
    rows, columns = jacobian.shape[-2:]
    check(f.grad_matrix(x_i), jacobian.reshape(5, 7, rows * columns))
    check(
        f.grad(x_i, f),
        np.einsum("ijk,ijkl->ijl", pairs(lambda x, y: FORMULAS[name][1](x, y, torch.from_numpy(A))), jacobian),
    )
    check(f.grad(x_i, e_i), np.einsum("i,ijkl->ijl", E[:, 0], jacobian))
    check(f.grad(x_i, 2), 2 * jacobian.sum(-2))
    check(f.diff(x_i, y_j), np.einsum("jl,ijkl->ijk", Y, jacobian))
    check(f.diff(x_i, s_j), np.einsum("j,ijkl->ijk", S[:, 0], jacobian))
    check(f.diff(x_i, [1.0, 0.0, 2.0]), np.einsum("l,ijkl->ijk", [1.0, 0.0, 2.0], jacobian))


@pytest.mark.parametrize("name", VECTOR)
def test_divergence(name: str) -> None:
    check(lazy(name).divergence(x_i), np.einsum("ijkk->ij", dense_jacobian(name))[..., None])


@pytest.mark.parametrize("name", SCALAR)
def test_laplacian(name: str) -> None:
    matrix = torch.from_numpy(A)

    def trace(x: Tensor, y: Tensor) -> Tensor:
        return torch.autograd.functional.hessian(lambda v: FORMULAS[name][1](v, y, matrix).sum(), x).trace().view(1)

    f, dense = lazy(name), pairs(trace)
    check(f.laplacian(x_i), dense)
    check(f.grad(x_i, 1).divergence(x_i), dense)


def test_variables_of_the_other_axis_and_parameters() -> None:
    k = (-x_i.sqdist(y_j)).exp()
    dense = np.exp(-((X[:, None] - Y) ** 2).sum(-1, keepdims=True))
    check(k.grad(y_j, 1), 2 * (X[:, None] - Y) * dense)
    check((x_i | a.matvecmult(y_j)).grad(a, 1), (X[:, None, :, None] * Y[None, :, None, :]).reshape(5, 7, 9))
    scale = LazyTensor(2.5)
    check((k * scale).grad(scale, 1), dense)
    check((x_i * y_j).diff((x_i, y_j), (y_j, x_i)), Y**2 + X[:, None] ** 2)


def test_second_derivatives_and_torch() -> None:
    """A derivative is a formula like any other: it is differentiated again, symbolically and by torch."""
    x, y = torch.from_numpy(X).requires_grad_(), torch.from_numpy(Y)
    v_i = Vi(x)
    k = (-v_i.sqdist(Vj(y)) / 2).exp()

    def energy(points: Tensor) -> Tensor:
        return torch.exp(-((points[:, None] - y) ** 2).sum(-1) / 2).sum()

    direction = torch.from_numpy(points(5, 3, seed=1))
    _, product = torch.autograd.functional.hvp(energy, x.detach(), direction)
    torch.testing.assert_close(k.grad(v_i, 1).diff(v_i, Vi(direction)).sum(1).detach(), product)
    torch.testing.assert_close(k.diff(v_i, Vi(direction)).grad(v_i, 1).sum(1).detach(), product)
    (g,) = torch.autograd.grad((k.grad(v_i, 1).sum(1) * direction).sum(), [x])
    torch.testing.assert_close(g, product)
    torch.testing.assert_close(k.grad(v_i, 1).sum(1), torch.autograd.grad(energy(x), [x], create_graph=True)[0])
    (g,) = torch.autograd.grad(k.laplacian(v_i).sum(1).sum(), [x])

    def laplacian_of(points: Tensor) -> Tensor:
        d = points[:, None] - y
        return ((d**2).sum(-1) - 3).mul(torch.exp(-(d**2).sum(-1) / 2)).sum()

    (expected,) = torch.autograd.grad(laplacian_of(x), [x])
    torch.testing.assert_close(g, expected)


def test_traces_of_linear_maps() -> None:
    v = Pm(0, 3)
    u, w, m = Vi(1, 3), Vj(2, 3), Pm(3, 9)
    formula = m.matvecmult(v) * 2 + (u | v) * w - v * w / 4
    trace = formula.trace_operator(v)
    assert trace.symbolic_variables == ((1, 3, 0), (2, 3, 1), (3, 9, 2))
    dense = 2 * np.trace(A.reshape(3, 3)) + (X[:, None] * Y).sum(-1) - Y.sum(-1) / 4
    np.testing.assert_allclose((trace + 0 * u.sum(-1)).sum(axis=1)(X, Y, A), dense.sum(1)[:, None], rtol=1e-12)
    data = Pm(np.ones(3))
    check((x_i | data).trace_operator(data), np.broadcast_to(X.sum(1)[:, None, None], (5, 7, 1)))


def test_shared_parts_need_not_be_named() -> None:
    d = x_i - y_j
    k = (-(d | d)).exp() * d
    assert k.factorize(d) is k
    assert k.auto_factorize() is k


def test_difference_matrix() -> None:
    dense = (X[:, None, :, None] - Y[None, :, None, :2]).reshape(5, 7, 6)
    check(x_i.difference_matrix(y_j[..., :2]), dense)


def test_symbolic_variables() -> None:
    x, y = Vi(0, 3), Vj(1, 3)
    k = (-x.sqdist(y)).exp()
    dense = np.exp(-((X[:, None] - Y) ** 2).sum(-1, keepdims=True))
    np.testing.assert_allclose(k.grad(x, 1).sum(axis=1)(X, Y), (-2 * (X[:, None] - Y) * dense).sum(1), rtol=1e-12)
    np.testing.assert_allclose(
        k.grad(x, Vi(2, 1)).sum(axis=0)(X, Y, E), (-2 * (X[:, None] - Y) * dense * E[:, None]).sum(0), rtol=1e-12
    )
    lost = (x | y).grad(x, 1).sum(axis=1)  # it depends on y alone, and still takes x, which says how many rows
    np.testing.assert_allclose(lost(X, Y), np.broadcast_to(Y.sum(0), (5, 3)), rtol=1e-12)


# ---------------------------------------------------------------------- every operation


def _samples() -> list[tuple[str, tuple[int, ...], dict[str, Any]]]:
    return [
        (op.name, dims, dict(params))
        for op in TABLE.values()
        if op.kind in ("real", "same") and op.arity and not op.name.startswith("complex")
        for dims, params in op.samples
    ]


@pytest.mark.parametrize(("name", "dims", "params"), _samples(), ids=str)
def test_the_jacobian_of_every_operation(name: str, dims: tuple[int, ...], params: dict[str, Any]) -> None:
    """grad_matrix and divergence agree with the columns of jvp, on random input of the row's domain."""
    leaves = [input_(k, "ijp"[k % 3], d) for k, d in enumerate(dims)]
    formula = call(name, *leaves, **params)
    rng = np.random.default_rng(5)
    values = {
        leaf: rng.uniform(low, high, size=leaf.dim) for leaf, (low, high) in zip(leaves, OPS[name].domain, strict=True)
    }
    for v in leaves:
        columns = [jvp([formula], [v], [_unit(k, v.dim)])[0] for k in range(v.dim)]
        expected = np.stack([_value(c, values) for c in columns], -1)
        np.testing.assert_allclose(_value(grad_matrix(formula, v), values), expected.ravel(), rtol=1e-9, atol=1e-9)
        if v.dim == formula.dim:
            trace = _value(divergence(formula, v), values)
            np.testing.assert_allclose(trace, [np.trace(expected)], rtol=1e-9, atol=1e-9)
        if formula.dim == 1:
            slope = grad(formula, v, 1)
            second = sum(_value(diff(slope, v, _unit(k, v.dim)), values)[k] for k in range(v.dim))
            np.testing.assert_allclose(_value(laplacian(formula, v), values), [second], rtol=1e-8, atol=1e-8)


def _unit(k: int, size: int) -> Expr:
    return const(1.0) if size == 1 else call("pad", const(1.0), start=k, size=size)


def _value(formula: Expr, values: dict[Expr, np.ndarray]) -> np.ndarray:
    (value,) = evaluate(expand([formula]), values)
    return np.broadcast_to(np.asarray(value, float), (formula.dim,))


def test_the_laplacian_of_a_radial_kernel_costs_as_much_as_by_hand() -> None:
    """Its formula does not grow with the dimension: no sum over unit vectors is left."""
    sizes: list[int] = []
    for dim in (3, 100):
        x, y = input_(0, "i", dim), input_(1, "j", dim)
        k = call("exp", -call("sqdist", x, y))
        (found,) = simplify(expand([laplacian(k, x)]))
        (by_hand,) = simplify(expand([(4.0 * call("sqdist", x, y) - 2.0 * dim) * k]))
        assert _size(found) <= _size(by_hand) + 3, found
        sizes.append(_size(found))
    assert sizes[0] == sizes[1]


def _size(root: Expr) -> int:
    seen: set[Expr] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack += node.args
    return len(seen)


# ---------------------------------------------------------------------- names of formulas

TEXTS: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    "Grad": ("Grad(Exp(-SqDist(x, y)), x, e)", lambda d, k: -2 * d * k * E[:, None]),
    "Grad of Grad": (
        "Grad(Grad(SqDist(x, y) ** 2, x, e) | x, y, IntCst(1))",
        lambda d, k: (
            -4
            * E[:, None]
            * (2 * (d * X[:, None]).sum(-1, keepdims=True) * d + (d**2).sum(-1, keepdims=True) * X[:, None])
        ),
    ),
    "Diff": ("Diff(Exp(-SqDist(x, y)), x, y)", lambda d, k: -2 * (d * Y).sum(-1, keepdims=True) * k),
    "Diff of several": (
        "Diff(SqDist(x, y), (x, y), (y, x))",
        lambda d, k: 2 * (d * (Y - X[:, None])).sum(-1, keepdims=True),
    ),
    "GradMatrix": (
        "GradMatrix(x * (x | y), x)",
        lambda d, k: (
            (X[:, None] * Y).sum(-1)[..., None, None] * np.eye(3) + X[:, None, :, None] * Y[None, :, None, :]
        ).reshape(5, 7, 9),
    ),
    "Divergence": ("Divergence(x * (x | y), x)", lambda d, k: 4 * (X[:, None] * Y).sum(-1, keepdims=True)),
    "Laplacian": ("Laplacian(Exp(-SqDist(x, y)), x)", lambda d, k: (4 * (d**2).sum(-1, keepdims=True) - 6) * k),
    "TraceOperator": ("TraceOperator((x | v) * y, v)", lambda d, k: (X[:, None] * Y).sum(-1, keepdims=True)),
    "weighted TraceOperator": (
        "TraceOperator((x | v) * y, v, y)",
        lambda d, k: (X[:, None] * Y**2).sum(-1, keepdims=True),
    ),
    "TraceOperator of a number": ("TraceOperator(x | v, v, y)", lambda d, k: (X[:, None] * Y).sum(-1, keepdims=True)),
    "AdjointOperator": (
        "AdjointOperator((x | v) * y, v, x)",
        lambda d, k: (X[:, None] * Y).sum(-1, keepdims=True) * X[:, None],
    ),
    "SumLinOperator": (
        "SumLinOperator((x | v) * y, v)",
        lambda d, k: X[:, None].sum(-1, keepdims=True) * Y.sum(-1, keepdims=True),
    ),
    "weighted SumLinOperator": (
        "SumLinOperator((x | v) * y, v, x, y)",
        lambda d, k: (X[:, None] * Y).sum(-1, keepdims=True) ** 2,
    ),
    "Factorize": (
        "Factorize(SqDist(x, y) * Exp(-SqDist(x, y)), SqDist(x, y))",
        lambda d, k: (d**2).sum(-1, keepdims=True) * k,
    ),
    "AutoFactorize": ("AutoFactorize(Exp(-SqDist(x, y)))", lambda d, k: k),
}


@pytest.mark.parametrize("name", TEXTS)
def test_names_of_formulas(name: str) -> None:
    text, dense = TEXTS[name]
    d = X[:, None] - Y
    expected = np.broadcast_to(dense(d, np.exp(-(d**2).sum(-1, keepdims=True))), (5, 7, dense(d, d[..., :1]).shape[-1]))
    reduction = Genred(text, ["x = Vi(3)", "y = Vj(3)", "e = Vi(1)", "v = Pm(3)"], axis=1)
    np.testing.assert_allclose(reduction(X, Y, E, np.ones(3)), expected.sum(1), rtol=1e-12, atol=1e-12)


def test_derivatives_of_sums() -> None:
    """Grad of a sum is a sum over the axis on which the variable is not."""
    d = X[:, None] - Y
    k = np.exp(-(d**2).sum(-1, keepdims=True))
    aliases = ["x = Vi(3)", "y = Vj(3)", "e = Vi(1)"]
    by_y = Genred("Grad(Sum_Reduction(Exp(-SqDist(x, y)), 0), y, e)", aliases)
    assert by_y.axis == 0
    np.testing.assert_allclose(by_y(X, Y, E), (2 * d * k * E[:, None]).sum(0), rtol=1e-12)
    by_x = Genred("Grad(Sum_Reduction(Exp(-SqDist(x, y)), 0), x, e)", aliases)
    np.testing.assert_allclose(by_x(X, Y, E), (-2 * d * k * E[:, None]).sum(1), rtol=1e-12)
    along = Genred("Diff(Sum_Reduction(Exp(-SqDist(x, y)), 0), x, x)", aliases)
    np.testing.assert_allclose(along(X, Y, E), (-2 * d * k * X[:, None]).sum((1, 2))[:, None], rtol=1e-12)


MISTAKES: list[tuple[Any, type[PairfuseError], str, str]] = [
    (lambda: x_i.sqdist(y_j).grad(Vi(X.copy()), 1), FormulaError, "x.grad(v, e): v is not a variable of x.", "(5, 3)"),
    (lambda: x_i.sqdist(y_j).grad(x_i * 2, 1), FormulaError, "x.grad(v, e): v is not a variable of x.", "formula of i"),
    (lambda: x_i.sqdist(y_j).diff(X, 1), FormulaError, "x.diff(v, u): v is not a variable of x.", "NumPy array"),
    (
        lambda: (x_i - y_j).grad(x_i, [1.0, 2.0]),
        ShapeError,
        "x.grad(v, e): the cotangent has length 2; it takes 3.",
        "e: list",
    ),
    (
        lambda: (x_i - y_j).diff(x_i, [1.0, 2.0]),
        ShapeError,
        "x.diff(v, u): the direction has length 2",
        "v: i-variable",
    ),
    (lambda: (x_i - y_j).diff((x_i, y_j), (y_j,)), FormulaError, "x.diff(v, u): v and u are tuples", ""),
    (
        lambda: x_i.sqdist(y_j).divergence(x_i),
        ShapeError,
        "x.divergence(v): the formula has length 1, the variable 3",
        "",
    ),
    (
        lambda: (x_i - y_j).laplacian(x_i),
        ShapeError,
        "x.laplacian(v): the formula has length 3",
        "x: formula of i and j",
    ),
    (lambda: x_i.sqdist(y_j).trace_operator(x_i), FormulaError, "x.trace_operator(v): the formula is not linear", ""),
    (lambda: (x_i[..., :2] * 1).trace_operator(x_i), ShapeError, "x.trace_operator(v): the formula has length 2", ""),
    (
        lambda: x_i.sqdist(y_j).grad(x_i, Vi(points(6, 1))),
        ShapeError,
        "x.grad(v, e): the numbers of rows (axis i)",
        "e: i-",
    ),
    (lambda: x_i.factorize(2), FormulaError, "x.factorize(y): y is a part of x", ""),
    (lambda: Genred("Grad(x | x, x + x, x)", ["x = Vi(3)"]), FormulaError, "formula: Grad: grad: derivatives", "^"),
    (lambda: Genred("Laplacian(x, x)", ["x = Vi(3)"]), ShapeError, "formula: laplacian: the formula has length 3", "^"),
    (lambda: Genred("Grad(x, x)", ["x = Vi(3)"]), FormulaError, "formula: Grad takes 3 arguments", "^"),
    (lambda: Genred("AdjointOperator(x | x, x, x)", ["x = Vi(3)"]), ShapeError, "formula: grad: the cotangent", "^"),
    (
        lambda: Genred("SumLinOperator(x * x, x)", ["x = Vi(3)"]),
        FormulaError,
        "formula: SumLinOperator: sum_lin",
        "linear",
    ),
    (lambda: Genred("Diff(x, (x, x), x)", ["x = Vi(3)"]), ShapeError, "formula: diff: 2 variables and 1", "^"),
    (
        lambda: Genred("Grad(LogSumExp_Reduction(x, 0), x, x)", ["x = Vi(3)"]),
        UnsupportedError,
        "formula: Grad(LogSumExp",
        "torch",
    ),
]


@pytest.mark.parametrize(("mistake", "kind", "first", "words"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes(mistake: Any, kind: type[PairfuseError], first: str, words: str) -> None:
    with pytest.raises(PairfuseError) as caught:
        mistake()
    assert type(caught.value) is kind, caught.value
    assert str(caught.value).startswith(first), caught.value
    assert words in str(caught.value), caught.value


def test_traces_by_columns_and_by_structure_agree() -> None:
    """A trace that is handed down through element-wise steps, and one that is not, on the same map."""
    v, x, m = input_(0, "p", 3), input_(1, "i", 3), input_(2, "p", 9)
    values = {v: np.ones(3), x: X[0], m: A}
    plain = v * x * 2.0 - call("dot", v, x) * x / 3.0
    hidden = call("matvecmult", _identity(), plain)
    expected = _value(trace_operator(plain, v), values)
    np.testing.assert_allclose(_value(trace_operator(hidden, v), values), expected, rtol=1e-12)
    np.testing.assert_allclose(_value(trace_operator(call("matvecmult", m, v), v), values), [np.trace(A.reshape(3, 3))])


def _identity() -> Expr:
    result = _unit(0, 9)
    for k in (4, 8):
        result = result + _unit(k, 9)
    return result
