"""K.cost(): instructions per pair against what the formulas say, pairs and bytes, and what is not known.

Nothing here is decided by a clock: the speed of the machine is replaced by a made-up one.
"""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from dense import points

from pairfuse import FormulaError, ShapeError, config
from pairfuse.backends.llvm.target import host_target
from pairfuse.ir.reductions import REDUCTIONS
from pairfuse.numpy import LazyTensor, Vi, Vj, index_j
from pairfuse.numpy.cluster import from_matrix
from pairfuse.runtime import cost as costs
from pairfuse.torch import Vi as torch_Vi
from pairfuse.torch import Vj as torch_Vj

DTYPES = ("float32", "float64")
SPEED, LIMIT, OVERHEAD = 1e9, 4e9, 1e-4


@pytest.fixture(autouse=True)
def made_up_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "_rates", lambda dtype, threads, divides: costs.Rates(SPEED * threads, 8.0))
    monkeypatch.setattr(costs, "_limit", lambda dtype, threads: LIMIT * threads)
    monkeypatch.setattr("pairfuse.frontend.inspection._overhead", lambda lazy, library: OVERHEAD)


def variables(*lengths: int, m: int = 300, n: int = 500, dtype: str = "float64") -> list[LazyTensor]:
    """x_i of the first length, then j-variables of the others."""
    first, *others = lengths
    return [Vi(points(m, first).astype(dtype)), *[Vj(points(n, d, seed=k).astype(dtype)) for k, d in enumerate(others)]]


def gaussian(d: int, columns: int = 1, **sizes: Any) -> LazyTensor:
    x, y, b = variables(d, d, columns, **sizes)
    return (-x.sqdist(y)).exp() * b


# ---------------------------------------------------------------------- operations


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [3, 8, 20])
def test_products_and_distances_cost_what_they_are_made_of(d: int, dtype: str) -> None:
    x, y = variables(d, d, dtype=dtype)
    # a product and multiply-adds, or, in a loop, multiply-adds only; and the addition to the sum over the columns
    assert (x | y).cost().operations == d + 1
    assert x.sqdist(y).cost().operations == 2 * d + 1
    # each component joins a sum of its own; many sums are in memory, and 4 columns are added up before they join
    assert (x * y).cost().operations == (d if d <= 8 else 1.25 * d)


