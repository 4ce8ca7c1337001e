"""Other people's log lines: what is recognised, what is kept, and that nothing is ever refused."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.admit import AdmitLimits, line_of
from collector.receive.loose import fields_of_document, fields_of_text, ids_in

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TIME = 1767323045678000000  # 2026-01-02T03:04:05.678Z


@pytest.mark.parametrize(
    "document",
    [
        {  # Elastic Common Schema
            "@timestamp": "2026-01-02T03:04:05.678Z",
            "log": {"level": "error", "logger": "shop", "origin": {"file": {"name": "a.py", "line": 7}}},
            "message": "declined",
            "trace": {"id": TRACE},
            "span": {"id": SPAN},
            "service": {"name": "orders"},
            "error": {"type": "ValueError", "message": "no", "stack_trace": "Traceback…"},
            "labels": {"order": 7},
        },
        {  # the same with dots, as ecs-logging writes it
            "@timestamp": "2026-01-02T03:04:05.678Z",
            "log.level": "error",
            "log.logger": "shop",
            "log.origin.file.name": "a.py",
            "log.origin.file.line": 7,
            "message": "declined",
            "trace.id": TRACE,
            "span.id": SPAN,
            "service.name": "orders",
            "error.type": "ValueError",
            "error.message": "no",
            "error.stack_trace": "Traceback…",
            "labels.order": 7,
        },
        {  # python-json-logger with OpenTelemetry's logging instrumentation
            "asctime": "2026-01-02 03:04:05,678",
            "levelname": "ERROR",
            "logger": "shop",
            "pathname": "a.py",
            "lineno": 7,
            "message": "declined",
            "otelTraceID": TRACE,
            "otelSpanID": SPAN,
            "otelServiceName": "orders",
            "exc_type": "ValueError",
            "exc_message": "no",
            "exc_info": "Traceback…",
            "labels.order": 7,
        },
        {  # bunyan and pino, with Google's trace field
            "time": 1767323045678,
            "level": 50,
            "logger": "shop",
            "filename": "a.py",
            "lineno": 7,
            "msg": "declined",
            "trace": f"projects/p/traces/{TRACE}",
            "spanId": SPAN.upper(),
            "app": "orders",
            "error": {"type": "ValueError", "message": "no", "stack": "Traceback…"},
            "labels": {"order": 7},
        },
    ],
)
def test_the_usual_dialects_say_the_same(document: dict[str, Any]) -> None:
    """Whatever the names are, each thing gets its key, and the rest stays an attribute."""
    expected = {
        "timestamp": TIME,
        "level": "ERROR",
        "service": "orders",
        "trace_id": TRACE,
        "span_id": SPAN,
        "message": "declined",
        "logger": "shop",
        "exception": {"type": "ValueError", "message": "no", "stacktrace": "Traceback…"},
        "source": {"file": "a.py", "line": 7},
        "attributes": {"labels.order": 7},
    }
    assert fields_of_document(document) == expected
    assert fields_of_text(json.dumps(document)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1767323045, 1767323045 * 10**9),
        (1767323045.678, TIME),
        (1767323045678, TIME),
        (1767323045678000, TIME),
        (TIME, TIME),
        ("2026-01-02T03:04:05.678+00:00", TIME),
        ("2026-01-02T04:04:05.678+0100", TIME),
        ("2026-01-02 03:04:05,678", TIME),
        (True, None),
        (-5, None),
        (2**80, None),
        ("yesterday", None),
        ("2026-13-02T03:04:05Z", None),
        ({"a": 1}, None),
    ],
)
def test_times(value: Any, expected: int | None) -> None:
    """Numbers by their magnitude; what is no time stays what it was."""
    fields = fields_of_document({"timestamp": value})
    if expected is None:
        assert "timestamp" not in fields and fields["attributes"]
    else:
        assert abs(fields["timestamp"] - expected) < 1_000


@pytest.mark.parametrize(
    ("document", "level"),
    [
        ({"level": "warning"}, "WARN"),
        ({"level": 30}, "INFO"),
        ({"severity": "NOTICE"}, "INFO2"),
        ({"level": 31}, "INFO"),
        ({"level": "odd"}, "INFO"),
        ({}, "INFO"),
    ],
)
def test_levels(document: dict[str, Any], level: str) -> None:
    """By name or by number; what nobody knows is kept beside INFO."""
    fields = fields_of_document(document)
    assert fields["level"] == level
    assert (fields.get("attributes") or {}) == (document if document.get("level") in (31, "odd") else {})


@pytest.mark.parametrize(
    ("text", "trace", "span"),
    [
        (f"trace_id={TRACE} span_id={SPAN} done", TRACE, SPAN),
        (f'level=info traceID="{TRACE}" msg=x', TRACE, None),
        (f"[trace: {TRACE}, span: {SPAN}]", TRACE, SPAN),
        (f"GET / traceparent=00-{TRACE}-{SPAN}-01", TRACE, SPAN),
        ("Trace-Id: 0af76519-16cd-43dd-8448-eb211c80319c", TRACE, None),
        (f"otelTraceID={TRACE} otelSpanID={SPAN}", TRACE, SPAN),
        (f"commit {TRACE}", None, None),
        ("trace_id=" + "0" * 32, None, None),
        (f"trace_id={TRACE}ff", None, None),
        (f"span_id={SPAN} alone", None, None),
    ],
)
def test_ids_in_text(text: str, trace: str | None, span: str | None) -> None:
    """Under their names only: thirty-two hex digits alone may be anything."""
    expected = {key: value for key, value in (("trace_id", trace), ("span_id", span)) if value}
    assert ids_in(text) == expected
    assert {key: value for key, value in fields_of_text(text).items() if key.endswith("_id")} == expected


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("2026-01-02 03:04:05,678 ERROR shop declined", "ERROR"),
        ("[WARNING] low disk", "WARN"),
        ('level=warn msg="INFO inside"', "WARN"),
        ("CRITICAL: down", "FATAL"),
        ("GET /ERROR/page-INFO", "INFO"),
        ("nothing at all", "INFO"),
    ],
)
def test_levels_in_text(text: str, level: str) -> None:
    """Words of their own; parts of a path are none."""
    assert fields_of_text(text)["level"] == level


def test_times_in_text_are_of_the_given_zone() -> None:
    """Only when they name none themselves."""
    zone = timezone(timedelta(hours=1))
    assert fields_of_text("2026-01-02 04:04:05.678 x", zone=zone)["timestamp"] == TIME
    assert fields_of_text("[2026-01-02T03:04:05.678Z] x", zone=zone)["timestamp"] == TIME
    assert "timestamp" not in fields_of_text("at 2026-01-02T03:04:05Z", zone=zone)


def test_a_traceback_is_an_exception() -> None:
    """The last that was raised, with all that led to it; in text and in a JSON message."""
    text = (
        "ERROR order 7 failed\n"
        "Traceback (most recent call last):\n"
        '  File "a.py", line 1, in f\n    g()\n'
        "KeyError: 'cart'\n\n"
        "During handling of the above exception, another exception occurred:\n\n"
        "Traceback (most recent call last):\n"
        '  File "a.py", line 3, in f\n    raise\n'
        "shop.errors.Declined: no: really"
    )
    for fields in (fields_of_text(text), fields_of_document({"message": text})):
        assert fields["message"] == text
        exception = fields["exception"]
        assert (exception["type"], exception["message"]) == ("shop.errors.Declined", "no: really")
        assert exception["stacktrace"] == text[text.index("Traceback") :]
    cut = fields_of_text("Traceback (most recent call last):\n  File")
    assert cut["exception"] == {"stacktrace": "Traceback (most recent call last):\n  File"}


def test_a_span_id_without_a_trace_says_nothing() -> None:
    """It stays where nobody takes it for an id."""
    assert "span_id" not in fields_of_document({"span_id": SPAN, "message": "m"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
known_keys = st.sampled_from(
    [
        "@timestamp",
        "time",
        "level",
        "message",
        "log",
        "trace",
        "trace_id",
        "span",
        "error",
        "exception",
        "line",
    ]
)


@given(st.dictionaries(known_keys | st.text(max_size=10), json_values, max_size=8), st.text())
def test_whatever_comes_can_be_kept(document: dict[str, Any], text: str) -> None:
    """Any document, any text: with a service and a time it is a record."""
    for fields in (fields_of_document(document), fields_of_text(text), fields_of_text(json.dumps(document))):
        complete = {"timestamp": 1, "service": "s", **fields}
        if isinstance(complete["timestamp"], int) and 0 <= complete["timestamp"] < 2**63:
            line_of(complete, AdmitLimits(), Counter())
