"""The mask of the block-sparse cases: equal blocks of points, of whose pairs the same share is kept in every row.

In: a case with ``block`` and ``share``.  Out: its ranges as KeOps and Pairfuse take them, and which blocks are kept.
The kept blocks lie at random distances from the diagonal, so that no engine gains from neighbouring blocks.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import Case

Ranges = tuple[NDArray[np.int64], ...]


def kept(case: Case) -> NDArray[np.bool_]:
    """Which pairs of blocks take part."""
    return _kept(-(-case.M // case.block), -(-case.N // case.block), case.share)


@lru_cache(maxsize=4)
def _kept(rows: int, columns: int, share: float) -> NDArray[np.bool_]:
    count = max(1, round(share * columns))
    distances = np.random.default_rng(1).choice(columns, count, replace=False)
    keep = np.zeros((rows, columns), bool)
    keep[np.arange(rows)[:, None], (np.arange(rows)[:, None] + distances) % columns] = True
    return keep


def ranges(case: Case) -> Ranges:
    """The six arrays; the same objects at every call, as in a user's loop."""
    return _ranges(case.M, case.N, case.block, case.share)


@lru_cache(maxsize=4)
def _ranges(m: int, n: int, block: int, share: float) -> Ranges:
    blocks_i, blocks_j = _blocks(m, block), _blocks(n, block)
    keep = _kept(len(blocks_i), len(blocks_j), share)
    slices_i, slices_j = (np.cumsum(keep.sum(axis)) for axis in (1, 0))
    return blocks_i, slices_i, blocks_j[np.nonzero(keep)[1]], blocks_j, slices_j, blocks_i[np.nonzero(keep.T)[1]]


def _blocks(size: int, block: int) -> NDArray[np.int64]:
    starts = np.arange(0, size, block)
    return np.stack((starts, np.minimum(starts + block, size)), 1)


def mask(case: Case, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which columns these rows visit, (len(rows), N)."""
    return kept(case)[rows // case.block][:, np.arange(case.N) // case.block]
