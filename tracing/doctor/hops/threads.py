"""Threads, timers and executors."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing.pool import ThreadPool
from typing import Any

from tracing.doctor.hop import DEADLINE_S, Hop, Wait, Way, Work, future, joined, quietly, simple

HELD_UP_S = 0.02  # how long the only worker is busy while something behind it is cancelled


def _thread(make: Callable[[Callable[[], None]], threading.Thread]) -> Callable[..., Any]:
    def go(work: Work, tag: str) -> Wait:
        thread = make(lambda: quietly(work, tag))
        thread.start()
        return joined(thread.join)

    return simple(lambda: go)


class _Own(threading.Thread):
    """A class with a `run` of its own."""

    def __init__(self, function: Callable[[], None]) -> None:
        super().__init__()
        self._function = function

    def run(self) -> None:
        self._function()


@asynccontextmanager
async def _timer() -> AsyncIterator[Way]:
    def go(work: Work, tag: str) -> Wait:
        timer = threading.Timer(0, lambda: quietly(work, tag))
        timer.start()
        return joined(timer.join)

    def cancel(tag: str) -> Wait:
        timer = threading.Timer(DEADLINE_S, lambda: None)
        timer.start()
        timer.cancel()
        return joined(timer.join)

    yield Way(go, cancel)


def cancelled_behind(executor: Executor, busy: Callable[[], Any]) -> Wait:
    """Submit more than the executor can do at once, and cancel what has not begun."""
    futures = [executor.submit(busy) for _ in range(20)]
    for one in futures:
        one.cancel()

    async def waited() -> None:
        for one in futures:
            if not one.cancelled():
                one.result(DEADLINE_S)

    return waited


@asynccontextmanager
async def _submit() -> AsyncIterator[Way]:
    with ThreadPoolExecutor(4) as executor:
        yield Way(
            lambda work, tag: future(executor.submit(work, tag)),
            lambda tag: cancelled_behind(executor, lambda: threading.Event().wait(HELD_UP_S)),
        )


@asynccontextmanager
async def _map() -> AsyncIterator[Way]:
    with ThreadPoolExecutor(4) as executor:

        def go(work: Work, tag: str) -> Wait:
            results = executor.map(quietly, [work], [tag])
            return joined(lambda _: list(results))

        yield Way(go)


@asynccontextmanager
async def _thread_pool() -> AsyncIterator[Way]:
    with ThreadPool(4) as pool:

        def go(work: Work, tag: str) -> Wait:
            result = pool.apply_async(quietly, (work, tag))
            return joined(result.get)

        yield Way(go)


@asynccontextmanager
async def _thread_pool_imap() -> AsyncIterator[Way]:
    with ThreadPool(4) as pool:

        def go(work: Work, tag: str) -> Wait:
            results = pool.imap(lambda one: quietly(*one), [(work, tag)])
            return joined(lambda _: list(results))

        yield Way(go)


@asynccontextmanager
async def _in_executor() -> AsyncIterator[Way]:
    loop = asyncio.get_running_loop()

    def go(work: Work, tag: str) -> Wait:
        found = loop.run_in_executor(None, quietly, work, tag)

        async def waited() -> None:
            await found

        return waited

    def cancel(tag: str) -> Wait:
        found = loop.run_in_executor(None, threading.Event().wait, HELD_UP_S)
        found.cancel()

        async def waited() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await found

        return waited

    yield Way(go, cancel)


@asynccontextmanager
async def _to_thread() -> AsyncIterator[Way]:
    def go(work: Work, tag: str) -> Wait:
        task = asyncio.ensure_future(asyncio.to_thread(quietly, work, tag))

        async def waited() -> None:
            await task

        return waited

    yield Way(go)


@asynccontextmanager
async def _call_soon_threadsafe() -> AsyncIterator[Way]:
    """From a plain thread that the request started."""
    loop = asyncio.get_running_loop()

    def go(work: Work, tag: str) -> Wait:
        done = asyncio.Event()

        def on_loop() -> None:
            quietly(work, tag)
            done.set()

        threading.Thread(target=lambda: loop.call_soon_threadsafe(on_loop)).start()

        async def waited() -> None:
            await asyncio.wait_for(done.wait(), DEADLINE_S)

        return waited

    yield Way(go)


_THREADS = ("threads",)
_EXECUTORS = ("executors",)
_POOLS = ("process-pools",)

HOPS = [
    Hop("threading.Thread", _thread(lambda function: threading.Thread(target=function)), by=_THREADS),
    Hop("threading.Thread, own run()", _thread(_Own), by=_THREADS),
    Hop("threading.Timer", _timer, by=_THREADS),
    Hop("ThreadPoolExecutor.submit", _submit, by=_EXECUTORS),
    Hop("ThreadPoolExecutor.map", _map, by=_EXECUTORS),
    Hop("multiprocessing.pool.ThreadPool", _thread_pool, by=_POOLS),
    Hop("ThreadPool.imap", _thread_pool_imap, by=_POOLS),
    Hop("loop.run_in_executor", _in_executor, asyncio.run, by=_EXECUTORS),
    Hop("asyncio.to_thread", _to_thread, asyncio.run),
    Hop("loop.call_soon_threadsafe", _call_soon_threadsafe, asyncio.run, by=_THREADS),
]
