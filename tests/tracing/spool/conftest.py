"""A collector's ingest route on a real socket, which can be told to fail, stall or talk nonsense."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard

from tracing.spool.format import SegmentHeader
from tracing.spool.limits import ShipperLimits

Answer = tuple[int, dict[str, str], bytes]  # status, headers, body


class IngestServer:
    """Records what it is sent, by spool and offset, as ARCHITECTURE.md, "Native ingest", says.

    Attributes:
        lines: by spool id, then by offset: the lines it has. Twice the same place must be the same line.
        requests: headers of each request, in order.
        resources: by spool id, from the header line.
        answer: when set, is asked first; what it returns is sent instead of the real answer.
    """

    def __init__(self) -> None:
        self.lines: dict[str, dict[int, bytes]] = {}
        self.requests: list[dict[str, str]] = []
        self.resources: dict[str, Any] = {}
        self.conflicts: list[str] = []
        self.resent_lines = 0
        self.answer: Callable[[dict[str, str], bytes], Answer | None] | None = None
        self._lock = threading.Lock()
        ingest = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers, answer = ingest.handle({k.lower(): v for k, v in self.headers.items()}, body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def handle(self, headers: dict[str, str], body: bytes) -> Answer:
        """Take one request."""
        with self._lock:
            self.requests.append(headers)
        if self.answer is not None:
            answer = self.answer(headers, body)
            if answer is not None:
                return answer
        encoding = headers.get("content-encoding")
        if encoding == "gzip":
            body = gzip.decompress(body)
        elif encoding == "zstd":
            body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
        with self._lock:
            return 200, {"Content-Type": "application/json"}, orjson.dumps(self._take(headers, body))

    def _take(self, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        spool_id, offset = headers["backtrail-spool"], int(headers["backtrail-offset"])
        header_line, _, rest = body.partition(b"\n")
        header = SegmentHeader.decode(header_line + b"\n")
        assert header.spool_id == spool_id
        self.resources[spool_id] = header.resource
        known = self.lines.setdefault(spool_id, {})
        assert rest.endswith(b"\n")
        for line in rest.split(b"\n")[:-1]:
            if offset in known:
                self.resent_lines += 1
                if known[offset] != line:
                    self.conflicts.append(f"{spool_id}-{offset}")
            known[offset] = line
            offset += len(line) + 1
        return {"acknowledged_offset": offset, "stored": len(known), "refused": []}

    def records(self, kind: str | None = None) -> list[dict[str, Any]]:
        """All lines of a kind, decoded, by spool and offset; `None`: logs."""
        with self._lock:
            lines = [line for spool in self.lines.values() for _, line in sorted(spool.items())]
        decoded = [orjson.loads(line) for line in lines]
        return [record for record in decoded if record.get("kind") == kind]

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def ingest() -> Iterator[IngestServer]:
    """A collector's ingest route, listening."""
    server = IngestServer()
    yield server
    server.close()


@pytest.fixture
def quick() -> ShipperLimits:
    """Limits of a shipper that does not let a test wait."""
    return ShipperLimits(
        poll_interval_s=0.01,
        scan_interval_s=0.02,
        backoff_first_s=0.01,
        backoff_max_s=0.05,
        request_timeout_s=5.0,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A spool directory that does not exist yet."""
    return tmp_path / "spool"
