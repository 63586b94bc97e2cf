"""The reductions of a LazyTensor: sum, logsumexp, min, argKmin, mean ... over i or over j.

Every method takes ``axis`` or ``dim``: with b batch axes, b reduces over i (the result is indexed by j), b + 1 over j
(the result is indexed by i).  Results have the shape (*batch, M or N, D): the trailing axis stays, even of length 1.
The keyword arguments of all of them: ``call=False`` gives a function that computes when called; ``out=`` an array to
fill; ``backend``; ``ranges=`` for the pairs that take part (docs/block-sparse.md); ``accuracy="fast"`` for less exact
products (docs/accuracy.md); ``progress=True`` shows a bar; ``device_id``, ``dtype_acc``, ``use_double_acc``,
``sum_scheme``, ``enable_chunks`` and ``use_fast_math`` are accepted for programs written for KeOps and change nothing.
``keepdims=`` or ``keepdim=`` gives the shape that NumPy and torch give to results (shapes.py).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from ..dtypes import PRECISIONS
from ..errors import FormulaError, KeywordError, ShapeError, message, shown_number
from ..ir.expr import LONGEST_VECTOR
from ..ir.reductions import REDUCTIONS, Reduction
from ..runtime import arrays
from .base import Lazy
from .both_axes import STEPS, list_step
from .deferred import Task, perform
from .evaluate import Settings, computed_in
from .messages import describe, operand_facts
from .options import check_names
from .ranges import divided, terms_per_row
from .reduce import VECTOR, axes_of, one_of, over_of, reduce, scalar_formula
from .variables import parts
from .vectors import Vectors

Axis = int | None
Axes = int | tuple[int, ...] | list[int] | None


class Reductions(Vectors):
    """Reductions over i, over j, and, for sum, mean, min, max, argmin and argmax, over the components."""

    __slots__ = ()

    def _reduce(
        self,
        name: str,
        axis: Axes,
        dim: Axes,
        options: dict[str, Any],
        vector: str | None = None,
        other: Lazy | None = None,
    ) -> Any:
        """One output of the record `name`; `vector` is the operation that does the same over the components."""
        number = one_of(self, name, axis, dim, options)
        if isinstance(number, (tuple, list)):
            inner = None if name.startswith("arg") else vector  # an index of indices has no meaning
            return self._over_several(name, number, options, STEPS.get(name), inner, other)
        over = over_of(self, name, number, None, vector is not None)
        if over == VECTOR:
            _refuse_out(self, name, options)
            return self._apply(vector)  # type: ignore[arg-type]
        operands = (self,) if other is None else (self, other)
        return perform(Task(name, over, partial(_first, name, over)), operands, options)

    def _reduce_all(self, name: str, axis: Axes, dim: Axes, options: dict[str, Any]) -> Any:
        """All outputs of the record `name`."""
        number = one_of(self, name, axis, dim, options)
        if isinstance(number, (tuple, list)):
            return self._over_several(name, number, options, STEPS[name])
        over = over_of(self, name, number, None)
        return perform(Task(name, over, partial(_all_outputs, name, over)), (self,), options)

    def _reduce_K(self, name: str, K: Any, axis: Axes, dim: Axes, options: dict[str, Any], many: bool = False) -> Any:
        """The outputs of a record with K places, each of shape (..., K) or (..., K, D)."""
        if isinstance(K, bool) or not hasattr(K, "__index__") or K.__index__() < 1:
            raise ShapeError(message(f"{name}(K={K!r}): K is a whole number, at least 1.", f"x: {describe(self)}"))
        places = K.__index__()
        if places * self._expr.dim > LONGEST_VECTOR:
            text = f"{name}(K={shown_number(places)}): too many, K times the length of the vectors is 2**27 at most."
            raise ShapeError(message(text, f"x: {describe(self)}"))
        number = one_of(self, name, axis, dim, options)
        if isinstance(number, (tuple, list)):
            return self._over_several(name, number, options, list_step(name, places), opt_arg=places)
        over = over_of(self, name, number, None)
        return perform(Task(name, over, partial(_places, name, over, places, many), places), (self,), options)

    def _over_several(
        self,
        name: str,
        numbers: Any,
        options: dict[str, Any],
        step: Callable[..., Any] | None,
        vector: str | None = None,
        other: Lazy | None = None,
        opt_arg: int | None = None,
    ) -> Any:
        """A reduction over several axes: first over the components, then over one axis, or by `step` over all pairs."""
        axes = axes_of(self, name, numbers, vector is not None)
        x: Any = getattr(self, name)(-1) if VECTOR in axes else self
        over = axes.replace(VECTOR, "")
        if len(over) == 0:
            return x
        if len(over) == 1:
            place = "ij".index(over) + len(self._space.batch)
            given = ({} if opt_arg is None else {"K": opt_arg}) | ({} if other is None else {"weight": other})
            return getattr(x, name.removesuffix("_weight"))(axis=place, **given, **options)
        return perform(task(name, over, step, opt_arg), (x,) if other is None else (x, other), options)

    # -------------------------------------------------- sums
    def sum(self, axis: Axes = None, dim: Axes = None, **options: Any) -> Any:
        """Sum over i, over j, or (dim=-1) over the components, which gives a symbolic tensor of dimension 1.

        Arguments: dim: an axis, or several: dim=(0, 1) sums over all pairs, in memory that does not depend on M and N.

        Returns: array of shape (*batch, M or N, D), (*batch, D) over all pairs; 0 over nothing. Differentiable.

        Example::

            >>> import numpy as np
            >>> from pairfuse.numpy import LazyTensor
            >>> x, y = LazyTensor(np.zeros((2, 1, 3))), LazyTensor(np.ones((1, 5, 3)))
            >>> ((x - y) ** 2).sum(-1).sum(dim=1)
            array([[15.],
                   [15.]])
            >>> ((x - y) ** 2).sum(dim=(0, 1))
            array([10., 10., 10.])
        """
        return self._reduce("sum", axis, dim, options, vector="sum")

    def prod(self, axis: Axes = None, dim: Axes = None, **options: Any) -> Any:
        """Product over i or j; 1 over nothing. Differentiable, also where terms vanish.

        It is infinite or 0 by its size only where the true product is: partial products may be of any size.
        """
        return self._reduce("prod", axis, dim, options)

    def mean(self, axis: Axes = None, dim: Axes = None, **options: Any) -> Any:
        """Mean over i, over j, over the components, or over several axes (see `sum`); NaN over nothing.

        Differentiable.
        """
        number = one_of(self, "mean", axis, dim, options)
        if isinstance(number, (tuple, list)):
            return self._over_several("mean", number, options, partial(_over_pairs, "mean"), "sum")
        over = over_of(self, "mean", number, None, vector=True)
        if over == VECTOR:
            _refuse_out(self, "mean", options)
            return self._apply("sum") / self._length
        return perform(task("mean", over, partial(_mean, over)), (self,), options)

    def var(
        self,
        axis: Axes = None,
        dim: Axes = None,
        ddof: float | None = None,
        correction: float | None = None,
        **options: Any,
    ) -> Any:
        """Variance over i, over j or over both, in two passes: the mean, then the mean of the squared differences.

        Arguments: ddof, or correction in torch's words: the sum of squares is divided by the number of terms minus it.
        The default is that of the library of the data: 0 for NumPy arrays, 1 for torch tensors. Differentiable.
        """
        return self._spread("var", axis, dim, ddof, correction, options)

    def std(
        self,
        axis: Axes = None,
        dim: Axes = None,
        ddof: float | None = None,
        correction: float | None = None,
        **options: Any,
    ) -> Any:
        """Standard deviation: the square root of `var`."""
        return self._spread("std", axis, dim, ddof, correction, options)

    def _spread(
        self, name: str, axis: Axes, dim: Axes, ddof: float | None, correction: float | None, options: dict[str, Any]
    ) -> Any:
        if ddof is not None and correction is not None and ddof != correction:
            text = f"{name}(ddof={ddof!r}, correction={correction!r}): two names for the same, give one."
            raise KeywordError(message(text))
        less = ddof if correction is None else correction
        if less is None:
            less = 1 if self._space.library == arrays.TORCH else 0
        run = _variance if name == "var" else _deviation
        number = one_of(self, name, axis, dim, options)
        if isinstance(number, (tuple, list)):
            return self._over_several(name, number, options, partial(run, "ij", less))
        over = over_of(self, name, number, None)
        return perform(task(name, over, partial(run, over, less)), (self,), options)

    # -------------------------------------------------- log-sum-exp and softmax
    def logsumexp(
        self, axis: Axes = None, dim: Axes = None, weight: Any = None, other: Any = None, **options: Any
    ) -> Any:
        """log(sum(exp(F))) over i or j, without overflow, component by component; -inf over nothing.

        Arguments: weight (or other): a symbolic tensor or array G of dimension E; the result is then
        log(sum(exp(F) * G)), of shape (*batch, M or N, E), and F needs dimension 1 or E. Differentiable.
        """
        if weight is not None and other is not None:
            raise FormulaError(message("logsumexp(weight=..., other=...): two names for the same, give one."))
        weight = other if weight is None else weight
        if weight is None:
            return self._reduce("logsumexp", axis, dim, options)
        return self._reduce("logsumexp_weight", axis, dim, options, other=self._as_weight(weight, "logsumexp"))

    def sumsoftmaxweight(self, weight: Any, axis: Axes = None, dim: Axes = None, **options: Any) -> Any:
        """sum(exp(F) * G) / sum(exp(F)) over i or j, without overflow: attention with scores F and values G.

        Arguments: weight: a symbolic tensor or array G of dimension E. Returns: array (*batch, M or N, E).
        Differentiable.
        """
        return self._reduce("sumsoftmaxweight", axis, dim, options, other=self._as_weight(weight, "sumsoftmaxweight"))

    def _as_weight(self, value: Any, name: str) -> Lazy:
        weight = value if isinstance(value, Lazy) else self._lift(value)
        lengths = self._length, weight._length
        if 1 not in lengths and lengths[0] != lengths[1]:
            raise ShapeError(
                message(
                    f"x.{name}(weight=y): the vectors have lengths {lengths[0]} and {lengths[1]}.",
                    operand_facts((self, weight)),
                    "one number for each pair, or two vectors of equal lengths.",
                )
            )
        return weight

    # -------------------------------------------------- extrema
    def min(self, axis: Axes = None, dim: Axes = None, **options: Any) -> Any:
        """Minimum over i, j or the components. NaN terms are passed over; +inf over nothing. Differentiable."""
        return self._reduce("min", axis, dim, options, vector="min_d")

    def max(self, axis: Axes = None, dim: Axes = None, **options: Any) -> Any:
        """Maximum over i, j or the components. NaN terms are passed over; -inf over nothing. Differentiable."""
        return self._reduce("max", axis, dim, options, vector="max_d")

    def __min__(self, **options: Any) -> Any:
        """The same as `min`."""
        return self.min(**options)

    def __max__(self, **options: Any) -> Any:
        """The same as `max`."""
        return self.max(**options)

    def argmin(self, axis: Axes = None, dim: Axes = None, **options: Any) -> Any:
        """Index (int64) of the minimum, the first of equals, over i, j or the components; `min` has derivatives.

        NaN terms are passed over; the index is -1 where all terms over i or j are NaN.
        """
        return self._reduce("argmin", axis, dim, options, vector="argmin_d")

    def argmax(self, axis: Axes = None, dim: Axes = None, **options: Any) -> Any:
        """Index (int64) of the maximum, the first of equals, over i, j or the components; `max` has derivatives.

        NaN terms are passed over; the index is -1 where all terms over i or j are NaN.
        """
        return self._reduce("argmax", axis, dim, options, vector="argmax_d")

    def min_argmin(self, axis: Axes = None, dim: Axes = None, **options: Any) -> Any:
        """The pair (minimum, its index) over i or j, in one pass."""
        return self._reduce_all("min_argmin", axis, dim, options)

    def max_argmax(self, axis: Axes = None, dim: Axes = None, **options: Any) -> Any:
        """The pair (maximum, its index) over i or j, in one pass."""
        return self._reduce_all("max_argmax", axis, dim, options)

    def Kmin(self, K: int, axis: Axes = None, dim: Axes = None, **options: Any) -> Any:
        """The K smallest terms over i or j, ascending: shape (*batch, M or N, K), and (..., K, D) for vectors.

        NaN terms are passed over. With fewer than K terms the rest is +inf. Differentiable.
        """
        return self._reduce_K("Kmin", K, axis, dim, options)

    def argKmin(self, K: int, axis: Axes = None, dim: Axes = None, **options: Any) -> Any:
        """Indices (int64) of the K smallest terms, in the order of `Kmin`, equal terms in the order of their index.

        NaN terms are passed over. With fewer than K terms the rest is -1: infinite terms have their own indices.
        """
        return self._reduce_K("argKmin", K, axis, dim, options)

    def Kmin_argKmin(self, K: int, axis: Axes = None, dim: Axes = None, **options: Any) -> Any:
        """The pair (`Kmin`, `argKmin`), in one pass."""
        return self._reduce_K("Kmin_argKmin", K, axis, dim, options, many=True)

    def Kmax(self, K: int, axis: Axes = None, dim: Axes = None, **options: Any) -> Any:
        """The K largest terms over i or j, descending; see `Kmin`. With fewer than K terms the rest is -inf."""
        return self._reduce_K("Kmax", K, axis, dim, options)

    def argKmax(self, K: int, axis: Axes = None, dim: Axes = None, **options: Any) -> Any:
        """Indices (int64) of the K largest terms; see `argKmin`."""
        return self._reduce_K("argKmax", K, axis, dim, options)

    def Kmax_argKmax(self, K: int, axis: Axes = None, dim: Axes = None, **options: Any) -> Any:
        """The pair (`Kmax`, `argKmax`), in one pass."""
        return self._reduce_K("Kmax_argKmax", K, axis, dim, options, many=True)

    # -------------------------------------------------- truth values
    def count_nonzero(self, axis: Axes = None, dim: Axes = None, **options: Any) -> Any:
        """The number (int64, exact) of terms that are not 0, over i or j: of comparisons, how many are true."""
        return self._reduce("count_nonzero", axis, dim, options)

    def any(self, axis: Axes = None, dim: Axes = None, **options: Any) -> Any:
        """Whether one of the terms is not 0, over i or j; False over nothing."""
        return self._truth("any", axis, dim, options, _any)

    def all(self, axis: Axes = None, dim: Axes = None, **options: Any) -> Any:
        """Whether all terms are not 0, over i or j; True over nothing."""
        return self._apply("logical_not")._truth("all", axis, dim, options, _none)

    def _truth(self, name: str, axis: Axes, dim: Axes, options: dict[str, Any], judge: Callable[[Any], Any]) -> Any:
        number = one_of(self, name, axis, dim, options)
        several = isinstance(number, (tuple, list))
        over = axes_of(self, name, number, False) if several else over_of(self, name, number, None)
        return perform(task(name, over, partial(_judged, judge, over)), (self,), options)

    # -------------------------------------------------- by name
    def reduction(
        self,
        reduction_op: str,
        other: Any = None,
        opt_arg: int | None = None,
        axis: Axis = None,
        dim: Axis = None,
        **options: Any,
    ) -> Any:
        """The reduction of this name of the table, ours ("sum") or KeOps' ("Sum", "KMin").

        Arguments: other: the second formula of those that have one; opt_arg: K of those that take it.
        """
        if reduction_op in ("Max_SumShiftExp", "Max_SumShiftExpWeight"):
            return self._max_sumshiftexp(reduction_op, other, axis, dim, options)
        record = record_of(reduction_op)
        if opt_arg is not None and "K" not in record.params:
            raise FormulaError(message(f"reduction({reduction_op!r}, opt_arg={opt_arg!r}): takes no opt_arg."))
        if "K" in record.params:
            return self._reduce_K(record.name, opt_arg, axis, dim, options, many=record.visible > 1)
        if record.visible > 1:
            return self._reduce_all(record.name, axis, dim, options)
        if other is None and record.arity == 1:
            return self._reduce(record.name, axis, dim, options)
        name = record.name if record.arity == 2 else f"{record.name}_weight"
        if other is None or name not in REDUCTIONS:
            takes = "one formula, and no other=" if name not in REDUCTIONS else "a second formula, other="
            raise FormulaError(message(f"reduction({reduction_op!r}): takes {takes}."))
        return self._reduce(name, axis, dim, options, other=self._as_weight(other, record.name))

    def _max_sumshiftexp(self, name: str, other: Any, axis: Axis, dim: Axis, options: dict[str, Any]) -> Any:
        """KeOps' pair (m, s) with m = max(F), s = sum(exp(F - m) G), as one array (*batch, M or N, 1 + E)."""
        scalar_formula(self, f"reduction({name!r})")
        over = over_of(self, name, axis, dim)
        operands = (self,) if other is None else (self, self._as_weight(other, name))
        return perform(Task("logsumexp", over, partial(_max_sumshiftexp, over), word=name), operands, options)


