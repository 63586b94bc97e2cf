"""The command ``python -m pairfuse bench``: choose, measure, report.

In: arguments of the shell, see ``--help``. Out: a table for each measurement as it is done, and the files of
``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import derivatives, measure, memory, report, startup
from benchmarks.cases import CASES, ENGINES
from pairfuse.info import processor, version
from pairfuse.runtime.limits import fma_peak

EXTRA_PARTS = ("startup", "memory", "derivatives")


def main() -> int:
    names = [*(case.name for case in CASES), *EXTRA_PARTS]
    parser = argparse.ArgumentParser(prog="pairfuse bench", description="Pairfuse beside its peers, in one run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure (default: everything); see --list")
    parser.add_argument("--list", action="store_true", help="list the names and stop")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default: 1 2)")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"], help="default: float32 float64")
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES, help="default: all")
    parser.add_argument("--budget", type=float, default=20, help="seconds per table, beyond first calls (default: 20)")
    parser.add_argument("--memory-size", type=int, default=1_000_000, help="rows and columns of the memory test")
    parser.add_argument("--python-keops", type=Path, default=measure.PEERS_PYTHON, help="interpreter with PyKeOps")
    parser.add_argument("--shrink", type=int, default=1, help="divide all sizes, to try the suite (writes nothing)")
    parser.add_argument("--no-write", action="store_true", help="print only, leave benchmarks/results alone")
    args = parser.parse_args()
    if args.list:
        print("\n".join([*(f"{c.name:22} {c.title}" for c in CASES), *EXTRA_PARTS]))
        return 0
    if unknown := sorted(set(args.names) - set(names)):
        parser.error(f"unknown: {', '.join(unknown)}; --list shows the names")

    args.names = args.names or names
    present = measure.available(args.python_keops)
    args.engines = [name for name in args.engines if name in present]
    if "keops" not in present:
        print("PyKeOps is not installed here: `make bench-peers` builds an environment for it.\n")
    cpu, features = processor()
    machine = {
        "processor": f"{cpu} ({', '.join(features)}), {os.cpu_count()} logical cores",
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "llvmlite", "torch", "scipy", "scikit-learn")},
    }
    for key, entry in entries(args):
        print(report.terminal(entry), flush=True)
        if not args.no_write and args.shrink == 1:
            report.keep(cpu, machine, {key: entry | {"date": datetime.date.today().isoformat()}})
    return 0


def entries(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """What was asked for, measured one by one."""
    peaks: dict[tuple[str, int], float] = {}
    for case in (case.smaller(args.shrink) for case in CASES):
        if case.name not in args.names:
            continue
        for dtype in (d for d in case.dtypes if d in args.dtypes):
            for threads in args.threads:
                if (dtype, threads) not in peaks:
                    peaks[dtype, threads] = fma_peak(dtype, threads)
                peak = peaks[dtype, threads]
                yield (
                    f"{case.name}/{dtype}/{threads}",
                    {
                        "title": case.title,
                        "what": f"{dtype}, {threads} thread{'s' * (threads > 1)}, {case.M:,} x {case.N:,}, "
                        f"peak {peak:.3g} multiply-adds/s",
                        "pairs": case.pairs,
                        "operations": case.operations(dtype),
                        "peak": peak,
                        "records": measure.measure(case, dtype, threads, args.engines, args.budget, args.python_keops),
                    },
                )
    if "startup" in args.names:
        for package, engine, python, repeats in (
            ("pairfuse", "pairfuse", sys.executable, 7),
            ("pykeops", "keops", str(args.python_keops), 1),
        ):
            if engine in args.engines:
                yield f"startup/{package}", startup_entry(package, python, repeats)
    if "memory" in args.names and "pairfuse" in args.engines:
        yield "memory", memory_entry(args.memory_size // args.shrink)
    if "derivatives" in args.names and "pairfuse" in args.engines:
        yield "derivatives", derivatives_entry(args.shrink)


def startup_entry(package: str, python: str, repeats: int) -> dict[str, Any]:
    about = {"title": f"First calls of {package}", "what": f"fresh processes, median of {repeats}"}
    try:
        seconds = startup.measure(package, python, repeats)
    except RuntimeError as error:
        return about | {"facts": {"failed": str(error)}}
    return about | {
        "facts": {name.replace("_", " "): report.duration(value) for name, value in seconds.items()},
        "seconds": seconds,
    }


def memory_entry(size: int) -> dict[str, Any]:
    found = memory.measure(size)
    if "failed" in found:
        return {"title": "Memory", "what": f"{size:,} x {size:,}", "facts": {"failed": found["failed"]}}
    facts = {
        "beyond inputs and result": f"{found['bytes'] / 1e6:.1f} MB",
        "inputs": f"{found['input_bytes'] / 1e6:.1f} MB",
        "a dense matrix": f"{4 * size * size / 1e9:,.0f} GB",
        "time": report.duration(found["seconds"]),
        "pairs/s": f"{size * size / found['seconds']:.2e}",
    }
    return {"title": "Memory of a Gaussian reduction", "what": f"{size:,} x {size:,}, float32", "facts": facts} | found


def derivatives_entry(shrink: int) -> dict[str, Any]:
    facts: dict[str, str] = {}
    measured: dict[str, Any] = {}
    for name, full in derivatives.SIZES.items():
        size = max(20, full // shrink)
        measured[name] = found = derivatives.measure(name, size)
        facts[derivatives.TITLES[name].format(size)] = found.get("failed") or derivative_fact(found)
    return {"title": "Derivatives", "what": "float32, all threads", "facts": facts, "measured": measured}


def derivative_fact(found: dict[str, Any]) -> str:
    if "ratio" in found:
        times = " / ".join(report.duration(found[key]) for key in ("seconds", "other_seconds"))
        return f"{found['ratio']:.2f} ({times})"
    error = f", error {found['error']:.1e}" if "error" in found else ""
    return f"{report.duration(found['seconds'])}, {found['bytes'] / 1e6:.1f} MB beyond what is kept{error}"


if __name__ == "__main__":
    sys.exit(main())
