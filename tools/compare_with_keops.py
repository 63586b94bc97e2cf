"""Programs in PyKeOps' words, run by PyKeOps and by Pairfuse's drop-in, and compared.

    make compare-keops            (PyKeOps compiles for about ten minutes the first time)
    python tools/compare_with_keops.py --run OUT.pickle [--pykeops]

Without `--run`, both environments run every program in a process of their own, and a line for each says whether shapes,
types and numbers agree.  What differs for a reason is in `KNOWN`, with it.
"""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keops_programs
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = {"Pairfuse": ROOT / ".venv/bin/python", "PyKeOps": ROOT / ".venv-keops/bin/python"}
TOLERANCE = 1e-6
# Programs whose results are not the same, and why that is right.
KNOWN = {
    "softdtw": "PyKeOps 2.3 does not follow the recursion of soft-DTW; the tests compare ours with it",
    "tools": "numpytools().arraysum(x, axis=0) is an error there",
    "weights of clusters": "float32 there, the type of the points here",
}

Program = Callable[[Any], Any]
PROGRAMS: dict[str, Program] = dict(keops_programs.PROGRAMS)


def program(name: str) -> Callable[[Program], Program]:
    def register(f: Program) -> Program:
        PROGRAMS[name] = f
        return f

    return register


class Words:
    """PyKeOps' names for tensors (`Vi`) and, with the suffix `_np`, for arrays; and data that is the same for both."""

    def __init__(self) -> None:
        torch = importlib.import_module("torch")
        for suffix, module in (("", "pykeops.torch"), ("_np", "pykeops.numpy")):
            found = importlib.import_module(module)
            for name in ("LazyTensor", "Vi", "Vj", "Pm", "Genred", "KernelSolve", "generic_sum", "generic_argkmin",
                         "generic_argmin", "generic_logsumexp"):  # fmt: skip
                setattr(self, name + suffix, getattr(found, name))
        self.cluster = importlib.import_module("pykeops.torch.cluster")
        self.torch, rng = torch, np.random.default_rng(0)
        self.X, self.Y, self.B = rng.random((50, 3)), rng.random((40, 3)), rng.random((40, 2))
        self.x, self.y, self.b = (torch.from_numpy(a) for a in (self.X, self.Y, self.B))
        self.s = torch.tensor([0.3, 0.5, 0.7], dtype=torch.float64)
        self.g = torch.tensor([0.5], dtype=torch.float64)

    def module(self, name: str) -> Any:
        """A module of the package: "numpy.utils"."""
        return importlib.import_module(f"pykeops.{name}")

    def __getattr__(self, name: str) -> Any:  # for type checkers: the names are set above
        raise AttributeError(name)


XY = ["x = Vi(3)", "y = Vj(3)"]

# ---------------------------------------------------------------------- linear systems


@program("kernel ridge regression")
def _(w: Words) -> Any:
    gaussian = (-w.Vi(w.x).sqdist(w.Vj(w.x)) / 0.08).exp()
    return gaussian.solve(w.Vi(w.x.sum(-1, keepdim=True)), alpha=0.1, eps=1e-9)


@program("KernelSolve and its gradient")
def _(w: Words) -> Any:
    b = w.x[:, :2].clone().requires_grad_()
    aliases = [*XY, "a = Vj(2)", "g = Pm(1)"]
    u = w.KernelSolve("Exp(-g * SqDist(x,y)) * a", aliases, "a", axis=1)(w.x, w.x, b, w.g, alpha=0.2, eps=1e-9)
    return u, *w.torch.autograd.grad((u**2).sum(), b)


# ---------------------------------------------------------------------- formula strings


@program("generic_sum")
def _(w: Words) -> Any:
    aliases = ("G = Pm(1)", "X = Vi(3)", "Y = Vj(3)", "B = Vj(2)")
    return w.generic_sum("Exp(-G * SqDist(X,Y) ) * B", "A = Vi(2)", *aliases)(w.g, w.x, w.y, w.b)


