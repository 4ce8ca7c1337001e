"""The ways from a program to a store that `outage.py` compares: each with a middle that can be killed.

ours: library -> collector -> Elasticsearch. rsyslog: file -> rsyslog -> Elasticsearch. OpenTelemetry: OTLP ->
its Collector -> OTLP sink (its Elasticsearch exporter is on no registry; a sink that only stores is kinder).
The last arrow goes through a proxy, which is where the outage is.
"""

# ruff: noqa: E402  (the path to the servers comes first)
from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen
from uuid import uuid4

REPOSITORY: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "deploy" / "dev"))

from devservers import Elasticsearch, ServerProcess, ServerUnavailable, free_port
from devservers.otel_collector import OtelCollector

from collector.client import CollectorClient
from collector.errors import CollectorError
from tests.chaos.proxy import Proxy

START_TIMEOUT_S: Final = 60.0
SCROLL_RECORDS: Final = 10_000
_NUMBER: Final = re.compile(r"outage ([0-9]+) ")


class Way:
    """One way, for one run.

    Attributes:
        name: in the table.
        proxy: in front of what becomes unreachable.
        middle: the process that is killed.
        sender: arguments of `outage_sender.py`: kind, target, records a request.
    """

    name: str
    proxy: Proxy
    middle: ServerProcess
    sender: tuple[str, str, int]

    def arrived(self) -> Counter[int]:
        """How often each number is stored by now."""
        raise AssertionError("every way says this for itself")

    def close(self) -> None:
        """End what runs."""
        self.middle.remove()
        self.proxy.close()


class Ours(Way):
    """Library, collector, Elasticsearch."""

    def __init__(self, server: Elasticsearch, directory: Path) -> None:
        self.name = "backtrail"
        self.proxy = Proxy(server.port, seed=0)
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        store = f"{self.proxy.url}?namespace={uuid4().hex}&replicas=0"
        self.middle = ServerProcess(
            "collector",
            [sys.executable, "-m", "collector.service"],
            directory=_made(directory / "collector"),
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "BACKTRAIL_DATA_DIR": str(directory / "data"),
                "BACKTRAIL_PORT": str(port),
                "BACKTRAIL_STORE": store,
            },
            is_up=lambda: _answers(f"{self._url}/healthz"),
            start_timeout_s=START_TIMEOUT_S,
            as_root=True,
        ).start()
        self.sender = ("library", self._url, 0)

    def arrived(self) -> Counter[int]:
        """As the collector's API gives them."""
        found: Counter[int] = Counter()
        with suppress(CollectorError), CollectorClient(self._url, timeout_s=60) as client:
            with closing(client.export("ndjson")) as pieces:
                found.update(_numbers(b"".join(pieces).decode()))
            return found
        return Counter()


class Rsyslog(Way):
    """imfile and omelasticsearch."""

    def __init__(self, server: Elasticsearch, directory: Path, *, queue_on_disk: bool) -> None:
        program = shutil.which("rsyslogd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None or not list(Path("/usr/lib").glob("*/rsyslog/omelasticsearch.so")):
            raise ServerUnavailable("rsyslog with omelasticsearch (Debian: rsyslog-elasticsearch)")
        self.name = "rsyslog, " + ("disk queue, endless retries" if queue_on_disk else "default")
        self.proxy = Proxy(server.port, seed=0)
        self._server, self._index = server, f"outage-{uuid4().hex}"
        server.request("PUT", f"/{self._index}", {"settings": {"number_of_replicas": 0}})
        home = _made(directory / "rsyslog")
        source = home / "lines.log"
        source.touch()
        queue = (
            'queue.type="LinkedList" queue.filename="outage" queue.maxDiskSpace="1g" queue.size="10000"'
            ' queue.saveOnShutdown="on" action.resumeRetryCount="-1" action.resumeInterval="2"'
        )
        config = home / "rsyslog.conf"
        config.write_text(f"""
global(workDirectory="{home}" maxMessageSize="64k")
module(load="imfile" mode="inotify")
module(load="omelasticsearch")
input(type="imfile" File="{source}" Tag="outage" ruleset="out")
template(name="line" type="list") {{ property(name="msg") }}
ruleset(name="out") {{
  action(type="omelasticsearch" server="127.0.0.1" serverport="{self.proxy.port}" template="line"
         searchIndex="{self._index}" searchType="" bulkmode="on" {queue if queue_on_disk else ""})
}}
""")
        pid_file = home / "rsyslog.pid"
        self.middle = ServerProcess(
            "rsyslog",
            [program, "-n", "-f", str(config), "-i", str(pid_file)],
            directory=home,
            env={"PATH": "/usr/sbin:/usr/bin:/bin"},
            is_up=pid_file.exists,
            start_timeout_s=START_TIMEOUT_S,
            as_root=True,
        )
        self._pid_file = pid_file
        self.middle.start()
        self.sender = ("file", str(source), 0)

    def arrived(self) -> Counter[int]:
        """As Elasticsearch gives them."""
        found: Counter[int] = Counter()
        ask = self._server.request
        ask("POST", f"/{self._index}/_refresh")
        page = ask("POST", f"/{self._index}/_search?scroll=1m", {"size": SCROLL_RECORDS, "sort": ["_doc"]})
        while page["hits"]["hits"]:
            for hit in page["hits"]["hits"]:
                found.update(_numbers(hit["_source"]["message"]))
            page = ask("POST", "/_search/scroll", {"scroll": "1m", "scroll_id": page["_scroll_id"]})
        return found


class OpenTelemetry(Way):
    """The OpenTelemetry Collector, between OTLP and OTLP."""

    def __init__(self, request_records: int, *, queue_on_disk: bool) -> None:
        queue = "file_storage" if queue_on_disk else "default"
        self.name = f"OpenTelemetry Collector, {queue}, {request_records} records a request"
        self._sink = Sink()
        self.proxy = Proxy(self._sink.port, seed=0)
        self.middle = OtelCollector(self.proxy.url, compression="none", queue_on_disk=queue_on_disk).start()
        self.sender = ("otlp", self.middle.http_url, request_records)

    def arrived(self) -> Counter[int]:
        """As the sink has taken them."""
        return self._sink.arrived()

    def close(self) -> None:
        """End the sink, too."""
        super().close()
        self._sink.close()


class Sink:
    """Takes OTLP logs over HTTP and counts their numbers."""

    def __init__(self) -> None:
        self._found: Counter[int] = Counter()
        self._lock = threading.Lock()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                with suppress(ConnectionError):  # as the proxy has it
                    super().handle()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.take(body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def take(self, body: bytes) -> None:
        """Count what a request has; its strings stand in it as they are."""
        numbers = list(_numbers(body.decode(errors="replace")))
        with self._lock:
            self._found.update(numbers)

    def arrived(self) -> Counter[int]:
        """So far."""
        with self._lock:
            return Counter(self._found)

    def close(self) -> None:
        """No more."""
        self._server.shutdown()
        self._server.server_close()


def _numbers(text: str) -> Iterator[int]:
    return (int(found) for found in _NUMBER.findall(text))


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as answer:
            json.load(answer)
            return True
    except (URLError, OSError, ValueError):
        return False


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory
