"""dramatiq's actors, and the hops that send to them, for whichever broker."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import context_side
import dramatiq
from context_hop import Errand, Failure, Hop, Wait, Way, Work
from dramatiq.middleware import AsyncIO, CurrentMessage

Send = Callable[["Actors", str, str], Any]


class Actors:
    """Of one broker; the worker's threads are of this process."""

    def __init__(self, broker: dramatiq.Broker) -> None:
        self.errands: dict[str, Errand] = {}
        self._first: set[str] = set()
        self._lock = threading.Lock()
        dramatiq.set_broker(broker)  # a pipeline asks nobody for another
        broker.add_middleware(AsyncIO())
        broker.add_middleware(CurrentMessage())
        actor = dramatiq.actor(broker=broker, max_retries=0, throws=(Failure,))
        self.work_on = actor(self._work_on)
        self.work_on_async = dramatiq.actor(self._work_on_async, broker=broker, throws=(Failure,))
        options = {"broker": broker, "max_retries": 1, "min_backoff": 1, "max_backoff": 1}
        self.second_time = dramatiq.actor(self._second_time, throws=(Failure,), **options)  # type: ignore[call-overload]
        self.begin = dramatiq.actor(self._begin, broker=broker)

    def _work_on(self, name: str, tag: str) -> None:
        try:
            getattr(context_side, name)(tag)
        finally:
            self.errands[tag].done.set()

    async def _work_on_async(self, name: str, tag: str) -> None:
        self._work_on(name, tag)

    def _second_time(self, name: str, tag: str) -> None:
        with self._lock:
            is_first = tag not in self._first
            self._first.add(tag)
        if is_first:
            raise RuntimeError("try again")
        self._work_on(name, tag)

    def _begin(self) -> None:
        pass


def _send(actors: Actors, name: str, tag: str) -> Any:
    return actors.work_on.send(name, tag)


def _send_async(actors: Actors, name: str, tag: str) -> Any:
    return actors.work_on_async.send(name, tag)


def _send_later(actors: Actors, name: str, tag: str) -> Any:
    return actors.work_on.send_with_options(args=(name, tag), delay=20)


def _send_twice(actors: Actors, name: str, tag: str) -> Any:
    return actors.second_time.send(name, tag)


def _send_pipeline(actors: Actors, name: str, tag: str) -> Any:
    ignoring = {"pipe_ignore": True}
    return (actors.begin.message() | actors.work_on.message_with_options(args=(name, tag), **ignoring)).run()


def _hop(make: Callable[[], dramatiq.Broker], send: Send) -> Any:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        broker = make()
        actors = Actors(broker)
        worker = dramatiq.Worker(broker, worker_timeout=20, worker_threads=4)
        worker.start()

        def go(work: Work, tag: str) -> Wait:
            errand = actors.errands[tag] = Errand(work, tag)
            send(actors, work.__name__, tag)
            return errand.wait

        yield Way(go)
        worker.stop()
        broker.close()

    return opened


def hops(name: str, make: Callable[[], dramatiq.Broker], contexts: int, fewer: int) -> list[Hop]:
    """The rows of one broker, the first with most requests at once."""
    return [
        Hop(f"dramatiq on {name}", _hop(make, _send), contexts=contexts),
        Hop(f"dramatiq on {name}, async actor", _hop(make, _send_async), contexts=fewer),
        Hop(f"dramatiq on {name}, delay", _hop(make, _send_later), contexts=fewer),
        Hop(f"dramatiq on {name}, retries", _hop(make, _send_twice), contexts=fewer),
        Hop(f"dramatiq on {name}, pipeline", _hop(make, _send_pipeline), contexts=fewer),
    ]
