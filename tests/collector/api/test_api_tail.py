"""The live tail: what matches, to everybody who watches, and never at the publisher's cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from collector.api import tail as tail_module
from collector.api.tail import BATCHES_MAX, Tail
from collector.api.workers import Workers
from collector.errors import Overloaded
from collector.model import Record
from collector.store.conditions import Equals, Everything

PATIENCE_S = 20.0


def record(number: int, **fields: Any) -> Record:
    """A log record, unless the fields say otherwise."""
    given = {"timestamp_ns": number, "level": "INFO", "severity_number": 9, "service": "orders", **fields}
    return Record(uid=f"u-{number}", message=f"m{number}", **given)


async def stays() -> bool:
    """A watcher that does not go away."""
    return False


def run(scenario: Callable[[Tail, Workers], Awaitable[None]]) -> None:
    """Run a scenario with a tail and threads of its own, within a deadline."""
    workers = Workers("query", threads_max=1, waiting_max=8)
    try:
        asyncio.run(asyncio.wait_for(_awaited(scenario(Tail(), workers)), PATIENCE_S))
    finally:
        workers.close()


async def _awaited(scenario: Awaitable[None]) -> None:
    await scenario


async def next_event(events: AsyncIterator[bytes]) -> tuple[str, list[Any]]:
    """The name of the next piece's events and their data; comments have none."""
    piece = (await anext(events)).decode()
    blocks = [block for block in piece.split("\n\n") if block]
    if blocks[0].startswith(":"):
        return "comment", []
    names = {block.split("\n")[0].removeprefix("event: ") for block in blocks}
    assert len(names) == 1
    return names.pop(), [json.loads(block.split("\n")[1].removeprefix("data: ")) for block in blocks]


def test_a_watcher_sees_what_matches_and_counts() -> None:
    """In the order of arrival; span starts are no records."""

    async def scenario(tail: Tail, workers: Workers) -> None:
        events = tail.events(Equals("service", "orders"), workers, stays)
        assert await next_event(events) == ("comment", [])
        start = {"kind": "span_start", "trace_id": "1" * 32, "span_id": "1" * 16}
        tail.publish([record(1), record(2, service="stock"), record(3, **start), record(4)])
        name, data = await next_event(events)
        assert (name, [item["uid"] for item in data]) == ("record", ["u-1", "u-4"])
        tail.publish([record(5, service="stock")])  # nothing to say
        tail.publish([record(6)])
        assert [item["uid"] for item in (await next_event(events))[1]] == ["u-6"]

    run(scenario)


def test_a_slow_watcher_loses_the_oldest_and_is_told_how_many() -> None:
    """The publisher does not wait; the rest comes in order."""

    async def scenario(tail: Tail, workers: Workers) -> None:
        events = tail.events(Everything(), workers, stays)
        await next_event(events)
        for number in range(BATCHES_MAX + 3):
            tail.publish([record(2 * number), record(2 * number + 1)])
        await asyncio.sleep(0)  # the batches are handed over on the loop
        assert await next_event(events) == ("dropped", [{"count": 6}])
        assert [item["uid"] for item in (await next_event(events))[1]] == ["u-6", "u-7"]

    run(scenario)


def test_silence_is_broken_by_a_comment(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that both sides notice when the other has gone."""
    monkeypatch.setattr(tail_module, "HEARTBEAT_S", 0.01)

    async def scenario(tail: Tail, workers: Workers) -> None:
        events = tail.events(Everything(), workers, stays)
        await next_event(events)
        assert await next_event(events) == ("comment", [])

    run(scenario)


def test_a_watcher_that_has_gone_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """However it went: noticed at a heartbeat, or closed by the server."""
    monkeypatch.setattr(tail_module, "HEARTBEAT_S", 0.01)

    async def scenario(tail: Tail, workers: Workers) -> None:
        async def goes() -> bool:
            return True

        gone = [piece async for piece in tail.events(Everything(), workers, goes)]
        assert (len(gone), tail.watchers) == (1, 0)
        closed = tail.events(Everything(), workers, stays)
        await anext(closed)
        assert tail.watchers == 1
        await closed.aclose()  # type: ignore[attr-defined]
        assert tail.watchers == 0

    run(scenario)


def test_stopping_ends_every_stream() -> None:
    """A collector that stops does not wait for those who watch."""

    async def scenario(tail: Tail, workers: Workers) -> None:
        events = tail.events(Everything(), workers, stays)
        await next_event(events)
        waiting = asyncio.ensure_future(anext(events, None))
        await asyncio.sleep(0)
        tail.stop()
        assert await waiting in (None, b": still here\n\n")
        assert await anext(events, None) is None

    run(scenario)


def test_publishing_to_a_loop_that_has_ended_does_no_harm() -> None:
    """The indexer outlives the server by a moment."""
    tail = Tail()
    workers = Workers("query", threads_max=1, waiting_max=1)

    async def watch() -> None:
        events = tail.events(Everything(), workers, stays)
        await anext(events)
        kept.append(events)

    kept: list[AsyncIterator[bytes]] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(watch())
    loop.close()
    tail.publish([record(1)])
    workers.close()


def test_there_are_not_too_many_watchers(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more hears when to come back."""
    monkeypatch.setattr(tail_module, "WATCHERS_MAX", 1)

    async def scenario(tail: Tail, workers: Workers) -> None:
        tail.check_room()
        events = tail.events(Everything(), workers, stays)
        await anext(events)
        with pytest.raises(Overloaded):
            tail.check_room()

    run(scenario)
