"""Reductions that wait, with the attributes that they have in KeOps.

In: what `pairfuse.frontend.deferred` makes of a LazyTensor of lazytensor.py.  Out: the same, and `callfun`, the
reduction as a function of all arrays; `other`, `varformula` and `varindex` of linear systems; what the formula has.
"""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import Any

import numpy as np

from pairfuse.frontend.base import Binding, Lazy
from pairfuse.frontend.deferred import Deferred
from pairfuse.frontend.space import Space, Symbol
from pairfuse.frontend.symbolic import CATEGORIES
from pairfuse.ir.reductions import REDUCTIONS

# The reductions that give indices, by their names here and in formula strings.
INDICES = frozenset(
    name
    for record in REDUCTIONS.values()
    if any(kind == "index" for _, kind in record.outputs[: record.visible])
    for name in (record.name, *record.aliases)
)
OF_THE_FORMULA = frozenset(
    (
        *("ni", "nj", "ndim", "dim", "dtype", "_dtype", "batchdims", "nbatchdims", "is_complex"),
        *("tools", "get_tools", "Genred", "KernelSolve"),
    )
)


class Waiting(Deferred):
    """A reduction that waits, as KeOps' programs know it."""

    __slots__ = ()
    rec_multVar_highdim = None

    def __call__(self, *args: Any, **options: Any) -> Any:
        if self._task.title == "solve" and options.keys() & {"alpha", "eps"}:
            return self._with(options)(*args, **options)
        return filled(self._task.title, super().__call__(*args, **options))

    def _with(self, options: dict[str, Any]) -> Waiting:
        """The linear system with the alpha and the tolerance of a call, which are taken out of its keywords."""
        (request,) = self._task.run.args  # type: ignore[attr-defined]
        request = request._replace(alpha=options.pop("alpha", request.alpha))
        if "eps" in options:
            request = request._replace(plan=request.plan._replace(eps=float(options.pop("eps")), rtol=0.0))
        return Waiting(self._task._replace(run=partial(self._task.run.func, request)), self._operands, self._options)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        if name in OF_THE_FORMULA:
            return getattr(self._operands[0], name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *OF_THE_FORMULA})

    @property
    def callfun(self) -> Deferred:
        """The same reduction as a function of all arrays: of the arguments of a call, then of `variables`.

        Of a linear system the right-hand side comes first.
        """
        fresh = count(1 + max((s.ind for s in self._symbols), default=-1))
        if self._task.title == "solve":
            matrix, right = self._operands
            (right,) = _open((right,), fresh)
            (matrix,) = _open((matrix,), fresh)
            operands: tuple[Lazy, ...] = (matrix, right)
        else:
            operands = _open(self._operands, fresh)
        return Waiting(self._task, operands, self._options)

    # -------------------------------------------------- of linear systems
    @property
    def variables(self) -> tuple[Any, ...]:
        """The arrays that are known already; of a linear system those of its matrix."""
        known = self._operands[:1] if self._task.title == "solve" else self._operands
        return tuple(v for x in known for v in x.variables)  # type: ignore[attr-defined]

    @property
    def other(self) -> Any:
        """The right-hand side of a linear system."""
        return self._operands[1]

    @property
    def varindex(self) -> int:
        """The number of the unknown of a linear system among the arguments of `callfun`."""
        return 0

    @property
    def varformula(self) -> str:
        """The unknown of a linear system, in KeOps' words."""
        return f"Var({self.varindex},{self.other.ndim},{CATEGORIES[self._task.over]})"


def _open(operands: tuple[Any, ...], fresh: Any) -> tuple[Any, ...]:
    """The operands with a symbol in the place of every array, numbered on in the order of `variables`."""
    made: list[Any] = []
    for x in operands:
        bindings = tuple(
            b if type(b.data) is Symbol else Binding(Symbol(next(fresh), _length(b.data), b.axis), b.axis)
            for b in x._bindings
        )
        old = x._space
        symbols = {s.ind: s for s in old.symbols} | {b.data.ind: b.data for b in bindings}
        space = Space(
            symbols=tuple(symbols[k] for k in sorted(symbols)), is_complex=old.is_complex, backend=old.backend,
            ranges=old.ranges,
        )  # fmt: skip
        made.append(x._make(x._expr, bindings, space))
    return tuple(made)


def _length(data: Any) -> int:
    return len(data) if type(data) is tuple else data.shape[-1]


def filled(name: str, results: Any) -> Any:
    """The results of a reduction to indices with the index 0, as in KeOps, where no term was found."""
    if name not in INDICES or isinstance(results, (Deferred, Lazy)):
        return results
    for result in results if isinstance(results, tuple) else (results,):
        if isinstance(result, np.ndarray):
            if result.dtype.kind == "i":
                np.maximum(result, 0, out=result)
        elif not result.is_floating_point():
            result.clamp_(min=0)
    return results
