"""Elasticsearch servers that are treated badly, and a steady load on a real collector in front of them."""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "deploy" / "dev"))

from devservers import Elasticsearch, ServerUnavailable

VERSION = "9.4.3"
PATIENCE_S = 300.0  # of a machine that does other things, too


class SteadyLoad:
    """A sender with positions that ships so many lines a second and keeps what is not acknowledged.

    It does what the library's shipper does: one connection, and after any trouble the same bytes again.
    """

    def __init__(
        self, url: str, *, lines_per_s: int, line: Callable[[int], dict[str, object]] | None = None
    ) -> None:
        self.spool = uuid4().hex
        self.sent = 0  # lines that have been handed over to the shipper
        self.acknowledged = 0  # lines
        self.statuses: Counter[int | str] = Counter()
        self.slowest_s = 0.0  # answer
        self._address = urlsplit(url)
        self._lines_per_s = lines_per_s
        self._line = line or (lambda number: {"message": f"line {number}"})
        self._ends = [0]
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> SteadyLoad:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Send nothing new, and wait until everything is acknowledged."""
        self._ending.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the collector does not acknowledge what it is sent"

    @property
    def uids(self) -> Counter[str]:
        """The identities of everything that was sent, once each."""
        return Counter(f"{self.spool}-{offset}" for offset in self._ends[:-1])

    def _run(self) -> None:
        header = {"backtrail_spool": 1, "spool_id": self.spool, "segment": 0, "first_offset": 0}
        header_line = json.dumps({**header, "resource": {"service.name": "steady"}}).encode() + b"\n"
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=30)
        pending: list[bytes] = []
        started = time.monotonic()
        while pending or not self._ending.is_set():
            due = int((time.monotonic() - started) * self._lines_per_s)
            if not self._ending.is_set():
                for number in range(self.sent, due):
                    line = self._encoded(number)
                    pending.append(line)
                    self._ends.append(self._ends[-1] + len(line))
                self.sent = max(self.sent, due)
            batch = pending[:2_000]
            if not batch:
                self._ending.wait(0.02)
                continue
            headers = {
                "Backtrail-Format": "1",
                "Backtrail-Spool": self.spool,
                "Backtrail-Offset": str(self._ends[self.acknowledged]),
            }
            asked_s = time.monotonic()
            try:
                connection.request("POST", "/v1/records", header_line + b"".join(batch), headers)
                answer = connection.getresponse()
                body = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.statuses[type(error).__name__] += 1
                connection.close()
                time.sleep(0.1)
                continue
            self.statuses[answer.status] += 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - asked_s)
            if answer.status == 200:
                assert body["acknowledged_offset"] == self._ends[self.acknowledged + len(batch)]
                self.acknowledged += len(batch)
                pending = pending[len(batch) :]
            else:
                time.sleep(0.1)

    def _encoded(self, number: int) -> bytes:
        seconds, milliseconds = divmod(number, 1_000)
        fields = {
            "timestamp": f"2026-11-24T05:{seconds // 60 % 60:02}:{seconds % 60:02}.{milliseconds:03}Z",
            "level": "INFO",
            "service": "steady",
            **self._line(number),
        }
        return json.dumps(fields).encode() + b"\n"


@pytest.fixture
def steady_load() -> type[SteadyLoad]:
    """The class, so that a test says how much and where to."""
    return SteadyLoad


@pytest.fixture(scope="session")
def start_elasticsearch(need: Callable[[bool, str], None]) -> Iterator[Callable[..., Elasticsearch]]:
    """Call it, with `Elasticsearch`'s keywords, for a server of one's own to treat badly."""
    started: list[Elasticsearch] = []

    def start(**keywords: object) -> Elasticsearch:
        try:
            started.append(Elasticsearch(VERSION, **keywords))  # type: ignore[arg-type]
            return started[-1].start()
        except ServerUnavailable as error:
            need(False, str(error))
            raise

    yield start
    for server in started:
        server.remove()


@pytest.fixture(scope="session")
def patient_server(start_elasticsearch: Callable[..., Elasticsearch]) -> Elasticsearch:
    """A server that can do one thing at a time and let one wait: soon it is busy."""
    settings = {"thread_pool.write.size": 1, "thread_pool.write.queue_size": 1}
    return start_elasticsearch(heap_mb=512, settings=settings)


@pytest.fixture
def server(patient_server: Elasticsearch) -> Elasticsearch:
    """The same server for all, running, whatever was done to it before."""
    return patient_server.start()


def wait_for(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Poll a condition, with a deadline."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"after {patience_s:g} s: {what}")
        time.sleep(0.05)


@pytest.fixture(name="wait_for")
def wait_for_fixture() -> Callable[..., None]:
    """`wait_for(condition, what_it_means_when_it_never_comes)`."""
    return wait_for


def stored_uids(server: Elasticsearch, namespace: str) -> Counter[str]:
    """Every record's identity, as the server itself lists them."""
    found: Counter[str] = Counter()
    streams = f"logs-*.otel-{namespace},traces-*.otel-{namespace}"
    server.request("POST", f"/{streams}/_refresh")
    after: list[object] | None = None
    pit = server.request("POST", f"/{streams}/_pit?keep_alive=1m")["id"]
    while True:
        body = {"size": 10_000, "_source": False, "docvalue_fields": ["record_uid"], "sort": ["_shard_doc"]}
        body |= {"pit": {"id": pit, "keep_alive": "1m"}, "track_total_hits": False}
        if after is not None:
            body["search_after"] = after
        hits = server.request("POST", "/_search", body)["hits"]["hits"]
        found.update(hit["fields"]["record_uid"][0] for hit in hits)
        if len(hits) < 10_000:
            server.request("DELETE", "/_pit", {"id": pit})
            return found
        after = hits[-1]["sort"]


@pytest.fixture(name="stored_uids")
def stored_uids_fixture() -> Callable[[Elasticsearch, str], Counter[str]]:
    """`stored_uids(server, namespace)`: how often each record is stored."""
    return stored_uids
