"""Queues inside a process, with workers that live longer than any request."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from tracing.doctor.hop import AsyncErrand, Errand, Hop, Wait, Way, Work, drain, future, workers

WORKERS = 4


def _threads(kind: Callable[[], queue.Queue[Any]], wrap: Callable[[Errand], Any] = lambda item: item) -> Any:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        errands = kind()

        def go(work: Work, tag: str) -> Wait:
            errand = Errand(work, tag)
            errands.put(wrap(errand))
            return errand.wait

        with workers(WORKERS, lambda: drain(errands), lambda: errands.put(wrap(Errand(None, "~")))):
            yield Way(go)

    return opened


def _tasks(kind: Callable[[], asyncio.Queue[Any]], get: Callable[[Any], Awaitable[Any]]) -> Any:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        errands = kind()

        async def worker() -> None:
            while True:
                errand = await get(errands)
                errand.do()
                errands.task_done()

        tasks = [asyncio.create_task(worker()) for _ in range(WORKERS)]

        def go(work: Work, tag: str) -> Wait:
            errand = AsyncErrand(work, tag)
            errands.put_nowait(errand)
            return errand.wait

        def cancel(tag: str) -> Wait:
            """A worker is cancelled while it holds an item, and another takes its place."""
            held = asyncio.Event()

            async def holder() -> None:
                await get(errands)
                errands.task_done()
                held.set()
                await asyncio.Event().wait()

            async def waited() -> None:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                tasks[:] = [asyncio.create_task(holder())]
                errands.put_nowait(AsyncErrand(None, tag))
                await held.wait()
                tasks[0].cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await tasks[0]
                tasks[:] = [asyncio.create_task(worker()) for _ in range(WORKERS)]

            return waited

        yield Way(go, cancel)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    return opened


@asynccontextmanager
async def _pooled() -> AsyncIterator[Way]:
    """A connection pool is a LIFO queue: what it holds belongs to nobody."""
    pool: queue.LifoQueue[object] = queue.LifoQueue()
    for _ in range(WORKERS):
        pool.put(object())

    def use(work: Work, tag: str) -> None:
        connection = pool.get()
        try:
            work(tag)
        finally:
            pool.put(connection)

    with ThreadPoolExecutor(2 * WORKERS) as executor:
        yield Way(lambda work, tag: future(executor.submit(use, work, tag)))


async def _plain_get(errands: asyncio.Queue[Any]) -> Any:
    return await errands.get()


async def _get_in_time(errands: asyncio.Queue[Any]) -> Any:
    while True:
        with contextlib.suppress(asyncio.TimeoutError):
            return await asyncio.wait_for(errands.get(), 0.5)


_QUEUES = ("queues",)
_TASK_QUEUES = ("asyncio-queues",)

HOPS = [
    Hop("queue.Queue", _threads(queue.Queue), by=_QUEUES),
    Hop("queue.PriorityQueue", _threads(queue.PriorityQueue), by=_QUEUES),
    Hop("asyncio.Queue", _tasks(asyncio.Queue, _plain_get), asyncio.run, by=_TASK_QUEUES),
    Hop("asyncio.PriorityQueue", _tasks(asyncio.PriorityQueue, _plain_get), asyncio.run, by=_TASK_QUEUES),
    Hop("asyncio.Queue, wait_for(get())", _tasks(asyncio.Queue, _get_in_time), asyncio.run, by=_TASK_QUEUES),
    Hop("connection pool (LifoQueue)", _pooled, by=("executors",)),
]
