"""The kernels of streamed data compiled for a GPU without one: that Triton takes them, and that nothing spills.

They carry the states of the rows from launch to launch (tile.py, `carried`). Compiled in a process of its own, as in
test_triton_compile.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from interpreted import MISSING
from test_triton_compile import costs

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}: pip install 'pairfuse[gpu]'")


def compiled(folder: Path, names: str, rows: int = 10**6) -> None:
    """Raise if a function spills, with offsets of 32 bits or of 64."""
    for more in ((), ("--wide",)):
        found = costs(folder, names, 90, "--carried", "--rows", str(rows), *more)
        assert set(found) == set(names.split())
        for name, kernel in found.items():
            for function, cost in kernel["functions"].items():
                assert cost["spilled_bytes"] == 0, f"{name}, {more}, {function}: {cost}"


PROBED = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from pairfuse.backends.triton.compile import run_text
from pairfuse.runtime.probe import PROBE

signature = {"x": "*fp32", "y": "*fp32", "SIZE": "constexpr"}
source = ASTSource(fn=run_text(PROBE)["kernel"], signature=signature, constexprs={"SIZE": 16})
for capability in (75, 80, 90):
    assert "ld.global" in compile(source, target=GPUTarget("cuda", capability, 32)).asm["ptx"]
"""


def test_the_probe(tmp_path: Path) -> None:
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", PROBED], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_sums_and_their_numbers(tmp_path: Path) -> None:
    compiled(tmp_path, "gaussian numbers")


@pytest.mark.slow
def test_other_reductions_and_parts(tmp_path: Path) -> None:
    compiled(tmp_path, "logsumexp argmin neighbours")
    compiled(tmp_path, "gaussian logsumexp argmin neighbours", 16)
