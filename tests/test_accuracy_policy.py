"""accuracy="strict" and "fast": how they are asked for, what they change, and how far fast results may be off.

On the CPU, "fast" applies more rules of algebra; on a GPU it also rounds the operands of products, of which
test_triton_dots.py is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pairfuse
from pairfuse.config import Config, config
from pairfuse.errors import KeywordError, PairfuseError, UnsupportedError
from pairfuse.frontend.derivatives.passes import passes
from pairfuse.ir.expr import call, input_
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.numpy import LazyTensor, Vi, Vj
from pairfuse.runtime import execute

RNG = np.random.default_rng(0)
X, Y = (RNG.standard_normal((n, 3)).astype(np.float32) for n in (40, 60))


def third(x: Any, y: Any) -> Any:
    """A formula to which a rule of FAST applies: x / 3 -> x * (1 / 3)."""
    return (-((Vi(x) - Vj(y)) ** 2).sum(-1) / 3).exp()


def formulas_of(p: Problem) -> str:
    program = execute.program(p)
    kind = execute.SizeClass(few_rows=False, split=False, wide_index=False)
    return str((program.by_class.get(kind) or program.compile(kind)).kernel)


# ---------------------------------------------------------------------- how it is asked for


def test_a_fast_rule_is_applied_only_where_it_is_asked_for() -> None:
    formula = (call("exp", input_(0, "i", 1) / 3.0 - input_(1, "j", 1)),)
    assert "/ 3.0" in formulas_of(Problem(formula, "sum", "j"))
    fast = formulas_of(Problem(formula, "sum", "j", accuracy="fast"))
    assert "/ 3.0" not in fast
    assert "0.333" in fast


def seen_by(run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The policies of the problems that reach the driver."""
    found: set[str] = set()
    real = execute.program
    monkeypatch.setattr(execute, "program", lambda p: (found.add(p.accuracy), real(p))[1])
    run()
    return found


def test_keyword_setting_and_default(monkeypatch: pytest.MonkeyPatch) -> None:
    k = third(X, Y)
    assert seen_by(lambda: k.sum(dim=1), monkeypatch) == {"strict"}
    assert seen_by(lambda: k.sum(dim=1, accuracy="fast"), monkeypatch) == {"fast"}
    with config.override(accuracy="fast"):
        assert seen_by(lambda: k.sum(dim=1), monkeypatch) == {"fast"}
        assert seen_by(lambda: k.sum(dim=1, accuracy="strict"), monkeypatch) == {"strict"}
        assert seen_by(lambda: k @ np.ones(60, np.float32), monkeypatch) == {"fast"}
    later = k.logsumexp(dim=1, call=False)
    assert seen_by(lambda: later(accuracy="fast"), monkeypatch) == {"fast"}


