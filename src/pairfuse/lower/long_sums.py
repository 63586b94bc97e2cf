"""How sums over the components of long vectors are cut, for all backends that compile.

In: the length of a sum.  Out: how many levels of blocks it has.

One chain of additions loses up to one rounding error for each of its terms, and for equal terms nearly that: 2e-5 over
1536 components in float32.  So a block of 64 components is a sum of its own, 64 blocks are another, and so on.  A term
passes through at most 64 additions at each of ceil(log_64 D) levels: docs/accuracy.md states the bound.
"""

from __future__ import annotations

BLOCK = 64
# Up to this length one chain keeps the bound of two levels, and two blocks would not pay for themselves.
ONE_CHAIN = 2 * BLOCK


def levels(size: int) -> int:
    """The number of levels at which blocks are added up: 0 for one chain."""
    if size <= ONE_CHAIN:
        return 0
    level = 1
    while BLOCK ** (level + 1) < size:
        level += 1
    return level
