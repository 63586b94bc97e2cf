"""The table of reductions: one record says everything about one reduction.

A reduction is a state machine whose steps are expressions, so that every backend gets every reduction:

    state   = slots at their initial values
    for each block of columns:
        if guard(state, folded F) holds for some row:      (the costly part, entered for a vanishing share of the pairs)
            state = revise(state, F, j)                    once with the folded F, or for every column in turn
        state = update(state, Fs, j)                       the cheap part; across columns only `fold_columns`
    state   = merge(state, other)                          associative and commutative: lanes, threads, split columns
    outputs = finalize(state)

Additive slots only ever grow by `slot + fold_columns(sum, ...)` in `update`; a backend may therefore keep a short
partial sum and a long, more precise one, and must add both before any other step reads or scales the slot.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FormulaError
from .expr import Expr, Op, call, const, leaf, register
from .rows import where

State = tuple[Expr, ...]

register(
    Op(
        "fold_columns",
        1,
        lambda d, fold: d,
        operands="any",
        kind="same",
        ref=lambda x, fold: {"sum": np.sum, "min": np.fmin.reduce, "max": np.fmax.reduce, "prod": np.prod}[fold](
            x, axis=-2, keepdims=True
        ),
        doc="Fold the columns of a block; only the steps of reductions use it.",
    )
)


def fold_columns(fold: str, x: Expr) -> Expr:
    return call("fold_columns", x, fold=fold)


@dataclass(frozen=True, slots=True)
class Slot:
    """One value of the state, of `dim` components per row."""

    name: str
    dim: int
    init: float
    kind: str = "real"
    additive: bool = False

    def leaf(self, side: str = "a") -> Expr:
        return leaf("slot", self.kind, name=self.name, dim=self.dim, side=side)


@dataclass(frozen=True, slots=True)
class Machine:
    """The state machine of a reduction for formulas of known lengths.

    guard and revise come together: `fold` says how the columns of a block are folded for the guard ("min" or "max"),
    `by_column` whether revise is called for every column in turn or once with the folded value.
    """

    slots: tuple[Slot, ...]
    update: Callable[[State, tuple[Expr, ...], Expr], State]
    merge: Callable[[State, State], State]
    finalize: Callable[[State], tuple[Expr, ...]]
    fold: str | None = None
    guard: Callable[[State, Expr], Expr] | None = None
    revise: Callable[[State, Expr, Expr], State] | None = None
    by_column: bool = False


@dataclass(frozen=True, slots=True)
class Reduction:
    """One record of the table.

    arity       number of formulas: F, or F and a weight G
    machine     (dims of the formulas, dtype limits, **params) -> Machine
    outputs     (name, kind) of every output of finalize; the first `visible` are what the user asked for, the others
                are what the derivative needs
    ref         the NumPy meaning: (*formulas with columns on axis -2, **params) -> outputs without that axis
    cotangents  (g per visible output, formulas, outputs) -> the derivative of sum(g * output) with respect to every
                F_ij, as expressions; None: not differentiable, or through the index (min, max, K smallest)
    empty       False: a reduction over nothing is an error
    additive    results over parts of the pairs add up to the result over all of them
    skips_nan   a term that is NaN counts as little as one that is not there
    """

    name: str
    arity: int
    machine: Callable[..., Machine]
    outputs: tuple[tuple[str, str], ...]
    ref: Callable[..., tuple[Any, ...]]
    cotangents: Callable[..., tuple[Expr, ...]] | None = None
    visible: int = 1
    empty: bool = True
    params: tuple[str, ...] = ()
    through_index: bool = False
    additive: bool = False
    skips_nan: bool = False
    doc: str = ""
    aliases: tuple[str, ...] = ()


REDUCTIONS: dict[str, Reduction] = {}


def reduction(**cells: Any) -> None:
    record = Reduction(**cells)
    if record.name in REDUCTIONS:
        raise FormulaError(f"reduction {record.name!r} is already registered")
    REDUCTIONS[record.name] = record


def _fmin(x: Expr, y: Expr) -> Expr:
    """x if x < y else y: a NaN in x is passed over."""
    return where(x < y, x, y)


def _fmax(x: Expr, y: Expr) -> Expr:
    return where(x > y, x, y)


def _unchanged(state: State, fs: tuple[Expr, ...], j: Expr) -> State:
    return state


# ---------------------------------------------------------------------- sums and products


def _sum_machine(dims: tuple[int, ...], largest: float) -> Machine:
    return Machine(
        slots=(Slot("acc", dims[0], 0.0, additive=True),),
        update=lambda s, fs, j: (s[0] + fold_columns("sum", fs[0]),),
        merge=lambda a, b: (a[0] + b[0],),
        finalize=lambda s: s,
    )


reduction(
    name="sum",
    arity=1,
    machine=_sum_machine,
    outputs=(("sum", "real"),),
    ref=lambda f: (f.sum(-2),),
    cotangents=lambda g, fs, out: (g[0],),
    additive=True,
    doc="Sum of the terms; 0 over nothing.",
    aliases=("Sum",),
)


def _prod_machine(dims: tuple[int, ...], largest: float) -> Machine:
    d = dims[0]
    return Machine(
        # `odd` is NaN once a term is infinite or NaN, else 0: what a product with a zero is
        slots=(Slot("product", d, 1.0), Slot("zeros", d, 0.0, additive=True), Slot("odd", d, 0.0, additive=True)),
        update=lambda s, fs, j: (
            s[0] * fold_columns("prod", where(call("eq", fs[0], 0.0), 1.0, fs[0])),
            s[1] + fold_columns("sum", call("to_real", call("eq", fs[0], 0.0))),
            s[2] + fold_columns("sum", fs[0] * 0.0),
        ),
        merge=lambda a, b: (a[0] * b[0], a[1] + b[1], a[2] + b[2]),
        finalize=lambda s: (where(s[1] > 0.0, s[2], s[0]), s[0], s[1]),
    )


def _prod_ref(f: Any) -> tuple[Any, ...]:
    rest = np.where(f == 0, 1, f).prod(-2)
    zeros = (f == 0).sum(-2).astype(f.dtype)
    return np.where(zeros > 0, (0 * f).sum(-2), rest).astype(f.dtype), rest, zeros


def _prod_cotangents(g: tuple[Expr, ...], fs: tuple[Expr, ...], out: tuple[Expr, ...]) -> tuple[Expr, ...]:
    f, (_, rest, zeros) = fs[0], out
    is_zero = call("eq", f, 0.0)
    others = where(is_zero, where(zeros > 1.0, 0.0, rest), where(zeros > 0.0, 0.0, rest / where(is_zero, 1.0, f)))
    return (g[0] * others,)


reduction(
    name="prod",
    arity=1,
    machine=_prod_machine,
    outputs=(("prod", "real"), ("rest", "real"), ("zeros", "real")),
    ref=_prod_ref,
    cotangents=_prod_cotangents,
    doc="Product of the terms; 1 over nothing. Differentiable where terms vanish, too.",
)

# ---------------------------------------------------------------------- counts


def _count_machine(dims: tuple[int, ...], largest: float) -> Machine:
    return Machine(
        slots=(Slot("count", dims[0], 0, kind="index"),),
        # a block has few columns: their number is exact as a real
        update=lambda s, fs, j: (
            s[0] + call("to_index", fold_columns("sum", call("to_real", call("ne", fs[0], 0.0)))),
        ),
        merge=lambda a, b: (a[0] + b[0],),
        finalize=lambda s: s,
    )


reduction(
    name="count_nonzero",
    arity=1,
    machine=_count_machine,
    outputs=(("count_nonzero", "index"),),
    ref=lambda f: ((f != 0).sum(-2),),
    doc="Number of terms that are not 0, an exact integer. any and all are made of it.",
)

# ---------------------------------------------------------------------- log-sum-exp and softmax
# m is a finite number near the running maximum: it moves only when a block exceeds it by more than SLACK, because
# e^SLACK * N stays far from overflow while every move costs one exponential per row. Infinite terms are then right by
# themselves: exp(-inf - m) = 0 and exp(inf - m) = inf.
SLACK = 16.0


def _softmax_machine(dims: tuple[int, ...], largest: float, normalised: bool) -> Machine:
    df, ds = dims[0], max(dims)
    with_sum = normalised  # softmax needs sum(exp F) beside sum(exp(F) G)
    slots = [Slot("m", df, -largest), Slot("s", ds, 0.0, additive=True)]
    if with_sum:
        slots.append(Slot("t", df, 0.0, additive=True))

    def revise(s: State, f: Expr, j: Expr) -> State:
        m = _fmin(_fmax(f, s[0]), const(largest))
        scale = call("exp", s[0] - m)
        return (m, *(x * scale for x in s[1:]))

    def update(s: State, fs: tuple[Expr, ...], j: Expr) -> State:
        e = call("exp", fs[0] - s[0])
        terms = [e * fs[1] if len(fs) > 1 else e] + ([e] if with_sum else [])
        return (s[0], *(x + fold_columns("sum", t) for x, t in zip(s[1:], terms, strict=True)))

    def merge(a: State, b: State) -> State:
        m = _fmax(a[0], b[0])
        ka, kb = call("exp", a[0] - m), call("exp", b[0] - m)
        return (m, *(x * ka + y * kb for x, y in zip(a[1:], b[1:], strict=True)))

    def finalize(s: State) -> tuple[Expr, ...]:
        if with_sum:
            return (s[1] / s[2], s[0] + call("log", s[2]))
        return (s[0] + call("log", s[1]),)

    return Machine(
        slots=tuple(slots),
        update=update,
        merge=merge,
        finalize=finalize,
        fold="max",
        guard=lambda s, f: f - s[0] > SLACK,
        revise=revise,
    )


def _shifted(f: Any) -> tuple[Any, Any]:
    big = np.finfo(f.dtype).max
    m = np.clip(np.fmax.reduce(f, axis=-2, keepdims=True, initial=-big), -big, big)
    return m, np.exp(f - m)


def _lse_ref(f: Any, g: Any = None) -> tuple[Any, ...]:
    m, e = _shifted(f)
    return (m[..., 0, :] + np.log((e if g is None else e * g).sum(-2)),)


def _softmax_ref(f: Any, g: Any) -> tuple[Any, ...]:
    m, e = _shifted(f)
    t = e.sum(-2)
    return (e * g).sum(-2) / t, m[..., 0, :] + np.log(t)


def _probability(f: Expr, lse: Expr) -> Expr:
    """exp(F - L), and 0 where the whole row is -inf."""
    empty = call("eq", lse, -math.inf)
    return where(empty, 0.0, call("exp", f - where(empty, 0.0, lse)))


def _lse_cotangents(g: tuple[Expr, ...], fs: tuple[Expr, ...], out: tuple[Expr, ...]) -> tuple[Expr, ...]:
    p = g[0] * _probability(fs[0], out[0])
    return (p,) if len(fs) == 1 else (p * fs[1], p)


def _softmax_cotangents(g: tuple[Expr, ...], fs: tuple[Expr, ...], out: tuple[Expr, ...]) -> tuple[Expr, ...]:
    p = _probability(fs[0], out[1])
    return (p * (g[0] * (fs[1] - out[0])), p * g[0])


reduction(
    name="logsumexp",
    arity=1,
    machine=lambda dims, largest: _softmax_machine(dims, largest, normalised=False),
    outputs=(("logsumexp", "real"),),
    ref=_lse_ref,
    cotangents=_lse_cotangents,
    doc="log(sum(exp(F))), without overflow; -inf over nothing.",
    aliases=("LogSumExp",),
)
reduction(
    name="logsumexp_weight",
    arity=2,
    machine=lambda dims, largest: _softmax_machine(dims, largest, normalised=False),
    outputs=(("logsumexp", "real"),),
    ref=_lse_ref,
    cotangents=_lse_cotangents,
    doc="log(sum(exp(F) * G)), without overflow.",
    aliases=("LogSumExpWeight",),
)
reduction(
    name="sumsoftmaxweight",
    arity=2,
    machine=lambda dims, largest: _softmax_machine(dims, largest, normalised=True),
    outputs=(("sumsoftmaxweight", "real"), ("logsumexp", "real")),
    ref=_softmax_ref,
    cotangents=_softmax_cotangents,
    doc="sum(exp(F) * G) / sum(exp(F)), without overflow; NaN over nothing.",
    aliases=("SumSoftMaxWeight", "SoftMax"),
)

# ---------------------------------------------------------------------- extrema
# A NaN compares false and is passed over. Ties go to the lowest index: columns come in ascending order, and `merge`
# compares (value, index). `sign` turns one family into the other without negating the terms.


def _beats(which: str, x: Expr, y: Expr) -> Expr:
    return x < y if which == "min" else x > y


def _worst(which: str) -> float:
    return math.inf if which == "min" else -math.inf


def _first(which: str, xa: Expr, ia: Expr, xb: Expr, ib: Expr) -> Expr:
    """Does (xb, ib) come before (xa, ia) in the order of (value, index)?"""
    return _beats(which, xb, xa) | (call("eq", xb, xa) & (ib < ia))


def _value_machine(which: str) -> Callable[..., Machine]:
    pick = _fmin if which == "min" else _fmax

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
            better = _beats(which, f, s[0])
            return where(better, f, s[0]), where(better, j, s[1])

        def merge(a: State, b: State) -> State:
            take = _first(which, a[0], a[1], b[0], b[1])
            return tuple(where(take, y, x) for x, y in zip(a, b, strict=True))

        return Machine(
            slots=(Slot("best", dims[0], _worst(which)), Slot("index", dims[0], 0, kind="index")),
            update=_unchanged,
            merge=merge,
            finalize=lambda s: tuple(s[k] for k in outputs),
            fold=which,
            guard=lambda s, f: _beats(which, f, s[0]),
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
            return insert(s, x, j, lambda value, index: _beats(which, x, value))

        def merge(a: State, b: State) -> State:
            by_place = [call("transpose", v, sizes=(d, K), order=(1, 0)) for v in b]
            for k in range(K):
                x, ix = (call("repeat", call("extract", v, start=k * d, size=d), times=K) for v in by_place)
                a = insert(a, x, ix, lambda value, index, x=x, ix=ix: _first(which, value, index, x, ix))
            return a

        def guard(s: State, f: Expr) -> Expr:
            last = call("transpose", s[0], sizes=(d, K), order=(1, 0))
            return _beats(which, f, call("extract", last, start=(K - 1) * d, size=d))

        return Machine(
            slots=(Slot("best", d * K, _worst(which)), Slot("index", d * K, 0, kind="index")),
            update=_unchanged,
            merge=merge,
            finalize=lambda s: tuple(s[k] for k in outputs),
            fold=which,
            guard=guard,
            revise=revise,
            by_column=True,
        )

    return machine


def _k_ref(which: str, outputs: tuple[int, ...]) -> Callable[..., tuple[Any, ...]]:
    def ref(f: Any, K: int) -> tuple[Any, ...]:
        n = f.shape[-2]
        worst = _worst(which)
        key = np.where(np.isnan(f), worst, f)
        order = np.argsort(key if which == "min" else -key, axis=-2, kind="stable")[..., :K, :]
        values = np.take_along_axis(key, order, axis=-2)
        order = np.where(values == worst, 0, order)  # nothing was found for this place
        missing = [(0, 0)] * (f.ndim - 2) + [(0, max(0, K - n)), (0, 0)]
        values = np.pad(values, missing, constant_values=worst)
        order = np.pad(order, missing, constant_values=0)
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
            doc=f"The {order} term{' and' if len(kinds) > 1 else ':'} its index (the first of equals).",
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
            doc=f"The K {order} terms, best first ({' and '.join(n for n, _ in kinds)}).",
            aliases=(alias,),
        )


_extrema("min")
_extrema("max")
