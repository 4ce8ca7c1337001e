"""uvicorn's HTTP protocol with two changes: the head of a request is bounded, and what is no HTTP at all is
answered with a problem like every other error.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from collector.api.problems import CONTENT_TYPE, Problem

# Request line and headers together. httptools cannot take a longer URL apart; nobody types a longer one.
HEAD_BYTES_MAX: Final = 65_535


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection."""

    _head_bytes = 0  # received since the head began; the last read may hold some of the body as well
    _in_head = True

    def data_received(self, data: bytes) -> None:
        """Feed the parser, unless a head has been coming for too long."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
                self._refuse("head-too-long")

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Say that this was no HTTP, or a URL that is too long to be taken apart."""
        self._refuse("head-too-long" if len(self.url) > HEAD_BYTES_MAX else "bad-request")

    def _refuse(self, kind: str) -> None:
        details = {
            "head-too-long": f"request line and headers are longer than {HEAD_BYTES_MAX} bytes",
            "bad-request": "this is not an HTTP/1.1 request",
        }
        problem = Problem(kind=kind, detail=details[kind])
        body = problem.body("")
        head = (
            f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
            f"content-type: {CONTENT_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
