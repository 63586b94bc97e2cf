"""The benchmark suite itself: the judge of accuracy judges, the peak is plausible, and a small run of it works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import dense, exact, report
from benchmarks.cases import CASES, Case
from benchmarks.data import arrays
from pairfuse.runtime import limits

ROOT = Path(__file__).resolve().parents[1]
SMALL = [case.smaller(50) for case in CASES if case.name != "gaussian-few-rows"]


def outputs(case: Case, dtype: str) -> tuple[dict[str, Any], tuple[np.ndarray, ...]]:
    """The inputs of a case and PyTorch's answer to it."""
    data = arrays(case, dtype)
    answer = dense.DENSE[case.formula](case, **{name: torch.from_numpy(array) for name, array in data.items()})
    return data, tuple(np.asarray(out) for out in answer)


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_the_judge_accepts_a_right_answer(case: Case) -> None:
    assert exact.error(case, *outputs(case, "float64")) < 1e-9


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_the_judge_refuses_a_wrong_answer(case: Case) -> None:
    data, right = outputs(case, "float64")
    for k, array in enumerate(right):
        wrong = np.roll(array, 1, axis=0) if array.dtype.kind == "i" else array * 1.01 + 0.01
        assert exact.error(case, data, (*right[:k], wrong, *right[k + 1 :])) > 1e-3


def test_float32_and_float64_get_the_same_numbers() -> None:
    single, double = (arrays(SMALL[0], dtype) for dtype in ("float32", "float64"))
    assert all((single[name] == double[name]).all() for name in single)


def test_every_case_has_work_and_a_reference() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        assert case.operations("float64") >= case.operations("float32") > 0
        assert case.formula in exact.ERRORS


def test_peak_kernel_runs_and_is_counted() -> None:
    width = max(limits.widths())
    kernel, lanes = limits.compiled("float32", width, 8)
    assert lanes == width // 4
    # x <- x/2 + 1/2 converges to 1 from anywhere: eight chains and a half
    assert kernel(1000) == pytest.approx(8.5)
    assert 1e8 < limits.rate("float64", width, 8, 1) < 1e13


def test_report_states_ratio_and_failure() -> None:
    records = [
        {"engine": "pairfuse", "seconds": 0.5, "first": 1.0, "error": 1e-6},
        {"engine": "keops", "seconds": 5.0, "first": 7.0, "error": 1e-7},
        {"engine": "scipy", "failed": "MemoryError: no\nmore"},
    ]
    entry = {"title": "T", "what": "W", "pairs": 10, "operations": 9.0, "peak": 1000.0, "records": records}
    text = report.terminal(entry)
    assert "10.0 x faster" in text
    assert "failed: MemoryError: no\n" in text
    assert "18 %" in text


@pytest.mark.slow
def test_suite_runs_on_small_sizes() -> None:
    command = [sys.executable, "-m", "pairfuse", "bench", "--shrink", "50", "--budget", "0.1", "--threads", "1"]
    command += ["--engines", "pairfuse", "torch"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stdout


def test_a_build_is_compared_with_another() -> None:
    command = [sys.executable, "-m", "benchmarks.builds", str(ROOT), "small-numpy", "--shrink", "50", "--turns", "2"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert float(said.rpartition("worst ratio of a case:")[2]) > 0


def test_expected_times_stand_beside_measured_ones() -> None:
    command = [sys.executable, "-m", "benchmarks.costs", "--shrink", "200", "--threads", "1", "--dtypes", "float32"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for case in CASES:
        assert case.name in said
    assert "farthest from what is measured" in said
