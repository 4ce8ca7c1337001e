"""Beside other people's tracing in one process: nothing doubled, nothing broken, whoever comes first."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once

import tracing
from tracing.propagation import Propagator
from tracing.spans import provider
from tracing.testing import Captured, capturing

log = logging.getLogger("app")


@pytest.fixture(autouse=True)
def no_provider() -> Iterator[None]:
    """Each test begins and ends without a global provider."""

    def clear() -> None:
        tracing.uninstall()
        trace._TRACER_PROVIDER = None
        trace._TRACER_PROVIDER_SET_ONCE = Once()

    clear()
    yield
    clear()


@pytest.fixture
def theirs() -> tuple[TracerProvider, InMemorySpanExporter]:
    """A provider of the SDK's, and what it exports."""
    exporter = InMemorySpanExporter()
    their_provider = TracerProvider()
    their_provider.add_span_processor(SimpleSpanProcessor(exporter))
    return their_provider, exporter


def work() -> None:
    """Through OpenTelemetry's API, as an instrumentation does it, and through ours."""
    with (
        trace.get_tracer("lib").start_as_current_span("outer", kind=trace.SpanKind.SERVER),
        tracing.span("inner"),
    ):
        log.warning("inside")


def check(captured: Captured, exported: InMemorySpanExporter) -> None:
    """Both sides have both spans, once, with the same ids."""
    assert sorted(span["name"] for span in captured.spans) == ["inner", "outer"]
    finished = {span.name: span for span in exported.get_finished_spans()}
    assert len(exported.get_finished_spans()) == 2
    for name in ("inner", "outer"):
        context = finished[name].get_span_context()
        assert captured.span(name)["span_id"] == f"{context.span_id:016x}"  # type: ignore[union-attr]
    [line] = captured.logs
    assert line["span_id"] == captured.span("inner")["span_id"]
    assert captured.span("inner")["parent_span_id"] == captured.span("outer")["span_id"]
    assert [start["name"] for start in captured.starts] == ["outer", "inner"]


def test_a_provider_that_was_there_first(theirs: tuple[TracerProvider, InMemorySpanExporter]) -> None:
    """Its spans are the ones that count; ours become its."""
    their_provider, exporter = theirs
    trace.set_tracer_provider(their_provider)
    with capturing() as captured:
        work()
        assert trace.get_tracer_provider() is their_provider
        check(captured, exporter)
    work()
    assert exporter.get_finished_spans()[-1].name == "outer", "after uninstall() it works on without us"
    assert trace.get_tracer_provider() is their_provider


def test_a_provider_that_comes_later(
    theirs: tuple[TracerProvider, InMemorySpanExporter], caplog: pytest.LogCaptureFixture
) -> None:
    """OpenTelemetry would refuse it with a warning; ours gives way, and so do tracers given out before."""
    their_provider, exporter = theirs
    with capturing() as captured:
        early = trace.get_tracer("early")
        with early.start_as_current_span("before"):
            pass
        trace.set_tracer_provider(their_provider)
        assert trace.get_tracer_provider() is their_provider
        captured.clear()
        work()
        check(captured, exporter)
        with early.start_as_current_span("by an early tracer"):
            pass
        assert captured.span("by an early tracer")
        assert exporter.get_finished_spans()[-1].name == "by an early tracer"
    assert "Overriding" not in caplog.text


def test_a_second_foreign_provider_is_refused_as_ever(
    theirs: tuple[TracerProvider, InMemorySpanExporter], caplog: pytest.LogCaptureFixture
) -> None:
    """We change nothing about what OpenTelemetry does among others."""
    with capturing():
        trace.set_tracer_provider(theirs[0])
        trace.set_tracer_provider(TracerProvider())
        assert trace.get_tracer_provider() is theirs[0]
    assert "Overriding" in caplog.text


