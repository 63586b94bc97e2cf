"""Deep formulas, wide sums and shared parts: no pass recurses with the depth, none walks shared parts twice."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import weakref
from collections.abc import Sequence

import numpy as np
import pytest
from deep_formulas import D2, SHAPES, P, X, Y, shallow
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfuse.backends.llvm.emit import emit_kernel
from pairfuse.backends.llvm.target import host_target
from pairfuse.backends.triton import emit as triton_emit
from pairfuse.backends.triton import tile as triton_tile
from pairfuse.errors import PairfuseError
from pairfuse.ir.expr import Expr, call, inputs, toposort
from pairfuse.ir.text import digest, parse, parse_all, to_text
from pairfuse.lower.contract import contract
from pairfuse.lower.kernel import lower
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.lower.schedule import SizeClass, choose
from pairfuse.numpy import Genred, LazyTensor, index_i
from pairfuse.runtime.execute import execute
from pairfuse.runtime.explain import explain
from pairfuse.transform.autodiff import jvp, vjp
from pairfuse.transform.expand import expand
from pairfuse.transform.simplify import simplify

COMMON = SizeClass(few_rows=False, split=False, wide_index=False)
COUNTS = (60, 240)  # the outputs of a pass grow like these


def simplified(*roots: Expr, fast: bool = False) -> tuple[Expr, ...]:
    return simplify(expand(roots), fast)


def gradients(root: Expr) -> tuple[Expr, ...]:
    return vjp([root], [1.0], [X, Y])


def second_gradients(root: Expr) -> tuple[Expr, ...]:
    return vjp([call("sum", gradients(root)[0])], [1.0], [X])


def llvm_text(*roots: Expr) -> str:
    problem = Problem(roots, "sum", "j", "float32")
    formulas = simplified(*roots)
    target = host_target()
    return emit_kernel(lower(problem, formulas), choose(problem, formulas, COMMON, target), target)


def triton_text(*roots: Expr) -> str:
    problem = Problem(roots, "sum", "j", "float32")
    kernel = lower(problem, contract(simplified(*roots), "i", "j"))
    return triton_emit.emit_kernel(kernel, triton_tile.choose(kernel, Sizes(1000, 1000), 0, 10**6, 100))


SIZES = {
    "simplify": lambda f: len(toposort(*simplified(f))),
    "simplify fast": lambda f: len(toposort(*simplified(f, fast=True))),
    "gradient": lambda f: len(toposort(*simplified(*gradients(f)))),
    "second gradient": lambda f: len(toposort(*second_gradients(f))),
    "differential": lambda f: len(toposort(*jvp([f], [X], [1.0]))),
    "text": lambda f: len(to_text(f)),
    "pickle": lambda f: len(pickle.dumps(f)),
    "llvm": lambda f: len(llvm_text(f)),
    "llvm of the gradient": lambda f: len(llvm_text(gradients(f)[0])),
    "triton": lambda f: len(triton_text(f)),
    "triton of the gradient": lambda f: len(triton_text(gradients(f)[0])),
}


@pytest.mark.parametrize("what", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_pass_is_linear_and_does_not_recurse(shape: str, what: str) -> None:
    with shallow():
        small, large = (SIZES[what](SHAPES[shape](n)) for n in COUNTS)
    assert large <= 1.35 * small * COUNTS[1] / COUNTS[0]  # numbers in names get longer


@pytest.mark.parametrize("shape", SHAPES)
def test_objects_of_deep_formulas(shape: str) -> None:
    root = SHAPES[shape](2000)
    with shallow():
        assert parse_all(to_text(root)) == (root,)
        assert len(digest([root])) == 64
        assert len(repr(root)) < 10_000
        assert pickle.loads(pickle.dumps(root)) is root
        assert copy.copy(root) is root
        assert copy.deepcopy([root])[0] is root


def test_deep_formulas_are_freed() -> None:
    """In a process of its own: what fails here is the stack of C."""
    code = """
import gc
from pairfuse.ir.ops import OPS
from pairfuse.ir.expr import Expr, call, input_
root = input_(0, "i", 1)
for k in range(300_000):
    root = call("sin", root)
del root
gc.collect()
print(len(Expr._table) < 1000)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr


# ---------------------------------------------------------------------- results


def arrays_of(roots: Sequence[Expr], seed: int = 0) -> tuple[list[np.ndarray], Sizes]:
    random = np.random.default_rng(seed)
    sizes = Sizes(5, 7)
    found: list[np.ndarray] = []
    for leaf in inputs(*roots):
        axis = leaf.param("axis")
        rows = () if axis == "p" else (sizes.along(axis),)
        found.append(random.uniform(0.2, 0.8, (*rows, leaf.dim)))
    return found, sizes


def compact(root: Expr) -> Expr:
    """The formula with the inputs numbered 0, 1, 2."""
    return root + call("sum", X) * 0.0 + call("sum", Y) * 0.0 + call("sum", P) * 0.0


