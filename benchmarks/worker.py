"""One process, one engine: keeps the data of one case loaded and runs it when told to.

In: JSON lines on the standard input. Out: one JSON line each on the standard output. Engines live in processes of their
own because they need their own environments and their own number of threads, which most of them read once, at start.

    {"do": "prepare", "case": {...}, "dtype": "float32"}     -> {"seconds": of the first call}
    {"do": "run", "times": 3}                               -> {"seconds": of one call, mean over 3}
    {"do": "error"}                                         -> {"error": of the last result, against float64}

An answer {"failed": TEXT} means that the engine cannot do this; the process stays usable.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import exact
from benchmarks.cases import Case
from benchmarks.data import arrays
from benchmarks.formulas import FORMULAS


def lazy_engine(package: str) -> Callable[[Case, dict[str, Any], int], Callable[[], Any]]:
    """Pairfuse or PyKeOps: the same formula, the LazyTensor of the package."""

    def bind(case: Case, data: dict[str, Any], threads: int) -> Callable[[], Any]:
        lazy = importlib.import_module(f"{package}.{case.face}").LazyTensor
        data = as_tensors(data) if case.face == "torch" else data
        return lambda: FORMULAS[case.formula](lazy, case, **data)

    return bind


def bind_torch(case: Case, data: dict[str, Any], threads: int) -> Callable[[], Any]:
    dense = importlib.import_module("benchmarks.dense").DENSE
    importlib.import_module("torch").set_num_threads(threads)
    tensors = as_tensors(data)
    return lambda: dense[case.formula](case, **tensors)


def classical_engine(package: str) -> Callable[[Case, dict[str, Any], int], Callable[[], Any]]:
    """SciPy or scikit-learn."""

    def bind(case: Case, data: dict[str, Any], threads: int) -> Callable[[], Any]:
        function = importlib.import_module("benchmarks.classical").CLASSICAL.get((package, case.formula))
        if function is None:
            raise NotImplementedError(f"{package} has nothing for {case.formula}")
        return lambda: function(case, threads, **data)

    return bind


BIND = {
    "pairfuse": lazy_engine("pairfuse"),
    "keops": lazy_engine("pykeops"),
    "torch": bind_torch,
    "scipy": classical_engine("scipy"),
    "sklearn": classical_engine("sklearn"),
}


def as_tensors(data: dict[str, Any]) -> dict[str, Any]:
    from_numpy = importlib.import_module("torch").from_numpy
    return {name: from_numpy(array) for name, array in data.items()}


class Worker:
    """What the process holds between two orders."""

    def __init__(self, engine: str, threads: int) -> None:
        self.bind, self.threads = BIND[engine], threads
        self.outputs: tuple[Any, ...] = ()

    def prepare(self, case: dict[str, Any], dtype: str) -> dict[str, Any]:
        self.case = Case(**case)
        self.data = arrays(self.case, dtype)
        self.call = self.bind(self.case, self.data, self.threads)
        return self.run(times=1)

    def run(self, times: int) -> dict[str, Any]:
        begin = time.perf_counter()
        for _ in range(times):
            self.outputs = self.call()
        return {"seconds": (time.perf_counter() - begin) / times}

    def error(self) -> dict[str, Any]:
        return {"error": exact.error(self.case, self.data, tuple(np.asarray(out) for out in self.outputs))}

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        action = {"prepare": self.prepare, "run": self.run, "error": self.error}[order.pop("do")]
        try:
            return action(**order)
        except Exception as failure:  # whatever an engine raises is its answer
            return {"failed": f"{type(failure).__name__}: {failure}"}


def main() -> None:
    # Engines print what they like on the standard output; our answers get a private copy of it.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    worker = Worker(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        print(json.dumps(worker.obey(json.loads(line))), file=answers)


if __name__ == "__main__":
    main()