@program("generic_logsumexp, generic_argkmin")
def _(w: Words) -> Any:
    sums = w.generic_logsumexp("-SqDist(X,Y)", "A = Vi(1)", "X = Vi(3)", "Y = Vj(3)")(w.x, w.y)
    return sums, w.generic_argkmin("SqDist(X,Y)", "A = Vi(4)", "X = Vi(3)", "Y = Vj(3)")(w.x, w.y)


@program("Grad in a formula")
def _(w: Words) -> Any:
    aliases = ["g = Pm(1)", *XY, "b = Vj(2)", "e = Vi(2)"]
    f = w.Genred("Grad(Exp(-g*SqDist(x,y))*b, x, e)", aliases, reduction_op="Sum", axis=1)
    return f(w.g, w.x, w.y, w.b, w.x[:, :2].contiguous())


@program("GradMatrix, Divergence, Laplacian")
def _(w: Words) -> Any:
    texts = (
        "GradMatrix(SqNorm2(x-y)*(x|y), x)",
        "Divergence(x*Exp(-SqNorm2(x-y)), x)",
        "Laplacian(Exp(-SqNorm2(x-y)), x)",
    )
    return [w.Genred_np(text, XY, axis=1)(w.X, w.Y) for text in texts]


@program("reductions of Genred")
def _(w: Words) -> Any:
    options = {"KMin": {"opt_arg": 2}, "KMin_ArgKMin": {"opt_arg": 2}}
    found: list[Any] = [w.Genred_np("SqDist(x,y)", XY)(w.X, w.Y)]  # over i, the default
    for name in ("Sum", "LogSumExp", "Min", "ArgMin", "Max_ArgMax", "KMin", "KMin_ArgKMin"):
        given = options.get(name, {})
        result = w.Genred_np("SqDist(x,y)", XY, reduction_op=name, axis=1, **given)(w.X, w.Y)
        found += result if isinstance(result, tuple) else [result]
    softmax = w.Genred_np("SqDist(x,y)", [*XY, "b = Vj(2)"], reduction_op="SumSoftMaxWeight", formula2="b", axis=1)
    return [*found, softmax(w.X, w.Y, w.B)]


@program("complex formulas")
def _(w: Words) -> Any:
    v, z, u = w.Y[:, :2].copy(), w.X[:, :2].copy(), w.Y[:, 1:] + 2
    two = ["z = Vi(2)", "w = Vj(2)"]
    return (
        w.Genred_np("ComplexDivide(v,z-w)", ["v = Vj(2)", *two], axis=1)(v, z, u),
        w.Genred_np("ComplexMult(ComplexExp(z),w)", two, axis=1)(z, u),
        w.Genred_np("ComplexAbs(z-w)", two, axis=1)(z, u),
    )


# ---------------------------------------------------------------------- LazyTensors


@program("shapes")
def _(w: Words) -> Any:
    d, difference = w.Vi(w.x).sqdist(w.Vj(w.y)), w.Vi(w.x) - w.Vj(w.y)
    numbers = [d.dim(), d.ndim, d.ni, d.nj, difference.dim()]
    return [np.array(v) for v in (d.shape, difference.shape, difference._shape, numbers)]


@program("functions")
def _(w: Words) -> Any:
    d, p = w.Vi(w.x) - w.Vj(w.y), w.Vi(w.x) + w.Vj(w.y) + 0.1
    of_all = [
        getattr(d, n)()
        for n in ("abs", "sin", "cos", "exp", "square", "sign", "step", "relu", "sqnorm2", "norm2", "atan")
    ]
    of_positive = [getattr(p, n)() for n in ("sqrt", "rsqrt", "log", "xlogx", "sinxdivx", "sinc", "normalize")]
    powers = [p**1.5, p**3, p**-1, p.power(0.5), 2 / p, p.mod(0.3, 0.1), p.clamp(0.5, 1), d.round(1)]
    return [f.sum(1) for f in (*of_all, *of_positive, *powers)]


