"""Bad input against a running collector: a clear answer, the good lines beside it kept, the process up."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import zstandard

from collector.client import CollectorClient

pytestmark = pytest.mark.flow

PATIENCE_S = 60.0
MIB = 1024 * 1024


def line(**fields: Any) -> bytes:
    """A good line, changed by the fields; `None` takes a key away."""
    given = {
        "timestamp": "2026-11-24T05:32:11.000000001Z",
        "level": "INFO",
        "service": "orders",
        "message": "hello",
        **fields,
    }
    return json.dumps({key: value for key, value in given.items() if value is not None}).encode()


def span(**fields: Any) -> bytes:
    """A good span, changed by the fields."""
    given = {
        "kind": "span",
        "message": None,
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "span_id": "00f067aa0ba902b7",
        "name": "GET /",
        "duration_ns": 1000,
        **fields,
    }
    return line(**given)


def raw(text: str) -> bytes:
    """A good line with something in it that `json.dumps` would not write."""
    return line(attributes={"x": "@"}).replace(b'"@"', text.encode())


def nested(depth: int) -> bytes:
    """A good line with deep attributes."""
    return raw("[" * depth + "]" * depth)


# what is sent -> the reason it is refused for and the field, or None: it is taken, mended where need be
LINES: dict[str, tuple[bytes, tuple[str, str | None] | None]] = {
    "truncated": (line()[:-9], ("not_json", None)),
    "not UTF-8": (line().replace(b"hello", b"\xff\xfe"), ("not_utf8", None)),
    "not JSON": (b"hello", ("not_json", None)),
    "not an object": (b"[1,2]", ("not_object", None)),
    "NUL bytes": (b"\x00" * 40, ("not_json", None)),
    "a line of 10 MB": (line(message="x" * (10 * MIB)), ("line_too_long", None)),
    "no timestamp": (line(timestamp=None), ("missing_field", "timestamp")),
    "no service": (line(service=None), ("missing_field", "service")),
    "timestamp is a number": (line(timestamp=17), ("wrong_type", "timestamp")),
    "timestamp is a word": (line(timestamp="yesterday"), ("bad_timestamp", "timestamp")),
    "30 February": (line(timestamp="2026-02-30T00:00:00Z"), ("bad_timestamp", "timestamp")),
    "before 1970": (line(timestamp="1969-12-31T23:59:59Z"), ("bad_timestamp", "timestamp")),
    "a level nobody knows": (line(level="LOUD"), ("bad_level", "level")),
    "service is a list": (line(service=["a"]), ("wrong_type", "service")),
    "attributes are a list": (line(attributes=[1]), ("wrong_type", "attributes")),
    "a trace id that is too short": (
        line(trace_id="4bf9", span_id="00f067aa0ba902b7"),
        ("bad_id", "trace_id"),
    ),
    "a trace id of zeroes": (line(trace_id="0" * 32, span_id="00f067aa0ba902b7"), ("bad_id", "trace_id")),
    "a kind nobody knows": (line(kind="metric"), ("bad_kind", "kind")),
    "a negative duration": (span(duration_ns=-1), ("bad_duration", "duration_ns")),
    "a duration of 2**70": (span(duration_ns=2**70), ("bad_duration", "duration_ns")),
    "a span without a duration": (span(duration_ns=None), ("bad_duration", "duration_ns")),
    "the year 1970": (line(timestamp="1970-01-01T00:00:00Z"), None),
    "the year 2100": (line(timestamp="2100-01-01T00:00:00Z"), None),
    "its own parent": (span(parent_span_id="00f067aa0ba902b7"), None),
    "2**70": (raw(str(2**70)), None),
    "NaN": (raw("NaN"), None),
    "NUL in a text": (line(message="a\0b"), None),
    "a lone surrogate": (raw('"\\ud800"'), None),
    "a key that is empty": (line(attributes={"": 1}), None),
    "deep nesting": (nested(200), None),
    "nesting without end": (nested(100_000), ("not_json", None)),
    "a key nobody knows": (line(colour="green"), None),
}


@pytest.fixture
def client(shared_collector: Any) -> Iterator[CollectorClient]:
    """Of the running collector; afterwards it must still be running."""
    with CollectorClient(shared_collector.url) as connected:
        yield connected
        assert connected.health()["status"] == "ready"


def post(
    collector: Any, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, dict[str, str], bytes]:
    """One raw request: status, headers in lower case, body."""
    address = urlsplit(collector.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=PATIENCE_S)
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.headers.items()}, response.read()
    finally:
        connection.close()


def is_stored(client: CollectorClient, condition: Callable[[], bool]) -> bool:
    """Whether something can be found before the deadline."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("name", LINES)
