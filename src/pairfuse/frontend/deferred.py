"""A reduction as an object: what is done, to which formulas, with which keywords; at once, or when it is called.

In: a `Task` and its operands.  Out: arrays; or, with `call=False` or with symbolic variables in the formulas, a
`Deferred`, which computes when it is called with the arrays that are missing.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

from ..errors import message
from ..ir.expr import Expr
from ..ir.reductions import REDUCTIONS
from ..ir.text import to_text
from . import shapes
from .base import Bindings, Lazy, renumbered
from .evaluate import dtype_of
from .integers import as_real
from .options import DEFAULT, deliver, parse
from .ranges import read
from .space import Symbol
from .symbolic import CATEGORIES, bind, symbols_of

# What takes keepdims: the reductions whose results have one number, or vector, for every row.
REDUCED = frozenset((*REDUCTIONS, "mean", "var", "std", "any", "all"))
AXES: dict[str, int | tuple[int, ...]] = {"i": 0, "j": 1, "ij": (0, 1)}


class Task(NamedTuple):
    """What a reduction does with its operands.

    title    the call, for error messages: the name of the method
    over     the axis that is reduced, "i" or "j"
    run      (settings, *operands) -> results; a function of a module, or a partial of one, so that it can be pickled
    opt_arg  K of the reductions that select several terms
    record   the record of the table that is reduced, where the title is not its name
    word     the reduction in KeOps' words, where the record does not say it
    """

    title: str
    over: str
    run: Callable[..., Any]
    opt_arg: int | None = None
    record: str = ""
    word: str = ""


def perform(task: Task, operands: tuple[Lazy, ...], options: dict[str, Any]) -> Any:
    """Do the task with the user's keywords, now or (call=False, or symbolic variables) later."""
    x = operands[0]
    waits = x._space.symbols or (len(operands) > 1 and any(o._space.symbols for o in operands))
    if not options and x._space.backend is None and not waits:
        return task.run(DEFAULT, *operands)
    if not options.pop("call", True) or waits:
        return getattr(x, "_waiting_class", Deferred)(task, operands, options)
    return _now(task, operands, options)


def _now(task: Task, operands: tuple[Lazy, ...], options: dict[str, Any]) -> Any:
    space = operands[0]._space
    settings = parse(task.title, options, space.backend, dtype_of(space), task.record, type(operands[0]))
    if options.get("ranges") is not None:
        operands = _with_ranges(task, operands, options["ranges"])
    results = task.run(settings, *operands)
    keep = shapes.asked(task.title, options)
    if keep is not None:
        _check_places(task, options)
        results = shapes.shaped(results, task.over, keep)
    out = options.get("out")
    return results if out is None else deliver(task.title, results, out, space.library)


def _check_places(task: Task, options: dict[str, Any]) -> None:
    """Lists of K places, products and solutions have no axis that was reduced to 1."""
    if task.opt_arg is not None or task.title not in REDUCED:
        shapes.refuse(task.title, options)


def _with_ranges(task: Task, operands: tuple[Lazy, ...], given: Any) -> tuple[Lazy, ...]:
    """The operands with the ranges of the call in the place of their own."""
    ranges = read(f"{task.title}(ranges=...)", given)
    return tuple([x._make(x._expr, x._bindings, x._space._replace(ranges=ranges)) for x in operands])


