"""What one caller may ask for: its share, the price of a search, the time of a question, unpacked bytes."""

from __future__ import annotations

import gzip
import http.client
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import tracing
from collector import deadline
from collector.api.costs import WILDCARD_COST, QueryCosts, weight_of
from collector.client import CollectorClient
from collector.deadline import check_deadline, within
from collector.errors import CollectorError, Overloaded, TooCostly, TookTooLong
from collector.query import parse_query
from collector.service import Collector
from collector.settings import Settings
from collector.store.memory import MemoryStore

PATIENCE_S = 30.0
LINE = b'{"timestamp":"2026-11-24T05:32:11Z","level":"INFO","service":"orders","message":"hello"}'
EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Callable[..., Collector]]:
    """Call it, with settings, for a running collector."""
    started: list[Collector] = []

    def start(**settings: Any) -> Collector:
        given = {"data_dir": tmp_path / "data", "port": 0, "store": "memory", "watch": False, **settings}
        started.append(Collector(Settings(**given)))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.stop()


def call(
    running: Collector, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> Any:
    """Status, headers in lower case, and the JSON of one answer."""
    connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=PATIENCE_S)
    connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
    response = connection.getresponse()
    answer = response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    connection.close()
    return answer


def counted(running: Collector, reason: str) -> int:
    """How many requests `/metrics` says were refused for a reason."""
    text = call(running, "/metrics")[2].decode()
    wanted = f'backtrail_http_refused_total{{reason="{reason}"}} '
    return sum(int(line.removeprefix(wanted)) for line in text.splitlines() if line.startswith(wanted))


def test_a_sender_beyond_its_share_is_told_when_to_come_back(collector: Callable[..., Collector]) -> None:
    """429 with Retry-After; each token has its own share, and what is open is never refused."""
    running = collector(sender_requests_per_s_max=0.5, ingest_token="i", read_token="r")
    statuses = [call(running, "/api/v1/stats", authorization="Bearer r")[0] for _ in range(7)]
    assert statuses == [200] * 5 + [429] * 2
    status, headers, body = call(running, "/api/v1/stats", authorization="Bearer r")
    problem = json.loads(body)
    assert (status, problem["type"]) == (429, "urn:backtrail:problem:too-many-requests")
    assert 1 <= int(headers["retry-after"]) <= 2
    assert "token read_token has used up its share" in problem["detail"]
    assert (
        call(running, "/v1/logs", "POST", b"{}", authorization="Bearer i", content_type="application/json")[0]
        == 200
    )
    assert all(call(running, "/healthz")[0] == 200 for _ in range(20))
    with CollectorClient(running.url, token="r") as client, pytest.raises(Overloaded) as caught:
        client.stats()
    assert caught.value.retry_after_s > 0


def test_refusals_are_counted_by_reason(collector: Callable[..., Collector]) -> None:
    """Each kind of problem has its count."""
    running = collector(admin_token="a")
    call(running, "/api/v1/logs", "DELETE")
    call(running, "/api/v1/logs?q=%28")
    call(running, "/api/v1/none")
    for reason in ("unauthorized", "invalid-query", "no-such-path"):
        assert counted(running, reason) == 1, reason
    assert counted(running, "too-costly") == 0


