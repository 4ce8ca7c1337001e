"""Threads for blocking calls: bounded, and refusing beyond the bound."""

from __future__ import annotations

import asyncio
import threading

import pytest

from collector.api.workers import Workers
from collector.errors import Overloaded


def test_beyond_threads_and_waiting_line_a_call_is_refused_at_once() -> None:
    """One runs, one waits, the third hears 503; when they are done there is room again."""
    workers = Workers("query", threads_max=1, waiting_max=1)
    go = threading.Event()

    async def scenario() -> None:
        under_way = [asyncio.ensure_future(workers.run(go.wait)) for _ in range(2)]
        await asyncio.sleep(0)  # both have taken their places
        with pytest.raises(Overloaded, match="2 query requests are under way"):
            await workers.run(go.wait)
        go.set()
        assert await asyncio.gather(*under_way) == [True, True]
        assert await workers.run(lambda: 7) == 7

    asyncio.run(scenario())
    workers.close()


def test_a_call_that_fails_gives_its_place_back() -> None:
    """And its error arrives."""
    workers = Workers("query", threads_max=1, waiting_max=0)

    async def scenario() -> None:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await workers.run(lambda: 1 / 0)
        assert workers.busy == 0

    asyncio.run(scenario())
    workers.close()
