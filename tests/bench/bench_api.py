"""How long the API takes to answer: `python -m tests.bench.bench_api --records 2000000`.

A collector in a process of its own, one client over HTTP. Each question is asked at rest, and again while
records come in at a steady rate. Prints one line of JSON: milliseconds, median and 95th percentile.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from collector.client import CollectorClient
from tests.bench.service import START_NS, collector, lines, send, wait_stored

DAY_NS = 86_400_000_000_000
BATCH_RECORDS = 1_000
ROUNDS = 40


def questions(trace_ids: list[str]) -> dict[str, Callable[[CollectorClient], Any]]:
    """What issue 5 has bounds for."""
    picks = random.Random(3)
    day: dict[str, Any] = {"start": START_NS, "end": START_NS + DAY_NS}
    return {
        "trace by id": lambda client: client.trace(picks.choice(trace_ids)),
        "newest 50": lambda client: client.logs("moved level:WARN", limit=50, **day),
        "counts over 24 h": lambda client: client.facets("service", **day),
        "rates over 24 h": lambda client: client.rates(**day),
        "services over 24 h": lambda client: client.services(**day),
    }


def times(client: CollectorClient, asked: dict[str, Callable[[CollectorClient], Any]]) -> dict[str, Any]:
    """Milliseconds of each question, each asked once before it counts."""
    found = {}
    for name, ask in asked.items():
        ask(client)
        took = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            ask(client)
            took.append((time.perf_counter() - started) * 1e3)
        p95 = statistics.quantiles(took, n=20)[-1]
        found[name] = {"p50_ms": round(statistics.median(took), 1), "p95_ms": round(p95, 1)}
    return found


class SteadySender:
    """Imports records at a rate, from a thread; a context manager."""

    def __init__(self, url: str, records_per_s: int) -> None:
        self._url = url
        self._pause_s = BATCH_RECORDS / records_per_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._started_s = 0.0
        self.sent = 0

    @property
    def rate(self) -> int:
        """Records a second that were taken in so far."""
        return round(self.sent / (time.monotonic() - self._started_s))

    def __enter__(self) -> SteadySender:
        self._started_s = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        source = lines(10_000_000)
        with CollectorClient(self._url) as client:
            while not self._stop.is_set():
                batch = [
                    (f"load-{self.sent + n}", line) for n, line in enumerate(islice(source, BATCH_RECORDS))
                ]
                client.import_records(batch)
                self.sent += len(batch)
                due_s = self._started_s + self.sent / BATCH_RECORDS * self._pause_s
                self._stop.wait(max(0.0, due_s - time.monotonic()))


def main() -> None:
    """Fill a collector, ask, ask again under load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--rate", type=int, default=5_000, help="records a second while asking again")
    given = parser.parse_args()
    body = list(lines(given.records))
    seen = {line[line.index(b'"trace_id":"') + 12 :][:32].decode() for line in body[::30]}
    asked = questions(sorted(seen))
    with tempfile.TemporaryDirectory() as directory, collector(Path(directory)) as client:
        send(client, body)
        wait_stored(client, given.records)
        found: dict[str, Any] = {"records": given.records, "at rest": times(client, asked)}
        with SteadySender(client.url, given.rate) as sender:
            found["while ingesting"] = times(client, asked)
            found["ingested records/s"] = sender.rate
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
