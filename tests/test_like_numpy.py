"""Whoever comes from NumPy or PyTorch finds what they know: the same numbers, or an error with a hint.

Every universal function and every function of NumPy, every function of torch that can be overridden, every operator and
every method that arrays have, too, is called on a formula and on the dense array (*batch, M, N, D). The results are
equal, or the call on the formula says what to write instead, or the page "Coming from NumPy" has a row for it
(`DIFFERENT` below, which names the row).
"""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pairfuse import numpy as on_numpy
from pairfuse import torch as on_torch
from pairfuse.errors import PairfuseError

RANDOM = np.random.default_rng(5)
X, Y = RANDOM.uniform(0.1, 0.9, size=(2, 4, 1, 3)), RANDOM.uniform(0.1, 0.9, size=(1, 1, 5, 3))
PAGE = (Path(__file__).resolve().parents[1] / "docs" / "coming-from-numpy.md").read_text(encoding="utf-8")
# what means something else: name of the function or method, and the row of the page that says so
DIFFERENT = {
    **dict.fromkeys(
        ("sum", "mean", "prod", "min", "max", "amin", "amax", "argmin", "argmax"), "`K.sum()` without an axis"
    ),
    **dict.fromkeys(("var", "std", "any", "all", "count_nonzero", "logsumexp", "nansum"), "`K.sum()` without an axis"),
    **dict.fromkeys(("trace", "diagonal", "transpose", "permute_dims", "matrix_transpose"), "`np.trace(K)`"),
    "round": "`K.round()`",
    "bitwise_or": "`x \\| y` of vectors",
    "shape": "`K.shape`",
}
# what has a value on a formula and none on an array, and harms nobody
MORE = ("clip", "imag")
# what acts on the process, prints, or takes names of files
NOT_CALLED = re.compile(
    r"save|load|from|test|show|info|print|set|get|einsum_path|seterr|bench|may_share|shares_memory|_"
)


def formulas(face: str) -> tuple[Any, Any, np.ndarray]:
    """A formula of numbers in (0, 1), the same on the other face's data type, and the dense array."""
    if face == "numpy":
        return on_numpy.LazyTensor(X) * on_numpy.LazyTensor(Y), X * Y, X * Y
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    return on_torch.LazyTensor(x) * on_torch.LazyTensor(y), x * y, X * Y


def value(result: Any) -> Any:
    """Numbers, to compare: formulas by their entries."""
    if isinstance(result, (tuple, list)):
        return tuple(value(r) for r in result)
    if hasattr(result, "dense"):
        entries = np.asarray(result.dense())
        return entries if result._length > 1 else entries[..., None]
    return np.asarray(result.detach() if isinstance(result, torch.Tensor) else result)


def same(got: Any, expected: Any) -> None:
    got, expected = value(got), value(expected)
    if isinstance(got, tuple):
        assert len(got) == len(expected)
        for g, e in zip(got, expected, strict=True):
            same(g, e)
        return
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


