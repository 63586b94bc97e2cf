"""Every name of KeOps that has a meaning here, compared with NumPy: operators, methods, reductions, names of formulas.

That these tables have every name of the page "Coming from KeOps" is the last test.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from dense import close, points
from keops_page import TABLES
from scipy.interpolate import BSpline
from scipy.special import sinc

from pairfuse.dropin.lazytensor import NUMPY
from pairfuse.dropin.lazytensor import NumpyLazyTensor as LazyTensor
from pairfuse.ir.ops import OPS
from pairfuse.numpy import Genred

Pm, Vi, Vj = NUMPY.Pm, NUMPY.Vi, NUMPY.Vj
X, Y, S, G = np.abs(points(5, 4)) + 0.1, np.abs(points(7, 4)) + 0.2, points(5, 1), points(4)
x, y, s, g = Vi(X), Vj(Y), Vi(S), Pm(G)
XD, YD, SD = X[:, None], Y[None], S[:, None]
B = points(7, 2)
D2 = ((XD - YD) ** 2).sum(-1)
KNOTS = np.array([0.0, 0.5, 1.0, 2.0, 3.5, 4.0])


def total(v: np.ndarray) -> np.ndarray:
    return v.sum(-1, keepdims=True)


def matrices(v: np.ndarray) -> np.ndarray:
    return v.reshape(*v.shape[:-1], 2, 2)


def softdtw(a: np.ndarray, b: np.ndarray, gamma: float) -> float:
    table = np.full((len(a) + 1, len(b) + 1), math.inf)
    table[0, 0] = 0
    for i, u in enumerate(a):
        for j, v in enumerate(b):
            before = -np.array([table[i, j + 1], table[i + 1, j], table[i, j]]) / gamma
            table[i + 1, j + 1] = (u - v) ** 2 - gamma * np.logaddexp.reduce(before)
    return table[-1, -1]


SOFTDTW = np.array([[[softdtw(a, b, 0.7)] for b in Y] for a in X])
_SPLINES = [BSpline.basis_element(KNOTS[k : k + 4], False) for k in range(3)]
SPLINES = np.nan_to_num(np.stack([spline(X[:, 0] % 4) for spline in _SPLINES], -1))
ONE_HOT = np.eye(4)[np.minimum(np.floor(X[:, 0] + 0.5), 3).astype(int)]
TENSORDOT = np.einsum("iab,jcb->ijac", matrices(X), matrices(Y)).reshape(5, 7, 4)
KRON = np.array([[np.kron(a, b).ravel() for b in matrices(Y)] for a in matrices(X)])
GAUSS = np.exp(-D2)[..., None]
LINEAR = Pm(G)
QUADRATIC = np.einsum("ab,ia,ib->i", G.reshape(2, 2) ** 2, X[:, :2], X[:, :2])

# An operator or method, and the dense values (5, 7, D), or what broadcasts to them.
METHODS: dict[str, tuple[Any, Any]] = {
    "x + y": (x + y, XD + YD), "x - y": (x - y, XD - YD), "x * y": (x * y, XD * YD), "x / y": (x / y, XD / YD),
    "-x": (-x, -XD), "abs(x)": (abs(x - y), abs(XD - YD)), "x ** y": (x**y, XD**YD), "x | y": (x | y, total(XD * YD)),
    "x < y": (x < y, XD < YD), "x <= y": (x <= y, XD <= YD), "x > y": (x > y, XD > YD), "x >= y": (x >= y, XD >= YD),
    "x == y": (x.round() == y.round(), np.floor(XD + 0.5) == np.floor(YD + 0.5)),
    "x != y": (x.round() != y.round(), np.floor(XD + 0.5) != np.floor(YD + 0.5)),
    "x[k]": (x[2] * y[1:], XD[..., 2:3] * YD[..., 1:]),
    "power": (x.power(1.5), XD**1.5), "exp": (x.exp(), np.exp(XD)), "log": (x.log(), np.log(XD)),
    "xlogx": (x.xlogx(), XD * np.log(XD)), "sin": (x.sin(), np.sin(XD)), "cos": (x.cos(), np.cos(XD)),
    "sinxdivx": (x.sinxdivx(), np.sin(XD) / XD), "sinc": (x.sinc(), sinc(XD)),
    "asin": ((x / 9).asin(), np.arcsin(XD / 9)), "acos": ((x / 9).acos(), np.arccos(XD / 9)),
    "atan": (x.atan(), np.arctan(XD)), "atan2": ((x - 1).atan2(y - 1), np.arctan2(XD - 1, YD - 1)),
    "abs": ((x - y).abs(), abs(XD - YD)), "sqrt": (x.sqrt(), np.sqrt(XD)), "rsqrt": (x.rsqrt(), 1 / np.sqrt(XD)),
    "square": (x.square(), XD**2), "sign": ((x - y).sign(), np.sign(XD - YD)),
    "step": ((x - y).step(), XD >= YD), "relu": ((x - y).relu(), np.maximum(XD - YD, 0)),
    "clamp": ((x - y).clamp(-0.5, 1), np.clip(XD - YD, -0.5, 1)),
    "ifelse": ((x - y).ifelse(x, 2), np.where(XD >= YD, XD, 2)), "mod": (x.mod(0.7, 0.1), (XD - 0.1) % 0.7 + 0.1),
    "round": (x.round(1), np.floor(XD * 10 + 0.5) / 10),
    "sqnorm2": ((x - y).sqnorm2(), D2[..., None]), "norm2": ((x - y).norm2(), np.sqrt(D2)[..., None]),
    "norm": ((x - y).norm(-1), np.sqrt(D2)[..., None]), "normalize": (x.normalize(), XD / np.sqrt(total(XD**2))),
    "sqdist": (x.sqdist(y), D2[..., None]), "weightedsqnorm": (x.weightedsqnorm(y), total(YD * XD**2)),
    "weightedsqdist": (x.weightedsqdist(y, 2.0), 2 * D2[..., None]),
    "elem": (x.elem(1) * y, XD[..., 1:2] * YD), "extract": (x.extract(1, 2), XD[..., 1:3]),
    "one_hot": (x[0].one_hot(4), ONE_HOT[:, None] * (XD[..., :1] < 3.5)),
    "bspline": (Pm(KNOTS).bspline(x[0] % 4, 2), SPLINES[:, None]),
    "concat": (x.concat(s), np.concatenate([XD, SD], -1)),
    "concatenate": (LazyTensor.concatenate((x, s, x)), np.concatenate([XD, SD, XD], -1)),
    "cat": (LazyTensor.cat((s, x), dim=-1), np.concatenate([SD, XD], -1)),
    "matvecmult": (x.matvecmult(y[..., :2]), np.einsum("iab,jb->ija", matrices(X), Y[:, :2])),
    "vecmatmult": (x[..., :2].vecmatmult(y), np.einsum("ia,jab->ijb", X[:, :2], matrices(Y))),
    "tensorprod": (x.tensorprod(y[..., :2]), np.einsum("ia,jb->ijab", X, Y[:, :2]).reshape(5, 7, 8)),
    "keops_tensordot": (x.keops_tensordot(y, (2, 2), (2, 2), (1,), (1,)), TENSORDOT),
    "keops_kron": (x.keops_kron(y, (2, 2), (2, 2)), KRON), "softdtw_sqdist": (x.softdtw_sqdist(y, 0.7), SOFTDTW),
    "difference_matrix": (x.difference_matrix(s), XD - SD),
    "grad": ((-x.sqdist(y)).exp().grad(x, 1), -2 * (XD - YD) * GAUSS),
    "diff": ((-x.sqdist(y)).exp().diff(x, y), -2 * total((XD - YD) * YD) * GAUSS),
    "grad_matrix": ((x * y).grad_matrix(x), (YD[..., None] * np.eye(4)).reshape(1, 7, 16)),
    "divergence": ((x * x * y).divergence(x), 2 * total(XD * YD)),
    "laplacian": ((-x.sqdist(y)).exp().laplacian(x), (4 * D2[..., None] - 8) * GAUSS),
    "trace_operator": (((x | LINEAR) * y).trace_operator(LINEAR), total(XD * YD)),
    "factorize": ((x * y).factorize(x), XD * YD), "auto_factorize": ((x * y).auto_factorize(), XD * YD),
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_those_of_numpy(name: str) -> None:
    formula, dense = METHODS[name]
    expected = np.broadcast_to(dense, (5, 7, np.shape(dense)[-1])) * 1.0
    close((formula + 0 * (x | y)).sum(dim=1), expected.sum(1))


ORDER = np.argsort(D2, 1)
W = np.abs(points(7, 3)) + 0.1
DISTANCES = x.sqdist(y)
WEIGHTED = np.exp(-D2) @ W
GRAM, MATRIX = (-x.sqdist(Vj(X))).exp(), np.exp(-((XD - X) ** 2).sum(-1))
# A reduction over j and its dense value; those with the suffix _reduction are compared with those without.
REDUCED: dict[str, tuple[Callable[..., Any], Any]] = {
    "sum": (DISTANCES.sum, total(D2)), "min": ((x - y).min, (XD - YD).min(1)), "max": ((x - y).max, (XD - YD).max(1)),
    "argmin": ((x - y).argmin, (XD - YD).argmin(1)), "argmax": ((x - y).argmax, (XD - YD).argmax(1)),
    "min_argmin": (DISTANCES.min_argmin, (D2.min(1)[:, None], D2.argmin(1)[:, None])),
    "max_argmax": (DISTANCES.max_argmax, (D2.max(1)[:, None], D2.argmax(1)[:, None])),
    "Kmin": (lambda **o: DISTANCES.Kmin(2, **o), np.sort(D2, 1)[:, :2]),
    "argKmin": (lambda **o: DISTANCES.argKmin(2, **o), ORDER[:, :2]),
    "Kmin_argKmin": (lambda **o: DISTANCES.Kmin_argKmin(2, **o), (np.sort(D2, 1)[:, :2], ORDER[:, :2])),
    "logsumexp": (lambda **o: (-DISTANCES).logsumexp(weight=Vj(W), **o), np.log(WEIGHTED)),
    "sumsoftmaxweight": (lambda **o: (-DISTANCES).sumsoftmaxweight(Vj(W), **o), WEIGHTED / total(np.exp(-D2))),
    "__min__": ((x - y).__min__, (XD - YD).min(1)), "__max__": ((x - y).__max__, (XD - YD).max(1)),
    "reduction": (lambda **o: DISTANCES.reduction("KMin", opt_arg=3, **o), np.sort(D2, 1)[:, :3]),
    "sum_reduction": (DISTANCES.sum_reduction, total(D2)),
    "min_reduction": ((x - y).min_reduction, (XD - YD).min(1)),
    "max_reduction": ((x - y).max_reduction, (XD - YD).max(1)),
    "argmin_reduction": ((x - y).argmin_reduction, (XD - YD).argmin(1)),
    "argmax_reduction": ((x - y).argmax_reduction, (XD - YD).argmax(1)),
    "min_argmin_reduction": (DISTANCES.min_argmin_reduction, (D2.min(1)[:, None], D2.argmin(1)[:, None])),
    "max_argmax_reduction": (DISTANCES.max_argmax_reduction, (D2.max(1)[:, None], D2.argmax(1)[:, None])),
    "Kmin_reduction": (lambda **o: DISTANCES.Kmin_reduction(2, **o), np.sort(D2, 1)[:, :2]),
    "argKmin_reduction": (lambda **o: DISTANCES.argKmin_reduction(2, **o), ORDER[:, :2]),
    "Kmin_argKmin_reduction": (
        lambda **o: DISTANCES.Kmin_argKmin_reduction(2, **o), (np.sort(D2, 1)[:, :2], ORDER[:, :2])),
    "logsumexp_reduction": ((-DISTANCES).logsumexp_reduction, np.log(total(np.exp(-D2)))),
    "sumsoftmaxweight_reduction": (
        lambda **o: (-DISTANCES).sumsoftmaxweight_reduction(Vj(W), **o), WEIGHTED / total(np.exp(-D2))),
    "matvec": (lambda **_: DISTANCES.matvec(B), D2 @ B), "rmatvec": (lambda **_: DISTANCES.rmatvec(S), D2.T @ S),
    "K @ v": (lambda **_: DISTANCES @ B, D2 @ B),
    "solve": (lambda **_: GRAM.solve(Vi(S), alpha=0.1, eps=1e-13), np.linalg.solve(MATRIX + 0.1 * np.eye(5), S)),
}  # fmt: skip


@pytest.mark.parametrize("name", REDUCED)
def test_reductions_are_those_of_numpy(name: str) -> None:
    reduction, dense = REDUCED[name]
    for axis in ("axis", "dim"):
        results = reduction(**{axis: 1})
        for got, expected in zip(*[r if isinstance(r, tuple) else (r,) for r in (results, dense)], strict=True):
            close(got, expected)


# A formula of x = Vi(4), y = Vj(4), s = Vi(1), g = Pm(4), and the dense values (5, 7, D), or what broadcasts to them.
FORMULAS: dict[str, tuple[str, Any]] = {
    "Var": ("Var(0,4,0) * Var(1,4,1)", XD * YD), "IntCst": ("IntCst(3) * x", 3 * XD),
    "RatCst": ("RatCst(1, 3) * x", XD / 3),
    "IntInv": ("x * IntInv(-3)", -XD / 3), "Zero": ("Zero(4) + x", XD), "Add": ("Add(x, s)", XD + SD),
    "Subtract": ("Subtract(x, y)", XD - YD), "Mult": ("Mult(x, y)", XD * YD), "Divide": ("Divide(x, y)", XD / YD),
    "Minus": ("Minus(x)", -XD), "Inv": ("Inv(x)", 1 / XD), "Scalprod": ("Scalprod(x, y)", total(XD * YD)),
    "Square": ("Square(x)", XD**2), "Pow": ("Pow(x, -3)", XD**-3.0), "Powf": ("Powf(x, y)", XD**YD),
    "Abs": ("Abs(x - y)", abs(XD - YD)), "Exp": ("Exp(x)", np.exp(XD)), "Log": ("Log(x)", np.log(XD)),
    "XLogX": ("XLogX(x)", XD * np.log(XD)), "Sin": ("Sin(x)", np.sin(XD)), "Cos": ("Cos(x)", np.cos(XD)),
    "SinXDivX": ("SinXDivX(x)", np.sin(XD) / XD), "Asin": ("Asin(x / 9)", np.arcsin(XD / 9)),
    "Acos": ("Acos(x / 9)", np.arccos(XD / 9)), "Atan": ("Atan(x)", np.arctan(XD)),
    "Atan2": ("Atan2(x - 1, y - 1)", np.arctan2(XD - 1, YD - 1)), "Sqrt": ("Sqrt(x)", np.sqrt(XD)),
    "Rsqrt": ("Rsqrt(x)", 1 / np.sqrt(XD)), "Sign": ("Sign(x - y)", np.sign(XD - YD)),
    "Step": ("Step(x - y)", XD >= YD),
    "Floor": ("Floor(x - y)", np.floor(XD - YD)), "Round": ("Round(x, 1)", np.floor(XD * 10 + 0.5) / 10),
    "ReLU": ("ReLU(x - y)", np.maximum(XD - YD, 0)), "Clamp": ("Clamp(x - y, s - 3, 1)", np.clip(XD - YD, SD - 3, 1)),
    "ClampInt": ("ClampInt(x - y, -1, 1)", np.clip(XD - YD, -1, 1)),
    "DiffClampInt": ("DiffClampInt(x - y, -1, 1)", abs(XD - YD) <= 1),
    "IfElse": ("IfElse(x - y, x, s)", np.where(XD >= YD, XD, SD)), "Mod": ("Mod(x, 0.7, 0.1)", (XD - 0.1) % 0.7 + 0.1),
    "Equal": ("Equal(Round(x, 0), Round(y, 0))", np.floor(XD + 0.5) == np.floor(YD + 0.5)),
    "NotEqual": ("NotEqual(Round(x, 0), Round(y, 0))", np.floor(XD + 0.5) != np.floor(YD + 0.5)),
    "LessThan": ("LessThan(x, y)", XD < YD), "LessOrEqual": ("LessOrEqual(x, y)", XD <= YD),
    "Sum": ("Sum(x)", total(XD)), "SumT": ("SumT(s, 4)", np.repeat(SD, 4, -1)),
    "Max": ("Max(x - y)", (XD - YD).max(-1, keepdims=True)), "Min": ("Min(x - y)", (XD - YD).min(-1, keepdims=True)),
    "ArgMax": ("ArgMax(x - y)", (XD - YD).argmax(-1)[..., None]),
    "ArgMin": ("ArgMin(x - y)", (XD - YD).argmin(-1)[..., None]),
    "SqNorm2": ("SqNorm2(x)", total(XD**2)), "Norm2": ("Norm2(x)", np.sqrt(total(XD**2))),
    "Normalize": ("Normalize(x)", XD / np.sqrt(total(XD**2))), "SqDist": ("SqDist(x, y)", D2[..., None]),
    "SqNormIso": ("SqNormIso(s, x)", SD * total(XD**2)), "SqNormDiag": ("SqNormDiag(g, x)", total(G * XD**2)),
    "SymSqNorm": ("SymSqNorm(Square(g), Extract(x, 0, 2))", QUADRATIC[:, None, None]),
    "WeightedSqNorm": ("WeightedSqNorm(g, x)", total(G * XD**2)),
    "WeightedSqDist": ("WeightedSqDist(g, x, y)", total(G * (XD - YD) ** 2)), "Elem": ("Elem(x, 1)", XD[..., 1:2]),
    "ElemT": ("ElemT(s, 4, 2)", SD * np.eye(4)[2]), "Extract": ("Extract(x, 1, 2)", XD[..., 1:3]),
    "ExtractT": ("ExtractT(x, 1, 6)", np.pad(XD, ((0, 0), (0, 0), (1, 1)))),
    "Concat": ("Concat(x, s)", np.concatenate([XD, SD], -1)),
    "OneHot": ("OneHot(Elem(x, 0), 4)", ONE_HOT[:, None] * (XD[..., :1] < 3.5)),
    "BSpline": ("BSpline(Concat(Concat(Zero(1), Pm(4, 4)), IntCst(4)), Mod(Elem(x, 0), 4, 0), 2)", SPLINES[:, None]),
    "SoftDTW_SqDist": ("SoftDTW_SqDist(x, y, 0.7)", SOFTDTW),
    "MatVecMult": ("MatVecMult(x, Extract(y, 0, 2))", np.einsum("iab,jb->ija", matrices(X), Y[:, :2])),
    "VecMatMult": ("VecMatMult(Extract(x, 0, 2), y)", np.einsum("ia,jab->ijb", X[:, :2], matrices(Y))),
    "TensorProd": ("TensorProd(x, s)", XD * SD), "TensorDot": ("TensorDot(x, y, [2,2], [2,2], [1], [1])", TENSORDOT),
    "Kron": ("Kron(x, y, [2,2], [2,2])", KRON), "Grad": ("Grad(Exp(-SqDist(x, y)), x, s)", -2 * (XD - YD) * GAUSS * SD),
    "Diff": ("Diff(Exp(-SqDist(x, y)), x, y)", -2 * total((XD - YD) * YD) * GAUSS),
    "GradMatrix": ("GradMatrix(x * y, x)", (YD[..., None] * np.eye(4)).reshape(1, 7, 16)),
    "Divergence": ("Divergence(x * x * y, x)", 2 * total(XD * YD)),
    "Laplacian": ("Laplacian(Exp(-SqDist(x, y)), x)", (4 * D2[..., None] - 8) * GAUSS),
    "TraceOperator": ("TraceOperator((x | g) * y, g)", total(XD * YD)),
    "AdjointOperator": ("AdjointOperator((x | g) * y, g, x)", total(XD * YD) * XD),
    "SumLinOperator": ("SumLinOperator((x | g) * y, g)", total(XD) * total(YD)),
    "Factorize": ("Factorize(x * y, x)", XD * YD), "AutoFactorize": ("AutoFactorize(x * y)", XD * YD),
}  # fmt: skip


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_are_those_of_numpy(name: str, library: str) -> None:
    text, dense = FORMULAS[name]
    given = [X, Y, S, G, *([KNOTS[1:5]] if "Pm(4, 4)" in text else [])]
    arrays = given if library == "numpy" else [torch.from_numpy(v) for v in given]
    expected = np.broadcast_to(dense, (5, 7, np.shape(dense)[-1])) * 1.0
    got = Genred(text, ["x = Vi(4)", "y = Vj(4)", "s = Vi(1)", "g = Pm(4)"], axis=1)(*arrays)
    close(np.asarray(got), expected.sum(1))


def test_every_name_is_compared_with_numpy() -> None:
    """The tables above have every name of the page with a meaning; complex ones are compared with their rows."""
    alive = {
        section: {n for n, (state, _) in rows.items() if state not in ("no", "planned")}
        for section, rows in TABLES.items()
    }
    complex_names = {"real2complex", "imag2complex", "exp1j", "angle", "conj"}
    assert alive["Operators and methods"] | alive["Reductions"] == set(METHODS) | set(REDUCED) | complex_names
    complex_rows = {a for op in OPS.values() if op.samples for a in op.aliases if "Complex" in a or a == "Conj"}
    heads = {n for n in alive["Names of formulas"] if n.endswith("_Reduction")}  # test_genred.py
    assert alive["Names of formulas"] - heads == set(FORMULAS) | (complex_rows & set(TABLES["Names of formulas"]))