class Deferred:
    """A reduction that waits: call it to compute, again and again, on the current contents of the arrays.

    The arguments of the call are the arrays of the symbolic variables, `Vi(0, D)` the first, `Vj(1, D)` the second:
    (*batch, M, D) for i-variables, (*batch, N, D) for j-variables, (*batch, D), a number or a list for parameters.
    Keyword arguments given when the reduction was written are kept; those of the call (`out`, `backend`, `ranges` ...)
    are added to them for that call only.

    Example::

        >>> import numpy as np
        >>> from pairfuse.numpy import Vi, Vj
        >>> density = (-Vi(0, 3).sqdist(Vj(1, 3))).exp().sum(axis=1)
        >>> density(np.zeros((2, 3)), np.zeros((4, 3)))
        array([[4.],
               [4.]])
    """

    __slots__ = ("_names", "_operands", "_options", "_symbols", "_task", "_title")

    def __init__(
        self,
        task: Task,
        operands: tuple[Lazy, ...],
        options: dict[str, Any],
        title: str = "",
        names: tuple[str, ...] = (),
    ) -> None:
        """title, names: what the errors call the reduction and its arguments."""
        self._task, self._operands, self._options = task, operands, options
        self._symbols = symbols_of(operands)
        self._title = title or task.title
        self._names = names or tuple([str(s) for s in self._symbols])
        if options:  # a mistake is reported where it was made, what depends on the arrays when they are there
            self._checked(options)

    def __call__(self, *args: Any, **options: Any) -> Any:
        operands = self._operands
        if self._symbols or args:
            operands = bind(self._title, operands, self._symbols, self._names, args)
        return _now(self._task, operands, {**self._options, **options})

    def with_options(self, options: dict[str, Any], title: str = "", names: tuple[str, ...] = ()) -> Deferred:
        """The same reduction with more keyword arguments, and other words in its errors."""
        kept = {**self._options, **options}
        return Deferred(self._task, self._operands, kept, title or self._title, names or self._names)

    def _checked(self, options: dict[str, Any]) -> None:
        space = self._operands[0]._space
        dtype = space.dtype or ("float32" if self._symbols else "float64")
        parse(self._task.title, options, space.backend, dtype, self._task.record)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._task, self._operands, self._options, self._title, self._names)

    # -------------------------------------------------- what it is
    @property
    def reduction_op(self) -> str:
        """The reduction in KeOps' words where it has one ("Sum", "KMin"), else its name here."""
        name = self._task.word or self._task.record or self._task.title
        record = REDUCTIONS.get(name)
        return record.aliases[0] if record and record.aliases else name

    @property
    def axis(self) -> int | tuple[int, ...]:
        """0 if the reduction is over i, 1 if it is over j, whatever the batch axes."""
        return AXES[self._task.over]

    @property
    def opt_arg(self) -> int | None:
        """K of the reductions that select several terms, else None."""
        return self._task.opt_arg

    @property
    def formula(self) -> str:
        """The formula that is reduced, in text."""
        return formula_text(self._operands[0])

    @property
    def formula2(self) -> str | None:
        """The second formula of weighted reductions, in text, else None."""
        return formula_text(self._operands[1]) if len(self._operands) > 1 else None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the formula, as that of a LazyTensor: sizes that only the arrays know count 1."""
        return getattr(self._operands[0], "shape", self._operands[0]._shape)

    @property
    def _shape(self) -> tuple[int, ...]:
        return self._operands[0]._shape

    @property
    def symbolic_variables(self) -> tuple[tuple[int, int, int], ...]:
        """(number, length, category) of every argument of the call, in order."""
        return tuple((s.ind, s.dim, CATEGORIES[s.axis]) for s in self._symbols)

    @property
    def variables(self) -> tuple[Any, ...]:
        """The arrays that are known already."""
        return tuple(v for x in self._operands for v in known_data(x._bindings))

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments that every call starts from (a copy)."""
        return dict(self._options)

    @property
    def backend(self) -> str | None:
        """The backend of the calls that name none."""
        return self._options.get("backend") or self._operands[0]._space.backend

    @backend.setter
    def backend(self, name: str | None) -> None:
        self._keep("backend", name)

    @property
    def ranges(self) -> Any:
        """The ranges of the calls that give none."""
        return self._options.get("ranges", getattr(self._operands[0], "ranges", None))

    @ranges.setter
    def ranges(self, value: Any) -> None:
        self._keep("ranges", value)

    def _keep(self, key: str, value: Any) -> None:
        self._checked({key: value})
        self._options = {**self._options, key: value}

    def __repr__(self) -> str:
        return f"<deferred reduction: {self._task.title}({', '.join(self._names)}); call it to compute>"

    def __str__(self) -> str:
        facts = [f"formula: {self.formula}"]
        facts += [f"symbolic variables: {', '.join(self._names)}"] if self._symbols else []
        facts += [f"shape: {self.shape}", f"reduction: {self.reduction_op} (axis={self.axis})"]
        facts += [f"  formula2: {self.formula2}"] if self.formula2 else []
        facts += [f"  opt_arg: {self.opt_arg}"] if self.opt_arg is not None else []
        return message("Pairfuse reduction", facts, "call it to compute.")


def known_data(bindings: Bindings) -> list[Any]:
    """The data of the bindings that have it, numbers as lists."""
    known = [b.data for b in bindings if type(b.data) is not Symbol]
    return [list(v) if type(v) is tuple else v for v in known]


def formula_text(x: Lazy) -> str:
    """The formula in text, in which the symbolic variables have the numbers of their arguments, data the next ones."""
    expr: Expr = x._expr
    if symbols := x._space.symbols:
        rest = count(symbols[-1].ind + 1)
        slots = [b.data.ind if type(b.data) is Symbol else next(rest) for b in x._bindings]
        slots.append(next(rest))  # the unknown of a linear system has no binding
        expr = renumbered(expr, tuple(slots))
    return to_text(as_real(expr, None), separator="; ")
