"""Every row of both tables through torch's own checks of derivatives: both modes, mixed, and mapped over batches.

The operations run on the reference backend, because what is checked here is how derivatives are put together: the
kernels are compared with that backend elsewhere. The same on the default backend is slow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from formulas import Sample, samples
from torch.autograd import gradcheck, gradgradcheck

from pairfuse.frontend.autograd.function import reduce_tensors
from pairfuse.frontend.autograd.operator import Call
from pairfuse.frontend.derivatives.selected_terms import with_index
from pairfuse.frontend.evaluate import Settings
from pairfuse.ir.expr import Expr, call, input_
from pairfuse.ir.reductions import REDUCTIONS
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.transform.autodiff import vjp, zeros

# torch's own, at the first use of forward mode in a process
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

Tensor = torch.Tensor
SIZES = Sizes(2, 3)
SHAPES = {"i": (2,), "j": (3,), "p": ()}
EXACT = Settings(backend="reference")

# stop_gradient is constant by definition; the arguments of the two others are not real numbers
LEFT_OUT = {"stop_gradient", "to_real", "to_index"}
OPERATIONS = [s for s in samples() if s.out.kind == "real" and s.op.name not in LEFT_OUT]


def check(f: Callable[..., Any], tensors: tuple[Tensor, ...], second: bool) -> None:
    """torch compares with finite differences, in a random direction (fast_mode)."""
    gradcheck(
        f, tensors, fast_mode=True, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
    )
    if second:
        gradgradcheck(f, tensors, fast_mode=True, check_fwd_over_rev=True, check_rev_over_rev=True)


def function_of(problem: Problem, settings: Settings) -> Callable[..., Any]:
    return lambda *tensors: reduce_tensors(Call(with_index(problem), SIZES, settings), tensors)[0]


def of_operation(sample: Sample, settings: Settings, second: bool) -> None:
    """The sum over j of one operation on an i-variable, a j-variable and a parameter."""
    axes = "ijp"[: len(sample.args)]
    leaves = [input_(k, axis, a.dim) for k, (axis, a) in enumerate(zip(axes, sample.args, strict=True))]
    formula = call(sample.op.name, *leaves, **sample.params)
    generator = torch.Generator().manual_seed(3)
    # The gradient in the condition of a choice is made of zeros, which gradgradcheck cannot tell from what is missing.
    slopes = [vjp([formula], [1.0], [leaf])[0] is not zeros(leaf.dim) for leaf in leaves]
    tensors = []
    for k, axis in enumerate(axes):
        low, high = sample.op.domain[k]
        shape = (*SHAPES[axis], leaves[k].dim)
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
        tensors.append((low + (high - low) * uniform).requires_grad_(slopes[k] or not any(slopes)))
    check(function_of(Problem((formula,), "sum", "j", "float64"), settings), tuple(tensors), second)


@pytest.mark.parametrize("sample", OPERATIONS, ids=str)
def test_operations(sample: Sample) -> None:
    of_operation(sample, EXACT, second=max(a.dim for a in sample.args) <= 4)


@pytest.mark.slow
@pytest.mark.parametrize("sample", OPERATIONS, ids=str)
def test_operations_compiled(sample: Sample) -> None:
    of_operation(sample, Settings(), second=True)


# ---------------------------------------------------------------------- reductions

X, Y, P = input_(0, "i", 2), input_(1, "j", 2), input_(2, "p", 1)
TERMS = call("sin", X - P * Y) + 1.5
SCORES = -call("sqnorm2", X - P * Y)
WEIGHTS = call("exp", Y)
REAL = [name for name, record in REDUCTIONS.items() if record.outputs[0][1] == "real"]


def problems(name: str) -> list[Problem]:
    """The reduction of vectors and of numbers, over i and over j."""
    record = REDUCTIONS[name]
    params: tuple[tuple[str, Any], ...] = (("K", 2),) if "K" in record.params else ()
    formulas: list[tuple[Expr, ...]] = [(TERMS,), (SCORES,)] if record.arity == 1 else [(SCORES, WEIGHTS)]
    return [Problem(f, name, over, "float64", params) for f in formulas for over in ("i", "j")]


@pytest.mark.parametrize(
    ("settings", "name"),
    [(EXACT, name) for name in REAL] + [pytest.param(Settings(), name, marks=pytest.mark.slow) for name in REAL],
)
def test_reductions(settings: Settings, name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    tensors = tuple(
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((2, 2), (3, 2), (1,))
    )
    for problem in problems(name):
        check(function_of(problem, settings), tensors, second=True)


def test_every_row_is_there() -> None:
    """A list of samples that is empty would pass."""
    assert len({s.op.name for s in OPERATIONS}) > 80
    assert {"sum", "prod", "logsumexp", "logsumexp_weight", "sumsoftmaxweight", "min", "Kmax"} <= set(REAL)
