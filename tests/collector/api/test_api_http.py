"""The HTTP interface in front of a real pipeline: answers, problems, tokens, streams."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.client import AsyncCollectorClient, CollectorClient
from collector.errors import CollectorError, NotFound, Overloaded, QueryError
from collector.service import Collector
from collector.settings import Settings

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PATIENCE_S = 30.0


def line(number: int, **fields: Any) -> bytes:
    """A record line."""
    given = {
        "timestamp": f"2026-11-24T05:32:11.{number:09}Z",
        "level": "INFO",
        "service": "orders",
        "message": f"message {number}",
        **fields,
    }
    return json.dumps(given).encode()


RECORDS = [
    (
        "s-0",
        line(
            0,
            kind="span",
            trace_id=TRACE,
            span_id="00f067aa0ba902b7",
            name="POST /orders",
            span_kind="SERVER",
            duration_ns=5_000_000,
            message=None,
        ),
    ),
    *((f"l-{number}", line(number, trace_id=TRACE, span_id="00f067aa0ba902b7")) for number in range(1, 300)),
]


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A collector in this process, with records in it."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("http") / "data",
        port=0,
        store="memory",
        body_bytes_max=1024 * 1024,  # type: ignore[arg-type]
    )
    with Collector(settings) as running:
        with CollectorClient(running.url) as sender:
            assert sender.import_records(RECORDS) == {"stored": 300, "already_stored": 0, "refused": []}
        assert running.pipeline.drain(PATIENCE_S)
        yield running


@pytest.fixture
def client(collector: Collector) -> Iterator[CollectorClient]:
    """Connected to it."""
    with CollectorClient(collector.url) as connected:
        yield connected


def call(
    collector: Collector, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One raw request: status, headers in lower case, body."""
    address = collector.url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
    try:
        connection.request(
            method, path, body, {name.replace("_", "-"): text for name, text in headers.items()}
        )
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.headers.items()}, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("ask", "given"),
    [
        ("trace", {"trace_id": TRACE}),
        ("traces", {"service": "orders", "min_duration": 1_000_000, "error": False}),
        ("logs", {"q": "message", "limit": 7, "total": True}),
        ("logs", {"trace_id": TRACE, "level": "warning"}),
        ("logs", {"start": 1_795_498_331_000_000_007, "end": 1_795_498_331_000_000_009}),
        ("traces", {"min_duration": "6ms"}),
        ("root_cause", {"trace_id": TRACE}),
        ("facets", {"field": "level", "q": "message", "limit": 3}),
        ("facets", {"field": "order.id"}),
        ("services", {}),
        ("operations", {"service": "orders"}),
        ("operations", {"service": "a/b c"}),
        ("traces", {"environment": "production", "version": "1.4"}),
        ("logs", {"environment": "production", "version": "1.4"}),
        ("services", {"environment": "production"}),
        ("operations", {"service": "orders", "version": "1.4"}),
        ("rates", {"start": "2026-11-24T05:30:00Z", "end": "2026-11-24T05:35:00Z", "service": "orders"}),
        ("rates", {"start": 1_795_498_331_000_000_000, "end": 1_795_499_331_000_000_000, "step": "5m"}),
        (
            "service_rates",
            {"service": "orders", "start": "2026-11-24T05:30:00Z", "end": "2026-11-24T05:35:00Z"},
        ),
        ("templates", {"start": "2026-11-24T05:30:00Z", "end": "2026-11-24T05:35:00Z", "limit": 3}),
        ("topology", {}),
        ("topology", {"environment": "production", "version": "1.4"}),
        ("traces", {"q": "service:orders >> level:>=INFO", "limit": 3}),
        ("traces", {"limit": 1}),
        ("root_cause", {"start": "2026-11-24T05:30:00Z", "end": "2026-11-24T05:35:00Z", "version": "1.4"}),
        ("ledger", {}),
    ],
)
def test_the_client_gets_what_answers_give(
    collector: Collector, client: CollectorClient, ask: str, given: dict[str, Any]
) -> None:
    """The same arguments, the same objects, over HTTP and without it."""
    assert getattr(client, ask)(**given) == getattr(collector.pipeline.answers, ask)(**given)


