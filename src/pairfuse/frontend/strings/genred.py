"""Reductions of formula strings: Genred, and generic_sum and its kin.

In: a formula such as "Exp(-g * SqDist(x, y))", its aliases, a reduction.  Out: an object that is called with arrays of
either library.  It is a formula of symbolic variables (symbolic.py) that is reduced (deferred.py): nothing here knows
how to compute.  What was read once is kept, so that the same Genred again costs microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

from ...errors import FormulaError, ShapeError, message
from ..deferred import Deferred
from ..lazytensor import LazyTensor
from ..space import Space, Symbol
from .keywords import of_call, of_class
from .language import bound, declared, head_of, meaning


class Genred:
    """A reduction of a formula in text, called with the arrays of its variables.

    a_i = Reduction_j F(x_i, y_j, p), or with i and j exchanged.

    Arguments:
        formula: text in KeOps' language, for example "Exp(-g * SqDist(x, y)) * b"; all operations of the table, with
            their names here and in KeOps, `+ - * / ** |`, comparisons, numbers, components `x[1]`
        aliases: one declaration per argument: "x = Vi(3)" an i-variable, an array (*batch, M, 3); "y = Vj(3)" a
            j-variable, (*batch, N, 3); "g = Pm(1)" a parameter, (*batch, 1) or a number. "x = Vi(0, 3)" says the place
            of the argument, too; "Vi(3)" has no name; Var(2, 1, 2) in the formula declares argument 2, a parameter
        reduction_op: "Sum", "LogSumExp", "SumSoftMaxWeight", "Min", "ArgMin", "Min_ArgMin", "KMin", ... or a name here
        axis: 0 (the default, as in KeOps) reduces over i and gives a row for each j; 1 reduces over j
        opt_arg: K of the reductions that select several terms
        formula2: the second formula, of weighted reductions
        dtype_acc, use_double_acc, sum_scheme: as in the reductions of LazyTensor
        dtype, cuda_type, enable_chunks, rec_multVar_highdim, use_fast_math: accepted and without effect

    The call takes the arrays in their places, NumPy arrays or torch tensors of one type, batch axes broadcast; and the
    keywords of reductions (`backend`, `device_id`, `ranges`, `out`, `progress`, `accuracy`). It returns an array
    (*batch, M or N, D) of the same library, for the indices int64, a pair for the reductions with two results, for
    those with K places (*batch, M or N, K) or (..., K, D). torch differentiates it.

    Raises: FormulaError where the formula or an alias has no meaning; ShapeError and DtypeError, at the call, that
    name the argument.

    Example::

        >>> import numpy as np
        >>> from pairfuse.numpy import Genred
        >>> density = Genred("Exp(-g * SqDist(x, y))", ["x = Vi(3)", "y = Vj(3)", "g = Pm(1)"], axis=1)
        >>> density(np.zeros((2, 3)), np.ones((4, 3)), 0.0)
        array([[4.],
               [4.]])
    """

    def __init__(
        self,
        formula: str,
        aliases: Sequence[str],
        reduction_op: str = "Sum",
        axis: int = 0,
        dtype: Any = None,
        opt_arg: int | None = None,
        formula2: str | None = None,
        cuda_type: Any = None,
        dtype_acc: str = "auto",
        use_double_acc: bool = False,
        sum_scheme: str = "auto",
        enable_chunks: bool = True,
        rec_multVar_highdim: Any = False,
        use_fast_math: bool = True,
    ) -> None:
        if isinstance(aliases, str) or not isinstance(formula, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            text = "Genred(formula, aliases): the formula is a text, the aliases are a list of texts."
            raise FormulaError(message(text, hint="Genred('SqDist(x, y)', ['x = Vi(3)', 'y = Vj(3)'])."))
        self._arguments = (formula, tuple(aliases), reduction_op, axis, opt_arg, formula2)
        self._options = of_class(
            "Genred", dtype, cuda_type, dtype_acc=dtype_acc, use_double_acc=use_double_acc, sum_scheme=sum_scheme
        )
        self.rec_multVar_highdim = rec_multVar_highdim
        self._texts, self._reduction = reduction_of(*self._arguments)
        if self._options:
            self._reduction = self._reduction.with_options(self._options)

    def __call__(
        self,
        *args: Any,
        backend: str = "auto",
        device_id: int = -1,
        ranges: Any = None,
        out: Any = None,
        **options: Any,
    ) -> Any:
        if out is not None:
            options["out"] = out
        return self._reduction(*args, **of_call(backend, device_id, ranges, options))

    def __reduce__(self) -> tuple[Any, ...]:
        formula, aliases, reduction_op, axis, opt_arg, formula2 = self._arguments
        again = partial(
            type(self), formula, aliases, reduction_op, axis, opt_arg=opt_arg, formula2=formula2, **self._options
        )
        return again, ()

    def __repr__(self) -> str:
        return f"Genred({self._arguments[0]!r}, {self.aliases}, {self.reduction_op!r}, axis={self.axis})"

    # -------------------------------------------------- attributes
    @property
    def aliases(self) -> list[str]:
        """The declarations of the arguments, in their order; those that only the formula makes come last."""
        return list(self._texts)

    @property
    def nargs(self) -> int:
        """The number of arguments."""
        return len(self._texts)

    @property
    def reduction_op(self) -> str:
        """The reduction in KeOps' words."""
        return self._reduction.reduction_op

    @property
    def axis(self) -> int | tuple[int, ...]:
        """The axis that is reduced: 0 for i, 1 for j."""
        return self._reduction.axis

    @property
    def opt_arg(self) -> int | None:
        """K of the reductions that select several terms."""
        return self._reduction.opt_arg

    @property
    def optional_flags(self) -> dict[str, Any]:
        """The options of the accumulation that are not the default."""
        return dict(self._options)

    @property
    def formula(self) -> str:
        """Formula and reduction as one text, as KeOps writes it: "Sum_Reduction(F,0)"; Genred takes it, too."""
        formula, _, reduction_op, axis, opt_arg, formula2 = self._arguments
        if head_of(formula, self._arguments[1]) is not None:
            return formula
        parts = [formula, *([str(opt_arg)] if opt_arg is not None else []), str(1 - axis)]
        return f"{reduction_op}_Reduction({','.join(parts + ([formula2] if formula2 else []))})"


