"""Facts about this installation: what ``python -m pairfuse info`` prints and what a bug report should contain.

In: the machine, the installed packages, the configuration. Out: text. No package is imported to learn its version.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from pairfuse.config import config
from pairfuse.version import __version__

# What each extra needs, by the names of the index; the order is that of the printed list.
EXTRAS = {
    "torch": ("torch",),
    "gpu": ("torch", "triton"),
    "demo": ("torch", "scikit-learn", "pillow"),
}
# The vector instruction sets that decide how wide our kernels are, widest first, in LLVM's names.
VECTOR_SETS = ("avx512f", "avx2", "avx", "sve", "neon", "fma")


def text() -> str:
    """The whole report, one fact a line."""
    cpu, features = processor()
    rows = [
        ("pairfuse", f"{__version__} in {Path(__file__).parent}"),
        (
            "python",
            f"{platform.python_version()} ({platform.python_implementation()}, {platform.platform()})",
        ),
        *((name, version(name) or "not installed") for name in ("numpy", "llvmlite", "torch", "triton")),
        (
            "processor",
            f"{cpu}, {os.cpu_count()} logical cores, {', '.join(features) or 'no vector units known'}",
        ),
        ("gpu", gpu_state()),
        ("threads", f"{config.thread_count} (PAIRFUSE_THREADS)"),
        ("cache", f"{cache_state(config.cache_folder)} (PAIRFUSE_CACHE_FOLDER)"),
        *((f"extra [{name}]", extra_state(name)) for name in EXTRAS),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def processor() -> tuple[str, list[str]]:
    """LLVM's name of this processor and those of its vector instruction sets that matter to us."""
    from llvmlite import binding

    present = binding.get_host_cpu_features()
    return str(binding.get_host_cpu_name()), [name for name in VECTOR_SETS if present.get(name)]


def gpu_state() -> str:
    """Whether kernels can run on a GPU and, if not, the first thing that is missing.

    Where torch and triton are installed, the driver is asked, in a process of its own.
    """
    missing = [package for package in EXTRAS["gpu"] if version(package) is None]
    if missing:
        remedy = "pip install 'pairfuse[gpu]'" if sys.platform == "linux" else "Triton is made for Linux only"
        return f"not usable: {' and '.join(missing)} not installed ({remedy})"
    code = (
        "import torch as t; v = t.version; print(v.cuda or v.hip or ''); n = t.cuda.device_count(); "
        "print(*[t.cuda.get_device_name(k) for k in range(n)], sep=', ')"
    )
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        built, devices = (done.stdout.splitlines() + ["", ""])[:2]
    except (subprocess.SubprocessError, OSError) as error:
        return f"not known: torch does not answer ({type(error).__name__})"
    if not built:
        return f"not usable: this torch is built for the CPU ({version('torch')}); install one for CUDA or ROCm"
    return devices or "not usable: torch sees no device; check the driver with nvidia-smi"


def version(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def extra_state(name: str) -> str:
    """Whether an extra is complete and, if not, how to complete it."""
    missing = [package for package in EXTRAS[name] if version(package) is None]
    return "complete" if not missing else f"missing {', '.join(missing)}: pip install 'pairfuse[{name}]'"


def cache_state(folder: str) -> str:
    """Where compiled kernels are kept and how much there is; an absent folder holds nothing."""
    if not folder:
        return "none on disk"
    sizes = [path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()]
    return f"{folder}: {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB"
