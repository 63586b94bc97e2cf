"""`K.value_and_grad(...)`: a reduction and its derivatives, for those who have no tape.

In: a formula, the name of a reduction, the variables or arrays to differentiate with respect to, a cotangent.  Out: the
value and the derivatives of <cotangent, value>, as plain arrays.  NumPy arrays go to host_gradients.py; torch tensors
take torch's own way, on copies that it follows.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ...config import config
from ...errors import DtypeError, FormulaError, KeywordError, ShapeError, UnsupportedError, message
from ...ir.expr import Expr
from ...ir.reductions import Reduction
from ...lower.problem import Problem
from ...runtime import arrays
from ..base import Binding, Bindings, Lazy
from ..deferred import Task, perform
from ..evaluate import Settings, check_sizes, computed_in, evaluate, host_value, sizes_of
from ..integers import as_real, held, resolved
from ..messages import describe, describe_value, differentiable_instead
from ..reduce import VECTOR, axes_of, compact, joined, over_of, problem_of
from ..reductions import Axes, Reductions, record_of
from ..space import Space, Symbol
from .host_gradients import Question, value_and_gradients

CALL = "value_and_grad"


class Target(NamedTuple):
    """One derivative: the numbers of the inputs whose derivatives are added up, and the shape asked for, if any."""

    slots: tuple[int, ...]
    shape: tuple[int, ...] | None = None


class Asked(NamedTuple):
    """The reduction to differentiate, as the user has named it.

    title   "sum", "mean", "logsumexp" ...
    K       of the reductions that select several terms, else 0
    targets what to differentiate with respect to; `single`: the user named one thing, not a sequence; `every`: nothing
    """

    record: Reduction
    title: str
    over: str
    K: int
    cotangent: Any
    targets: tuple[Target, ...]
    single: bool
    every: bool = False


class ValueAndGrad(Reductions):
    """The method `value_and_grad`."""

    __slots__ = ()

    def value_and_grad(
        self,
        reduction: str = "sum",
        axis: Axes = None,
        dim: Axes = None,
        wrt: Any = None,
        cotangent: Any = None,
        weight: Any = None,
        K: int | None = None,
        **options: Any,
    ) -> tuple[Any, Any]:
        """A reduction and its derivatives, in as few passes over the pairs as possible: without torch, too.

        For a = reduction of F, computes a and, for every array x of `wrt`, the derivative of sum(cotangent * a) with
        respect to x. The value, and the derivatives with respect to the variables that index it, come out of one pass;
        those with respect to the variables of the other axis take one more, and those to parameters another.

        Arguments:
            reduction: "sum", "mean", "prod", "logsumexp", "sumsoftmaxweight", "min", "max", "Kmin", "Kmax".
            axis, dim: the axis to reduce, as for the reductions themselves; (0, 1), for "sum" and "mean": all pairs.
            wrt: what to differentiate with respect to, one or a sequence: variables (the LazyTensors that the formula
                was written with) or the arrays themselves. Default: every variable that holds an array, in order of
                appearance.
            cotangent: array of the shape of the value, or one that broadcasts to it; default: ones.
            weight: the second formula of "logsumexp" and "sumsoftmaxweight".
            K: how many terms "Kmin" and "Kmax" select.
            options: the keywords of reductions (backend, accuracy, ranges ...).

        Returns: (value, gradients). The value is as the reduction gives it. The gradients are a tuple, or one array if
        `wrt` is not a sequence. A variable has the gradient of its rows, (*batch, M, D) or (*batch, N, D), a parameter
        (*batch, D); an array has one of its own shape, in which all its uses are added up, as x_i and as x_j.

        Raises: UnsupportedError for reductions to whole numbers (argmin ...) and complex numbers, FormulaError if an
        entry of `wrt` is no variable of the formula, ShapeError for a cotangent of another shape.

        Example::

            >>> import numpy as np
            >>> from pairfuse.numpy import Vi, Vj
            >>> x, y = np.array([[1.0], [2.0]]), np.array([[0.0], [1.0], [5.0]])
            >>> energy, (gx, gy) = Vi(x).sqdist(Vj(y)).value_and_grad("sum", dim=1, wrt=[x, y])
            >>> energy
            array([[17.],
                   [14.]])
            >>> gx  # sum_j 2 (x_i - y_j)
            array([[-6.],
                   [ 0.]])
            >>> gy  # sum_i 2 (y_j - x_i)
            array([[-6.],
                   [-2.],
                   [14.]])
        """
        for key in ("out", "call"):
            if key in options:
                raise KeywordError(message(f"{CALL}({key}=...): takes no such keyword.", hint="leave it out."))
        title = "mean" if reduction in ("mean", "Mean") else reduction
        other = None if weight is None else self._as_weight(weight, title)
        record = _record(self, title, other)
        over = _over(self, title, axis, dim)
        bindings = self._bindings if other is None else joined(record.name, self, other)[1]
        targets, single = _targets(self, bindings, wrt)
        asked = Asked(record, title, over, _places(self, record, K), cotangent, targets, single, wrt is None)
        operands = (self,) if other is None else (self, other)
        return perform(Task(CALL, over, partial(_run, asked), record=record.name), operands, options)


# ---------------------------------------------------------------------- what is asked


def _record(x: Lazy, name: str, other: Lazy | None) -> Reduction:
    record = record_of("sum" if name == "mean" else name)
    if other is not None and record.arity == 1:
        record = record_of(f"{record.name}_weight") if record.name == "logsumexp" else record
    if record.arity == 2 and other is None:
        raise FormulaError(message(f"{CALL}({name!r}): takes a second formula, weight=...", f"x: {describe(x)}"))
    if record.arity == 1 and other is not None:
        raise FormulaError(message(f"{CALL}({name!r}, weight=...): takes one formula.", f"x: {describe(x)}"))
    kinds = [kind for _, kind in record.outputs[: record.visible]]
    if kinds != ["real"]:
        text = f"{CALL}({name!r}): the indices and numbers it gives have no derivative."
        raise UnsupportedError(message(text, f"x: {describe(x)}", differentiable_instead(record.name)))
    if x._space.is_complex or (other is not None and other._space.is_complex):
        hint = "differentiate a real number made of them, in torch: abs, real, imag."
        raise UnsupportedError(message(f"{CALL}: not for complex numbers.", f"x: {describe(x)}", hint))
    return record


def _over(x: Lazy, name: str, axis: Axes, dim: Axes) -> str:
    number = axis if dim is None else dim
    if name not in ("sum", "mean") or not isinstance(number, (tuple, list)):
        return over_of(x, name, number, None)  # type: ignore[arg-type]  # a tuple is refused there
    letters = axes_of(x, name, number, True)
    if VECTOR in letters:
        hint = "sum over the components first, K.sum(-1).value_and_grad(...)."
        raise ShapeError(message(f"{CALL}(dim={number}): reduces over i, j or both.", f"x: {describe(x)}", hint))
    return letters


def _places(x: Lazy, record: Reduction, K: Any) -> int:
    if "K" not in record.params:
        return 0
    if isinstance(K, bool) or not hasattr(K, "__index__") or K.__index__() < 1:
        text = f"{CALL}({record.name!r}, K={K!r}): K is a whole number, at least 1."
        raise ShapeError(message(text, f"x: {describe(x)}"))
    return K.__index__()


def _targets(x: Lazy, bindings: Bindings, wrt: Any) -> tuple[tuple[Target, ...], bool]:
    """What to differentiate with respect to, and whether it was given alone."""
    if wrt is None:
        return tuple(Target((k,)) for k, b in enumerate(bindings) if type(b.data) is not tuple), False
    if isinstance(wrt, (tuple, list)):
        return tuple(_target(x, bindings, v, f"wrt[{k}]") for k, v in enumerate(wrt)), False
    return (_target(x, bindings, wrt, "wrt"),), True


def _target(x: Lazy, bindings: Bindings, v: Any, name: str) -> Target:
    slots: tuple[int, ...] = ()
    if isinstance(v, Lazy) and v.axis_letter is not None:
        (item,) = v._bindings
        slots = tuple(k for k, b in enumerate(bindings) if b is item or (b.axis == item.axis and _same(b, item)))
    elif arrays.library(v) is not None:
        slots = tuple(k for k, b in enumerate(bindings) if _same_memory(b.data, v))
    if not slots:
        facts = [f"{name}: {describe(v)}", f"x: {describe(x)}"]
        hint = "wrt holds LazyTensors or arrays that x was made of, not copies or formulas of them."
        raise FormulaError(message(f"{CALL}: {name} is not a variable of the formula.", facts, hint))
    return Target(slots, None if isinstance(v, Lazy) else tuple(v.shape))


def _same(one: Binding, other: Binding) -> bool:
    a, b = one.data, other.data
    return type(a) is not tuple and (a is b or (type(a) is Symbol and a == b) or _same_memory(a, b))


def _same_memory(a: Any, b: Any) -> bool:
    """Are they the same numbers in the same place, up to axes of length 1?"""
    return not isinstance(a, (tuple, Symbol)) and not isinstance(b, (tuple, Symbol)) and _place(a) == _place(b)


def _place(a: Any) -> tuple[Any, ...]:
    start = a.__array_interface__["data"][0] if isinstance(a, np.ndarray) else (a.device, a.data_ptr())
    steps = a.strides if isinstance(a, np.ndarray) else a.stride()
    return a.dtype, start, *[(n, s) for n, s in zip(a.shape, steps, strict=True) if n != 1]


# ---------------------------------------------------------------------- what the task does


def _run(asked: Asked, settings: Settings, x: Lazy, other: Lazy | None = None) -> tuple[Any, Any]:
    exprs, bindings, space = ((x._expr,), x._bindings, x._space)
    if other is not None:
        exprs, bindings, space = joined(asked.record.name, x, other)
    slots: Sequence[int] = range(len(bindings))
    unused = compact(exprs, len(bindings))
    if unused is not None:
        exprs, slots = unused
    used = tuple(bindings[s] for s in slots)
    chosen = {s for t in asked.targets for s in t.slots}
    wanted = tuple(s in chosen for s in slots)
    if asked.every:  # integers that are not held as real numbers have no derivative, and are not asked for by name
        dtype = computed_in(space)
        wanted = tuple(want and held(b.data, dtype) for want, b in zip(wanted, used, strict=True))
    exprs = tuple(as_real(e, frozenset(k for k, want in enumerate(wanted) if want)) for e in exprs)
    problem = _problem(asked, exprs, space, settings)
    check_sizes(problem, space)
    problem, used, space = resolved(problem, used, space)
    g = _cotangent(asked, problem, space)
    compute = _by_torch if space.library == arrays.TORCH else _on_host
    value, parts = compute(problem, used, space, settings, g, wanted)
    by_slot = dict(zip(slots, parts, strict=True))
    found = tuple(_gathered(t, [(by_slot.get(s), bindings[s]) for s in t.slots], problem.dtype) for t in asked.targets)
    return _shown(asked, value, space), found[0] if asked.single else found


def _problem(asked: Asked, exprs: tuple[Expr, ...], space: Space, settings: Settings) -> Problem:
    params = (("K", asked.K),) if asked.K else ()
    accuracy = settings.accuracy or config.accuracy
    return problem_of(exprs, asked.record.name, asked.over, computed_in(space), params, accuracy)


def _on_host(
    problem: Problem, bindings: Bindings, space: Space, settings: Settings, g: Any, wanted: tuple[bool, ...]
) -> tuple[Any, list[Any]]:
    sizes = sizes_of(space)
    values = [host_value(b, problem.dtype, sizes) for b in bindings]
    return value_and_gradients(Question(problem, values, sizes, settings, g), wanted)


def _by_torch(
    problem: Problem, bindings: Bindings, space: Space, settings: Settings, g: Any, wanted: tuple[bool, ...]
) -> tuple[Any, list[Any]]:
    torch = sys.modules["torch"]
    kind = getattr(torch, space.dtype or problem.dtype)
    copies: list[Binding] = []
    for b, want in zip(bindings, wanted, strict=True):
        data: Any = b.data
        if want:
            numbers = torch.tensor(data, device=space.device) if type(data) is tuple else data.detach()
            data = numbers.to(kind).requires_grad_()
        elif type(data) is not tuple:
            data = data.detach()
        copies.append(Binding(data, b.axis))
    with torch.enable_grad():
        value = evaluate(problem, tuple(copies), space, settings)[0]
        leaves = [c.data for c, want in zip(copies, wanted, strict=True) if want]
        given: Any = iter(())
        if leaves:
            given = iter(torch.autograd.grad(value, leaves, g.to(value.dtype), allow_unused=True))
    return value.detach(), [next(given) if want else None for want in wanted]


# ---------------------------------------------------------------------- shapes


def _cotangent(asked: Asked, problem: Problem, space: Space) -> Any:
    """The cotangent of the reduction, (*batch, rows, dim), from that of the value that the user sees."""
    sizes, dim = sizes_of(space), problem.output_dims()[0]
    lead = (*sizes.batch, sizes.along(problem.kept))
    shown = (*lead, asked.K, dim // asked.K) if _of_vectors(asked, dim) else (*lead, dim)
    if problem.both:
        shown = (*sizes.batch, dim)
    g = _ones(shown, problem, space) if asked.cotangent is None else _given(asked.cotangent, shown, problem, space)
    if _of_vectors(asked, dim):
        g = g.swapaxes(-1, -2).reshape(*lead, dim)
    if asked.title == "mean":
        g = g / max(1, math.prod(sizes.along(a) for a in asked.over))
    return g.reshape(*lead, dim)


def _of_vectors(asked: Asked, dim: int) -> bool:
    """Does a result of this length hold K vectors, component after component, rather than K numbers?"""
    return bool(asked.K) and dim != asked.K


def _ones(shape: tuple[int, ...], problem: Problem, space: Space) -> Any:
    if space.library == arrays.TORCH:
        torch = sys.modules["torch"]
        return torch.ones(shape, dtype=getattr(torch, problem.dtype), device=space.device)
    return np.ones(shape, problem.dtype)


def _given(cotangent: Any, shape: tuple[int, ...], problem: Problem, space: Space) -> Any:
    """The user's cotangent in the type and shape of the value."""
    kind = arrays.library(cotangent)
    if kind is not None and kind != (space.library or arrays.NUMPY):
        text = f"{CALL}(cotangent=...): the cotangent is not of the library of the value."
        raise DtypeError(message(text, f"cotangent: {describe_value(cotangent)}"))
    try:
        if space.library == arrays.TORCH:
            torch = sys.modules["torch"]
            given = torch.as_tensor(cotangent, dtype=getattr(torch, problem.dtype), device=space.device).detach()
            return given.broadcast_to(shape)
        return np.broadcast_to(np.asarray(cotangent, problem.dtype), shape)
    except (ValueError, TypeError, RuntimeError):
        facts = [f"cotangent: {describe_value(cotangent)}", f"the value has the shape {shape}"]
        raise ShapeError(message(f"{CALL}(cotangent=...): does not fit the value.", facts)) from None


