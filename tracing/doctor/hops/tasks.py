"""Tasks and task groups, callbacks, generators, copied contexts."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator
from contextlib import asynccontextmanager
from typing import Any

from opentelemetry import trace

from tracing.doctor.hop import DEADLINE_S, Hop, Wait, Way, Work, quietly, simple


@asynccontextmanager
async def _create_task() -> AsyncIterator[Way]:
    async def do(work: Work, tag: str) -> None:
        quietly(work, tag)

    def go(work: Work, tag: str) -> Wait:
        task = asyncio.create_task(do(work, tag))

        async def waited() -> None:
            await task

        return waited

    def cancel(tag: str) -> Wait:
        task = asyncio.create_task(asyncio.sleep(DEADLINE_S))
        task.cancel()

        async def waited() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await task

        return waited

    yield Way(go, cancel)


@asynccontextmanager
async def _trio_nursery() -> AsyncIterator[Way]:
    import trio

    async with trio.open_nursery() as nursery:

        def go(work: Work, tag: str) -> Wait:
            done = trio.Event()

            async def do() -> None:
                quietly(work, tag)
                done.set()

            nursery.start_soon(do)
            return done.wait

        def cancel(tag: str) -> Wait:
            scope = trio.CancelScope()

            async def hang() -> None:
                with scope:
                    await trio.sleep_forever()

            nursery.start_soon(hang)
            scope.cancel()
            return trio.lowlevel.checkpoint

        yield Way(go, cancel)


@asynccontextmanager
async def _trio_thread() -> AsyncIterator[Way]:
    """Into a thread, and from there back to the event loop."""
    import trio

    async with trio.open_nursery() as nursery:

        def go(work: Work, tag: str) -> Wait:
            done = trio.Event()

            async def do() -> None:
                await trio.to_thread.run_sync(lambda: trio.from_thread.run_sync(quietly, work, tag))
                done.set()

            nursery.start_soon(do)
            return done.wait

        yield Way(go)


@asynccontextmanager
async def _anyio_group() -> AsyncIterator[Way]:
    import anyio
    import anyio.to_thread

    async with anyio.create_task_group() as group:

        def go(work: Work, tag: str) -> Wait:
            done = anyio.Event()

            async def do() -> None:
                await anyio.to_thread.run_sync(quietly, work, tag)
                done.set()

            group.start_soon(do)
            return done.wait

        def cancel(tag: str) -> Wait:
            scope = anyio.CancelScope()

            async def hang() -> None:
                with scope:
                    await anyio.sleep_forever()

            group.start_soon(hang)
            scope.cancel()
            return lambda: anyio.sleep(0)

        yield Way(go, cancel)


def _copied() -> Any:
    def go(work: Work, tag: str) -> Wait:
        context = contextvars.copy_context()

        async def waited() -> None:
            context.run(quietly, work, tag)

        return waited

    return simple(lambda: go)


def _generator() -> Any:
    """The work is done by a generator that holds a span open and is closed before it is exhausted."""

    def steps(work: Work, tag: str) -> Generator[None, None, None]:
        with trace.get_tracer("matrix").start_as_current_span(f"stream {tag}"):
            quietly(work, tag)
            yield
            yield

    def go(work: Work, tag: str) -> Wait:
        generator = steps(work, tag)
        next(generator)
        generator.close()

        async def waited() -> None:
            return

        return waited

    return simple(lambda: go)


@asynccontextmanager
async def _async_generator() -> AsyncIterator[Way]:
    """The same, closed by another task, as an event loop closes what nobody holds any more."""

    async def steps(work: Work, tag: str) -> AsyncGenerator[None, None]:
        with trace.get_tracer("matrix").start_as_current_span(f"stream {tag}"):
            quietly(work, tag)
            yield
            yield

    def go(work: Work, tag: str) -> Wait:
        async def advance() -> AsyncGenerator[None, None]:
            generator = steps(work, tag)
            await anext(generator)
            return generator

        task = asyncio.ensure_future(advance())

        async def waited() -> None:
            await asyncio.ensure_future((await task).aclose())

        return waited

    yield Way(go)


def _run_trio(main: Coroutine[Any, Any, None]) -> None:
    import trio

    trio.run(lambda: main)


HOPS = [
    Hop("asyncio.create_task", _create_task, asyncio.run),
    Hop("trio nursery", _trio_nursery, _run_trio, needs=("trio",)),
    Hop("trio.to_thread and from_thread", _trio_thread, _run_trio, needs=("trio",)),
    Hop("anyio task group, to_thread", _anyio_group, asyncio.run, needs=("anyio",)),
    Hop("anyio task group on trio", _anyio_group, _run_trio, needs=("anyio", "trio")),
    Hop("contextvars.copy_context", _copied()),
    Hop("generator closed early", _generator(), by=("generators",)),
    Hop("async generator closed early", _async_generator, asyncio.run, by=("generators",)),
]
