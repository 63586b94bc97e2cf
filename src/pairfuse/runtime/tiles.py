"""Tiles that were measured on this machine's GPU (tune.py), in place of those that tile.py chooses by its table.

In: a tile and the problem it was chosen for.  Out: the tile, with the rows, columns and warps that ran fastest for
problems of its class, if there is a file for this GPU and this version of Triton.  The file is read once in a process;
without one, or with a damaged one, the table stands.  Nothing is ever measured at a call.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ..backends.triton.tile import Tile
from ..config import config
from ..lower.problem import Problem, Sizes
from . import cache

Shape = tuple[int, int, int]  # rows, columns, warps

# A tuned tile is for problems whose rows keep every processor busy this often; for smaller ones the table knows how
# to give the device enough to do.
FULL = 4


def kernel_class(problem: Problem, tile: Tile) -> str:
    """What problems have in common that run best on the same tile: lengths count by powers of two.

    The tile says whether matrix units multiply, and what.
    """
    width = max((v.dim for v in problem.inputs if v.param("axis") != "p"), default=1)
    terms = max(f.dim for f in problem.formulas)
    k = int(dict(problem.params).get("K", 0))
    sizes = f"D{_power(width)} E{_power(terms)}" + (f" K{_power(k)}" if k else "")
    units = "".join(f" {name}={kind}" for name, kind in (("dots", tile.dots), ("sums", tile.sums)) if kind)
    return f"{problem.reduction} {problem.dtype} {problem.accuracy} {sizes}{units}"


def _power(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


def tuned(tile: Tile, problem: Problem, sizes: Sizes, device: Any, processors: int) -> Tile:
    """The tile with the shape that was measured to be the fastest, where that applies."""
    shapes = table(config.cache_folder, device_name(device))
    if not shapes:
        return tile
    shape = shapes.get(kernel_class(problem, tile))
    if shape is None or tile.split or sizes.along(problem.rows) < FULL * processors * shape[0]:
        return tile
    return replace(tile, rows=shape[0], cols=shape[1], warps=shape[2])


def path(folder: str, name: str) -> Path:
    """The file for a GPU of this name and the installed version of Triton."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return Path(folder) / "tiles" / f"{slug}-triton-{metadata.version('triton')}.json"


@lru_cache(maxsize=16)
def table(folder: str, name: str) -> dict[str, Shape]:
    """The shapes of the file, by class; none where there is no file, or one that makes no sense."""
    if not folder:
        return {}
    try:
        text = cache.read(path(folder, name)) or b""
        found = {key: tuple(shape) for key, shape in json.loads(text)["tiles"].items()}
        return {key: shape for key, shape in found.items() if _possible(shape)}
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError, metadata.PackageNotFoundError):
        return {}


def _possible(shape: tuple[Any, ...]) -> bool:
    """Three powers of two in the range that Triton takes."""
    limits = (1024, 4096, 32)
    return len(shape) == 3 and all(
        type(n) is int and 0 < n <= most and n & (n - 1) == 0 for n, most in zip(shape, limits, strict=True)
    )


def keep(folder: str, name: str, shapes: dict[str, Shape]) -> Path:
    """Add shapes to the file, which is replaced as a whole; they are used from now on."""
    target = path(folder, name)
    table.cache_clear()
    merged = table(folder, name) | shapes
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump({"device": name, "tiles": merged}, file, indent=1)
        os.replace(temporary, target)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    table.cache_clear()
    return target


@lru_cache(maxsize=64)
def device_name(device: Any) -> str:
    """What torch calls the GPU."""
    import torch

    return torch.cuda.get_device_name(device)
