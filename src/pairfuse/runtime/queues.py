"""Two queues of work on a device, and the copies between it and the host.

In: actions that join a queue, events between the queues.  Out: numbers that are there when they are needed.  On a GPU a
queue is a stream of CUDA; the CPU does everything at once; the tests have queues that run as late as they may.

Numbers go through two pieces of page-locked memory of the host: only from there does a GPU copy while the host and its
own kernels go on.  One piece is filled while the other one is copied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

# Bytes of each of the two pieces of page-locked memory: a copy of this size lasts 100 times what it takes to start it,
# and to lock much more would slow the host down.
STAGING = 32 * 2**20

COPIES, WORK = "copies", "work"
Action = Callable[[], Any]


class CudaQueues:
    """Two streams of a GPU: the current one, and one for copies."""

    def __init__(self, torch: Any, device: Any):
        self.torch = torch
        self.streams = {WORK: torch.cuda.current_stream(device), COPIES: torch.cuda.Stream(device)}
        self.device = device
        # memory that torch hands out may still be in use by what was put on the current stream before
        self.streams[COPIES].wait_stream(self.streams[WORK])

    def put(self, queue: str, action: Action) -> None:
        """Run the action, whose copies and kernels join the queue."""
        with self.torch.cuda.stream(self.streams[queue]):
            action()

    def mark(self, queue: str) -> Any:
        """An event: the end of what is in the queue now."""
        event = self.torch.cuda.Event()
        event.record(self.streams[queue])
        return event

    def follow(self, queue: str, event: Any) -> None:
        """What joins the queue from now on runs after the event."""
        self.streams[queue].wait_event(event)

    def wait(self, event: Any) -> None:
        """Let the host wait for the event."""
        event.synchronize()

    def host_memory(self, size: int) -> Any:
        """Bytes of the host that the device copies by itself."""
        return self.torch.empty(size, dtype=self.torch.uint8, pin_memory=True)

    def close(self) -> None:
        """From now on the current stream is after all copies: their memory may go to others."""
        self.streams[WORK].wait_stream(self.streams[COPIES])


class SerialQueues:
    """The CPU, where everything is done when it is put."""

    def __init__(self, torch: Any):
        self.torch = torch

    def put(self, queue: str, action: Action) -> None:
        action()

    def mark(self, queue: str) -> Any:
        return None

    def follow(self, queue: str, event: Any) -> None:
        pass

    def wait(self, event: Any) -> None:
        pass

    def host_memory(self, size: int) -> Any:
        return self.torch.empty(size, dtype=self.torch.uint8)

    def close(self) -> None:
        pass


def queues_of(torch: Any, device: Any) -> Any:
    return SerialQueues(torch) if device.type == "cpu" else CudaQueues(torch, device)


# ---------------------------------------------------------------------- copies


class Staging:
    """Copies between the host and the device, through two pieces of page-locked memory in turns."""

    def __init__(self, queues: Any, size: int):
        self.queues, self.size = queues, size
        self.rooms: list[Any] = [None, None]
        self.free: list[Any] = [None, None]
        self.turn = 0

    def _room(self, shape: tuple[int, ...], kind: Any) -> tuple[int, Any]:
        """A piece that no copy uses any more, in this shape and type."""
        k = self.turn
        self.turn = 1 - k
        needed = math.prod(shape) * kind.itemsize
        if self.free[k] is not None:
            self.queues.wait(self.free[k])
        if self.rooms[k] is None or self.rooms[k].numel() < needed:
            self.rooms[k] = self.queues.host_memory(max(self.size, needed))
        return k, self.rooms[k][:needed].view(kind).view(shape)

    def upload(self, target: Any, source: Any) -> None:
        """target, on the device, = source, on the host, of any strides."""
        for place in pieces(tuple(source.shape), max(1, self.size // source.element_size())):
            part = source[place]
            k, room = self._room(tuple(part.shape), part.dtype)
            room.copy_(part)
            self.queues.put(COPIES, _Copy(target[place], room))
            self.free[k] = self.queues.mark(COPIES)

    def download(self, target: Any, source: Any) -> None:
        """target, on the host, = source, on the device; when this returns, the numbers are there."""
        under_way: list[tuple[Any, Any, Any]] = []
        for place in pieces(tuple(source.shape), max(1, self.size // source.element_size())):
            part = source[place]
            k, room = self._room(tuple(part.shape), part.dtype)
            self.queues.put(COPIES, _Copy(room, part))
            self.free[k] = self.queues.mark(COPIES)
            under_way.append((self.free[k], target[place], room))
            if len(under_way) == 2:
                self._arrived(*under_way.pop(0))
        for copy in under_way:
            self._arrived(*copy)

    def _arrived(self, event: Any, target: Any, room: Any) -> None:
        self.queues.wait(event)
        target.copy_(room)


class _Copy:
    """One copy, for later."""

    def __init__(self, target: Any, source: Any) -> None:
        self.target, self.source = target, source

    def __call__(self) -> None:
        self.target.copy_(self.source, non_blocking=True)


def pieces(shape: tuple[int, ...], longest: int) -> Iterator[tuple[Any, ...]]:
    """Indices of contiguous blocks of at most `longest` elements, which together are all of a tensor."""
    if math.prod(shape) <= longest:
        yield ()
        return
    inner = math.prod(shape[1:])
    if inner <= longest:
        for start in range(0, shape[0], longest // inner):
            yield (slice(start, start + longest // inner),)
        return
    for k in range(shape[0]):
        for rest in pieces(shape[1:], longest):
            yield (k, *rest)
