"""Beside Sentry and ddtrace in one process: each side sees what it sees alone, and the output is the same."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tracing.spool.adoption import spools
from tracing.spool.reader import read_lines

PROGRAM = """
    import json, logging, sys, threading, urllib.request
    from http.server import BaseHTTPRequestHandler, HTTPServer

    order, spool_dir, report = sys.argv[1], sys.argv[2], sys.argv[3]
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s", level="INFO")
    seen = []  # what the other side would send

    def ours():
        import tracing
        tracing.configure(service="shop", spool_dir=spool_dir, ship=False)
        tracing.instrument("urllib")

    {theirs}

    for part in order.split(","):
        {{"ours": ours, "theirs": theirs}}[part]()
    names = order.split(",")

    headers, parents = [], []

    class Shop(BaseHTTPRequestHandler):
        def do_GET(self):
            headers.append([name.lower() for name in self.headers])
            parents.extend(self.headers.get_all("traceparent") or [])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Shop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    log = logging.getLogger("shop")

    def request():
        with urllib.request.urlopen(f"http://127.0.0.1:{{server.server_address[1]}}/stock"):
            log.info("asked")
        try:
            raise LookupError("no stock")
        except LookupError:
            log.exception("order failed")

    def nested():
        if "theirs" in names:
            with their_span("checkout"):
                request()
        else:
            request()

    if "ours" in names:
        import tracing
        with tracing.span("order"):
            nested()
    else:
        nested()
    if "theirs" in names:
        finish()
    if "ours" in names:
        import tracing
        tracing.uninstall()
    log.info("afterwards")  # everything still works when we have gone
    with open(report, "w") as file:
        json.dump({{"seen": seen, "headers": headers, "parents": parents}}, file)
"""

SENTRY = """
    import sentry_sdk
    from sentry_sdk.transport import Transport

    class Kept(Transport):
        def capture_envelope(self, envelope):
            for item in envelope.items:
                body = item.payload.json
                if item.type == "event":
                    seen.append(["event", body["logentry"]["message"], len(body["exception"]["values"])])
                if item.type == "transaction":
                    seen.append(["transaction", body["transaction"], [s["op"] for s in body["spans"]]])

    def theirs():
        # Python's own modules only: the integrations of what else is installed here are not the point.
        sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", transport=Kept, traces_sample_rate=1.0,
                        auto_enabling_integrations=False)

    def their_span(name):
        return sentry_sdk.start_transaction(name=name, op="task")

    def finish():
        sentry_sdk.flush(5)
"""

DATADOG = """
    def theirs():
        import ddtrace
        from ddtrace.trace import TraceFilter, tracer

        class Kept(TraceFilter):
            def process_trace(self, trace):
                names = {span.span_id: span.name for span in trace}
                seen.extend(sorted([span.name, names.get(span.parent_id)] for span in trace))
                return None

        tracer.configure(trace_processors=[Kept()])
        ddtrace.patch(logging=True, urllib3=True, httplib=True)

    def their_span(name):
        from ddtrace.trace import tracer
        return tracer.trace(name)

    def finish():
        pass
"""

VENDORS = {"sentry_sdk": SENTRY, "ddtrace": DATADOG}
QUIET = {
    "DD_TRACE_AGENT_URL": "http://127.0.0.1:9",
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    "DD_TRACE_STARTUP_LOGS": "false",
}


class Run:
    """One run of the program: what it printed, what the others saw, what we saw."""

    def __init__(self, vendor: str, order: str, directory: Path) -> None:
        directory.mkdir()
        root, report = directory / "spool", directory / "report.json"
        program = textwrap.dedent(PROGRAM).format(theirs=textwrap.dedent(VENDORS[vendor]))
        strange = ("TRACING_", "OTEL_", "DD_", "SENTRY_")
        outer = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
        done = subprocess.run(
            [sys.executable, "-c", program, order, str(root), str(report)],
            env=outer | QUIET | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            cwd=directory,
            timeout=120,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        self.printed = (done.stdout, done.stderr.partition("Traceback")[0], done.stderr.count("\n"))
        told = orjson.loads(report.read_bytes())
        self.seen: list[Any] = told["seen"]
        (self.headers,) = told["headers"]
        self.parents: list[str] = told["parents"]
        paths = spools(root / "shop")
        self.lines = [orjson.loads(line) for path in paths for _, line in read_lines(path)]

    @property
    def logs(self) -> list[tuple[str, bool, bool]]:
        """Of each log line of the shop's: its message, whether with an exception, whether in the span."""
        (span,) = [line for line in self.lines if line.get("name") == "order" and line.get("kind") == "span"]
        return [
            (line["message"], "exception" in line, line.get("trace_id") == span["trace_id"])
            for line in self.lines
            if "kind" not in line and line["logger"] == "shop"  # the others log too
        ]

    @property
    def spans(self) -> list[tuple[str, bool]]:
        """Names of our spans, in the order of their ends, and whether they have a parent."""
        return [(line["name"], "parent_span_id" in line) for line in self.lines if line.get("kind") == "span"]


@pytest.mark.flow
@pytest.mark.parametrize("vendor", list(VENDORS))
def test_each_side_sees_what_it_sees_alone(
    vendor: str, tmp_path: Path, need: Callable[[bool, str], None]
) -> None:
    """Whoever comes first, and also after we have gone; a request carries each side's headers once."""
    need(importlib.util.find_spec(vendor) is not None, vendor)
    alone = Run(vendor, "ours", tmp_path / "ours")
    their_alone = Run(vendor, "theirs", tmp_path / "theirs")
    assert alone.logs == [("asked", False, True), ("order failed", True, True)]
    assert alone.spans == [("GET", True), ("order", False)]
    assert their_alone.seen
    for order in ("ours,theirs", "theirs,ours"):
        both = Run(vendor, order, tmp_path / order)
        assert both.seen == their_alone.seen, order
        assert both.logs == alone.logs, order
        assert both.spans == alone.spans, order
        assert both.printed == their_alone.printed, order
        # Of two tracers, one speaks for the request in the standard's words; what is theirs alone goes too.
        [client] = [line for line in both.lines if line.get("name") == "GET" and line["kind"] == "span"]
        assert both.parents == [f"00-{client['trace_id']}-{client['span_id']}-03"], order
        assert set(both.headers) >= set(their_alone.headers) - {"tracestate"}, order
