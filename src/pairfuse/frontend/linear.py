"""A LazyTensor as a linear operator: K @ v, v @ K, K.T, and the protocol of scipy.sparse.linalg.

In: a symbolic tensor of dimension 1, arrays on its right or left.  Out: arrays; the matrix is never formed, and every
right-hand side costs one more number per pair, not one more pass.
"""

from __future__ import annotations

from functools import partial
from operator import index
from typing import Any, TypeVar

import numpy as np

from ..dtypes import COMPLEX
from ..errors import DtypeError, FormulaError, ShapeError, message
from ..runtime import arrays
from .base import Binding, Lazy, transposed, variable, variable_of_integers
from .complex import ComplexNumbers
from .deferred import Task, perform
from .evaluate import Settings, dtype_of
from .messages import describe, describe_value
from .reduce import reduce, scalar_formula
from .reductions import Reductions
from .space import Clash, Space, join

K = TypeVar("K", bound="LinearOperator")
OTHER = {"i": "j", "j": "i", "p": "p"}


class LinearOperator(Reductions, ComplexNumbers):
    """Matrix products with dense vectors and matrices."""

    __slots__ = ()

    def __matmul__(self, v: Any, **options: Any) -> Any:
        """K @ v = sum_j K_ij v_j.

        Arguments: v: array of shape (N,), or (*batch, N, E) for E right-hand sides at once.
        Returns: array of shape (M,) (with the batch axes of K, if any), or (*batch, M, E). Differentiable.
        Raises: ShapeError unless K is one number per pair and v has N rows; DtypeError for other number types.

        Example::

            >>> import numpy as np
            >>> from pairfuse.numpy import Vi, Vj
            >>> K = Vi(np.array([[1.0], [2.0]])) * Vj(np.array([[1.0], [10.0], [100.0]]))
            >>> K @ np.ones(3)
            array([111., 222.])
        """
        return _product(self, v, "j", "K @ v", options)

    def __rmatmul__(self, v: Any) -> Any:
        """v @ K = sum_i v_i K_ij, for v of shape (M,) or (*batch, E, M)."""
        if arrays.library(v) is not None and v.ndim > 1:
            return _product(self, v.swapaxes(-1, -2), "i", "v @ K", {}).swapaxes(-1, -2)
        return _product(self, v, "i", "v @ K", {})

    def matvec(self, v: Any, **options: Any) -> Any:
        """K @ v, as SciPy's LinearOperator calls it: v may also be a NumPy vector of another floating type."""
        return _for_scipy(self, v, "j", "K.matvec(v)", options)

    def rmatvec(self, v: Any, **options: Any) -> Any:
        """K.H @ v, which is K.T @ v where K is real; see `matvec`."""
        return _for_scipy(self.conj(), v, "i", "K.rmatvec(v)", options)

    matmat = matvec
    rmatmat = rmatvec

    def t(self: K) -> K:
        """The transpose: i and j exchange their roles, batch axes and components stay."""
        space = self._space
        ranges = None if space.ranges is None else space.ranges.swapped()
        bindings = tuple([Binding(b.data, OTHER[b.axis]) for b in self._bindings])
        return self._make(transposed(self._expr), bindings, space._replace(ni=space.nj, nj=space.ni, ranges=ranges))

    @property
    def T(self: K) -> K:
        """The transpose, `t()`."""
        return self.t()

    @property
    def H(self: K) -> K:
        """The conjugate transpose; that of a real matrix is its transpose."""
        return self.t().conj()


