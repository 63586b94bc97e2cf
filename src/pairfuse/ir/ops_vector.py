"""The table of operations, part 4: norms, products and other functions of whole vectors.

In: nothing.  Out: the rows of these operations in `OPS`; all of them are defined by operations of the other parts.
"""
# The cells of a row are short functions whose arguments need no annotation:
# pyright: basic

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..errors import ShapeError
from .expr import Expr, as_kind, broadcast_dim, call
from .rows import POSITIVE, derived, one, where

VECTORS = (((1,), {}), ((3,), {}))
PAIRS = (((1, 1), {}), ((3, 3), {}), ((1, 3), {}), ((3, 1), {}))


def sum_all(x: Expr) -> Expr:
    """Sum of all components."""
    return call("sum_d", x, group=x.dim)


def _one_of_two(name: str) -> Callable[..., int]:
    """The `dim` cell of numbers made from two vectors of one length."""

    def dim(a: int, b: int) -> int:
        broadcast_dim(name, a, b)
        return 1

    return dim


# ---------------------------------------------------------------------- sums, norms, distances

derived("sum", 1, one, operands="real", expand=sum_all, doc="Sum of the components.", aliases=("Sum",))
derived(
    "sqnorm2",
    1,
    one,
    operands="real",
    expand=lambda x: sum_all(call("square", x)),
    doc="Sum of the squares of the components.",
    aliases=("SqNorm2",),
)
derived(
    "norm2",
    1,
    one,
    operands="real",
    expand=lambda x: call("sqrt", call("sqnorm2", x)),
    doc="Euclidean norm; derivative 0 at 0.",
    aliases=("Norm2",),
)
derived("norm1", 1, one, operands="real", expand=lambda x: sum_all(call("abs", x)), doc="Sum of absolute values.")
derived(
    "norminf", 1, one, operands="real", expand=lambda x: call("max_d", call("abs", x)), doc="Largest absolute value."
)
derived(
    "normalize",
    1,
    operands="real",
    expand=lambda x: x * call("rsqrt", call("sqnorm2", x)),
    doc="x divided by its Euclidean norm; 0 stays 0.",
    aliases=("Normalize",),
)
derived(
    "sqdist",
    2,
    _one_of_two("sqdist"),
    operands="real",
    expand=lambda x, y: call("sqnorm2", x - y),
    samples=PAIRS,
    doc="Squared Euclidean distance.",
    aliases=("SqDist",),
)
derived(
    "dot",
    2,
    _one_of_two("dot"),
    operands="real",
    expand=lambda x, y: sum_all(x * y),
    samples=PAIRS,
    doc="Scalar product, x | y.",
    aliases=("Scalprod",),
)


def _weight_dim(s: int, d: int) -> int:
    if s not in (1, d, d * d):
        raise ShapeError(
            f"weightedsqnorm: a weight of length {s} for vectors of length {d}; it takes 1, {d} or {d * d}."
        )
    return 1


def _weightedsqnorm(s: Expr, x: Expr) -> Expr:
    if s.dim == 1:
        return s * call("sqnorm2", x)
    if s.dim == x.dim:
        return sum_all(s * call("square", x))
    return call("dot", x, call("matvecmult", s, x))


derived(
    "weightedsqnorm",
    2,
    _weight_dim,
    operands="real",
    expand=_weightedsqnorm,
    samples=(((1, 3), {}), ((3, 3), {}), ((9, 3), {}), ((1, 1), {})),
    doc="weightedsqnorm(s, x): s |x|^2, sum of s_k x_k^2, or sum of s_kl x_k x_l (s row-major), by the length of s.",
    aliases=("WeightedSqNorm", "SqNormIso", "SqNormDiag", "SymSqNorm"),
)
derived(
    "weightedsqdist",
    3,
    lambda s, a, b: _weight_dim(s, broadcast_dim("weightedsqdist", a, b)),
    operands="real",
    expand=lambda s, x, y: call("weightedsqnorm", s, x - y),
    samples=(((1, 3, 3), {}), ((3, 3, 3), {}), ((9, 3, 3), {}), ((3, 1, 3), {})),
    doc="weightedsqdist(s, x, y): weightedsqnorm(s, x - y).",
    aliases=("WeightedSqDist",),
)

