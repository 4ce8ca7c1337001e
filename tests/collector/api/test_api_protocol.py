"""The HTTP protocol's bounds, on real connections."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from collector.api import protocol
from collector.api.server import HttpServer

PATIENCE_S = 20.0
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that always answers."""
    await PlainTextResponse("hello")(scope, receive, send)


@pytest.fixture
def server() -> Iterator[HttpServer]:
    """A running server."""
    running = HttpServer(hello, host="127.0.0.1", port=0, shutdown_timeout_s=1)
    running.start()
    yield running
    running.stop()


def connect(server: HttpServer) -> socket.socket:
    """One connection."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)


def answer_to(connection: socket.socket, *pieces: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to what is sent; the connection must end behind a refusal."""
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            connection.sendall(piece)
    received = b""
    while b"\r\n\r\n" not in received or (b"connection: close" in received):
        piece = connection.recv(65_536)
        if not piece:
            break
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body


def test_a_request_in_pieces_is_a_request(server: HttpServer) -> None:
    """And a second one on the same connection."""
    with connect(server) as connection:
        assert answer_to(connection, *(bytes([byte]) for byte in GET))[0] == 200
        assert answer_to(connection, GET)[0] == 200


@pytest.mark.parametrize(
    ("pieces", "status", "kind"),
    [
        ((b"nonsense\r\n\r\n",), 400, "bad-request"),
        ((b"\x16\x03\x01\x02\x00\x01\x00",), 400, "bad-request"),
        ((b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",), 431, "head-too-long"),
        ((b"GET / HTTP/1.1\r\nX: ", *(b"a" * 10_000 for _ in range(30))), 431, "head-too-long"),
    ],
)
def test_what_is_refused_is_a_problem(
    server: HttpServer, pieces: tuple[bytes, ...], status: int, kind: str
) -> None:
    """With its type; the next connection is answered."""
    with connect(server) as connection:
        got, body = answer_to(connection, *pieces)
    assert (got, json.loads(body)["type"]) == (status, f"urn:backtrail:problem:{kind}")
    with connect(server) as connection:
        assert answer_to(connection, GET)[0] == 200


@pytest.mark.parametrize("begun", [b"", b"GET / HT"])
def test_a_head_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    """Whether or not it has begun."""
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.05)
    server = HttpServer(hello, host="127.0.0.1", port=0, shutdown_timeout_s=1)
    server.start()
    try:
        with connect(server) as connection:
            got, body = answer_to(connection, begun)
        assert (got, json.loads(body)["type"]) == (408, "urn:backtrail:problem:timeout")
    finally:
        server.stop()


def test_an_answered_connection_may_be_idle(monkeypatch: pytest.MonkeyPatch, server: HttpServer) -> None:
    """The time is for heads, not for pauses between requests: those have a longer one."""
    with connect(server) as connection:
        assert answer_to(connection, GET)[0] == 200
        monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.0)
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_one_connection_too_many_hears_so(monkeypatch: pytest.MonkeyPatch, server: HttpServer) -> None:
    """And there is a place again when somebody goes."""
    monkeypatch.setattr(protocol, "CONNECTIONS_MAX", 2)
    with connect(server) as first, connect(server) as second:
        assert answer_to(first, GET)[0] == answer_to(second, GET)[0] == 200
        with connect(server) as third:
            got, body = answer_to(third)
        assert (got, json.loads(body)["type"]) == (503, "urn:backtrail:problem:overloaded")
        first.close()
        for _ in range(1_000):  # the server hears of the close a moment later
            with connect(server) as third:
                if answer_to(third, GET)[0] == 200:
                    return
        pytest.fail("the place was not given back")
