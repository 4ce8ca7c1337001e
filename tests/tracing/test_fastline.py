"""The lines that are joined from pieces are the lines that `tracing.line.encode` writes, byte for byte."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

import tracing
from tracing import fastline
from tracing.context import get_fields
from tracing.line import TIMESTAMP_NS_MAX, encode, format_timestamp
from tracing.logs import records
from tracing.spans import Span, lines
from tracing.testing import capturing

texts = st.text(max_size=30)
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    texts,
    st.lists(st.integers(0, 9), max_size=2),
    st.dictionaries(texts, st.integers(0, 9), max_size=2),
    st.just(object()),
    st.just(2**80),
    st.just("lone \ud800"),
)
names = st.text("abcdefgh._-", min_size=1, max_size=8)
attributes = st.dictionaries(names, values, max_size=4)


@st.composite
def log_records(draw: st.DrawFn) -> logging.LogRecord:
    """Records as loggers make them: with arguments, with `extra=`, of every level."""
    level = draw(st.sampled_from([0, 5, 10, 20, 25, 30, 40, 50, 60]))
    args: Any = draw(st.sampled_from([(), (1,), ("text",), (1.5, None), ({"key": "value"},), (object(),)]))
    template = draw(texts).replace("%", "%%") + " %s" * len(args)
    if args and isinstance(args[0], dict):
        template = "%(key)s"
    extra = draw(st.one_of(st.none(), st.dictionaries(st.text("xyz_", min_size=1), values, max_size=3)))
    record = logging.getLogger(draw(names)).makeRecord(
        draw(st.one_of(names, st.just("lone \udfff"))),
        level,
        draw(st.sampled_from(["/srv/app/orders.py", "weird \ud800 path.py"])),
        draw(st.integers(0, 9999)),
        template if args else draw(texts),
        args,
        None,
        draw(st.one_of(st.none(), names)),
        extra,
    )
    record.created = draw(st.integers(0, 2**32).map(float) | st.floats(0, 2**33))
    return record


def _reference(record: logging.LogRecord, ids: dict[str, str], flags: int | None) -> bytes:
    level = records.level_of(record.levelno, record.levelname)
    own = {key: value for key, value in record.__dict__.items() if key not in records._OWN}
    return encode(records.fields_of(record, level, ids, flags, {**get_fields(), **own}))


@given(log_records(), attributes, st.sampled_from(["outside", "inside", "not sampled"]))
def test_a_log_line_is_what_encode_writes(
    record: logging.LogRecord, bound: dict[str, Any], place: str
) -> None:
    """Whatever is logged, wherever: the quick way and the careful way agree."""
    sampler = "always_off" if place == "not sampled" else "always_on"
    with capturing(redact=False, sampler=sampler) as captured, tracing.bound(**bound):
        if place == "outside":
            records.write(record)
            written, expected = captured.raw[-1][0], _reference(record, {}, None)
        else:
            ids = {"trace_id": f"{1:032x}", "span_id": f"{1:016x}"}
            with tracing.span("around"):
                records.write(record)  # announces the span, and meets its level for the first time
                records.write(record)
                written = captured.raw[-1][0]
                expected = _reference(record, ids, 0 if place == "not sampled" else None)
    assert written == expected


@given(
    name=texts,
    given_attributes=attributes,
    kind=st.sampled_from(list(SpanKind)),
    sampled=st.booleans(),
    start=st.integers(0, TIMESTAMP_NS_MAX // 2),
    duration=st.integers(0, 2**40),
)
def test_a_span_line_is_what_encode_writes(
    name: str, given_attributes: dict[str, Any], kind: SpanKind, sampled: bool, start: int, duration: int
) -> None:
    """The same for spans."""
    sampler = "always_on" if sampled else "always_off"
    with capturing(redact=False, sampler=sampler, slow_span_s=0.0) as captured:
        span = tracing.get_tracer("bench").start_span(
            name, kind=kind, attributes=given_attributes, start_time=start
        )
        assert isinstance(span, Span)
        span.announced = False
        span.announce()
        assert captured.raw[-1][0] == encode(lines.started_fields(span))
        span.end(start + duration)
        assert captured.raw[-1][0] == encode(lines.finished_fields(span))


@given(
    name=texts,
    given_attributes=attributes,
    kind=st.sampled_from(list(SpanKind)),
    scope=names,
    sampled=st.booleans(),
    outcome=st.sampled_from(["", "status", "event", "link"]),
    start=st.sampled_from([-5, 0, 1_764_000_000_123_456_789, TIMESTAMP_NS_MAX + 1]),
    duration=st.integers(0, 2**40),
)
def test_a_line_of_the_sdks_span_is_what_encode_writes(
    name: str,
    given_attributes: dict[str, Any],
    kind: SpanKind,
    scope: str,
    sampled: bool,
    outcome: str,
    start: int,
    duration: int,
) -> None:
    """And for spans of a provider that was there before us."""
    tracer = TracerProvider(sampler=ALWAYS_ON if sampled else RecordsOnly()).get_tracer(scope)
    around = tracer.start_span("around")
    context = set_span_in_context(around) if duration % 2 else Context()
    with capturing(redact=False):
        span = tracer.start_span(name, context, kind, given_attributes, start_time=start)
        if outcome == "status":
            span.set_status(StatusCode.ERROR, "failed")
        elif outcome == "event":
            span.add_event("event", {"a": 1})
        elif outcome == "link":
            span.add_link(around.get_span_context())
        span.end(start + duration)
        assert isinstance(span, ReadableSpan)
        for is_start in (True, False):
            expected = encode(lines.readable_fields(span, start=is_start))
            assert lines.readable(span, start=is_start) == expected


class RecordsOnly(Sampler):
    """Has every span recorded and none sampled."""

    def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
        """Decide."""
        return SamplingResult(Decision.RECORD_ONLY)

    def get_description(self) -> str:
        """A name."""
        return "records only"


def test_the_usual_span_of_the_sdk_does_go_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the test above would compare `encode` with itself."""
    tracer = TracerProvider().get_tracer("lib")
    with capturing():
        span = tracer.start_span("work", attributes={"a": 1, "b": "text"})
        span.end()
        assert isinstance(span, ReadableSpan)
        expected = lines.readable(span)
        monkeypatch.setattr(lines, "encode", None)
        assert lines.readable(span) == expected


@given(st.integers(-(10**18), TIMESTAMP_NS_MAX + 10**18))
def test_a_stamp_is_the_formatted_timestamp(timestamp_ns: int) -> None:
    """Moments outside the years that RFC 3339 can say are clamped, as the careful way does."""
    assert fastline.stamp(timestamp_ns) == b'{"timestamp":"%b"' % format_timestamp(timestamp_ns).encode()


def test_a_quick_line_that_is_too_long_goes_the_careful_way() -> None:
    """Only `encode` can cut, so the quick way must see that something is to be cut."""
    with capturing() as captured:
        logging.getLogger("app").warning("x" * 20_000)
        assert "[cut: 3616 of 20000 characters]" in captured.messages[0]


def test_the_usual_record_does_go_the_quick_way() -> None:
    """Else the other tests would compare the careful way with itself."""
    with capturing(), tracing.span("around"):
        logger = logging.getLogger("app")
        record = logger.makeRecord("app", 20, "a.py", 1, "order %d of %s", (7, "ann"), None, "place")
        records.write(record)
        assert records.write_usual(record)
