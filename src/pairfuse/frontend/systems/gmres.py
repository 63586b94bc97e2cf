"""GMRES: linear systems with any matrix, symmetric or not, by minimal residuals with restarts.

In: `Equations`, as for the methods of methods.py.  Out: the state of an iteration that moves the solution in
every step.

Arnoldi's vectors are stored until the restart, and with them the directions in which the solution moves, so that there
is a solution after every step: twice `restart` blocks like the right-hand side.

Source: Y. Saad, M. Schultz, GMRES: a generalized minimal residual algorithm for nonsymmetric linear systems, 1986.
"""

from __future__ import annotations

import numpy as np

from .columns import Numbers, Vectors
from .methods import DOUBT, Equations, finite_product, ratio

# Between two restarts the residual falls by more than this factor, or it is taken to stand still.
STANDSTILL = 0.99


class GeneralizedMinimalResiduals:
    """For all matrices. The preconditioner acts on the right, so that the residual is that of the equations.

    With A M V_k = V_(k+1) H_k for Arnoldi's vectors V and the preconditioner M, and H_k = Q R, the directions are the
    columns of W = M V R^-1. The residual is kept as a vector, as in MinimalResiduals: a restart costs no product.
    """

    def __init__(self, equations: Equations, r: Vectors) -> None:
        self.equations, self.columns = equations, equations.columns
        self.r = r * 1
        self.residual = self.columns.norm(r)
        self.broken = self.doubtful = self.stalled = np.zeros(self.residual.shape, bool)
        self.largest = np.zeros(self.residual.shape)  # a bound of |A M| from below
        self._begin()

    def _begin(self) -> None:
        """A new space, from the residual that is left."""
        self.first = self.phi = self.residual
        self.basis = [self._unit(self.r, self.residual)]
        self.directions: list[Vectors] = []
        self.rotations: list[tuple[Numbers, Numbers]] = []

    def _unit(self, v: Vectors, length: Numbers) -> Vectors:
        return self.columns.times(ratio(np.ones(length.shape), length), v)

    def step(self, u: Vectors, running: np.ndarray, iteration: int) -> Vectors:
        columns = self.columns
        w = self.equations.preconditioned(self.basis[-1])
        column, q, beta = self._orthogonal(self.equations.product(w), running, iteration)
        above, corner = self._rotated(column)
        pivot = np.hypot(corner, beta)
        done = pivot <= DOUBT * columns.rounding * self.largest  # A maps the space into itself, and is singular on it
        self.doubtful = pivot <= columns.rounding**0.5 * self.largest
        cosine = np.where(done, 0.0, ratio(corner, pivot))
        sine = np.where(done, 1.0, ratio(beta, pivot))
        for factor, direction in zip(above, self.directions, strict=True):
            w = w - columns.times(factor, direction)
        w = columns.times(ratio(np.ones(pivot.shape), pivot, ~done), w)
        u += columns.times(np.where(running, cosine * self.phi, 0.0), w)
        following = self._unit(q, beta)
        self.r = columns.times(sine**2, self.r) - columns.times(sine * cosine * self.phi, following)
        self.phi = -sine * self.phi
        self.residual = np.abs(self.phi)
        self.broken = self.broken | (running & (done | (sine <= columns.rounding)))
        self.basis.append(following)
        self.directions.append(w)
        self.rotations.append((cosine, sine))
        if len(self.directions) == self.equations.restart:
            self._restart(running)
        return u

    def _restart(self, running: np.ndarray) -> None:
        self.residual = self.columns.norm(self.r)
        still = running & (self.residual > STANDSTILL * self.first)
        self.stalled, self.broken = self.stalled | still, self.broken | still
        self._begin()

    def _orthogonal(self, q: Vectors, running: np.ndarray, iteration: int) -> tuple[list[Numbers], Vectors, Numbers]:
        """q made orthogonal to all vectors before: its products with them, what is left, and the norm of that."""
        columns = self.columns
        size = columns.norm(q)
        finite_product(np.where(running, size, 0.0), iteration)
        self.largest = np.maximum(self.largest, size)
        column = []
        for v in self.basis:
            along = columns.inner(v, q)
            q = q - columns.times(along, v)
            column.append(along)
        return column, q, columns.norm(q)

    def _rotated(self, column: list[Numbers]) -> tuple[list[Numbers], Numbers]:
        """The new column of H through the rotations before: the entries of R above the diagonal, and the corner."""
        above, last = [], column[0]
        for (cosine, sine), entry in zip(self.rotations, column[1:], strict=True):
            above.append(cosine * last + sine * entry)
            last = cosine * entry - sine * last
        return above, last
