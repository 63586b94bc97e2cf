"""Progress bars on standard error: for long reductions, and for iterations that converge."""

from __future__ import annotations

import math
import sys
import threading
import time
from typing import TextIO

import numpy as np

WIDTH = 30
SCREEN, FILE = 0.1, 10.0  # seconds between two states that are shown
now = time.perf_counter  # tests have a clock of their own


class _Display:
    """Where the state of something long is shown: on a screen or in a notebook in place, else in lines of a file.

    On a screen it is drawn over itself, ten times a second at most; what is drawn into a file or a pipe stays there, so
    that it is a line every ten seconds, and one at the end.
    """

    def __init__(self, stream: TextIO | None):
        self.stream = stream or sys.stderr
        self.in_place = _is_screen(self.stream)
        self.every = SCREEN if self.in_place else FILE
        self.start = now()
        self._shown = 0.0 if self.in_place else self.start

    def due(self, time: float) -> bool:
        """Is it time to show the state again? From then on it is counted anew."""
        if time - self._shown <= self.every:
            return False
        self._shown = time
        return True

    def show(self, text: str, last: bool = False) -> None:
        """The state as text; the last one ends the line."""
        self.stream.write(f"\r{text} " if self.in_place else f"{text}\n")
        if last and self.in_place:
            self.stream.write("\n")
        self.stream.flush()


def _is_screen(stream: TextIO) -> bool:
    """A terminal, or the output of a notebook's cell."""
    if type(stream).__module__.partition(".")[0] == "ipykernel":
        return True
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # what stands for a stream may have no such method, or be closed
        return False


def _bar(share: float) -> str:
    filled = int(min(share, 1.0) * WIDTH)
    return "#" * filled + "-" * (WIDTH - filled)


class Progress:
    """Counts finished tasks and draws a bar."""

    def __init__(self, total: int, pairs: int, label: str, stream: TextIO | None = None):
        self.total, self.pairs, self.label = max(1, total), pairs, label
        self.display = _Display(stream)
        self.count = 0
        self._lock = threading.Lock()

    def step(self) -> None:
        """One more task is done (called from any thread)."""
        with self._lock:
            self.count += 1
            time = now()
            if self.display.due(time):
                self.display.show(self._text(time))

    def close(self) -> None:
        """Draw the final state and end the line."""
        with self._lock:
            self.display.show(self._text(now()), last=True)

    def _text(self, time: float) -> str:
        share = self.count / self.total
        elapsed = max(time - self.display.start, 1e-9)
        rate = self.pairs * share / elapsed
        left = elapsed / share - elapsed if share else float("nan")
        return f"{self.label} [{_bar(share)}] {share:4.0%}  {rate:.2e} pairs/s  {left:.1f} s left"


class Convergence:
    """How far an iteration has come from its first residual to its tolerance, on a logarithmic scale."""

    def __init__(self, label: str, stream: TextIO | None = None):
        self.label, self.display = label, _Display(stream)
        self._first: float | None = None
        self._text = ""

    def step(self, iteration: int, residuals: np.ndarray, tolerances: np.ndarray) -> None:
        """The norms of the residuals after an iteration; the worst column is shown."""
        ratio = float(np.max(np.divide(residuals, tolerances, out=np.ones_like(residuals), where=tolerances > 0)))
        self._first = max(ratio, 1.0) if self._first is None else self._first
        share = 1.0 if ratio <= 1 else max(0.0, 1 - math.log(ratio) / max(math.log(self._first), 1e-9))
        time = now()
        rate = iteration / max(time - self.display.start, 1e-9)
        where = f"iteration {iteration}, residual {ratio:.1e} x tolerance, {rate:.1f}/s"
        self._text = f"{self.label} [{_bar(share)}] {where}"
        if self.display.due(time):
            self.display.show(self._text)

    def close(self) -> None:
        """Draw the final state and end the line."""
        self.display.show(self._text, last=True)
