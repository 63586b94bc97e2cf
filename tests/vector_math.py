"""Compiles out[i] = f(x[i], ...) with the vector functions, and measures the error (tests, tools/accuracy_table.py).

In: a name of the table MATH, an element type, and a target.  Out: a Python function of NumPy arrays; arguments that
cover the range of a function; errors in ulps.  A *ulp* is the distance of two neighbouring numbers of the type at the
exact result.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
import mpmath
import numpy as np
import scipy.special

from pairfuse.backends.llvm.builder import Builder, Value
from pairfuse.backends.llvm.math import MATH, emit_math

DTYPES = {"float": np.float32, "double": np.float64}
Array = np.ndarray

# ------------------------------------------------------------------ targets and compilation


@dataclass(frozen=True)
class Machine:
    """A processor to compile for: its name, features and the bits of its vectors."""

    label: str
    cpu: str
    features: tuple[tuple[str, bool], ...]
    vector_bits: int

    @property
    def enabled(self) -> frozenset[str]:
        return frozenset(name for name, on in self.features if on)

    def lanes(self, elem: str) -> int:
        return self.vector_bits // (32 if elem == "float" else 64)


def machines() -> list[Machine]:
    """The host as it is, and as if it had less: what a test of the portable paths needs."""
    host = dict(llvm.get_host_cpu_features())
    name = llvm.get_host_cpu_name()
    out: list[Machine] = []
    if host.get("avx512f") and host.get("avx512dq"):
        out.append(Machine("avx512", name, tuple(host.items()), 512))
        if host.get("avx512vl"):
            out.append(Machine("avx512vl", name, tuple(host.items()), 256))
    if host.get("avx2") and host.get("fma"):
        less = {k: v and not k.startswith(("avx512", "avx10")) for k, v in host.items()}
        out.append(Machine("avx2", "haswell", tuple(less.items()), 256))
    plain = {k: v and not k.startswith(("avx", "fma", "f16c", "xop", "vaes", "vpcl", "gfni")) for k, v in host.items()}
    out.append(Machine("generic", "x86-64" if host.get("sse2") else name, tuple(plain.items()), 128))
    return out


_ENGINES: list[object] = []  # they own the code: never freed while the process lives


def target_machine(machine: Machine) -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = ",".join(("+" if on else "-") + name for name, on in machine.features)
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(cpu=machine.cpu, features=features, opt=3, jit=True)


def compile_ir(text: str, machine: Machine, symbol: str = "kernel") -> int:
    """Machine code for a module's text; returns the address of `symbol`."""
    target = target_machine(machine)
    module = llvm.parse_assembly(text)
    module.verify()
    engine = llvm.create_mcjit_compiler(module, target)
    engine.finalize_object()
    _ENGINES.append(engine)
    return engine.get_function_address(symbol)


def kernel_text(
    emit: Callable[..., Value], arity: int, elem: str, lanes: int, features: frozenset[str], replicas: int = 1
) -> str:
    """out[i] = emit(b, x[i], ...), `replicas` vectors at a time; the length is a multiple of replicas * lanes."""
    b = Builder(lanes, features)
    with b.loop("0", "%n", replicas * lanes) as loop:
        offsets = [b.let(f"add i64 {loop.index}, {r * lanes}") for r in range(replicas)]
        args = [
            Value(elem, tuple((b.load(b.pointer(f"%in{a}", offset, elem), elem),) for offset in offsets))
            for a in range(arity)
        ]
        for row, offset in zip(emit(b, *args).grid, offsets, strict=True):
            b.store(row[0], b.pointer("%out", offset, elem), elem)
    b.line("ret void")
    inputs = ", ".join(f"ptr %in{a}" for a in range(arity))
    return b.module(b.function(f"void @kernel(ptr %out, {inputs}, i64 %n)"))