# ---------------------------------------------------------------------- components


def _elem_dim(d: int, index: int) -> int:
    if not 0 <= index < d:
        raise ShapeError(f"elem: component {index} of a vector of length {d}; components are numbered from 0.")
    return 1


derived(
    "elem",
    1,
    _elem_dim,
    params=("index",),
    kind="same",
    expand=lambda x, index: call("extract", x, start=index, size=1),
    samples=(((3,), {"index": 1}), ((1,), {"index": 0})),
    doc="The component of this number, from 0.",
    aliases=("Elem",),
)


def _placed_dim(d: int, size: int, index: int) -> int:
    if d != 1 or not 0 <= index < size:
        raise ShapeError(
            f"elem_t: a vector of length {d} at place {index} of {size}; it takes one number, placed inside."
        )
    return size


derived(
    "elem_t",
    1,
    _placed_dim,
    params=("size", "index"),
    kind="same",
    expand=lambda x, size, index: call("pad", x, start=index, size=size),
    samples=(((1,), {"size": 3, "index": 1}),),
    doc="A vector of `size` zeros, but for x at place `index`.",
    aliases=("ElemT",),
)


def _one_hot_dim(d: int, size: int) -> int:
    if d != 1 or size < 1:
        raise ShapeError(
            f"one_hot: a vector of length {d} and size {size}; it takes one number and a size of at least 1."
        )
    return size


def _one_hot(x: Expr, size: int) -> Expr:
    place = call("arange", size=size)
    nearest = x if x.kind == "index" else call("floor", as_kind(x, "real") + 0.5)
    return as_kind(call("eq", place, nearest), "real")


derived(
    "one_hot",
    1,
    _one_hot_dim,
    params=("size",),
    expand=_one_hot,
    samples=(((1,), {"size": 4}),),
    domain=((-1.4, 4.4),),
    doc="A vector of `size` zeros, but for a 1 at the place x (rounded); all zeros where x is outside.",
    aliases=("OneHot",),
)

# ---------------------------------------------------------------------- products of matrices and tensors
# A matrix is a vector read row after row.


def _matvec_dim(a: int, d: int) -> int:
    if a % d:
        raise ShapeError(f"matvecmult: a matrix of {a} entries has no rows of length {d}.")
    return a // d


def _vecmat_dim(d: int, a: int) -> int:
    if a % d:
        raise ShapeError(f"vecmatmult: a matrix of {a} entries has no columns of length {d}.")
    return a // d


