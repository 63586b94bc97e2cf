"""The table of reductions, part 2: log-sum-exp and softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from .expr import Expr, call, const
from .records import Machine, Slot, State, fmax, fmin, reduction
from .rows import where
from .steps import fold_columns

# ---------------------------------------------------------------------- log-sum-exp and softmax
# m is a finite number near the running maximum: it moves only when a block exceeds it by more than SLACK, because
# e^SLACK * N stays far from overflow while every move costs one exponential per row. Infinite terms are then right by
# themselves: exp(-inf - m) = 0 and exp(inf - m) = inf.
#
# The derivatives take m and the sum, and not m + log(sum), which is rounded: far from 0 by as much as F itself. For
# derivatives of them m is a constant, and the sum moves with its terms.
SLACK = 16.0


def _softmax_machine(dims: tuple[int, ...], largest: float, normalised: bool) -> Machine:
    df, ds = dims[0], max(dims)
    with_sum = normalised  # softmax needs sum(exp F) beside sum(exp(F) G)
    slots = [Slot("m", df, -largest), Slot("s", ds, 0.0, additive=True)]
    if with_sum:
        slots.append(Slot("t", df, 0.0, additive=True))

    def revise(s: State, f: Expr, j: Expr) -> State:
        m = fmin(fmax(f, s[0]), const(largest))
        scale = call("exp", s[0] - m)
        return (m, *(x * scale for x in s[1:]))

    def update(s: State, fs: tuple[Expr, ...], j: Expr) -> State:
        e = call("exp", fs[0] - s[0])
        terms = [e * fs[1] if len(fs) > 1 else e] + ([e] if with_sum else [])
        return (s[0], *(x + fold_columns("sum", t) for x, t in zip(s[1:], terms, strict=True)))

    def merge(a: State, b: State) -> State:
        m = fmax(a[0], b[0])
        ka, kb = call("exp", a[0] - m), call("exp", b[0] - m)
        return (m, *(x * ka + y * kb for x, y in zip(a[1:], b[1:], strict=True)))

    def finalize(s: State) -> tuple[Expr, ...]:
        if with_sum:
            return s[1] / s[2], s[0] + call("log", s[2]), s[0], s[2]
        return s[0] + call("log", s[1]), s[0], s[1]

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
    total = (e if g is None else e * g).sum(-2)
    return m[..., 0, :] + np.log(total), _near(m[..., 0, :], total), total


def _softmax_ref(f: Any, g: Any) -> tuple[Any, ...]:
    m, e = _shifted(f)
    total = e.sum(-2)
    return (e * g).sum(-2) / total, m[..., 0, :] + np.log(total), _near(m[..., 0, :], total), total


def _near(m: Any, total: Any) -> Any:
    """The maximum; over nothing, the start value of float32, which is finite in all types."""
    nothing = (m == -np.finfo(m.dtype).max) & (total == 0).all(-1, keepdims=True)
    return np.where(nothing, -float(np.finfo(np.float32).max), m)


def _probability(f: Expr, m: Expr, total: Expr) -> Expr:
    """exp(F - m) / sum, and 0 where the whole row is -inf."""
    empty = call("eq", total, 0.0)
    return call("exp", f - m) * where(empty, 0.0, 1.0 / where(empty, 1.0, total))


def _lse_cotangents(g: tuple[Expr, ...], fs: tuple[Expr, ...], out: tuple[Expr, ...]) -> tuple[Expr, ...]:
    p = g[0] * _probability(fs[0], out[1], out[2])
    return (p,) if len(fs) == 1 else (p * fs[1], p)


def _softmax_cotangents(g: tuple[Expr, ...], fs: tuple[Expr, ...], out: tuple[Expr, ...]) -> tuple[Expr, ...]:
    p = _probability(fs[0], out[2], out[3])
    return p * (g[0] * (fs[1] - out[0])), p * g[0]


reduction(
    name="logsumexp",
    arity=1,
    machine=lambda dims, largest: _softmax_machine(dims, largest, normalised=False),
    outputs=(("logsumexp", "real"), ("maximum", "real"), ("total", "real")),
    ref=_lse_ref,
    cotangents=_lse_cotangents,
    doc="log(sum(exp(F))), without overflow; -inf over nothing.",
    aliases=("LogSumExp",),
)
reduction(
    name="logsumexp_weight",
    arity=2,
    machine=lambda dims, largest: _softmax_machine(dims, largest, normalised=False),
    outputs=(("logsumexp", "real"), ("maximum", "real"), ("total", "real")),
    ref=_lse_ref,
    cotangents=_lse_cotangents,
    doc="log(sum(exp(F) * G)), without overflow.",
    aliases=("LogSumExpWeight",),
)
reduction(
    name="sumsoftmaxweight",
    arity=2,
    machine=lambda dims, largest: _softmax_machine(dims, largest, normalised=True),
    outputs=(("sumsoftmaxweight", "real"), ("logsumexp", "real"), ("maximum", "real"), ("total", "real")),
    ref=_softmax_ref,
    cotangents=_softmax_cotangents,
    doc="sum(exp(F) * G) / sum(exp(F)), without overflow; NaN over nothing.",
    aliases=("SumSoftMaxWeight", "SoftMax"),
)
