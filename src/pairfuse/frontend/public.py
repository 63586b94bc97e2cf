"""The functions beside LazyTensor that users import: variables by axis, row and column numbers, choices.

In: arrays, numbers, symbolic tensors.  Out: symbolic tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import ShapeError, message, shown_number
from ..ir.expr import I, J, index
from .lazytensor import LazyTensor
from .space import Space
from .symbolic import symbolic


def Vi(x: Any, dim: int | None = None) -> LazyTensor:
    """The i-variable of an array (M, D): ``LazyTensor(x, axis=0)``; ``Vi(k, D)``: of argument k of a later call.

    Reductions of formulas with symbolic variables wait for them: ``Vi(0, 3).sqdist(Vj(1, 3)).argmin(dim=1)(x, y)``.
    """
    return _variable(x, dim, 0)


def Vj(x: Any, dim: int | None = None) -> LazyTensor:
    """The j-variable of an array (N, D): ``LazyTensor(x, axis=1)``; ``Vj(k, D)``: of argument k of a later call."""
    return _variable(x, dim, 1)


def Pm(x: Any, dim: int | None = None) -> LazyTensor:
    """A parameter, the same for all i and j: a number, a list of numbers, an array (D,): ``LazyTensor(x, axis=2)``.

    ``Pm(k, D)`` is argument k of a later call, an array (D,); ``Pm(k, 1)`` may be given as a number.
    """
    return _variable(x, dim, 2)


def _variable(x: Any, dim: int | None, axis: int) -> LazyTensor:
    if dim is not None:
        return LazyTensor._make(*symbolic(x, dim, "ijp"[axis]))
    return LazyTensor(x, axis=axis)


class OfComplexNumbers(type):
    """Makes `isinstance(x, ComplexLazyTensor)` ask what the components are."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.__mro__[1]) and instance.is_complex  # type: ignore[attr-defined]


class ComplexLazyTensor(LazyTensor, metaclass=OfComplexNumbers):
    """A LazyTensor of complex numbers, in KeOps' words: ``LazyTensor(x, axis)``, real numbers as x + 0 i.

    There is one class: what is made here is a LazyTensor, `is_complex`, and an instance of this name, too.
    """

    __slots__ = ()

    def __new__(cls, x: Any, axis: int | None = None) -> LazyTensor:  # type: ignore[misc]
        made = LazyTensor(x, axis)
        return made if made.is_complex else made.real2complex()


def index_i(size: int | None = None) -> LazyTensor:
    """The row number i = 0 ... M-1, an exact integer.

    Arguments: size: M; it can be left out when another variable of the formula is indexed by i.

    Example: the lower triangle of a symbolic matrix, ``where(index_i() >= index_j(), K, 0)``.
    """
    return LazyTensor._make(index(I), (), Space(ni=_size("index_i", size)))


def index_j(size: int | None = None) -> LazyTensor:
    """The column number j = 0 ... N-1, an exact integer; see `index_i`."""
    return LazyTensor._make(index(J), (), Space(nj=_size("index_j", size)))


LARGEST_SIZE = 2**48


def _size(name: str, size: int | None) -> int | None:
    if size is not None and (isinstance(size, bool) or not hasattr(size, "__index__") or size.__index__() < 0):
        raise ShapeError(message(f"{name}({size!r}): the size of an axis is a whole number, at least 0."))
    if size is not None and size.__index__() > LARGEST_SIZE:
        text = f"{name}(size): {shown_number(size.__index__())} is too large, 2**48 is the largest size of an axis."
        raise ShapeError(message(text))
    return None if size is None else size.__index__()


def where(condition: Any, x: Any, y: Any) -> LazyTensor:
    """x where the condition is true (not 0), else y, for each pair and component.

    What is not chosen has no influence, nor on derivatives: it may be infinite or NaN.
    """
    return _lazy(condition)._apply("where", x, y)


def minimum(x: Any, y: Any) -> LazyTensor:
    """The smaller of two operands, for each pair and component."""
    return _lazy(x)._apply("minimum", y)


def maximum(x: Any, y: Any) -> LazyTensor:
    """The larger of two operands, for each pair and component."""
    return _lazy(x)._apply("maximum", y)


def concatenate(tensors: Sequence[Any], axis: int = -1) -> LazyTensor:
    """The vectors one after the other; see `LazyTensor.concatenate`."""
    return LazyTensor.concatenate(tensors, axis)


def _lazy(x: Any) -> LazyTensor:
    return x if isinstance(x, LazyTensor) else LazyTensor._lift(x)
