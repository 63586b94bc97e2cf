"""Random formulas, reductions, sizes, batches and layouts: every backend agrees with the reference.

The examples are the same in every run; `make test-all` takes the larger profile, `--hypothesis-seed` draws others.
"""

from __future__ import annotations

import pytest
from conformance import BACKENDS, Case, check, terms
from hypothesis import given, settings
from random_formulas import cases

QUICK = settings(max_examples=80)
LARGE = settings(max_examples=1500)


@pytest.mark.parametrize("backend", BACKENDS)
@QUICK
@given(case=cases(size=10))
def test_random_problems(backend: str, case: Case) -> None:
    check(case, backend, informative=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@LARGE
@given(case=cases(size=24))
def test_many_random_problems(backend: str, case: Case) -> None:
    check(case, backend, informative=0.0)


def test_random_problems_are_worth_computing() -> None:
    """Most of them use both axes, and most of their numbers are known to a few digits at least."""
    both = tight = count = 0

    @settings(max_examples=100)
    @given(case=cases(size=10))
    def look(case: Case) -> None:
        nonlocal both, tight, count
        (t, *_) = terms(case)
        count += 1
        both += len(case.problem.formulas[0].axes) == 2
        tight += bool((t.error <= 1e-3 * (abs(t.value) + 1)).mean() > 0.9)

    look()
    assert count == 100
    assert both > 60
    assert tight > 80
