"""Linear systems (K + alpha) u = b whose matrix is a reduction: what one is, and how it is solved on plain arrays.

In: a formula that is linear in its last input, the data of the others, a right-hand side.  Out: the solution as a plain
array, and how it was found.  The algorithms are in methods.py and gmres.py, derivatives in
autograd/solve.py.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ...config import config
from ...errors import ConvergenceWarning, ShapeError, SolverError, message
from ...ir.expr import Expr, input_
from ...lower.problem import Problem, Sizes
from ...runtime import arrays
from ...runtime.progress import Convergence
from ...transform.calculus import adjoint_operator
from ...transform.linear import is_separable
from ..evaluate import Settings, launch
from ..messages import describe_value
from .gmres import GeneralizedMinimalResiduals
from .methods import (
    RESTART,
    Breakdown,
    Columns,
    ConjugateGradients,
    Equations,
    Method,
    MinimalResiduals,
    Report,
    Stopping,
    Vectors,
    solve,
)
from .preconditioners import Matrix, jacobi, nystrom

CALL = "K.solve(b)"
METHODS: dict[str, type[Method]] = {
    "cg": ConjugateGradients,
    "minres": MinimalResiduals,
    "gmres": GeneralizedMinimalResiduals,
}
ITERATIONS = 10_000  # a kernel matrix that needs more wants another alpha, or a preconditioner


class Plan(NamedTuple):
    """How the user wants a system to be solved; the fields are the keywords of `solve`.

    derivative  whether this is the system of a derivative: eps is then relative to the right-hand side, too, as the
                scale of a cotangent is that of some loss; and a right-hand side that is not finite has a solution that
                is not
    """

    method: str = "cg"
    eps: float = 0.0
    rtol: float = 1e-6
    max_iter: int = ITERATIONS
    precond: str | Callable[[Any], Any] | None = None
    rank: int = 100
    seed: int = 0
    restart: int = RESTART
    derivative: bool = False

    @property
    def stopping(self) -> Stopping:
        if self.derivative:
            return Stopping(0.0, max(self.eps, self.rtol), self.max_iter)
        return Stopping(self.eps, self.rtol, self.max_iter)


class System(NamedTuple):
    """The matrix K of a linear system: (K u)_i = sum_j F_ij(u_j), or with i and j exchanged.

    problem     the sum, whose last input is u, on the axis that is reduced; the result is on the other
    transposed  the sum that is the product with the transpose of K: its last input is on the axis of the result
    coupled     whether components of u depend on each other: otherwise every column is a system of its own
    """

    problem: Problem
    transposed: Problem
    coupled: bool
    sizes: Sizes
    settings: Settings
    plan: Plan
    library: str

    def adjoint(self) -> System:
        """The system with the transposed matrix, for derivatives."""
        plan = self.plan._replace(derivative=True)
        return self._replace(problem=self.transposed, transposed=self.problem, plan=plan)

    def derived(self) -> System:
        """The system with the same matrix, for derivatives."""
        return self._replace(plan=self.plan._replace(derivative=True))


@lru_cache(maxsize=1024)
def problems(formula: Expr, over: str, dtype: str, accuracy: str) -> tuple[Problem, Problem]:
    """The product with a matrix and with its transpose, from a formula whose last input is the vector."""
    problem = Problem((formula,), "sum", over, dtype, accuracy=accuracy)
    u = problem.inputs[-1]
    w = input_(u.param("slot"), problem.kept, formula.dim)
    return problem, Problem((adjoint_operator(formula, u, w),), "sum", problem.kept, dtype, accuracy=accuracy)


def coupled(problem: Problem) -> bool:
    """Do components of the vector depend on each other?"""
    return not is_separable(problem.formulas[0], problem.inputs[-1])


def compute(
    system: System, values: Sequence[Any], b: Vectors, alpha: Any, start: Vectors | None
) -> tuple[Vectors, Report]:
    """The solution u of (K + alpha) u = b, and how it was found.

    Arguments: values: the data of the inputs but u, as the driver takes it, NumPy arrays or tensors on a GPU; b:
    (*batch, rows, E), of the type of the problem; alpha: a number, or an array that broadcasts to b; start: like b.
    Raises: SolverError. Warns: ConvergenceWarning.
    """
    if 0 in b.shape:
        lead = (*b.shape[:-2], b.shape[-1])
        return b * 1, Report(0, np.zeros(lead), np.ones(lead, bool), "converged")
    columns, plan = Columns(b, system.coupled), system.plan
    undefined = ~np.isfinite(columns.norm(b)) if plan.derivative else np.zeros(1, bool)
    if undefined.any():
        b = columns.choose(undefined, arrays.namespace(columns.kind).zeros_like(b), b)
    bar = Convergence(plan.method) if _shown(system.settings) else None
    try:
        equations = _equations(system, values, alpha, columns)
        u, report = solve(METHODS[plan.method], equations, b, start, plan.stopping, None if bar is None else bar.step)
    except Breakdown as cause:
        raise SolverError(message(f"{CALL}: {cause.text}", _facts(system, b, alpha), cause.hint)) from None
    finally:
        if bar is not None:
            bar.close()
    if report.reason != "converged":
        _warn(system, report)
    if undefined.any():
        u = columns.choose(undefined, u * np.nan, u)
    return u, report


def _equations(system: System, values: Sequence[Any], alpha: Any, columns: Columns) -> Equations:
    problem, sizes, plan = system.problem, system.sizes, system.plan
    settings = system.settings._replace(progress=False)

    def product(u: Vectors) -> Vectors:
        return launch(problem, [*values, u], sizes, settings)[0] + alpha * u

    made = None
    if callable(plan.precond):
        made = _of_user(plan.precond, system.library, columns)
    elif plan.precond is not None:
        matrix = Matrix(problem, values, sizes, settings, columns)
        made = jacobi(matrix, alpha) if plan.precond == "jacobi" else nystrom(matrix, alpha, plan.rank, plan.seed)
    # the matrix of a derivative is that of the solution, or its transpose: it has been looked at
    return Equations(product, made, columns, trusted=plan.derivative, restart=plan.restart)


def _of_user(apply: Callable[[Any], Any], library: str, columns: Columns) -> Callable[[Vectors], Vectors]:
    """The user's function, which takes and gives arrays of the user's library."""

    def precondition(r: Vectors) -> Vectors:
        z = apply(arrays.wrap(r, library) if columns.kind == arrays.NUMPY else r)
        if arrays.library(z) != library or z.shape != r.shape:
            text = f"{CALL[:-1]}, precond=...): the result of the function is not like its argument."
            raise ShapeError(message(text, [f"argument: {describe_value(r)}", f"result: {describe_value(z)}"]))
        if columns.kind == arrays.NUMPY:
            return arrays.view(z, columns.dtype)
        return arrays.on_device(z, columns.dtype, columns.device or "cpu")

    return precondition


def _shown(settings: Settings) -> bool:
    return config.progress if settings.progress is None else settings.progress


# ---------------------------------------------------------------------- what is said when it goes wrong


def _facts(system: System, b: Vectors, alpha: Any) -> list[str]:
    rows, width = b.shape[-2:]
    what = f"{rows} rows, {width} right-hand side{'s' if width > 1 else ''}"
    what += f", batch {tuple(b.shape[:-2])}" if b.ndim > 2 else ""
    shown = f"{alpha:.3g}" if isinstance(alpha, (int, float)) else describe_value(alpha)
    facts = [f"{what}, {system.problem.dtype}, method {system.plan.method!r}", f"alpha: {shown}"]
    return [*facts, "in the system of a derivative"] if system.plan.derivative else facts


def _warn(system: System, report: Report) -> None:
    plan = system.plan
    eps, rtol, _ = plan.stopping
    given = [f"{name}={value:.1e}" for name, value in (("rtol", rtol), ("eps", eps)) if value]
    asked = " or ".join(given) or "eps=0"
    failed = int((~report.converged).sum())
    reached = f"largest residual (root mean square): {report.residual.max():.2e}, asked for {asked}"
    facts = [f"{reached}; {failed} of {report.converged.size} right-hand sides"]
    facts += ["in the system of a derivative"] if plan.derivative else []
    if report.reason == "max_iter":
        text = f"{CALL}: not converged after {report.iterations} iterations; the best vector is returned."
        hint = "a larger alpha, a preconditioner (precond='nystrom'), or a larger max_iter."
    elif report.reason == "stagnation":
        text = (
            f"{CALL}: the residual no longer falls, after {report.iterations} iterations; the best vector is returned."
        )
        hint = f"more vectors between two restarts, restart={4 * plan.restart}, a preconditioner, or a larger alpha."
    else:
        text = f"{CALL}: rounding errors in {system.problem.dtype} allow no smaller residual than was reached."
        better = "float64, " if system.problem.dtype == "float32" else ""
        hint = f"{better}a larger alpha, or a larger tolerance; a singular system has no solution at all."
    warnings.warn(message(text, facts, hint), ConvergenceWarning, stacklevel=_outside())


def _outside() -> int:
    """How many frames up the user's line is, for `warnings.warn` called by the caller."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("pairfuse", "torch"):
        level, frame = level + 1, frame.f_back
    return level
