"""What is measured: a table of cases.

In: nothing. Out: ``CASES``. A case names a formula (written for each engine in formulas.py, dense.py, classical.py and
exact.py), its sizes, the engines that are asked, and a model of the least work per pair, from which the report computes
the fraction of the machine's peak.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

ENGINES = ("pairfuse", "keops", "torch", "scipy", "sklearn")


@dataclass(frozen=True)
class Case:
    """One thing to compute: ``formula`` on M x N pairs of vectors of length D, with E columns on the right."""

    name: str
    title: str
    formula: str
    M: int
    N: int
    D: int = 3
    E: int = 1
    K: int = 1
    face: str = "numpy"
    dtypes: tuple[str, ...] = ("float32", "float64")
    engines: tuple[str, ...] = ENGINES
    scale: float = 1.0  # standard deviation of the coordinates
    block: int = 0  # points of a block of the block-sparse cases
    share: float = 1.0  # of the pairs of blocks that take part
    steps: int = 0  # of an iterative algorithm

    @property
    def pairs(self) -> int:
        return round(self.M * self.N * self.share)

    def smaller(self, factor: int) -> Case:
        """The same with fewer rows and columns, to try the suite itself."""
        return replace(self, M=max(self.K, self.M // factor), N=max(self.K + 1, self.N // factor))

    def operations(self, dtype: str) -> float:
        """Vector operations on the fused-multiply-add units that one pair needs at the least; see WORK."""
        return WORK[self.formula](self, EXP[dtype])


# A polynomial for 2^t of the accuracy of the type, everything else of the exponential being done on other units.
EXP = {"float32": 5, "float64": 11}

# The least number of multiply-add operations per pair. A squared distance or an inner product costs D of them when
# |x|^2, |y|^2 and all constants are folded into rows and columns; each accumulated component costs one.
WORK: dict[str, Callable[[Case, int], float]] = {
    "gaussian": lambda c, exp: c.D + exp + c.E,
    "block_sparse": lambda c, exp: c.D + exp + c.E,
    "argkmin": lambda c, exp: c.D + 1,
    "argmin": lambda c, exp: c.D + 1,
    "logsumexp": lambda c, exp: c.D + exp + 1,
    "density_gradient": lambda c, exp: c.D + exp + 1 + 2 * c.D,
    # a step has two log-sum-exps; each takes another pass for the derivatives in the other potential, x and y
    "sinkhorn_gradient": lambda c, exp: 2 * c.steps * (2 * (c.D + exp + 1) + 2 * c.D),
    "attention": lambda c, exp: c.D + exp + 1 + c.E,
    # sine and cosine are two polynomials of half the degree of the exponential's range, after one reduction
    "fourier": lambda c, exp: c.D + 2 + 2 * exp + 4,
}

CASES = (
    Case("gaussian-d3", "Gaussian matrix times vector, D=3", "gaussian", 10_000, 10_000),
    Case("gaussian-d64", "Gaussian matrix times vector, D=64", "gaussian", 10_000, 10_000, D=64, scale=64**-0.5),
    Case("gaussian-wide", "Gaussian matrix times 100 columns, D=3", "gaussian", 10_000, 10_000, E=100),
    Case("gaussian-few-rows", "Gaussian, 10 rows x 3,000,000 columns, D=3", "gaussian", 10, 3_000_000),
    Case(
        "gaussian-d3-large",
        "Gaussian matrix times vector, D=3, 100,000 points",
        "gaussian",
        100_000,
        100_000,
        dtypes=("float32",),
        engines=("pairfuse",),
    ),
    Case(
        "block-sparse-d3",
        "the same, 5 % of the blocks of 250 points kept (ranges)",
        "block_sparse",
        100_000,
        100_000,
        dtypes=("float32",),
        engines=("pairfuse", "keops"),
        block=250,
        share=0.05,
    ),
    Case("logsumexp-d3", "log-sum-exp of squared distances, D=3", "logsumexp", 10_000, 10_000),
    Case("argmin-d3", "nearest point, D=3", "argmin", 10_000, 10_000),
    Case("argkmin-d3", "10 nearest points, D=3", "argkmin", 10_000, 10_000, K=10),
    Case(
        "argkmin-d3-large",
        "10 nearest points, D=3, 100,000 points",
        "argkmin",
        100_000,
        100_000,
        K=10,
        dtypes=("float32",),
        engines=("pairfuse", "keops", "scipy", "sklearn"),
    ),
    Case("argkmin-d64", "10 nearest points, D=64", "argkmin", 10_000, 10_000, D=64, K=10, scale=64**-0.5),
    Case("argmin-d64", "nearest point, D=64", "argmin", 10_000, 10_000, D=64, scale=64**-0.5),
    Case(
        "density-gradient-d3",
        "kernel density, value and gradient in x and y, D=3",
        "density_gradient",
        10_000,
        10_000,
        face="torch",
        engines=("pairfuse", "keops", "torch"),
    ),
    Case(
        "sinkhorn-gradient-d3",
        "50 Sinkhorn iterations, value and gradient in x and y, D=3",
        "sinkhorn_gradient",
        5000,
        5000,
        face="torch",
        dtypes=("float32",),
        engines=("pairfuse", "keops"),  # autograd on matrices would keep 100 of them, 10 GB
        steps=50,
    ),
    Case(
        "attention-d64",
        "softmax attention, D=64, 4096 x 4096",
        "attention",
        4096,
        4096,
        D=64,
        E=64,
        scale=64**-0.25,  # scores of standard deviation 1
        engines=("pairfuse", "keops", "torch"),
    ),
    Case(
        "fourier-d3",
        "non-uniform Fourier transform, complex, D=3",
        "fourier",
        10_000,
        10_000,
        scale=3.0,
        engines=("pairfuse", "keops", "torch"),
    ),
    Case(
        "small-numpy",
        "warm call, Gaussian 100 x 100, NumPy arrays",
        "gaussian",
        100,
        100,
        engines=("pairfuse", "keops"),
    ),
    Case(
        "small-torch",
        "warm call, Gaussian 100 x 100, torch tensors",
        "gaussian",
        100,
        100,
        face="torch",
        engines=("pairfuse", "keops", "torch"),
    ),
)
