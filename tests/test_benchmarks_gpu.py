"""The benchmark suite of the GPU, as far as it runs without one: its formulas, its judges, its reports."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu, gpu_worker
from benchmarks.gpu_cases import BY_NAME, CASES, GpuCase, sampled

if importlib.util.find_spec("torch") is None:
    pytest.skip("needs torch: pip install 'pairfuse[torch]'", allow_module_level=True)

SHRINK = 5000


def small(case: GpuCase) -> tuple[GpuCase, list[Any]]:
    """The case on the CPU, in float32 where its type is for GPUs only."""
    import torch

    case = case.smaller(SHRINK)
    kind = torch.float64 if case.dtype == "float64" else torch.float32
    generator = torch.Generator().manual_seed(0)
    return case, [torch.rand(s, generator=generator).to(kind) for s in case.shapes]


@pytest.mark.parametrize("name", BY_NAME)
def test_formulas_and_judges_agree(name: str) -> None:
    """The result of every formula is right, as its judge sees it; a wrong one is not."""
    case, arrays = small(BY_NAME[name])
    result = gpu_worker.bound("pairfuse", replace(case, options=()), arrays)()
    assert sampled(case, arrays, result) < 1e-5
    parts = result if isinstance(result, tuple) else (result,)
    wrong = tuple((p + 1) % 2 if not p.is_floating_point() else p * 1.01 for p in parts)
    assert sampled(case, arrays, wrong if isinstance(result, tuple) else wrong[0]) > 1e-3
    if case.torch is not None:
        assert sampled(case, arrays, gpu_worker.bound("torch", case, arrays)()) < 1e-5


def test_shrunk_cases_keep_their_lengths() -> None:
    case = BY_NAME["gaussian-d64-strict"].smaller(10)
    assert case.shapes == ((20_000, 64), (20_000, 64), (20_000, 1))
    assert case.pairs == 4e8


def test_engines_say_what_they_cannot_do() -> None:
    case, arrays = small(BY_NAME["gaussian-d3"])
    with pytest.raises(NotImplementedError, match="PyTorch has nothing"):
        gpu_worker.bound("torch", case, arrays)
    with pytest.raises(NotImplementedError, match="left out for PyKeOps: bfloat16"):
        gpu_worker.bound("keops", BY_NAME["attention-d64"], arrays)


def test_list_and_unknown_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == [*(c.name for c in CASES), "cold", "memory", "stream"]
    with pytest.raises(SystemExit):
        gpu.main(["no-such-case"])
    assert "unknown: no-such-case; --list shows the names" in capsys.readouterr().err


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "no_gpu", lambda: "torch sees no GPU on this machine")
    assert gpu.main([]) == 0
    assert capsys.readouterr().out == "benchmarks.gpu: skipped, torch sees no GPU on this machine.\n"


RECORD = {"first": 1.2, "gpu": 0.25, "host": 1e-4, "samples": [0.25], "error": 3e-7, "memory": 4_000_000}


class FakeEngine:
    """A worker that answers at once."""

    def __init__(self, name: str, *_: Any, **environment: str) -> None:
        self.name = name

    def ask(self, **order: Any) -> dict[str, Any]:
        if "part" in order:
            return {"bytes": 12, "seconds": 0.123456}
        return {"failed": "RuntimeError: a | b\nmore"} if self.name == "torch" else dict(RECORD)

    def close(self) -> None:
        pass


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(gpu, "no_gpu", lambda: "")
    monkeypatch.setattr(gpu, "machine", lambda: {"device": "GPU X (1)", "torch": "2"})
    monkeypatch.setattr(gpu, "Engine", FakeEngine)
    monkeypatch.setattr(gpu, "RESULTS", tmp_path / "results")
    return tmp_path


def test_figures_are_kept_with_device_and_date(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = ["--python-keops", str(fake / "absent")]
    assert gpu.main(["gaussian-d3", *nothing]) == 0
    assert gpu.main(["attention-d64", "memory", "cold", *nothing]) == 0
    out = capsys.readouterr().out
    assert gpu.PEERS_NEEDED in out
    assert "Gaussian sum, D=3  pairfuse  250 ms  4.00e+12  3.0e-07  4.0 MB  1.2 s  100 us" in out
    kept = json.loads((fake / "results" / "gpu-gpu-x-1.json").read_text())
    assert sorted(kept["measured"]) == ["attention-d64", "cold", "gaussian-d3", "memory"]
    assert kept["measured"]["gaussian-d3"]["records"]["pairfuse"] == RECORD
    text = (fake / "results" / "gpu-gpu-x-1.md").read_text()
    assert "# Measured on GPU X (1)" in text
    assert "| Attention, D=64, bfloat16 | torch | failed: RuntimeError: a / b |" in text
    assert "- seconds: 0.1235" in text


def test_a_budget_and_a_try(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["gaussian-d3", "--minutes", "-1"]) == 0
    assert "gaussian-d3: no time left" in capsys.readouterr().out
    assert gpu.main(["gaussian-d3", "--shrink", "10"]) == 0
    assert not (fake / "results").exists()


def test_a_worker_that_ends_is_an_answer() -> None:
    engine = gpu.Engine("pairfuse", sys.executable)
    engine.process.kill()
    engine.process.wait()
    assert engine.ask(case="gaussian-d3") == {"failed": "the process ended"}
    engine.close()
