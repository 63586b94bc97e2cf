"""More programs in PyKeOps' words, in the manner of its gallery and of the libraries that use it.

In: the words of compare_with_keops.py.  Out: lists of results; each program is run by PyKeOps and by the drop-in.
"""

from __future__ import annotations

from typing import Any

import numpy as np

PROGRAMS: dict[str, Any] = {}


def program(f: Any) -> Any:
    PROGRAMS[f.__name__.replace("_", " ").strip()] = f
    return f


@program
def truth_of_comparisons(w: Any) -> Any:
    d = w.Vi(w.x).sqdist(w.Vj(w.y))
    assert d < 1e-3
    assert d == d
    return [np.array([bool(d), bool(d > 1), callable(d), hasattr(d, "__GenericLazyTensor__")])]


@program
def k_means(w: Any) -> Any:
    x, c = w.x.contiguous(), w.x[:5].clone().contiguous()
    for _ in range(3):
        labels = ((w.LazyTensor(x[:, None]) - w.LazyTensor(c[None])) ** 2).sum(-1).argmin(dim=1).long().view(-1)
        c.zero_()
        c.scatter_add_(0, labels[:, None].repeat(1, 3), x)
        c /= w.torch.bincount(labels, minlength=5).type_as(c).view(5, 1).clamp(min=1)
    return labels, c


@program
def nearest_neighbours_with_few_points(w: Any) -> Any:
    d = w.Vi_np(w.X).sqdist(w.Vj_np(w.Y[:3].copy()))
    return (*d.Kmin_argKmin(5, dim=1), d.argKmin(2, dim=1))


@program
def mean_shift(w: Any) -> Any:
    x = w.x.clone()
    for _ in range(2):
        k = (-w.Vi(x).sqdist(w.Vj(w.x)) / 0.1).exp()
        x = (k @ w.x.contiguous()) / k.sum(dim=1)
    return (x,)


@program
def sinkhorn(w: Any) -> Any:
    cost = w.LazyTensor(w.x[:, None]).sqdist(w.LazyTensor(w.y[None])) / 2
    f, g = w.torch.zeros(50, 1, dtype=w.x.dtype), w.torch.zeros(40, 1, dtype=w.x.dtype)
    for _ in range(3):
        f = -0.1 * ((w.LazyTensor(g[None]) - cost) / 0.1).logsumexp(dim=1)
        g = -0.1 * ((w.LazyTensor(f[:, None]) - cost) / 0.1).logsumexp(dim=0)
    return f, g


@program
def conjugate_gradients_by_hand(w: Any) -> Any:
    k = (-w.Vi(w.x).sqdist(w.Vj(w.x)) / 0.1).exp()
    b = w.x[:, :1].contiguous()
    u, r = w.torch.zeros_like(b), b.clone()
    p = r.clone()
    for _ in range(60):
        q = k @ p + 0.5 * p
        a = (r * r).sum() / (p * q).sum()
        u, new = u + a * p, r - a * q
        p, r = new + (new * new).sum() / (r * r).sum() * p, new
    return u, k.solve(w.Vi(b), alpha=0.5, eps=1e-10)


@program
def tolerance_of_solve(w: Any) -> Any:
    k = (-w.Vi(w.x).sqdist(w.Vj(w.x)) / 0.1).exp()
    tiny = 1e-8 * w.x[:, :1].contiguous()
    return k.solve(w.Vi(tiny), alpha=0.5), k.solve(w.Vi(tiny), alpha=0.5, eps=1e-14)


@program
def waiting_solve(w: Any) -> Any:
    b = w.X[:, :1].copy()
    k = (-w.Vi_np(w.X).sqdist(w.Vj_np(w.X)) / 0.1).exp()
    later = k.solve(w.Vi_np(b), alpha=0.5, eps=1e-10, call=False)
    assert later.reduction_op == "Solve"
    told = np.array([later.axis, later.varindex, len(later.variables), later.other.ndim])
    return later(), later.callfun(b, *later.variables, alpha=0.5, eps=1e-10), told


@program
def waiting_reduction(w: Any) -> Any:
    k = (-w.Vi_np(w.X).sqdist(w.Vj_np(w.Y)) / 0.1).exp()
    later = k.sum(1, call=False)
    told = np.array([later.axis, later.ndim, later.ni, later.nj, len(later.variables)])
    return later(), later.callfun(*later.variables), told


@program
def options_of_accuracy(w: Any) -> Any:
    k = (-w.Vi(w.x).sqdist(w.Vj(w.y))).exp()
    return (
        k.__matmul__(w.b, sum_scheme="block_sum"), k.__matmul__(w.b, use_double_acc=True),
        k.__matmul__(w.b, dtype_acc="float64"), k.sum(1, sum_scheme="kahan_scheme"),
    )  # fmt: skip


@program
def names_of_arguments(w: Any) -> Any:
    x, y = w.Vi(w.x), w.Vj(w.y)
    p = w.Pm(w.s)
    formulas = (
        x.weightedsqdist(g=y, s=p), (x - y).clamp(other1=-0.1, other2=0.2), (x - y).ifelse(other1=x, other2=y),
        x.concat(other=y), x.sqdist(other=y), (x + y).mod(modulus=0.3), (x * y).elem(i=1), (x * y).extract(i=1, d=2),
        (x - y).norm(dim=-1),
    )  # fmt: skip
    return [f.sum(1) for f in formulas]


