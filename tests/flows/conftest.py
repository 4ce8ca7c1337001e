"""Real collector processes for tests, always ended, on ports of their own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from collector.client import CollectorClient
from collector.errors import Unreachable
from tracing.line import format_timestamp

SECOND_NS = 1_000_000_000
START_TIMEOUT_S = 60.0  # a slow machine under load; a healthy start takes a second


class CollectorProcess:
    """A collector in a process of its own, which can be killed and started again on the same data."""

    def __init__(self, data_dir: Path, port: int, settings: dict[str, str]) -> None:
        self.data_dir = data_dir
        self.url = f"http://127.0.0.1:{port}"
        self.log = data_dir.with_name(data_dir.name + ".log")
        ours = {name: value for name, value in os.environ.items() if not name.startswith("BACKTRAIL_")}
        self._environment = {
            **ours,
            "BACKTRAIL_DATA_DIR": str(data_dir),
            "BACKTRAIL_PORT": str(port),
            **{f"BACKTRAIL_{name.upper()}": value for name, value in settings.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def start(self, *, wait: bool = True) -> None:
        """Start it; with `wait` return once it is ready."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "collector.service"], env=self._environment, stdout=log, stderr=log
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Return once `/readyz` is green."""
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        with CollectorClient(self.url, timeout_s=5) as client:
            while time.monotonic() < deadline:
                if self._process.poll() is not None:
                    pytest.fail(f"the collector ended: {self.log.read_text()[-4000:]}")
                with contextlib.suppress(Unreachable):
                    if client.health()["status"] == "ready":
                        return
                time.sleep(0.02)
        pytest.fail(f"the collector is not ready after {START_TIMEOUT_S} s: {self.log.read_text()[-4000:]}")

    def kill(self) -> None:
        """SIGKILL, as a power cut for the process."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> int:
        """SIGTERM; return the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=60)

    def signal(self, number: int) -> None:
        """Any other signal."""
        os.kill(self.pid, number)

    def end(self) -> None:
        """Whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def collectors(directory: Path) -> Iterator[Callable[..., CollectorProcess]]:
    """A maker of collectors under a directory, which ends them all."""
    made: list[CollectorProcess] = []

    def make(name: str = "data", **settings: str) -> CollectorProcess:
        made.append(CollectorProcess(directory / name, _free_port(), settings))
        return made[-1]

    try:
        yield make
    finally:
        for process in made:
            process.end()


@pytest.fixture
def collector_process(tmp_path: Path) -> Iterator[Callable[..., CollectorProcess]]:
    """Call it, with settings as keywords, for a collector that has not been started yet."""
    with collectors(tmp_path) as make:
        yield make


@pytest.fixture(scope="module")
def shared_collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CollectorProcess]:
    """One running collector for all tests of a module."""
    with collectors(tmp_path_factory.mktemp("collector")) as make:
        process = make(commit_interval_s="0.1", admin_token="admin")
        process.start()
        yield process


class KillTable:
    """What is kept of the logs and spans of children that end: ours beside plain OpenTelemetry."""

    def __init__(self) -> None:
        self._rows: list[str] = []

    def add(self, ending: str, written: int, ours: tuple[int, int], plain: tuple[int, int]) -> None:
        """Add a row; each pair is the logs and the spans that were kept, of as many as were written."""
        cells = " | ".join(f"{kept} of {written}" for kept in (*ours, *plain))
        self._rows.append(f"| {ending} | {cells} |")

    def __str__(self) -> str:
        head = "| child ends by | our logs | our spans | OpenTelemetry's logs | its spans |"
        return "\n".join([head, "|---|---|---|---|---|", *self._rows])


@pytest.fixture(scope="session")
def kill_table(request: pytest.FixtureRequest, repository: Path) -> Iterator[KillTable]:
    """Filled by tests, printed when all are done, and kept in `bench-results/kill-matrix.md`."""
    table = KillTable()
    yield table
    results = repository / "bench-results"
    results.mkdir(exist_ok=True)
    (results / "kill-matrix.md").write_text(f"{table}\n")
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n\n{table}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def orders_of_minute(start_ns: int, *, orders: int = 20, fault: bool = False) -> list[tuple[str, bytes]]:
    """Record lines of one minute of a small shop; with the fault, its stock service fails each order."""
    made = []
    for number in range(orders):
        at_ns = start_ns + SECOND_NS + number * 50 * SECOND_NS // orders
        trace_id = hashlib.sha256(f"{start_ns} {number}".encode()).hexdigest()[:32]
        failed = {"level": "ERROR", "status": {"code": "ERROR"}} if fault else {}
        jitter_ns = number * 7919 % 1_000_000
        spans = [
            ("watched-gateway", "POST /orders", "SERVER", None, 0, 40_000_000),
            ("watched-gateway", "reserve", "CLIENT", 0, 5_000_000, 30_000_000),
            ("watched-stock", "reserve", "SERVER", 1, 6_000_000, 27_000_000),
        ]
        ids = [hashlib.sha256(f"{trace_id} {at}".encode()).hexdigest()[:16] for at in range(len(spans))]
        for at, (service, name, kind, parent, offset_ns, took_ns) in enumerate(spans):
            fields = {
                "timestamp": format_timestamp(at_ns + offset_ns),
                "level": "INFO",
                "service": service,
                "trace_id": trace_id,
                "span_id": ids[at],
                "kind": "span",
                "name": name,
                "span_kind": kind,
                "duration_ns": took_ns + jitter_ns,
                **({} if parent is None else {"parent_span_id": ids[parent]}),
                **failed,
            }
            made.append((f"{trace_id}-{at}", json.dumps(fields).encode()))
        said = "no shelf for this order" if fault else "one item reserved"
        line = {
            "timestamp": format_timestamp(at_ns + 9_000_000),
            "level": "ERROR" if fault else "INFO",
            "service": "watched-stock",
            "trace_id": trace_id,
            "span_id": ids[2],
            "message": said,
            "logger": "stock",
        }
        made.append((f"{trace_id}-log", json.dumps(line).encode()))
    return made


@pytest.fixture(name="orders_of_minute")
def orders_of_minute_fixture() -> Callable[..., list[tuple[str, bytes]]]:
    """`orders_of_minute(start_ns, orders=…, fault=…)`."""
    return orders_of_minute
