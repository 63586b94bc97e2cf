"""All operations and reductions of the tables on a GPU, against the reference: on real tiles, not interpreted ones.

A kernel takes half a second to compile, so one type is drawn for each; the other one is marked slow.
"""

from __future__ import annotations

import itertools

import error_bounds
import pytest
from conformance import DTYPES, check, draw_case, problem
from test_ops_backends import NAMES as OPERATIONS
from test_ops_backends import PLACES, arguments
from test_reductions_backends import LISTS, NAMES, REDUCTIONS, sample, seeded, special_case, term

from pairfuse.ir.expr import call
from pairfuse.ir.ops import TABLE


@pytest.fixture(autouse=True)
def _units(monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions of a GPU are off by more units than ours on the CPU: 2 or 3, of exp near its ends 12."""
    exact = error_bounds._units
    monkeypatch.setattr(error_bounds, "_units", lambda name: 16.0 if name in error_bounds.MATH else 2 * exact(name))


def drawn(*key: object) -> str:
    return str(seeded(*key, "type").choice(DTYPES))


def operation(name: str, dtype: str, sizes: tuple[tuple[int, int], ...]) -> None:
    op, rng = TABLE[name], seeded(name, dtype, "gpu")
    dims, parameters = op.samples[rng.integers(len(op.samples))]
    args, intervals = arguments(PLACES[op.arity][0], dims, op.domain)
    p = problem("sum", call(name, *args, **parameters), over=str(rng.choice(["i", "j"])), dtype=dtype)
    for m, n in sizes:
        check(draw_case(rng, p, m, n, domains=intervals), "triton")


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(name: str) -> None:
    operation(name, drawn(name), ((17, 257),))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_in_both_types(name: str, dtype: str) -> None:
    operation(name, dtype, ((17, 257), (1, 1)))


def reduction(name: str, dtype: str) -> None:
    rng = seeded(name, dtype, "gpu")
    dim = int(rng.choice((1, 3) if name in LISTS else (1, 3, 20)))
    over = str(rng.choice(["i", "j"]))
    for (m, n), batch in (((257, 300), "none"), ((17, 16), "mixed"), ((3, 20_000), "none"), ((17, 3), "parameters")):
        m, n = (m, n) if over == "j" else (n, m)
        check(sample(rng, name, dtype, dim, m, n, over, batch), "triton")


@pytest.mark.parametrize("name", NAMES)
def test_reduction(name: str) -> None:
    reduction(name, drawn(name))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_reduction_in_both_types(name: str, dtype: str) -> None:
    reduction(name, dtype)


@pytest.mark.parametrize("name", NAMES)
def test_ties_nan_and_infinities(name: str) -> None:
    for dtype, special in itertools.product((drawn(name),), (0.0, 0.05, 0.9)):
        check(special_case(seeded(name), name, dtype, 40, 570, special), "triton", informative=0.0)


@pytest.mark.parametrize("k", [1, 10, 20, 50])
def test_lists(k: int) -> None:
    rng = seeded(k)
    check(draw_case(rng, problem("Kmin_argKmin", *term("Kmin", 1), K=k), 300, 5000), "triton")


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NAMES if REDUCTIONS[n].arity == 1 and n not in LISTS])
def test_large_sizes(name: str) -> None:
    """Many tiles, and several flushes, in every row."""
    check(sample(seeded(name), name, "float32", 1, 3000, 20_001, "j", "none"), "triton")
