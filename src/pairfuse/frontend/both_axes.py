"""Reductions over both axes, of all pairs (i, j): minimum, log-sum-exp, the K nearest, the variance ...

In: a symbolic tensor and the settings of the call.  Out: arrays (*batch, D), or (*batch, K, D).  A sum over both axes
is a kernel of its own (`Problem.both`); the others are made of two steps: over j, then over i, on one result per row.
Indices are those of the flattened matrix, i * N + j, as NumPy's `argmin` of an array without an axis gives them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..dtypes import PRECISIONS
from ..runtime import arrays
from .base import Lazy
from .evaluate import Settings, computed_in
from .reduce import reduce
from .variables import parts

Step = Callable[..., Any]


def _rows(x: Lazy, result: Any) -> Lazy:
    """A result of a reduction over j, (*batch, M, D), as an i-variable."""
    return x._make(*parts(result[..., None, :]))


def _plain(result: Any) -> Any:
    """Without the axis that the rows would have."""
    return result[..., 0, :]


def _twice(name: str, settings: Settings, x: Lazy) -> Any:
    """A reduction whose results over parts are reduced in the same way: min, max, prod."""
    return _plain(reduce(_rows(x, reduce(x, name, "j", settings)[0]), name, "i", settings)[0])


def _sum(settings: Settings, x: Lazy) -> Any:
    return _plain(reduce(x, "sum", "ij", settings)[0])


def _count(settings: Settings, x: Lazy) -> Any:
    return reduce(x, "count_nonzero", "j", settings)[0].sum(-2)


def _extremum(which: str, outputs: tuple[int, ...], settings: Settings, x: Lazy) -> Any:
    values, columns = reduce(x, f"{which}_arg{which}", "j", settings)
    best, row = reduce(_rows(x, values), f"{which}_arg{which}", "i", settings)
    return _chosen(outputs, _plain(best), _flat(x, columns, row)[..., 0, :])


def _flat(x: Lazy, columns: Any, rows: Any) -> Any:
    """i * N + j of the rows that won and of their columns; -1 where there is none."""
    found = arrays.gathered(columns, rows)
    missing = (rows < 0) | (found < 0)
    return arrays.chosen(missing, -1, rows * x._space.sizes[-1] + found)


def _list(which: str, outputs: tuple[int, ...], K: int, settings: Settings, x: Lazy) -> Any:
    """The K best of all pairs: the K best of each row are the candidates, row after row."""
    dim, params = x._expr.dim, (("K", K),)
    values, columns = [_by_place(v, dim, K) for v in reduce(x, f"K{which}_argK{which}", "j", settings, params=params)]
    m = values.shape[-3]
    values, columns = (v.reshape(*v.shape[:-3], m * K, dim) for v in (values, columns))
    best, place = reduce(_rows(x, values), f"K{which}_argK{which}", "i", settings, params=params)
    best, place = (_by_place(v, dim, K)[..., 0, :, :] for v in (best, place))
    found = arrays.gathered(columns, place)
    missing = (place < 0) | (found < 0)
    index = arrays.chosen(missing, -1, place // K * x._space.sizes[-1] + found)
    if dim == 1:
        best, index = best[..., 0], index[..., 0]
    return _chosen(outputs, best, index)


def _by_place(v: Any, dim: int, K: int) -> Any:
    """(..., D * K), component after component, as (..., K, D)."""
    return v.reshape(*v.shape[:-1], dim, K).swapaxes(-1, -2)


def _chosen(outputs: tuple[int, ...], *found: Any) -> Any:
    """Those of the results that the reduction gives: one, or a tuple."""
    return found[outputs[0]] if len(outputs) == 1 else tuple([found[k] for k in outputs])


def _shifted(settings: Settings, x: Lazy) -> tuple[Lazy, Any]:
    """exp(F - m) and m, the largest term of all: a constant, of which no result depends."""
    largest = PRECISIONS[computed_in(x._space)].largest
    m = arrays.detached(_twice("max", settings, x)).clip(-largest, largest)
    return (x - x._make(*parts(m[..., None, None, :])))._apply("exp"), m  # type: ignore[operator]


def _logsumexp(settings: Settings, x: Lazy, weight: Lazy | None = None) -> Any:
    e, m = _shifted(settings, x)
    terms = e if weight is None else e._apply("mul", weight)
    return m + arrays.logarithm(_plain(reduce(terms, "sum", "ij", settings)[0]))


def _softmax(settings: Settings, x: Lazy, weight: Lazy) -> Any:
    e, _ = _shifted(settings, x)
    sums = (reduce(t, "sum", "ij", settings)[0] for t in (e._apply("mul", weight), e))
    total, norm = map(_plain, sums)
    return total / norm


def steps() -> dict[str, Step]:
    """What computes each reduction over both axes: (settings, *operands) -> results."""
    table: dict[str, Step] = {name: partial(_twice, name) for name in ("min", "max", "prod")}
    table |= {"sum": _sum, "count_nonzero": _count, "logsumexp": _logsumexp, "logsumexp_weight": _logsumexp}
    table["sumsoftmaxweight"] = _softmax
    for which in ("min", "max"):
        for name, outputs in ((f"arg{which}", (1,)), (f"{which}_arg{which}", (0, 1))):
            table[name] = partial(_extremum, which, outputs)
    return table


def list_step(name: str, K: int) -> Step:
    """The same for the K smallest or largest terms."""
    which = "min" if "min" in name else "max"
    outputs = (0, 1) if "_" in name else (1,) if name.startswith("arg") else (0,)
    return partial(_list, which, outputs, K)


STEPS = steps()
