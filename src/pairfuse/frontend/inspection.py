"""A look at how a reduction is computed: K.explain() and K.cost().

In: a symbolic tensor, the name of a reduction.  Out: text; a `Cost`.  What either needs is loaded when it is asked for.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from .. import forks
from ..config import config
from ..dtypes import PRECISIONS
from ..lower.problem import Problem
from ..runtime import arrays
from .base import Bindings, Lazy
from .evaluate import check_sizes, computed_in, sizes_of
from .integers import resolved
from .reduce import joined, of_pairs, over_of, problem_of
from .reductions import record_of
from .space import Space

if TYPE_CHECKING:
    from ..runtime.cost import Cost

RUNS = 20  # of a call of hardly any pairs, of which the fastest counts


class Inspection(Lazy):
    """The methods that show how a reduction is computed."""

    __slots__ = ()

    def explain(
        self,
        reduction: str = "sum",
        dim: int | None = None,
        *,
        other: Any = None,
        K: int = 1,
        source: bool = False,
        machine_code: bool = False,
    ) -> str:
        """What a reduction of this formula becomes on its way to the machine, stage by stage, and what it costs.

        Arguments: reduction: a name of the table; dim: the axis reduced over (default: j); other: the second formula
        of the reductions that take one; K: of those that select several terms; source: with the LLVM IR;
        machine_code: with the assembly.
        """
        problem, bindings, space = _problem(self, "explain", reduction, dim, other, K)
        cost = _cost(self, problem, bindings, space)
        # Loaded on demand: it takes every stage of the compiler along.
        module = forks.load("pairfuse.runtime.explain")
        return module.explain(problem, source=source, machine_code=machine_code, cost=cost)

    def cost(self, reduction: str = "sum", dim: int | None = None, *, other: Any = None, K: int = 1) -> Cost:
        """What a reduction of this formula costs on the CPU, before it is computed.

        Arguments: those of `explain`: reduction: a name of the table; dim: the axis reduced over (default: j); other:
        the second formula of the reductions that take one; K: of those that select several terms.

        Returns: a `Cost`, which prints itself. Numbers per pair (i, j): `operations`, vector instructions, of which a
        multiply-add is one, and `moves`, loads and stores. Of the whole call: `pairs`; `read`, `written` and `working`
        memory in bytes; `seconds`, the expected duration of a warm call; `share`, of the multiply-adds that the machine
        can do in that time (1: the limit); `threads`. Without data, and on a GPU, `seconds` is None, and `note` says
        why.

        Nothing of this formula is run. The speed of the machine is measured at the first question for each type and
        number of threads, in less than half a second: no other program should be busy then.

        Raises: as the reduction: an unknown name, an axis that does not exist, sizes that do not fit.

        Example::

            >>> import numpy as np
            >>> from pairfuse.numpy import Vi, Vj
            >>> K = Vi(np.ones((500, 3))).sqdist(Vj(np.ones((800, 3))))
            >>> K.cost().pairs, K.cost().read
            (400000, 31200)
        """
        return _cost(self, *_problem(self, "cost", reduction, dim, other, K))


def _problem(x: Any, call: str, reduction: str, dim: int | None, other: Any, K: int) -> tuple[Problem, Bindings, Space]:
    """The problem that a reduction of x is, with the data of its inputs."""
    record = record_of(reduction)
    over = over_of(x, call, x.nbatchdims + 1 if dim is None else dim, None)
    exprs, bindings, space = (x._expr,), x._bindings, x._space
    operands = (x,)
    if record.arity == 2:
        operands = (x, x._lift(1 if other is None else other))
        exprs, bindings, space = joined(record.name, *operands)
    if space.is_complex:
        exprs, _ = of_pairs(record.name, exprs, operands)
    params = (("K", K),) if "K" in record.params else ()
    problem = problem_of(exprs, record.name, over, computed_in(space), params, config.accuracy)
    return resolved(problem, bindings, space)


def _cost(x: Any, problem: Problem, bindings: Bindings, space: Space) -> Cost:
    module = forks.load("pairfuse.runtime.cost")
    if space.symbols or any(space.along(axis) is None for f in problem.formulas for axis in f.axes):
        return module.count(problem)
    check_sizes(problem, space)
    itemsize = PRECISIONS[problem.dtype].size
    read = sum(len(d) if type(d) is tuple else math.prod(d.shape) for d, _ in bindings) * itemsize
    backend = space.backend or config.backend
    note = ""
    if space.on_gpu or backend == "triton":
        note = "it is computed on a GPU, where nothing is measured; the counts are those of the CPU's kernel"
    elif backend == "reference":
        note = "the backend 'reference' is plain NumPy"
    overhead = None if note else lambda: _overhead(type(x), space.library)
    return module.estimate(problem, sizes_of(space), read, overhead, note)


_overheads: dict[str | None, float] = {}


def _overhead(lazy: Any, library: str | None) -> float:
    """The seconds of a call of hardly any pairs on arrays of this library, from the making of its formula."""
    if library not in _overheads:
        x: Any = forks.load("numpy").zeros((2, 3), "float32")
        if library == arrays.TORCH:
            x = forks.load("torch").from_numpy(x)
        seconds = [_tiny_call(lazy, x) for _ in range(RUNS)]
        _overheads[library] = min(seconds)
    return _overheads[library]


def _tiny_call(lazy: Any, x: Any) -> float:
    begin = time.perf_counter()
    x_i, x_j = lazy(x[:, None, :]), lazy(x[None, :, :])
    (-((x_i - x_j) ** 2).sum(-1)).exp().sum(dim=1)
    return time.perf_counter() - begin
