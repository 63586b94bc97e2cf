"""The space of a symbolic tensor: its sizes, library and number type, everything but formula and data.

In: the spaces of the operands of an operation.  Out: the space of the result, by NumPy's broadcasting rule on the
batch axes and on i and j, or a `Clash` that says what does not fit.  Pure functions of small tuples, cached, because
every operation on LazyTensors calls `join`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from ..errors import DtypeError, PairfuseError, ShapeError, UnsupportedError
from ..lower.ranges import Ranges


@dataclass(frozen=True, slots=True)
class Symbol:
    """A variable without data: argument number `ind` of the call, of this vector length, along "i", "j" or "p"."""

    ind: int
    dim: int
    axis: str

    def __str__(self) -> str:
        return f"{LETTERS[self.axis]}({self.ind}, {self.dim})"


LETTERS = {"i": "Vi", "j": "Vj", "p": "Pm"}


class Space(NamedTuple):
    """What a formula lives on.

    ni, nj    numbers of rows and of columns; None when no variable is indexed by that axis
    batch     shape of the batch axes
    library   "numpy", "torch", or None for a formula without arrays
    dtype     "float32", "float64", on a GPU also "float16" and "bfloat16", or None while no array of a floating type
              takes part
    backend   the backend asked for by `K.backend = ...`
    device    the device of the torch tensors, "cpu" or "cuda:0"; None for NumPy and while only numbers take part
    is_complex  are the vectors of the formula complex numbers, that is, pairs (real part, imaginary part)?
    symbols   the variables that wait for their data, by number: what has some is reduced when it is called
    ranges    the pairs that take part in reductions, if not all: `K.ranges = ...`
    """

    ni: int | None = None
    nj: int | None = None
    batch: tuple[int, ...] = ()
    library: str | None = None
    dtype: str | None = None
    backend: str | None = None
    device: str | None = None
    symbols: tuple[Symbol, ...] = ()
    is_complex: bool = False
    ranges: Ranges | None = None

    @property
    def on_gpu(self) -> bool:
        """Is the data on another device than the CPU?"""
        return self.device is not None and self.device != "cpu"

    def along(self, axis: str) -> int | None:
        """Size of the axis "i" or "j"."""
        return self.ni if axis == "i" else self.nj

    @property
    def sizes(self) -> tuple[int, ...]:
        """(*batch, M, N) as NumPy would show it: 1 for an axis that no variable uses."""
        return (*self.batch, 1 if self.ni is None else self.ni, 1 if self.nj is None else self.nj)


EMPTY = Space()


class Clash(Exception):
    """Two operands that do not fit: the error to raise, in words, and the remedy."""

    def __init__(self, error: type[PairfuseError], text: str, hint: str) -> None:
        super().__init__(text)
        self.error, self.text, self.hint = error, text, hint


def join(a: Space, b: Space) -> Space:
    """The space of an operation on operands of these spaces."""
    if a.ranges is not None or b.ranges is not None:  # outside of the cache, which would keep their memory
        plain = join(a._replace(ranges=None), b._replace(ranges=None))
        return plain._replace(ranges=_ranges(a.ranges, b.ranges))
    try:
        return _join(a, b)
    except TypeError:  # sizes with which torch traces, and which vary, cannot be looked up
        return _join.__wrapped__(a, b)


@lru_cache(maxsize=4096)
def _join(a: Space, b: Space) -> Space:
    return Space(
        a.ni if a.ni == b.ni else _axis("i", a.ni, b.ni, a, b),
        a.nj if a.nj == b.nj else _axis("j", a.nj, b.nj, a, b),
        a.batch if a.batch == b.batch else _batch(a.batch, b.batch),
        _library(a.library, b.library),
        _dtype(a.dtype, b.dtype),
        _backend(a.backend, b.backend),
        _device(a.device, b.device),
        symbols=a.symbols if a.symbols == b.symbols else _symbols(a.symbols, b.symbols),
        is_complex=a.is_complex or b.is_complex,
    )


def _ranges(a: Ranges | None, b: Ranges | None) -> Ranges | None:
    if a is None or b is None or a.same(b):
        return a or b
    raise Clash(
        ShapeError,
        "the operands have different ranges.",
        "set the same on both, or give the reduction its own: K.sum(dim=1, ranges=...).",
    )


def _axis(axis: str, m: int | None, n: int | None, a: Space, b: Space) -> int | None:
    if m is None or n is None or m == n:
        return n if m is None else m
    if m == 1 or n == 1:
        return n if m == 1 else m
    what = "rows (axis i)" if axis == "i" else "columns (axis j)"
    if len(a.batch) != len(b.batch):
        hint = (
            "an array of three axes is (M, 1, D) or (1, N, D), without batch axes; "
            "with batch axes write out the four, u[:, :, None, :] or u[:, None, :, :]."
        )
    else:
        other = "x[None, :, :] makes a j-variable" if axis == "i" else "x[:, None, :] makes an i-variable"
        hint = f"all {axis}-variables of a formula have the same number of {what.split()[0]}, or 1; {other}."
    raise Clash(ShapeError, f"the numbers of {what} differ, {m} and {n}.", hint)


def _batch(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    rank = max(len(a), len(b))
    left, right = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    out: list[int] = []
    for m, n in zip(left, right, strict=True):
        if m != n and m != 1 and n != 1:
            raise Clash(
                ShapeError,
                f"the batch shapes {a} and {b} do not broadcast.",
                "the axes before the last three are batch axes; each pair must be equal or contain a 1. "
                "Arrays of 2 axes are read as (M, D) or (N, D) with axis=0 or 1, of 3 axes as (M, 1, D) or (1, N, D).",
            )
        out.append(n if m == 1 else m)
    return tuple(out)


def _library(a: str | None, b: str | None) -> str | None:
    if a is None or b is None or a == b:
        return a or b
    raise Clash(
        DtypeError,
        "a NumPy array and a torch tensor cannot be mixed.",
        "convert one of them: torch.from_numpy(x), or x.detach().numpy().",
    )


def _dtype(a: str | None, b: str | None) -> str | None:
    if a is None or b is None or a == b:
        return a or b
    raise Clash(
        DtypeError,
        f"the number types differ, {a} and {b}.",
        "there is no silent promotion; convert one of them, for example x.astype(np.float32) in NumPy "
        "or x.float() in torch. complex64 goes with float32, complex128 with float64.",
    )


def _backend(a: str | None, b: str | None) -> str | None:
    if a is None or b is None or a == b:
        return a or b
    raise Clash(ShapeError, f"the operands ask for different backends, {a!r} and {b!r}.", "set the same on both.")


def _device(a: str | None, b: str | None) -> str | None:
    if a is None or b is None or a == b:
        return a or b
    raise Clash(
        UnsupportedError,
        f"the tensors are on different devices, '{a}' and '{b}'.",
        f"move one of them, x.to('{b if a == 'cpu' else a}').",
    )


def _symbols(a: tuple[Symbol, ...], b: tuple[Symbol, ...]) -> tuple[Symbol, ...]:
    found = {s.ind: s for s in a}
    for s in b:
        known = found.setdefault(s.ind, s)
        if known != s:
            text = f"the argument number {s.ind} is declared twice, as {known} and as {s}."
            raise Clash(ShapeError, text, "give every symbolic variable a number of its own.")
    return tuple(found[ind] for ind in sorted(found))
