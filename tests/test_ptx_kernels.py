"""Pairfuse's kernels, compiled for a GPU as a launch does it, run by the PTX machine, and compared with the reference.

The tiles are those that are chosen for GPUs, data is small.  What only depends on the formula is drawn more widely by
the tests with Triton's interpreter, which test_ptx_conformance.py runs on the machine.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from block_sparse import check_blocks, draw_mask, with_ranges
from conformance import Case, Interval, check, draw_case, problem, run
from ptx.driver import MachineDriver
from ptx.machine import MachineError
from ptx.use import as_device, compiled_in, needs_compiler
from test_ops_backends import arguments
from test_reductions_backends import seeded, special_case

from pairfuse.backends.triton import launch
from pairfuse.backends.triton.tile import Tile, choose, widened
from pairfuse.ir.expr import Expr, as_kind, call, index, input_, whole
from pairfuse.ir.ops import TABLE
from pairfuse.lower.integers import unseen
from pairfuse.lower.kernel import Kernel
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.runtime import device, probe
from pairfuse.runtime.execute import execute
from pairfuse.runtime.integers import digits

pytestmark = needs_compiler


def slow(*values: Any) -> Any:
    """Values of a parameter that are left out by `make test`: a kernel takes seconds to compile."""
    return pytest.param(*values, marks=pytest.mark.slow)


BOTH_GPUS = pytest.mark.parametrize("gpu", [80, slow(90)], indirect=True)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for what this process compiles."""
    return tmp_path_factory.mktemp("triton")


@pytest.fixture(autouse=True)
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, compiled: Path) -> Iterator[MachineDriver]:
    """The machine; a GPU of capability 8.0, if the test is not of another one."""
    compiled_in(str(compiled), monkeypatch)
    with as_device(monkeypatch, getattr(request, "param", 80)) as driver:
        yield driver


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> list[Tile]:
    """The tiles that are chosen."""
    seen: list[Tile] = []

    def chosen(kernel: Kernel, sizes: Sizes, *rest: Any) -> Tile:
        seen.append(choose(kernel, sizes, *rest))
        return seen[-1]

    monkeypatch.setattr(device, "choose_tile", chosen)
    return seen


def vectors(d: int) -> tuple[Expr, Expr]:
    return input_(0, "i", d), input_(1, "j", d)


def distance(d: int = 3) -> Expr:
    return call("sqdist", *vectors(d))


def gaussian(d: int = 3, scale: float = 1.0) -> Expr:
    return call("exp", distance(d) * -scale)


def common(over: str, d: int = 3, scale: float = 1.0) -> dict[str, Problem]:
    """The kernels that most calls take, of vectors of length d."""
    b, (x, y) = input_(2, over, 1), vectors(d)
    return {
        "gaussian": problem("sum", gaussian(d, scale) * b, over=over),
        "gradient": problem("sum", gaussian(d, scale) * b * (x - y), over=over),
        "logsumexp": problem("logsumexp", b - distance(d) * scale, over=over),
        "min_argmin": problem("min_argmin", distance(d), over=over),
        "neighbours": problem("Kmin_argKmin", distance(d), over=over, K=10),
        "softmax": problem("sumsoftmaxweight", distance(d) * -scale, input_(2, over, 3), over=over),
    }


NAMES = tuple(common("j"))

# ---------------------------------------------------------------------- short vectors


@pytest.mark.parametrize("layout", ["plain", slow("sliced"), slow("fortran")])
@pytest.mark.parametrize("name", NAMES)
def test_common_kernels(name: str, layout: str) -> None:
    """Rows and columns that are no multiple of a tile, in layouts that Triton specialises, or cannot."""
    rng = seeded(name, layout, "ptx")
    over = "ij"[NAMES.index(name) % 2]
    check(draw_case(rng, common(over)[name], 67, 257, layouts=[layout]), "triton")


@pytest.mark.slow
@pytest.mark.parametrize("gpu", [80, 90], indirect=True)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("over", "ij")
@pytest.mark.parametrize("name", NAMES)
def test_common_kernels_of_all_types_and_gpus(name: str, over: str, dtype: str) -> None:
    rng = seeded(name, over, dtype, "ptx")
    p = replace(common(over)[name], dtype=dtype)
    for m, n in ((1, 1), (17, 257), (257, 17), (140, 300)):
        check(draw_case(rng, p, m, n), "triton")


