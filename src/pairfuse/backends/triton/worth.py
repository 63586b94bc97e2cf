"""Which contractions are worth the matrix units.

In: a kernel, a `contraction` node of its terms.  Out: yes or no.
"""

from __future__ import annotations

from ...ir.expr import Expr
from ...lower.contract import DOT, SHORTEST
from ...lower.kernel import Kernel

# Squared distances of shorter vectors are computed by differences where the accuracy is strict: for them, dots.py would
# do it anyway in most tiles. Of points at random, 2 <x, y> is beyond (1 - TAU) S in one of 10,000 pairs of vectors of
# length 48, in one of 100,000 of length 56, in one of a million of length 64; and a tile has some 8,000 pairs.
SHORTEST_DISTANCE = 56
SHORTEST_STORED_DISTANCE = 32


def worth(kernel: Kernel, node: Expr, stored: bool) -> bool:
    """Is a contraction given to the matrix units? `stored`: of numbers that are exact as they are stored."""
    if kernel.problem.fast or node.param("form") == DOT:
        return node.args[0].dim >= SHORTEST
    return node.args[0].dim >= (SHORTEST_STORED_DISTANCE if stored else SHORTEST_DISTANCE)
