"""torch.compile traces through LazyTensors without a graph break, and the result is that of the plain function."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint
from torch_cases import CASES, Case, close, points

from pairfuse.errors import ShapeError
from pairfuse.frontend.autograd.operator import to_key
from pairfuse.frontend.evaluate import Settings
from pairfuse.frontend.reduce import problem_of
from pairfuse.torch import LazyTensor, Pm, Vi, Vj, index_i, index_j, where

Tensor = torch.Tensor
BACKEND = "aot_eager"  # everything but the code generation of torch, which needs a C++ compiler
TRACED = "eager"  # the trace alone, where it is what is tested

# torch's own, at the first use of forward mode in a process
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")


@pytest.fixture(autouse=True)
def _forget() -> None:
    torch._dynamo.reset()
    # Only what pytest shows of a failed test: its records of torch's trace take minutes to print.
    logging.getLogger("torch.__trace").propagate = False


def compiled(f: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    return torch.compile(f, backend=BACKEND, fullgraph=True, **options)


def same(f: Callable[..., Tensor], *tensors: Tensor, tolerance: float = 1e-10) -> None:
    """Values and gradients of the compiled function are those of the plain one."""
    followed = tuple(t.detach().requires_grad_() for t in tensors)
    expected, got = f(*followed), compiled(f)(*followed)
    close(got, expected, tolerance)
    g = points(*expected.shape, seed=5, dtype=expected.dtype)
    for a, b in zip(torch.autograd.grad(got, followed, g), torch.autograd.grad(expected, followed, g), strict=True):
        close(a, b, tolerance)


def three_reductions(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    x_i, y_j = LazyTensor(x[:, None, :]), LazyTensor(y[None, :, :])
    d = ((x_i - y_j) ** 2).sum(-1)
    density = (-d).exp() @ b
    soft = (-d / 0.5).logsumexp(dim=1)
    nearest = d.min(dim=1)
    return (density[:, None] + soft).tanh() * nearest


def test_no_graph_break() -> None:
    x, y, b = points(5, 3, grad=True), points(7, 3, grad=True), points(7, grad=True)
    found = torch._dynamo.explain(three_reductions)(x, y, b)
    assert (found.graph_count, found.graph_break_count) == (1, 0)
    same(three_reductions, x, y, b)


def test_a_training_step_has_no_graph_break_either() -> None:
    def step(x: Tensor, y: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        loss, slopes = torch.func.grad_and_value(lambda x: three_reductions(x, y, b).sum())(x)[::-1]
        return loss, x - 0.1 * slopes

    x, y, b = points(5, 3), points(7, 3), points(7)
    found = torch._dynamo.explain(step)(x, y, b)
    assert (found.graph_count, found.graph_break_count) == (1, 0)
    for got, expected in zip(compiled(step)(x, y, b), step(x, y, b), strict=True):
        close(got, expected)


def test_the_backward_pass_is_in_the_same_graph() -> None:
    """Where torch is told to trace `torch.autograd.grad`; by default it never does."""

    def step(x: Tensor, y: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        loss = three_reductions(x, y, b).sum()
        return loss.detach(), *torch.autograd.grad(loss, [x, y, b])

    inputs = points(5, 3, grad=True), points(7, 3, grad=True), points(7, grad=True)
    expected = step(*inputs)
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        found = torch._dynamo.explain(step)(*inputs)
        assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons
        for a, e in zip(compiled(step)(*inputs), expected, strict=True):
            close(a, e)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # Dynamo's reading
def test_derivatives_after_a_graph_break() -> None:
    """What torch's engine calls while the rest of a function runs as it is written is not compiled on its own."""

    def slopes(x: Tensor, y: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        def f(x: Tensor) -> Tensor:
            torch._dynamo.graph_break()
            return (-(Vi(x) - Vj(y)).sqnorm2()).logsumexp(dim=1, weight=Vj(b) ** 2).sum()

        torch._dynamo.graph_break()
        moved = torch.func.jvp(f, (x,), (x,))[1]
        return moved, torch.vmap(f)(torch.stack([x, x])), torch.func.grad(f)(x)

    inputs = points(4, 2), points(3, 2), points(3, 1)
    expected = slopes(*inputs)
    for a, e in zip(torch.compile(slopes, backend=TRACED)(*inputs), expected, strict=True):
        close(a, e)


SOME = ("sum, dim=0", "var, dim=1", "prod, dim=1", "weighted logsumexp", "attention", "Kmin", "batches")


@pytest.mark.parametrize(
    "case", [c if n in SOME else pytest.param(c, marks=pytest.mark.slow) for n, c in CASES.items()], ids=CASES
)
def test_every_reduction(case: Case) -> None:
    same(case.lazy, *case.tensors())


def test_products_from_both_sides() -> None:
    def f(x: Tensor, y: Tensor, v: Tensor, u: Tensor) -> Tensor:
        k = (-(Vi(x) - Vj(y)).sqnorm2()).exp()
        return (u @ k) * (k @ v).sum() + k.T @ u

    same(f, points(5, 3), points(7, 3), points(7), points(5))


def test_numbers_lists_and_parameters() -> None:
    x, y, p = points(5, 3), points(7, 3), torch.tensor(0.7, dtype=torch.float64)

    def f(x: Tensor, y: Tensor, p: Tensor) -> Tensor:
        d = (Vi(x) * [1.0, 0.5, 2.0] - Vj(y)).norm2() / 0.3 + 1
        return where(d < 2, (-p * d).exp(), Pm(p) ** 2).sum(dim=1)

    same(f, x, y, p)


def test_more_numbers_than_are_inputs_of_their_own() -> None:
    x, y = points(5, 3), points(7, 3)

    def f(x: Tensor, y: Tensor) -> Tensor:
        d = (Vi(x) - Vj(y)).sqnorm2()
        total = (-d).exp()
        for k in range(40):
            total = total + (k + 0.5) * (-(k + 0.1) * d).exp()
        return total.sum(dim=1)

    same(f, x, y)


def test_python_floats_that_change() -> None:
    counter = CompileCounterWithBackend(TRACED)
    x, y = points(5, 3), points(7, 3)

    def f(x: Tensor, s: float) -> Tensor:
        return (-(Vi(x) - Vj(y)).sqnorm2() * s).exp().sum(dim=1)

    g = torch.compile(f, backend=counter, fullgraph=True)
    for s in (0.5, 1.5, 2.5, 3.5, 4.5):
        close(g(x, s), f(x, s))
    assert counter.frame_count <= 2


def test_modules() -> None:
    class Kernel(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.centres = torch.nn.Parameter(points(7, 3))
            self.width = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
            self.linear = torch.nn.Linear(1, 2, dtype=torch.float64)

        def forward(self, x: Tensor) -> Tensor:
            k = (-(Vi(x) - Vj(self.centres)).sqnorm2() / self.width).exp()
            return self.linear(k.sum(dim=1))

    module = Kernel()
    x = points(5, 3)
    expected = torch.autograd.grad(module(x).square().sum(), list(module.parameters()))
    got = torch.autograd.grad(compiled(module)(x).square().sum(), list(module.parameters()))
    for a, b in zip(got, expected, strict=True):
        close(a, b)


def test_formulas_made_outside_of_the_function() -> None:
    y, b = points(7, 3), points(7)
    scores = Vj(y).sin() + index_j()

    def f(x: Tensor) -> Tensor:
        return ((Vi(x) * scores).sum(-1).exp() + where(index_i() <= index_j(), 1.0, 0)) @ b

    same(f, points(5, 3))


def test_indices_and_truth_values() -> None:
    def f(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        d = (Vi(x) - Vj(y)).sqnorm2()
        return d.argmin(dim=1), *d.Kmin_argKmin(2, dim=0), (d < 1).any(dim=1), (d < 1).count_nonzero(dim=0)

    x, y = points(5, 3), points(7, 3)
    for got, expected in zip(compiled(f)(x, y), f(x, y), strict=True):
        assert got.dtype == expected.dtype
        close(got, expected)


# ---------------------------------------------------------------------- sizes


def test_new_sizes_compile_no_new_graph() -> None:
    counter = CompileCounterWithBackend(BACKEND)
    g = torch.compile(three_reductions, backend=counter, fullgraph=True)
    for m, n in ((5, 7), (6, 9), (20, 11), (3, 50), (12, 12)):
        x, y, b = points(m, 3, grad=True), points(n, 3), points(n)
        close(g(x, y, b), three_reductions(x, y, b))
        (slope,) = torch.autograd.grad(g(x, y, b).sum(), [x])
        close(slope, torch.autograd.grad(three_reductions(x, y, b).sum(), [x])[0])
    assert counter.frame_count <= 3  # for the first sizes, for all others, and for M = N at most


def test_lengths_of_vectors_are_part_of_the_formula() -> None:
    g = compiled(three_reductions, dynamic=True)
    for dim in (1, 3):
        x, y, b = points(5, dim), points(7, dim), points(7)
        close(g(x, y, b), three_reductions(x, y, b))


def test_an_error_is_the_error_of_the_plain_function() -> None:
    def f(x: Tensor, y: Tensor) -> Tensor:
        return (Vi(x) - Vj(y)).sqnorm2().sum(dim=1)

    with pytest.raises(ShapeError, match="different lengths"):
        torch.compile(f, backend=TRACED)(points(5, 2), points(7, 3))


# ---------------------------------------------------------------------- with torch.func

TRANSFORMED: dict[str, Callable[..., Any]] = {
    "vmap": lambda x, y: torch.vmap(lambda x: (Vi(x[None]) - Vj(y)).sqnorm2().logsumexp(dim=1))(x),
    "gradient": lambda x, y: torch.func.grad(lambda x: (Vi(x) - Vj(y)).sqnorm2().logsumexp(dim=1).sum())(x),
    "tangent": lambda x, y: torch.func.jvp(lambda x: (Vi(x) - Vj(y)).sqnorm2().logsumexp(dim=1), (x,), (x.sin(),))[1],
    "Jacobian": lambda x, y: torch.func.jacrev(lambda x: (Vi(x) - Vj(y)).sqnorm2().min(dim=1))(x),
    "product with the Hessian": lambda x, y: torch.func.jvp(
        torch.func.grad(lambda x: (-(Vi(x) - Vj(y)).sqnorm2()).exp().sum(dim=1).sum()), (x,), (x.sin(),)
    )[1],
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_transforms(name: str) -> None:
    x, y = points(4, 2), points(3, 2)
    close(compiled(TRANSFORMED[name])(x, y), TRANSFORMED[name](x, y))


# ---------------------------------------------------------------------- graph breaks of others


def test_formulas_pass_through_graph_breaks() -> None:
    """What breaks a graph elsewhere in the function spoils no LazyTensor that is alive or returned."""

    def f(x: Tensor, y: Tensor) -> tuple[LazyTensor, Tensor]:
        k = (Vi(x) - Vj(y)).sqnorm2()
        torch._dynamo.graph_break()
        return -k, k.exp().sum(dim=1)

    x, y = points(5, 3), points(7, 3)
    k, total = torch.compile(f, backend=TRACED)(x, y)
    close(total, f(x, y)[1])
    close(k.sum(dim=0), f(x, y)[0].sum(dim=0))


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda x, y: (Vi(x) + Vi(y)).sum(dim=1), "numbers of rows"),
        pytest.param(lambda x, y: Vi(x).sum(dim=5), "which axis|cannot reduce over axis 5", marks=pytest.mark.slow),
        pytest.param(lambda x, y: LazyTensor(x), "two axes needs to know", marks=pytest.mark.slow),
        (lambda x, y: (Vi(x) | Vj(y)) @ x, "v has 5 entries"),
        (lambda x, y: Vi(x)[..., 7].sum(dim=0), "index 7 of axis 2"),
    ],
)
def test_refusals_are_those_of_the_plain_function(f: Callable[..., Any], words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        torch.compile(f, backend=TRACED)(points(5, 2), points(7, 2))


# ---------------------------------------------------------------------- the operator, and what is exported


def test_the_operator_keeps_the_rules_of_torch() -> None:
    x, y = points(5, 3), points(7, 3)
    problem = problem_of(((Vi(x) - Vj(y)).sqnorm2()._expr,), "logsumexp", "j", "float64", ())
    for tensors in ([x, y], [x.clone().requires_grad_(), y]):
        arguments = (tensors, to_key(problem, Settings()), 5, 7, [], [])
        torch.library.opcheck(torch.ops.pairfuse.reduce.default, arguments)


class Density(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.centres = torch.nn.Parameter(points(7, 3))

    def forward(self, x: Tensor) -> Tensor:
        d = (Vi(x) - Vj(self.centres)).sqnorm2()
        return (-d).exp().sum(dim=1) + d.Kmin(2, dim=1)


@pytest.mark.parametrize("strict", [False, True])
def test_exported_programs_know_no_sizes(strict: bool) -> None:
    module, rows = Density(), torch.export.Dim("rows", min=2, max=1000)
    program = torch.export.export(module, (points(5, 3),), dynamic_shapes={"x": {0: rows}}, strict=strict)
    for count in (5, 11):
        x = points(count, 3)
        close(program.module()(x), module(x))


def test_exported_programs_run_in_another_process(tmp_path: Path) -> None:
    module, x = Density(), points(5, 3)
    torch.export.save(torch.export.export(module, (x,)), tmp_path / "density.pt2")
    torch.save((x, module(x).detach()), tmp_path / "expected.pt")
    code = """
import torch, pairfuse.torch
x, expected = torch.load("expected.pt")
torch.testing.assert_close(torch.export.load("density.pt2").module()(x), expected)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_exported_for_training_is_differentiable() -> None:
    module, x = Density(), points(5, 3)
    trained = torch.export.export(module, (x,)).module()
    trained(x).sum().backward()
    (expected,) = torch.autograd.grad(module(x).sum(), [module.centres])
    (centres,) = trained.parameters()
    assert centres.grad is not None
    close(centres.grad, expected)


def test_graphs_of_make_fx_with_sizes_that_vary() -> None:
    def f(x: Tensor, y: Tensor) -> Tensor:
        return three_reductions(x, y, y[:, 0])

    graph = make_fx(f, tracing_mode="symbolic")(points(5, 3), points(7, 3))
    close(graph(points(6, 3), points(9, 3)), f(points(6, 3), points(9, 3)))


# ---------------------------------------------------------------------- with autocast, checkpoints, threads


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: torch.compile(f, backend=BACKEND, fullgraph=True)])
def test_under_autocast_16_bits_are_computed_in_32(wrap: Callable[[Any], Any]) -> None:
    """As torch.cdist, sums and exponentials do on a GPU: what comes in 16 bits is converted, the result has 32."""
    linear = torch.nn.Linear(3, 2)
    x, y = points(5, 3, dtype=torch.float32), points(7, 2, dtype=torch.float32)

    def f(x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z = linear(x)
            assert z.dtype == torch.bfloat16
            return (-(Vi(z) - Vj(y)).sqnorm2()).exp() @ y.to(torch.bfloat16)

    result = wrap(f)(x, y)
    assert result.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = linear(x).float()
    close(result, torch.exp(-torch.cdist(z, y).square()) @ y.to(torch.bfloat16).float())
    result.sum().backward()
    assert linear.weight.grad is not None
    assert linear.weight.grad.dtype == torch.float32


def test_without_autocast_16_bits_are_computed_in_32_on_the_cpu() -> None:
    x = points(5, 3).bfloat16()
    assert Vi(x).dtype == "float32"
    close(Vi(x).sqnorm2().sum(dim=0), x.float().square().sum(-1, keepdim=True).sum(0, keepdim=True))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: torch.compile(f, backend=BACKEND)])
def test_checkpoints(wrap: Callable[[Any], Any], reentrant: bool) -> None:
    x, y, b = points(5, 3, grad=True), points(7, 3, grad=True), points(7)
    f = wrap(lambda x, y, b: checkpoint(three_reductions, x, y, b, use_reentrant=reentrant))
    got = torch.autograd.grad(f(x, y, b).sum(), [x, y]) if not reentrant else None
    if got is None:
        f(x, y, b).sum().backward()
        got = x.grad, y.grad
    for a, e in zip(got, torch.autograd.grad(three_reductions(x, y, b).sum(), [x, y]), strict=True):
        assert a is not None
        close(a, e)


def test_threads_as_of_data_parallel() -> None:
    """Several threads, each with its own forward and backward pass, on shared parameters."""
    y, b = points(7, 3, grad=True), points(7)
    parts = [points(5 + k, 3, seed=k) for k in range(8)]

    def work(x: Tensor) -> Tensor:
        return torch.autograd.grad(three_reductions(x, y, b).sum(), [y])[0]

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(work, parts * 5))
    for a, e in zip(got, [work(x) for x in parts] * 5, strict=True):
        close(a, e)


@pytest.mark.slow
def test_with_the_code_of_torch() -> None:
    """The default backend of torch.compile, which writes C++."""
    x, y, b = points(50, 3, grad=True), points(70, 3, grad=True), points(70, grad=True)
    got, expected = torch.compile(three_reductions, fullgraph=True)(x, y, b), three_reductions(x, y, b)
    close(got, expected)
    for a, e in zip(
        torch.autograd.grad(got.sum(), [x, y, b]), torch.autograd.grad(expected.sum(), [x, y, b]), strict=True
    ):
        close(a, e)


def test_torch_is_not_slowed_down_by_its_compiler() -> None:
    """`import pairfuse.torch` leaves it where it is, and what it is told is told when somebody else loads it."""
    code = """
import sys, pairfuse.torch
assert "torch._dynamo" not in sys.modules
import torch._dynamo
from torch._library.opaque_object import is_opaque_type
from pairfuse.ir.expr import Expr
assert is_opaque_type(Expr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
