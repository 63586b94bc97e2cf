"""Compiled kernels on disk: object code under the digest of all that went into it.

A file is written beside its place and renamed, so that readers see all of it or nothing; it carries a checksum, so
that a damaged one is compiled anew.  A folder that cannot be written costs recompilations, never a failure.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import tempfile
from pathlib import Path

from ..config import config

MAGIC = b"pairfuse object 1\n"


def folder() -> Path | None:
    """Where objects are kept, or None when the disk cache is switched off."""
    return Path(config.cache_folder) / "objects" if config.cache_folder else None


def load(key: str) -> bytes | None:
    """The object code stored under this key, if it is there and undamaged."""
    root = folder()
    if root is None:
        return None
    try:
        data = (root / key).read_bytes()
    except (OSError, ValueError):  # ValueError: a name that no file system takes
        return None
    head, code = data[: len(MAGIC) + 32], data[len(MAGIC) + 32 :]
    if head != MAGIC + hashlib.sha256(code).digest():
        return None
    return code


def store(key: str, code: bytes) -> None:
    """Keep object code; silently does nothing where that is impossible."""
    root = folder()
    if root is None:
        return
    temporary = None
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=root, prefix=".")
        with os.fdopen(handle, "wb") as file:
            file.write(MAGIC + hashlib.sha256(code).digest() + code)
        os.replace(temporary, root / key)
    except (OSError, ValueError):
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def clear() -> int:
    """Remove every stored object; returns how many there were."""
    root = folder()
    count = 0
    if root is not None and root.is_dir():
        for path in root.iterdir():
            with contextlib.suppress(OSError):
                path.unlink()
                count += 1
    return count


def size() -> tuple[int, int]:
    """Number of stored objects and their bytes."""
    root = folder()
    if root is None or not root.is_dir():
        return 0, 0
    sizes = [p.stat().st_size for p in root.iterdir() if p.is_file()]
    return len(sizes), sum(sizes)


@functools.cache
def source_version() -> str:
    """A digest of the code generator itself: a changed source never meets an old object."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for name in ("ir", "transform", "lower", "backends"):
        for path in sorted((root / name).rglob("*.py")):
            stat = path.stat()
            digest.update(f"{path.relative_to(root)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