def test_uninstall_leaves_the_place_free() -> None:
    """Somebody else can be the provider afterwards, and tracers given out before do nothing."""
    with capturing():
        tracer = trace.get_tracer("lib")
        assert trace.get_tracer_provider() is provider
    assert not tracer.start_span("after").is_recording()
    later = TracerProvider()
    trace.set_tracer_provider(later)
    assert trace.get_tracer_provider() is later


def test_tracers_given_out_before_configure_work_after_it() -> None:
    """Libraries ask for theirs when they are imported."""
    early = trace.get_tracer("early")
    with capturing() as captured:
        with early.start_as_current_span("work"):
            pass
        assert captured.span("work")["logger"] == "early"
    with capturing() as captured:
        with early.start_as_current_span("again"):
            pass
        assert captured.span("again")


def test_a_provider_that_takes_no_processor_is_left_alone() -> None:
    """Its spans give ids to our lines; ours stay ours."""

    class Foreign(trace.NoOpTracerProvider):
        def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
            return trace.NoOpTracer()

    foreign = Foreign()
    trace.set_tracer_provider(foreign)
    with capturing() as captured:
        assert trace.get_tracer_provider() is foreign
        span = trace.NonRecordingSpan(
            trace.SpanContext(7, 8, is_remote=False, trace_flags=trace.TraceFlags(1))
        )
        with trace.use_span(span):
            log.warning("inside theirs")
            with tracing.span("ours"):
                pass
        assert captured.logs[0]["span_id"] == f"{8:016x}"
        assert captured.span("ours")["parent_span_id"] == f"{8:016x}"


def test_the_global_propagator_is_put_back() -> None:
    """Where nobody has changed it since."""
    before = propagate.get_global_textmap()
    with capturing():
        assert isinstance(propagate.get_global_textmap(), Propagator)
    assert propagate.get_global_textmap() is before
    try:
        with capturing():
            other = Propagator(["b3"])
            propagate.set_global_textmap(before)
        assert propagate.get_global_textmap() is before
    finally:
        propagate.set_global_textmap(before)
        del other


def test_spans_that_end_after_their_provider_shut_down_do_no_harm(
    theirs: tuple[TracerProvider, InMemorySpanExporter],
) -> None:
    """The order of ends at exit is anybody's."""
    trace.set_tracer_provider(theirs[0])
    with capturing() as captured:
        span = trace.get_tracer("lib").start_span("late")
        theirs[0].shutdown()
        span.end()
        assert captured.span("late")


@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_their_logging_handler(first: str) -> None:
    """OpenTelemetry's handler exports what it exports alone, with the ids of our span; we record it once."""
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

    exporter = InMemoryLogRecordExporter()
    logs = LoggerProvider()
    logs.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    root, handler = logging.getLogger(), LoggingHandler(logger_provider=logs)
    if first == "theirs":
        root.addHandler(handler)
    try:
        with capturing() as captured:
            if first == "ours":
                root.addHandler(handler)
            with tracing.span("work"):
                log.warning("order %d", 7, extra={"order": 7})
    finally:
        root.removeHandler(handler)
    [line], [exported] = captured.logs, exporter.get_finished_logs()
    assert exported.log_record.body == line["message"] == "order 7"
    assert f"{exported.log_record.span_id:016x}" == line["span_id"] == captured.span("work")["span_id"]
    assert line["attributes"] == {"order": 7}


def test_their_ids_in_the_program_s_own_format() -> None:
    """`LoggingInstrumentor` puts ids on records for formats: ours, and no attributes of our lines."""
    from opentelemetry.instrumentation.logging import LoggingInstrumentor

    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(otelTraceID)s %(otelSpanID)s %(message)s"))
    with capturing() as captured:
        LoggingInstrumentor().instrument(inject_trace_context=True, enable_log_auto_instrumentation=False)
        log.addHandler(handler)
        try:
            with tracing.span("work"):
                log.warning("inside")
        finally:
            log.removeHandler(handler)
            LoggingInstrumentor().uninstrument()
    [line] = [line for line in captured.logs if line["message"] == "inside"]
    assert stream.getvalue().split() == [line["trace_id"], line["span_id"], "inside"]
    assert "attributes" not in line
