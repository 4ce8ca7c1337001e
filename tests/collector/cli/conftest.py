"""Traces and verdicts as the API gives them, made by the product's own builders."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.api import shapes, views
from collector.cli import OK, main
from collector.client import CollectorClient
from collector.errors import Unreachable
from collector.model import Cause, Event, Evidence, ExceptionInfo, Record, Status, Verdict
from collector.receive.lines import line_fields
from collector.trace.build import build_trace
from tracing.line import encode

MS = 1_000_000
START_NS = 1_795_498_331_412_000_000  # 2026-11-24T05:32:11.412Z
TRACE_ID = "5f3c" * 8


@pytest.fixture(scope="session")
def pick_port() -> Callable[[], int]:
    """Call it for a loopback port that nobody listened on a moment ago."""

    def pick() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return pick


MakeTrace = Callable[..., dict[str, Any]]


def span(number: int, service: str, name: str, at_ms: float, took_ms: float | None, **more: Any) -> Record:
    """A span; without a length one that only started."""
    parent = more.pop("parent", None)
    return Record(
        uid=f"span-{number}",
        kind="span_start" if took_ms is None else "span",
        timestamp_ns=START_NS + round(at_ms * MS),
        level="ERROR" if more.get("status") else "INFO",
        severity_number=17 if more.get("status") else 9,
        service=service,
        trace_id=TRACE_ID,
        span_id=f"{number:016x}",
        parent_span_id=f"{parent:016x}" if parent else None,
        name=name,
        duration_ns=None if took_ms is None else round(took_ms * MS),
        **more,
    )


def log(number: int, span_number: int, service: str, at_ms: float, message: str, **more: Any) -> Record:
    """A log line inside a span."""
    level = more.pop("level", "INFO")
    return Record(
        uid=f"log-{number}",
        timestamp_ns=START_NS + round(at_ms * MS),
        level=level,
        severity_number={"INFO": 9, "WARN": 13, "ERROR": 17}[level],
        service=service,
        trace_id=TRACE_ID,
        span_id=f"{span_number:016x}",
        message=message,
        **more,
    )


def order_that_failed() -> list[Record]:
    """An order that fails in the inventory, three services deep."""
    stack = (
        "Traceback (most recent call last):\n"
        '  File "shop/inventory.py", line 30, in reserve\n'
        "    shelf = shelf_label(row)\n"
        '  File "shop/inventory.py", line 50, in shelf_label\n'
        "    return row['shelf']\n"
        "KeyError: 'shelf'\n"
    )
    failure = Status(code="ERROR", message="KeyError: 'shelf'")
    recorded = Event(
        timestamp_ns=START_NS + 20 * MS,
        name="exception",
        attributes={
            "exception.type": "KeyError",
            "exception.message": "'shelf'",
            "exception.stacktrace": stack,
        },
    )
    return [
        span(
            1,
            "gateway",
            "POST /orders",
            0,
            40,
            span_kind="SERVER",
            status=Status(code="ERROR"),
            attributes={"http.response.status_code": 502},
        ),
        log(1, 1, "gateway", 1, "received order-0041: 3 x lamp"),
        span(2, "gateway", "POST", 2, 36, parent=1, span_kind="CLIENT"),
        span(3, "orders", "POST /orders", 4, 32, parent=2, span_kind="SERVER"),
        span(4, "orders", "check credit", 5, 4, parent=3),
        log(2, 4, "orders", 8, "credit of ada is good"),
        span(
            5,
            "inventory",
            "Reserve",
            12,
            10,
            parent=3,
            span_kind="SERVER",
            status=failure,
            events=(recorded,),
        ),
        log(3, 3, "orders", 30, "no reservation", level="ERROR"),
    ]


@pytest.fixture(scope="session")
def failed_order() -> list[Record]:
    """The records of an order that failed in the inventory: 5 spans and 3 logs."""
    return order_that_failed()


@pytest.fixture
def make_trace() -> MakeTrace:
    """Call it with records for the trace as the API gives it; without for an order that failed."""

    def make(records: list[Record] | None = None) -> dict[str, Any]:
        built = build_trace(TRACE_ID, order_that_failed() if records is None else records)
        return shapes.plain(views.trace_view(built))

    return make


@pytest.fixture
def make_span() -> Callable[..., Record]:
    """`make_span(number, service, name, at_ms, took_ms, parent=…, …)`."""
    return span


@pytest.fixture
def make_log() -> Callable[..., Record]:
    """`make_log(number, span_number, service, at_ms, message, level=…, …)`."""
    return log


@pytest.fixture
def verdict() -> dict[str, Any]:
    """A verdict with two causes, as the API gives it."""
    cited = Evidence(
        uid="a" * 32 + "-117",
        timestamp_ns=START_NS + 20 * MS,
        service="inventory",
        quote="KeyError: 'shelf'",
        why="the exception was born here",
        trace_id=TRACE_ID,
    )
    return shapes.plain(
        views.verdict_view(
            Verdict(
                trace_id=TRACE_ID,
                causes=[
                    Cause(
                        rank=1,
                        service="inventory",
                        fault="exception",
                        summary="inventory raised KeyError: 'shelf' in shelf_label.",
                        confidence=0.934,
                        evidence=[cited],
                        signals=["exception_origin", "error_status"],
                        operation="Reserve",
                        location="shop/inventory.py:50 in shelf_label",
                        refuted_by="the same exception in a healthy trace",
                    ),
                    Cause(
                        rank=2,
                        service="orders",
                        fault="error",
                        summary="orders answered 500.",
                        confidence=0.21,
                        evidence=[],
                        signals=["error_status"],
                    ),
                ],
                normal=["durations of 7 operations"],
                traces_compared=38,
            )
        )
    )


@pytest.fixture
def exception_info() -> ExceptionInfo:
    """An exception as a log line carries it."""
    return ExceptionInfo(
        type="ValueError", message="no such card", stacktrace='  File "pay.py", line 3, in charge'
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, failed_order: list[Record]) -> Path:
    """A file of record lines: an order that failed."""
    file = tmp_path_factory.mktemp("files") / "order.ndjson"
    file.write_bytes(b"".join(encode(line_fields(record)) for record in failed_order))
    return file


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory, recorded: Path) -> Path:
    """A data directory that holds it."""
    path = tmp_path_factory.mktemp("data") / "collector"
    assert main(["import", str(recorded), "--data-dir", str(path)]) == OK
    return path


@pytest.fixture(scope="module")
def url(
    tmp_path_factory: pytest.TempPathFactory, recorded: Path, pick_port: Callable[[], int]
) -> Iterator[str]:
    """A running collector that holds it."""
    port, data = pick_port(), str(tmp_path_factory.mktemp("served"))
    command = [sys.executable, "-m", "collector", "serve", "--port", str(port), "--data-dir", data]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: CollectorClient(address).health()["status"] == "ready")
        assert main(["import", str(recorded), "--url", address]) == OK
        wait_for(lambda: CollectorClient(address).stats()["records"] == 8)
        yield address
    finally:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Return once it holds."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if condition():
                return
        except Unreachable:
            pass
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
