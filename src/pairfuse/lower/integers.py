"""Integers of the user's arrays: how a problem computes them exactly.

In: a problem whose integer variables are `whole(input)`, the interval of the numbers of each, the sizes.  Out: the same
problem on inputs of its floating type, and in how many of them each integer is given.

A formula all of whose integers the floating type holds exactly is written with real numbers: labels and masks, the
common case, are as fast as any data.  Where some of them are larger, integers are computed as such, in 32 or 64 bits.
Those that the floating type does not hold are given in digits, the upper ones first, and comparisons of two variables
compare digits.  What leaves 64 bits is computed in real numbers, unless it is compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from ..errors import FormulaError, message
from ..ir.expr import LARGEST, Expr, as_kind, as_real_variables, call, const, index, input_, leaf_of, toposort
from ..ir.text import to_text
from ..transform.expand import expand
from .index_range import Range, integer_ranges
from .problem import Problem

# By floating type: the integers that it holds are below 2^HELD; a digit of those that it does not has so many bits.
HELD = {"float32": 24, "float64": 53}
DIGIT = {"float32": 24, "float64": 32}
# A smaller bound keeps more of the formula in 32 bits; a few of them, for each is a program.
BOUNDS = (8, 16)

COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})
ARITHMETIC = frozenset({"add", "sub", "mul", "floordiv", "square", "powi", "mod"})


class Whole(NamedTuple):
    """The integers of one input: all are in low ... high.

    bits   of the largest that its type holds, where nothing is known of the numbers themselves; else 0
    """

    low: int
    high: int
    bits: int = 0


class Resolved(NamedTuple):
    """A problem on real inputs.

    digits   how many numbers stand for each integer, by input; 0: the input is taken as it is
    rounded  an input whose integers the formula needs as real numbers, which would round them; else None
    rounds   are integers that the formula makes of them rounded?
    simple   would it be the same for all integers and sizes of the same number of bits, none of them in digits?
    """

    problem: Problem
    digits: tuple[int, ...]
    rounded: int | None = None
    rounds: bool = False
    simple: bool = True


@lru_cache(maxsize=4096)
def concerned(problem: Problem) -> bool:
    """Has the formula integer variables, or arithmetic of integers that might leave 64 bits?"""
    nodes = [n for n in toposort(*problem.formulas) if n.kind == "index"]
    if any(n.name == "whole" and not _is_variable(n) for n in nodes):
        return False  # it has been resolved
    return any(n.name in ("whole", "const") or n.name in ARITHMETIC for n in nodes)


@lru_cache(maxsize=4096)
def resolve(problem: Problem, data: tuple[Whole | None, ...], sizes: tuple[int, int], pinned: bool) -> Resolved:
    """The problem on real inputs.

    Arguments: data: the integers of each input, None for one of real numbers; sizes: M and N; pinned: whether arrays
    of real numbers say the type of the result. Otherwise float32 becomes float64 where it would round an integer.
    Raises: FormulaError where integers are compared that leave 64 bits.
    """
    rough = tuple(None if d is None else _rough(d) for d in data)
    found = _resolved(problem, rough, (_power(sizes[0]), _power(sizes[1])), final=False)
    if not found.simple:
        found = _resolved(problem, data, sizes)
    if (found.rounds or found.rounded is not None) and not pinned and problem.dtype == "float32":
        return _resolved(replace(problem, dtype="float64"), data, sizes)
    return found


def unseen(problem: Problem, bits: tuple[int, ...]) -> tuple[Problem, tuple[int, ...]]:
    """The problem, and the digits of its inputs, where torch traces: numbers and sizes are not known.

    Arguments: bits: of the integers of each input; 0: real numbers.
    """
    data = tuple(of_type(b) if b else None for b in bits)
    found = _resolved(problem, data, None)
    return found.problem, found.digits


def of_type(bits: int) -> Whole:
    """The integers of a type of so many bits; of large ones nothing is known."""
    return Whole(-(1 << bits), 1 << bits) if bits <= 16 else Whole(-(1 << 31), 1 << 31, bits)


def _power(n: int) -> int:
    return 1 << (n - 1).bit_length() if n > 1 else n


def _rough(d: Whole) -> Whole:
    """An interval around it, of which there are few, so that the answers can be kept."""
    return d._replace(low=-_power(-d.low) if d.low < 0 else 0, high=_power(d.high + 1) - 1 if d.high > 0 else 0)


@lru_cache(maxsize=2048)
def _resolved(
    problem: Problem, data: tuple[Whole | None, ...], sizes: tuple[int, int] | None, final: bool = True
) -> Resolved:
    """The problem on real inputs; unless `final`, only if it is simple."""
    formulas = expand(problem.formulas)
    held = 1 << HELD[problem.dtype]
    variables = {n: data[leaf_of(n).param("slot")] for n in toposort(*formulas) if _is_variable(n)}
    known: dict[Expr, Range] = {index(axis): (0, max(0, n - 1)) for axis, n in zip("ij", sizes or (), strict=False)}
    known |= {n: (d.low, d.high) for n, d in variables.items() if d is not None}
    ranges = integer_ranges(formulas, known)
    beyond = {n for n, found in ranges.items() if sizes and n not in variables and _beyond(*found, LARGEST)}
    digits, rounded = _digits(problem, formulas, data)
    if rounded is not None:
        return Resolved(problem, digits, rounded, simple=False)
    exact = not beyond and not any(_beyond(*found, held) for found in ranges.values())
    if exact and max(digits, default=0) <= 1 and not _divides(formulas, ranges, variables):
        new = as_real_variables(problem.formulas, variables.__contains__)
        return Resolved(_with(problem, new), (0,) * len(digits))
    if not variables and not beyond:
        return Resolved(problem, digits)
    if not final:
        return Resolved(problem, digits, simple=False)
    lost, rounds = _conversions(formulas, ranges, variables, held)
    writer = _Integers(problem, variables, digits, {n: ranges[n] for n in beyond})
    new = writer(formulas if beyond else problem.formulas)
    return Resolved(_with(problem, new), digits, lost, rounds, simple=False)


def _is_variable(node: Expr) -> bool:
    return node.name == "whole" and node.param("bits") == 64


def _with(problem: Problem, formulas: tuple[Expr, ...]) -> Problem:
    return replace(problem, formulas=tuple(as_kind(f, "real") for f in formulas))


def _beyond(low: float, high: float, limit: int) -> bool:
    """Does the interval reach the limit? What is cut from a real number has no bound, and is left alone."""
    return (low < -limit or high >= limit) and abs(low) != float("inf")


def _digits(
    problem: Problem, formulas: tuple[Expr, ...], data: tuple[Whole | None, ...]
) -> tuple[tuple[int, ...], int | None]:
    """In how many numbers each input is given; and one that some operation takes as real numbers, which round it."""
    dtype = problem.dtype
    nodes = toposort(*formulas)
    real = {a.param("slot") for n in nodes if not _is_variable(n) for a in n.args if a.name == "input"}
    real |= {f.param("slot") for f in formulas if f.name == "input"}
    found: list[int] = []
    rounded = None
    for slot, d in enumerate(data):
        if d is None or slot in real:
            found.append(0)
            if d is not None and not d.bits and _beyond(d.low, d.high, (1 << HELD[dtype]) + 1):
                rounded = slot
            continue
        size = d.bits or max(d.high, -d.low).bit_length()
        found.append(1 if size <= HELD[dtype] else -(-size // DIGIT[dtype]))
    return tuple(found), rounded


def _divides(formulas: tuple[Expr, ...], ranges: Mapping[Expr, Range], variables: Mapping[Expr, object]) -> bool:
    """Is there a division of integers, whose quotient by 0 is another than that of real numbers?"""
    nodes = [n for n in toposort(*formulas) if n.name == "floordiv" and n.kind == "index"]
    made = _made_of(formulas, variables) if nodes else ()
    return any(ranges[n.args[1]][0] <= 0 <= ranges[n.args[1]][1] and n in made for n in nodes)


def _made_of(formulas: tuple[Expr, ...], variables: Iterable[Expr]) -> set[Expr]:
    """The nodes that are made of some of these variables."""
    found = set(variables)
    for n in toposort(*formulas):
        if any(a in found for a in n.args):
            found.add(n)
    return found


def _conversions(
    formulas: tuple[Expr, ...], ranges: Mapping[Expr, Range], variables: Mapping[Expr, Whole | None], held: int
) -> tuple[int | None, bool]:
    """An input whose integers become real numbers and are rounded, or None; and whether others are.

    Of integers that nothing is known of, nothing is said.
    """
    lost, rounds = None, False
    made = _made_of(formulas, variables)
    unknown = _made_of(formulas, [v for v, d in variables.items() if d and d.bits])
    for n in toposort(*formulas):
        if n.name != "to_real" or n.args[0].kind != "index" or not _beyond(*ranges[n.args[0]], held + 1):
            continue
        rounds = rounds or (n in made and n not in unknown)
        for v in _chosen(n.args[0]):
            d = variables.get(v)
            if d is not None and not d.bits and _beyond(d.low, d.high, held + 1):
                lost = leaf_of(v).param("slot")
    return lost, rounds


def _chosen(node: Expr) -> list[Expr]:
    """The variables that an expression moves or chooses, but does not compute with."""
    found, stack, seen = [], [node], set()
    while stack:
        n = stack.pop()
        if n in seen or n.kind != "index" or n.name in ARITHMETIC:
            continue
        seen.add(n)
        found += [n] if n.name == "whole" else []
        stack += n.args
    return found


class _Integers:
    """Writes formulas with the integers of their variables computed as integers."""

    def __init__(
        self,
        problem: Problem,
        variables: Mapping[Expr, Whole | None],
        digits: tuple[int, ...],
        beyond: Mapping[Expr, Range],
    ) -> None:
        self.problem, self.variables, self.digits, self.beyond = problem, variables, digits, beyond
        self.dtype = problem.dtype
        self.parts: dict[Expr, tuple[Expr, ...]] = {}  # the real numbers that a variable is made of

    def __call__(self, roots: tuple[Expr, ...]) -> tuple[Expr, ...]:
        new: dict[Expr, Expr] = {}
        for node in toposort(*roots):
            new[node] = self._written(node, [new[a] for a in node.args])
        return tuple(new[r] for r in roots)

    def _written(self, node: Expr, args: list[Expr]) -> Expr:
        if node in self.variables:
            return self._variable(node)
        if not args:
            return const(float(node.param("value")), "real") if node in self.beyond else node
        if node.name == "to_real":
            parts = self.parts.get(args[0])
            return parts[0] if parts and len(parts) == 1 else as_kind(args[0], "real")
        if node.name in COMPARISONS or node.name == "floordiv":
            self._check(node)
            if node.name in COMPARISONS:
                x, y = self._parts(args[0]), self._parts(args[1])
                if x and len(x) == len(y):
                    return _compared(node.name, x, y)
        elif node in self.beyond:
            args = [as_kind(a, "real") if a.kind == "index" else a for a in args]
        return call(node.name, *args, **dict(node.params))

    def _check(self, node: Expr) -> None:
        for a in node.args:
            if a in self.beyond:
                low, high = self.beyond[a]  # finite: see _beyond
                raise FormulaError(
                    message(
                        f"{self.problem.reduction}: the formula compares or divides integers that leave 64 bits.",
                        f"{_line(a)}: as large as 2^{int(max(-low, high)).bit_length()} for these data and sizes",
                        "compute with real numbers, which are rounded: multiply a variable by LazyTensor(1.0).",
                    )
                )

    def _variable(self, node: Expr) -> Expr:
        leaf, d = leaf_of(node), self.variables[node]
        slot, axis, dim = leaf.param("slot"), leaf.param("axis"), leaf.dim
        count = self.digits[slot]
        if count <= 1:
            size = HELD[self.dtype] if d is None or d.bits else max(d.high, -d.low).bit_length()
            value = call("whole", leaf, bits=next((b for b in BOUNDS if size <= b), HELD[self.dtype]))
            self.parts[value] = (leaf,)
            return value
        given, bits = input_(slot, axis, count * dim), DIGIT[self.dtype]
        parts = tuple(call("extract", given, start=k * dim, size=dim) for k in range(count))
        value = call("whole", parts[0], bits=bits)
        for part in parts[1:]:
            value = value * const(1 << bits, "index") + call("whole", part, bits=bits)
        self.parts[value] = parts
        return value

    def _parts(self, x: Expr) -> tuple[Expr, ...]:
        """The real numbers that x is made of, if it is a variable, or a constant that is one; else none."""
        if x.is_const() and x.kind == "index" and abs(x.param("value")) <= 1 << HELD[self.dtype]:
            return (as_kind(x, "real"),)
        return self.parts.get(x, ())


def _compared(name: str, a: tuple[Expr, ...], b: tuple[Expr, ...]) -> Expr:
    """A comparison of two integers in digits, upper ones first: the first that differs decides."""
    if name == "ne":
        return ~_compared("eq", a, b)
    result = call(name, a[-1], b[-1])
    strict = {"le": "lt", "ge": "gt"}.get(name, name)
    for x, y in zip(reversed(a[:-1]), reversed(b[:-1]), strict=True):
        same = call("eq", x, y) & result
        result = same if name == "eq" else call(strict, x, y) | same
    return result


def _line(expr: Expr) -> str:
    text = to_text(expr, separator="; ")
    return text if len(text) <= 60 else text[:57] + "..."
