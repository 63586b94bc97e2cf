"""Genred and its kin, on both libraries: every way to declare, every reduction, every kind of mistake."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from dense import DTYPES, close, points

import pairfuse.numpy
import pairfuse.torch
from pairfuse import DtypeError, FormulaError, KeywordError, PairfuseError, ShapeError, UnsupportedError
from pairfuse.frontend.strings.genred import reduction_of
from pairfuse.numpy import Genred, Vi, Vj, generic_argkmin, generic_argmin, generic_logsumexp, generic_sum

X, Y, B, W, G = points(5, 3), points(7, 3), points(7, 2), np.abs(points(7, 4)) + 0.1, np.array([0.3])
D2 = ((X[:, None] - Y) ** 2).sum(-1)
K = np.exp(-0.3 * D2)
XY, XYB, GAUSS = ["x = Vi(3)", "y = Vj(3)"], ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)"], "Exp(-g * SqDist(x, y)) * b"
LIBRARIES: dict[str, Callable[[np.ndarray], Any]] = {"numpy": lambda x: x, "torch": torch.from_numpy}


def on(library: str, *values: Any) -> list[Any]:
    return [LIBRARIES[library](v) if isinstance(v, np.ndarray) else v for v in values]


# ---------------------------------------------------------------------- declarations

# Formula, aliases, arguments of the call, dense result of the sum over j.
DECLARATIONS: dict[str, tuple[str, list[str], tuple[Any, ...], Any]] = {
    "by rank": (GAUSS, [*XYB, "g = Pm(1)"], (X, Y, B, G), K @ B),
    "by place": (GAUSS, ["g = Pm(0,1)", "x = Vi(1, 3)", "b = Vj(3,2)", "y = Vj(2,3)"], (G, X, Y, B), K @ B),
    "no space": (GAUSS, ["x=Vi(3)", "y=Vj(3)", "b=Vj(2)", "g=Pm(1)"], (X, Y, B, G), K @ B),
    "much space": (GAUSS, [" x  =  Vi( 3 ) ", "y = Vj (3)", "b = Vj(2)", "g=Pm( 3 , 1 )"], (X, Y, B, G), K @ B),
    "a category": ("(x | y)", ["x = Var(0,3,0)", "y = Var(1, 3, 1)"], (X, Y), (X @ Y.T).sum(1)[:, None]),
    "in place": ("SqDist(Var(0,3,0), Var(1,3,1))", [], (X, Y), D2.sum(1)[:, None]),
    "in place and named": ("SqDist(x, y) * Var(2, 1, 2)", XY, (X, Y, G), 0.3 * D2.sum(1)[:, None]),
    "without a name": ("SqDist(Var(0,3,0), Var(1,3,1))", ["Vi(3)", "Vj(1,3)"], (X, Y), D2.sum(1)[:, None]),
    "Vi and Vj in place": ("SqDist(Vi(0, 3), Vj(1, 3)) * Pm(2, 1)", [], (X, Y, G), 0.3 * D2.sum(1)[:, None]),
    "places by themselves": ("SqDist(Vi(3), Vj(3))", [], (X, Y), D2.sum(1)[:, None]),
    "a place behind the aliases": ("SqDist(x, y) * Pm(1)", XY, (X, Y, G), 0.3 * D2.sum(1)[:, None]),
    "more than is used": ("SqDist(x, y)", [*XYB, "g = Pm(1)"], (X, Y, B, G), D2.sum(1)[:, None]),
    "the first is not used": ("y", ["b = Vj(2)", "x = Vi(3)", "y = Vj(3)"], (B, X, Y), np.tile(Y.sum(0), (5, 1))),
    "i and j as names": ("(i | j)", ["i = Vi(3)", "j = Vj(3)"], (X, Y), (X @ Y.T).sum(1)[:, None]),
    "names like operations": ("Exp(Exp) + exp", ["Exp = Vi(3)", "exp = Vj(3)"], (X, Y), 7 * np.exp(X) + Y.sum(0)),
    "lines": ("\n  Exp(-g * SqDist(x, y)) * b\n", [*XYB, "g = Pm(1)"], (X, Y, B, G), K @ B),
    "parts with names": ("d = x - y; Exp(-g * (d | d)) * b", [*XYB, "g = Pm(1)"], (X, Y, B, G), K @ B),
    "rows and columns": ("(i < j) * SqDist(x, y)", XY, (X, Y), np.triu(D2, 1).sum(1)[:, None]),
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", DECLARATIONS)
def test_declarations(name: str, library: str) -> None:
    formula, aliases, arguments, dense = DECLARATIONS[name]
    reduction = Genred(formula, aliases, axis=1)
    assert reduction.nargs == len(arguments)
    result = reduction(*on(library, *arguments))
    assert type(result) is (np.ndarray if library == "numpy" else torch.Tensor)
    close(np.asarray(result), dense)


def test_the_list_of_aliases_is_left_alone() -> None:
    given = ["x = Vi(3)", "y = Vj(3)"]
    reduction = Genred("SqDist(x, y) * Var(2,1,2)", given)
    assert given == ["x = Vi(3)", "y = Vj(3)"]
    assert reduction.aliases == ["x = Vi(3)", "y = Vj(3)", "Var(2,1,2)"]
    assert Genred("x", ("x = Vi(3)",)).aliases == ["x = Vi(3)"]


def test_attributes() -> None:
    reduction = Genred("SqDist(x, y)", XY, "KMin", axis=1, opt_arg=3)
    assert (reduction.formula, reduction.nargs) == ("KMin_Reduction(SqDist(x, y),3,0)", 2)
    assert (reduction.reduction_op, reduction.axis, reduction.opt_arg) == ("KMin", 1, 3)
    assert repr(reduction) == "Genred('SqDist(x, y)', ['x = Vi(3)', 'y = Vj(3)'], 'KMin', axis=1)"
    weighted = Genred("SqDist(x, y)", XYB, "SumSoftMaxWeight", formula2="b")
    assert (weighted.formula, weighted.axis) == ("SumSoftMaxWeight_Reduction(SqDist(x, y),1,b)", 0)
    assert Genred("x", XY, use_double_acc=True).optional_flags == {"use_double_acc": True}
    assert Genred("x", XY, rec_multVar_highdim=1).rec_multVar_highdim == 1


# ---------------------------------------------------------------------- reductions


def _first(values: np.ndarray, count: int) -> np.ndarray:
    return np.argsort(values, axis=1, kind="stable")[:, :count]


V = X[:, None] - Y
E = np.exp(-D2)
# Options of Genred; the formula is SqDist(x, y) unless they say otherwise; the dense results over j.
REDUCTIONS: dict[str, tuple[dict[str, Any], Any]] = {
    "Sum": ({}, D2.sum(1)[:, None]),
    "LogSumExp": ({"formula": "-SqDist(x, y)"}, np.log(E.sum(1))[:, None]),
    "LogSumExp of vectors": ({"reduction_op": "LogSumExp", "formula": "x - y"}, np.log(np.exp(V).sum(1))),
    "LogSumExp with a weight": (
        {"reduction_op": "LogSumExp", "formula": "-SqDist(x, y)", "formula2": "w"}, np.log(E @ W)),
    "LogSumExpWeight": ({"formula": "-SqDist(x, y)", "formula2": "w"}, np.log(E @ W)),
    "SumSoftMaxWeight": ({"formula": "-SqDist(x, y)", "formula2": "b"}, E @ B / E.sum(1, keepdims=True)),
    "SoftMax": ({"formula": "-SqDist(x, y)", "formula2": "b"}, E @ B / E.sum(1, keepdims=True)),
    "Max_SumShiftExp": ({}, np.stack([D2.max(1), np.exp(D2 - D2.max(1, keepdims=True)).sum(1)], 1)),
    "Max_SumShiftExpWeight": (
        {"formula2": "b"}, np.concatenate([D2.max(1)[:, None], np.exp(D2 - D2.max(1, keepdims=True)) @ B], 1)),
    "Min": ({}, D2.min(1)[:, None]),
    "Max": ({"formula": "x - y"}, V.max(1)),
    "ArgMin": ({}, D2.argmin(1)[:, None]),
    "ArgMax": ({"formula": "x - y"}, V.argmax(1)),
    "Min_ArgMin": ({}, (D2.min(1)[:, None], D2.argmin(1)[:, None])),
    "Max_ArgMax": ({}, (D2.max(1)[:, None], D2.argmax(1)[:, None])),
    "KMin": ({"opt_arg": 3}, np.sort(D2, 1)[:, :3]),
    "KMin of vectors": ({"reduction_op": "KMin", "formula": "x - y", "opt_arg": 3}, np.sort(V, 1)[:, :3]),
    "ArgKMin": ({"opt_arg": 3}, _first(D2, 3)),
    "ArgKMin of vectors": ({"reduction_op": "ArgKMin", "formula": "x - y", "opt_arg": 2}, _first(V, 2)),
    "KMin_ArgKMin": ({"opt_arg": 3}, (np.sort(D2, 1)[:, :3], _first(D2, 3))),
    "sum": ({}, D2.sum(1)[:, None]),
    "prod": ({"formula": "1 + SqDist(x, y) / 10"}, (1 + D2 / 10).prod(1)[:, None]),
    "Kmax": ({"opt_arg": 2}, -np.sort(-D2, 1)[:, :2]),
}  # fmt: skip


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name: str, library: str) -> None:
    options, dense = REDUCTIONS[name]
    arguments = {"formula": "SqDist(x, y)", "reduction_op": name, **options}
    reduction = Genred(aliases=[*XYB, "w = Vj(4)"], axis=1, **arguments)
    # the same with i and j exchanged, which is the default axis
    swapped = Genred(aliases=["x = Vj(3)", "y = Vi(3)", "b = Vi(2)", "w = Vi(4)"], **arguments)
    for each in (reduction, swapped, pickle.loads(pickle.dumps(reduction))):
        results = each(*on(library, X, Y, B, W))
        if isinstance(dense, tuple):
            assert isinstance(results, tuple)
            for got, expected in zip(results, dense, strict=True):
                close(np.asarray(got), expected)
        else:
            close(np.asarray(results), dense)


@pytest.mark.parametrize("name", [n for n in REDUCTIONS if "of" not in n and "with" not in n and n[0].isupper()])
def test_reductions_as_heads(name: str) -> None:
    """Sum_Reduction(F, 0): what `Genred.formula` says is a formula that Genred takes."""
    options, dense = REDUCTIONS[name]
    one = Genred(aliases=[*XYB, "w = Vj(4)"], axis=1, **{"formula": "SqDist(x, y)", "reduction_op": name, **options})
    again = Genred(one.formula, one.aliases)
    assert (again.axis, again.opt_arg, again.formula) == (1, one.opt_arg, one.formula)
    results = again(X, Y, B, W)
    for got, expected in zip(*[r if isinstance(r, tuple) else (r,) for r in (results, dense)], strict=True):
        close(got, expected)


def test_the_reduction_of_nothing() -> None:
    close(Genred("Zero_Reduction(2, 0)", XY)(X, Y), np.zeros((5, 2)))


def test_generic_functions() -> None:
    close(generic_sum(GAUSS, "a = Vi(2)", *XYB, "g = Pm(1)")(X, Y, B, G), K @ B)
    close(generic_sum("SqDist(x, y)", "a = Vj(1)", *XY)(X, Y), D2.sum(0)[:, None])
    close(generic_logsumexp("-SqDist(x, y)", "a = Vi(1)", *XY)(X, Y), np.log(E.sum(1))[:, None])
    close(generic_logsumexp("-SqDist(x, y)", "a = Vi(4)", *XY, "w = Vj(4)", formula2="w")(X, Y, W), np.log(E @ W))
    close(generic_argmin("SqDist(x, y)", "a = Vi(1)", *XY)(X, Y), D2.argmin(1)[:, None])
    close(generic_argkmin("SqDist(x, y)", "a = Vi(3)", *XY)(X, Y), _first(D2, 3))
    assert generic_argkmin("SqDist(x, y)", "Vi(3)", *XY, dtype_acc="auto").opt_arg == 3
    for name in ("Genred", "generic_sum", "generic_logsumexp", "generic_argmin", "generic_argkmin"):
        assert getattr(pairfuse.torch, name) is getattr(pairfuse.numpy, name)


# ---------------------------------------------------------------------- arrays


@pytest.mark.parametrize("dtype", DTYPES)
def test_types(dtype: Any) -> None:
    reduction = Genred(GAUSS, [*XYB, "g = Pm(1)"], axis=1)
    close(reduction(X.astype(dtype), Y.astype(dtype), B.astype(dtype), 0.3), K @ B, dtype)
    whole = np.arange(14).reshape(7, 2)  # integers take the type of the others
    close(reduction(X.astype(dtype), Y.astype(dtype), whole, [0.3]), K @ whole, dtype)


def test_any_strides() -> None:
    reduction = Genred(GAUSS, [*XYB, "g = Pm(1)"], axis=1)
    close(reduction(np.asfortranarray(X), Y.repeat(2, 0)[::2], B[:, ::-1][:, ::-1], G), K @ B)
    tensors = on("torch", X, Y, B, G)
    close(reduction(tensors[0].T.contiguous().T, *tensors[1:]).numpy(), K @ B)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 5, 3), (2, 7, 3), (2, 7, 2), (2, 1)),
        ((2, 1, 5, 3), (1, 4, 7, 3), (1, 1, 7, 2), (1, 1, 1)),
        ((5, 3), (4, 7, 3), (7, 2), (4, 1)),
        ((1, 5, 3), (1, 7, 3), (1, 7, 2), (3, 1)),
        ((5, 3), (7, 3), (2, 3, 7, 2), (1,)),
    ],
    ids=str,
)
def test_batch_axes_broadcast(shapes: Any, library: str) -> None:
    x, y, b, g = (points(*s) for s in shapes)
    g = np.abs(g)
    d2 = ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1)
    dense = np.exp(-g[..., None] * d2) @ b
    result = Genred(GAUSS, [*XYB, "g = Pm(1)"], axis=1)(*on(library, x, y, b, g))
    close(np.asarray(result), dense)


def test_only_parameters() -> None:
    close(Genred("Exp(p)", ["p = Pm(3)"], axis=1)(X[0]), np.exp(X[:1]))


def test_keywords_of_the_call() -> None:
    reduction = Genred("SqDist(x, y)", XY, axis=1)
    out = np.empty((5, 1))
    assert reduction(X, Y, out=out, backend="CPU", device_id=-1, ranges=None) is out
    close(out, D2.sum(1)[:, None])
    close(reduction(X, Y, backend="reference"), D2.sum(1)[:, None])
    close(reduction(X, Y, progress=False, accuracy="fast"), D2.sum(1)[:, None])


def test_options_of_keops_change_nothing() -> None:
    accepted: list[dict[str, Any]] = [
        {"dtype_acc": "float64"}, {"use_double_acc": True}, {"sum_scheme": "kahan_scheme"}, {"enable_chunks": False},
        {"rec_multVar_highdim": 1}, {"rec_multVar_highdim": None}, {"use_fast_math": False},
    ]  # fmt: skip
    for options in accepted:
        close(Genred("SqDist(x, y)", XY, axis=1, **options)(X, Y), D2.sum(1)[:, None])
    for old in (dict[str, Any](dtype="float32"), dict[str, Any](cuda_type="float64")):
        with pytest.warns(DeprecationWarning, match="the type is that of the arrays"):
            close(Genred("SqDist(x, y)", XY, axis=1, **old)(X, Y), D2.sum(1)[:, None])


def test_torch_differentiates() -> None:
    x, y, b, g = (t.requires_grad_() for t in on("torch", X.copy(), Y.copy(), B.copy(), G.copy()))
    reduction = Genred(GAUSS, [*XYB, "unused = Vi(1)", "g = Pm(1)"], axis=1)
    value = reduction(x, y, b, torch.zeros(5, 1, dtype=torch.float64), g)
    dense = torch.exp(-g * ((x[:, None] - y) ** 2).sum(-1)) @ b
    torch.testing.assert_close(value, dense)
    wanted = [x, y, b, g]
    first = torch.autograd.grad((value**2).sum(), wanted, create_graph=True)
    expected = torch.autograd.grad((dense**2).sum(), wanted, create_graph=True)
    for got, want in zip(first, expected, strict=True):
        torch.testing.assert_close(got, want)
    second, wants = (
        torch.autograd.grad(torch.stack([v.sin().sum() for v in each]).sum(), wanted) for each in (first, expected)
    )
    for got, want in zip(second, wants, strict=True):
        torch.testing.assert_close(got, want)


def _derivative(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    x_i = Vi(x)
    return (-x_i.sqdist(Vj(y))).exp().grad(x_i, 1).sum(1)


COMPILED: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "a Genred that is called": Genred("Exp(-SqDist(x, y))", XY, axis=1),
    "a Genred that is built": lambda x, y: Genred("Exp(-SqDist(x, y))", XY, axis=1)(x, y),
    "a deferred reduction": (-Vi(0, 3).sqdist(Vj(1, 3))).exp().sum(axis=1),
    "a symbolic derivative": _derivative,
}


@pytest.mark.parametrize("name", COMPILED)
def test_torch_compiles(name: str) -> None:
    """Without breaking its graph, also below derivatives and vmap."""

    def program(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return COMPILED[name](x, y).sin()

    x, y = (t.requires_grad_() for t in on("torch", X.copy(), Y.copy()))
    torch.compiler.reset()
    compiled, eager = torch.compile(program, fullgraph=True, backend="aot_eager")(x, y), program(x, y)
    torch.testing.assert_close(compiled, eager)
    for got, want in zip(
        torch.autograd.grad(compiled.sum(), [x, y]), torch.autograd.grad(eager.sum(), [x, y]), strict=True
    ):
        torch.testing.assert_close(got, want)
    batch = torch.stack([x, 2 * x]).detach()
    torch.testing.assert_close(torch.vmap(program, (0, None))(batch, y), torch.stack([program(b, y) for b in batch]))


# ---------------------------------------------------------------------- programs of others


def test_formulas_of_falkon() -> None:
    """Kernel-vector products with an output buffer; the scale is a number or a vector."""
    aliases = ["x1 = Vi(3)", "x2 = Vj(3)", "v = Vj(2)", "g = Pm({})"]
    out = np.empty((5, 2))
    for g in (np.array([0.7]), np.array([0.7, 1.1, 1.3])):
        scaled = ((X[:, None] / g - Y / g) ** 2).sum(-1)
        declared = [a.format(len(g)) for a in aliases]
        for formula, dense in [
            ("Exp(SqDist(x1 / g, x2 / g) * IntInv(-2)) * v", np.exp(-scaled / 2)),
            ("Exp(-Sqrt(SqDist(x1 / g, x2 / g))) * v", np.exp(-np.sqrt(scaled))),
            ("Exp(-Norm2(x1 / g - x2 / g)) * v", np.exp(-np.sqrt(scaled))),
        ]:
            fn = Genred(formula, declared, reduction_op="Sum", axis=1, dtype_acc="float64", sum_scheme="auto")
            assert fn(X, Y, B, g, out=out, device_id=-1, backend="CPU") is out
            close(out, dense @ B)
    aliases = ["X = Vi(3)", "Y = Vj(3)", "v = Vj(2)", "gamma = Pm(1)", "beta = Pm(1)", "degree = Pm(1)"]
    base = np.abs(X) @ np.abs(Y).T * 0.5 + 1.5
    given = (np.abs(X), np.abs(Y), B, np.array([0.5]), np.array([1.5]), np.array([2.5]))
    close(Genred("(gamma * (X | Y) + beta) * v", aliases, axis=1)(*given), base @ B)
    close(Genred("Powf((gamma * (X | Y) + beta), degree) * v", aliases, axis=1)(*given), base**2.5 @ B)


def test_formulas_of_deformetrica() -> None:
    aliases = ["G = Pm(1)", "X = Vi(3)", "Y = Vj(3)", "P = Vj(2)"]
    with pytest.warns(DeprecationWarning, match="cuda_type"):
        fn = Genred("Exp(-G*SqDist(X,Y)) * P", aliases, reduction_op="Sum", axis=1, cuda_type="float32")
    close(fn(G, X, Y, B, device_id=-1), K @ B)
    normals = ["G = Pm(3)", "X = Vi(3)", "Y = Vj(3)", "Nx = Vi(3)", "Ny = Vj(3)", "P = Vj(2)"]
    varifold = Genred("Exp(-(WeightedSqDist(G, X, Y))) * Square((Nx|Ny)) * P", normals, axis=1)
    g = np.array([0.5, 1.0, 2.0])
    close(varifold(g, X, Y, X, Y, B), (np.exp(-(V**2 * g).sum(-1)) * (X @ Y.T) ** 2) @ B)
    momenta = ["G = Pm(1)", "X = Vi(3)", "Y = Vj(3)", "Px = Vi(3)", "Py = Vj(3)"]
    gradient = Genred("(Px|Py) * Exp(-G*SqDist(X,Y)) * (X-Y)", momenta, axis=1)
    close(gradient(G, X, Y, X, Y), ((X @ Y.T * K)[..., None] * V).sum(1))


def test_formulas_of_geomloss() -> None:
    for cost, dense in (("Norm2(X-Y)", np.sqrt(D2)), ("(SqDist(X,Y) / IntCst(2))", D2 / 2)):
        softmin = generic_logsumexp(
            f"( B - (P * {cost} ) )", "A = Vi(1)", "X = Vi(3)", "Y = Vj(3)", "B = Vj(1)", "P = Pm(1)"
        )
        h = B[:, :1]
        value = softmin(*on("torch", X, Y, h), torch.tensor([4.0], dtype=torch.float64), ranges=None)
        close(value.numpy(), np.log(np.exp(h.T - 4 * dense).sum(1))[:, None])


# ---------------------------------------------------------------------- cost


def test_what_was_read_once_is_kept() -> None:
    """Programs build a Genred in every step: the second one reads nothing."""
    Genred("SqDist(x, y) + 12345", XY)
    before = reduction_of.cache_info()
    for _ in range(3):
        Genred("SqDist(x, y) + 12345", list(XY), axis=0)
    after = reduction_of.cache_info()
    assert (after.hits - before.hits, after.misses) == (3, before.misses)


def test_pickles_are_read_by_other_processes() -> None:
    """A Genred is text: another process makes the same of it."""
    pickled = pickle.dumps(Genred(GAUSS, [*XYB, "g = Pm(1)"], axis=1))
    code = f"import pickle; print(pickle.loads({pickled!r}).formula)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"Sum_Reduction({GAUSS},0)"


# ---------------------------------------------------------------------- mistakes

gauss = Genred(GAUSS, [*XYB, "g = Pm(1)"], axis=1)
TITLE = "Genred('Exp(-g * SqDist(x, y)) * b'): "
MISTAKES: list[tuple[Callable[[], Any], type[PairfuseError], str, str]] = [
    # the formula
    (lambda: Genred("SqDist(x, z)", XY), FormulaError, "formula: there is nothing called 'z'.", "aliases: x = Vi(3)"),
    (lambda: Genred("Expp(x)", XY), FormulaError, "formula: there is no operation called 'Expp'.", "did you mean Exp"),
    (lambda: Genred("Gradd(x, x, x)", XY), FormulaError, "formula: there is no operation", "did you mean Grad"),
    (lambda: Genred("x +", XY), FormulaError, "formula: this is no formula", "aliases"),
    (lambda: Genred("", XY), FormulaError, "formula: it is empty.", "aliases"),
    (lambda: Genred("x + b", XYB), ShapeError, "formula: add: the vectors have different lengths, 3 and 2.", "^"),
    (lambda: Genred("Elem(x, 5)", XY), ShapeError, "formula: elem: component 5", "numbered from 0"),
    (lambda: Genred("Elem(x, y)", XY), FormulaError, "formula: a parameter is a number", "^"),
    (lambda: Genred("IntCst(0.5) * x", XY), FormulaError, "formula: IntCst: it takes a whole number, not 0.5", "^"),
    (lambda: Genred("RatCst(1, 0) * x", XY), FormulaError, "formula: RatCst: the denominator is 0", "^"),
    (lambda: Genred("Zero(0) + x", XY), FormulaError, "formula: Zero: a vector has a length from 1", "^"),
    (lambda: Genred("IntInv(2, 3) * x", XY), FormulaError, "formula: IntInv takes 1 arguments, by place, not 2.", "^"),
    (lambda: Genred("Exp(x, y)", XY), FormulaError, "formula: exp takes 1 arguments", "^"),
    (lambda: Genred("2 + 3", []), FormulaError, "Genred('2 + 3'): the formula has no variable.", "x = Vi(3)"),
    (lambda: Genred("__import__('os')", XY), FormulaError, "formula: there is no operation called '__import__'", "^"),
    (lambda: Genred(None, XY), FormulaError, "Genred(formula, aliases): the formula is a text", "Vi(3)"),  # type: ignore[arg-type]
    (lambda: Genred("x", "x = Vi(3)"), FormulaError, "Genred(formula, aliases)", "list of texts"),
    # the aliases
    (lambda: Genred("x", ["x = Vk(3)"]), FormulaError, "alias 'x = Vk(3)': it declares no variable.", "Vj one of j"),
    (lambda: Genred("x", ["x = Vx(3)"]), FormulaError, "alias 'x = Vx(3)': it declares no variable.", "x = Vi(3)"),
    (lambda: Genred("x", ["x = Vi(D)"]), FormulaError, "alias 'x = Vi(D)': it declares no variable.", "x = Vi(3)"),
    (lambda: Genred("x", ["x = Vi(1, 2, 0)"]), FormulaError, "alias 'x = Vi(1, 2, 0)': Vi takes a length", "Vi(3)"),
    (lambda: Genred("x", ["x = Var(1, 2)"]), FormulaError, "alias 'x = Var(1, 2)': Var takes a place", "Vi(3)"),
    (lambda: Genred("x", ["x = Vi(0)"]), ShapeError, "alias 'x = Vi(0)': a variable has a length from 1", ""),
    (
        lambda: Genred("x", ["x = Vi(3)", "x = Vj(3)"]),
        FormulaError,
        "alias 'x = Vj(3)': the name 'x' is declared twice",
        "",
    ),
    (
        lambda: Genred("x", ["x = Vi(3)", "y = Vi(0, 3)"]),
        FormulaError,
        "alias 'y = Vi(0, 3)': argument number 0",
        "twice",
    ),
    (
        lambda: Genred("x", ["lambda = Vi(3)"]),
        FormulaError,
        "alias 'lambda = Vi(3)': lambda is a word of Python.",
        "another",
    ),
    (
        lambda: Genred("x * Var(0, 1, 2)", XY),
        FormulaError,
        "formula: argument number 0 is Pm(0, 1) in the formula.",
        "Vi(3)",
    ),
    (
        lambda: Genred("x * Var(3, 1, 2)", XY),
        FormulaError,
        "formula: argument number 2 is not declared, number 3 is.",
        "gap",
    ),
    (lambda: Genred("x", [3]), FormulaError, "alias 3: it declares no variable.", "Vi(3)"),  # type: ignore[list-item]
    # the reduction
    (lambda: Genred("x", XY, "Summ"), FormulaError, "reduction('Summ'): no such reduction.", "sum, prod"),
    (lambda: Genred("x", XY, axis=2), ShapeError, "Genred(axis=2): 0 reduces over i, 1 over j.", ""),
    (lambda: Genred("x", XY, "KMin"), ShapeError, "Kmin(K=None): K is a whole number", ""),
    (lambda: Genred("x", XY, "Sum", opt_arg=3), FormulaError, "reduction('Sum', opt_arg=3): takes no opt_arg.", ""),
    (
        lambda: Genred("x", XY, "LogSumExpWeight"),
        FormulaError,
        "reduction('LogSumExpWeight'): takes a second",
        "other=",
    ),
    (lambda: Genred("x", XY, "Sum", formula2="y"), FormulaError, "reduction('Sum'): takes one formula", ""),
    (lambda: Genred("x", XY, "Max_SumShiftExp"), ShapeError, "reduction('Max_SumShiftExp'): needs one number", ""),
    (lambda: Genred("x", XY, dtype_acc="float16"), DtypeError, "sum(dtype_acc='float16'): less precise", ""),
    (lambda: Genred("x", XY, sum_scheme="fast"), UnsupportedError, "sum(sum_scheme='fast'): not a scheme.", ""),
    (lambda: Genred("x", XY, "Min", use_double_acc=True), UnsupportedError, "min: dtype_acc, use_double_acc", "leave"),
    (
        lambda: Genred("Sum_Reduction(x, 2)", XY),
        FormulaError,
        "formula: the category of a reduction is 0 or 1",
        "over j",
    ),
    (lambda: Genred("Sum_Reduction(x)", XY), FormulaError, "formula: Sum_Reduction takes a formula and", "over j"),
    (lambda: Genred("KMin_Reduction(x, y, 0)", XY), FormulaError, "formula: 'y' is no whole number.", "over j"),
    (lambda: Genred("Some_Reduction(x, 0)", XY), FormulaError, "reduction('Some'): no such reduction.", "sum"),
    (lambda: generic_sum("x", "a = Pm(1)", *XY), FormulaError, "generic_sum(formula, output='a = Pm(1)')", "Vi(1)"),
    (lambda: generic_sum("x", "a", *XY), FormulaError, "alias 'a': it declares no variable.", "Vi(3)"),
    # the call
    (lambda: gauss(X, Y, B), ShapeError, TITLE + "takes 4 arguments, not 3.", "g = Pm(1)"),
    (lambda: gauss(X, Y, B, G, G), ShapeError, TITLE + "takes 4 arguments, not 5.", "g = Pm(1)"),
    (lambda: gauss(X[:, :2], Y, B, G), ShapeError, TITLE + "argument 0, x = Vi(3), is an array", "shape (5, 2)"),
    (lambda: gauss(X, Y, B, np.ones(2)), ShapeError, TITLE + "argument 3, g = Pm(1), is an array", "(*batch, 1)"),
    (
        lambda: gauss(X, Y, B[:6], G),
        ShapeError,
        TITLE + "the numbers of columns (axis j) differ, 7 and 6.",
        "b = Vj(2): ",
    ),
    (
        lambda: gauss(X, Y[:6], B, G),
        ShapeError,
        TITLE + "the numbers of columns (axis j) differ, 6 and 7.",
        "y = Vj(3): ",
    ),
    (lambda: gauss(X[0], Y, B, G), ShapeError, TITLE + "argument 0, x = Vi(3), is an array", "shape (3,)"),
    (lambda: gauss(X.astype("f"), Y, B, G), DtypeError, TITLE + "the number types differ", "x = Vi(3): NumPy array"),
    (lambda: gauss(X, torch.from_numpy(Y), B, G), DtypeError, TITLE + "a NumPy array and a torch tensor", "y = Vj(3)"),
    (lambda: gauss(points(2, 5, 3), points(3, 7, 3), B, G), ShapeError, TITLE + "the batch shapes", "x = Vi(3)"),
    (lambda: gauss("a", Y, B, G), ShapeError, TITLE + "argument 0, x = Vi(3), is an array", "str 'a'"),
    (
        lambda: gauss(np.array([["a"] * 3]), Y, B, G),
        DtypeError,
        TITLE + "argument 0, x = Vi(3): arrays of",
        "supported",
    ),
    (
        lambda: gauss(X, Y, B, G, backend="zz"),
        UnsupportedError,
        "sum(backend='zz'): there is no such backend.",
        "'auto'",
    ),
    (lambda: gauss(X, Y, B, G, foo=1), KeywordError, "sum(foo=...): there is no such keyword.", "out"),
    (lambda: gauss(X, Y, B, G, out=np.empty((5, 3))), ShapeError, "sum(out=...): out has not the shape", "(5, 2)"),
    (lambda: gauss(X, Y, B, G, out=np.empty((5, 2), "f")), DtypeError, "sum(out=...): out has not the type", "float32"),
]


@pytest.mark.parametrize(("mistake", "kind", "first", "words"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes(mistake: Any, kind: type[PairfuseError], first: str, words: str) -> None:
    for _ in range(2):  # nothing wrong is kept
        with pytest.raises(PairfuseError) as caught:
            mistake()
        assert type(caught.value) is kind, caught.value
        assert str(caught.value).startswith(first), caught.value
        assert words in str(caught.value), caught.value
    close(gauss(X, Y, B, G), K @ B)
