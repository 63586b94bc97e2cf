"""The command line: ``python -m pairfuse info | ops | explain | bench | demo | tune``, also installed as ``pairfuse``.

In: the arguments of the shell. Out: text on the terminal and an exit status. Every command is a few lines that call
the library; what can be done here can be done from Python.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pairfuse import catalogue, info
from pairfuse.config import config
from pairfuse.errors import PairfuseError
from pairfuse.runtime.explain import explain_text
from pairfuse.version import __version__

BROKEN_PIPE = 141  # 128 + 13, as a shell reports a program that SIGPIPE has ended


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    top = argparse.ArgumentParser(prog="pairfuse", description="Pairwise computations on symbolic matrices.")
    top.add_argument("--version", action="version", version=f"pairfuse {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = commands.add_parser("info", help="versions, processor, threads, cache and extras of this installation")
    command.set_defaults(run=run_info)

    command = commands.add_parser("ops", help="the table of operations and reductions")
    command.add_argument("name", nargs="?", help="one operation or reduction, in full")
    command.set_defaults(run=run_ops)

    command = commands.add_parser("explain", help="every stage of the compilation of a formula")
    command.add_argument("formula", help='for example "sum_j(exp(-sqdist(x0_i[3], x1_j[3])))"')
    command.add_argument("--source", action="store_true", help="print the LLVM IR, too")
    command.set_defaults(run=run_explain)

    command = commands.add_parser("demo", help="the photograph: colours, density, a gradient step")
    command.add_argument("--output", type=Path, default=Path("demo-output"), help="folder of the pictures")
    command.add_argument("--stride", type=int, default=1, help="take every n-th pixel in both directions")
    command.set_defaults(run=run_demo)

    command = commands.add_parser(
        "tune", help="find the fastest tiles of the common kernels on this GPU, and keep them"
    )
    command.add_argument(
        "names", nargs="*", metavar="NAME", help="kernels to tune, by a part of their name; default: all"
    )
    command.add_argument("--list", action="store_true", help="list the kernels and stop")
    command.add_argument("--minutes", type=float, default=10, help="start no kernel after this time (default: 10)")
    command.add_argument("--dry-run", action="store_true", help="print only, keep nothing")
    command.set_defaults(run=run_tune)

    # The benchmarks have options of their own, which they explain themselves: see `bench --help`.
    command = commands.add_parser("bench", help="the benchmark suite (in a copy of the repository)", add_help=False)
    command.set_defaults(run=run_bench)
    return top


def run_info(args: argparse.Namespace, rest: Sequence[str]) -> int:
    print(info.text())
    return 0


def run_ops(args: argparse.Namespace, rest: Sequence[str]) -> int:
    print(catalogue.entry(args.name) if args.name else catalogue.table())
    return 0


def run_explain(args: argparse.Namespace, rest: Sequence[str]) -> int:
    print(explain_text(args.formula, source=args.source))
    return 0


def run_demo(args: argparse.Namespace, rest: Sequence[str]) -> int:
    # Loaded here and not above: it needs packages of the `demo` extra, which the other commands do without.
    try:
        demo = importlib.import_module("pairfuse.demo")
    except ModuleNotFoundError as error:
        if error.name not in {"sklearn", "PIL"}:
            raise
        print(f"pairfuse demo: needs {error.name}.\n  Hint: pip install 'pairfuse[demo]'", file=sys.stderr)
        return 2
    return demo.run(args.output, args.stride)


def run_bench(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Run the suite of the repository that this package stands in; it is not part of the installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "benchmarks" / "__main__.py").is_file():
        print(
            "pairfuse bench: the benchmarks are part of the repository, not of the installed package.\n"
            "  Hint: clone the repository and run `make bench` in it.",
            file=sys.stderr,
        )
        return 2
    return subprocess.call([sys.executable, "-m", "benchmarks", *rest], cwd=root)


def run_tune(args: argparse.Namespace, rest: Sequence[str]) -> int:
    # Loaded here: it needs the code generator of the GPU, which the other commands do without.
    tune = importlib.import_module("pairfuse.runtime.tune")
    if args.list:
        print("\n".join(case.name for case in tune.cases()))
        return 0
    device, reason = tune.this_gpu()
    if device is None:
        print(f"pairfuse tune: there is no GPU to tune for: {reason}", file=sys.stderr)
        return 1
    folder = "" if args.dry_run else config.cache_folder
    found = tune.run(
        args.names, device, tune.cuda_timer, folder, 60 * args.minutes, lambda text: print(text, flush=True)
    )
    kept = f"kept in {tune.tiles.path(folder, tune.tiles.device_name(device))}" if folder and found else "kept nothing"
    print(f"{len(found)} tiles are better than those chosen until now; {kept}.")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; a mistake of the user is a message, not a traceback."""
    try:
        try:
            return run_command(argv)
        finally:
            sys.stdout.flush()  # here, where it can be caught that nobody reads any more
    except BrokenPipeError:
        # `| head` has seen enough. What is still in the buffer goes nowhere, so that Python, too, ends quietly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def run_command(argv: Sequence[str] | None) -> int:
    grammar = parser()
    args, rest = grammar.parse_known_args(argv)
    if rest and args.run is not run_bench:
        grammar.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return args.run(args, rest)
    except PairfuseError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
