"""From data to variables: what LazyTensor, Vi, Vj and Pm accept, and what it becomes.

In: a number, a list of numbers, an array of either library, with or without an axis.  Out: the formula of one input
(or a constant), its data in canonical shape, and the space.  Every refusal says what was given and what to write.
"""

from __future__ import annotations

from numbers import Complex, Integral, Real
from operator import index
from typing import Any

import numpy as np

from ..errors import DtypeError, ShapeError, message
from ..ir.expr import Expr, const
from ..runtime import arrays
from .base import Binding, Bindings, Lazy, node, variable, variable_of_integers
from .messages import describe_value
from .space import EMPTY, Space
from .symbolic import symbolic

Parts = tuple[Expr, Bindings, Space]
UNITS = {1.0: const(1.0), -1.0: const(-1.0)}
AXES = {None: None, 0: "i", 1: "j", 2: "p"}
HELD_BY_FLOAT32 = 1 << 24  # smaller integers of a list are real numbers like the others


def parts(x: Any, axis: int | None = None) -> Parts:
    """Formula, data and space of the variable that stands for `x`.

    Three whole numbers in a tuple declare a symbolic variable. Integers are constants of the formula. Floats, complex
    numbers and lists are parameters, whose values do not change the formula.
    """
    if axis is not None and (isinstance(axis, bool) or axis not in AXES):
        raise ShapeError(
            message(
                f"LazyTensor(x, axis={axis!r}): there is no such axis.",
                f"x: {describe_value(x)}",
                "axis=0 makes an i-variable, axis=1 a j-variable, axis=2 a parameter.",
            )
        )
    kind = arrays.library(x)
    if kind is not None:
        return _from_array(x, AXES[axis], kind)
    if isinstance(x, Lazy):
        return x._expr, x._bindings, x._space
    if isinstance(x, tuple) and len(x) == 3 and isinstance(x[2], int) and x[2] in (0, 1, 2):
        if axis is not None:
            text = f"LazyTensor({x!r}, axis={axis}): the category of a symbolic variable is the third number."
            raise ShapeError(message(text, hint="leave the axis out."))
        return symbolic(x[0], x[1], "ijp"[x[2]])
    if isinstance(x, (bool, int, np.bool_, Integral)):
        return const(int(x)), (), EMPTY
    if isinstance(x, (float, Real)):
        _parameter_only(x, axis)
        return _from_numbers((float(x),))
    if isinstance(x, (list, range)) and x and all(isinstance(v, (Real, np.bool_)) for v in x):
        _parameter_only(x, axis)
        if all(isinstance(v, Integral) for v in x) and max(map(abs, x)) > HELD_BY_FLOAT32:
            return variable_of_integers("p", len(x)), (Binding(tuple(map(int, x)), "p"),), EMPTY
        return _from_numbers(tuple(float(v) for v in x))
    array = arrays.nearly(x)
    if array is not None:
        if array.ndim == 1 and axis in (0, 1):  # a column of a table: one number for each row
            array = array[:, None]
        return _from_array(array, AXES[axis], arrays.NUMPY)
    numbers: list[Any] = x if isinstance(x, list) else [x]
    if numbers and all(isinstance(v, (Complex, np.bool_)) for v in numbers):
        _parameter_only(x, axis)
        return _from_complex_numbers([complex(v) for v in numbers])
    raise _refusal(x)


def _from_numbers(values: tuple[float, ...]) -> Parts:
    return variable("p", len(values)), (Binding(values, "p"),), EMPTY


def _from_complex_numbers(values: list[complex]) -> Parts:
    """Parameters as pairs."""
    expr, bindings, space = _from_numbers(tuple(part for v in values for part in (v.real, v.imag)))
    return expr, bindings, space._replace(is_complex=True)


def factor(value: complex) -> Parts:
    """A complex number as an operand of real and complex numbers: a part that is 0 takes no part in the formula."""
    re, im = value.real, value.imag
    if re and im:
        return _from_complex_numbers([value])
    if re == 0 and abs(im) == 1:
        part, bindings, space = UNITS[im], (), EMPTY
    else:
        part, bindings, space = _from_numbers((im if re == 0 else re,))
    row = "imag2complex" if re == 0 else "real2complex"
    return node(row, (part,), ((),), ()), bindings, space._replace(is_complex=True)


