"""`pykeops.torch.utils`: radial kernels as dense matrices, to compare with, and torch's functions by common names.

The kernels are those of `pykeops.numpy.utils`.
"""

from __future__ import annotations

from typing import Any

import torch

from pairfuse.dropin.genred import Genred
from pairfuse.dropin.genred import TorchKernelSolve as KernelSolve
from pairfuse.torch import cluster

Tensor = torch.Tensor


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """All squared distances: (M, D) and (N, D) -> (M, N)."""
    return ((x[:, None, :] - y[None, :, :]) ** 2).sum(2)


def torch_kernel(x: Tensor, y: Tensor, s: float, kernel: str) -> Tensor:
    """The matrix (M, N) of a kernel."""
    u = squared_distances(x, y) / s**2
    if kernel == "gaussian":
        return (-u).exp()
    if kernel == "laplacian":
        return (-u.sqrt()).exp()
    if kernel == "cauchy":
        return 1 / (1 + u)
    if kernel == "inverse_multiquadric":
        return (1 + u).rsqrt()
    raise ValueError(f"kernel {kernel!r}: 'gaussian', 'laplacian', 'cauchy' or 'inverse_multiquadric'.")


def is_on_device(x: Tensor) -> bool:
    """Is the tensor on a GPU?"""
    return x.is_cuda


torch_swap_axes = cluster.swap_axes


def torchsolve(A: Tensor, B: Tensor) -> Tensor:
    """The solution of a dense linear system."""
    return torch.linalg.solve(A, B)


class torchtools:
    """torch's functions, by the names that both libraries have in common."""

    Genred, KernelSolve, swap_axes = Genred, KernelSolve, staticmethod(cluster.swap_axes)
    copy = staticmethod(torch.clone)
    exp, log = staticmethod(torch.exp), staticmethod(torch.log)
    norm = staticmethod(torch.norm)
    arraytype, float_types = torch.Tensor, [float]

    @staticmethod
    def eq(x: Tensor, y: Any) -> Tensor:
        """Where the entries are equal."""
        return torch.eq(x, y)

    @staticmethod
    def solve(A: Tensor, b: Tensor) -> Tensor:
        """The solution of a dense linear system."""
        return torch.linalg.solve(A, b).contiguous()

    @staticmethod
    def arraysum(x: Tensor, axis: Any = None) -> Tensor:
        """The sum along an axis."""
        return x.sum() if axis is None else x.sum(dim=axis)

    @staticmethod
    def is_tensor(x: Any) -> bool:
        """Is it a tensor?"""
        return isinstance(x, Tensor)

    @staticmethod
    def transpose(x: Tensor) -> Tensor:
        """The transpose of a matrix."""
        return x.t()

    @staticmethod
    def permute(x: Tensor, *args: Any) -> Tensor:
        """The axes in another order."""
        return x.permute(*args)

    @staticmethod
    def contiguous(x: Tensor) -> Tensor:
        """The tensor in one piece of memory."""
        return x.contiguous()

    @staticmethod
    def numpy(x: Tensor) -> Any:
        """The tensor as a NumPy array."""
        return x.detach().cpu().numpy()

    @staticmethod
    def tile(*args: Any) -> Tensor:
        """The tensor, the first argument, repeated along its axes."""
        return torch.Tensor.repeat(*args)

    @staticmethod
    def size(x: Tensor) -> int:
        """How many numbers it has."""
        return x.numel()

    @staticmethod
    def view(x: Tensor, s: Any) -> Tensor:
        """The tensor in another shape."""
        return x.view(s)

    @staticmethod
    def long(x: Tensor) -> Tensor:
        """The tensor in integers of 64 bits."""
        return x.long()

    @staticmethod
    def dtype(x: Any) -> Any:
        """The type of its numbers."""
        return x.dtype if hasattr(x, "dtype") else type(x)

    @staticmethod
    def dtypename(dtype: Any) -> str:
        """The name of a type: "float32"; for lists, which have none, "float32"."""
        return "float32" if dtype is list else str(dtype).removeprefix("torch.")

    @staticmethod
    def rand(m: int, n: int, dtype: Any = None, device: Any = None) -> Tensor:
        """Uniform random numbers, (m, n)."""
        return torch.rand(m, n, dtype=_type(dtype), device=device)

    @staticmethod
    def randn(m: int, n: int, dtype: Any = None, device: Any = None) -> Tensor:
        """Normal random numbers, (m, n)."""
        return torch.randn(m, n, dtype=_type(dtype), device=device)

    @staticmethod
    def zeros(shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        """A tensor of zeros."""
        return torch.zeros(shape, dtype=_type(dtype), device=device, requires_grad=requires_grad)

    @staticmethod
    def empty(shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        """A tensor of any numbers."""
        return torch.empty(shape, dtype=_type(dtype), device=device, requires_grad=requires_grad)

    @staticmethod
    def eye(n: int, dtype: Any = None, device: Any = None) -> Tensor:
        """The unit matrix."""
        return torch.eye(n, dtype=_type(dtype), device=device)

    @staticmethod
    def array(x: Any, dtype: Any = None, device: Any = None) -> Tensor:
        """A tensor of these numbers; the type may be a name, "float32"."""
        return torch.tensor(x, dtype=_type(dtype), device=device)

    @staticmethod
    def device(x: Any) -> Any:
        """Where the tensor is; None for other things."""
        return x.device if isinstance(x, Tensor) else None

    @staticmethod
    def device_type_index(x: Any) -> tuple[Any, Any]:
        """The kind of the device and its number."""
        return (x.device.type, x.device.index) if isinstance(x, Tensor) else (None, None)

    @staticmethod
    def get_pointer(x: Tensor) -> int:
        """Where its memory begins."""
        return x.data_ptr()

    @staticmethod
    def pointer(x: Tensor) -> int:
        """The same."""
        return x.data_ptr()

    @staticmethod
    def detect_complex(x: Any) -> bool:
        """Are its numbers complex?"""
        if isinstance(x, list):
            return any(isinstance(v, complex) for v in x)
        return torch.is_complex(x) if isinstance(x, Tensor) else isinstance(x, complex)

    @staticmethod
    def view_as_complex(x: Tensor) -> Tensor:
        """Pairs (re, im) along the last axis, as complex numbers, on the same memory."""
        return torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))

    @staticmethod
    def view_as_real(x: Tensor) -> Tensor:
        """Complex numbers as pairs (re, im) along the last axis, on the same memory."""
        return torch.view_as_real(x).flatten(-2)


def _type(dtype: Any) -> Any:
    return getattr(torch, dtype) if isinstance(dtype, str) else dtype
