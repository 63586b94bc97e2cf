"""Sums over the components of long vectors: the bound of docs/accuracy.md, 64 ceil(log_64 D) u of the absolute terms.

The exact sums are taken in long double, of the same rounded numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pairfuse.config import config
from pairfuse.lower.long_sums import BLOCK, ONE_CHAIN, levels
from pairfuse.numpy import LazyTensor, Vi, Vj

# torch's own, at the first use of forward mode in a process
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

Array = np.ndarray
LENGTHS = (1, 5, 65, 128, 129, 1000, 4097)
LONGEST = 40_000
ROUNDING = {"float32": 2.0**-24, "float64": 2.0**-53}

DATA: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "equal": lambda rng, d: np.full(d, 0.1),
    "equal thirds": lambda rng, d: np.full(d, 1 / 3),
    "random": lambda rng, d: rng.normal(size=d),
    "alternating sizes": lambda rng, d: np.where(np.arange(d) % 2, 1e-4, 1.0) * (1 + rng.random(d)),
    "a large one first": lambda rng, d: np.r_[d / 2, np.full(d - 1, 0.7)],
    "growing": lambda rng, d: 1 / np.arange(d, 0, -1),
    "signs that cancel": lambda rng, d: np.where(np.arange(d) % 2, -0.1, 0.1),
}


# The formula of x_i, y_j and w_j; its terms, which sum up to it; the roundings of a term.
FORMS: dict[str, tuple[Callable[..., LazyTensor], Callable[..., Array], int]] = {
    "sqdist": (lambda x, y, w: ((x - y) ** 2).sum(-1), lambda x, y, w: (x - y) ** 2, 3),
    "dot": (lambda x, y, w: x | y, lambda x, y, w: x * y, 1),
    "L1 distance": (lambda x, y, w: (x - y).abs().sum(-1), lambda x, y, w: abs(x - y), 1),
    "sum": (lambda x, y, w: (x * 1.5 + y).sum(-1), lambda x, y, w: x * 1.5 + y, 2),
    "weighted distance": (
        lambda x, y, w: x.weightedsqdist(y, w),
        lambda x, y, w: w * (x - y) ** 2,
        4,
    ),
    "norm": (lambda x, y, w: x.sqnorm2() + 0 * y.sqnorm2(), lambda x, y, w: x**2 + 0 * y, 1),
}


def exact(terms: Array) -> tuple[Array, Array]:
    """The sums over the components, and those of the absolute values."""
    return terms.sum(-1), abs(terms).sum(-1)


def bound(d: int, dtype: str, of_a_term: int) -> float:
    """Of the sum of the absolute terms; one more rounding for the result."""
    return (BLOCK * max(1, math.ceil(math.log(d) / math.log(BLOCK) - 1e-12)) + of_a_term + 1) * ROUNDING[dtype]


def check(form: str, x: Array, y: Array, w: Array, over: int, rows: int, columns: int) -> None:
    """One vector y against every row of x."""
    dtype, d = str(x.dtype), x.shape[-1]
    lazy, terms, of_a_term = FORMS[form]
    many = np.tile(x[:1], (rows, 1))
    many[: len(x)] = x[:rows]
    others = [np.broadcast_to(v, (columns, d)) for v in (y, w)]
    kept, reduced = (Vi, Vj) if over == 1 else (Vj, Vi)
    found = lazy(kept(many), *(reduced(v) for v in others)).max(dim=over)[:, 0]
    long = [v.astype(np.longdouble) for v in (many, y, w)]
    value, size = exact(terms(*long))
    assert np.all(abs(found - value) <= bound(d, dtype, of_a_term) * size), float((abs(found - value) / size).max())


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("data", ["equal", *(pytest.param(name, marks=pytest.mark.slow) for name in [*DATA][1:])])
@pytest.mark.parametrize("form", FORMS)
def test_every_length_and_kind_of_terms(form: str, data: str, dtype: str) -> None:
    on_every_length(form, data, dtype, LENGTHS)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("form", FORMS)
def test_the_longest(form: str, dtype: str) -> None:
    for data in DATA:
        on_every_length(form, data, dtype, (LONGEST, LONGEST + 1))


def test_thirty_thousand_components() -> None:
    """Equal terms lose 4e-4 in one chain."""
    on_every_length("sqdist", "equal", "float32", (30_000,))
    x, y = np.full((5, 30_000), 0.3, "float32"), np.full((4, 30_000), 0.1, "float32")
    exact = 30_000 * (float(x[0, 0]) - float(y[0, 0])) ** 2
    assert abs(Vi(x).sqdist(Vj(y)).max(dim=1) / exact - 1).max() < 2e-6


def on_every_length(form: str, data: str, dtype: str, lengths: tuple[int, ...]) -> None:
    """Both axes; lanes that hold rows, and lanes that hold columns."""
    rng = np.random.default_rng(0)
    for k, d in enumerate(lengths):
        x = np.stack([DATA[data](rng, d), DATA["random"](rng, d)]).astype(dtype)
        y, w = (np.broadcast_to(v, d).astype(dtype) for v in (0.0 if "dist" in form else 0.37, 1.3))
        few = k % 2
        check(form, x, y, w, (k // 2) % 2, 2 if few else 19, 260 if few else 3)


@pytest.mark.parametrize("form", FORMS)
def test_the_reference_keeps_the_bound(form: str) -> None:
    on_backend("reference", form, (128, 129, 1000, 9000))


@pytest.mark.parametrize("form", ["dot", "L1 distance", "norm"])
def test_triton_keeps_the_bound(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # it takes 10 ms for a component
    on_backend("triton", form, (200,))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_triton_keeps_the_bound_of_very_long_sums(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    on_backend("triton", form, (129, 4200, 9000) if form == "dot" else (129, 4200))


def on_backend(backend: str, form: str, lengths: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    with config.override(backend=backend):
        for d in lengths:
            x = np.stack([DATA["equal"](rng, d), DATA["alternating sizes"](rng, d)]).astype("float32")
            y, w = (np.full(d, v, "float32") for v in (0.0 if "dist" in form else 0.37, 1.3))
            check(form, x, y, w, 1, 2, 2)


@pytest.mark.parametrize("dtype", ROUNDING)
def test_matrices_with_long_rows(dtype: str) -> None:
    """A fold inside of a loop over the results, and one inside of a fold."""
    for d in (100, 1536, 4100):
        a, x = np.full((1, 3 * d), 0.1, dtype), np.full((20, d), 1 / 3, dtype)
        terms = a[0, :d].astype(np.longdouble) * x[0]
        value, size = exact(terms)
        for found in (
            (Vj(a).matvecmult(Vi(x))).sum(dim=1)[:, 1],
            (Vi(a).matvecmult(Vj(x))).max(dim=1)[:, 2],
        ):
            assert np.all(abs(found - value) <= bound(d, dtype, 1) * size)
        square = (Vj(a).matvecmult(Vi(x)) ** 2).sum(-1).sum(dim=1)[:, 0]  # a fold over three folds
        assert np.all(abs(square - 3 * value**2) <= (2 * bound(d, dtype, 1) + 4 * ROUNDING[dtype]) * 3 * size**2)
    d = 4100  # many long rows: the loop over the results is not written out
    a, x = np.full((1, 40 * 200), 0.1, dtype), np.full((3, 200), 1 / 3, dtype)
    total = Vj(a).matvecmult(Vi(x)).sum(-1).sum(dim=1)[:, 0]
    value = 40 * 200 * np.longdouble(a[0, 0]) * np.longdouble(x[0, 0])
    assert np.all(abs(total - value) <= (bound(200, dtype, 1) + bound(40, dtype, 1)) * value)


def test_the_cosine_of_parallel_vectors_is_one() -> None:
    """Two constant vectors of length 1536: one chain makes 4e-5 of it."""
    u, q = np.full((1, 1536), 1.7, "float32"), np.full((1, 1536), 0.0371, "float32")
    for a, b in ((u, q), (u, u), (0.1 * u, q)):
        for rows in (1, 40):
            cosine = (Vi(np.tile(a, (rows, 1))).normalize() | Vj(b).normalize()).sum(dim=1)
            assert abs(1 - cosine).max() < 1e-6


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("distance", "grad"),
        ("distance", "jvp"),
        pytest.param("cosine", "grad", marks=pytest.mark.slow),
        ("cosine", "jvp"),
    ],
)
def test_derivatives_of_long_vectors(name: str, mode: str) -> None:
    """Folds of the pair stage, of rows and of columns; equal terms, so that errors add up."""
    torch = pytest.importorskip("torch")
    from pairfuse.torch import Vi, Vj

    lazy, dense = {
        "cosine": (
            lambda x, y: (Vi(x).normalize() | Vj(y).normalize()).sum(dim=1).sum(),
            lambda x, y: torch.nn.functional.cosine_similarity(x[:, None], y, -1).sum(),
        ),
        "distance": (
            lambda x, y: (Vi(x) - Vj(y)).norm2().sum(dim=1).sum(),
            lambda x, y: (x[:, None] - y).norm(dim=-1).sum(),
        ),
    }[name]

    def derivative(f: Any, x: Any, y: Any) -> Any:
        return torch.func.grad(f)(x, y) if mode == "grad" else torch.func.jvp(f, (x, y), (y, x))[1]

    x, y = torch.full((9, 1536), 0.1), torch.full((9, 1536), 0.7)
    y[:, ::2] = 0.3
    found, right = derivative(lazy, x, y), derivative(dense, x.double(), y.double())
    assert (found - right).abs().max() < 4e-6 * right.abs().max()


def test_levels_of_blocks() -> None:
    assert [levels(d) for d in (1, BLOCK, ONE_CHAIN, ONE_CHAIN + 1, BLOCK**2, BLOCK**2 + 1, BLOCK**3)] == [
        *(0, 0, 0, 1, 1, 2, 2)
    ]