def test_the_shipper_obeys(
    collector: Callable[..., Collector], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program over its share waits as it is told, and every line arrives once."""
    running = collector(sender_requests_per_s_max=1.0)  # ten at once, then one a second
    monkeypatch.setenv("TRACING_SPOOL_DIR", str(tmp_path / "spool"))
    handle = tracing.configure(service="chatty", collector_url=running.url, capture_logs=False)
    logger = logging.getLogger("chatty")
    handler = tracing.LogHandler()
    logger.addHandler(handler)
    try:
        for number in range(13):
            logger.warning("line %d", number)
            assert handle.flush(PATIENCE_S)
    finally:
        logger.removeHandler(handler)
        handle.shutdown()
    assert running._running.backend.counts.problems["too-many-requests"] > 0
    assert running.pipeline.drain(PATIENCE_S)
    assert running.pipeline.store.stats().logs == 13


def exported(running: Collector, message: bytes, compression: grpc.Compression | None = None) -> Any:
    """What becomes of one OTLP message over gRPC: its answer, or the error."""
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}", options=options) as channel:
        try:
            return channel.unary_unary(EXPORT)(message, timeout=PATIENCE_S, compression=compression)
        except grpc.RpcError as error:
            return error


def test_grpc_has_shares_too(collector: Callable[..., Collector]) -> None:
    """RESOURCE_EXHAUSTED with the time to wait, which OTLP calls retryable."""
    running = collector(grpc_port=0, sender_requests_per_s_max=0.1)
    assert exported(running, b"") == b""
    error = exported(running, b"")
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    assert b"google.rpc.RetryInfo" in details


def test_a_message_that_unpacks_to_much_is_refused(collector: Callable[..., Collector]) -> None:
    """Over gRPC and HTTP alike: what counts is the size unpacked, and it is never all unpacked."""
    running = collector(grpc_port=0, body_bytes_max=1_000_000, unpacked_bytes_max=1_000_000)
    bomb = bytes(50_000_000)
    error = exported(running, bomb, grpc.Compression.Gzip)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    packed = gzip.compress(bomb)
    assert len(packed) < 100_000
    status, _, body = call(
        running, "/v1/logs", "POST", packed, content_encoding="gzip", content_type="application/json"
    )
    assert status == 413, body


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("declined", 1),
        ("service:orders level:>=WARN declined", 3),
        ("name:GET*", WILDCARD_COST),
        ("(a OR b*) -c", 2 + WILDCARD_COST),
    ],
)
def test_a_search_weighs_what_it_asks(text: str, weight: int) -> None:
    """Terms one, wildcards as many."""
    assert weight_of(parse_query(text, now_ns=0)) == weight


class ManyDays(MemoryStore):
    """As if it held a year."""

    def stats(self) -> Any:
        """With 365 partitions."""
        import msgspec

        return msgspec.structs.replace(super().stats(), partitions=365)


def test_what_is_too_dear_is_refused_with_what_would_do() -> None:
    """The price is terms times days, of which there are no more than the store has."""
    now_ns = 1_795_498_331_000_000_000
    costs = QueryCosts(ManyDays(), cost_max=400, clock_ns=lambda: now_ns)
    costs.check({})
    costs.check({"q": "declined"})
    costs.check({"q": "name:GET*", "start": "18d"})
    with pytest.raises(
        TooCostly, match=r"weighs 20 .* asks of 365 days: 7300, of at most 400 .* 20 days at most"
    ):
        costs.check({"q": "name:GET*"})
    with pytest.raises(TooCostly, match="fewer things at once"):
        costs.check({"q": " OR ".join(f"name:*{n}*" for n in range(30)), "start": "15m"})
    QueryCosts(MemoryStore(), cost_max=400).check({"q": "name:*GET*"})


def test_a_dear_search_is_a_problem(collector: Callable[..., Collector]) -> None:
    """For lists, counts and exports alike; the client raises what `Answers` would."""
    running = collector(query_cost_max=30)
    for path in ("logs", "traces", "templates", "rates", "logs/export"):
        status, _, body = call(running, f"/api/v1/{path}?q=name:a*%20OR%20name:b*")
        assert (status, json.loads(body)["type"]) == (422, "urn:backtrail:problem:too-costly"), path
    with CollectorClient(running.url) as client, pytest.raises(TooCostly, match="query_cost_max"):
        client.logs("name:a* OR name:b*")
    assert counted(running, "too-costly") == 6


def test_a_question_without_end_is_given_up(
    collector: Callable[..., Collector], monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 after its time, although its thread is still busy; then the thread finds out by itself."""
    running = collector(query_timeout_s=0.2, query_threads_max=1)
    ended = threading.Event()

    def reads_for_ever(*_: object, **__: object) -> object:
        try:
            while True:
                check_deadline()
        finally:
            ended.set()

    monkeypatch.setattr(running.pipeline.store, "services", reads_for_ever)
    status, headers, body = call(running, "/api/v1/services")
    assert (status, json.loads(body)["type"]) == (503, "urn:backtrail:problem:took-too-long")
    assert "retry-after" not in headers  # the same question would take as long again
    assert ended.wait(PATIENCE_S)
    stuck = threading.Event()
    monkeypatch.setattr(running.pipeline.store, "services", lambda *_, **__: stuck.wait(PATIENCE_S))
    assert call(running, "/api/v1/services")[0] == 503
    assert running._running.backend.query_workers.busy == 1  # its place is still taken
    stuck.set()
    while running._running.backend.query_workers.busy:
        time.sleep(0.005)
    with CollectorClient(running.url) as client:
        assert client.stats()["records"] == 0
        monkeypatch.setattr(running.pipeline.store, "services", reads_for_ever)
        with pytest.raises(CollectorError, match=r"given up after 0\.2 s"):
            client.services()


def test_the_embedded_store_looks_at_the_time(collector: Callable[..., Collector]) -> None:
    """Whatever it is asked."""
    running = collector(store="embedded")
    with CollectorClient(running.url) as client:
        client.import_records([("u", LINE)])
    assert running.pipeline.drain(PATIENCE_S)
    store = running.pipeline.store
    with within(1.0, since_s=time.monotonic() - 2.0):
        for ask in (
            lambda: store.search(),
            lambda: store.count(),
            lambda: store.facets("logger"),
            lambda: store.trace("4bf92f3577b34da6a3ce929d0e0e4736", records_max=10),
            lambda: store.services(),
        ):
            with pytest.raises(TookTooLong):
                ask()
    assert store.count() == 1


def test_time_goes_on_outside_of_a_deadline() -> None:
    """It binds only what happens inside, in its own thread."""
    check_deadline()
    with within(0.0, since_s=0.0):
        with pytest.raises(TookTooLong, match="given up after 0 s"):
            check_deadline()
        other = threading.Thread(target=check_deadline)
        other.start()
        other.join()
    check_deadline()
    assert deadline._deadline.get() is None
