"""A canary: writes known records and reads them back, for ever, and says when one is missing.

It goes the way of every sender and every reader, so that what breaks for them breaks for it first. Each
round writes one record, waits until it is found, and looks again for one of those before.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from collector.errors import CollectorError, NotFound
from tracing import semconv as sc
from tracing.line import encode

logger = logging.getLogger(__name__)

SERVICE: Final = "backtrail-canary"
REMEMBERED_MAX: Final = 1_000  # of the records before, to be looked for again
POLL_S: Final = 0.05

Write = Callable[[str, bytes], None]  # identity and line of a record; returns once it is acknowledged
Count = Callable[[str], int]  # trace id -> how many records of it are found


class Canary:
    """One canary, in a thread of its own.

    Args:
        write: brings a record in, as any sender would.
        count: finds the records of a trace, as any reader would.
        interval_s: time between two rounds.
        timeout_s: time that a record has from being acknowledged to being found.
        clock_ns: now, epoch nanoseconds.
    """

    def __init__(
        self,
        write: Write,
        count: Count,
        *,
        interval_s: float,
        timeout_s: float = 10.0,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._write = write
        self._count = count
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._clock_ns = clock_ns
        self._chance = random.Random()
        self._before: deque[str] = deque(maxlen=REMEMBERED_MAX)
        self._counts: Counter[str] = Counter(dict.fromkeys(_COUNTERS, 0))
        self._last_s = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backtrail-canary", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, at the latest when the present round's time is over."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def stats(self) -> dict[str, float]:
        """Records by what became of them; `found_s`: how long the last one took to be found."""
        return {**self._counts, "found_s": round(self._last_s, 3)}

    def sing(self) -> bool:
        """One round; return whether all was well."""
        trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
        line = encode(
            {
                sc.TIMESTAMP: self._clock_ns(),
                sc.LEVEL: "INFO",
                sc.SERVICE: SERVICE,
                sc.TRACE_ID: trace_id,
                sc.SPAN_ID: span_id,
                sc.MESSAGE: "the canary sings",
            }
        )
        try:
            self._write(trace_id, line)
            started_s = time.monotonic()
            found = self._wait_for(trace_id, started_s + self._timeout_s)
            self._last_s = time.monotonic() - started_s
            well = self._judge("new", trace_id, found)
            if self._before:
                earlier = self._chance.choice(self._before)
                well &= self._judge("earlier", earlier, self._count(earlier))
            self._before.append(trace_id)
        except CollectorError as error:
            self._counts["refused"] += 1
            logger.warning("the canary was not heard: %s", error)
            return False
        return well

    def _wait_for(self, trace_id: str, deadline_s: float) -> int:
        while not (found := self._count(trace_id)) and time.monotonic() < deadline_s:
            if self._stopping.wait(POLL_S):
                break
        return found

    def _judge(self, which: str, trace_id: str, found: int) -> bool:
        if found == 1:
            self._counts["found"] += 1
            return True
        if found == 0 and self._stopping.is_set():
            return True  # nobody waited long enough to know
        self._counts["twice" if found else "lost"] += 1
        logger.error("the canary's %s record is found %d times: trace %s", which, found, trace_id)
        return False

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            self.sing()


_COUNTERS: Final = ("found", "lost", "twice", "refused")


def found_by(trace: Callable[[str], dict[str, object]]) -> Count:
    """Count by way of `Answers.trace` or `CollectorClient.trace`."""

    def count(trace_id: str) -> int:
        try:
            records = trace(trace_id)["records"]
        except NotFound:
            return 0
        assert isinstance(records, int)
        return records

    return count
