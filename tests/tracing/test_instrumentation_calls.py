"""gRPC and Celery, as they are used: one trace through both sides, and nothing doubled."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

import tracing
from tracing.testing import Captured, capturing

log = logging.getLogger("app")
DEADLINE_S = 30


@pytest.fixture
def captured() -> Iterator[Captured]:
    """Everything that is installed, instrumented, and taken off again."""
    with capturing(level="INFO") as lines:
        tracing.instrument()
        yield lines
        tracing.uninstrument()


def own(captured: Captured) -> list[dict[str, Any]]:
    """The lines of this file's logger."""
    return [line for line in captured.logs if line["logger"] == "app"]


def test_grpc(captured: Captured) -> None:
    """Client and server, unary and streaming."""

    def say(request: bytes, context: grpc.ServicerContext) -> bytes:
        log.info("order by grpc")
        return request

    def count(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for number in range(2):
            log.info("part %d", number)
            yield bytes([number])

    class Handlers(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            if details.method == "/shop/Say":
                return grpc.unary_unary_rpc_method_handler(say)
            return grpc.unary_stream_rpc_method_handler(count)

    server = grpc.server(ThreadPoolExecutor(2), handlers=[Handlers()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with tracing.span("caller"), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert channel.unary_unary("/shop/Say")(b"x", timeout=DEADLINE_S) == b"x"
            assert list(channel.unary_stream("/shop/Count")(b"x", timeout=DEADLINE_S)) == [b"\x00", b"\x01"]
    finally:
        server.stop(None).wait(DEADLINE_S)
    kinds: dict[str, list[dict[str, Any]]] = {}
    for span in captured.spans:
        kinds.setdefault(span["span_kind"], []).append(span)
    assert {span["trace_id"] for span in captured.spans} == {f"{1:032x}"}
    clients = {span["span_id"] for span in kinds["CLIENT"]}
    assert {span["parent_span_id"] for span in kinds["SERVER"]} == clients and len(clients) == 2
    servers = {span["span_id"] for span in kinds["SERVER"]}
    assert {line["span_id"] for line in own(captured)} == servers


CELERY = """
import logging, os, sys, tracing
tracing.configure(service="worker", level="INFO", ship=False)
tracing.instrument()
from celery import Celery
app = Celery("tasks", broker="filesystem://")
folder = os.environ["QUEUE"]
app.conf.update(
    broker_transport_options={
        "data_folder_in": folder,
        "data_folder_out": folder,
        "control_folder": folder + "-control",
        "polling_interval": 0.05,
    },
    worker_hijack_root_logger=True, task_ignore_result=True,
)
@app.task(name="charge")
def charge(order):
    logging.getLogger("app").info("charging %d", order)
"""


def test_celery_prefork(captured: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children of the pool go on tracing after the fork: consumer span under the producer's, own spool."""
    (tmp_path / "tasks.py").write_text(CELERY)
    (tmp_path / "queue").mkdir()
    env = {
        **os.environ,
        "QUEUE": str(tmp_path / "queue"),
        "TRACING_SPOOL_DIR": str(tmp_path / "spool"),
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(tracing.__file__).parent.parent)]),
    }
    worker = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "tasks",
            "worker",
            "-c",
            "2",
            "-l",
            "INFO",
            "-E",
            "--without-mingle",
        ],
        env=env,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        sender = (
            "import tasks, tracing\n"
            "with tracing.span('sender'):\n"
            "    for order in range(4): tasks.charge.delay(order)\n"
        )
        subprocess.run([sys.executable, "-c", sender], env=env, cwd=tmp_path, timeout=60, check=True)
        assert worker.stdout is not None
        done = 0
        for line in worker.stdout:
            done += b"succeeded" in line
            if done == 4:
                break
    finally:
        worker.terminate()
        worker.wait(DEADLINE_S)
    from tracing.line import decode

    lines = [
        decode(raw)
        for segment in (tmp_path / "spool" / "worker").glob("*/*.ndjson")
        for raw in segment.read_bytes().splitlines()[1:]
    ]
    spans = {line["span_id"]: line for line in lines if line.get("kind") == "span"}
    consumers = [span for span in spans.values() if span["span_kind"] == "CONSUMER"]
    assert len(consumers) == 4
    for consumer in consumers:
        producer = spans[consumer["parent_span_id"]]
        assert producer["span_kind"] == "PRODUCER" and spans[producer["parent_span_id"]]["name"] == "sender"
        assert any(line.get("span_id") == consumer["span_id"] and "kind" not in line for line in lines)
