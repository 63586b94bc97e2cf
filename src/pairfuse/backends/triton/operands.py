"""Operands of the matrix units: the long vectors of inner products and squared distances, made ready once.

In: a kernel whose terms hold `contraction` nodes or that is a wide sum (wide.py), its tile.  Out: the `Operand`s.
There are three kinds of operands of contractions (`Tile.dots`):

    split     two arrays of float16: v = (hi + lo) 2^e, 22 bits of the largest component (accuracy "strict")
    rounded   one array of float16: v = hi 2^e, 11 bits (accuracy "fast")
    stored    the user's own array of 16 bits, which is exact as it stands

2^e is a power of two of each row, so that scaling is exact and nothing leaves the range of float16.  TF32 has the same
11 bits, at half the speed and twice the memory.  The vectors of a squared distance are centred first on a point c:
|x - y|^2 = |x - c|^2 + |y - c|^2 - 2 <x - c, y - c>, in which less cancels the nearer both are to c; c is the mean of
a sample of columns.  Squared norms are summed in float64.

The vectors of a wide sum are multiplied by numbers of pairs that may be of any size.  They are cut in `parts` of
bfloat16, which has the range of float32 and 8 bits: v = v0 + v1 + v2 is exact, v0 + v1 has 16 bits.  Numbers that are
not finite make the sums of their rows NaN.  Where differences are summed, the vectors are centred as those of their
distance, and those of the rows are kept as float32, "moved".

A line with components that are infinite, NaN, or so large or small that a product would leave the range of float32 is
`odd`: its operand is 0, its scale NaN, and tiles with such lines are computed component by component.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.expr import Expr, toposort
from ...lower.contract import SQDIST, contractions
from ...lower.kernel import Kernel
from .tile import UNROLLED_OPERANDS, Tile, component_block
from .wide import wide_of
from .worth import worth

LINES = 64  # rows or columns of one program; `odd` is told for each such block
SAMPLE = 256  # columns of which the centre is the mean
PIECE = 64  # components that are multiplied and summed at a time (dots.py), a power of two

ROW, COLUMN = "row", "column"


@dataclass(frozen=True, slots=True)
class Operand:
    """The vectors of one side of some contractions.

    number   of the operand in its kernel; the names of its arrays end with it
    vector   the field of the rows or columns
    pair     the squared distance of whose vectors it is one; None: of an inner product, of a wide sum
    kind     "split", "rounded", "stored", "parts", or "moved"
    inputs   slots of the inputs that it is made of
    parts    of "parts": how many there are
    length   components of its arrays: a multiple of 16, because so many are multiplied at a time
    """

    number: int
    side: str
    vector: Expr
    pair: Expr | None
    kind: str
    inputs: tuple[int, ...]
    length: int
    parts: int = 0

    @property
    def slot(self) -> int:
        """Of a stored operand: its input."""
        return self.inputs[0]

    @property
    def centred(self) -> bool:
        return self.pair is not None

    @property
    def is_multiplied(self) -> bool:
        """Is it an operand of a contraction?"""
        return self.kind not in ("parts", "moved")

    @property
    def arrays(self) -> dict[str, tuple[str, str]]:
        """What is prepared: names, Triton types, and of what there is a number (component, line, or block of lines)."""
        k = self.number
        if self.kind == "parts":
            return {f"part{n}_{k}": ("bf16", "component") for n in range(self.parts)}
        if self.kind == "moved":
            return {f"moved{k}": ("fp32", "component")}
        halves = {"split": ("high", "low"), "rounded": ("high",), "stored": ()}[self.kind]
        found = {f"{h}{k}": ("fp16", "component") for h in halves}
        if self.kind != "stored":
            found |= {f"scale{k}": ("fp32", "line"), f"odd{k}": ("i32", "block")}
        return found | ({f"norm{k}": ("fp32", "line")} if self.centred else {})

    @property
    def is_prepared(self) -> bool:
        return bool(self.arrays)


@dataclass(frozen=True, slots=True)
class Contracted:
    """A contraction and its operands."""

    node: Expr
    row: Operand
    column: Operand


def padded(dim: int) -> int:
    """The length of an operand: a multiple of 16, of a whole piece where a loop walks over the pieces."""
    unit = 16 if dim <= UNROLLED_OPERANDS else PIECE
    return -(-dim // unit) * unit


def pieces(length: int) -> list[tuple[int, int]]:
    """(first component, size) of parts of an operand: powers of two, PIECE at most, the largest first."""
    found: list[tuple[int, int]] = []
    start = 0
    while start < length:
        size = min(PIECE, 1 << ((length - start).bit_length() - 1))
        found.append((start, size))
        start += size
    return found


def contracted(kernel: Kernel, tile: Tile) -> tuple[Contracted, ...]:
    """The contractions of the terms. Equal vectors share an operand, unless they are moved to different centres."""
    known: dict[tuple[Expr, Expr | None], Operand] = {}

    def operand(side: str, vector: Expr, centred: bool, of: Expr) -> Operand:
        key = (vector, of if centred else None)
        if key not in known:
            used, length = inputs_of(kernel, vector), padded(vector.dim)
            known[key] = Operand(len(known), side, vector, of if centred else None, tile.dots, used, length)
        return known[key]

    found: list[Contracted] = []
    for node in contractions(*kernel.terms) if tile.dots else ():
        if not worth(kernel, node, tile.dots == "stored"):
            continue
        centred = node.param("form") == SQDIST
        row, column = (operand(s, v, centred, node) for s, v in zip((ROW, COLUMN), node.args, strict=True))
        found.append(Contracted(node, row, column))
    return tuple(found)


def operands(kernel: Kernel, tile: Tile) -> tuple[Operand, ...]:
    """All operands, by number."""
    found = {o.number: o for c in contracted(kernel, tile) for o in (c.row, c.column)}
    return (*(found[k] for k in sorted(found)), *operands_of_sum(kernel, tile, len(found)))


def parts_of_sum(kernel: Kernel, tile: Tile) -> tuple[int, int]:
    """Into how many parts the two factors of a wide sum are cut.

    Strict: 24 bits of both; what is stored in bfloat16 is exact, and 16 bits of what it is multiplied by are twice
    those of the result. Fast: 16 bits of both, or 8.
    """
    fast = kernel.problem.fast
    if tile.sums == "stored":
        return (1 if fast else 2), 1
    return (2, 2) if fast else (3, 3)


def operands_of_sum(kernel: Kernel, tile: Tile, number: int) -> list[Operand]:
    """The vectors of a wide sum, if they have to be made ready; `number`: of the first."""
    wide = wide_of(kernel)
    if wide is None or sums_differences(kernel, tile):
        return []
    block, blocks = component_block(kernel)
    found: list[Operand] = []
    if tile.sums != "stored":
        used, parts = inputs_of(kernel, wide.right), parts_of_sum(kernel, tile)[1]
        found.append(Operand(number, COLUMN, wide.right, wide.pair, "parts", used, block * blocks, parts))
    if wide.row is not None:
        used = inputs_of(kernel, wide.row)
        found.append(Operand(number + 1, ROW, wide.row, wide.pair, "moved", used, block * blocks))
    return found


def sums_differences(kernel: Kernel, tile: Tile) -> bool:
    """Is a wide sum of differences computed by differences in all tiles, because no matrix units take part?"""
    wide = wide_of(kernel)
    return wide is not None and wide.pair is not None and not tile.dots


def centre_of(kernel: Kernel, tile: Tile, operand: Operand) -> Operand | None:
    """The column operand whose mean is the centre of this one; None where it is not moved."""
    points = pair_of(kernel, tile, operand)
    return None if points is None else points.column


def pair_of(kernel: Kernel, tile: Tile, operand: Operand) -> Contracted | None:
    """The squared distance on whose centre an operand is moved."""
    if operand.pair is None or tile.dots == "stored":
        return None
    return next(c for c in contracted(kernel, tile) if c.node is operand.pair)


def inputs_of(kernel: Kernel, root: Expr) -> tuple[int, ...]:
    """The slots of the inputs from which a field is computed."""
    slots: set[int] = set()
    stack = [root]
    while stack:
        for node in toposort(stack.pop()):
            if node.name == "input":
                slots.add(node.param("slot"))
            elif node.name == "field":
                stack.append(kernel.definition(node))
    return tuple(sorted(slots))
