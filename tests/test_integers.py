"""Arrays of integers: exact in comparisons, differences and choices, whatever floating type they meet.

The judge is NumPy's integer arithmetic, or Python's where 64 bits do not hold a result.
"""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfuse import numpy as pn
from pairfuse.errors import DtypeError, FormulaError
from pairfuse.frontend import evaluate
from pairfuse.frontend.integers import as_real
from pairfuse.ir.expr import call, input_, leaf_of, toposort, whole
from pairfuse.ir.ops import TABLE
from pairfuse.lower.integers import DIGIT, unseen
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.numpy import Genred, LazyTensor, Vi, Vj, index_i, index_j
from pairfuse.runtime import arrays, integers
from pairfuse.runtime.execute import execute

IDS = np.array([16777216, 16777217, 16777218])
HASHES = np.array([2**62, 2**62 + 1, -(2**62), 2**63 - 1, -(2**63), 2**53 + 1, 2**53])
BACKENDS = ("reference", "llvm")
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}


def pair(x: np.ndarray, y: np.ndarray) -> tuple[LazyTensor, LazyTensor]:
    return LazyTensor(x[:, None, None]), LazyTensor(y[None, :, None])


def ones(dtype: str) -> LazyTensor:
    """A parameter that says the floating type of the formula."""
    return LazyTensor(np.ones(1, dtype))


# ---------------------------------------------------------------------- comparisons


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_ids_of_tensors(backend: str) -> None:
    torch = pytest.importorskip("torch")
    from pairfuse.torch import LazyTensor as Torch

    ids = torch.from_numpy(IDS)
    same = Torch(ids[:, None, None]) == Torch(ids[None, :, None])
    counts = same.sum(dim=1, backend=backend)
    assert counts.flatten().tolist() == [1, 1, 1]
    assert counts.dtype == torch.get_default_dtype()


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_ids_beside_float32(backend: str) -> None:
    i, j = pair(IDS, IDS)
    x = np.arange(3, dtype=np.float32)[:, None]
    chosen = pn.where(i == j, (Vi(x) - Vj(x + 1)) ** 2, 0)
    result = chosen.sum(dim=1, backend=backend)
    assert result.dtype == np.float32
    assert result.ravel().tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_index_beside_integers(kind: str) -> None:
    if kind == "torch":
        torch = pytest.importorskip("torch")
        from pairfuse.torch import LazyTensor as Torch
        from pairfuse.torch import index_j as number

        labels = Torch(torch.tensor([0, 1, 2, 5])[:, None, None])
        found = (number(4) == labels).sum(dim=1).flatten()
    else:
        found = (index_j(4) == LazyTensor(np.array([0, 1, 2, 5])[:, None, None])).sum(dim=1).ravel()
    assert found.tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("dtype", ["float32", "float64", None])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", COMPARISONS)
@pytest.mark.parametrize("data", [IDS, HASHES, np.array([3, -7, 0, 120]), IDS.astype(np.uint32), IDS.astype(np.int32)])
def test_comparison(name: str, data: np.ndarray, backend: str, dtype: str | None) -> None:
    """Over both axes, of two variables, and of a variable and a number."""
    i, j = pair(data, data[::-1])
    true = COMPARISONS[name](data[:, None], data[None, ::-1])
    for formula, expected in (
        (COMPARISONS[name](i, j), true),
        (COMPARISONS[name](i, int(data[1])), COMPARISONS[name](data[:, None], data[1])),
    ):
        counted = formula if dtype is None else pn.where(formula, ones(dtype), 0)
        assert counted.sum(dim=1, backend=backend).ravel().tolist() == expected.sum(1).tolist()
        if expected.shape[1] > 1:
            assert counted.sum(dim=0, backend=backend).ravel().tolist() == expected.sum(0).tolist()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_few_rows_batches_and_parameters(dtype: str, backend: str) -> None:
    """The lanes on the columns, one array for all batches, an integer for each batch, vectors."""
    rng = np.random.default_rng(0)
    x = rng.integers(2**40, 2**40 + 3, (2, 1, 1, 2))
    y = rng.integers(2**40, 2**40 + 3, (1, 1, 700, 2))
    p = rng.integers(2**40, 2**40 + 3, (2, 1, 1, 1))
    formula = pn.where(LazyTensor(x) == LazyTensor(y), ones(dtype), 0) * (LazyTensor(y) >= LazyTensor(p))
    expected = ((x == y) & (y >= p)).sum(2)
    np.testing.assert_array_equal(formula.sum(dim=2, backend=backend).reshape(expected.shape), expected)


