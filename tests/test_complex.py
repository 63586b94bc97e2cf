"""Complex LazyTensors on NumPy arrays: every mixture of operands, functions, reductions, layouts, refusals.

The judge is the same line on dense NumPy arrays.
"""

from __future__ import annotations

import copy
import itertools
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from formulas import agree

from pairfuse.errors import DtypeError, FormulaError, PairfuseError, ShapeError
from pairfuse.numpy import (
    ComplexLazyTensor,
    LazyTensor,
    Pm,
    Vi,
    Vj,
    concatenate,
    index_i,
    index_j,
    maximum,
    minimum,
    where,
)

M, N, D = 5, 7, 3


def random(*shape: int, seed: int = 0, dtype: Any = complex) -> Any:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=shape)
    return (z + 1j * rng.normal(size=shape) if np.dtype(dtype).kind == "c" else z).astype(dtype)


X, Y = random(M, D, seed=1), random(N, D, seed=2)
R, S = random(M, D, seed=3, dtype=float), random(N, D, seed=4, dtype=float)
# name: (symbolic, dense)
VARIABLES: dict[str, tuple[LazyTensor, np.ndarray]] = {
    "x": (Vi(X), X[:, None]),
    "y": (Vj(Y), Y[None]),
    "r": (Vi(R), R[:, None]),
    "s": (Vj(S), S[None]),
    "x0": (Vi(X[:, :1]), X[:, None, :1]),
    "s0": (Vj(S[:, :1]), S[None, :, :1]),
}
x, y, r, s = (VARIABLES[name][0] for name in "xyrs")
ARITHMETIC: dict[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
}


def same(lazy: LazyTensor, dense: Any, backends: tuple[str, ...] = ("reference", "llvm")) -> None:
    """Raise unless the formula has these values, and this type: summed over i, over j, on each by one backend."""
    both = lazy + 0 * Vi(np.zeros((M, 1))) + 0 * Vj(np.zeros((N, 1)))  # it depends on i and j, so that both are summed
    dense = np.broadcast_to(dense, (M, N, np.shape(dense)[-1]))
    for dim, backend in enumerate(backends):
        found = both.sum(dim=dim, backend=backend)
        assert found.dtype == (np.complex128 if np.iscomplexobj(dense) else np.float64)
        assert both.dtype == str(found.dtype)
        agree(found, dense.sum(dim), rtol=1e-10, atol=1e-10)


# ---------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize("symbol", ARITHMETIC)
@pytest.mark.parametrize(("a", "b"), [p for p in itertools.product(VARIABLES, repeat=2) if {*p} & {"x", "y", "x0"}])
def test_arithmetic_of_symbolic_tensors(a: str, b: str, symbol: str) -> None:
    """Real and complex, of one component and of several."""
    operation = ARITHMETIC[symbol]
    (left, dense_left), (right, dense_right) = VARIABLES[a], VARIABLES[b]
    same(operation(left, right), operation(dense_left + 0j, dense_right))


NUMBERS = [
    *(2, 2.5, True, 1j, -1j, 2j, 1 + 2j, 3 + 0j, 0j, np.complex64(1 + 2j), np.complex128(2 - 1j)),
    *(np.float64(2), np.float32(1.5), np.int64(3), np.array(2 + 1j), np.array(3.0)),
    *([1, 2, 3], [1, 2j, 3.0], random(D, seed=5), random(D, seed=5, dtype=float), np.array([1, 2, 3])),
    *(random(1, D, seed=6)[None], np.array([1 + 1j])),
]


@pytest.mark.parametrize("number", NUMBERS, ids=str)
@pytest.mark.parametrize("name", ["x", "s"])
def test_arithmetic_with_raw_numbers_and_arrays(name: str, number: Any) -> None:
    """Python's and NumPy's numbers, lists and arrays, on both sides."""
    lazy, dense = VARIABLES[name]
    value = np.asarray(number).astype(complex if np.iscomplexobj(number) else float)
    if not (np.iscomplexobj(value) or np.iscomplexobj(dense)):
        return
    for symbol, operation in ARITHMETIC.items():
        if value.size and not (symbol in ("/", "**") and not value.all()):
            same(operation(lazy, number), operation(dense, value), backends=("reference",))
        if value.all():
            same(operation(number, lazy), operation(value, dense), backends=("reference",))