def check(root: Expr, backend: str = "llvm", frames: int = 150) -> None:
    problem = Problem((compact(root),), "sum", "j", "float64")
    arrays, sizes = arrays_of(problem.formulas)
    with shallow(frames):
        (result,) = execute(problem, arrays, sizes, backend=backend)
        (expected,) = execute(problem, arrays, sizes, backend="reference")
    np.testing.assert_allclose(result, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
def test_results_of_deep_formulas(shape: str) -> None:
    root = SHAPES[shape](60)
    check(root)
    check(call("sum", gradients(root)[0]))


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_results_of_5000_steps(shape: str) -> None:
    root = SHAPES[shape](500 if shape == "joined" else 5000)
    check(root)
    check(call("sum", gradients(root)[0]))


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "sub", "mul", "where", "cos", "half", "concat"]), st.integers(1, 6)),
    min_size=30,
    max_size=120,
)


def graph(steps: list[tuple[str, int]]) -> Expr:
    """A graph in which every step takes the last value and an earlier one: its paths are without number."""
    values = [D2 * 0.1, call("sum", X - Y) * 0.1]
    for name, back in steps:
        x, y = values[-1], values[max(0, len(values) - 1 - back)]
        if name == "where":
            new = call("where", x < y, x * 0.9, y)
        elif name == "half":
            new = (x + y) * 0.5
        elif name == "concat":
            new = call("sum", call("concat", x, y)) * 0.5
        else:
            new = call("cos", x) * 0.7 + y * 0.3 if name == "cos" else call(name, x, y) * 0.5
        values.append(new)
    return values[-1]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(STEPS)
def test_random_graphs(steps: list[tuple[str, int]]) -> None:
    root = graph(steps)
    count = len(toposort(root))
    assert len(toposort(*simplified(root))) <= 2 * count
    assert len(toposort(*gradients(root))) <= 12 * count
    assert parse_all(to_text(root)) == (root,)
    check(root)


# ---------------------------------------------------------------------- what users write


def points() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    return random.standard_normal((30, 3)), random.standard_normal((20, 3))


def distances() -> tuple[LazyTensor, np.ndarray]:
    x, y = points()
    lazy = ((LazyTensor(x[:, None, :]) - LazyTensor(y[None, :, :])) ** 2).sum(-1)
    return lazy, ((x[:, None] - y[None]) ** 2).sum(-1)


