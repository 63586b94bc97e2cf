"""The state machines of the reductions, interpreted on NumPy arrays: any partition of the columns gives the whole.

This is what lets a backend spread the columns of a row over lanes, threads and blocks: `merge` in any order, blocks of
any width, and columns of a part that are not neighbours.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from error_bounds import exactly
from reduction_bounds import judge

from pairfuse.dtypes import FLOAT64
from pairfuse.ir.expr import Expr, evaluate, leaf
from pairfuse.ir.ops import lookup
from pairfuse.ir.reductions import REDUCTIONS, Machine
from pairfuse.transform.expand import expand

NAMES = sorted(REDUCTIONS)
ROWS = 6
SHIFT = lookup("shift")  # importing the table fills it: the steps are made of its operations
State = tuple[np.ndarray, ...]


class Interpreter:
    """Runs a machine on arrays of shape (rows, columns, dim); a state has one column."""

    def __init__(self, machine: Machine, dims: tuple[int, ...]):
        self.machine = machine
        self.sides = {side: tuple(s.leaf(side) for s in machine.slots) for side in "ab"}
        self.terms = tuple(leaf("slot", "real", name=f"F{k}", dim=d, side="f") for k, d in enumerate(dims))
        self.column = leaf("slot", "index", name="j", dim=1, side="f")

    def start(self) -> State:
        kinds = {"real": np.float64, "index": np.int64}
        return tuple(np.full((ROWS, 1, s.dim), s.init, kinds[s.kind]) for s in self.machine.slots)

    def block(self, state: State, fs: list[np.ndarray], j: np.ndarray) -> State:
        """One block of columns: guard and revise, then update."""
        m = self.machine
        if m.guard is not None and m.revise is not None and m.fold is not None:
            fold = np.fmin if m.fold == "min" else np.fmax
            folded = fold.reduce(fs[0], axis=-2, keepdims=True)
            if self._guard(state, folded):
                columns = [(fs[0][:, u : u + 1], j[u]) for u in range(len(j))] if m.by_column else [(folded, j[0])]
                for f, number in columns:
                    # rows whose guard does not hold are revised along with the others, as the lanes of a vector are
                    if self._guard(state, f):
                        new = m.revise(self.sides["a"], self.terms[0], self.column)
                        state = self._values(new, {**self._bind("a", state), self.terms[0]: f, self.column: number})
        new = m.update(self.sides["a"], self.terms, self.column)
        bound = {**self._bind("a", state), **dict(zip(self.terms, fs, strict=True)), self.column: j[:, None]}
        return self._values(new, bound)

    def _guard(self, state: State, f: np.ndarray) -> bool:
        assert self.machine.guard is not None
        test = self.machine.guard(self.sides["a"], self.terms[0])
        return bool(self._values((test,), {**self._bind("a", state), self.terms[0]: f})[0].any())

    def merge(self, a: State, b: State) -> State:
        new = self.machine.merge(self.sides["a"], self.sides["b"])
        return self._values(new, {**self._bind("a", a), **self._bind("b", b)})

    def finalize(self, state: State) -> list[np.ndarray]:
        outputs = self._values(self.machine.finalize(self.sides["a"]), self._bind("a", state))
        return [np.broadcast_to(x, (ROWS, *x.shape[1:]))[:, 0] for x in outputs]

    def _bind(self, side: str, state: State) -> dict[Expr, Any]:
        return dict(zip(self.sides[side], state, strict=True))

    def _values(self, roots: tuple[Expr, ...], known: dict[Expr, Any]) -> State:
        with np.errstate(all="ignore"):
            found = evaluate(expand(roots, leaves=list(known)), known)
        return tuple(np.broadcast_to(v, (ROWS, 1, r.dim)) for v, r in zip(found, roots, strict=True))


def random_terms(rng: np.random.Generator, name: str, n: int, dims: tuple[int, ...], kind: str) -> list[np.ndarray]:
    if kind == "spread":  # exponents over a wide range, in random order
        out = [rng.normal(scale=20.0, size=(ROWS, n, d)) for d in dims]
    else:
        pool = [0.0, 1.0, 1.0, 2.0, -1.0] + ([np.nan, np.inf, -np.inf, -np.inf] if kind == "special" else [])
        out = [rng.choice(pool, size=(ROWS, n, d)) for d in dims]
        if kind == "special":
            out[0][0] = np.nan
            out[0][1] = -np.inf
    if name == "prod":
        out[0] = np.where(np.isfinite(out[0]), np.sign(out[0]) * (1 + 0.01 * np.abs(out[0])), out[0])
    return out


@pytest.mark.parametrize("kind", ["spread", "ties", "special"])
@pytest.mark.parametrize("name", NAMES)
def test_any_partition_of_the_columns_gives_the_whole(name: str, kind: str) -> None:
    rng = np.random.default_rng(zlib.crc32(f"{name} {kind}".encode()))
    record = REDUCTIONS[name]
    for _ in range(6):
        d = int(rng.choice([1, 2]))
        dims = (d,) if record.arity == 1 else (d, int(rng.choice([1, d])))
        params = {"K": int(rng.choice([1, 3, 5]))} if record.params else {}
        n = int(rng.integers(1, 40))
        fs = random_terms(rng, name, n, dims, kind)
        machine = Interpreter(record.machine(dims, FLOAT64.largest, **params), dims)
        parts = int(rng.integers(1, 6))
        owner = rng.integers(0, parts, n)  # columns of different parts lie between each other; a part may be empty
        states: list[State] = []
        for part in range(parts):
            state = machine.start()
            mine = np.flatnonzero(owner == part)
            while len(mine):
                width = int(rng.integers(1, 9))
                state = machine.block(state, [f[:, mine[:width]] for f in fs], mine[:width])
                mine = mine[width:]
            states.append(state)
        while len(states) > 1:  # in any order, any tree
            a, b = (states.pop(int(rng.integers(len(states)))) for _ in range(2))
            states.append(machine.merge(a, b))
        actual = machine.finalize(states[0])
        with np.errstate(all="ignore"):
            expected = record.ref(*[np.broadcast_to(f, (ROWS, n, f.shape[-1])) for f in fs], **params)
        judge(name, params, [exactly(f) for f in fs], expected, actual, FLOAT64, informative=0.0)


def test_the_interpreter_sees_a_wrong_merge() -> None:
    """A machine whose merge forgets one side is refused: the test above is not empty."""
    record = REDUCTIONS["sum"]
    machine = Interpreter(record.machine((1,), FLOAT64.largest), (1,))
    f = np.ones((ROWS, 4, 1))
    whole = machine.block(machine.start(), [f], np.arange(4))
    half = machine.block(machine.start(), [f[:, :2]], np.arange(2))
    judge("sum", {}, [exactly(f)], record.ref(f), machine.finalize(whole), FLOAT64)
    judge("sum", {}, [exactly(f)], record.ref(f), machine.finalize(machine.merge(half, half)), FLOAT64)
    with pytest.raises(AssertionError, match="wrong"):
        judge("sum", {}, [exactly(f)], record.ref(f), machine.finalize(half), FLOAT64)
