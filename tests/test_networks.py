"""Networks of vectors: chains of products with matrices, whose layers are computed once per pair and kept."""

from __future__ import annotations

import re
import time
from typing import Any

import numpy as np
import pytest
import torch
from conformance import BACKENDS, Case, check, draw_case, problem
from hypothesis import given, settings
from random_networks import network, network_cases, network_of_all_stages

from pairfuse.backends.llvm.emit import emit_kernel
from pairfuse.backends.llvm.target import host_target
from pairfuse.ir.expr import Expr, call, const, input_, inputs
from pairfuse.lower.kernel import Kernel, lower
from pairfuse.lower.problem import Problem
from pairfuse.lower.schedule import SizeClass, choose
from pairfuse.torch import LazyTensor
from pairfuse.transform.autodiff import jvp, vjp
from pairfuse.transform.expand import expand
from pairfuse.transform.simplify import simplify

QUICK = settings(max_examples=30)
LARGE = settings(max_examples=500)
STAGES = ("parameter", "row", "column", "pair")


@pytest.mark.parametrize("backend", BACKENDS)
@QUICK
@given(case=network_cases(depth=3))
def test_random_networks(backend: str, case: Case) -> None:
    check(case, backend, informative=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@LARGE
@given(case=network_cases(depth=4))
def test_many_random_networks(backend: str, case: Case) -> None:
    check(case, backend, informative=0.0)


# ---------------------------------------------------------------------- what is kept


def kernel_of(p: Problem) -> tuple[Kernel, tuple[Expr, ...]]:
    formulas = simplify(expand(p.formulas))
    return lower(p, formulas), formulas


def kept_dims(*formulas: Expr) -> list[int]:
    """The lengths of the vectors that the pairs keep."""
    kernel, _ = kernel_of(problem("sum", *formulas))
    return [f.expr.dim for f in kernel.kept_of("pair")]


def test_layers_are_kept() -> None:
    assert kept_dims(network(3, 32)) == [32, 32, 32]
    assert kept_dims(network(3, 4)) == []  # loops over up to four components are written out


def test_what_is_read_once_or_costs_little_is_not_kept() -> None:
    x, y = input_(0, "i", 40), input_(1, "j", 40)
    assert kept_dims(call("sqdist", x, y)) == []
    assert kept_dims(call("dot", call("normalize", x - y), x + y)) == []
    assert kept_dims(call("sum", call("exp", x - y))) == []
    assert kept_dims(call("exp", -call("sqdist", x, y)) * (x - y)) == []
    assert kept_dims(call("normalize", call("exp", x - y))) == [40]  # for its norm, and for itself


@pytest.mark.parametrize("over", ["i", "j"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(70, 33), (3, 400)])
def test_every_stage_keeps_vectors(over: str, dtype: str, sizes: tuple[int, int]) -> None:
    """Networks of the rows, of the columns and of parameters alone, whose results the pairs read."""
    p = problem("sum", network_of_all_stages(9), over=over, dtype=dtype)
    kernel, _ = kernel_of(p)
    assert all(kernel.kept_of(stage) for stage in STAGES)
    check(draw_case(np.random.default_rng(0), p, *sizes))


def test_kept_vectors_of_long_lists() -> None:
    """Vectors too long to be written out enter a state by loops, which read what is kept."""
    x, y = input_(0, "i", 5), input_(1, "j", 5)
    f = call(
        "tanh", call("matvecmult", input_(2, "p", 35 * 6), call("tanh", call("matvecmult", input_(3, "j", 30), x - y)))
    )
    for p in (problem("max_argmax", f), problem("logsumexp", f), problem("Kmin", f, K=2)):
        check(draw_case(np.random.default_rng(0), p, 37, 29), informative=0.0)


def test_long_vectors() -> None:
    check(draw_case(np.random.default_rng(0), problem("sum", network(2, 300) * 1e-4), 9, 17, layouts=("plain",)))


# ---------------------------------------------------------------------- operations


def forms(units: int, axis: str) -> dict[str, Problem]:
    """Three layers, and their derivatives with respect to the points, the weights, and the weights twice."""
    f = network(3, units, axis=axis, activation="tanh")
    x, weights, last = input_(0, "i", 3), input_(3, axis, units * units), len(inputs(f))
    over = {"p": "ij", "i": "j", "j": "i"}[axis]
    (of_points,) = vjp((f,), (const(1.0),), (x,))
    (of_weights,) = vjp((f,), (const(1.0),), (weights,))
    (twice,) = jvp((of_weights,), (weights,), (input_(last, axis, weights.dim),))
    (twice_points,) = jvp((of_points,), (x,), (input_(last, "i", 3),))
    return {
        "value": problem("sum", f),
        "gradient of points": problem("sum", of_points),
        "gradient of weights": problem("sum", of_weights, over=over),
        "second of points": problem("sum", twice_points),
        "second of weights": problem("sum", twice, over=over),
    }


def operations(p: Problem, few_rows: bool = False) -> tuple[int, int]:
    """Vector instructions of a kernel, each as often as the loops of known length around it; and lines of its text."""
    kernel, formulas = kernel_of(p)
    target = host_target()
    text = emit_kernel(kernel, choose(p, formulas, SizeClass(few_rows, few_rows, False), target), target)
    lines = [line.strip() for line in text[text.index("@kernel(") :].splitlines()]
    total, times = 0, [1]
    for k, line in enumerate(lines):
        if re.match(r"head\d+:", line):
            stop = next(found[1] for x in lines[k:] if (found := re.match(r"%t\d+ = icmp slt i64 %i\d+, (\S+)", x)))
            times.append(times[-1] * (int(stop) if stop.isdigit() else 1))
        elif re.match(r"done\d+:", line):
            times.pop()
        elif re.search(r"= (fadd|fsub|fmul|fdiv|fcmp|select|call|load|fneg)\b.*<\d+ x (float|double)>", line):
            total += times[-1]
    return total, len(lines)


@pytest.mark.parametrize("axis", ["p", "i", "j"])
@pytest.mark.parametrize("few_rows", [False, True])
def test_operations_grow_as_those_of_the_network(axis: str, few_rows: bool) -> None:
    """Twice the units: four times the operations at most, in all derivatives, and text that does not grow."""
    counts = {h: {name: operations(p, few_rows) for name, p in forms(h, axis).items()} for h in (8, 16, 32, 64)}
    for name in counts[8]:
        for h in (16, 32, 64):
            assert counts[h][name][0] < 4.1 * counts[h // 2][name][0], name
        assert counts[64][name][1] <= counts[16][name][1] < 6000, name


def test_derivatives_take_a_few_times_as_long_as_values() -> None:
    counts = {name: operations(p)[0] for name, p in forms(32, "p").items()}
    assert counts["gradient of points"] < 3 * counts["value"]
    assert counts["gradient of weights"] < 3 * counts["value"]
    assert counts["second of points"] < 5 * counts["value"]
    assert counts["second of weights"] < 5 * counts["value"]


# ---------------------------------------------------------------------- as a user writes it


def layers(units: int, dtype: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(units)
    dims = [3, units, units, units]
    return [(torch.randn(dims[k + 1], dims[k], dtype=dtype) / dims[k] ** 0.5).requires_grad_() for k in range(3)]


def lazy(x: torch.Tensor, y: torch.Tensor, weights: list[torch.Tensor], where: str, relu: bool) -> torch.Tensor:
    z: Any = LazyTensor(x[:, None, :]) - LazyTensor(y[None, :, :])
    for w in weights:
        flat = w.reshape(-1)
        rows = {"p": flat, "i": flat.expand(len(x), -1)[:, None, :], "j": flat.expand(len(y), -1)[None, :, :]}
        z = LazyTensor(rows[where]).matvecmult(z)
        z = z.relu() if relu else z.tanh()
    return z.sum(-1).sum(dim=1)


def dense(x: torch.Tensor, y: torch.Tensor, weights: list[torch.Tensor], relu: bool) -> torch.Tensor:
    z = x[:, None, :] - y[None, :, :]
    for w in weights:
        z = torch.relu(z @ w.T) if relu else torch.tanh(z @ w.T)
    return z.sum(-1).sum(1, keepdim=True)


QUICK_NETWORKS = ((32, "p"), (8, "i"), (8, "j"))
NETWORKS = [
    pytest.param(units, where, marks=() if (units, where) in QUICK_NETWORKS else pytest.mark.slow)
    for units in (4, 8, 16, 32)
    for where in "pij"
]


@pytest.mark.parametrize(("units", "where"), NETWORKS)
def test_networks_of_three_layers(units: int, where: str) -> None:
    """Value, gradients, and the Hessian times a vector, in points and in weights, against torch in float64."""
    weights = layers(units, torch.float64)
    x = torch.randn(20, 3, dtype=torch.float64, requires_grad=True)
    y = torch.randn(30, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(lazy(x, y, weights, where, True), dense(x, y, weights, True), rtol=1e-11, atol=1e-11)
    found, expected = lazy(x, y, weights, where, False), dense(x, y, weights, False)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    wrt = [x, y, *weights]
    first, first_expected = (torch.autograd.grad((r**2).sum(), wrt, create_graph=True) for r in (found, expected))
    for a, b in zip(first, first_expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-9)
    directions = [torch.randn_like(v) for v in wrt]
    second, second_expected = (
        torch.autograd.grad(torch.stack([(a * b).sum() for a, b in zip(g, directions, strict=True)]).sum(), wrt)
        for g in (first, first_expected)
    )
    for a, b in zip(second, second_expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-7)


def test_the_first_call_takes_no_longer_for_many_units() -> None:
    """Compiled in processor time: 0.2 s for 32 units and for 256, where 16 took half a minute."""
    for units in (32, 256):
        weights = layers(units, torch.float32)
        x, y = torch.randn(5, 3), torch.randn(5, 3)
        start = time.process_time()
        found = lazy(x, y, weights, "p", True)
        assert time.process_time() - start < 2
        torch.testing.assert_close(found, dense(x, y, weights, True), rtol=1e-4, atol=1e-4)
