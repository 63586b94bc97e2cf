"""Numbers in formula strings: they are parameters, so that strings that differ in them share a kernel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

import pairfuse.numpy
import pairfuse.torch
from pairfuse.frontend.strings.language import meaning
from pairfuse.runtime import execute

RNG = np.random.default_rng(3)
X, Y, B = RNG.uniform(0.5, 1.5, (9, 3)), RNG.uniform(0.5, 1.5, (11, 3)), RNG.normal(size=(11, 1))
D = ((X[:, None] - Y[None]) ** 2).sum(-1, keepdims=True)
ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"]


@pytest.fixture
def compiled() -> Iterator[list[str]]:
    """One entry for each kernel that is compiled."""
    seen: list[str] = []

    def observer(name: str, value: object) -> None:
        if name in ("compile", "simplify"):
            seen.append(name)

    execute.clear()
    execute.observers.append(observer)
    yield seen
    execute.observers.remove(observer)


# A formula with the number a, and what its terms are.
FORMULAS = {
    "{a} * SqDist(x, y)": lambda a: a * D,
    "SqDist(x, y) * -{a}": lambda a: D * -a,
    "Exp(-{a} * SqDist(x, y)) * b": lambda a: np.exp(-a * D) * B,
    "SqDist(x, y) / {a}": lambda a: D / a,
    "Sqrt({a} + SqDist(x, y)) - {a}": lambda a: np.sqrt(a + D) - a,
    "IfElse(SqDist(x, y) - {a}, {a} * b, b)": lambda a: np.where(D - a >= 0, a * B, B),
    "Clamp(x - y, -{a}, {a})": lambda a: np.clip(X[:, None] - Y[None], -a, a),
    "Square(x * {a} - y) + Concat({a}, Concat(b, 3.25))": lambda a: (
        (X[:, None] * a - Y[None]) ** 2 + np.stack(np.broadcast_arrays(a, B[None, :, 0] + 0 * D[..., 0], 3.25), -1)
    ),
    "Grad({a} * SqDist(x, y), x, b)": lambda a: 2 * a * (X[:, None] - Y[None]) * B,
    "Grad(Exp(-{a} * SqDist(x, y)), x, {a})": lambda a: -2 * a * a * (X[:, None] - Y[None]) * np.exp(-a * D),
    "(SqDist(x, y) < {a}) * b": lambda a: np.less(D, a) * B,
}
NUMBERS = [0.3, 1.7, 3.0, 1e-3, 12345.678, 2.5e-7]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_kernel_for_all_numbers(text: str, compiled: list[str]) -> None:
    for a in NUMBERS:
        (result,) = [pairfuse.numpy.Genred(text.format(a=a), ALIASES, axis=1)(X, Y, B)]
        terms = FORMULAS[text](a)
        expected = np.broadcast_to(terms, (9, 11, terms.shape[-1])).sum(1)
        scale = np.broadcast_to(np.abs(terms), (9, 11, terms.shape[-1])).sum(1)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-14 * scale.max())
    assert len(set(compiled)) == 2, "nothing was compiled: the test sees nothing"
    assert compiled.count("compile") == 1


@pytest.mark.parametrize("backend", ["reference", "triton"])
@pytest.mark.parametrize("op", ["Sum", "LogSumExp", "Min", "ArgMin"])
def test_other_backends_and_reductions(op: str, backend: str) -> None:
    """On float32: the number is rounded as the data is."""
    genred = pairfuse.numpy.Genred("Log(0.3 + SqDist(x, y)) * 1.7 + b", ALIASES, op, axis=1)
    x, y, b = (v.astype("float32") for v in (X, Y, B))
    found = genred(x, y, b, backend=backend)
    terms = np.log(0.3 + D) * 1.7 + B
    expected = {
        "Sum": terms.sum(1),
        "LogSumExp": np.log(np.exp(terms).sum(1)),
        "Min": terms.min(1),
        "ArgMin": terms.argmin(1),
    }[op]
    np.testing.assert_allclose(found, expected, rtol=2e-5)  # float32, 11 terms


def test_a_thousand_strings_compile_once(compiled: list[str]) -> None:
    for k in range(1000):
        a = k / 7 + 0.01
        total = pairfuse.numpy.Genred(f"{a} * Sum(x)", ["x = Vi(3)", "y = Vj(3)"], axis=1)(X, Y)
        np.testing.assert_allclose(total, 11 * a * X.sum(1, keepdims=True), rtol=1e-14)
    assert compiled.count("compile") == 1


def test_gradients_batches_and_the_solver(compiled: list[str]) -> None:
    for a in (0.3, 1.7):
        x = torch.tensor(X).expand(2, 9, 3).clone().requires_grad_()
        y, b = torch.tensor(Y), torch.tensor(B)
        genred = pairfuse.torch.Genred(f"Exp(-{a} * SqDist(x, y)) * b", ALIASES, axis=1)
        (g,) = torch.autograd.grad(genred(x, y, b).sum(), [x])
        (expected,) = torch.autograd.grad((torch.exp(-a * torch.cdist(x, y) ** 2) @ b).sum(), [x])
        torch.testing.assert_close(g, expected, rtol=1e-10, atol=1e-12)
        text = f"Exp(-{a} * SqDist(x, z)) * u"
        inverse = pairfuse.numpy.KernelSolve(text, ["x = Vi(3)", "z = Vj(3)", "u = Vj(1)"], "u", axis=1)
        u = inverse(X, X, B[:9], alpha=0.1, eps=1e-12)
        matrix = np.exp(-a * ((X[:, None] - X[None]) ** 2).sum(-1)) + 0.1 * np.eye(9)
        np.testing.assert_allclose(matrix @ u, B[:9], atol=1e-9)
    assert compiled.count("compile") <= 4


# What remains in the formula, and what does not: the numbers of the parameter.
MEANINGS = {
    "1.0 * x + 0.5 * y - 2.0": (),
    "x ** 1.5 + Pow(x, 3) + Powf(x, 0.7)": (),
    "x / 4.0 + y / 0.25": (),
    "x / 3.0 + 4.0 * y": (3.0, 4.0),
    "1e300 * x + 1e-60": (),
    "16777217 * x": (),
    "inf + x": (),
    "-0.3 * x + 0.3": (-0.3, 0.3),
    "Elem(x, 2) * 7.5 + x[1]": (7.5,),
}


@pytest.mark.parametrize("text", MEANINGS)
def test_which_numbers_remain_in_the_formula(text: str) -> None:
    assert sorted(meaning(text, tuple(ALIASES), "Sum", 1, None, None)[-1]) == sorted(MEANINGS[text])


def test_texts_say_what_the_user_wrote() -> None:
    genred = pairfuse.numpy.Genred("0.3 * SqDist(x, y)", ALIASES, axis=1)
    assert "0.3 * SqDist(x, y)" in repr(genred)
    assert genred.formula == "Sum_Reduction(0.3 * SqDist(x, y),0)"
    assert genred.nargs == 3
    with pytest.raises(Exception, match=r"takes 3 arguments, not 2") as caught:
        genred(X, Y)
    assert "0.3 * SqDist(x, y)" in str(caught.value)


@pytest.mark.slow
def test_torch_compile_sees_through_numbers() -> None:
    def program(x: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return pairfuse.torch.Genred("Exp(-1.3 * SqDist(x, y)) * b", ALIASES, axis=1)(x, y, b)

    arrays = [torch.tensor(v) for v in (X, Y, B)]
    result = torch.compile(program, fullgraph=True, backend="eager")(*arrays)
    torch.testing.assert_close(result, program(*arrays))