def vector_function(name: str, elem: str, machine: Machine, replicas: int = 1) -> Callable[..., Array]:
    """The function of the table, compiled, as a function of NumPy arrays of its type."""
    arity, lanes, dtype = MATH[name].arity, machine.lanes(elem), DTYPES[elem]
    text = kernel_text(lambda b, *a: emit_math(b, name, *a), arity, elem, lanes, machine.enabled, replicas)
    native = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (arity + 1), ctypes.c_int64)(compile_ir(text, machine))

    def call(*arrays: Array) -> Array:
        flat = [np.ascontiguousarray(a, dtype).ravel() for a in np.broadcast_arrays(*arrays)]
        size = flat[0].size
        rest = np.ones(-size % (replicas * lanes), dtype)
        padded = [np.concatenate([a, rest]) if rest.size else a for a in flat]
        out = np.empty_like(padded[0])
        native(out.ctypes.data, *[a.ctypes.data for a in padded], out.size)
        return out[:size].reshape(np.broadcast_shapes(*(np.shape(a) for a in arrays)))

    return call


# ------------------------------------------------------------------ exact values


def _rsqrt(x: Array) -> Array:
    return np.where(x == 0, x * 0, 1 / np.sqrt(x))


def _sigmoid(x: Array) -> Array:
    z = np.exp(-np.abs(x))
    return np.where(x < 0, z, z**0) / (1 + z)


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _by_mpmath(exact: Callable[[Any], Any], x: Array) -> Array:
    """The function of mpmath to the precision, and the range, of a type wider than float64."""
    wide = x.dtype.type

    def rounded(v: float) -> Any:
        if v != v:
            return wide(v)
        fraction, exponent = mpmath.frexp(exact(mpmath.mpf(v)))
        high = float(fraction)
        return np.ldexp(wide(high) + wide(float(fraction - high)), int(exponent))

    with mpmath.workprec(80):
        return np.array([rounded(float(v)) for v in x.ravel()], x.dtype).reshape(x.shape)


def _erf(x: Array) -> Array:
    """By SciPy in float64, by mpmath beyond."""
    return scipy.special.erf(x) if x.dtype == np.float64 else np.copysign(_by_mpmath(mpmath.erf, x), x)


def _erfc(x: Array) -> Array:
    """By SciPy in float64, by mpmath beyond."""
    return scipy.special.erfc(x) if x.dtype == np.float64 else _by_mpmath(mpmath.erfc, np.clip(x, -1e3, 1e3))


NUMPY_NAMES = {
    **{f"a{name}": f"arc{name}" for name in ("sin", "cos", "tan", "tan2", "sinh", "cosh", "tanh")},
    "pow": "power",
}
OWN = {"rsqrt": _rsqrt, "sigmoid": _sigmoid, "softplus": _softplus, "erf": _erf, "erfc": _erfc}


def reference(name: str) -> Callable[..., Array]:
    """The function of the table in NumPy; give it arguments of a wider type than the one that is measured."""
    return OWN[name] if name in OWN else getattr(np, NUMPY_NAMES.get(name, name))


def wider(elem: str) -> type:
    """The type in which the exact values are computed: float64, or the processor's extended type."""
    return np.float64 if elem == "float" else np.longdouble


def has_wider(elem: str) -> bool:
    """Has this platform a type wide enough to measure errors in `elem`?  (Not where long double is double.)"""
    return np.finfo(wider(elem)).nmant > np.finfo(DTYPES[elem]).nmant + 8


def ulps(got: Array, exact: Array) -> Array:
    """|got - exact| in units of the last place; 0 for equal infinities or NaNs; infinite where only one is special."""
    info = np.finfo(got.dtype)
    wide = exact.dtype.type
    with np.errstate(all="ignore"):
        rounded = exact.astype(got.dtype)
        exponent = np.maximum(np.frexp(exact)[1], info.minexp + 1)
        error = np.abs(got.astype(wide) - exact) / np.ldexp(wide(1), exponent - 1 - info.nmant)
        special = ~np.isfinite(rounded) | ~np.isfinite(got)
        equal = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    return np.where(special, np.where(equal, 0.0, np.inf), error).astype(np.float64)


# ------------------------------------------------------------------ arguments

