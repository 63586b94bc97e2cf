"""Time, memory and ratios of derivatives: what the tables of cases.py, which compare engines, do not show.

In: the name of a measurement and a size.  Out: one JSON line, from a fresh process.

Seconds, and bytes beyond what is kept, of one call:

    parameters   gradient of a formula in its 10 parameters, 100,000 x 100,000 pairs
    hessian      a Hessian-vector product of a Gaussian energy, 20,000 points; and how far that of 1,000 points is from
                 dense torch in float64, relative to its largest entry
    nearest      value and gradient of the 10 nearest points, 20,000 x 20,000
    training     1000 steps of gradient descent on 500 points: what the last 900 of them leave behind

Two ways to the same, in turns, and the ratio of their medians:

    slopes       value and gradient in x alone / the value alone, of a Gaussian density, 10,000 x 10,000
    compiled     a function of three reductions with its gradient, under torch.compile / as it is, 2,000 x 2,000
"""

from __future__ import annotations

import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.memory import ROOT, peak

SIZES = {
    "parameters": 100_000,
    "hessian": 20_000,
    "nearest": 20_000,
    "training": 500,
    "slopes": 10_000,
    "compiled": 2_000,
}
TITLES = {
    "parameters": "gradient in 10 parameters, {0:,} x {0:,}",
    "hessian": "Hessian-vector product of a Gaussian energy, {0:,} points",
    "nearest": "10 nearest points with gradient, {0:,} x {0:,}",
    "training": "1000 steps of gradient descent, {0:,} points: memory of the last 900",
    "slopes": "density with gradient in x / density alone, {0:,} x {0:,}",
    "compiled": "three reductions with gradient, torch.compile / eager, {0:,} x {0:,}",
}
ROUNDS = 21
WARM = 1000  # points of the call that imports and compiles


def measure(name: str, size: int) -> dict[str, Any]:
    """Run :func:`main` in a process of its own and return what it found."""
    command = [sys.executable, "-m", "benchmarks.derivatives", name, str(size)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if finished.returncode:
        return {"failed": finished.stderr.strip().rpartition("\n")[2]}
    return json.loads(finished.stdout)


def points(n: int, dim: int = 3, seed: int = 0) -> Any:
    torch = importlib.import_module("torch")
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def lazy(x: Any, axis: int) -> Any:
    return importlib.import_module("pairfuse.torch").LazyTensor(x, axis=axis)


def grad(*arguments: Any, **options: Any) -> Any:
    return importlib.import_module("torch").autograd.grad(*arguments, **options)


def gaussian(x: Any, y: Any) -> Any:
    return (-((lazy(x, 0) - lazy(y, 1)) ** 2).sum(-1)).exp()


# ---------------------------------------------------------------------- one call


def parameters(n: int) -> None:
    """Ten inverse widths: sum over all pairs of exp(-sum_k p_k (x_ik - y_jk)^2)."""
    x, y = points(n, 10).detach(), points(n, 10, seed=1).detach()
    p = points(1, 10).detach()[0].exp().requires_grad_()
    squares = (lazy(x, 0) - lazy(y, 1)) ** 2
    grad((-(squares * lazy(p, 2)).sum(-1)).exp().sum(dim=(0, 1)).sum(), [p])


def hessian(n: int) -> Any:
    x, v = points(n), points(n, seed=1).detach()
    (g,) = grad(gaussian(x, x).sum(dim=1).sum(), [x], create_graph=True)
    return grad((g * v).sum(), [x])[0]


def nearest(n: int) -> None:
    x, y = points(n), points(n, seed=1)
    grad(((lazy(x, 0) - lazy(y, 1)) ** 2).sum(-1).Kmin(10, dim=1).sum(), [x, y])


ONE_CALL: dict[str, Callable[[int], Any]] = {"parameters": parameters, "hessian": hessian, "nearest": nearest}


def deviation() -> float:
    """Of the Hessian-vector product at a small size, from that of dense matrices in float64."""
    x, v = (points(WARM, seed=seed).detach().double() for seed in (0, 1))
    x.requires_grad_()
    (g,) = grad((-((x[:, None] - x) ** 2).sum(-1)).exp().sum(), [x], create_graph=True)
    (expected,) = grad((g * v).sum(), [x])
    return float((hessian(WARM).double() - expected).abs().max() / expected.abs().max())


def one_call(name: str, size: int) -> dict[str, Any]:
    """Everything is warm before the large call: only its own memory counts, not that of imports and compilers."""
    ONE_CALL[name](WARM)
    before, begin = peak(), time.perf_counter()
    ONE_CALL[name](size)
    found = {"seconds": time.perf_counter() - begin, "bytes": max(0, peak() - before)}
    return found | ({"error": deviation()} if name == "hessian" else {})


def training(size: int) -> dict[str, Any]:
    x, y = points(size), points(size, seed=1).detach()

    def descend(steps: int) -> None:
        for _ in range(steps):
            (g,) = grad(gaussian(x, y).sum(dim=1).log().sum(), [x])
            x.data.sub_(g, alpha=0.01)

    descend(100)
    before, begin = peak(), time.perf_counter()
    descend(900)
    return {"seconds": time.perf_counter() - begin, "bytes": max(0, peak() - before)}


# ---------------------------------------------------------------------- two ways


def slopes(n: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    x, y, w = points(n), points(n, seed=1).detach(), points(n, 1, seed=2).detach()
    return lambda: grad(gaussian(x, y).sum(dim=1), [x], w), lambda: gaussian(x.detach(), y).sum(dim=1)


def compiled(n: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    x, y = points(n), points(n, seed=1)
    face = importlib.import_module("pairfuse.torch").LazyTensor

    def f(x: Any, y: Any) -> Any:
        squares = ((face(x, axis=0) - face(y, axis=1)) ** 2).sum(-1)
        density, soft = (-squares).exp().sum(dim=1), (-squares / 0.5).logsumexp(dim=1)
        return ((density + soft).tanh() * squares.min(dim=1)).sum()

    fast = importlib.import_module("torch").compile(f, fullgraph=True)
    return lambda: grad(fast(x, y), [x, y]), lambda: grad(f(x, y), [x, y])


TWO_WAYS: dict[str, Callable[[int], tuple[Callable[[], Any], Callable[[], Any]]]] = {
    "slopes": slopes,
    "compiled": compiled,
}


def two_ways(name: str, size: int) -> dict[str, Any]:
    pair = TWO_WAYS[name](size)
    samples: tuple[list[float], list[float]] = ([], [])
    for turn in range(ROUNDS + 2):
        for k in (turn % 2, 1 - turn % 2):
            begin = time.perf_counter()
            pair[k]()
            samples[k].append(time.perf_counter() - begin)
    first, second = (statistics.median(s[2:]) for s in samples)  # the first two calls import and compile
    return {"seconds": first, "other_seconds": second, "ratio": first / second}


def main(name: str, size: int) -> None:
    if name == "training":
        found = training(size)
    else:
        found = two_ways(name, size) if name in TWO_WAYS else one_call(name, size)
    print(json.dumps({"size": size} | found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
