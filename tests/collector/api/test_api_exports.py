"""Exports: what another tool reads is what we know."""

from __future__ import annotations

import csv
import io
import json

import orjson
from hypothesis import given
from hypothesis import strategies as st

from collector.api.exports import CSV_HEADER, chrome_trace, csv_rows, ndjson, otlp_json
from collector.model import Event, ExceptionInfo, Link, Record, Source, SpanNode, Status, Trace
from collector.receive.lines import record_from_line
from collector.trace.build import build_trace

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
START_NS = 1_790_000_000_000_000_001
SPAN = Record(
    uid="a-0",
    kind="span",
    timestamp_ns=START_NS,
    level="ERROR",
    severity_number=17,
    service="orders",
    trace_id=TRACE,
    span_id="00f067aa0ba902b7",
    parent_span_id="00f067aa0ba902b6",
    name="POST /orders",
    span_kind="SERVER",
    duration_ns=1_500_000,
    status=Status(code="ERROR", message="declined"),
    attributes={"ok": True, "n": 2**63, "i": 7, "x": 1.5, "list": ["a", 1], "map": {"k": None}},
    events=(Event(timestamp_ns=START_NS + 5, name="retry", attributes={"n": 1}),),
    links=(Link(trace_id=TRACE, span_id="00f067aa0ba902b1"),),
    resource={"service.name": "orders", "service.instance.id": "o-1"},
    trace_flags=1,
)
LOG = Record(
    uid="a-512",
    timestamp_ns=START_NS + 9,
    level="WARN",
    severity_number=13,
    service="orders",
    trace_id=TRACE,
    span_id="00f067aa0ba902b7",
    message='=1+1, "quoted"\nand a second line',
    logger="shop.orders",
    exception=ExceptionInfo(type="CardError", message="declined", stacktrace="Traceback…"),
    source=Source(file="orders.py", line=12, function="pay"),
    resource={"service.name": "orders", "service.instance.id": "o-1"},
    received_ns=START_NS + 1_000,
)


def test_ndjson_is_the_record_again() -> None:
    """A line that is read back is the record, identity and resource with it."""
    lines = list(ndjson([SPAN, LOG]))
    assert [json.loads(line)["uid"] for line in lines] == ["a-0", "a-512"]
    back = [record_from_line(line, uid=json.loads(line)["uid"], resource={}) for line in lines]
    assert back[0] == SPAN
    assert back[1] == record_from_line(lines[1], uid=LOG.uid, resource={})
    assert (back[1].message, back[1].source, back[1].exception) == (LOG.message, LOG.source, LOG.exception)


def test_csv_has_one_row_a_record_and_runs_no_formula() -> None:
    """Line breaks and quotes survive; a cell that a spreadsheet would run is text."""
    rows = list(
        csv.DictReader(io.StringIO((CSV_HEADER + b"".join(csv_rows([SPAN, LOG]))).decode(), newline=""))
    )
    assert len(rows) == 2
    assert rows[0]["duration_ns"] == "1500000"
    assert json.loads(rows[0]["attributes"])["list"] == ["a", 1]
    assert rows[1]["message"] == f"'{LOG.message}"
    assert rows[1]["source_line"] == "12"


def test_otlp_json_is_read_by_opentelemetrys_own_messages() -> None:
    """Every field arrives where the protocol has it."""
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

    spans_line, logs_line = otlp_json([SPAN, LOG])
    document = orjson.loads(spans_line) | orjson.loads(logs_line)
    # OTLP's JSON writes ids in hex where protobuf's has base64
    for resource_spans in document["resourceSpans"]:
        for scope_spans in resource_spans["scopeSpans"]:
            for span in scope_spans["spans"]:
                assert (span["traceId"], span["spanId"], span["parentSpanId"]) == (
                    TRACE,
                    SPAN.span_id,
                    SPAN.parent_span_id,
                )
                for holder in (span, *span["links"]):
                    holder.pop("traceId"), holder.pop("spanId"), holder.pop("parentSpanId", None)
    spans = ParseDict({"resourceSpans": document["resourceSpans"]}, TracesData())
    span = spans.resource_spans[0].scope_spans[0].spans[0]
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (SPAN.timestamp_ns, SPAN.end_ns)
    assert (span.kind, span.status.code, span.status.message, span.flags) == (2, 2, "declined", 1)
    values = {pair.key: pair.value for pair in span.attributes}
    assert (values["ok"].bool_value, values["i"].int_value, values["n"].double_value) == (True, 7, 2.0**63)
    assert values["list"].array_value.values[1].int_value == 1
    assert spans.resource_spans[0].resource.attributes[0].value.string_value == "orders"
    log = document["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    log.pop("traceId"), log.pop("spanId")
    logs = ParseDict({"resourceLogs": document["resourceLogs"]}, LogsData())
    read = logs.resource_logs[0].scope_logs[0].log_records[0]
    assert (read.time_unix_nano, read.severity_number, read.body.string_value) == (
        LOG.timestamp_ns,
        13,
        LOG.message,
    )
    texts = {pair.key: pair.value.string_value for pair in read.attributes}
    assert texts["exception.type"] == "CardError"
    assert texts["code.file.path"] == "orders.py"


def test_otlp_json_keeps_processes_apart() -> None:
    """Two resources, two entries, though the records came mixed."""
    other = Record(uid="b-0", timestamp_ns=1, level="INFO", severity_number=9, service="stock", message="m")
    document = orjson.loads(b"".join(otlp_json([LOG, other, LOG])))
    assert list(document) == ["resourceLogs"]
    sizes = [
        len(scope["logRecords"]) for resource in document["resourceLogs"] for scope in resource["scopeLogs"]
    ]
    assert sorted(sizes) == [1, 2]


def test_chrome_trace_shows_each_service_as_a_process() -> None:
    """Bars, marks and names; the microseconds of the format; the parent that never came is a `?`."""
    events = json.loads(b"".join(chrome_trace(build_trace(TRACE, [SPAN, LOG]))))["traceEvents"]
    bars = {event["name"]: event for event in events if event["ph"] == "X"}
    marks = [event for event in events if event["ph"] == "i"]
    assert [event["args"]["name"] for event in events if event["ph"] == "M"] == ["?", "orders"]
    assert bars["POST /orders"]["dur"] == 1500.0
    assert (len(marks), marks[0]["tid"]) == (1, bars["POST /orders"]["tid"])


def test_chrome_trace_of_nothing_is_still_json() -> None:
    """An empty chain, an empty list."""
    empty = Trace(trace_id=TRACE, roots=[], stray_logs=[], gaps=[], completeness="unknown")
    assert json.loads(b"".join(chrome_trace(empty)))["traceEvents"] == []


intervals = st.tuples(st.integers(0, 30), st.integers(0, 10))


@given(st.lists(intervals, max_size=25))
def test_bars_of_a_row_nest(times: list[tuple[int, int]]) -> None:
    """Perfetto draws bars that overlap without nesting wrongly, so no two in a row do."""
    nodes = [
        SpanNode(record=SPAN, start_ns=start * 1000, end_ns=(start + length) * 1000)
        for start, length in times
    ]
    trace = Trace(trace_id=TRACE, roots=nodes, stray_logs=[], gaps=[], completeness="complete")
    events = json.loads(b"".join(chrome_trace(trace)))["traceEvents"]
    bars = [(e["tid"], e["ts"], e["ts"] + e["dur"]) for e in events if e["ph"] == "X"]
    assert len(bars) == len(times)
    for lane, start, end in bars:
        for other_lane, other_start, other_end in bars:
            if lane == other_lane and start < other_start < end:
                assert other_end <= end
