"""What needs a real GPU: `make test-gpu`. Everything here is skipped, with the reason, where there is none.

Conformance of all operations and reductions against the reference, as under the interpreter but on real tiles; what a
user of CUDA expects: the current stream, no copies, flat memory, graphs, several types, derivatives, clear errors.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
from typing import Any

import error_bounds
import numpy as np
import pytest
from conformance import DTYPES, check, draw_case, problem
from test_ops_backends import NAMES as OPERATIONS
from test_ops_backends import PLACES, arguments
from test_reductions_backends import LISTS, NAMES, REDUCTIONS, sample, seeded, special_case, term

from pairfuse.errors import PairfuseError
from pairfuse.ir.expr import call
from pairfuse.ir.ops import TABLE
from pairfuse.runtime import device


def reason() -> str:
    """Why there is nothing to test, or nothing."""
    missing = [name for name in ("torch", "triton") if importlib.util.find_spec(name) is None]
    if missing:
        return f"needs {' and '.join(missing)}: pip install 'pairfuse[gpu]'"
    import torch

    if not torch.cuda.is_available():
        return "torch sees no GPU"
    if os.environ.get("TRITON_INTERPRET") == "1" or device.interpreting():
        return "the other tests have turned triton into its interpreter: run `make test-gpu`"
    return ""


@pytest.fixture(autouse=True)
def _gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    why = reason()
    if why:
        pytest.skip(why)
    exact = error_bounds._units
    # The functions of a GPU are off by more units than ours on the CPU: 2 or 3, of exp near its ends 12.
    monkeypatch.setattr(error_bounds, "_units", lambda name: 16.0 if name in error_bounds.MATH else 2 * exact(name))


def on_gpu(*shapes: tuple[int, ...], seed: int = 0, **options: Any) -> list[Any]:
    import torch

    generator = torch.Generator("cuda").manual_seed(seed)
    return [torch.randn(s, generator=generator, device="cuda", **options) for s in shapes]


def gaussian(x: Any, y: Any) -> Any:
    from pairfuse.torch import Vi, Vj

    return (-Vi(x).sqdist(Vj(y))).exp()


# ---------------------------------------------------------------------- conformance


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(name: str, dtype: str) -> None:
    op, rng = TABLE[name], seeded(name, dtype, "gpu")
    dims, parameters = op.samples[rng.integers(len(op.samples))]
    args, intervals = arguments(PLACES[op.arity][0], dims, op.domain)
    p = problem("sum", call(name, *args, **parameters), over=str(rng.choice(["i", "j"])), dtype=dtype)
    for m, n in ((17, 257), (1, 1)):
        check(draw_case(rng, p, m, n, domains=intervals), "triton")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_reduction(name: str, dtype: str) -> None:
    rng = seeded(name, dtype, "gpu")
    dim = int(rng.choice((1, 3) if name in LISTS else (1, 3, 20)))
    over = str(rng.choice(["i", "j"]))
    for (m, n), batch in (((257, 300), "none"), ((5, 16), "mixed"), ((3, 20_000), "none"), ((17, 3), "parameters")):
        m, n = (m, n) if over == "j" else (n, m)
        check(sample(rng, name, dtype, dim, m, n, over, batch), "triton")


@pytest.mark.parametrize("name", NAMES)
def test_ties_nan_and_infinities(name: str) -> None:
    for dtype, special in itertools.product(DTYPES, (0.0, 0.05, 0.9)):
        check(special_case(seeded(name), name, dtype, 40, 570, special), "triton", informative=0.0)


@pytest.mark.parametrize("k", [1, 10, 20, 50])
def test_lists(k: int) -> None:
    rng = seeded(k)
    check(draw_case(rng, problem("Kmin_argKmin", *term("Kmin", 1), K=k), 300, 5000), "triton")


# ---------------------------------------------------------------------- as CUDA users expect


def test_accuracy_and_types() -> None:
    import torch

    x, y = on_gpu((500, 3), (100_000, 3))
    result = gaussian(x, y).sum(dim=1)
    assert result.is_cuda
    exact = gaussian(x.double(), y.double()).sum(dim=1)
    assert ((result - exact).abs() / exact).max() < 1e-6
    for kind in (torch.float16, torch.bfloat16):
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


def test_memory_is_flat_over_1000_calls() -> None:
    import torch

    x, y = on_gpu((1000, 3), (1000, 3))
    gaussian(x, y).sum(dim=1)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    for _ in range(1000):
        gaussian(x, y).sum(dim=1)
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() == before
    assert torch.cuda.max_memory_allocated() < before + 2**27


def test_calls_do_not_wait_for_the_gpu() -> None:
    import torch

    x, y = on_gpu((2000, 3), (2000, 3))
    gaussian(x, y).sum(dim=1)
    (gaussian(x, y) * 0.25).logsumexp(dim=0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        gaussian(x, y).sum(dim=1)
        (gaussian(x, y) * 0.25).logsumexp(dim=0)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_capture_into_a_graph() -> None:
    import torch

    x, y = on_gpu((700, 3), (900, 3))
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # compiles
        gaussian(x, y).sum(dim=1)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = gaussian(x, y).sum(dim=1)
    x.copy_(on_gpu((700, 3), seed=1)[0])
    graph.replay()
    torch.testing.assert_close(result, gaussian(x, y).sum(dim=1))


def test_data_of_the_cpu_on_request() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 3)), rng.standard_normal((60, 3))
    from pairfuse.numpy import Vi, Vj

    f = (-Vi(x).sqdist(Vj(y))).exp()
    np.testing.assert_allclose(f.sum(dim=1, backend="GPU"), f.sum(dim=1), rtol=1e-12)


def test_errors_leave_the_process_usable() -> None:
    import torch

    x, y = on_gpu((50, 3), (60, 3))
    with pytest.raises(PairfuseError, match="on different devices"):
        gaussian(x.cpu(), y)
    with pytest.raises(PairfuseError, match="computes on the CPU"):
        gaussian(x, y).sum(dim=1, backend="llvm")
    assert torch.isfinite(gaussian(x, y).sum(dim=1)).all()


@pytest.mark.slow
@pytest.mark.parametrize("reduction", [n for n in NAMES if REDUCTIONS[n].arity == 1 and n not in LISTS])
def test_large_sizes(reduction: str) -> None:
    """Many tiles, and several flushes, in every row."""
    rng = seeded(reduction)
    check(sample(rng, reduction, "float32", 1, 3000, 20_001, "j", "none"), "triton")


@pytest.mark.slow
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
    exact = (-((x[rows, None].double() - y[None].double()) ** 2).sum(-1)).exp().sum(1, keepdim=True)
    assert ((a_i[rows] - exact).abs() / exact).max() < 1e-6
    assert torch.isfinite(g).all()
