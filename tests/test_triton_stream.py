"""Data of the host that passes through a GPU in tiles: plans, queues, and every reduction of the table.

It runs by Triton's interpreter on tiny tiles, through queues that run as late, or as early, as their events allow: an
event that is missing shows as wrong numbers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest
from conformance import DTYPES, Case, compare, draw_case, problem, run
from interpreted import MARKS, need_interpreter, now, use_tile
from test_reductions_backends import LISTS, REDUCTIONS, sample, seeded, special_case, term
from test_reductions_backends import NAMES as RECORDS

from pairfuse.backends.triton import launch as triton_launch
from pairfuse.backends.triton.tile import dots_of
from pairfuse.errors import DeviceMemoryError
from pairfuse.ir.expr import call, index, input_
from pairfuse.lower.problem import Sizes
from pairfuse.runtime import chunks, device, memory, stream
from pairfuse.runtime.chunks import ALIGNED, Cost, Plan, plan
from pairfuse.runtime.queues import COPIES, WORK, Staging, pieces

pytestmark = MARKS


# ---------------------------------------------------------------------- plans


def pairs_of(p: Plan, kept: int, reduced: int, batch: tuple[int, ...]) -> np.ndarray:
    """How often every pair is computed."""
    count = np.zeros((*batch, kept, reduced), int)
    for s in p.steps():
        count[(*(slice(*r) for r in s.batch), slice(*s.rows), slice(*s.columns))] += 1
    return count


@pytest.mark.parametrize("seed", range(40))
def test_plans_hold_every_pair_once_and_fit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kept, reduced = (int(n) for n in rng.integers(1, 60, 2))
    batch = ((), (3,), (2, 5), (1, 4, 2))[rng.integers(4)]
    cost = Cost(int(rng.integers(1, 9)), int(rng.integers(1, 9)), int(rng.integers(0, 9)))
    limit = int(rng.integers(cost.fixed, cost.fixed + 4 * math.prod(batch) * (kept * cost.row + reduced * cost.column)))
    p = plan(kept, reduced, batch, cost, limit)
    if p is None:
        assert limit < cost.fixed + 4 * (cost.row + cost.column)
        return
    assert (pairs_of(p, kept, reduced, batch) == 1).all()
    largest = p.largest
    blocks = math.prod(stop - start for start, stop in largest.batch)
    rows, columns = (stop - start for start, stop in (largest.rows, largest.columns))
    places = [min(2, len(p.batches) * n) for n in (len(p.rows), len(p.columns))]
    assert cost.fixed + blocks * (places[0] * rows * cost.row + places[1] * columns * cost.column) <= limit


def test_steps_say_which_columns_are_first_and_last() -> None:
    p = Plan(((),), ((0, 2), (2, 3)), ((0, 4), (4, 8), (8, 9)))
    assert [(s.rows, s.columns, s.first, s.last) for s in p.steps()][2:4] == [
        ((0, 2), (8, 9), False, True),
        ((2, 3), (0, 4), True, False),
    ]


def test_columns_that_fit_stay_and_long_ranges_are_aligned() -> None:
    p = plan(10**9, 10**6, (), Cost(16, 12), 2 * 10**9)
    assert p is not None
    assert p.columns == ((0, 10**6),)
    assert all((stop - start) % ALIGNED == 0 for start, stop in p.rows[:-1])
    assert plan(10, 10, (), Cost(100, 100), 399) is None


@pytest.mark.parametrize("longest", [1, 4, 7, 30, 1000])
def test_pieces_are_contiguous_and_all(longest: int) -> None:
    shape = (2, 3, 5, 4)
    seen = np.zeros(shape, int)
    for place in pieces(shape, longest):
        part = seen[place]
        assert part.size <= longest or longest < 1
        assert part.flags.c_contiguous
        part += 1
    assert (seen == 1).all()


# ---------------------------------------------------------------------- queues


class LateQueues:
    """Two queues that do nothing until someone has to wait, and then, drawn at random, what their events allow."""

    def __init__(self, torch: Any, seed: int, heed: bool = True):
        self.torch, self.heed = torch, heed
        self.rng = np.random.default_rng(seed)
        self.todo: dict[str, list[tuple[str, Any]]] = {WORK: [], COPIES: []}
        self.eager = self.rng.random() * 0.5

    def put(self, queue: str, action: Callable[[], Any]) -> None:
        self.todo[queue].append(("run", action))
        while self.rng.random() < self.eager:
            self._step(str(self.rng.choice([WORK, COPIES])))

    def mark(self, queue: str) -> Any:
        event = {"done": False, "queue": queue}
        self.todo[queue].append(("mark", event))
        return event

    def follow(self, queue: str, event: Any) -> None:
        if self.heed:
            self.todo[queue].append(("follow", event))

    def _step(self, queue: str) -> bool:
        """Do the next thing of a queue, if there is one and it may be done."""
        if not self.todo[queue]:
            return False
        kind, thing = self.todo[queue][0]
        if kind == "follow" and not thing["done"]:
            return False
        self.todo[queue].pop(0)
        if kind == "run":
            thing()
        elif kind == "mark":
            thing["done"] = True
        return True

    def wait(self, event: Any) -> None:
        while not event["done"]:
            order = [WORK, COPIES] if self.rng.random() < 0.5 else [COPIES, WORK]
            assert any(self._step(q) for q in order), "the queues wait for each other"

    def host_memory(self, size: int) -> Any:
        return self.torch.empty(size, dtype=self.torch.uint8)

    def close(self) -> None:
        while any(self._step(q) for q in (WORK, COPIES)):
            pass
        assert not any(self.todo.values())


@pytest.fixture
def _interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    need_interpreter()
    use_tile(monkeypatch, 16, 16)


def streamed(case: Case, steps: Plan, queues: Any = None) -> tuple[np.ndarray, ...]:
    """The outputs of a case, computed by this plan."""
    import torch

    found = device.program(case.problem, now)
    tensors = [device._tensor(torch, a) for a in case.arrays]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "queues_of", lambda torch, _: queues or LateQueues(torch, sum(case.sizes.batch)))
        patch.setattr(stream, "plan_for", lambda *_: steps)
        patch.setattr(stream, "STAGING", 200)
        results = device.streamed(torch, found, tensors, case.sizes, torch.device("cpu"), 0, now)
    return tuple(r.numpy() for r in results)


def cut(case: Case, rows: int, columns: int, batches: int = 1) -> Plan:
    """A plan of ranges of at most these lengths."""
    kept, reduced = (case.sizes.along(a) for a in (case.problem.kept, case.problem.over))
    return Plan(
        tuple(chunks._batches(case.sizes.batch, batches)),
        tuple(chunks._cut(kept, rows)),
        tuple(chunks._cut(reduced, columns)),
    )


def check_streamed(case: Case, steps: Plan, informative: float = 0.5) -> None:
    """Raise unless the case, computed by the plan, is as the reference has it."""
    compare(case, streamed(case, steps), run(case, "reference"), informative)


def in_tiles(name: str, dtype: str, over: str) -> None:
    """Several ranges of rows and of columns, whose last one is shorter; batches; layouts."""
    rng = seeded(name, dtype, "stream")
    dim = 1 if name in LISTS else int(rng.choice((1, 3)))
    m, n = (18, 37) if over == "j" else (37, 18)
    case = sample(rng, name, dtype, dim, m, n, over, "none")
    check_streamed(case, cut(case, 16, 17))
    case = sample(rng, name, dtype, dim, 5, 9, "j", "mixed")
    check_streamed(case, cut(case, 5, 9, 2) if REDUCTIONS[name].arity == 1 else cut(case, 5, 5, 3))


@pytest.mark.usefixtures("_interpreter")
@pytest.mark.parametrize("name", RECORDS)
def test_reduction_in_tiles(name: str) -> None:
    """One type and one axis each, so that half of the records have the one, half of them the other."""
    k = RECORDS.index(name)
    in_tiles(name, DTYPES[k % 2], "ij"[k // 2 % 2])


@pytest.mark.slow
@pytest.mark.usefixtures("_interpreter")
@pytest.mark.parametrize("over", "ij")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RECORDS)
def test_reduction_in_tiles_of_all_types_and_axes(name: str, dtype: str, over: str) -> None:
    in_tiles(name, dtype, over)


@pytest.mark.usefixtures("_interpreter")
@pytest.mark.parametrize("name", RECORDS)
def test_few_rows_in_tiles(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The columns of a tile are shared by programs; the last tile is short, so that some of them have none."""
    use_tile(monkeypatch, 4, 16, split=True)
    rng = seeded(name, "stream", "parts")
    over = str(rng.choice(["i", "j"]))
    m, n = (3, 620) if over == "j" else (620, 3)
    case = sample(rng, name, "float32", 1, m, n, over, "none")
    steps = Plan(((),), ((0, 2), (2, 3)), ((0, 600), (600, 620)))
    check_streamed(case, steps)


