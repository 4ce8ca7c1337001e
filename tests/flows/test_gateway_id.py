"""A gateway's X-Trace-ID: into the queue's attributes, to the worker and back, and out in the HTTP answer."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import orjson
import pika
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "deploy" / "dev"))

from devservers import ServerUnavailable
from devservers.rabbitmq import RabbitMQ

pytestmark = pytest.mark.flow

TRACE = "0af7651916cd43dd8448eb211c80319c"
DEADLINE_S = 60

SHOP = """
    import logging, os, sys
    import tracing

    tracing.configure(service="shop", exporter="file", export_file=os.environ["LINES"])
    tracing.instrument()
    import flask, pika
    from werkzeug.serving import make_server

    log = logging.getLogger("shop")
    app = flask.Flask("shop")

    @app.post("/orders")
    def orders():
        with pika.BlockingConnection(pika.URLParameters(os.environ["BROKER_URL"])) as connection:
            channel = connection.channel()
            answers = channel.queue_declare("", exclusive=True).method.queue
            log.warning("ordered")
            properties = pika.BasicProperties(reply_to=answers)
            channel.basic_publish("orders", "", flask.request.get_data(), properties)
            for _, properties, body in channel.consume(answers, inactivity_timeout=60):
                return {"body": body.decode(), "headers": properties.headers}

    server = make_server("127.0.0.1", 0, app)
    print(server.port, flush=True)
    server.serve_forever()
"""

WORKER = """
    import logging, os
    import tracing

    tracing.configure(service="worker", exporter="file", export_file=os.environ["LINES"])
    tracing.instrument()
    import pika

    def charge(channel, method, properties, body):
        logging.getLogger("worker").warning("charged")
        channel.basic_publish("", properties.reply_to, body.upper())

    with pika.BlockingConnection(pika.URLParameters(os.environ["BROKER_URL"])) as connection:
        channel = connection.channel()
        channel.basic_consume("work", charge, auto_ack=True)
        print("ready", flush=True)
        channel.start_consuming()
"""


@pytest.fixture(scope="module")
def channel(need: Callable[[bool, str], None]) -> Iterator[Any]:
    """A program without the library at the same broker: it gets a copy of each order."""
    try:
        server = RabbitMQ()
    except ServerUnavailable as error:
        need(False, str(error))
        raise
    with server, pika.BlockingConnection(pika.URLParameters(server.url)) as connection:
        opened = connection.channel()
        opened.exchange_declare("orders", "fanout")
        for queue in ("work", "copies"):
            opened.queue_declare(queue)
            opened.queue_bind(queue, "orders")
        opened.server_url = server.url
        yield opened


def start(stack: ExitStack, program: str, lines: Path, broker: str) -> str:
    """Start a program that is ended with the stack; return the line that it says when it is ready."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("TRACING_", "OTEL_"))}
    process = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program)],
            env=outer | {"LINES": str(lines), "BROKER_URL": broker},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    )
    stack.callback(process.kill)
    assert process.stdout is not None
    said = process.stdout.readline().strip()
    assert said, "the program has ended"
    return said


@pytest.mark.parametrize("sent", [TRACE, TRACE.upper(), "0af76519-16cd-43dd-8448-eb211c80319c"])
def test_all_the_way_and_back(channel: Any, sent: str, tmp_path: Path) -> None:
    """As 32 hex digits or as a UUID; each program's log lines can be found by it."""
    files = [tmp_path / "shop.ndjson", tmp_path / "worker.ndjson"]
    with ExitStack() as stack:
        start(stack, WORKER, files[1], channel.server_url)
        port = start(stack, SHOP, files[0], channel.server_url)
        order = Request(f"http://127.0.0.1:{port}/orders", b"order 7", {"X-Trace-ID": sent})
        with urlopen(order, timeout=DEADLINE_S) as answer:
            told, came_back = orjson.loads(answer.read()), answer.headers["X-Trace-ID"]
    assert came_back == TRACE and told["body"] == "ORDER 7"
    _, copied, body = channel.basic_get("copies", auto_ack=True)
    assert body == b"order 7"
    for headers in (copied.headers, told["headers"]):
        assert headers["X-Trace-ID"] == TRACE and headers["traceparent"].split("-")[1] == TRACE
    lines = [orjson.loads(line) for path in files for line in path.read_bytes().splitlines()]
    said = {line["message"]: line["trace_id"] for line in lines if line.get("logger") in ("shop", "worker")}
    assert said == {"ordered": TRACE, "charged": TRACE}
    assert {line["trace_id"] for line in lines if line.get("kind") == "span"} == {TRACE}
