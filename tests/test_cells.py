"""The cells of primitive rows that the code generators read, against the `ref` cell, one row at a time.

`component` is evaluated for component numbers known at once and for those known inside a loop only, where every
component that it reads has to exist; `llvm` and `llvm_int` are compiled, and called at special points too.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from formulas import Sample, agree, samples
from vector_math import compile_ir, machines

from pairfuse.backends.llvm.builder import BITS, Builder, Value
from pairfuse.backends.llvm.math import emit_math
from pairfuse.ir.expr import Expr, Op, call, const, evaluate, index
from pairfuse.ir.ops import TABLE

# ---------------------------------------------------------------------- component


class Reader:
    """What a `component` cell is given: the components of the arguments, and folds, which are written out."""

    def __init__(self, values: dict[Expr, Any], in_a_loop: bool):
        self.values = values
        self.in_a_loop = in_a_loop
        self.read: list[tuple[Expr, int]] = []

    def at(self, x: Expr, d: int | Expr) -> Expr:
        if isinstance(d, int):
            assert 0 <= d < x.dim
            return call("extract", x, start=d, size=1)
        self.read.append((d, x.dim))
        result = const(0, x.kind)
        for k in range(x.dim):
            result = call("where", call("eq", d, const(k, "index")), call("extract", x, start=k, size=1), result)
        return result

    def fold(self, kind: str, size: int, body: Callable[[Any], Expr]) -> Expr:
        terms = [body(const(k, "index") if self.in_a_loop else k) for k in range(size)]
        together = terms[0]
        for term in terms[1:]:
            together = call("concat", together, term)
        return call("sum_d", together, group=size) if kind == "sum" else call(kind + "_d", together)

    def check(self) -> None:
        """Every component that was read in the loop exists, also in branches that are not taken."""
        for d, size in self.read:
            (places,) = evaluate([d], self.values)
            assert np.all((places >= 0) & (places < size)), f"components {places.ravel()} of {size}"


@pytest.mark.parametrize("in_a_loop", [False, True], ids=["written out", "loop"])
@pytest.mark.parametrize("sample", [s for s in samples() if s.op.component is not None], ids=str)
def test_component_is_that_of_the_reference(sample: Sample, in_a_loop: bool) -> None:
    assert sample.op.component is not None
    expected = evaluate([sample.out], sample.values)[0]
    place = index("j")
    for d in range(sample.out.dim):
        values = sample.values | {place: np.array([[d]])}
        reader = Reader(values, in_a_loop)
        root = sample.op.component(sample.out, place if in_a_loop else d, reader.at, reader.fold)
        assert (root.dim, root.kind) == (1, sample.out.kind)
        agree(np.broadcast_to(evaluate([root], values)[0], (5, 1)), expected[:, d : d + 1])
        reader.check()


# ---------------------------------------------------------------------- llvm and llvm_int

DTYPES = {"float": np.float32, "double": np.float64, "i32": np.int32, "i64": np.int64}
TARGET = machines()[0]
LANES = 4

Native = Callable[..., np.ndarray]


def compiled(op: Op, elem: str) -> Native:
    """out[i] = op(x[i], ...) by the `llvm` cell, or by `llvm_int` for integers."""
    cell = op.llvm_int if elem.startswith("i") else op.llvm
    b = Builder(LANES, TARGET.enabled)
    with b.loop("0", "%n", LANES) as loop:
        args = [_loaded(b, op, k, elem, loop.index) for k in range(op.arity)]
        result = _written(b, cell, args)
        if result.elem == "i1":
            result = b.convert("zext" if elem.startswith("i") else "uitofp", result, elem)
        b.store(result.name, b.pointer("%out", loop.index, elem), elem)
    b.line("ret void")
    pointers = ", ".join(f"ptr %in{k}" for k in range(op.arity))
    address = compile_ir(b.module(b.function(f"void @kernel(ptr %out, {pointers}, i64 %n)")), TARGET)
    native = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (op.arity + 1), ctypes.c_int64)(address)

    def run(*arrays: np.ndarray) -> np.ndarray:
        size = arrays[0].size
        padded = [np.concatenate([a.ravel(), a.ravel()[:1].repeat(-size % LANES)]).astype(DTYPES[elem]) for a in arrays]
        out = np.empty_like(padded[0])
        native(out.ctypes.data, *[a.ctypes.data for a in padded], out.size)
        return out[:size]

    return run


def _loaded(b: Builder, op: Op, k: int, elem: str, place: str) -> Value:
    value = Value(elem, ((b.load(b.pointer(f"%in{k}", place, elem), elem),),))
    truth = op.operands == "bool" or (op.operands == "where" and k == 0)
    if not truth:
        return value
    zero = b.const(elem, 0)
    return b.icmp("ne", value, zero) if elem.startswith("i") else b.fcmp("une", value, zero)


def _written(b: Builder, cell: Any, args: list[Value]) -> Value:
    if not isinstance(cell, str):
        return cell(b, *args)
    return emit_math(b, cell.removeprefix("math:"), *args) if cell.startswith("math:") else getattr(b, cell)(*args)


CONVERSIONS = {"to_real", "to_index"}  # written by the emitter, which knows the types
ELEMENTWISE = [op for op in TABLE.values() if op.elementwise and op.name not in CONVERSIONS]
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 1e30, -1e30, math.inf, -math.inf, math.nan])


def grid(numbers: np.ndarray, arity: int) -> list[np.ndarray]:
    return [a.ravel() for a in np.meshgrid(*[numbers] * arity, indexing="ij")]


@pytest.mark.parametrize("elem", ["float", "double"])
@pytest.mark.parametrize("op", [op for op in ELEMENTWISE if op.llvm is not None], ids=str)
def test_code_means_the_reference(op: Op, elem: str) -> None:
    assert op.ref is not None
    rng = np.random.default_rng(0)
    dtype = DTYPES[elem]
    inside = [rng.uniform(*d, size=100).astype(dtype) for d in op.domain]
    special = grid(SPECIAL.astype(dtype), op.arity)
    arrays = [np.concatenate([a, b]) for a, b in zip(inside, special, strict=True)]
    with np.errstate(all="ignore"):
        expected = np.asarray(op.ref(*(a.astype(np.float64) for a in arrays)), dtype=np.float64)
    actual = compiled(op, elem)(*arrays)
    with np.errstate(all="ignore"):
        # 4 units in the last place of the rounded result: the accuracy of the functions has tests of its own
        agree(actual, expected.astype(dtype), rtol=4 * float(np.finfo(dtype).eps), atol=1e-37, what=op.name)


@pytest.mark.parametrize("elem", ["i32", "i64"])
@pytest.mark.parametrize("op", [op for op in ELEMENTWISE if op.llvm_int is not None], ids=str)
def test_integer_code_means_the_reference(op: Op, elem: str) -> None:
    assert op.ref is not None
    big = 2**61 + 1 if elem == "i64" else 2**29 + 1
    arrays = grid(np.array([0, 1, -1, 2, -2, 3, -7, 7, 1000]), op.arity)
    if op.name != "mul":  # which would overflow
        arrays = [np.concatenate([a, [big, -big, 3]]) for a in arrays]
        arrays[0][-1] = -big
    with np.errstate(all="ignore"):
        expected = np.asarray(op.ref(*arrays)).astype(np.int64)
    assert compiled(op, elem)(*arrays).tolist() == expected.tolist()


def test_bits_of_the_types_are_those_of_numpy() -> None:
    assert all(BITS[elem] == 8 * np.dtype(dtype).itemsize for elem, dtype in DTYPES.items())
