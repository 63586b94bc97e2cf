"""Run the engines of a case in turns and take medians.

In: a case, a data type, a number of threads, a budget of seconds. Out: a record per engine. Repetitions alternate
between the engines, each time in another order, so that a slow minute of the machine falls on all of them alike.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.cases import Case

ROOT = Path(__file__).resolve().parents[1]
PEERS_PYTHON = ROOT / ".venv-keops" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
SHORTEST = 0.02  # seconds: a measurement repeats the call until it lasts this long
MOST_ROUNDS, FEWEST_ROUNDS = 21, 3
COLD = 0.2  # seconds: shorter calls run once untimed in each turn, to bring caches and threads back
PAUSE = 0.05  # seconds between two engines, for the waiting threads of the last one to go to sleep
THREAD_VARIABLES = ("PAIRFUSE_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Engine:
    """A worker process, seen from the driver.

    `sources` and `cache`: the folder that a build of ours is imported from, if not the installed one, and its kernels'.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        peers_python: Path = PEERS_PYTHON,
        sources: Path | None = None,
        cache: Path | None = None,
    ) -> None:
        self.name = name
        environment = {variable: str(threads) for variable in THREAD_VARIABLES}
        if sources is not None:
            environment["PYTHONPATH"] = str(sources)
        if cache is not None:
            environment["PAIRFUSE_CACHE_FOLDER"] = str(cache)
        python = str(peers_python) if name == "keops" else sys.executable
        self.process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", name, str(threads)],
            cwd=ROOT,
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, **order: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(json.dumps(order), file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        return json.loads(answer) if answer else {"failed": "the process ended"}

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def available(peers_python: Path) -> list[str]:
    """The engines that this machine has, ours first."""
    found = [name for name in ("pairfuse", "torch", "scipy", "sklearn") if importable(sys.executable, name)]
    if peers_python.exists() and importable(str(peers_python), "pykeops"):
        found.insert(1, "keops")
    return found


def importable(python: str, module: str) -> bool:
    check = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", check], check=False).returncode == 0


def measure(
    case: Case, dtype: str, threads: int, names: Sequence[str], budget: float, peers_python: Path
) -> list[dict[str, Any]]:
    """One record per engine: seconds (median and all), first call, error; or why it failed."""
    engines = [Engine(name, threads, peers_python) for name in names if name in case.engines]
    records = {e.name: {"engine": e.name, "samples": []} for e in engines}
    try:
        ready = []
        for engine in engines:
            answer = engine.ask(do="prepare", case=asdict(case), dtype=dtype)
            if "failed" in answer:
                records[engine.name]["failed"] = answer["failed"]
                continue
            records[engine.name]["first"] = answer["seconds"]
            warm = engine.ask(do="run", times=1)["seconds"]
            if warm < SHORTEST:
                warm = engine.ask(do="run", times=5)["seconds"]
            records[engine.name]["times"] = max(1, round(SHORTEST / max(warm, 1e-6)))
            records[engine.name]["warm"] = warm
            ready.append((engine, max(warm, SHORTEST)))
        rounds = round(budget / sum(seconds for _, seconds in ready)) if ready else 0
        for turn in range(min(max(rounds, FEWEST_ROUNDS), MOST_ROUNDS)):
            for k in range(len(ready)):
                engine = ready[(k + turn) % len(ready)][0]
                record = records[engine.name]
                time.sleep(PAUSE)
                if record["warm"] < COLD:
                    engine.ask(do="run", times=1)
                record["samples"].append(engine.ask(do="run", times=record["times"])["seconds"])
        for engine, _ in ready:
            record = records[engine.name]
            record["seconds"] = statistics.median(record["samples"])
            record |= engine.ask(do="error")
            records[engine.name] = record
    finally:
        for engine in engines:
            engine.close()
    return list(records.values())
