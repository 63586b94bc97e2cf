"""Matrix units: inner products, squared distances and wide sums on the Triton backend, run by Triton's interpreter.

The interpreter multiplies operands of 16 bits as a GPU does, but for the cut sums of matrix units.  Every reduction
over contracted formulas is compared with the reference, within the bound that plain float32 arithmetic has; the
contract "at most twice as far as the plain evaluation" is measured on points that are hard for it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest
from conformance import Case, check, draw_case, problem, run
from test_reductions_backends import REDUCTIONS, params, seeded
from test_triton_interpreter import MISSING

from pairfuse.backends.triton.dots import tau
from pairfuse.backends.triton.operands import padded, pieces
from pairfuse.backends.triton.tile import Tile, choose
from pairfuse.ir.expr import Expr, call, index, input_
from pairfuse.lower.kernel import Kernel
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.runtime import device

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}: pip install 'pairfuse[gpu]'"),
    # what the interpreter says of infinities and NaN on its way
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]


@pytest.fixture(autouse=True)
def _interpreter() -> None:
    if os.environ["TRITON_INTERPRET"] != "1" or not device.interpreting():
        pytest.skip("triton was imported without TRITON_INTERPRET=1")


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Tile]:
    """Small tiles, of which the sizes here are several; the tiles that were used."""
    used: list[Tile] = []

    def chosen(kernel: Kernel, sizes: Sizes, *rest: Any, **more: Any) -> Tile:
        tile = choose(kernel, sizes, *rest, **more)
        used.append(replace(tile, rows=16, cols=32, flush=2))
        return used[-1]

    monkeypatch.setattr(device, "choose_tile", chosen)
    return used


def vectors(d: int) -> tuple[Expr, Expr]:
    return input_(0, "i", d), input_(1, "j", d)


def formula(form: str, d: int) -> Expr:
    x, y = vectors(d)
    if form == "sqdist":
        return call("sqdist", x, y) * -0.25
    return call("dot", x * 0.3, call("sin", y)) + call("dot", y, x) / 7.0


# ---------------------------------------------------------------------- all reductions


@pytest.mark.parametrize("form", ["dot", "sqdist"])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_of_contracted_terms(name: str, form: str, seen: list[Tile]) -> None:
    """Lengths that are no multiple of 16, both axes, batches, tails of rows and columns: a draw of them."""
    rng = seeded(name, form, "dots")
    d, over, batch = int(rng.choice((57, 62))), str(rng.choice(["i", "j"])), str(rng.choice(["none", "none", "mixed"]))
    f = formula(form, d)
    if name == "count_nonzero":
        f = call("lt", f, -0.5)
    if name == "prod":
        f = 1.0 + 0.01 * f
    formulas = (f,) if REDUCTIONS[name].arity == 1 else (f, input_(2, over, 3))
    p = problem(name, *formulas, over=over, **params(name, rng))
    m, n = (21, 75) if batch == "none" else (3, 35)
    check(draw_case(rng, p, *((m, n) if over == "j" else (n, m)), batch, domains=[(-1.0, 1.0)] * 3), "triton")
    assert seen[0].dots == ("" if name == "prod" else "split")


@pytest.mark.parametrize("d", [16, 20, 100, 128, 130, 200])
def test_all_lengths(d: int, seen: list[Tile]) -> None:
    rng = seeded(d, "dots")
    for form, over in (("dot", "j"), ("sqdist", "i")):
        p = problem("sum", call("exp", formula(form, d)) * input_(2, over, 1), over=over)
        check(draw_case(rng, p, 18, 37, domains=[(-0.4, 0.4)] * 3), "triton")
    # short distances of strict accuracy are computed by differences
    assert [t.dots for t in seen] == ["split", "split" if d >= 56 else ""]


def test_the_pieces_of_an_operand_are_powers_of_two() -> None:
    for d in range(1, 600):
        found = pieces(padded(d))
        assert sum(size for _, size in found) == padded(d)
        assert padded(d) - d < (16 if d <= 128 else 64)
        assert all(size & (size - 1) == 0 and size >= 16 and first % 16 == 0 for first, size in found)


@pytest.mark.parametrize("name", ["sum", "logsumexp", "min_argmin", "Kmin_argKmin"])
def test_parts_of_the_columns_are_merged(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(kernel: Kernel, sizes: Sizes, *rest: Any) -> Tile:
        return replace(choose(kernel, sizes, *rest), rows=16, cols=32, split=True)

    monkeypatch.setattr(device, "choose_tile", chosen)
    rng = seeded(name, "parts")
    p = problem(name, formula("sqdist", 56), **params(name, rng))
    check(draw_case(rng, p, 3, 2200, layouts=["plain"]), "triton")


def test_float64_is_computed_plainly(seen: list[Tile]) -> None:
    rng = seeded("float64")
    p = problem("sum", call("exp", formula("sqdist", 40)) * input_(2, "j", 20), dtype="float64")
    check(draw_case(rng, p, 9, 35), "triton")
    assert seen[0].dots == ""


def test_several_contractions_and_functions_of_vectors(seen: list[Tile]) -> None:
    rng = seeded("several")
    x, y, z, s = input_(0, "i", 56), input_(1, "j", 56), input_(2, "j", 56), input_(3, "p", 1)
    f = call("sqdist", x / s, y / s) - call("sqdist", x, z) * 0.5 + call("dot", x, call("normalize", y)) * s
    p = problem("sum", call("exp", f * -0.1))
    for batch in ("none", "mixed", "parameters"):
        m, n = (18, 40) if batch == "none" else (3, 35)
        check(draw_case(rng, p, m, n, batch, domains=[(-0.7, 0.7)] * 3 + [(1.0, 2.0)]), "triton")
    assert {t.dots for t in seen} == {"split"}


# ---------------------------------------------------------------------- wide sums


@pytest.mark.parametrize("name", ["sum", "logsumexp_weight", "sumsoftmaxweight"])
@pytest.mark.parametrize("width", [16, 20, 64, 150])
def test_wide_sums(name: str, width: int, seen: list[Tile]) -> None:
    """One evaluation of the formula for up to 128 components."""
    rng = seeded(name, width, "wide")
    for d, over, batch in ((3, "j", "mixed"), (56, "i", "none")):
        x, y = vectors(d)
        b, w = input_(2, over, width), input_(3, "j" if over == "i" else "i", 1)
        f = -call("sqdist", x, y)
        formulas = (call("exp", f) * b * w,) if name == "sum" else (f, b * w)
        if name == "logsumexp_weight":
            formulas = (f, call("square", b) * w)
        p = problem(name, *formulas, over=over)
        m, n = (21, 70) if batch == "none" else (5, 19)
        check(draw_case(rng, p, m, n, batch, domains=[(-0.3, 0.3)] * 2 + [(0.1, 1.0)] * 2), "triton")


def test_wide_sums_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(kernel: Kernel, sizes: Sizes, *rest: Any) -> Tile:
        return replace(choose(kernel, sizes, *rest), rows=16, cols=32, split=True)

    monkeypatch.setattr(device, "choose_tile", chosen)
    rng = seeded("wide parts")
    x, y, b = input_(0, "i", 2), input_(1, "j", 2), input_(2, "j", 20)
    for p in (
        problem("sum", call("exp", -call("sqdist", x, y)) * b),
        problem("sumsoftmaxweight", call("dot", x, y), b),
    ):
        check(draw_case(rng, p, 3, 2200, layouts=["plain"]), "triton")


def test_a_wide_sum_evaluates_its_formula_once() -> None:
    p = problem("sumsoftmaxweight", call("dot", *vectors(64)), input_(2, "j", 64))
    source = device.program(p, lambda _, step: step()).kernel
    from pairfuse.backends.triton.emit import emit_kernel

    tile = choose(source, Sizes(4096, 4096), 0, 0, 132)
    text = emit_kernel(source, tile)
    main = text[text.index("def kernel") :]
    loop = main[main.index("for first in") : main.index("if whole < stop")]
    # three products of halves; six of parts, and again where the tile is computed without matrix units
    assert loop.count("multiply(") == 3 + 6 + 6
    assert "% 1" in main  # one block of components


# ---------------------------------------------------------------------- the accuracy that is promised


def sequential(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared distances in float32, component after component, fused, as plain code computes them."""
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape)[:-1], np.float32)
    for k in range(x.shape[-1]):
        difference = (x[..., k] - y[..., k]).astype(np.float64)
        total = (total + difference**2).astype(np.float32)
    return total


