"""Mistakes of users: the exception, its first line with the user's call, the facts and the remedy."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from pairfuse import (
    DtypeError,
    FormulaError,
    KeywordError,
    PairfuseError,
    SelectionError,
    ShapeError,
    SymbolicError,
    UnsupportedError,
)
from pairfuse.numpy import LazyTensor, Pm, Vi, Vj, index_i, index_j, where

x, y = np.zeros((10, 3)), np.zeros((20, 3))
X, Y = Vi(x), Vj(y)
K = (X - Y).sqnorm2()
NAMES = {
    "np": np, "torch": torch, "LazyTensor": LazyTensor, "Vi": Vi, "Vj": Vj, "Pm": Pm, "index_i": index_i,
    "index_j": index_j, "where": where, "x": x, "y": y, "X": X, "Y": Y, "K": K, "F": Vi(x.astype(np.float32)),
    "T": Vi(torch.zeros(10, 3)), "B": LazyTensor(np.zeros((2, 10, 1, 3))),
}  # fmt: skip

# What the user writes, the exception, how its first line begins, words of the facts and of the hint.
MISTAKES: list[tuple[str, type[PairfuseError], str, str]] = [
    # operands that do not fit
    ("X + Y[..., :2]", ShapeError, "x + y: the vectors have different lengths, 3 and 2.", "shape (1, 20, 2)"),
    ("X.sqdist(Y[..., :2])", ShapeError, "x.sqdist(y): the vectors have different lengths, 3 and 2.", "[..., :2]"),
    ("X | Y[..., :2]", ShapeError, "x | y: the vectors have different lengths, 3 and 2.", "i-variable"),
    ("X + F", DtypeError, "x + y: the number types differ, float64 and float32.", "x.astype(np.float32)"),
    ("X * T", DtypeError, "x * y: a NumPy array and a torch tensor cannot be mixed.", "torch.from_numpy(x)"),
    ("X / torch.zeros(3)", DtypeError, "x / y: a NumPy array and a torch tensor", "y: torch tensor, shape (3,)"),
    ("torch.zeros(3) - X", DtypeError, "x - y: a NumPy array and a torch tensor", "parameter, shape (1, 1, 3)"),
    ("X + Vi(np.zeros((11, 3)))", ShapeError, "x + y: the numbers of rows (axis i) differ, 10 and 11.", "j-variable"),
    ("K - Vj(np.zeros((11, 3)))", ShapeError, "x - y: the numbers of columns (axis j) differ, 20 and 11.", "i and j"),
    ("B < LazyTensor(np.zeros((3, 10, 1, 3)))", ShapeError, "x < y: the batch shapes (2,) and (3,)", "must be equal"),
    ("B + np.zeros((2, 1, 20))", ShapeError, "x + y: the numbers of rows (axis i) differ, 10 and 2.", "batch axes"),
    ("X + 'a'", DtypeError, "x + y: a str cannot take part in a formula.", "accepted: numbers"),
    ("'a' * X", DtypeError, "x * y: a str cannot take part in a formula.", "x: str 'a'"),
    ("X + np.zeros((8, 1500))", ShapeError, "x + y: an array of two axes needs to know", "y: NumPy array"),
    ("X ** None", DtypeError, "x.pow(y): a NoneType cannot take part", "accepted: numbers"),
    ("X * 1j < Y", DtypeError, "x < y: not defined for complex numbers.", "no order"),
    ("X + np.zeros(3, np.complex64)", DtypeError, "x + y: the number types differ, float64 and float32.", "complex64"),
    ("where(K < 1, X, 'a')", DtypeError, "where(x, y, z): a str cannot take part", "formula of i and j"),
    ("X.matvecmult(Y[..., :2])", ShapeError, "x.matvecmult(y): a matrix of 3 entries", "shape (1, 20, 2)"),
    ("X.weightedsqnorm([1.0, 2.0])", ShapeError, "x.weightedsqnorm(y): a weight of length 2", "x: i-variable"),
    ("X.weightedsqdist(Y, [1.0, 2.0])", ShapeError, "x.weightedsqdist(y, z): a weight of length 2", "z: parameter"),
    ("X.one_hot(3)", ShapeError, "x.one_hot(size=3): a vector of length 3", "i-variable"),
    ("X.bspline(Y)", ShapeError, "x.bspline(y, k=0): 3 knots", "j-variable"),
    ("X.ifelse(1)", KeywordError, "x.ifelse(y, z): takes 2 arguments, not 1.", ""),
    ("X.clamp()", KeywordError, "x.clamp(): without a bound.", "x.clamp(min=0)"),
    ("X.bitwise_xor(1)", DtypeError, "x.bitwise_xor(y): the bits of real numbers have no meaning.", "integer arrays"),
    ("LazyTensor.concatenate((X, Y), axis=0)", ShapeError, "concatenate(axis=0): only the components", "axis=-1"),
    ("LazyTensor.concatenate(X)", ShapeError, "concatenate(x): x is a tuple or list", ""),
    ("X.norm(1)", ShapeError, "x.norm(1): the norm is taken over the components.", "x.norm(-1)"),
    # components
    ("X[50]", SelectionError, "K[50]: index 50 of axis 0", "K[rows, columns] takes"),
    ("X[..., 3]", SelectionError, "K[..., 3]: index 3 of axis 2, which has the size 3.", "K[rows, columns] takes"),
    ("X[..., 2:2]", ShapeError, "K[...]: a vector needs at least one component.", "x[..., [0, 2]]"),
    ("X.elem(4)", ShapeError, "x.elem(4): component 4 of a vector of length 3.", "numbered from 0"),
    ("X.extract(2, 5)", ShapeError, "x.extract(2, 5): 5 components from number 2 on of a vector", "numbered from 0"),
    ("X.elem(1.5)", ShapeError, "i=1.5: not a whole number.", ""),
    # construction
    ("LazyTensor(np.zeros((8, 15)))", ShapeError, "LazyTensor(x): an array of two axes needs to know", "Vi(x) or"),
    ("LazyTensor(np.zeros((8, 15, 3)))", ShapeError, "LazyTensor(x): the axes of sizes 8 and 15", "(M, 1, D)"),
    ("LazyTensor(x[:, None], axis=0)", ShapeError, "LazyTensor(x, axis=0) or Vi(x): x has 3 axes.", "two axes"),
    ("LazyTensor(x, axis=5)", ShapeError, "LazyTensor(x, axis=5): there is no such axis.", "axis=0"),
    ("LazyTensor(np.zeros((3, 1, 0)))", ShapeError, "LazyTensor(x): the vectors have no component.", "(3, 1, 0)"),
    ("Vi(np.zeros(3))", ShapeError, "Vi(x): an i-variable is an array of two axes (rows, D).", "x[:, None]"),
    ("Vj(np.array(2.0))", ShapeError, "Vj(x): a j-variable is an array of two axes (rows, D).", "parameter"),
    ("Vi(2.0)", ShapeError, "LazyTensor(x, axis=0): numbers and lists of numbers are parameters.", "float 2.0"),
    ("LazyTensor('abc')", DtypeError, "LazyTensor(x): a str cannot take part", "x: str 'abc'"),
    ("LazyTensor([1, 'a'])", DtypeError, "LazyTensor(x): a list cannot take part", "lists of numbers"),
    ("LazyTensor([])", DtypeError, "LazyTensor(x): a list cannot take part", "lists of numbers"),
    ("LazyTensor(None)", DtypeError, "LazyTensor(x): a NoneType cannot take part", "accepted"),
    ("LazyTensor((0, 3))", DtypeError, "LazyTensor(x): a tuple declares a symbolic variable", "pass a list"),
    ("LazyTensor((0, 3, 1), axis=1)", ShapeError, "LazyTensor((0, 3, 1), axis=1): the category", "leave the axis out"),
    ("Vi(0, 0)", ShapeError, "Vi(number, length): a number from 0 and a length from 1", "length: int 0"),
    ("Vj(x, 3)", ShapeError, "Vj(number, length): a number from 0", "number: NumPy array, shape (10, 3)"),
    ("Vi(0, 3) + Vj(0, 3)", ShapeError, "x + y: the argument number 0 is declared twice", "a number of its own"),
    ("LazyTensor(1j, axis=1)", ShapeError, "LazyTensor(x, axis=1): numbers and lists of numbers", "complex 1j"),
    ("Pm(np.zeros(3, 'G'))", DtypeError, "LazyTensor(x): arrays of c", "x.astype(np.complex64)"),
    ("Pm(np.zeros(3, object))", DtypeError, "LazyTensor(x): arrays of object are not supported.", "dtype=float"),
    ("Pm(np.ma.masked_array(np.zeros(3)))", UnsupportedError, "LazyTensor(x): x is a masked array", "x.filled(0)"),
    ("Pm(torch.zeros(3).to_sparse())", UnsupportedError, "LazyTensor(x): x is a torch.sparse_coo", "x.to_dense()"),
    ("Pm(torch.zeros(3, device='meta'))", UnsupportedError, "LazyTensor(x): the tensor is on the device", "CPU"),
    ("index_i(-1)", ShapeError, "index_i(-1): the size of an axis", ""),
    # what a formula is not
    ("bool(K)", SymbolicError, "bool(x): a formula is neither true nor false.", "x.any(dim=1)"),
    ("1 if K < 1 else 2", SymbolicError, "bool(x): a formula is neither true nor false.", "of i and j"),
    ("len(K)", SymbolicError, "len(x): a formula has several sizes.", "x.shape"),
    ("list(K)", SymbolicError, "iteration over x: nothing is computed", "x.blocks(n)"),
    ("float(K)", SymbolicError, "float(x): nothing is computed before a reduction.", "x.sum(dim=1)"),
    # reductions: the axis
    ("np.sum(K)", ShapeError, "sum(): which axis?", "dim=0 reduces over i, dim=1 over j, dim=2 or -1"),
    ("K.logsumexp()", ShapeError, "logsumexp(): which axis?", "dim=0 reduces over i, dim=1 over j."),
    ("K.Kmin(3)", ShapeError, "Kmin(): which axis?", "dim=0 reduces over i"),
    ("K.sum_reduction()", ShapeError, "sum_reduction(): which axis?", "dim=0 reduces over i"),
    ("K.sum(dim=3)", ShapeError, "sum(): cannot reduce over axis 3.", "shape (10, 20)"),
    ("B.sum(dim=0)", ShapeError, "sum(): cannot reduce over axis 0.", "dim=1 reduces over i, dim=2 over j"),
    ("K.min(dim=(0, 3))", ShapeError, "min(): cannot reduce over axis (0, 3).", "dim=0 reduces over i"),
    ("K.argmin(dim=(0, 2))", ShapeError, "argmin(): cannot reduce over axis (0, 2).", "dim=(0, 1) for all pairs"),
    ("K.sum()", ShapeError, "sum(): which axis?", "-1 over the components"),
    ("K.max()", ShapeError, "max(): which axis?", "-1 over the components"),
    ("K.argmin()", ShapeError, "argmin(): which axis?", "-1 over the components"),
    ("K.sum(axis=0, dim=1)", ShapeError, "sum(axis=0, dim=1): two names", ""),
    ("K.var(dim=1, ddof=0, correction=1)", KeywordError, "var(ddof=0, correction=1): two names", ""),
    ("K.sum(dim=1, keepdim=True, keepdims=False)", KeywordError, "sum(keepdim=True, keepdims=False)", ""),
    ("K.argKmin(2, dim=1, keepdims=True)", KeywordError, "argKmin(keepdims=...): its results", "leave it out"),
    ("X & Y", FormulaError, "x & y: connects conditions.", "(x > 0) & (y > 0)"),
    ("(K > 1) | K", FormulaError, "x | y: connects conditions.", "x.dot(y)"),
    ("K.where(K, 0)", FormulaError, "x.where(condition, y): the first argument", "where(condition, x, y)"),
    ("np.sort(K)", SymbolicError, "np.sort(x): x is a formula", "Kmin_argKmin"),
    ("np.add.reduce(K)", SymbolicError, "np.add.reduce(x): x is a formula", "x.add(...)"),
    ("K.sum(dim=(1, 1))", ShapeError, "sum(): cannot reduce over axis (1, 1).", "each axis once"),
    ("K.sum(dim=())", ShapeError, "sum(): cannot reduce over axis ().", "dim=0 reduces over i"),
    ("K.sum(dim='i')", ShapeError, "sum(): cannot reduce over axis i.", "dim=0 reduces over i"),
    ("K.logsumexp(dim=2)", ShapeError, "logsumexp(): cannot reduce over axis 2.", "dim=0 reduces over i"),
    # reductions: the arguments
    ("K.Kmin(0, dim=1)", ShapeError, "Kmin(K=0): K is a whole number, at least 1.", "of i and j"),
    ("K.argKmin(2.5, dim=1)", ShapeError, "argKmin(K=2.5): K is a whole number, at least 1.", "of i and j"),
    ("K.sum(dim=1, bakend='x')", KeywordError, "sum(bakend=...): there is no such keyword.", "did you mean backend?"),
    ("K.sum(dim=1, zzz=1)", KeywordError, "sum(zzz=...): there is no such keyword.", "the keywords are axis, dim"),
    ("K.sum(dim=1, backend='cuda')", UnsupportedError, "sum(backend='cuda'): there is no such backend.", "'auto'"),
    ("K.sum(dim=1, device_id='cuda')", ShapeError, "sum(device_id='cuda'): a device is a number", ""),
    ("K.sum(dim=1, ranges=(1,))", ShapeError, "sum(ranges=...): ranges are a tuple", "from_matrix"),
    ("K.sum(dim=1, dtype_acc='float16')", DtypeError, "sum(dtype_acc='float16'): less precise than the data.", "auto"),
    ("K.sum(dim=1, dtype_acc='half')", DtypeError, "sum(dtype_acc='half'): not a type.", "'float64'"),
    ("K.sum(dim=1, dtype_acc='float64', use_double_acc=True)", DtypeError, "sum(dtype_acc='float64', use", "one of"),
    ("K.min(dim=1, sum_scheme='kahan_scheme')", UnsupportedError, "min: dtype_acc, use_double_acc and sum_", "leave"),
    ("K.sum(dim=1, sum_scheme='x')", UnsupportedError, "sum(sum_scheme='x'): not a scheme.", "kahan_scheme"),
    ("K.sum(dim=1, call=False, foo=1)", KeywordError, "sum(foo=...): there is no such keyword.", ""),
    ("K.sum(dim=1, out=np.zeros((11, 1)))", ShapeError, "sum(out=...): out has not the shape of", "(11, 1)"),
    ("K.sum(dim=1, out=np.zeros((10, 1), 'f4'))", DtypeError, "sum(out=...): out has not the type of", "float32"),
    ("K.sum(dim=1, out=torch.zeros(10, 1))", DtypeError, "sum(out=...): out is not of the library", "torch tensor"),
    ("K.min_argmin(dim=1, out=np.zeros((10, 1)))", ShapeError, "min_argmin(out=...): 2 results and 1 output", "tuple"),
    ("K.sum(dim=1, out=np.broadcast_to(0.0, (10, 1)))", UnsupportedError, "sum(out=...): out is read-only.", "(10, 1)"),
    ("Vj(np.zeros((0, 3))).argmin(dim=1)", ShapeError, "argmin: no index to return", "+inf and -inf"),
    ("Vj(np.zeros((0, 3))).max_argmax(dim=1)", ShapeError, "max_argmax: no index to return", "+inf and -inf"),
    ("(X * index_j()).sum(dim=1)", ShapeError, "sum: the formula uses the index j", "index_j(size)"),
    ("X.sumsoftmaxweight(Y[..., :2], dim=1)", ShapeError, "x.sumsoftmaxweight(weight=y): the vectors", "3 and 2"),
    ("K.logsumexp(dim=1, weight=Vj(x))", ShapeError, "x.logsumexp(weight=y): the numbers of columns", "20 and 10"),
    ("K.logsumexp(dim=1, weight=Y, other=Y)", FormulaError, "logsumexp(weight=..., other=...): two names", "give one"),
    ("K.reduction('Foo', axis=1)", FormulaError, "reduction('Foo'): no such reduction.", "argKmin"),
    ("K.reduction('Sum', other=Y, axis=1)", FormulaError, "reduction('Sum'): takes one formula", ""),
    ("K.reduction('SoftMax', axis=1)", FormulaError, "reduction('SoftMax'): takes a second formula", ""),
    # products
    ("K @ np.zeros(21)", ShapeError, "K @ v: v has 21 entries along j, K has 20.", "(20,) or (*batch, 20, E)"),
    ("K @ np.zeros((1, 2))", ShapeError, "K @ v: v has 1 entries along j, K has 20.", "(20,) or (*batch, 20, E)"),
    ("np.zeros(21) @ K", ShapeError, "v @ K: v has 21 entries along i, K has 10.", "(10,) or (*batch, E, 10)"),
    ("K @ np.array(1.0)", ShapeError, "K @ v: v has a single number.", "(20,)"),
    ("K @ Y", FormulaError, "K @ v: v is not an array.", "(K * x).sum(dim=...)"),
    ("K @ [1.0, 2.0]", ShapeError, "K @ v: v has 2 entries along j, K has 20.", "v has the shape (20,)"),
    ("(X - Y) @ np.zeros(20)", ShapeError, "K @ v: needs one number for each pair", "K.sum(-1)"),
    ("K @ np.zeros(20, 'f4')", DtypeError, "K @ v: the number types differ", "v: NumPy array, shape (20,), float32"),
    ("K @ torch.zeros(20)", DtypeError, "K @ v: a NumPy array and a torch tensor", "v: torch tensor"),
    ("K.matvec(np.zeros(21))", ShapeError, "K.matvec(v): v has 21 entries along j", "(20,)"),
    ("B.T.rmatvec(np.zeros(21))", ShapeError, "K.rmatvec(v): needs one number for each pair", "K has vectors of 3"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "kind", "first", "words"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_mistakes(code: str, kind: type[PairfuseError], first: str, words: str) -> None:
    with pytest.raises(PairfuseError) as caught:
        eval(code, dict(NAMES))
    assert type(caught.value) is kind
    text = str(caught.value)
    assert text.startswith(first), text
    assert words in text, text
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_classes_are_those_that_callers_expect() -> None:
    assert issubclass(ShapeError, ValueError)
    assert issubclass(DtypeError, (TypeError, ValueError))
    assert issubclass(UnsupportedError, NotImplementedError)
    assert issubclass(SymbolicError, TypeError)
    assert issubclass(KeywordError, TypeError)


@pytest.mark.parametrize(("code", "error"), [("K.backend = 'zz'", UnsupportedError), ("K.ranges = (1, 2)", ShapeError)])
def test_attributes_are_checked(code: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        exec(code, dict(NAMES))


@pytest.mark.parametrize("code", ["K.foo", "K.foo = 1", "{K: 1}", "X[0] = 3"])
def test_python_refuses(code: str) -> None:
    with pytest.raises((AttributeError, TypeError)):
        exec(code, dict(NAMES))


def test_a_failed_operation_leaves_its_operands_usable() -> None:
    a, b = Vi(np.ones((5, 3))), Vj(np.ones((7, 3)))
    with pytest.raises(ShapeError):
        _ = a + b[..., :2]
    assert (a + b).sum(dim=1).shape == (5, 3)


def test_torch_errors() -> None:
    a: Any = Vi(torch.zeros(5, 3))
    with pytest.raises(DtypeError, match="x \\+ y: the number types differ, float32 and float64"):
        _ = a + torch.zeros(3).double()
    with pytest.raises(UnsupportedError, match="on the device 'meta'"):
        _ = a * torch.zeros(3, device="meta")
    with pytest.raises(TypeError, match=r"torch.sort\(x\): x is a formula"):
        torch.sort(a)


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys, pairfuse, pairfuse.numpy; "
        "print([m for m in ('torch', 'triton', 'scipy', 'dask') if m in sys.modules], "
        "type(pairfuse.config).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[] Config"
    assert done.stderr == ""