@pytest.mark.parametrize("name", ["gaussian", slow("logsumexp")])
def test_float64(name: str) -> None:
    rng = seeded(name, "double", "ptx")
    check(draw_case(rng, replace(common("j")[name], dtype="float64"), 35, 257), "triton")


@pytest.mark.parametrize("gpu", [90], indirect=True)
@pytest.mark.parametrize("name", ["gaussian", "min_argmin"])
def test_another_gpu(name: str) -> None:
    check(draw_case(seeded(name, "90"), common("j")[name], 35, 257), "triton")


def test_sizes_and_places_in_memory(gpu: MachineDriver) -> None:
    """Sizes of any value, among them one, which Triton would treat apart; tensors that begin at any number."""
    rng = seeded("sizes", "ptx")
    p = common("j")["gaussian"]
    for m, n in ((1, 1), (1, 17), (17, 1), (2, 257), (257, 129), (16, 128)):
        check(draw_case(rng, p, m, n, layouts=["plain"]), "triton")
    assert [x.name for x in gpu.launches] == ["kernel"] * 6
    for offset in (1, 2, 4):
        case = draw_case(rng, p, 35, 200, layouts=["plain"])
        check(replace(case, arrays=tuple(shifted(a, offset) for a in case.arrays)), "triton")


def shifted(array: np.ndarray, offset: int) -> np.ndarray:
    """The same numbers, `offset` of them behind a place where memory is well aligned."""
    room = np.full(array.size + offset, np.nan, array.dtype)
    room[offset:] = array.ravel()
    return room[offset:].reshape(array.shape)


@pytest.mark.parametrize("batch", ["mixed", slow("parameters")])
def test_batches(batch: str) -> None:
    scale = input_(3, "p", 1)
    p = problem("sum", call("exp", distance() * -1.0 / (2.5 + scale)) * input_(2, "j", 2))
    check(draw_case(seeded(batch, "ptx"), p, 9, 140, batch), "triton")


@pytest.mark.parametrize("name", ["gaussian", "logsumexp", slow("neighbours")])
def test_few_rows_and_many_columns(name: str, gpu: MachineDriver, tiles: list[Tile]) -> None:
    """Programs share the columns, and a second kernel merges their states."""
    check(draw_case(seeded(name, "parts"), common("j")[name], 3, 9001, layouts=["plain"]), "triton")
    assert tiles[0].split
    assert [x.name for x in gpu.launches] == ["kernel", "merge"]


@pytest.mark.parametrize("name", ["logsumexp", "Kmin_argKmin", slow("sum"), slow("max_argmax")])
def test_ties_nan_and_infinities(name: str) -> None:
    rng = seeded(name, "ptx")
    for special in (0.0, 0.05, 0.9):
        check(special_case(rng, name, "float32", 20, 150, special), "triton", informative=0.0)


