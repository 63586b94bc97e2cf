"""Derivatives in as few passes as possible: which share one, that they are right, and what memory they take."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_cases import close

from pairfuse.config import config
from pairfuse.frontend import evaluate
from pairfuse.frontend.derivatives.slopes import slopes
from pairfuse.ir.expr import call, input_
from pairfuse.lower.problem import Problem
from pairfuse.runtime import cache
from pairfuse.torch import LazyTensor, where

Tensor = torch.Tensor
# torch's own, on the first use of its forward mode
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Problem]:
    """The problems that are computed."""
    problems: list[Problem] = []
    plain = evaluate.execute

    def counted(problem: Problem, *args: Any, **options: Any) -> Any:
        problems.append(problem)
        return plain(problem, *args, **options)

    monkeypatch.setattr(evaluate, "execute", counted)
    return problems


def data(m: int, n: int, dim: int = 3, dtype: torch.dtype = torch.float64, seed: int = 0) -> dict[str, Tensor]:
    """x (M, D), y (N, D), b (N, 1), p (D,), s (1,); all followed."""
    made = torch.Generator().manual_seed(seed)
    shapes = {"x": (m, dim), "y": (n, dim), "b": (n, 1), "p": (dim,), "s": (1,)}
    return {k: torch.rand(s, generator=made, dtype=dtype).add_(0.1).requires_grad_() for k, s in shapes.items()}


def wide(t: Tensor, axis: str) -> Tensor:
    """Rows (*batch, M, D) with the axes that make them an i-variable, a j-variable or a parameter."""
    return t[..., None, None, :] if axis == "p" else t.unsqueeze(-2 if axis == "i" else -3)


def lazy(t: Tensor, axis: str) -> Any:
    return LazyTensor(wide(t, axis))


def scaled(x: Any, y: Any, p: Any) -> Any:
    """-|p (x - y)|^2, for LazyTensors and for tensors."""
    return -((p * (x - y)) ** 2).sum(-1)


Formula = Callable[[Callable[[Tensor, str], Any], dict[str, Tensor]], Any]


def _gaussian(v: Any, d: dict[str, Tensor]) -> Any:
    k = scaled(v(d["x"], "i"), v(d["y"], "j"), v(d["p"], "p")).exp()
    return k if isinstance(k, LazyTensor) else k[..., None]


def _weighted(v: Any, d: dict[str, Tensor]) -> Any:
    return _gaussian(v, d) * v(d["b"], "j")


def _vector(v: Any, d: dict[str, Tensor]) -> Any:
    """Two components, and two variables of each axis."""
    return _gaussian(v, d) * v(torch.cat([d["b"], d["b"] ** 2], -1), "j") * v(d["x"][..., :1], "i")


FORMULAS: dict[str, Formula] = {"gaussian": _gaussian, "weighted": _weighted, "vector": _vector}


def reduced(name: str, f: Any, axis: int) -> Tensor:
    """The reduction of a LazyTensor, or of a dense tensor (*batch, M, N, E), over i (0) or j (1)."""
    if isinstance(f, LazyTensor):
        return getattr(f, name)(dim=axis + f.nbatchdims)
    return getattr(f, name)(axis - 3)


# ---------------------------------------------------------------------- which passes there are


def test_value_and_gradient_of_the_kept_axis_are_one_pass(launched: list[Problem]) -> None:
    d = data(20, 30)
    k = scaled(lazy(d["x"], "i"), lazy(d["y"], "j"), lazy(d["p"].detach(), "p"))
    for axis, leaf in ((1, "x"), (0, "y")):
        for f, name in ((k.exp(), "sum"), (k, "logsumexp"), (k.exp() * 2, "mean")):
            torch.autograd.grad(getattr(f, name)(dim=axis).sum(), [d[leaf]])
            assert len(launched) == 1
            launched.clear()


def test_compiled_functions_take_as_few_passes(launched: list[Problem]) -> None:
    """The value comes with its slopes from one kernel in a graph of torch.compile, too."""

    def density(x: Tensor, y: Tensor) -> Tensor:
        return (-((lazy(x, "i") - lazy(y, "j")) ** 2).sum(-1)).exp().sum(dim=1)

    torch._dynamo.reset()
    given = data(9, 11)
    x, y = given["x"], given["y"].detach()
    compiled = torch.compile(density, backend="aot_eager", fullgraph=True)
    (expected,) = torch.autograd.grad(density(x, y).sin().sum(), [x])
    torch.autograd.grad(compiled(x, y).sin().sum(), [x])  # traces and compiles
    launched.clear()
    (got,) = torch.autograd.grad(compiled(x, y).sin().sum(), [x])
    assert [p.formulas[0].dim for p in launched] == [1 + 3]
    torch.testing.assert_close(got, expected)


def test_variables_of_one_axis_share_a_pass(launched: list[Problem]) -> None:
    """x and y of the value: one for the value with the derivative in x, one for y and b together, one for p and s."""
    d = data(20, 30)
    v = (scaled(lazy(d["x"], "i"), lazy(d["y"], "j"), lazy(d["p"], "p")) / lazy(d["s"], "p")).exp() * lazy(d["b"], "j")
    torch.autograd.grad(v.sum(dim=1).sum(), list(d.values()))
    assert [p.over for p in launched] == ["j", "i", "ij"]
    assert [p.formulas[0].dim for p in launched] == [1 + 3, 3 + 1, 3 + 1]


def test_the_gradient_in_parameters_of_a_sum_over_all_pairs_is_in_the_same_pass(launched: list[Problem]) -> None:
    d = data(20, 30)
    v = scaled(lazy(d["x"].detach(), "i"), lazy(d["y"].detach(), "j"), lazy(d["p"], "p")).exp().sum(dim=(0, 1))
    (g,) = torch.autograd.grad(v.sum(), [d["p"]])
    assert len(launched) == 1
    dense = _gaussian(wide, {k: t if k == "p" else t.detach() for k, t in d.items()}).sum()
    torch.testing.assert_close(g, torch.autograd.grad(dense, [d["p"]])[0])


def test_nothing_is_computed_that_is_not_wanted(launched: list[Problem]) -> None:
    """Without gradients, and for gradients of the other axis only: the plain value."""
    d = data(20, 30)
    x, y, p = (d[k].detach() for k in "xyp")
    with torch.no_grad():
        scaled(lazy(d["x"], "i"), lazy(y, "j"), lazy(p, "p")).exp().sum(dim=1)
    scaled(lazy(x, "i"), lazy(d["y"], "j"), lazy(p, "p")).exp().sum(dim=1)
    assert [f.formulas[0].dim for f in launched] == [1, 1]
    launched.clear()
    for name in ("sum", "prod"):
        v = getattr(scaled(lazy(d["x"], "i"), lazy(d["y"], "j"), lazy(d["p"], "p")).exp(), name)(dim=1)
        launched.clear()
        for leaf, passes in (("x", 0 if name == "sum" else 1), ("y", 1), ("p", 1)):
            torch.autograd.grad(v.sum(), [d[leaf]], retain_graph=True)
            assert len(launched) == passes, f"{name}: more than the gradient in {leaf} was computed"
            launched.clear()
        v.sum().backward(inputs=[d["y"]])
        assert len(launched) == 1


def test_what_the_value_does_not_follow_takes_no_pass(launched: list[Problem]) -> None:
    """Conditions and signs: zeros, without a pass or a column of slopes for them; None would be a hole in the graph."""
    d = data(20, 30)
    x, y, p = lazy(d["x"], "i"), lazy(d["y"], "j"), lazy(d["p"], "p")
    for name in ("sum", "logsumexp", "prod", "min"):
        a = getattr(where(x.sum(-1) > p.sum(-1), y.sum(-1).sign() + x.sqnorm2(), 1.0), name)(dim=1)
        gx, gy, gp = torch.autograd.grad(a.sum(), [d[k] for k in "xyp"])
        assert gx.any()
        assert not gy.any()
        assert not gp.any()
        assert gy.shape == d["y"].shape
        assert gp.shape == d["p"].shape
        assert [f.over for f in launched] == ["j"] * (1 if name in ("sum", "logsumexp") else 2)
        launched.clear()
    nowhere = (x.sign() * y.sign()).sum(dim=1).sum()
    assert [f.formulas[0].dim for f in launched] == [3]
    launched.clear()
    assert not any(g.any() for g in torch.autograd.grad(nowhere, [d["x"], d["y"]], create_graph=True))
    assert launched == []


def test_long_slopes_are_left_to_the_backward_pass() -> None:
    """As many sums as a kernel keeps in registers, and no more."""
    for dim, pays in ((3, True), (7, True), (8, False), (100, False)):
        f = call("exp", -call("sqdist", input_(0, "i", dim), input_(1, "j", dim)))
        for name in ("sum", "logsumexp"):
            assert (slopes(Problem((f,), name, "j"), (True, True)) is not None) == pays
            assert slopes(Problem((f,), name, "j"), (False, True)) is None
    f = input_(0, "i", 2) * input_(1, "j", 2)
    assert slopes(Problem((f,), "sum", "j"), (True, False)) is not None
    assert slopes(Problem((f,), "logsumexp", "j"), (True, False)) is None
    assert slopes(Problem((f,), "prod", "j"), (True, False)) is None


# ---------------------------------------------------------------------- they are right


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("name", ["sum", "logsumexp", "mean"])
def test_gradients_agree_with_dense_torch(name: str, formula: str, axis: int) -> None:
    """Few rows and many; cotangents that are stretched, transposed, special; one gradient at a time and all at once."""
    for m, n, dtype in (
        (5, 7, torch.float64),
        (3, 400, torch.float64),
        (90, 33, torch.float64),
        (40, 50, torch.float32),
    ):
        d = data(m, n, dtype=dtype, seed=m)
        value, dense = (reduced(name, FORMULAS[formula](f, d), axis) for f in (lazy, wide))
        tolerance = 3e-5 if dtype == torch.float32 else 1e-10
        close(value, dense, tolerance)
        turned = torch.rand(value.shape[::-1], dtype=dtype).T
        for g in (torch.ones((), dtype=dtype).expand(value.shape), turned):
            wanted = [t for k, t in d.items() if k in "xyp"]
            found = torch.autograd.grad(value, wanted, g, retain_graph=True)
            expected = torch.autograd.grad(dense, wanted, g, retain_graph=True)
            for a, e in zip(found, expected, strict=True):
                close(a, e, tolerance)
            (alone,) = torch.autograd.grad(value, [d["y"]], g, retain_graph=True)
            close(alone, expected[1], tolerance)


@pytest.mark.parametrize("name", ["sum", "logsumexp"])
def test_batches_that_are_broadcast(name: str) -> None:
    """A variable without the batch axes of the others has a gradient of its own shape."""
    d = data(6, 8)
    y = torch.rand(2, 1, 8, 3, dtype=torch.float64).requires_grad_()
    p = torch.rand(3, 3, dtype=torch.float64).requires_grad_()
    shared = {**d, "y": y, "p": p}
    value, dense = (reduced(name, _gaussian(f, shared), 1) for f in (lazy, wide))
    assert value.shape == (2, 3, 6, 1)
    g = torch.rand_like(value)
    wanted = [d["x"], y, p]
    for a, e in zip(torch.autograd.grad(value, wanted, g), torch.autograd.grad(dense, wanted, g), strict=True):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("name", ["sum", "logsumexp"])
def test_derivatives_of_second_order(name: str, formula: str) -> None:
    """What will be differentiated again is computed by formulas; so are the tangents of forward mode."""
    d = data(4, 5)
    keys = list(d)

    def f(*tensors: Tensor) -> Tensor:
        return reduced(name, FORMULAS[formula](lazy, dict(zip(keys, tensors, strict=True))), 1)

    torch.autograd.gradcheck(f, tuple(d.values()), check_forward_ad=True, check_batched_grad=True)
    torch.autograd.gradgradcheck(f, tuple(d.values()))


def test_a_hessian_vector_product_agrees_with_dense_torch() -> None:
    d = data(40, 50)
    v = torch.rand_like(d["x"])
    found: list[Tensor] = []
    for f in (lazy, wide):
        energy = reduced("sum", _gaussian(f, d), 1).sum()
        (g,) = torch.autograd.grad(energy, [d["x"]], create_graph=True)
        found += torch.autograd.grad((g * v).sum(), [d["x"]])
    torch.testing.assert_close(*found)


def test_rows_of_minus_infinity_have_no_gradient() -> None:
    """The log-sum-exp of nothing is constant: 0 and not NaN, with slopes as without."""
    d = data(6, 8, dim=1)
    x, y = lazy(d["x"], "i"), lazy(d["y"], "j")
    allowed = (lazy(torch.arange(6.0, dtype=torch.float64)[:, None], "i") - 2.5).relu()  # 0 for three of the rows
    value = where(allowed > 0, x * y, -float("inf")).logsumexp(dim=1)
    assert torch.isinf(value[:3]).all()
    gx, gy = torch.autograd.grad(value[3:].sum() + 0 * value[:3].nan_to_num(0, 0, 0).sum(), [d["x"], d["y"]])
    assert (gx[:3] == 0).all()
    dense = (d["x"][3:, None] * d["y"][None]).logsumexp(1).sum()
    ex, ey = torch.autograd.grad(dense, [d["x"], d["y"]])
    torch.testing.assert_close(gx, ex)
    torch.testing.assert_close(gy, ey)


def test_values_with_and_without_slopes_are_the_same_to_rounding() -> None:
    d = data(100, 300, dtype=torch.float32)
    for name in ("sum", "logsumexp"):
        value = reduced(name, _gaussian(lazy, d), 1)
        with torch.no_grad():
            plain = reduced(name, _gaussian(lazy, d), 1)
        torch.testing.assert_close(value.detach(), plain, rtol=5e-7, atol=0)
        assert value.is_contiguous()


def test_a_change_in_place_is_noticed() -> None:
    d = data(5, 6)
    value = reduced("sum", _gaussian(lazy, d), 1).sum()
    with torch.no_grad():
        d["x"].add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


# ---------------------------------------------------------------------- memory


def test_no_reference_cycles() -> None:
    """Tensors of a step are gone with their last reference, without the help of the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        for create_graph in (False, True):
            d = data(20, 30)
            value = reduced("sum", _gaussian(lazy, d), 1)
            grads = torch.autograd.grad(value.sum(), [d["x"], d["y"], d["p"]], create_graph=create_graph)
            watched = [weakref.ref(t) for t in (value, *grads, *d.values())]
            del d, value, grads
            assert [w() for w in watched] == [None] * len(watched)
    finally:
        gc.enable()


