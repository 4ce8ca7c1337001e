"""How long the API takes to answer: `python -m tests.bench.bench_api`, at two million records over a day.

A collector in a process of its own, one client over HTTP. Each question is asked at rest, and again while
records come in at a steady rate. Prints milliseconds beside the bounds, and one line of JSON.
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
# Milliseconds, of the median. What is said of counts is meant of every question that only counts.
BOUNDS_MS = {"trace by id": 10, "newest": 50, "counts": 200}


def questions(trace_ids: list[str]) -> dict[str, Callable[[CollectorClient], Any]]:
    """What there are bounds for, by names that begin as the bounds' do, and some beside."""
    picks = random.Random(3)
    day: dict[str, Any] = {"start": START_NS, "end": START_NS + DAY_NS}
    return {
        "trace by id": lambda client: client.trace(picks.choice(trace_ids)),
        "newest 50": lambda client: client.logs(limit=50, **day),
        "newest 50 that match": lambda client: client.logs("moved level:WARN", limit=50, **day),
        "newest 50 of a service": lambda client: client.logs(service="service-3", limit=50, **day),
        "counts over 24 h": lambda client: client.logs(limit=1, total=True, **day),
        "counts by service over 24 h": lambda client: client.facets("service", **day),
        "counts by level of a service": lambda client: client.facets("level", service="service-3", **day),
        "counts by the minute over 24 h": lambda client: client.rates(**day),
        "counts of a service's requests": lambda client: client.service_rates("service-3", **day),
        "counts of services over 24 h": lambda client: client.services(**day),
        "calls over 24 h": lambda client: client.topology(**day),
        "newest 20 traces": lambda client: client.traces(**day),
        "structure, 20 traces": lambda client: client.traces("service:service-0 >> service:service-3", **day),
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


def table(found: dict[str, dict[str, Any]]) -> str:
    """Medians beside their bounds, a line for each question."""
    head = f"{'milliseconds (median, 95th percentile)':34}" + "".join(f"{name:>22}" for name in found)
    lines = [f"{head}{'bound':>8}"]
    for question in next(iter(found.values())):
        bound = next((ms for name, ms in BOUNDS_MS.items() if question.startswith(name)), None)
        figures = "".join(
            f"{times[question]['p50_ms']:>13}{times[question]['p95_ms']:>9}" for times in found.values()
        )
        lines.append(f"{question:39}{figures}{bound or '–':>8}")
    return "\n".join(lines)


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
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--rate", type=int, default=5_000, help="records a second while asking again")
    given = parser.parse_args()
    body = list(lines(given.records, DAY_NS // given.records))
    seen = {line[line.index(b'"trace_id":"') + 12 :][:32].decode() for line in body[::30]}
    asked = questions(sorted(seen))
    with tempfile.TemporaryDirectory() as directory, collector(Path(directory)) as client:
        send(client, body)
        wait_stored(client, given.records)
        del body  # or this process and the collector share too little memory
        found = {"at rest": times(client, asked)}
        with SteadySender(client.url, given.rate) as sender:
            found["while ingesting"] = times(client, asked)
            rate = sender.rate
    figures = {"records": given.records, **found, "ingested records/s": rate}
    sys.stdout.write(f"{table(found)}\n{json.dumps(figures)}\n")


if __name__ == "__main__":
    main()