def _from_array(x: Any, axis: str | None, kind: str) -> Parts:
    x = arrays.in_single(x, kind)
    numbers = arrays.is_complex(x, kind)
    # The type of complex numbers is that of their parts.
    dtype: str | None = arrays.number_type(x.real if numbers else x, kind)
    x = arrays.plain(x, kind)
    rank = x.ndim
    if rank == 0:
        if axis in ("i", "j"):
            raise _needs_rows(x, axis)
        # A single number takes the type of the others, as Python's floats do.
        space = Space(library=kind, device=_device_of_number(x, kind), is_complex=numbers)
        return _variable("p", x.reshape(1), kind, space, dtype)
    shape = tuple(x.shape)
    if shape[-1] == 0:
        raise ShapeError(
            message("LazyTensor(x): the vectors have no component.", f"x: {describe_value(x)}", "drop this variable.")
        )
    if rank >= 3:
        axis, data, ni, nj = _unfold(x, axis, shape)
        batch = shape[:-3]
    elif rank == 2:
        if axis is None:
            raise ShapeError(
                message(
                    "LazyTensor(x): an array of two axes needs to know which one it is indexed by.",
                    f"x: {describe_value(x)}",
                    "write Vi(x) or x[:, None, :] for an i-variable, Vj(x) or x[None, :, :] for a j-variable.",
                )
            )
        data, batch = x, ()
        ni, nj = (shape[0] if axis == "i" else None), (shape[0] if axis == "j" else None)
        if axis == "p":
            data, batch = (x[0], ()) if shape[0] == 1 else (x, (shape[0],))
    else:
        if axis in ("i", "j"):
            raise _needs_rows(x, axis)
        axis, data, batch, ni, nj = "p", x, (), None, None
    real = None if dtype == arrays.INTEGER else dtype
    space = Space(ni, nj, batch, kind, real, device=arrays.device(x, kind))
    return _variable(axis, data, kind, space._replace(is_complex=True) if numbers else space, dtype)


def _variable(axis: str, data: Any, kind: str, space: Space, dtype: str | None) -> Parts:
    """The formula of one input; complex numbers become pairs, integers stay integers."""
    data = arrays.as_pairs(data, kind) if space.is_complex else data
    make = variable_of_integers if dtype == arrays.INTEGER else variable
    # The length of vectors is part of the formula: where torch traces with sizes that vary, this one is a number.
    return make(axis, index(data.shape[-1])), (Binding(data, axis),), space


def _device_of_number(x: Any, kind: str) -> str | None:
    """A single number on the CPU goes where the others are, as in torch."""
    device = arrays.device(x, kind)
    return None if device == "cpu" else device


def _unfold(x: Any, axis: str | None, shape: tuple[int, ...]) -> tuple[str, Any, int | None, int | None]:
    """An array (*batch, M, 1, D), (*batch, 1, N, D) or (*batch, 1, 1, D): its axis and its data without the 1."""
    if axis is not None:
        letter = {"i": "Vi", "j": "Vj", "p": "Pm"}[axis]
        raise ShapeError(
            message(
                f"LazyTensor(x, axis={'ijp'.index(axis)}) or {letter}(x): x has {len(shape)} axes.",
                f"x: {describe_value(x)}",
                "with an axis, x is an array of two axes (rows, D); with batch axes, write LazyTensor(x) and "
                "x of shape (*batch, M, 1, D), (*batch, 1, N, D) or (*batch, 1, 1, D).",
            )
        )
    m, n = shape[-3], shape[-2]
    if m == 1 and n == 1:
        return "p", x[..., 0, 0, :], None, None
    if n == 1:
        return "i", x[..., 0, :], m, None
    if m == 1:
        return "j", x[..., 0, :, :], None, n
    raise ShapeError(
        message(
            f"LazyTensor(x): the axes of sizes {m} and {n} are both larger than 1, "
            "so x is neither an i-variable nor a j-variable.",
            f"x: {describe_value(x)}",
            "the last three axes are (M, 1, D) for an i-variable and (1, N, D) for a j-variable; "
            "batch axes come before them.",
        )
    )


def _parameter_only(x: Any, axis: int | None) -> None:
    if axis in (0, 1):
        raise ShapeError(
            message(
                f"LazyTensor(x, axis={axis}): numbers and lists of numbers are parameters.",
                f"x: {describe_value(x)}",
                "Pm(x) is a parameter; rows are an array of two axes (rows, D), for numbers np.array(x)[:, None].",
            )
        )


def _needs_rows(x: Any, axis: str) -> ShapeError:
    name = "Vi" if axis == "i" else "Vj"
    hint = "x[:, None] is an array of rows with one component." if x.ndim else "leave the axis out for a parameter."
    return ShapeError(
        message(
            f"{name}(x): {'an' if axis == 'i' else 'a'} {axis}-variable is an array of two axes (rows, D).",
            f"x: {describe_value(x)}",
            hint,
        )
    )


def _refusal(x: Any) -> DtypeError:
    shown = f"x: {describe_value(x)}"
    if isinstance(x, tuple):
        return DtypeError(
            message(
                "LazyTensor(x): a tuple declares a symbolic variable, (number, length, category).",
                shown,
                "the category is 0 for i, 1 for j, 2 for a parameter; for a parameter of several numbers, pass a list.",
            )
        )
    return DtypeError(
        message(
            f"LazyTensor(x): a {type(x).__name__} cannot take part in a formula.",
            shown,
            "accepted: numbers, lists of numbers, NumPy arrays, torch tensors, and what has __array__ or DLPack; "
            "np.asarray(x) converts other things.",
        )
    )
