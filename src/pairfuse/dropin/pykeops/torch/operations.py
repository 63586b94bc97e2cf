"""`pykeops.torch.operations`: linear systems of formula strings."""

from __future__ import annotations

from typing import Any

import pairfuse.torch


class KernelSolve(pairfuse.torch.KernelSolve):
    """`pairfuse.torch.KernelSolve`, with the optional arguments in the order that they have in PyKeOps for torch."""

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


__all__ = ["KernelSolve"]
