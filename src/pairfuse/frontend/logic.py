"""What `|`, `&`, `^`, `~` and `x.where(condition, y)` mean: it depends on whether their operands are conditions.

In: operands, one of which is symbolic.  Out: a symbolic tensor.  A condition is a comparison, what is made of
comparisons, and truth values (True, an array of booleans). KeOps writes the scalar product of vectors as `x | y`, which
stays; where one operand is a condition and the other is not, neither meaning is likely to be meant.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import FormulaError, message
from ..runtime import arrays
from .base import Lazy
from .messages import operand_facts

SIGNS = {"or": "|", "and": "&", "xor": "^"}


def connected(word: str, x: Any, y: Any) -> Any:
    """x | y, x & y or x ^ y."""
    lazy = x if isinstance(x, Lazy) else y
    conditions = is_condition(x), is_condition(y)
    if all(conditions):
        return _applied(lazy, f"logical_{word}", x, y)
    if not any(conditions):
        if is_whole(x) and is_whole(y):
            return _applied(lazy, f"bitwise_{word}", x, y)
        if word == "or":
            return _applied(lazy, "dot", x, y)
    sign = SIGNS[word]
    facts = [f"{n}: {'a condition' if c else 'no condition'}" for n, c in zip("xy", conditions, strict=True)]
    hint = f"compare with a number first, (x > 0) {sign} (y > 0)"
    hint += "; the scalar product of two vectors is x.dot(y)." if word == "or" else "."
    raise FormulaError(message(f"x {sign} y: connects conditions.", [*operand_facts((x, y)), *facts], hint))


def inverted(x: Any) -> Any:
    """~x: not x; of whole numbers, all bits turned."""
    if is_whole(x):
        return (-x) - 1
    if not is_condition(x):
        hint = "x == 0 is true where x is 0, x.logical_not() too."
        raise FormulaError(message("~x: turns a condition.", [*operand_facts((x,)), "x: no condition"], hint))
    return x._apply("logical_not")


def chosen(x: Any, condition: Any, other: Any) -> Any:
    """x where the condition is true, else other."""
    if not is_condition(condition):
        hint = "x.where(condition, other) keeps x where the condition is true; where(condition, x, y) is the function."
        text = "x.where(condition, y): the first argument is no condition."
        raise FormulaError(message(text, operand_facts((x, condition, other)), hint))
    lifted = condition if isinstance(condition, Lazy) else x._lift(condition)
    return lifted._apply("where", x, other)


def is_condition(value: Any) -> bool:
    """A comparison, or truth values."""
    if isinstance(value, Lazy):
        if value._expr.kind == "bool":
            return True
        # the data first: torch.compile, which traces this, cannot look into the nodes of a formula
        return len(value._bindings) == 1 and _is_mask(value._bindings[0].data) and value.axis_letter is not None
    return _is_mask(value)


def _is_mask(value: Any) -> bool:
    if arrays.library(value) is not None:
        return str(value.dtype).removeprefix("torch.") == "bool"
    return isinstance(value, (bool, np.bool_))


def is_whole(value: Any) -> bool:
    """Exact integers: numbers of rows and columns, integer arrays, Python's integers."""
    if isinstance(value, Lazy):
        return value._expr.kind == "index"
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _applied(lazy: Lazy, name: str, x: Any, y: Any) -> Any:
    if isinstance(x, Lazy):
        return x._apply(name, y)
    return lazy._apply_after(name, x)
