"""What runs around the kernels of a GPU, tested without one: too little memory, unusable GPUs, launches, tuned tiles.

Kernels run by Triton's interpreter; what a GPU would say is said by stand-ins.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest
from conformance import problem
from interpreted import MARKS, need_interpreter, now, use_tile

from pairfuse import info
from pairfuse.__main__ import main
from pairfuse.backends.triton import tile as tile_module
from pairfuse.config import config
from pairfuse.errors import CompileError, DeviceMemoryError, DtypeError, UnsupportedError
from pairfuse.ir.expr import input_
from pairfuse.lower.problem import Problem, Sizes
from pairfuse.runtime import arrays, device, memory, probe, tiles, tune

pytestmark = MARKS


@pytest.fixture
def _interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    need_interpreter()
    use_tile(monkeypatch, 16, 16)


# ---------------------------------------------------------------------- too little memory


def product() -> Problem:
    return problem("sum", input_(0, "i", 1) * input_(1, "j", 1), dtype="float64")


def product_of(*arrays: Any, m: int = 2, n: int = 2) -> Any:
    return device.execute(product(), arrays, Sizes(m, n), now)


class Full:
    """torch.empty of a device whose memory is full from the nth allocation on."""

    def __init__(self, torch: Any, after: int):
        self.error, self.real, self.left = torch.cuda.OutOfMemoryError, torch.empty, after

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise self.error("CUDA out of memory. Tried to allocate 8.00 GiB.")
        return self.real(*args, **options)


@pytest.mark.usefixtures("_interpreter")
def test_memory_that_is_full_is_named_and_the_next_call_works(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    rows = np.arange(4.0).reshape(4, 1)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty", Full(torch, 0))
        with pytest.raises(DeviceMemoryError, match=r"^sum: CUDA out of memory for output 0\.") as caught:
            product_of(rows, rows, m=4, n=4)
    text = str(caught.value)
    assert "output 0: shape (4, 1), float64, 32 bytes" in text
    assert "Hint: pass the data on the CPU, x.cpu(), with backend='GPU'" in text
    assert isinstance(caught.value, (MemoryError, RuntimeError))  # what users of torch expect, and of Python
    np.testing.assert_array_equal(product_of(rows, rows, m=4, n=4)[0], rows * 6)


@pytest.mark.usefixtures("_interpreter")
@pytest.mark.parametrize(
    ("capability", "counts"), [((8, 6), 86), ((9, 0), 90), ((10, 3), 103), ((12, 0), 80), (None, 80)]
)
def test_generations_of_matrix_units(
    capability: tuple[int, int] | None, counts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is a GPU of AMD; the interpreter has the tiles of sm_90."""
    monkeypatch.setattr(probe, "_capability", lambda device: capability)
    assert probe.generation(SimpleNamespace(type="cuda")) == counts
    assert probe.generation(SimpleNamespace(type="cpu")) == 90


