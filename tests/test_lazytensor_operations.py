"""Operations on LazyTensors of NumPy arrays, against the same done densely."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dense import close, points

from pairfuse.errors import DtypeError, FormulaError, KeywordError
from pairfuse.frontend.methods import public_rows
from pairfuse.ir.expr import Op, evaluate, input_
from pairfuse.ir.expr import call as call_row
from pairfuse.numpy import Genred, LazyTensor, Vi, Vj, concatenate, index_i, index_j, maximum, minimum, where
from pairfuse.transform.expand import expand

OF_REAL_NUMBERS = [op for op in public_rows() if op.operands != "index"]


@pytest.mark.parametrize("row", OF_REAL_NUMBERS, ids=lambda op: op.name)
def test_every_row_is_a_method(row: Op) -> None:
    """The method of each row, on an i-variable, a j-variable and a parameter, against the definition of the row."""
    for dims, params in row.samples:
        rng = np.random.default_rng(3)
        letters = "ijp"[: len(dims)]
        data = [
            rng.uniform(low, high, size=(1 if axis == "p" else 4, dim))
            for (low, high), axis, dim in zip(row.domain, letters, dims, strict=True)
        ]
        operands = [LazyTensor(v, axis="ijp".index(a)) for v, a in zip(data, letters, strict=True)]
        formula = getattr(LazyTensor, row.name)(*operands, **params)
        leaves = [input_(k, a, v.shape[-1]) for k, (a, v) in enumerate(zip(letters, data, strict=True))]
        placed = [v[:, None, :] if a == "i" else v[None, :, :] for v, a in zip(data, letters, strict=True)]
        roots = expand([call_row(row.name, *leaves, **params)])
        (dense,) = evaluate(roots, dict(zip(leaves, placed, strict=True)))
        dense = np.asarray(dense) * 1.0
        columns = dense.shape[1]
        assert dense.shape[-1] == formula.D
        close(formula.sum(dim=1), np.broadcast_to(dense, (4, columns, dense.shape[-1])).sum(1))


def test_bits_of_integers() -> None:
    """Row and column numbers, of both signs, and whole numbers."""
    ones = np.vectorize(lambda v: int(v).bit_count())
    m, n = 23, 31
    i, j = np.arange(m)[:, None] * 37 - 200, np.arange(n)[None, :] ** 2
    x, y = index_i(m) * 37 - 200, index_j(n) ** 2
    cases: list[tuple[LazyTensor, Any]] = [
        (x.bitwise_and(y), i & j), (x.bitwise_or(y), i | j), (x.bitwise_xor(y), i ^ j), (y.bitwise_xor(x), i ^ j),
        (x.bitwise_and(12), i & 12 + 0 * j), (x.bitwise_xor(x > y), i ^ (i > j)), (y.bitwise_or(-1), -1 + 0 * i * j),
        (y.bitwise_count(), ones(j) + 0 * i),
        (x.bitwise_xor(y).bitwise_count(), ones(i ^ j)),
    ]  # fmt: skip
    for formula, dense in cases:
        close((formula + 0 * x + 0 * y).sum(dim=1), (dense * 1.0).sum(1, keepdims=True))
        close((formula + 0 * x + 0 * y).max(dim=0), (dense * 1.0).max(0)[:, None])


@pytest.mark.parametrize("backend", ["reference", "llvm"])
def test_bits_beyond_32(backend: str) -> None:
    """Each of the arguments fits in 32 bits, what is made of them does not; and the other way round."""
    i, j = index_i(3), index_j(4)
    dense_i, dense_j = np.arange(3)[:, None], np.arange(4)[None, :]
    for formula, dense in [
        (i.bitwise_or(2**31 - 1) + j, (dense_i | 2**31 - 1) + dense_j),
        ((i * 2**30).bitwise_xor(j * 2**30 + 1), (dense_i * 2**30) ^ (dense_j * 2**30 + 1)),
        ((i + 2**40).bitwise_and(2**40).bitwise_count() + j, 1 + 0 * dense_i + dense_j),
    ]:
        close(formula.max(dim=1, backend=backend), (dense * 1.0).max(1, keepdims=True))


def test_bits_of_real_numbers_are_refused() -> None:
    x = Vi(points(5, 1))
    for call in (lambda: x.bitwise_count(), lambda: x.bitwise_xor(index_j(3)), lambda: index_j(3).bitwise_or(0.5)):
        with pytest.raises(
            DtypeError, match=r"x\.bitwise_\w+\(y?\): the bits of real numbers have no meaning(.|\n)*Hint: integer"
        ):
            call()
    with pytest.raises(FormulaError, match="bits of real numbers"):
        Genred("bitwise_xor(x, 3)", ["x = Vi(1)"], axis=1)(points(5, 1))


def test_clamp_with_one_bound() -> None:
    x, y = points(5, 1, 3), points(1, 7, 3)
    k, d = LazyTensor(x) - LazyTensor(y), x - y
    bound = LazyTensor(y)
    for got, dense in [
        (k.clamp(min=0.5), np.clip(d, 0.5, None)), (k.clamp(max=0.5), np.clip(d, None, 0.5)),
        (k.clamp(0.5), np.clip(d, 0.5, None)), (k.clamp(None, 0.5), np.clip(d, None, 0.5)),
        (k.clamp(min=-1, max=bound), np.where(d < -1, -1, np.where(d > y, y, d))),
        (k.clip(-0.5, 0.5), np.clip(d, -0.5, 0.5)), (k.clip(max=y), np.clip(d, None, y)),
        (k.clip(min=np.array([0.0, 0.5, 1.0])), np.clip(d, [0.0, 0.5, 1.0], None)),
        (k.clamp_min(0.1), np.maximum(d, 0.1)), (k.clamp_max(0.1), np.minimum(d, 0.1)),
    ]:  # fmt: skip
        close(got.sum(dim=1), dense.sum(1))
    assert (index_i(5).clamp(max=2) - 2).formula.count("to_real") == 0  # integers stay exact
    with pytest.raises(KeywordError, match=r"x\.clamp\(\): without a bound(.|\n)*Hint: x\.clamp\(min=0\)"):
        k.clamp()


def test_operators() -> None:
    x, y = np.abs(points(5, 1, 3)) + 0.1, np.abs(points(1, 7, 3)) + 0.1
    a, b = LazyTensor(x), LazyTensor(y)
    cases: list[tuple[Any, Any]] = [
        (abs(a - b), abs(x - y)), (-a, -x * np.ones_like(y)), (a**2, x**2 + 0 * y), (a**3, x**3 + 0 * y),
        (a**-2, x**-2.0 + 0 * y), (a**0, np.ones_like(x * y)), (a**0.5, np.sqrt(x) + 0 * y),
        (a**-0.5, 1 / np.sqrt(x) + 0 * y), (a**1.7, x**1.7 + 0 * y), (a**b, x**y), (2**a, 2**x + 0 * y),
        (a.power(b), x**y), (1.5**a, 1.5**x + 0 * y), (a // b, x // y), (a % b, x % y), (5 % a, 5 % x + 0 * y),
        (a | b, (x * y).sum(-1, keepdims=True)), (y | a, (x * y).sum(-1, keepdims=True)),
        (a < b, x < y), (a <= b, x <= y), (a > b, x > y), (a >= b, x >= y), (a == a, x == x + 0 * y),
        (a != b, x != y), (y < a, y < x), (~(a < b), x >= y), (a**np.float64(2), x**2 + 0 * y),
        (a**np.int64(2), x**2 + 0 * y), (a ** np.array([0.5, 1.0, 2.0]), x ** np.array([0.5, 1.0, 2.0]) + 0 * y),
    ]  # fmt: skip
    for formula, dense in cases:
        grid = np.broadcast_to(dense, (5, 7, dense.shape[-1])) * 1.0
        close((formula + 0 * b[..., 0] if formula.nj is None else formula).sum(dim=1), grid.sum(1))


def test_float64_means_float64() -> None:
    """Constants, quotients and powers are right to 2 ulp, as formulas and in text; KeOps computes them in float32."""
    x, y = np.abs(points(200, 1)) + 0.1, np.array([[0.7]])
    a, b = Vi(x), Vj(y)
    cases: list[tuple[LazyTensor, Any]] = [
        (a / 3, x / 3), (a / 7 + b * 0, x / 7), (0.1 * a, 0.1 * x), (a / np.pi, x / np.pi), (a**1.5, x**1.5),
        (a**-0.3, x**-0.3), (a**b, x**0.7), (a**3, x * x * x), (a + 1 / 3, x + 1 / 3), (1e-20 * a, 1e-20 * x),
    ]  # fmt: skip
    for formula, dense in cases:
        np.testing.assert_array_max_ulp((formula + 0 * b).sum(dim=1), dense, 2)
    texts = {
        "x / 3": x / 3, "IntInv(3) * x": x / 3, "RatCst(2, 7) * x": 2 / 7 * x, "x * 0.1": 0.1 * x,
        "Powf(x, y)": x**0.7, "x ** 1.5": x**1.5, "Pow(x, 3)": x * x * x,
    }  # fmt: skip
    for text, dense in texts.items():
        got = Genred(f"({text}) + 0 * y", ["x = Vi(1)", "y = Vj(1)"], axis=1)(x, y)
        np.testing.assert_array_max_ulp(got, dense, 2)


def test_comparison_with_none_is_no_formula() -> None:
    x: Any = Vi(points(5, 3))
    assert (x == None) is False  # noqa: E711
    assert (x != None) is True  # noqa: E711


def test_negative_base_of_a_power() -> None:
    x = points(5, 1, 1)
    for exponent in (2, 2.0, np.float32(2), 3.0):
        close((LazyTensor(x) ** exponent).sum(dim=1), x[:, 0] ** float(exponent))


def test_components() -> None:
    x, y = points(5, 1, 4), points(1, 7, 4)
    k, d = LazyTensor(x) - LazyTensor(y), x - y
    for key, dense in [
        ((Ellipsis, -1), d[..., 3:]), ((Ellipsis, slice(-2, None)), d[..., 2:]), ((Ellipsis, 0), d[..., :1]),
        ((Ellipsis, slice(1, 4)), d[..., 1:]), (slice(1, 3), d[1:3]),
        ((slice(None), slice(None), 2), d[..., 2:3]), (Ellipsis, d), (slice(None), d),
    ]:  # fmt: skip
        close(k[key].sum(dim=1), dense.sum(1))
    close(k.elem(2).sum(dim=1), d[..., 2:3].sum(1))
    close(k.extract(1, 2).sum(dim=1), d[..., 1:3].sum(1))
    close(k.sum(-1).sum(dim=1), d.sum(-1, keepdims=True).sum(1))
    close(k.sum(dim=2).sum(dim=1), d.sum(-1, keepdims=True).sum(1))
    close(k.mean(-1).sum(dim=1), d.mean(-1, keepdims=True).sum(1))
    close(k.min(-1).sum(dim=1), d.min(-1, keepdims=True).sum(1))
    close(k.max(-1).sum(dim=1), d.max(-1, keepdims=True).sum(1))
    close(k.argmin(-1).sum(dim=1), d.argmin(-1)[..., None].sum(1) * 1.0)
    close(k.argmax(dim=2).sum(dim=1), d.argmax(-1)[..., None].sum(1) * 1.0)
    joined = np.concatenate([d, x + 0 * y, np.ones((5, 7, 1))], axis=-1)
    close(concatenate([k, LazyTensor(x), 1]).sum(dim=1), joined.sum(1))
    close(LazyTensor.concatenate((k, x, [1.0]), axis=-1).sum(dim=1), joined.sum(1))
    close(LazyTensor.cat((k, x, 1), dim=2).sum(dim=1), joined.sum(1))
    close(k.concat(LazyTensor(x)).concat(LazyTensor(1)).sum(dim=1), joined.sum(1))


def test_methods_with_arguments_of_their_own() -> None:
    x, y = points(5, 1, 4), points(1, 7, 4)
    a, b = LazyTensor(x), LazyTensor(y)
    d = x - y
    s, m = np.array([1.0, 2.0, 3.0, 4.0]), points(4, 4)
    m = m + m.T
    quadratic = np.einsum("ijk,kl,ijl->ij", d, m, d)[..., None]
    for got, dense in [
        ((a - b).norm(-1), np.sqrt((d**2).sum(-1, keepdims=True))),
        ((a - b).norm(2), np.sqrt((d**2).sum(-1, keepdims=True))),
        ((a - b).weightedsqnorm(2.5), 2.5 * (d**2).sum(-1, keepdims=True)),
        (a.weightedsqdist(b, s), (s * d**2).sum(-1, keepdims=True)),
        (a.weightedsqdist(y, m.reshape(-1)), quadratic),
        ((a - b).round(1), np.sign(d) * np.floor(np.abs(d) * 10 + 0.5) / 10),
        ((a - b).mod(0.7), d - 0.7 * np.floor(d / 0.7)),
        ((a - b).mod(0.7, 0.2), d - 0.7 * np.floor((d - 0.2) / 0.7)),
        ((a - b).clamp(-1, 1), np.clip(d, -1, 1)),
        ((a - b).clamp(-0.5, b), np.where(d < -0.5, -0.5, np.where(d > y, y, d))),
        ((a - b).ifelse(a, 2), np.where(d >= 0, x, 2)),
        (where(a < b, a, 0.5), np.where(x < y, x, 0.5)),
        (minimum(a, b), np.minimum(x, y)),
        (maximum(0.1, a - b), np.maximum(0.1, d)),
        ((a < b).logical_and(a > 0), (x < y) & (x > 0)),
        ((a[..., 0] * 2).one_hot(3), np.eye(3)[np.clip(np.trunc(2 * x[..., 0] + 0.5), 0, 2).astype(int)]
         * ((2 * x[..., :1] > -0.5) & (2 * x[..., :1] < 2.5)) + 0 * y[..., :1]),
        (a.keops_tensordot(b, (2, 2), (2, 2), (1,), (0,)), np.einsum("iab,jbc->ijac", x.reshape(5, 2, 2),
         y.reshape(7, 2, 2)).reshape(5, 7, 4)),
        (a.keops_kron(b, (2, 2), (2, 2)), np.stack([[np.kron(p.reshape(2, 2), q.reshape(2, 2)).ravel()
         for q in y[0]] for p in x[:, 0]])),
    ]:  # fmt: skip
        grid = np.broadcast_to(dense, (5, 7, dense.shape[-1])) * 1.0
        close(got.sum(dim=0), (grid if got.nj else grid[:, :1]).sum(0))


def test_bspline_is_a_partition_of_unity() -> None:
    knots = np.linspace(-1, 2, 9)
    x = np.linspace(0.2, 0.8, 5)
    values = LazyTensor(knots).bspline(Vi(x[:, None]), 2).sum(dim=1)
    assert values.shape == (5, 6)
    close(values.sum(-1), np.ones(5))


def test_row_and_column_numbers() -> None:
    x, y = points(5, 1, 1), points(1, 7, 1)
    k = LazyTensor(x) * LazyTensor(y)
    i, j = np.arange(5)[:, None, None], np.arange(7)[None, :, None]
    close(where(index_i() >= index_j(), k, 0).sum(dim=1), np.where(i >= j, x * y, 0).sum(1))
    close((k * (index_j() + 1) / (index_i() + 1)).sum(dim=0), (x * y * (j + 1) / (i + 1)).sum(0))
    close((index_i(5) - index_j(7)).sum(dim=1), np.sum(i - j, axis=1) * 1.0)
    close((LazyTensor(x) * (index_j(7) < 3)).sum(dim=1), (x * (j < 3)).sum(1))


def test_the_same_array_is_one_input() -> None:
    x = points(5, 3)
    k = Vi(x) + Vi(x).exp()
    assert len(k._bindings) == 1
    assert len((Vi(x) - Vj(x))._bindings) == 2
    s = LazyTensor(2.5)
    assert len((Vi(x) * s + s)._bindings) == 2
    assert len((Vi(x) * 2.5 + 2.5)._bindings) == 3  # equal numbers need not stay equal
