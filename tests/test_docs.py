"""The Python code of the README, of CONTRIBUTING and of the manual runs, page by page, as a reader would type it.

Each page is one program, made of its ```python blocks, run in a fresh process in an empty folder with warnings as
errors. Lines that are not code become empty lines, so that a traceback shows the line of the page.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def program(page: str) -> str:
    """The page with everything but its Python blocks blanked out."""
    lines, inside = [], False
    for line in page.splitlines():
        if line.startswith("```"):
            inside = line.strip() == "```python"
            lines.append("")
        else:
            lines.append(line if inside else "")
    return "\n".join(lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_runs(page: Path, tmp_path: Path) -> None:
    code = program(page.read_text(encoding="utf-8"))
    if not code.strip():
        pytest.skip("no Python on this page")
    script = tmp_path / f"{page.stem}.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_program_keeps_line_numbers() -> None:
    page = "Text\n```python\na = 1\n```\nmore\n```text\nb = 2\n```\n```python\nc = a\n```"
    assert program(page) == "\n\na = 1\n\n\n\n\n\n\nc = a\n"
