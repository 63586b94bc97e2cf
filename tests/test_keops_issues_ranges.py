"""What users of KeOps reported of block-sparse ranges, clusters and half precision; and that no report is forgotten.

Every formula is compared with the same computed densely in float64, the mask being an array of truth values.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dense import points

import pairfuse.numpy.cluster
import pairfuse.torch.cluster
from pairfuse.numpy import LazyTensor, Vi, Vj

LIBRARIES: dict[str, Any] = {"numpy": lambda x: x, "torch": torch.from_numpy}
CLUSTER: dict[str, Any] = {"numpy": pairfuse.numpy.cluster, "torch": pairfuse.torch.cluster}
both = pytest.mark.parametrize("library", LIBRARIES)


def agree(got: Any, expected: np.ndarray, tolerance: float = 1e-10) -> None:
    assert tuple(got.shape) == expected.shape
    np.testing.assert_allclose(np.asarray(got), expected, rtol=tolerance, atol=tolerance)


def diagonal(library: str, sizes: list[int]) -> tuple[Any, ...]:
    """The six arrays of a block-diagonal mask, and the mask itself last."""
    ends = np.cumsum(sizes)
    ranges = np.stack([ends - sizes, ends], 1)
    label = np.repeat(np.arange(len(sizes)), sizes)
    keep = np.eye(len(sizes), dtype=bool)
    make = CLUSTER[library].from_matrix
    return make(*(LIBRARIES[library](a) for a in (ranges, ranges, keep))), label[:, None] == label


@both
def test_issue_97(library: str) -> None:
    """Ranges that are no contiguous arrays: neighbours within 1.1 on a grid of 16 points, in clusters of 4."""
    grid = np.stack(np.meshgrid(np.arange(4.0), np.arange(4.0)), -1).reshape(-1, 2)
    module, x = CLUSTER[library], LIBRARIES[library](grid)
    labels = module.grid_cluster(x, LIBRARIES[library](np.array([2.0, 2.0])))
    ranges, centres, _ = module.cluster_ranges_centroids(x, labels)
    (x,), labels = module.sort_clusters((x,), labels)
    near = ((centres[:, None] - centres[None]) ** 2).sum(-1) < 2.5**2
    six = module.from_matrix(ranges, ranges, near)
    wide = [np.repeat(np.asarray(a), 2, axis=-1)[..., ::2] for a in six]  # every second number, as slices are
    assert not all(a.flags.c_contiguous for a in wide)
    within = (Vi(x) - Vj(x)).sqnorm2() < 1.1**2
    squared = ((np.asarray(x)[:, None] - np.asarray(x)) ** 2).sum(-1)
    expected = (squared < 1.1**2).sum(1, keepdims=True).astype(float)
    agree(within.sum(dim=1, ranges=tuple(LIBRARIES[library](a) for a in wide)), expected)
    agree(within.sum(dim=1), expected)


@both
def test_issue_120(library: str) -> None:
    """Ranges together with batch axes."""
    x, y, b = points(3, 30, 2), points(3, 30, 2, seed=1), points(3, 30, 2, seed=2)
    six, mask = diagonal(library, [7, 11, 12])
    x_i, y_j, b_j = (
        LazyTensor(LIBRARIES[library](a[at]))
        for a, at in zip((x, y, b), (np.s_[:, :, None], np.s_[:, None], np.s_[:, None]), strict=True)
    )
    dense = np.exp(-((x[:, :, None] - y[:, None]) ** 2).sum(-1)) * mask
    agree(((-x_i.sqdist(y_j)).exp() * b_j).sum(dim=2, ranges=six), dense @ b)


@both
def test_issue_195(library: str) -> None:
    """The nearest points inside of the own block (also #218, #272, on several GPUs)."""
    x = points(60, 3)
    six, mask = diagonal(library, [20, 5, 35])
    squared = np.where(mask, ((x[:, None] - x) ** 2).sum(-1), np.inf)
    given = LIBRARIES[library](x)
    agree(Vi(given).sqdist(Vj(given)).argKmin(4, dim=1, ranges=six), np.argsort(squared, 1, kind="stable")[:, :4])


def test_issue_436() -> None:
    """Half precision with ranges, under autocast: computed in float32."""
    x = torch.from_numpy(points(20, 3, dtype=np.float32))
    six, mask = diagonal("torch", [8, 12])
    expected = np.exp(-((x[:, None] - x) ** 2).sum(-1).double().numpy()) * mask
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = x.bfloat16()
        wide = half.float().double().numpy()
        k = (-Vi(half).sqdist(Vj(half))).exp()
        got = k.sum(dim=1, ranges=six)
    assert got.dtype == torch.float32
    rounded = (np.exp(-((wide[:, None] - wide) ** 2).sum(-1)) * mask).sum(1, keepdims=True)
    agree(got, rounded, 1e-6)
    agree(got, expected.sum(1, keepdims=True), 3e-2)  # as far as bfloat16 holds the points


@both
def test_geomloss_issue_85(library: str) -> None:
    """Clusters of points of more than three dimensions: the multiscale solver needs them."""
    x = points(200, 5)
    module, given = CLUSTER[library], LIBRARIES[library](x)
    labels = module.grid_cluster(given, 0.7)
    ranges, centres, weights = module.cluster_ranges_centroids(given, labels)
    (sorted_x,), sorted_labels = module.sort_clusters((given,), labels)
    corner = x.min(0) if library == "torch" else 0.0  # of the grid
    cells = np.unique(np.floor((x - corner) / 0.7), axis=0)
    assert len(ranges) == len(centres) == len(cells) > 1
    assert float(weights.sum()) == pytest.approx(len(x))
    found = np.asarray(sorted_x)
    for k, (start, stop) in enumerate(np.asarray(ranges)):
        assert len(np.unique(np.floor((found[start:stop] - corner) / 0.7), axis=0)) == 1
        np.testing.assert_allclose(np.asarray(centres)[k], found[start:stop].mean(0), rtol=1e-6)
    order = np.asarray(sorted_labels).tolist()
    assert order == sorted(order)


# ---------------------------------------------------------------------- bugs of systems of the same kind


@both
def test_more_batches_than_16_bits_count(library: str) -> None:
    """tensorflow#29374: batches from 65,536 on are zero."""
    x, y = points(66_000, 2, 1), points(66_000, 3, 1, seed=1)
    x_i, y_j = LazyTensor(LIBRARIES[library](x[:, :, None])), LazyTensor(LIBRARIES[library](y[:, None]))
    agree(((x_i - y_j) ** 2).sum(dim=2), ((x[:, :, None] - y[:, None]) ** 2).sum(2))


def test_products_of_sizes_beyond_32_bits() -> None:
    """pydpc#21, pykdtree#134: M N beyond 2^32, the nearest of all at the very end."""
    x, y = np.zeros((70_000, 1), np.float32), np.ones((70_000, 1), np.float32)
    y[-1] = 0.25
    x[-1] = 5.0
    found = (Vi(x) - Vj(y)).abs().argmin(dim=1)
    assert found[:-1].min() == found[:-1].max() == 69_999
    assert found[-1] == 0


def test_many_neighbours() -> None:
    """pytorch_cluster#164: K beyond 100; natten#203: fewer terms than any block has."""
    x, y = points(6, 2), points(500, 2)
    squared = ((x[:, None] - y) ** 2).sum(-1)
    agree(Vi(x).sqdist(Vj(y)).argKmin(150, dim=1), np.argsort(squared, 1, kind="stable")[:, :150])
    few = torch.from_numpy(points(5, 2)).requires_grad_()
    (-Vi(few).sqdist(Vj(few))).logsumexp(dim=1).sum().backward()
    assert few.grad is not None
    assert few.grad.isfinite().all()


# ---------------------------------------------------------------------- the list

# The numbers of KeOps' tracker whose reports state a formula or a situation that can be tried here.
REPORTED = """
    366 382 103 145 106 19 299 266 187 268 233 238 246 220 262 243 331 294 304 209 221 112 370 333 97 120 149 25 327 344
    191 125 140 263 46 211 292 346 376 425 22 58 393 436 306 359 284 300 353 303 195 218 272 45 444 82
"""
OF_CLIENTS = ("geomloss_issue_26", "geomloss_issue_85", "gpytorch_issue_1543", "gpytorch_issue_1885", "s4_cauchy")


def test_every_report_has_a_test() -> None:
    """Named after its number; or named, as (also #...), by the test of a report of the same thing."""
    text = "".join(p.read_text(encoding="utf-8") for p in Path(__file__).parent.glob("test_keops_issues*.py"))
    tests = set(re.findall(r"def test_issue_(\d+)", text))
    for also in re.findall(r'"""[^"]*\(also ([^)]*)\)', text):
        tests |= set(re.findall(r"#(\d+)", also))
    assert set(re.findall(r"\d+", REPORTED)) - tests == set()
    assert [name for name in OF_CLIENTS if f"def test_{name}" not in text] == []