def test_concatenation_of_100_scalars() -> None:
    d, dense = distances()
    z = (d * 1.0).cos()
    for k in range(1, 100):
        z = z.concat((d * (1.0 + k)).cos())
    expected = np.stack([np.cos(dense * (1.0 + k)) for k in range(100)], -1).sum(1)
    np.testing.assert_allclose(z.sum(dim=1), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("count", [400, pytest.param(5000, marks=pytest.mark.slow)])
def test_sum_of_kernels(count: int) -> None:
    d, dense = distances()
    total, expected = (-d).exp(), np.exp(-dense)
    for k in range(1, count):
        total = total + (-d * (1.0 + k / count)).exp()
        expected = expected + np.exp(-dense * (1.0 + k / count))
    expected = expected.sum(1, keepdims=True)
    with shallow():
        np.testing.assert_allclose(total.sum(dim=1), expected, rtol=1e-12)
        assert "--- kernel ---" in total.explain()
        assert len(repr(total)) < 10_000
    back = pickle.loads(pickle.dumps(total))
    np.testing.assert_allclose(back.sum(dim=1), expected, rtol=1e-12)


@pytest.mark.parametrize("count", [200, pytest.param(5000, marks=pytest.mark.slow)])
def test_gradient_of_a_recurrence(count: int) -> None:
    torch = pytest.importorskip("torch")
    from pairfuse.torch import LazyTensor as TorchTensor

    x, y = (torch.tensor(v[:6], requires_grad=True) for v in points())
    d, dense = ((TorchTensor(x[:, None, :]) - TorchTensor(y[None, :, :])) ** 2).sum(-1), ((x[:, None] - y) ** 2).sum(-1)
    z, expected = d, dense
    for _ in range(count):
        z, expected = (z * 0.9 + d).cos() * 0.9, (expected * 0.9 + dense).cos() * 0.9
    torch.autograd.grad(d.sum(dim=1).sum(), [x, y])  # what is imported then needs frames of its own
    with shallow(400):  # as torch does
        found = z.sum(dim=1)
        gradients = torch.autograd.grad(found.sum(), [x, y])
    torch.testing.assert_close(found[:, 0], expected.sum(1), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected.sum(), [x, y]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("before", "after"), [("Sin(", ")"), ("(1.0 + ", ")"), ("-(", ")"), ("IfElse(x - y, ", ", y)"), ("y + ", "")]
)
def test_nested_strings(before: str, after: str) -> None:
    def value(depth: int) -> np.ndarray:
        genred = Genred(f"{before * depth}Sin(x*y){after * depth}", ["x=Vi(1)", "y=Vj(1)"], axis=1)
        return genred(np.full((3, 1), 0.5), np.full((4, 1), 0.25))

    inner = np.sin(0.125)
    with shallow():
        found = value(300)
    for _ in range(300):
        inner = {
            "Sin(": np.sin(inner),
            "(1.0 + ": 1 + inner,
            "-(": -inner,
            "IfElse(x - y, ": inner,
            "y + ": 0.25 + inner,
        }[before]
    np.testing.assert_allclose(found, np.full((3, 1), 4 * inner), rtol=1e-6)


@pytest.mark.parametrize("depth", [200, 5000, 50_000])
def test_strings_of_any_depth_are_read(depth: int) -> None:
    with shallow():
        nested = parse("exp(" * depth + "x0_i[3]" + ")" * depth)
        summed = parse("+".join(["x0_i[3]"] * depth))
    assert len(toposort(nested)) == depth + 1
    assert len(toposort(summed)) == depth


def test_reductions_of_nested_strings() -> None:
    formula = "Sum_Reduction(" + "Sin(" * 300 + "x*y" + ")" * 300 + ", 0)"
    assert Genred(formula, ["x=Vi(1)", "y=Vj(1)"])(np.ones((3, 1)), np.ones((4, 1))).shape == (3, 1)


def test_deep_formulas_explain_themselves() -> None:
    problem = Problem((compact(SHAPES["chain"](1000)),), "sum", "j")
    with shallow():
        assert "--- schedule ---" in explain(problem, source=True)


def test_users_objects_are_freed() -> None:
    d, _ = distances()
    z = d
    for _ in range(20_000):
        z = z.sin()
    there = weakref.ref(z)
    with shallow():
        del z
        gc.collect()
    assert there() is None


def test_a_sum_from_the_right_is_not_renumbered_at_every_step() -> None:
    d, dense = distances()
    total, expected = d * 1.0, dense
    for k in range(1, 60):
        total, expected = d * (1.0 / k) - total, dense / k - expected
    np.testing.assert_allclose(total.sum(dim=1), expected.sum(1, keepdims=True), rtol=1e-11, atol=1e-9)


# ---------------------------------------------------------------------- absurd sizes

BIG = "1" * 400
STRINGS = [
    "Sum(Vi(1000000000,3)-y)",
    "Sum(x)+Sum(Var(1000000000,3,0))",
    f"Sum(x+y)*{BIG}",
    f"Sum(x+y)*IntCst({BIG})",
    f"Sum(x+y)*RatCst({BIG},3)",
    f"Sum(x+y)+Sum(Zero({BIG}))",
    f"Elem(x,{BIG})",
    f"Extract(x,0,{BIG})",
    f"Sum(ExtractT(x,0,{BIG}))",
    f"Sum(OneHot(Sum(x),{BIG}))",
    f"SumT(Sum(x),{BIG})",
    f"ClampInt(x,{BIG},{BIG})",
    f"KMin_Reduction(SqDist(x,y),{BIG},0)",
    f"Sum(x+y)*{'1' * 5000}",
    "a" * 100_000,
]


def tensor_product(doublings: int) -> str:
    text = "x"
    for _ in range(doublings):
        text = f"TensorProd({text},{text})"
    return text


@pytest.mark.parametrize("formula", [*STRINGS, tensor_product(6)], ids=lambda f: f[:30])
def test_absurd_strings(formula: str) -> None:
    with pytest.raises(PairfuseError) as caught:
        Genred(formula, ["x=Vi(3)", "y=Vj(3)"])(*(v[:4] for v in points()))
    assert max(map(len, str(caught.value).splitlines())) <= 400


@pytest.mark.parametrize(
    "call_of",
    [
        lambda d: d.Kmin(10**30, dim=1),
        lambda d: d.argKmin(10**9, dim=1),
        lambda d: d.one_hot(10**12),
        lambda d: d * 10**400,
        lambda d: d < 10**400,
        lambda d: 10**400 + d,
        lambda d: LazyTensor(10**400),
        lambda d: d.clamp(0, 10**400),
        lambda d: d.extract(0, 10**30),
        lambda d: LazyTensor((0, 10**30, 0)),
        lambda d: Genred("Sum(x)", [f"x=Vi({BIG})"])(np.ones((2, 3))),
        lambda d: Genred("Sum(x)", [f"x=Vi({BIG},3)"])(np.ones((2, 3))),
    ],
)
def test_absurd_calls(call_of: object) -> None:
    d, _ = distances()
    with pytest.raises(PairfuseError) as caught:
        call_of(d)  # type: ignore[operator]
    assert max(map(len, str(caught.value).splitlines())) <= 400


def test_results_that_do_not_fit() -> None:
    x, _ = points()
    with pytest.raises(MemoryError, match="does not fit in memory") as caught:
        (index_i(2**47) + LazyTensor(x[None, :, :])).sum(dim=1)
    assert isinstance(caught.value, PairfuseError)
