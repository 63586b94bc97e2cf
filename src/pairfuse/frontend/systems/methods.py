"""Iterative solvers of A u = b for matrices that are only known by their products with vectors.

In: `Equations` (the product, a preconditioner), a right-hand side, when to stop.  Out: the solution and a `Report`.
Pure algorithms: nothing here knows formulas.  Vectors are blocks (*batch, rows, E), NumPy arrays or tensors on any
device; every batch and, unless the components are coupled, every column is a system of its own, with its own steps.
The few numbers of a column (steps, norms) are NumPy arrays of float64, (*batch, 1, E), whatever the vectors are.
The methods for symmetric matrices are here, that for all matrices in gmres.py.

Sources: M. Hestenes, E. Stiefel, Methods of conjugate gradients for solving linear systems, 1952;
C. Paige, M. Saunders, Solution of sparse indefinite systems of linear equations, 1975.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from ...runtime import arrays
from .columns import Columns, Numbers, Vectors

# Every so many products the residual of the recursion is compared with the true one, which costs one product.
CHECK = 50
# A sweep that does not reduce the true residual by this factor has reached what the number type allows.
PROGRESS = 0.5
# Relative residuals below so many roundings of the right-hand side count as zero.
RESOLVED = 128
# A curvature is negative beyond doubt if it is so many roundings of the largest one below zero.
DOUBT = 128
# Vectors between two restarts of GMRES, which stores twice as many.
RESTART = 50


class Breakdown(Exception):
    """No solution by this method: what was found, in words, and a remedy."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.text, self.hint = text, hint


class Stopping(NamedTuple):
    """When to stop.

    rtol      a column is solved when the norm of its residual is at most rtol times that of its right-hand side,
    eps       or when the root mean square of its residual is at most eps
    max_iter  products with the matrix after which the best vector so far is returned
    """

    eps: float
    rtol: float
    max_iter: int


class Report(NamedTuple):
    """How a solve ended.

    iterations  products with the matrix that moved the solution
    residual    root mean square of b - A u, computed from u, for each column: shape (*batch, E)
    converged   whether the tolerance was reached, for each column
    reason      "converged"; "max_iter": too many iterations; "precision": rounding errors allow no smaller residual;
                "stagnation": the residual no longer falls (GMRES with restarts)
    """

    iterations: int
    residual: np.ndarray
    converged: np.ndarray
    reason: str


Watch = Callable[[int, Numbers, Numbers], None]


class Equations(NamedTuple):
    """A u = b: the product with A, the preconditioner (about the inverse of A, symmetric and positive), the columns.

    trusted  whether A is known to be what the method needs: it is not looked whether it is symmetric
    restart  vectors of GMRES between two restarts
    """

    product: Callable[[Vectors], Vectors]
    precondition: Callable[[Vectors], Vectors] | None
    columns: Columns
    trusted: bool = False
    restart: int = RESTART

    def preconditioned(self, r: Vectors) -> Vectors:
        return r if self.precondition is None else self.precondition(r)


class Method(Protocol):
    """The state of an iteration: `step` moves u, `residual` is the norm of b - A u by the recursion.

    broken    columns in which the method can go no further
    doubtful  columns in which the last step, and what follows, may be made of rounding errors
    stalled   columns that are broken because their residual no longer falls
    """

    residual: Numbers
    broken: np.ndarray
    doubtful: np.ndarray
    stalled: np.ndarray

    def __init__(self, equations: Equations, r: Vectors) -> None: ...

    def step(self, u: Vectors, running: np.ndarray, iteration: int) -> Vectors: ...


# ---------------------------------------------------------------------- the frame of all methods


def solve(
    method: type[Method],
    equations: Equations,
    b: Vectors,
    start: Vectors | None,
    stopping: Stopping,
    watch: Watch | None = None,
) -> tuple[Vectors, Report]:
    """The solution from a start vector (None: 0), and how it was found.

    The method runs until its recursion says that every column is solved. Then the residual is computed from u; where
    it is larger than the recursion believed, which rounding errors bring about, the method starts again from u, as long
    as that helps. What is returned is, for each column, the best u whose residual was computed.

    Arguments: watch: called with the number of iterations, the residuals and the tolerances, after every step.
    Raises: Breakdown.
    """
    return Search(method, equations, b, start, stopping, watch).run()


