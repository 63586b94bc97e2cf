"""What holds for every test: the user's cache is left alone, and drawn examples are the same everywhere.

The larger profile of drawn examples is for the tests marked slow (`make test-all`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

# Triton reads this when it is first imported, which torch may do: before any test module is.
os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest
from hypothesis import HealthCheck, settings

from pairfuse.config import config

settings.register_profile(
    "pairfuse", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("pairfuse")


@pytest.fixture(autouse=True)
def _no_disk_cache() -> Iterator[None]:
    """For the process, not for a block: the threads that a test starts are in no block."""
    before, config.cache_folder = config.cache_folder, ""
    yield
    config.cache_folder = before
