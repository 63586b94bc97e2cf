"""Symbolic calculus: derivatives of formulas that are formulas again, for every operation and both libraries.

In: a symbolic tensor, one of its variables (the LazyTensor it was made with, on data or symbolic).  Out: a symbolic
tensor on the same variables.  Nothing is computed before a reduction, and common parts are always shared: the
derivative of a kernel costs a few operations more than the kernel.  What the formulas are is in transform/calculus.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from ..errors import DtypeError, FormulaError, PairfuseError, message
from ..ir.expr import Expr, as_real_variables, leaf_of
from ..transform import calculus
from .base import Binding, Bindings, Lazy, Mapping, merge, renumbered
from .messages import describe, operand_facts
from .space import Clash, Symbol

C = TypeVar("C", bound="Calculus")


class Calculus(Lazy):
    """The methods of symbolic calculus."""

    __slots__ = ()

    def grad(self: C, v: Any, e: Any) -> C:
        """The gradient with respect to v of <e, x>: (dx/dv)^T e, a formula as long as v.

        Arguments: v: a variable of x; e: a symbolic tensor, array or number, as long as x (or of length 1: the same
        for all components). Raises: FormulaError if v is not a variable of x; ShapeError for other lengths.

        Example::

            >>> import numpy as np
            >>> from pairfuse.numpy import Vi, Vj
            >>> x, y = Vi(np.array([[1.0], [2.0]])), Vj(np.array([[0.0], [3.0]]))
            >>> x.sqdist(y).grad(x, 1).sum(dim=1)  # sum_j 2 (x_i - y_j)
            array([[-2.],
                   [ 2.]])
        """
        return self._derived("x.grad(v, e)", v, (e,), "grad")

    def diff(self: C, v: Any, u: Any) -> C:
        """The derivative of x when v moves along u: (dx/dv) u, a formula as long as x.

        Arguments: v: a variable of x; u: a symbolic tensor, array or number, as long as v. Or both of them tuples, for
        several variables that move together.
        """
        call = "x.diff(v, u)"
        if not isinstance(v, (tuple, list)):
            return self._derived(call, v, (u,), "diff")
        if not isinstance(u, (tuple, list)) or len(u) != len(v) or not v:
            raise FormulaError(message(f"{call}: v and u are tuples of equal lengths, not empty, or neither is one."))
        parts = [self.diff(a, b) for a, b in zip(v, u, strict=True)]
        total = parts[0]
        for part in parts[1:]:
            total = total._apply("add", part)
        return total

    def grad_matrix(self: C, v: Any) -> C:
        """The Jacobian dx/dv, row after row: component k * v.ndim + l is the derivative of x_k with respect to v_l."""
        return self._derived("x.grad_matrix(v)", v, (), "grad_matrix")

    def divergence(self: C, v: Any) -> C:
        """The sum over k of the derivatives of x_k with respect to v_k; x must be as long as v."""
        return self._derived("x.divergence(v)", v, (), "divergence")

    def laplacian(self: C, v: Any) -> C:
        """The sum over k of the second derivatives of x with respect to v_k; x must be of length 1."""
        return self._derived("x.laplacian(v)", v, (), "laplacian")

    def trace_operator(self: C, v: Any) -> C:
        """The trace of the matrix A_ij, for x = A_ij v linear in v; for x = <a_ij, v>, the sum of the a_ij.

        v is no variable of the result: if it was symbolic, calls do not take it any more.
        """
        result = self._derived("x.trace_operator(v)", v, (), "trace_operator")
        symbol = v._bindings[slot_of(v._expr)].data
        return _without(result, symbol) if type(symbol) is Symbol else result

    def factorize(self: C, y: Any) -> C:
        """x itself: parts that occur several times in a formula, such as y, are always computed once."""
        if not isinstance(y, Lazy):
            raise FormulaError(
                message("x.factorize(y): y is a part of x, a symbolic tensor.", operand_facts((self, y)))
            )
        return self

    def auto_factorize(self: C) -> C:
        """x itself: parts that occur several times in a formula are always computed once."""
        return self

    def _derived(self: C, call: str, v: Any, others: tuple[Any, ...], name: str) -> C:
        """The function of this name of transform/calculus.py, of x, v and the others, on the variables of all."""
        slot = slot_of(v._expr) if isinstance(v, Lazy) else None
        if slot is None:
            raise self._no_variable(call, v)
        try:
            lifted = tuple(o if isinstance(o, Lazy) else self._lift(o) for o in others)
            bindings, space, mappings = merge((self, v, *lifted))
            if space.is_complex:
                hint = "torch's autograd differentiates them: reduce, then .backward() or torch.autograd.grad."
                raise DtypeError(message("grad: complex formulas have no symbolic derivatives.", hint=hint))
            if (mappings[1][slot] if mappings[1] else slot) >= len(self._bindings):
                raise self._no_variable(call, v)
            expr = derivative(name, (self._expr, v._expr, *[o._expr for o in lifted]), mappings)
        except (Clash, PairfuseError) as cause:
            if isinstance(cause, FormulaError) and str(cause).startswith(call):
                raise
            raise _misuse(call, (self, v, *others), cause) from None
        return self._make(expr, bindings, space)

    def _no_variable(self, call: str, v: Any) -> FormulaError:
        shown: Bindings = self._bindings
        hint = "v is the LazyTensor that x was written with, for example x_i of (x_i - y_j).exp(), on the same array."
        facts = [f"x: {describe(self)}, of {_variables(shown)}", f"v: {describe(v)}"]
        return FormulaError(message(f"{call}: v is not a variable of x.", facts, hint))


@lru_cache(maxsize=1024)
def derivative(name: str, exprs: tuple[Expr, ...], mappings: tuple[Mapping, ...]) -> Expr:
    """The function of this name of transform/calculus.py, of formulas whose inputs are renumbered."""
    function: Callable[..., Expr] = getattr(calculus, name)
    given = [renumbered(e, m) for e, m in zip(exprs, mappings, strict=True)]
    leaf = leaf_of(given[1])
    if leaf is not given[1]:  # integers are taken for real numbers, as derivatives need them
        given = list(as_real_variables(given, lambda n: n.args[0] is leaf))
    return function(*given)


@lru_cache(maxsize=1024)
def slot_of(expr: Expr) -> int | None:
    """The number of a variable among the data of its tensor; None for a formula."""
    leaf = leaf_of(expr)
    return leaf.param("slot") if leaf.name == "input" else None


def _without(x: C, gone: Symbol) -> C:
    """x, which does not use this symbol any more, without it; the others keep their numbers."""
    slots: list[int] = []
    kept: list[Binding] = []
    for binding in x._bindings:
        slots.append(len(kept))
        if type(binding.data) is not Symbol or binding.data != gone:
            kept.append(binding)
    symbols = tuple(s for s in x._space.symbols if s != gone)
    return x._make(renumbered(x._expr, tuple(slots)), tuple(kept), x._space._replace(symbols=symbols))


def _misuse(call: str, operands: tuple[Any, ...], cause: Clash | PairfuseError) -> PairfuseError:
    """What does not fit, under the user's call, with the names that the call gives the operands."""
    names = ["x", *call[call.index("(") + 1 : -1].split(", ")]
    facts = [f"{name}: {describe(operand)}" for name, operand in zip(names, operands, strict=True)]
    if isinstance(cause, Clash):
        return cause.error(message(f"{call}: {cause.text}", facts, cause.hint))
    head, _, rest = str(cause).partition("\n")
    text = head.partition(": ")[2] or head
    return type(cause)(message(f"{call}: {text}", facts, rest.partition("Hint: ")[2]))


def _variables(bindings: Bindings) -> str:
    """What the variables of a formula are, in words."""
    return ", ".join(_variable(b) for b in bindings) or "no variable"


def _variable(binding: Binding) -> str:
    if type(binding.data) is Symbol:
        return str(binding.data)
    shape = f"{len(binding.data)} numbers" if type(binding.data) is tuple else f"shape {tuple(binding.data.shape)}"
    return f"{ {'i': 'an i-variable', 'j': 'a j-variable', 'p': 'a parameter'}[binding.axis] } of {shape}"