@pytest.mark.parametrize(
    ("ask", "given", "error"),
    [
        ("trace", {"trace_id": "nonsense"}, QueryError),
        ("trace", {"trace_id": "f" * 32}, NotFound),
        ("root_cause", {"trace_id": "f" * 32}, NotFound),
        ("root_cause", {}, QueryError),
        ("logs", {"cursor": "nonsense"}, QueryError),
        ("logs", {"limit": 0}, QueryError),
        ("facets", {"field": "message"}, QueryError),
        ("traces", {"start": "the day before yesterday, at noon"}, QueryError),
    ],
)
def test_the_client_raises_what_answers_raise(
    collector: Collector,
    client: CollectorClient,
    ask: str,
    given: dict[str, Any],
    error: type[CollectorError],
) -> None:
    """The same errors; the text comes through."""
    with pytest.raises(error) as here:
        getattr(collector.pipeline.answers, ask)(**given)
    with pytest.raises(error) as there:
        getattr(client, ask)(**given)
    if given != {"limit": 0}:  # a limit out of range is caught earlier over HTTP, with words of its own
        assert str(there.value) == str(here.value)


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nowhere", 404, "no-such-path"),
        ("GET", "/api/v1/logs/", 404, "no-such-path"),
        ("GET", "/api/v1/traces/", 404, "no-such-path"),
        ("GET", f"/api/v1/traces/{'f' * 32}", 404, "not-found"),
        ("GET", "/api/v1/traces/%00", 422, "invalid-query"),
        ("DELETE", "/api/v1/services", 405, "method-not-allowed"),
        ("GET", "/v1/records", 405, "method-not-allowed"),
        ("GET", "/api/v1/logs?limt=5", 422, "invalid-parameter"),
        ("GET", "/api/v1/logs?limit=5&limit=6", 422, "invalid-parameter"),
        ("GET", "/api/v1/logs?q=(a", 422, "invalid-query"),
        ("GET", "/api/v1/logs?level=WARM", 422, "invalid-query"),
        ("GET", "/api/v1/logs/facets", 422, "invalid-parameter"),
        ("GET", "/api/v1/logs/export?format=xml", 422, "invalid-parameter"),
        ("GET", f"/api/v1/traces/{'f' * 32}/export", 404, "not-found"),
        ("POST", "/v1/records", 400, "bad-request"),
    ],
)
def test_every_error_is_a_problem(
    collector: Collector, method: str, path: str, status: int, kind: str
) -> None:
    """RFC 9457, with the path it happened on, and words for a person."""
    got, headers, body = call(collector, method, path)
    problem = json.loads(body)
    assert (got, headers["content-type"]) == (status, "application/problem+json")
    assert problem["type"] == f"urn:backtrail:problem:{kind}"
    assert (problem["status"], problem["instance"]) == (status, path.partition("?")[0].replace("%00", "\0"))
    assert problem["detail"]


def test_a_method_that_is_not_known_names_those_that_are(collector: Collector) -> None:
    """In the header that HTTP has for it, and in words."""
    _, headers, body = call(collector, "PATCH", "/api/v1/logs")
    assert headers["allow"] == "DELETE, GET, HEAD"
    assert json.loads(body)["detail"] == "PATCH is not known here; DELETE, GET, HEAD is"


def test_a_path_is_not_taken_for_a_name(collector: Collector) -> None:
    """`replay` is what is done with dead letters, and not the uid of one."""
    status, headers, _ = call(collector, "GET", "/api/v1/dead-letters/replay")
    assert (status, headers["allow"]) == (405, "POST")
    assert call(collector, "GET", "/api/v1/dead-letters/another")[0] == 404


def test_a_long_answer_is_packed_for_those_who_read_that(collector: Collector) -> None:
    """And only for them."""
    path = f"/api/v1/traces/{TRACE}"
    _, plain_headers, plain = call(collector, "GET", path)
    _, headers, packed = call(collector, "GET", path, accept_encoding="gzip")
    assert "content-encoding" not in plain_headers
    assert (headers["content-encoding"], headers["vary"]) == ("gzip", "Accept-Encoding")
    assert len(packed) < len(plain) / 3
    assert gzip.decompress(packed) == plain
    _, headers, _ = call(collector, "GET", "/api/v1/stats", accept_encoding="gzip")
    assert "content-encoding" not in headers


def test_a_body_that_is_too_long_is_answered_not_cut_off(collector: Collector) -> None:
    """The sender hears the limit, and another call goes through."""
    status, _, body = call(collector, "POST", "/v1/records", b"x" * (8 * 1024 * 1024), backtrail_import="1")
    assert (status, json.loads(body)["type"]) == (413, "urn:backtrail:problem:too-large")
    assert "1048576 bytes" in json.loads(body)["detail"]
    assert call(collector, "GET", "/healthz")[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_encoding": "br"}, 415),
        ({"content_encoding": "gzip"}, 400),
        ({"backtrail_format": "2"}, 400),
        ({"backtrail_import": "yes"}, 400),
        ({"backtrail_import": None, "backtrail_format": "1", "backtrail_spool": "short"}, 400),
    ],
)
def test_a_request_that_is_wrong_as_a_whole(
    collector: Collector, headers: dict[str, str | None], status: int
) -> None:
    """The problem names the header."""
    given = {"backtrail_import": "1", **headers}
    sent = {name: text for name, text in given.items() if text is not None}
    got, _, body = call(collector, "POST", "/v1/records", b"{}\n", **sent)
    problem = json.loads(body)
    assert (got, bool(problem["reason"])) == (status, True)


