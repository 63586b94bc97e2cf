"""Figures on a GPU: `make bench-gpu`, or `python -m benchmarks.gpu [name ...]`.

In: names of cases, or none for all.  Out: a line for each, and `results/gpu-<device>.json` with the device, versions
and dates.  Times are medians of CUDA events around warm calls; PyKeOps is timed beside us where it is installed.
Without a GPU it says so, and that is all.
"""

from __future__ import annotations

import datetime
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
REPEATS = 10


@dataclass(frozen=True)
class GpuCase:
    """What is computed: formula(LazyTensor, *arrays), on arrays of these shapes; the number of pairs of a call."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    pairs: float
    formula: Callable[..., Any]
    dtype: str = "float32"


def _distance(lazy: Any, x: Any, y: Any) -> Any:
    return ((lazy(x[..., :, None, :].contiguous()) - lazy(y[..., None, :, :].contiguous())) ** 2).sum(-1)


def _gaussian(lazy: Any, x: Any, y: Any, b: Any) -> Any:
    return (-_distance(lazy, x, y)).exp() @ b


def _gradient(lazy: Any, x: Any, y: Any, b: Any) -> Any:
    from torch.autograd import grad

    x = x.detach().requires_grad_()
    value = _gaussian(lazy, x, y, b)
    return value, *grad(value.sum(), x)


def _sinkhorn(lazy: Any, x: Any, y: Any, b: Any) -> Any:
    return (lazy(b[None, :, :]) - _distance(lazy, x, y)).logsumexp(dim=1)


def _neighbours(lazy: Any, x: Any, y: Any) -> Any:
    return _distance(lazy, x, y).argKmin(K=10, dim=1)


def _nearest(lazy: Any, x: Any, y: Any) -> Any:
    return _distance(lazy, x, y).argmin(dim=1)


def _batches(lazy: Any, x: Any, y: Any) -> Any:
    return (-_distance(lazy, x, y)).exp().sum(dim=2)


def _attention(lazy: Any, q: Any, k: Any, v: Any) -> Any:
    scores = lazy(q[:, None, :]) | lazy(k[None, :, :])
    return scores.sumsoftmaxweight(lazy(v[None, :, :]), axis=1)


def _points(m: int, n: int, d: int, *more: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return ((m, d), (n, d), *more)


M = 10**6
CASES = (
    GpuCase("gaussian, D=3, 1e6 x 1e6", _points(M, M, 3, (M, 1)), 1e12, _gaussian),
    GpuCase("gaussian, D=3, 1e5 x 1e5", _points(10**5, 10**5, 3, (10**5, 1)), 1e10, _gaussian),
    GpuCase("gaussian, D=64, 2e5 x 2e5", _points(2 * 10**5, 2 * 10**5, 64, (2 * 10**5, 1)), 4e10, _gaussian),
    GpuCase("value and gradient, D=3, 1e6 x 1e6", _points(M, M, 3, (M, 1)), 1e12, _gradient),
    GpuCase("Sinkhorn step, D=3, 1e6 x 1e6", _points(M, M, 3, (M, 1)), 1e12, _sinkhorn),
    GpuCase("Sinkhorn step, D=64, 2e5 x 2e5", _points(2 * 10**5, 2 * 10**5, 64, (2 * 10**5, 1)), 4e10, _sinkhorn),
    GpuCase("argKmin K=10, D=3, 1e6 x 1e6", _points(M, M, 3), 1e12, _neighbours),
    GpuCase("argmin, D=128, 1e5 x 1e5, float16", _points(10**5, 10**5, 128), 1e10, _nearest, "float16"),
    GpuCase("16 rows x 1e7, D=3", _points(16, 10**7, 3, (10**7, 1)), 1.6e8, _gaussian),
    GpuCase("1024 batches of 256 x 256, D=3", ((1024, 256, 3), (1024, 256, 3)), 1024 * 256 * 256, _batches),
    GpuCase("attention, D=64, 8192 x 8192", ((8192, 64),) * 3, 8192**2, _attention, "bfloat16"),
    GpuCase("warm call, 100 x 100", _points(100, 100, 3, (100, 1)), 1e4, _gaussian),
)


def timed(call: Callable[[], Any]) -> dict[str, float]:
    """Seconds of the first call, and the median of warm ones, by the clock of the GPU and by that of the caller."""
    import torch

    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    first = time.perf_counter() - start
    gpu: list[float] = []
    host: list[float] = []
    for _ in range(REPEATS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start = time.perf_counter()
        begin.record()
        call()
        end.record()
        host.append(time.perf_counter() - start)
        torch.cuda.synchronize()
        gpu.append(begin.elapsed_time(end) / 1e3)
    return {"first": first, "gpu": statistics.median(gpu), "host": statistics.median(host)}


def measure(case: GpuCase) -> dict[str, Any]:
    import torch

    from pairfuse.torch import LazyTensor

    generator = torch.Generator("cuda").manual_seed(0)
    kind = getattr(torch, case.dtype)
    arrays = [torch.rand(s, generator=generator, device="cuda").to(kind) for s in case.shapes]
    found: dict[str, Any] = {"date": datetime.date.today().isoformat()}
    for engine, lazy in (("pairfuse", LazyTensor), ("pykeops", _keops())):
        if lazy is None:
            continue
        try:
            times = timed(lambda lazy=lazy: case.formula(lazy, *arrays))
        except Exception as error:
            found[engine] = {"error": str(error).splitlines()[0]}
            continue
        found[engine] = times | {"pairs/s": case.pairs / times["gpu"]}
    return found


def _keops() -> Any:
    if importlib.util.find_spec("pykeops") is None:
        return None
    from pykeops.torch import LazyTensor  # type: ignore[import-not-found]

    return LazyTensor


def no_gpu() -> str:
    """Why nothing can be measured, or nothing."""
    missing = [name for name in ("torch", "triton") if importlib.util.find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed: pip install 'pairfuse[gpu]'"
    import torch

    return "" if torch.cuda.is_available() else "torch sees no GPU on this machine"


def main(names: list[str]) -> int:
    why = no_gpu()
    if why:
        print(f"benchmarks.gpu: skipped, {why}.")
        return 0
    import torch

    name = torch.cuda.get_device_name()
    path = RESULTS / f"gpu-{name.replace(' ', '-').lower()}.json"
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"measured": {}}
    packages = ("pairfuse", "torch", "triton", "pykeops")
    versions = {p: metadata.version(p) for p in packages if importlib.util.find_spec(p)}
    kept["machine"] = {"device": name, "cuda": torch.version.cuda, **versions}
    for case in CASES:
        if names and not any(n in case.name for n in names):
            continue
        kept["measured"][case.name] = found = measure(case)
        ours = found["pairfuse"]
        text = (
            ours.get("error")
            or f"{ours['gpu'] * 1e3:10.3f} ms  {ours['pairs/s']:.3g} pairs/s  first {ours['first']:.2f} s"
        )
        print(f"{case.name:40} {text}", flush=True)
        RESULTS.mkdir(exist_ok=True)
        path.write_text(json.dumps(kept, indent=1) + "\n")
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