def test_zero_and_one_leave_no_trace() -> None:
    z = x * y
    assert z + 0 is z
    assert 0 + z is z
    assert z * 1 is z
    assert z / 1 is z
    assert z**1 is z
    same(-z, -X[:, None] * Y[None])
    same(0 - z, -X[:, None] * Y[None])
    same(1 / z, 1 / (X[:, None] * Y[None]))


def test_a_unit_costs_no_product() -> None:
    """1j times a vector is a change of places and signs."""
    assert "*" not in (1j * x).explain().partition("--- simplified ---")[2].partition("---")[0]
    real = (r * 1j).explain().partition("--- simplified ---")[2].partition("---")[0]
    assert real.strip() == "interleave(0.0, x0_i[3])"


def test_a_real_factor_costs_two_products() -> None:
    for formula in (x * s, s * x, 2.0 * x * s, x / s):
        text = formula.explain().partition("--- simplified ---")[2].partition("--- target")[0]
        assert text.count("*") + text.count("/") <= 4, text


UNARY = ["exp", "log", "sqrt", "sin", "cos", "sinh", "cosh", "exp2", "log2", "log10", "conj", "square", "abs", "angle"]


@pytest.mark.parametrize("name", UNARY)
def test_functions(name: str) -> None:
    dense = X[:, None] - Y[None] * 0.5
    same(getattr(x - y * 0.5, name)(), getattr(np, name)(dense))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 7, -1, -2, -3, 0.5, -0.5, 1.5, -2.0, 2 + 1j, 1j])
def test_powers(exponent: complex) -> None:
    same((x - y) ** exponent, (X[:, None] - Y[None]) ** exponent)
    same((x - y).power(exponent), (X[:, None] - Y[None]) ** exponent)


def test_parts_and_ways_to_complex() -> None:
    dense = X[:, None] * Y[None]
    same((x * y).real, dense.real)
    same((x * y).imag, dense.imag)
    assert r.real is r
    assert r.conj() is r
    same((r * s).imag, np.zeros((M, N, D)))
    same((r * s).angle(), np.angle(R[:, None] * S[None]))
    same((r * s).real2complex(), R[:, None] * S[None] + 0j)
    same((r * s).imag2complex(), R[:, None] * S[None] * 1j)
    same((r * s).exp1j(), np.exp(1j * R[:, None] * S[None]))
    same(abs(x - y), abs(X[:, None] - Y[None]))
    for name in ("real2complex", "imag2complex", "exp1j"):
        with pytest.raises(DtypeError, match=rf"x\.{name}\(\): not defined for complex numbers"):
            getattr(x, name)()


def test_norms_are_those_of_the_moduli() -> None:
    z, dense = x - y, X[:, None] - Y[None]
    norm = np.linalg.norm(dense, axis=-1, keepdims=True)
    same(z.sqnorm2(), norm**2)
    same(z.norm2(), norm)
    same(z.norm(-1), norm)
    same(x.sqdist(y), norm**2)
    same(r.sqdist(y), (abs(R[:, None] - Y[None]) ** 2).sum(-1, keepdims=True))
    same(z.norm1(), abs(dense).sum(-1, keepdims=True))
    same(z.norminf(), abs(dense).max(-1, keepdims=True))
    same(z.normalize(), dense / norm)


def test_components() -> None:
    z, dense = x * y, X[:, None] * Y[None]
    same(z[..., 1], dense[..., 1:2])
    same(z[..., -1], dense[..., 2:])
    same(z[..., 1:], dense[..., 1:])
    same(z.elem(2), dense[..., 2:])
    same(z.extract(1, 2), dense[..., 1:])
    assert z[:] is z
    same(concatenate([x, s]), np.concatenate(np.broadcast_arrays(X[:, None], S[None]), -1))
    columns = S[None], np.full((1, 1, 1), 1j), X[:, None, :1]
    dense_columns = [np.broadcast_to(c, (M, N, c.shape[-1])) for c in columns]
    same(concatenate([s, 1j, x[..., 0]]), np.concatenate(dense_columns, -1))
    same(z.sum(-1), dense.sum(-1, keepdims=True))
    same(z.mean(-1), dense.mean(-1, keepdims=True))
    for call in (lambda: z[..., 3], lambda: z.elem(3), lambda: z.extract(2, 2), lambda: z[..., 3:5]):
        with pytest.raises(ShapeError, match=r"vector of length 3|has the size 3|at least one component"):
            call()