def _shown(asked: Asked, value: Any, space: Space) -> Any:
    """The value as the reduction itself gives it."""
    if asked.title == "mean":
        count = math.prod(sizes_of(space).along(a) for a in asked.over)
        value = value / count if count else value * math.nan
    if asked.over == "ij":
        return value[..., 0, :]
    dim = value.shape[-1]
    if _of_vectors(asked, dim):
        return value.reshape(*value.shape[:-1], dim // asked.K, asked.K).swapaxes(-1, -2)
    return value


def _gathered(target: Target, parts: Sequence[tuple[Any, Binding]], dtype: str) -> Any:
    """The derivative with respect to one entry of `wrt`: its uses added up, in its shape."""
    total: Any = None
    for part, binding in parts:
        shape = target.shape
        if shape is None:
            shape = (len(binding.data),) if type(binding.data) is tuple else tuple(binding.data.shape)
        if part is None:  # the formula does not depend on it
            part = _zeros(binding.data, shape, dtype)
        elif isinstance(part, np.ndarray):
            own = np.shape(binding.data)
            part = np.ascontiguousarray(_summed_to(part, own)).reshape(shape)
        else:
            part = part.reshape(shape)
        total = part if total is None else total + part
    return total


def _zeros(data: Any, shape: tuple[int, ...], dtype: str) -> Any:
    if arrays.library(data) == arrays.TORCH:
        torch = sys.modules["torch"]
        return torch.zeros(shape, dtype=data.dtype if data.is_floating_point() else getattr(torch, dtype))
    return np.zeros(shape, dtype)


def _summed_to(part: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Add up along the axes over which the array was broadcast."""
    extra = part.ndim - len(shape)
    if extra:
        part = part.sum(tuple(range(extra)))
    axes = tuple(k for k, (n, m) in enumerate(zip(part.shape, shape, strict=True)) if m == 1 and n != 1)
    return part.sum(axes, keepdims=True) if axes else part