@pytest.mark.parametrize("instructions", ["generic", "avx2", "auto"])
def test_other_instructions_have_other_counts(instructions: str) -> None:
    with config.override(instructions=instructions):
        x, y = variables(3, 3)
        fuses = {"fma", "avx512f", "neon"} & host_target(instructions).flags
        assert (x | y).cost().operations == (4 if fuses else 6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gaussian_of_three_components(dtype: str) -> None:
    x, y, b = variables(1, 1, 1, dtype=dtype)
    exponential = ((x * y).exp() * b).cost().operations - 2  # without the product and the multiply-add
    differences, squares, negation, weight = 3, 3, 1, 1
    assert gaussian(3, dtype=dtype).cost().operations == differences + squares + negation + exponential + weight
    assert 10 < exponential < 40


@pytest.mark.parametrize("dtype", DTYPES)
def test_growth_with_the_length_of_vectors(dtype: str) -> None:
    counts = [gaussian(d, dtype=dtype).cost().operations for d in (10, 20, 40, 400)]
    assert [b - a for a, b in pairwise(counts)] == pytest.approx([20, 40, 720], rel=0.03)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_right_hand_side_more_is_a_multiply_add_more(dtype: str) -> None:
    counts = [gaussian(3, columns, dtype=dtype).cost().operations for columns in (1, 2, 8)]
    assert [c - counts[0] for c in counts] == [0, 1, 7]
    many = [gaussian(3, columns, dtype=dtype).cost().operations for columns in (50, 100)]
    assert 50 <= many[1] - many[0] <= 100  # in memory: the columns of a step are added up before they join


def test_a_chain_of_products_costs_its_products() -> None:
    """Vectors that are kept: each product of 10 x 10 more costs as much, not ten times as much."""
    x, matrix = variables(10, 100)
    counts: list[float] = []
    v = x
    for _ in range(4):
        v = matrix.matvecmult(v).sin()
        counts.append(v.cost().operations)
    steps = [b - a for a, b in pairwise(counts)]
    assert steps[1] == pytest.approx(steps[2])
    assert 100 < steps[2] < 1000


def test_insertions_are_rarer_the_more_columns_there_are() -> None:
    few, many = (variables(3, 3, n=n) for n in (200, 100_000))
    first, later = (x.sqdist(y).cost("argKmin", K=10).operations for x, y in (few, many))
    assert first > 2 * later
    x, y = many
    assert x.sqdist(y).cost("argKmin", K=20).operations > later > x.sqdist(y).cost("argmin").operations - 1


def test_odd_arguments_of_functions_are_not_counted() -> None:
    x, y = variables(1, 1)
    assert 15 < (x * y).sin().cost().operations < 80  # the C library, lane by lane, would be hundreds


@pytest.mark.parametrize("name", REDUCTIONS)
def test_every_reduction_has_a_cost(name: str) -> None:
    x, y, b = variables(2, 2, 1)
    k = x.sqdist(y)
    other = b if REDUCTIONS[name].arity == 2 else None
    for dim in (0, 1):
        found = k.cost(name, dim, other=other, K=2)
        assert 5 <= found.operations < 1000  # two differences, two squares, and what it does with them
        assert found.seconds is not None
        assert OVERHEAD < found.seconds < 1


# ---------------------------------------------------------------------- of a call


def test_pairs_and_bytes_over_both_axes() -> None:
    k = gaussian(3, m=300, n=500)
    over_j = k.cost(dim=1)
    assert (over_j.pairs, over_j.read, over_j.written) == (150_000, 8 * (900 + 1500 + 500), 8 * 300)
    over_i = k.cost(dim=0)
    assert (over_i.pairs, over_i.written) == (150_000, 8 * 500)
    assert k.cost("argmin").written == 8 * 300
    assert over_j.working is not None
    assert 1000 < over_j.working < 2e6


def test_batches_multiply() -> None:
    x, y = points(2, 5, 30, 1, 3), points(5, 1, 40, 3)
    found = (LazyTensor(x) - LazyTensor(y)).sqnorm2().cost(dim=3)
    assert (found.pairs, found.read, found.written) == (12_000, 8 * (900 + 600), 8 * 300)


def test_block_sparse_pairs() -> None:
    k = gaussian(3, m=3000, n=3000)
    dense = k.cost()
    blocks = np.stack([np.arange(0, 3000, 300), np.arange(300, 3001, 300)], 1).astype(np.int32)
    k.ranges = from_matrix(blocks, blocks, np.eye(10, dtype=bool))
    for dim in (0, 1):
        sparse = k.cost(dim=dim)
        assert sparse.pairs == 900_000
        assert sparse.operations == dense.operations
        assert sparse.seconds is not None
        assert dense.seconds is not None
        # whole tiles of rows, and the packing of columns for few rows
        assert 0.1 <= (sparse.seconds - OVERHEAD) / (dense.seconds - OVERHEAD) < 0.2


@pytest.mark.parametrize("threads", [1, 2])
def test_seconds_follow_from_operations_and_speed(threads: int) -> None:
    with config.override(threads=threads):
        once, twice = (gaussian(3, m=20_000, n=n).cost() for n in (20_000, 40_000))
    assert once.threads == twice.threads == threads
    assert once.seconds is not None
    assert twice.seconds is not None
    assert once.pairs is not None
    assert once.share is not None
    lanes = once.pairs * once.operations / (SPEED * threads) / (once.seconds - OVERHEAD)
    assert any(lanes == pytest.approx(k, rel=0.06) for k in (2, 4, 8))
    assert (twice.seconds - OVERHEAD) / (once.seconds - OVERHEAD) == pytest.approx(2, rel=0.01)
    assert once.share == pytest.approx(once.pairs * once.operations / once.seconds / (LIMIT * threads))


def test_few_rows_have_lanes_of_columns() -> None:
    found = gaussian(3, m=2, n=100_000).cost()
    assert found.operations == gaussian(3).cost().operations
    assert found.seconds is not None
    assert found.seconds < 0.1


def test_small_calls_take_what_a_call_takes() -> None:
    found = gaussian(3, m=5, n=5).cost()
    assert found.threads == 1
    assert found.seconds == pytest.approx(OVERHEAD, rel=0.05)


def test_nothing_to_reduce() -> None:
    found = gaussian(3, m=0).cost()
    assert (found.pairs, found.written, found.seconds) == (0, 0, OVERHEAD)


def test_complex_numbers_and_integers() -> None:
    x, y = variables(3, 3)
    weights = Vj(points(500, 1) + 1j * points(500, 1, seed=1))
    found = ((x | y).exp1j() * weights).cost()
    assert found.written == 16 * 300
    assert found.operations > (x | y).cost().operations + 30
    i, j = Vi(np.arange(300)[:, None]), Vj(np.arange(500)[:, None])
    assert (i == j).cost().operations >= 2


def test_tensors() -> None:
    x, y = torch.rand(300, 3, requires_grad=True), torch.rand(500, 3)
    found = (-torch_Vi(x).sqdist(torch_Vj(y))).exp().cost()
    assert (found.pairs, found.read) == (150_000, 4 * 2400)
    assert found.seconds is not None


# ---------------------------------------------------------------------- what is not known


def test_without_data_the_pair_is_counted() -> None:
    found = Vi(0, 3).sqdist(Vj(1, 3)).cost()
    assert found.operations == 7
    assert found.pairs is found.read is found.seconds is None
    assert "sizes are not known" in str(found)
    assert (Vi(points(300, 1)) * index_j()).cost().pairs is None


@pytest.mark.parametrize(("backend", "reason"), [("triton", "GPU"), ("reference", "plain NumPy")])
def test_only_the_cpu_backend_is_timed(backend: str, reason: str) -> None:
    with config.override(backend=backend):
        found = gaussian(3).cost()
    assert found.seconds is found.share is None
    assert reason in found.note
    assert found.pairs == 150_000
    k = gaussian(3)
    k.backend = "reference"
    assert k.cost().seconds is None


def test_bad_input_is_refused_as_by_explain() -> None:
    k = gaussian(3)
    for look in (k.cost, k.explain):
        with pytest.raises(FormulaError, match="no such reduction"):
            look("no such reduction")
        with pytest.raises(ShapeError, match=f"{look.__name__}.*: cannot reduce over axis 7"):
            look(dim=7)
    with pytest.raises(ShapeError, match="no index to return"):
        gaussian(3, n=0).cost("argmin")


# ---------------------------------------------------------------------- where it is shown


def test_texts() -> None:
    text = str(gaussian(3, m=20_000, n=20_000).cost())
    assert "per pair" in text
    assert "400,000,000" in text
    assert "MB read" in text
    assert "of the limit of multiply-adds" in text
    explained = gaussian(3).explain()
    assert "--- cost ---" in explained
    assert "150,000" in explained
    assert "--- cost ---" in Vi(0, 3).sqdist(Vj(1, 3)).explain()


def test_the_module_is_loaded_when_it_is_asked_for() -> None:
    code = (
        "import numpy as np, sys, pairfuse.numpy as p; x = p.Vi(np.ones((3, 1))); (x * 2).sum(dim=1);"
        "assert not {'pairfuse.runtime.cost', 'pairfuse.backends.llvm.work'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_speed_of_a_machine_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured is a number; whether it is right is for `python -m benchmarks.costs`, on an idle machine."""
    monkeypatch.undo()
    monkeypatch.setattr(costs, "ROWS", 64)
    x, y = variables(3, 3)
    for k in (gaussian(3), 1 / (1 + x.sqdist(y))):
        found = k.cost()
        assert found.seconds is not None
        assert found.share is not None
        assert 1e-6 < found.seconds < 60
        assert math.isfinite(found.share)
        assert found.share > 0
