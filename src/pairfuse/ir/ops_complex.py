"""The table of operations, part 5: complex numbers, as pairs (real part, imaginary part) that follow each other.

In: nothing.  Out: two primitive rows, which put pairs together and take them apart, and the operations on pairs, which
are defined by them and by the operations on numbers, in `OPS`.  A vector of n complex numbers has the length 2 n; one
complex number, of length 2, combines with any number of them.

Derivatives are those of real vectors, so that the derivative with respect to z of a real function L is the vector of
pairs (dL / d Re z, dL / d Im z): torch's convention.  A holomorphic function pulls g back to g conj(f'(z)).
"""
# The cells of a row are short functions whose arguments need no annotation:
# pyright: basic

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ShapeError
from . import ops_functions, ops_structure, ops_vector
from .expr import Expr, call, const
from .rows import ANYWHERE, TABLE, derived, structural, where

PARTS_BEFORE = (ops_functions, ops_structure, ops_vector)  # the products below are twins of theirs
_before = frozenset(TABLE)

NUMBERS = (((2,), {}), ((6,), {}))  # calls with one argument: one complex number, three of them
PAIRS = (((2, 2), {}), ((6, 6), {}), ((2, 6), {}), ((6, 2), {}))
# Longer vectors are walked by loops, in which a choice between the two parts would be made for each component
# (lower/scalar.py, UNROLL).
LONGEST_WRITTEN_OUT = 32
AWAY = (0.5, 2.0)  # from zero, and from the branch cut of roots and logarithms

# ---------------------------------------------------------------------- masks
# A cotangent where(c, h, 0) is pulled back inside of its mask: the derivative of a branch that is not taken may be
# infinite (transform/autodiff.py does so for real operations). Both parts of a number have the same condition.


def _through_mask(g: Expr, condition_of: Callable[[Expr], Expr | None], pull: Callable[[Expr], Expr]) -> Expr:
    """pull(g), inside of the masks of g, whose conditions are translated."""
    masks: list[tuple[Expr, bool]] = []
    while g.name == "where":
        c, yes, no = g.args
        condition = condition_of(c)
        if condition is None or not (no.is_const(0.0) or yes.is_const(0.0)):
            break
        masks.append((condition, no.is_const(0.0)))
        g = _repeated(yes if no.is_const(0.0) else no, g.dim)
    result = pull(g)
    for condition, positive in reversed(masks):
        result = where(condition, result, 0.0) if positive else where(condition, 0.0, result)
    return result


def _repeated(x: Expr, dim: int) -> Expr:
    return call("repeat", x, times=dim) if x.dim < dim else x


def _of_pairs(condition: Expr) -> Expr | None:
    """The condition of numbers, from that of their parts."""
    if condition.dim == 1:
        return condition
    return condition.args[0] if condition.name == "repeat" and condition.param("times") == 2 else None


def _to_pairs(condition: Expr) -> Expr:
    """The other way."""
    return condition if condition.dim == 1 else call("repeat", condition, times=2)


def _same_condition(condition: Expr) -> Expr | None:
    return None if _of_pairs(condition) is None else condition


# ---------------------------------------------------------------------- pairs


def _interleave_dim(a: int, b: int) -> int:
    if a != b and 1 not in (a, b):
        raise ShapeError(f"interleave: the vectors have different lengths, {a} and {b}.")
    return 2 * max(a, b)


def _interleave_ref(x: Any, y: Any) -> Any:
    x, y = np.broadcast_arrays(x, y)
    return np.stack((x, y), axis=-1).reshape(*x.shape[:-1], 2 * x.shape[-1])


