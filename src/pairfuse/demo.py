"""The demo: pairwise computations on the colours of a real photograph, all pixels against all.

In: the photograph ``china.jpg`` that ships inside scikit-learn (427 x 640 = 273,280 pixels). Out: pictures, and for
each computation its size, its seconds and the memory that a dense matrix would have taken. Nothing is sampled: the
density of each pixel is a sum over all the others, and its gradient another one.

Three uses of the library on NumPy arrays, in one page each: a sum with its gradient (:func:`colour_density`), a step
along that gradient (:func:`shift_towards_mean`), and an argmin (:func:`quantise`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from pairfuse.config import config
from pairfuse.numpy import LazyTensor, Vi, Vj

BANDWIDTH = 0.05  # of the Gaussian, in units of the colour range [0, 1]: about 13 of 255 levels
COLOURS = 16
ITERATIONS = 10

# Dark blue, green, yellow: low, middle and high density.
RAMP = np.array([[0.05, 0.03, 0.25], [0.10, 0.35, 0.55], [0.25, 0.70, 0.45], [0.98, 0.92, 0.30]])


def run(folder: Path, stride: int = 1) -> int:
    """Run the three computations on every ``stride``-th pixel and write the pictures into ``folder``."""
    photograph = load_sample_image("china.jpg")[::stride, ::stride]
    height, width, _ = photograph.shape
    x = photograph.reshape(-1, 3).astype(np.float32) / 255
    n = len(x)
    say(f"china.jpg: {height} x {width} = {n:,} pixels, colours in [0, 1]^3, float32, {threads()}")
    say(f"A dense {n:,} x {n:,} matrix of float32 would take {4 * n * n / 1e9:,.0f} GB.\n")
    write(folder, "1-photograph", x, height, width)

    with timed(f"{COLOURS} colours by K-means (argmin), {ITERATIONS} steps", n, COLOURS, ITERATIONS):
        palette, labels = quantise(x)
    say(f"    they are {255 * distance(x, palette[labels]):.1f} of 255 levels from the photograph on average")
    write(folder, f"2-{COLOURS}-colours", palette[labels], height, width)

    # The gradient in x comes out of the same pass as the density.
    with timed("colour density of every pixel (Gaussian sum), and its gradient", n, n):
        density, gradient = colour_density(x)
    write(folder, "3-density", ramp(np.log(density)), height, width)

    shifted = shift_towards_mean(x, density, gradient)
    say(f"one step uphill moves a colour by {255 * distance(x, shifted):.1f} of 255 levels on average")
    write(folder, "4-one-step-uphill", shifted, height, width)
    return 0


def colour_density(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian kernel density of each colour among all of them, and its slope there: (N, 1) and (N, 3).

    a_i = mean_j exp(-|x_i - x_j|^2 / 2 s^2). The slope is that of the density *at* x_i, the others held still: it is
    asked for with respect to the i-variable alone.
    """
    x_i, x_j = Vi(x), Vj(x)
    kernel = (-squared_distances(x_i, x_j) / (2 * BANDWIDTH**2)).exp()
    return kernel.value_and_grad("mean", dim=1, wrt=x_i, progress=True)


def shift_towards_mean(x: np.ndarray, density: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """One step of gradient ascent on the log density, of length s^2: the mean shift (Fukunaga and Hostetler, 1975).

    With this length, x_i lands on the mean of all colours under the Gaussian weights around x_i.
    """
    return x + BANDWIDTH**2 * gradient / density


def quantise(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """K-means (Lloyd, 1982): the palette (K, 3) and the number of the nearest palette colour of each pixel (N,)."""
    palette = spread_colours(x)
    labels = nearest(x, palette)
    for _ in range(ITERATIONS - 1):
        counts = np.bincount(labels, minlength=COLOURS)[:, None]
        sums = np.stack([np.bincount(labels, channel, COLOURS) for channel in x.T], axis=1)
        means = (sums / np.maximum(counts, 1)).astype(x.dtype)
        palette = np.where(counts > 0, means, palette)  # an empty class keeps its colour
        labels = nearest(x, palette)
    return palette, labels


def spread_colours(x: np.ndarray) -> np.ndarray:
    """Colours far from each other to start from: k-means++ (Arthur and Vassilvitskii, 2007), always the same draw."""
    random = np.random.default_rng(0)
    palette = x[random.integers(len(x), size=1)]
    while len(palette) < COLOURS:
        to_palette = squared_distances(Vi(x), Vj(palette)).min(dim=1)[:, 0].astype(np.float64)
        chosen = random.choice(len(x), p=to_palette / to_palette.sum())
        palette = np.concatenate([palette, x[chosen : chosen + 1]])
    return palette


def nearest(x: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """The number of the palette colour that is nearest to each colour."""
    return squared_distances(Vi(x), Vj(palette)).argmin(dim=1)[:, 0]


def squared_distances(x_i: LazyTensor, y_j: LazyTensor) -> LazyTensor:
    """The symbolic matrix of |x_i - y_j|^2: a formula and two small arrays, whatever their lengths."""
    return ((x_i - y_j) ** 2).sum(-1)


@contextmanager
def timed(title: str, rows: int, columns: int, times: int = 1) -> Iterator[None]:
    """Print what runs, its size, how long it took (compilation included) and its speed."""
    pairs = rows * columns * times
    say(f"{title}: {pairs:,} pairs ...")
    begin = time.perf_counter()
    yield
    seconds = time.perf_counter() - begin
    say(f"    {seconds:.2f} s: {pairs / seconds:.1e} pairs per second")


def say(text: str) -> None:
    """Print at once, also where the output is no terminal."""
    print(text, flush=True)


def threads() -> str:
    count = config.thread_count
    return f"{count} thread{'s' if count != 1 else ''}"


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean Euclidean distance between two lists of colours."""
    return float(np.linalg.norm(a - b, axis=1).mean())


def ramp(values: np.ndarray) -> np.ndarray:
    """Colours for a column of numbers, from the lowest to the highest."""
    v = values[:, 0].astype(np.float64)
    v = (v - v.min()) / max(float(np.ptp(v)), 1e-30)
    knots = np.linspace(0, 1, len(RAMP))
    return np.stack([np.interp(v, knots, channel) for channel in RAMP.T], axis=1)


def write(folder: Path, name: str, colours: np.ndarray, height: int, width: int) -> None:
    """Save colours in [0, 1] as a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.rint(255 * np.clip(colours, 0, 1)).astype(np.uint8).reshape(height, width, 3)
    Image.fromarray(pixels).save(folder / f"{name}.png")
    say(f"    wrote {folder / name}.png")
