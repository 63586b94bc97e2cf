"""Compiled kernels on disk: object code under the digest of all that went into it.

A file is written beside its place and renamed, so that readers see all of it or nothing; it carries a checksum, so
that a damaged one is compiled anew.  A folder that cannot be written costs recompilations, never a failure; whatever
lies in the place of a file, a folder or a pipe, is not waited for.  Files used longest ago are removed where all
together are larger than config.cache_disk.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import stat
import threading
import time
from pathlib import Path

from ..config import config

MAGIC = b"pairfuse object 1\n"
LARGEST = 2**28  # no kernel is that large: what is longer is not ours, and not read
# Of how many stored files one has the folder looked through. Which ones, their names say: so processes that store a
# few files each take part, and nothing has to be counted.
LOOKED_AFTER = 32
KEPT_SHARE = 0.8  # of the limit, when files are removed: not again with the next one
STALE = 3600  # seconds after which the temporary file of a process that has ended may go
_numbers = itertools.count()


def folder() -> Path | None:
    """Where objects are kept, or None when the disk cache is switched off."""
    return Path(config.cache_folder) / "objects" if config.cache_folder else None


def read(path: Path) -> bytes | None:
    """The bytes of a plain file that is there and not too large; its age begins anew."""
    # A pipe that is opened so does not wait for its other end. The flags are those of the system at hand.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(path, flags), "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > LARGEST:
                return None
            data = file.read(LARGEST)
    except (OSError, ValueError):  # ValueError: a name that no file system takes
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return data


def load(key: str) -> bytes | None:
    """The object code stored under this key, if it is there and undamaged."""
    root = folder()
    data = None if root is None else read(root / key)
    if data is None:
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
        # Not by `tempfile`: a child forked while another thread asks it for a name may wait for its lock for ever.
        path = root / f".{os.getpid()}-{threading.get_ident()}-{next(_numbers)}-{time.time_ns()}"
        with open(path, "xb") as file:
            temporary = path
            file.write(MAGIC + hashlib.sha256(code).digest() + code)
        os.replace(temporary, root / key)
    except (OSError, ValueError):
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    if config.cache_disk and int(key[:8], 16) % LOOKED_AFTER == 0:
        trim(root, config.cache_disk * 2**20)


def trim(root: Path, limit: int) -> None:
    """Remove the files used longest ago where all together have more bytes than the limit, and what was left behind."""
    files: list[tuple[float, int, str]] = []
    now = time.time()
    try:
        for entry in os.scandir(root):
            facts = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(facts.st_mode):
                continue
            if entry.name.startswith("."):
                if now - facts.st_mtime > STALE:
                    os.unlink(entry.path)
                continue
            files.append((facts.st_mtime, facts.st_size, entry.path))
    except OSError:  # another process may remove files, too
        pass
    surplus = sum(length for _, length, _ in files) - limit
    if surplus <= 0:
        return
    surplus += int((1 - KEPT_SHARE) * limit)
    for _, length, path in sorted(files):
        with contextlib.suppress(OSError):
            os.unlink(path)
        surplus -= length
        if surplus <= 0:
            break


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
            facts = path.stat()
            digest.update(f"{path.relative_to(root)} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()