def _interleave_component(node: Expr, d: Any, at: Any, fold: Any) -> Expr:
    def read(k: int, pair: Any) -> Expr:
        return at(node.args[k], 0 if node.args[k].dim == 1 else pair)

    if isinstance(d, int):
        return read(d % 2, d // 2)
    pair = call("floordiv", d, const(2, "index"))
    return where(call("eq", pair + pair, d), read(0, pair), read(1, pair))


def _interleave_vjp(g: Expr, out: Expr, x: Expr, y: Expr) -> tuple[Expr, ...]:
    parts = [_through_mask(g, _of_pairs, lambda h, k=k: call("deinterleave", h, part=k)) for k in (0, 1)]
    return tuple(call("sum_d", p, group=p.dim) if a.dim < p.dim else p for p, a in zip(parts, (x, y), strict=True))


structural(
    "interleave",
    2,
    _interleave_dim,
    operands="number",
    kind="same",
    ref=_interleave_ref,
    vjp=_interleave_vjp,
    component=_interleave_component,
    samples=(((1, 1), {}), ((3, 3), {}), ((1, 3), {}), ((3, 1), {})),
    doc="The pairs x_0, y_0, x_1, y_1 ...: the complex numbers x + i y.",
)


def _deinterleave_dim(d: int, part: int) -> int:
    if d % 2 or part not in (0, 1):
        raise ShapeError(f"deinterleave: part {part} of the pairs in a vector of length {d}; it takes 0 or 1, and 2 n.")
    return d // 2


def _deinterleave_component(node: Expr, d: Any, at: Any, fold: Any) -> Expr:
    z, part = node.args[0], node.param("part")
    return at(z, 2 * d + part if isinstance(d, int) else d * const(2, "index") + const(part, "index"))


def _deinterleave_vjp(g: Expr, out: Expr, z: Expr, part: int) -> tuple[Expr]:
    def pull(h: Expr) -> Expr:
        return call("interleave", const(0.0), h) if part else call("interleave", h, const(0.0))

    return (_through_mask(g, _to_pairs, pull),)


structural(
    "deinterleave",
    1,
    _deinterleave_dim,
    params=("part",),
    kind="same",
    operands="any",
    ref=lambda z, part: z[..., part::2],
    vjp=_deinterleave_vjp,
    component=_deinterleave_component,
    samples=(((2,), {"part": 0}), ((2,), {"part": 1}), ((6,), {"part": 0}), ((6,), {"part": 1})),
    doc="Every second component, from number `part` on: 0 gives the real parts of pairs, 1 the imaginary parts.",
)

# ---------------------------------------------------------------------- what definitions are written with


def _parts(z: Expr) -> tuple[Expr, Expr]:
    """Real and imaginary parts; of pairs that were just put together, what they were made of: one may be shorter."""
    if z.name == "interleave":
        return z.args[0], z.args[1]
    return call("deinterleave", z, part=0), call("deinterleave", z, part=1)


def _full_parts(z: Expr) -> tuple[Expr, Expr]:
    """The same, both of full length."""
    n = z.dim // 2
    a, b = (call("repeat", p, times=n) if p.dim < n else p for p in _parts(z))
    return a, b


def _pairs(re: Expr, im: Expr, n: int) -> Expr:
    """n complex numbers."""
    return call("interleave", re if max(re.dim, im.dim) == n else call("repeat", re, times=n), im)


# A part that is written as the number 0 takes no part: so a real number times a complex one is two products, and
# neither an infinity nor a NaN is made of it.


def _none(x: Expr) -> bool:
    return x.is_const(0.0)


def _plus(x: Expr, y: Expr) -> Expr:
    return x if _none(y) else y if _none(x) else x + y


def _minus(x: Expr, y: Expr) -> Expr:
    return x if _none(y) else -y if _none(x) else x - y


def _times(x: Expr, y: Expr) -> Expr:
    return const(0.0) if _none(x) or _none(y) else x * y


def _conj(z: Expr) -> Expr:
    return call("conj", z)


def _mult(z: Expr, w: Expr) -> Expr:
    return call("complex_mult", z, w)


def _pulled(g: Expr, slope: Expr) -> Expr:
    """The cotangent of the argument of a holomorphic function."""
    return _through_mask(g, _same_condition, lambda h: _mult(h, _conj(slope)))


def _divide(z: Expr, w: Expr) -> Expr:
    return call("complex_divide", z, w)


def _scaled(z: Expr, factor: float) -> Expr:
    return z * const(factor)


def _fit(g: Expr, dim: int) -> Expr:
    """The cotangent of one complex number that was combined with several."""
    return call("complex_sum", g) if g.dim > dim else g


def _number(name: str, d: int) -> int:
    """How many complex numbers a vector is."""
    if d % 2:
        raise ShapeError(f"{name}: a vector of length {d} is no sequence of pairs (real part, imaginary part).")
    return d // 2


def _common(name: str, a: int, b: int) -> int:
    """How many complex numbers come out of an element-wise operation."""
    m, n = _number(name, a), _number(name, b)
    if m != n and 1 not in (m, n):
        raise ShapeError(f"{name}: the vectors have different lengths, {m} and {n}.")
    return max(m, n)


def _to_number(name: str, expand: Callable[..., Expr], **cells: Any) -> None:
    """A row that makes one real number of each complex one."""
    derived(name, 1, lambda d: _number(name, d), operands="real", expand=expand, **{"samples": NUMBERS, **cells})


def _to_complex(name: str, expand: Callable[..., Expr], **cells: Any) -> None:
    """A row that makes one complex number of each real one."""
    derived(name, 1, lambda d: 2 * d, operands="real", expand=expand, samples=(((1,), {}), ((3,), {})), **cells)


def _of_one(name: str, expand: Callable[..., Expr], **cells: Any) -> None:
    """A row that makes one complex number of each complex one."""

    def dim(d: int, **_: Any) -> int:
        return 2 * _number(name, d)

    derived(name, 1, dim, operands="real", expand=expand, **{"samples": NUMBERS, **cells})


def _holomorphic(name: str, expand: Callable[..., Expr], slope: Callable[..., Expr], **cells: Any) -> None:
    """The same with the derivative slope(out, z)."""
    _of_one(
        name,
        expand,
        vjp=lambda g, out, z, **params: (_pulled(g, slope(out, z, **params)),),
        jvp=lambda t, out, z, **params: _mult(t[0], slope(out, z, **params)),
        **cells,
    )


def _of_two(name: str, expand: Callable[..., Expr], **cells: Any) -> None:
    """A row that makes one complex number of each two."""
    derived(
        name,
        2,
        lambda a, b: 2 * _common(name, a, b),
        operands="real",
        expand=expand,
        **{"samples": PAIRS, **cells},
    )


# ---------------------------------------------------------------------- parts

_to_number("complex_real", lambda z: _full_parts(z)[0], doc="Real part.", aliases=("ComplexReal",))
_to_number("complex_imag", lambda z: _full_parts(z)[1], doc="Imaginary part.", aliases=("ComplexImag",))
_to_complex(
    "real2complex",
    lambda x: call("interleave", x, const(0.0)),
    doc="The complex number x + 0 i.",
    aliases=("Real2Complex",),
)
_to_complex(
    "imag2complex",
    lambda x: call("interleave", const(0.0), x),
    doc="The complex number 0 + x i.",
    aliases=("Imag2Complex",),
)
_to_complex(
    "complex_exp1j",
    lambda x: call("interleave", call("cos", x), call("sin", x)),
    doc="exp(i x) of a real number x.",
    aliases=("ComplexExp1j",),
)
_to_number(
    "complex_sqabs",
    lambda z: _plus(*(_times(p, p) for p in _full_parts(z))),
    doc="Square of the modulus, |z|^2.",
    aliases=("ComplexSquareAbs",),
)
_to_number(
    "complex_abs",
    lambda z: call("sqrt", call("complex_sqabs", z)),
    doc="Modulus, |z|; derivative 0 at 0.",
    aliases=("ComplexAbs",),
)


def _angle(z: Expr) -> Expr:
    re, im = _full_parts(z)
    return call("atan2", im, re)


_to_number(
    "complex_angle",
    _angle,
    domain=(AWAY,),
    doc="Angle of z, in radians, between -pi and pi; derivative 0 at 0.",
    aliases=("ComplexAngle",),
)


def _conjugate(z: Expr) -> Expr:
    re, im = _parts(z)
    return _pairs(re, im if _none(im) else -im, z.dim // 2)


_of_one("conj", _conjugate, doc="Complex conjugate.", aliases=("Conj",))

# ---------------------------------------------------------------------- sums


def _complex_sum(z: Expr) -> Expr:
    if z.dim == 2:
        return z
    re, im = (const(0.0) if _none(p) else call("sum", call("repeat", p, times=z.dim // (2 * p.dim))) for p in _parts(z))
    return call("interleave", re, im)


derived(
    "complex_sum",
    1,
    lambda d: 2 * min(1, _number("complex_sum", d)),
    operands="real",
    expand=_complex_sum,
    samples=NUMBERS,
    doc="Sum of the complex numbers.",
    aliases=("ComplexSum",),
)


def _complex_sum_t_dim(d: int, dim: int) -> int:
    if d != 2 or dim < 2 or dim % 2:
        raise ShapeError(f"complex_sum_t: a vector of length {d}, repeated to {dim}; it takes 2, and 2 n.")
    return dim


derived(
    "complex_sum_t",
    1,
    _complex_sum_t_dim,
    params=("dim",),
    operands="real",
    expand=lambda z, dim: call("tile", z, times=dim // 2),
    samples=(((2,), {"dim": 6}), ((2,), {"dim": 2})),
    doc="One complex number, again and again, in a vector of length dim.",
    aliases=("ComplexSumT",),
)

# ---------------------------------------------------------------------- arithmetic


def _sum(operation: Callable[[Expr, Expr], Expr]) -> Callable[[Expr, Expr], Expr]:
    def expand(z: Expr, w: Expr) -> Expr:
        if z.dim == w.dim and "interleave" not in (z.name, w.name):
            return operation(z, w)
        (a, b), (c, d) = _parts(z), _parts(w)
        return _pairs(operation(a, c), operation(b, d), max(z.dim, w.dim) // 2)

    return expand


def _product(z: Expr, w: Expr) -> Expr:
    if max(z.dim, w.dim) > LONGEST_WRITTEN_OUT:
        if z.dim <= w.dim and w.name != "interleave":
            return _long_product(z, w)
        if w.dim <= z.dim and z.name != "interleave":
            return _long_product(w, z)
    (a, b), (c, d) = _parts(z), _parts(w)
    re, im = _minus(_times(a, c), _times(b, d)), _plus(_times(a, d), _times(b, c))
    return _pairs(re, im, max(z.dim, w.dim) // 2)


def _long_product(z: Expr, w: Expr) -> Expr:
    """Re z times w, plus Im z times i w, without a choice for each component: i w depends on as much as w does."""
    c, d = _parts(w)
    turned = (w, _pairs(-d, c, w.dim // 2))
    a, b = (p if p.dim == 1 else call("repeat", p, times=2) for p in _parts(z))
    terms = [p * v for p, v in zip((a, b), turned, strict=True) if not _none(p)]
    if not terms:
        return call("repeat", const(0.0), times=w.dim)
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


def _quotient(z: Expr, w: Expr) -> Expr:
    """Smith's method: the smaller part of w is divided by the larger one, whose square might overflow.

    R. L. Smith, Algorithm 116: Complex division, Communications of the ACM 5 (1962).
    """
    (a, b), (c, d) = _parts(z), _parts(w)
    n = max(z.dim, w.dim) // 2
    if _none(d):
        return _pairs(a / c, const(0.0) if _none(b) else b / c, n)
    if _none(c):
        return _pairs(const(0.0) if _none(b) else b / d, -(a / d), n)
    steep = call("abs", c) < call("abs", d)
    larger, smaller = where(steep, d, c), where(steep, c, d)
    ratio = smaller / larger
    inverse = 1 / (larger + smaller * ratio)
    if _none(b):
        return _pairs(a * (where(steep, ratio, 1.0) * inverse), -(a * (where(steep, 1.0, ratio) * inverse)), n)
    first, second = where(steep, b, a), where(steep, a, b)
    re, im = (first + second * ratio) * inverse, (second - first * ratio) * inverse
    return _pairs(re, where(steep, -im, im), n)


def _product_vjp(g: Expr, out: Expr, z: Expr, w: Expr) -> tuple[Expr, ...]:
    return _fit(_pulled(g, w), z.dim), _fit(_pulled(g, z), w.dim)


def _product_jvp(t: Any, out: Expr, z: Expr, w: Expr) -> Expr:
    return _total(None if t[0] is None else _mult(t[0], w), None if t[1] is None else _mult(z, t[1]))


def _quotient_vjp(g: Expr, out: Expr, z: Expr, w: Expr) -> tuple[Expr, ...]:
    # g / conj(w), written with what the value itself has computed
    back = _through_mask(g, _same_condition, lambda h: _conj(_divide(_conj(h), w)))
    return _fit(back, z.dim), _fit(_pulled(back, -out), w.dim)


def _quotient_jvp(t: Any, out: Expr, z: Expr, w: Expr) -> Expr:
    moved = _total(t[0], None if t[1] is None else -_mult(out, t[1]))
    return _divide(moved, w)


def _total(a: Expr | None, b: Expr | None) -> Expr:
    if a is None or b is None:
        found = b if a is None else a
        assert found is not None
        return found
    return call("complex_add", a, b)


_of_two("complex_add", _sum(_plus), doc="Sum of complex numbers.", aliases=("ComplexAdd",))
_of_two("complex_subtract", _sum(_minus), doc="Difference of complex numbers.", aliases=("ComplexSubtract",))
_of_two(
    "complex_mult",
    _product,
    vjp=_product_vjp,
    jvp=_product_jvp,
    doc="Product of complex numbers.",
    aliases=("ComplexMult",),
)
_of_two(
    "complex_divide",
    _quotient,
    vjp=_quotient_vjp,
    jvp=_quotient_jvp,
    domain=(ANYWHERE, AWAY),
    doc="Quotient of complex numbers, without overflow on the way; NaN where the divisor is 0.",
    aliases=("ComplexDivide",),
)


def _scal_dim(a: int, b: int) -> int:
    if b == 1:  # the other order, in which KeOps understands it, too
        return 2 * _number("complex_real_scal", a)
    n = _number("complex_real_scal", b)
    if a != n and 1 not in (a, n):
        raise ShapeError(f"complex_real_scal: {a} real numbers and {n} complex ones.")
    return 2 * max(a, n)


def _scal(x: Expr, z: Expr) -> Expr:
    if 1 in (x.dim, z.dim):
        return x * z
    return _mult(call("real2complex", x), z)


derived(
    "complex_real_scal",
    2,
    _scal_dim,
    operands="real",
    expand=_scal,
    samples=(((1, 2), {}), ((1, 6), {}), ((3, 6), {}), ((3, 2), {}), ((6, 1), {})),
    doc="Real numbers times complex ones.",
    aliases=("ComplexRealScal",),
)
_holomorphic(
    "complex_inv",
    lambda z: _quotient(call("interleave", const(1.0), const(0.0)), z),
    lambda out, z: -_mult(out, out),
    domain=(AWAY,),
    doc="1 / z.",
)
_holomorphic(
    "complex_square",
    lambda z: _squared(z),
    lambda out, z: _scaled(z, 2.0),
    doc="z times z.",
)


def _squared(z: Expr) -> Expr:
    a, b = _parts(z)
    product = _times(a, b)
    return _pairs(_minus(_times(a, a), _times(b, b)), _plus(product, product), z.dim // 2)


def _power_of_whole(z: Expr, n: int) -> Expr:
    """Repeated squaring."""
    if n < 0:
        return call("complex_inv", _power_of_whole(z, -n))
    result = _pairs(const(1.0), const(0.0), z.dim // 2) if n == 0 else z
    for bit in f"{n:b}"[1:]:
        result = call("complex_square", result)
        result = _mult(result, z) if bit == "1" else result
    return result


_holomorphic(
    "complex_powi",
    _power_of_whole,
    lambda out, z, n: (
        _scaled(call("complex_powi", z, n=n - 1), float(n)) if n else _pairs(const(0.0), const(0.0), z.dim // 2)
    ),
    params=("n",),
    domain=(AWAY,),
    samples=tuple(((dim,), {"n": n}) for n, dim in ((2, 6), (-3, 2), (-1, 6), (0, 2), (1, 2), (3, 2), (7, 2))),
    doc="z to the integer power n, by repeated multiplication; z ** 0 is 1 everywhere.",
)

# ---------------------------------------------------------------------- functions


def _exp(z: Expr) -> Expr:
    a, b = _parts(z)
    size = call("exp", a)
    re = size if _none(b) else call("cos", b) if _none(a) else size * call("cos", b)
    if _none(a) or _none(b):
        im = b if _none(b) else call("sin", b)
    else:  # of a real number, real even where it is infinite
        im = where(call("eq", b, 0.0), b, size * call("sin", b))
    return _pairs(re, im, z.dim // 2)


def _sizes(z: Expr) -> tuple[Expr, Expr]:
    """The larger of |Re z| and |Im z|, and the quotient of the other by it."""
    a, b = (call("abs", p) for p in _full_parts(z))
    larger, smaller = where(a < b, b, a), where(a < b, a, b)
    return larger, where(call("eq", larger, smaller), 1.0, smaller / larger)  # of two zeros, or infinities, too


def _log(z: Expr) -> Expr:
    larger, ratio = _sizes(z)
    return _pairs(call("log", larger) + 0.5 * call("log1p", ratio * ratio), _angle(z), z.dim // 2)


def _sqrt(z: Expr) -> Expr:
    """By the root of a positive number, from which nothing is subtracted; the sign of a zero chooses the side."""
    a, b = _full_parts(z)
    larger, ratio = _sizes(z)
    modulus = larger * call("sqrt", ratio * ratio + 1)
    root = call("sqrt", modulus * 0.5 + call("abs", a) * 0.5)
    other = where(call("eq", root, 0.0), 0.0, call("abs", b) / (root + root))
    left = a < 0.0
    return _pairs(where(left, other, root), call("copysign", where(left, root, other), b), z.dim // 2)


def _is_zero(z: Expr) -> Expr:
    """For both parts of each number: is the number 0?"""
    a, b = _full_parts(z)
    return call("repeat", call("eq", a, 0.0) & call("eq", b, 0.0), times=2)


_holomorphic(
    "complex_exp",
    _exp,
    lambda out, z: out,
    doc="Exponential.",
    aliases=("ComplexExp",),
)
_holomorphic(
    "complex_log",
    _log,
    lambda out, z: call("complex_inv", z),
    domain=(AWAY,),
    doc="Natural logarithm, log |z| + i angle(z).",
)
_holomorphic(
    "complex_sqrt",
    _sqrt,
    lambda out, z: where(_is_zero(out), 0.0, call("complex_inv", _scaled(out, 2.0))),
    domain=(AWAY,),
    doc="Square root, with a real part >= 0, on the negative axis with the sign of Im z, be it that of a zero;\n"
    "derivative 0 at 0.",
)


def _power(z: Expr, w: Expr) -> Expr:
    """exp(w log z); of zero: 1 if w = 0, 0 if Re w > 0, NaN otherwise."""
    n = max(z.dim, w.dim) // 2
    re = _full_parts(w)[0]
    of_zero = where(_is_zero(w), call("tile", call("interleave", const(1.0), const(0.0)), times=w.dim // 2), math.nan)
    of_zero = where(call("repeat", re > 0.0, times=2), 0.0, of_zero)
    elsewhere = call("complex_exp", _mult(w, call("complex_log", z)))
    return where(*(_long(v, n) for v in (_is_zero(z), of_zero, elsewhere)))


def _long(z: Expr, n: int) -> Expr:
    return call("tile", z, times=n) if z.dim < 2 * n else z


def _power_slopes(out: Expr, z: Expr, w: Expr) -> tuple[Expr, Expr]:
    one, n = call("interleave", const(1.0), const(0.0)), out.dim // 2
    lower = _mult(w, call("complex_pow", z, call("complex_subtract", w, one)))
    by_base = where(_long(_is_zero(w), n), 0.0, lower)
    return by_base, where(_long(_is_zero(z), n), 0.0, _mult(call("complex_log", z), out))


def _power_vjp(g: Expr, out: Expr, z: Expr, w: Expr) -> tuple[Expr, ...]:
    by_base, by_exponent = _power_slopes(out, z, w)
    return _fit(_pulled(g, by_base), z.dim), _fit(_pulled(g, by_exponent), w.dim)


def _power_jvp(t: Any, out: Expr, z: Expr, w: Expr) -> Expr:
    slopes = _power_slopes(out, z, w)
    moved = [None if a is None else _mult(a, slope) for a, slope in zip(t, slopes, strict=True)]
    return _total(*moved)


_of_two(
    "complex_pow",
    _power,
    vjp=_power_vjp,
    jvp=_power_jvp,
    domain=(AWAY, ANYWHERE),
    doc="z to the complex power w, exp(w log z); z ** 0 is 1 everywhere, and 0 ** w is 0 where Re w > 0.",
)


def _trigonometric(name: str, re: tuple[str, str], im: tuple[str, str], sign: int, doc: str) -> None:
    """re0(Re z) re1(Im z) + i sign im0(Re z) im1(Im z)."""

    def expand(z: Expr) -> Expr:
        a, b = _full_parts(z)
        imaginary = call(im[0], a) * call(im[1], b)
        return call("interleave", call(re[0], a) * call(re[1], b), imaginary if sign > 0 else -imaginary)

    _of_one(name, expand, doc=doc)


_trigonometric("complex_sin", ("sin", "cosh"), ("cos", "sinh"), 1, "Sine.")
_trigonometric("complex_cos", ("cos", "cosh"), ("sin", "sinh"), -1, "Cosine.")
_trigonometric("complex_sinh", ("sinh", "cos"), ("cosh", "sin"), 1, "Hyperbolic sine.")
_trigonometric("complex_cosh", ("cosh", "cos"), ("sinh", "sin"), 1, "Hyperbolic cosine.")

# ---------------------------------------------------------------------- products of matrices and tensors


def _length(sample: tuple[tuple[int, ...], Any]) -> int:
    return sum(sample[0])


def _bilinear(name: str) -> None:
    """The complex twin of a product: four products of parts."""
    real = TABLE[name]

    def expand(z: Expr, w: Expr, **params: Any) -> Expr:
        (a, b), (c, d) = _full_parts(z), _full_parts(w)

        def product(x: Expr, y: Expr) -> Expr:
            zero = _none(x) or _none(y) or any(v.name == "repeat" and _none(v.args[0]) for v in (x, y))
            return const(0.0) if zero else call(name, x, y, **params)

        re, im = _minus(product(a, c), product(b, d)), _plus(product(a, d), product(b, c))
        return _pairs(re, im, real.dim(a.dim, c.dim, **params))

    def dim(a: int, b: int, **params: Any) -> int:
        complete = f"complex_{name}"
        return 2 * real.dim(_number(complete, a), _number(complete, b), **params)

    derived(
        f"complex_{name}",
        2,
        dim,
        operands="real",
        params=real.params,
        expand=expand,
        samples=tuple((tuple(2 * d for d in dims), params) for dims, params in sorted(real.samples, key=_length)),
        doc=f"{name} of complex numbers: {real.doc[0].lower()}{real.doc[1:]}",
    )


for _name in ("matvecmult", "vecmatmult", "tensorprod", "tensordot", "kron"):
    _bilinear(_name)

ROWS = frozenset(TABLE) - _before  # the rows of this file
