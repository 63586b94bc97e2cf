"""What the tests by Triton's interpreter share: when they can run, tiles that are small, a clock that only steps."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pairfuse.backends.triton.tile import Tile, choose
from pairfuse.lower.kernel import Kernel
from pairfuse.lower.problem import Sizes
from pairfuse.runtime import device

MISSING = [name for name in ("torch", "triton") if importlib.util.find_spec(name) is None]
MARKS = [
    pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}: pip install 'pairfuse[gpu]'"),
    # what the interpreter says of infinities and NaN on its way
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton"),
    pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning:numpy"),
]


def need_interpreter() -> None:
    """Skip the test where triton compiles for a GPU."""
    if os.environ.get("TRITON_INTERPRET") != "1" or not device.interpreting():
        pytest.skip("triton was imported without TRITON_INTERPRET=1")


def use_tile(monkeypatch: pytest.MonkeyPatch, rows: int, cols: int, **fields: Any) -> None:
    """Tiles of this shape instead of those that are chosen for GPUs."""

    def chosen(kernel: Kernel, sizes: Sizes, batch_rank: int, *rest: Any) -> Tile:
        shape = {"rows": rows, "cols": cols, "warps": 4, "split": False, "flush": 2}
        return replace(choose(kernel, sizes, batch_rank, *rest), **(shape | fields))

    monkeypatch.setattr(device, "choose_tile", chosen)


def now(_: str, step: Callable[[], Any]) -> Any:
    """A clock that only takes the step."""
    return step()
