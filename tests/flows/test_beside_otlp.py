"""The other way out: OTLP to a real backend, over HTTP and gRPC, by settings alone."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collector.client import CollectorClient

PATIENCE_S = 60.0

PROGRAM = """
    import logging, sys
    import tracing

    handle = tracing.configure()
    with tracing.span("order"):
        with tracing.span("charge"):
            try:
                raise ValueError("card declined")
            except ValueError:
                logging.getLogger("bank").exception("no money")
        sys.stdout.write(tracing.current_trace_id())
    assert handle.flush(30), tracing.stats()
"""


@pytest.mark.flow
@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "grpc"])
def test_what_is_logged_arrives(
    protocol: str, collector_process: Callable[..., Any], free_port: Callable[[], int], tmp_path: Path
) -> None:
    """A backend that knows nothing of our own format shows the same chain; headers say who sends."""
    grpc_port = free_port()
    backend = collector_process(grpc_port=str(grpc_port), ingest_token="hush")
    backend.start()
    endpoint = f"http://127.0.0.1:{grpc_port}" if protocol == "grpc" else backend.url
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TRACING_"))}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        env=outer
        | {
            "TRACING_SERVICE": "shop",
            "TRACING_EXPORTER": "otlp",
            "TRACING_SPOOL_DIR": str(tmp_path / "spool"),
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20hush,x-scope-orgid=shop",
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    with CollectorClient(backend.url) as client:
        deadline_s = time.monotonic() + PATIENCE_S
        trace = client.wait_for_trace(done.stdout, timeout_s=PATIENCE_S)
        while (trace["spans"], trace["logs"]) != (2, 1) and time.monotonic() < deadline_s:
            time.sleep(0.05)
            trace = client.trace(done.stdout)
    assert [(node["depth"], node["service"], node["name"]) for node in trace["nodes"]] == [
        (0, "shop", "order"),
        (1, "shop", "charge"),
    ]
    (log,) = trace["nodes"][1]["logs"]
    assert (log["message"], log["exception"]["message"]) == ("no money", "card declined")