def test_offsets_of_64_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of rows and columns, too."""
    monkeypatch.setattr(device, "choose_tile", lambda kernel, *rest: widened(choose(kernel, *rest), kernel))
    number = index("i") * 200_000_000_000 + index("j")
    f = call("where", call("eq", call("floordiv", number, 200_000_000_000), index("i")), 1.0, 0.0)
    check(draw_case(seeded("wide"), problem("sum", f * gaussian()), 35, 200), "triton")


FAR = 2**27 + 8  # elements from one row to the next: 16 of them are 2^31


def far_apart(values: np.ndarray, steps: tuple[int, ...], file: Path) -> np.ndarray:
    """The numbers, so many elements apart, in a file that is larger than the memory and empty in between."""
    count = 1 + sum((n - 1) * step for n, step in zip(values.shape, steps, strict=True))
    room = np.asarray(np.memmap(file, values.dtype, "w+", shape=(count,)))
    found = np.lib.stride_tricks.as_strided(room, values.shape, [values.itemsize * n for n in steps], writeable=True)
    found[...] = values
    file.unlink()  # the memory stays
    return found


@pytest.mark.parametrize("far", ["rows", "columns", "batches"])
def test_numbers_that_are_far_apart(far: str, tiles: list[Tile], tmp_path: Path) -> None:
    """Offsets beyond 2^31 elements: within a batch, by tiles of 64 bits; from batch to batch, by those of 32 bits."""
    rng = seeded(far, "ptx")
    p = common("j")["gaussian"]
    x, y, b = (rng.standard_normal(s).astype(np.float32) for s in ((2, 20, 3), (2, 20, 3), (2, 20, 1)))
    one, two = tmp_path / "one", tmp_path / "two"
    if far == "batches":
        arrays = (far_apart(x, (2**31 + 4, 3, 1), one), y, far_apart(b, (2**31 + 4, 1, 1), two))
        check(Case(p, arrays, Sizes(20, 20, (2,))), "triton")
    else:
        x, y, b = x[0], y[0], b[0]
        x, y = (far_apart(x, (FAR, 1), one), y) if far == "rows" else (x, far_apart(y, (FAR, 1), one))
        check(Case(p, (x, y, b), Sizes(20, 20)), "triton")
    assert tiles[0].wide == (far != "batches")


@pytest.mark.parametrize("over", ["i", slow("j")])
def test_block_sparse_ranges(over: str) -> None:
    rng = seeded(over, "ranges", "ptx")
    case = draw_case(rng, common(over)["gaussian"], 90, 300)
    mask = draw_mask(rng, 90, 300, (4, 5), 0.5)
    check_blocks(with_ranges(case, mask), mask, "triton")


@pytest.mark.parametrize("over", [slow("i"), "j"])
def test_vectors_of_medium_length(over: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop over the components, of columns that are stored by component before."""
    monkeypatch.setattr(launch, "TRANSPOSED_COLUMNS", 8)
    case = draw_case(seeded(over, "medium"), common(over, 20, 0.1)["gaussian"], 40, 600, layouts=["plain"])
    check(case, "triton")


@pytest.mark.parametrize("dtype", ["float32", slow("float64")])
def test_long_results(dtype: str) -> None:
    """More components than one program computes."""
    x, y = vectors(3)
    p = problem("sum", gaussian() * call("concat", input_(2, "j", 8), x - y), dtype=dtype)
    check(draw_case(seeded("long", "ptx"), p, 20, 140), "triton")


# ---------------------------------------------------------------------- matrix units


@pytest.mark.parametrize(
    ("gpu", "name"),
    [(80, "gaussian"), (90, "gaussian"), *(slow(g, n) for g in (80, 90) for n in ("min_argmin", "logsumexp"))],
    indirect=["gpu"],
)
def test_products_of_split_operands(name: str, gpu: MachineDriver, tiles: list[Tile]) -> None:
    rng = seeded(name, "products", "ptx")
    over = "ij"[NAMES.index(name) % 2]
    m, n = (70, 150) if over == "j" else (150, 70)
    check(draw_case(rng, common(over, 62, 0.1)[name], m, n, domains=[(-1.0, 1.0)] * 3), "triton")
    assert tiles[0].dots == "split"
    assert {"prepare0", "prepare1", "kernel"} <= {x.name for x in gpu.launches}
    unit = "mma" if gpu.capability == 80 else "wgmma.mma"
    assert any(op.startswith(unit) for x in gpu.launches for op in x.executed)


@BOTH_GPUS
def test_points_that_are_near_or_equal(tiles: list[Tile]) -> None:
    """Products that are not exact enough are left, and distances computed from differences: equal points are at 0."""
    rng = seeded("near", "ptx")
    x = 100 + rng.standard_normal((70, 64)).astype(np.float32)
    y = np.concatenate((x[::-1], x + np.float32(1e-3)))
    case = Case(common("j", 64)["min_argmin"], (x, y), Sizes(70, 140))
    check(case, "triton")
    least, place = run(case, "triton")
    assert (least == 0).all()
    assert (place[:, 0] == np.arange(70)[::-1]).all()
    assert tiles[0].dots == "split"


@pytest.mark.slow
@BOTH_GPUS
@pytest.mark.parametrize("d", [64, 128, 200])
@pytest.mark.parametrize("over", "ij")
@pytest.mark.parametrize("name", NAMES)
def test_products_of_all_lengths(name: str, over: str, d: int) -> None:
    rng = seeded(name, over, d, "ptx")
    p = common(over, d, 1.0 / d)[name]
    for m, n in ((1, 40), (150, 70), (33, 150)):
        check(draw_case(rng, p, m, n, domains=[(-1.0, 1.0)] * 3), "triton")


