"""The table of operations: every row is complete, means what NumPy means, and keeps the conventions of the field."""

from __future__ import annotations

import inspect
import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from formulas import Sample, agree, samples, value
from scipy import special
from scipy.interpolate import BSpline

from pairfuse.backends.llvm.builder import Builder
from pairfuse.backends.llvm.math import MATH
from pairfuse.errors import FormulaError, ShapeError
from pairfuse.ir.expr import Expr, Op, call, const, evaluate, index, input_, toposort
from pairfuse.ir.ops import OPS, TABLE, lookup
from pairfuse.transform.autodiff import vjp
from pairfuse.transform.expand import expand, is_derived

ROWS = list(TABLE.values())
SAMPLES = list(samples())
INDICES = ("number", "where", "index")
PRIMITIVE_CELLS = ("ref", "component", "llvm", "llvm_int", "triton", "triton_int")
BY_THE_EMITTER = {"to_real", "to_index"}  # written by the emitter, which knows the types

# ---------------------------------------------------------------------- every row is complete


@pytest.mark.parametrize("op", ROWS, ids=str)
def test_row_has_all_its_cells(op: Op) -> None:
    assert op.doc.endswith("."), "the line of the manual is missing"
    assert op.samples, "no sample: no test would see this row"
    assert len(op.domain) == op.arity
    if op.expand is not None:
        filled = [cell for cell in PRIMITIVE_CELLS if getattr(op, cell) is not None]
        assert not filled, f"a derived row only has `expand`: {filled}"
        return
    assert op.ref is not None
    assert op.partials is not None or op.vjp is not None, "the derivative is missing"
    if op.elementwise:
        assert op.llvm is not None or op.operands == "index"
        assert op.triton is not None
        if op.operands in INDICES:
            assert op.llvm_int is not None, "indices are not covered"
    else:
        assert op.component is not None


@pytest.mark.parametrize("op", ROWS, ids=str)
def test_cells_name_what_exists(op: Op) -> None:
    for cell in (op.llvm, op.llvm_int):
        if isinstance(cell, str) and cell.startswith("math:"):
            assert MATH[cell.removeprefix("math:")].arity == op.arity
        elif isinstance(cell, str) and cell not in BY_THE_EMITTER:
            assert callable(getattr(Builder, cell))
    for template in (op.triton, op.triton_int):
        if template is not None:
            numbers = {int(n) for n in re.findall(r"{(\d+)}", template)}
            assert numbers == set(range(op.arity))


@pytest.mark.parametrize("op", ROWS, ids=str)
def test_parameters_are_named_once(op: Op) -> None:
    signature = inspect.signature(op.dim).parameters.values()
    named = [p.name for p in signature if p.kind is p.POSITIONAL_OR_KEYWORD][op.arity :]
    assert not named or tuple(named) == op.params
    for _, params in op.samples:
        assert set(params) == set(op.params)


def test_names_are_unique() -> None:
    names = Counter(name for op in OPS.values() for name in (op.name, *op.aliases))
    assert [name for name, count in names.items() if count > 1] == []
    assert lookup("SqDist") is lookup("sqdist") is TABLE["sqdist"]
    with pytest.raises(KeyError):
        lookup("no such operation")


def test_keops_names_are_known() -> None:
    names = """Add Subtract Mult Divide Minus Inv Scalprod Square Pow Powf Abs Exp Log XLogX Sin Cos SinXDivX Asin Acos
    Atan Atan2 Sqrt Rsqrt Sign Step Floor Round ReLU Clamp ClampInt IfElse Mod Equal NotEqual LessThan LessOrEqual Sum
    SumT Max Min ArgMax ArgMin SqNorm2 Norm2 Normalize SqDist SqNormIso SqNormDiag SymSqNorm WeightedSqNorm
    WeightedSqDist Elem ElemT Extract ExtractT Concat OneHot BSpline SoftDTW_SqDist MatVecMult VecMatMult TensorProd
    TensorDot Kron ComplexReal ComplexImag Real2Complex Imag2Complex Conj ComplexAbs ComplexSquareAbs ComplexAngle
    ComplexSum ComplexSumT ComplexAdd ComplexSubtract ComplexMult ComplexDivide ComplexRealScal ComplexExp
    ComplexExp1j"""
    for name in names.split():
        assert lookup(name).name in TABLE


