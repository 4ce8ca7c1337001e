"""Hand-off rows: the same step with the hand-off on and off, inside a span. Seconds for N operations."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from pathlib import Path
from typing import Any

from tests.bench.library import timed

BATCH = 100  # items that wait at a time


def _in_span(run: Callable[[int], None], operations: int, *names: str) -> float:
    """Time a step inside a span, with the named hand-offs on."""
    import tracing

    tracing.configure(service="bench", exporter="none", capture_logs=False)
    if names:
        tracing.instrument(*names)
    with tracing.span("bench"):
        return timed(run, operations)


def _queue(count: int) -> None:
    source: queue.Queue[int] = queue.Queue()
    for number in range(count):
        source.put(number)
        source.get()


def queue_plain(directory: Path, operations: int) -> float:
    """`Queue.put` and `Queue.get` in one thread."""
    return _in_span(_queue, operations)


def queue_carried(directory: Path, operations: int) -> float:
    """The same; each item carries its context."""
    return _in_span(_queue, operations, "queues")


def _delivered(count: int) -> None:
    """As a worker gets items: in an execution context of its own, where nothing is current."""
    source: queue.Queue[int] = queue.Queue()

    def work() -> None:
        while not source.empty():
            source.get()
            source.task_done()

    worker = Context()
    for _ in range(count // BATCH):
        for number in range(BATCH):
            source.put(number)
        worker.run(work)


def delivery_plain(directory: Path, operations: int) -> float:
    """A worker gets what was put, item by item."""
    return _in_span(_delivered, operations)


def delivery_carried(directory: Path, operations: int) -> float:
    """The same; each item's context is current until `task_done`."""
    return _in_span(_delivered, operations, "queues")


def _asyncio_queue(count: int) -> None:
    import asyncio

    async def main() -> None:
        source: asyncio.Queue[int] = asyncio.Queue()
        for number in range(count):
            source.put_nowait(number)
            await source.get()

    asyncio.run(main())


def asyncio_queue_plain(directory: Path, operations: int) -> float:
    """`asyncio.Queue.put_nowait` and `get` in one task."""
    return _in_span(_asyncio_queue, operations)


def asyncio_queue_carried(directory: Path, operations: int) -> float:
    """The same; each item carries its context."""
    return _in_span(_asyncio_queue, operations, "asyncio-queues")


def _threads(count: int) -> None:
    for _ in range(count):
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()


def thread_plain(directory: Path, operations: int) -> float:
    """`Thread.start` and `join`."""
    return _in_span(_threads, operations)


def thread_carried(directory: Path, operations: int) -> float:
    """The same; the thread begins inside the span."""
    return _in_span(_threads, operations, "threads")


class _Slow(ThreadPoolExecutor):
    """An executor that starts no thread: what `submit` itself costs, without a race for the interpreter."""

    def _adjust_thread_count(self) -> None:
        return


def _submits(count: int) -> None:
    executor: Any = _Slow(1)
    for _ in range(count):
        executor.submit(int)


def submit_plain(directory: Path, operations: int) -> float:
    """`ThreadPoolExecutor.submit`."""
    return _in_span(_submits, operations)


def submit_carried(directory: Path, operations: int) -> float:
    """The same; the call carries the context."""
    return _in_span(_submits, operations, "executors")