def test_larger_numbers_in_the_formula() -> None:
    """A literal that float64 does not hold is compared as it is."""
    x = np.array([2**53, 2**53 + 1, 2**53 + 2])
    assert (Vi(x[:, None]) == 2**53 + 1).sum(dim=1).ravel().tolist() == [0, 1, 0]
    assert (LazyTensor([2**53 + 1]) == Vi(x[:, None])).sum(dim=1).ravel().tolist() == [0, 1, 0]
    assert (pn.where(Vi(x[:, None]) > 2**53, ones("float32"), 0)).sum(dim=1).ravel().tolist() == [0, 1, 1]


# ---------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_differences(dtype: str, backend: str) -> None:
    """Times in seconds or nanoseconds: what is close is told apart, and differences lose nothing as real numbers."""
    for start in (1_700_000_000, 1_700_000_000_123_456_789):
        t = start + np.array([0, 1, 3, 1000, 1001])
        i, j = pair(t, t[::-1])
        delta = t[:, None] - t[None, ::-1]
        near = pn.where((i - j).abs() <= 2, ones(dtype), 0).sum(dim=1, backend=backend)
        assert near.ravel().tolist() == (abs(delta) <= 2).sum(1).tolist()
        decay = ((i - j) * (-0.001 * ones(dtype))).sum(dim=1, backend=backend)
        np.testing.assert_allclose(decay.ravel(), (-0.001 * delta).sum(1), rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(-(2**40), 2**40), min_size=2, max_size=5),
    st.sampled_from(["int64", "small"]),
    st.sampled_from(["float32", "float64"]),
    st.sampled_from(BACKENDS),
)
def test_random_formulas(numbers: list[int], size: str, dtype: str, backend: str) -> None:
    """Sums, differences, products with numbers, extrema and choices, compared as Python compares integers."""
    values = np.array([n % 100 - 50 for n in numbers] if size == "small" else numbers)
    i, j = pair(values, values)
    a, b = values[:, None], values[None, :]
    shapes: list[tuple[Any, Any]] = [
        (i + j, a + b),
        (i - j, a - b),
        (-i * 3 + j, -a * 3 + b),
        ((i - j).abs(), abs(a - b)),
        (pn.minimum(i, j), np.minimum(a, b)),
        (pn.maximum(i, j) - i, np.maximum(a, b) - a),
        (pn.where(i > j, i, j), np.where(a > b, a, b)),
        (i // 7, a // 7 + 0 * b),
    ]
    for formula, true in shapes:
        for bound in (int(true.flat[0]), int(true.flat[0]) + 1):
            found = pn.where(formula + 0 * j >= bound, ones(dtype), 0).sum(dim=1, backend=backend)
            assert found.ravel().tolist() == (true >= bound).sum(1).tolist()


def test_integers_at_the_end_of_64_bits() -> None:
    """What leaves 64 bits is computed as a real number, or refused where it is compared."""
    found = (index_j(10_000) ** 5).sum(dim=1)
    assert found.item() == pytest.approx(sum(k**5 for k in range(10_000)), rel=1e-12)
    x = np.zeros((3, 1))
    literal = Genred("2**64 + 0*(x + y)", ["x = Vi(1)", "y = Vj(1)"], "Sum", axis=1)(x, x)
    assert literal.ravel().tolist() == [3 * 2.0**64] * 3
    product = Genred("18446744073709551616 * x + 0 * y", ["x = Vi(1)", "y = Vj(1)"], "Sum", axis=1)(x + 1, x)
    assert product.ravel().tolist() == [3 * 2.0**64] * 3
    assert (index_j(5) ** 5).sum(dim=1).item() == 1300
    assert (index_j(6000) ** 5 == 5999**5).sum(dim=1).item() == 1  # just below: the next power of two would leave them
    with pytest.raises(FormulaError, match="leave 64 bits"):
        (index_j(10_000) ** 5 == index_i(3)).sum(dim=1)
    i, j = pair(HASHES, HASHES)
    with pytest.raises(FormulaError, match="leave 64 bits"):
        (i - j > 0).sum(dim=1)
    with pytest.raises(FormulaError, match="leave 64 bits"):
        (index_j(10_000) ** 5 // 3).sum(dim=1)


def test_uint64() -> None:
    x = np.array([2**63, 1], np.uint64)
    i, j = pair(x, x)
    with pytest.raises(DtypeError, match="beyond those of 64 bits"):
        (i == j).sum(dim=1)
    small = LazyTensor(x[1:, None, None])
    assert (small == 1).sum(dim=1).item() == 1
    assert (small <= LazyTensor(2**63 - x[None, :, None])).sum(dim=1).item() == 1


def test_division_by_zero() -> None:
    """One meaning for small and large integers: that of the numbers of rows and columns."""
    for big in (5, 2**40):
        x = np.array([[big], [0]])
        found = pn.where((Vi(x) // Vj(x)) == 0, ones("float32"), 0).sum(dim=1)
        assert found.ravel().tolist() == [1, 2]


# ---------------------------------------------------------------------- real numbers


def test_rounding_raises_beside_float32() -> None:
    i, _ = pair(IDS, IDS)
    x = LazyTensor(np.ones((1, 4, 1), np.float32))
    for formula in (i * x, i + x, pn.where(x > 0, i, 0) * x, i.sqrt() * x):
        with pytest.raises(DtypeError, match="float32 would round them"):
            formula.sum(dim=1)
    assert ((i - 16777216) * x).sum(dim=1).ravel().tolist() == [0, 4, 8]
    exact = (i * LazyTensor(np.ones((1, 4, 1)))).sum(dim=1)
    assert exact.ravel().tolist() == (4 * IDS).tolist()
    with pytest.raises(DtypeError, match="float64 would round them"):
        Vi(HASHES[:, None]).min(dim=0)
    with pytest.raises(DtypeError, match="float32 would round them"):
        _ = LazyTensor(np.ones((2, 1, 1), np.float32)) @ np.array([16777217])


def test_rounding_widens_without_real_arrays() -> None:
    torch = pytest.importorskip("torch")
    from pairfuse.torch import LazyTensor as Torch

    ids = torch.from_numpy(IDS)
    j = Torch(ids[None, :, None])
    for found, true in ((j.max(dim=1), 16777218), (j.sum(dim=1), int(IDS.sum())), ((j + 1).min(dim=1), 16777217)):
        assert found.dtype == torch.float64
        assert found.item() == true
    assert j.argmax(dim=1).item() == 2
    assert Torch(ids[None, :2, None] - 16777216).sum(dim=1).dtype == torch.float32


def test_derivatives_beside_integers() -> None:
    """Integers have no derivatives of their own, and do not disturb those of the others."""
    torch = pytest.importorskip("torch")
    from pairfuse.torch import LazyTensor as Torch
    from pairfuse.torch import where

    ids, x = torch.from_numpy(IDS), torch.linspace(0, 1, 3)[:, None].requires_grad_()
    same = Torch(ids[:, None, None]) == Torch(ids[None, :, None])
    distance = (Torch(x[:, None]) - Torch(x[None] + 1)) ** 2
    where(same, distance, 0).sum(dim=1).sum().backward()
    assert x.grad is not None
    dense = torch.linspace(0, 1, 3, dtype=torch.float64)[:, None].requires_grad_()
    ((ids[:, None] == ids) * (dense - dense.T - 1) ** 2).sum().backward()
    torch.testing.assert_close(x.grad, dense.grad, check_dtype=False)


def test_derivatives_with_respect_to_integers() -> None:
    """They are taken for real numbers."""
    x, y = Vi(np.array([[1], [2]])), Vj(np.array([[0], [3]]))
    assert ((x - y) ** 2).grad(x, 1).sum(dim=1).ravel().tolist() == [-2, 2]
    scaled = x * Vi(np.array([[0.5], [0.25]])) + y
    assert scaled.grad(x, 1).sum(dim=1).ravel().tolist() == [1, 0.5]
    assert scaled.value_and_grad("sum", dim=1, wrt=x)[1].ravel().tolist() == [1, 0.5]
    torch = pytest.importorskip("torch")
    import pairfuse.torch as pt

    for ids in (IDS, torch.from_numpy(IDS)):
        z = np.ones((3, 1), np.float32) if ids is IDS else torch.ones(3, 1)
        face = pn if ids is IDS else pt
        masked = face.where(face.Vi(ids[:, None]) == face.Vj(ids[:, None]), face.Vj(z) ** 2, 0)
        value, (first, second, third) = masked.value_and_grad("sum", dim=1)
        assert (value.ravel().tolist(), third.ravel().tolist()) == ([1, 1, 1], [2, 2, 2])
        assert not first.any()
        assert not second.any()
    value, gradient = ((x - y) ** 2).value_and_grad("sum", dim=1, wrt=x)
    assert value.ravel().tolist() == [5, 5]
    assert gradient.ravel().tolist() == [-2, 2]


def test_linear_systems() -> None:
    """A matrix of comparisons, beside a right-hand side of float32."""
    same = Vi(IDS[:, None]) == Vj(IDS[:, None])
    found = pn.where(same, ones("float32"), 0).solve(np.array([2, 4, 6], np.float32), alpha=1.0)
    np.testing.assert_allclose(found, [1, 2, 3], rtol=1e-5)
    with pytest.raises(DtypeError, match="b holds integers that float32 would round"):
        pn.where(same, ones("float32"), 0).solve(IDS, alpha=1.0)


# ---------------------------------------------------------------------- every way to a reduction


@pytest.mark.parametrize("backend", ["reference", pytest.param("llvm", marks=pytest.mark.slow)])
def test_every_operation_in_digits(backend: str) -> None:
    """Each row of the table, on integers that nothing is known of, is what it is on real numbers."""
    rng = np.random.default_rng(1)
    for name, op in TABLE.items():
        dims, params = op.samples[0]
        real = [input_(k, "ij"[k % 2], d) for k, d in enumerate(dims)]
        try:
            formula = call(name, *[whole(v) for v in real], **params)
        except FormulaError:
            continue
        values = [rng.integers(1, 4, (3, d)) for d in dims]
        problem, digits = unseen(Problem((call("to_real", formula),), "sum", "j"), (64,) * len(dims))
        given = [
            integers.digits(v, "float32", n, DIGIT["float32"]) if n > 1 else v.astype(np.float32)
            for v, n in zip(values, digits, strict=True)
        ]
        plain = Problem((call("to_real", call(name, *real, **params)),), "sum", "j", "float64")
        with np.errstate(all="ignore"):
            wanted = execute(plain, [v.astype(float) for v in values], Sizes(3, 3), backend="reference")[0]
            found = execute(problem, given, Sizes(3, 3), backend=backend)[0]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4, err_msg=name)


def test_torch_compile_vmap_and_make_fx() -> None:
    torch = pytest.importorskip("torch")
    from pairfuse.torch import Genred, where
    from pairfuse.torch import LazyTensor as Torch
    from pairfuse.torch import index_j as number

    def counts(ids: Any, others: Any) -> Any:
        return (Torch(ids[:, None, None]) == Torch(others[None, :, None])).sum(dim=1)

    ids = torch.from_numpy(IDS)
    assert torch.compile(counts, backend="eager", fullgraph=True)(ids, ids).flatten().tolist() == [1, 1, 1]

    def decays(ids: Any, others: Any, x: Any) -> Any:  # with differences, an index, and a variable of real numbers
        near = (Torch(ids[:, None, None]) - Torch(others[None, :, None])).abs() <= number(3)
        return where(near, Torch(x[:, None]) ** 2, 0).sum(dim=1)

    x = torch.tensor([[1.0], [2.0], [3.0]])
    compiled = torch.compile(decays, backend="eager", fullgraph=True)
    assert compiled(ids, ids, x).flatten().tolist() == decays(ids, ids, x).flatten().tolist() == [3, 8, 18]
    same = Genred("Abs(x - y) * a", ["x = Vi(1)", "y = Vj(1)", "a = Pm(1)"], "Sum", axis=1)
    apart = torch.compile(lambda a, b, c: same(a, b, c), backend="eager")
    assert apart(ids[:, None], ids[:, None], torch.ones(1)).flatten().tolist() == [3, 2, 3]
    both = torch.stack([ids, ids + 1])
    assert torch.func.vmap(counts, (0, None))(both, ids).flatten().tolist() == [1, 1, 1, 1, 1, 0]
    from torch.fx.experimental.proxy_tensor import make_fx

    assert make_fx(counts)(ids, ids.clone())(ids + 1, ids).flatten().tolist() == [1, 1, 0]


def test_pickle_and_strings() -> None:
    i, j = pair(IDS, IDS)
    again = pickle.loads(pickle.dumps(i == j))
    assert again.sum(dim=1).ravel().tolist() == [1, 1, 1]
    same = Genred("IfElse(0 - Abs(x - y), a, 0 * a)", ["x = Vi(1)", "y = Vj(1)", "a = Pm(1)"])
    found = same(IDS[:, None], IDS[:, None], np.ones(1, np.float32))
    assert found.ravel().tolist() == [1, 1, 1]


def test_ranges() -> None:
    """Block-sparse: the first two rows with the first two columns, the third with the third."""
    i, j = pair(IDS, IDS)
    blocks, slices = np.array([[0, 2], [2, 3]], np.int32), np.array([1, 2], np.int32)
    formula = pn.where(i <= j, ones("float32"), 0)
    found = formula.sum(dim=1, ranges=(blocks, slices, blocks, blocks, slices, blocks))
    assert found.ravel().tolist() == [2, 1, 1]


def test_variables_of_integers_are_variables() -> None:
    x = Vi(np.arange(3)[:, None])
    assert (x.axis, x.axis_letter) == (0, "i")
    assert leaf_of(x._expr) is input_(0, "i", 1)
    assert as_real(x._expr, frozenset({0})) is input_(0, "i", 1)
    assert "whole" not in {n.name for n in toposort(as_real((x * x)._expr, frozenset({0})))}


# ---------------------------------------------------------------------- repeated numbers are converted once


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float64, np.bool_])
def test_broadcast_arrays_are_not_written_out(dtype: type) -> None:
    torch = pytest.importorskip("torch")
    long = np.broadcast_to(np.ones((1, 100), dtype), (100_000, 100))
    for x in (long, torch.from_numpy(np.ones((1, 100), dtype)).expand(100_000, 100)):
        assert arrays.view(x, "float32").strides == (0, 4)
    tensor = torch.from_numpy(np.ones((1, 100), dtype)).expand(100_000, 100)
    assert arrays.on_device(tensor, "float32", "cpu").stride()[0] == 0
    assert integers.digits(long, "float32", 2, 24).strides[0] == 0
    ends = np.broadcast_to(np.ones((100, 1), dtype), (100, 100_000))
    assert arrays.view(ends, "float32").strides == (4, 0)


@pytest.mark.parametrize("large", [1, 2**40])
def test_memory_of_broadcast_arrays(large: int) -> None:
    x = np.broadcast_to(np.full((1, 20), large), (200_000, 20))
    y = np.ones((2, 20), np.float32)
    formula = pn.where(Vj(x) == large, Vi(y), 0)
    formula.sum(dim=1)
    tracemalloc.start()
    try:
        found = formula.sum(dim=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.sum() == 2 * 20 * 200_000
    assert peak < 4_000_000  # written out, it takes 16 MB


def test_complex_views_are_not_written_out() -> None:
    torch = pytest.importorskip("torch")
    x = np.broadcast_to(np.array([[1 + 2j, 3 - 1j]]), (1000, 2))
    assert arrays.as_pairs(x, "numpy").strides[0] == 0
    tensor = torch.tensor([[1 + 2j, 3 - 1j]]).conj().expand(1000, 2)
    pairs = arrays.as_pairs(tensor, "torch")
    assert pairs.stride()[0] == 0
    assert pairs[0].tolist() == [1, -2, 3, 1]


def test_small_integers_are_as_fast_as_real_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks and labels make the formulas that real numbers make, and so the same programs."""
    seen: list[Problem] = []

    def watched(problem: Problem, *args: Any, **options: Any) -> Any:
        seen.append(problem)
        return execute(problem, *args, **options)

    monkeypatch.setattr(evaluate, "execute", watched)
    x, labels = np.linspace(0, 1, 10, dtype=np.float32).reshape(5, 2), np.array([[0], [1], [1], [0], [2]])
    d = Vi(x).sqdist(Vj(x))
    formulas: list[Callable[[LazyTensor, LazyTensor], LazyTensor]] = [
        lambda a, b: pn.where(a == b, d, 0),
        lambda a, b: pn.where(a, d, 0) * (a != b),
        lambda a, b: a + b * d - (a - b).abs() * d,
        lambda a, b: (a**2 - 2 * a * b) * d / (b + 1),
        lambda a, b: pn.maximum(a, b).clamp(0, 1) * d + pn.where(a > b, a, b) * d,
        lambda a, b: a % 3 * d + a.sign() * d - a.relu() * d,
        lambda a, b: (index_i(5) == a) * d,
    ]
    for formula in formulas:
        for dtype in ("int64", "bool", "uint8", "float32"):
            given = labels.astype(dtype)
            formula(Vi(given), Vj(given)).sum(dim=1)
        assert seen[0] == seen[1] == seen[2] == seen[3]
        seen.clear()
