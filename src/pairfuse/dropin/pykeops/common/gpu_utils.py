"""`pykeops.common.gpu_utils`."""

from __future__ import annotations

import importlib
import importlib.util


def get_gpu_number() -> int:
    """How many GPUs torch sees."""
    if importlib.util.find_spec("torch") is None:
        return 0
    return int(importlib.import_module("torch").cuda.device_count())


def get_gpu_props() -> tuple[int, str]:
    """How many GPUs torch sees, and no flags of a compiler."""
    return get_gpu_number(), ""
