"""The states of the rows, as Triton source: folded from those of the pairs, merged across parts, finished and stored.

In: a plan and the source under construction.  Out: lines of the main kernel; `_merge`, the function by which blocks of
states are folded; the kernel that merges the parts of each row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...ir.expr import Expr
from ...ir.reductions import Slot, State
from ...lower.scalar import Scalarizer, loop_var
from .plan import WIDE_LOOP
from .source import Source

if TYPE_CHECKING:
    from .plan import Plan

PARTS_AT_ONCE = 64  # states of parts that the merging kernel reads at a time


class RowStates:
    """Writes what happens to the states of the rows."""

    def __init__(self, plan: Plan, scalars: Scalarizer, source: Source):
        self.plan, self.scalars, self.source = plan, scalars, source
        self.slots = plan.machine.slots
        self.leaves = {side: tuple(s.leaf(side) for s in self.slots) for side in "ab"}
        self.sums_only = all(s.additive for s in self.slots)

    def components(self, side: str = "a") -> list[Expr]:
        return self.plan.keys(self.scalars, self.leaves[side])

    def each_slot(self) -> list[Slot]:
        """The slot of every component."""
        return self.plan.each_slot()

    def number_components(self) -> None:
        """The numbers of the components of a wide state, for the steps that are taken on all of them at once."""
        if self.plan.wide is not None:
            self.source.line(f"wide = tl.arange(0, {self.plan.block})[None, :]")
            self.source.loops[WIDE_LOOP] = "wide"

    def initial(self, slot: Slot, kind: str, columns: str = "1") -> str:
        finite = abs(slot.init) < float("inf")
        value = (
            int(slot.init) if slot.kind == "index" else repr(float(slot.init)) if finite else f'float("{slot.init}")'
        )
        return f"tl.full((BM, {columns}), {value}, {kind})"

    def start(self) -> dict[Expr, str]:
        """The state over no column."""
        names: dict[Expr, str] = {}
        for key, slot, k in zip(self.components(), self.each_slot(), range(1000), strict=False):
            names[key] = f"row_{slot.name}_{k}"
            self.source.line(f"{names[key]} = {self.initial(slot, self._kind(slot), self.plan.columns(slot))}")
        return names

    def begin(self) -> dict[Expr, str]:
        """The state before the columns of this launch: over none, or what the launches before have carried here."""
        names = self.start()
        if self.plan.tile.carried:
            for k, (name, slot) in enumerate(zip(names.values(), self.each_slot(), strict=True)):
                value = self._loaded(k, "part", f"row < {self._stop()}", slot)
                shape = f"(BM, {self.plan.columns(slot)})"
                self.source.line(f"{name} = tl.broadcast_to({value}, {shape}).to({self._kind(slot)})")
        return names

    def end(self, names: dict[Expr, str]) -> None:
        """Make the outputs of the states, or keep them: for the merge of the parts, for the launch that follows."""
        tile = self.plan.tile
        if tile.split:
            self.store(names)
        elif not tile.carried:
            self.finish(names)
        else:
            with self.source.block("if last != 0:"):
                self.finish(names)
            with self.source.block("if last == 0:"):
                self.store(names)

    def _kind(self, slot: Slot) -> str:
        return self.plan.type_of(slot.kind, slot.additive, long=True)

    # ------------------------------------------------------------------ folding and merging
    def fold(self, names: dict[Expr, str], blocks: list[str], function: str = "_merge") -> None:
        """The states in the columns of a block, those of pairs or of parts, join those of the rows."""
        s = self.source
        if self.sums_only:
            folded = [s.let(f"tl.sum({b}, 1, keep_dims=True)") for b in blocks]
        else:
            folded = [s.fresh("row") for _ in blocks]
            comma = "," if len(folded) == 1 else ""
            operands = f"({', '.join(blocks)}{comma})"
            s.line(f"{', '.join(folded)}{comma} = fold_columns({operands}, 1, {function}, keep_dims=True)")
        self.merge(names, folded)

    def merge(self, names: dict[Expr, str], others: list[str]) -> None:
        """names = merge(names, others)."""
        with self.source.scope():
            for key, slot, other in zip(self.components("b"), self.each_slot(), others, strict=True):
                self.source.bind(key, self.source.let(f"{other}.to({self._kind(slot)})"))
            for key, name in names.items():
                self.source.bind(key, name)
            self.replace(names, self.plan.machine.merge(self.leaves["a"], self.leaves["b"]))

    def replace(self, names: dict[Expr, str], new: State) -> None:
        """Assign the new state, all of it computed from the old one."""
        s = self.source
        with s.scope():
            values = [s(key) for key in self.plan.keys(self.scalars, new)]
            fresh = [
                s.let(f"tl.broadcast_to({v}, (BM, {self.plan.columns(slot)})).to({self._kind(slot)})")
                for v, slot in zip(values, self.each_slot(), strict=True)
            ]
        for name, value in zip(names.values(), fresh, strict=True):
            s.line(f"{name} = {value}")
        for key, name in names.items():
            s.bind(key, name)

    def fold_functions(self) -> list[str]:
        """`_merge`, in the type of the data and in 64 bits: the folds of the main and of the merging kernel."""
        if self.plan.takes_best or self.plan.wide is not None:
            return []
        both = [] if self.sums_only else [self._merge_function("_merge", self.plan.real)]
        if self.plan.tile.split and not self.sums_only:
            both.append(self._merge_function("_merge_parts", "tl.float64"))
        return both

    def _merge_function(self, name: str, real: str) -> str:
        s = Source(real, self.plan.index, self.source.resolve, self.source.shape, scalar=True)
        count = len(self.components())
        for side in "ab":
            for k, key in enumerate(self.components(side)):
                s.bind(key, f"{side}{k}")
        merged = self.plan.machine.merge(self.leaves["a"], self.leaves["b"])
        values = [
            s(self.scalars.at(x, d)) for x, leaf in zip(merged, self.leaves["a"], strict=True) for d in range(leaf.dim)
        ]
        arguments = [f"{side}{k}" for side in "ab" for k in range(count)]
        return "\n".join(
            [f"@triton.jit\ndef {name}({', '.join(arguments)}):", *s.lines, f"    return {', '.join(values)}"]
        )

    # ------------------------------------------------------------------ results
    def finish(self, names: dict[Expr, str]) -> None:
        """finalize in 64 bits, and store."""
        s = self.source
        real, s.real = s.real, "tl.float64"
        s.line(f"inside = tl.broadcast_to(row < {self._stop()}, (BM, 1))")
        with s.scope():
            for key, slot in zip(self.components(), self.each_slot(), strict=True):
                kind = "tl.int64" if slot.kind == "index" else "tl.float64"
                s.bind(key, s.let(f"{names[key]}.to({kind})"))
            outputs = self.plan.machine.finalize(self.leaves["a"])
            totals = self.plan.kernel.problem.output_dims()
            for k, (output, total) in enumerate(zip(outputs, totals, strict=True)):
                s.line(f"o{k} = out{k} + batch.to(tl.int64) * kept * {total} + row * {total}")
                for d in self._places(output):
                    self._store_output(k, total, output.dim, d, s(self.scalars.at(output, d)))
        s.real = real

    def _stop(self) -> str:
        """The end of the rows of this program: those after it are of another tile of the table (listed.py)."""
        return "row_stop" if self.plan.tile.listed else "kept"

    def _places(self, output: Expr) -> list[int | Expr]:
        """The components of an output: one block where it is wide."""
        wide = self.plan.wide is not None and output.dim > 1
        return [loop_var(WIDE_LOOP)] if wide else list(range(output.dim))

    def _store_output(self, k: int, total: int, width: int, d: int | Expr, value: str) -> None:
        kind = self.plan.kernel.problem.record.outputs[k][1]
        target = "tl.int64" if kind == "index" else self.plan.real
        place, inside = str(d), "inside"
        if not isinstance(d, int):
            value = f"tl.broadcast_to({value}, (BM, {width})).to({target})"
            inside = f"inside & (block * {width} + wide < {total})"
            self.source.line(f"tl.store(o{k} + block * {width} + wide, {value}, {inside})")
            return
        if total > width:  # one of several blocks of components
            place = f"block * {width} + {d}"
            inside = f"inside & (row * 0 + {place} < {total})"
        value = f"tl.broadcast_to({value}, (BM, 1)).to({target})"
        self.source.line(f"tl.store(o{k} + ({place}), {value}, {inside})")

    # ------------------------------------------------------------------ parts of the columns
    def _state(self, k: int, part: str) -> str:
        """[batch][component block][part][state component][row]; k: of the components that have names."""
        each = self.each_slot()
        sizes = [slot.dim if self.plan.is_wide(slot) else 1 for slot in each]
        first = f"(batch.to(tl.int64) * {self.plan.blocks} + block) * parts"
        component = f"{sum(sizes[:k])}" + (" + wide" if self.plan.is_wide(each[k]) else "")
        return f"state + (({first} + {part}) * {sum(sizes)} + {component}) * kept + row"

    def store(self, names: dict[Expr, str]) -> None:
        """Keep the state of this part."""
        for k, (name, slot) in enumerate(zip(names.values(), self.each_slot(), strict=True)):
            there = f"tl.broadcast_to(row < {self._stop()}, (BM, {self.plan.columns(slot)}))"
            self.source.line(f"tl.store({self._state(k, 'part')}, {name}.to(tl.float64), {there})")

    def merge_kernel(self) -> str:
        """The kernel that merges the parts of each row, in a fixed order, and finishes them."""
        s = self.source = Source("tl.float64", self.plan.index, self.source.resolve, self.source.shape)
        outputs = [f"out{k}" for k in range(len(self.plan.kernel.problem.record.outputs))]
        s.line("pid = tl.program_id(0)")
        s.line("row = (pid % row_blocks).to(tl.int64) * BM + tl.arange(0, BM)[:, None].to(tl.int64)")
        s.line("other = pid // row_blocks")
        s.line(f"block = other % {self.plan.blocks}")
        s.line(f"batch = other // {self.plan.blocks}")
        self.number_components()
        names = self.start()
        if self.plan.takes_best or self.plan.wide is not None:
            with s.block("for number in range(0, parts):"):
                loaded = [self._loaded(k, "number", "row < kept", slot) for k, slot in enumerate(self.each_slot())]
                self.merge(names, loaded)
        else:
            with s.block(f"for first in range(0, parts, {PARTS_AT_ONCE}):"):
                s.line(f"number = first + tl.arange(0, {PARTS_AT_ONCE})[None, :]")
                s.line("there = (row < kept) & (number < parts)")
                loaded = [self._loaded(k, "number", "there", slot) for k, slot in enumerate(self.each_slot())]
                self.fold(names, loaded, "_merge_parts")
        self.finish(names)
        arguments = [*outputs, "state", "kept", "row_blocks", "parts", "BM: tl.constexpr"]
        head = f'@triton.jit(do_not_specialize=["kept", "row_blocks", "parts"])\ndef merge({", ".join(arguments)}):'
        return "\n".join([head, *s.lines])

    def _loaded(self, k: int, number: str, there: str, slot: Slot) -> str:
        other = repr(float(slot.init)) if abs(slot.init) < float("inf") else f'float("{slot.init}")'
        value = f"tl.load({self._state(k, number)}, {there}, other={other})"
        return self.source.let(f"{value}.to({self.plan.index})" if slot.kind == "index" else value)