@pytest.mark.parametrize(
    ("gpu", "form"),
    [(80, "product"), (90, "attention"), slow(90, "product"), slow(80, "attention")],
    indirect=["gpu"],
)
def test_wide_sums(form: str) -> None:
    """Sums of vectors of 40 components, which matrix units multiply by the numbers of the pairs."""
    b = input_(2, "j", 40)
    dot = call("dot", *vectors(62)) * 0.125
    p = problem("sum", gaussian() * b) if form == "product" else problem("sumsoftmaxweight", dot, b)
    check(draw_case(seeded(form, "ptx"), p, 40, 150, domains=[(-1.0, 1.0)] * 3), "triton")


@pytest.mark.slow
@BOTH_GPUS
def test_few_rows_of_wide_sums() -> None:
    p = problem("sum", gaussian() * input_(2, "j", 40))
    check(draw_case(seeded("few", "ptx"), p, 3, 9001, layouts=["plain"]), "triton")


def tensors_of(rng: np.random.Generator, kind: str, *shapes: tuple[int, ...]) -> list[Any]:
    import torch

    return [torch.from_numpy(rng.standard_normal(s)).to(getattr(torch, kind)) for s in shapes]


def exact(p: Problem, tensors: Sequence[Any], sizes: Sizes) -> tuple[np.ndarray, ...]:
    """The outputs of the reference, in float64."""
    return run(Case(replace(p, dtype="float64"), tuple(t.double().numpy() for t in tensors), sizes), "reference")


@pytest.mark.parametrize(
    ("gpu", "kind", "d"),
    [
        (90, "bfloat16", 64),
        *(slow(g, k, d) for g in (80, 90) for k in ("float16", "bfloat16") for d in (3, 64, 128) if (g, d) != (90, 64)),
        slow(90, "float16", 64),
    ],
    indirect=["gpu"],
)
def test_arrays_of_16_bits(kind: str, d: int, tiles: list[Tile]) -> None:
    import torch

    rng = seeded(kind, d, "ptx")
    x, y, b = tensors_of(rng, kind, (70, d), (150, d), (150, 40))
    p = problem("sumsoftmaxweight", call("dot", *vectors(d)) * d**-0.5, input_(2, "j", 40))
    for q, tensors in ((p, [x, y, b]), (problem("min", distance(d)), [x, y])):
        found = device.execute(q, tensors, Sizes(70, 150), lambda _, step: step(), kind)
        assert found is not None
        right = exact(q, tensors, Sizes(70, 150))[0]
        assert found[0].dtype == x.dtype
        unit = torch.finfo(x.dtype).eps
        # half a unit for the store, one for sums of 8 bits
        np.testing.assert_allclose(found[0].double(), right, rtol=2 * unit, atol=2 * unit * np.abs(right).max())
    assert tiles[0].dots == ("stored" if d > 3 else "")


@BOTH_GPUS
def test_fast_products(tiles: list[Tile]) -> None:
    """The bound that docs/accuracy.md states: 2^-10 of the sum of the absolute products."""
    rng = seeded("fast", "ptx")
    x, y = (rng.standard_normal((n, 40)).astype(np.float32) for n in (70, 90))
    chosen = call("eq", index("j"), call("arange", size=90))
    p = problem("sum", call("where", chosen, call("dot", *vectors(40)), 0.0))
    (found,) = run(Case(replace(p, accuracy="fast"), (x, y), Sizes(70, 90)), "triton")
    assert (np.abs(found - x.astype(np.float64) @ y.T) <= 2.0**-10 * (np.abs(x) @ np.abs(y).T)).all()
    assert tiles[0].dots == "rounded"


# ---------------------------------------------------------------------- operations


REAL = [
    n
    for n, op in TABLE.items()
    if op.triton is not None and op.operands in ("real", "number", "index") and op.kind != "bool"
]