def test_choices_and_comparisons() -> None:
    low = R[:, None] < S[None]
    same(where(r < s, x, y), np.where(low, X[:, None], Y[None]))
    same(where(r[..., 0] < s[..., 0], x, s), np.where(low[..., :1], X[:, None], S[None]))
    same(where(r < s, x[..., 0], 2.0), np.where(low, X[:, None, :1], 2.0))
    same(where(r < s, 1j, y), np.where(low, 1j, Y[None]))
    same(where(r > s, r, s), np.where(R[:, None] > S[None], R[:, None], S[None]))
    a, b = np.array([[1 + 1j], [1 - 1j], [2.0], [0], [1j]]), np.array([[1 + 1j], [1], [1j], [0], [0], [2], [1]])
    same((Vi(a) == Vj(b)) * 1.0, (a[:, None] == b[None]) * 1.0)
    same((Vi(a) != Vj(b)) * 1.0, (a[:, None] != b[None]) * 1.0)
    same(where(Vi(a), y, s), np.where(a[:, None] != 0, Y[None], S[None]))  # a condition is true where it is not 0
    same((Vi(a) == 1) * 1.0, (a[:, None] == 1) * 1.0)
    assert (x == None) is False  # noqa: E711


def test_indices_in_complex_formulas() -> None:
    i, j = np.arange(M)[:, None, None], np.arange(N)[None, :, None]
    phase = (2j * np.pi / N * index_i(M) * index_j(N)).exp()
    same(phase * y, np.exp(2j * np.pi / N * i * j) * Y[None])
    same(x + index_j(N), X[:, None] + j)
    same(where(index_i(M) < index_j(N), x, 0), np.where(i < j, X[:, None], 0))


def test_tensor_products() -> None:
    """Issue 233: tensordot and its kin are those of complex numbers."""
    a, b = random(M, 6, seed=8), random(N, 3, seed=9)
    product = Vi(a).keops_tensordot(Vj(b), (2, 3), (3,), (1,), (0,))
    same(product, np.einsum("ikl,jl->ijk", a.reshape(M, 2, 3), b))
    same(Vi(a).matvecmult(Vj(b)), np.einsum("ikl,jl->ijk", a.reshape(M, 2, 3), b))
    same(Vj(b).vecmatmult(Vi(a)), np.einsum("ilk,jl->ijk", a.reshape(M, 3, 2), b))
    same(x.tensorprod(y), np.einsum("ik,jl->ijkl", X, Y).reshape(M, N, -1))
    same(x.tensorprod(s), np.einsum("ik,jl->ijkl", X, S).reshape(M, N, -1))
    same(x.kron(y, [D], [D]), np.einsum("ik,jl->ijkl", X, Y).reshape(M, N, -1))


# ---------------------------------------------------------------------- reductions


def test_reductions() -> None:
    z, dense = x * y, X[:, None] * Y[None]
    for dim in (0, 1):
        agree(z.sum(dim=dim), dense.sum(dim), rtol=1e-12)
        agree(z.mean(dim=dim), dense.mean(dim), rtol=1e-12)
        agree(z.var(dim=dim), dense.var(dim), rtol=1e-12)
        agree(z.std(dim=dim, ddof=1), dense.std(dim, ddof=1), rtol=1e-12)
        assert z.var(dim=dim).dtype == np.float64
    agree(z.sum_reduction(dim=1), dense.sum(1), rtol=1e-12)
    agree(z.reduction("Sum", dim=1), dense.sum(1), rtol=1e-12)


def test_truth_of_complex_numbers() -> None:
    a = np.array([[0, 1j], [0, 1]])
    z, dense = Vi(a) * Vj(np.array([[1, 0], [1j, 1], [0, 0]])), a[:, None] * np.array([[1, 0], [1j, 1], [0, 0]])[None]
    for dim in (0, 1):
        assert z.count_nonzero(dim=dim).tolist() == np.count_nonzero(dense, axis=dim).tolist()
        assert z.any(dim=dim).tolist() == dense.any(dim).tolist()
        assert z.all(dim=dim).tolist() == dense.all(dim).tolist()


def test_softmax_of_real_scores_and_complex_values() -> None:
    for scores, dense in ((r[..., 0] * s[..., 0], R[:, None, :1] * S[None, :, :1]), (r * s, R[:, None] * S[None])):
        weights = np.exp(dense)
        expected = (weights * Y[None]).sum(1) / weights.sum(1)
        agree(scores.sumsoftmaxweight(y, dim=1), expected, rtol=1e-12)
    with pytest.raises(DtypeError, match="complex numbers"):
        x[..., 0].sumsoftmaxweight(y, dim=1)


