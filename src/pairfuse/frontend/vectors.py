"""Methods on the vector axis whose arguments are not simply those of a row of the table.

In: component numbers, slices, sizes, other symbolic tensors.  Out: symbolic tensors.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, TypeVar

from ..errors import KeywordError, ShapeError, message
from .base import Lazy
from .messages import describe
from .methods import Operations

V = TypeVar("V", bound="Vectors")
ROWS_HINT = "indices select components of the vectors; to select rows or columns, index the arrays: x[10:20, None, :]."


class Vectors(Operations):
    """Components, norms, products of matrices written as vectors."""

    __slots__ = ()

    def elem(self: V, i: int) -> V:
        """Component number ``i`` (from 0; from the end if negative), a formula of dimension 1.

        Raises ShapeError outside of the vector.
        """
        return self._components(f"x.elem({i!r})", i, 1)

    def extract(self: V, i: int, d: int) -> V:
        """Components ``i`` to ``i + d - 1``, a formula of dimension ``d``. Raises ShapeError outside of the vector."""
        return self._components(f"x.extract({i!r}, {d!r})", i, d)

    def _components(self: V, call: str, i: Any, d: Any) -> V:
        start, size, dim = _whole(i, "i"), _whole(d, "d"), self._length
        start = start + dim if start < 0 else start
        if start < 0 or size < 1 or start + size > dim:
            what = f"component {start}" if size == 1 else f"{size} components from number {start} on"
            raise self._index_error(call, f"{what} of a vector of length {dim}.", "components are numbered from 0.")
        return self._call("extract", start=start, size=size)

    def __getitem__(self: V, key: Any) -> V:
        """x[k], x[a:b], x[..., k], x[:, :, a:b]: components of the vectors, not rows nor columns.

        Example: ``x[..., :2]`` is the vector of the first two components.
        """
        last = self._last_axis(key)
        dim = self._length
        k = _as_index(last)
        if k is not None:
            if not -dim <= k < dim:
                raise self._index_error(f"x[{k}]", f"component {k} of a vector of length {dim}.", ROWS_HINT)
            return self._call("extract", start=k % dim, size=1)
        if not isinstance(last, slice):
            raise self._index_error(f"x[{last!r}]", "components are selected by integers and slices.", ROWS_HINT)
        if last.step not in (None, 1):
            raise self._index_error(f"x[{_show(last)}]", "the step of a slice is 1.", "concatenate single components.")
        start, stop, _ = last.indices(dim)
        beyond = max(abs(v) for v in (last.start or 0, last.stop or 0)) > dim
        if beyond or stop <= start:
            text = f"components {_show(last)} of a vector of length {dim}."
            raise self._index_error(f"x[{_show(last)}]", text, ROWS_HINT)
        return self if stop - start == dim else self._call("extract", start=start, size=stop - start)

    def _last_axis(self, key: Any) -> Any:
        """What is asked of the last axis; everything before it must be a full slice or an ellipsis."""
        if not isinstance(key, tuple):
            return slice(None) if key is Ellipsis else key
        rank = len(self._shape)
        given = sum(k is not Ellipsis for k in key)
        dots = [n for n, k in enumerate(key) if k is Ellipsis]
        if len(dots) > 1 or given > rank or (not dots and given != rank):
            raise self._index_error(
                f"x[{', '.join(map(_show, key))}]", f"{given} indices for {rank} axes, the last that of components.",
                "x[..., k] selects component k.",
            )  # fmt: skip
        full = slice(None)
        if dots:
            n = dots[0]
            key = (*key[:n], *[full] * (rank - given), *key[n + 1 :])
        if any(not isinstance(k, slice) or k != full for k in key[:-1]):
            raise self._index_error(
                f"x[{', '.join(map(_show, key))}]", "rows and columns of a formula cannot be selected.", ROWS_HINT
            )
        return key[-1]

    def _index_error(self, call: str, text: str, hint: str) -> ShapeError:
        return ShapeError(message(f"{call}: {text}", f"x: {describe(self)}", hint))

    def norm(self: V, dim: int = -1) -> V:
        """The Euclidean norm of the vectors; derivative 0 at 0. ``dim`` can only be the last axis."""
        if dim not in (-1, len(self._shape) - 1):
            raise self._index_error(f"x.norm({dim})", "the norm is taken over the components.", "x.norm(-1).")
        return self._apply("norm2")

    def weightedsqnorm(self: V, s: Any) -> V:
        """s |x|^2 if s is a number, sum_k s_k x_k^2 if s is a vector, sum_kl s_kl x_k x_l if s is a D x D matrix.

        A matrix is a vector of D * D components, row after row.
        """
        return self._apply_after("weightedsqnorm", s)

    def weightedsqdist(self: V, y: Any, s: Any) -> V:
        """``(x - y).weightedsqnorm(s)``."""
        return self._apply_after("weightedsqdist", s, y)

    def round(self: V, d: int = 0) -> V:
        """Round to ``d`` decimals, halves away from zero (NumPy and torch round halves to even); derivative 0."""
        return self._call("round", d=_whole(d, "d"))

    def clamp(self: V, min: Any = None, max: Any = None) -> V:
        """``min`` where x < min, ``max`` where x > max, else x; without a bound on the side where None is given.

        The bounds are numbers, arrays or symbolic tensors; the derivative at a bound is 1. Raises KeywordError if both
        are None.
        """
        if min is None and max is None:
            raise KeywordError(message("x.clamp(): without a bound.", f"x: {describe(self)}", "x.clamp(min=0)."))
        if max is None:
            return self._apply("clamp_min", min)
        return self._apply("clamp_max", max) if min is None else self._apply("clamp", min, max)

    def clip(self: V, min: Any = None, max: Any = None) -> V:
        """The same as `clamp`, in NumPy's words."""
        return self.clamp(min, max)

    def mod(self: V, modulus: Any, offset: Any = 0) -> V:
        """x - n floor((x - d) / n), with n the modulus and d the offset: x brought into [d, d + n)."""
        return self._apply("mod", modulus, offset)

    def one_hot(self: V, D: int) -> V:
        """The vector of D zeros, but for a 1 at the place x (rounded); all zeros if there is no such place."""
        return self._call("one_hot", size=_whole(D, "D"))

    def bspline(self: V, x: Any, k: int = 0) -> V:
        """The B-splines of order k at the number x, on the knots self (a vector of at least k + 2)."""
        return self._call("bspline", x, k=_whole(k, "k"))

    def keops_tensordot(self: V, y: Any, dimfa: Any, dimfb: Any, contfa: Any, contfb: Any, *perm: Any) -> V:
        """numpy.tensordot of the vectors read as arrays.

        Arguments: dimfa, dimfb: sizes of self and of y as arrays (row-major); contfa, contfb: axes of self that are
        summed against axes of y; perm: the place of each axis that is left, those of self before those of y.
        """
        order = perm[0] if len(perm) == 1 and not isinstance(perm[0], int) else perm
        params = {"dimfa": dimfa, "dimfb": dimfb, "contfa": contfa, "contfb": contfb, "perm": order or ()}
        return self._call("tensordot", y, **{name: _sizes(v, name) for name, v in params.items()})

    tensordot = keops_tensordot

    def keops_kron(self: V, y: Any, dimfself: Any, dimfother: Any) -> V:
        """numpy.kron of the vectors read as arrays of these sizes, flattened."""
        return self._call("kron", y, dimfa=_sizes(dimfself, "dimfself"), dimfb=_sizes(dimfother, "dimfother"))

    kron = keops_kron

    @classmethod
    def concatenate(cls: type[V], tensors: Sequence[Any], axis: int = -1) -> V:
        """The vectors one after the other: dimension sum of the dimensions.

        Arguments: tensors: symbolic tensors, arrays or numbers; axis: -1, or the number of the last axis.
        """
        if isinstance(tensors, Lazy) or len(tensors) == 0:
            raise ShapeError(message("concatenate(x): x is a tuple or list of symbolic tensors, and not empty."))
        parts = [x if isinstance(x, cls) else cls._lift(x) for x in tensors]
        joined = parts[0]
        for x in parts[1:]:
            joined = joined._apply("concat", x)
        if axis not in (-1, len(joined._shape) - 1):
            raise ShapeError(
                message(
                    f"concatenate(axis={axis}): only the components can be concatenated.",
                    f"result: {describe(joined)}",
                    "axis=-1; to join rows, concatenate the arrays.",
                )
            )
        return joined

    @classmethod
    def cat(cls: type[V], tensors: Sequence[Any], dim: int = -1) -> V:
        """The same as `concatenate`, in torch's words."""
        return cls.concatenate(tensors, axis=dim)


def _as_index(value: Any) -> int | None:
    """A whole number, or None: arrays, too, have __index__."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def _whole(value: Any, name: str) -> int:
    number = _as_index(value)
    if number is None:
        raise ShapeError(message(f"{name}={value!r}: not a whole number."))
    return number


def _sizes(value: Any, name: str) -> tuple[int, ...]:
    """A whole number or a sequence of them, as a tuple."""
    number = _as_index(value)
    if number is not None:
        return (number,)
    return tuple(_whole(v, name) for v in value)


def _show(key: Any) -> str:
    if key is Ellipsis:
        return "..."
    if not isinstance(key, slice):
        return repr(key)
    start, stop = ("" if v is None else str(v) for v in (key.start, key.stop))
    return f"{start}:{stop}" + ("" if key.step is None else f":{key.step}")
