"""The words of the error messages: the user's call, the facts about the operands, a remedy.

In: operands and what is wrong.  Out: the text of an exception (design: first line the call, then the facts, then a
hint).  Nothing here is called unless something is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import COMPLEX
from ..errors import PairfuseError, message
from ..runtime import arrays
from .space import Clash

# How a call of an operation is written; the others are method calls.
OPERATORS = {
    "add": "x + y",
    "sub": "x - y",
    "mul": "x * y",
    "div": "x / y",
    "neg": "-x",
    "lt": "x < y",
    "le": "x <= y",
    "gt": "x > y",
    "ge": "x >= y",
    "eq": "x == y",
    "ne": "x != y",
    "dot": "x | y",
    "where": "where(x, y, z)",
    "min_d": "x.min(-1)",
    "max_d": "x.max(-1)",
    "argmin_d": "x.argmin(-1)",
    "argmax_d": "x.argmax(-1)",
}
NAMES = "xyzuvw"
# Rows whose first argument is not the object of the method: the operands in the order of the method.
USER_ORDER = {"weightedsqnorm": (1, 0), "weightedsqdist": (1, 2, 0)}


def call_text(name: str, count: int, params: Sequence[tuple[str, Any]] = ()) -> str:
    """The call of an operation on `count` operands, as the user wrote it: "x - y", "x.sqdist(y)"."""
    if name in OPERATORS:
        return OPERATORS[name]
    shown = [NAMES[k] for k in range(1, count)] + [f"{k}={v!r}" for k, v in params]
    return f"x.{name}({', '.join(shown)})"


def describe(operand: Any) -> str:
    """One operand in a line: "i-variable, shape (1000, 1, 3), float32"."""
    expr, space = getattr(operand, "_expr", None), getattr(operand, "_space", None)
    if expr is None or space is None:
        return describe_value(operand)
    what = {"i": "i-variable", "j": "j-variable", "p": "parameter"}.get(operand.axis_letter)
    if what is None:
        axes = " and ".join(sorted(expr.axes))
        what = f"formula of {axes}" if axes else "constant" if expr.is_const() else "formula of parameters"
    length = operand._length
    facts = [what, f"shape {space.sizes if length == 1 else (*space.sizes, length)}"]
    if space.is_complex:
        facts.append(COMPLEX.get(space.dtype, "complex"))
    elif space.dtype:
        facts.append(space.dtype)
    facts += ["torch"] if space.library == arrays.TORCH else []
    return ", ".join(facts)


def describe_value(value: Any) -> str:
    """A raw value in a line: "NumPy array, shape (3, 4), int64"."""
    kind = arrays.library(value)
    if kind is None:
        if hasattr(value, "shape") and hasattr(value, "__array__"):  # tables and columns
            return f"{type(value).__name__}, shape {tuple(value.shape)}"
        text = repr(value)
        return f"{type(value).__name__} {text if len(text) < 60 else text[:57] + '...'}"
    name = "NumPy array" if isinstance(value, np.ndarray) else "torch tensor"
    return f"{name}, shape {tuple(value.shape)}, {str(value.dtype).removeprefix('torch.')}"


def operand_facts(operands: Sequence[Any]) -> list[str]:
    return [f"{NAMES[k]}: {describe(v)}" for k, v in enumerate(operands)]


def operation_error(
    name: str,
    operands: Sequence[Any],
    params: Sequence[tuple[str, Any]],
    cause: Clash | PairfuseError,
    call: str = "",
) -> PairfuseError:
    """The error of an operation whose operands do not fit, or one of which is no operand at all."""
    operands = [operands[k] for k in USER_ORDER[name]] if name in USER_ORDER else operands
    call = call or call_text(name, len(operands), params)
    if isinstance(cause, Clash):
        return cause.error(message(f"{call}: {cause.text}", operand_facts(operands), cause.hint))
    head, _, rest = str(cause).partition("\n")
    place, _, text = head.partition(": ")
    if not (place.isidentifier() or place.startswith("LazyTensor(x")):
        text = head
    hint = rest.partition("Hint: ")[2]
    if "different lengths" in text:
        hint = "vectors must have equal lengths, or length 1; select matching components, for example x[..., :2]."
    return type(cause)(message(f"{call}: {text}", operand_facts(operands), hint))


def differentiable_instead(reduction: str) -> str:
    """What has a derivative, for a reduction that gives indices or numbers of terms: the remedy of an error."""
    if reduction == "count_nonzero":
        return "'sum' of a smooth function of the terms, such as sigmoid, has one."
    values = reduction.partition("_")[0].removeprefix("arg")
    return f"{values!r} gives the values at these indices, which have one."