@pytest.mark.usefixtures("_interpreter")
@pytest.mark.parametrize("name", RECORDS)
def test_ties_nan_and_infinities_in_tiles(name: str) -> None:
    rng = seeded(name, "stream")
    for special in (0.05, 0.9):
        case = special_case(rng, name, str(rng.choice(DTYPES)), 9, 33, special)
        check_streamed(case, cut(case, 9, 11), informative=0.0)


@pytest.mark.usefixtures("_interpreter")
def test_row_and_column_numbers_are_those_of_the_whole() -> None:
    f = call("where", call("eq", index("i") * 2, index("j")), input_(0, "j", 1), index("j") * 1.0)
    for over, (m, n) in (("j", (25, 60)), ("i", (60, 25))):
        case = draw_case(seeded(over), problem("sum", f, over=over, dtype="float64"), m, n)
        check_streamed(case, cut(case, 10, 17))
        nearest = problem("argKmin", call("abs", index("i") * 1.0 - index("j") * 1.0 + 0.25), over=over, K=3)
        case = Case(nearest, (), Sizes(m, n))
        check_streamed(case, cut(case, 16, 22))


@pytest.mark.usefixtures("_interpreter")
def test_long_vectors_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors stored by component on the device, and several blocks of components of the result."""
    monkeypatch.setattr(triton_launch, "TRANSPOSED_COLUMNS", 4)
    x, y, b = input_(0, "i", 20), input_(1, "j", 20), input_(2, "j", 21)
    for over in "ij":
        case = draw_case(seeded(over), problem("sum", call("exp", -call("sqdist", x, y) * 0.1) * b, over=over), 7, 13)
        check_streamed(case, cut(case, 5, 8))


@pytest.mark.usefixtures("_interpreter")
def test_a_missing_event_would_be_seen() -> None:
    """The queues of these tests are worth something: without the events between them, the numbers are wrong."""
    import torch

    wrong = 0
    for seed in range(4):
        case = draw_case(seeded(seed), problem("sum", *term("sum", 1), dtype="float64"), 40, 90, layouts=["plain"])
        right = run(case, "reference")[0]
        np.testing.assert_allclose(
            streamed(case, cut(case, 14, 23), LateQueues(torch, seed))[0], right, rtol=1e-9, atol=1e-12
        )
        wrong += not np.allclose(
            streamed(case, cut(case, 14, 23), LateQueues(torch, seed, heed=False))[0], right, rtol=1e-9
        )
    assert wrong >= 2


def test_staging_waits_before_it_writes_again() -> None:
    import torch

    queues = LateQueues(torch, 3)
    staging = Staging(queues, 40)
    source = torch.arange(90, dtype=torch.float64).view(9, 10)[:, ::2]
    target, back = torch.zeros(9, 5, dtype=torch.float64), torch.zeros(9, 5, dtype=torch.float64)
    staging.upload(target, source)
    staging.download(back, target)
    assert torch.equal(back, source)


@pytest.mark.usefixtures("_interpreter")
def test_large_data_of_the_host_is_streamed_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(device, "ALWAYS_FITS", 0)
    monkeypatch.setattr(memory, "budget", lambda torch, _: 400)
    seen: list[int] = []
    real = device.streamed
    monkeypatch.setattr(device, "streamed", lambda *a: (seen.append(a[5]), real(*a))[1])
    case = draw_case(seeded("host"), problem("logsumexp", *term("logsumexp")), 50, 60)
    tensors = [device._tensor(torch, a) for a in case.arrays]
    results = device.from_host(torch, case.problem, tensors, case.sizes, torch.device("cpu"), now)
    compare(case, [r.numpy() for r in results], run(case, "reference"))
    assert seen == [400]
    found = device.program(case.problem, now)
    planned = stream.plan_for(found, tensors, case.sizes, 400)
    assert len(planned.rows) > 1
    assert len(planned.columns) > 1
    monkeypatch.setattr(memory, "budget", lambda torch, _: 20)
    with pytest.raises(DeviceMemoryError, match="too small for one row and one column") as caught:
        device.from_host(torch, case.problem, tensors, case.sizes, torch.device("cpu"), now)
    assert "leave the backend out" in str(caught.value)


@pytest.mark.usefixtures("_interpreter")
def test_matrix_units_in_tiles() -> None:
    """Contracted distances, whose operands are made ready for every tile, and a wide sum."""
    x, y, b = input_(0, "i", 64), input_(1, "j", 64), input_(2, "j", 20)
    f = call("exp", -call("sqdist", x, y) * 0.05)
    for formula in (f, f * b, f * (x - y)):
        case = draw_case(seeded("dots"), problem("sum", formula), 20, 40, domains=[(-1.0, 1.0)] * 3)
        found = device.program(case.problem, now)
        assert dots_of(found.kernel, ["float32"] * 3)
        check_streamed(case, cut(case, 16, 24))


@pytest.mark.usefixtures("_interpreter")
def test_inputs_that_repeat_are_copied_once() -> None:
    """One row for all, and batches that share their points, are not multiplied on the way."""
    import torch

    x = torch.zeros(1, 3).expand(50, 3)
    assert stream.input_of(x, "i", "i").tensor.shape == (1, 3)
    assert stream.input_of(x, "i", "i").role == "fixed"
    y = torch.zeros(7, 3).expand(4, 7, 3)
    shared = stream.input_of(y, "j", "i")
    assert (shared.tensor.shape, shared.role) == ((1, 7, 3), "column")
    step = next(Plan((((1, 3),),), ((0, 5),), ((2, 6),)).steps())
    assert shared.part(step).shape == (1, 4, 3)


@pytest.mark.usefixtures("_interpreter")
def test_full_memory_while_streaming(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queues are closed, so that the memory of their copies may go to others, and the next call works."""
    import torch

    case = sample(seeded(0), "sum", "float32", 1, 20, 30, "j", "none")
    closed: list[bool] = []
    queues = LateQueues(torch, 0)
    close, empty = queues.close, memory.empty

    def full(torch: Any, title: str, what: str, *rest: Any) -> Any:
        if "states" in what:
            raise memory.shortage(torch, title, what, *rest)
        return empty(torch, title, what, *rest)

    monkeypatch.setattr(queues, "close", lambda: (closed.append(True), close())[1])
    with monkeypatch.context() as patch:
        patch.setattr(memory, "empty", full)
        with pytest.raises(DeviceMemoryError, match="the states of the rows"):
            streamed(case, cut(case, 10, 10), queues)
    assert closed
    check_streamed(case, cut(case, 10, 10))


