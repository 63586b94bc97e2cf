"""Derivatives as formulas: gradient, differential, Jacobian, divergence, Laplacian, and what linear maps have beside.

In: a formula f, one of its variables v, directions.  Out: formulas in the same variables.  Derivatives come from
autodiff.py; this file knows what they are combined to.

A trace sum_k dF_k/dv_k is not taken column by column where that can be avoided.  Along a direction w the differential
is a formula L(w), linear in w, and with weights g the sum T = sum_k g_k L(e_k)_k obeys

    L = a L' element-wise      T(L, g) = T(L', a g)         L = w                T = sum_k g_k
    L of length 1, repeated    T(L, g) = L(g)               L = L' + L''         T = T(L', g) + T(L'', g)

so that the Laplacian of a radial kernel costs a few operations more than its gradient, whatever its dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import FormulaError, ShapeError
from ..ir.expr import Expr, Operand, as_kind, call, const, input_, inputs, substitute, toposort
from .autodiff import jvp, scale, vjp, zeros


def grad(f: Expr, v: Expr, cotangent: Operand) -> Expr:
    """The adjoint of the differential of f with respect to v, applied to a cotangent: a vector as long as v."""
    v, g = _variable("grad", v), _real(cotangent)
    _fits("grad", "the cotangent", g, f.dim)
    return vjp([as_kind(f, "real")], [g], [v])[0]


def diff(f: Expr, v: Expr | Sequence[Expr], direction: Operand | Sequence[Operand]) -> Expr:
    """The derivative of f when v, or each of several variables, moves along its direction: a vector as long as f."""
    variables = [v] if isinstance(v, Expr) else list(v)
    directions = [direction] if isinstance(direction, (Expr, float, int)) else list(direction)
    if len(variables) != len(directions):
        raise ShapeError(f"diff: {len(variables)} variables and {len(directions)} directions.")
    tangents = [_real(d) for d in directions]
    for x, t in zip(variables, tangents, strict=True):
        _fits("diff", "the direction", t, _variable("diff", x).dim)
    return jvp([as_kind(f, "real")], variables, tangents)[0]


def grad_matrix(f: Expr, v: Expr) -> Expr:
    """The Jacobian, row after row: component k dim(v) + l is the derivative of f_k with respect to v_l."""
    f, v = as_kind(f, "real"), _variable("grad_matrix", v)
    if f.dim <= v.dim:
        return _joined([vjp([f], [_unit(k, f.dim)], [v])[0] for k in range(f.dim)])
    columns = _joined([jvp([f], [v], [_unit(k, v.dim)])[0] for k in range(v.dim)])
    return call("transpose", columns, sizes=(v.dim, f.dim), order=(1, 0))


def divergence(f: Expr, v: Expr) -> Expr:
    """sum_k of the derivative of f_k with respect to v_k, for f as long as v."""
    if f.dim != v.dim:
        raise ShapeError(f"divergence: the formula has length {f.dim}, the variable {v.dim}; they must be equal.")
    w = _direction(f, v)
    return _trace(diff(f, _variable("divergence", v), w), w, const(1.0))


def laplacian(f: Expr, v: Expr) -> Expr:
    """sum_k of the second derivative of f with respect to v_k, for f of length 1."""
    if f.dim != 1:
        raise ShapeError(f"laplacian: the formula has length {f.dim}; it takes one number.")
    return divergence(grad(f, v, 1), v)


def trace_operator(f: Expr, v: Expr, weight: Operand = 1) -> Expr:
    """sum_k weight_k A_kk for f = A v, linear in v, which is not in the result.

    A formula of length 1 counts for every component: sum_k weight_k A_k.
    """
    w = _direction(f, v)
    g = _real(weight)
    if f.dim not in (1, v.dim):
        raise ShapeError(f"trace_operator: the formula has length {f.dim}, the variable {v.dim}; it has no trace.")
    _fits("trace_operator", "the weight", g, v.dim)
    return _trace(_linear("trace_operator", f, v, w), w, g)


def adjoint_operator(f: Expr, v: Expr, u: Operand) -> Expr:
    """The transpose of A applied to u, for f = A v, linear in v, which is not in the result."""
    return _free("adjoint_operator", grad(f, v, u), v)


def sum_lin_operator(f: Expr, v: Expr, left: Operand = 1, right: Operand = 1) -> Expr:
    """sum_kl left_k A_kl right_l for f = A v, linear in v, which is not in the result."""
    weight = _real(left)
    _fits("sum_lin_operator", "the left weight", weight, f.dim)
    return call("sum", weight * _linear("sum_lin_operator", f, v, _real(right)))


# ---------------------------------------------------------------------- linear maps


def _linear(name: str, f: Expr, v: Expr, w: Expr) -> Expr:
    """A w for f = A v."""
    return _free(name, diff(f, v, w), v)


def _free(name: str, result: Expr, v: Expr) -> Expr:
    if v in inputs(result):
        raise FormulaError(f"{name}: the formula is not linear in the variable.")
    return result


def _direction(f: Expr, v: Expr) -> Expr:
    """A variable like v that f does not use; it never remains in a result."""
    used = [n.param("slot") for n in inputs(f, v)]
    return input_(max(used, default=-1) + 1, "p", v.dim)


def _trace(formula: Expr, w: Expr, weight: Expr) -> Expr:
    """sum_k weight_k L(e_k)_k for a formula L(w), linear in w and of the length of w (or 1: the same for all k)."""
    nodes = toposort(formula)
    linear = {w}
    for node in nodes:
        if node.kind == "real" and any(a in linear for a in node.args):
            linear.add(node)
    weights: dict[Expr, Expr] = {formula: weight}
    total: Expr | None = None
    for node in reversed(nodes):
        g = weights.pop(node, None)
        if g is None or node not in linear:
            continue
        parts = None if node is w or node.dim == 1 else _passed_down(node, g, linear)
        for arg, part in parts or ():
            weights[arg] = weights[arg] + part if arg in weights else part
        if parts is None:
            term = _term(node, w, g)
            total = term if total is None else total + term
    return zeros(1) if total is None else total


def _passed_down(node: Expr, g: Expr, linear: set[Expr]) -> list[tuple[Expr, Expr]] | None:
    """The weights that the arguments take over from an element-wise node; None for a node of another kind."""
    args, name = node.args, node.name
    if name in ("add", "sub", "neg"):
        signs = (1, -1) if name == "sub" else (-1,) if name == "neg" else (1, 1)
        return [(a, g if sign > 0 else -g) for a, sign in zip(args, signs, strict=True) if a in linear]
    if name == "repeat" and args[0].dim == 1:
        return [(args[0], g)]
    if name == "mul" and (args[0] in linear) != (args[1] in linear):
        inner, factor = args if args[0] in linear else reversed(args)
        return [(inner, scale(factor, g) if g.dim == 1 else g * factor)]
    if name == "div" and args[1] not in linear:
        return [(args[0], g / args[1])]
    if name == "where":
        condition = args[0]
        masked = (call("where", condition, g, 0.0), call("where", condition, 0.0, g))
        return [(a, part) for a, part in zip(args[1:], masked, strict=True) if a in linear]
    return None


def _term(node: Expr, w: Expr, g: Expr) -> Expr:
    """sum_k g_k L(e_k)_k for a node that hands nothing down."""
    if node is w:
        return call("sum", g) if g.dim > 1 else g * float(w.dim)
    if node.dim == 1:  # one number for all k: by linearity, its value at g
        return substitute(node, {w: g if g.dim == w.dim else call("repeat", g, times=w.dim)})
    weights = g if g.dim == w.dim else call("repeat", g, times=w.dim)
    terms = [
        call("elem", weights, index=k) * call("elem", substitute(node, {w: _unit(k, w.dim)}), index=k)
        for k in range(w.dim)
    ]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


# ---------------------------------------------------------------------- small things


def _real(x: Operand) -> Expr:
    return as_kind(x, "real") if isinstance(x, Expr) else const(float(x))


def _unit(k: int, size: int) -> Expr:
    return const(1.0) if size == 1 else call("pad", const(1.0), start=k, size=size)


def _joined(vectors: list[Expr]) -> Expr:
    result = vectors[0]
    for v in vectors[1:]:
        result = call("concat", result, v)
    return result


def _variable(name: str, v: Expr) -> Expr:
    if v.name != "input":
        raise FormulaError(f"{name}: derivatives are taken with respect to variables, not to formulas.")
    return v


def _fits(name: str, what: str, x: Expr, dim: int) -> None:
    if x.dim not in (1, dim):
        raise ShapeError(f"{name}: {what} has length {x.dim}; it takes {dim}.")
