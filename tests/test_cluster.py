"""Clusters and the ranges made of them, in both libraries, against definitions written out point by point."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pairfuse.errors import DtypeError, ShapeError
from pairfuse.numpy import LazyTensor, cluster
from pairfuse.torch import cluster as torch_cluster

LIBRARIES = ("numpy", "torch")


def seeded(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def made(library: str, values: Any, dtype: Any = None) -> Any:
    array = np.array(values, dtype=dtype)
    return torch.from_numpy(array) if library == "torch" else array


def plain(x: Any) -> np.ndarray:
    return x.numpy() if isinstance(x, torch.Tensor) else np.asarray(x)


def cells_of(x: np.ndarray, size: Any, library: str) -> list[tuple[float, ...]]:
    """The cell of every point."""
    x = x - x.min(0) if library == "torch" else x
    return [tuple(row) for row in np.floor(x / size).tolist()]


def numbered(cells: list[tuple[float, ...]]) -> list[int]:
    order = {cell: k for k, cell in enumerate(sorted(set(cells)))}
    return [order[cell] for cell in cells]


# ---------------------------------------------------------------------- grids


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_worked_example(library: str) -> None:
    for values in ([[0.0], [0.1], [0.9], [0.05], [0.5]], [0.0, 0.1, 0.9, 0.05, 0.5]):
        labels = cluster.grid_cluster(made(library, values), 0.2)
        assert plain(labels).tolist() == [0, 0, 2, 0, 1]
        assert plain(labels).dtype == (np.int64 if library == "numpy" else np.int32)
    assert cluster.grid_cluster([0.0, 0.1, 0.9, 0.05, 0.5], 0.2).tolist() == [0, 0, 2, 0, 1]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dim", [1, 2, 3, 7])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_grids_of_any_dimension(dim: int, library: str, dtype: str) -> None:
    rng = seeded(dim)
    x = rng.normal(size=(400, dim)).astype(dtype)
    for size in (0.5, 2.0, rng.uniform(0.3, 2, dim).astype(dtype)):
        side = made(library, size) if isinstance(size, np.ndarray) else size
        labels = plain(cluster.grid_cluster(made(library, x), side))
        assert labels.tolist() == numbered(cells_of(x, size, library))


@pytest.mark.parametrize("library", LIBRARIES)
def test_negative_coordinates_and_many_cells(library: str) -> None:
    """Cells on both sides of 0, and more than 1024 along an axis, stay apart."""
    x = np.array(
        [[-0.5, 0.5], [0.5, -0.5], [-0.5, -0.5], [0.5, 0.5], [1024.5, 0.5], [0.5, 1.5], [1e9, -1e9], [1e9, 1e9]]
    )
    labels = plain(cluster.grid_cluster(made(library, x), 1.0))
    assert labels.tolist() == numbered(cells_of(x, 1.0, library))
    assert len(set(labels.tolist())) == 8
    far = seeded(1).uniform(-1e6, 1e6, (3000, 3))
    assert plain(cluster.grid_cluster(made(library, far), 1.0)).tolist() == numbered(cells_of(far, 1.0, library))


@pytest.mark.parametrize("library", LIBRARIES)
def test_grids_of_special_data(library: str) -> None:
    assert plain(cluster.grid_cluster(made(library, np.zeros((0, 3))), 1.0)).shape == (0,)
    assert plain(cluster.grid_cluster(made(library, [[5], [-3], [4]]), 3)).tolist() == numbered(
        cells_of(np.array([[5], [-3], [4]]), 3, library)
    )
    x = made(library, [[-0.0], [0.0]])
    assert plain(cluster.grid_cluster(x, 1.0)).tolist() == [0, 0], "zero has two signs"
    for wrong in (np.nan, np.inf):
        with pytest.raises(ShapeError, match="a coordinate is infinite or NaN"):
            cluster.grid_cluster(made(library, [[0.0], [wrong]]), 1.0)
    for side in (0.0, -1.0, np.nan, np.inf, made(library, [1.0, 2.0])):
        with pytest.raises(ShapeError, match="no sides of a cell"):
            cluster.grid_cluster(made(library, [[0.0], [1.0]]), side)
    with pytest.raises(ShapeError, match=r"points are an array of shape \(M, D\)"):
        cluster.grid_cluster(made(library, np.zeros((2, 3, 4))), 1.0)


# ---------------------------------------------------------------------- sorting, ranges, centres


@pytest.mark.parametrize("library", LIBRARIES)
def test_sorting_is_stable(library: str) -> None:
    lab = seeded(2).integers(0, 5, 200)
    x = np.arange(200.0)[:, None]
    expected = np.argsort(lab, kind="stable")
    for kind in (np.int64, np.int32, np.int16):
        points, labels = cluster.sort_clusters(made(library, x), made(library, lab, kind))
        assert (plain(points)[:, 0] == expected).all()
        assert (plain(labels) == lab[expected]).all()
        assert plain(labels).dtype == kind
    for container in (tuple, list):
        found, _ = cluster.sort_clusters(container((made(library, x), made(library, x[:, 0]))), made(library, lab))
        assert type(found) is container
        assert (plain(found[1]) == expected).all()
    with pytest.raises(ShapeError, match="one label for each point"):
        cluster.sort_clusters(made(library, x[1:]), made(library, lab))


def test_sorting_is_differentiable() -> None:
    x = torch.arange(4.0).requires_grad_()
    found, _ = torch_cluster.sort_clusters(x, torch.tensor([1, 0, 1, 0]))
    (g,) = torch.autograd.grad((found * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum(), [x])
    assert g.tolist() == [3.0, 1.0, 4.0, 2.0]


@pytest.mark.parametrize("library", LIBRARIES)
def test_ranges_of_clusters(library: str) -> None:
    lab = made(library, [0, 2, 0, 0, 1, 4], np.int32)
    ranges = cluster.cluster_ranges(lab)
    assert plain(ranges).tolist() == [[0, 3], [3, 4], [4, 5], [5, 5], [5, 6]]
    assert plain(ranges).dtype == np.int64
    counts = made(library, [3.0, 1.0, 1.0, 0.0, 1.0])
    assert plain(cluster.cluster_ranges(lab, counts)).tolist() == plain(ranges).tolist()
    large = made(library, [2**24 + 1, 1, 2**40])  # beyond what float32 can count
    assert plain(cluster.cluster_ranges(lab, large)).tolist()[-1] == [2**24 + 2, 2**24 + 2 + 2**40]
    assert plain(cluster.cluster_ranges(made(library, np.zeros(0, np.int64)))).shape == (0, 2)
    with pytest.raises(DtypeError, match="labels are integers"):
        cluster.cluster_ranges(made(library, [0.0, 1.0]))
    with pytest.raises(ShapeError, match="a label is negative"):
        cluster.cluster_ranges(made(library, [0, -1]))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_centres(library: str, dtype: str) -> None:
    rng = seeded(3)
    x, w, lab = rng.normal(size=(300, 4)).astype(dtype), rng.uniform(0.1, 2, 300).astype(dtype), rng.integers(0, 7, 300)
    one, two = made(library, x), made(library, w)
    for weights in (None, two, two[:, None]):
        v = np.ones(300) if weights is None else w
        expected = [np.average(x[lab == k], axis=0, weights=v[lab == k]) for k in range(7)]
        found = cluster.cluster_centroids(one, made(library, lab), weights=weights)
        assert plain(found).dtype == dtype
        np.testing.assert_allclose(plain(found), expected, rtol=1e-5 if dtype == "float32" else 1e-12)
        ranges, centres, totals = cluster.cluster_ranges_centroids(one, made(library, lab), weights=weights)
        np.testing.assert_array_equal(plain(centres), plain(found))
        assert plain(ranges).tolist() == plain(cluster.cluster_ranges(made(library, lab))).tolist()
        np.testing.assert_allclose(plain(totals), [v[lab == k].sum() for k in range(7)], rtol=1e-6)
        assert plain(totals).dtype == (np.float64 if library == "numpy" else dtype)
    known = {"Nlab": made(library, np.bincount(lab)), "weights_c": made(library, np.bincount(lab, w))}
    found = cluster.cluster_centroids(one, made(library, lab), weights=two, **known)
    np.testing.assert_allclose(
        plain(found), [np.average(x[lab == k], axis=0, weights=w[lab == k]) for k in range(7)], 1e-5
    )


@pytest.mark.parametrize("library", LIBRARIES)
def test_centres_of_special_clusters(library: str) -> None:
    x, lab = made(library, [[1.0], [3.0]]), made(library, [0, 2])
    assert np.isnan(plain(cluster.cluster_centroids(x, lab))[1]).all(), "a cluster without points has no centre"
    with pytest.raises(ShapeError, match="a label beyond the clusters"):
        cluster.cluster_centroids(x, lab, Nlab=made(library, [1, 1]))
    with pytest.raises(ShapeError, match="one weight for each point"):
        cluster.cluster_centroids(x, lab, weights=made(library, [1.0]))
    with pytest.raises(ShapeError, match="one label for each point"):
        cluster.cluster_centroids(x, made(library, [0]))
    near = made(library, [[1.0], [3.0]]), made(library, [0, 0])
    _, centre, total = cluster.cluster_ranges_centroids(*near, weights=made(library, [0.0, 0.0]), min_weight=0.5)
    assert (plain(centre).item(), plain(total).item()) == (2.0, 1.0)


def test_least_weights() -> None:
    """In torch weights are at least 1e-9; in NumPy they are taken as they are."""
    x, lab, w = [[1.0], [3.0]], [0, 0], [0.0, 0.0]
    _, centre, _ = cluster.cluster_ranges_centroids(torch.tensor(x), torch.tensor(lab), weights=torch.tensor(w))
    assert centre.item() == 2.0
    _, centre, _ = cluster.cluster_ranges_centroids(np.array(x), np.array(lab), weights=np.array(w))
    assert np.isnan(centre).all()


# ---------------------------------------------------------------------- masks


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_ranges_of_a_mask(library: str, kind: Any) -> None:
    r_i, r_j = made(library, [[2, 5], [7, 12]], kind), made(library, [[1, 4], [4, 9], [20, 30]], kind)
    for keep in ([[True, True, False], [False, True, False]], [[1, 1, 0], [0, 1, 0]]):
        found = cluster.from_matrix(r_i, r_j, made(library, keep))
        assert [plain(a).tolist() for a in found] == [
            [[2, 5], [7, 12]],
            [2, 3],
            [[1, 4], [4, 9], [4, 9]],
            [[1, 4], [4, 9], [20, 30]],
            [1, 3, 3],
            [[2, 5], [2, 5], [7, 12]],
        ]
        kept = kind if library == "torch" else np.int64
        assert [plain(a).dtype for a in found] == [kept, np.int64, kept] * 2
    swapped = cluster.swap_axes(found)
    assert swapped is not None
    assert all(a is b for a, b in zip(swapped, (*found[3:], *found[:3]), strict=True))
    assert cluster.swap_axes(None) is None


@pytest.mark.parametrize("library", LIBRARIES)
def test_wrong_masks(library: str) -> None:
    r_i, r_j, keep = made(library, [[2, 5], [7, 12]]), made(library, [[1, 4]]), made(library, [[True], [False]])
    with pytest.raises(ShapeError, match="keep has not one entry for each pair of clusters"):
        cluster.from_matrix(r_j, r_i, keep)
    with pytest.raises(ShapeError, match=r"ranges_j is an array of shape \(C, 2\)"):
        cluster.from_matrix(r_i, r_j[0], keep)
    with pytest.raises(DtypeError, match="ranges_i holds integers"):
        cluster.from_matrix(r_i * 1.0, r_j, keep)
    with pytest.raises(DtypeError, match="ranges_i and keep are of different libraries"):
        cluster.from_matrix(made("numpy" if library == "torch" else "torch", [[2, 5], [7, 12]]), r_j, keep)
    with pytest.raises(ShapeError, match="ranges are six arrays"):
        cluster.swap_axes((1, 2))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dim", [2, 5])
def test_the_whole_way(library: str, dim: int) -> None:
    """Points to clusters, clusters to a mask, the mask to a reduction: equal to the dense one, masked."""
    rng = seeded(4, dim)
    x, y = made(library, rng.uniform(size=(500, dim))), made(library, rng.uniform(size=(400, dim)))
    parts = []
    for points in (x, y):
        labels = cluster.grid_cluster(points, 0.4)
        ranges, centres, _ = cluster.cluster_ranges_centroids(points, labels)
        points, labels = cluster.sort_clusters(points, labels)
        parts.append((points, plain(labels), ranges, centres))
    (x, lab_x, ranges_x, centres_x), (y, lab_y, ranges_y, centres_y) = parts
    keep = ((centres_x[:, None] - centres_y[None]) ** 2).sum(-1) < 0.5**2
    K = (-((LazyTensor(x[:, None]) - LazyTensor(y[None])) ** 2).sum(-1)).exp()
    K.ranges = cluster.from_matrix(ranges_x, ranges_y, keep)
    mask = plain(keep)[lab_x[:, None], lab_y[None]]
    assert 0.02 < mask.mean() < 0.8
    dense = np.exp(-((plain(x)[:, None] - plain(y)[None]) ** 2).sum(-1)) * mask
    np.testing.assert_allclose(plain(K.sum(dim=1))[:, 0], dense.sum(1), rtol=1e-12)
    np.testing.assert_allclose(plain(K.sum(dim=0))[:, 0], dense.sum(0), rtol=1e-12)


def test_faces() -> None:
    """Both libraries have the same functions."""
    assert cluster.__all__ == torch_cluster.__all__
    assert all(getattr(cluster, name) is getattr(torch_cluster, name) for name in cluster.__all__)
