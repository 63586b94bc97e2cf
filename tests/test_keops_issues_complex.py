"""What users of KeOps have reported about complex numbers: each report, on a small scale, against dense tensors.

The numbers are those of the threads at github.com/getkeops/keops/issues.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

import pairfuse.numpy as pn
from pairfuse.torch import Genred, LazyTensor, Pm, Vi, Vj

Tensor = torch.Tensor


def random(*shape: int, seed: int = 0, dtype: Any = torch.complex128) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def close(found: Any, expected: Any, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def same_gradients(found: Tensor, expected: Tensor, inputs: Sequence[Tensor], tolerance: float = 1e-10) -> None:
    for a, b in zip(*[torch.autograd.grad(t.abs().sum(), inputs) for t in (found, expected)], strict=True):
        assert a.shape == b.shape
        close(a, b, tolerance)


def as_reals(z: Tensor) -> Tensor:
    """Pairs, as formula strings take them."""
    return torch.view_as_real(z).flatten(-2)


def as_complex(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


def test_issue_187_a_number_plus_a_vector() -> None:
    vector = [2 + 3j, 7 + 3j, 4 + 1j]
    for number in (2 + 3j, 3.14):
        for library in (pn.Pm, Pm):
            total = (library(number) + library(vector)).sum(dim=1)
            np.testing.assert_allclose(np.asarray(total), [number + np.array(vector)], rtol=1e-15)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_issue_266_products_of_a_batch(dtype: Any) -> None:
    """x (H, N, 1, 1) times y (1, 1, L, D), summed over N, with gradients."""
    x, y = random(3, 4, 1, 1, dtype=dtype), random(1, 1, 5, 2, seed=1, dtype=dtype)
    found, expected = (LazyTensor(x) * LazyTensor(y)).sum(dim=1), (x * y).sum(dim=1)
    tolerance = 1e-4 if dtype == torch.complex64 else 1e-10
    close(found, expected, tolerance)
    same_gradients(found, expected, (x, y), tolerance)


def test_issue_268_one_hot_times_complex_weights() -> None:
    """Places outside of the vector, negative ones too, give zeros."""
    weights = [12j, 2j, 15j, 1j, 1j, -1j]
    for places in ([0, 4, 3, 2], [0, 8, -3, 2]):
        for values in (weights, [12.0, 2, 15, 1, 1, -1]):
            x = np.array(places, dtype=float)[:, None]
            found = (pn.Vi(x).one_hot(6) * pn.Pm(values)).sum(1)
            expected = np.array([[v if k == place else 0 for k, v in enumerate(values)] for place in places])
            np.testing.assert_array_equal(found, expected)


def test_issue_233_tensordot_of_complex_arrays() -> None:
    x, y = random(3, 2, 3, 2, 2, 4), random(4, 2, 4, 2, 3, 2, 3, seed=1)
    a, b = Vi(x.reshape(3, -1)), Vj(y.reshape(4, -1))
    found = a.keops_tensordot(b, (2, 3, 2, 2, 4), (2, 4, 2, 3, 2, 3), (4, 0, 2), (1, 4, 2)).sum(dim=1)
    expected = torch.einsum("iacedb,jfbegah->icdfgh", x, y).reshape(3, -1)
    close(found, expected)
    same_gradients(found, expected, (x, y))
    assert found.dtype == torch.complex128


def test_issue_238_quotient_in_a_formula_string() -> None:
    """'ComplexDivide(v, z-w)' on batches, with gradients."""
    v, z, w = random(3, 5, 1), random(1, 4, 1, seed=1), random(3, 5, 1, seed=2)
    cauchy = Genred("ComplexDivide(v, z-w)", ["v = Vj(2)", "z = Vi(2)", "w = Vj(2)"], reduction_op="Sum", axis=1)
    found = as_complex(cauchy(as_reals(v), as_reals(z), as_reals(w)))
    expected = (v[:, None] / (z[:, :, None] - w[:, None])).sum(2)
    close(found, expected)
    same_gradients(found, expected, (v, z, w))


def test_issue_299_sum_over_a_long_axis_of_a_batch() -> None:
    """A (1, H, N, 1, 1), u (B, H, 1, L, 1), p (1, 1, 1, L, 1): no axis of the batch is of full length in all."""
    A, u = random(1, 3, 4, 1, 1), random(2, 3, 1, 6, 1, seed=1)
    p = random(1, 1, 1, 6, 1, seed=2, dtype=torch.float64)
    found = (LazyTensor(u) * (LazyTensor(p) * LazyTensor(A)).exp()).sum(dim=3)
    expected = (u * (p * A).exp()).sum(dim=3)
    close(found, expected)
    same_gradients(found, expected, (A, u, p))


def test_s4_cauchy_kernels() -> None:
    """extensions/kernels/cauchy.py of state-spaces/s4: squares of complex numbers, quotients, conjugates."""
    v, z, w = random(2, 1, 5, 1), random(1, 4, 1, 1, seed=1), random(2, 1, 5, 1, seed=2)
    lazy_v, lazy_z, lazy_w = (LazyTensor(t) for t in (v, z, w))
    found = ((lazy_v * lazy_z - lazy_v * lazy_w.conj()) / (lazy_z**2 - lazy_w * lazy_w.conj())).sum(dim=2)
    expected = ((v * z - v * w.conj()) / (z**2 - w * w.conj())).sum(dim=2)
    close(found, expected)
    same_gradients(found, expected, (v, z, w))


def test_s4_complex_of_two_parts() -> None:
    """torch.complex(a, b) of symbolic tensors is a + 1j * b."""
    a, b = random(4, 2, dtype=torch.float64), random(5, 2, seed=1, dtype=torch.float64)
    found = (Vi(a) + 1j * Vj(b)).exp().sum(dim=1)
    expected = torch.complex(a[:, None].expand(4, 5, 2), b[None].expand(4, 5, 2)).exp().sum(1)
    close(found, expected)
    same_gradients(found, expected, (a, b))


S4 = {
    "conjugate pairs": (
        "ComplexDivide(z * ComplexReal(v) - Real2Complex(Sum(v * w)), ComplexMult(z-w, z-Conj(w)))",
        lambda v, z, w: (z * v.real - (v.real * w.real + v.imag * w.imag)) / ((z - w) * (z - w.conj())),
    ),
    "Vandermonde": (
        "ComplexMult(v, ComplexExp(ComplexMult(z, w)))",
        lambda v, z, w: v * (z * w).exp(),
    ),
    "names": (
        "ComplexAdd(ComplexSubtract(v, ComplexSquareAbs(z) * Conj(w)), Imag2Complex(ComplexImag(ComplexMult(z, w))))",
        lambda v, z, w: v - (z * z.conj()) * w.conj() + 1j * (z * w).imag,
    ),
    "angles": (
        "ComplexRealScal(ComplexAngle(z), ComplexExp1j(ComplexAbs(w))) + ComplexSum(ComplexSumT(v, 6))",
        lambda v, z, w: z.angle() * (1j * w.abs()).exp() + 3 * v,
    ),
}


@pytest.mark.parametrize("name", S4)
def test_s4_formula_strings(name: str) -> None:
    """Called on batches that broadcast; an object for each call."""
    formula, dense = S4[name]
    v, z, w = random(3, 5, 1), random(1, 4, 1, seed=1), random(3, 5, 1, seed=2)
    kernel = Genred(formula, ["v = Vj(2)", "z = Vi(2)", "w = Vj(2)"], reduction_op="Sum", axis=1)
    found = as_complex(kernel(as_reals(v), as_reals(z), as_reals(w)))
    expected = dense(v[:, None], z[:, :, None], w[:, None]).expand(3, 4, 5, 1).sum(2)
    close(found, expected)
    same_gradients(found, expected, (v, z, w))