def test_output_array_and_deferred_calls() -> None:
    data = X.copy()
    later = (Vi(data) * y).sum(dim=1, call=False)
    out = np.empty((M, D), complex)
    assert later(out=out) is out
    agree(out, (X[:, None] * Y[None]).sum(1), rtol=1e-12)
    data *= 2j
    agree(later(), (2j * X[:, None] * Y[None]).sum(1), rtol=1e-12)
    with pytest.raises(DtypeError, match="type of the result"):
        later(out=np.empty((M, D)))
    assert pickle.loads(pickle.dumps(later))().dtype == np.complex128


def test_nothing_to_reduce() -> None:
    nothing = np.zeros((0, D), complex)
    agree((x * Vj(nothing)).sum(dim=1), np.zeros((M, D), complex))
    assert (x * Vj(nothing)).sum(dim=0).shape == (0, D)


# ---------------------------------------------------------------------- matrices


def test_matrix_products() -> None:
    K, dense = (x * y).sum(-1), (X[:, None] * Y[None]).sum(-1)
    real, dense_real = (r * s).sum(-1), (R[:, None] * S[None]).sum(-1)
    v, V = random(N, seed=10), random(N, 2, seed=11)
    w, W = random(M, seed=12), random(2, M, seed=13)
    for k, d in ((K, dense), (real, dense_real)):
        agree(k @ v, d @ v, rtol=1e-12)
        agree(k @ V, d @ V, rtol=1e-12)
        agree(w @ k, w @ d, rtol=1e-12)
        agree(W @ k, W @ d, rtol=1e-12)
        agree(k.T @ w, d.T @ w, rtol=1e-12)
        agree(k.H @ w, d.conj().T @ w, rtol=1e-12)
    agree(K @ v.real, dense @ v.real, rtol=1e-12)
    agree(K @ v[::-1], dense @ v[::-1], rtol=1e-12)
    with pytest.raises(ShapeError, match="vectors of 3"):
        _ = (x * y) @ v


def test_scipy_takes_a_complex_operator() -> None:
    linalg = pytest.importorskip("scipy.sparse.linalg")
    points = random(30, 2, seed=14, dtype=float)
    dense = np.exp(1j * (points[:, None] - points[None]).sum(-1) - ((points[:, None] - points[None]) ** 2).sum(-1))
    u, v = Vi(points), Vj(points)
    K = (1j * (u - v).sum(-1) - (u - v).sqnorm2()).exp()
    operator_ = linalg.aslinearoperator(K)
    assert operator_.dtype == np.complex128
    w = random(30, seed=15)
    agree(operator_.matvec(w), dense @ w, rtol=1e-11)
    agree(operator_.rmatvec(w), dense.conj().T @ w, rtol=1e-11)
    agree(operator_.matvec(w.real), dense @ w.real, rtol=1e-11)
    largest = linalg.eigsh(operator_, k=3, return_eigenvectors=False, v0=w)
    agree(np.sort(largest), np.linalg.eigvalsh(dense)[-3:], rtol=1e-8)
    general = linalg.eigs(linalg.aslinearoperator(K * (2 + 1j)), k=2, return_eigenvectors=False, v0=w)
    agree(np.sort(abs(general)), np.sort(abs(np.linalg.eigvals(dense * (2 + 1j))))[-2:], rtol=1e-8)
    single = linalg.aslinearoperator(
        LazyTensor(points.astype("f4")[:, None]).sum(-1) * 1j * Vj(points.astype("f4"))[..., 0]
    )
    assert single.dtype == np.complex64
    assert single.matvec(w.astype("c8")).dtype == np.complex64
    # a real operator on complex vectors
    agree(linalg.aslinearoperator((-(u - v).sqnorm2()).exp()).matvec(w), abs(dense) @ w, rtol=1e-11)


# ---------------------------------------------------------------------- data


def layouts() -> dict[str, np.ndarray]:
    room = np.zeros((M, D), [("tag", np.int16), ("value", complex)])
    room["value"] = X
    wide = np.zeros((2 * M, 2 * D), complex)
    wide[::2, ::2] = X
    return {
        "plain": X,
        "fortran": np.asfortranarray(X),
        "reversed rows": X[::-1].copy()[::-1],
        "reversed": X[:, ::-1].copy()[:, ::-1],
        "sliced": wide[::2, ::2],
        "record": room["value"],
        "big-endian": X.astype(">c16"),
        "conjugate of conjugate": X.conj().conj(),
        "read-only": np.frombuffer(X.tobytes(), complex).reshape(M, D),
        "matrix": np.asarray(X).view(np.ndarray),
    }


@pytest.mark.parametrize("layout", layouts())
def test_layouts(layout: str) -> None:
    data = layouts()[layout]
    same(Vi(data) * y, X[:, None] * Y[None])
    same(LazyTensor(data[:, None]) * y, X[:, None] * Y[None])
    same(Vi(data[:, 1:2]) * y, X[:, None, 1:2] * Y[None])


def test_memory_is_shared_where_the_numbers_follow_each_other() -> None:
    for data in (X, X[::2], X[:, 1:], X[:, 1:2], X[::-1], X[:, None]):
        lazy = LazyTensor(data) if data.ndim == 3 else Vi(data)
        assert np.shares_memory(lazy.variables[0], data)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_precision_is_that_of_the_parts(dtype: str) -> None:
    real = {"complex64": np.float32, "complex128": np.float64}[dtype]
    a, b = X.astype(dtype), S.astype(real)
    result = (Vi(a) * Vj(b) * (1 + 2j) + np.complex64(1)).sum(dim=1)
    assert result.dtype == dtype
    tolerance = 1e-5 if dtype == "complex64" else 1e-12
    agree(result, (X[:, None] * S[None] * (1 + 2j) + 1).sum(1), rtol=tolerance, atol=tolerance)
    assert (Vi(a) * Vj(b)).abs().sum(dim=1).dtype == real
    other = np.complex128 if dtype == "complex64" else np.complex64
    with pytest.raises(DtypeError, match="number types differ"):
        _ = Vi(a) * Vj(Y.astype(other))
    with pytest.raises(DtypeError, match="number types differ"):
        _ = Vi(a) * Vj(S.astype("f8" if dtype == "complex64" else "f4"))


def test_batches() -> None:
    """Broadcasting of batch axes and of components at once, real and complex."""
    a, b, c = random(2, 1, M, 1, D, seed=20), random(3, 1, N, 1, seed=21, dtype=float), random(2, 1, 1, 1, D, seed=22)
    dense = (a - b * 1j) * c
    lazy = (LazyTensor(a) - LazyTensor(b) * 1j) * LazyTensor(c)
    assert lazy.shape == dense.shape == (2, 3, M, N, D)
    agree(lazy.sum(dim=3), dense.sum(3), rtol=1e-12)
    agree(lazy.sum(dim=2), dense.sum(2), rtol=1e-12)
    agree((lazy.exp() / (lazy + 5)).sum(dim=3), (np.exp(dense) / (dense + 5)).sum(3), rtol=1e-11)


def test_what_is_not_a_complex_variable() -> None:
    with pytest.raises(DtypeError, match=r"clongdouble|complex256"):
        Vi(X.astype(np.clongdouble))
    with pytest.raises(ShapeError, match="i-variable"):
        LazyTensor(np.zeros((2, 2, 2), complex))
    with pytest.raises(ShapeError, match="which one"):
        LazyTensor(X)
    with pytest.raises(ShapeError, match="parameters"):
        LazyTensor(1j, axis=0)
    with pytest.raises(ShapeError, match="different lengths, 3 and 4"):
        _ = x + np.ones(4, complex)
    with pytest.raises(DtypeError, match="pairs"):
        Vi(0, 2).sum(dim=0)(X[:, :1])


# ---------------------------------------------------------------------- the object


def test_attributes() -> None:
    z = x * y
    assert (z.shape, z._shape, z.ndim, z.dtype, z.is_complex) == ((M, N, D), (M, N, 2 * D), 3, "complex128", True)
    assert z.sum(-1).shape == (M, N)
    assert (z.abs().dtype, z.abs().is_complex, r.is_complex) == ("float64", False, False)
    assert (x.axis, y.axis, Pm(1 + 2j).axis, z.axis) == (0, 1, 2, None)
    assert (1j * Pm(2.0)).dtype is None
    assert Pm([1j, 2]).shape == (1, 1, 2)
    assert isinstance(z, ComplexLazyTensor)
    assert isinstance(z, LazyTensor)
    assert not isinstance(r, ComplexLazyTensor)
    assert not isinstance(1j, ComplexLazyTensor)
    assert isinstance(ComplexLazyTensor(R[:, None]), ComplexLazyTensor)
    same(ComplexLazyTensor(X, axis=0) * y, X[:, None] * Y[None])
    assert "shape: (5, 7, 3)" in str(z)
    assert "complex128" in repr(z)