class Search:
    """One solve: the vectors that are the best so far, u and r = b - A u, and the norm of r for each column.

    All of them are those of columns scaled to size 1, so that a right-hand side of 1e-30 is solved as one of 1 is.
    """

    def __init__(
        self,
        method: type[Method],
        equations: Equations,
        b: Vectors,
        start: Vectors | None,
        stopping: Stopping,
        watch: Watch | None,
    ) -> None:
        self.method, self.equations, self.stopping, self.watch = method, equations, stopping, watch
        self.columns = columns = equations.columns
        self.scale = columns.scale(b) if start is None else columns.scale(b, start)
        self.b = columns.times(self.scale, b)
        self.size = columns.norm(self.b)
        _finite(self.size, "b has entries that are not finite", "look for NaN and infinities in b.")
        with np.errstate(over="ignore"):  # beside a tiny right-hand side every tolerance is large
            eps = stopping.eps * columns.count**0.5 * self.scale
        self.tolerance = np.maximum(eps, stopping.rtol * self.size)
        self.start = None if start is None else columns.times(np.where(self.size > 0, self.scale, 0.0), start)
        self.count = 0
        self.stalled = False

    def run(self) -> tuple[Vectors, Report]:
        start = self.start
        self.u = self.b * 0 if start is None else start
        self.r = self.b * 1 if start is None else self.b - self.equations.product(start)
        self.norm = self.columns.norm(self.r)
        _finite(self.norm, "K @ x0 is not finite", "look for NaN and infinities in K and x0.")
        waiting = self.norm > self.tolerance
        while waiting.any() and self.count < self.stopping.max_iter:
            before = self.norm
            self._sweep(waiting)
            waiting &= (self.norm > self.tolerance) & (self.norm <= PROGRESS * before)
        with np.errstate(
            over="ignore"
        ):  # in float32 a small alpha and a large b; numbers that overflow are named below
            u = self.columns.times(1 / self.scale, self.u)
        whole = bool(arrays.namespace(self.columns.kind).isfinite(u).all())
        if not whole:
            raise Breakdown(f"the solution overflows {self.columns.dtype}.", "scale b, a larger alpha, or float64.")
        return u, self._report()

    def _sweep(self, running: np.ndarray) -> None:
        """Steps of the method, until each column is solved by its recursion, or that has lost touch with the truth."""
        state, u = self.method(self.equations, self.r), self.u * 1
        looked = np.zeros(running.shape, bool)
        while running.any() and self.count < self.stopping.max_iter:
            before = u * 1
            u = state.step(u, running, self.count)
            self.count += 1
            if np.any(running & state.doubtful & ~looked):
                self._look(before)
                looked = looked | state.doubtful
            text = f"the residual is not finite at iteration {self.count}"
            _finite(np.where(running, state.residual, 0.0), text, "an overflow: scale K or b, or compute in float64.")
            if self.watch is not None:
                self.watch(self.count, state.residual / self.scale, self.tolerance / self.scale)
            running = running & (state.residual > self.tolerance) & ~state.broken
            if self.count % CHECK == 0 and running.any():
                running = running & (self._look(u) <= state.residual / PROGRESS)
        self.stalled = bool(state.stalled.any())
        self._look(u)

    def _look(self, u: Vectors) -> Numbers:
        """The true norm of the residual; where it is smaller than the best so far, u is the best now."""
        r = self.b - self.equations.product(u)
        norm = self.columns.norm(r)
        better = norm < self.norm  # not so where it is not a number
        if better.all():
            self.u, self.r, self.norm = u * 1, r, norm
        elif better.any():
            self.u, self.r = self.columns.choose(better, u, self.u), self.columns.choose(better, r, self.r)
            self.norm = np.where(better, norm, self.norm)
        return norm

    def _report(self) -> Report:
        converged = self.norm <= np.maximum(self.tolerance, RESOLVED * self.columns.rounding * self.size)
        capped = self.count >= self.stopping.max_iter
        reason = "max_iter" if capped else "stagnation" if self.stalled else "precision"
        reason = "converged" if converged.all() else reason
        residual = self.norm / self.scale / self.columns.count**0.5
        return Report(self.count, residual[..., 0, :], converged[..., 0, :], reason)


def _finite(numbers: Numbers, text: str, hint: str) -> None:
    if not np.isfinite(numbers).all():
        raise Breakdown(f"{text}.", hint)


