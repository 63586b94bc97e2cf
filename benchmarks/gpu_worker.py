"""One process, one engine, on the GPU: measures a case when told to.

In: JSON lines on the standard input.  Out: one JSON line each on the standard output.  Pairfuse, PyKeOps and PyTorch
live in processes of their own, because they need their own environments and share nothing, not even the memory of the
GPU: the one that waits holds no array.

    {"case": "gaussian-d3", "seconds": 20, "shrink": 1}  -> {"first": s, "gpu": s, "host": s, "error": e, "memory": n}
    {"part": "cold"}, "memory" or "stream"               -> facts, by name

An answer {"failed": TEXT} means that the engine cannot do this; the process stays usable.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.gpu_cases import BY_NAME, GpuCase, gaussian, sampled

MOST, FEWEST = 20, 3  # calls that are timed
FLAT_CALLS = 1000


def lazy_of(engine: str) -> Any:
    return importlib.import_module({"pairfuse": "pairfuse.torch", "keops": "pykeops.torch"}[engine]).LazyTensor


def arrays_of(case: GpuCase) -> list[Any]:
    import torch

    generator = torch.Generator("cuda").manual_seed(0)
    kind = getattr(torch, case.dtype)
    return [torch.rand(s, generator=generator, device="cuda").to(kind) for s in case.shapes]


def bound(engine: str, case: GpuCase, arrays: list[Any]) -> Callable[[], Any]:
    """The call of an engine."""
    if engine == "torch":
        if case.torch is None:
            raise NotImplementedError("PyTorch has nothing for this without the whole matrix")
        return lambda: case.torch(*arrays)  # type: ignore[misc]
    if engine == "keops" and not case.keops:
        raise NotImplementedError(f"left out for PyKeOps: {case.dtype}")
    options = dict(case.options) if engine == "pairfuse" else {}
    lazy = lazy_of(engine)
    return lambda: case.formula(lazy, *arrays, **options)


def measure(engine: str, case: GpuCase, seconds: float) -> dict[str, Any]:
    """The first call; then the median of warm ones, by the clock of the GPU and by that of the caller."""
    import torch

    arrays = arrays_of(case)
    call = bound(engine, case, arrays)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    start = time.perf_counter()
    result = call()
    torch.cuda.synchronize()
    first = time.perf_counter() - start
    memory = torch.cuda.max_memory_allocated() - before
    error = sampled(case, arrays, result)
    del result
    gpu: list[float] = []
    host: list[float] = []
    end_of_budget = time.perf_counter() + seconds
    while len(gpu) < FEWEST or (len(gpu) < MOST and time.perf_counter() < end_of_budget):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start = time.perf_counter()
        begin.record()
        call()
        end.record()
        host.append(time.perf_counter() - start)
        torch.cuda.synchronize()
        gpu.append(begin.elapsed_time(end) / 1e3)
    return {
        "first": first,
        "gpu": statistics.median(gpu),
        "host": statistics.median(host),
        "samples": gpu,
        "error": error,
        "memory": memory,
    }


# ---------------------------------------------------------------------- parts that are not a case


def memory_part() -> dict[str, Any]:
    """Memory over many calls: of the GPU, as torch counts it, and of the process."""
    import torch

    x, y, b = (torch.rand(2000, d, device="cuda") for d in (3, 3, 1))
    lazy = lazy_of("pairfuse")

    def call() -> None:
        gaussian(lazy, x, y, b)
        gaussian(lazy, x, y, b * 0.5)

    for _ in range(100):
        call()
    torch.cuda.synchronize()
    gc.collect()
    gpu, process = torch.cuda.memory_allocated(), resident()
    for _ in range(FLAT_CALLS):
        call()
    torch.cuda.synchronize()
    gc.collect()
    return {
        "calls": FLAT_CALLS,
        "growth on the GPU, bytes": torch.cuda.memory_allocated() - gpu,
        "growth of the process, bytes": resident() - process,
    }


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def stream_part() -> dict[str, Any]:
    """Data of the CPU through a sixteenth of the memory that it takes, beside the same data on the GPU."""
    import torch

    from pairfuse.runtime import device, memory

    lazy = lazy_of("pairfuse")
    n = 2_000_000
    data = [torch.rand(n, d) for d in (3, 3, 1)]
    there = [t.cuda() for t in data]
    seconds: dict[str, float] = {}
    limit = sum(t.numel() * 4 for t in data) // 16
    real = memory.budget, device.ALWAYS_FITS
    for name, arrays, options in (("on the GPU", there, {}), ("streamed", data, {"backend": "GPU"})):
        memory.budget, device.ALWAYS_FITS = (lambda *_: limit), 0
        try:
            results = [gaussian(lazy, *arrays, **options) for _ in range(2)]
            torch.cuda.synchronize()
            start = time.perf_counter()
            results[0] = gaussian(lazy, *arrays, **options)
            torch.cuda.synchronize()
            seconds[name] = time.perf_counter() - start
        finally:
            memory.budget, device.ALWAYS_FITS = real
        seconds[f"sum {name}"] = float(results[0].double().sum())
    return {"pairs": float(n) * n, "bytes on the GPU at a time": limit, **seconds}


def cold_part() -> dict[str, Any]:
    """First calls with an empty cache of Triton, whose folder is set by whoever starts this process."""
    import torch

    x, y, b = (torch.rand(1000, d, device="cuda") for d in (3, 3, 1))
    torch.cuda.synchronize()
    found: dict[str, Any] = {}
    lazy = lazy_of("pairfuse")
    for name, formula in (("first call of the process", gaussian), ("a new formula", unusual)):
        start = time.perf_counter()
        formula(lazy, x, y, b)
        torch.cuda.synchronize()
        found[name] = time.perf_counter() - start
    return found


def unusual(lazy: Any, x: Any, y: Any, b: Any) -> Any:
    """A formula that nothing else uses."""
    return ((lazy(x[:, None]) - lazy(y[None])).abs().sum(-1) + 1).log().sum(dim=1)


PARTS = {"memory": memory_part, "stream": stream_part, "cold": cold_part}


# ---------------------------------------------------------------------- orders


def obey(engine: str, order: dict[str, Any]) -> dict[str, Any]:
    import torch

    try:
        if "part" in order:
            return PARTS[order["part"]]()
        return measure(engine, BY_NAME[order["case"]].smaller(order.get("shrink", 1)), order["seconds"])
    except Exception as failure:  # whatever an engine raises is its answer
        return {"failed": f"{type(failure).__name__}: {failure}"}
    finally:
        gc.collect()
        torch.cuda.empty_cache()


def main() -> None:
    # Engines print what they like on the standard output; our answers get a private copy of it.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(obey(sys.argv[1], json.loads(line))), file=answers)


if __name__ == "__main__":
    main()