def test_pages_about_the_service(collector: Collector) -> None:
    """Health, readiness, metrics, and the document, each of its type."""
    assert json.loads(call(collector, "GET", "/healthz")[2])["status"] == "ok"
    assert json.loads(call(collector, "GET", "/readyz")[2])["status"] == "ready"
    status, headers, body = call(collector, "GET", "/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    samples = dict(text.rsplit(" ", 1) for text in body.decode().splitlines() if not text.startswith("#"))
    assert samples["backtrail_ready"] == "1"
    assert samples['backtrail_store_records{kind="log"}'] == "299"
    assert samples["backtrail_indexing_visible_seq"] == "300"
    assert json.loads(call(collector, "GET", "/api/v1/openapi.json")[2])["openapi"] == "3.1.0"


def test_an_export_streams_all_of_it(collector: Collector) -> None:
    """Longer than a page; each format with its type."""
    status, headers, body = call(collector, "GET", "/api/v1/logs/export?format=csv")
    assert (status, body.count(b"\r\n")) == (200, 301)
    assert headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert call(collector, "GET", "/api/v1/logs/export")[2].count(b"\n") == 300
    events = json.loads(call(collector, "GET", f"/api/v1/traces/{TRACE}/export")[2])["traceEvents"]
    assert sum(event["ph"] == "i" for event in events) == 299


@pytest.mark.parametrize("path", ["/api/v1/logs/tail", "/api/v1/logs/export", "/api/v1/stats", "/metrics"])
def test_head_is_answered_at_once(collector: Collector, path: str) -> None:
    """Also where the answer itself would never end."""
    status, _, body = call(collector, "HEAD", path)
    assert (status, body) == (200, b"")


def test_the_client_streams_what_the_collector_streams(collector: Collector, client: CollectorClient) -> None:
    """Piece by piece, the same bytes; errors are the same, too."""
    answers = collector.pipeline.answers
    assert b"".join(client.export("csv", service="orders")) == b"".join(
        answers.export("csv", service="orders")
    )
    assert b"".join(client.export_trace(TRACE)) == b"".join(answers.export_trace(TRACE))
    with pytest.raises(NotFound):
        next(client.export_trace("f" * 32))


def test_the_tail_shows_what_comes_in(tmp_path: Path) -> None:
    """What matches, once it can be found; the stream ends when the collector stops."""
    settings = Settings(data_dir=tmp_path / "data", port=0, store="memory")
    with Collector(settings) as running, CollectorClient(running.url) as client:
        events = client.tail(level="ERROR")
        seen: list[tuple[str, dict[str, Any]]] = []
        watching = threading.Thread(target=lambda: seen.extend(events))
        watching.start()
        deadline = time.monotonic() + PATIENCE_S
        while not running.pipeline.tail.watchers and time.monotonic() < deadline:
            time.sleep(0.005)
        client.import_records([("a", line(1)), ("b", line(2, level="ERROR")), ("c", line(3, level="FATAL"))])
        assert running.pipeline.drain(PATIENCE_S)
        found = {record["uid"]: record for record in client.logs()["records"]}
        while len(seen) < 2 and time.monotonic() < deadline:
            time.sleep(0.005)
        assert seen == [("record", found["b"]), ("record", found["c"])]
        running.stop()
        watching.join(PATIENCE_S)
        assert not watching.is_alive()


def test_the_async_client_gets_the_same(collector: Collector, client: CollectorClient) -> None:
    """Answers, errors and streams."""

    async def scenario() -> None:
        async with AsyncCollectorClient(collector.url) as other:
            assert other.url == client.url
            assert await other.trace(TRACE) == client.trace(TRACE)
            assert await other.logs("message", limit=3) == client.logs("message", limit=3)
            with pytest.raises(NotFound):
                await other.trace("f" * 32)
            pieces = [piece async for piece in other.export("csv")]
            assert b"".join(pieces) == b"".join(client.export("csv"))

    asyncio.run(scenario())


def test_an_async_tail_can_be_cancelled(collector: Collector) -> None:
    """At once, though nothing comes in; its thread ends."""

    def threads() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t.name.startswith("backtrail-client-stream")]

    async def scenario() -> None:
        async with AsyncCollectorClient(collector.url) as client:
            events = client.tail()
            waiting = asyncio.ensure_future(anext(events))
            while not collector.pipeline.tail.watchers:
                await asyncio.sleep(0.005)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await events.aclose()

    before = threads()
    asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))
    for thread in set(threads()) - set(before):
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_deleting_needs_its_own_token_and_something_to_delete(tmp_path: Path) -> None:
    """Off without a token; with it, what matches is gone and the rest is not."""
    settings = Settings(data_dir=tmp_path / "data", port=0, admin_token="admin")  # type: ignore[arg-type]
    with Collector(settings) as running:
        with CollectorClient(running.url, admin_token="admin") as client:
            client.import_records(RECORDS[:10])
            with pytest.raises(QueryError, match="name what is to be deleted"):
                client.delete()
            # what has been taken in and is not indexed yet does not escape
            assert client.delete("message", end="2026-11-24T05:32:11.000000004Z") == {"deleted": 3}
            assert client.logs("service:orders", total=True)["total"] == 7
            assert client.delete(trace_id=TRACE) == {"deleted": 7}
            assert client.delete(trace_id=TRACE) == {"deleted": 0}
        assert call(running, "DELETE", f"/api/v1/traces/{TRACE}", authorization="Bearer x")[0] == 401
        status, _, body = call(running, "DELETE", f"/api/v1/traces/{TRACE}", authorization="Bearer admin")
        assert (status, json.loads(body)) == (200, {"deleted": 0})
    with Collector(Settings(data_dir=tmp_path / "data", port=0)) as running:
        with CollectorClient(running.url) as client:
            assert client.logs("service:orders", total=True)["total"] == 0  # and it stays gone
        status, _, body = call(running, "DELETE", f"/api/v1/traces/{TRACE}")
        assert (status, "BACKTRAIL_ADMIN_TOKEN" in json.loads(body)["detail"]) == (403, True)


