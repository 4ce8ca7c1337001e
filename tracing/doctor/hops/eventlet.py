"""Green threads of eventlet."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of itself
    import eventlet
    import eventlet.event
    import eventlet.tpool

from tracing.doctor.hop import DEADLINE_S, Hop, Wait, Way, Work, joined, quietly, simple


def _spawned(spawn: Callable[..., Any]) -> Any:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        def go(work: Work, tag: str) -> Wait:
            thread = spawn(quietly, work, tag)
            return joined(lambda _: thread.wait())

        def cancel(tag: str) -> Wait:
            spawn(eventlet.sleep, DEADLINE_S).kill()
            return joined(lambda _: eventlet.sleep(0))

        yield Way(go, cancel)

    return opened


def _without_result() -> Any:
    def go(work: Work, tag: str) -> Wait:
        done = eventlet.event.Event()

        def function() -> None:
            quietly(work, tag)
            done.send(None)

        eventlet.spawn_n(function)
        return joined(lambda timeout_s: done.wait(timeout_s))

    return simple(lambda: go)


def _tpool() -> Any:
    def go(work: Work, tag: str) -> Wait:
        eventlet.tpool.execute(quietly, work, tag)
        return joined(lambda _: None)

    return simple(lambda: go)


NEEDS = ("eventlet",)

HOPS = [
    Hop("eventlet.spawn", _spawned(eventlet.spawn), needs=NEEDS, by=NEEDS),
    Hop(
        "eventlet.spawn_after", _spawned(lambda *call: eventlet.spawn_after(0, *call)), needs=NEEDS, by=NEEDS
    ),
    Hop("eventlet.GreenPool", _spawned(eventlet.GreenPool(20).spawn), needs=NEEDS, by=NEEDS),
    Hop("eventlet.spawn_n", _without_result(), needs=NEEDS, by=NEEDS),
    Hop("eventlet.tpool", _tpool(), needs=NEEDS, by=NEEDS),
]
