"""`pykeops.numpy.utils`: radial kernels as dense matrices, to compare with, and NumPy's functions by common names.

The kernels are functions of the squared distance d2 of two points and of a width s: "gaussian" exp(-d2 / s^2),
"laplacian" exp(-d / s), "cauchy" 1 / (1 + d2 / s^2), "inverse_multiquadric" 1 / sqrt(1 + d2 / s^2).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pairfuse.dropin.genred import Genred, KernelSolve
from pairfuse.numpy import cluster

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


def np_kernel_sphere(nalpha: Array, nbeta: Array, s: float, kernel: str) -> Array:
    """The matrix (M, N) of a kernel of unit vectors a, b, of c = <a, b>.

    "linear" c, "binet" c^2, "gaussian_oriented" exp(-2 (1 - c) / s^2), "gaussian_unoriented" exp(-2 (1 - c^2) / s^2)
    """
    c = nalpha @ nbeta.T
    if kernel == "linear":
        return c
    if kernel == "binet":
        return c**2
    if kernel in ("gaussian_oriented", "gaussian_unoriented"):
        return np.exp(-2 * (1 - (c if kernel == "gaussian_oriented" else c**2)) / s**2)
    raise ValueError(f"kernel {kernel!r}: 'linear', 'binet', 'gaussian_oriented' or 'gaussian_unoriented'.")


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


np_swap_axes = cluster.swap_axes


class numpytools:
    """NumPy's functions, by the names that both libraries have in common."""

    Genred, KernelSolve, swap_axes = Genred, KernelSolve, staticmethod(cluster.swap_axes)
    norm, arraysum = staticmethod(np.linalg.norm), staticmethod(np.sum)
    exp, log = staticmethod(np.exp), staticmethod(np.log)
    arraytype, float_types = np.ndarray, [float, np.float16, np.float32, np.float64]

    @staticmethod
    def is_tensor(x: Any) -> bool:
        """Is it an array?"""
        return isinstance(x, np.ndarray)

    @staticmethod
    def copy(x: Any) -> Any:
        """A copy of the array."""
        return np.copy(x)

    @staticmethod
    def eq(x: Any, y: Any) -> Any:
        """Where the entries are equal."""
        return np.equal(x, y)

    @staticmethod
    def transpose(x: Any) -> Any:
        """The transpose of a matrix."""
        return np.transpose(x)

    @staticmethod
    def permute(x: Any, *args: Any) -> Any:
        """The axes in another order."""
        return np.transpose(x, args[0] if args and not np.isscalar(args[0]) else args)

    @staticmethod
    def contiguous(x: Any) -> Any:
        """The array in one piece of memory."""
        return np.ascontiguousarray(x)

    @staticmethod
    def numpy(x: Any) -> Any:
        """The array itself."""
        return x

    @staticmethod
    def tile(*args: Any) -> Any:
        """The array repeated along its axes."""
        return np.tile(*args)

    @staticmethod
    def solve(*args: Any) -> Any:
        """The solution of a dense linear system."""
        return np.linalg.solve(*args)

    @staticmethod
    def size(x: Any) -> int:
        """How many numbers it has."""
        return x.size

    @staticmethod
    def view(x: Any, s: Any) -> Any:
        """The array in another shape."""
        return np.reshape(x, s)

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
    def rand(m: int, n: int, dtype: Any = "float64") -> Any:
        """Uniform random numbers, (m, n)."""
        return np.random.rand(m, n).astype(dtype)

    @staticmethod
    def randn(m: int, n: int, dtype: Any = "float64") -> Any:
        """Normal random numbers, (m, n)."""
        return np.random.randn(m, n).astype(dtype)

    @staticmethod
    def zeros(shape: Any, dtype: Any = "float64", device: Any = None, requires_grad: Any = None) -> Any:
        """An array of zeros."""
        return np.zeros(shape, dtype)

    @staticmethod
    def empty(shape: Any, dtype: Any = "float64", device: Any = None, requires_grad: Any = None) -> Any:
        """An array of any numbers."""
        return np.empty(shape, dtype)

    @staticmethod
    def eye(n: int, dtype: Any = "float64") -> Any:
        """The unit matrix."""
        return np.eye(n, dtype=dtype)

    @staticmethod
    def array(x: Any, dtype: Any = None, device: Any = None) -> Any:
        """An array of these numbers."""
        return np.array(x, dtype)

    @staticmethod
    def get_pointer(x: Any) -> int:
        """Where its memory begins."""
        return x.__array_interface__["data"][0]

    @staticmethod
    def device(x: Any) -> str:
        """Where the array is: "cpu"."""
        return "cpu"

    @staticmethod
    def device_type_index(x: Any) -> tuple[str, None]:
        """The same, and the number of the device."""
        return "cpu", None

    @staticmethod
    def device_dict(x: Any) -> dict[str, str]:
        """The same as a dictionary."""
        return {"cat": "cpu"}

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
