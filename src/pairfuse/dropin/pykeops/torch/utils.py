"""`pykeops.torch.utils`: radial kernels as dense matrices, to compare with, and torch's functions by common names.

The kernels are those of `pykeops.numpy.utils`.
"""

from __future__ import annotations

from typing import Any

import torch

from pairfuse.torch import Genred, cluster

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


class torchtools:
    """torch's functions, by the names that both libraries have in common."""

    Genred, swap_axes = Genred, staticmethod(cluster.swap_axes)
    copy = staticmethod(torch.clone)
    exp = staticmethod(torch.exp)
    log = staticmethod(torch.log)
    norm = staticmethod(torch.norm)
    eq = staticmethod(torch.eq)
    solve = staticmethod(torch.linalg.solve)
    eye = staticmethod(torch.eye)
    array = staticmethod(torch.tensor)
    arraytype, float_types = torch.Tensor, (float,)

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
    def permute(x: Tensor, *order: Any) -> Tensor:
        """The axes in another order."""
        return x.permute(*order)

    @staticmethod
    def contiguous(x: Tensor) -> Tensor:
        """The tensor in one piece of memory."""
        return x.contiguous()

    @staticmethod
    def numpy(x: Tensor) -> Any:
        """The tensor as a NumPy array."""
        return x.detach().cpu().numpy()

    @staticmethod
    def tile(x: Tensor, repeats: Any) -> Tensor:
        """The tensor repeated along its axes."""
        return x.repeat(*repeats)

    @staticmethod
    def size(x: Tensor) -> int:
        """How many numbers it has."""
        return x.numel()

    @staticmethod
    def view(x: Tensor, shape: Any) -> Tensor:
        """The tensor in another shape."""
        return x.view(shape)

    @staticmethod
    def long(x: Tensor) -> Tensor:
        """The tensor in integers of 64 bits."""
        return x.long()

    @staticmethod
    def dtype(x: Tensor) -> Any:
        """The type of its numbers."""
        return x.dtype

    @staticmethod
    def dtypename(dtype: Any) -> str:
        """The name of a type: "float32"."""
        return str(dtype).removeprefix("torch.")

    @staticmethod
    def rand(m: int, n: int, dtype: Any = None, device: Any = None) -> Tensor:
        """Uniform random numbers, (m, n)."""
        return torch.rand(m, n, dtype=dtype, device=device)

    @staticmethod
    def randn(*shape: int, dtype: Any = None, device: Any = None) -> Tensor:
        """Normal random numbers."""
        return torch.randn(*shape, dtype=dtype, device=device)

    @staticmethod
    def zeros(shape: Any, dtype: Any = None, device: Any = None, **_: Any) -> Tensor:
        """A tensor of zeros."""
        return torch.zeros(shape, dtype=dtype, device=device)

    @staticmethod
    def empty(shape: Any, dtype: Any = None, device: Any = None, **_: Any) -> Tensor:
        """A tensor of any numbers."""
        return torch.empty(shape, dtype=dtype, device=device)

    @staticmethod
    def device(x: Tensor) -> Any:
        """Where the tensor is."""
        return x.device

    @staticmethod
    def detect_complex(x: Any) -> bool:
        """Are its numbers complex?"""
        return any(isinstance(v, complex) for v in x) if isinstance(x, list) else torch.is_complex(x)

    @staticmethod
    def view_as_complex(x: Tensor) -> Tensor:
        """Pairs (re, im) along the last axis, as complex numbers, on the same memory."""
        return torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))

    @staticmethod
    def view_as_real(x: Tensor) -> Tensor:
        """Complex numbers as pairs (re, im) along the last axis, on the same memory."""
        return torch.view_as_real(x).flatten(-2)
