"""First calls in fresh processes: what a user waits for before the first result.

In: the path of this file as a script, with the name of a package. Out: seconds of

    import       of the package beyond NumPy's own import, which comes before
    first        from before the import of the package's NumPy face to the first result, 1,000 x 1,000 pairs
    further      a further new formula in the same process
    disk_first   as `first`, in another process, its formula being in the disk cache by now
    disk_further as `further`, from the disk cache

The script imports nothing of ours before the clock starts, so it is run as a file and not as a module.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CACHE_VARIABLES = {"pairfuse": "PAIRFUSE_CACHE_FOLDER", "pykeops": "KEOPS_CACHE_FOLDER"}


def measure(package: str, python: str, repeats: int, sources: Path | None = None) -> dict[str, float]:
    """Medians over ``repeats`` empty cache folders; ``sources``: where to import from, if not the installed package."""
    runs = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            new = child(package, python, folder, sources)
            cached = child(package, python, folder, sources)
            runs.append(new | {"disk_first": cached["first"], "disk_further": cached["further"]})
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def child(package: str, python: str, folder: str, sources: Path | None) -> dict[str, float]:
    """One fresh process with ``folder`` as its disk cache."""
    environment = {CACHE_VARIABLES[package]: folder} | ({"PYTHONPATH": str(sources)} if sources else {})
    finished = subprocess.run(
        [python, str(Path(__file__)), package],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise RuntimeError(finished.stderr.strip().rpartition("\n")[2] or f"exit status {finished.returncode}")
    return json.loads(finished.stdout.strip().rpartition("\n")[2])  # the last line: a package may print of its own


def main(package: str) -> None:
    """In the fresh process: import, one formula, another formula; print the seconds of each."""
    import numpy as np

    random = np.random.default_rng(0)
    x, y, b = (random.random((1000, k), dtype=np.float32) for k in (3, 3, 1))
    clock: list[float] = []

    def lap() -> None:
        clock.append(time.perf_counter())

    lap()
    importlib.import_module(package)
    lap()
    lazy = importlib.import_module(f"{package}.numpy").LazyTensor
    x_i, y_j = lazy(x[:, None, :]), lazy(y[None, :, :])
    _ = (-((x_i - y_j) ** 2).sum(axis=2)).exp() @ b
    lap()
    ((x_i - y_j).abs().sum(axis=2) + (x_i * y_j).sum(axis=2).sin()).logsumexp(axis=1)
    lap()
    print(json.dumps({"import": clock[1] - clock[0], "first": clock[2] - clock[0], "further": clock[3] - clock[2]}))


if __name__ == "__main__":
    main(sys.argv[1])