# Intervals where a function does something: its whole finite range, and where it is steep or changes its formula.
INTERVALS: dict[str, dict[str, Sequence[tuple[float, float]]]] = {
    "float": {
        "exp": [(-104.5, 89.0), (-1, 1), (-104.0, -87.0)],
        "exp2": [(-151, 129), (-1, 1), (-151, -125)],
        "expm1": [(-20, 89), (-1.5, 1.5)],
        "log": [(0.5, 2), (0, 1000)],
        "log2": [(0.5, 2), (0, 1000)],
        "log10": [(0.5, 2), (0, 1000)],
        "log1p": [(-1, 1), (-0.5, 3), (0, 1000)],
        "sigmoid": [(-105, 20), (-3, 3)],
        "softplus": [(-105, 100), (-3, 3)],
        "tanh": [(-10, 10), (-1, 1)],
        "sinh": [(-90, 90), (-2, 2)],
        "cosh": [(-90, 90), (-2, 2)],
        "sin": [(-4, 4), (-1e3, 1e3), (-1e5, 1e5)],
        "cos": [(-4, 4), (-1e3, 1e3), (-1e5, 1e5)],
        "tan": [(-4, 4), (-1e3, 1e3), (-1e5, 1e5)],
        "asin": [(-1, 1), (0.4, 0.6), (0.9, 1)],
        "acos": [(-1, 1), (-0.6, -0.4), (0.4, 0.6), (0.9, 1)],
        "atan": [(-3, 3), (0.4, 0.6), (1, 2.1), (-100, 100)],
        "erf": [(-4.2, 4.2), (0.8, 1), (-1, 1)],
        "erfc": [(-4.2, 10.6), (0.4, 0.6), (-1, 1), (9.1, 10.2)],
        "asinh": [(-3, 3), (-0.1, 0.1), (-1e9, 1e9)],
        "acosh": [(1, 1.1), (1, 3), (1, 1e9)],
        "atanh": [(-1, 1), (-0.1, 0.1), (0.3, 0.6), (0.99, 1)],
    },
    "double": {
        "exp": [(-746, 710), (-1, 1), (-745.0, -708.0)],
        "exp2": [(-1076, 1025), (-1, 1), (-1076, -1021)],
        "expm1": [(-40, 710), (-1.5, 1.5)],
        "sigmoid": [(-746, 40), (-3, 3)],
        "softplus": [(-746, 100), (-3, 3)],
        "tanh": [(-20, 20), (-1, 1)],
        "sinh": [(-711, 711), (-2, 2)],
        "cosh": [(-711, 711), (-2, 2)],
        "sin": [(-4, 4), (-1e5, 1e5), (-1e9, 1e9)],
        "cos": [(-4, 4), (-1e5, 1e5), (-1e9, 1e9)],
        "tan": [(-4, 4), (-1e5, 1e5), (-1e9, 1e9)],
        "erf": [(-6.2, 6.2), (0.8, 1), (-1, 1)],
        "erfc": [(-6.2, 27.4), (0.4, 0.6), (-1, 1), (26.4, 27.3)],
        "asinh": [(-3, 3), (-0.1, 0.1), (-1e18, 1e18)],
        "acosh": [(1, 1.1), (1, 3), (1, 1e18)],
    },
}
# Points near which errors are looked for one number after the other.
SPECIAL_POINTS: dict[str, Sequence[float]] = {
    "exp": [0, 88.7228394, -87.3365448, -103.972084, 709.782712893384, -708.396418532264, -745.133219101941],
    "exp2": [0, 128, -126, -149, -150, 1024, -1022, -1074, -1075, 0.5],
    "log": [1, 0.75, 1.5, 0.70710678, 1.41421356, 1.0625],
    "log2": [1, 0.70710678, 1.41421356],
    "log10": [1, 0.70710678, 1.41421356],
    "log1p": [0, -1, 0.41421356, -0.29289322],
    "expm1": [0, 0.52, -0.52, 88.7228394, 709.782712893384, -17.3, -37.4],
    "tanh": [0, 0.26, 9.01, 19.06],
    "sinh": [0, 1, 89.4159863, 710.475860073944],
    "cosh": [0, 89.4159863, 710.475860073944],
    "asin": [0, 0.5, 1, -0.5, -1],
    "acos": [0, 0.5, 1, -0.5, -1],
    "atan": [0, 0.5, 1, 2],
    "erf": [0, 0.85, 3.92, 5.92],
    "erfc": [0, 0.46875, -0.46875, 2, 3.5, 9.19, 10.05, 26.54, 27.22],
    "asinh": [0, 1, 33554432.0, 18014398509481984.0, 3.4028e38],
    "acosh": [1, 1.25, 33554432.0, 18014398509481984.0, 3.4028e38],
    "atanh": [0, 0.5, 1, 0.17157287, 0.33333333],
}


