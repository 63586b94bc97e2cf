"""Threads that run the tasks of a kernel: a persistent pool, safe after fork, interruptible.

ctypes releases the interpreter lock while a kernel runs, so plain threads use all cores.  The calling thread works
along on short jobs; on long ones it waits, so that Ctrl-C reaches it, and tells the kernels to stop.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from typing import Any

from .. import forks
from ..backends.llvm.launch import Scratch

# The caller works along when the whole job is shorter than this many operations (some tenths of a second), because
# Python handles signals only between two calls of a kernel.
SHORT_JOB = 2**31
SCRATCH_KEPT = 64 * 2**20

Run = Callable[[Any, Scratch], None]


class _Job:
    """Tasks handed out one by one to whoever asks."""

    def __init__(self, tasks: Sequence[Any], run: Run, done: Callable[[], None] | None):
        self.tasks, self.run, self.done = tasks, run, done
        self.numbers = itertools.count()  # next() is atomic
        self.failure: BaseException | None = None
        self.stopped = False

    def work(self, scratch: Scratch) -> None:
        try:
            for k in self.numbers:
                if k >= len(self.tasks) or self.stopped:
                    break
                self.run(self.tasks[k], scratch)
                if self.done is not None:
                    self.done()
        except BaseException as error:  # handed to the caller
            self.failure = error
            self.stopped = True
        scratch.trim(SCRATCH_KEPT)


class Pool:
    """Worker threads of one process."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[_Job, threading.Semaphore, Context]] = queue.SimpleQueue()
        self._workers = 0
        self._lock = threading.Lock()

    def _ensure(self, count: int) -> None:
        with self._lock:
            while self._workers < count:
                thread = threading.Thread(target=self._loop, name=f"pairfuse-{self._workers}", daemon=True)
                thread.start()
                self._workers += 1

    def _loop(self) -> None:
        scratch = Scratch()
        while True:
            job, finished, context = self._queue.get()
            context.run(job.work, scratch)
            del job, context  # and with them the arrays of the call: the next one may be long in coming
            finished.release()
            del finished

    def run(
        self,
        tasks: Sequence[Any],
        run: Run,
        threads: int,
        *,
        work: int = 0,
        cancel: Callable[[], None] | None = None,
        done: Callable[[], None] | None = None,
    ) -> None:
        """Run all tasks on `threads` threads; on an interrupt, `cancel` is called and the threads are waited for."""
        job = _Job(tasks, run, done)
        along = work < SHORT_JOB
        helpers = min(threads, len(tasks)) - (1 if along else 0)
        finished = threading.Semaphore(0)
        self._ensure(helpers)
        pending = 0
        try:
            for _ in range(helpers):
                self._queue.put((job, finished, copy_context()))  # a context runs in one thread at a time
                pending += 1
            if along:
                job.work(_own_scratch())
            while pending:
                if finished.acquire(timeout=0.2 if done is not None else 1.0):
                    pending -= 1
        except BaseException:
            job.stopped = True
            if cancel is not None:
                cancel()
            for _ in range(pending):
                finished.acquire()
            raise
        if job.failure is not None:
            raise job.failure


_local = threading.local()
_pool = Pool()


def _own_scratch() -> Scratch:
    scratch = getattr(_local, "scratch", None)
    if scratch is None:
        scratch = _local.scratch = Scratch()
    return scratch


def pool() -> Pool:
    """The pool of this process."""
    return _pool


def run_inline(tasks: Sequence[Any], run: Run) -> None:
    """Run all tasks on the calling thread."""
    scratch = _own_scratch()
    for task in tasks:
        run(task, scratch)
    scratch.trim(SCRATCH_KEPT)


@forks.renewed
def _after_fork() -> None:
    global _pool
    _pool = Pool()  # the parent's threads do not exist here
    _local.__dict__.clear()
