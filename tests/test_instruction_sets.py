"""The same problems under every set of instructions that this machine has: narrower vectors, fewer registers, no fused
operations. A kernel is compiled for each; together they take the paths that other machines would take.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conformance import DTYPES, Case, check, draw_case, problem, run

from pairfuse.backends.llvm.target import host_target
from pairfuse.config import config
from pairfuse.ir.expr import Expr, call, index, input_
from pairfuse.runtime import execute

SETS = ("auto", "avx2", "generic")
X, Y, P = input_(0, "i", 3), input_(1, "j", 3), input_(2, "p", 1)
LONG_X, LONG_Y = input_(0, "i", 40), input_(1, "j", 40)
D = call("sqdist", X, Y) * P

SMOKE: list[tuple[str, tuple[Expr, ...], dict[str, Any]]] = [
    ("sum", (call("exp", -D),), {}),
    ("sum", (call("sqrt", D + 1.0) * Y,), {}),
    ("sum", (call("exp", -call("norm2", LONG_X - LONG_Y)),), {}),
    ("sum", (call("exp", -call("sqnorm2", LONG_X)) * LONG_Y,), {}),
    ("sum", (call("where", call("lt", index("j"), index("i") * 3), call("sin", D), call("log", D + 0.5)),), {}),
    ("sum", (call("to_real", call("floordiv", index("j") * index("i") - 40, 7)) + call("floor", D),), {}),
    ("prod", (1.0 + 0.01 * D,), {}),
    ("logsumexp", (-D,), {}),
    ("logsumexp_weight", (-D, call("exp", Y)), {}),
    ("sumsoftmaxweight", (-D, Y), {}),
    ("max_argmax", (X * Y,), {}),
    ("Kmin_argKmin", (D,), {"K": 5}),
    ("Kmin_argKmin", (D,), {"K": 40}),
    ("count_nonzero", (call("floor", D),), {}),
]


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_smoke(dtype: str, instructions: str) -> None:
    """All reductions, loops over components, indices and lists; few rows and many; one after the other by turns."""
    rng = np.random.default_rng(0)
    with config.override(instructions=instructions):
        for k, (name, formulas, params) in enumerate(SMOKE):
            slots = {n.param("slot") for n in problem(name, *formulas, **params).inputs}
            assert slots == set(range(len(slots)))
            p = problem(name, *formulas, dtype=dtype, over="ij"[k % 2], **params)
            m, n = ((37, 83), (3, 700))[(k + (dtype == "float32")) % 2]
            check(draw_case(rng, p, *((m, n) if p.over == "j" else (n, m)), "mixed" if k % 3 == 0 else "none"))


@pytest.mark.slow
@pytest.mark.parametrize("instructions", [*SETS, "avx512"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("over", "ij")
def test_all(over: str, dtype: str, instructions: str) -> None:
    rng = np.random.default_rng(1)
    with config.override(instructions=instructions):
        for name, formulas, params in SMOKE:
            p = problem(name, *formulas, dtype=dtype, over=over, **params)
            for m, n in ((1, 1), (2, 17), (37, 83), (3, 700), (700, 3), (257, 33)):
                check(draw_case(rng, p, m, n, str(rng.choice(["none", "mixed", "parameters"]))))


def test_the_setting_decides_the_program() -> None:
    """A program is kept for each setting, and the vectors are as wide as it says."""
    execute.clear()
    case: Case = draw_case(np.random.default_rng(0), problem("sum", X * Y), 40, 50, layouts=["plain"])
    lanes: dict[str, int] = {}
    for instructions in SETS:
        with config.override(instructions=instructions):
            assert host_target(instructions).vector_bytes in (16, 32, 64)
            check(case)
            found = execute.program(case.problem)
            assert found is execute.program(case.problem)
            (compiled,) = found.by_class.values()
            lanes[instructions] = compiled.schedule.lanes
    assert lanes["generic"] == 4
    assert lanes["generic"] <= lanes["avx2"] <= lanes["auto"]
    results = []
    for instructions in SETS:
        with config.override(instructions=instructions):
            results.append(run(case, "llvm")[0])
    for r in results[1:]:
        np.testing.assert_allclose(r, results[0], rtol=1e-4, atol=1e-5)
