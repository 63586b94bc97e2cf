"""What a new user tries on the first day: the value that NumPy gives, or an error that says what to do.

What has a namesake in NumPy or torch is compared in test_like_numpy.py; here are the things that are nearly arrays, the
signatures, and the words of the errors.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
import torch

from pairfuse import DtypeError, KeywordError, PairfuseError, SelectionError, ShapeError
from pairfuse import torch as on_torch
from pairfuse.ir.ops import TABLE
from pairfuse.numpy import LazyTensor, Pm, Vi, Vj

x = np.array([[0.0, 0], [1, 0], [0, 2]])
D = Vi(x).sqdist(Vj(x))
T = on_torch.Vi(torch.from_numpy(x)).sqdist(on_torch.Vj(torch.from_numpy(x)))
ENTRIES = np.array([[0.0, 1, 4], [1, 0, 5], [4, 5, 0]])


# ---------------------------------------------------------------------- values that were silent surprises


@pytest.mark.parametrize("k", [D, T], ids=["numpy", "torch"])
def test_values(k: Any) -> None:
    """Each of these once gave other numbers, without a word."""

    def equal(result: Any, expected: Any) -> None:
        np.testing.assert_allclose(np.asarray(result), expected)

    equal(((k < 0.5) | (k > 4.5)).sum(axis=1)[:, 0], [1, 2, 2])
    equal(((k > 0.5) & (k < 4.5)).sum(axis=1)[:, 0], [2, 1, 1])
    equal((~(k > 0.5)).sum(axis=1)[:, 0], [1, 1, 1])
    equal(((k < 4.5) ^ (k > 0.5)).sum(axis=1)[:, 0], [1, 2, 2])
    equal(k.where(k > 1.5, 0.0).sum(axis=1)[:, 0], [4, 5, 9])
    equal(k[0], ENTRIES[0])
    equal(k[:1].dense(), ENTRIES[:1])
    equal(k.sum(axis=1, keepdims=False), ENTRIES.sum(1))
    equal(k.sum(dim=1, keepdim=True), ENTRIES.sum(1, keepdims=True))
    equal((k * float("nan")).argKmin(2, dim=1), -np.ones((3, 2)))
    equal(k.var(dim=1, correction=1)[:, 0], ENTRIES.var(1, ddof=1))
    equal(k.var(dim=1, ddof=0)[:, 0], ENTRIES.var(1))
    equal(k.var(dim=1)[:, 0], ENTRIES.var(1, ddof=0 if k is D else 1))
    for name in ("sum", "prod", "mean", "var", "min", "max", "argmin", "argmax", "any", "all", "count_nonzero"):
        reference = getattr(ENTRIES if k is D else torch.from_numpy(ENTRIES), name, None)
        expected = np.count_nonzero(ENTRIES) if name == "count_nonzero" else reference()  # type: ignore[misc]
        equal(getattr(k, name)((0, 1))[0], np.asarray(expected))


def test_shape_ndim_dim_and_repr_agree() -> None:
    for k in (D, Vi(x), Vj(x), Pm([1.0, 2]), Pm(2.0), LazyTensor(np.zeros((2, 3, 1, 4))), Vi(x) - Vj(x)):
        assert len(k.shape) == k.ndim == k.dim()
        assert k.shape == (*k._space.sizes, *([k.D] if k.D > 1 else []))
        assert f"shape={k.shape}" in repr(k)


# ---------------------------------------------------------------------- signatures


@pytest.mark.parametrize("name", [n for n in dir(LazyTensor) if not n.startswith("_")])
def test_signatures_name_their_arguments(name: str) -> None:
    method = getattr(LazyTensor, name)
    if not callable(method):
        return
    kinds = [p.kind for p in inspect.signature(method).parameters.values()]
    assert inspect.Parameter.VAR_POSITIONAL not in kinds or name in ("keops_tensordot", "tensordot")
    if name in TABLE and inspect.Parameter.VAR_KEYWORD not in kinds:
        assert len(kinds) >= TABLE[name].arity


def test_arguments_by_their_names() -> None:
    y = Vj(x)
    same = [Vi(x).sqdist(y), Vi(x).sqdist(y=y)]
    np.testing.assert_array_equal(same[0].dense(), same[1].dense())
    assert list(inspect.signature(Vi(x).sqdist).parameters) == ["y"]


# ---------------------------------------------------------------------- what is nearly an array


class Column:
    """A column of a table: one axis, and `__array__`."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)
        self.shape, self.dtype = self.values.shape, self.values.dtype
        self.ndim = self.values.ndim

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.values if dtype is None else self.values.astype(dtype)