def exact(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((x.astype(np.float64) - y.astype(np.float64)) ** 2).sum(-1)


def cut(x: np.ndarray) -> np.ndarray:
    """The float32 next to x on the side of 0: how matrix units round their sums."""
    near = x.astype(np.float32)
    return np.where(np.abs(near) > np.abs(x), np.nextafter(near, np.float32(0)), near)


def by_products(x: np.ndarray, y: np.ndarray, products: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """The algorithm of dots.py in NumPy, on pairs (x[k], y[k]) that are centred already: distances, and S."""
    halves = []
    for v in (x, y):
        power = 2.0 ** np.floor(np.log2(np.abs(v).max(-1, keepdims=True)))
        scaled = (v / power * 2**14).astype(np.float32)
        high = scaled.astype(np.float16)
        low = (scaled - high.astype(np.float32)).astype(np.float16)
        halves.append((high.astype(np.float64), low.astype(np.float64), power[..., 0] * 2.0**-14))
    (xh, xl, sx), (yh, yl, sy) = halves
    total = np.zeros(len(x), np.float32)
    for first in range(0, x.shape[-1], 64):
        acc = np.zeros(len(x), np.float32)
        for a, b in ((xl, yh), (xh, yl), (xh, yh))[3 - products :]:
            for k in range(first, min(first + 64, x.shape[-1]), 16):
                acc = cut(acc + (a[:, k : k + 16] * b[:, k : k + 16]).sum(-1))
        total = total + acc
    nx, ny = ((v.astype(np.float64) ** 2).sum(-1).astype(np.float32) for v in (x, y))
    size = nx + ny
    return (size - 2.0 * sx * sy * total.astype(np.float64)).astype(np.float32), size


@pytest.mark.parametrize("d", [56, 64, 100, 128, 256, 784])
def test_where_products_are_as_good_as_twice_the_plain_error(d: int) -> None:
    """At the threshold TAU the largest errors of many pairs are in the promised proportion, and above it, too."""
    rng = np.random.default_rng(d)
    for part in (tau(d, "split"), 0.5, 0.75, 1.0):
        x, z = rng.standard_normal((2, 4000, d))
        length = np.linalg.norm(x, axis=-1, keepdims=True)
        z -= (z * x).sum(-1, keepdims=True) * x / length**2
        z *= length / np.linalg.norm(z, axis=-1, keepdims=True)
        angle = np.arccos(1 - part)  # of vectors of one length, whose squared distance is `part` of S
        a, b = x.astype(np.float32), (np.cos(angle) * x + np.sin(angle) * z).astype(np.float32)
        found, _ = by_products(a, b)
        error, plain = ((np.abs(v - exact(a, b)) / exact(a, b)) for v in (found, sequential(a, b)))
        assert error.max() <= 2 * plain.max(), f"{part}: {error.max() / plain.max()} times as far"


def hard_points(d: int, rng: np.random.Generator) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Points for which |x|^2 - 2 <x, y> + |y|^2 cancels."""
    x, y = rng.standard_normal((16, d)), rng.standard_normal((32, d))
    centres = 30 * rng.standard_normal((4, d))
    copies = rng.integers(16, size=32)
    sizes = 10.0 ** rng.integers(-6, 4, d)
    found = {
        "random": (x, y),
        "far from the origin": (x + 1e4, y + 1e4),
        "clusters": (x + centres[rng.integers(4, size=16)], y + centres[rng.integers(4, size=32)]),
        "near, far from the origin": (100 + x, 100 + x[copies] + 1e-3 * y),
        "of many sizes": (x * 10.0 ** rng.integers(-6, 6, (16, 1)), y * 10.0 ** rng.integers(-6, 6, (32, 1))),
        "with components of many sizes": (x * sizes, y * sizes),
        "equal": (x, x[copies]),
    }
    return {name: (a.astype(np.float32), b.astype(np.float32)) for name, (a, b) in found.items()}


def all_pairs(form: str, x: np.ndarray, y: np.ndarray, accuracy: str = "strict") -> np.ndarray:
    """One number for each pair: the sum of its column only."""
    p = replace(all_pairs_problem(form, x.shape[1], len(y)), accuracy=accuracy)
    (found,) = run(Case(p, (x, y), Sizes(len(x), len(y))), "triton")
    return found


def all_pairs_problem(form: str, d: int, n: int) -> Problem:
    chosen = call("eq", index("j"), call("arange", size=n))
    return Problem((call("where", chosen, call(form, *vectors(d)), 0.0),), "sum", "j")


@pytest.mark.parametrize("d", [16, 64, 130])
def test_squared_distances_are_at_most_twice_as_far(d: int, seen: list[Tile]) -> None:
    rng = seeded(d, "accuracy")
    for name, (x, y) in hard_points(d, rng).items():
        right = exact(x[:, None], y[None])
        plain = np.abs(sequential(x[:, None], y[None]) - right)
        found = all_pairs("sqdist", x, y)
        error = np.abs(found - right)
        assert (found[right == 0] == 0).all(), name
        plain = np.maximum(plain, np.spacing(right.astype(np.float32)) / 2)
        assert error.max() <= 2 * plain.max(), f"{name}: {error.max() / plain.max()} times as far"
        error, plain = (e[right > 0] / right[right > 0] for e in (error, plain))
        assert error.max() <= 2 * plain.max(), f"{name}: {error.max() / plain.max()} times as far, relatively"
    assert {t.dots for t in seen} == {"split" if d >= 56 else ""}


@pytest.mark.parametrize("d", [16, 100])
def test_inner_products_are_at_most_twice_as_far(d: int) -> None:
    rng = seeded(d, "products")
    for name, (x, y) in hard_points(d, rng).items():
        right = x.astype(np.float64) @ y.T.astype(np.float64)
        plain = np.zeros(right.shape, np.float32)
        for k in range(d):
            plain = (plain + x[:, None, k].astype(np.float64) * y[None, :, k]).astype(np.float32)
        error = np.abs(all_pairs("dot", x, y) - right)
        size = np.abs(x).astype(np.float64) @ np.abs(y).T.astype(np.float64)
        error, plain = (
            error / size,
            np.maximum(np.abs(plain - right), np.spacing(np.abs(right).astype(np.float32)) / 2) / size,
        )
        assert error.max() <= 2 * plain.max(), f"{name}: {error.max() / plain.max()} times as far"


@pytest.mark.parametrize("form", ["dot", "sqdist"])
def test_infinities_and_nan(form: str) -> None:
    """Rows and columns with special numbers, and with numbers beyond those that operands are scaled for."""
    rng = seeded(form, "special")
    x, y = (rng.standard_normal((n, 60)).astype(np.float32) for n in (18, 70))
    for k, special in enumerate((np.inf, -np.inf, np.nan, 1e25, 1e-30, 1e36)):
        x[3 * k, k] = special
        y[11 * k + 3, 7] = special
    x[7], y[9], y[40] = 1e-35, 0.0, 1e-35
    found, (expected,) = (
        all_pairs(form, x, y),
        run(Case(all_pairs_problem(form, 60, 70), (x, y), Sizes(18, 70)), "reference"),
    )
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    assert np.array_equal(np.isposinf(found), np.isposinf(expected))
    assert np.array_equal(np.isneginf(found), np.isneginf(expected))
    finite = np.isfinite(expected)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------- accuracy "fast", and arrays of 16 bits


@pytest.mark.parametrize("form", ["dot", "sqdist"])
@pytest.mark.parametrize("d", [16, 40, 200])
def test_fast_products(form: str, d: int, seen: list[Tile]) -> None:
    """The bound that docs/accuracy.md states: 2^-10 of the sum of the absolute products, 2^-10 of S for distances."""
    rng = seeded(form, d, "fast")
    x, y = (rng.standard_normal((n, d)).astype(np.float32) for n in (18, 41))
    found = all_pairs(form, x, y, "fast")
    c = y.mean(0)
    right = x.astype(np.float64) @ y.T if form == "dot" else exact(x[:, None], y[None])
    size = np.abs(x) @ np.abs(y).T if form == "dot" else ((x - c) ** 2).sum(-1)[:, None] + ((y - c) ** 2).sum(-1)
    assert (np.abs(found - right) <= 2.0**-10 * size).all()
    assert (np.abs(found - right) > 2.0**-20 * size).any(), "not the fast way"
    assert seen[0].dots == "rounded"


@pytest.mark.parametrize("name", ["sum", "logsumexp", "sumsoftmaxweight", "min", "Kmin"])
def test_fast_reductions(name: str) -> None:
    """Within 1e-3 of the sum of the absolute terms, where squared distances are of the order of 1."""
    rng = seeded(name, "fast")
    x, y, b = (rng.standard_normal(s).astype(np.float32) for s in ((21, 64), (150, 64), (150, 20)))
    f = -call("sqdist", *vectors(64)) / 128.0
    formulas = (call("exp", f) * input_(2, "j", 20),) if name == "sum" else (f,)
    if REDUCTIONS[name].arity == 2:
        formulas = (f, input_(2, "j", 20))
    p = problem(name, *formulas, **params(name, rng))
    arrays = (x, y, b)[: len(p.inputs)]
    fast = run(Case(replace(p, accuracy="fast"), arrays, Sizes(21, 150)), "triton")[0]
    strict = run(Case(replace(p, accuracy="fast"), arrays, Sizes(21, 150)), "reference")[0]
    weights = np.exp(-exact(x[:, None], y[None]) / 128)
    size = weights @ np.abs(b) if name == "sum" else weights @ np.abs(b) / weights.sum(1, keepdims=True)
    assert (np.abs(fast - strict) <= 1e-3 * (size if name in ("sum", "sumsoftmaxweight") else 1.0)).all()
    assert not np.array_equal(fast, strict)


@pytest.mark.parametrize("accuracy", ["strict", "fast"])
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_arrays_of_16_bits_are_multiplied_as_they_are(kind: str, accuracy: str, seen: list[Tile]) -> None:
    import torch

    rng = seeded(kind, accuracy)
    x, y, b = (
        torch.from_numpy(rng.standard_normal(s)).to(getattr(torch, kind)) for s in ((21, 70), (75, 70), (75, 40))
    )
    plain = [t.double().numpy() for t in (x, y, b)]
    dot, distance = call("dot", *vectors(70)) * 0.125, call("sqdist", *vectors(70))
    for p in (
        problem("sumsoftmaxweight", dot, input_(2, "j", 40)),
        problem("sum", call("exp", distance * -0.02) * input_(2, "j", 40)),
        problem("min", distance),
    ):
        p = replace(p, accuracy=accuracy)
        tensors = [x, y, b][: len(p.inputs)]
        found = device.execute(p, tensors, Sizes(21, 75), lambda _, step: step(), kind)
        assert found is not None
        (right, *_) = run(Case(replace(p, dtype="float64"), tuple(plain[: len(tensors)]), Sizes(21, 75)), "reference")
        assert found[0].dtype == x.dtype
        unit = torch.finfo(x.dtype).eps
        # half a unit for the store, one for a GPU's rounding that the interpreter cuts, one for fast sums of 8 bits
        np.testing.assert_allclose(found[0].double(), right, rtol=3 * unit, atol=3 * unit * np.abs(right).max())
    assert {t.dots for t in seen} == {"stored"}
    assert [t.sums for t in seen][:2] == (["stored"] if kind == "bfloat16" else [seen[2].sums]) * 2


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_distances_of_16_bits(kind: str) -> None:
    """Equal points are at distance 0, near ones as far as their numbers say."""
    import torch

    rng = seeded(kind)
    x = torch.from_numpy(100 + rng.standard_normal((20, 64))).to(getattr(torch, kind))
    p = problem("min_argmin", call("sqdist", *vectors(64)))
    found = device.execute(p, [x, x.clone()], Sizes(20, 20), lambda _, step: step(), "float32")
    assert found is not None
    assert (found[0] == 0).all()
    assert (found[1][:, 0].numpy() == np.arange(20)).all()


def test_the_same_problem_of_both_accuracies_has_two_programs() -> None:
    p = problem("sum", call("exp", -call("sqdist", *vectors(64))))
    kernels = [device.program(replace(p, accuracy=a), lambda _, step: step()).kernel for a in ("strict", "fast")]
    assert [choose(k, Sizes(99, 99), 0, 0, 4).dots for k in kernels] == ["split", "rounded"]
