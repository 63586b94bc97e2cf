"""Figures on a GPU: `make bench-gpu`, or `python -m benchmarks.gpu [name ...]`; `--help` says more.

In: names of cases, or none for all, the most important first.  Out: a line for each engine as it is measured, and
`results/gpu-<device>.json` and `.md` with the device, the versions and the dates.  Times are medians of CUDA events
around warm calls.  Without a GPU it says so, and that is all.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.gpu_cases import BY_NAME, CASES
from benchmarks.report import bar, duration
from pairfuse.info import version

RESULTS = Path(__file__).with_name("results")
PARTS = {
    "cold": "Cold start, empty cache of Triton",
    "memory": "Memory over many calls",
    "stream": "Data of the CPU, streamed",
}
PEERS_NEEDED = "PyKeOps is not timed: there is no interpreter with it (`make bench-peers`, or --python-keops PATH)."
SECONDS = 6.0  # of warm calls of one engine on one case
HEAD = ("case", "engine", "time", "pairs/s", "ours is", "error", "memory", "first call", "caller", "aim")


class Engine(measure.Engine):
    """A worker process on the GPU, seen from the driver."""

    def __init__(self, name: str, python: str, **environment: str) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [python, "-m", "benchmarks.gpu_worker", name],
            cwd=measure.ROOT,
            env=os.environ | {"TRITON_INTERPRET": "0"} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


def no_gpu() -> str:
    """Why nothing can be measured, or nothing."""
    missing = [name for name in ("torch", "triton") if importlib.util.find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed: pip install 'pairfuse[gpu]'"
    import torch

    return "" if torch.cuda.is_available() else "torch sees no GPU on this machine"


def machine() -> dict[str, Any]:
    """The device and the versions that a figure belongs to."""
    import torch

    known = torch.cuda.get_device_properties(0)
    return {
        "device": known.name,
        "capability": f"{known.major}.{known.minor}",
        "memory": f"{known.total_memory / 1e9:.0f} GB, {known.multi_processor_count} multiprocessors",
        "driver": driver(),
        "cuda": torch.version.cuda or torch.version.hip,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("pairfuse", "torch", "triton")},
    }


def driver() -> str:
    """The version of the driver, as nvidia-smi says it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "not known"
    return done.stdout.splitlines()[0].strip() if done.stdout else "not known"


# ---------------------------------------------------------------------- measuring


def measured(name: str, engines: list[Engine], shrink: int) -> dict[str, Any]:
    """One case by every engine, or one of the other parts by ours."""
    today = datetime.date.today().isoformat()
    if name in PARTS:
        if name != "cold":
            return {"date": today, "facts": engines[0].ask(part=name)}
        with tempfile.TemporaryDirectory() as folder:
            engine = Engine("pairfuse", sys.executable, TRITON_CACHE_DIR=folder, PAIRFUSE_CACHE_FOLDER=folder)
            try:
                return {"date": today, "facts": engine.ask(part=name)}
            finally:
                engine.close()
    asked = [e for e in engines if e.name != "torch" or BY_NAME[name].torch is not None]
    records = {e.name: e.ask(case=name, seconds=SECONDS, shrink=shrink) for e in asked}
    return {"date": today, "records": records}


def rows(name: str, entry: dict[str, Any]) -> list[tuple[str, ...]]:
    """The lines of one entry in the table of cases."""
    case = BY_NAME[name]
    ours = entry["records"].get("pairfuse", {}).get("gpu")
    found: list[tuple[str, ...]] = []
    for engine, record in entry["records"].items():
        if "gpu" not in record:
            what = record["failed"].replace("|", "/").partition("\n")[0][:80]
            found.append((case.title, engine, f"failed: {what}", *[""] * (len(HEAD) - 3)))
            continue
        ratio = f"{record['gpu'] / ours:.2f} x faster" if ours and engine != "pairfuse" else ""
        found.append(
            (
                case.title,
                engine,
                duration(record["gpu"]),
                f"{case.pairs / record['gpu']:.2e}",
                ratio,
                f"{record['error']:.1e}",
                f"{record['memory'] / 1e6:.1f} MB",
                duration(record["first"]),
                duration(record["host"]),
                case.target if engine == "pairfuse" else "",
            )
        )
    return found