def finite_product(numbers: Numbers, iteration: int) -> None:
    hint = "look for NaN and infinities in the data of K, and for terms without a value at i = j, such as 1 / |x - y|."
    _finite(numbers, f"K @ v is not finite at iteration {iteration + 1}", hint)


def ratio(a: Numbers, b: Numbers, where: Any = True) -> Numbers:
    """a / b, and 0 where that has no meaning."""
    return np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=where & (b != 0))


def check_symmetry(equations: Equations, p: Vectors, q: Vectors, running: np.ndarray) -> None:
    """A symmetric A has <A p, w> = <p, A w>: looked at for w like q = A p, in the first step, by one more product.

    What rounding errors make of a symmetric matrix is far below the bound, and what is below it hinders no method.
    """
    if equations.trusted:
        return
    columns = equations.columns
    w = columns.times(columns.scale(q), q)  # of size 1, whatever A is
    back = equations.product(w)
    forth = columns.inner(q, w)
    with np.errstate(over="ignore", invalid="ignore"):
        gap = np.abs(columns.inner(back, p) - forth)
        size = forth + columns.norm(back) * columns.norm(p)
        found = running & np.isfinite(size) & (gap > 4 * columns.rounding**0.5 * size)
    if found.any():
        part = float(np.max(ratio(gap, size, found)))
        raise Breakdown(
            f"the matrix is not symmetric: <A v, w> and <v, A w> differ by {part:.1%} for A = K + alpha and w = A v.",
            "method='gmres' is for all matrices; method='cg' and 'minres' need K_ij = K_ji.",
        )


# ---------------------------------------------------------------------- conjugate gradients


class ConjugateGradients:
    """For positive definite matrices: one product, two or three inner products a step."""

    def __init__(self, equations: Equations, r: Vectors) -> None:
        self.equations, self.columns = equations, equations.columns
        self.r = r * 1
        z = equations.preconditioned(r)
        self.p = z * 1
        self.descent = self.columns.inner(r, z)
        self.residual = self.columns.norm(r)
        self.broken = self.doubtful = self.stalled = np.zeros(self.residual.shape, bool)
        self.largest = np.zeros(self.residual.shape)  # curvature <p, A p> / <p, p>

    def step(self, u: Vectors, running: np.ndarray, iteration: int) -> Vectors:
        columns, p = self.columns, self.p
        self._check_descent(running, iteration)
        q = self.equations.product(p)
        curvature = columns.inner(p, q)
        finite_product(np.where(running, curvature, 0.0), iteration)
        if iteration == 0:
            check_symmetry(self.equations, p, q, running)
        self._check_curvature(curvature, running, iteration)
        step = ratio(self.descent, curvature, running & (curvature > 0))
        u += columns.times(step, p)
        self.r -= columns.times(step, q)
        z = self.equations.preconditioned(self.r)
        descent = columns.inner(self.r, z)
        self.residual = columns.norm(self.r) if self.equations.precondition is not None else np.sqrt(descent)
        self.p = z + columns.times(ratio(descent, self.descent, running), p)
        self.descent = descent
        return u

    def _check_descent(self, running: np.ndarray, iteration: int) -> None:
        """<r, M r> is positive for a preconditioner M that is."""
        if np.any(running & (self.descent <= 0)) and self.equations.precondition is not None:
            raise _bad_preconditioner(iteration)

    def _check_curvature(self, curvature: Numbers, running: np.ndarray, iteration: int) -> None:
        """<p, A p> is positive; a little below zero is a rounding error, at which the column stops."""
        relative = ratio(curvature, self.columns.inner(self.p, self.p))
        self.largest = np.maximum(self.largest, relative)
        negative = running & (relative < -DOUBT * self.columns.rounding * self.largest)
        negative |= running & (relative < 0) & (self.largest <= 0)
        if negative.any():
            worst = float(np.min(np.where(negative, relative, 0.0)))
            wider = "" if self.columns.dtype == "float64" else "float64; "
            raise Breakdown(
                f"the matrix is not positive definite: at iteration {iteration + 1} "
                f"<p, A p> = {worst:.2e} <p, p> for A = K + alpha.",
                f"a larger alpha; {wider}method='minres' for symmetric matrices with eigenvalues of both signs, "
                "method='gmres' for all matrices.",
            )
        self.broken = self.broken | (running & (curvature <= 0))


def _bad_preconditioner(iteration: int) -> Breakdown:
    return Breakdown(
        f"the preconditioner is not positive definite, at iteration {iteration + 1}.",
        "precond(r) applies a symmetric, positive definite matrix, about the inverse of K + alpha.",
    )


