"""Compiles out[i] = f(x[i], ...) with the vector functions, for tests, tools/accuracy_table.py and timings.

In: a name of the table MATH, an element type, lanes and the target.  Out: a Python function of NumPy arrays.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

import llvmlite.binding as llvm
import numpy as np

from pairfuse.backends.llvm.builder import Builder, Value
from pairfuse.backends.llvm.math import MATH, emit_math

DTYPES = {"float": np.float32, "double": np.float64}


@dataclass(frozen=True)
class Target:
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


def host_features() -> dict[str, bool]:
    return dict(llvm.get_host_cpu_features())


def targets() -> list[Target]:
    """The host as it is, and as if it had less: what a test of the portable paths needs."""
    host = host_features()
    name = llvm.get_host_cpu_name()
    on = {k for k, v in host.items() if v}
    out: list[Target] = []
    if "avx512f" in on:
        out.append(Target("avx512", name, tuple(host.items()), 512))
    if "avx512vl" in on:
        out.append(Target("avx512vl-256", name, tuple(host.items()), 256))
    less = {k: v and not k.startswith(("avx512", "avx10")) for k, v in host.items()}
    if "avx2" in on and "fma" in on:
        out.append(Target("avx2", "haswell", tuple(less.items()), 256))
    plain = {k: v and not k.startswith(("avx", "fma", "f16c", "xop", "vaes", "vpcl")) for k, v in host.items()}
    out.append(Target("plain", "x86-64" if "sse2" in on else name, tuple(plain.items()), 128))
    return out


_INITIALISED: list[bool] = []
_ENGINES: list[object] = []  # they own the code: never freed while the process lives


def compile_ir(text: str, target: Target, symbol: str = "kernel") -> int:
    """Machine code for a module's text; returns the address of `symbol`."""
    if not _INITIALISED:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        _INITIALISED.append(True)
    machine = machine_for(target)
    module = llvm.parse_assembly(text)
    module.verify()
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    _ENGINES.append(engine)
    return engine.get_function_address(symbol)


def machine_for(target: Target) -> llvm.TargetMachine:
    features = ",".join(("+" if on else "-") + name for name, on in target.features)
    triple = llvm.Target.from_triple(llvm.get_process_triple())
    return triple.create_target_machine(cpu=target.cpu, features=features, opt=3, jit=True)


def assembly(text: str, target: Target) -> str:
    compile_ir("define void @kernel() {\n ret void\n}", target)  # initialises
    module = llvm.parse_assembly(text)
    return machine_for(target).emit_assembly(module)


def kernel_text(
    emit: Callable[..., Value], arity: int, elem: str, lanes: int, features: frozenset[str], replicas: int = 1
) -> str:
    """out[i] = emit(b, x[i], ...), `replicas` vectors at a time; the length is a multiple of replicas * lanes."""
    b = Builder(lanes, features)
    with b.loop("0", "%n", replicas * lanes) as loop:
        args: list[Value] = []
        for a in range(arity):
            names: list[str] = []
            for r in range(replicas):
                offset = b.let(f"add i64 {loop.index}, {r * lanes}")
                names.append(b.load(b.pointer(f"%in{a}", offset, elem), elem))
            args.append(Value(elem, tuple((n,) for n in names)))
        result = emit(b, *args)
        for r, row in enumerate(result.grid):
            offset = b.let(f"add i64 {loop.index}, {r * lanes}")
            b.store(row[0], b.pointer("%out", offset, elem), elem)
    b.line("ret void")
    inputs = ", ".join(f"ptr %in{a}" for a in range(arity))
    return b.module(b.function(f"void @kernel(ptr %out, {inputs}, i64 %n)"))


def vector_function(name: str, elem: str, target: Target, replicas: int = 1) -> Callable[..., np.ndarray]:
    """The compiled function of the table as a function of NumPy arrays (any shape, cast to the type)."""
    arity = MATH[name].arity
    lanes = target.lanes(elem)
    text = kernel_text(lambda b, *a: emit_math(b, name, *a), arity, elem, lanes, target.enabled, replicas)
    return callable_of(compile_ir(text, target), arity, elem, lanes * replicas)


def callable_of(address: int, arity: int, elem: str, step: int) -> Callable[..., np.ndarray]:
    native = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (arity + 1), ctypes.c_int64)(address)
    dtype = DTYPES[elem]

    def call(*arrays: np.ndarray) -> np.ndarray:
        flat = [np.ascontiguousarray(a, dtype).ravel() for a in np.broadcast_arrays(*arrays)]
        size = flat[0].size
        padded = [np.concatenate([a, np.ones(-size % step, dtype)]) for a in flat]
        out = np.empty_like(padded[0])
        native(out.ctypes.data, *[a.ctypes.data for a in padded], out.size)
        return out[:size].reshape(np.broadcast_shapes(*(np.shape(a) for a in arrays)))

    return call