def test_a_bad_line_between_good_ones(shared_collector: Any, client: CollectorClient, name: str) -> None:
    """The answer names place, reason and field of the bad one; the good ones are stored."""
    bad, refusal = LINES[name]
    trace = f"{list(LINES).index(name) + 1:032x}"  # so that the good neighbours can be told from others
    good = line(trace_id=trace, span_id="00f067aa0ba902b7")
    identities = [f"{trace}-before", f"{trace}-bad", f"{trace}-after"]
    answer = client.import_records(zip(identities, [good, bad, good], strict=True))
    if refusal is None:
        assert answer == {"stored": 3, "already_stored": 0, "refused": []}
    else:
        (named,) = answer["refused"]
        assert answer["stored"] == 2
        assert (named["reason"], named["field"]) == refusal
        assert named["offset"] == len(good) + len(f',"uid":"{identities[0]}"') + 1
        assert named["message"]
    good_ones = {identities[0], identities[2]}
    assert is_stored(
        client, lambda: good_ones <= {record["uid"] for record in client.logs(trace_id=trace)["records"]}
    )


def test_cycles_are_broken_and_named(client: CollectorClient) -> None:
    """Two spans that are each other's parent: both are in the chain, and the gap says why."""
    trace = "c" * 32
    ids = {"a": "a" * 16, "b": "b" * 16}
    spans = [
        ("cycle-a", span(trace_id=trace, span_id=ids["a"], parent_span_id=ids["b"])),
        ("cycle-b", span(trace_id=trace, span_id=ids["b"], parent_span_id=ids["a"])),
    ]
    assert client.import_records(spans)["stored"] == 2
    found = client.wait_for_trace(trace, timeout_s=PATIENCE_S)
    assert {node["span_id"] for node in found["nodes"]} == set(ids.values())
    assert "cycle" in {gap["kind"] for gap in found["gaps"]}


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "reason"),
    [
        ("/v1/records", b"\x1f\x8bnonsense", {"Content-Encoding": "gzip"}, 400, "bad_encoding"),
        ("/v1/records", gzip.compress(line())[:-6], {"Content-Encoding": "gzip"}, 400, "bad_encoding"),
        ("/v1/records", b"hello", {"Content-Encoding": "br"}, 415, "unsupported_encoding"),
        ("/v1/records", b"hello", {"Backtrail-Import": "2"}, 400, "bad_header"),
        ("/v1/records", b"hello", {"Backtrail-Format": "9"}, 400, "unsupported_format"),
    ],
)
def test_a_request_that_is_wrong_as_a_whole(
    shared_collector: Any,
    client: CollectorClient,
    path: str,
    body: bytes,
    headers: dict[str, str],
    status: int,
    reason: str,
) -> None:
    """A problem with the reason, the header and what was expected."""
    got, sent, answer = post(shared_collector, path, body, {"Backtrail-Import": "1", **headers})
    problem = json.loads(answer)
    assert (got, sent["content-type"]) == (status, "application/problem+json")
    assert (problem["reason"], bool(problem["field"]), bool(problem["detail"])) == (reason, True, True)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
@pytest.mark.parametrize("path", ["/v1/records", "/v1/logs"])
def test_a_bomb_is_not_unpacked(
    shared_collector: Any, client: CollectorClient, pack: Callable[[bytes], bytes], path: str
) -> None:
    """Some kilobytes that would be a gigabyte: refused at the limit, and memory does not grow by it."""
    bomb = pack(b"\0" * (256 * MIB))
    assert len(bomb) < MIB
    headers = {
        "Content-Encoding": "gzip" if pack is gzip.compress else "zstd",
        "Backtrail-Import": "1",
        "Content-Type": "application/x-protobuf",
    }
    status, _, answer = post(shared_collector, path, bomb, headers)
    assert status == 413
    assert b"longer than" in answer


@pytest.mark.parametrize("path", ["/v1/logs", "/v1/traces"])
@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("text/plain", b"hello", 415),
        ("", b"hello", 415),
        ("application/json", b"{", 400),
        ("application/json", b"[]", 400),
        ("application/json", b'{"resourceLogs": 5, "resourceSpans": 5}', 400),
        ("application/x-protobuf", b"\xff\xff\xff\xff", 400),
        ("application/json", b"\xff\xfe", 400),
        ("application/json", b"{}", 200),
        ("application/x-protobuf", b"", 200),
    ],
)
def test_otlp_that_cannot_be_read(
    shared_collector: Any, client: CollectorClient, path: str, content_type: str, body: bytes, status: int
) -> None:
    """The standard's status, and a `Status` with a message in the body."""
    got, headers, answer = post(shared_collector, path, body, {"Content-Type": content_type})
    assert got == status
    if content_type == "application/json":
        assert headers["content-type"] == "application/json"
        assert bool(json.loads(answer).get("message")) is (status != 200)
    else:
        assert headers["content-type"] == "application/x-protobuf"
        assert answer.startswith(b"\x12") is (status != 200)  # field 2 of google.rpc.Status: the message


def test_what_is_no_http_at_all(shared_collector: Any, client: CollectorClient) -> None:
    """A problem, and the connection ends."""
    address = urlsplit(shared_collector.url)
    for sent, status in (
        (b"\x16\x03\x01\x02\x00\x01\x00", b"400"),  # TLS
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 300_000, b"431"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"431"),
    ):
        with socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S) as connection:
            try:
                connection.sendall(sent)
                answer = b""
                while piece := connection.recv(65_536):
                    answer += piece
            except ConnectionError:
                pass  # it was cut off while we were still sending
            assert answer.startswith(b"HTTP/1.1 " + status)
            assert b"application/problem+json" in answer
