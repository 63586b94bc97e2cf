"""Every test of this folder needs a GPU: where there is none it is skipped, with the reason."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator

import pytest

from pairfuse.runtime import device, probe


def reason() -> str:
    """Why there is nothing to test, or nothing."""
    missing = [name for name in ("torch", "triton") if importlib.util.find_spec(name) is None]
    if missing:
        return f"needs {' and '.join(missing)}: pip install 'pairfuse[gpu]'"
    import torch

    if not torch.cuda.is_available():
        return "torch sees no GPU"
    if os.environ.get("TRITON_INTERPRET") == "1" or device.interpreting():
        return "the other tests have turned triton into its interpreter: run `make test-gpu`"
    found = probe.failure(torch.device("cuda", torch.cuda.current_device()))
    return "" if found is None else f"the GPU cannot be used: {found.reason}; {found.remedy}"


@pytest.fixture(autouse=True)
def _gpu() -> Iterator[None]:
    why = reason()
    if why:
        pytest.skip(why)
    import torch

    yield
    torch.cuda.set_sync_debug_mode("default")
    torch.cuda.empty_cache()
