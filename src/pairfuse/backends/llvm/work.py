"""How much a kernel does: its vector instructions, counted while it is written once more.

In: a Kernel, a Schedule, a Target.  Out: a `Work`, the instructions of each part of the kernel.  There is no table of
what an operation costs: whatever the cells of the tables write is what is counted.  Loops of known length count their
trips; a branch of the reduction counts as often as `Region.total` is told, one for odd arguments never.

Not counted are the integers of the loops and addresses, which run beside on other units, results that nobody reads, and
what LLVM makes part of another instruction: a product that an addition takes up, a comparison whose selection is a
minimum, a broadcast number.
"""

from __future__ import annotations

import functools
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ...lower.kernel import Kernel
from ...lower.schedule import Schedule, Target
from .builder import BITS, Builder, Loop, Value
from .emit import KernelEmitter


@dataclass(frozen=True, slots=True)
class Count:
    """Vector instructions: arithmetic and comparisons; divisions and roots; loads and stores."""

    operations: float = 0.0
    divisions: float = 0.0
    moves: float = 0.0

    def __add__(self, other: Count) -> Count:
        return Count(self.operations + other.operations, self.divisions + other.divisions, self.moves + other.moves)

    def __mul__(self, times: float) -> Count:
        return Count(self.operations * times, self.divisions * times, self.moves * times)

    @property
    def arithmetic(self) -> float:
        """All but loads and stores."""
        return self.operations + self.divisions


# How often the branches inside of each other are taken in one step, from the outermost; those further inside, always.
Taken = Sequence[float]


@dataclass
class Region:
    """A piece of the code: its own instructions, then what loops and branches it holds."""

    kind: str = "part"  # "branch": run as often as it is taken; "part": `trips` times
    trips: float = 1
    lines: list[tuple[str, Count]] = field(default_factory=list)  # the name of the result
    inner: list[Region] = field(default_factory=list)
    count: Count = field(default_factory=Count)

    def settle(self, live: set[str]) -> None:
        """Add up the lines whose results are read."""
        self.count = _sum(count for name, count in self.lines if not name or name in live)
        for part in self.inner:
            part.settle(live)

    def total(self, taken: Taken = ()) -> Count:
        """All instructions of one run."""
        total = self.count
        for part in self.inner:
            often, below = part.trips, taken
            if part.kind == "branch":
                often, below = (taken[0], taken[1:]) if taken else (1.0, taken)
            total += part.total(below) * often
        return total


@dataclass(frozen=True)
class Work:
    """The instructions of the parts of a kernel, each for vectors of `lanes` numbers.

    step    `rows` x `cols` vectors of pairs; `rest`: the same with one column, at the end of a block
    block   what follows every block of columns: short sums are added to long ones
    tile    once for a tile of rows and a chunk of columns
    column  once for every column that is packed
    """

    step: Region
    rest: Region
    block: Count
    tile: Count
    column: Count
    schedule: Schedule

    @property
    def pairs(self) -> int:
        """Pairs of one step."""
        return self.schedule.rows * self.schedule.cols * self.schedule.lanes


def work_of(kernel: Kernel, schedule: Schedule, target: Target) -> Work:
    """Count the instructions of a kernel."""
    b = Counter(schedule.lanes, target.flags, target.vector_bytes)
    KernelEmitter(kernel, schedule, b).emit()
    live = _live(b.lines)
    for region in b.parts.values():
        region.settle(live)
    part = b.named
    column = part("column").total() + part("columns").total() * (1 / schedule.lanes)
    return Work(part("step"), part("rest"), part("block").total(), part("tile").total(), column, schedule)


def _sum(counts: Iterable[Count]) -> Count:
    return functools.reduce(operator.add, counts, Count())


_NAMES = re.compile(r"%[\w.]+")


def _live(lines: Sequence[str]) -> set[str]:
    """The results that are read, in the end, by something that is done: a store, a branch, another trip of a loop."""
    live: set[str] = set()
    parts = [line.strip().partition(" = ") for line in lines]
    for _, _, text in parts:
        if text.startswith("phi "):
            live.update(_NAMES.findall(text))
    for name, mark, text in reversed(parts):
        if not mark:
            live.update(_NAMES.findall(name))
        elif name in live:
            live.update(_NAMES.findall(text))
    return live


_RESULT = re.compile(r"(?:call (?:fastcc )?)?(?:\w+ )*?<(\d+) x (\w+)>")
# Nothing for the units that are counted to do: addresses and jumps, names for parts of vectors, other views of bits.
ADDRESSES = {"getelementptr", "ptrtoint", "inttoptr", "alloca", "br", "ret"}
PARTS = {"insertelement", "extractelement", "shufflevector", "insertvalue", "extractvalue"}
CONVERSIONS = {"bitcast", "trunc", "zext", "sext"}
FREE = ADDRESSES | PARTS | CONVERSIONS
DIVISIONS = {"fdiv", "frem", "sdiv", "srem", "udiv", "urem"}
# A function of the C library, called lane by lane: some tens of instructions each (builder.py, call_lanes).
LIBRARY_CALL = 40