@lru_cache(maxsize=1024)
def reduction_of(
    formula: str,
    aliases: tuple[str, ...],
    reduction_op: str,
    axis: int,
    opt_arg: int | None,
    formula2: str | None,
) -> tuple[tuple[str, ...], Deferred]:
    """How the arguments are declared, and the reduction that waits for them."""
    if axis not in (0, 1):
        raise ShapeError(message(f"Genred(axis={axis!r}): 0 reduces over i, 1 over j."))
    reduction_op, axis, opt_arg, exprs, arguments, texts, numbers = meaning(
        formula, aliases, reduction_op, axis, opt_arg, formula2
    )
    symbols = tuple([Symbol(ind, dim, letter) for ind, dim, letter in arguments])
    if not symbols:
        raise FormulaError(
            message(f"Genred({formula!r}): the formula has no variable.", hint="declare one, 'x = Vi(3)'.")
        )
    bindings = bound(symbols, numbers)
    space = Space(symbols=symbols)
    operands = [LazyTensor._make(expr, bindings, space) for expr in exprs]
    other = operands[1] if len(operands) > 1 else None
    waiting = operands[0].reduction(reduction_op, other=other, opt_arg=opt_arg, axis=axis)
    shown = formula if len(formula) <= 60 else formula[:57] + "..."
    return texts, waiting.with_options({}, f"Genred({shown!r})", texts)


# ---------------------------------------------------------------------- by the output


def generic_sum(formula: str, output: str, *aliases: str, **options: Any) -> Genred:
    """The sum of a formula in text; `output`, "a = Vi(1)", says by its category which index the result has.

    Arguments: formula, aliases: as in `Genred`; output: "a = Vi(...)" for a sum over j, "a = Vj(...)" for one over i;
    options: those of `Genred`. Returns: a `Genred`.

    Example::

        >>> import numpy as np
        >>> from pairfuse.numpy import generic_sum
        >>> generic_sum("SqDist(x, y)", "a = Vi(1)", "x = Vi(2)", "y = Vj(2)")(np.zeros((1, 2)), np.ones((3, 2)))
        array([[6.]])
    """
    return _generic("generic_sum", "Sum", formula, output, aliases, options)


def generic_logsumexp(formula: str, output: str, *aliases: str, **options: Any) -> Genred:
    """The log-sum-exp of a formula in text; see `generic_sum`."""
    return _generic("generic_logsumexp", "LogSumExp", formula, output, aliases, options)


def generic_argmin(formula: str, output: str, *aliases: str, **options: Any) -> Genred:
    """The index of the smallest value of a formula in text; see `generic_sum`."""
    return _generic("generic_argmin", "ArgMin", formula, output, aliases, options)


def generic_argkmin(formula: str, output: str, *aliases: str, **options: Any) -> Genred:
    """The indices of the K smallest values of a formula in text; K is the length of the output, "a = Vi(K)"."""
    return _generic("generic_argkmin", "ArgKMin", formula, output, aliases, options)


def _generic(
    name: str, op: str, formula: str, output: str, aliases: tuple[str, ...], options: dict[str, Any]
) -> Genred:
    _, result = declared(output, 0)
    if result.axis == "p":
        hint = "'a = Vi(1)' gives a row for each i, 'a = Vj(1)' for each j."
        raise FormulaError(message(f"{name}(formula, output={output!r}): the output is indexed by i or j.", hint=hint))
    if op == "ArgKMin":
        options = {"opt_arg": result.dim, **options}
    return Genred(formula, aliases, op, 1 if result.axis == "i" else 0, **options)