def any_bits(elem: str, count: int, rng: np.random.Generator) -> Array:
    """Numbers of all exponents and both signs, infinities and NaNs among them."""
    dtype = DTYPES[elem]
    integer = np.uint32 if elem == "float" else np.uint64
    return rng.integers(0, np.iinfo(integer).max, count, dtype=integer, endpoint=True).view(dtype)


def neighbourhood(dtype: type, centre: float, count: int) -> Array:
    """`count` consecutive numbers of the type around the centre."""
    integer = np.int32 if dtype == np.float32 else np.int64
    low = np.array([centre], dtype).view(integer) - (count // 2 if centre else 0)
    return (low + np.arange(count, dtype=integer)).view(dtype)


def near_multiples(dtype: type, limit: float, count: int, rng: np.random.Generator) -> Array:
    """Numbers next to multiples of pi/2, where sines and cosines vanish."""
    k = np.concatenate([np.arange(-8, 9), rng.integers(-int(limit / 1.6), int(limit / 1.6), count)])
    centre = (k.astype(np.longdouble) * (np.arctan2(np.longdouble(1), np.longdouble(0)))).astype(dtype)
    return np.concatenate([centre, np.nextafter(centre, dtype(np.inf)), np.nextafter(centre, dtype(-np.inf))])


def arguments(name: str, elem: str, count: int, rng: np.random.Generator) -> list[Array]:
    """Arguments of the function: `count` points for each of its cases."""
    if MATH[name].arity == 2:
        with np.errstate(all="ignore"):  # overflow is one of the cases
            return pairs(name, elem, count, rng)
    dtype = DTYPES[elem]
    intervals = INTERVALS[elem].get(name) or INTERVALS["float"].get(name, [(0, 4)])
    points = SPECIAL_POINTS.get(name, [0, 1])
    parts = [any_bits(elem, count, rng)]
    parts += [rng.uniform(low, high, count).astype(dtype) for low, high in intervals]
    parts += [neighbourhood(dtype, p, max(16, count // 50)) for p in points]
    if name in ("sin", "cos", "tan"):
        parts.append(near_multiples(dtype, 1e5 if elem == "float" else 1e9, count, rng))
    return [np.concatenate(parts)]


def pairs(name: str, elem: str, count: int, rng: np.random.Generator) -> list[Array]:
    dtype = DTYPES[elem]
    first, second = [any_bits(elem, count, rng)], [any_bits(elem, count, rng)]
    if name == "pow":
        most = 104.0 if elem == "float" else 745.0
        bases = [
            np.exp(rng.uniform(-most, most, count)),
            np.exp(rng.uniform(-1, 1, count)),
            1 + rng.uniform(-1, 1, count) * 10.0 ** rng.uniform(-14, -1, count),
        ]
        for base in bases:
            x = base.astype(dtype)
            x[x == 1] = 2
            first.append(x)
            second.append((rng.uniform(-1.02, 1.02, count) * most / np.log(x.astype(np.float64))).astype(dtype))
        first += [rng.uniform(0, 10, count).astype(dtype), rng.uniform(-10, 10, count).astype(dtype)]
        second += [rng.uniform(-5, 5, count).astype(dtype), rng.integers(-12, 12, count).astype(dtype)]
    else:
        first += [rng.uniform(-1, 1, count).astype(dtype) for _ in range(2)]
        second += [rng.uniform(-1, 1, count).astype(dtype), np.ones(count, dtype)]
        x = np.exp(rng.uniform(-80, 80, count)).astype(dtype)
        first.append(x)
        second.append((x * np.exp(rng.uniform(-4, 4, count))).astype(dtype))
    return [np.concatenate(first), np.concatenate(second)]


def worst(got: Array, exact: Array, args: Sequence[Array]) -> tuple[float, str]:
    """The largest error in ulps, and where it occurs."""
    error = ulps(got, exact)
    k = int(np.argmax(error))
    return float(error[k]), f"at {', '.join(repr(a[k]) for a in args)}: {got[k]!r}, exactly {exact[k]!r}"
