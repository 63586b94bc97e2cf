"""Names that programs may import and that have no meaning here: importing them works, using them says why not.

In: the full name.  Out: an `Absent`, which raises on every use, or an AttributeError for names that KeOps lacks, too.
"""

from __future__ import annotations

from typing import Any, NoReturn

from pairfuse.errors import UnsupportedError, message

NO_COMPILER = (
    "Pairfuse compiles with LLVM inside of the process: there is no C++ compiler, no header and no shared library.",
    "leave this step out; pairfuse.config holds the settings, `python -m pairfuse info` prints what is installed.",
)
NO_CODE = (
    "it writes C++ for KeOps' engine, which Pairfuse does not have.",
    "write the operation with LazyTensor methods or in a formula string; K.explain(source=True) shows the code made.",
)
NO_ENGINE = (
    "it is a step of KeOps' own engine, which Pairfuse does not have.",
    "use LazyTensor, Genred or KernelSolve, which do the whole of it.",
)
# The first prefix that fits says why.
REASONS = {
    "keopscore.formulas": NO_CODE,
    "keopscore.utils": NO_CODE,
    "keopscore.mapreduce": NO_CODE,
    "keopscore": NO_COMPILER,
    "pykeops.config": NO_COMPILER,
    "pykeops.common.keops_io": NO_COMPILER,
    "pykeops.pykeops_nvrtc_name": NO_COMPILER,
    "pykeops": NO_ENGINE,
}


class NotHere(UnsupportedError, AttributeError):
    """A name of KeOps that is used and has no meaning here."""


class Absent:
    """Something of KeOps that Pairfuse does not have: it can be imported and compared, every use is an error."""

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise refusal(self.__name__)

    __call__ = __mro_entries__ = __getitem__ = __iter__ = __len__ = __enter__ = __fspath__ = _refuse
    __add__ = __radd__ = __int__ = __float__ = __index__ = _refuse

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise refusal(f"{self.__name__}.{name}")

    def __instancecheck__(self, instance: object) -> bool:
        return False  # nothing here is one

    def __subclasscheck__(self, cls: type) -> bool:
        return False

    def __repr__(self) -> str:
        return f"<{self.__name__}: not in Pairfuse>"


def refusal(name: str, *, why: tuple[str, str] | None = None) -> NotHere:
    """The error for this name of KeOps."""
    text, hint = why or next(reason for prefix, reason in REASONS.items() if name.startswith(prefix))
    return NotHere(message(f"{name}: {text}", hint=hint))
