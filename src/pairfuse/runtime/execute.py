"""The driver: from a problem and its arrays to the arrays of its outputs. The only place that touches arrays.

    expand -> simplify -> choose a schedule -> lower -> emit -> compile (or load) -> launch

The first call of a problem takes all steps, and each of them may be watched through `observers`; a further call is a
look-up and a launch.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backends import reference
from ..backends.llvm import target as llvm_target
from ..backends.llvm.compile import Binary, compile_text, load
from ..backends.llvm.emit import emit_kernel
from ..backends.llvm.launch import Launch
from ..backends.llvm.launch_blocks import BlockLaunch
from ..backends.llvm.layout import Layout
from ..config import config
from ..dtypes import RESULT_DTYPES
from ..errors import HostMemoryError, message, shown_number
from ..ir.expr import Expr
from ..ir.text import digest
from ..lower.kernel import Kernel, lower
from ..lower.problem import Problem, Sizes
from ..lower.schedule import Schedule, SizeClass, Target, choose, classify, classify_blocks, mergeable
from ..transform.expand import expand
from ..transform.simplify import simplify
from . import cache, device, threads
from .arrays import once
from .debug import debug_observer
from .progress import Progress
from .recent import Recent

Observer = Callable[[str, Any], None]
observers: list[Observer] = [debug_observer]

# Below this many operations a call runs on the calling thread: waking a thread costs more (benchmarks/NOTES.md).
INLINE_WORK = 2**21
# Bytes that a loaded kernel takes beside its code: LLVM's engine, whole pages, and the stages that are kept.
LOADED_SIZE = 72 * 2**10


@dataclass(slots=True)
class Compiled:
    """A compiled problem: every stage kept, and printable."""

    problem: Problem
    formulas: tuple[Expr, ...]
    schedule: Schedule
    kernel: Kernel
    layout: Layout
    target: Target
    binary: Binary
    size: int
    times: dict[str, float] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """The LLVM IR (written again: it is not kept)."""
        return emit_kernel(self.kernel, self.schedule, self.target)


class Program:
    """Everything compiled for one problem, by class of sizes."""

    def __init__(self, problem: Problem, target: Target):
        self.problem, self.target = problem, target
        self.lanes = max(2, target.vector_bytes // problem.precision.size)
        self.mergeable = mergeable(problem)
        self.output_dims = problem.output_dims()
        self.by_class: dict[SizeClass, Compiled] = {}
        self.used = 0

    def compiled(self, sizes: Sizes, thread_count: int) -> Compiled:
        problem = self.problem
        kept, reduced = sizes.along(problem.rows), sizes.along(problem.columns)
        if sizes.ranges is not None:
            blocks = sizes.ranges.half(problem.columns).blocks
            kind = classify_blocks(blocks, max(kept, reduced), self.lanes, self.mergeable or problem.both)
        elif self.mergeable or problem.both:
            batches = math.prod(sizes.batch)
            kind = classify(kept, reduced, batches, self.lanes, 2 * self.lanes, thread_count, problem.both)
        else:
            kind = SizeClass(False, False, max(kept, reduced) >= 2**31 - 2**16)
        found = self.by_class.get(kind)
        if found is None:
            found = self.compile(kind)
        return found

    def compile(self, kind: SizeClass) -> Compiled:
        """Take all steps for a class of sizes, and keep the result."""
        clock = _Clock()
        problem = self.problem
        formulas: tuple[Expr, ...] = clock("simplify", lambda: tuple(simplify(expand(problem.formulas), problem.fast)))
        schedule = clock("schedule", lambda: choose(problem, formulas, kind, self.target))
        kernel = clock("lower", lambda: lower(problem, formulas))
        key = clock("key", lambda: _key(problem, formulas, schedule, self.target))
        code = clock("read", lambda: cache.load(key))
        if code is None:
            source = clock("emit", lambda: emit_kernel(kernel, schedule, self.target))
            code = clock("compile", lambda: compile_text(source, self.target))
            clock("write", lambda: cache.store(key, code))
        binary = clock("load", lambda: load(code, self.target))
        layout = Layout(kernel, schedule)
        clock.tell("times", clock.times)
        size = LOADED_SIZE + 2 * len(code)
        compiled = Compiled(problem, formulas, schedule, kernel, layout, self.target, binary, size, clock.times)
        self.by_class[kind] = compiled
        _programs.trim()
        return compiled


class _Clock:
    """Runs the steps of a compilation, times them, and tells the observers."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}

    def __call__(self, name: str, step: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = step()
        self.times[name] = time.perf_counter() - start
        self.tell(name, result)
        return result

    def tell(self, name: str, result: Any) -> None:
        for observer in observers:
            observer(name, result)


def _key(problem: Problem, formulas: tuple[Expr, ...], schedule: Schedule, target: Target) -> str:
    parts = (
        digest(formulas),
        problem.reduction,
        problem.over,
        problem.dtype,
        repr(problem.params),
        problem.accuracy,
        repr(schedule),
        target.cpu,
        target.features,
        llvm_target.version(),
        cache.source_version(),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


# By problem and instructions. A launch holds its code, so that a program may be dropped here while it runs.
_programs: Recent[Program] = Recent(lambda program: sum(c.size for c in list(program.by_class.values())))


def program(problem: Problem) -> Program:
    """The program of a problem, built at its first use."""
    key = (problem, config.instructions)
    found = _programs.get(key)
    if found is None:
        found = _programs.add(key, Program(problem, llvm_target.host_target(config.instructions)))
    return found


def clear() -> None:
    """Forget every compiled program of this process."""
    _programs.clear()
    device.clear()


def execute(
    problem: Problem,
    arrays: Sequence[Any],
    sizes: Sizes,
    *,
    backend: str | None = None,
    out: np.ndarray | None = None,
    progress: bool | None = None,
    storage: str | None = None,
) -> tuple[Any, ...]:
    """Compute all outputs, each of shape (*batch, kept size, dim).

    `arrays` are NumPy arrays of the problem's dtype, one per input: (*batch, M or N, dim), parameters (*batch, dim),
    with batch dimensions of length 1 or of full length, any strides.  `out` receives the first output when it is a
    C-contiguous array of the right shape and dtype.  The backend "triton" also takes torch tensors, on a GPU where they
    are, and gives tensors, of the type `storage` where they are real numbers.
    """
    kept, reduced = sizes.along(problem.rows), sizes.along(problem.columns)
    name = backend or config.backend
    if name == "triton":
        results = device.execute(problem, arrays, sizes, _Clock(), storage)
        if results is not None:
            return _into(out, results)
        arrays = [np.asarray(a) for a in arrays]  # the GPU cannot be used, as the user was told
    if name == "reference" or kept == 0 or reduced == 0 or 0 in sizes.batch:
        return _into(out, reference.run(problem, arrays, sizes))
    thread_count = config.thread_count
    found = program(problem)
    compiled = found.compiled(sizes, thread_count)
    if out is not None and any(np.may_share_memory(out, a) for a in arrays):
        into = None  # rows that are written would still be read: copied at the end instead
    else:
        into = out
    outputs = _outputs(problem, found.output_dims, (*sizes.batch, sizes.along(problem.kept)), into)
    try:
        launch = (Launch if sizes.ranges is None else BlockLaunch)(
            compiled.binary, compiled.layout, [_aligned(a) for a in arrays], outputs, sizes, thread_count
        )
        _run(launch, thread_count, config.progress if progress is None else progress)
    except MemoryError:
        raise _shortage(problem, "the states of the rows") from None
    return _into(out, tuple(outputs))


def _run(launch: Launch, thread_count: int, progress: bool) -> None:
    bar = None
    if progress:
        bar = Progress(len(launch.tasks), launch.pairs, launch.layout.kernel.problem.reduction)
    if launch.work < INLINE_WORK or (thread_count == 1 and launch.work < threads.SHORT_JOB and bar is None):
        threads.run_inline(launch.tasks, launch.run)
    else:

        def cancel() -> None:
            launch.cancel[0] = 1

        done = bar.step if bar is not None else None
        threads.pool().run(launch.tasks, launch.run, thread_count, work=launch.work, cancel=cancel, done=done)
    launch.complete()
    if bar is not None:
        bar.close()


def _aligned(array: np.ndarray) -> np.ndarray:
    """The array, or a copy where its strides are not whole elements (fields of records)."""
    if all(s % array.itemsize == 0 for s in array.strides) and array.flags.aligned:
        return array
    return once(array, np.ascontiguousarray)


def _outputs(problem: Problem, dims: Sequence[int], lead: tuple[int, ...], out: np.ndarray | None) -> list[np.ndarray]:
    outputs: list[np.ndarray] = []
    for k, ((_, kind), dim) in enumerate(zip(problem.record.outputs, dims, strict=True)):
        dtype = RESULT_DTYPES.get(kind, problem.dtype)
        shape = (*lead, dim)
        usable = k == 0 and out is not None and out.shape == shape and out.dtype == dtype and out.flags.c_contiguous
        outputs.append(out if usable and out is not None else _allocated(problem, shape, dtype))
    return outputs


def _allocated(problem: Problem, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Memory for an output. NumPy has three errors for what does not fit."""
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError, OverflowError):
        raise _shortage(problem, f"a result of shape {shape}, {np.dtype(dtype)}") from None


def _shortage(problem: Problem, what: str) -> HostMemoryError:
    dims = ", ".join(shown_number(f.dim) for f in problem.formulas)
    facts = [f"too little memory for {what}", f"components of the formula: {dims}"]
    hint = "compute it in parts, for some of the rows at a time, or with shorter vectors."
    return HostMemoryError(message(f"{problem.reduction}: the reduction does not fit in memory.", facts, hint))


def _into(out: np.ndarray | None, outputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Copy the first output to `out` unless it was written there."""
    if out is None or outputs[0] is out:
        return outputs
    out[...] = outputs[0].reshape(out.shape)
    return (out, *outputs[1:])
