"""From LazyTensor to the Triton backend: which data goes there, what comes back, derivatives, and the errors.

The kernels are run by Triton's interpreter, on small tensors of the CPU that ask for backend="GPU".
"""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest
from interpreted import MISSING

import pairfuse
from pairfuse.backends.triton import launch
from pairfuse.errors import PairfuseError, UnsupportedError
from pairfuse.frontend.base import Binding
from pairfuse.frontend.evaluate import Settings, computed_in, on_device
from pairfuse.frontend.reduce import problem_of
from pairfuse.frontend.space import EMPTY, Clash, Space, join
from pairfuse.ir.expr import input_
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.numpy import LazyTensor, Vi, Vj
from pairfuse.runtime import device

needs_triton = pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}: pip install 'pairfuse[gpu]'")


@pytest.fixture
def _interpreter() -> None:
    if os.environ["TRITON_INTERPRET"] != "1" or not device.interpreting():
        pytest.skip("triton was imported without TRITON_INTERPRET=1")


@pytest.fixture
def points() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((20, 3)), rng.standard_normal((37, 3))


def gaussian(x: Any, y: Any) -> Any:
    return (-Vi(x).sqdist(Vj(y))).exp()


@needs_triton
@pytest.mark.usefixtures("_interpreter")
@pytest.mark.parametrize("backend", ["GPU", "GPU_1D", "GPU_2D_host", "triton"])
def test_names_of_the_backend(backend: str, points: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = points
    result = gaussian(x, y).sum(dim=1, backend=backend)
    assert type(result) is np.ndarray
    np.testing.assert_allclose(result, gaussian(x, y).sum(dim=1), rtol=1e-12)


@needs_triton
@pytest.mark.usefixtures("_interpreter")
def test_the_setting_of_the_process(points: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    real = device.execute
    monkeypatch.setattr(device, "execute", lambda p, *rest: (seen.append(p.reduction), real(p, *rest))[1])
    out = np.empty((20, 1))
    with pairfuse.config.override(backend="triton"):
        gaussian(*points).sum(dim=1, out=out)
    assert seen == ["sum"]
    np.testing.assert_allclose(out, gaussian(*points).sum(dim=1), rtol=1e-12)


@needs_triton
@pytest.mark.usefixtures("_interpreter")
def test_numbers_read_only_and_reversed_arrays(points: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = points[0][::-1], np.broadcast_to(points[1][:1], (37, 3))
    f = (gaussian(x, y) * 0.5 + LazyTensor([2.0])).logsumexp(dim=0, backend="GPU")
    np.testing.assert_allclose(f, (gaussian(x, y) * 0.5 + LazyTensor([2.0])).logsumexp(dim=0), rtol=1e-12)


@needs_triton
@pytest.mark.usefixtures("_interpreter")
def test_derivatives_of_first_and_second_order(points: tuple[np.ndarray, np.ndarray]) -> None:
    import torch

    from pairfuse.torch import Vi, Vj

    found = []
    for backend in (None, "GPU"):
        x, y = (torch.from_numpy(p).clone().requires_grad_() for p in points)
        value = (-Vi(x).sqdist(Vj(y))).logsumexp(dim=1, backend=backend).sum()
        (gx,) = torch.autograd.grad(value, x, create_graph=True)
        (gy,) = torch.autograd.grad((gx**2).sum(), y)
        least = (Vi(x) - Vj(y)).abs().sum(-1).min(dim=1, backend=backend)
        (gm,) = torch.autograd.grad(least.sum(), x)
        found.append((value, gx, gy, gm))
    for plain, gpu in zip(*found, strict=True):
        torch.testing.assert_close(gpu, plain, rtol=1e-10, atol=1e-10)


@needs_triton
@pytest.mark.usefixtures("_interpreter")
def test_tensors_stay_on_their_device_and_numbers_follow(points: tuple[np.ndarray, np.ndarray]) -> None:
    """The path of CUDA tensors, with the CPU for a device: tensors in, tensors of their type out."""
    import torch

    x, y = (torch.from_numpy(p).float() for p in points)
    for kind in (torch.float32, torch.float16):
        f = gaussian_of(x, y) * 0.5
        bindings = tuple(Binding(b.data if type(b.data) is tuple else b.data.to(kind), b.axis) for b in f._bindings)
        space = f._space._replace(device="cpu", dtype=str(kind).removeprefix("torch."))
        p = problem_of((f._expr,), "max_argmax", "j", computed_in(space), ())
        value, place = on_device(p, bindings, space, Settings())
        assert (value.dtype, place.dtype) == (kind, torch.int64)
        torch.testing.assert_close(value.float(), f.max(dim=1), rtol=4 * torch.finfo(kind).eps, atol=1e-3)
        with pytest.raises(UnsupportedError, match="this backend computes on the CPU"):
            on_device(p, bindings, space, Settings("llvm"))


@needs_triton
@pytest.mark.usefixtures("_interpreter")
def test_long_vectors_are_stored_by_component(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(launch, "TRANSPOSED_COLUMNS", 8)
    rng = np.random.default_rng(0)
    x, y = (torch.from_numpy(rng.standard_normal((n, 20))) for n in (9, 33))
    f = gaussian_of(x * 0.2, y * 0.2)
    torch.testing.assert_close(f.sum(dim=1, backend="GPU"), f.sum(dim=1))
    torch.testing.assert_close(f.sum(dim=0, backend="GPU"), f.sum(dim=0))


def gaussian_of(x: Any, y: Any) -> Any:
    from pairfuse.torch import Vi, Vj

    return (-Vi(x).sqdist(Vj(y))).exp()


# ---------------------------------------------------------------------- errors, also where there is nothing to run


def problem() -> Problem:
    return Problem((input_(0, "i", 1) * input_(1, "j", 1),), "sum", "j", "float64")


def call(*arrays: Any) -> Any:
    return device.execute(problem(), arrays, Sizes(2, 2), lambda _, step: step())


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "missing_packages", lambda: ("triton",))
    with pytest.raises(UnsupportedError, match=r"^sum\(backend='GPU'\): computing on a GPU needs triton, which is not"):
        call(np.ones((2, 1)), np.ones((2, 1)))


@needs_triton
def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(device, "interpreting", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnsupportedError, match="torch sees no GPU on this machine") as caught:
        call(np.ones((2, 1)), np.ones((2, 1)))
    assert "Hint: leave the backend out" in str(caught.value)


@needs_triton
@pytest.mark.usefixtures("_interpreter")
def test_long_lists_and_other_types(points: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(UnsupportedError, match=r"^argKmin\(K=1000\): on a GPU, lists have at most"):
        gaussian(*points).argKmin(1000, dim=1, backend="GPU")
    with pytest.raises(PairfuseError, match="input 1 is of type float32, the computation of float64"):
        call(np.ones((2, 1)), np.ones((2, 1), np.float32))


def test_tensors_on_different_devices() -> None:
    a, b = Space(ni=3, library="torch", device="cuda:0"), Space(nj=4, library="torch", device="cpu")
    with pytest.raises(Clash, match="the tensors are on different devices, 'cuda:0' and 'cpu'") as caught:
        join(a, b)
    assert caught.value.hint == "move one of them, x.to('cuda:0')."
    assert join(a, EMPTY).device == "cuda:0"
    assert join(a, EMPTY).on_gpu
    assert not join(b, EMPTY).on_gpu