@pytest.mark.usefixtures("_interpreter")
@pytest.mark.parametrize("name", ["gradient", "product", "distance", "plain"])
def test_what_operands_take_is_counted(name: str) -> None:
    """The bytes that are planned for a row and a column are those of the arrays that a launch asks for."""
    import torch

    x, y, b = input_(0, "i", 64), input_(1, "j", 64), input_(2, "j", 40)
    k = call("exp", -call("sqdist", x, y))
    f = {"gradient": k * (x - y), "product": k * b, "distance": k, "plain": call("exp", -call("sqdist", b, b))}[name]
    found = device.program(problem("sum", f), now)
    case = draw_case(seeded(name), found.problem, 640, 1280, layouts=["plain"])
    tensors = [device._tensor(torch, a) for a in case.arrays]
    ready = device.ready(found, tensors, case.sizes, tensors[0].device, now)
    arrays = {} if ready.launch.operands is None else ready.launch.operands.arrays
    taken = sum(math.prod(shape) * getattr(torch, kind).itemsize for shape, kind in arrays.values())
    counted = stream.size_on_device(found, tensors, case.sizes)
    known = sum(t.numel() * 4 for t in tensors) + 8 * 640 * found.output_dims[0]
    assert known + taken <= 1.01 * counted
    assert counted <= 1.01 * (known + taken)
