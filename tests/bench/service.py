"""Service rows: ingest with durable acknowledgements, and a trace by its id."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from collector.client import CollectorClient
from tracing.line import encode

SPOOL = "0123456789abcdef0123456789abcdef"
HEADER = (
    b'{"backtrail_spool":1,"spool_id":"' + SPOOL.encode() + b'","segment":0,"first_offset":0,'
    b'"resource":{"service.name":"orders","service.instance.id":"orders-1","host.name":"bench"}}\n'
)
SPANS_IN_TRACE = 10
START_NS = 1_760_000_000_000_000_000


def lines(records: int, step_ns: int = 1_000_000) -> Iterator[bytes]:
    """Record lines of about 300 bytes, two thirds logs and one third spans, ten spans a trace, in a chain.

    Args:
        step_ns: from one record to the next.
    """
    picks = random.Random(7)
    trace_id = span_id = ""
    parent: dict[str, str] = {}
    for number in range(records):
        if number % (3 * SPANS_IN_TRACE) == 0:
            trace_id, parent = f"{picks.getrandbits(128) | 1:032x}", {}
        timestamp = START_NS + number * step_ns
        if number % 3 == 0:
            span_id = f"{picks.getrandbits(64) | 1:016x}"
            below, parent = parent, {"parent_span_id": span_id}
            yield encode(
                {
                    "timestamp": timestamp,
                    "level": "INFO",
                    "service": f"service-{number % 7}",
                    "trace_id": trace_id,
                    "span_id": span_id,
                    "kind": "span",
                    "name": f"GET /orders/{number % 11}",
                    "span_kind": "SERVER",
                    **below,
                    "duration_ns": picks.randrange(1_000_000, 90_000_000),
                    "status": {"code": "UNSET"},
                    "attributes": {"http.response.status_code": 200, "http.route": "/orders/{id}"},
                }
            )
        else:
            yield encode(
                {
                    "timestamp": timestamp,
                    "level": "WARN" if number % 50 == 1 else "INFO",
                    "service": f"service-{number % 7}",
                    "trace_id": trace_id,
                    "span_id": span_id,
                    "message": f"order {number} of customer {picks.randrange(5000)} moved to state packed",
                    "logger": "shop.orders",
                    "attributes": {"order.id": number, "region": f"eu-{number % 4}"},
                    "source": {"file": "shop/orders.py", "line": 118, "function": "move"},
                }
            )


@contextlib.contextmanager
def collector(directory: Path) -> Iterator[CollectorClient]:
    """A collector in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["serve", "--data-dir", str(directory / "data"), "--port", str(port)]
    with (directory / "collector.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tracing.launch", *command], stdout=output, stderr=subprocess.STDOUT
        )
    client = CollectorClient(f"http://127.0.0.1:{port}")
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                client.health()
                break
            except Exception:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError((directory / "collector.log").read_text()[-2000:]) from None
                time.sleep(0.05)
        yield client
    finally:
        process.terminate()
        process.wait(30)


def send(client: CollectorClient, body_lines: list[bytes], batch_records: int = 5_000) -> None:
    """Ship like the library's shipper does: one connection, positions, one batch after the other."""
    host, _, port = client.url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    offset = 0
    for at in range(0, len(body_lines), batch_records):
        body = b"".join(body_lines[at : at + batch_records])
        headers = {"Backtrail-Format": "1", "Backtrail-Spool": SPOOL, "Backtrail-Offset": str(offset)}
        while True:
            connection.request("POST", "/v1/records", HEADER + body, headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status == 200:
                break
            if answer.status not in (429, 503):
                raise RuntimeError(f"{answer.status}: {text[:500]!r}")
            time.sleep(float(answer.headers.get("Retry-After", "1")))
        offset += len(body)
    connection.close()


def wait_stored(client: CollectorClient, records: int) -> None:
    """Until the collector has counted all of them."""
    deadline = time.monotonic() + 300
    while client.stats()["records"] < records:
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {client.stats()['records']} of {records} are stored")
        time.sleep(0.02)


def ingest(directory: Path, operations: int) -> float:
    """From the first byte sent until everything is stored and counted."""
    body = list(lines(operations))
    with collector(directory) as client:
        started = time.perf_counter()
        send(client, body)
        wait_stored(client, operations)
        return time.perf_counter() - started


def _some_trace_ids(records: int, wanted: int) -> list[str]:
    ids = {line[line.index(b'"trace_id":"') + 12 :][:32].decode() for line in lines(records)}
    return random.Random(11).sample(sorted(ids), min(wanted, len(ids)))


def trace_in_store(directory: Path, operations: int, records: int = 100_000) -> float:
    """All records of a trace out of the embedded store, no HTTP."""
    from collector.service.pipeline import open_store
    from collector.settings import Settings

    with collector(directory) as client:
        send(client, list(lines(records)))
        wait_stored(client, records)
    store = open_store(Settings(data_dir=directory / "data"), read_only=True)
    ids = _some_trace_ids(records, operations)
    for trace_id in ids[:50]:
        store.trace(trace_id, records_max=10_000)
    started = time.perf_counter()
    for number in range(operations):
        assert store.trace(ids[number % len(ids)], records_max=10_000)
    return time.perf_counter() - started


def trace_through_api(directory: Path, operations: int, records: int = 100_000) -> float:
    """The call chain of a trace over HTTP, built, as JSON."""
    with collector(directory) as client:
        send(client, list(lines(records)))
        wait_stored(client, records)
        ids = _some_trace_ids(records, operations)
        for trace_id in ids[:50]:
            client.trace(trace_id)
        started = time.perf_counter()
        for number in range(operations):
            client.trace(ids[number % len(ids)])
        return time.perf_counter() - started
