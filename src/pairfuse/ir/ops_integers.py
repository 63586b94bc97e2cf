"""The table of operations, part 6: the bits of integers.

In: nothing.  Out: the rows of these operations in `OPS`, and `check_integers`, which refuses numbers with a fraction
where a user writes such an operation.  Inside of formulas, operands are truncated like those of `to_index`.
"""
# The cells of a row are short functions whose arguments need no annotation:
# pyright: basic

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..errors import DtypeError, message
from .expr import OPS, Expr
from .rows import COMMUTATIVE, Interval, elementwise

BITS: Interval = (0.0, 250.0)


def _bitwise(name: str, ref: Any, llvm: str, symbol: str, doc: str) -> None:
    elementwise(
        name,
        2,
        COMMUTATIVE,
        operands="index",
        kind="index",
        ref=ref,
        partials=lambda out, x, y: (None, None),
        llvm_int=llvm,
        triton=f"({{0}} {symbol} {{1}})",
        domain=(BITS, BITS),
        doc=doc,
    )


_bitwise("bitwise_and", np.bitwise_and, "and_", "&", "The bits that both integers have; derivative 0.")
_bitwise("bitwise_or", np.bitwise_or, "or_", "|", "The bits that one of the integers has, or both; derivative 0.")
_bitwise("bitwise_xor", np.bitwise_xor, "xor", "^", "The bits in which the integers differ; derivative 0.")


def _count_ref(x: Any) -> Any:
    """numpy.bitwise_count, which NumPy 1 does not have."""
    size = np.abs(np.asarray(x, np.int64)).astype(np.uint64)
    return np.unpackbits(size[..., None].view(np.uint8), axis=-1).sum(-1, dtype=np.int64)


def _count_llvm(b: Any, x: Any) -> Any:
    zero = b.const(x.elem, 0)
    size = b.select(b.icmp("slt", x, zero), b.sub(zero, x), x)
    return b.intrinsic("ctpop", x.elem, size)


elementwise(
    "bitwise_count",
    1,
    operands="index",
    kind="index",
    ref=_count_ref,
    partials=lambda out, x: (None,),
    llvm_int=_count_llvm,
    triton="libdevice.popc(tl.abs({0})).to(index)",
    domain=(BITS,),
    doc="The number of bits that are 1 in the absolute value of the integer (as in NumPy); derivative 0.\n"
    "x.bitwise_xor(y).bitwise_count().sum(-1) is the Hamming distance of packed bits, as numpy.packbits makes them.",
)


def check_integers(name: str, args: Iterable[Expr]) -> None:
    """Raise DtypeError if a user applies an operation on bits to numbers that may have a fraction."""
    if OPS[name].operands == "index" and not all(map(_is_integer, args)):
        hint = "integer arrays, index_i() and index_j(), whole numbers, comparisons."
        raise DtypeError(message(f"{name}: the bits of real numbers have no meaning.", hint=hint))


def _is_integer(x: Expr) -> bool:
    return x.kind != "real" or (x.is_const() and float(x.param("value")).is_integer())
