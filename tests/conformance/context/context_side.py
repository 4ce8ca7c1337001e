"""Runs the hops of one group with one library and prints what was kept, a JSON line a hop.

`python context_side.py ours|otel|bare GROUP LINES_FILE`, in a process of its own, so that nothing that one
library patches is seen by the other. Whatever a hop carries does the same: writes a log line and a span; both
end up in the lines file, from whichever process, and the verdict is taken from that file alone. `bare` is
ours without `instrument()`.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from context_hop import Failure, Hop
from opentelemetry import trace

from tracing.doctor import trial
from tracing.doctor.trial import Lines, scenario, verdict

GROUP_TIMEOUT_S = 560
PEER_TIMEOUT_S = 90  # a peer that hangs, as its locks may after a fork, costs no more than this
PEER_CONTEXTS_MAX = 200  # at once: enough to see what a peer does
SIDE_VARIABLE = "CONTEXT_MATRIX_SIDE"  # for processes that a hop starts afresh: which library, which file

_is_set_up = False


# ---------------------------------------------------------------- the two libraries


def set_up(side: str, path: str) -> None:
    """Turn one library on, as its manual says."""
    global _is_set_up
    _is_set_up = True
    os.environ[SIDE_VARIABLE] = f"{side}:{path}"
    logging.getLogger().setLevel(logging.INFO)
    if side == "otel":
        _set_up_otel(path)
    else:
        _set_up_ours(path, instrument=side == "ours")


def set_up_child() -> None:
    """For a process that was started afresh and whose program sets the library up, as programs do."""
    side, _, path = os.environ[SIDE_VARIABLE].partition(":")
    set_up(side, path)


def _set_up_ours(path: str, *, instrument: bool) -> None:
    import tracing

    tracing.configure(service="matrix", exporter="file", export_file=path, level="INFO")
    if instrument:
        tracing.instrument()


def _set_up_otel(path: str) -> None:
    """The SDK, with every instrumentation that is installed, as `opentelemetry-instrument` turns them on."""
    from importlib.metadata import entry_points

    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    class Export(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            for span in spans:
                parent = span.parent.span_id if span.parent else 0
                line = {"kind": "span", "name": span.name, "parent_span_id": f"{parent:016x}"}
                _append(descriptor, line | _ids(span.get_span_context()))
            return SpanExportResult.SUCCESS

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            span = trace.get_current_span().get_span_context()
            _append(descriptor, {"message": record.getMessage()} | _ids(span))

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Export()))
    trace.set_tracer_provider(provider)
    logging.getLogger("tracing.doctor").addHandler(Handler())
    for entry in entry_points(group="opentelemetry_instrumentor"):
        with contextlib.suppress(Exception):  # of libraries that are not installed
            entry.load()().instrument()


def _ids(span: Any) -> dict[str, str]:
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"} if span.is_valid else {}


def _append(descriptor: int, line: dict[str, Any]) -> None:
    os.write(descriptor, json.dumps(line).encode() + b"\n")


# ---------------------------------------------------------------- what goes over a hop


def visit(tag: str) -> None:
    """Write a log line that says the baggage, and a span."""
    # In a process that was started afresh ours is set up by now, the SDK is not.
    if not _is_set_up and os.environ[SIDE_VARIABLE].startswith("otel:"):
        set_up_child()
    trial.visit(tag)


def fail(tag: str) -> None:
    """Write the same, and fail."""
    visit(tag)
    raise Failure(tag)


def main() -> None:
    """Run the group and print a line a hop; a hop that breaks says so and the next one is tried."""
    side, group, path = sys.argv[1:4]
    faulthandler.dump_traceback_later(GROUP_TIMEOUT_S if side == "ours" else PEER_TIMEOUT_S, exit=True)
    hops: list[Hop] = importlib.import_module(f"context_hops_{group}").HOPS
    set_up(side, path)
    for hop in hops:
        contexts = min(hop.contexts, PEER_CONTEXTS_MAX) if side == "otel" else hop.contexts
        found: dict[str, Any] = {"hop": hop.name, "contexts": contexts}
        try:
            hop.run(scenario(hop, visit, fail, contexts))
            lines = Lines(json.loads(text) for text in Path(path).read_bytes().splitlines())
            found["cells"] = verdict(hop, lines, contexts)
        except BaseException as error:
            traceback.print_exc()
            found["broken"] = f"{type(error).__name__}: {error}"[:200]
        print(json.dumps(found), flush=True)
    sys.stdout.flush()
    os._exit(0)  # greenlets and brokers' threads need not be waited for


if __name__ == "__main__":
    # Under its own name too, so that what is pickled here is found there.
    sys.modules.setdefault("context_side", sys.modules["__main__"])
    importlib.import_module("context_side").main()
