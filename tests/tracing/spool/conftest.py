"""A collector's ingest route on a real socket, which can be told to fail, stall or talk nonsense."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard

from tracing.line import encode
from tracing.spool import Shipper, Spool, SpoolLimits, open_spool, start_shipper
from tracing.spool.format import SegmentHeader
from tracing.spool.limits import ShipperLimits
from tracing.spool.reader import read_lines

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

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                """A peer that hangs up is part of the tests."""

        self._server = Server(("127.0.0.1", 0), Handler)
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

    def messages(self) -> list[str]:
        """Messages of the logs that arrived."""
        return [record["message"] for record in self.records()]

    def answer_first(self, *answers: Answer) -> list[float]:
        """Give these answers first, then work; return the times at which requests come."""
        left, times = list(answers), []

        def answer(_headers: dict[str, str], _body: bytes) -> Answer | None:
            times.append(time.monotonic())
            return left.pop(0) if left else None

        self.answer = answer
        return times

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def record_line(message: str, level: str = "INFO", service: str = "orders") -> bytes:
    """One log line; its time is fixed, so that equal messages are equal bytes."""
    return encode(
        {"timestamp": 1_764_000_000_000_000_000, "level": level, "service": service, "message": message}
    )


def messages(directory: Path) -> list[str]:
    """Messages of all log lines of one spool, in order."""
    found = [orjson.loads(line) for _, line in read_lines(directory)]
    return [line["message"] for line in found if "kind" not in line]


def special_lines(directory: Path, kind: str) -> list[dict[str, Any]]:
    """The `loss` or `close` objects of a spool."""
    found = [orjson.loads(line) for _, line in read_lines(directory)]
    return [line[kind] for line in found if line.get("kind") == kind]


def eventually(condition: Callable[[], object], what: str, deadline_s: float = 30.0) -> None:
    """Poll until a condition holds; the deadline is for a hung test, not a promise."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_s, f"never came true: {what}"
        time.sleep(0.005)


class Helpers:
    """What tests of spools share, by one name."""

    line = staticmethod(record_line)
    messages = staticmethod(messages)
    special_lines = staticmethod(special_lines)
    eventually = staticmethod(eventually)


@pytest.fixture
def helpers() -> type[Helpers]:
    """Lines to write, and ways to look at what became of them."""
    return Helpers


@pytest.fixture
def mode() -> str:
    """How segments are written; a module whose tests hold for both ways overrides it."""
    return "write"


@pytest.fixture
def open_orders(root: Path, mode: str) -> Iterator[Callable[..., Spool]]:
    """Open a spool of the service `orders`; what is opened is given up after the test."""
    opened: list[Spool] = []

    def open_one(**limits: Any) -> Spool:
        resource = {"service.name": "orders", "host.name": "here"}
        defaults: dict[str, Any] = {"disk_free_bytes_min": 0, "mode": mode}
        spool = open_spool(root, service="orders", resource=resource, limits=SpoolLimits(**defaults | limits))
        opened.append(spool)
        return spool

    yield open_one
    for spool in opened:
        spool.close("test over")


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
def ship(root: Path, ingest: IngestServer, quick: ShipperLimits) -> Iterator[Callable[..., Shipper]]:
    """Start a shipper for a spool of `orders`; it is stopped after the test."""
    started: list[Shipper] = []

    def start(spool: Spool, *, url: str | None = None, token: str | None = None, **limits: Any) -> Shipper:
        chosen = ShipperLimits(**{**{name: getattr(quick, name) for name in quick.__slots__}, **limits})
        shipper = start_shipper(
            root, service="orders", url=url or ingest.url, token=token, spool=spool, limits=chosen
        )
        started.append(shipper)
        return shipper

    yield start
    for shipper in started:
        shipper.stop(5.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A spool directory that does not exist yet."""
    return tmp_path / "spool"
