"""Operators between a tensor and a LazyTensor, as torch asks for them: `tensor - x`, or `torch.sub(tensor, x)`.

In: the function of torch that was called, and its arguments.  Out: the symbolic tensor that the operator of LazyTensor
gives.  torch is not imported: its functions are known by their names.

Without it Python would find `x.__rsub__` by itself, once torch has given up; torch.compile does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import SymbolicError, message
from ..base import Lazy
from ..messages import describe

# The name of torch's function of (tensor, x): the method of x that does the same with the tensor as its argument.
# `tensor += x` makes a symbolic tensor, too.
REFLECTED = {
    "add": "__radd__",
    "sub": "__rsub__",
    "mul": "__rmul__",
    "div": "__rtruediv__",
    "pow": "__rpow__",
    "matmul": "__rmatmul__",
    "remainder": "__rmod__",
    "floordiv": "__rfloordiv__",
    "floor_divide": "__rfloordiv__",
    "or": "__ror__",
    "bitwise_or": "__ror__",
    "lt": "__gt__",
    "le": "__ge__",
    "gt": "__lt__",
    "ge": "__le__",
    "eq": "__eq__",
    "ne": "__ne__",
    # what torch calls for x - tensor
    "radd": "__add__",
    "rsub": "__sub__",
    "rmul": "__mul__",
    "rdiv": "__truediv__",
    "rpow": "__pow__",
    "rmatmul": "__matmul__",
    "rmod": "__mod__",
    "rfloordiv": "__floordiv__",
}


def torch_function(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> Any:
    """The result of a function of torch that was called on a symbolic tensor."""
    method = method_for(function)
    if method is not None and len(args) == 2 and not kwargs and isinstance(args[1], Lazy):
        return getattr(args[1], method)(args[0])
    raise _refusal(getattr(function, "__name__", str(function)), args)


def method_for(function: Any) -> str | None:
    """The method of a LazyTensor for torch's function of (tensor, x)."""
    return REFLECTED.get(getattr(function, "__name__", "").strip("_"))


def _refusal(name: str, args: Sequence[Any]) -> SymbolicError:
    operand = next((a for a in args if isinstance(a, Lazy)), None)
    facts = [f"x: {describe(operand)}"] if operand is not None else []
    has = operand is not None and hasattr(operand, name)
    hint = f"x.{name}(...) is the operation on formulas." if has else "reduce x over i or j first: that is a tensor."
    return SymbolicError(message(f"torch.{name}(x): x is a formula, torch computes with tensors.", facts, hint))