def test_memory_that_is_full_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error does not keep the tensors of the call alive once it is dropped."""
    import torch

    x = torch.ones(4, 1, dtype=torch.float64)
    alive = weakref.ref(x)
    gc.collect()
    gc.disable()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(torch, "empty", Full(torch, 0))
            with pytest.raises(DeviceMemoryError):
                product_of(x, x, m=4, n=4)
        del x
        assert alive() is None
    finally:
        gc.enable()


def test_amounts_for_people() -> None:
    assert [memory.amount(n) for n in (12, 3200, 4.5e9, 2e12)] == ["12 bytes", "3.2 kB", "4.5 GB", "2 TB"]


def test_the_budget_counts_what_torch_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 200)
    assert memory.budget(torch, gpu) == int(memory.SHARE * 400)
    assert memory.budget(torch, torch.device("cpu")) is None
    text = str(memory.shortage(torch, "argmin", "input 1", (10, 3), torch.float32, gpu))
    assert "input 1: shape (10, 3), float32, 120 bytes" in text
    assert "cuda:0: 100 bytes of 1 kB free, 300 bytes more kept by torch" in text


# ---------------------------------------------------------------------- GPUs that cannot be used


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A GPU that torch sees, as far as questions go."""
    import torch

    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(device, "interpreting", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla X")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    probe.clear()
    yield gpu
    probe.clear()


def failing(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The probe finds that there is no C compiler; the devices it is asked about."""
    asked: list[Any] = []

    def failure(gpu: Any) -> probe.Failure:
        asked.append(gpu)
        return probe.explain("RuntimeError: Failed to find C compiler. Please specify via CC environment variable")

    failure.cache_clear = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setattr(probe, "failure", failure)
    return asked


def test_an_unusable_gpu_is_told_once_and_the_cpu_computes(
    fake_gpu: Any, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    from pairfuse.numpy import Vi, Vj

    asked = failing(monkeypatch)
    x, y = np.arange(3.0).reshape(3, 1), np.arange(4.0).reshape(4, 1)
    with pytest.warns(
        RuntimeWarning, match=r"'cuda:0' \(Tesla X\) cannot be used.*the CPU: Triton found no C compiler"
    ):
        first = (Vi(x) * Vj(y)).sum(dim=1, backend="GPU")
    recwarn.clear()
    second = (Vi(x) * Vj(y)).sum(dim=1, backend="GPU")
    assert not recwarn.list
    assert asked == [fake_gpu, fake_gpu]
    np.testing.assert_array_equal(first, x * 6)
    np.testing.assert_array_equal(second, x * 6)


def test_data_on_an_unusable_gpu_is_refused(fake_gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch)
    with pytest.raises(
        UnsupportedError, match=r"^sum: the data is on 'cuda:0' \(Tesla X\), which cannot be used"
    ) as caught:
        probe.usable("sum", fake_gpu, True)
    assert "Triton found no C compiler" in str(caught.value)
    assert "x.cpu()" in str(caught.value)


def test_the_probe_tries_and_tells(fake_gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried fails here, since the device does not exist: in words, without an exception, once."""
    import torch

    tried: list[Any] = []
    monkeypatch.setattr(torch.cuda, "device", lambda d: tried.append(d) or (_ for _ in ()).throw(RuntimeError("gone")))
    found = probe.failure(fake_gpu)
    assert found is not None
    assert found.reason == "Triton failed: RuntimeError: gone"
    assert probe.failure(fake_gpu) is found
    assert len(tried) == 1


@pytest.mark.usefixtures("_interpreter")
def test_what_the_probe_computes() -> None:
    import torch

    x, y = torch.arange(16, dtype=torch.float32), torch.zeros(16)
    device.triton_compile.run_text(probe.PROBE)["kernel"][(1,)](x, y, SIZE=16)
    assert torch.equal(y, 2 * x + 1)


def test_nothing_is_tried_while_a_graph_is_captured(fake_gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    asked = failing(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert probe.usable("sum", fake_gpu, True)
    assert asked == []


@pytest.mark.parametrize(
    ("text", "capability", "reason"),
    [
        ("FileNotFoundError: [Errno 2] No such file or directory: '/usr/bin/gcc'", (9, 0), "no C compiler"),
        ("fatal error: Python.h: No such file or directory", (9, 0), "Python's headers"),
        ("AssertionError: libcuda.so cannot found!", (9, 0), "libcuda.so"),
        ("Triton Error [CUDA]: the provided PTX was compiled with an unsupported toolchain.", (9, 0), "driver"),
        ("CUDA error: no kernel image is available for execution on the device", (3, 5), "not built for this GPU"),
        ("ptxas fatal: Value 'sm_61' is not defined for option 'gpu-name'", (6, 1), "not built for this GPU"),
        ("PermissionError: [Errno 13] Permission denied: '/root/.triton'", (9, 0), "cannot write to its cache"),
        ("AssertionError", (6, 1), "compute capability is 6.1, Triton needs 7.0"),
        ("some\n\n  new failure \n", (9, 0), "Triton failed: new failure"),
    ],
)
def test_reasons(text: str, capability: tuple[int, int], reason: str) -> None:
    found = probe.explain(text, capability)
    assert reason in found.reason
    assert found.remedy


def test_types_that_a_gpu_does_not_have(fake_gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    with pytest.raises(DtypeError, match=r"^sum: input 1 is of type bfloat16, which 'cuda:0' \(Tesla X\)") as caught:
        probe.check_type("sum", 1, "bfloat16", fake_gpu)
    assert "needs compute capability 8.0, the GPU has 7.5" in str(caught.value)
    assert "x.half() or x.float()" in str(caught.value)
    probe.check_type("sum", 1, "float64", fake_gpu)
    probe.check_type("sum", 1, "bfloat16", torch.device("cpu"))
    monkeypatch.setattr(torch.version, "hip", "6.0")  # counts its capabilities differently
    probe.clear()
    probe.check_type("sum", 1, "bfloat16", fake_gpu)


@pytest.mark.usefixtures("_interpreter")
def test_tensors_on_different_devices_are_named() -> None:
    import torch

    with pytest.raises(UnsupportedError, match="the tensors are on different devices") as caught:
        product_of(torch.ones(2, 1, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64, device="meta"))
    assert "input 0: cpu, input 1: meta, shape (2, 1)" in str(caught.value)


@pytest.mark.usefixtures("_interpreter")
def test_a_kernel_that_triton_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what Triton says; other errors pass; the call after it works."""
    from triton.runtime.errors import OutOfResources

    class Refusing:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def __getitem__(self, grid: Any) -> Any:
            raise self.error

    rows = np.ones((2, 1))
    for error, expected, text in (
        (OutOfResources(300_000, 232_448, "shared memory"), CompileError, r"^sum in float64: Triton could not compile"),
        (
            RuntimeError("Triton Error [CUDA]: out of memory"),
            DeviceMemoryError,
            "out of memory for starting the kernel",
        ),
        (KeyError("mine"), KeyError, "mine"),
    ):
        device.clear()
        binary = device.triton_compile.Binary(Refusing(error), None, {})
        with monkeypatch.context() as patch:
            patch.setattr(device.triton_compile, "load", lambda _, binary=binary: binary)
            with pytest.raises(expected, match=text) as caught:
                product_of(rows, rows)
        if expected is CompileError:
            assert "out of resource: shared memory, Required: 300000" in str(caught.value)
        device.clear()
        np.testing.assert_array_equal(product_of(rows, rows)[0], 2 * rows)


def test_full_memory_while_a_tensor_is_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Integers on a GPU are converted there."""
    import torch

    def to(*_: Any, **__: Any) -> Any:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    x = torch.ones((5, 2), dtype=torch.int32)
    monkeypatch.setattr(torch.Tensor, "to", to)
    with pytest.raises(DeviceMemoryError, match=r"^LazyTensor\(x\): CUDA out of memory for x as float32") as caught:
        arrays.on_device(x, "float32", "cpu")
    assert "shape (5, 2), float32, 40 bytes" in str(caught.value)


def test_the_report_of_info(fake_gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `python -m pairfuse info` says of every GPU, or of none."""
    import torch

    monkeypatch.setattr(torch.version, "cuda", None)
    assert probe.report() == [
        f"not usable: this torch is built for the CPU ({torch.__version__}); install one for CUDA or ROCm"
    ]
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert probe.report() == ["not usable: torch (built for 13.0) sees no device; check the driver with nvidia-smi"]
    known = SimpleNamespace(name="Tesla X", major=7, minor=5, total_memory=16e9)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: known)
    failing(monkeypatch)
    (line,) = probe.report()
    assert line.startswith("cuda:0 Tesla X (capability 7.5, 16 GB): cannot be used: Triton found no C compiler, with")
    assert line.endswith("; install one (apt install gcc), or set the environment variable CC to one")
    with monkeypatch.context() as patch:
        patch.setattr(probe, "failure", lambda _: None)
        assert probe.report() == ["cuda:0 Tesla X (capability 7.5, 16 GB): can be used"]


def test_info_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed = {"torch": "2.13", "triton": "3.5.1"}
    monkeypatch.setattr(info, "version", installed.get)
    assert info.gpu_state().startswith("not usable: triton 3.5.1 is too old, 3.6 is the first that works")
    installed["triton"] = "3.10.0+git"
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert info.gpu_state() == "not known: torch does not answer (FileNotFoundError)"
    failed = subprocess.CalledProcessError(1, "python", stderr="Traceback\n  ...\nOSError: libcudart.so\n")
    monkeypatch.setattr(info.subprocess, "run", lambda *a, **o: (_ for _ in ()).throw(failed))
    assert info.gpu_state() == "not known: torch does not start (OSError: libcudart.so)"
    del installed["triton"]
    assert info.gpu_state().startswith("not usable: triton not installed")
    assert info.tiles_state(str(tmp_path)).startswith("none: on a GPU, `python -m pairfuse tune`")
    (tmp_path / "tiles").mkdir()
    (tmp_path / "tiles" / "gpu-x.json").touch()
    assert info.tiles_state(str(tmp_path)) == "gpu-x.json"


# ---------------------------------------------------------------------- launches


def test_numbers_are_kept_for_the_stream_they_were_copied_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    stream = SimpleNamespace(cuda_stream=1)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: stream)
    first = arrays.on_device((0.5, 2.0), "float64", "cpu:0")
    assert first.tolist() == [0.5, 2.0]
    assert arrays.on_device((0.5, 2.0), "float64", "cpu:0") is first
    stream.cuda_stream = 2
    assert arrays.on_device((0.5, 2.0), "float64", "cpu:0") is not first


def test_a_graph_writes_its_numbers_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """They live in the memory of the graph: what is kept for other calls may be dropped before it is replayed."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    first, second = (arrays.on_device((0.5, 2.0), "float32", "cpu:0") for _ in range(2))
    assert first.tolist() == second.tolist() == [0.5, 2.0]
    assert first.dtype == torch.float32
    assert first is not second


def test_a_number_of_the_cpu_may_change_after_the_call() -> None:
    import torch

    x = torch.tensor([0.5])
    moved = arrays.on_device(x, "float32", "cpu:0")
    x.fill_(3.0)
    assert moved.item() == 0.5


@pytest.mark.usefixtures("_interpreter")
def test_a_further_call_only_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a tile nor anything of the formula is looked at again; other sizes, strides and types are."""
    import torch

    x, y = torch.randn(5, 1, dtype=torch.float64), torch.randn(7, 1, dtype=torch.float64)
    prepared: list[Any] = []
    real = device.prepare
    monkeypatch.setattr(device, "prepare", lambda *a, **k: (prepared.append(a), real(*a, **k))[1])
    device.clear()
    for _ in range(3):
        torch.testing.assert_close(product_of(x, y, m=5, n=7)[0], x * y.sum())
    assert len(prepared) == 1
    other = torch.randn(7, 2, dtype=torch.float64)[:, :1]
    torch.testing.assert_close(product_of(x, other, m=5, n=7)[0], x * other.sum())
    assert len(prepared) == 2
    torch.testing.assert_close(product_of(x[:4], y, m=4, n=7)[0], x[:4] * y.sum())
    assert len(prepared) == 3


@pytest.mark.usefixtures("_interpreter")
def test_launches_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "KEPT_LAUNCHES", 3)
    y = np.ones((2, 1))
    for m in range(1, 9):
        assert product_of(np.ones((m, 1)), y, m=m)[0].shape == (m, 1)
    assert len(device.program(product(), now).launches) <= 3


# ---------------------------------------------------------------------- tuned tiles

SMALL = tune.TuneCase("small", product(), 40, 30)


def clock_of(seconds: dict[tiles.Shape, float], default: float) -> tuple[Callable[..., Any], tune.Timer]:
    """A kernel-watching `launched` and a timer that says of the tile that ran last what the table says."""
    last: list[tiles.Shape] = []
    real = device.launched

    def launched(torch: Any, name: str, prepared: device.Ready, *rest: Any) -> Any:
        tile = prepared.launch.tile
        last[:] = [(tile.rows, tile.cols, tile.warps)]
        return real(torch, name, prepared, *rest)

    def timer(call: Callable[[], Any]) -> float:
        call()
        return seconds.get(last[0], default)

    return launched, timer


@pytest.mark.usefixtures("_interpreter")
def test_the_tuner_keeps_the_fastest_tile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a clock that likes one of the candidates; every candidate computes the right thing."""
    monkeypatch.setattr(tiles, "device_name", lambda _: "GPU X")
    seconds = {(8, 32, 8): 0.5}
    launched, timer = clock_of(seconds, 1.0)
    monkeypatch.setattr(device, "launched", launched)
    monkeypatch.setattr(tune, "candidates", few)
    shown: list[str] = []
    found = tune.run([], cpu(), timer, str(tmp_path), 60, shown.append, [SMALL])
    ((name, shape),) = found.items()
    assert name.startswith("sum float64 strict D1 E1")
    assert shape == (8, 32, 8)
    assert "8 x 32     8 warps    500.000 ms  2.40e+03 pairs/s  best" in shown[0]
    assert "16 x 16     4 warps   1000.000 ms  1.20e+03 pairs/s  chosen now" in shown[0]
    assert tiles.table(str(tmp_path), "GPU X") == found
    seconds[8, 32, 8] = 0.99  # so little is no reason to change
    assert tune.run([], cpu(), timer, str(tmp_path), 60, shown.append, [SMALL]) == {}


def few(tile: Any, _: bool) -> Iterator[Any]:
    yield tile
    yield replace(tile, rows=8, cols=32, warps=8)
    yield replace(tile, rows=32, cols=16, warps=2)


def cpu() -> Any:
    import torch

    return torch.device("cpu")


@pytest.mark.usefixtures("_interpreter")
def test_wrong_and_refused_tiles_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    real = device.launched

    def launched(torch: Any, name: str, prepared: device.Ready, *rest: Any) -> Any:
        tile = prepared.launch.tile
        if tile.rows == 32:
            raise CompileError("sum: Triton could not compile\n  out of resource: registers")
        outputs = real(torch, name, prepared, *rest)
        return (outputs[0] + 1,) if tile.rows == 8 else outputs

    monkeypatch.setattr(device, "launched", launched)
    monkeypatch.setattr(tune, "candidates", few)
    trials = tune.tune_case(SMALL, tune.arrays_of(SMALL, cpu()), cpu(), lambda call: 1.0)
    assert [(t.seconds, t.note) for t in trials] == [
        (1.0, ""),
        (None, "other results"),
        (None, "out of resource: registers"),
    ]
    assert tune.best(trials) is trials[0]
    assert tune.best([replace(t, seconds=None) for t in trials]).seconds is None


def test_candidates_are_different_and_possible() -> None:
    chosen = tile_module.Tile(16, 128, 4)
    found = list(tune.candidates(chosen, False))
    assert all(t.rows >= 16 for t in tune.candidates(chosen, True))
    assert found[0] == chosen
    assert len(set(found)) == len(found) > 10
    assert all(tiles._possible((t.rows, t.cols, t.warps)) for t in found)


def test_the_tuner_has_a_case_for_each_common_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    listed = [case.name for case in tune.cases()]
    assert main(["tune", "--list"]) == 0
    assert capsys.readouterr().out.split("\n")[:-1] == listed
    for case in tune.cases():
        assert device.program(case.problem, now).kernel is not None


def test_no_time_left_and_names() -> None:
    shown: list[str] = []
    assert tune.run(["small"], cpu(), lambda call: 1.0, "", -1.0, shown.append, [SMALL]) == {}
    assert shown == ["small: no time left"]
    assert tune.run(["large"], cpu(), lambda call: 1.0, "", -1.0, shown.append, [SMALL]) == {}
    assert len(shown) == 1


def test_without_a_gpu_the_tuner_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["tune"]) == 1
    assert "pairfuse tune: there is no GPU to tune for: torch" in capsys.readouterr().err
    monkeypatch.setattr(probe, "missing_packages", lambda: ("triton",))
    assert main(["tune"]) == 1
    assert "triton not installed (pip install 'pairfuse[gpu]')" in capsys.readouterr().err


def test_tuned_tiles_are_for_large_problems_of_their_class(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tiles, "device_name", lambda _: "GPU X")
    chosen, problem_, large = tile_module.Tile(16, 128, 4), product(), Sizes(10_000, 10)
    with config.override(cache_folder=str(tmp_path)):
        assert tiles.tuned(chosen, problem_, large, cpu(), 4) is chosen
        kept = tiles.keep(str(tmp_path), "GPU X", {tiles.kernel_class(problem_, chosen): (8, 256, 8)})
        found = tiles.tuned(chosen, problem_, large, cpu(), 4)
        assert (found.rows, found.cols, found.warps) == (8, 256, 8)
        assert tiles.tuned(chosen, problem_, Sizes(100, 10), cpu(), 4) is chosen
        assert tiles.tuned(replace(chosen, split=True), problem_, large, cpu(), 4).rows == 16
        assert tiles.tuned(replace(chosen, dots="split"), problem_, large, cpu(), 4).rows == 16
        assert tiles.tuned(chosen, replace(problem_, accuracy="fast"), large, cpu(), 4) is chosen
        for damage in ("", "[]", "{}", '{"tiles": {"a": 3}}', '{"tiles": 3}', "\x00"):
            kept.write_text(damage)
            tiles.table.cache_clear()
            assert tiles.tuned(chosen, problem_, large, cpu(), 4) is chosen
        kept.write_text(json.dumps({"tiles": {tiles.kernel_class(problem_, chosen): [3, 100, "x"]}}))
        tiles.table.cache_clear()
        assert tiles.tuned(chosen, problem_, large, cpu(), 4) is chosen
    with config.override(cache_folder=""):
        assert tiles.tuned(chosen, problem_, large, cpu(), 4) is chosen
