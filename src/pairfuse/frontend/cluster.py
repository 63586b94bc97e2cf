"""Clusters of points and the block-sparse ranges made of them: sort the points, then reduce over near clusters only.

In: points, labels and masks as NumPy arrays or torch tensors.  Out: the same, on the device of the input.  One
implementation for both libraries, whose functions have the same names; `pairfuse.numpy.cluster` and
`pairfuse.torch.cluster` are its faces, with the names of KeOps.

    labels = grid_cluster(x, 0.1)                                # cubes of side 0.1
    ranges, centroids, weights = cluster_ranges_centroids(x, labels)
    x, labels = sort_clusters(x, labels)                         # each cluster is now a range of rows
    near = ((centroids[:, None] - centroids[None]) ** 2).sum(-1) < 0.3**2
    K.ranges = from_matrix(ranges, ranges, near)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import DtypeError, ShapeError, message
from ..runtime import arrays
from .messages import describe_value


def grid_cluster(x: Any, size: Any) -> Any:
    """Put points into the cells of a grid, and number the cells that hold some.

    The label of x_i is the number of the cell floor(x_i / size), component by component, among the cells in use in
    lexicographic order. With torch, the corner of the grid is the smallest coordinate along each axis.

    Arguments:
        x: points, array of shape (M, D) for any D, or (M,)
        size: side of the cells, in the units of x: a number, or an array of shape (D,)

    Returns: labels from 0 to C - 1, array of shape (M,): int64 in NumPy, int32 in torch.

    Raises: ShapeError unless coordinates are finite and sides positive.

    Example::

        >>> import numpy as np
        >>> from pairfuse.numpy.cluster import grid_cluster
        >>> grid_cluster(np.array([[0.0], [0.1], [0.9], [0.05], [0.5]]), 0.2)
        array([0, 0, 2, 0, 1])
    """
    x, kind = _points("grid_cluster(x, size)", x)
    xp = arrays.namespace(kind)
    side = size if isinstance(size, (int, float)) else _like(x, kind, size)
    _check_sides(x, side)
    if kind == arrays.TORCH:
        x = x.detach()
        x = x - x.min(0).values if len(x) else x
    cells = xp.floor(x / side)
    if not bool(xp.isfinite(cells).all()):
        facts = f"x: {describe_value(x)}, size: {size}"
        raise ShapeError(message("grid_cluster(x, size): a coordinate is infinite or NaN.", facts, "drop such points."))
    labels = _numbered(xp, cells[:, 0])
    for d in range(1, x.shape[1] if len(x) else 1):
        code = _numbered(xp, cells[:, d])
        # Numbers below M for both parts: the products are exact, however far the points are spread.
        labels = _numbered(xp, labels * (code.max() + 1) + code)
    return _integers(labels, kind, "int64" if kind == arrays.NUMPY else "int32")


def sort_clusters(x: Any, lab: Any) -> tuple[Any, Any]:
    """Sort points by their labels, so that each cluster is a range of rows; points of a cluster keep their order.

    Arguments: x: array of shape (M, ...), or a tuple or list of such arrays; lab: labels, integers of shape (M,).

    Returns: x, sorted, in the same container, and the sorted labels. Differentiable with respect to x.

    Example::

        >>> import numpy as np
        >>> from pairfuse.numpy.cluster import sort_clusters
        >>> sort_clusters(np.array([0.0, 5.0, 0.4, 0.3, 2.0]), np.array([0, 2, 0, 0, 1]))
        (array([0. , 0.4, 0.3, 2. , 5. ]), array([0, 0, 0, 1, 2]))
    """
    lab, kind = _labels("sort_clusters(x, lab)", lab)
    order = lab.argsort(stable=True) if kind == arrays.TORCH else np.argsort(lab, kind="stable")
    several = isinstance(x, (tuple, list))
    for array in x if several else (x,):
        _check_count("sort_clusters(x, lab)", array, lab)
    found = type(x)(a[order] for a in x) if several else x[order]
    return found, lab[order]


def cluster_ranges(lab: Any, Nlab: Any = None) -> Any:
    """The rows [start, end) of every cluster, once the points are sorted by their labels.

    Arguments: lab: labels, integers of shape (M,), in any order; Nlab: the number of points of each cluster, if known.

    Returns: int64 array of shape (C, 2).

    Example::

        >>> import numpy as np
        >>> from pairfuse.numpy.cluster import cluster_ranges
        >>> cluster_ranges(np.array([0, 2, 0, 0, 1]))
        array([[0, 3],
               [3, 4],
               [4, 5]])
    """
    counts, kind = _counts("cluster_ranges(lab)", lab, Nlab)
    stops = counts.cumsum(0)
    return arrays.namespace(kind).stack((stops - counts, stops), 1)


def cluster_centroids(x: Any, lab: Any, Nlab: Any = None, weights: Any = None, weights_c: Any = None) -> Any:
    """The centre of every cluster, c_k = sum_i w_i x_i / sum_i w_i over the points with the label k.

    Arguments:
        x: points, array of shape (M, D)
        lab: labels, integers of shape (M,)
        Nlab: the number of points of each cluster, (C,), if known
        weights: weights w_i, (M,) or (M, 1); all equal by default
        weights_c: the sum of the weights of each cluster, (C,) or (C, 1), if known

    Returns: array of shape (C, D), of the type of x; NaN for a cluster without points. A constant for torch.

    Example::

        >>> import numpy as np
        >>> from pairfuse.numpy.cluster import cluster_centroids
        >>> x, lab = np.array([[0.0], [1.0], [4.0], [5.0], [6.0]]), np.array([0, 0, 1, 1, 1])
        >>> cluster_centroids(x, lab, weights=np.array([0.5, 0.5, 2.0, 1.0, 1.0]))
        array([[0.5 ],
               [4.75]])
    """
    call = "cluster_centroids(x, lab)"
    x, kind = _points(call, x)
    lab, _ = _labels(call, lab)
    _check_count(call, x, lab)
    clusters = len(_counts(call, lab, Nlab)[0])
    if len(lab) and int(lab.max()) >= clusters:
        facts = f"the largest label: {int(lab.max())}, Nlab: {clusters} clusters"
        raise ShapeError(message(f"{call}: a label beyond the clusters.", facts))
    w = None if weights is None else _weights(call, weights, lab, kind)
    if w is None:
        totals = _counts(call, lab, Nlab)[0]
    else:
        totals = _summed(lab, w, clusters, kind) if weights_c is None else _like(x, kind, weights_c).reshape(-1)
    xp = arrays.namespace(kind)
    moments = [_summed(lab, column if w is None else column * w, clusters, kind) for column in _columns(x, kind)]
    with np.errstate(invalid="ignore", divide="ignore"):
        centres = xp.stack(moments, 1) / totals[:, None]
    return centres.astype(_floating(x, kind)) if kind == arrays.NUMPY else centres.to(_floating(x, kind))


def cluster_ranges_centroids(x: Any, lab: Any, weights: Any = None, min_weight: float | None = None) -> Any:
    """The rows, the centre and the weight of every cluster.

    Arguments:
        x, lab, weights: as `cluster_centroids` takes them
        min_weight: smaller weights count as this much; 1e-9 by default in torch, no limit in NumPy

    Returns: `cluster_ranges`, `cluster_centroids`, and the sum of the weights of each cluster, (C,): float64 in NumPy,
        of the type of the weights in torch. Without weights it is the number of points.

    Example::

        >>> import numpy as np
        >>> from pairfuse.numpy.cluster import cluster_ranges_centroids
        >>> x, lab = np.array([[0.0], [0.5], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1, 1])
        >>> ranges, centroids, weights = cluster_ranges_centroids(x, lab)
        >>> ranges.tolist(), centroids.ravel(), weights
        ([[0, 2], [2, 5]], array([0.25, 2.  ]), array([2., 3.]))
    """
    call = "cluster_ranges_centroids(x, lab)"
    counts, kind = _counts(call, lab, None)
    ranges = cluster_ranges(lab, counts)
    if weights is None:
        total = counts.astype(np.float64) if kind == arrays.NUMPY else counts.to(_floating(x, kind))
        return ranges, cluster_centroids(x, lab, counts), total
    lab, _ = _labels(call, lab)
    w = _weights(call, weights, lab, kind)
    least = (1e-9 if kind == arrays.TORCH else None) if min_weight is None else min_weight
    w = w if least is None else w.clip(least)
    total = _summed(lab, w, len(counts), kind)
    centroids = cluster_centroids(x, lab, counts, weights=w, weights_c=total)
    return ranges, centroids, total if kind == arrays.NUMPY else total.to(_floating(weights, kind))


def from_matrix(ranges_i: Any, ranges_j: Any, keep: Any) -> tuple[Any, ...]:
    """The ranges of a reduction over the pairs of clusters that a mask keeps.

    Arguments:
        ranges_i: rows [start, end) of the clusters of i, integers of shape (A, 2)
        ranges_j: rows [start, end) of the clusters of j, integers of shape (B, 2)
        keep: truth values of shape (A, B): do the pairs of cluster a of i and cluster b of j take part?

    Returns: (ranges_i, slices_i, redranges_j, ranges_j, slices_j, redranges_i), for `K.ranges = ...` and the keyword
        `ranges`. Reductions over j use the first three: the rows ranges_i[a] visit the columns
        redranges_j[slices_i[a - 1]:slices_i[a]]; reductions over i use the last three. In NumPy all are int64; in
        torch ranges keep their type, slices are int64.

    Example::

        >>> import numpy as np
        >>> from pairfuse.numpy.cluster import from_matrix
        >>> r_i, r_j = np.array([[2, 5], [7, 12]]), np.array([[1, 4], [4, 9], [20, 30]])
        >>> ranges = from_matrix(r_i, r_j, np.array([[1, 1, 0], [0, 1, 0]], dtype=bool))
        >>> ranges[1], ranges[2].tolist(), ranges[4], ranges[5].tolist()
        (array([2, 3]), [[1, 4], [4, 9], [4, 9]], array([1, 3, 3]), [[2, 5], [2, 5], [7, 12]])
    """
    call = "from_matrix(ranges_i, ranges_j, keep)"
    keep, kind = _array(keep)
    intervals = [_intervals(call, name, r, kind) for name, r in (("ranges_i", ranges_i), ("ranges_j", ranges_j))]
    rows, columns = intervals
    if tuple(keep.shape) != (len(rows), len(columns)):
        facts = f"keep: {describe_value(keep)}, expected shape ({len(rows)}, {len(columns)})"
        raise ShapeError(message(f"{call}: keep has not one entry for each pair of clusters.", facts))
    keep = keep != 0
    xp = arrays.namespace(kind)
    slices = [keep.sum(axis).cumsum(0) for axis in (1, 0)]
    visited_j, visited_i = columns[xp.where(keep)[1]], rows[xp.where(keep.T)[1]]
    return rows, slices[0], visited_j, columns, slices[1], visited_i


def swap_axes(ranges: Any) -> tuple[Any, ...] | None:
    """The ranges of the transposed matrix: the last three arrays, then the first three. None stays None."""
    if ranges is None:
        return None
    if len(ranges) != 6:
        raise ShapeError(message("swap_axes(ranges): ranges are six arrays.", f"given: {len(ranges)}"))
    return (*ranges[3:], *ranges[:3])


# ---------------------------------------------------------------------- what the functions take


def _array(x: Any) -> tuple[Any, str]:
    """An array and its library; lists become NumPy arrays."""
    kind = arrays.library(x)
    return (np.asarray(x), arrays.NUMPY) if kind is None else (x, kind)


def _points(call: str, x: Any) -> tuple[Any, str]:
    """Points as an array (M, D)."""
    x, kind = _array(x)
    x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2 or x.shape[1] == 0:
        raise ShapeError(message(f"{call}: points are an array of shape (M, D).", f"x: {describe_value(x)}"))
    return x, kind


def _labels(call: str, lab: Any) -> tuple[Any, str]:
    """Labels as an array (M,) of integers, none negative."""
    lab, kind = _array(lab)
    lab = lab.reshape(-1)
    if not _is_integer(lab, kind):
        hint = "convert them, astype(np.int64) in NumPy, long() in torch."
        raise DtypeError(message(f"{call}: labels are integers.", f"lab: {describe_value(lab)}", hint))
    if len(lab) and int(lab.min()) < 0:
        raise ShapeError(message(f"{call}: a label is negative.", f"the smallest: {int(lab.min())}"))
    return (lab if len(lab) else _integers(lab, kind, "int64")), kind


def _counts(call: str, lab: Any, known: Any) -> tuple[Any, str]:
    """Points of every cluster, int64."""
    if known is not None:
        known, kind = _array(known)
        return _integers(known.reshape(-1), kind, "int64"), kind
    lab, kind = _labels(call, lab)
    return _integers(arrays.namespace(kind).bincount(_integers(lab, kind, "int64")), kind, "int64"), kind


def _weights(call: str, weights: Any, lab: Any, kind: str) -> Any:
    """Weights as an array (M,) of float64."""
    w = _like(lab, kind, weights).reshape(-1)
    if len(w) != len(lab):
        facts = f"weights: {describe_value(weights)}, labels: {len(lab)}"
        raise ShapeError(message(f"{call}: one weight for each point.", facts))
    return w.astype(np.float64) if kind == arrays.NUMPY else w.detach().double()


def _intervals(call: str, name: str, ranges: Any, kind: str) -> Any:
    """Ranges of clusters as an array (C, 2) of integers, in NumPy of 64 bits."""
    ranges, own = _array(ranges)
    if own != kind:
        raise DtypeError(message(f"{call}: {name} and keep are of different libraries.", describe_value(ranges)))
    if ranges.ndim != 2 or ranges.shape[1] != 2:
        raise ShapeError(message(f"{call}: {name} is an array of shape (C, 2).", describe_value(ranges)))
    if not _is_integer(ranges, kind):
        raise DtypeError(message(f"{call}: {name} holds integers.", describe_value(ranges)))
    return ranges.astype(np.int64) if kind == arrays.NUMPY else ranges


def _check_count(call: str, x: Any, lab: Any) -> None:
    if len(x) != len(lab):
        facts = [f"x: {describe_value(x)}", f"lab: {describe_value(lab)}"]
        raise ShapeError(message(f"{call}: one label for each point.", facts))


def _check_sides(x: Any, side: Any) -> None:
    if isinstance(side, (int, float)):
        if side > 0 and math.isfinite(side):
            return
    elif tuple(side.shape) in ((), (1,), (x.shape[1],)) and bool(((side > 0) & (side < math.inf)).all()):
        return
    facts = f"size: {side}, x: {describe_value(x)}"
    hint = f"a positive number, or {x.shape[1]} of them, one for each axis."
    raise ShapeError(message("grid_cluster(x, size): no sides of a cell.", facts, hint))


# ---------------------------------------------------------------------- steps, in either library


def _numbered(xp: Any, values: Any) -> Any:
    """For each value its number among the different ones, in ascending order."""
    return xp.unique(values, return_inverse=True)[1].reshape(-1)


def _summed(lab: Any, values: Any, clusters: int, kind: str) -> Any:
    """The sums of the values with each label, in double precision."""
    return arrays.namespace(kind).bincount(_integers(lab, kind, "int64"), values, clusters)


def _columns(x: Any, kind: str) -> Any:
    """The coordinates of the points, one array after the other, in double precision."""
    return x.T.astype(np.float64) if kind == arrays.NUMPY else x.detach().T.double()


def _like(x: Any, kind: str, values: Any) -> Any:
    """Values as an array of the library and on the device of x."""
    if kind == arrays.NUMPY:
        return np.asarray(values)
    return arrays.namespace(kind).as_tensor(values, device=x.device)


def _is_integer(x: Any, kind: str) -> bool:
    if kind == arrays.NUMPY:
        return x.dtype.kind in "iu" or x.size == 0
    return not (x.is_floating_point() or x.is_complex() or x.dtype == arrays.namespace(kind).bool)


def _integers(x: Any, kind: str, dtype: str) -> Any:
    return x.astype(dtype) if kind == arrays.NUMPY else x.to(getattr(arrays.namespace(kind), dtype))


def _floating(x: Any, kind: str) -> Any:
    """The type of centres and weights: that of x, or the library's own where x holds integers."""
    if kind == arrays.NUMPY:
        return x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
    return x.dtype if x.is_floating_point() else arrays.namespace(kind).get_default_dtype()
