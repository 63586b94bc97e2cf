"""The table of instructions that compute element by element.

In: an instruction and the binder of its function.  Out: a `Step`, which computes it for the threads of a mask.  A row
of TABLE is the name of the opcode and a function that prepares the step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import integers as ints
from . import numbers as reals
from .carries import carrying
from .operands import TYPES, Array, Binder, Mask
from .parse import Instruction, PtxError

if TYPE_CHECKING:
    from .machine import Run

Step = Callable[["Run", Mask], None]
Prepare = Callable[[Instruction, Binder], Step]
ROUNDINGS = ("rn", "rz", "rm", "rp")
# What may stand in an opcode beside its name and type, and is read by the rows below.
MODIFIERS = frozenset(
    (*ROUNDINGS, "ftz", "sat", "approx", "full", "lo", "hi", "wide", "NaN", "l", "r", "wrap", "clamp")
)


def kind_of(instruction: Instruction) -> np.dtype[Any]:
    """The type at the end of the opcode."""
    kind = instruction.opcode[-1]
    if kind not in TYPES or kind in ("f16x2", "bf16x2", "bf16"):
        raise PtxError(f"{instruction}: type {kind} is not known here")
    return TYPES[kind]


def rounding(instruction: Instruction) -> str:
    return next((m for m in instruction.opcode if m in ROUNDINGS), "rn")


def apply(instruction: Instruction, binder: Binder, function: Callable[..., Array], *kinds: np.dtype[Any]) -> Step:
    """The step of a function of the operands, which are of these types."""
    unknown = [m for m in instruction.opcode[1:-1] if m not in MODIFIERS and m not in TYPES]
    if unknown:
        raise PtxError(f"{instruction}: {', '.join(unknown)} is not known")
    if len(instruction.operands) != 1 + len(kinds):
        raise PtxError(f"{instruction}: {len(kinds)} arguments expected")
    store = binder.write(instruction.operands[0])
    reads = [binder.read(o, k) for o, k in zip(instruction.operands[1:], kinds, strict=True)]
    if len(reads) == 1:
        (x,) = reads
        return lambda run, mask: store(run, function(x(run)), mask)
    if len(reads) == 2:
        x, y = reads
        return lambda run, mask: store(run, function(x(run), y(run)), mask)
    return lambda run, mask: store(run, function(*[r(run) for r in reads]), mask)


def same(arity: int, function: Callable[..., Array]) -> Prepare:
    """All operands are of the type of the opcode."""

    def prepare(instruction: Instruction, binder: Binder) -> Step:
        kind = kind_of(instruction)
        return apply(instruction, binder, _adjusted(instruction, kind, function), *[kind] * arity)

    return prepare


def directed(arity: int, integral: Callable[..., Array], real: Callable[..., Array]) -> Prepare:
    """Integers by one function, floating-point numbers by another, which takes the direction of rounding."""

    def prepare(instruction: Instruction, binder: Binder) -> Step:
        kind, mode = kind_of(instruction), rounding(instruction)
        function = integral if kind.kind != "f" else lambda *x: real(*x, mode)
        return apply(instruction, binder, _adjusted(instruction, kind, function), *[kind] * arity)

    return prepare


def _adjusted(instruction: Instruction, kind: np.dtype[Any], function: Callable[..., Array]) -> Callable[..., Array]:
    """The function with what ".ftz" and ".sat" do before and after it."""
    if kind.kind != "f":
        if "sat" in instruction.opcode:
            raise PtxError(f"{instruction}: sat of integers is not known")
        return function
    flush, saturate = "ftz" in instruction.opcode, "sat" in instruction.opcode
    if not flush and not saturate:
        return function

    def adjusted(*x: Array) -> Array:
        found = function(*[reals.flushed(v) for v in x]) if flush else function(*x)
        found = reals.saturated(found) if saturate else found
        return reals.flushed(found) if flush else found

    return adjusted


# ---------------------------------------------------------------------- products of integers


def multiply(instruction: Instruction, binder: Binder) -> Step:
    """mul: of floating-point numbers, or the lower or upper half, or all of the product of integers."""
    kind = kind_of(instruction)
    if kind.kind == "f":
        return directed(2, np.multiply, reals.multiply)(instruction, binder)
    return apply(instruction, binder, _product(instruction), kind, kind)


def multiply_add(instruction: Instruction, binder: Binder) -> Step:
    """mad: the same, and a sum."""
    kind = kind_of(instruction)
    if kind.kind == "f":
        return directed(3, np.add, reals.fma)(instruction, binder)
    product = _product(instruction)
    third = ints.wide(kind) if "wide" in instruction.opcode else kind
    return apply(instruction, binder, lambda a, b, c: product(a, b) + c, kind, kind, third)


def _product(instruction: Instruction) -> Callable[..., Array]:
    if "wide" in instruction.opcode:
        return ints.multiply_wide
    return ints.multiply_high if "hi" in instruction.opcode else np.multiply


def divide(instruction: Instruction, binder: Binder) -> Step:
    if kind_of(instruction).kind == "f":
        assert rounding(instruction) == "rn", str(instruction)
        return same(2, np.divide)(instruction, binder)
    return same(2, ints.divide)(instruction, binder)


def extremum(real: Callable[..., Array], integral: Callable[..., Array]) -> Prepare:
    def prepare(instruction: Instruction, binder: Binder) -> Step:
        nan = "NaN" in instruction.opcode
        if kind_of(instruction).kind == "f":
            return same(2, lambda a, b: real(a, b, nan))(instruction, binder)
        return same(2, integral)(instruction, binder)

    return prepare


# ---------------------------------------------------------------------- functions of the special units


def special(function: Callable[[Array], Array]) -> Prepare:
    """A function of one number, right to the last bit, which hardware is not always (".approx").

    That of float64 with ".ftz" has 20 bits of fraction only: it is where an iteration begins.
    """

    def prepare(instruction: Instruction, binder: Binder) -> Step:
        kind = kind_of(instruction)

        def exact(x: Array) -> Array:
            found = function(x.astype(np.float64))
            if kind.itemsize == 8 and "ftz" in instruction.opcode:
                return (found.view(np.uint64) & np.uint64(0xFFFFFFFF00000000)).view(np.float64)
            return found.astype(kind)

        assert rounding(instruction) == "rn", str(instruction)
        return apply(instruction, binder, _adjusted(instruction, kind, exact), kind)

    return prepare


# ---------------------------------------------------------------------- comparisons and choices

COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
    "num": lambda a, b: ~(np.isnan(a) | np.isnan(b)),
    "nan": lambda a, b: np.isnan(a) | np.isnan(b),
    # with "u", the comparison holds where a number is NaN
    "equ": lambda a, b: ~((a < b) | (a > b)),
    "neu": lambda a, b: ~(a == b),
    "ltu": lambda a, b: ~(a >= b),
    "leu": lambda a, b: ~(a > b),
    "gtu": lambda a, b: ~(a <= b),
    "geu": lambda a, b: ~(a < b),
}
BOOLEAN: dict[str, Callable[[Array, Array], Array]] = {
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
}


def _ordered(name: str, kind: np.dtype[Any]) -> Callable[[Array, Array], Array]:
    """A comparison. That of numbers "ne" does not hold where one is NaN."""
    if name == "ne" and kind.kind == "f":
        return lambda a, b: (a < b) | (a > b)
    return COMPARISONS[name]


def compare(instruction: Instruction, binder: Binder) -> Step:
    """setp: the comparison, combined with a predicate, in one register, and in another one with its opposite."""
    kind, opcode = kind_of(instruction), [m for m in instruction.opcode[1:-1] if m != "ftz"]
    holds = _ordered(opcode[0], kind)
    count = len(instruction.operands) - 2 - (len(opcode) > 1)
    stores = [binder.write(o) for o in instruction.operands[:count]]
    a, b = (binder.read(o, kind) for o in instruction.operands[count : count + 2])
    flush = reals.flushed if "ftz" in instruction.opcode else lambda x: x
    combine = BOOLEAN[opcode[1]] if len(opcode) > 1 else None
    other = binder.read(instruction.operands[-1], TYPES["pred"]) if combine else None

    def step(run: Run, mask: Mask) -> None:
        found = holds(flush(a(run)), flush(b(run)))
        for k, store in enumerate(stores):
            value = found if k == 0 else ~found
            store(run, combine(value, other(run)) if combine and other else value, mask)

    return step


def select(instruction: Instruction, binder: Binder) -> Step:
    kind = kind_of(instruction)
    return apply(instruction, binder, lambda a, b, p: np.where(p, a, b), kind, kind, TYPES["pred"])


def select_by_sign(instruction: Instruction, binder: Binder) -> Step:
    """slct: by the sign of a number, whose type ends the opcode."""
    kind, sign = TYPES[instruction.opcode[-2]], TYPES[instruction.opcode[-1]]
    return apply(instruction, binder, lambda a, b, c: np.where(c >= 0, a, b), kind, kind, sign)


def shift(function: Callable[[Array, Array], Array]) -> Prepare:
    def prepare(instruction: Instruction, binder: Binder) -> Step:
        return apply(instruction, binder, function, kind_of(instruction), TYPES["u32"])

    return prepare


def extract(instruction: Instruction, binder: Binder) -> Step:
    return apply(instruction, binder, ints.field_of, kind_of(instruction), TYPES["u32"], TYPES["u32"])


def insert(instruction: Instruction, binder: Binder) -> Step:
    kind = kind_of(instruction)
    return apply(instruction, binder, ints.insert, kind, kind, TYPES["u32"], TYPES["u32"])


def logic(instruction: Instruction, binder: Binder) -> Step:
    *operands, table = instruction.operands
    plain = Instruction(instruction.opcode, tuple(operands), instruction.guard, instruction.line, instruction.text)
    return same(3, lambda a, b, c: ints.logic(a, b, c, int(table, 0)))(plain, binder)


def funnel(instruction: Instruction, binder: Binder) -> Step:
    left, wrap = "l" in instruction.opcode, "wrap" in instruction.opcode
    return same(3, lambda a, b, c: ints.funnel(a, b, c, left, wrap))(instruction, binder)


def copy_sign(sign: Array, size: Array) -> Array:
    """copysign: the sign comes first."""
    return np.copysign(size, sign)


def with_carry(plain: Prepare) -> Prepare:
    """The opcode with ".cc" sets the carry flag."""
    return lambda instruction, binder: (carrying if "cc" in instruction.opcode else plain)(instruction, binder)


TABLE: dict[str, Prepare] = {
    "add": with_carry(directed(2, np.add, reals.add)),
    "sub": with_carry(directed(2, np.subtract, reals.subtract)),
    "mul": multiply,
    "mad": with_carry(multiply_add),
    "fma": directed(3, np.add, reals.fma),
    "div": divide,
    "rem": same(2, ints.remainder),
    "min": extremum(reals.minimum, np.minimum),
    "max": extremum(reals.maximum, np.maximum),
    "abs": same(1, np.abs),
    "neg": same(1, np.negative),
    "copysign": same(2, copy_sign),
    "and": same(2, np.bitwise_and),
    "or": same(2, np.bitwise_or),
    "xor": same(2, np.bitwise_xor),
    "not": same(1, np.invert),
    "cnot": same(1, lambda a: np.where(a == 0, a.dtype.type(1), a.dtype.type(0))),
    "shl": shift(ints.shift_left),
    "shr": shift(ints.shift_right),
    "shf": funnel,
    "bfe": extract,
    "bfi": insert,
    "bfind": same(1, ints.highest_one),
    "brev": same(1, ints.reversed_bits),
    "clz": same(1, ints.leading_zeros),
    "popc": same(1, ints.count_ones),
    "prmt": same(3, ints.permute),
    "lop3": logic,
    "setp": compare,
    "selp": select,
    "slct": select_by_sign,
    "ex2": special(np.exp2),
    "lg2": special(np.log2),
    "rcp": special(np.reciprocal),
    "sqrt": special(np.sqrt),
    "rsqrt": special(lambda x: 1 / np.sqrt(x)),
    "sin": special(np.sin),
    "cos": special(np.cos),
    "tanh": special(np.tanh),
}