@program("components")
def _(w: Words) -> Any:
    d, e = w.Vi(w.x) - w.Vj(w.y), w.Vi(w.x) * w.Vj(w.y)
    formulas = (d.ifelse(e, 2 * e), d.atan2(e), d.concat(e), d.elem(1), d.extract(1, 2), d[1:], d[0], d.sum(-1),
                d.max(-1), d.argmin(-1), w.Vi(w.x).weightedsqdist(w.Vj(w.y), w.Pm(w.s)))  # fmt: skip
    return [f.sum(1) for f in formulas]


@program("tensor products")
def _(w: Words) -> Any:
    a, c = w.x[:6, :2].reshape(2, 6).contiguous(), w.y[:8].reshape(4, 6).contiguous()
    a_i, c_j = w.Vi(a), w.Vj(c)
    return [f.sum(1) for f in (
        a_i.keops_tensordot(c_j, (2, 3), (2, 3), (0, 1), (0, 1)), a_i.tensorprod(c_j),
        a_i.keops_kron(c_j, (2, 3), (3, 2)),
        a_i.matvecmult(w.Vj(c[:, :3].contiguous())), w.Vi(a[:, :2].contiguous()).vecmatmult(c_j),
    )]  # fmt: skip


@program("one_hot")
def _(w: Words) -> Any:
    i = w.torch.tensor([[0.0], [1.0], [2.0], [1.0]], dtype=w.torch.float64)
    return (w.Vi(i).one_hot(3) * w.Vj(w.y)).sum(1)


@program("softdtw")
def _(w: Words) -> Any:
    return w.Vi(w.x).softdtw_sqdist(w.Vj(w.y), w.Pm(w.g)).sum(1)


@program("complex numbers")
def _(w: Words) -> Any:
    z, u = w.Vi(w.torch.complex(w.x, 2 * w.x)), w.Vj(w.torch.complex(w.y, -w.y))
    formulas = (z * u, (z * u).exp(), abs(z * u), z / u, (z + u).conj(), (z - u).real, (z * u).angle())
    return [*(f.sum(1) for f in formulas), w.Vi(w.x).exp1j().sum(0)]


@program("selections")
def _(w: Words) -> Any:
    d, e = w.Vi(w.x).sqdist(w.Vj(w.y)), w.Vi(w.x) * w.Vj(w.y)
    return (*d.Kmin_argKmin(3, dim=1), d.min(dim=1), d.argmin(dim=0), *d.max_argmax(dim=1), e.min(dim=1),
            e.argmax(dim=1), e.Kmin(2, dim=1))  # fmt: skip


@program("softmax and logsumexp")
def _(w: Words) -> Any:
    scores = -w.Vi(w.x).sqdist(w.Vj(w.y))
    return (
        scores.sumsoftmaxweight(w.Vj(w.b), dim=1), scores.logsumexp(dim=1, weight=w.Vj(w.b)), scores.logsumexp(dim=0),
    )  # fmt: skip


@program("products with matrices, SciPy")
def _(w: Words) -> Any:
    k = (-w.Vi(w.x).sqdist(w.Vj(w.y))).exp()
    linalg = importlib.import_module("scipy.sparse.linalg")
    operator = linalg.aslinearoperator((-w.Vi_np(w.X).sqdist(w.Vj_np(w.X))).exp())
    largest = np.sort(linalg.eigsh(operator, k=3, v0=np.ones(50))[0])
    return (
        k @ w.b,
        k @ w.b[:, 0].contiguous(),
        k.t() @ w.x[:, :1].contiguous(),
        k.T @ w.x,
        largest,
        operator @ w.X[:, 0],
    )


@program("batches")
def _(w: Words) -> Any:
    a, c = w.x[:42].reshape(2, 1, 21, 1, 3), w.y[:39].reshape(1, 3, 1, 13, 3)
    return (-((w.LazyTensor(a) - w.LazyTensor(c)) ** 2).sum(-1)).exp().sum(3)


@program("symbolic variables, grad")
def _(w: Words) -> Any:
    f = (-(w.Vi(0, 3) - w.Vj(1, 3)).sqnorm2() * w.Pm(2, 1)).exp().sum(1)
    a = w.Vi_np(w.X)
    slope = (-(a - w.Vj_np(w.Y)).sqnorm2()).exp().grad(a, w.Vi_np(w.X[:, :1].copy()))
    return f(w.x, w.y, w.g), slope.sum(1)


