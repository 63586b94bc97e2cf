"""K.solve(b): what the user asks for, read and checked, as a linear system that is solved now or later.

In: a symbolic tensor, a right-hand side, keywords.  Out: the solution, in the library of the data.  The system is a
formula that is linear in an unknown; the unknown is an input without data, the last one of the formula.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from numbers import Real
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ... import forks
from ...config import config
from ...errors import DtypeError, FormulaError, PairfuseError, ShapeError, UnsupportedError, message
from ...ir.expr import input_, leaf_of
from ...runtime import arrays
from ...transform.linear import is_linear
from ..base import Binding, Lazy, merge, renumbered, variable
from ..deferred import Task, perform
from ..evaluate import Settings, check_sizes, computed_in, device_value, dtype_of, gpu_settings, host_value, sizes_of
from ..integers import as_real, check_held, resolved
from ..linear import column, rows_of
from ..messages import describe, describe_value
from ..reduce import compact
from ..space import Clash, Space, Symbol, join
from .methods import RESTART, Report
from .system import CALL, METHODS, Plan, System, compute, coupled, problems

S = TypeVar("S", bound="LinearSystems")
OTHER = {"i": "j", "j": "i"}
PRECONDITIONERS = ("jacobi", "nystrom")


class Request(NamedTuple):
    """What one call of `solve` asks for beside the matrix and the right-hand side.

    over   the axis of the unknown, on which the matrix is summed
    flat   was b a vector? Then the solution is one
    alpha  a number, an array, or a tensor
    start  x0, or None
    info   is the report returned, too?
    """

    plan: Plan
    over: str
    flat: bool
    alpha: Any
    start: Any
    info: bool


class LinearSystems(Lazy):
    """Linear systems whose matrix is a formula."""

    __slots__ = ()

    def solve(
        self,
        b: Any,
        var: Any = None,
        call: bool = True,
        *,
        alpha: Any = 1e-10,
        rtol: float | None = None,
        eps: float | None = None,
        method: str = "cg",
        precond: str | Callable[[Any], Any] | None = None,
        rank: int = 100,
        seed: int = 0,
        restart: int = RESTART,
        max_iter: int | None = None,
        x0: Any = None,
        return_info: bool = False,
        **options: Any,
    ) -> Any:
        """The solution u of (K + alpha) u = b, for a matrix K of n x n, by an iteration.

        sum_j K_ij u_j + alpha u_i = b_i;  each iteration is one product with K, and nothing of size n x n is stored.

        Arguments:
            b: right-hand sides: an array (n,), (n, E) or (*batch, n, E); or a variable, Vi(b), or a formula of i, whose
                values are computed first. With Vj(b), or a formula of j, the matrix is summed over i.
            var: None, or a variable of K in which K is linear: the unknown. So K can be vector-valued, for example
                (K_ij * u_j) or A_ij.matvecmult(u_j); it is Vj(k, E), without data, or any variable.
            call: False gives a function that solves when called.
            alpha: added to the diagonal, the regularisation; a number, or an array that broadcasts to b, like (n, 1).
            rtol: a column is solved when the norm of its residual, b - (K + alpha) u, is at most rtol times that of b.
            eps: a column is solved when the root mean square of its residual is at most eps, whatever the scale of b.
                Whoever gives one of the two has that one; given both, the looser; given none, rtol=1e-6.
            method: "cg", conjugate gradients, for positive definite matrices; "minres", for all symmetric ones;
                "gmres", for all matrices.
            precond: "jacobi", the diagonal; "nystrom", an approximation of K by `rank` of its columns, drawn with
                `seed`; or a function of r, an array (*batch, n, E), that applies a symmetric positive definite matrix.
            restart: vectors between two restarts of "gmres", which stores twice as many blocks like b.
            max_iter: products with K after which the best vector so far is returned (default 10 000).
            x0: where to start, like b (default 0).
            return_info: also return a named tuple (iterations, residual, converged, reason).
            options: those of reductions; progress=True shows how the residual falls.

        Returns: array like b; with return_info a pair. Differentiable in b, in alpha and in the data of K, to any
        order, by further solves. Columns and batches have steps of their own.

        Raises: SolverError if K is not symmetric ("cg", "minres") or K + alpha not positive definite ("cg"), or numbers
        are not finite; ShapeError if the matrix is not square or b does not fit. Warns: ConvergenceWarning, with the
        residual that was reached.

        Example::

            >>> import numpy as np
            >>> from pairfuse.numpy import Vi, Vj
            >>> x = np.linspace(0, 1, 5)[:, None]
            >>> K = (-(Vi(x) - Vj(x)).abs()).exp()
            >>> u = K.solve(np.ones(5), alpha=0.1, eps=1e-10)
            >>> K @ u + 0.1 * u
            array([1., 1., 1., 1., 1.])
        """
        plan = _plan(method, *tolerances(rtol, eps), max_iter, precond, rank, seed, restart)
        right, flat = _right_hand_side(self, b)
        over = OTHER[right.axis_letter or "i"]
        if isinstance(alpha, Lazy) or not (isinstance(alpha, Real) or arrays.library(alpha) is not None):
            raise DtypeError(message(f"{CALL[:-1]}, alpha=...): alpha is a number or an array.", describe_value(alpha)))
        request = Request(plan, over, flat, alpha, x0, bool(return_info))
        matrix = _times_unknown(self, right, over) if var is None else _in_unknown(self, var, over)
        if matrix._expr.dim != right._expr.dim:
            facts = [f"K: {describe(self)}", f"b: {describe(right)}"]
            hint = "K is one number for each pair, or as long as the rows of b; sum over the components, K.sum(-1)."
            raise ShapeError(message(f"{CALL}: K times the unknown is not as long as b.", facts, hint))
        task = Task("solve", over, partial(solved, request), record="sum", word="Solve")
        return perform(task, (matrix, right), {**options, "call": call})


# ---------------------------------------------------------------------- what the user gave


def tolerances(rtol: Any, eps: Any) -> tuple[Any, Any]:
    """rtol and eps of the plan: the one that is given, both if both are, and the default if none is."""
    if rtol is None and eps is None:
        return Plan._field_defaults["rtol"], Plan._field_defaults["eps"]
    return 0.0 if rtol is None else rtol, 0.0 if eps is None else eps


def _plan(method: Any, rtol: Any, eps: Any, max_iter: Any, precond: Any, rank: Any, seed: Any, restart: Any) -> Plan:
    """The keywords, checked."""
    if method not in METHODS:
        hint = f"one of {', '.join(map(repr, METHODS))}; SciPy has more: scipy.sparse.linalg.aslinearoperator(K)."
        raise UnsupportedError(message(f"{CALL[:-1]}, method={method!r}): there is no such method.", hint=hint))
    if not (precond is None or precond in PRECONDITIONERS or callable(precond)):
        hint = f"one of {', '.join(map(repr, PRECONDITIONERS))}, or a function r -> z."
        raise UnsupportedError(
            message(f"{CALL[:-1]}, precond={precond!r}): there is no such preconditioner.", hint=hint)
        )
    for name, value in (("eps", eps), ("rtol", rtol)):
        if not isinstance(value, (int, float, np.number)) or not value >= 0:
            raise ShapeError(message(f"{CALL[:-1]}, {name}={value!r}): a tolerance is a number, at least 0."))
    for name, value, least in (
        ("max_iter", max_iter, 0),
        ("rank", rank, 1),
        ("seed", seed, 0),
        ("restart", restart, 1),
    ):
        if value is None and name == "max_iter":
            continue
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
            raise ShapeError(message(f"{CALL[:-1]}, {name}={value!r}): a whole number, at least {least}."))
    chosen = Plan._field_defaults["max_iter"] if max_iter is None else int(max_iter)
    return Plan(method, float(eps), float(rtol), chosen, precond, int(rank), int(seed), int(restart))


def _right_hand_side(matrix: Lazy, b: Any) -> tuple[Lazy, bool]:
    """b as a variable, and whether it was a vector."""
    if isinstance(b, Lazy):
        b = b if b.axis_letter in OTHER else _evaluated(matrix, b)
        if matrix._space.is_complex and not b._space.is_complex:
            hint = "convert the right-hand side, b + 0j."
            raise DtypeError(message(f"{CALL}: K is complex, b is real.", f"b: {describe(b)}", hint))
        return b, False
    kind = arrays.library(b)
    flat = kind is None or b.ndim == 1
    if kind is None and (rows := column(b)) is not None:
        b, kind, flat = rows, arrays.NUMPY, rows.ndim == 1
    if kind is None or b.ndim == 0:
        hint = "an array (n,), (n, E) or (*batch, n, E), or a variable Vi(b)."
        raise DtypeError(message(f"{CALL}: b is not an array of rows.", f"b: {describe_value(b)}", hint))
    try:
        rows = b[:, None] if b.ndim == 1 else b
        return rows_of(matrix, rows + 0j if matrix._space.is_complex else rows, "i", kind), flat
    except PairfuseError as cause:
        raise type(cause)(f"{CALL}: {str(cause).partition(': ')[2]}") from None


def _evaluated(matrix: Lazy, b: Any) -> Lazy:
    """A formula of i, or of j, as a variable that holds its values; with their derivatives."""
    space = b._space
    if space.symbols:
        hint = "Vi(k, E) itself is a right-hand side that is given later."
        raise FormulaError(message(f"{CALL}: b has variables without data.", f"b: {describe(b)}", hint))
    if (space.ni is None) == (space.nj is None) or space.ranges is not None:
        hint = "an array of n rows, Vi(b), or a formula of i alone; reductions of K over j give such arrays."
        raise FormulaError(message(f"{CALL}: b does not depend on i alone.", f"b: {describe(b)}", hint))
    over = "i" if space.ni is None else "j"
    values = b.sum(axis=len(space.batch) + "ij".index(over))
    return rows_of(matrix, values, OTHER[over], space.library or arrays.NUMPY)


def _times_unknown(matrix: Lazy, right: Lazy, over: str) -> Lazy:
    """K times an unknown as long as b, whose input is the last one and has no data."""
    pairs = matrix._space.is_complex or right._space.is_complex
    length = right._length * 2 if pairs else right._length
    unknown = matrix._make(variable(over, length), (Binding(object(), over),), Space(is_complex=pairs))
    try:
        product = matrix._apply("mul", unknown)
    except PairfuseError:
        facts = [f"K: {describe(matrix)}", f"b: {describe(right)}"]
        hint = "K is one number for each pair, or as long as the rows of b; sum over the components, K.sum(-1)."
        raise ShapeError(message(f"{CALL}: K cannot be multiplied by an unknown like b.", facts, hint)) from None
    return product._make(product._expr, product._bindings[:-1], product._space)


def _in_unknown(formula: Lazy, var: Any, over: str) -> Lazy:
    """A formula that is linear in var, with its input as the last one, without data."""
    call = f"{CALL[:-1]}, var=v)"
    facts = [f"K: {describe(formula)}", f"v: {describe(var)}"]
    if not isinstance(var, Lazy) or var.axis_letter != over:
        hint = f"v is the unknown, {'Vj' if over == 'j' else 'Vi'}(k, E): on the axis that b is not on."
        raise FormulaError(message(f"{call}: v is no variable of {over}.", facts, hint))
    wanted, bindings = var._bindings[0], formula._bindings
    slot = leaf_of(renumbered(var._expr, merge((formula, var))[2][1])).param("slot")
    if slot >= len(bindings):
        hint = "v is the variable that K was written with, for example u of K * u."
        raise FormulaError(message(f"{call}: v is not a variable of K.", facts, hint))
    mapping = tuple([len(bindings) - 1 if k == slot else k - (k > slot) for k in range(len(bindings))])
    expr = as_real(renumbered(formula._expr, mapping), frozenset((len(bindings) - 1,)))
    if not is_linear(expr, input_(len(bindings) - 1, over, var._expr.dim)):
        hint = "K is a sum of terms, each of which has v as a factor."
        raise FormulaError(message(f"{call}: K is not linear in v.", facts, hint))
    space = formula._space
    if type(wanted.data) is Symbol:
        space = space._replace(symbols=tuple(s for s in space.symbols if s != wanted.data))
    return formula._make(expr, bindings[:slot] + bindings[slot + 1 :], space)


# ---------------------------------------------------------------------- the solution


def solved(request: Request, settings: Settings, matrix: Lazy, right: Lazy) -> Any:
    """The solution, and the report if it is asked for."""
    space = _square(matrix, right, request.over)
    system, bindings = _system(request, settings, matrix, space)
    shape = (*space.batch, space.along(request.over), right._expr.dim)
    b = right._bindings[0].data
    check_held(CALL, "b", b, system.problem.dtype)
    alpha, start = _alpha(request, space, shape), _start(request, space, shape)
    given = [b, *([] if isinstance(alpha, float) else [alpha]), *[binding.data for binding in bindings]]
    if space.library == arrays.TORCH and (
        arrays.transformed() or (arrays.gradients_enabled() and any(map(_followed, given)))
    ):
        # Loaded on first use, as autograd/function.py is.
        autograd = forks.load("pairfuse.frontend.autograd.solve")
        u, report = autograd.solution(system, bindings, space, b, shape, alpha, start)
    else:
        u, report = _without_derivatives(system, bindings, space, b, shape, alpha, start)
    return _delivered(request, space, u, report)


def _followed(data: Any) -> bool:
    return type(data) is not tuple and arrays.needs_gradient(data)


def _square(matrix: Lazy, right: Lazy, over: str) -> Space:
    """The space of the system, with n rows and n columns."""
    facts = [f"K times the unknown: {describe(matrix)}", f"b: {describe(right)}"]
    try:
        space = join(matrix._space, right._space)
    except Clash as cause:
        raise cause.error(message(f"{CALL}: {cause.text}", facts, cause.hint)) from None
    rows = right._space.along(OTHER[over])
    for axis in (OTHER[over], over):
        size = space.along(axis)
        if size is not None and size != rows:
            what = f"the matrix is not square, {space.ni} x {space.nj}." if axis == over else f"b has {rows} rows."
            hint = "a linear system has as many unknowns as equations, and b as many rows."
            raise ShapeError(message(f"{CALL}: {what}", facts, hint))
    return space._replace(ni=rows, nj=rows)


def _system(request: Request, settings: Settings, matrix: Lazy, space: Space) -> tuple[System, list[Binding]]:
    """The system, and the data of the inputs of its matrix."""
    expr, bindings = matrix._expr, list(matrix._bindings)
    unused = compact((expr,), len(bindings) + 1)
    if unused is not None:
        (expr,), slots = unused
        bindings = [bindings[slot] for slot in slots[:-1]]
    accuracy = settings.accuracy or config.accuracy
    problem, transposed = problems(expr, request.over, computed_in(space), accuracy)
    check_sizes(problem, space)
    exact, given, space = resolved(problem, tuple(bindings), space)
    if exact is not problem:
        problem, transposed = problems(exact.formulas[0], request.over, exact.dtype, accuracy)
        bindings = list(given)
    if space.on_gpu:
        settings = gpu_settings(settings, space.device or "")
    library = space.library or arrays.NUMPY
    system = System(problem, transposed, coupled(problem), sizes_of(space), settings, request.plan, library)
    return system, bindings


def _alpha(request: Request, space: Space, shape: tuple[Any, ...]) -> Any:
    """alpha as a number, or as an array that broadcasts to the solution."""
    alpha = request.alpha
    if isinstance(alpha, Real):
        return float(alpha)
    if arrays.library(alpha) != space.library and alpha.ndim == 0:
        return float(alpha)
    fits = arrays.library(alpha) == space.library
    if alpha.ndim > 0 and request.flat:
        alpha = alpha[..., None]
    try:
        fits = fits and np.broadcast_shapes(tuple(alpha.shape), shape) == shape
    except ValueError:
        fits = False
    if space.is_complex and alpha.ndim > 0 and alpha.shape[-1] != 1:
        fits = False
    if not fits:
        facts = [f"alpha: {describe_value(request.alpha)}", f"solution: shape {shape}, {space.library}"]
        hint = "a number, or an array of the library of b, such as (n, 1), that broadcasts to it."
        raise ShapeError(message(f"{CALL[:-1]}, alpha=...): alpha does not broadcast to b.", facts, hint))
    if arrays.number_type(alpha, space.library or arrays.NUMPY) == arrays.INTEGER and alpha.ndim == 0:
        return float(alpha)
    return alpha


def _start(request: Request, space: Space, shape: tuple[Any, ...]) -> Any:
    """x0 as a block of vectors in the library of the user, or None."""
    x0 = request.start
    if x0 is None:
        return None
    call = f"{CALL[:-1]}, x0=...)"
    if arrays.library(x0) != space.library:
        raise DtypeError(message(f"{call}: x0 is not an array of the library of b.", f"x0: {describe_value(x0)}"))
    block = x0[..., None] if request.flat else x0
    if space.is_complex:
        block = arrays.as_pairs(block + 0j, space.library or arrays.NUMPY)
    try:
        return arrays.namespace(space.library or arrays.NUMPY).broadcast_to(block, shape)
    except (ValueError, RuntimeError):
        facts = [f"x0: {describe_value(x0)}", f"solution: shape {shape}"]
        raise ShapeError(message(f"{call}: x0 is not like b.", facts, "x0 broadcasts to the shape of b.")) from None


def _without_derivatives(
    system: System,
    bindings: list[Binding],
    space: Space,
    b: Any,
    shape: tuple[Any, ...],
    alpha: Any,
    start: Any,
) -> tuple[Any, Report]:
    """The solution from plain data: NumPy arrays and views of tensors, or tensors on a GPU."""
    dtype, sizes = system.problem.dtype, system.sizes
    if space.on_gpu:
        device = space.device or ""
        values = [device_value(binding, dtype, sizes, device) for binding in bindings]
        plain = partial(_on_gpu, dtype=dtype, device=device)
    else:
        values = [host_value(binding, dtype, sizes) for binding in bindings]
        plain = partial(arrays.view, dtype=dtype)
    right = plain(b)
    block = arrays.namespace(arrays.library(right) or arrays.NUMPY).broadcast_to(right, shape)
    number = alpha if isinstance(alpha, float) else plain(alpha)
    u, report = compute(system, values, block, number, None if start is None else plain(start))
    return (u if space.on_gpu else arrays.wrap(u, space.library)), report


def _on_gpu(x: Any, dtype: str, device: str) -> Any:
    """A tensor in the type of the computation, which for arrays of 16 bits is not their own."""
    return x.detach().to(device, getattr(arrays.namespace(arrays.TORCH), dtype))


def _delivered(request: Request, space: Space, u: Any, report: Report) -> Any:
    """The solution as the user gave b, of its number type."""
    stored = dtype_of(space)
    if stored != computed_in(space):
        u = u.to(getattr(arrays.namespace(arrays.TORCH), stored))
    if space.is_complex:
        u = arrays.from_pairs(u, space.library)
    if request.flat:
        u = u[..., 0]
        report = report._replace(residual=report.residual[..., 0], converged=report.converged[..., 0])
    return (u, report) if request.info else u
