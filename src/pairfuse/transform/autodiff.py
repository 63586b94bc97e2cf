"""Derivatives of formulas, in reverse mode (`vjp`) and in forward mode (`jvp`).

In: formulas, and the expressions with respect to which they are differentiated (variables, or any inner expressions:
they are taken for independent).  Out: formulas, which may contain derived operations again.

A cotangent of an expression has its length, and zero is `None` on the way.  Cotangents that come out of a `where` are
kept in the form where(c, h, 0), several conditions one inside of the other, and what follows is multiplied, negated,
moved and added inside of them: the derivative of the branch that is not taken may be infinite, and 0 times infinity
must not reach the sum.  In forward mode the choice comes last, and nothing is to be done.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

from ..errors import ShapeError, UnsupportedError
from ..ir.expr import Expr, Operand, as_kind, call, const, toposort, with_args
from .expand import expand

# Masks within masks that are kept apart, so that those of both branches of a choice find each other (`add`). Of choices
# within choices the derivatives would be as long as the square of their number otherwise.
MOST_MASKS = 4

Mask = tuple[Expr, bool]  # where(condition, g, 0) if True, where(condition, 0, g) if False

# ---------------------------------------------------------------------- reverse mode


def vjp(outputs: Sequence[Expr], cotangents: Sequence[Operand], wrt: Sequence[Expr]) -> tuple[Expr, ...]:
    """The derivatives of sum_k <cotangents[k], outputs[k]> with respect to every expression of `wrt`.

    A cotangent of length 1 counts for every component of its output.
    """
    wrt = tuple(wrt)
    outputs = _differentiable(outputs, wrt)
    active = _active(outputs, wrt)
    found: dict[Expr, Expr | None] = {}
    for output, cotangent in zip(outputs, cotangents, strict=True):
        if output in active:
            g = cotangent if isinstance(cotangent, Expr) else const(cotangent)
            found[output] = add(found.get(output), _seed(g, output))
    ends = set(wrt)
    for node in reversed(toposort(*outputs)):
        g = found.get(node)
        if g is not None and node not in ends:
            for arg, part in zip(node.args, _pull_back(node, g), strict=True):
                if arg in active:
                    found[arg] = add(found.get(arg), part)
    return tuple(_or_zero(found.get(v), v.dim) for v in wrt)


def _differentiable(outputs: Sequence[Expr], wrt: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """Replace derived operations, but for those that know their own derivative."""
    return expand(outputs, leaves=wrt, only=lambda node: node.op.partials is None and node.op.vjp is None)


def _active(outputs: Sequence[Expr], wrt: tuple[Expr, ...]) -> set[Expr]:
    """The real nodes below the outputs that depend on `wrt`."""
    active = set(wrt)
    for node in toposort(*outputs):
        if node.kind == "real" and any(a in active for a in node.args):
            active.add(node)
    return active


def _seed(g: Expr, output: Expr) -> Expr:
    if g.dim not in (1, output.dim):
        raise ShapeError(f"gradient: the cotangent has length {g.dim}, the formula {output.dim}.")
    return _fit(g, output.dim)


def _pull_back(node: Expr, g: Expr) -> Sequence[Expr | None]:
    """The cotangents of the arguments of `node`, whose own cotangent is g."""
    masks, inner = _masks(g)
    masks = _joined(masks)
    inner = _masked_by([m for m in masks if not _passes(node, m[0])], inner)
    parts = list(_pull_back_inside(node, inner))
    for condition, positive in reversed([m for m in masks if _passes(node, m[0])]):
        parts = [None if p is None else _masked(condition, p, positive) for p in parts]
    if node.op.partials is None and not node.op.elementwise:
        return parts
    return [None if p is None else _fit(p, a.dim, bool(a.args)) for p, a in zip(parts, node.args, strict=True)]


def _joined(masks: list[Mask]) -> list[Mask]:
    """Many masks as one condition, so that chains of choices differentiate in linear size."""
    if len(masks) <= MOST_MASKS or len({c.dim for c, _ in masks}) > 1:
        return masks
    return [(_all(masks), True)]


def _passes(node: Expr, condition: Expr) -> bool:
    """May the condition be applied to the cotangents of the arguments rather than to that of the node?"""
    return condition.dim == 1 or node.op.elementwise or node.op.partials is not None


def _pull_back_inside(node: Expr, g: Expr) -> Sequence[Expr | None]:
    op, params = node.op, dict(node.params)
    if op.vjp is not None:
        return op.vjp(g, node, *node.args, **params)
    if op.partials is None:
        raise UnsupportedError(f"{node.name} has no derivative")
    partials = op.partials(node, *node.args, **params)
    first = partials[0]
    if len(node.args) == 2 and node.args[0] is node.args[1] and first is not None and first is partials[1]:
        return scale(scale(g, const(2)), first), None  # x * x: (2 g) x, and not g x + g x
    return [None if p is None else scale(g, p) for p in partials]


# ---------------------------------------------------------------------- forward mode


def jvp(outputs: Sequence[Expr], wrt: Sequence[Expr], tangents: Sequence[Operand]) -> tuple[Expr, ...]:
    """The derivative of every output when each expression of `wrt` moves along its tangent."""
    wrt = tuple(wrt)
    outputs = _differentiable(outputs, wrt)
    active = _active(outputs, wrt)
    found: dict[Expr, Expr | None] = {}
    for v, tangent in zip(wrt, tangents, strict=True):
        t = tangent if isinstance(tangent, Expr) else const(tangent)
        found[v] = _seed(t, v)
    for node in toposort(*outputs):
        if node in active and node not in found:
            found[node] = _push(node, [found.get(a) for a in node.args])
    return tuple(_or_zero(found.get(o), o.dim) for o in outputs)


def _push(node: Expr, tangents: Sequence[Expr | None]) -> Expr | None:
    """The tangent of `node` when its arguments move along these tangents."""
    op, params = node.op, dict(node.params)
    if all(t is None for t in tangents):
        return None
    if op.jvp is not None:
        result = op.jvp(tuple(tangents), node, *node.args, **params)
    elif op.partials is not None:
        result = None
        for t, p in zip(tangents, op.partials(node, *node.args, **params), strict=True):
            if t is not None and p is not None:
                dim = max(t.dim, p.dim)
                result = _sum(result, scale(_fit(t, dim), p))
    elif op.vjp is not None:  # it has a derivative and no tangent map of its own: it is linear
        result = with_args(node, tuple(_or_zero(t, a.dim) for t, a in zip(tangents, node.args, strict=True)))
    else:
        raise UnsupportedError(f"{node.name} has no derivative")
    return None if result is None else _fit(result, node.dim)


# ---------------------------------------------------------------------- arithmetic of cotangents


def zeros(dim: int) -> Expr:
    """A vector of zeros."""
    return const(0) if dim == 1 else call("repeat", const(0), times=dim)


def scale(g: Expr, p: Expr) -> Expr:
    """g * p, written so that neither ones nor a reciprocal are multiplied; p may be shorter than g.

    Signs, masks and the repetition of one number stay outside of the product: where g is 0, p may be infinite.
    """
    outside: list[Mask | int | None] = []  # what the product stands in: a mask, a length to repeat to, None for a sign
    while not (p.is_const(1.0) or p.is_const(-1.0)):
        if p.name == "neg":
            p = p.args[0]
            outside.append(None)
        elif g.name == "neg":
            g = g.args[0]
            outside.append(None)
        elif (mask := _mask(g)) is not None:
            condition, g, positive = mask
            outside.append((condition, positive))
        elif g.name == "repeat" and g.args[0].dim == 1:  # one number for all components
            outside.append(g.dim)
            g = g.args[0]
        else:
            break
    result = _product(g, p)
    for around in reversed(outside):
        result = _fit(result, around) if isinstance(around, int) else _inside(around, result)
    return result


def _inside(around: Mask | None, g: Expr) -> Expr:
    """g inside of a mask, or of a sign (None)."""
    return _negative(g) if around is None else _masked(around[0], g, around[1])


def _product(g: Expr, p: Expr) -> Expr:
    if p.is_const(1.0):
        return g
    if p.is_const(-1.0):
        return _negative(g)
    if g.is_const(1.0):
        return p
    if p.name == "div" and p.args[0].is_const(1.0):
        return g / p.args[1]
    return g * p


def weighted(weight: Expr, tangent: Expr) -> Expr:
    """weight * tangent, multiplied inside of the masks of the weight: where it is 0, the tangent may be infinite."""
    masks, weight = _masks(weight)
    return _masked_by(masks, weight * tangent if weight.dim > tangent.dim else scale(tangent, weight))


def add(a: Expr | None, b: Expr | None) -> Expr | None:
    """a + b of two cotangents; masks that exclude each other become one choice, others stay a mask."""
    if a is None or b is None:
        return a if b is None else b
    if a is b:
        return scale(a, const(2))
    (masks_a, inner_a), (masks_b, inner_b) = _masks(a), _masks(b)
    common = [m for m in masks_a if m in masks_b]
    a = _masked_by([m for m in masks_a if m not in common], inner_a)
    b = _masked_by([m for m in masks_b if m not in common], inner_b)
    return _masked_by(common, _added(a, b))


def _added(a: Expr, b: Expr) -> Expr:
    """a + b, which have no mask in common; where both are 0 by their masks, so is the result."""
    (masks_a, inner_a), (masks_b, inner_b) = _masks(a), _masks(b)
    if not masks_a or not masks_b:
        return a + b
    for condition, positive in masks_a:
        if (condition, not positive) in masks_b:  # they exclude each other
            rest_a = [m for m in masks_a if m[0] is not condition]
            rest_b = [m for m in masks_b if m[0] is not condition]
            yes, no = _masked_by(rest_a, inner_a), _masked_by(rest_b, inner_b)
            if not positive:
                yes, no = no, yes
            chosen = call("where", condition, yes, no)
            return _masked(_all(masks_a) | _all(masks_b), chosen, True) if rest_a or rest_b else chosen
    return _masked(_all(masks_a) | _all(masks_b), a + b, True)


def _all(masks: Sequence[Mask]) -> Expr:
    """Masks as one condition."""
    return functools.reduce(operator.and_, [c if positive else ~c for c, positive in masks])


def _sum(a: Expr | None, b: Expr) -> Expr:
    return b if a is None else a + b


def _negative(g: Expr) -> Expr:
    masks, inner = _masks(g)
    return _masked_by(masks, inner.args[0] if inner.name == "neg" else -inner)


def _masked(condition: Expr, g: Expr, positive: bool) -> Expr:
    return call("where", condition, g, 0.0) if positive else call("where", condition, 0.0, g)


def _mask(g: Expr) -> tuple[Expr, Expr, bool] | None:
    """(c, h, True) if g is where(c, h, 0), (c, h, False) if it is where(c, 0, h); h as long as g."""
    if g.name != "where" or g.kind != "real":
        return None
    condition, yes, no = g.args
    if no.is_const(0.0):
        return condition, _fit(yes, g.dim), True
    if yes.is_const(0.0):
        return condition, _fit(no, g.dim), False
    return None


def _masks(g: Expr) -> tuple[list[Mask], Expr]:
    """All conditions on g, the outermost first, and what is inside of them."""
    found: list[Mask] = []
    while (mask := _mask(g)) is not None:
        condition, g, positive = mask
        if (condition, positive) not in found:
            found.append((condition, positive))
    return found, g


def _masked_by(masks: Sequence[Mask], g: Expr) -> Expr:
    for condition, positive in reversed(masks):
        g = _masked(condition, g, positive)
    return g


def _fit(g: Expr, dim: int, singular: bool = False) -> Expr:
    """A cotangent made as long as what it belongs to: repeated, or summed for an argument that was broadcast.

    singular: may it be multiplied by something infinite? Then a sum of nothing but masked components is masked itself.
    """
    if g.dim == dim:
        return g
    if g.dim == 1:
        masks, inner = _masks(g)
        return _masked_by(masks, call("repeat", inner, times=dim))
    assert dim == 1
    outside: list[Mask | None] = []  # what the sum stands in, from the outside: masks, None for a sign
    inside: list[Mask] = []  # masks of components
    while True:
        if g.name == "neg":
            g = g.args[0]
            outside.append(None)
        elif (mask := _mask(g)) is not None:
            condition, g, positive = mask
            (outside if condition.dim == 1 else inside).append((condition, positive))
        else:
            break
    if inside:
        result = call("sum_d", _masked_by(inside, g), group=g.dim)
        if singular:
            result = _masked(_any(_all(inside)), result, True)
    else:
        repeated = g.name == "repeat" and g.args[0].dim == 1
        result = g.args[0] * float(g.dim) if repeated else call("sum_d", g, group=g.dim)
    for around in reversed(outside):
        result = _inside(around, result)
    return result


def _any(condition: Expr) -> Expr:
    """Is a condition true for some component?"""
    return call("sum_d", as_kind(condition, "real"), group=condition.dim) > 0.0


def _or_zero(g: Expr | None, dim: int) -> Expr:
    return zeros(dim) if g is None else g
