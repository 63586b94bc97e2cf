"""Networks of vectors: chains of products with matrices, whose layers are computed once per pair and kept."""

from __future__ import annotations

import pytest
from conformance import BACKENDS, Case, check
from hypothesis import given, settings
from random_networks import network_cases

QUICK = settings(max_examples=60)
LARGE = settings(max_examples=1000)


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