@program("second derivatives")
def _(w: Words) -> Any:
    leaves = [t.clone().requires_grad_() for t in (w.x, w.y, w.s)]
    a, q, p = leaves
    value = (-w.Vi(a).weightedsqdist(w.Vj(q), w.Pm(p))).exp() @ w.b
    first = w.torch.autograd.grad((value**2).sum(), leaves, create_graph=True)
    return *first, *w.torch.autograd.grad(sum((t**2).sum() for t in first), leaves)


# ---------------------------------------------------------------------- block-sparse


def clusters(w: Words) -> Any:
    c = w.cluster
    labels = [c.grid_cluster(t, 0.3) for t in (w.x, w.y)]
    found = [c.cluster_ranges_centroids(t, label) for t, label in zip((w.x, w.y), labels, strict=True)]
    points = [c.sort_clusters(t, label)[0] for t, label in zip((w.x, w.y), labels, strict=True)]
    return *found, *points


@program("block-sparse sums")
def _(w: Words) -> Any:
    (r_i, c_i, _), (r_j, c_j, _), a, b = clusters(w)
    k = (-w.Vi(a).sqdist(w.Vj(b))).exp()
    k.ranges = w.cluster.from_matrix(r_i, r_j, ((c_i[:, None] - c_j[None]) ** 2).sum(2) < 0.3)
    # sorting is stable here, and not there: rows of a cluster may be exchanged
    return r_i, c_i, k.sum(1).sort(0).values, k.sum(0).sort(0).values


@program("weights of clusters")
def _(w: Words) -> Any:
    return clusters(w)[0][2]


# ---------------------------------------------------------------------- running and comparing


def run(out: Path, real: bool) -> None:
    """Every program by one of the two systems; the results, or the text of the error, go to a file."""
    warnings.simplefilter("ignore")
    if not real:
        importlib.import_module("pairfuse").install_as_pykeops()
    importlib.import_module("pykeops").set_verbose(False)
    words, results = Words(), {}
    for name, f in PROGRAMS.items():
        try:
            found = f(words)
            found = found if isinstance(found, (tuple, list)) else (found,)
            results[name] = [np.array(v.detach() if hasattr(v, "detach") else v) for v in found]
        except Exception as error:  # an error is an answer, too
            results[name] = "".join(traceback.format_exception_only(error)).strip()
        print(name, file=sys.stderr, flush=True)
    out.write_bytes(pickle.dumps(results))


def difference(ours: Any, theirs: Any) -> str:
    """How two answers differ, "" if they do not."""
    if isinstance(ours, str) or isinstance(theirs, str):
        said = [f"{who}: {a}" for who, a in (("Pairfuse", ours), ("PyKeOps", theirs)) if isinstance(a, str)]
        return "; ".join(said)
    if len(ours) != len(theirs):
        return f"{len(ours)} results, {len(theirs)} there"
    for k, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            return f"result {k}: {a.dtype} {a.shape}, {b.dtype} {b.shape} there"
        if not np.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE):
            return f"result {k}: off by {np.abs(a - b).max():.1e}"
    return ""


def main() -> int:
    if "--run" in sys.argv:
        run(Path(sys.argv[sys.argv.index("--run") + 1]), "--pykeops" in sys.argv)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        answers = {}
        for who, python in PYTHONS.items():
            out = Path(folder) / who
            command = [str(python), __file__, "--run", str(out), *(["--pykeops"] if who == "PyKeOps" else [])]
            subprocess.run(command, check=True)
            answers[who] = pickle.loads(out.read_bytes())
    failed = 0
    for name in PROGRAMS:
        text = difference(answers["Pairfuse"][name], answers["PyKeOps"][name])
        failed += bool(text) and name not in KNOWN
        print(f"{name:40} {(text and (f'{text} ({KNOWN[name]})' if name in KNOWN else text)) or 'same'}")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