def agrees(name: str, call: Callable[[Any], Any], lazy: Any, dense: Any) -> None:
    """The call gives the same on the formula, or raises an error of ours with a hint."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = call(dense)
        except Exception:  # no such call on arrays either: whatever happens on a formula is an error, too
            expected = None
        try:
            got = call(lazy)
        except (PairfuseError, TypeError, ValueError) as error:
            refused = error
        else:
            refused = None
    if refused is not None:
        assert expected is None or (isinstance(refused, PairfuseError) and "Hint: " in str(refused)), refused
        return
    if expected is None and name in MORE:
        return
    assert expected is not None, f"{name} has a value on a formula, and none on an array"
    same(got, expected)


UFUNCS = sorted(n for n, f in vars(np).items() if isinstance(f, np.ufunc))
FUNCTIONS = sorted(
    n for n, f in vars(np).items()
    if callable(f) and not isinstance(f, (type, np.ufunc)) and not NOT_CALLED.match(n) and hasattr(f, "__wrapped__")
)  # fmt: skip


@pytest.mark.parametrize("name", UFUNCS)
def test_universal_functions_of_numpy(name: str) -> None:
    function = getattr(np, name)
    lazy, dense, _ = formulas("numpy")
    if function.nin == 1:
        agrees(name, function, lazy, dense)
        if name.startswith(("logical", "bitwise", "invert", "abs")):  # NumPy takes sin(True) in 16 bits
            agrees(name, lambda k: function(k > 0.3), lazy, dense)
    elif function.nin == 2:
        for call in (
            lambda k: function(k, k + 0.1),
            lambda k: function(k, 0.25),
            lambda k: function(0.25, k),
            lambda k: function(X, k),
        ):
            if name not in ("matmul", "vecdot", "matvec", "vecmat", *DIFFERENT):
                agrees(name, call, lazy, dense)
        if name.startswith(("logical", "bitwise")):
            agrees(name, lambda k: function(k > 0.3, k < 0.6), lazy, dense)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_numpy(name: str) -> None:
    function = getattr(np, name)
    lazy, dense, _ = formulas("numpy")
    if name in ("concatenate", "concat"):  # of a list: NumPy looks into it before it asks
        call = lambda k: function([k, k + 1.0], axis=-1)  # noqa: E731
        agrees(name, call, lazy, dense)
    elif name not in DIFFERENT or DIFFERENT[name].startswith("`K.sum"):
        agrees(name, function, lazy, dense)
        agrees(name, lambda k: function(k, 1), lazy, dense)


@pytest.mark.parametrize("name", sorted({f.__name__ for f in torch.overrides.get_overridable_functions()[torch]}))
def test_functions_of_torch(name: str) -> None:
    function = getattr(torch, name, None)
    if function is None or NOT_CALLED.match(name) or name == "t" or name in DIFFERENT:
        return
    lazy, dense, _ = formulas("torch")
    agrees(name, function, lazy, dense)
    agrees(name, lambda k: function(k, 0.25), lazy, dense)


OPERATORS = [
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow),
    *(operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne),
]


@pytest.mark.parametrize("face", ["numpy", "torch"])
@pytest.mark.parametrize("function", OPERATORS, ids=lambda f: f.__name__)
def test_operators(function: Any, face: str) -> None:
    lazy, dense, _ = formulas(face)
    other = dense[:, :1] if face == "numpy" else dense[:, :1].clone()
    for call in (
        lambda k: function(k, k + 0.5),
        lambda k: function(k, 0.25),
        lambda k: function(0.75, k),
        lambda k: function(k, other),
        lambda k: function(other, k),
    ):
        agrees(function.__name__, call, lazy, dense)


@pytest.mark.parametrize("face", ["numpy", "torch"])
@pytest.mark.parametrize("function", [operator.and_, operator.or_, operator.xor], ids=lambda f: f.__name__)
def test_operators_of_conditions(function: Any, face: str) -> None:
    lazy, dense, _ = formulas(face)
    mask = dense[:1, :1] > 0.2
    agrees(function.__name__, lambda k: function(k < 0.3, k > 0.6), lazy, dense)
    agrees(function.__name__, lambda k: function(~(k < 0.3), mask), lazy, dense)
    agrees(function.__name__, lambda k: function(mask, k < 0.3), lazy, dense)


REDUCTIONS = ("sum", "mean", "prod", "min", "max", "argmin", "argmax", "var", "std", "any", "all", "count_nonzero")


@pytest.mark.parametrize("keep", [None, False, True])
@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_in_numpy_s_words(name: str, axis: int, keep: bool | None) -> None:
    lazy, dense, _ = formulas("numpy")
    options = {} if keep is None else {"keepdims": keep}
    expected = getattr(np, name)(dense, axis=axis, **options)
    same(getattr(lazy, name)(axis=axis, **options), expected)
    same(getattr(np, name)(lazy, axis=axis, **options), expected)


@pytest.mark.parametrize("keep", [None, False, True])
@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("name", [*REDUCTIONS, "logsumexp"])
def test_reductions_in_torch_s_words(name: str, dim: int, keep: bool | None) -> None:
    lazy, dense, _ = formulas("torch")
    options = {} if keep is None else {"keepdim": keep}
    if name == "count_nonzero" and options:
        return
    expected = getattr(torch, name)(dense, dim=dim, **options)
    same(getattr(torch, name)(lazy, dim=dim, **options), tuple(expected) if name in ("min", "max") else expected)
    expected = expected.values if name in ("min", "max") else expected
    same(getattr(lazy, name)(dim=dim, **options), expected)


@pytest.mark.parametrize("name", [n for n in REDUCTIONS if n not in ("argmin", "argmax")])
def test_reductions_over_both_axes(name: str) -> None:
    lazy, dense, _ = formulas("numpy")
    same(getattr(lazy, name)(axis=(1, 2)), getattr(np, name)(dense, axis=(1, 2)))
    same(getattr(lazy, name)(axis=(1, 2), keepdims=True), getattr(np, name)(dense, axis=(1, 2), keepdims=True))


@pytest.mark.parametrize("which", ["min", "max"])
def test_indices_over_both_axes_are_those_of_the_flat_matrix(which: str) -> None:
    lazy, dense, _ = formulas("numpy")
    flat = dense.reshape(2, 20, 3)
    same(getattr(lazy, f"arg{which}")(axis=(1, 2)), getattr(flat, f"arg{which}")(1))
    order = np.argsort(flat if which == "min" else -flat, axis=1, kind="stable")[:, :7]
    values, indices = getattr(lazy, f"K{which}_argK{which}")(7, axis=(1, 2))
    same(indices, order)
    same(values, np.take_along_axis(flat, order, 1))


def test_every_stated_difference_is_on_the_page() -> None:
    for row in DIFFERENT.values():
        assert f"| {row}" in PAGE, row
