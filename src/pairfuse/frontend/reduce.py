"""Reductions over i or j: from a formula to arrays.

In: a symbolic tensor, the name of a record of ir/reductions.py, the axis.  Out: arrays of shape (*batch, M or N, D),
in the library of the data.  The methods that users call are in reductions.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ..errors import ShapeError, message
from ..ir.expr import Expr, as_kind
from ..lower.problem import Problem
from .base import Bindings, Lazy, Params, merge, renumbered
from .evaluate import Settings, computed_in, dtype_of, evaluate
from .messages import describe, operation_error
from .options import deliver, parse
from .space import Clash, Space

VECTOR = "d"  # the axis of the components


class Deferred:
    """A reduction that waits: call it to compute, again and again on the current contents of the arrays.

    Keyword arguments of the call (`out`, `backend`, ...) are added to those given before, for that call only.
    """

    __slots__ = ("_options", "_run", "_title")

    def __init__(self, title: str, run: Callable[..., Any], options: dict[str, Any]) -> None:
        self._title, self._run, self._options = title, run, options

    def __call__(self, **options: Any) -> Any:
        return self._run({**self._options, **options})

    def __repr__(self) -> str:
        return f"<deferred reduction: {self._title}; call it to compute>"


def over_of(x: Lazy, name: str, axis: int | None, dim: int | None, vector: bool = False) -> str:
    """The axis that the user's number means: "i", "j", or "d" for the components where `vector` allows it.

    Batch axes count: with b of them, b is i, b + 1 is j, b + 2 are the components. From the end, -3, -2 and -1.
    """
    batch = len(x._space.batch)
    number = axis if dim is None else dim
    if number is not None and not isinstance(number, (list, tuple)):
        try:
            place = number.__index__()
        except AttributeError:
            place = batch + 3
        place = place - batch if place >= 0 else place + 3
        if place in (0, 1):
            return "ij"[place]
        if place == 2 and vector:
            return VECTOR
    which = f"dim={batch} reduces over i, dim={batch + 1} over j"
    if vector:
        which += f", dim={batch + 2} or -1 over the components"
    problem = "which axis?" if number is None else f"cannot reduce over axis {number}."
    raise ShapeError(message(f"{name}(): {problem}", f"x: {describe(x)}", f"{which}."))


def perform(x: Lazy, title: str, run: Callable[[Settings], Any], options: dict[str, Any]) -> Any:
    """Run a reduction with the user's keywords, now or (call=False) later."""
    if not options and x._space.backend is None:
        return run(Settings())

    def now(options: dict[str, Any]) -> Any:
        settings = parse(title, options, x._space.backend, dtype_of(x._space))
        results = run(settings)
        out = options.get("out")
        return results if out is None else deliver(title, results, out, x._space.library)

    if not options.pop("call", True):
        parse(title, options, x._space.backend, dtype_of(x._space))
        return Deferred(title, now, options)
    return now(options)


def reduce(
    x: Lazy, name: str, over: str, settings: Settings, other: Lazy | None = None, params: Params = ()
) -> tuple[Any, ...]:
    """The visible outputs of the reduction `name` of the table."""
    exprs, bindings, space = (x._expr,), x._bindings, x._space
    if other is not None:
        exprs, bindings, space = joined(name, x, other)
    problem = problem_of(exprs, name, over, computed_in(space), params)
    return evaluate(problem, bindings, space, settings)


def joined(name: str, x: Lazy, other: Lazy) -> tuple[tuple[Expr, ...], Bindings, Space]:
    """Formulas of a reduction that takes two."""
    try:
        bindings, space, mappings = merge((x, other))
    except Clash as cause:
        call = f"x.{name.removesuffix('_weight')}(weight=y)"
        raise operation_error(name, (x, other), (), cause, call) from None
    return (x._expr, renumbered(other._expr, mappings[1])), bindings, space


@lru_cache(maxsize=4096)
def problem_of(exprs: tuple[Expr, ...], name: str, over: str, dtype: str, params: Params) -> Problem:
    """The problem; truth values and indices are reduced as numbers."""
    return Problem(tuple(as_kind(e, "real") for e in exprs), name, over, dtype, params)


def scalar_formula(x: Lazy, call: str) -> None:
    """Refuse vectors where one number per pair is needed."""
    if x._expr.dim != 1:
        raise ShapeError(
            message(
                f"{call}: needs one number for each pair (i, j), K has vectors of {x._expr.dim}.",
                f"K: {describe(x)}",
                "sum over the components first, K.sum(-1), or take one, K[..., 0].",
            )
        )
