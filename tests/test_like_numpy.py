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
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keops_page import tables
from scipy import special

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
# methods that mean something else, where the function of the library does not
DIFFERENT_METHODS = {
    **dict.fromkeys(("T", "H", "t"), "`np.trace(K)`"),
    **dict.fromkeys(("dot", "norm", "normalize", "kron", "tensordot", "concat", "cat"), "`x.dot(y)`"),
    **dict.fromkeys(("grad", "diff", "extract"), "`x.grad`"),
    "dtype": "`K.dtype`",
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


# ---------------------------------------------------------------------- every public name

# What the words of both libraries do not say: a call on a formula, and on the dense array.
OWN: dict[str, tuple[Callable[[Any], Any], Callable[[np.ndarray], Any]]] = {
    "D": (lambda k: k.D, lambda k: k.shape[-1]),
    "axis_letter": (lambda k: k.axis_letter is None, lambda k: True),
    "blocks": (
        lambda k: [(part, np.asarray(block)) for part, block in k.blocks(3)][1][1],
        lambda k: k[:, 3:],
    ),
    "cost": (lambda k: k.cost(dim=2).pairs, lambda k: k[..., 0].size),
    "dense": (lambda k: k.dense(), lambda k: k),
    "explain": (lambda k: "--- kernel ---" in k.explain(), lambda k: True),
    "floordiv": (lambda k: k.floordiv(0.3), lambda k: k // 0.3),
    "inv": (lambda k: k.inv(), lambda k: 1 / k),
    "log1mexp": (lambda k: (-k).log1mexp(), lambda k: np.log(1 - np.exp(-k))),
    "concatenate": (lambda k: k.concatenate([k, k]), lambda k: np.concatenate([k, k], -1)),
    "where": (lambda k: k.where(k > 0.3, 0.0), lambda k: np.where(k > 0.3, k, 0.0)),
    "is_complex": (lambda k: k.is_complex, lambda k: False),
    "log_sigmoid": (lambda k: k.log_sigmoid(), lambda k: -np.log1p(np.exp(-k))),
    "logsubexp": (lambda k: (k + 1).logsubexp(k), lambda k: np.log(np.exp(k + 1) - np.exp(k))),
    "norm1": (lambda k: k.norm1(), lambda k: np.abs(k).sum(-1, keepdims=True)),
    "norminf": (lambda k: k.norminf(), lambda k: np.abs(k).max(-1, keepdims=True)),
    "stop_gradient": (lambda k: k.stop_gradient(), lambda k: k),
    "value_and_grad": (lambda k: k.value_and_grad("sum", dim=2)[0], lambda k: k.sum(2)),
    "matmat": (lambda k: k.sum(-1).matmat(np.ones((5, 2))), lambda k: k.sum(-1) @ np.ones((5, 2))),
    "rmatmat": (lambda k: k.sum(-1).rmatmat(np.ones((4, 2))), lambda k: k.sum(-1).swapaxes(1, 2) @ np.ones((4, 2))),
    "Kmax": (lambda k: k.Kmax(2, dim=2), lambda k: -np.sort(-k, 2)[:, :, :2]),
    "argKmax": (lambda k: k.argKmax(2, dim=2), lambda k: np.argsort(-k, 2)[:, :, :2]),
    "Kmax_argKmax": (
        lambda k: k.Kmax_argKmax(2, dim=2),
        lambda k: (-np.sort(-k, 2)[:, :, :2], np.argsort(-k, 2)[:, :, :2]),
    ),
}
NAMES = sorted(n for n in dir(on_numpy.LazyTensor) if not n.startswith("_"))
OF_KEOPS = {n for s in ("Attributes of a LazyTensor", "Operators and methods", "Reductions") for n in tables()[s]}


def namesakes(name: str, face: str) -> list[Callable[..., Any]]:
    """What has this name among the methods of arrays and the functions of the libraries, as functions of the array."""
    array = np.ndarray if face == "numpy" else torch.Tensor
    if hasattr(array, name):
        return [lambda k, *args: getattr(k, name)(*args) if callable(getattr(k, name)) else getattr(k, name)]
    places = (np, special) if face == "numpy" else (torch, torch.nn.functional)
    found = [getattr(m, name) for m in places if hasattr(m, name)]
    return [f for f in found if callable(f) and not isinstance(f, type)][:1]


@pytest.mark.parametrize("face", ["numpy", "torch"])
@pytest.mark.parametrize("name", NAMES)
def test_every_public_name(name: str, face: str) -> None:
    """It means what its namesake means, or is defined above, or is a name of KeOps that has none."""
    lazy, dense, array = formulas(face)
    if name.endswith("_reduction"):
        plain = name.removesuffix("_reduction")
        places = (2,) if plain.startswith(("K", "argK")) else (lazy,) if plain == "sumsoftmaxweight" else ()
        same(getattr(lazy, name)(*places, dim=2), getattr(lazy, plain)(*places, dim=2))
        return
    if name in OWN:
        ours, theirs = OWN[name]
        if not (face == "torch" and name in ("matmat", "rmatmat")):
            same(ours(lazy), theirs(array))
        return
    found = namesakes(name, face)
    different = DIFFERENT | DIFFERENT_METHODS
    if not found or name in different:
        assert name in OF_KEOPS or name in different or namesakes(name, "torch" if face == "numpy" else "numpy")
        return

    def call(k: Any, *args: Any) -> Any:
        if k is not lazy:
            return found[0](k, *args)
        method = getattr(k, name)
        return method(*args) if callable(method) else method

    method = getattr(type(lazy), name)
    parameters = list(signature(method).parameters.values())[1:] if callable(method) else []
    needed = sum(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)
    for args in ([()], [(0.25,), (lazy,)], [(0.25, 0.5)])[needed]:
        try:
            found[0](dense, *(dense if a is lazy else a for a in args))
        except Exception:  # arrays have no such call, so nobody expects anything of it
            continue
        agrees(name, lambda k, args=args: call(k, *(k if a is lazy else a for a in args)), lazy, dense)


NUMBERS = on_numpy.Vi(np.array([[1.0], [np.nan], [3.0]])) * on_numpy.Vj(np.array([[1.0], [2.0]]))
SMALL = on_numpy.Vi(X[0, :, 0]) * on_numpy.Vj(Y[0, 0])
TENSOR = on_torch.Vi(torch.tensor([[1.0], [2.0], [4.0]])) * on_torch.Vj(torch.tensor([[1.0]]))
RAMP = torch.tensor([[0.0], [2.0]], dtype=torch.float64, requires_grad=True)
# the rows of the page that are no matter of one name, and what shows that they are true
SHOWN: dict[str, Callable[[], Any]] = {
    "`K.sum(dim=1)`": lambda: SMALL.sum(-1).sum(dim=1).shape == (4, 1),
    "`K.min(dim=1)`, NaN": lambda: (NUMBERS.min(dim=0) == [[1.0], [2.0]]).all(),
    "`K.min(dim=1)` in torch's words": lambda: (
        isinstance(TENSOR.min(dim=0), torch.Tensor) and len(torch.min(TENSOR, 0)) == 2  # type: ignore[call-overload]
    ),
    "`K * w`": lambda: refused(lambda: SMALL.sum(-1) * np.ones(5)) and refused(lambda: SMALL.sum(-1).dot(np.ones(5))),
    "`K[1, :, k]`": lambda: np.allclose(SMALL[1, :, 2], (X[0] * Y[0])[1, :, 2]),
    "`K.var(dim=1)`": lambda: bool(TENSOR.var(dim=0) > 2) and np.isclose(NUMBERS[::2].var(dim=0)[0, 0], 1.0),
    "`K.clamp(low, high)`": lambda: (
        torch.autograd.grad(on_torch.Vi(RAMP).clamp(0, 1).sum(dim=0).sum(), RAMP)[0].flatten().tolist() == [1, 0]
    ),
    "`float32` and `float64` together": lambda: refused(lambda: SMALL * on_numpy.Vi(X[0, :, 0].astype("f4"))),
    "`bool(K)`, `len(K)`, `for row in K`": lambda: all(refused(lambda f=f: f(SMALL)) for f in (bool, len, list)),
}


def refused(call: Callable[[], Any]) -> bool:
    with pytest.raises(PairfuseError, match="Hint: "):
        call()
    return True


@pytest.mark.parametrize("row", SHOWN)
def test_the_other_differences(row: str) -> None:
    assert SHOWN[row]()


def test_every_stated_difference_is_on_the_page_and_every_row_is_tested() -> None:
    _, _, table = PAGE.partition("## What differs, and why")
    rows = [line for line in table.partition("## ")[0].splitlines() if line.startswith("| ")][2:]
    stated = {*DIFFERENT.values(), *DIFFERENT_METHODS.values(), *SHOWN}
    for text in stated:
        assert any(row.startswith(f"| {text}") for row in rows), text
    for row in rows:
        assert any(row.startswith(f"| {text}") for text in stated), row
    assert len(rows) <= 25, "the table is short"


def test_in_the_words_of_scikit_learn() -> None:
    """The rows of the page that name it."""
    pairwise = pytest.importorskip("sklearn.metrics.pairwise")
    neighbors, ridge = pytest.importorskip("sklearn.neighbors"), pytest.importorskip("sklearn.kernel_ridge")
    x, y, b = RANDOM.normal(size=(20, 3)), RANDOM.normal(size=(30, 3)), RANDOM.normal(size=30)
    vi, vj = on_numpy.Vi(x), on_numpy.Vj(y)
    squares = vi.sqdist(vj)
    close = np.testing.assert_allclose
    close((-0.3 * squares).exp() @ b, pairwise.rbf_kernel(x, y, gamma=0.3) @ b)
    close((-0.3 * (vi - vj).abs().sum(-1)).exp().dense(), pairwise.laplacian_kernel(x, y, gamma=0.3))
    close(((0.3 * (vi | vj) + 1) ** 3).dense(), pairwise.polynomial_kernel(x, y, degree=3, gamma=0.3), atol=1e-12)
    close((vi.normalize() | vj.normalize()).dense(), pairwise.cosine_similarity(x, y))
    close(squares.argmin(dim=1)[:, 0], pairwise.pairwise_distances_argmin(x, y))
    nearest, places = squares.Kmin_argKmin(10, dim=1)
    distances, expected = neighbors.NearestNeighbors(n_neighbors=10).fit(y).kneighbors(x)
    close(nearest**0.5, distances)
    close(places, expected)
    kernel = (-on_numpy.Vi(y).sqdist(vj)).exp()
    theirs = ridge.KernelRidge(alpha=0.2, kernel="precomputed").fit(kernel.dense(), b).dual_coef_
    close(kernel.solve(b, alpha=0.2, rtol=1e-12), theirs, atol=1e-9)
