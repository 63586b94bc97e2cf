"""Reductions over i or j: from a formula to arrays.

In: a symbolic tensor, the name of a record of ir/reductions.py, the axis.  Out: arrays of shape (*batch, M or N, D),
in the library of the data.  The methods that users call are in reductions.py; now or later is decided in deferred.py.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ..config import config
from ..errors import DtypeError, ShapeError, message
from ..ir.expr import Expr, as_kind, inputs
from ..lower.problem import Problem
from ..runtime import arrays
from .base import Bindings, Lazy, Params, merge, renumbered
from .evaluate import Settings, computed_in, evaluate
from .messages import describe, operation_error
from .numbers import packed
from .options import check_names
from .pairs import reduced_pairs
from .space import Clash, Space

VECTOR = "d"  # the axis of the components


def over_of(x: Lazy, name: str, axis: int | None, dim: int | None, vector: bool = False) -> str:
    """The axis that the user's number means: "i", "j", or "d" for the components where `vector` allows it.

    Batch axes count: with b of them, b is i, b + 1 is j, b + 2 are the components. From the end, -3, -2 and -1.
    """
    number = axis if dim is None else dim
    letter = None if isinstance(number, (list, tuple)) else _letter(x, number)
    if letter is None or (letter == VECTOR and not vector):
        raise _no_axis(x, name, number, vector)
    return letter


def one_of(x: Lazy, name: str, axis: Any, dim: Any, options: dict[str, Any]) -> Any:
    """The axis or axes that were given under one of two names."""
    if axis is None and dim is None and options:  # axes=1 is no axis, but a keyword that does not exist
        check_names(name, options, type(x))
    if axis is None or dim is None or axis == dim:
        return axis if dim is None else dim
    text = f"{name}(axis={axis!r}, dim={dim!r}): two names for the same, give one."
    raise ShapeError(message(text, f"x: {describe(x)}"))


def axes_of(x: Lazy, name: str, numbers: Any, vector: bool) -> str:
    """The axes that several numbers mean: the letters, in the order "ijd"; "d" where `vector` allows it."""
    letters = {_letter(x, n) for n in numbers}
    if not letters or None in letters or len(letters) < len(numbers) or (VECTOR in letters and not vector):
        raise _no_axis(x, name, tuple(numbers), vector)
    return "".join(a for a in ("i", "j", VECTOR) if a in letters)


def _letter(x: Lazy, number: Any) -> str | None:
    batch = len(x._space.batch)
    try:
        place = number.__index__()
    except AttributeError:
        return None
    place = place - batch if place >= 0 else place + 3
    return ("i", "j", VECTOR)[place] if 0 <= place <= 2 else None


def _no_axis(x: Lazy, name: str, number: Any, vector: bool) -> ShapeError:
    batch = len(x._space.batch)
    which = f"dim={batch} reduces over i, dim={batch + 1} over j"
    if vector:
        which += f", dim={batch + 2} or -1 over the components"
    if isinstance(number, (list, tuple)):
        which = f"each axis once, such as dim=({batch}, {batch + 1}) for all pairs: {which}"
    problem = "which axis?" if number is None else f"cannot reduce over axis {number}."
    return ShapeError(message(f"{name}(): {problem}", f"x: {describe(x)}", f"{which}."))


def reduce(
    x: Lazy, name: str, over: str, settings: Settings, other: Lazy | None = None, params: Params = ()
) -> tuple[Any, ...]:
    """The visible outputs of the reduction `name` of the table."""
    exprs, bindings, space = (x._expr,), x._bindings, x._space
    if other is not None:
        exprs, bindings, space = joined(name, x, other)
    unused = compact(exprs, len(bindings))
    if unused is not None:
        exprs, slots = unused
        bindings = tuple([bindings[slot] for slot in slots])
    exprs, bindings = packed(exprs, bindings)
    pairs = False
    if space.is_complex:
        exprs, pairs = of_pairs(name, exprs, (x,) if other is None else (x, other))
    accuracy = settings.accuracy or config.accuracy
    problem = problem_of(exprs, name, over, computed_in(space), params, accuracy)
    outputs = evaluate(problem, bindings, space, settings)
    return tuple([arrays.from_pairs(o, space.library) for o in outputs]) if pairs else outputs


def of_pairs(name: str, exprs: tuple[Expr, ...], operands: tuple[Lazy, ...]) -> tuple[tuple[Expr, ...], bool]:
    """The formulas of a reduction of complex numbers, and whether its results are complex."""
    try:
        return reduced_pairs(name, exprs, tuple([x._space.is_complex for x in operands]))
    except DtypeError as cause:
        call = f"x.{name.removesuffix('_weight')}({'weight=y' if len(operands) > 1 else ''})"
        raise operation_error(name, operands, (), cause, call) from None


def joined(name: str, x: Lazy, other: Lazy) -> tuple[tuple[Expr, ...], Bindings, Space]:
    """Formulas of a reduction that takes two."""
    try:
        bindings, space, mappings = merge((x, other))
    except Clash as cause:
        call = f"x.{name.removesuffix('_weight')}(weight=y)"
        raise operation_error(name, (x, other), (), cause, call) from None
    return (x._expr, renumbered(other._expr, mappings[1])), bindings, space


@lru_cache(maxsize=4096)
def compact(exprs: tuple[Expr, ...], count: int) -> tuple[tuple[Expr, ...], tuple[int, ...]] | None:
    """Formulas whose inputs are numbered without a gap, and which of the `count` inputs they use; None: all of them.

    Derivatives lose variables, and formula strings may declare more than they use.
    """
    slots = tuple(n.param("slot") for n in inputs(*exprs))
    if len(slots) == count:
        return None
    mapping = [0] * count
    for place, slot in enumerate(slots):
        mapping[slot] = place
    return tuple(renumbered(e, tuple(mapping)) for e in exprs), slots


@lru_cache(maxsize=4096)
def problem_of(
    exprs: tuple[Expr, ...], name: str, over: str, dtype: str, params: Params, accuracy: str = "strict"
) -> Problem:
    """The problem; truth values and indices are reduced as numbers."""
    return Problem(tuple(as_kind(e, "real") for e in exprs), name, over, dtype, params, accuracy)


def scalar_formula(x: Lazy, call: str) -> None:
    """Refuse vectors where one number per pair is needed."""
    if x._length != 1:
        raise ShapeError(
            message(
                f"{call}: needs one number for each pair (i, j), K has vectors of {x._length}.",
                f"K: {describe(x)}",
                "sum over the components first, K.sum(-1), or take one, K[..., 0].",
            )
        )
