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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from context_hop import Failure, Hop, Wait, Work, request
from opentelemetry import trace
from opentelemetry.baggage import get_baggage

GROUP_TIMEOUT_S = 280
PEER_TIMEOUT_S = 90  # a peer that hangs, as its locks may after a fork, costs no more than this
SIDE_VARIABLE = "CONTEXT_MATRIX_SIDE"  # for processes that a hop starts afresh: which library, which file

log = logging.getLogger("matrix")
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
    logging.getLogger("matrix").addHandler(Handler())
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
    log.info("visit %s tenant=%s", tag, get_baggage("tenant"))
    with trace.get_tracer("matrix").start_as_current_span(f"child {tag}"):
        pass


def fail(tag: str) -> None:
    """Write the same, and fail."""
    visit(tag)
    raise Failure(tag)


# ---------------------------------------------------------------- what is tried


async def scenario(hop: Hop) -> None:
    """Everything that one row tells."""

    def ask(work: Work, case: str, send: Callable[[Work, str], Wait]) -> Wait:
        with request(f"{hop.slug}/{case}"):
            return send(work, f"{hop.slug}/{case}")

    async with hop.open() as way:
        await ask(visit, "plain", way.go)()
        await way.go(visit, f"{hop.slug}/nobody")()
        await ask(fail, "fails", way.go)()
        await way.go(visit, f"{hop.slug}/exception-nobody")()
        await ask(visit, "exception", way.go)()
        if way.cancel is not None:
            await ask(visit, "cancelled", lambda _, tag: way.cancel(tag))()
            await way.go(visit, f"{hop.slug}/cancellation-nobody")()
            await ask(visit, "cancellation", way.go)()
        waits = [ask(visit, f"concurrent-{number}", way.go) for number in range(hop.contexts)]
        for wait in waits:
            await wait()


class Lines:
    """What ended up in the file, by the tags of the work."""

    def __init__(self, path: Path) -> None:
        self.logs: dict[str, dict[str, Any]] = {}
        self.spans: dict[str, dict[str, Any]] = {}  # by span id
        self.by_name: dict[str, dict[str, Any]] = {}
        for text in path.read_bytes().splitlines():
            line = json.loads(text)
            if line.get("kind") == "span":
                self.spans[line["span_id"]] = self.by_name[line["name"]] = line
            elif "kind" not in line and line["message"].startswith("visit "):
                tag = line["message"].removeprefix("visit ").rpartition(" tenant=")[0]
                self.logs[tag] = line

    def is_below(self, span_id: str | None, ancestor: str) -> bool:
        """Whether a span is another one or was begun, maybe by way of others, inside it."""
        seen = set()
        while span_id is not None and span_id not in seen:
            if span_id == ancestor:
                return True
            seen.add(span_id)
            span_id = self.spans.get(span_id, {}).get("parent_span_id")
        return False

    def belongs(self, tag: str) -> dict[str, bool]:
        """What of one request was kept: the first three columns."""
        asked = self.by_name[f"request {tag}"]
        line, child = self.logs.get(tag, {}), self.by_name.get(f"child {tag}", {})
        return {
            "log ids": line.get("trace_id") == asked["trace_id"]
            and self.is_below(line.get("span_id"), asked["span_id"]),
            "parent": child.get("trace_id") == asked["trace_id"]
            and self.is_below(child.get("parent_span_id"), asked["span_id"]),
            "baggage": line.get("message", "").endswith(f" tenant={tag}"),
        }

    def is_nobody_s(self, tag: str) -> bool:
        """Whether work that no request ordered is in none of the requests' traces, and has no baggage."""
        line, child = self.logs.get(tag), self.by_name.get(f"child {tag}")
        if line is None or child is None:
            return False
        asked = {span["trace_id"] for name, span in self.by_name.items() if name.startswith("request ")}
        strangers = {line.get("trace_id"), child["trace_id"]}
        return not strangers & asked and line["message"].endswith(" tenant=None")


def verdict(hop: Hop, lines: Lines) -> dict[str, str]:
    """The cells of one row: `kept`, `lost`, `–` for what a hop does not have."""

    def cell(*kept: bool) -> str:
        return "kept" if all(kept) else "lost"

    def case(name: str) -> str:
        whole = all(lines.belongs(f"{hop.slug}/{name}").values())
        return cell(whole, lines.is_nobody_s(f"{hop.slug}/{name}-nobody"))

    row = {column: cell(kept) for column, kept in lines.belongs(f"{hop.slug}/plain").items()}
    row["log ids"] = cell(row["log ids"] == "kept", lines.is_nobody_s(f"{hop.slug}/nobody"))
    row["exception"] = case("exception")
    row["cancellation"] = case("cancellation") if f"request {hop.slug}/cancellation" in lines.by_name else "–"
    tags = [f"{hop.slug}/concurrent-{number}" for number in range(hop.contexts)]
    kept = sum(all(lines.belongs(tag).values()) for tag in tags)
    row["concurrent"] = f"{kept} of {hop.contexts}"
    return row


def main() -> None:
    """Run the group and print a line a hop; a hop that breaks says so and the next one is tried."""
    side, group, path = sys.argv[1:4]
    faulthandler.dump_traceback_later(GROUP_TIMEOUT_S if side == "ours" else PEER_TIMEOUT_S, exit=True)
    hops: list[Hop] = importlib.import_module(f"context_hops_{group}").HOPS
    set_up(side, path)
    for hop in hops:
        found: dict[str, Any] = {"hop": hop.name, "contexts": hop.contexts}
        try:
            hop.run(scenario(hop))
            found["cells"] = verdict(hop, Lines(Path(path)))
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
