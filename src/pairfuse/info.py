"""Facts about this installation: what ``python -m pairfuse info`` prints and what a bug report should contain.

In: the machine, the installed packages, the configuration. Out: text. No package is imported to learn its version.
"""

from __future__ import annotations

import os
import platform
import re
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
    "demo": ("scikit-learn", "pillow"),
}
# The first version of Triton whose language has all that the kernels use.
OLDEST_TRITON = (3, 6)
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
        ("tuned tiles", tiles_state(config.cache_folder)),
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
    """Whether kernels can run on a GPU and, if not, what is missing and how to mend it.

    Where torch and triton are installed, every GPU is tried, in a process of its own: this one starts no driver.
    """
    missing = [package for package in EXTRAS["gpu"] if version(package) is None]
    if missing:
        remedy = "pip install 'pairfuse[gpu]'" if sys.platform == "linux" else "Triton is made for Linux only"
        return f"not usable: {' and '.join(missing)} not installed ({remedy})"
    found = version("triton") or ""
    if tuple(int(n) for n in re.findall(r"\d+", found)[:2]) < OLDEST_TRITON:
        oldest = ".".join(map(str, OLDEST_TRITON))
        return f"not usable: triton {found} is too old, {oldest} is the first that works (pip install -U triton)"
    code = "from pairfuse.runtime.probe import report; print('\\n'.join(report()))"
    package = str(Path(__file__).resolve().parents[1])
    paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"TRITON_INTERPRET": "0", "PYTHONPATH": paths}
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)
    except subprocess.CalledProcessError as error:
        last = [line for line in (error.stderr or "").splitlines() if line.strip()][-1:]
        return f"not known: torch does not start ({''.join(last) or f'exit status {error.returncode}'})"
    except (subprocess.SubprocessError, OSError) as error:
        return f"not known: torch does not answer ({type(error).__name__})"
    return "; ".join(done.stdout.splitlines())


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


def tiles_state(folder: str) -> str:
    """The files of `pairfuse tune`."""
    found = sorted(path.name for path in (Path(folder) / "tiles").glob("*.json")) if folder else []
    return ", ".join(found) or "none: on a GPU, `python -m pairfuse tune` measures which are the fastest"


def cache_state(folder: str) -> str:
    """Where compiled kernels are kept and how much there is; an absent folder holds nothing."""
    if not folder:
        return "none on disk"
    sizes = [path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()]
    return f"{folder}: {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB"
