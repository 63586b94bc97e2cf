"""The command line: every command runs, and a mistake is a message with an exit status, not a traceback."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pairfuse import catalogue, info
from pairfuse.__main__ import BROKEN_PIPE, main
from pairfuse.ir.ops import TABLE
from pairfuse.ir.reductions import REDUCTIONS
from pairfuse.ir.text import parse
from pairfuse.numpy import LazyTensor
from pairfuse.version import __version__

Capture = pytest.CaptureFixture[str]


def test_info_states_versions_and_what_is_missing(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(info.EXTRAS, "demo", ("numpy", "no-such-package"))
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert re.search(rf"^pairfuse +{re.escape(__version__)} ", text, flags=re.MULTILINE)
    assert re.search(r"^extra \[demo\] +missing no-such-package: pip install", text, flags=re.MULTILINE)
    assert re.search(r"^threads +[1-9]", text, flags=re.MULTILINE)


def test_cache_state_counts_files(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "kernel").write_bytes(bytes(2_000_000))
    assert info.cache_state(str(tmp_path)) == f"{tmp_path}: 1 files, 2.0 MB"
    assert info.cache_state(str(tmp_path / "absent")).endswith("0 files, 0.0 MB")
    assert info.cache_state("") == "none on disk"


def test_ops_lists_everything(capsys: Capture) -> None:
    assert main(["ops"]) == 0
    first_words = {line.partition(" ")[0] for line in capsys.readouterr().out.splitlines()}
    assert first_words >= {record.name for record in (*TABLE.values(), *REDUCTIONS.values())}
    aliases = {alias for row in TABLE.values() for alias in row.aliases}
    assert first_words >= {n for n in dir(LazyTensor) if not n.startswith("_")} - aliases


def test_what_is_listed_is_called_so() -> None:
    """Methods under their names with their arguments; the rest are names of formula strings."""
    records: tuple[Any, ...] = (*TABLE.values(), *REDUCTIONS.values())
    for record in records:
        call = catalogue.call_of(record)
        if call.startswith("x."):
            assert callable(getattr(LazyTensor, call[2:].partition("(")[0]))
            continue
        dims, params = record.samples[0]
        inputs = ", ".join(f"Pm({k}, {dim})" for k, dim in enumerate(dims))
        written = "".join(f", {list(value) if isinstance(value, tuple) else value}" for value in params.values())
        assert parse(f"{record.name}({inputs}{written})").name == record.name
    assert catalogue.call_of(TABLE["atan2"]) == "x.atan2(y)"
    assert catalogue.call_of(TABLE["powi"]) == "powi(x, n)"
    assert catalogue.call_of(REDUCTIONS["logsumexp_weight"]) == "x.logsumexp(dim, weight=y)"
    assert catalogue.call_of(REDUCTIONS["argKmin"]) == "x.argKmin(K, dim)"


@pytest.mark.parametrize("name", ["exp", "Exp", "logsumexp", "LogSumExp"])
def test_ops_finds_names_and_aliases(name: str, capsys: Capture) -> None:
    assert main(["ops", name]) == 0
    assert name in capsys.readouterr().out


def test_ops_suggests_a_name(capsys: Capture) -> None:
    assert main(["ops", "logsumexpp"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("FormulaError: there is no operation or reduction called 'logsumexpp'.")
    assert "Hint: did you mean logsumexp" in message


def test_columns_are_aligned() -> None:
    assert catalogue.aligned(("a", "b"), [("long", "x"), ("s", "y")]) == ["a     b", "----  -", "long  x", "s     y"]


def test_unknown_command_and_option(capsys: Capture) -> None:
    for words in (["fly"], ["info", "--fast"], []):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2
    assert "unrecognized arguments: --fast" in capsys.readouterr().err


def test_explain_prints_stages(capsys: Capture) -> None:
    assert main(["explain", "sum_j(exp(-sqdist(x0_i[3], x1_j[3])))"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


def test_bench_outside_of_the_repository(capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pairfuse.__main__.__file__", str(tmp_path / "a" / "b" / "c.py"))
    assert main(["bench", "--list"]) == 2
    assert "Hint: clone the repository" in capsys.readouterr().err


def test_demo_writes_its_pictures(capsys: Capture, tmp_path: Path) -> None:
    assert main(["demo", "--stride", "16", "--output", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "1-photograph.png",
        "2-16-colours.png",
        "3-density.png",
        "4-one-step-uphill.png",
    ]
    assert "27 x 40 = 1,080 pixels" in capsys.readouterr().out


def test_demo_loads_no_torch(tmp_path: Path) -> None:
    """It is not of its extra."""
    code = """
import sys
from pairfuse.__main__ import main
sys.exit(main(["demo", "--stride", "32", "--output", sys.argv[1]]) or "torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("command", "buffered"), [("ops", True), ("ops", False), ("explain 'sum_j(exp(x0_i[3]))'", True)]
)
def test_a_reader_may_leave(command: str, buffered: bool) -> None:
    """`pairfuse ops | head` ends without a traceback, whether the text is in the buffer or written at once."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, *([] if buffered else ["-u"]), "-m", "pairfuse", *shlex.split(command)],
        stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == BROKEN_PIPE


def test_long_commands_of_the_makefile_say_something(tmp_path: Path) -> None:
    tool = Path(__file__).resolve().parents[1] / "tools" / "patiently.py"
    slow = f"import time; print('at work', flush=True); time.sleep(0.5); open({str(tmp_path / 'x')!r}, 'w')"
    runner = f"import sys; sys.path.insert(0, {str(tool.parent)!r}); import patiently; patiently.EVERY = 0.1; "
    code = runner + "sys.exit(patiently.main('Waiting', sys.argv[1:]))"

    def run(program: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, sys.executable, "-c", program]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run(slow)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "Waiting ..."
    assert re.fullmatch(r" +\d+ s  at work", lines[-2])
    assert lines[-1].endswith("done")
    failed = run("print('the reason'); raise SystemExit(3)")
    assert failed.returncode == 3
    assert "the reason" in failed.stderr
