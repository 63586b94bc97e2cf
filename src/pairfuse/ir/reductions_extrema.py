"""The table of reductions, part 3: extrema, their indices, and the K first of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .expr import Expr, call, const
from .records import Machine, Slot, State, fmax, fmin, reduction, unchanged
from .rows import where
from .steps import fold_columns

# A NaN compares false and is passed over. Ties go to the lowest index: columns come in ascending order, and `merge`
# compares (value, index). `which` turns one family into the other without negating the terms.
#
# In a state NaN is a place for which no number has been found yet, so that infinity is a term like others. A row
# without numbers passes each guard of a block; the test for one term, which excludes NaN, then ends it.


def _comes_before(which: str, x: Expr, y: Expr) -> Expr:
    """Is x in front of y, or y not there? Where x may be NaN, who asks must exclude it."""
    return call("not_ge" if which == "min" else "not_le", x, y)


def _worst(which: str) -> float:
    return math.inf if which == "min" else -math.inf


def _first(which: str, xa: Expr, ia: Expr, xb: Expr, ib: Expr) -> Expr:
    """Does (xb, ib) come before (xa, ia) in the order of (value, index)? What is not there comes last."""
    before = _comes_before(which, xb, xa) | (call("eq", xb, xa) & (ib < ia))
    return call("eq", xb, xb) & before


def _found(which: str, s: State) -> State:
    """Values and indices; where there is no number, the worst one, and -1."""
    missing = call("isnan", s[0])
    return where(missing, _worst(which), s[0]), where(missing, const(-1, "index"), s[1])


def _value_machine(which: str) -> Callable[..., Machine]:
    pick = fmin if which == "min" else fmax

    def machine(dims: tuple[int, ...], largest: float) -> Machine:
        return Machine(
            slots=(Slot("best", dims[0], _worst(which)),),
            update=lambda s, fs, j: (pick(fold_columns(which, fs[0]), s[0]),),
            merge=lambda a, b: (pick(a[0], b[0]),),
            finalize=lambda s: s,
        )

    return machine


def _arg_machine(which: str, outputs: tuple[int, ...]) -> Callable[..., Machine]:
    def machine(dims: tuple[int, ...], largest: float) -> Machine:
        def revise(s: State, f: Expr, j: Expr) -> State:
            name = "lesser" if which == "min" else "larger"
            # beside NaN, an index means nothing
            return call(name, f, s[0]), where(call(f"is_{name}", f, s[0]), j, s[1])

        def merge(a: State, b: State) -> State:
            take = _first(which, a[0], a[1], b[0], b[1])
            return tuple(where(take, y, x) for x, y in zip(a, b, strict=True))

        return Machine(
            slots=(Slot("best", dims[0], math.nan), Slot("index", dims[0], -1, kind="index")),
            update=unchanged,
            merge=merge,
            finalize=lambda s: tuple(_found(which, s)[k] for k in outputs),
            fold=which,
            guard=lambda s, f: _comes_before(which, f, s[0]),
            revise=revise,
            by_column=True,
        )

    return machine


def _k_machine(which: str, outputs: tuple[int, ...]) -> Callable[..., Machine]:
    def machine(dims: tuple[int, ...], largest: float, K: int) -> Machine:
        d = dims[0]
        fill = -_worst(which)  # before the first place of a list stands what nothing beats

        def insert(s: State, x: Expr, ix: Expr, beats: Callable[[Expr, Expr], Expr]) -> State:
            value, index = s
            before, index_before = call("shift", value, group=K, fill=fill), call("shift", index, group=K, fill=-1)
            here, earlier = beats(value, index), beats(before, index_before)
            return (
                where(earlier, before, where(here, x, value)),
                where(earlier, index_before, where(here, ix, index)),
            )

        def revise(s: State, f: Expr, j: Expr) -> State:
            x = call("repeat", f, times=K)
            return insert(s, x, j, lambda value, index: call("eq", x, x) & _comes_before(which, x, value))

        def merge(a: State, b: State) -> State:
            by_place = [call("transpose", v, sizes=(d, K), order=(1, 0)) for v in b]
            for k in range(K):
                x, ix = (call("repeat", call("extract", v, start=k * d, size=d), times=K) for v in by_place)
                a = insert(a, x, ix, lambda value, index, x=x, ix=ix: _first(which, value, index, x, ix))
            return a

        def guard(s: State, f: Expr) -> Expr:
            last = call("transpose", s[0], sizes=(d, K), order=(1, 0))
            return _comes_before(which, f, call("extract", last, start=(K - 1) * d, size=d))

        return Machine(
            slots=(Slot("best", d * K, math.nan), Slot("index", d * K, -1, kind="index")),
            update=unchanged,
            merge=merge,
            finalize=lambda s: tuple(_found(which, s)[k] for k in outputs),
            fold=which,
            guard=guard,
            revise=revise,
            by_column=True,
        )

    return machine


def _k_ref(which: str, outputs: tuple[int, ...]) -> Callable[..., tuple[Any, ...]]:
    def ref(f: Any, K: int) -> tuple[Any, ...]:
        n = f.shape[-2]
        # NumPy's order puts NaN last, and equal terms in the order of their index
        order = np.argsort(f if which == "min" else -f, axis=-2, kind="stable")[..., :K, :]
        values = np.take_along_axis(f, order, axis=-2)
        missing = [(0, 0)] * (f.ndim - 2) + [(0, max(0, K - n)), (0, 0)]
        values = np.pad(values, missing, constant_values=np.nan)
        order = np.where(np.isnan(values), -1, np.pad(order, missing, constant_values=-1))
        values = np.where(np.isnan(values), _worst(which), values)
        flat = [np.swapaxes(v, -1, -2).reshape(*f.shape[:-2], K * f.shape[-1]) for v in (values, order)]
        return tuple(flat[k] for k in outputs)

    return ref


def _arg_ref(which: str, outputs: tuple[int, ...]) -> Callable[..., tuple[Any, ...]]:
    return lambda f: _k_ref(which, outputs)(f, 1)


def _extrema(which: str) -> None:
    name = which.capitalize()
    order = "smallest" if which == "min" else "largest"
    reduction(
        name=which,
        arity=1,
        machine=_value_machine(which),
        outputs=((which, "real"),),
        ref=_arg_ref(which, (0,)),
        through_index=True,
        skips_nan=True,
        doc=f"The {order} term; NaN terms are passed over; {_worst(which)} over nothing.",
        aliases=(name,),
    )
    value, place = (which, "real"), ("arg" + which, "index")
    for label, outputs, kinds, alias in (
        ("arg" + which, (1,), (place,), "Arg" + name),
        (f"{which}_arg{which}", (0, 1), (value, place), f"{name}_Arg{name}"),
    ):
        reduction(
            name=label,
            arity=1,
            machine=_arg_machine(which, outputs),
            outputs=kinds,
            visible=len(kinds),
            ref=_arg_ref(which, outputs),
            through_index=len(kinds) > 1,
            skips_nan=True,
            empty=False,
            doc=f"The {order} term{' and' if len(kinds) > 1 else ':'} its index, the first of equals; "
            "-1 where all are NaN.",
            aliases=(alias,),
        )
    for label, outputs, kinds, alias in (
        ("K" + which, (0,), (value,), "K" + name),
        ("argK" + which, (1,), (place,), "ArgK" + name),
        (f"K{which}_argK{which}", (0, 1), (value, place), f"K{name}_ArgK{name}"),
    ):
        reduction(
            name=label,
            arity=1,
            machine=_k_machine(which, outputs),
            outputs=kinds,
            visible=len(kinds),
            ref=_k_ref(which, outputs),
            through_index="real" in [k for _, k in kinds],
            skips_nan=True,
            params=("K",),
            doc=f"The K {order} terms, best first ({' and '.join(n for n, _ in kinds)}); where there are fewer, "
            f"{_worst(which)} at the index -1.",
            aliases=(alias,),
        )


_extrema("min")
_extrema("max")
