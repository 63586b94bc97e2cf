"""The exceptions of Pairfuse: what a user sees when something is wrong.

Every message has three parts: the user's call, the facts, a remedy.  Each class also derives from the built-in
exception that users of NumPy expect for the same mistake.
"""

from __future__ import annotations

from collections.abc import Iterable

from numpy.linalg import LinAlgError


class PairfuseError(Exception):
    """Base class of all errors that Pairfuse raises on purpose."""


class ShapeError(PairfuseError, ValueError):
    """Shapes, sizes, axes or vector lengths that do not fit together."""


class SelectionError(ShapeError, IndexError):
    """An index, a slice or a mask that selects nothing of a symbolic matrix."""


class DtypeError(PairfuseError, ValueError, TypeError):
    """A data type that is not supported, or types that cannot be mixed."""


class FormulaError(PairfuseError, ValueError):
    """A formula that has no meaning: unknown name, wrong number of arguments, syntax."""


class UnsupportedError(PairfuseError, NotImplementedError, ValueError):
    """A request that makes sense but that Pairfuse does not offer, with what to use instead."""


class SymbolicError(UnsupportedError, TypeError):
    """A request for numbers where there is only a formula."""


class KeywordError(PairfuseError, TypeError):
    """A keyword argument that does not exist, or a wrong number of arguments."""


class DenseSizeError(PairfuseError, MemoryError, ValueError):
    """The entries of a symbolic matrix were asked for, and would take more memory than the limit allows."""


class DeviceMemoryError(PairfuseError, MemoryError, RuntimeError):
    """Too little memory on a GPU. Also a RuntimeError, as torch's own error is."""


class HostMemoryError(PairfuseError, MemoryError):
    """Too little memory for a result, or for the work of the threads."""


class SolverError(PairfuseError, LinAlgError):
    """A linear system that cannot be solved: numbers that are not finite, or a matrix that is not positive definite.

    Also a ValueError, as NumPy's LinAlgError is.
    """


class ConvergenceWarning(UserWarning):
    """An iteration ended before it reached the tolerance; the result is the best that was found."""


class CompileError(PairfuseError, RuntimeError):
    """The code generator or LLVM refused a kernel: a defect of Pairfuse, with the text needed to report it."""


WIDEST = 400  # characters of a line of a text


def shortened(text: str, most: int = WIDEST) -> str:
    """The text, every line of it cut to this length: what the user wrote may be of any size."""
    return "\n".join([line if len(line) <= most else f"{line[: most - 4]} ..." for line in text.split("\n")])


def shown_number(value: int) -> str:
    """A whole number in a text; of very large ones, the size."""
    if abs(value) < 10**20:
        return str(value)
    return f"{'-' if value < 0 else ''}10**{int((abs(value).bit_length() - 1) * 0.30103)} or so"


def message(call: str, facts: Iterable[str] | str = (), hint: str = "") -> str:
    """Put an error text together: first line the call, then the facts, then the hint."""
    lines = [call]
    lines += ["  " + fact for fact in ([facts] if isinstance(facts, str) else facts)]
    if hint:
        lines.append("  Hint: " + hint)
    return shortened("\n".join(lines))
