"""A progress bar for long reductions, on standard error."""

from __future__ import annotations

import sys
import threading
import time
from typing import TextIO

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
