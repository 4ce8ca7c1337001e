"""A program with our library and one with plain OpenTelemetry, at either end of a call, are one trace.

Each end is a process of its own with nothing but its library; ours ships its spool, the other sends OTLP. The
verdict is the collector's: one trace, the right parent, the log lines of both, baggage.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from devservers import ServerUnavailable
from devservers.brokers import BROKERS
from devservers.process import free_port

from collector.client import CollectorClient
from collector.errors import Unreachable

pytestmark = pytest.mark.flow

HERE = Path(__file__).resolve().parent
PATIENCE_S = 60.0
TRANSPORTS = ["http", "grpc", "kafka", "rabbitmq"]
PAIRS = [("ours", "plain"), ("plain", "ours")]  # client, server


@pytest.fixture(scope="module")
def collector_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running collector."""
    directory = tmp_path_factory.mktemp("collector")
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "collector", "serve", "--port", str(port), "--data-dir", str(directory)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        with CollectorClient(url) as client:
            deadline_s = time.monotonic() + PATIENCE_S
            while not _is_ready(client):
                assert process.poll() is None and time.monotonic() < deadline_s, (
                    "the collector does not start"
                )
                time.sleep(0.05)
        yield url
    finally:
        process.kill()
        process.wait()


def _is_ready(client: CollectorClient) -> bool:
    try:
        return client.health()["status"] == "ready"
    except Unreachable:
        return False


@pytest.fixture(scope="module")
def address(need: Callable[[bool, str], None]) -> Iterator[Callable[[str], str]]:
    """Call it with a transport for where its server is; brokers start with the first test that needs them."""
    running: dict[str, Any] = {}

    def find(transport: str) -> str:
        if transport not in BROKERS:
            return ""  # the server says it
        if transport not in running:
            try:
                running[transport] = BROKERS[transport]().start()
            except ServerUnavailable as error:
                need(False, str(error))
                raise
            if transport == "kafka":
                _make_topic(running[transport].url)
        url: str = running[transport].url
        return url

    yield find
    for server in running.values():
        server.remove()


def _make_topic(url: str) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": url})
    admin.create_topics([NewTopic("orders", 1, 1)])["orders"].result(PATIENCE_S)


class Ends:
    """Starts the programs at both ends."""

    def __init__(self, transport: str, collector_url: str, directory: Path) -> None:
        self._transport = transport
        self._env = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("OTEL_", "TRACING_"))
            },
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "TRACING_COLLECTOR_URL": collector_url,
            "TRACING_SPOOL_DIR": str(directory / "spool"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector_url,
        }

    def call(self, client: str, server: str, address: str) -> tuple[str, str]:
        """Let one call the other; return what each printed, the server without its address."""
        command = [sys.executable, str(HERE / "mixed_program.py")]
        with subprocess.Popen(
            [*command, server, self._transport, "server", address],
            env=self._env,
            stdout=subprocess.PIPE,
            text=True,
        ) as serving:
            try:
                assert serving.stdout is not None
                found = serving.stdout.readline().strip()
                assert found, "the server has ended"
                asking = subprocess.run(
                    [*command, client, self._transport, "client", found],
                    env=self._env,
                    stdout=subprocess.PIPE,
                    text=True,
                    timeout=PATIENCE_S,
                    check=True,
                )
                printed, _ = serving.communicate(timeout=PATIENCE_S)
            finally:
                serving.kill()
        assert serving.returncode == 0
        return asking.stdout.strip(), printed


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """What carries the call."""
    return str(request.param)


@pytest.fixture
def ends(transport: str, collector_url: str, tmp_path: Path) -> Ends:
    """Both ends of that."""
    return Ends(transport, collector_url, tmp_path)


@pytest.mark.parametrize(("client", "server"), PAIRS)
def test_one_trace(
    client: str,
    server: str,
    transport: str,
    ends: Ends,
    address: Callable[[str], str],
    collector_url: str,
) -> None:
    """The server's span is a child of the client's; the log lines of both are there, and the baggage."""
    trace_id, _ = ends.call(client, server, address(transport))
    trace = whole_trace(collector_url, trace_id)
    nodes = {node["span_id"]: node for node in trace["nodes"]}
    by_name = {node["name"]: node for node in trace["nodes"]}
    fulfil = by_name["fulfil"]
    served = nodes[fulfil["parent_span_id"]]
    asked = nodes[served["parent_span_id"]]
    kinds = ("CLIENT", "SERVER") if transport in ("http", "grpc") else ("PRODUCER", "CONSUMER")
    assert [(node["service"], node["span_kind"]) for node in (asked, served, fulfil)] == [
        ("client", kinds[0]),
        ("server", kinds[1]),
        ("server", "INTERNAL"),
    ]
    above = asked
    while (
        above["parent_span_id"] is not None
    ):  # OpenTelemetry's pika has two spans for one message that is sent
        above = nodes[above["parent_span_id"]]
        assert above["service"] == "client"
    assert above["name"] == "order"
    assert trace["services"] == ["client", "server"]
    own = [
        (node["name"], line) for node in trace["nodes"] for line in node["logs"] if line["logger"] == "shop"
    ]
    assert [(name, line["message"]) for name, line in own] == [
        ("order", "ordering"),
        ("fulfil", "fulfilling for acme"),
    ]
    assert (trace["stray_logs"], trace["gaps"]) == ([], [])


def whole_trace(url: str, trace_id: str) -> dict[str, Any]:
    """The trace, once both ends have told all of it."""
    with CollectorClient(url) as client:
        deadline_s = time.monotonic() + PATIENCE_S
        trace = client.wait_for_trace(trace_id, timeout_s=PATIENCE_S)
        while (trace["spans"] < 4 or trace["logs"] < 2) and time.monotonic() < deadline_s:
            time.sleep(0.05)
            trace = client.trace(trace_id)
    return dict(trace)


def test_an_end_without_any_library(transport: str, ends: Ends, address: Callable[[str], str]) -> None:
    """It reads the body and its own header as they were sent; what was added are headers of the standards."""
    trace_id, printed = ends.call("ours", "none", address(transport))
    told = json.loads(printed)
    assert told["body"] == '{"order": 7, "note": "é"}'
    assert told["headers"]["kind"] == "order"
    lower = {name.lower(): value for name, value in told["headers"].items()}
    assert lower["traceparent"].split("-")[1] == lower["x-trace-id"] == trace_id
    if transport in BROKERS:
        assert lower.keys() == {"kind", "traceparent", "x-trace-id", "baggage"}
