"""What users of CUDA expect, on a real GPU: streams, graphs, devices, flat memory, types, derivatives, clear errors.

`make test-gpu` runs this folder; everything is skipped, with the reason, where there is no GPU.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from cuda_data import gaussian, on_gpu

from pairfuse.errors import DeviceMemoryError, DtypeError, PairfuseError
from pairfuse.runtime import probe

# ---------------------------------------------------------------------- results


def test_accuracy_and_types() -> None:
    import torch

    x, y = on_gpu((500, 3), (100_000, 3))
    result = gaussian(x, y).sum(dim=1)
    assert result.is_cuda
    exact = gaussian(x.double(), y.double()).sum(dim=1)
    assert ((result - exact).abs() / exact).max() < 1e-6
    for kind in (torch.float16, torch.bfloat16):
        if kind == torch.bfloat16 and torch.cuda.get_device_capability() < (8, 0):
            continue
        halved = gaussian(x.to(kind), y.to(kind)).logsumexp(dim=1)
        assert halved.dtype == kind
        torch.testing.assert_close(
            halved.float(), gaussian(x.to(kind).float(), y.to(kind).float()).logsumexp(dim=1), rtol=1e-2, atol=1e-2
        )


def test_derivatives_of_first_and_second_order() -> None:
    import torch

    found = []
    for place in ("cuda", "cpu"):
        x, y = (t.double().to(place).requires_grad_() for t in on_gpu((40, 3), (70, 3)))
        value = gaussian(x, y).logsumexp(dim=1).sum()
        (gx,) = torch.autograd.grad(value, x, create_graph=True)
        (gy,) = torch.autograd.grad((gx**2).sum(), y)
        found.append([t.cpu() for t in (value, gx, gy)])
    for gpu, cpu in zip(*found, strict=True):
        torch.testing.assert_close(gpu, cpu, rtol=1e-9, atol=1e-9)


def test_numbers_may_come_from_the_cpu() -> None:
    import torch

    x, y = on_gpu((60, 3), (80, 3))
    expected = gaussian(x, y).sum(dim=1) * 0.25
    for number in (0.25, torch.tensor(0.25), torch.tensor(0.25, device="cuda"), np.float32(0.25)):
        torch.testing.assert_close((gaussian(x, y) * number).sum(dim=1), expected)


def test_the_example_of_the_manual_at_full_size() -> None:
    """1,000,000 x 2,000,000 pairs and the gradient, as they stand in the README but for the sizes."""
    import torch

    from pairfuse.torch import LazyTensor

    x = torch.rand(1_000_000, 3, requires_grad=True, device="cuda")
    y = torch.rand(2_000_000, 3, device="cuda")
    x_i, y_j = LazyTensor(x[:, None, :]), LazyTensor(y[None, :, :])
    K_ij = (-((x_i - y_j) ** 2).sum(dim=2)).exp()
    a_i = K_ij.sum(dim=1)
    (g,) = torch.autograd.grad(a_i.log().sum(), [x])
    rows = torch.arange(0, 1_000_000, 50_000, device="cuda")
    near = x[rows].detach().double()
    weights = (-((near[:, None] - y[None].double()) ** 2).sum(-1)).exp()
    exact = weights.sum(1, keepdim=True)
    slope = 2 * (weights @ y.double() / exact - near)
    assert ((a_i[rows] - exact).abs() / exact).max() < 1e-6
    assert ((g[rows] - slope).abs().max() / slope.abs().max()) < 1e-5


# ---------------------------------------------------------------------- streams and graphs


def test_strides_views_and_another_stream() -> None:
    import torch

    (wide,) = on_gpu((600, 7))
    x, y = wide[::2, 1:7:2], wide.t()[:3].t()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        result = gaussian(x, y).sum(dim=1)
    torch.cuda.current_stream().wait_stream(stream)
    torch.testing.assert_close(result, gaussian(x.contiguous(), y.contiguous()).sum(dim=1))


def test_work_is_put_on_the_current_stream() -> None:
    """The kernel starts after what is on that stream, however long that takes: it sees the new points."""
    import torch

    x, y = on_gpu((2000, 3), (2000, 3))
    gaussian(x, y).sum(dim=1)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        moved = x + 1.0
        result = (gaussian(moved, y) * 0.375).sum(dim=1)
    torch.cuda.current_stream().wait_stream(stream)
    torch.testing.assert_close(result, (gaussian(x + 1.0, y) * 0.375).sum(dim=1))


def test_calls_do_not_wait_for_the_gpu() -> None:
    import torch

    x, y = on_gpu((2000, 3), (2000, 3))
    few = x[:3]

    def calls() -> None:
        gaussian(x, y).sum(dim=1)
        (gaussian(x, y) * 0.25).logsumexp(dim=0)
        gaussian(few, y).sum(dim=1)
        (-gaussian(x, y)).argKmin(5, dim=1)
        points = x.clone().requires_grad_()
        torch.autograd.grad(gaussian(points, y).logsumexp(dim=1).sum(), points)
        torch.autograd.grad(gaussian(points, y).min(dim=1).sum(), points)

    calls()
    torch.cuda.set_sync_debug_mode("error")
    calls()
    (gaussian(x, y) * 0.0625).sum(dim=1)  # a number that was not there before


@pytest.mark.parametrize("kind", ["sum", "numbers", "parts", "lists", "gradient"])
def test_capture_into_a_graph(kind: str) -> None:
    """Captured once, replayed on other points: sums, numbers of the formula, parts that are merged, derivatives."""
    import torch

    m = 3 if kind == "parts" else 700
    x, y = on_gpu((m, 3), (9000, 3))
    x.requires_grad_(kind == "gradient")

    def compute() -> Any:
        f = gaussian(x, y)
        if kind == "numbers":
            return (f * 0.5 + 0.25).logsumexp(dim=1)
        if kind == "lists":
            return (-f).Kmin(4, dim=1)
        if kind == "gradient":
            return torch.autograd.grad(f.sum(dim=1).log().sum(), x)[0]
        return f.sum(dim=1)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # compiles
        compute()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = compute()
    for seed in (1, 2):
        with torch.no_grad():
            x.copy_(on_gpu((m, 3), seed=seed)[0])
        graph.replay()
        torch.testing.assert_close(result, compute())


def test_a_graph_with_a_number_that_is_new() -> None:
    import torch

    x, y = on_gpu((300, 3), (400, 3))
    (gaussian(x, y) * 0.5).sum(dim=1)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = (gaussian(x, y) * 0.171875).sum(dim=1)
    graph.replay()
    torch.testing.assert_close(result, gaussian(x, y).sum(dim=1) * 0.171875)


def test_threads_on_streams_of_their_own() -> None:
    import torch

    x, y = on_gpu((500, 3), (600, 3))
    expected = gaussian(x, y).sum(dim=1)
    found: dict[int, Any] = {}

    def work(k: int) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.default_stream())
        with torch.cuda.stream(stream):
            for _ in range(20):
                found[k] = (gaussian(x, y) * float(k + 1)).sum(dim=1)
        stream.synchronize()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for k, result in found.items():
        torch.testing.assert_close(result, expected * (k + 1))
    assert len(found) == 4


def test_torch_compile() -> None:
    import torch

    x, y = on_gpu((300, 3), (400, 3))

    def f(x: Any, y: Any) -> Any:
        return gaussian(x * 2.0, y).sum(dim=1).log() + 1.0

    compiled = torch.compile(f)
    torch.testing.assert_close(compiled(x, y), f(x, y))
    torch.testing.assert_close(compiled(y, x), f(y, x))


# ---------------------------------------------------------------------- devices


def test_other_devices() -> None:
    import torch

    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    x, y = on_gpu((500, 3), (600, 3))
    expected = (gaussian(x, y) * 0.5).sum(dim=1)
    with torch.cuda.device(0):
        there = (gaussian(x.to("cuda:1"), y.to("cuda:1")) * 0.5).sum(dim=1)
    assert str(there.device) == "cuda:1"
    torch.testing.assert_close(there.to("cuda:0"), expected)
    with pytest.raises(PairfuseError, match="on different devices"):
        gaussian(x, y.to("cuda:1"))


def test_data_of_the_cpu_on_request() -> None:
    from pairfuse.numpy import Vi, Vj

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 3)), rng.standard_normal((60, 3))
    f = (-Vi(x).sqdist(Vj(y))).exp()
    np.testing.assert_allclose(f.sum(dim=1, backend="GPU"), f.sum(dim=1), rtol=1e-12)


def test_the_probe_and_info() -> None:
    import torch

    device = torch.device("cuda", 0)
    assert probe.failure(device) is None
    done = subprocess.run([sys.executable, "-m", "pairfuse", "info"], capture_output=True, text=True, check=True)
    assert f"cuda:0 {torch.cuda.get_device_name(0)}" in done.stdout
    assert "can be used" in done.stdout


def test_the_tuner_on_one_kernel() -> None:
    import torch

    from pairfuse.runtime import tune

    case = tune.TuneCase("small", tune.cases()[0].problem, 20_000, 20_000)
    device = torch.device("cuda", torch.cuda.current_device())
    shown: list[str] = []
    tune.run([], device, tune.cuda_timer, "", 60, shown.append, [case])
    assert "pairs/s" in shown[0]
    assert "other results" not in shown[0]


# ---------------------------------------------------------------------- memory


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_memory_is_flat_over_1000_calls() -> None:
    import torch

    x, y = on_gpu((1000, 3), (1000, 3))

    def call(k: int) -> None:
        (gaussian(x, y) * (1.0 + k % 3)).sum(dim=1)
        gaussian(x[:3], y).sum(dim=1)

    for k in range(200):
        call(k)
    torch.cuda.synchronize()
    gc.collect()
    before, process = torch.cuda.memory_allocated(), resident()
    for k in range(1000):
        call(k)
    torch.cuda.synchronize()
    gc.collect()
    assert torch.cuda.memory_allocated() == before
    assert resident() - process < 2**22


def test_too_little_memory_is_told_and_the_process_goes_on() -> None:
    import torch

    from pairfuse.torch import Vi, Vj

    x, y = on_gpu((1_000_000, 3), (100, 3))
    gaussian(x[:10], y).sum(dim=1)
    _, total = torch.cuda.mem_get_info()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2e9 / total)
    try:
        with pytest.raises(DeviceMemoryError, match="CUDA out of memory for output 0") as caught:
            (Vi(x) - Vj(y)).tile(400).sum(dim=1)  # 4.8 GB
        assert "shape (1000000, 1200), float32, 4.8 GB" in str(caught.value)
        assert "Hint: pass the data on the CPU, x.cpu(), with backend='GPU'" in str(caught.value)
        assert torch.isfinite(gaussian(x, y).sum(dim=1)).all()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert torch.cuda.memory_allocated() < 2**28


# ---------------------------------------------------------------------- errors


def test_errors_leave_the_process_usable() -> None:
    import torch

    x, y = on_gpu((50, 3), (60, 3))
    with pytest.raises(PairfuseError, match="on different devices"):
        gaussian(x.cpu(), y)
    with pytest.raises(PairfuseError, match="computes on the CPU"):
        gaussian(x, y).sum(dim=1, backend="llvm")
    with pytest.raises(PairfuseError, match="lists have at most"):
        gaussian(x, y).argKmin(1000, dim=1)
    assert torch.isfinite(gaussian(x, y).sum(dim=1)).all()


def test_types_that_this_gpu_does_not_have() -> None:
    import torch

    if torch.cuda.get_device_capability() >= (8, 0):
        pytest.skip("this GPU has all types")
    x, y = (t.bfloat16() for t in on_gpu((50, 3), (60, 3)))
    with pytest.raises(DtypeError, match="bfloat16 needs compute capability 8"):
        gaussian(x, y).sum(dim=1)
