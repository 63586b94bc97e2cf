"""The methods of complex numbers: parts, conjugates, angles, and the ways from real to complex.

In: symbolic tensors.  Out: symbolic tensors.  Whether one is complex is a field of its space; what the other operations
do with complex numbers is in pairs.py.
"""

from __future__ import annotations

from typing import TypeVar

from ..ir.expr import const
from .base import Lazy, node
from .messages import operation_error
from .pairs import refusal

C = TypeVar("C", bound="ComplexNumbers")
ZERO = const(0.0)
ONE_INPUT: tuple[tuple[int, ...], ...] = ((),)


class ComplexNumbers(Lazy):
    """Methods of complex numbers; most of them also have a meaning on real ones."""

    __slots__ = ()

    @property
    def is_complex(self) -> bool:
        """Are the components complex numbers?"""
        return self._space.is_complex

    @property
    def real(self: C) -> C:
        """The real parts; x itself if it is real."""
        return self._apply("complex_real") if self._space.is_complex else self

    @property
    def imag(self: C) -> C:
        """The imaginary parts; zeros if x is real."""
        if self._space.is_complex:
            return self._apply("complex_imag")
        zeros = node("repeat", (ZERO,), ONE_INPUT, (("times", self._expr.dim),))
        return self._make(zeros, self._bindings, self._space)

    def conj(self: C) -> C:
        """The complex conjugates; x itself if it is real."""
        return self._apply("conj") if self._space.is_complex else self

    def angle(self: C) -> C:
        """The angles of the numbers x in the complex plane, in radians, from -pi to pi; derivative 0 at 0.

        Example::

            >>> from pairfuse.numpy import Pm
            >>> float(Pm([1j, -1 + 0j]).angle().sum().sum(axis=1)[0, 0])  # pi / 2 + pi
            4.71238898038469
        """
        return self._apply("angle") if self._space.is_complex else self._apply_after("atan2", 0)

    def real2complex(self: C) -> C:
        """The complex numbers x + 0 i of real ones. Raises DtypeError if x is complex."""
        return self._to_complex("real2complex", "real2complex")

    def imag2complex(self: C) -> C:
        """The complex numbers 0 + x i of real ones, x * 1j. Raises DtypeError if x is complex."""
        return self._to_complex("imag2complex", "imag2complex")

    def exp1j(self: C) -> C:
        """exp(i x) of real numbers x, from one cosine and one sine. Raises DtypeError if x is complex."""
        return self._to_complex("exp1j", "complex_exp1j")

    def _to_complex(self: C, name: str, row: str) -> C:
        if self._space.is_complex:
            raise operation_error(name, (self,), (), refusal(name))
        expr = node(row, (self._expr,), ONE_INPUT, ())
        return self._make(expr, self._bindings, self._space._replace(is_complex=True))
