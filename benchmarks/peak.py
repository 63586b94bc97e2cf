"""How many fused multiply-adds per second this machine does: the measure of all fractions in the report.

In: a data type and a number of threads. Out: multiply-adds per second, counted per number (a vector instruction on 16
numbers counts 16). The kernel is a loop of independent chains x <- x a + b in registers, written as LLVM IR for the
widest vectors of the host; the best of several widths and numbers of chains is the peak.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier

from llvmlite import binding

WIDTHS = (16, 32, 64)  # bytes: NEON and SSE, AVX2, AVX-512
CHAINS = (8, 10, 12, 16, 24)  # latency x units in flight needs 8 at least; more than 14 only where registers allow
TYPES = {"float32": ("float", "f32", 4, ctypes.c_float), "float64": ("double", "f64", 8, ctypes.c_double)}
SECONDS = 0.02
REPEATS = 5


def fma_peak(dtype: str, threads: int) -> float:
    """The best rate of all variants, as the best of REPEATS runs each."""
    return max(rate(dtype, width, chains, threads) for width in widths() for chains in CHAINS)


@cache
def widths() -> tuple[int, ...]:
    """The vector widths in bytes that the host has in hardware: wider ones would only be split."""
    features = binding.get_host_cpu_features()
    widest = 64 if features.get("avx512f") else 32 if features.get("avx2") else 16
    return tuple(width for width in WIDTHS if width <= widest and width * 2 >= widest)


def rate(dtype: str, width: int, chains: int, threads: int) -> float:
    """Multiply-adds per second of one variant, with all threads running it at once."""
    kernel, lanes = compiled(dtype, width, chains)
    begin = time.perf_counter()
    kernel(probe := 20_000)
    trips = max(1, int(SECONDS / (time.perf_counter() - begin) * probe))
    gate = Barrier(threads + 1)

    def job() -> None:
        gate.wait()
        kernel(trips)
        gate.wait()

    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(REPEATS):
            running = [pool.submit(job) for _ in range(threads)]
            gate.wait()
            begin = time.perf_counter()
            gate.wait()
            best = min(best, time.perf_counter() - begin)
            for future in running:
                future.result()
    return threads * trips * chains * lanes / best


@cache
def compiled(dtype: str, width: int, chains: int) -> tuple[Callable[[int], float], int]:
    """The kernel as a function of the number of trips, and the numbers per vector."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    lanes = width // TYPES[dtype][2]
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten(), opt=3, jit=True
    )
    engine = binding.create_mcjit_compiler(binding.parse_assembly(source(dtype, lanes, chains)), machine)
    engine.finalize_object()
    function = ctypes.CFUNCTYPE(TYPES[dtype][3], ctypes.c_int64)(engine.get_function_address("peak"))
    function.engine = engine  # type: ignore[attr-defined]  # the machine code lives as long as its engine
    return function, lanes


def source(dtype: str, lanes: int, chains: int) -> str:
    """The loop as LLVM IR. The chains start at different numbers and converge to 1: no denormals, no overflow."""
    scalar, suffix = TYPES[dtype][:2]
    vector, fma = f"<{lanes} x {scalar}>", f"@llvm.fma.v{lanes}{suffix}"
    numbers = range(chains)
    lines = [
        f"declare {vector} {fma}({vector}, {vector}, {vector})",
        f"define {scalar} @peak(i64 %trips) #0 {{",
        "entry:",
        # Half of every lane, read through a volatile slot: constants that the compiler does not know.
        f"  %slot = alloca {scalar}",
        f"  store volatile {scalar} 0.5, ptr %slot",
        f"  %h = load volatile {scalar}, ptr %slot",
        f"  %h0 = insertelement {vector} poison, {scalar} %h, i32 0",
        f"  %half = shufflevector {vector} %h0, {vector} poison, <{lanes} x i32> zeroinitializer",
        *(f"  %start{k} = fmul {vector} %half, {splat(scalar, lanes, 1 + k / 8)}" for k in numbers),
        "  br label %loop",
        "loop:",
        "  %trip = phi i64 [0, %entry], [%next, %loop]",
        *(f"  %x{k} = phi {vector} [%start{k}, %entry], [%y{k}, %loop]" for k in numbers),
        *(f"  %y{k} = call {vector} {fma}({vector} %x{k}, {vector} %half, {vector} %half)" for k in numbers),
        "  %next = add i64 %trip, 1",
        "  %more = icmp ult i64 %next, %trips",
        "  br i1 %more, label %loop, label %done",
        "done:",
        f"  %sum0 = fadd {vector} %y0, %half",
        *(f"  %sum{k} = fadd {vector} %sum{k - 1}, %y{k}" for k in numbers if k),
        f"  %result = extractelement {vector} %sum{chains - 1}, i32 0",
        f"  ret {scalar} %result",
        "}",
        'attributes #0 = { "min-legal-vector-width"="512" "prefer-vector-width"="512" }',
    ]
    return "\n".join(lines)


def splat(scalar: str, lanes: int, value: float) -> str:
    return "<" + ", ".join([f"{scalar} {value:.6e}"] * lanes) + ">"
