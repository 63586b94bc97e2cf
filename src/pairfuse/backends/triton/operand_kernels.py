"""Writes the kernels that make the operands of the matrix units ready, one program for LINES rows or columns.

In: a kernel, its tile.  Out: the text of `centre<k>`, the mean of a sample of columns, and of `prepare<k>`, which moves
the vectors of an operand to that centre, scales them, and cuts them into numbers of 16 bits (operands.py says why).
"""

from __future__ import annotations

from ...ir.expr import Expr
from ...lower.kernel import Kernel
from ...lower.scalar import Scalarizer, access, free_loops, loop_var
from .operands import COLUMN, ROW, Operand, centre_of, operands, pieces
from .plan import PIECE_LOOP
from .source import Source
from .tile import UNROLL_FOLD, Tile

LARGEST, SMALLEST = 2.0**60, 2.0**-60  # of the components of a line, but for zeros: else it is odd
SIZE = 14  # the largest component of a scaled line is between 2^14 and 2^15: float16 ends at 2^16


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
        if o.is_multiplied:
            self._measure(middle)
        elif o.kind == "parts":
            self._cut(middle)
        else:
            self._keep(middle)
        arguments = [*o.arrays]
        if middle is not None:
            arguments += [f"middle{middle.number}", *(f"steps{r}" for r in range(self.tile.batch_rank))]
        return self._finish(f"prepare{o.number}", [*arguments, "n_lines"])

    def _measure(self, middle: Operand | None) -> None:
        """Squared norms, scales, and the scaled vectors."""
        s, o = self.source, self.operand
        s.line("largest = tl.zeros((BM, 1), tl.float32)")
        s.line("norm = tl.zeros((BM, 1), tl.float64)")
        with s.block(f"for d in range(0, {o.length}, {self.size}):"):
            value = self._centred(middle)
            s.line(f"size = tl.where({value} == {value}, tl.abs({value}), float('inf'))")
            s.line("largest = tl.maximum(largest, tl.max(size, 1, keep_dims=True))")
            s.line(f"long = {value}.to(tl.float64)")
            s.line("norm += tl.sum(long * long, 1, keep_dims=True)")
        if o.centred:
            s.line(f"tl.store(norm{o.number} + place, norm.to(tl.float32), there)")
        if o.kind != "stored":
            self._write(middle)

    def _keep(self, middle: Operand | None) -> None:
        """All components in float32."""
        s, o = self.source, self.operand
        with s.block(f"for d in range(0, {o.length}, {self.size}):"):
            value = self._centred(middle)
            target = f"moved{o.number} + place * {o.length} + number"
            s.line(f"tl.store({target}, {value}, there & (number < {o.length}))")

    def _cut(self, middle: Operand | None) -> None:
        """The parts of bfloat16 of all components. Numbers that are not finite have one part."""
        s, o = self.source, self.operand
        with s.block(f"for d in range(0, {o.length}, {self.size}):"):
            s.line(f"left = {self._centred(middle)}")
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