def _refuse_out(x: Lazy, name: str, options: dict[str, Any]) -> None:
    """Over the components nothing is computed: the keywords are looked at, and have nothing to say."""
    if not options:
        return
    check_names(name, options, type(x))
    if options.get("out") is not None:
        hint = "reduce over i or j for an array."
        raise KeywordError(message(f"{name}(-1, out=...): over the components the result is a formula.", hint=hint))


def record_of(name: str) -> Reduction:
    """The record of this name, ours or KeOps'."""
    for record in REDUCTIONS.values():
        if name == record.name or name in record.aliases:
            return record
    raise FormulaError(message(f"reduction({name!r}): no such reduction.", hint=f"one of {', '.join(REDUCTIONS)}."))


# What is reduced where the name is not that of a record, for the keywords that go by the record.
RECORDS: dict[str, str] = {"mean": "sum", "var": "sum", "std": "sum", "any": "count_nonzero", "all": "count_nonzero"}


def task(name: str, over: str, run: Any, opt_arg: int | None = None) -> Task:
    """The task of a reduction under its name."""
    return Task(name, over, run, opt_arg, record=RECORDS.get(name, ""), word=name if name in RECORDS else "")


# ---------------------------------------------------------------------- what the tasks do: (..., settings, operands)


def _first(name: str, over: str, settings: Settings, x: Lazy, other: Lazy | None = None) -> Any:
    return reduce(x, name, over, settings, other)[0]