@pytest.mark.parametrize(
    "reduce",
    [
        lambda k, **o: k.sum(dim=1, **o),
        lambda k, **o: k.mean(dim=0, **o),
        lambda k, **o: k.var(dim=1, **o),
        lambda k, **o: k.min(dim=1, **o),
        lambda k, **o: k.argmin(dim=1, **o),
        lambda k, **o: k.Kmin(3, dim=1, **o),
        lambda k, **o: k.sumsoftmaxweight(Vj(Y), dim=1, **o),
        lambda k, **o: k.logsumexp(dim=1, **o),
        lambda k, **o: k.matvec(np.ones(60, np.float32), **o),
    ],
)
def test_every_reduction_takes_it(reduce: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen_by(lambda: reduce(third(X, Y), accuracy="fast"), monkeypatch) == {"fast"}


def test_derivatives_inherit_it() -> None:
    p = Problem((call("exp", -call("sqdist", input_(0, "i", 3), input_(1, "j", 3))),), "sum", "j", accuracy="fast")
    assert {q.problem.accuracy for q in passes(p, (True, True))} == {"fast"}


def test_derivatives_of_torch_inherit_it(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from pairfuse.torch import Vi, Vj

    def gradients() -> None:
        x, y = (torch.from_numpy(v).clone().requires_grad_() for v in (X, Y))
        k = (-((Vi(x) - Vj(y)) ** 2).sum(-1) / 3).exp()
        for value in (k.sum(dim=1, accuracy="fast"), k.min(dim=1, accuracy="fast")):
            (g,) = torch.autograd.grad(value.sum(), x, create_graph=True)
            torch.autograd.grad((g**2).sum(), (x, y), allow_unused=True)

    assert seen_by(gradients, monkeypatch) == {"fast"}


def test_the_key_on_disk_holds_it() -> None:
    formulas = (input_(0, "i", 1) * input_(1, "j", 1),)
    keys = set()
    for accuracy in ("strict", "fast"):
        p = Problem(formulas, "sum", "j", accuracy=accuracy)
        compiled = execute.program(p).compiled(Sizes(100, 100), 1)
        keys.add(execute._key(p, compiled.formulas, compiled.schedule, compiled.target))
    assert len(keys) == 2


def test_the_reference_ignores_it() -> None:
    strict, fast = (third(X, Y).sum(dim=1, backend="reference", accuracy=a) for a in ("strict", "fast"))
    assert np.array_equal(strict, fast)


def test_wrong_values() -> None:
    with pytest.raises(UnsupportedError, match=r"^sum\(accuracy='quick'\): there is no such policy.") as caught:
        third(X, Y).sum(dim=1, accuracy="quick")
    assert "Hint: 'strict' (the default) or 'fast'" in str(caught.value)
    with pytest.raises(UnsupportedError, match="no such policy"):
        third(X, Y).sum(dim=1, accuracy=["fast"])
    with pytest.raises(KeywordError, match="did you mean accuracy"):
        third(X, Y).sum(dim=1, acuracy="fast")
    with pytest.raises(PairfuseError, match=r"config\.accuracy = 'exact': not a valid value"):
        pairfuse.config.accuracy = "exact"
    with pytest.raises(PairfuseError, match="expected 'strict' or 'fast'"):
        Config.from_environment({"PAIRFUSE_ACCURACY": "1e-3"})
    assert Config.from_environment({"PAIRFUSE_ACCURACY": "fast"}).accuracy == "fast"


# ---------------------------------------------------------------------- how far off

KERNELS: dict[str, Callable[[Any, Any], Any]] = {
    "gaussian": lambda d2, np_: np_.exp(-d2 / 3),
    "polynomial": lambda d2, np_: (1 + d2) ** 5,
    "product of exponentials": lambda d2, np_: np_.exp(-d2) * np_.exp(d2 / 7),
    "quotient": lambda d2, np_: np_.exp(-d2 / 3) / np_.exp(d2 / 5),
    "rational": lambda d2, np_: 1 / (1 + d2 / 3),
    "laplacian": lambda d2, np_: np_.exp(-np_.sqrt(d2) / 3),
}


class Methods:
    """NumPy's functions, as methods of a LazyTensor."""

    def __getattr__(self, name: str) -> Callable[[Any], Any]:
        return lambda v: getattr(v, name)()


@pytest.mark.parametrize("name", KERNELS)
def test_fast_results_on_the_cpu(name: str) -> None:
    """The bound of docs/accuracy.md: 1e-5 of the sum of the absolute terms, in float32."""
    x, y = (RNG.standard_normal((n, 5)).astype(np.float32) for n in (300, 400))
    b = RNG.standard_normal((400, 1)).astype(np.float32)
    k = KERNELS[name](((LazyTensor(x[:, None]) - LazyTensor(y[None])) ** 2).sum(-1), Methods())
    d2 = ((x[:, None].astype(np.float64) - y[None].astype(np.float64)) ** 2).sum(-1)
    terms = KERNELS[name](d2, np)
    found = (k * Vj(b)).sum(dim=1, accuracy="fast")
    assert (np.abs(found - terms @ b) <= 1e-5 * (terms @ np.abs(b))).all()
