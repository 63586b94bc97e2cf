"""KernelSolve: linear systems whose matrix is a formula string.

In: a formula, its aliases, and which of them is the unknown.  Out: an object that is called with arrays; the right-hand
side takes the place of the unknown.  The strings are read by language.py, the system is that of `LazyTensor.solve`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ...errors import FormulaError, PairfuseError, ShapeError, message
from ..base import Binding, variable
from ..deferred import Deferred
from ..lazytensor import LazyTensor
from ..space import Space, Symbol
from .keywords import of_call, of_class
from .language import bound, declared, read

KEPT = {"i": "j", "j": "i"}


class KernelSolve:
    """The inverse of the linear map that a formula in text is: u such that sum_j F_ij(u_j) + alpha u_i = b_i.

    Arguments:
        formula: text in KeOps' language, linear in the unknown, for example "Exp(-g * SqDist(x, y)) * u"
        aliases: one declaration per argument, as in `Genred`
        varinvalias: the name of the unknown, or its declaration, "Var(2, 1, 1)"
        axis: 0 (the default, as in KeOps) sums over i, and the unknown is indexed by i; 1 sums over j
        dtype_acc, use_double_acc, sum_scheme: as in the reductions of LazyTensor
        dtype, cuda_type, opt_arg, enable_chunks, rec_multVar_highdim, use_fast_math: accepted and without effect

    The call takes the arrays in their places, that of the unknown being the right-hand side, (*batch, n, E); and the
    keywords of `LazyTensor.solve`: alpha, rtol, eps, method, precond, max_iter, x0, return_info, progress, backend ...

    Raises: FormulaError where the formula or the unknown has no meaning; at the call, the errors of `LazyTensor.solve`.

    Example::

        >>> import numpy as np
        >>> from pairfuse.numpy import KernelSolve
        >>> inverse = KernelSolve("Exp(-Sqrt(SqDist(x, y))) * u", ["x = Vi(1)", "y = Vj(1)", "u = Vj(1)"], "u", axis=1)
        >>> x = np.array([[0.0], [100.0]])
        >>> inverse(x, x, np.ones((2, 1)), alpha=1.0)
        array([[0.5],
               [0.5]])
    """

    def __init__(
        self,
        formula: str,
        aliases: Sequence[str],
        varinvalias: str,
        axis: int = 0,
        dtype: Any = None,
        opt_arg: Any = None,
        dtype_acc: str = "auto",
        use_double_acc: bool = False,
        sum_scheme: str = "auto",
        enable_chunks: bool = True,
        rec_multVar_highdim: Any = None,
        use_fast_math: bool = True,
        cuda_type: Any = None,
    ) -> None:
        if axis not in (0, 1):
            raise ShapeError(message(f"KernelSolve(axis={axis!r}): 0 sums over i, 1 over j."))
        self._arguments = (formula, tuple(aliases), varinvalias, axis)
        self._options = of_class(
            "KernelSolve", dtype, cuda_type, dtype_acc=dtype_acc, use_double_acc=use_double_acc, sum_scheme=sum_scheme
        )
        shown = formula if len(formula) <= 60 else formula[:57] + "..."
        self._title = f"KernelSolve({shown!r})"
        (self._formula,), self._symbols, self._texts, self._numbers = read(formula, tuple(aliases))
        self._symbol = self._unknown()
        self._waiting = self._system({})

    def __call__(
        self,
        *args: Any,
        backend: str = "auto",
        device_id: int = -1,
        alpha: Any = 1e-10,
        eps: float | None = None,
        ranges: Any = None,
        **options: Any,
    ) -> Any:
        options = of_call(backend, device_id, ranges, {"alpha": alpha, "eps": eps, **options})
        return self._system(options)(*args)

    def _unknown(self) -> Symbol:
        """The argument that the user named."""
        _, _, name, axis = self._arguments
        named = {declared(text, place)[0]: s for place, (text, s) in self._declarations()}
        found = named.get(name)
        if found is None:
            found = self._written_out(name)
        if found is None:
            facts = f"aliases: {', '.join(self.aliases)}"
            hint = "the name of an alias, 'u' for 'u = Vj(1)', or 'Var(2, 1, 1)'."
            raise FormulaError(message(f"{self._title}: there is no unknown {name!r}.", facts, hint))
        if found.axis != "ij"[axis]:
            what = f"{name!r} is declared as {found}, the sum is over {'ij'[axis]} (axis={axis})."
            hint = "the unknown is a variable of the axis that is summed over."
            raise FormulaError(message(f"{self._title}: {what}", hint=hint))
        return found

    def _declarations(self) -> list[tuple[int, tuple[str, Symbol]]]:
        return list(enumerate(zip(self._texts, self._symbols, strict=True)))

    def _written_out(self, text: str) -> Symbol | None:
        """The unknown as its declaration, Var(2, 1, 1)."""
        try:
            _, symbol = declared(text, -1)
        except PairfuseError:
            return None
        return symbol if symbol in self._symbols else None

    def _system(self, options: dict[str, Any]) -> Deferred:
        """The system that waits for its arguments."""
        symbols, unknown = self._symbols, self._symbol
        bindings = bound(symbols, self._numbers)
        matrix = LazyTensor._make(self._formula, bindings, Space(symbols=symbols))
        u, b = (_variable(Symbol(unknown.ind, unknown.dim, axis)) for axis in (unknown.axis, KEPT[unknown.axis]))
        waiting = matrix.solve(b, var=u, **{**self._options, **options})
        return waiting.with_options({}, self._title, self._texts)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), *self._arguments, **self._options), ()

    def __repr__(self) -> str:
        formula, _, name, axis = self._arguments
        return f"KernelSolve({formula!r}, {self.aliases}, {name!r}, axis={axis})"

    # -------------------------------------------------- attributes
    @property
    def formula(self) -> str:
        """The formula that is summed."""
        return self._arguments[0]

    @property
    def aliases(self) -> list[str]:
        """The declarations of the arguments, in their order."""
        return list(self._texts)

    @property
    def varinvalias(self) -> str:
        """The name of the unknown."""
        return self._arguments[2]

    @property
    def axis(self) -> int:
        """The axis that is summed over: 0 for i, 1 for j."""
        return self._arguments[3]

    @property
    def reduction_op(self) -> str:
        """The reduction in KeOps' words."""
        return "Sum"


def _variable(symbol: Symbol) -> LazyTensor:
    binding = (Binding(symbol, symbol.axis),)
    return LazyTensor._make(variable(symbol.axis, symbol.dim), binding, Space(symbols=(symbol,)))
