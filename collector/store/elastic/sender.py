"""Delivers bulks: every item ends stored, already stored or refused, or all of what is left is held.

Nothing is dropped here. What a busy or silent server did not take is sent again after a pause with a random
part; what it refused for our credentials' sake stops everything; a body too long for it is
halved. When patience ends, the error says so and the write-ahead log still has the records.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote

from collector.errors import Damaged
from collector.store.elastic.bulk import (
    FILTER_PATH,
    FILTER_PATH_WITH_INDEX,
    STORED,
    Fate,
    Item,
    Verdict,
    body_of,
    read_answer,
)
from collector.store.elastic.connection import Connection, Forbidden, Rejected, Unavailable
from collector.store.elastic.inflight import InFlight
from collector.store.elastic.options import ElasticOptions
from collector.store.elastic.streams import Streams

# Why something is sent again: a closed list, so that each can be a counter's label.
RETRY_REASONS: Final = (
    "connection", "timeout", "tls", "busy", "server_error", "blocked", "unreadable_answer", "too_long",
)  # fmt: skip
_PARAMS: Final = {"filter_path": FILTER_PATH, "require_data_stream": "true"}
_PARAMS_WITH_INDEX: Final = {**_PARAMS, "filter_path": FILTER_PATH_WITH_INDEX}

Delivered = list[tuple[Item, Verdict]]
Delivery = list[Future[Delivered]]  # bulks on their way


class BulkSender:
    """Sends bulks, several at once."""

    def __init__(self, connection: Connection, streams: Streams, options: ElasticOptions) -> None:
        self._connection = connection
        self._streams = streams
        self._options = options
        self._gate = InFlight(
            least=options.bulks_in_flight_min,
            start=options.bulks_in_flight_start,
            most=options.bulks_in_flight_max,
            slow_s=options.bulk_slow_s,
        )
        self._pool = ThreadPoolExecutor(options.bulks_in_flight_max, thread_name_prefix="backtrail-bulk")
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self.retries: Counter[str] = Counter()  # by a word of RETRY_REASONS
        self.hold: str | None = None  # why everything is held, in a sentence; None: nothing is

    def deliver(self, bulks: Iterable[list[Item]]) -> Delivered:
        """Send bulks and wait for all of them; see `begin` and `finish`."""
        return self.finish(self.begin(bulks))

    def begin(self, bulks: Iterable[list[Item]]) -> Delivery:
        """Send bulks, each while the next is being made, and wait for none."""
        running: Delivery = []
        try:
            for bulk in bulks:
                running.append(self._pool.submit(self._deliver, bulk))
        except BaseException:
            wait(running)
            raise
        return running

    def finish(self, delivery: Delivery) -> Delivered:
        """Wait for all bulks of a delivery, also when one of them fails.

        Raises:
            Unavailable: the server was silent or busy for longer than our patience.
            Forbidden: credentials or privileges; the alarm is `hold`.
        """
        delivered: Delivered = []
        failure: Exception | None = None
        with self.holding():
            for one in delivery:
                try:
                    delivered += one.result()
                except (Unavailable, Forbidden) as error:
                    failure = failure or error
            if failure is not None:
                raise failure
        return delivered

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Around what storing needs: that it is refused for our credentials' sake is the hold's reason."""
        try:
            yield
        except Forbidden as error:
            self.hold = str(error)
            raise

    @property
    def in_flight(self) -> int:
        """Bulks that are on their way now."""
        return self._gate.inside

    @property
    def in_flight_limit(self) -> float:
        """How many may be."""
        return self._gate.limit

    def close(self) -> None:
        """End every pause and let go of the threads."""
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    # ---------------------------------------------------------------- one bulk

    def _deliver(self, items: list[Item]) -> Delivered:
        done: Delivered = []
        attempts = 0
        deadline = time.monotonic() + self._options.patience_s
        while items:
            if attempts:
                self._pause(attempts, deadline)
            attempts += 1
            try:
                answered = self._attempt(items)
            except Rejected as error:
                done += self._apart(items, error)
                break
            except Unavailable as error:
                self._note(error.reason)
                if error.reason in ("busy", "blocked"):
                    self._gate.strained()  # the server answered, so nothing of it was stored
                else:
                    self._gate.failed()
                    for item in items:
                        item.doubtful = True
                if time.monotonic() > deadline or self._closing.is_set():
                    raise
                continue
            except Damaged:
                self._note("unreadable_answer")
                for item in items:
                    item.doubtful = True
                if time.monotonic() > deadline:
                    raise Unavailable("unreadable_answer", "the server's answers make no sense") from None
                continue
            others = [pair for pair in answered if pair[1] is not STORED]
            later = [pair for pair in others if pair[1].fate in (Fate.LATER, Fate.HELD)]
            if not later:
                return done + answered if done else answered
            done += [pair for pair in answered if pair[1].fate not in (Fate.LATER, Fate.HELD)]
            items = [item for item, _ in later]
            self._refuse_to_hurry(later, deadline)
        return done

    def _attempt(self, items: list[Item]) -> Delivered:
        """Send once; what an older index has already is not sent."""
        known: Delivered = []
        expected: dict[str, str | None] = {}
        if any(item.doubtful for item in items):
            known, items = self._look_up(items)
            expected = {stream: self._streams.write_index(stream) for stream in {i.stream for i in items}}
            if not items:
                return known
        with self._gate.one():
            started = time.monotonic()
            answer = self._connection.request(
                "POST",
                "/_bulk",
                body_of(items),
                params=_PARAMS_WITH_INDEX if expected else _PARAMS,
                timeout_s=self._options.request_timeout_s,
            )
            verdicts = read_answer(answer, items)
        if any(verdict is not STORED and verdict.fate is Fate.LATER for verdict in verdicts):
            self._gate.strained()
        else:
            self._gate.succeeded(time.monotonic() - started)
        answered = list(zip(items, verdicts, strict=True))
        if expected:
            answered = self._without_second_copies(answered, expected)
        return known + answered if known else answered

    def _apart(self, items: list[Item], error: Rejected) -> Delivered:
        """Halve a bulk that was rejected as a whole, until the item that cannot go is alone."""
        if len(items) == 1:
            return [(items[0], Verdict(Fate.REFUSED, None, error.kind, str(error)))]
        self._note("too_long")
        half = len(items) // 2
        return self._deliver(items[:half]) + self._deliver(items[half:])

    def _refuse_to_hurry(self, later: Delivered, deadline: float) -> None:
        """Of items that must go again: hold everything, or give up when patience is over."""
        verdict = next((one for _, one in later if one.fate is Fate.HELD), None)
        if verdict is not None:
            advice = "nothing is dropped; a person must see to the cluster, its templates or our privileges"
            raise Forbidden(f"{verdict.reason}: {verdict.message}; {advice}")
        verdict = later[0][1]
        reason = "blocked" if verdict.reason == "cluster_block_exception" else "busy"
        self._note(reason)
        if time.monotonic() > deadline:
            raise Unavailable(reason, f"{len(later)} records not taken: {verdict.reason}: {verdict.message}")

    def _pause(self, attempts: int, deadline: float) -> None:
        longest = min(self._options.backoff_s * 2 ** min(attempts, 16), self._options.backoff_s_max)
        pause_s = longest * (0.5 + random.random() / 2)
        self._closing.wait(max(0.0, min(pause_s, deadline - time.monotonic())))

    def _note(self, reason: str) -> None:
        with self._lock:
            self.retries[reason] += 1

    # ---------------------------------------------------------------- stored before?

    def _look_up(self, items: list[Item]) -> tuple[Delivered, list[Item]]:
        """Part items into those that an older index has and those to be sent."""
        self._streams.reload()
        stored: set[tuple[str, str]] = set()
        for stream in {item.stream for item in items}:
            ids = [item.id for item in items if item.stream == stream and item.doubtful]
            stored.update((stream, found) for found in self._streams.in_older(stream, ids))
        if not stored:
            return [], items
        verdict = Verdict(Fate.ALREADY_STORED)
        known = [(item, verdict) for item in items if (item.stream, item.id) in stored]
        return known, [item for item in items if (item.stream, item.id) not in stored]

    def _without_second_copies(self, answered: Delivered, expected: dict[str, str | None]) -> Delivered:
        """Mend what a rollover between the look-up and the bulk may have done: drop the newer copy."""
        moved = [
            (item, verdict)
            for item, verdict in answered
            if item.doubtful
            and verdict.fate is Fate.STORED
            and expected.get(item.stream) not in (None, verdict.index)
        ]
        if not moved:
            return answered
        self._streams.reload()
        twice: set[tuple[str, str]] = set()
        for stream in {item.stream for item, _ in moved}:
            ids = [item.id for item, _ in moved if item.stream == stream]
            twice.update((stream, found) for found in self._streams.in_older(stream, ids))
        copies = [pair for pair in moved if (pair[0].stream, pair[0].id) in twice]
        for item, verdict in copies:
            self._connection.request("DELETE", f"/{verdict.index}/_doc/{quote(item.id, safe='')}")
        return [
            (item, Verdict(Fate.ALREADY_STORED) if (item.stream, item.id) in twice else verdict)
            for item, verdict in answered
        ]
