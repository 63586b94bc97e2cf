"""Formulas of very many numbers: kernels sum_k w_k exp(-a_k d), written in a loop, have thousands.

In: formulas and the bindings of their inputs.  Out: the same with one parameter vector instead of many numbers.  A
kernel takes an address and two strides for each of its inputs; of thousands, they would be most of its code.
"""

from __future__ import annotations

from functools import lru_cache

from ..ir.expr import Expr, call, input_, inputs, substitute
from .base import Binding, Bindings

MOST = 32  # numbers that stay inputs of their own


def packed(exprs: tuple[Expr, ...], bindings: Bindings) -> tuple[tuple[Expr, ...], Bindings]:
    """The formulas and their data, in which Python's numbers, if there are many, are one parameter, the last input."""
    if len(bindings) <= MOST:
        return exprs, bindings
    lengths = tuple([len(b.data) if type(b.data) is tuple else 0 for b in bindings])
    if sum(map(bool, lengths)) <= MOST:
        return exprs, bindings
    numbers = tuple([v for b in bindings if type(b.data) is tuple for v in b.data])
    arrays = [b for b in bindings if type(b.data) is not tuple]
    return one_vector(exprs, lengths), (*arrays, Binding(numbers, "p"))


@lru_cache(maxsize=1024)
def one_vector(exprs: tuple[Expr, ...], lengths: tuple[int, ...]) -> tuple[Expr, ...]:
    """The formulas with input k a part of the last input where lengths[k] > 0, the others numbered without a gap."""
    last = sum(not n for n in lengths)
    vector = input_(last, "p", sum(lengths))
    starts, places = [0], [0]
    for n in lengths:
        starts.append(starts[-1] + n)
        places.append(places[-1] + (not n))
    new: dict[Expr, Expr] = {}
    for leaf in inputs(*exprs):
        slot, axis = leaf.param("slot"), leaf.param("axis")
        if lengths[slot]:
            new[leaf] = call("extract", vector, start=starts[slot], size=leaf.dim)
        else:
            new[leaf] = input_(places[slot], axis, leaf.dim)
    return tuple(substitute(e, new) for e in exprs)