class Exchanged:
    """An array of another library, which offers DLPack only."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __dlpack__(self, **options: Any) -> Any:
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.values.__dlpack_device__()


def test_columns_and_tables() -> None:
    """On rows a column is one number for each; as a parameter it is a vector, as an array of one axis is."""
    column = Column(x[:, 1])
    np.testing.assert_array_equal((Vi(column) - Vj(column)).dense(), np.subtract.outer(x[:, 1], x[:, 1]))
    np.testing.assert_array_equal(Vi(Column(x)).sqdist(Vj(x)).dense(), ENTRIES)
    assert Pm(column).shape == (1, 1, 3)
    assert (Vi(x) * Column([1.0, 10.0])).shape == (3, 1, 2)
    np.testing.assert_allclose(D @ column, ENTRIES @ x[:, 1])
    np.testing.assert_array_equal(D[Column([True, False, True])].dense(), ENTRIES[[0, 2]])
    np.testing.assert_array_equal(D[Column([2, 0])].dense(), ENTRIES[[2, 0]])
    expected = np.linalg.solve(ENTRIES + 20 * np.eye(3), x[:, 1])
    for b in (column, x[:, 1].tolist(), Exchanged(x[:, 1])):
        np.testing.assert_allclose(D.solve(b, alpha=20.0, rtol=1e-12), expected)


def test_memory_is_shared() -> None:
    for given in (Column(x), Exchanged(x)):
        assert np.shares_memory(Vi(given).variables[0], x)


def test_nested_lists_and_small_numbers() -> None:
    np.testing.assert_array_equal(Vi(x.tolist()).sqdist(Vj(x.tolist())).dense(), ENTRIES)
    half = x.astype(np.float16)
    assert (Vi(half).sqdist(Vj(half)).sum(dim=1) == ENTRIES.sum(1, keepdims=True)).all()
    for dtype in (torch.float16, torch.bfloat16):
        t = torch.from_numpy(x).to(dtype)
        sums = on_torch.Vi(t).sqdist(on_torch.Vj(t)).sum(dim=1)
        assert sums.dtype == torch.float32
        np.testing.assert_array_equal(sums.numpy(), ENTRIES.sum(1, keepdims=True))


# ---------------------------------------------------------------------- what is refused, and with which words

MIXED = np.array([[1, "a"], [2, "b"]], dtype=object)
REFUSED: list[tuple[str, type[PairfuseError] | type[AttributeError], str]] = [
    ("Vi([[1, 2], [3]])", DtypeError, "the lists in x have different lengths"),
    ("Vi(MIXED)", DtypeError, "build it from numbers"),
    ("Vi(Column(MIXED[:, 1]))", DtypeError, "the Column does not hold numbers.*convert the column"),
    ("Vi(Column(np.array(['a'])))", DtypeError, "the Column does not hold numbers"),
    ("Vi(x.astype('M8[s]'))", DtypeError, "give numbers: "),
    ("Vi([1, 2, 3])", ShapeError, r"np.array\(x\)\[:, None\]"),
    ("Vi(memoryview(x))", DtypeError, r"np.asarray\(x\) converts"),
    ("D[[[0, 1], [2]]]", SelectionError, "lists of different lengths"),
    ("D[3]", SelectionError, "index 3 of axis 0, which has the size 3"),
    ("D[0.5]", SelectionError, "a float selects nothing"),
    ("D[np.array([0.5])]", SelectionError, "an array of float64 selects nothing.*astype"),
    ("D[::0]", SelectionError, "slice step cannot be zero"),
    ("D[np.ones(7, bool)]", SelectionError, r"the mask has the shape \(7,\), its axes have the sizes \(3,\)"),
    ("D.sum(dim=1, keepdim=True, keepdims=False)", KeywordError, "they contradict each other"),
    ("D.dense(limit=10)", PairfuseError, r"would take 72 bytes, the limit is 10.*config.dense_limit = 72"),
    ("D.sum()", ShapeError, "which axis.*dim=0 reduces over i"),
    ("D.sum(axes=1)", KeywordError, "no such keyword.*did you mean axis"),
    ("D.sum(-1, foo=1)", KeywordError, r"sum\(foo=...\): there is no such keyword"),
    ("D.sum(-1, out=x)", KeywordError, "over the components the result is a formula"),
    ("D.logsumexp(1, wieght=D)", KeywordError, "did you mean weight"),
    ("D.solve(x, alhpa=1)", KeywordError, "did you mean alpha"),
    ("D.expp()", AttributeError, "did you mean 'exp'"),
    ("D.softmax(1)", AttributeError, "sumsoftmaxweight"),
    ("D.exp(1)", KeywordError, r"x.exp\(\): takes no argument, not 1"),
    ("D.atan2()", KeywordError, r"x.atan2\(y\): takes 1 argument, not 0"),
    ("D.atan2(D, y=D)", KeywordError, "y is given twice"),
    ("D.atan2(z=D)", KeywordError, r"x.atan2\(z=...\): there is no such keyword"),
    ("np.exp(D, out=x)", KeywordError, r"np.exp\(x, out=...\): x is a formula, nothing is computed"),
    ("D * np.array([1.0, 10, 100])", ShapeError, r"two meanings.*Vj\(y\[:, None\]\).*Pm\(y\)"),
    ("D.dot(np.array([1.0, 10, 100]))", ShapeError, "two meanings.*K @ y is the product"),
    ("list(D)", PairfuseError, r"x.blocks\(n\)"),
]


@pytest.mark.parametrize(("code", "kind", "words"), REFUSED, ids=[r[0] for r in REFUSED])
def test_errors_say_what_to_do(code: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as caught:
        eval(code, dict(globals()))
    assert re.search(words, str(caught.value), flags=re.DOTALL), caught.value


def test_the_wrong_import_says_which_is_right() -> None:
    with pytest.raises(ImportError, match=r"pairfuse\.numpy"):
        __import__("pairfuse", fromlist=["LazyTensor"]).LazyTensor  # noqa: B018