@pytest.mark.parametrize("dtype", ["float32", slow("float64")])
def test_functions_of_the_processor_and_of_the_device_library(dtype: str) -> None:
    """Eight in one kernel, each a component of the result."""
    for start in range(0, len(REAL), 8):
        intervals: list[Interval] = []
        calls: list[Expr] = []
        for name in REAL[start : start + 8]:
            op = TABLE[name]
            own, domains = arguments("i" * op.arity, [1] * op.arity, op.domain)
            calls.append(as_kind(call(name, *[moved(a, len(intervals)) for a in own]), "real"))
            intervals += domains
        joined = functools.reduce(lambda f, g: call("concat", f, g), calls)
        p = problem("sum", joined, dtype=dtype)
        check(draw_case(seeded(dtype, start), p, 60, 1, layouts=["plain"], domains=intervals), "triton")


def moved(leaf: Expr, by: int) -> Expr:
    """An input that stands further behind."""
    return input_(leaf.param("slot") + by, leaf.param("axis"), leaf.dim)


# ---------------------------------------------------------------------- counts


def test_the_work_for_a_pair(gpu: MachineDriver) -> None:
    """A Gaussian of three coordinates: an exponential, three differences, what multiplies and adds, and no more."""
    check(draw_case(seeded("work"), common("j")["gaussian"], 64, 2048, layouts=["plain"]), "triton")
    pairs, executed = 64 * 2048, gpu.launches[0].executed
    assert executed["ex2.approx.ftz.f32"] == pairs
    real = sum(n for name, n in executed.items() if name.split(".")[-1] == "f32" and name[:2] not in ("ex", "cv"))
    assert 8 * pairs <= real <= 9 * pairs
    assert sum(executed.values()) <= 13 * pairs


# ---------------------------------------------------------------------- from the front end


def test_the_probe_says_nothing_where_a_kernel_runs(gpu: MachineDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings are errors here: Triton 3.9 warns of options that are left to it."""
    import torch

    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(probe, "_capability", lambda _: (8, 0))
    probe.failure.cache_clear()
    assert probe.failure(torch.device("cpu")) is None
    assert [x.name for x in gpu.launches] == ["kernel"]
    probe.failure.cache_clear()


def test_derivatives_of_lazy_tensors() -> None:
    import torch

    from pairfuse.torch import Vi, Vj

    rng, found = np.random.default_rng(0), []
    points = [torch.from_numpy(rng.standard_normal((n, 3))).float() for n in (40, 150)]
    for backend in (None, "GPU"):
        x, y = (p.clone().requires_grad_() for p in points)
        value = (-Vi(x).sqdist(Vj(y))).logsumexp(dim=1, backend=backend).sum()
        found.append([value, *torch.autograd.grad(value, [x, y])])
    for plain, gpu in zip(*found, strict=True):
        torch.testing.assert_close(gpu, plain, rtol=1e-5, atol=1e-5)


def test_an_access_beyond_a_tensor_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The launch is told of one column more than there is."""
    case = draw_case(seeded("beyond"), common("j")["gaussian"], 20, 100, layouts=["plain"])
    real = launch.prepare

    def wrong(*args: Any, **options: Any) -> Any:
        prepared = real(*args, **options)
        kept, reduced, *rest = prepared.numbers
        return replace(prepared, numbers=(kept, reduced + 1, *rest))

    monkeypatch.setattr(device, "prepare", wrong)
    with pytest.raises(MachineError, match="outside of the memory that the kernel was given, 0 bytes after the end"):
        run(case, "triton")


# ---------------------------------------------------------------------- integers


def test_integers_in_digits() -> None:
    """Comparisons of digits, and differences in 64 bits."""
    rng = seeded("integers", "ptx")
    a, b = (2**40 + rng.integers(0, 4, (n, 1)) for n in (37, 65))
    x, y = whole(input_(0, "i", 1)), whole(input_(1, "j", 1))
    p = problem("sum", call("concat", call("to_real", call("eq", x, y)), call("to_real", call("abs", x - y))))
    p, counts = unseen(p, (64, 64))
    given = [digits(v, "float32", n, 24) for v, n in zip((a, b), counts, strict=True)]
    found = execute(p, given, Sizes(37, 65), backend="triton")[0]
    np.testing.assert_array_equal(found, np.stack([(a == b.T).sum(1), abs(a - b.T).sum(1)], axis=-1))