def _all_outputs(name: str, over: str, settings: Settings, x: Lazy) -> Any:
    return reduce(x, name, over, settings)


def _places(name: str, over: str, K: int, many: bool, settings: Settings, x: Lazy) -> Any:
    """The outputs of a record with K places, (..., K, D) for vectors."""
    outputs = reduce(x, name, over, settings, params=(("K", K),))
    dim = x._expr.dim
    if dim > 1:  # a row of the result is component after component
        outputs = tuple(v.reshape(*v.shape[:-1], dim, K).swapaxes(-1, -2) for v in outputs)
    return outputs if many else outputs[0]


def _any(count: Any) -> Any:
    return count > 0


def _none(count: Any) -> Any:
    return count == 0


def _judged(judge: Callable[[Any], Any], over: str, settings: Settings, x: Lazy) -> Any:
    step = STEPS["count_nonzero"] if over == "ij" else partial(_first, "count_nonzero", over)
    return judge(step(settings, x))


def _mean(over: str, settings: Settings, x: Lazy) -> Any:
    return divided(reduce(x, "sum", over, settings)[0], terms_per_row(x._space, over))


def _over_pairs(name: str, settings: Settings, x: Lazy) -> Any:
    """Sum or mean over i and j, without the axis that the rows would have."""
    total = _mean("ij", settings, x) if name == "mean" else reduce(x, "sum", "ij", settings)[0]
    return total[..., 0, :]


