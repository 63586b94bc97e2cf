"""Progress bars on standard error: for long reductions, and for iterations that converge."""

from __future__ import annotations

import math
import sys
import threading
import time
from typing import TextIO

import numpy as np

WIDTH = 30


class Progress:
    """Counts finished tasks and draws a bar, at most ten times a second."""

    def __init__(self, total: int, pairs: int, label: str, stream: TextIO | None = None):
        self.total, self.pairs, self.label = max(1, total), pairs, label
        self.stream = stream or sys.stderr
        self.count = 0
        self.start = time.perf_counter()
        self._shown = 0.0
        self._lock = threading.Lock()

    def step(self) -> None:
        """One more task is done (called from any thread)."""
        with self._lock:
            self.count += 1
            now = time.perf_counter()
            if now - self._shown > 0.1:
                self._shown = now
                self._draw(now)

    def close(self) -> None:
        """Draw the final state and end the line."""
        with self._lock:
            self._draw(time.perf_counter())
            self.stream.write("\n")
            self.stream.flush()

    def _draw(self, now: float) -> None:
        share = self.count / self.total
        filled = int(share * WIDTH)
        elapsed = max(now - self.start, 1e-9)
        rate = self.pairs * share / elapsed
        left = elapsed / share - elapsed if share else float("nan")
        bar = "#" * filled + "-" * (WIDTH - filled)
        text = f"\r{self.label} [{bar}] {share:4.0%}  {rate:.2e} pairs/s  {left:.1f} s left "
        self.stream.write(text)
        self.stream.flush()


class Convergence:
    """How far an iteration has come from its first residual to its tolerance, on a logarithmic scale."""

    def __init__(self, label: str, stream: TextIO | None = None):
        self.label, self.stream = label, stream or sys.stderr
        self.start = time.perf_counter()
        self._shown = 0.0
        self._first: float | None = None
        self._text = ""

    def step(self, iteration: int, residuals: np.ndarray, tolerances: np.ndarray) -> None:
        """The norms of the residuals after an iteration; the worst column is shown."""
        ratio = float(np.max(np.divide(residuals, tolerances, out=np.ones_like(residuals), where=tolerances > 0)))
        self._first = max(ratio, 1.0) if self._first is None else self._first
        share = 1.0 if ratio <= 1 else max(0.0, 1 - math.log(ratio) / max(math.log(self._first), 1e-9))
        filled = int(min(share, 1.0) * WIDTH)
        bar = "#" * filled + "-" * (WIDTH - filled)
        now = time.perf_counter()
        rate = iteration / max(now - self.start, 1e-9)
        self._text = f"\r{self.label} [{bar}] iteration {iteration}, residual {ratio:.1e} x tolerance, {rate:.1f}/s "
        if now - self._shown > 0.1:
            self._shown = now
            self._draw()

    def close(self) -> None:
        """Draw the final state and end the line."""
        self._draw()
        self.stream.write("\n")
        self.stream.flush()

    def _draw(self) -> None:
        self.stream.write(self._text)
        self.stream.flush()