@program
def operations_by_name(w: Any) -> Any:
    x, y = w.Vi(w.x), w.Vj(w.y)
    formulas = (
        x.unary("Exp"), (x - y).unary("SqNorm2", dimres=1), x.binary(y, "Scalprod", dimres=1, dimcheck="same"),
        x.addop(y), x.mulop(y), x.divop(y + 1),
    )  # fmt: skip
    return [f.sum(1) for f in formulas]


@program
def complex_class_attributes(w: Any) -> Any:
    c = w.module("torch").ComplexLazyTensor
    z = w.Vi(w.torch.complex(w.x, 2 * w.x)) * w.Vj(w.torch.complex(w.y, -w.y))
    return [f.sum(1) for f in (c.conj(z), c.exp(z), c.real.fget(z), c.imag.fget(z), c.angle(z))]


@program
def surfaces(w: Any) -> Any:
    """The kernel of oriented surfaces, of the tutorial of registration."""
    text = "Exp(-SqDist(x,y)*g)*Square((u|v))*b"
    aliases = ["g=Pm(1)", "x=Vi(3)", "y=Vj(3)", "u=Vi(3)", "v=Vj(3)", "b=Vj(1)"]
    f = w.Genred(text, aliases, reduction_op="Sum", axis=1)
    normal = w.torch.nn.functional.normalize
    return f(w.g, w.x, w.y, normal(w.x), normal(w.y), w.b[:, :1].contiguous())


@program
def hamiltonian(w: Any) -> Any:
    """A step of the geodesic shooting of the LDDMM tutorial."""
    q, p = (t.clone().requires_grad_() for t in (w.x, 0.1 * w.x))
    k = (-w.Vi(q).sqdist(w.Vj(q)) * w.Pm(w.g)).exp()
    energy = 0.5 * (p * (k @ p)).sum()
    dq, dp = w.torch.autograd.grad(energy, (q, p), create_graph=True)
    return energy, dq, dp, *w.torch.autograd.grad((dq**2).sum() + (dp**2).sum(), (q, p))


@program
def gaussian_mixture(w: Any) -> Any:
    mu, a = w.y[:4].clone().requires_grad_(), w.torch.linspace(1, 2, 4, dtype=w.x.dtype).view(-1, 1)
    d = w.Vi(w.x).weightedsqdist(w.Vj(mu), w.Vj((a * w.s).contiguous()))
    value = (-d).logsumexp(dim=1, weight=w.Vj(a)).sum()
    return value, *w.torch.autograd.grad(value, mu)


@program
def attention(w: Any) -> Any:
    q, k, v = (t.clone().requires_grad_() for t in (w.x, w.y, w.b))
    out = (w.Vi(q) | w.Vj(k)).sumsoftmaxweight(w.Vj(v), dim=1)
    return out, *w.torch.autograd.grad((out**2).sum(), (q, k, v))


@program
def dense_helpers(w: Any) -> Any:
    u = w.module("numpy.utils")
    a, b = w.X / np.linalg.norm(w.X, axis=1)[:, None], w.Y / np.linalg.norm(w.Y, axis=1)[:, None]
    names = ("linear", "binet", "gaussian_oriented", "gaussian_unoriented")
    return [*(u.np_kernel_sphere(a, b, 0.5, n) for n in names), u.log_sum_exp(w.X, 1), u.squared_distances(w.X, w.Y)]


@program
def conjugate_gradients_of_a_function(w: Any) -> Any:
    matrix = np.exp(-((w.X[:, None] - w.X) ** 2).sum(-1)) + np.eye(50)
    solve = w.module("common.operations").ConjugateGradientSolver
    return solve("numpy", lambda v: matrix @ v, w.X[:, :2].copy(), eps=1e-10)


@program
def tools(w: Any) -> Any:
    get = w.module("common.utils").get_tools
    n, t = get("numpy"), get("torch")
    return (
        n.view(w.X, (-1,)), n.eye(3, "float32"), t.view(w.x, (-1,)), t.array([1.0, 2.0], "float64", "cpu"),
        n.permute(w.X[None], (2, 0, 1)), t.permute(w.x[None], 2, 0, 1), n.arraysum(w.X, axis=0),
        t.arraysum(w.x, axis=0),
    )  # fmt: skip


@program
def positions_in_the_strings(w: Any) -> Any:
    f = w.Genred_np("Exp(-SqDist(Var(1,3,0),y))*Var(2,2,1)", ["y=Vj(0,3)"], axis=1)
    return f(w.Y, w.X, w.B), np.array([f.nargs, f.axis, len(f.aliases)])


@program
def results_in_place(w: Any) -> Any:
    out = w.torch.zeros(50, 2, dtype=w.x.dtype)
    k = (-w.Vi(w.x).sqdist(w.Vj(w.y))).exp() * w.Vj(w.b)
    k.sum(1, out=out)
    return (out,)
