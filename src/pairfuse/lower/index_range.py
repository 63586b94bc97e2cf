"""How large the exact integers of a formula may become: do they fit in 32 bits?

In: expanded formulas, and the intervals of their leaves.  Out: an interval for every expression of kind "index", exact
as Python's integers are; `fits_32_bits` for whole formulas.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from ..ir.expr import Expr, toposort

Range = tuple[float, float]  # integers, or infinite

LIMIT = 2**31
# Sizes beyond this take the kernels of 64 bits anyway (lower/schedule.py, SizeClass.wide_index).
LAST_NUMBER = LIMIT - 2**16
UNKNOWN: Range = (-math.inf, math.inf)


def fits_32_bits(formulas: Iterable[Expr]) -> bool:
    """Do all integers of the formulas, intermediate ones included, fit in 32 bits for all sizes below LAST_NUMBER?"""
    return all(low >= -LIMIT and high < LIMIT for low, high in integer_ranges(formulas, {}).values())


def integer_ranges(formulas: Iterable[Expr], known: Mapping[Expr, Range]) -> dict[Expr, Range]:
    """An interval for every expression of kind "index"; those that are `known` keep theirs."""
    ranges: dict[Expr, Range] = {}
    for node in toposort(*formulas):
        if node.kind == "index":
            found = known.get(node)
            ranges[node] = found or _range(node, [ranges.get(a, UNKNOWN) for a in node.args])
    return ranges


def _range(node: Expr, args: list[Range]) -> Range:
    name = node.name
    if name == "const":
        value = node.param("value")
        return value, value
    if name == "index":
        return 0, LAST_NUMBER
    if name == "whole":
        size = 2 ** node.param("bits")
        return -size, size
    if name in ("arange", "argmin_d", "argmax_d"):
        return 0, node.dim if name == "arange" else node.args[0].dim
    if name == "add":
        return args[0][0] + args[1][0], args[0][1] + args[1][1]
    if name == "sub":
        return args[0][0] - args[1][1], args[0][1] - args[1][0]
    if name in ("mul", "floordiv", "neg", "abs", "to_index"):
        return _symmetric(node, args)
    if name == "bitwise_count":
        return 0.0, 64.0
    if name.startswith("bitwise_"):
        return _of_bits(args)
    # everything else moves or chooses: one of the arguments, or the fill of a new place
    known = [r for a, r in zip(node.args, args, strict=True) if a.kind == "index"]
    fill = dict(node.params).get("fill", 0)
    return min([fill, *(r[0] for r in known)]), max([fill, *(r[1] for r in known)])


def _of_bits(args: list[Range]) -> Range:
    """As many bits as the largest argument has."""
    largest = max(max(-low, high + 1) for low, high in args)
    power = math.inf if math.isinf(largest) else 2.0 ** math.ceil(math.log2(max(largest, 1.0)))
    return 0.0 if min(low for low, _ in args) >= 0 else -power, power - 1


def _symmetric(node: Expr, args: list[Range]) -> Range:
    """The largest absolute value on both sides."""
    sizes = [max(-low, high) for low, high in args]
    if node.name == "to_index":
        size = 1 if node.args[0].kind == "bool" else math.inf
    elif node.name == "mul":
        size = 0 if 0 in sizes else sizes[0] * sizes[1]
    else:
        size = sizes[0] + (1 if node.name == "floordiv" else 0)
    return -size, size