def test_only_numbers() -> None:
    result = (Pm([1j, 2, 3.5]) * 2j).sum(dim=1)
    agree(result, np.array([[-2, 4j, 7j]]))
    agree((Pm(2 + 3j) + Pm([2 + 3j, 7 + 3j, 4 + 1j])).sum(dim=1), np.array([[4 + 6j, 9 + 6j, 6 + 4j]]))


def test_copies_and_pickles() -> None:
    z = (x - y).exp() * 1j
    for other in (copy.copy(z), copy.deepcopy(z), pickle.loads(pickle.dumps(z))):
        assert other.is_complex
        agree(other.sum(dim=1), z.sum(dim=1), rtol=0, atol=0)
    same(z.T.T, np.exp(X[:, None] - Y[None]) * 1j)


# ---------------------------------------------------------------------- refusals

REFUSED: dict[str, Callable[[Any], Any]] = {
    "x < y": lambda z: z < y,
    "x <= y": lambda z: r <= z,
    "x > y": lambda z: z > 1,
    "x >= y": lambda z: z >= 1j,
    "x | y": lambda z: z | y,
    "x.minimum(y)": lambda z: minimum(z, r),
    "x.maximum(y)": lambda z: maximum(r, z),
    "x.min(-1)": lambda z: z.min(-1),
    "x.argmax(-1)": lambda z: z.argmax(-1),
    "x.clamp(": lambda z: z.clamp(0, 1),
    "x.relu()": lambda z: z.relu(),
    "x.sign()": lambda z: z.sign(),
    "x.floor()": lambda z: z.floor(),
    "x.round(": lambda z: z.round(2),
    "x.mod(": lambda z: z % 2,
    "x.floordiv(": lambda z: z // 2,
    "x.one_hot(": lambda z: z[..., 0].one_hot(3),
    "x.bspline(": lambda z: z.bspline(r[..., 0], 0),
    "x.weightedsqnorm(": lambda z: z.weightedsqnorm(r),
    "x.tan()": lambda z: z.tan(),
    "x.softplus()": lambda z: z.softplus(),
    "x.xlogx()": lambda z: z.xlogx(),
    "x.atan2(": lambda z: r.atan2(z),
    "x.logical_and(": lambda z: z.logical_and(r),
    "x.prod()": lambda z: z.prod(dim=1),
    "x.min(": lambda z: z.min(dim=1),
    "x.argmin()": lambda z: z.argmin(dim=1),
    "x.max_argmax()": lambda z: z.max_argmax(dim=1),
    "x.Kmin()": lambda z: z.Kmin(2, dim=1),
    "x.argKmin()": lambda z: z.argKmin(2, dim=1),
    "x.logsumexp()": lambda z: z.logsumexp(dim=1),
    "x.logsumexp(weight=y)": lambda z: r.logsumexp(dim=1, weight=z),
    "x.sumsoftmaxweight(weight=y)": lambda z: z.sumsoftmaxweight(r, dim=1),
    "x.grad(v, e)": lambda z: z.grad(x, 1),
}


@pytest.mark.parametrize("call", REFUSED)
def test_what_has_no_meaning_is_refused(call: str) -> None:
    """A DtypeError, which is a TypeError, too; the call, the facts and what to write instead."""
    with pytest.raises(DtypeError) as error:
        REFUSED[call](x * y)
    text = str(error.value)
    assert text.startswith(call), text
    assert "complex" in text.splitlines()[0]
    assert "complex128" in text
    assert "Hint: " in text


def test_every_other_method_is_refused_or_right() -> None:
    """No row of the table acts on pairs as if they were vectors of real numbers."""
    from pairfuse.frontend.methods import public_rows
    from pairfuse.frontend.pairs import GIVES_PAIRS, GIVES_REALS

    known = {*GIVES_PAIRS, *GIVES_REALS, "where"}
    z = x * y
    for op in public_rows():
        if op.name in known or op.params:
            continue
        others = [r] * (op.arity - 1)
        with pytest.raises(DtypeError, match="complex"):
            getattr(z, op.name)(*others)