# ---------------------------------------------------------------------- every row means what NumPy means


def rows(function: Callable[..., Any]) -> Callable[..., Any]:
    """A definition on single vectors, applied to every row of the arrays."""

    def on_arrays(*arrays: Any, **params: Any) -> Any:
        return np.array([np.atleast_1d(function(*vectors, **params)) for vectors in zip(*arrays, strict=True)])

    return on_arrays


def tensordot(x: Any, y: Any, dimfa: Any, dimfb: Any, contfa: Any, contfb: Any, perm: Any) -> Any:
    out = np.tensordot(x.reshape(dimfa), y.reshape(dimfb), axes=(contfa, contfb))
    return (out.transpose(np.argsort(perm)) if perm else out).ravel()


def bspline(knots: Any, x: Any, k: int) -> Any:
    knots = np.sort(knots)
    splines = [BSpline.basis_element(knots[n : n + k + 2], extrapolate=False) for n in range(len(knots) - k - 1)]
    return np.nan_to_num([s(x[0]) for s in splines])


def softdtw(x: Any, y: Any, gamma: Any) -> Any:
    """The sum over all paths of exp(-cost / gamma)."""
    total = np.zeros((len(x) + 1, len(y) + 1))
    total[0, 0] = 1
    for i, a in enumerate(x):
        for j, b in enumerate(y):
            before = total[i, j] + total[i + 1, j] + total[i, j + 1]
            total[i + 1, j + 1] = before * np.exp(-((a - b) ** 2) / gamma[0])
    return -gamma * np.log(total[-1, -1])


def norm(x: Any, order: float = 2) -> Any:
    return np.linalg.norm(x, order, axis=-1, keepdims=True)


def place(x: Any, size: int, index: int) -> Any:
    return np.where(np.arange(size) == index, x, 0)


def weighted(s: Any, x: Any) -> Any:
    return x @ (s.reshape(x.size, x.size) if s.size == x.size**2 else np.diag(s * np.ones(x.size))) @ x


def weighted_differences(s: Any, x: Any, y: Any) -> Any:
    return weighted(s, x - y)


def numbers(z: Any) -> Any:
    """Pairs as NumPy's complex numbers."""
    return z[..., ::2] + 1j * z[..., 1::2]


def pairs(z: Any) -> Any:
    z = np.asarray(z, dtype=complex)
    return np.stack((z.real, z.imag), axis=-1).reshape(*z.shape[:-1], 2 * z.shape[-1])


def on_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of complex numbers as one of pairs."""
    return lambda *zs, **params: pairs(function(*map(numbers, zs), **params))


def twin(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of complex vectors, one after the other, as one of rows of pairs."""

    def on_rows(*arrays: Any, **params: Any) -> Any:
        vectors = zip(*map(numbers, arrays), strict=True)
        return np.array([pairs(np.atleast_1d(function(*v, **params))) for v in vectors])

    return on_rows


def scaled(x: Any, z: Any) -> Any:
    return pairs(numbers(x) * z if z.shape[-1] == 1 else x * numbers(z))


