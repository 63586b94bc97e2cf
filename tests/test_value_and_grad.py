"""`K.value_and_grad(...)`: values and derivatives without a tape, against those of dense torch; shapes, mistakes."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch

import pairfuse.numpy
import pairfuse.torch
from pairfuse.config import config
from pairfuse.errors import DtypeError, FormulaError, KeywordError, PairfuseError, ShapeError, UnsupportedError
from pairfuse.frontend.derivatives import host_gradients
from pairfuse.numpy import LazyTensor, Pm, Vi, Vj

ARRAYS = ("x", "y", "b", "s", "p")


def data(batch: tuple[int, ...] = (), length: int = 1, m: int = 6, n: int = 7, seed: int = 0) -> dict[str, np.ndarray]:
    """x (*batch, M, 3), y (N, 3), b (N, E), a single number s, p (*batch, 3)."""
    rng = np.random.default_rng(seed)
    return {
        "x": rng.normal(size=(*batch, m, 3)),
        "y": rng.normal(size=(n, 3)),
        "b": rng.normal(size=(n, length)),
        "s": np.array(0.7),
        "p": rng.normal(size=(*batch, 3)),
    }


def formula(lazy: Any, x: Any, y: Any, b: Any, s: Any, p: Any) -> Any:
    z = (lazy(x[..., :, None, :]) - lazy(y[None, :, :])) * lazy(p[..., None, None, :])
    return (-z.sqnorm2() / lazy(s)).exp() * lazy(b[None, :, :])


def dense(x: Any, y: Any, b: Any, s: Any, p: Any) -> Any:
    z = (x[..., :, None, :] - y[None, :, :]) * p[..., None, None, :]
    return (-(z**2).sum(-1, keepdim=True) / s).exp() * b


def reduced(f: torch.Tensor, name: str, axes: tuple[int, ...]) -> torch.Tensor:
    """The reduction of a dense tensor (*batch, M, N, E) over i (0) and j (1)."""
    if len(axes) == 2:
        return f.sum((-3, -2)) if name == "sum" else f.mean((-3, -2))
    axis = axes[0] - 3
    if name.startswith("K"):
        best = torch.sort(f, axis, descending=name == "Kmax").values.narrow(axis, 0, 3).movedim(axis, -2)
        return best[..., 0] if f.shape[-1] == 1 else best
    return getattr(f, {"min": "amin", "max": "amax"}.get(name, name))(axis)


CASES = [
    *(
        (name, (axis,))
        for name in ("sum", "mean", "prod", "logsumexp", "min", "max", "Kmin", "Kmax")
        for axis in (0, 1)
    ),
    ("sum", (0, 1)),
    ("mean", (0, 1)),
]


@pytest.mark.parametrize("length", [1, 2, 6])
@pytest.mark.parametrize("batch", [(), (2,)], ids=str)
@pytest.mark.parametrize(("name", "axes"), CASES, ids=str)
def test_values_and_gradients_agree_with_dense_torch(
    name: str, axes: tuple[int, ...], batch: tuple[int, ...], length: int
) -> None:
    """All inputs at once and one at a time; NumPy arrays, and torch tensors."""
    d = data(batch, length)
    followed = {k: torch.tensor(v, requires_grad=True) for k, v in d.items()}
    value = reduced(dense(**followed), name, axes)
    g = np.random.default_rng(1).normal(size=tuple(value.shape))
    expected = torch.autograd.grad(value, list(followed.values()), torch.tensor(g))
    places = tuple(a + len(batch) for a in axes)
    options: dict[str, Any] = {"dim": places if len(axes) > 1 else places[0], **({"K": 3} if "K" in name else {})}
    tensors = {k: torch.tensor(v) for k, v in d.items()}
    for lazy, given, cotangent in (
        (LazyTensor, d, g),
        (pairfuse.torch.LazyTensor, tensors, torch.tensor(g)),
    ):
        found, grads = formula(lazy, **given).value_and_grad(
            name, wrt=list(given.values()), cotangent=cotangent, **options
        )
        np.testing.assert_allclose(np.asarray(found), value.detach().numpy(), rtol=1e-10, atol=1e-12)
        for a, e, k in zip(grads, expected, ARRAYS, strict=True):
            assert a.shape == d[k].shape
            np.testing.assert_allclose(np.asarray(a), e.numpy(), rtol=1e-9, atol=1e-11, err_msg=k)
    for k, e in zip(ARRAYS, expected, strict=True):
        _, alone = formula(LazyTensor, **d).value_and_grad(name, wrt=d[k], cotangent=g, **options)
        np.testing.assert_allclose(alone, e.numpy(), rtol=1e-9, atol=1e-11, err_msg=k)


def test_weights() -> None:
    """logsumexp and sumsoftmaxweight with a second formula, which has derivatives, too."""
    d = data(length=2)
    x, y, b = (torch.tensor(d[k], requires_grad=True) for k in "xyb")
    scores = -((x[:, None] - y[None]) ** 2).sum(-1, keepdim=True)
    positive = b.square() + 1
    attention = (scores.softmax(1) * positive).sum(1)
    logarithm = (scores.exp() * positive).sum(1).log()
    K = -Vi(d["x"]).sqdist(Vj(d["y"]))
    for name, value in (("sumsoftmaxweight", attention), ("logsumexp", logarithm)):
        g = np.random.default_rng(2).normal(size=(6, 2))
        expected = torch.autograd.grad(value, [x, y, b], torch.tensor(g), retain_graph=True)
        weight = Vj(d["b"]) ** 2 + 1
        found, grads = K.value_and_grad(name, dim=1, weight=weight, wrt=[d["x"], d["y"], d["b"]], cotangent=g)
        np.testing.assert_allclose(found, value.detach().numpy(), rtol=1e-10)
        for a, e in zip(grads, expected, strict=True):
            np.testing.assert_allclose(a, e.numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_cotangent_is_one_by_default_and_broadcasts(dtype: str) -> None:
    x, y = (np.arange(k, dtype=dtype)[:, None] for k in (4, 5))
    K = Vi(x) * Vj(y)
    value, (gx, gy) = K.value_and_grad(dim=1)
    assert value.dtype == gx.dtype == gy.dtype == dtype
    np.testing.assert_array_equal(value, x * 10)
    np.testing.assert_array_equal(gx, np.full((4, 1), 10.0))
    np.testing.assert_array_equal(gy, np.full((5, 1), 6.0))
    for g in (2, [2.0], np.full((4, 1), 2)):
        np.testing.assert_array_equal(K.value_and_grad(dim=1, wrt=x, cotangent=g)[1], 2 * gx)


def test_all_uses_of_an_array_are_added_up() -> None:
    """The same points as rows and as columns: one gradient for the array, two for its variables."""
    x = np.random.default_rng(0).normal(size=(6, 3))
    expected = 4 * (6 * x - x.sum(0))
    rows, columns = LazyTensor(x[:, None, :]), LazyTensor(x[None, :, :])
    K = rows.sqdist(columns)
    np.testing.assert_allclose(K.value_and_grad("sum", dim=1, wrt=x)[1], expected)
    _, (by_row, by_column) = K.value_and_grad("sum", dim=1, wrt=[rows, columns])
    np.testing.assert_allclose(by_row + by_column, expected)
    _, everything = K.value_and_grad("sum", dim=1)
    np.testing.assert_array_equal(everything[0], by_row)
    np.testing.assert_array_equal(everything[1], by_column)


def test_parameters_without_an_array() -> None:
    """Numbers are differentiated where their variable is named, and left out otherwise."""
    x = np.array([[1.0], [2.0]])
    scale = Pm(3.0)
    K = Vi(x) * scale * Vj(x)
    value, slope = K.value_and_grad(dim=(0, 1), wrt=scale)
    np.testing.assert_array_equal(value, [27.0])
    np.testing.assert_array_equal(slope, [9.0])
    assert len(K.value_and_grad(dim=1)[1]) == 2


def test_what_the_formula_does_not_depend_on_has_a_gradient_of_zeros() -> None:
    x, y = np.ones((3, 2)), np.ones((4, 2))
    v = Vj(y)
    K = Vi(x).sum(-1) + (v - v).sum(-1)
    np.testing.assert_array_equal(K.value_and_grad(dim=1, wrt=y)[1], np.zeros((4, 2)))
    lazy = pairfuse.torch.Vi(torch.ones(3, 2)).sum(-1) + (pairfuse.torch.Vj(torch.ones(4, 2)) > 0).sum(-1)
    _, grads = lazy.value_and_grad(dim=1)
    assert [tuple(g.shape) for g in grads] == [(3, 2), (4, 2)]
    assert (grads[1] == 0).all()


def test_rows_of_minus_infinity_have_no_gradient() -> None:
    x = np.arange(4.0)[:, None]
    K = pairfuse.numpy.where(Vi(x) > 1.5, Vi(x) * Vj(x), -np.inf)
    value, (gx, _) = K.value_and_grad("logsumexp", dim=1)
    assert (value[:2] == -np.inf).all()
    assert (gx[:2] == 0).all()
    assert np.isfinite(gx).all()


def test_nothing_to_reduce() -> None:
    for m, n in ((0, 4), (4, 0)):
        x, y = np.ones((m, 2)), np.ones((n, 2))
        K = Vi(x).sqdist(Vj(y))
        for name, options in (("sum", {}), ("min", {}), ("Kmin", {"K": 3}), ("logsumexp", {})):
            value, (gx, gy) = K.value_and_grad(name, dim=1, **options)
            assert value.shape == (m, options.get("K", 1))
            assert gx.shape == x.shape
            assert gy.shape == y.shape
            assert (gx == 0).all()
            assert (gy == 0).all()


def test_symbolic_variables_wait() -> None:
    x = np.random.default_rng(0).normal(size=(6, 3))
    rows, columns = Vi(0, 3), Vj(1, 3)
    later = rows.sqdist(columns).value_and_grad(dim=1, wrt=columns)
    value, g = later(x, x)
    np.testing.assert_allclose(value, ((x[:, None] - x) ** 2).sum((1, 2))[:, None])
    np.testing.assert_allclose(g, 2 * (6 * x - x.sum(0)))


def test_value_and_gradient_are_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass for the value and the variables that index it, one for each other axis, one for parameters."""
    passes: list[str] = []
    plain = host_gradients.launch

    def counted(problem: Any, *args: Any) -> Any:
        passes.append(problem.over)
        return plain(problem, *args)

    monkeypatch.setattr(host_gradients, "launch", counted)
    d = data()
    K = formula(LazyTensor, **d)
    for name in ("sum", "logsumexp"):
        for wrt, expected in (("x", ["j"]), ("y", ["j", "i"]), ("xybsp", ["j", "i", "ij"])):
            K.value_and_grad(name, dim=1, wrt=[d[k] for k in wrt])
            assert passes == expected
            passes.clear()
    K.value_and_grad(dim=(0, 1), wrt=[d["s"], d["p"]])
    assert passes == ["ij"]


