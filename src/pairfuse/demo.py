"""The demo: pairwise computations on the colours of a real photograph, all pixels against all.

In: the photograph ``china.jpg`` that ships inside scikit-learn (427 x 640 = 273,280 pixels). Out: pictures, and for
each computation its size, its seconds and the memory that a dense matrix would have taken. Nothing is sampled: the
density of each pixel is a sum over all the others, and its gradient another one.

Three uses of the library in one page each: a sum (:func:`colour_density`), an argmin (:func:`quantise`) and a gradient
through torch (:func:`shift_towards_mean`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from pairfuse.config import config
from pairfuse.torch import LazyTensor

BANDWIDTH = 0.05  # of the Gaussian, in units of the colour range [0, 1]: about 13 of 255 levels
COLOURS = 16
ITERATIONS = 10

# Dark blue, green, yellow: low, middle and high density.
RAMP = np.array([[0.05, 0.03, 0.25], [0.10, 0.35, 0.55], [0.25, 0.70, 0.45], [0.98, 0.92, 0.30]])


def run(folder: Path, stride: int = 1) -> int:
    """Run the three computations on every ``stride``-th pixel and write the pictures into ``folder``."""
    photograph = load_sample_image("china.jpg")[::stride, ::stride]
    height, width, _ = photograph.shape
    x = torch.from_numpy(photograph.reshape(-1, 3).astype(np.float32) / 255).requires_grad_()
    n = len(x)
    print(f"china.jpg: {height} x {width} = {n:,} pixels, colours in [0, 1]^3, float32, {threads()}")
    print(f"A dense {n:,} x {n:,} matrix of float32 would take {4 * n * n / 1e9:,.0f} GB.\n")

    # The gradient in x comes out of the same pass as the density.
    with timed(
        "colour density of every pixel (Gaussian sum), and the gradient of its logarithm (torch.autograd)", n, n
    ):
        density = colour_density(x)
        shifted = shift_towards_mean(x, density)
    with timed(f"{COLOURS} colours by K-means (argmin), {ITERATIONS} steps", n, COLOURS, ITERATIONS):
        palette, labels = quantise(x.detach())
    print(f"\none step uphill moves a colour by {255 * distance(x, shifted):.1f} of 255 levels on average")
    print(f"{COLOURS} colours are {255 * distance(x, palette[labels]):.1f} levels from the photograph on average\n")

    pictures = {
        "1-photograph": x,
        "2-density": ramp(density.detach().log()),
        "3-one-step-uphill": shifted,
        f"4-{COLOURS}-colours": palette[labels],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, colours in pictures.items():
        pixels = (255 * colours.detach().clamp(0, 1)).round().to(torch.uint8).numpy()
        Image.fromarray(pixels.reshape(height, width, 3)).save(folder / f"{name}.png")
        print(f"wrote {folder / name}.png")
    return 0


def colour_density(x: torch.Tensor) -> torch.Tensor:
    """Gaussian kernel density of each colour among all of them: a_i = mean_j exp(-|x_i - x_j|^2 / 2 s^2), (N, 1).

    The sum runs over a detached copy, so that the gradient is that of the density *at* x_i, the others held still.
    """
    d_ij = squared_distances(x, x.detach())
    return (-d_ij / (2 * BANDWIDTH**2)).exp().sum(dim=1, progress=True) / len(x)


def shift_towards_mean(x: torch.Tensor, density: torch.Tensor) -> torch.Tensor:
    """One step of gradient ascent on the log density, of length s^2: the mean shift (Fukunaga and Hostetler, 1975).

    With this length, x_i lands on the mean of all colours under the Gaussian weights around x_i.
    """
    (gradient,) = torch.autograd.grad(density.log().sum(), [x])
    return (x + BANDWIDTH**2 * gradient).detach()


def quantise(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """K-means (Lloyd, 1982): the palette (K, 3) and the number of the nearest palette colour of each pixel (N,)."""
    palette = spread_colours(x)
    labels = nearest(x, palette)
    for _ in range(ITERATIONS - 1):
        counts = torch.bincount(labels, minlength=COLOURS)[:, None]
        sums = torch.zeros_like(palette).index_add_(0, labels, x)
        palette = torch.where(counts > 0, sums / counts.clamp(min=1), palette)  # an empty class keeps its colour
        labels = nearest(x, palette)
    return palette, labels


def spread_colours(x: torch.Tensor) -> torch.Tensor:
    """Colours far from each other to start from: k-means++ (Arthur and Vassilvitskii, 2007), always the same draw."""
    random = torch.Generator().manual_seed(0)
    palette = x[torch.randint(len(x), (1,), generator=random)]
    while len(palette) < COLOURS:
        to_palette = squared_distances(x, palette).min(dim=1).view(-1)
        palette = torch.cat([palette, x[torch.multinomial(to_palette, 1, generator=random)]])
    return palette


def nearest(x: torch.Tensor, palette: torch.Tensor) -> torch.Tensor:
    """The number of the palette colour that is nearest to each colour."""
    return squared_distances(x, palette).argmin(dim=1).view(-1)


def squared_distances(x: torch.Tensor, y: torch.Tensor) -> LazyTensor:
    """The symbolic matrix of |x_i - y_j|^2: a formula and two small arrays, whatever their lengths."""
    x_i, y_j = LazyTensor(x[:, None, :]), LazyTensor(y[None, :, :])
    return ((x_i - y_j) ** 2).sum(dim=2)


@contextmanager
def timed(title: str, rows: int, columns: int, times: int = 1) -> Iterator[None]:
    """Print what runs, its size, how long it took (compilation included) and its speed."""
    print(title)
    begin = time.perf_counter()
    yield
    seconds = time.perf_counter() - begin
    pairs = rows * columns * times
    print(f"    {pairs:,} pairs in {seconds:.2f} s: {pairs / seconds:.1e} pairs per second")


def threads() -> str:
    count = config.thread_count
    return f"{count} thread{'s' if count != 1 else ''}"


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean Euclidean distance between two lists of colours."""
    return (a - b).detach().norm(dim=1).mean().item()


def ramp(values: torch.Tensor) -> torch.Tensor:
    """Colours for a column of numbers, from the lowest to the highest."""
    v = values.view(-1).double().numpy()
    v = (v - v.min()) / max(float(np.ptp(v)), 1e-30)
    knots = np.linspace(0, 1, len(RAMP))
    return torch.from_numpy(np.stack([np.interp(v, knots, channel) for channel in RAMP.T], axis=1))
