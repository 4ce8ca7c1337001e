"""Live tail: records as they become visible, to everybody who watches, never at the indexer's cost.

The indexer hands each batch over and goes on. Every watcher has a short line of batches; one that does not
keep up loses whole batches and is told how many records they held.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import orjson

from collector.api.shapes import plain
from collector.api.views import record_view
from collector.api.workers import Workers
from collector.errors import Overloaded
from collector.model import Record
from collector.store.conditions import Condition, counted, matches

WATCHERS_MAX: Final = 32
# Batches of the indexer that may wait for one watcher: some seconds of a busy collector.
BATCHES_MAX: Final = 64
# A comment is sent when nothing else was, so that proxies keep the connection and we notice who has gone.
HEARTBEAT_S: Final = 15.0
_STILL_HERE: Final = b": still here\n\n"


class Watcher:
    """One who watches; belongs to the event loop on which it was made."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._batches: deque[Sequence[Record]] = deque()
        self._dropped = 0  # records since the last time this was told
        self._arrived = asyncio.Event()

    def offer(self, batch: Sequence[Record]) -> None:
        """Take a batch, from any thread; never waits."""
        try:
            self._loop.call_soon_threadsafe(self._take, batch)
        except RuntimeError:
            pass  # the loop has ended, and with it everybody who watched

    async def next(self, timeout_s: float) -> tuple[Sequence[Record], int]:
        """The next batch and how many records were dropped before it; nothing after the timeout."""
        if not self._batches:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), timeout_s)
            except TimeoutError:
                return (), 0
        dropped, self._dropped = self._dropped, 0
        return self._batches.popleft(), dropped

    def _take(self, batch: Sequence[Record]) -> None:
        if len(self._batches) >= BATCHES_MAX:
            self._dropped += len(self._batches.popleft())
        self._batches.append(batch)
        self._arrived.set()


class Tail:
    """Everybody who watches."""

    def __init__(self) -> None:
        self._watchers: tuple[Watcher, ...] = ()  # replaced, never changed: the indexer reads it any time
        self._stopping = False

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._watchers)

    @property
    def is_listening(self) -> bool:
        """Whether anybody watches."""
        return bool(self._watchers)

    def publish(self, batch: Sequence[Record]) -> None:
        """Hand a batch of visible records to everybody, from any thread; never waits, never raises."""
        for watcher in self._watchers:
            watcher.offer(batch)

    def stop(self) -> None:
        """End every stream, from any thread."""
        self._stopping = True
        self.publish(())

    async def events(
        self, condition: Condition, workers: Workers, is_gone: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[bytes]:
        """Server-sent events for one watcher, without end.

        Events: `record` with a record as JSON, `dropped` with `{"count"}`; comments keep it alive.

        Args:
            condition: what to watch for.
            workers: where records are matched and written as JSON.
            is_gone: whether the watcher has gone; asked after each event.
        Source: WHATWG HTML, "Server-sent events".
        """
        watcher = Watcher()
        condition = counted(condition)
        self._watchers = (*self._watchers, watcher)
        try:
            yield b": watching\n\n"
            while not (self._stopping or await is_gone()):
                batch, dropped = await watcher.next(HEARTBEAT_S)
                if dropped:
                    yield b'event: dropped\ndata: {"count":%d}\n\n' % dropped
                events = await workers.run(partial(_events, batch, condition)) if batch else _STILL_HERE
                if events:
                    yield events
        finally:
            self._watchers = tuple(other for other in self._watchers if other is not watcher)

    def check_room(self) -> None:
        """Refuse one watcher too many.

        Raises:
            Overloaded: `WATCHERS_MAX` watch already.
        """
        if len(self._watchers) >= WATCHERS_MAX:
            raise Overloaded(f"{WATCHERS_MAX} watch already; try later", retry_after_s=10.0)


def _events(batch: Sequence[Record], condition: Condition) -> bytes:
    return b"".join(
        b"event: record\ndata: %b\n\n" % orjson.dumps(plain(record_view(record)))
        for record in batch
        if matches(condition, record)
    )