# ---------------------------------------------------------------------- minimal residuals


class MinimalResiduals:
    """For symmetric matrices with eigenvalues of both signs: Lanczos' recursion, and a QR factorisation as it grows.

    The residual of the recursion is kept as a vector, r_k = s_k^2 r_(k-1) - c_k phi_k v_(k+1), so that its Euclidean
    norm is known under a preconditioner, too.
    """

    def __init__(self, equations: Equations, r: Vectors) -> None:
        self.equations, self.columns = equations, equations.columns
        self.r = r * 1
        self.residual = self.columns.norm(r)
        self.broken = self.doubtful = self.stalled = np.zeros(self.residual.shape, bool)
        self.lanczos, self.before = r * 1, r * 0  # multiples of v_k and v_(k-1)
        self.y = equations.preconditioned(self.lanczos)
        self.beta, self.beta_before = self._length(0), np.zeros(self.residual.shape)
        self.phi = self.beta  # what is left of the right-hand side of the small least squares problem
        self.cosine, self.sine = -np.ones(self.phi.shape), np.zeros(self.phi.shape)
        self.diagonal, self.above = np.zeros(self.phi.shape), np.zeros(self.phi.shape)
        self.w, self.w_before = r * 0, r * 0
        self.largest = np.zeros(self.phi.shape)

    def _length(self, iteration: int) -> Numbers:
        """The norm of the vector of Lanczos that the preconditioner defines."""
        squared = self.columns.inner(self.lanczos, self.y)
        if self.equations.precondition is not None and np.any(squared < 0):
            raise _bad_preconditioner(iteration)
        return np.sqrt(squared)

    def step(self, u: Vectors, running: np.ndarray, iteration: int) -> Vectors:
        columns, beta = self.columns, self.beta
        v = columns.times(ratio(np.ones(beta.shape), beta), self.y)
        alpha = self._next_vector(v, beta, running, iteration)
        # the next column of the tridiagonal matrix, (beta_k, alpha_k, beta_(k+1)), through the rotations
        above_before = self.above
        above = self.cosine * self.diagonal + self.sine * alpha
        corner = self.sine * self.diagonal - self.cosine * alpha
        self.above, self.diagonal = self.sine * self.beta, -self.cosine * self.beta
        pivot = np.hypot(corner, self.beta)
        self.largest = np.maximum(self.largest, np.hypot(np.hypot(beta, alpha), self.beta))  # a bound of |A| from below
        # |A r| / |r|; where it is as good as 0, nothing that the matrix reaches is left in r, the residual of a least
        # squares solution. Rounding errors hide it: by how much depends on all steps before.
        reach = np.hypot(corner, self.diagonal)
        done = reach <= DOUBT * columns.rounding * self.largest
        self.doubtful = reach <= columns.rounding**0.5 * self.largest
        self.broken = self.broken | (running & done)
        self.cosine, self.sine = ratio(corner, pivot), ratio(self.beta, pivot)
        gain, self.phi = self.cosine * self.phi, self.sine * self.phi
        w = v - columns.times(above_before, self.w_before) - columns.times(above, self.w)
        w = columns.times(ratio(np.ones(pivot.shape), pivot, ~done), w)
        self.w_before, self.w = self.w, w
        u += columns.times(np.where(running & ~done, gain, 0.0), w)
        along = ratio(self.cosine * self.phi, self.beta)
        self.r = columns.times(self.sine**2, self.r) - columns.times(along, self.lanczos)
        self.residual = columns.norm(self.r)
        return u

    def _next_vector(self, v: Vectors, beta: Numbers, running: np.ndarray, iteration: int) -> Numbers:
        """Lanczos: A v made orthogonal to the two vectors before; returns <v, A v>."""
        columns = self.columns
        q = self.equations.product(v)
        alpha = columns.inner(v, q)
        finite_product(np.where(running, alpha, 0.0), iteration)
        if iteration == 0:
            check_symmetry(self.equations, v, q, running)
        q = q - columns.times(ratio(beta, self.beta_before), self.before)
        q -= columns.times(ratio(alpha, beta), self.lanczos)
        self.before, self.lanczos = self.lanczos, q
        self.y = self.equations.preconditioned(q)
        self.beta_before, self.beta = beta, self._length(iteration)
        return alpha
