"""What a hop is: a way for work to get from where it is ordered to where it is done.

A module of `tracing.doctor.hops` lists the hops of one group as `HOPS`; `trial.py` says what is tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.baggage import set_baggage

DEADLINE_S = 60
CONTEXTS = 1000  # at once; hops that start a process for each take fewer, and say so

Work = Callable[[str], None]
Wait = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Way:
    """An open hop.

    Attributes:
        go: send `work(tag)` over the hop; the answer is awaited for its end. Called where the request is.
        cancel: send something over the hop and cancel it before it has ended.
    """

    go: Callable[[Work, str], Wait]
    cancel: Callable[[str], Wait] | None = None


def run_plain(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never really waits, without an event loop around it."""
    with contextlib.suppress(StopIteration):
        main.send(None)


@dataclass(frozen=True, slots=True)
class Hop:
    """One row of the matrix.

    Attributes:
        open: sets the hop up and takes it down.
        run: what runs the asking side: an event loop, or nothing.
        contexts: how many are under way at once in the last column, at most.
        needs: modules without which it cannot be tried.
        visit: what it carries instead of `trial.visit`.
        fail: what it carries instead of `trial.fail`.
        by: names by which `instrument()` knows what carries the context over it; none: Python does.
    """

    name: str
    open: Callable[[], AbstractAsyncContextManager[Way]]
    run: Callable[[Coroutine[Any, Any, None]], None] = run_plain
    contexts: int = CONTEXTS
    needs: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    visit: Work | None = None
    fail: Work | None = None

    @property
    def slug(self) -> str:
        """The name in one word, for tags."""
        return self.name.replace(" ", "-")


class Failure(Exception):
    """What work raises that is to fail."""


@contextlib.contextmanager
def request(tag: str) -> Iterator[None]:
    """What an incoming request is: a span, and baggage with the request's name."""
    with trace.get_tracer("matrix").start_as_current_span(f"request {tag}"):
        token = otel_context.attach(set_baggage("tenant", tag))
        try:
            yield
        finally:
            otel_context.detach(token)


# ---------------------------------------------------------------- building blocks


def simple(function: Callable[[], Callable[[Work, str], Wait]]) -> Callable[..., Any]:
    """`open` of a hop that needs no taking down."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        yield Way(function())

    return opened


def joined(wait: Callable[[float], Any]) -> Wait:
    """A `Wait` for something that blocks, with a deadline in seconds."""

    async def waited() -> None:
        wait(DEADLINE_S)

    return waited


def future(found: Any) -> Wait:
    """A `Wait` for a `concurrent.futures.Future`; what the work raised is the work's."""

    async def waited() -> None:
        with contextlib.suppress(Failure):
            found.result(DEADLINE_S)

    return waited


async def nothing() -> None:
    """A `Wait` for what is done already."""


def quietly(work: Work, tag: str) -> None:
    """Do the work as a worker does that survives its failures."""
    with contextlib.suppress(Failure):
        work(tag)


class Errand:
    """Work on its way through a queue, and whether it is done."""

    def __init__(self, work: Work | None, tag: str = "") -> None:
        self.work = work
        self.tag = tag
        self.done = threading.Event()

    def __lt__(self, other: Errand) -> bool:
        return self.tag < other.tag

    def do(self) -> None:
        """What a worker does with it."""
        assert self.work is not None
        try:
            quietly(self.work, self.tag)
        finally:
            self.done.set()

    async def wait(self) -> None:
        """Until it is done."""
        assert self.done.wait(DEADLINE_S), f"{self.tag} was never done"


class AsyncErrand(Errand):
    """The same on an event loop; one without work lasts until its consumer is cancelled."""

    def __init__(self, work: Work | None, tag: str = "") -> None:
        super().__init__(work, tag)
        self.done = asyncio.Event()  # type: ignore[assignment]
        self.begun = asyncio.Event()

    async def perform(self) -> None:
        """What a task that consumes does with it."""
        self.begun.set()
        if self.work is None:
            await asyncio.Event().wait()
        self.do()

    async def wait(self) -> None:
        """Until it is done."""
        await asyncio.wait_for(self.done.wait(), DEADLINE_S)  # type: ignore[arg-type]


class Consumer:
    """A task that consumes while the hop is open; cancelled in the middle of an errand, it begins anew."""

    def __init__(self, consume: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._consume = consume
        self._task = asyncio.create_task(consume())

    def cancelled_in(self, errand: AsyncErrand) -> Wait:
        """A `Wait` for the errand to begin and the task to be cancelled in it."""

        async def waited() -> None:
            await asyncio.wait_for(errand.begun.wait(), DEADLINE_S)
            await self.end()
            self._task = asyncio.create_task(self._consume())

        return waited

    async def end(self, *, cancels: bool = True) -> None:
        """Wait for the task's end.

        Args:
            cancels: whether it is to be made to end.
        """
        if cancels:
            self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@contextlib.contextmanager
def workers(count: int, target: Callable[[], None], stop: Callable[[], object]) -> Iterator[None]:
    """Long-lived threads, started where no request is; `stop` is called once for each to end it."""
    threads = [threading.Thread(target=target) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for _ in threads:
            stop()
        for thread in threads:
            thread.join(DEADLINE_S)


def drain(errands: queue.Queue[Any]) -> None:
    """A worker's loop."""
    while True:
        errand = errands.get()
        if errand.work is None:
            return
        errand.do()
        errands.task_done()