def test_gradients_of_parameters_take_no_vector_for_every_row() -> None:
    """Ten parameters at 20,000 points: ten numbers for each would be 800 kB (tracemalloc sees what kernels fill)."""
    n = 20_000
    x = torch.rand(n, 1)
    p = torch.rand(10).requires_grad_()

    def gradient() -> None:
        f = (lazy(p, "p") * lazy(x, "i") * lazy(x, "j")).sum(-1).sum(dim=1)
        torch.autograd.grad(f.sum(), [p])

    with config.override(threads=1):  # others may take their memory in any call, the first in which they have work
        gradient()
        tracemalloc.start()
        try:
            gradient()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert n * 4 < peak < 300_000, peak  # the value itself, and no vector of ten for every row


MEMORY = """
import json, resource, sys
import torch
from pairfuse.torch import LazyTensor

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

def gaussian(n, dim=3):
    x, y = (torch.rand(n, dim).requires_grad_() for _ in range(2))
    return x, y, (-LazyTensor(x[:, None]).sqdist(LazyTensor(y[None]))).exp()

def gradient(n):
    x, y, k = gaussian(n)
    torch.autograd.grad(k.sum(dim=1).sum(), [x, y])

def nearest(n):
    x, y, k = gaussian(n)
    torch.autograd.grad(k.Kmax(5, dim=1).sum(), [x, y])

def hessian(n):
    x, y, k = gaussian(n)
    (g,) = torch.autograd.grad(k.sum(dim=1).sum(), [x], create_graph=True)
    torch.autograd.grad(g.square().sum(), [x, y])

def parameters(n):
    x = torch.rand(n, 1)
    p = torch.rand(10).requires_grad_()
    k = LazyTensor(x[:, None]) * LazyTensor(x[None]) * LazyTensor(p[None, None])
    torch.autograd.grad(k.sum(-1).sum(dim=1).sum(), [p])

found = {}
for case in (gradient, nearest, hessian, parameters):
    case(100)
    before = peak()
    case(12_000)
    found[case.__name__] = peak() - before
x, y = (torch.rand(50, 3).requires_grad_() for _ in range(2))
optimizer = torch.optim.SGD([x, y], 0.01)
for step in range(1200):
    optimizer.zero_grad()
    (-LazyTensor(x[:, None]).sqdist(LazyTensor(y[None]))).logsumexp(dim=1).sum().backward()
    optimizer.step()
    if step == 199:
        before = peak()
found["training"] = peak() - before
print(json.dumps(found))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs the resource module")
def test_memory_is_that_of_the_vectors() -> None:
    """12,000 x 12,000 numbers would be 576 MB; and 1000 steps of training leave nothing behind."""
    source = str(Path(cache.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": source, "PAIRFUSE_CACHE_FOLDER": ""}
    answer = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, timeout=300, env=environment, check=True
    )
    found = json.loads(answer.stdout)
    assert set(found) == {"gradient", "nearest", "hessian", "parameters", "training"}
    training = found.pop("training")
    assert max(found.values()) < 40e6, found
    assert training < 4e6, training
