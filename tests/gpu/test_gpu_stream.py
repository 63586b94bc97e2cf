"""Data of the CPU through a small part of a real GPU's memory: the results of data that is there as a whole."""

from __future__ import annotations

from typing import Any

import pytest

from pairfuse.runtime import device, memory


def points(*shapes: tuple[int, ...]) -> list[Any]:
    import torch

    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=generator) for s in shapes]


def formula(x: Any, y: Any) -> Any:
    from pairfuse.torch import LazyTensor

    return ((LazyTensor(x[..., :, None, :]) - LazyTensor(y[..., None, :, :])) ** 2).sum(-1)


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "ALWAYS_FITS", 0)
    monkeypatch.setattr(memory, "budget", lambda *_: 2**20)


REDUCTIONS = {
    "sum": lambda f, **o: (-f).exp().sum(dim=1, **o),
    "over i": lambda f, **o: (-f).exp().sum(dim=0, **o),
    "logsumexp": lambda f, **o: (-f).logsumexp(dim=1, **o),
    "min": lambda f, **o: f.min(dim=1, **o),
    "argmin": lambda f, **o: f.argmin(dim=1, **o),
    "argKmin": lambda f, **o: f.argKmin(K=10, dim=1, **o),
    "long lists": lambda f, **o: f.Kmin(K=40, dim=1, **o),
}


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("dim", [3, 40])
def test_streamed(name: str, dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    x, y = points((40_000, dim), (60_000, dim))
    steps: list[int] = []
    real = device.streamed
    monkeypatch.setattr(device, "streamed", lambda *a: (steps.append(1), real(*a))[1])
    found = REDUCTIONS[name](formula(x, y), backend="GPU")
    assert steps
    assert not found.is_cuda
    expected = REDUCTIONS[name](formula(x.cuda(), y.cuda())).cpu()
    if found.is_floating_point():
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    else:
        assert (found == expected).double().mean() > 0.999  # other tiles may round ties differently


@pytest.mark.usefixtures("_small")
def test_few_rows_and_batches() -> None:
    import torch

    x, y = points((5, 3), (500_000, 3))
    torch.testing.assert_close(
        REDUCTIONS["sum"](formula(x, y), backend="GPU"), REDUCTIONS["sum"](formula(x.cuda(), y.cuda())).cpu()
    )
    x, y = points((40, 500, 3), (40, 700, 3))
    f = (-formula(x, y)).exp()
    expected = (-formula(x.cuda(), y.cuda())).exp().sum(dim=2).cpu()
    torch.testing.assert_close(f.sum(dim=2, backend="GPU"), expected)


@pytest.mark.usefixtures("_small")
def test_block_sparse() -> None:
    """Every block of rows visits its own columns and the next ones: those of a far block are not copied."""
    import torch

    from pairfuse.torch.cluster import from_matrix

    x, y = points((40_000, 3), (60_000, 3))
    starts_i, starts_j = torch.arange(0, 40_000, 500), torch.arange(0, 60_000, 750)
    ranges_i, ranges_j = (torch.stack((s, s + n), 1) for s, n in ((starts_i, 500), (starts_j, 750)))
    near = (torch.arange(80)[:, None] - torch.arange(80)).abs() <= 1
    found, expected = [], []
    for results, place, options in ((found, "cpu", {"backend": "GPU"}), (expected, "cuda", {})):
        f = formula(x.to(place), y.to(place))
        f.ranges = from_matrix(*(t.to(place) for t in (ranges_i, ranges_j, near)))
        results += [(-f).exp().sum(dim=1, **options).cpu(), f.argmin(dim=0, **options).cpu()]
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-5)
    assert (found[1] == expected[1]).double().mean() > 0.999


def test_more_than_the_limit_of_torch() -> None:
    """Columns of 2.4 GB through a GPU of which torch may take 1.5 GB, and nothing of it is left behind."""
    import torch

    x, y = points((64, 3), (1, 3))
    y = torch.rand(200_000_000, 3)
    _, total = torch.cuda.mem_get_info()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "budget", lambda *_: 10**9)
        torch.cuda.set_per_process_memory_fraction(1.5e9 / total)
        try:
            found = REDUCTIONS["sum"](formula(x, y), backend="GPU")
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    assert torch.cuda.memory_allocated() == before
    exact = sum(
        (-((x[:4, None].double() - part[None].double()) ** 2).sum(-1)).exp().sum(1) for part in y.split(5_000_000)
    )
    torch.testing.assert_close(found[:4, 0].double(), exact, rtol=1e-6, atol=0)
