"""Formula strings of programs written for KeOps: `Genred`, `KernelSolve`, `generic_sum` and its kin.

In: as the classes of Pairfuse.  Out: the same numbers.  What differs: places that no term fills have the index 0, and a
linear system stops at a residual of root mean square `eps`, 1e-6 if nothing is said, whatever the scale of b.
"""

from __future__ import annotations

from typing import Any

from pairfuse.frontend.strings import genred, kernel_solve
from pairfuse.frontend.strings.language import declared

from .deferred import filled


class Genred(genred.Genred):
    """`pairfuse.numpy.Genred`, on arrays and on tensors."""

    def __call__(
        self,
        *args: Any,
        backend: str = "auto",
        device_id: int = -1,
        ranges: Any = None,
        out: Any = None,
        **options: Any,
    ) -> Any:
        results = super().__call__(*args, backend=backend, device_id=device_id, ranges=ranges, out=out, **options)
        return filled(self.reduction_op, results)


class KernelSolve(kernel_solve.KernelSolve):
    """`pairfuse.numpy.KernelSolve`, with the optional arguments in the order that they have in PyKeOps for NumPy."""

    rec_multVar_highdim = None

    def __call__(
        self,
        *args: Any,
        backend: str = "auto",
        device_id: int = -1,
        alpha: Any = 1e-10,
        eps: float | None = 1e-6,
        ranges: Any = None,
        **options: Any,
    ) -> Any:
        return super().__call__(
            *args, backend=backend, device_id=device_id, alpha=alpha, eps=eps, ranges=ranges, **options
        )

    @property
    def optional_flags(self) -> dict[str, Any]:
        """The options of the accumulation that are not the default."""
        return dict(self._options)

    @property
    def varinvpos(self) -> int:
        """The place of the unknown among the arguments."""
        return self._symbol.ind


class TorchKernelSolve(KernelSolve):
    """The same, with the optional arguments in the order that they have in PyKeOps for torch."""

    def __init__(
        self,
        formula: str,
        aliases: Any,
        varinvalias: str,
        axis: int = 0,
        dtype_acc: str = "auto",
        use_double_acc: bool = False,
        sum_scheme: str = "auto",
        enable_chunks: bool = True,
        rec_multVar_highdim: Any = None,
        dtype: Any = None,
        cuda_type: Any = None,
        use_fast_math: bool = True,
    ) -> None:
        super().__init__(
            formula,
            aliases,
            varinvalias,
            axis,
            dtype=dtype,
            cuda_type=cuda_type,
            dtype_acc=dtype_acc,
            use_double_acc=use_double_acc,
            sum_scheme=sum_scheme,
        )


def generic_sum(formula: str, output: str, *aliases: str, **options: Any) -> Genred:
    """The sum of a formula in text: see `pairfuse.numpy.generic_sum`."""
    return _generic("Sum", formula, output, aliases, options)


def generic_logsumexp(formula: str, output: str, *aliases: str, **options: Any) -> Genred:
    """The log-sum-exp of a formula in text."""
    return _generic("LogSumExp", formula, output, aliases, options)


def generic_argmin(formula: str, output: str, *aliases: str, **options: Any) -> Genred:
    """The index of the smallest value of a formula in text."""
    return _generic("ArgMin", formula, output, aliases, options)


def generic_argkmin(formula: str, output: str, *aliases: str, **options: Any) -> Genred:
    """The indices of the K smallest values of a formula in text; K is the length of the output."""
    return _generic("ArgKMin", formula, output, aliases, options)


def _generic(op: str, formula: str, output: str, aliases: tuple[str, ...], options: dict[str, Any]) -> Genred:
    plain = genred._generic(f"generic_{op.lower()}", op, formula, output, aliases, options)  # with its errors
    dim = declared(output, 0)[1].dim
    more = {"opt_arg": dim, **options} if op == "ArgKMin" else options
    return Genred(formula, aliases, op, plain.axis, **more)  # type: ignore[arg-type]