def facts(entry: dict[str, Any]) -> list[str]:
    """The lines of an entry that is no case."""
    found = entry["facts"].items()
    return [f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}" for key, value in found]


def markdown(kept: dict[str, Any]) -> str:
    """The whole file as one document."""
    measured = kept["measured"]
    lines = [f"# Measured on {kept['machine']['device']}", ""]
    lines += [f"- {key}: {value}" for key, value in kept["machine"].items()]
    lines += ["", "Time: median of warm calls by the clock of the GPU; caller: until the call returns;"]
    lines += ["memory: allocated during the first call; error: relative to the largest true number of 16 rows.", ""]
    lines += [bar(HEAD), bar("---" for _ in HEAD)]
    lines += [bar(row) for case in CASES if case.name in measured for row in rows(case.name, measured[case.name])]
    for name, title in PARTS.items():
        if name in measured:
            lines += ["", f"## {title}", "", *(f"- {fact}" for fact in facts(measured[name]))]
    dates = sorted({entry["date"] for entry in measured.values()})
    return "\n".join([*lines, "", f"Measured {', '.join(dates)}."]) + "\n"


def keep(about: dict[str, Any], measured: dict[str, Any]) -> Path:
    """Merge into the files of this device."""
    RESULTS.mkdir(exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", about["device"].lower()).strip("-")
    path = RESULTS / f"gpu-{slug}.json"
    old = json.loads(path.read_text()) if path.exists() else {}
    merged = {"machine": old.get("machine", {}) | about, "measured": old.get("measured", {}) | measured}
    path.write_text(json.dumps(merged, indent=1) + "\n")
    path.with_suffix(".md").write_text(markdown(merged))
    return path


# ---------------------------------------------------------------------- the command


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(prog="benchmarks.gpu", description="Pairfuse on a GPU beside its peers.")
    command.add_argument("names", nargs="*", metavar="NAME", help="what to measure (default: everything); see --list")
    command.add_argument("--list", action="store_true", help="list the names and stop")
    command.add_argument("--minutes", type=float, default=20, help="begin nothing after this time (default: 20)")
    command.add_argument("--python-keops", type=Path, default=measure.PEERS_PYTHON, help="interpreter with PyKeOps")
    command.add_argument("--shrink", type=int, default=1, help="divide the sizes, to try the suite (writes nothing)")
    command.add_argument("--no-write", action="store_true", help="print only, leave benchmarks/results alone")
    return command


def main(argv: list[str] | None = None) -> int:
    grammar = parser()
    args = grammar.parse_args(argv)
    names = [*BY_NAME, *PARTS]
    if args.list:
        print("\n".join([*(f"{c.name:22} {c.title}" for c in CASES), *(f"{n:22} {t}" for n, t in PARTS.items())]))
        return 0
    if unknown := sorted(set(args.names) - set(names)):
        grammar.error(f"unknown: {', '.join(unknown)}; --list shows the names")
    why = no_gpu()
    if why:
        print(f"benchmarks.gpu: skipped, {why}.")
        return 0
    return run([n for n in names if not args.names or n in args.names], args)


def run(names: list[str], args: argparse.Namespace) -> int:
    begin, about = time.monotonic(), machine()
    engines = [Engine("pairfuse", sys.executable), Engine("torch", sys.executable)]
    if args.python_keops.exists() and measure.importable(str(args.python_keops), "pykeops"):
        engines.insert(1, Engine("keops", str(args.python_keops)))
    else:
        print(PEERS_NEEDED)
    path: Path | None = None
    try:
        for name in names:
            if time.monotonic() - begin > 60 * args.minutes:
                print(f"{name}: no time left")
                continue
            entry = measured(name, engines, args.shrink)
            if "facts" in entry:
                print(f"{PARTS[name]}\n  " + "\n  ".join(facts(entry)), flush=True)
            else:
                for row in rows(name, entry):
                    print("  ".join(cell for cell in row if cell), flush=True)
            if not args.no_write and args.shrink == 1:
                path = keep(about, {name: entry})
    finally:
        for engine in engines:
            engine.close()
    if path is not None:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