def _vecmatmult(x: Expr, a: Expr) -> Expr:
    columns = call("transpose", a, sizes=(x.dim, a.dim // x.dim), order=(1, 0))
    return call("matvecmult", columns, x)


derived(
    "matvecmult",
    2,
    _matvec_dim,
    operands="real",
    expand=lambda a, x: call("sum_d", a * call("tile", x, times=a.dim // x.dim), group=x.dim),
    samples=(((6, 3), {}), ((6, 2), {}), ((3, 3), {}), ((3, 1), {})),
    doc="Matrix (row-major) times vector.",
    aliases=("MatVecMult",),
)
derived(
    "vecmatmult",
    2,
    _vecmat_dim,
    operands="real",
    expand=_vecmatmult,
    samples=(((3, 6), {}), ((2, 6), {}), ((3, 3), {}), ((1, 3), {})),
    doc="Vector times matrix (row-major).",
    aliases=("VecMatMult",),
)
derived(
    "tensorprod",
    2,
    lambda a, b: a * b,
    operands="real",
    expand=lambda x, y: call("repeat", x, times=y.dim) * call("tile", y, times=x.dim),
    samples=(((2, 3), {}), ((3, 1), {}), ((1, 3), {})),
    doc="The products x_k y_l, at place k dim(y) + l.",
    aliases=("TensorProd",),
)

derived(
    "difference_matrix",
    2,
    lambda a, b: a * b,
    operands="real",
    expand=lambda x, y: call("repeat", x, times=y.dim) - call("tile", y, times=x.dim),
    samples=(((2, 3), {}), ((3, 1), {}), ((1, 3), {})),
    doc="The differences x_k - y_l, at place k dim(y) + l.",
    aliases=("DifferenceMatrix",),
)

Sizes = tuple[int, ...]


def _kept(sizes: Sizes, contracted: Sizes) -> Sizes:
    return tuple(k for k in range(len(sizes)) if k not in contracted)


def _tensordot_dim(a: int, b: int, dimfa: Sizes, dimfb: Sizes, contfa: Sizes, contfb: Sizes, perm: Sizes) -> int:
    facts = f"tensordot: vectors of lengths {a} and {b}, sizes {dimfa} and {dimfb}, contracted {contfa} with {contfb}"
    if math.prod(dimfa) != a or math.prod(dimfb) != b:
        raise ShapeError(f"{facts}: the products of the sizes are not the lengths.")
    if not _axes_fit(dimfa, contfa) or not _axes_fit(dimfb, contfb):
        raise ShapeError(f"{facts}: a contracted axis does not exist, or stands there twice.")
    if [dimfa[k] for k in contfa] != [dimfb[k] for k in contfb]:
        raise ShapeError(f"{facts}: contracted axes have different sizes.")
    kept = [dimfa[k] for k in _kept(dimfa, contfa)] + [dimfb[k] for k in _kept(dimfb, contfb)]
    if perm and len(perm) != len(kept):
        raise ShapeError(f"{facts}: the permutation {perm} is not one of the {len(kept)} axes that are left.")
    return math.prod(kept)


def _axes_fit(sizes: Sizes, axes: Sizes) -> bool:
    return len(set(axes)) == len(axes) and all(0 <= k < len(sizes) for k in axes)


def _tensordot(x: Expr, y: Expr, dimfa: Sizes, dimfb: Sizes, contfa: Sizes, contfb: Sizes, perm: Sizes) -> Expr:
    kept_x, kept_y = _kept(dimfa, contfa), _kept(dimfb, contfb)
    sizes = tuple(dimfa[k] for k in kept_x) + tuple(dimfb[k] for k in kept_y)
    group = math.prod(dimfa[k] for k in contfa)
    rows_x, rows_y = x.dim // group, y.dim // group
    # both as matrices, kept axes by contracted ones; then every row of x against every row of y
    x = call("transpose", x, sizes=dimfa, order=kept_x + contfa)
    y = call("transpose", y, sizes=dimfb, order=kept_y + contfb)
    x = call("transpose", call("repeat", x, times=rows_y), sizes=(rows_x, group, rows_y), order=(0, 2, 1))
    product = call("sum_d", x * call("tile", y, times=rows_x), group=group)
    order = tuple(sorted(range(len(sizes)), key=lambda k: perm[k])) if perm else tuple(range(len(sizes)))
    return call("transpose", product, sizes=sizes, order=order)


derived(
    "tensordot",
    2,
    _tensordot_dim,
    params=("dimfa", "dimfb", "contfa", "contfb", "perm"),
    operands="real",
    expand=_tensordot,
    samples=(
        ((6, 12), {"dimfa": (2, 3), "dimfb": (3, 4), "contfa": (1,), "contfb": (0,), "perm": ()}),
        ((6, 12), {"dimfa": (2, 3), "dimfb": (2, 2, 3), "contfa": (0, 1), "contfb": (1, 2), "perm": ()}),
        ((12, 8), {"dimfa": (2, 3, 2), "dimfb": (2, 4), "contfa": (0,), "contfb": (0,), "perm": (2, 0, 1)}),
        ((4, 3), {"dimfa": (2, 2), "dimfb": (3,), "contfa": (), "contfb": (), "perm": (1, 2, 0)}),
        ((4, 4), {"dimfa": (2, 2), "dimfb": (2, 2), "contfa": (0, 1), "contfb": (1, 0), "perm": ()}),
    ),
    doc="numpy.tensordot of the vectors read as arrays of sizes dimfa and dimfb: axes contfa summed against contfb.\n"
    "The axes that are left, those of x before those of y, come out sorted by the values in perm (empty: unchanged).",
    aliases=("TensorDot",),
)


def _kron_dim(a: int, b: int, dimfa: Sizes, dimfb: Sizes) -> int:
    if math.prod(dimfa) != a or math.prod(dimfb) != b or len(dimfa) != len(dimfb):
        raise ShapeError(f"kron: vectors of lengths {a} and {b} are no arrays of sizes {dimfa} and {dimfb}.")
    return a * b


def _kron(x: Expr, y: Expr, dimfa: Sizes, dimfb: Sizes) -> Expr:
    n = len(dimfa)
    order = tuple(axis for k in range(n) for axis in (k, n + k))
    return call("transpose", call("tensorprod", x, y), sizes=dimfa + dimfb, order=order)


derived(
    "kron",
    2,
    _kron_dim,
    params=("dimfa", "dimfb"),
    operands="real",
    expand=_kron,
    samples=(
        ((6, 4), {"dimfa": (2, 3), "dimfb": (2, 2)}),
        ((2, 3), {"dimfa": (2,), "dimfb": (3,)}),
    ),
    doc="numpy.kron of the vectors read as arrays of sizes dimfa and dimfb.",
    aliases=("Kron",),
)

# ---------------------------------------------------------------------- splines and time series


def _bspline_dim(knots: int, d: int, k: int) -> int:
    if k < 0 or d != 1 or knots < k + 2:
        raise ShapeError(
            f"bspline: {knots} knots, order {k}, a point of length {d}; it takes at least {max(k, 0) + 2} knots, "
            "an order of at least 0 and one number."
        )
    return knots - k - 1


def _bspline(knots: Expr, x: Expr, k: int) -> Expr:
    """The recursion of Cox and de Boor, for all splines of one order at once."""

    def part(start: int, size: int) -> Expr:
        return call("extract", knots, start=start, size=size)

    def ratio(a: Expr, b: Expr) -> Expr:
        return where(call("eq", b, 0.0), 0.0, a / b)

    n = knots.dim - 1
    value = as_kind((part(0, n) <= x) & (x < part(1, n)), "real")
    for p in range(1, k + 1):
        n -= 1
        rising = ratio(x - part(0, n), part(p, n) - part(0, n))
        falling = ratio(part(p + 1, n) - x, part(p + 1, n) - part(1, n))
        left, right = call("extract", value, start=0, size=n), call("extract", value, start=1, size=n)
        value = rising * left + falling * right
    return value


derived(
    "bspline",
    2,
    _bspline_dim,
    params=("k",),
    operands="real",
    expand=_bspline,
    samples=(((6, 1), {"k": 0}), ((6, 1), {"k": 1}), ((7, 1), {"k": 3})),
    doc="bspline(knots, x; k): the B-splines of order k on these knots at x, on intervals [t, t').",
    aliases=("BSpline",),
)


def _softdtw_dim(a: int, b: int, gamma: int) -> int:
    if gamma != 1:
        raise ShapeError(f"softdtw_sqdist: gamma is one number, not a vector of length {gamma}.")
    return 1


def _softmin(terms: list[Expr], gamma: Expr) -> Expr:
    if len(terms) == 1:
        return terms[0]
    lowest: Any = terms[0]
    for term in terms[1:]:
        lowest = call("minimum", lowest, term)
    lowest = call("stop_gradient", lowest)  # it cancels: a shift against overflow
    total = call("exp", (lowest - terms[0]) / gamma)
    for term in terms[1:]:
        total = total + call("exp", (lowest - term) / gamma)
    return lowest - gamma * call("log", total)


def _softdtw(x: Expr, y: Expr, gamma: Expr) -> Expr:
    best: dict[tuple[int, int], Expr] = {}
    for i in range(x.dim):
        for j in range(y.dim):
            cost = call("square", call("elem", x, index=i) - call("elem", y, index=j))
            before = [best[p] for p in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if p in best]
            best[i, j] = cost + _softmin(before, gamma) if before else cost
    return best[x.dim - 1, y.dim - 1]


derived(
    "softdtw_sqdist",
    3,
    _softdtw_dim,
    operands="real",
    expand=_softdtw,
    samples=(((3, 2, 1), {}), ((3, 3, 1), {}), ((1, 1, 1), {})),
    domain=((-2.0, 2.0), (-2.0, 2.0), POSITIVE),
    doc="Soft dynamic time warping of two series x and y, with squared differences and smoothing gamma.",
    aliases=("SoftDTW_SqDist",),
)