def _centred(x: Reductions, over: str, centre: Any) -> Reductions:
    """x minus a result of its reduction over `over`: a variable of the kept axis, which takes its 1 back."""
    if over == "ij":
        return x - x._make(*parts(centre[..., None, None, :]))
    return x - x._make(*parts(centre[..., None, :] if over == "j" else centre[..., None, :, :]))


def _variance(over: str, ddof: float, settings: Settings, x: Reductions) -> Any:
    """Two passes: sum(F^2) - n mean^2 would cancel."""
    both = over == "ij"
    difference = _centred(x, over, _over_pairs("mean", settings, x) if both else _mean(over, settings, x))
    # of complex numbers, the squared modulus
    square = difference._apply("complex_sqabs" if difference._space.is_complex else "square")
    squares = reduce(square, "sum", over, settings)[0]
    variance = divided(squares, terms_per_row(x._space, over) - ddof)
    return variance[..., 0, :] if both else variance


def _max_sumshiftexp(over: str, settings: Settings, x: Reductions, other: Lazy | None = None) -> Any:
    """Two passes, as for the variance; the maximum of a row of -inf is no number to subtract."""
    m = reduce(x, "max", over, settings)[0]
    largest = PRECISIONS[computed_in(x._space)].largest
    e = _centred(x, over, m.clip(-largest, largest))._apply("exp")
    s = reduce(e if other is None else e._apply("mul", other), "sum", over, settings)[0]
    return arrays.concatenate([m, s], x._space.library)


