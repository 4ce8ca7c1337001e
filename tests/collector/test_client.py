"""The client against servers that misbehave; `api/test_api_http.py` has it against a good one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from collector.client import BATCH_RECORDS_MAX, CollectorClient, import_bodies
from collector.errors import CollectorError, NotFound, Overloaded, QueryError, Refused, Unreachable

Answer = tuple[int, bytes]


class ScriptedServer:
    """A real HTTP server that gives the answers it was told to, in order, and then the last one."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.hang_up_after = False  # end each connection behind its first answer, without saying so
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                headers = {name.lower(): text for name, text in self.headers.items()}
                script.seen.append((self.command, self.path, headers, self.rfile.read(length)))
                status, body = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                self.close_connection = script.hang_up_after

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                """Nothing on the terminal of the tests."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A running server without a script."""
    scripted = ScriptedServer()
    thread = threading.Thread(target=scripted.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield scripted
    scripted.server.shutdown()
    scripted.server.server_close()
    thread.join()


def problem(kind: str, status: int, **members: object) -> Answer:
    """A problem as the collector sends it."""
    body = {"type": f"urn:backtrail:problem:{kind}", "title": "t", "status": status, "detail": "d", **members}
    return status, json.dumps(body).encode()


@pytest.mark.parametrize(
    ("answer", "error", "members"),
    [
        (problem("not-found", 404), NotFound, {}),
        (problem("invalid-query", 422, position=3), QueryError, {"position": 3}),
        (problem("invalid-parameter", 422), QueryError, {"position": None}),
        (problem("overloaded", 503, retry_after_s=2.5), Overloaded, {"retry_after_s": 2.5}),
        (problem("stopping", 503), Overloaded, {"retry_after_s": 1.0}),
        (problem("bad-request", 400, reason="bad_header", field="X"), Refused, {"reason": "bad_header"}),
        (problem("too-large", 413), Refused, {"reason": "too-large"}),
        (problem("unauthorized", 401), CollectorError, {}),
        (problem("internal", 500), CollectorError, {}),
        ((502, b"<html>bad gateway</html>"), CollectorError, {}),
        ((503, b"<html>busy</html>"), Overloaded, {"retry_after_s": 1.0}),
        ((200, b"<html>hello</html>"), CollectorError, {}),
        ((200, b"[]"), CollectorError, {}),
        ((500, b""), CollectorError, {}),
    ],
)
def test_what_comes_back_as_an_error(
    server: ScriptedServer, answer: Answer, error: type[CollectorError], members: dict[str, object]
) -> None:
    """The collector's problems are our errors; what is not a collector is said to be none."""
    server.answers = [answer]
    with CollectorClient(server.url) as client, pytest.raises(CollectorError) as caught:
        client.stats()
    assert type(caught.value) is error
    assert {name: getattr(caught.value, name) for name in members} == members


def test_a_connection_that_was_closed_meanwhile_is_opened_again(server: ScriptedServer) -> None:
    """Each call gets its answer, whether or not the server kept the connection."""
    server.answers = [(200, b'{"records": 1}')]
    server.hang_up_after = True
    with CollectorClient(server.url) as client:
        assert [client.stats()["records"] for _ in range(3)] == [1, 1, 1]


def test_nobody_there(free_port: Callable[[], int]) -> None:
    """The message names the URL and what to do."""
    url = f"http://127.0.0.1:{free_port()}"
    with CollectorClient(url) as client, pytest.raises(Unreachable, match="backtrail serve") as caught:
        client.stats()
    assert str(caught.value).startswith(url)
    assert "--" not in str(caught.value), "a program has no options"


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://h:port", "http://h:99999"])
def test_what_is_no_url_is_said(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises(QueryError):
        CollectorClient(url)


def test_urls_may_be_short_or_have_a_path(server: ScriptedServer) -> None:
    """As people type them, and behind a proxy."""
    server.answers = [(200, b"{}")]
    with CollectorClient(server.url.removeprefix("http://") + "/trail/") as client:
        client.logs("a b", level="WARN", total=True, start=5, end="now")
        client.trace("a/b")
    assert [path for _, path, _, _ in server.seen] == [
        "/trail/api/v1/logs?q=a+b&start=1970-01-01T00%3A00%3A00.000000005Z&end=now&limit=50&total=true&level=WARN",
        "/trail/api/v1/traces/a%2Fb",
    ]


def test_tokens_go_where_they_belong(server: ScriptedServer) -> None:
    """The reader's with questions, the sender's with records, by default the same."""
    server.answers = [(200, b'{"stored": 1, "refused": []}')]
    with CollectorClient(server.url, token="r", ingest_token="i") as client:
        client.stats()
        client.import_records([("u", b"{}")])
    with CollectorClient(server.url, token="r") as client:
        client.import_records([("u", b"{}")])
    assert [headers["authorization"] for _, _, headers, _ in server.seen] == [
        "Bearer r",
        "Bearer i",
        "Bearer r",
    ]


def test_an_import_waits_for_room_and_goes_on(server: ScriptedServer) -> None:
    """The same body again, until it is taken; the counts add up over the bodies."""
    refused = {"offset": 0, "reason": "not_json", "field": None, "message": "m"}
    server.answers = [
        problem("overloaded", 503, retry_after_s=0.01),
        (200, json.dumps({"stored": 10_000, "refused": []}).encode()),
        (200, json.dumps({"stored": 0, "refused": [refused]}).encode()),
    ]
    records = [(f"u-{number}", b'{"a":1}\n') for number in range(BATCH_RECORDS_MAX + 1)]
    with CollectorClient(server.url) as client:
        assert client.import_records(records) == {
            "stored": 10_000,
            "already_stored": 0,
            "refused": [refused],
        }
    bodies = [body for _, _, _, body in server.seen]
    assert (len(bodies), bodies[0] == bodies[1]) == (3, True)
    assert bodies[2] == b'{"a":1,"uid":"u-10000"}\n'
    assert server.seen[0][2]["backtrail-import"] == "1"


def test_each_imported_line_carries_its_identity() -> None:
    """Behind whatever the line says itself, since readers take the last of equal keys; quotes are safe."""
    (body,) = import_bodies([('q"1', b'{"uid":"old","a":1}')])
    assert body == b'{"uid":"old","a":1,"uid":"q\\"1"}\n'
    assert json.loads(body)["uid"] == 'q"1'
    assert list(import_bodies([])) == []


def test_waiting_for_a_trace(server: ScriptedServer) -> None:
    """Until it is there; until it is whole, if that was asked; or the message says what it lacks."""
    open_trace = {"completeness": "open", "gaps": [{"message": "orders has not ended"}]}
    server.answers = [
        problem("not-found", 404),
        (200, json.dumps(open_trace).encode()),
        (200, b'{"completeness": "complete"}'),
    ]
    with CollectorClient(server.url) as client:
        assert client.wait_for_trace("t", complete=True, poll_s=0.001)["completeness"] == "complete"
        server.answers = [(200, json.dumps(open_trace).encode())]
        assert client.wait_for_trace("t", poll_s=0.001)["completeness"] == "open"
        with pytest.raises(NotFound, match=r"after 0\.01 s it is open: orders has not ended"):
            client.wait_for_trace("t", complete=True, timeout_s=0.01, poll_s=0.001)
        server.answers = [problem("not-found", 404)]
        with pytest.raises(NotFound, match="it is not there"):
            client.wait_for_trace("t", timeout_s=0.01, poll_s=0.001)
