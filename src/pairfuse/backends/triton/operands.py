"""Operands of the matrix units: the long vectors of inner products and squared distances, made ready once.

In: a kernel whose terms hold `contraction` nodes or that is a wide sum (wide.py), its tile.  Out: the `Operand`s, and
the text of the kernels that make them ready, one program for LINES rows or columns.  There are three kinds of operands
of contractions (`Tile.dots`):

    split     two arrays of float16: v = (hi + lo) 2^e, 22 bits of the largest component (accuracy "strict")
    rounded   one array of float16: v = hi 2^e, 11 bits (accuracy "fast")
    stored    the user's own array of 16 bits, which is exact as it stands

2^e is a power of two of each row, so that scaling is exact and nothing leaves the range of float16.  TF32 has the same
11 bits, at half the speed and twice the memory.  The vectors of a squared distance are centred first on a point c:
|x - y|^2 = |x - c|^2 + |y - c|^2 - 2 <x - c, y - c>, in which less cancels the nearer both are to c; c is the mean of
a sample of columns.  Squared norms are summed in float64.

The vectors of a wide sum are multiplied by numbers of pairs that may be of any size.  They are cut in `parts` of
bfloat16, which has the range of float32 and 8 bits: v = v0 + v1 + v2 is exact, v0 + v1 has 16 bits.  Numbers that are
not finite make the sums of their rows NaN.

A line with components that are infinite, NaN, or so large or small that a product would leave the range of float32 is
`odd`: its operand is 0, its scale NaN, and tiles with such lines are computed component by component.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.expr import Expr, toposort
from ...lower.contract import SQDIST, contractions
from ...lower.kernel import Kernel
from ...lower.scalar import Scalarizer, access, free_loops, loop_var
from .plan import PIECE_LOOP
from .source import Source
from .tile import UNROLL_FOLD, Tile, component_block, worth
from .wide import wide_of

LINES = 64  # rows or columns of one program; `odd` is told for each such block
SAMPLE = 256  # columns of which the centre is the mean
PIECE = 64  # components that are multiplied and summed at a time (dots.py), a power of two
UNROLLED = 128  # longer operands are read piece by piece, in a loop
LARGEST, SMALLEST = 2.0**60, 2.0**-60  # of the components of a line, but for zeros: else it is odd
SIZE = 14  # the largest component of a scaled line is between 2^14 and 2^15: float16 ends at 2^16

ROW, COLUMN = "row", "column"


@dataclass(frozen=True, slots=True)
class Operand:
    """The vectors of one side of some contractions.

    number   of the operand in its kernel; the names of its arrays end with it
    vector   the field of the rows or columns
    centred  is it one of a squared distance?
    kind     "split", "rounded", "stored", or "parts"
    inputs   slots of the inputs that it is made of
    parts    of "parts": how many there are
    length   components of its arrays: a multiple of 16, because so many are multiplied at a time
    """

    number: int
    side: str
    vector: Expr
    centred: bool
    kind: str
    inputs: tuple[int, ...]
    length: int
    parts: int = 0

    @property
    def slot(self) -> int:
        """Of a stored operand: its input."""
        return self.inputs[0]

    @property
    def arrays(self) -> dict[str, tuple[str, str]]:
        """What is prepared: names, Triton types, and of what there is a number (component, line, or block of lines)."""
        k = self.number
        if self.kind == "parts":
            return {f"part{n}_{k}": ("bf16", "component") for n in range(self.parts)}
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
    unit = 16 if dim <= UNROLLED else PIECE
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
            known[key] = Operand(len(known), side, vector, centred, tile.dots, used, length)
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
    summed = wide_operand(kernel, tile, len(found))
    return (*(found[k] for k in sorted(found)), *([] if summed is None else [summed]))


def parts_of_sum(kernel: Kernel, tile: Tile) -> tuple[int, int]:
    """Into how many parts the two factors of a wide sum are cut.

    Strict: 24 bits of both; what is stored in bfloat16 is exact, and 16 bits of what it is multiplied by are twice
    those of the result. Fast: 16 bits of both, or 8.
    """
    fast = kernel.problem.fast
    if tile.sums == "stored":
        return (1 if fast else 2), 1
    return (2, 2) if fast else (3, 3)


def wide_operand(kernel: Kernel, tile: Tile, number: int) -> Operand | None:
    """The vectors of a wide sum, if they have to be made ready."""
    wide = wide_of(kernel)
    if wide is None or tile.sums == "stored":
        return None
    block, blocks = component_block(kernel)
    used, parts = inputs_of(kernel, wide.right), parts_of_sum(kernel, tile)[1]
    return Operand(number, COLUMN, wide.right, False, "parts", used, block * blocks, parts)


def centre_of(kernel: Kernel, tile: Tile, operand: Operand) -> Operand | None:
    """The column operand whose mean is the centre of this one; None where it is not moved."""
    if not operand.centred or operand.kind == "stored":
        return None
    return next(c.column for c in contracted(kernel, tile) if operand.number in (c.row.number, c.column.number))


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


# ---------------------------------------------------------------------- the kernels that make them ready


def prepare_functions(kernel: Kernel, tile: Tile) -> list[str]:
    """The text of `centre<k>` and `prepare<k>` for the operands that need them."""
    found: list[str] = []
    for o in operands(kernel, tile):
        if o.is_prepared:
            middle = centre_of(kernel, tile, o)
            if middle == o:
                found.append(_Preparation(kernel, tile, o).centre())
            found.append(_Preparation(kernel, tile, o).prepare(middle))
    return found


def arguments_of(operand: Operand, rank: int) -> list[str]:
    """The arguments by which the kernels of this file read the inputs of an operand."""
    names: list[str] = []
    for k in operand.inputs:
        names += [f"in{k}", f"s{k}", f"c{k}"]
    return [*names, *(f"b{k}_{r}" for k in operand.inputs for r in range(rank)), *(f"nb{r}" for r in range(rank))]


class _Preparation:
    """Writes one of the two kernels of an operand: its lines lie along axis 0, its components along axis 1."""

    def __init__(self, kernel: Kernel, tile: Tile, operand: Operand):
        self.kernel, self.tile, self.operand = kernel, tile, operand
        self.axis = kernel.problem.kept if operand.side == ROW else kernel.problem.over
        self.scalars = Scalarizer(unroll_fold=UNROLL_FOLD)
        self.source = Source("tl.float32", "tl.int64", self.resolve, self.shape)
        self.loops: dict[Expr, frozenset[int]] = {}
        self.size = pieces(operand.length)[0][1]

    def shape(self, node: Expr) -> str:
        along = PIECE_LOOP in free_loops(node, self.loops)
        return f"({'BM' if self.axis in node.axes else 1}, {self.size if along else 1})"

    def resolve(self, node: Expr) -> str:
        if node.name == "index":
            return "line"
        source, d = access(node)
        if source.name == "field":
            scalars = self.source.scalars_here(UNROLL_FOLD)
            return self.source(scalars.at(self.kernel.definition(source), d))
        slot = source.param("slot")
        component = f"{d} * c{slot}" if isinstance(d, int) else f"{self.source(d)} * c{slot}"
        place = "tl.zeros((1, 1), tl.int32)" if source.param("axis") == "p" else f"line * s{slot}"
        return self.source.let(f"tl.load(p{slot} + {place} + {component}).to(tl.float32)")

    def _batch(self, number: str) -> None:
        """Pointers to the inputs in this batch."""
        s = self.source
        s.line(f"rest = {number}")
        rank = self.tile.batch_rank
        for r in reversed(range(rank)):
            s.line(f"n{r} = (rest % nb{r}).to(tl.int64)")
            s.line(f"rest = rest // nb{r}")
        for k in self.operand.inputs:
            s.line(f"p{k} = in{k}" + "".join(f" + n{r} * b{k}_{r}" for r in range(rank)))

    def _piece(self) -> str:
        """The components `d` of the lines, zeros beyond the last one."""
        s, dim = self.source, self.operand.vector.dim
        s.line(f"number = d + tl.arange(0, {self.size})[None, :]")
        s.loops[PIECE_LOOP] = s.let(f"tl.minimum(number, {dim - 1})")
        value = s(self.scalars.at(self.operand.vector, loop_var(PIECE_LOOP)))
        return s.let(f"tl.where(number < {dim}, tl.broadcast_to({value}, (BM, {self.size})), 0.0)")

    def _finish(self, name: str, arguments: list[str]) -> str:
        own = arguments_of(self.operand, self.tile.batch_rank)
        numbers = [a for a in [*arguments, *own] if a.startswith(("b", "nb", "steps", "n_"))]
        fixed = ", ".join(f'"{n}"' for n in numbers)
        listed = ", ".join([*arguments, *own, "BM: tl.constexpr"])
        head = f"@triton.jit(do_not_specialize=[{fixed}])\ndef {name}({listed}):"
        return "\n".join([head, *self.source.lines])

    def centre(self) -> str:
        """The mean of finite numbers, component by component, of lines that are evenly spread.

        16 components at a time: 64 of all the lines at once spill.
        """
        s, o, self.size = self.source, self.operand, 16
        self._batch("tl.program_id(0)")
        s.line("line = (tl.arange(0, BM)[:, None].to(tl.int64) * n_lines) // BM")
        with s.block(f"for d in range(0, {o.length}, {self.size}):"):
            value = self._piece()
            s.line(f"finite = tl.abs({value}) <= {LARGEST!r}")
            s.line("count = tl.sum(finite.to(tl.float32), 0, keep_dims=True)")
            s.line(f"total = tl.sum(tl.where(finite, {value}, 0.0), 0, keep_dims=True)")
            s.line("middle = total / tl.maximum(count, 1.0)")
            place = f"middle{o.number} + tl.program_id(0).to(tl.int64) * {o.length} + number"
            s.line(f"tl.store({place}, middle, number < {o.length})")
        return self._finish(f"centre{o.number}", [f"middle{o.number}", "n_lines"])

    def prepare(self, middle: Operand | None) -> str:
        """Scale, norm, and the arrays of float16, of LINES lines of one batch."""
        s, o = self.source, self.operand
        s.line("blocks = tl.cdiv(n_lines, BM)")
        s.line("batch = tl.program_id(0) // blocks")
        s.line("block = tl.program_id(0) % blocks")
        self._batch("batch")
        s.line("here = block.to(tl.int64) * BM + tl.arange(0, BM)[:, None]")
        s.line("line = tl.minimum(here, n_lines - 1)")
        s.line("there = here < n_lines")
        s.line("place = batch.to(tl.int64) * n_lines + here")
        if o.kind == "parts":
            self._cut()
            return self._finish(f"prepare{o.number}", [*o.arrays, "n_lines"])
        s.line("largest = tl.zeros((BM, 1), tl.float32)")
        s.line("norm = tl.zeros((BM, 1), tl.float64)")
        with s.block(f"for d in range(0, {o.length}, {self.size}):"):
            value = self._centred(middle)
            s.line(f"size = tl.where({value} == {value}, tl.abs({value}), float('inf'))")
            s.line("largest = tl.maximum(largest, tl.max(size, 1, keep_dims=True))")
            s.line(f"long = {value}.to(tl.float64)")
            s.line("norm += tl.sum(long * long, 1, keep_dims=True)")
        arguments = [*o.arrays]
        if o.centred:
            s.line(f"tl.store(norm{o.number} + place, norm.to(tl.float32), there)")
        if o.kind != "stored":
            self._write(middle)
        if middle is not None:
            arguments += [f"middle{middle.number}", *(f"steps{r}" for r in range(self.tile.batch_rank))]
        return self._finish(f"prepare{o.number}", [*arguments, "n_lines"])

    def _cut(self) -> None:
        """The parts of bfloat16 of all components. Numbers that are not finite have one part."""
        s, o = self.source, self.operand
        with s.block(f"for d in range(0, {o.length}, {self.size}):"):
            s.line(f"left = {self._piece()}")
            s.line("finite = tl.abs(left) <= 3.3e38")
            s.line(f"target = place * {o.length} + number")
            for name in o.arrays:
                s.line("part = left.to(tl.bfloat16)")
                s.line(f"tl.store({name} + target, part, there & (number < {o.length}))")
                s.line("left = tl.where(finite, left - part.to(tl.float32), 0.0)")

    def _centred(self, middle: Operand | None) -> str:
        value = self._piece()
        if middle is None:
            return value
        batch = "".join(f" + n{r} * steps{r}" for r in range(self.tile.batch_rank))
        s = self.source
        c = s.let(f"tl.load(middle{middle.number}{batch} + number, number < {middle.length}, other=0.0)")
        # padding components stay 0: those of the centre are 0, too
        return s.let(f"{value} - {c}")

    def _write(self, middle: Operand | None) -> None:
        s, o = self.source, self.operand
        s.line(f"odd = ~((largest == 0.0) | ((largest >= {SMALLEST!r}) & (largest <= {LARGEST!r})))")
        s.line("power = largest.to(tl.int32, bitcast=True) & 0x7F800000")
        s.line("power = tl.where(odd | (largest == 0.0), 0x3F800000, power)")
        s.line("scale = power.to(tl.float32, bitcast=True)")
        s.line(f"inverse = (0x7F000000 - power).to(tl.float32, bitcast=True) * {2.0**SIZE!r}")
        scale = f"scale * {2.0 ** (-2 * SIZE)!r}" if o.side == COLUMN else "scale"
        s.line(f"tl.store(scale{o.number} + place, tl.where(odd, float('nan'), {scale}), there)")
        s.line("some = tl.max((odd & there).to(tl.int32), 0)")
        s.line("first = tl.program_id(0) + tl.arange(0, 1)")
        s.line(f"tl.store(odd{o.number} + first, some)")
        with s.block(f"for d in range(0, {o.length}, {self.size}):"):
            value = self._centred(middle)
            s.line(f"scaled = tl.where(odd, 0.0, {value} * inverse)")
            s.line("high = scaled.to(tl.float16)")
            s.line(f"target = place * {o.length} + number")
            s.line(f"inside = there & (number < {o.length})")
            s.line(f"tl.store(high{o.number} + target, high, inside)")
            if o.kind == "split":
                s.line("low = (scaled - high.to(tl.float32)).to(tl.float16)")
                s.line(f"tl.store(low{o.number} + target, low, inside)")
