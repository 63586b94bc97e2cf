"""The memory of one large reduction, beyond its inputs and output.

In: a size. Out: bytes and seconds of a Gaussian reduction of size x size pairs in a fresh process. A dense float32
matrix of a million by a million would take 4 TB.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes


def measure(size: int) -> dict[str, Any]:
    """Run :func:`main` in a process of its own and return what it found."""
    command = [sys.executable, "-m", "benchmarks.memory", str(size)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if finished.returncode:
        return {"failed": finished.stderr.strip().rpartition("\n")[2]}
    return json.loads(finished.stdout)


def main(size: int) -> None:
    """Everything is warm before the large call: only its own memory counts, not that of imports and compilers."""
    np = importlib.import_module("numpy")
    lazy = importlib.import_module("pairfuse.numpy").LazyTensor
    random = np.random.default_rng(0)
    x, y, b = (random.random((size, k), dtype=np.float32) for k in (3, 3, 1))

    def gaussian(n: int) -> Any:
        x_i, y_j = lazy(x[:n, None, :]), lazy(y[None, :n, :])
        return (-((x_i - y_j) ** 2).sum(axis=2)).exp() @ b[:n]

    gaussian(1000)
    before, begin = peak(), time.perf_counter()
    result = gaussian(size)
    seconds = time.perf_counter() - begin
    beyond = max(0, peak() - before - result.nbytes)
    print(
        json.dumps({"size": size, "seconds": seconds, "bytes": beyond, "input_bytes": x.nbytes + y.nbytes + b.nbytes})
    )


def peak() -> int:
    """The largest resident set of this process so far, in bytes."""
    import resource  # not on Windows, where the other benchmarks run

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT


if __name__ == "__main__":
    main(int(sys.argv[1]))