def test_python_does_not_take_it_for_a_number() -> None:
    for function in (complex, float, bool, len, list):
        with pytest.raises(PairfuseError):
            function(x)


def test_explain_of_refused_reductions() -> None:
    assert "complex_mult" in (x * y).explain()
    with pytest.raises(DtypeError, match="complex numbers"):
        (x * y).explain("min")
    with pytest.raises(FormulaError):
        (x * y).explain("no such reduction")


# ---------------------------------------------------------------------- special points


def at(function: Callable[[LazyTensor], LazyTensor], *points: complex) -> np.ndarray:
    """The function at these points."""
    return function(Vi(np.array(points)[:, None])).sum(dim=1)[:, 0]


# float32 does not hold their squares; but their inverses and halves, which kernels would make 0 (llvm/underflow.py)
HUGE, TINY = 1e37, 1e-37


def test_division_does_not_overflow_on_the_way() -> None:
    a = np.array([[HUGE + HUGE * 1j], [TINY + TINY * 1j], [1e20], [1e20j], [1e-30 + 1e-20j]], np.complex64)
    found = (Vi(a) / Vj(a)).sum(dim=1, backend="llvm")
    expected = a.astype(complex)[:, None] / a.astype(complex)[None]
    sums = expected.sum(1)
    good = abs(sums) < 3e38
    agree(found[good], sums[good].astype(np.complex64), rtol=1e-6, atol=0)
    ratio = Vi(a) / (Vi(a) * 0.5)
    agree(ratio.sum(dim=1), np.full((5, 1), 2, np.complex64), rtol=1e-6)
    inverse = at(lambda z: 1 / z, 3e200 + 3e200j, 1e-200j, 1e300)
    agree(inverse, 1 / np.array([3e200 + 3e200j, 1e-200j, 1e300]), rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", ["sqrt", "log", "exp", "abs", "angle"])
def test_functions_at_special_points(name: str) -> None:
    """The branch cuts of NumPy, with the sign of a zero; numbers whose squares overflow."""
    points = [0, 1, -1, 1j, -1j, -4 + 0j, complex(-4, -0.0), 4 + 0j, complex(4, -0.0), complex(-0.0, 3)]
    if name in ("sqrt", "log"):
        # a subnormal number, and for the root, which halves it on the way, one whose half is a normal number
        points += [1e300 + 1e300j, 1e-300 - 1e-300j, -1e300 + 1j, 3e-320 if name == "log" else 3e-305]
    expected = getattr(np, name)(np.array(points[1:] if name == "log" else points))
    agree(at(lambda z: getattr(z, name)(), *(points[1:] if name == "log" else points)), expected, rtol=1e-13, atol=0)


def test_logarithm_of_zero_and_infinite_numbers() -> None:
    assert at(lambda z: z.log().real, 0)[0] == -np.inf
    agree(at(lambda z: z.sqrt(), complex(np.inf, 1), complex(-np.inf, 1)), [np.inf + 0j, complex(0, np.inf)])
    agree(at(lambda z: z.exp(), complex(np.inf, 0), complex(-np.inf, 0)), [np.inf + 0j, 0j])
    agree(at(lambda z: z.exp(), 800 + 0j), [np.inf + 0j])
    agree(at(lambda z: 1 / z, complex(np.inf, 1), complex(1, -np.inf)), [0, 0])


def test_powers_of_zero() -> None:
    zero = Vi(np.zeros((1, 1), complex))
    for exponent, expected in ((0, 1), (2, 0), (0.0, 1), (0.5, 0), (1.5, 0), (2 + 1j, 0), (0j, 1)):
        assert (zero**exponent).sum(dim=1)[0, 0] == expected, exponent
    assert np.isnan((zero**1j).sum(dim=1)[0, 0])


def test_real_factors_make_no_nan_of_infinities() -> None:
    """A real number times a complex one is two products, as in C99."""
    big = Vi(np.array([[np.inf]]))
    agree((big * Vi(np.array([[1 + 1j]]))).sum(dim=1), np.array([[complex(np.inf, np.inf)]]))
    agree((big + Vi(np.array([[1 + 1j]]))).sum(dim=1), np.array([[complex(np.inf, 1)]]))
