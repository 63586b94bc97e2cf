"""Whether a GPU can be used, and what to say where it cannot.

In: a device of torch.  Out: nothing where it computes, else the reason and a remedy, in words.  That torch sees a GPU
does not prove that Triton can use it: a tiny kernel is compiled and run, once for each device, at the first call that
would compute there.  Nothing here runs when the package is imported.
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..backends.triton import compile as triton_compile
from ..backends.triton.launch import OPTIONS
from ..errors import DtypeError, UnsupportedError, message

INSTALL = "pip install 'pairfuse[gpu]'"
INFO = "`python -m pairfuse info` says more"
# The compute capability from which a type is supported; the others are on every GPU that Triton knows.
NEEDS = {"bfloat16": (8, 0)}
OLDEST = (7, 0)  # Triton's code generator knows nothing older; it is tested from 8.0 on

PROBE = """\
import triton
import triton.language as tl


@triton.jit
def kernel(x, y, SIZE: tl.constexpr):
    place = tl.arange(0, SIZE)
    tl.store(y + place, tl.load(x + place) * 2.0 + 1.0)
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a GPU cannot be used, and what would help."""

    reason: str
    remedy: str


# What the errors of Triton and of the driver mean: a pattern of their text, the reason, the remedy.
KNOWN_FAILURES = (
    (
        r"(?i)failed to find c compiler|No such file or directory: '(?:\S*/)?(?:gcc|clang|cc)'",
        "Triton found no C compiler, with which it builds its launcher",
        "install one (apt install gcc), or set the environment variable CC to one",
    ),
    (
        r"Python\.h",
        "Python's headers are missing, which Triton's launcher needs",
        "install them (apt install python3-dev)",
    ),
    (
        r"(?i)libcuda\.so",
        "Triton found no libcuda.so, the library of the driver",
        "install the driver of the GPU, or set TRITON_LIBCUDA_PATH to the folder of libcuda.so.1",
    ),
    (
        r"(?i)unsupported toolchain|unsupported ptx|driver version is insufficient|driver on your system is too old",
        "the driver of the GPU is too old for this version of Triton",
        "update the driver (nvidia-smi shows its version)",
    ),
    (
        r"(?i)no kernel image|sm_\d+ is not (?:supported|defined)|not defined for option 'gpu-name'|unsupported gpu",
        "torch or Triton was not built for this GPU",
        "install versions that support it, or compute on the CPU",
    ),
    (
        r"(?i)permission denied",
        "Triton cannot write to its cache",
        "set TRITON_CACHE_DIR to a folder that can be written",
    ),
    (r"(?i)out of memory", "its memory is full", "free memory on it, nvidia-smi shows who holds it"),
)


def explain(text: str, capability: tuple[int, int] | None = None) -> Failure:
    """The failure that an error text stands for."""
    for pattern, reason, remedy in KNOWN_FAILURES:
        if re.search(pattern, text):
            return Failure(reason, remedy)
    if capability is not None and capability < OLDEST:
        old, have = (".".join(map(str, c)) for c in (OLDEST, capability))
        reason = f"its compute capability is {have}, Triton needs {old}"
        return Failure(reason, "use another GPU, or compute on the CPU")
    lines = [line for line in text.splitlines() if line.strip()]
    return Failure(f"Triton failed: {lines[-1].strip() if lines else 'without a message'}", INFO)


@lru_cache(maxsize=64)
def failure(device: Any) -> Failure | None:
    """Compile and run a tiny kernel on the device: nothing if that works. This waits for the GPU, once."""
    import torch

    capability: tuple[int, int] | None = None
    try:
        capability = _capability(device)
        with torch.cuda.device(device):
            x = torch.arange(16, dtype=torch.float32, device=device)
            y = torch.zeros_like(x)
            triton_compile.run_text(PROBE)["kernel"][(1,)](x, y, SIZE=16, **OPTIONS)
            right = bool((y.cpu() == torch.arange(16) * 2.0 + 1.0).all())
    except Exception as error:  # of torch, Triton, the driver, the C compiler: all of them mean that it does not work
        return explain(f"{type(error).__name__}: {error}", capability)
    return None if right else Failure("a kernel ran on it and gave wrong numbers", f"update the driver; {INFO}")


def usable(title: str, device: Any, data_is_there: bool) -> bool:
    """Can the device be used? If not, warn once; an error where the data lies on it."""
    import torch

    if torch.cuda.is_current_stream_capturing():  # no time to try
        return True
    found = failure(device)
    if found is None:
        return True
    if data_is_there:
        raise UnsupportedError(
            message(
                f"{title}: the data is on {_name(device)}, which cannot be used.",
                found.reason,
                f"{found.remedy}; or compute on the CPU, x.cpu().",
            )
        )
    _warn_once(device, found)
    return False


@lru_cache(maxsize=64)
def _warn_once(device: Any, found: Failure) -> None:
    text = f"pairfuse: {_name(device)} cannot be used, backend='GPU' computes on the CPU"
    text += f": {found.reason}. {found.remedy[0].upper()}{found.remedy[1:]}."
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def report() -> list[str]:
    """A line about every GPU that torch sees: what it is, whether it can be used, and if not, why and what helps."""
    import torch

    built = torch.version.cuda or torch.version.hip
    if not built:
        return [f"not usable: this torch is built for the CPU ({torch.__version__}); install one for CUDA or ROCm"]
    lines: list[str] = []
    for k in range(torch.cuda.device_count()):
        device = torch.device("cuda", k)
        known = torch.cuda.get_device_properties(device)
        found = failure(device)
        state = "can be used" if found is None else f"cannot be used: {found.reason}; {found.remedy}"
        capability = "" if torch.version.hip else f"capability {known.major}.{known.minor}, "
        lines.append(f"{device} {known.name} ({capability}{known.total_memory / 1e9:.3g} GB): {state}")
    return lines or [f"not usable: torch (built for {built}) sees no device; check the driver with nvidia-smi"]


def clear() -> None:
    """Forget what was found, and warn again."""
    failure.cache_clear()
    _warn_once.cache_clear()
    _capability.cache_clear()


# ---------------------------------------------------------------------- packages, devices, types


@lru_cache(maxsize=1)
def missing_packages() -> tuple[str, ...]:
    """What has to be installed before a GPU can be used."""
    return tuple(name for name in ("torch", "triton") if importlib.util.find_spec(name) is None)


def no_packages(title: str, missing: tuple[str, ...], data_is_there: bool) -> UnsupportedError:
    """The error of a call that needs packages that are not there."""
    return UnsupportedError(
        message(
            f"{title}{'' if data_is_there else '(backend=' + repr('GPU') + ')'}: computing on a GPU needs "
            f"{' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed.",
            hint=f"{INSTALL} (Linux), or compute on the CPU, x.cpu().",
        )
    )


def no_gpu(title: str, torch: Any) -> UnsupportedError:
    """The error of a call that asks for a GPU where there is none."""
    built = "without CUDA"
    if torch.version.cuda or torch.version.hip:
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else f"for ROCm {torch.version.hip}"
    return UnsupportedError(
        message(
            f"{title}(backend='GPU'): torch sees no GPU on this machine.",
            f"torch {torch.__version__}, built {built}",
            f"leave the backend out, or check the driver with nvidia-smi; {INFO}.",
        )
    )


def check_type(title: str, k: int, name: str, device: Any) -> None:
    """Refuse a type of numbers that this GPU has no instructions for."""
    needed = NEEDS.get(name)
    if needed is None or device.type == "cpu":
        return
    capability = _capability(device)
    if capability is not None and capability < needed:
        raise DtypeError(
            message(
                f"{title}: input {k} is of type {name}, which {_name(device)} does not support.",
                f"{name} needs compute capability {needed[0]}.{needed[1]}, the GPU has {capability[0]}.{capability[1]}",
                "convert it, x.half() or x.float().",
            )
        )


@lru_cache(maxsize=64)
def _capability(device: Any) -> tuple[int, int] | None:
    """The compute capability of a GPU of NVIDIA; None for others, which count differently."""
    import torch

    return None if torch.version.hip else torch.cuda.get_device_capability(device)


def generation(device: Any) -> int:
    """The compute capability as tile.py counts it: 80, 90, 100 ...

    What takes the operands of matrix units from registers counts as 80: GPUs of AMD, and NVIDIA's of 12.0, which have
    not the instructions of 9.0 and 10.0 for operands in shared memory.
    """
    if device.type == "cpu":  # Triton's interpreter
        return 90
    major, minor = _capability(device) or (8, 0)
    return 80 if major >= 12 else 10 * major + minor


def _name(device: Any) -> str:
    """The device, and what it is called."""
    import torch

    try:
        return f"'{device}' ({torch.cuda.get_device_name(device)})"
    except Exception:  # a device that does not answer is what this is about
        return f"'{device}'"
