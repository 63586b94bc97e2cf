"""Progress bars: in place on a screen or in a notebook, a line every ten seconds in a file; by a clock of their own."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest

from pairfuse.runtime import progress
from pairfuse.runtime.progress import Convergence, Progress


class Clock:
    """A time that only the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 1000.0
        monkeypatch.setattr(progress, "now", lambda: self.time)


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


class Notebook(io.StringIO):
    """Its class is told by its module: that of a cell is no terminal either."""


Notebook.__module__ = "ipykernel.iostream"


class NoStream:
    """What some programs put in the place of standard error."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass

    def getvalue(self) -> str:
        return self.text


STEPS = 1000


def reduction(stream: io.StringIO, clock: Clock, step: float) -> str:
    bar = Progress(STEPS, 10**9, "sum", stream)
    for _ in range(STEPS):
        clock.time += step
        bar.step()
    bar.close()
    return stream.getvalue()


def iteration(stream: io.StringIO, clock: Clock, step: float) -> str:
    bar = Convergence("cg", stream)
    for k in range(STEPS):
        clock.time += step
        bar.step(k + 1, np.array([10.0 ** (-k / 100)]), np.array([1e-9]))
    bar.close()
    return stream.getvalue()


BARS = [reduction, iteration]


@pytest.mark.parametrize("step", [1e-3, 0.05, 0.25])
@pytest.mark.parametrize("stream", [io.StringIO, NoStream])
@pytest.mark.parametrize("bar", BARS)
def test_lines_in_a_file(
    bar: Callable[..., str], stream: type[io.StringIO], step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = bar(stream(), Clock(monkeypatch), step)
    assert "\r" not in text
    assert text.endswith("\n")
    seconds = STEPS * step
    expected = int(seconds / 10) + 1  # and the last one
    lines = text.splitlines()
    assert expected - 2 <= len(lines) <= expected
    assert all(line.startswith(("sum [", "cg [")) for line in lines)
    assert "###" in lines[-1]


@pytest.mark.parametrize("step", [1e-3, 0.05, 0.25])
@pytest.mark.parametrize("stream", [Screen, Notebook])
@pytest.mark.parametrize("bar", BARS)
def test_in_place_on_a_screen(
    bar: Callable[..., str], stream: type[io.StringIO], step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = bar(stream(), Clock(monkeypatch), step)
    assert text.count("\n") == 1
    assert text.endswith("\n")
    drawn = text.count("\r")
    assert drawn <= 10 * STEPS * step + 2
    assert drawn >= 3 * STEPS * step


def test_a_closed_stream_is_no_screen() -> None:
    stream = io.StringIO()
    stream.close()
    assert not progress._is_screen(stream)
