"""Arrays of integers on the Triton backend, by its interpreter: what test_integers.py asks of the CPU kernels."""

from __future__ import annotations

import os

os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest
from interpreted import MARKS, need_interpreter, use_tile

from pairfuse import numpy as pn
from pairfuse.runtime import device

pytestmark = MARKS
IDS = np.array([16777216, 16777217, 16777218, 2**33 + 1, -5])


@pytest.fixture(autouse=True)
def _by_the_interpreter() -> None:
    need_interpreter()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ids", [IDS, IDS[:3], np.arange(5), IDS[:3].astype(np.int32)])
def test_comparisons_and_differences(ids: np.ndarray, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_tile(monkeypatch, 2, 4)
    i, j = pn.Vi(ids[:, None]), pn.Vj(ids[::-1, None])
    a, b = ids[:, None], ids[None, ::-1]
    one = pn.LazyTensor(np.ones(1, dtype))
    for formula, true in (
        (i == j, a == b),
        (i < j, a < b),
        ((i - j).abs() <= 1, abs(a - b) <= 1),
        (pn.where(i > j, i, j) == 16777217, np.maximum(a, b) == 16777217),
        (pn.index_j(len(ids)) + 16777215 == i, np.arange(len(ids)) + 16777215 == a),
        (i // 3 == j // 3, a // 3 == b // 3),
    ):
        counted = pn.where(formula, one, 0)
        for dim in (0, 1):
            found = counted.sum(dim=dim, backend="triton").ravel()
            assert found.tolist() == true.sum(dim).tolist()


def test_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits pass through the device in ranges like any data."""
    torch = pytest.importorskip("torch")
    from pairfuse.torch import LazyTensor

    monkeypatch.setattr(device.memory, "budget", lambda *_: 20_000)
    monkeypatch.setattr(device, "ALWAYS_FITS", 0)
    ids = torch.arange(2**40, 2**40 + 700)
    same = LazyTensor(ids[:, None, None]) == LazyTensor(ids.flip(0)[None, :, None])
    assert same.sum(dim=1, backend="triton").flatten().tolist() == [1] * 700
