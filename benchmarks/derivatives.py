"""Time and memory of derivatives at sizes where a matrix would not fit, or not fast.

In: the name of a case. Out: seconds, and bytes beyond what is kept, of one call in a fresh process:

    parameters   gradient of a formula in its 10 parameters, 100,000 x 100,000 pairs
    hessian      a Hessian-vector product of a Gaussian energy, 20,000 points
    sinkhorn     50 Sinkhorn iterations and the gradient of their value, 5,000 x 5,000
    nearest      value and gradient of the 10 nearest points, 20,000 x 20,000
    training     1000 steps of gradient descent on 500 points: what the last 900 of them leave behind
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.cases import Case
from benchmarks.memory import ROOT, peak

SIZES = {"parameters": 100_000, "hessian": 20_000, "sinkhorn": 5_000, "nearest": 20_000, "training": 500}
TITLES = {
    "parameters": "gradient in 10 parameters, {0:,} x {0:,}",
    "hessian": "Hessian-vector product of a Gaussian energy, {0:,} points",
    "sinkhorn": "50 Sinkhorn iterations with gradient, {0:,} x {0:,}",
    "nearest": "10 nearest points with gradient, {0:,} x {0:,}",
    "training": "1000 steps of gradient descent, {0:,} points: memory of the last 900",
}


def measure(name: str, size: int) -> dict[str, Any]:
    """Run :func:`main` in a process of its own and return what it found."""
    command = [sys.executable, "-m", "benchmarks.derivatives", name, str(size)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if finished.returncode:
        return {"failed": finished.stderr.strip().rpartition("\n")[2]}
    return json.loads(finished.stdout)


def points(n: int, dim: int = 3) -> Any:
    torch = importlib.import_module("torch")
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(n + dim)).requires_grad_()


def lazy(x: Any, axis: int) -> Any:
    return importlib.import_module("pairfuse.torch").LazyTensor(x, axis=axis)


def grad(*arguments: Any, **options: Any) -> Any:
    return importlib.import_module("torch").autograd.grad(*arguments, **options)


def gaussian(x: Any, y: Any) -> Any:
    return (-((lazy(x, 0) - lazy(y, 1)) ** 2).sum(-1)).exp()


def parameters(n: int) -> None:
    """Ten inverse widths: sum over all pairs of exp(-sum_k p_k (x_ik - y_jk)^2)."""
    x, y = points(n, 10).detach(), points(n + 1, 10).detach()[:n]
    p = points(1, 10).detach().exp().requires_grad_()
    squares = (lazy(x, 0) - lazy(y, 1)) ** 2
    grad((-(squares * lazy(p, 2)).sum(-1)).exp().sum(dim=(0, 1)).sum(), [p])


def hessian(n: int) -> None:
    x, v = points(n), points(n + 1).detach()[:n]
    (g,) = grad(gaussian(x, x).sum(dim=1).sum(), [x], create_graph=True)
    grad((g * v).sum(), [x])


def sinkhorn(n: int) -> None:
    formulas = importlib.import_module("benchmarks.formulas")
    case = Case("", "", "sinkhorn_gradient", n, n, steps=50)
    face = importlib.import_module("pairfuse.torch").LazyTensor
    formulas.sinkhorn_gradient(face, case, 0.3 * points(n).detach(), 0.3 * points(n + 1).detach()[:n])


def nearest(n: int) -> None:
    x, y = points(n), points(n + 1)
    grad(((lazy(x, 0) - lazy(y, 1)) ** 2).sum(-1).Kmin(10, dim=1).sum(), [x, y])


CASES: dict[str, Callable[[int], None]] = {
    "parameters": parameters,
    "hessian": hessian,
    "sinkhorn": sinkhorn,
    "nearest": nearest,
}


def descend(x: Any, y: Any, steps: int) -> None:
    for _ in range(steps):
        (g,) = grad(gaussian(x, y).sum(dim=1).log().sum(), [x])
        x.data.sub_(g, alpha=0.01)


def main(name: str, size: int) -> None:
    """Everything is warm before the large call: only its own memory counts, not that of imports and compilers."""
    if name == "training":
        x, y = points(size), points(size + 1).detach()
        descend(x, y, 100)
        before, begin = peak(), time.perf_counter()
        descend(x, y, 900)
    else:
        CASES[name](1000)
        before, begin = peak(), time.perf_counter()
        CASES[name](size)
    seconds = time.perf_counter() - begin
    print(json.dumps({"size": size, "seconds": seconds, "bytes": max(0, peak() - before)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