def test_memory_is_that_of_the_vectors() -> None:
    """Neither a matrix nor a vector of parameters for every row: 10 parameters at 10,000 points, 5 nearest of them."""
    n = 10_000
    x, y = (np.random.default_rng(k).normal(size=(n, 1)).astype(np.float32) for k in range(2))
    p = np.linspace(1, 2, 10, dtype=np.float32)
    K = (Vi(x) - Vj(y)) ** 2
    for name, k, limit in (("sum", K * Pm(p).sum(-1), 300_000), ("Kmin", K, 3_000_000)):
        options = {"K": 5} if name == "Kmin" else {}
        with config.override(threads=1):  # others may take their memory in any call, the first in which they have work
            k.value_and_grad(name, dim=1, **options)
            tracemalloc.start()
            try:
                k.value_and_grad(name, dim=1, **options)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        assert n * 4 < peak < limit, f"{name}: {peak}"


X, Y = np.ones((3, 2)), np.ones((4, 2))
K = Vi(X).sqdist(Vj(Y))
MISTAKES: list[tuple[str, type[PairfuseError], str]] = [
    ("K.value_and_grad('argmin', dim=1)", UnsupportedError, "value_and_grad('argmin'): the indices and numbers"),
    ("K.value_and_grad('argmin', dim=1)", UnsupportedError, "'min' gives the values at these indices, which have one"),
    ("K.value_and_grad('max_argmax', dim=1)", UnsupportedError, "'max' gives the values"),
    ("K.value_and_grad('argKmax', dim=1, K=2)", UnsupportedError, "'Kmax' gives the values"),
    ("K.value_and_grad('Kmin_argKmin', dim=1, K=2)", UnsupportedError, "'Kmin' gives the values"),
    ("K.value_and_grad('count_nonzero', dim=1)", UnsupportedError, "'sum' of a smooth function of the terms"),
    ("(K * 1j).value_and_grad(dim=1)", UnsupportedError, "not for complex numbers"),
    ("K.value_and_grad('median', dim=1)", FormulaError, "no such reduction"),
    ("K.value_and_grad()", ShapeError, "which axis?"),
    ("K.value_and_grad('min', dim=(0, 1))", ShapeError, "min(): cannot reduce over axis (0, 1)."),
    ("K.value_and_grad(dim=(0, 1, 2))", ShapeError, "sum over the components first"),
    ("K.value_and_grad('Kmin', dim=1)", ShapeError, "K=None"),
    ("K.value_and_grad('sumsoftmaxweight', dim=1)", FormulaError, "takes a second formula"),
    ("K.value_and_grad('sum', dim=1, weight=Vj(Y))", FormulaError, "takes one formula"),
    ("K.value_and_grad(dim=1, wrt=[X, Y.copy()])", FormulaError, "wrt[1] is not a variable of the formula"),
    ("K.value_and_grad(dim=1, wrt=K)", FormulaError, "wrt is not a variable of the formula"),
    ("K.value_and_grad(dim=1, cotangent=np.ones((4, 1)))", ShapeError, "the value has the shape (3, 1)"),
    ("K.value_and_grad(dim=1, cotangent='one')", ShapeError, "does not fit the value"),
    ("K.value_and_grad(dim=1, cotangent=torch.ones(3, 1))", DtypeError, "not of the library"),
    ("K.value_and_grad(dim=1, out=X)", KeywordError, "value_and_grad(out=...)"),
    ("K.value_and_grad(dim=1, bakend='CPU')", KeywordError, "did you mean backend?"),
]


@pytest.mark.parametrize(("call", "error", "text"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_mistakes(call: str, error: type[PairfuseError], text: str) -> None:
    with pytest.raises(error) as caught:
        eval(call, {"K": K, "X": X, "Y": Y, "Vj": Vj, "np": np, "torch": torch})
    assert text in str(caught.value)
