"""LazyTensor: the symbolic matrix that users write formulas with.

In: arrays.  Out: formulas, and by reductions arrays.  This file holds the constructor, the attributes and what Python
asks of any object; the operations are in methods.py and vectors.py, the reductions in reductions.py and linear.py.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from types import FunctionType
from typing import Any, TypeVar

from ..dtypes import COMPLEX
from ..errors import ShapeError, SymbolicError, message
from ..ir.expr import OPS, Expr, const, leaf_of
from ..ir.text import parse, to_text
from ..runtime import arrays
from . import options, protocols
from .base import Binding, Bindings
from .calculus import Calculus
from .deferred import formula_text, known_data
from .derivatives.value_and_grad import ValueAndGrad
from .entries.matrix import Entries
from .evaluate import dtype_of
from .inspection import Inspection
from .messages import describe
from .methods import install
from .ranges import as_given, set_on
from .space import Clash, Space, Symbol
from .symbolic import CATEGORIES
from .systems.solve import LinearSystems
from .variables import factor, parts

T = TypeVar("T", bound="LazyTensor")


class LazyTensor(Entries, LinearSystems, Calculus, ValueAndGrad, Inspection):
    """A symbolic tensor of shape (*batch, M, N, D): a formula in variables x_i, y_j and parameters.

    Operations only extend the formula; a reduction over i or j computes, without ever storing the M x N entries.

    Arguments:
        x: what the variable stands for

            - array (*batch, M, 1, D): i-variable; (*batch, 1, N, D): j-variable; (*batch, 1, 1, D): parameter
            - array (M, D) with axis=0: i-variable; (N, D) with axis=1: j-variable; (1, D) with axis=2: parameter
            - array (D,), list of numbers, number: parameter (integers are constants of the formula)

        axis: 0, 1 or 2 for arrays of two axes.

    Arrays are NumPy arrays or torch tensors of float32 or float64, with any strides, and are not copied. Integers and
    truth values are converted to the type of the others; alone they become float64 (NumPy) or torch's default type.
    Complex numbers, complex64 and complex128, are computed in pairs of float32 and float64 (docs/complex.md).

    Raises:
        ShapeError: the shape does not say which axis x is indexed by.
        DtypeError, UnsupportedError: a type, or a device, that cannot be computed with.

    Example::

        >>> import numpy as np
        >>> from pairfuse.numpy import LazyTensor
        >>> x, y = np.arange(6.0).reshape(2, 3), np.ones((4, 3))
        >>> K = (-((LazyTensor(x[:, None, :]) - LazyTensor(y[None, :, :])) ** 2).sum(-1)).exp()
        >>> K.shape
        (2, 4)
        >>> K.sum(dim=1).shape
        (2, 1)
    """

    __slots__ = ()

    def __init__(self, x: Any, axis: int | None = None) -> None:
        self._expr, self._bindings, self._space = parts(x, axis)

    @classmethod
    def _lift(cls: type[T], value: Any) -> T:
        kind = type(value)
        if kind is int or kind is bool:
            return cls._make(constant(int(value)))
        if kind is complex:
            return cls._make(*factor(value))
        return cls._make(*parts(value))

    def _operand(self: T, name: str, value: Any) -> T:
        lifted = self._lift(value)
        count, kind = lifted._length, OPS[name]
        takes_one = 1 < count == self._space.nj and self._length == 1 and (kind.elementwise or name == "dot")
        if takes_one and getattr(value, "ndim", 1) == 1:
            raise TWO_MEANINGS  # NumPy would scale the columns, KeOps makes vectors
        return lifted

    # -------------------------------------------------- attributes
    @property
    def shape(self) -> tuple[int, ...]:
        """(*batch, M, N, D); D is left out when it is 1, and an axis that no variable uses counts 1.

        Complex components count once.
        """
        length = self._length
        return self._space.sizes if length == 1 else (*self._space.sizes, length)

    @property
    def ndim(self) -> int:
        """Number of axes, the length of `shape`."""
        return len(self._space.batch) + (2 if self._length == 1 else 3)

    def dim(self) -> int:
        """Number of axes, in torch's words."""
        return self.ndim

    @property
    def D(self) -> int:
        """Length of the vectors, also where it is 1 and `shape` leaves it out."""
        return self._length

    @property
    def batchdims(self) -> tuple[int, ...] | None:
        """Shape of the batch axes, None without."""
        return self._space.batch or None

    @property
    def nbatchdims(self) -> int:
        """Number of batch axes."""
        return len(self._space.batch)

    @property
    def ni(self) -> int | None:
        """M, or None if no variable is indexed by i."""
        return self._space.ni

    @property
    def nj(self) -> int | None:
        """N, or None if no variable is indexed by j."""
        return self._space.nj

    @property
    def axis(self) -> int | None:
        """0 for an i-variable, 1 for a j-variable, 2 for a parameter, None for a formula."""
        letter = self.axis_letter
        return None if letter is None else CATEGORIES[letter]

    @property
    def dtype(self) -> str | None:
        """ "float32", "float64", "complex64" or "complex128": the type of the results; None if no array takes part."""
        real = dtype_of(self._space) if self._space.library else self._space.dtype
        return COMPLEX.get(real, real) if real and self._space.is_complex else real

    @property
    def variables(self) -> tuple[Any, ...]:
        """The data of the inputs of the formula, in its numbering; symbolic variables have none."""
        return tuple(known_data(self._bindings))

    @property
    def symbolic_variables(self) -> tuple[tuple[int, int, int], ...]:
        """(number, length, category) of the variables without data; the category is 0 for i, 1 for j, 2 else."""
        return tuple((s.ind, s.dim, CATEGORIES[s.axis]) for s in self._space.symbols)

    @property
    def ind(self) -> int | None:
        """The number of a symbolic variable, `Vi(ind, dim)`; None for everything else."""
        data = self._bindings[leaf_of(self._expr).param("slot")].data if self.axis_letter is not None else None
        return data.ind if type(data) is Symbol else None

    @property
    def formula(self) -> str:
        """The formula in text; symbolic variables come first, x0_i[3] is `Vi(0, 3)`."""
        return formula_text(self)

    @property
    def backend(self) -> str | None:
        """The backend of the reductions of this formula and of what is made of it; None chooses."""
        return self._space.backend

    @backend.setter
    def backend(self, name: str | None) -> None:
        options.backend_name("K.backend = ...", name)
        self._space = self._space._replace(backend=None if name == "auto" else name)

    @property
    def ranges(self) -> tuple[Any, ...] | None:
        """The pairs (i, j) that take part in the reductions of this formula and of what is made of it; None: all.

        Six integer arrays, (ranges_i, slices_i, redranges_j, ranges_j, slices_j, redranges_i), as
        `pairfuse.numpy.cluster.from_matrix` makes them (docs/block-sparse.md).
        """
        ranges = self._space.ranges
        return None if ranges is None else as_given(ranges)

    @ranges.setter
    def ranges(self, value: Any) -> None:
        self._space = set_on("K.ranges = ...", self._space, value)

    # -------------------------------------------------- what Python asks
    def __str__(self) -> str:
        facts = [f"formula: {self.formula}", f"shape: {self.shape}", f"type: {self.dtype or 'that of the arrays'}"]
        if self._space.symbols:
            facts.insert(1, f"symbolic variables: {', '.join(map(str, self._space.symbols))}")
        batch = self.nbatchdims
        facts.append(f"lazy: nothing is computed before a reduction over i (dim={batch}) or j (dim={batch + 1})")
        return message("Pairfuse LazyTensor", facts)

    def __repr__(self) -> str:
        text = self.formula
        text = text if len(text) <= 80 else text[:77] + "..."
        batch = self.nbatchdims
        dtype = self.dtype or "any type"
        return f"LazyTensor({text}, shape={self.shape}, {dtype}; reduce with dim={batch} (i) or dim={batch + 1} (j))"

    def __reduce__(self) -> tuple[Any, ...]:
        # As text, because pickle follows nodes recursively, and formulas may be deep.
        return from_text, (type(self), to_text(self._expr), self._bindings, self._space)

    def __copy__(self: T) -> T:
        return self._make(self._expr, self._bindings, self._space)

    def __deepcopy__(self: T, memo: dict[int, Any]) -> T:
        """Formula and space are immutable; the arrays are copied (a tensor that is not a leaf, by clone)."""
        bindings = tuple(Binding(_copied(b.data, memo), b.axis) for b in self._bindings)
        return self._make(self._expr, bindings, self._space)

    def __bool__(self) -> bool:
        raise self._not_dense("bool(x)", "a formula is neither true nor false", "x.any(dim=1) and x.all(dim=1) reduce.")

    def __len__(self) -> int:
        raise self._not_dense("len(x)", "a formula has several sizes", "x.shape, x.ni, x.nj.")

    def __iter__(self) -> Any:
        raise self._not_dense(
            "iteration over x", "nothing is computed before it is asked for", "x.blocks(n) goes over the rows."
        )

    def __float__(self) -> float:
        raise self._not_dense("float(x)", "nothing is computed before a reduction", "x.sum(dim=1) gives an array.")

    __int__ = __index__ = __complex__ = __float__  # type: ignore[assignment]

    # Functions of NumPy and torch on a formula, and their operators with an array on the left: see protocols.py.
    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        return protocols.ufunc(function, method, inputs, keywords)

    def __array_function__(self, function: Any, types: Any, args: Any, keywords: Any) -> Any:
        return protocols.call("np", function.__name__, args, dict(keywords))

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return protocols.torch_function(func, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(protocols.unknown_name(self, name))

    def _not_dense(self, call: str, why: str, hint: str) -> SymbolicError:
        return SymbolicError(message(f"{call}: {why}.", f"x: {describe(self)}", hint))


TWO_MEANINGS = Clash(
    ShapeError,
    "an array of as many numbers as the matrix has columns has two meanings.",
    "Vj(y[:, None]) is one number for each column; Pm(y) is a vector of parameters, the same for all pairs; "
    "K @ y is the product of a matrix.",
)


def name_methods(cls: type) -> None:
    """Let Python's own errors say LazyTensor.clamp() wherever the method is written."""
    for base in cls.__mro__[1:-1]:
        for name, method in vars(base).items():
            if isinstance(method, FunctionType):
                method.__qualname__ = f"{cls.__name__}.{name}"


def from_text(cls: type[T], text: str, bindings: Bindings, space: Space) -> T:
    """The symbolic tensor of a formula in text (used by pickle)."""
    return cls._make(parse(text), bindings, space)


def _copied(data: Any, memo: dict[int, Any]) -> Any:
    if arrays.library(data) == arrays.TORCH and not data.is_leaf:
        return data.clone()
    return copy.deepcopy(data, memo)


@lru_cache(maxsize=1024)
def constant(value: int) -> Expr:
    return const(value)


install(LazyTensor)
name_methods(LazyTensor)
