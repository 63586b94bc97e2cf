"""`pykeops.numpy.utils`: radial kernels as dense matrices, to compare with, and NumPy's functions by common names.

The kernels are functions of the squared distance d2 of two points and of a width s: "gaussian" exp(-d2 / s^2),
"laplacian" exp(-d / s), "cauchy" 1 / (1 + d2 / s^2), "inverse_multiquadric" 1 / sqrt(1 + d2 / s^2).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pairfuse.dropin.absent import refusing
from pairfuse.numpy import Genred, cluster

Array = np.ndarray


def differences(x: Array, y: Array) -> Array:
    """All differences x_m - y_n, component by component: (M, D) and (N, D) -> (D, M, N)."""
    return x.T[:, :, None] - y.T[:, None, :]


def squared_distances(x: Array, y: Array) -> Array:
    """All squared distances: (M, D) and (N, D) -> (M, N)."""
    return (differences(x, y) ** 2).sum(0)


def np_kernel(x: Array, y: Array, s: float, kernel: str) -> Array:
    """The matrix (M, N) of a kernel."""
    return np.exp(log_np_kernel(x, y, s, kernel))


def log_np_kernel(x: Array, y: Array, s: float, kernel: str) -> Array:
    """The logarithm of the matrix (M, N) of a kernel."""
    u = squared_distances(x, y) / s**2
    if kernel == "gaussian":
        return -u
    if kernel == "laplacian":
        return -np.sqrt(u)
    if kernel == "cauchy":
        return -np.log1p(u)
    if kernel == "inverse_multiquadric":
        return -0.5 * np.log1p(u)
    raise _unknown(kernel)


def grad_np_kernel(x: Array, y: Array, s: float, kernel: str) -> Array:
    """The derivative of the kernel with respect to the squared distance, (M, N); 0 where a distance is 0."""
    u, k = squared_distances(x, y) / s**2, np_kernel(x, y, s, kernel)
    if kernel == "gaussian":
        return -k / s**2
    if kernel == "laplacian":
        d = np.sqrt(u)
        return np.divide(-k, 2 * s**2 * d, out=np.zeros_like(k), where=d > 0)
    if kernel == "cauchy":
        return -(k**2) / s**2
    if kernel == "inverse_multiquadric":
        return -0.5 * k**3 / s**2
    raise _unknown(kernel)


def _unknown(kernel: str) -> ValueError:
    return ValueError(f"kernel {kernel!r}: 'gaussian', 'laplacian', 'cauchy' or 'inverse_multiquadric'.")


def chain_rules(q: Array, ax: Array, by: Array, Aa: Array, p: Array) -> Array:
    """sum_n <q_m, p_n> Aa_mn 2 (ax_m - by_n): the gradient in the points of <q, K p>, of shape (M, D)."""
    weights = 2 * Aa * (q @ p.T)
    return weights.sum(1)[:, None] * ax - weights @ by


def log_sum_exp(mat: Array, axis: int = 0) -> Array:
    """log(sum(exp(mat))) along an axis, without overflow."""
    return np.logaddexp.reduce(mat, axis=axis)


def WarmUpGpu() -> None:
    """Nothing: a GPU is warmed up by the first call that uses it."""


class numpytools:
    """NumPy's functions, by the names that both libraries have in common."""

    Genred, swap_axes = Genred, staticmethod(cluster.swap_axes)
    copy = staticmethod(np.copy)
    exp = staticmethod(np.exp)
    log = staticmethod(np.log)
    norm = staticmethod(np.linalg.norm)
    transpose = staticmethod(np.transpose)
    permute = staticmethod(np.transpose)
    tile = staticmethod(np.tile)
    solve = staticmethod(np.linalg.solve)
    size = staticmethod(np.size)
    array = staticmethod(np.array)
    eye = staticmethod(np.eye)
    numpy = staticmethod(np.asarray)
    contiguous = staticmethod(np.ascontiguousarray)
    eq = staticmethod(np.equal)
    arraytype, float_types = np.ndarray, (float, np.float16, np.float32, np.float64)

    @staticmethod
    def arraysum(x: Any, axis: Any = None) -> Any:
        """The sum along an axis."""
        return np.sum(x, axis=axis)

    @staticmethod
    def is_tensor(x: Any) -> bool:
        """Is it an array?"""
        return isinstance(x, np.ndarray)

    @staticmethod
    def view(x: Any, shape: Any) -> Any:
        """The array in another shape."""
        return np.reshape(x, shape)

    @staticmethod
    def long(x: Any) -> Any:
        """The array in integers of 64 bits."""
        return x.astype("int64")

    @staticmethod
    def dtype(x: Any) -> Any:
        """The type of its numbers."""
        return x.dtype

    @staticmethod
    def dtypename(dtype: Any) -> str:
        """The name of a type: "float32"."""
        return np.dtype(dtype).name

    @staticmethod
    def rand(m: int, n: int, dtype: Any = "float64", **_: Any) -> Any:
        """Uniform random numbers, (m, n)."""
        return np.random.rand(m, n).astype(dtype)

    @staticmethod
    def randn(*shape: int, dtype: Any = "float64", **_: Any) -> Any:
        """Normal random numbers."""
        return np.random.randn(*shape).astype(dtype)

    @staticmethod
    def zeros(shape: Any, dtype: Any = "float64", **_: Any) -> Any:
        """An array of zeros."""
        return np.zeros(shape, dtype)

    @staticmethod
    def empty(shape: Any, dtype: Any = "float64", **_: Any) -> Any:
        """An array of any numbers."""
        return np.empty(shape, dtype)

    @staticmethod
    def device(x: Any) -> str:
        """Where the array is: "cpu"."""
        return "cpu"

    @staticmethod
    def detect_complex(x: Any) -> bool:
        """Are its numbers complex?"""
        return any(isinstance(v, complex) for v in x) if isinstance(x, list) else bool(np.iscomplexobj(x))

    @staticmethod
    def view_as_complex(x: Any) -> Any:
        """Pairs (re, im) along the last axis, as complex numbers, on the same memory."""
        return x.view("complex64" if x.dtype == "float32" else "complex128")

    @staticmethod
    def view_as_real(x: Any) -> Any:
        """Complex numbers as pairs (re, im) along the last axis, on the same memory."""
        return x.view("float32" if x.dtype == "complex64" else "float64")


__getattr__ = refusing(
    __name__, {"np_kernel_sphere": "it is a fixture of KeOps' own tests; build the kernel on the sphere from np_kernel"}
)
