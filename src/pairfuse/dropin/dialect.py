"""What expressions mean in programs written for KeOps, where the LazyTensor of Pairfuse follows NumPy and torch.

In: as the LazyTensor of Pairfuse.  Out: the same numbers, read as KeOps reads the expression:

- `x[k]` and `x[a:b]` select components of the vectors, not rows
- `x | y` is the scalar product, of comparisons, too; `sum`, `min`, `max`, `argmin` and `argmax` without an axis go over
  the components
- an array of one axis is a vector of parameters, whatever its length
- `ndim` is the length of the vectors, `dim()` counts the axis that `shape` leaves out
- `keepdim` and `keepdims` change nothing
"""

from __future__ import annotations

from typing import Any, TypeVar

from pairfuse.frontend.lazytensor import LazyTensor
from pairfuse.frontend.vectors import Vectors

T = TypeVar("T", bound="Dialect")
COMPONENTS = -1


class Dialect(LazyTensor):
    """A LazyTensor that reads expressions as KeOps does."""

    __slots__ = ()

    @property
    def ndim(self) -> int:
        """Length of the vectors; of complex ones, twice that."""
        return self._expr.dim

    def dim(self) -> int:
        """Number of axes: that of the batch plus 3."""
        return len(self._space.batch) + 3

    def __getitem__(self, key: Any) -> Any:
        """x[k], x[a:b], x[:, :, k]: components of the vectors."""
        return Vectors.__getitem__(self, key)

    def __or__(self: T, other: Any) -> T:
        return self._apply("dot", other)

    def __ror__(self: T, other: Any) -> T:
        return self._apply_after("dot", other)

    def _operand(self: T, name: str, value: Any) -> T:
        return self._lift(value)

    def _reduce(self, name: str, axis: Any, dim: Any, options: dict[str, Any], *args: Any, **named: Any) -> Any:
        return super()._reduce(name, axis, dim, _without_keepdim(options), *args, **named)

    def sum(self, axis: Any = COMPONENTS, dim: Any = None, **options: Any) -> Any:
        """Sum over i, over j, or (the default) over the components."""
        return super().sum(axis if dim is None else None, dim, **options)

    def min(self, axis: Any = COMPONENTS, dim: Any = None, **options: Any) -> Any:
        """Minimum over i, over j, or (the default) over the components."""
        return super().min(axis if dim is None else None, dim, **options)

    def max(self, axis: Any = COMPONENTS, dim: Any = None, **options: Any) -> Any:
        """Maximum over i, over j, or (the default) over the components."""
        return super().max(axis if dim is None else None, dim, **options)

    def argmin(self, axis: Any = COMPONENTS, dim: Any = None, **options: Any) -> Any:
        """Index of the minimum over i, over j, or (the default) over the components."""
        return super().argmin(axis if dim is None else None, dim, **options)

    def argmax(self, axis: Any = COMPONENTS, dim: Any = None, **options: Any) -> Any:
        """Index of the maximum over i, over j, or (the default) over the components."""
        return super().argmax(axis if dim is None else None, dim, **options)


def _without_keepdim(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in ("keepdim", "keepdims")}
