"""Greenlets of gevent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import gevent
import gevent.event
import gevent.pool

from tracing.doctor.hop import DEADLINE_S, Hop, Wait, Way, Work, joined, quietly, simple


def _spawned(spawn: Callable[..., Any]) -> Any:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        def go(work: Work, tag: str) -> Wait:
            return joined(spawn(quietly, work, tag).get)

        def cancel(tag: str) -> Wait:
            greenlet = spawn(gevent.sleep, DEADLINE_S)
            greenlet.kill()
            return joined(greenlet.join)

        yield Way(go, cancel)

    return opened


def _raw() -> Any:
    def go(work: Work, tag: str) -> Wait:
        done = gevent.event.Event()

        def function() -> None:
            quietly(work, tag)
            done.set()

        gevent.spawn_raw(function)
        return joined(done.wait)

    return simple(lambda: go)


def _threadpool() -> Any:
    def go(work: Work, tag: str) -> Wait:
        result = gevent.get_hub().threadpool.spawn(quietly, work, tag)
        return joined(lambda timeout_s: result.get(timeout=timeout_s))

    return simple(lambda: go)


NEEDS = ("gevent",)

HOPS = [
    Hop("gevent.spawn", _spawned(gevent.spawn), needs=NEEDS, by=NEEDS),
    Hop("gevent.spawn_later", _spawned(lambda *call: gevent.spawn_later(0, *call)), needs=NEEDS, by=NEEDS),
    Hop("gevent.pool.Pool", _spawned(gevent.pool.Pool(20).spawn), needs=NEEDS, by=NEEDS),
    Hop("gevent.spawn_raw", _raw(), needs=NEEDS, by=NEEDS),
    Hop("gevent.threadpool", _threadpool(), needs=NEEDS, by=NEEDS),
]