def test_tokens_divide_readers_from_senders(tmp_path: Path) -> None:
    """Each with its own; without one, nothing; health is open."""
    settings = Settings(
        data_dir=tmp_path / "data",
        port=0,
        store="memory",
        read_token="reader",  # type: ignore[arg-type]
        ingest_token="sender",  # type: ignore[arg-type]
    )
    with Collector(settings) as running:
        assert call(running, "GET", "/api/v1/stats")[0] == 401
        assert call(running, "GET", "/metrics")[0] == 401
        assert call(running, "GET", "/healthz")[0] == 200
        assert call(running, "GET", "/api/v1/stats", authorization="Bearer sender")[0] == 403
        with CollectorClient(running.url, token="reader", ingest_token="sender") as client:
            assert client.import_records([("u", line(1))])["stored"] == 1
            assert client.stats()["wal"]["last_seq"] == 1
        with (
            CollectorClient(running.url, token="reader") as client,
            pytest.raises(CollectorError, match="needs a token for ingest"),
        ):
            client.import_records([("u", line(1))])


def test_a_full_log_asks_to_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with the time to wait, in the header and in the problem; the client retries, then says so."""
    settings = Settings(data_dir=tmp_path / "data", port=0, store="memory")
    with Collector(settings) as running:

        def refuses(*_: object) -> object:
            raise Overloaded("the write-ahead log is full", retry_after_s=2.5)

        monkeypatch.setattr(running.pipeline.wal, "append", refuses)
        status, headers, body = call(running, "POST", "/v1/records", line(1), backtrail_import="1")
        assert (status, headers["retry-after"], json.loads(body)["retry_after_s"]) == (503, "3", 2.5)
        with CollectorClient(running.url) as client, pytest.raises(Overloaded) as caught:
            client.import_records([("u", line(1))], overloaded_s_max=0.0)
        assert caught.value.retry_after_s == 2.5


def test_our_own_fault_is_a_problem_without_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer names the kind of error, the log has the rest, the next call is answered."""
    settings = Settings(data_dir=tmp_path / "data", port=0, store="memory")
    with Collector(settings) as running:

        def breaks(*_: object, **__: object) -> object:
            raise KeyError("card 4111")

        monkeypatch.setattr(running.pipeline.store, "services", breaks)
        status, _, body = call(running, "GET", "/api/v1/services")
        assert (status, "4111" in body.decode(), "KeyError" in body.decode()) == (500, False, True)
        assert "card 4111" in caplog.text
        assert call(running, "GET", "/api/v1/stats")[0] == 200
