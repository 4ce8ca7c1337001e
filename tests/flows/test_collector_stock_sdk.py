"""A program with OpenTelemetry's own SDK and one with ours in one trace, also with a relay between them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "deploy" / "dev"))

from devservers.otel_collector import OtelCollector
from devservers.unavailable import ServerUnavailable

from collector.client import CollectorClient

pytestmark = pytest.mark.flow

PATIENCE_S = 60.0

# Calls the other program, with the context in an environment variable, as a carrier of its own.
OURS = """
    import logging, os, subprocess, sys
    import tracing

    handle = tracing.configure(service="ours")
    with tracing.span("order"):
        logging.getLogger("shop").warning("calling the other program")
        headers = {}
        tracing.inject(headers)
        environment = {**os.environ, "TRACEPARENT": headers["traceparent"]}
        subprocess.run([sys.executable, "-c", os.environ["STOCK"]], env=environment, check=True)
        sys.stdout.write(tracing.current_trace_id())
    handle.flush(30)
"""

STOCK = """
    import logging, os
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.{protocol}._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.{protocol}.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    resource = Resource({{"service.name": "stock"}})
    spans, logs = TracerProvider(resource=resource), LoggerProvider(resource=resource)
    spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    logging.getLogger().addHandler(LoggingHandler(logger_provider=logs))
    parent = TraceContextTextMapPropagator().extract({{"traceparent": os.environ["TRACEPARENT"]}})
    tracer = spans.get_tracer("stock")
    with tracer.start_as_current_span("payment", context=parent, kind=trace.SpanKind.SERVER):
        with tracer.start_as_current_span("charge"):
            try:
                raise ValueError("card declined")
            except ValueError:
                logging.getLogger("bank").exception("no money")
    spans.shutdown()
    logs.shutdown()
"""


def dedented(code: str) -> str:
    """The code without its indentation."""
    return "\n".join(line.removeprefix("    ") for line in code.splitlines())


def check_one_chain(collector: Any, endpoint: str, protocol: str, directory: Path) -> None:
    """Run both programs; parents and logs are where they belong, whoever sent them.

    Args:
        endpoint: URL that the stock program sends to.
        protocol: how it does.
        directory: for the spool of ours.
    """
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TRACING_"))},
        "TRACING_COLLECTOR_URL": collector.url,
        "TRACING_SPOOL_DIR": str(directory / "spool"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_INSECURE": "true",
        "STOCK": dedented(STOCK.format(protocol=protocol)),
    }
    done = subprocess.run(
        [sys.executable, "-c", dedented(OURS)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with CollectorClient(collector.url) as client:
        deadline = time.monotonic() + PATIENCE_S
        trace = client.wait_for_trace(done.stdout.strip(), timeout_s=PATIENCE_S)
        while (trace["spans"], trace["logs"]) != (3, 2) and time.monotonic() < deadline:
            time.sleep(0.05)
            trace = client.trace(done.stdout.strip())
    assert [(node["depth"], node["service"], node["name"]) for node in trace["nodes"]] == [
        (0, "ours", "order"),
        (1, "stock", "payment"),
        (2, "stock", "charge"),
    ]
    logs = {node["name"]: [log["message"] for log in node["logs"]] for node in trace["nodes"]}
    assert logs == {"order": ["calling the other program"], "payment": [], "charge": ["no money"]}
    (log,) = trace["nodes"][2]["logs"]
    assert (log["exception"]["type"], log["exception"]["message"]) == ("ValueError", "card declined")
    assert trace["stray_logs"] == []


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_both_are_one_chain(
    protocol: str,
    collector_process: Callable[..., Any],
    free_port: Callable[[], int],
    tmp_path: Path,
) -> None:
    """The stock program sends straight to our collector."""
    grpc_port = free_port()
    collector = collector_process(grpc_port=str(grpc_port))
    collector.start()
    endpoint = collector.url if protocol == "http" else f"http://127.0.0.1:{grpc_port}"
    check_one_chain(collector, endpoint, protocol, tmp_path)


@pytest.mark.timeout(2_000)  # the first time it is built
@pytest.mark.parametrize(("protocol", "compression"), [("http", "zstd"), ("grpc", "gzip")])
def test_a_stock_collector_stands_in_front(
    protocol: str,
    compression: str,
    collector_process: Callable[..., Any],
    need: Callable[[bool, str], None],
    tmp_path: Path,
) -> None:
    """Batched anew and packed, it is the same chain. It is built here (Go, network), and needed in CI."""
    collector = collector_process()
    collector.start()
    try:
        relay = OtelCollector(collector.url, compression=compression)
    except ServerUnavailable as reason:
        need(False, str(reason))
        raise
    with relay:
        check_one_chain(
            collector, relay.http_url if protocol == "http" else relay.grpc_url, protocol, tmp_path
        )
