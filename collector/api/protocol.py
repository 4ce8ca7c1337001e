"""uvicorn's HTTP protocol, bounded: connections, the head of a request, and the time that a head may take.

What is refused here, or is no HTTP at all, is answered with a problem like every other error.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from collector.api.problems import CONTENT_TYPE, Problem

# Request line and headers together. httptools cannot take a longer URL apart; nobody types a longer one.
HEAD_BYTES_MAX: Final = 65_535
# From the first byte of a head, or the opening of a connection, to the head's end.
HEAD_TIMEOUT_S: Final = 30.0
# A process may hold 1 024 files by default, and the store wants some.
CONNECTIONS_MAX: Final = 800
LINGER_S: Final = 2.0

_DETAILS: Final = {
    "bad-request": "this is not an HTTP/1.1 request",
    "head-too-long": f"request line and headers are longer than {HEAD_BYTES_MAX} bytes",
    "timeout": f"request line and headers did not come within {HEAD_TIMEOUT_S:g} s",
    "overloaded": f"{CONNECTIONS_MAX} connections are open; try again",
}


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection."""

    _head_bytes = 0  # received since the head began; the last read may hold some of the body as well
    _head_timer: asyncio.TimerHandle | None = None  # runs while a head is awaited
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A caller has come; too many have no place."""
        super().connection_made(transport)
        self._await_head()
        if len(self.connections) > CONNECTIONS_MAX:
            self._refuse("overloaded")

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller has gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, unless this caller has been refused or its head has been coming for too long."""
        if self._refused:
            return
        super().data_received(data)
        if self._head_timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse("head-too-long")

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._stop_waiting()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Say that this was no HTTP, or a URL that is too long to be taken apart."""
        url_is_too_long = self.scope is not None and len(self.url) > HEAD_BYTES_MAX
        self._refuse("head-too-long" if url_is_too_long else "bad-request")

    def _await_head(self) -> None:
        self._stop_waiting()
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._refuse, "timeout")

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, kind: str) -> None:
        self._stop_waiting()
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        problem = Problem(kind=kind, detail=_DETAILS[kind])
        body = problem.body("")
        head = (
            f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
            f"content-type: {CONTENT_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        # A caller that is still sending would lose the answer to a reset connection; so we end our half,
        # throw away what comes, and close when the caller does or after a while. TLS knows no such half.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)