def _deviation(over: str, ddof: float, settings: Settings, x: Reductions) -> Any:
    return arrays.root(_variance(over, ddof, settings, x))


def _twin(name: str) -> Callable[..., Any]:
    """The method under KeOps' second name, which never means the components: `sum_reduction(axis=1)`."""
    takes_place = name.startswith(("K", "argK")) or name == "sumsoftmaxweight"

    def method(self: Any, *args: Any, axis: Any = None, dim: Any = None, **options: Any) -> Any:
        positional = 2 if takes_place else 1
        if len(args) >= positional and axis is None:
            args, axis = args[: positional - 1], args[positional - 1]
        over_of(self, f"{name}_reduction", axis, dim)
        return getattr(self, name)(*args, axis=axis, dim=dim, **options)

    method.__name__ = f"{name}_reduction"
    method.__qualname__ = f"LazyTensor.{name}_reduction"
    method.__doc__ = f"The same as `{name}` over i or j; the axis must be given."
    method.__signature__ = inspect.signature(getattr(Reductions, name))  # type: ignore[attr-defined]
    return method


TWINS = (
    *("sum", "prod", "mean", "var", "std", "logsumexp", "sumsoftmaxweight", "count_nonzero", "any", "all"),
    *("min", "max", "argmin", "argmax", "min_argmin", "max_argmax"),
    *("Kmin", "argKmin", "Kmin_argKmin", "Kmax", "argKmax", "Kmax_argKmax"),
)
for _name in TWINS:
    setattr(Reductions, f"{_name}_reduction", _twin(_name))