def _product(matrix: Lazy, v: Any, over: str, call: str, options: dict[str, Any]) -> Any:
    """sum over the axis `over` of K_ij v, with v a vector or a matrix of that many rows."""
    v, kind = _right_hand_side(matrix, v, call)
    scalar_formula(matrix, call)
    rows = v[..., None] if v.ndim == 1 else v
    count = matrix._space.along(over)
    if v.ndim == 0 or (count is not None and rows.shape[-2] != count):
        expected = f"({count},) or (*batch, {count}, E)" if call != "v @ K" else f"({count},) or (*batch, E, {count})"
        given = "a single number" if v.ndim == 0 else f"{rows.shape[-2]} entries along {over}, K has {count}"
        facts = [f"K: {describe(matrix)}", f"v: {describe_value(v)}"]
        raise ShapeError(message(f"{call}: v has {given}.", facts, f"v has the shape {expected}."))
    vector = rows_of(matrix, rows, over, kind)
    try:
        join(matrix._space, vector._space)
    except Clash as cause:
        facts = [f"K: {describe(matrix)}", f"v: {describe_value(v)}"]
        raise cause.error(message(f"{call}: {cause.text}", facts, cause.hint)) from None
    terms = matrix._apply("mul", vector)
    return perform(Task(call, over, partial(_summed, over, v.ndim == 1), record="sum"), (terms,), options)


def _right_hand_side(matrix: Lazy, v: Any, call: str) -> tuple[Any, str]:
    """v as an array, and its library; or the error that says why it is none."""
    kind = arrays.library(v)
    if kind is not None:
        return v, kind
    facts = [f"K: {describe(matrix)}", f"v: {describe(v)}"]
    if isinstance(v, Lazy):
        hint = "(K * x).sum(dim=...) multiplies by a symbolic tensor."
        raise FormulaError(message(f"{call}: v is not an array.", facts, hint))
    rows = column(v)
    if rows is None:
        raise DtypeError(message(f"{call}: v is not an array.", facts, "pass an array."))
    return rows, arrays.NUMPY


def column(v: Any) -> Any:
    """A list of numbers as an array (N,), and what else is nearly an array; None for anything else."""
    if isinstance(v, (list, tuple)) and v and all(isinstance(n, (int, float, complex)) for n in v):
        return np.array(v)
    return arrays.nearly(v)


def _summed(over: str, flat: bool, settings: Settings, terms: Lazy) -> Any:
    """The product from its terms; `flat`: a vector, because the right-hand side was one."""
    result = reduce(terms, "sum", over, settings)[0]
    return result[..., 0] if flat else result


def rows_of(matrix: Lazy, rows: Any, axis: str, kind: str) -> Lazy:
    """The array (*batch, rows, E) as a variable of this axis."""
    rows = arrays.in_single(rows, kind)
    numbers = arrays.is_complex(rows, kind)
    dtype: str | None = arrays.number_type(rows.real if numbers else rows, kind)
    rows = arrays.plain(rows, kind)
    shape = tuple(rows.shape)
    rows = arrays.as_pairs(rows, kind) if numbers else rows
    size = {"ni" if axis == "i" else "nj": shape[-2]}
    device = arrays.device(rows, kind)
    space = Space(
        batch=shape[:-2],
        library=kind,
        dtype=None if dtype == arrays.INTEGER else dtype,
        device=device,
        is_complex=numbers,
        **size,
    )
    make = variable_of_integers if dtype == arrays.INTEGER else variable
    return matrix._make(make(axis, index(rows.shape[-1])), (Binding(rows, axis),), space)


def _for_scipy(matrix: Lazy, v: Any, over: str, call: str, options: dict[str, Any]) -> Any:
    """SciPy works on NumPy vectors of its own choice of type: convert to the operator's precision, and back."""
    kind = matrix._space.library
    if not isinstance(v, np.ndarray):
        return _product(matrix, v, over, call, options)
    real = dtype_of(matrix._space)
    dtype = COMPLEX.get(real, real) if v.dtype.kind == "c" else real
    # Copied, because torch does not take read-only memory.
    given = np.array(v, dtype=dtype) if kind == arrays.TORCH else v.astype(dtype)
    vector = arrays.wrap(given, kind)
    if matrix._space.on_gpu:
        vector = vector.to(matrix._space.device)
    result = _product(matrix, vector, over, call, options)
    if matrix._space.on_gpu:
        result = result.cpu()
    back = v.dtype if v.dtype.kind in "fc" else np.dtype(real)
    back = np.result_type(back, np.complex64) if matrix._space.is_complex else back
    return arrays.view(result, str(back)) if kind == arrays.TORCH else result.astype(back, copy=False)
