"""Networks of vectors, run by Triton's interpreter: layers are kept in memory by the programs."""

from __future__ import annotations

import os
from collections.abc import Iterator

os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest
from conformance import Case, check
from hypothesis import given, settings
from interpreted import MARKS, need_interpreter, use_tile
from random_networks import network_cases

pytestmark = MARKS

QUICK = settings(max_examples=15)
LARGE = settings(max_examples=300)


@pytest.fixture(scope="module", autouse=True)
def _small_tiles() -> Iterator[None]:
    need_interpreter()
    with pytest.MonkeyPatch.context() as patch:
        use_tile(patch, 4, 16)
        yield


@QUICK
@given(case=network_cases(depth=3))
def test_random_networks(case: Case) -> None:
    check(case, "triton", informative=0.0)


@pytest.mark.slow
@LARGE
@given(case=network_cases(depth=4))
def test_many_random_networks(case: Case) -> None:
    check(case, "triton", informative=0.0)
