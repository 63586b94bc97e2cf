"""How many fused multiply-adds per second this machine does: the measure of all shares, in `K.cost()` and in reports.

In: a data type and a number of threads. Out: multiply-adds per second, counted per number (a vector instruction on 16
numbers counts 16). The kernel is a loop of independent chains x <- x a + b in registers, written as LLVM IR for the
widest vectors of the host; the best of several widths and numbers of chains is the peak.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier

from ..backends.llvm.target import _binding, host_target, machine

WIDTHS = (16, 32, 64)  # bytes: NEON and SSE, AVX2, AVX-512
CHAINS = (8, 10, 12, 16, 24)  # latency x units in flight needs 8 at least; more than 14 only where registers allow
TYPES = {"float32": ("float", "f32", 4, ctypes.c_float), "float64": ("double", "f64", 8, ctypes.c_double)}
SECONDS = 0.02
REPEATS = 5
PROBE = 20_000  # trips


def fma_peak(
    dtype: str, threads: int, seconds: float = SECONDS, repeats: int = REPEATS, chains: tuple[int, ...] = CHAINS
) -> float:
    """The best rate of all variants, as the best of some runs each, which take so many seconds."""
    variants = [(width, count) for width in widths() for count in chains]
    return max(rate(dtype, *variant, threads, seconds, repeats) for variant in variants)


@lru_cache(maxsize=64)
def widths() -> tuple[int, ...]:
    """The vector widths in bytes that the host has in hardware: wider ones would only be split."""
    flags = host_target("auto").flags
    widest = 64 if "avx512f" in flags else 32 if "avx2" in flags else 16
    return tuple(width for width in WIDTHS if width <= widest and width * 2 >= widest)


def rate(dtype: str, width: int, chains: int, threads: int, seconds: float = SECONDS, repeats: int = REPEATS) -> float:
    """Multiply-adds per second of one variant, with all threads running it at once."""
    kernel, lanes = compiled(dtype, width, chains)
    probes = [_timed(kernel, PROBE) for _ in range(2)]
    trips = max(PROBE, int(seconds / min(end - begin for begin, end in probes) * PROBE))
    gate = Barrier(threads)

    def job() -> tuple[float, float]:
        gate.wait()
        return _timed(kernel, trips)

    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(repeats):
            times = [future.result() for future in [pool.submit(job) for _ in range(threads)]]
            best = min(best, max(end for _, end in times) - min(begin for begin, _ in times))
    return threads * trips * chains * lanes / best


def _timed(kernel: Callable[[int], float], trips: int) -> tuple[float, float]:
    """When a run began and when it ended, by the clock of the thread that does it."""
    begin = time.perf_counter()
    kernel(trips)
    return begin, time.perf_counter()


@lru_cache(maxsize=64)
def compiled(dtype: str, width: int, chains: int) -> tuple[Callable[[int], float], int]:
    """The kernel as a function of the number of trips, and the numbers per vector."""
    llvm = _binding()
    lanes = width // TYPES[dtype][2]
    module = llvm.parse_assembly(source(dtype, lanes, chains), llvm.create_context())
    engine = llvm.create_mcjit_compiler(module, machine(host_target("auto")))
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
