"""Runs a command and says what it is doing: a line at the beginning, one every five seconds, one at the end.

In: `python tools/patiently.py "What it does" COMMAND ...`.  Out: these lines, each with the last line that the command
has printed, and its exit status; of a command that fails, all that it has printed.  Needs nothing but Python.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence

EVERY = 5.0  # seconds
WIDTH = 90  # of the command's own words


def main(title: str, command: Sequence[str]) -> int:
    print(f"{title} ...", flush=True)
    start = time.monotonic()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.extend(process.stdout or ()), daemon=True)
        reader.start()
        while reader.is_alive():
            reader.join(EVERY)
            if reader.is_alive():
                last = next((line.strip() for line in reversed(said) if line.strip()), "")
                print(f"  {time.monotonic() - start:3.0f} s  {last[:WIDTH]}", flush=True)
    if process.returncode:
        print("".join(said), file=sys.stderr)
    print(f"  {time.monotonic() - start:3.0f} s  {'failed' if process.returncode else 'done'}", flush=True)
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
