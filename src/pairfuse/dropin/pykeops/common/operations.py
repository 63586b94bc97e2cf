"""`pykeops.common.operations`: conjugate gradients for a linear map that is a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pairfuse.errors import SolverError, message
from pairfuse.frontend.systems.methods import Breakdown, Columns, ConjugateGradients, Equations, Stopping, solve

from .utils import get_tools


def ConjugateGradientSolver(binding: str, linop: Callable[[Any], Any], b: Any, eps: float = 1e-6) -> Any:
    """The solution of linop(u) = b, for a symmetric positive definite map; the residual has a root mean square of eps.

    Arguments: binding: "numpy" or "torch"; b: an array of any shape, as linop takes and gives it.
    """
    block = b.reshape(-1, 1)

    def product(u: Any) -> Any:
        return linop(u.reshape(b.shape)).reshape(-1, 1)

    equations = Equations(product, None, Columns(block, coupled=True))
    try:
        u, _ = solve(ConjugateGradients, equations, block, None, Stopping(eps, 0.0, 10_000))
    except Breakdown as cause:
        raise SolverError(message(f"ConjugateGradientSolver(linop, b): {cause.text}", hint=cause.hint)) from None
    return u.reshape(b.shape)


__all__ = ["ConjugateGradientSolver", "get_tools"]
