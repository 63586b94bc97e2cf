"""Inner products and squared distances of a tile by the matrix units, in the main kernel.

In: an emitter whose tile has `dots`.  Out: lines that read the operands (operands.py), multiply them, and give every
`contraction` node of the terms its value, a block (rows, columns); and a condition: is that not exact enough?

    dot      scale_i scale_j <x, y>
    sqdist   |x - c|^2 + |y - c|^2 - 2 scale_i scale_j <x, y>

Split operands take three products; lo lo, 2^-22 of the rest, is left out.  The small products are added first, and the
large ones to them, because matrix units cut the sums that they round: 64 components at a time, and those are added in
float32.

Accuracy "strict" promises results at most twice as far from the exact ones as plain float32 arithmetic.  The largest
errors among many pairs (tests/test_triton_dots.py emulates and measures both) are, with u = 2^-24, d2 the distance of
D components, and S = |x - c|^2 + |y - c|^2,

    plain, component after component    0.8 sqrt(D) u d2
    by products                         5 u S              3 for norms and sums that are rounded, 2 for those cut

so that products stand where d2 > TAU S, TAU = 5 / (2 * 0.8 sqrt(D)) = 3.2 / sqrt(D).  A tile in which they do not
for some pair is computed again by differences, which also gives equal points the distance 0.

Where the user has stored the points in 16 bits, the products are exact and the results are rounded to 11 bits or less:
TAU = 5 * 2^-24 / 2^-18 keeps the relative error of the distances below 2^-18.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lower.long_sums import BLOCK
from .operands import COLUMN, LINES, PIECE, ROW, Contracted, Operand, contracted, operands, pieces
from .tile import UNROLLED_OPERANDS

if TYPE_CHECKING:
    from .emit import TritonEmitter


def tau(dim: int, kind: str) -> float:
    """The part of |x - c|^2 + |y - c|^2 below which a squared distance is computed by differences."""
    return 5 / 2**6 if kind == "stored" else 3.2 / dim**0.5


class Dots:
    """Writes the products of one kernel."""

    def __init__(self, emitter: TritonEmitter):
        self.emitter, self.source = emitter, emitter.source
        self.tile = emitter.tile
        self.found = contracted(emitter.kernel, emitter.tile)
        self.operands = operands(emitter.kernel, emitter.tile)
        self.multiplied = [o for o in self.operands if o.is_multiplied]
        self.strict = not emitter.problem.fast
        self.held: dict[tuple[int, str, int], str] = {}

    # ------------------------------------------------------------------ arguments
    def pointers(self) -> list[str]:
        return [name for o in self.operands for name in o.arrays]

    def steps(self) -> list[str]:
        """Steps of the operands along the batch axes, in lines."""
        prepared = [o.number for o in self.operands if o.is_prepared]
        return [f"q{k}_{r}" for k in prepared for r in range(self.tile.batch_rank)]

    def operand_of_sum(self, kind: str) -> Operand | None:
        """The operand of a wide sum of this kind ("parts", "moved"), if it is made ready."""
        return next((o for o in self.operands if o.kind == kind), None)

    # ------------------------------------------------------------------ before the columns
    def start(self) -> None:
        """The first line of every operand in this batch; the operands of the rows, where they are short."""
        s = self.source
        for o in self.operands:
            if o.is_prepared:
                steps = "".join(f" + n{r} * q{o.number}_{r}" for r in range(self.tile.batch_rank))
                s.line(f"q{o.number} = 0{steps}")
        for o in self.multiplied:
            if o.side == ROW:
                self._numbers(o, "row_in")
                if o.vector.dim <= UNROLLED_OPERANDS:
                    for half in self._halves(o):
                        for first, size in pieces(o.length):
                            self.held[o.number, half, first] = self._load(o, half, "row_in", str(first), size)

    def _numbers(self, o: Operand, line: str) -> None:
        """The scale and the norm of every line."""
        s, k = self.source, o.number
        if o.kind != "stored":
            factor = " * -2.0" if o.centred and o.side == ROW else ""
            s.line(f"f{k} = tl.load(scale{k} + q{k} + {line}){factor}")
            if o.side == ROW and not o.centred and self.strict:
                s.line(f"odd_rows{k} = any_pair(f{k} != f{k})")
        if o.centred:
            s.line(f"n{k}_line = tl.load(norm{k} + q{k} + {line})")

    def _halves(self, o: Operand) -> tuple[str, ...]:
        return ("high", "low") if o.kind == "split" else ("high",)

    def _load(self, o: Operand, half: str, line: str, first: str, size: int) -> str:
        """A piece of an operand: a block (lines, components)."""
        s = self.source
        number = s.let(f"{first} + tl.arange(0, {size})[None, :]")
        if o.kind != "stored":
            return s.let(f"tl.load({half}{o.number} + (q{o.number} + {line}) * {o.length} + {number})")
        slot, dim = o.slot, o.vector.dim
        pointer = f"p{slot} + {line} * s{slot}"
        if o.length == dim:
            return s.let(f"tl.load({pointer} + {number} * c{slot})")
        return s.let(f"tl.load({pointer} + tl.minimum({number}, {dim - 1}) * c{slot}, {number} < {dim}, other=0.0)")

    # ------------------------------------------------------------------ a tile
    @property
    def guarded(self) -> bool:
        """May the products of a tile be not exact enough?

        Those of numbers that are exact as they are stored may not, only sums of them in which much cancels.
        """
        stored = self.tile.dots == "stored"
        return self.strict and any(not stored or c.row.centred for c in self.found)

    def products(self) -> list[str]:
        """The values of the contractions in the tile, from products of its operands."""
        for o in self.multiplied:
            if o.side == COLUMN:
                self._numbers(o, self.emitter.columns.inside)
        loaded: dict[tuple[int, str, int], str] = {}
        products = [
            self._short(c, loaded) if c.row.vector.dim <= UNROLLED_OPERANDS else self._long(c) for c in self.found
        ]
        return [self._value(c, product) for c, product in zip(self.found, products, strict=True)]

    def bind(self, values: list[str]) -> None:
        """The terms of the tile are made of these values."""
        for c, value in zip(self.found, values, strict=True):
            self.source.bind(self.emitter.scalars.at(c.node, 0), value)

    def near(self, values: list[str], first: str) -> str:
        """A condition: are the values of some pair of the tile not exact enough?"""
        found: list[str] = []
        for c, value in zip(self.found, values, strict=True):
            if c.row.centred:
                part = tau(c.row.vector.dim, c.row.kind)
                found.append(f"not_all_positive({value} - {part!r} * {self._size(c)})")
            elif c.row.kind != "stored":
                found.append(self._odd(c, first))
        return " | ".join(f"({f})" for f in found)

    def _size(self, c: Contracted) -> str:
        return f"(n{c.row.number}_line + n{c.column.number}_line)"

    def _products(self, c: Contracted) -> list[tuple[str, str]]:
        """Which halves are multiplied, the smallest products first."""
        return [("low", "high"), ("high", "low"), ("high", "high")] if c.row.kind == "split" else [("high", "high")]

    def _short(self, c: Contracted, loaded: dict[tuple[int, str, int], str]) -> str:
        s = self.source
        parts = pieces(c.column.length)
        for half in self._halves(c.column):
            for first, size in parts:
                key = (c.column.number, half, first)
                if key not in loaded:
                    loaded[key] = self._load(c.column, half, self.emitter.columns.down_inside, str(first), size)
        total = ""
        for first, _ in parts:
            x = {half: self.held[c.row.number, half, first] for half in self._halves(c.row)}
            y = {half: loaded[c.column.number, half, first] for half in self._halves(c.column)}
            product = self._piece(c, x, y)
            total = s.let(f"{total} + {product}") if total else product
        return total

    def _long(self, c: Contracted) -> str:
        """The products of long operands, piece by piece; of many pieces, the sums of 64 are added up."""
        many = BLOCK * PIECE
        if c.row.length <= 2 * many:
            return self._pieces(c, "0", str(c.row.length))
        s = self.source
        total, start = s.let("tl.zeros((BM, BN), tl.float32)"), s.fresh("d")
        with s.block(f"for {start} in range(0, {c.row.length}, {many}):"):
            part = self._pieces(c, start, f"tl.minimum({start} + {many}, {c.row.length})")
            s.line(f"{total} = {total} + {part}")
        return total

    def _pieces(self, c: Contracted, start: str, stop: str) -> str:
        s = self.source
        total = s.let("tl.zeros((BM, BN), tl.float32)")
        first, down = s.fresh("d"), self.emitter.columns.down_inside
        with s.block(f"for {first} in range({start}, {stop}, {PIECE}):"):
            x = {half: self._load(c.row, half, "row_in", first, PIECE) for half in self._halves(c.row)}
            y = {half: self._load(c.column, half, down, first, PIECE) for half in self._halves(c.column)}
            s.line(f"{total} = {total} + {self._piece(c, x, y)}")
        return total

    def _piece(self, c: Contracted, x: dict[str, str], y: dict[str, str]) -> str:
        """The product of a piece of both operands, a sum of its own."""
        s = self.source
        acc = s.let("tl.zeros((BM, BN), tl.float32)")
        for a, b in self._products(c):
            s.line(f"{acc} = multiply({x[a]}, tl.trans({y[b]}), {acc})")
        return acc

    def _value(self, c: Contracted, product: str) -> str:
        """The inner product or squared distance that belongs to a product of operands."""
        s, scaled = self.source, c.row.kind != "stored"
        row = f"f{c.row.number}" if scaled else "-2.0"
        if scaled:
            product = s.let(f"{product} * f{c.column.number}")
        if not c.row.centred:
            return s.let(f"{product} * {row}") if scaled else product
        value = s.let(f"{self._size(c)} + {product} * {row}")
        if not self.strict:
            s.line(f"{value} = tl.maximum({value}, 0.0, propagate_nan=tl.PropagateNan.ALL)")
        return value

    def _odd(self, c: Contracted, first: str) -> str:
        """Is some row or column of the tile odd? The columns are told by blocks, with which the tiles are aligned."""
        k = c.column.number
        count = max(1, self.tile.cols // LINES)
        place = f"({first} // {LINES} + tl.arange(0, {count}))"
        blocks = f"((reduced + {LINES - 1}) // {LINES})"
        flags = f"tl.load(odd{k} + q{k} // reduced * {blocks} + {place}, {place} < {blocks}, other=0)"
        return f"odd_rows{c.row.number} | (tl.max({flags}, 0) != 0)"