class Counter(Builder):
    """A builder that counts what it writes, in a tree of regions."""

    def __init__(self, lanes: int, features: frozenset[str], vector_bytes: int):
        super().__init__(lanes, features)
        self.vector_bytes = vector_bytes
        self.fuses = bool({"fma", "avx512f", "neon"} & features)
        self.region = Region()
        self.parts: dict[str, Region] = {}
        self.products: set[str] = set()  # products that a sum may take up
        self.compared: dict[str, set[str]] = {}  # the operands of a comparison
        self.asked: Region | None = None  # of the branch about to be written
        self.lengths: dict[str, float] = {}  # by the index of a loop: the mean distance to its next value
        self.of_functions: dict[str, Count] = {}

    def named(self, name: str) -> Region:
        return self.parts.get(name, Region())

    # ------------------------------------------------------------------ regions
    @contextmanager
    def _within(self, region: Region) -> Iterator[None]:
        outer, self.region = self.region, region
        outer.inner.append(region)
        try:
            yield
        finally:
            self.region = outer

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        outer, self.region = self.region, self.parts.setdefault(name, Region())
        try:
            yield
        finally:
            self.region = outer

    @contextmanager
    def loop(self, start: str, stop: str, step: int | str, carried: Sequence[Value] = ()) -> Iterator[Loop]:
        length = self.lengths.get(start)  # of a loop over a block of another one (component_sums.py)
        if start.isdigit() and stop.isdigit():
            length = float(int(stop) - int(start))
        trips = 1.0 if length is None else float(math.ceil(length / int(step)))
        with self._within(Region("part", trips)), super().loop(start, stop, step, carried) as loop:
            if length is not None:
                self.lengths[loop.index] = length / trips
            yield loop

    def if_any(
        self, condition: Value, then: Callable[[], Sequence[Value]], otherwise: Sequence[Value], rare: bool = False
    ) -> list[Value]:
        self.asked = Region("part", 0) if rare else Region("branch")
        return super().if_any(condition, then, otherwise)

    def if_scalar(self, condition: str, then: Callable[[], Sequence[Value]], otherwise: Sequence[Value]) -> list[Value]:
        # what no lane is asked for is one of two ways of the same length (pairs.py, _revise_column)
        region, self.asked = self.asked or Region("part", 0.5), None

        def inside() -> Sequence[Value]:
            with self._within(region):
                return then()

        return super().if_scalar(condition, inside, otherwise)

    # ------------------------------------------------------------------ lines
    def let(self, text: str) -> str:
        name = super().let(text)
        self.region.lines.append((name, self._of(name, text)))
        return name

    def line(self, text: str) -> None:
        super().line(text)
        self.region.lines.append(("", self._of("", text)))

    def _of(self, name: str, text: str) -> Count:
        verb = text.split(" ", 1)[0]
        if verb in ("load", "store") and "<" not in text:
            return Count(moves=1) if text.startswith((f"{verb} float", f"{verb} double")) else Count()
        found = _RESULT.search(text)
        if found is None or verb in FREE:
            return self._library(text)
        vectors = self._registers(int(found[1]), found[2])
        if verb in ("load", "store"):
            return Count(moves=vectors)
        if verb == "call":
            return self._call(text, vectors)
        if verb in DIVISIONS:
            return Count(divisions=vectors)
        return Count(operations=0 if self._taken_up(verb, name, text) else vectors)

    def _library(self, text: str) -> Count:
        return Count(operations=LIBRARY_CALL) if text.startswith("call double @") else Count()

    def _registers(self, lanes: int, elem: str) -> int:
        """Vector registers that so many numbers fill; bits fill one."""
        return max(1, -(-lanes * BITS.get(elem, 64) // (8 * self.vector_bytes)))

    def _call(self, text: str, vectors: int) -> Count:
        if ".gather." in text or ".scatter." in text:
            return Count(moves=self.lanes)
        if "@llvm.sqrt." in text:
            return Count(divisions=vectors)
        if "call fastcc" in text:
            return self._function(text.partition("@")[2].partition("(")[0])
        return Count(operations=vectors)

    def _function(self, name: str) -> Count:
        """The instructions of a function of this module, whose branches are for odd arguments."""
        if name not in self.of_functions:
            inner = Counter(self.lanes, self.features, self.vector_bytes)
            inner.functions = self.functions
            total, rare = Count(), False
            lines = self.functions["@" + name].splitlines()
            live = _live(lines)
            for line in lines:
                if line.endswith(":"):
                    rare = line.startswith("then")
                elif not rare:
                    left, mark, right = line.strip().partition(" = ")
                    found = inner._of(left, right or left)
                    total += found if not mark or left in live else Count()
            self.of_functions[name] = total
        return self.of_functions[name]

    def _taken_up(self, verb: str, name: str, text: str) -> bool:
        """Does LLVM write this as part of another instruction?"""
        operands = {word.rstrip(",") for word in text.split() if word.startswith("%")}
        if text.startswith("fmul contract"):
            if self.fuses:
                self.products.add(name)
        elif text.startswith("fadd contract"):
            used = operands & self.products
            if used:
                self.products.discard(used.pop())
                return True
        elif verb == "fcmp":
            self.compared[name] = operands
        elif verb == "select":
            condition = text.split()[4].rstrip(",")
            return self.compared.get(condition, set()) >= operands - {condition}
        return False