# An independent formula for each derived operation.
MEANING: dict[str, Callable[..., Any]] = {
    "square": np.square,
    "powi": lambda x, n: x ** float(n),
    "inv": np.reciprocal,
    "sign": np.sign,
    "step": lambda x: np.heaviside(x, 1),
    "relu": lambda x: np.maximum(x, 0),
    "clamp": np.clip,
    "ifelse": lambda c, a, b: np.where(c >= 0, a, b),
    "mod": lambda x, n, d: np.mod(x - d, n) + d,
    "round": lambda x, d: np.round(x, d),  # random numbers are no halves
    "xlogx": lambda x: special.xlogy(x, x),
    "sinxdivx": lambda x: np.sinc(x / np.pi),
    "sinc": np.sinc,
    "logaddexp": np.logaddexp,
    "logsubexp": lambda x, y: np.log(np.exp(x) - np.exp(y)),
    "log1mexp": lambda x: np.log(1 - np.exp(x)),
    "log_sigmoid": special.log_expit,
    "xlogy": special.xlogy,
    "xlog1py": special.xlog1py,
    "exprel": special.exprel,
    "clamp_min": np.maximum,
    "clamp_max": np.minimum,
    "sum": lambda x: x.sum(-1, keepdims=True),
    "sqnorm2": lambda x: norm(x) ** 2,
    "norm2": norm,
    "norm1": lambda x: norm(x, 1),
    "norminf": lambda x: norm(x, np.inf),
    "normalize": lambda x: x / norm(x),
    "sqdist": lambda x, y: norm(x - y) ** 2,
    "dot": lambda x, y: (x * y).sum(-1, keepdims=True),
    "weightedsqnorm": rows(weighted),
    "weightedsqdist": rows(weighted_differences),
    "elem": lambda x, index: x[:, index : index + 1],
    "elem_t": rows(place),
    "one_hot": rows(lambda x, size: np.arange(size) == np.floor(x[0] + 0.5)),
    "matvecmult": rows(lambda a, x: a.reshape(-1, x.size) @ x),
    "vecmatmult": rows(lambda x, a: x @ a.reshape(x.size, -1)),
    "tensorprod": rows(lambda x, y: np.outer(x, y).ravel()),
    "difference_matrix": rows(lambda x, y: np.subtract.outer(x, y).ravel()),
    "tensordot": rows(tensordot),
    "kron": rows(lambda x, y, dimfa, dimfb: np.kron(x.reshape(dimfa), y.reshape(dimfb)).ravel()),
    "bspline": rows(bspline),
    "softdtw_sqdist": rows(softdtw),
    "complex_real": lambda z: numbers(z).real,
    "complex_imag": lambda z: numbers(z).imag,
    "real2complex": pairs,
    "imag2complex": lambda x: pairs(1j * x),
    "complex_exp1j": lambda x: pairs(np.exp(1j * x)),
    "complex_sqabs": lambda z: np.abs(numbers(z)) ** 2,
    "complex_abs": lambda z: np.abs(numbers(z)),
    "complex_angle": lambda z: np.angle(numbers(z)),
    "conj": on_numbers(np.conj),
    "complex_sum": on_numbers(lambda z: z.sum(-1, keepdims=True)),
    "complex_sum_t": lambda z, dim: np.tile(z, dim // 2),
    "complex_add": on_numbers(np.add),
    "complex_subtract": on_numbers(np.subtract),
    "complex_mult": on_numbers(np.multiply),
    "complex_divide": on_numbers(np.divide),
    "complex_real_scal": scaled,
    "complex_inv": on_numbers(np.reciprocal),
    "complex_square": on_numbers(np.square),
    "complex_powi": on_numbers(lambda z, n: np.exp(n * np.log(z))),
    "complex_exp": on_numbers(np.exp),
    "complex_log": on_numbers(np.log),
    "complex_sqrt": on_numbers(np.sqrt),
    "complex_pow": on_numbers(np.power),
    "complex_sin": on_numbers(np.sin),
    "complex_cos": on_numbers(np.cos),
    "complex_sinh": on_numbers(np.sinh),
    "complex_cosh": on_numbers(np.cosh),
    "complex_matvecmult": twin(lambda a, x: a.reshape(-1, x.size) @ x),
    "complex_vecmatmult": twin(lambda x, a: x @ a.reshape(x.size, -1)),
    "complex_tensorprod": twin(lambda x, y: np.outer(x, y).ravel()),
    "complex_tensordot": twin(tensordot),
    "complex_kron": twin(lambda x, y, dimfa, dimfb: np.kron(x.reshape(dimfa), y.reshape(dimfb)).ravel()),
}


def test_every_derived_row_has_a_meaning() -> None:
    assert {op.name for op in ROWS if op.expand is not None} == set(MEANING)


@pytest.mark.parametrize("sample", [s for s in SAMPLES if s.op.expand is not None], ids=str)
def test_definition_agrees_with_numpy(sample: Sample) -> None:
    (root,) = expand([sample.out])
    assert not any(is_derived(n) for n in toposort(root))
    assert (root.dim, root.kind) == (sample.out.dim, sample.out.kind)
    if sample.op.name == "bspline":
        sample.arrays[0].sort(axis=-1)
    expected = MEANING[sample.op.name](*sample.arrays, **sample.params)
    agree(value(root, sample.values), np.asarray(expected, dtype=float), rtol=1e-11)


REFERENCES: dict[str, Callable[..., Any]] = {
    "rsqrt": lambda x: x**-0.5,
    "sigmoid": special.expit,
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "erf": special.erf,
    "erfc": special.erfc,
    "bitwise_count": lambda x: np.array([[int(v).bit_count() for v in row] for row in x]),
    "floordiv": np.floor_divide,
    "to_real": lambda x: x,
}


@pytest.mark.parametrize("sample", [s for s in SAMPLES if s.op.elementwise], ids=str)
def test_element_wise_reference_has_the_dim_of_the_row(sample: Sample) -> None:
    actual = value(sample.out, sample.values)
    assert actual.shape == (5, sample.out.dim)
    if sample.op.name in REFERENCES:
        agree(actual, REFERENCES[sample.op.name](*sample.arrays))


@pytest.mark.parametrize("name", ["exp", "erf", "sigmoid", "softplus", "rsqrt", "maximum", "where", "floordiv"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_references_keep_the_type(name: str, dtype: type) -> None:
    op = TABLE[name]
    assert op.ref is not None
    arrays = [np.full((2, 1), 0.5, dtype=dtype) for _ in range(op.arity)]
    assert op.ref(*arrays).dtype == dtype


# ---------------------------------------------------------------------- conventions at special points


def at(name: str, *points: float, **params: Any) -> float:
    """The operation at a point."""
    args = [input_(k, "i", 1) for k in range(len(points))]
    values = {a: np.array([[p]]) for a, p in zip(args, points, strict=True)}
    return float(value(call(name, *args, **params), values)[0, 0])


def slopes(name: str, *points: float, **params: Any) -> tuple[float, ...]:
    """Its partial derivatives at a point."""
    args = [input_(k, "i", 1) for k in range(len(points))]
    values = {a: np.array([[p]]) for a, p in zip(args, points, strict=True)}
    grads = vjp([call(name, *args, **params)], [1.0], args)
    return tuple(float(value(g, values)[0, 0]) for g in grads)


@pytest.mark.parametrize(
    ("name", "x", "expected", "slope"),
    [
        ("rsqrt", 0.0, 0.0, 0.0),
        ("sqrt", 0.0, 0.0, 0.0),
        ("step", 0.0, 1.0, 0.0),
        ("step", -0.0, 1.0, 0.0),
        ("sign", 0.0, 0.0, 0.0),
        ("abs", 0.0, 0.0, 0.0),
        ("relu", 0.0, 0.0, 1.0),
        ("relu", -1.0, 0.0, 0.0),
        ("xlogx", 0.0, 0.0, 0.0),
        ("sinxdivx", 0.0, 1.0, 0.0),
        ("sinc", 0.0, 1.0, 0.0),
        ("norm2", 0.0, 0.0, 0.0),
        ("normalize", 0.0, 0.0, 0.0),
        ("asin", 1.0, math.pi / 2, 0.0),
        ("acos", -1.0, math.pi, 0.0),
        ("exp", -math.inf, 0.0, 0.0),
        ("softplus", 800.0, 800.0, 1.0),
        ("sigmoid", -800.0, 0.0, 0.0),
        ("inv", 0.0, math.inf, -math.inf),
        ("acosh", 1.0, 0.0, 0.0),
        ("atanh", 1.0, math.inf, math.inf),
        ("atanh", -1.0, -math.inf, math.inf),
        ("erfc", math.inf, 0.0, 0.0),
        ("erfc", -math.inf, 2.0, 0.0),
        ("exprel", 0.0, 1.0, 0.5),
        ("exprel", -math.inf, 0.0, 0.0),
        ("log_sigmoid", -800.0, -800.0, 1.0),
        ("log1mexp", 0.0, -math.inf, -math.inf),
        ("log1mexp", -math.inf, 0.0, 0.0),
    ],
)
def test_special_points(name: str, x: float, expected: float, slope: float) -> None:
    agree(at(name, x), expected)
    agree(slopes(name, x)[0], slope)


@pytest.mark.parametrize(
    ("x", "d", "expected"),
    [
        (0.5, 0, 1.0),
        (1.5, 0, 2.0),
        (2.5, 0, 3.0),
        (-0.5, 0, -1.0),
        (-2.5, 0, -3.0),
        (0.49999999999999994, 0, 0.0),
        (0.125, 2, 0.13),
        (-1234.0, -2, -1200.0),
        (1250.0, -2, 1300.0),
        (math.inf, 1, math.inf),
        (math.nan, 0, math.nan),
    ],
)
def test_round_takes_halves_away_from_zero(x: float, d: int, expected: float) -> None:
    agree(at("round", x, d=d), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "points", "expected", "slope"),
    [
        ("pow", (0.0, 2.0), 0.0, (0.0, 0.0)),
        ("pow", (0.0, 0.0), 1.0, (0.0, 0.0)),
        ("pow", (0.0, 1.0), 0.0, (1.0, 0.0)),
        ("minimum", (1.0, 1.0), 1.0, (1.0, 0.0)),
        ("maximum", (1.0, 1.0), 1.0, (1.0, 0.0)),
        ("atan2", (0.0, 0.0), 0.0, (0.0, 0.0)),
        ("logaddexp", (3.0, 3.0), 3.0 + math.log(2), (0.5, 0.5)),
        ("logaddexp", (-math.inf, -math.inf), -math.inf, (1.0, 0.0)),
        ("logaddexp", (-math.inf, 2.0), 2.0, (0.0, 1.0)),
        ("logsubexp", (3.0, -math.inf), 3.0, (1.0, 0.0)),
        ("logsubexp", (-math.inf, -math.inf), -math.inf, (1.0, 0.0)),
        ("logsubexp", (math.inf, 3.0), math.inf, (1.0, 0.0)),
        ("xlogy", (0.0, 0.0), 0.0, (0.0, 0.0)),
        ("xlogy", (0.0, 2.0), 0.0, (math.log(2), 0.0)),
        ("xlogy", (2.0, 0.0), -math.inf, (-math.inf, math.inf)),
        ("xlog1py", (0.0, -1.0), 0.0, (0.0, 0.0)),
        ("xlog1py", (0.0, -3.0), 0.0, (0.0, 0.0)),
        ("clamp_min", (1.0, 1.0), 1.0, (1.0, 0.0)),
        ("clamp_max", (1.0, 1.0), 1.0, (1.0, 0.0)),
        ("ifelse", (0.0, 3.0, 4.0), 3.0, (0.0, 1.0, 0.0)),
        ("clamp", (1.0, 1.0, 2.0), 1.0, (1.0, 0.0, 0.0)),
        ("clamp", (3.0, 1.0, 2.0), 2.0, (0.0, 0.0, 1.0)),
        ("mod", (5.5, 2.0, 0.0), 1.5, (1.0, -2.0, 0.0)),
        ("mod", (-0.5, 2.0, 0.0), 1.5, (1.0, 1.0, 0.0)),
        ("mod", (0.5, 2.0, 1.0), 2.5, (1.0, 1.0, 0.0)),
    ],
)
def test_special_points_of_several_arguments(name: str, points: Any, expected: float, slope: Any) -> None:
    agree(at(name, *points), expected)
    agree(slopes(name, *points), slope)


def mp_slope(f: Callable[..., Any], order: int, x: float) -> float:
    with mpmath.workdps(60):
        return float(mpmath.diff(f, mpmath.mpf(x), order) if order else f(mpmath.mpf(x)))


# Where the formula of the parts cancels, overflows, or is 0 / 0.
HARD: dict[str, tuple[Callable[..., Any], tuple[float, ...]]] = {
    "erfc": (mpmath.erfc, (-6.0, -0.3, 1e-20, 0.4, 0.5, 2.0, 6.0, 26.5)),
    "asinh": (mpmath.asinh, (-1e15, -1e-15, 1e-8, 0.5, 3.0, 1e9)),
    "acosh": (mpmath.acosh, (1.0 + 2.0**-50, 1.0001, 2.0, 1e9)),
    "atanh": (mpmath.atanh, (-1.0 + 2.0**-50, -1e-15, 1e-8, 0.5, 0.999)),
    "log_sigmoid": (lambda x: -mpmath.log1p(mpmath.exp(-x)), (-700.0, -3.0, 1.0, 30.0, 700.0)),
    "log1mexp": (lambda x: mpmath.log(-mpmath.expm1(x)), (-700.0, -30.0, -0.7, -0.69, -1e-5, -1e-12)),
    "exprel": (lambda x: mpmath.expm1(x) / x, (-700.0, -30.0, -0.99, -1e-8, 1e-12, 0.5, 1.01, 600.0)),
}


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("name", HARD)
def test_functions_and_slopes_at_hard_places(name: str, order: int) -> None:
    """To a few units in the last place; slopes of bells to as many as their exponents have."""
    f, points = HARD[name]
    x = input_(0, "i", 1)
    root = call(name, x)
    for _ in range(order):
        (root,) = vjp([root], [1.0], [x])
    for point in points:
        got = float(value(root, {x: np.array([[point]])})[0, 0])
        amplified = 1 + (point**2 if name == "erfc" else 0.0)
        if name == "log_sigmoid" and order == 2:
            continue  # s (1 - s): where one factor is 1 to all digits, the other is 0
        # the second derivative of atanh is a difference of two numbers near 1 where it is small
        atol = 4e-16 if name == "atanh" and order == 2 else 1e-300
        rtol = 1e-15 * (8 + 2 * amplified)
        agree(got, mp_slope(f, order, point), rtol=rtol, atol=atol, what=f"{name} at {point}")


def test_logarithms_of_sums_at_hard_places() -> None:
    """Of two arguments, against mpmath: far apart, near each other, and too large for an exponential."""
    for a, b in [(1000.0, 1000.0), (-1000.0, -1000.5), (0.3, -800.0), (5.0, 5.0 - 1e-12), (2.0, 1.0), (900.0, -900.0)]:
        with mpmath.workdps(60):
            p, q = mpmath.exp(a), mpmath.exp(b)
            total, rest = float(mpmath.log(p + q)), -math.inf if a == b else float(mpmath.log(p - q))
        agree(at("logaddexp", a, b), total, rtol=4e-16, atol=0)
        agree(at("logaddexp", b, a), total, rtol=4e-16, atol=0)
        agree(at("logsubexp", a, b), rest, rtol=4e-16, atol=0)
    assert math.isnan(at("logsubexp", 1.0, 2.0))
    assert math.isnan(at("xlogy", 0.0, math.nan))


@pytest.mark.parametrize("name", ["minimum", "maximum", "add", "sign", "relu", "abs", "logaddexp"])
def test_nan_stays_nan(name: str) -> None:
    for k in range(TABLE[name].arity):
        points = [math.nan if n == k else 1.0 for n in range(TABLE[name].arity)]
        assert math.isnan(at(name, *points))


@pytest.mark.parametrize("x", [1e-3, 1e-9, 0.3, 0.99, 1.01, 2.0])
def test_sinxdivx_has_an_accurate_slope(x: float) -> None:
    exact = sum((-1) ** k * 2 * k * x ** (2 * k - 1) / math.factorial(2 * k + 1) for k in range(1, 20))
    agree(slopes("sinxdivx", x)[0], exact, rtol=5e-15, atol=0)


# ---------------------------------------------------------------------- indices are exact integers


def test_arithmetic_of_indices_is_exact() -> None:
    i, j = index("i"), index("j")
    big = 2**62 + 1
    values = {i: np.array([[big]]), j: np.array([[3]])}
    for root, expected in [
        (i + 1, big + 1),
        (i - j, big - 3),
        (call("floordiv", i, j), big // 3),
        (call("mod", i, 1000, 0), big % 1000),
        (call("mod", -i, j, 0), -big % 3),
        (call("square", j) * 5, 45),
        (call("powi", j, n=3), 27),
        (call("minimum", i, j), 3),
        (call("clamp", i, 0, 10), 10),
        (call("abs", -i), big),
        (call("where", i < j, i, j), 3),
        (call("sign", -i), -1),
        (call("relu", -i), 0),
        (call("floor", i), big),
    ]:
        assert root.kind == "index"
        (primitive,) = expand([root])
        assert primitive.kind == "index"
        assert int(evaluate([primitive], values)[0][0, 0]) == expected, root


def test_indices_become_numbers_where_functions_want_them() -> None:
    i = index("i")
    for root in (call("exp", i), i / 2, i + 0.5, call("powi", i, n=-1), call("sqnorm2", i), call("pow", i, 2)):
        assert root.kind == "real"
    assert (i < 3).kind == "bool"
    assert call("one_hot", i, size=3).kind == "real"


# ---------------------------------------------------------------------- lengths that do not fit


X, Y, S = input_(0, "i", 3), input_(1, "j", 2), input_(2, "p", 1)


@pytest.mark.parametrize(
    ("name", "args", "params", "numbers"),
    [
        ("add", (X, Y), {}, ("3", "2")),
        ("where", (X, X, Y), {}, ("3", "2")),
        ("sqdist", (X, Y), {}, ("3", "2")),
        ("dot", (X, Y), {}, ("3", "2")),
        ("weightedsqnorm", (Y, X), {}, ("2", "3", "9")),
        ("weightedsqdist", (Y, X, X), {}, ("2", "3")),
        ("elem", (X,), {"index": 3}, ("3",)),
        ("elem", (X,), {"index": -1}, ("-1", "3")),
        ("elem_t", (X,), {"size": 4, "index": 0}, ("3", "4")),
        ("extract", (X,), {"start": 1, "size": 3}, ("1", "3")),
        ("pad", (X,), {"start": 1, "size": 3}, ("1", "3")),
        ("repeat", (X,), {"times": 0}, ("3", "0")),
        ("transpose", (X,), {"sizes": (2, 2), "order": (0, 1)}, ("3", "(2, 2)")),
        ("sum_d", (X,), {"group": 2}, ("3", "2")),
        ("one_hot", (X,), {"size": 3}, ("3",)),
        ("matvecmult", (X, Y), {}, ("3", "2")),
        ("vecmatmult", (Y, X), {}, ("3", "2")),
        ("bspline", (Y, S), {"k": 1}, ("2", "3")),
        ("bspline", (X, Y), {"k": 0}, ("2",)),
        ("kron", (X, Y), {"dimfa": (3,), "dimfb": (1, 2)}, ("3", "2")),
        ("tensordot", (X, Y), {"dimfa": (2,), "dimfb": (2,), "contfa": (), "contfb": (), "perm": ()}, ("3", "2")),
        ("tensordot", (X, Y), {"dimfa": (3,), "dimfb": (2,), "contfa": (0,), "contfb": (0,), "perm": ()}, ("3", "2")),
        ("tensordot", (X, Y), {"dimfa": (3,), "dimfb": (2,), "contfa": (1,), "contfb": (0,), "perm": ()}, ("exist",)),
        ("tensordot", (X, Y), {"dimfa": (3,), "dimfb": (2,), "contfa": (), "contfb": (), "perm": (0,)}, ("(0,)", "2")),
        ("softdtw_sqdist", (X, Y, Y), {}, ("2",)),
        ("shift", (X,), {"group": 2, "fill": 0.0}, ("3", "2")),
        ("interleave", (X, Y), {}, ("3", "2")),
        ("deinterleave", (X,), {"part": 0}, ("3",)),
        ("deinterleave", (Y,), {"part": 2}, ("2",)),
        ("complex_abs", (X,), {}, ("3",)),
        ("complex_mult", (X, Y), {}, ("3",)),
        ("complex_add", (call("tile", X, times=2), call("tile", Y, times=2)), {}, ("3", "2")),
        ("complex_sum_t", (Y,), {"dim": 3}, ("2", "3")),
        ("complex_real_scal", (X, call("tile", Y, times=2)), {}, ("3", "2")),
    ],
)
def test_lengths_that_do_not_fit(name: str, args: tuple[Expr, ...], params: Any, numbers: tuple[str, ...]) -> None:
    with pytest.raises(ShapeError) as error:
        call(name, *args, **params)
    for number in numbers:
        assert number in str(error.value)


def test_calls_of_what_does_not_exist() -> None:
    with pytest.raises(FormulaError, match="nothing_like_it"):
        call("nothing_like_it", X)
    with pytest.raises(FormulaError, match="takes 2 arguments"):
        call("add", X)


# ---------------------------------------------------------------------- the comparison itself


@pytest.mark.parametrize(
    ("actual", "expected"),
    [([1.0], [1.0 + 1e-9]), ([math.nan], [1.0]), ([math.inf], [-math.inf]), ([[1.0]], [1.0]), ([1.0, 2.0], [1.0])],
)
def test_comparison_sees_wrong_values(actual: Any, expected: Any) -> None:
    with pytest.raises(AssertionError):
        agree(actual, expected)


def test_constants_keep_their_kind() -> None:
    assert [const(1).kind, const(True).kind, const(1, "index").kind] == ["real", "bool", "index"]
    assert const(math.nan) is const(float("nan"))
    assert const(0.0) is not const(-0.0)
