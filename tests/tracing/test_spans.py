"""Spans: what a line says of them, when a start is announced, what is dropped and what never is."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import threading
import weakref
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, Status, StatusCode

import tracing
from tracing import health
from tracing.spans.pipeline import RandomIds, pipeline
from tracing.testing import Captured, FakeClock, capturing

log = logging.getLogger("app")


def test_a_span_is_one_line(tracing_capture: Captured, tracing_clock: FakeClock) -> None:
    """Every key in its place, and nothing that was not said."""
    with tracing.span("charge", {"http.route": "/pay"}, kind="client", order=7):
        tracing_clock.advance(0.25)
    assert tracing_capture.spans == [
        {
            "timestamp": 1_767_225_600_000_000_000,
            "level": "INFO",
            "service": "test",
            "trace_id": f"{1:032x}",
            "span_id": f"{1:016x}",
            "kind": "span",
            "logger": __name__,
            "attributes": {"http.route": "/pay", "order": 7},
            "name": "charge",
            "span_kind": "CLIENT",
            "duration_ns": 250_000_000,
        }
    ]


def test_attributes_by_position_by_name_and_as_fields(tracing_capture: Captured) -> None:
    """All three are the same; a field goes before an attribute of its name."""
    with (
        tracing.span("a", {"x": 1}),
        tracing.span("b", attributes={"x": 1}),
        tracing.span("c", {"x": 0}, x=1),
    ):
        pass
    assert [span["attributes"] for span in tracing_capture.spans] == [{"x": 1}] * 3


def test_children_know_their_parents(tracing_capture: Captured) -> None:
    """One trace, and each parent is the span around."""
    with tracing.span("a"), tracing.span("b"):
        with tracing.span("c"):
            pass
        with tracing.span("d"):
            pass
    spans = {span["name"]: span for span in tracing_capture.spans}
    assert {span["trace_id"] for span in spans.values()} == {f"{1:032x}"}
    parents = {name: span.get("parent_span_id") for name, span in spans.items()}
    ids = {name: span["span_id"] for name, span in spans.items()}
    assert parents == {"a": None, "b": ids["a"], "c": ids["b"], "d": ids["b"]}


def test_an_exception_is_recorded_and_passes_on(tracing_capture: Captured) -> None:
    """The span ends in error, with the place where the exception was born."""
    with pytest.raises(ZeroDivisionError), tracing.span("divide"):
        1 / 0
    span = tracing_capture.span("divide")
    assert span["level"] == "ERROR"
    assert span["status"] == {"code": "ERROR", "message": "ZeroDivisionError: division by zero"}
    [event] = span["events"]
    assert event["name"] == "exception" and event["attributes"]["exception.type"] == "ZeroDivisionError"
    assert "1 / 0" in event["attributes"]["exception.stacktrace"]


@pytest.mark.parametrize("stop", [GeneratorExit, KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_being_stopped_is_no_error(tracing_capture: Captured, stop: type[BaseException]) -> None:
    """These say "stop", not "this failed"."""
    with pytest.raises(stop), tracing.span("work"):
        raise stop
    span = tracing_capture.span("work")
    assert span["level"] == "INFO" and "status" not in span and "events" not in span


def test_an_exception_that_cannot_be_printed_does_no_harm(tracing_capture: Captured) -> None:
    """The program sees its own exception, whatever its `__str__` does."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    with pytest.raises(Mute), tracing.span("work"):
        raise Mute
    assert tracing_capture.span("work")["status"]["code"] == "ERROR"


def test_events_links_and_status(tracing_capture: Captured) -> None:
    """As OpenTelemetry's API has them."""
    with tracing.span("other") as other:
        pass
    with tracing.span("work", links=[trace.Link(other.get_span_context(), {"why": "batch"})]) as span:
        span.add_event("retry", {"attempt": 2}, timestamp=1_000_000_001)
        span.set_status(StatusCode.ERROR, "no stock")
        span.set_status(StatusCode.UNSET)
        span.update_name("better")
    line = tracing_capture.span("better")
    assert line["events"] == [
        {"timestamp": "1970-01-01T00:00:01.000000001Z", "name": "retry", "attributes": {"attempt": 2}}
    ]
    assert line["links"] == [
        {"trace_id": f"{1:032x}", "span_id": f"{1:016x}", "attributes": {"why": "batch"}}
    ]
    assert line["status"] == {"code": "ERROR", "message": "no stock"}


def test_ok_is_final(tracing_capture: Captured) -> None:
    """Who set it knew better than whoever comes later."""
    with tracing.span("work") as span:
        span.set_status(Status(StatusCode.OK))
        span.set_status(Status(StatusCode.ERROR, "late"))
    assert tracing_capture.span("work")["status"] == {"code": "OK"}


def test_after_the_end_nothing_changes_and_it_is_counted(tracing_capture: Captured) -> None:
    """One line a span, however often it is ended."""
    span = tracing.get_tracer("t").start_span("work")
    span.end()
    before = health.counts["ended_span_changed"]
    span.set_attribute("late", 1)
    span.add_event("late")
    span.update_name("late")
    span.set_status(StatusCode.ERROR)
    span.end()
    assert not span.is_recording()
    assert health.counts["ended_span_changed"] == before + 4
    assert len(tracing_capture.spans) == 1 and "attributes" not in tracing_capture.span("work")


def test_a_clock_that_is_set_back_gives_no_negative_duration(
    tracing_capture: Captured, tracing_clock: FakeClock
) -> None:
    """The duration is measured on the monotonic clock."""
    with tracing.span("work"):
        tracing_clock.advance(1.0)
        tracing_clock.now_ns -= 3_600_000_000_000
    assert tracing_capture.span("work")["duration_ns"] == 1_000_000_000


def test_explicit_times_are_taken(tracing_capture: Captured) -> None:
    """Instrumentations that learn of a span afterwards give both."""
    span = tracing.get_tracer("t").start_span("work", start_time=5_000)
    span.end(end_time=7_000)
    line = tracing_capture.span("work")
    assert (line["timestamp"], line["duration_ns"]) == (5_000, 2_000)


def test_attributes_are_taken_as_they_are_now(tracing_capture: Captured) -> None:
    """The program may go on to change its list."""
    items = [1, 2]
    with tracing.span("work", items=items):
        items.append(3)
    assert tracing_capture.span("work")["attributes"] == {"items": [1, 2]}


def test_limits_of_opentelemetry_hold() -> None:
    """What is over them is counted, on the line too."""
    limits = SpanLimits(max_span_attributes=2, max_events=2, max_links=1, max_span_attribute_length=5)
    with capturing(span_limits=limits) as captured:
        with tracing.span("other") as other:
            pass
        link = trace.Link(other.get_span_context())
        with tracing.span("work", {"a": "too long", "b": 2, "c": 3}, links=[link, link]) as span:
            for number in range(3):
                span.add_event(f"event {number}")
        line = captured.span("work")
    assert line["attributes"]["a"].startswith("too l…[cut")
    assert line["attributes"]["dropped_attributes_count"] == 1
    assert [event["name"] for event in line["events"]] == ["event 1", "event 2"]
    assert line["attributes"]["dropped_events_count"] == 1
    assert len(line["links"]) == 1 and line["attributes"]["dropped_links_count"] == 1


# ---------------------------------------------------------------- what never ended is visible


def test_roots_servers_and_consumers_are_announced(tracing_capture: Captured) -> None:
    """A span that stands for a request is visible from its first moment."""
    with tracing.span("root"):
        assert [start["name"] for start in tracing_capture.starts] == ["root"]
        with (
            tracing.span("inner"),
            tracing.span("server", kind="server"),
            tracing.span("consumer", kind="consumer"),
        ):
            pass
    names = [start["name"] for start in tracing_capture.starts]
    assert names == ["root", "inner", "server", "consumer"], "a parent comes before its child"
    start = tracing_capture.starts[0]
    assert not {"duration_ns", "status", "events", "links"} & start.keys()


def test_the_first_log_line_announces_the_whole_path(tracing_capture: Captured) -> None:
    """So that a process that dies now leaves a chain without holes; the second line announces nothing."""
    with tracing.span("root"), tracing.span("middle"), tracing.span("leaf"):
        assert [start["name"] for start in tracing_capture.starts] == ["root"]
        log.info("one")
        log.info("two")
    kinds = [(line.get("kind", "log"), line.get("name")) for line in tracing_capture.lines]
    assert kinds[:5] == [
        ("span_start", "root"),
        ("span_start", "middle"),
        ("span_start", "leaf"),
        ("log", None),
        ("log", None),
    ]


def test_a_span_with_neither_children_nor_logs_is_one_line(tracing_capture: Captured) -> None:
    """The announcement costs only those who need it."""
    with tracing.span("root"), tracing.span("quiet"):
        pass
    assert [start["name"] for start in tracing_capture.starts] == ["root"]


def test_a_deep_path_is_announced_without_recursion(tracing_capture: Captured) -> None:
    """Deeper than Python's stack would go."""
    tracer = tracing.get_tracer("t")
    context = None
    for number in range(3000):
        span = tracer.start_span(f"span {number}", context=context)
        context = trace.set_span_in_context(span)
    with trace.use_span(span):
        log.info("at the bottom")
    assert len(tracing_capture.starts) == 3000


def test_a_chain_of_spans_does_not_keep_the_ended_ones(tracing_capture: Captured) -> None:
    """Each started by the one before, which ends: a worker that runs for ever must not grow."""
    tracer = tracing.get_tracer("t")
    first = tracer.start_span("first")
    watched, span = weakref.ref(first), first
    del first
    for _ in range(3):
        with trace.use_span(span):
            child = tracer.start_span("next")
        span.end()
        span = child
    del child
    gc.collect()
    assert watched() is None


# ---------------------------------------------------------------- sampling drops spans only


def test_sampling_drops_no_log_line_and_no_error() -> None:
    """Promise 11: log lines always, spans that end in error or are slow regardless."""
    with capturing(sampler="always_off", slow_span_s=10.0) as captured:
        with tracing.span("fine"):
            log.info("inside")
        with pytest.raises(ValueError), tracing.span("failed"):
            raise ValueError
        span = tracing.get_tracer("t").start_span("slow", start_time=0)
        span.end(end_time=11_000_000_000)
        assert [span["name"] for span in captured.spans] == ["failed", "slow"]
        assert captured.starts == [], "what is dropped must not look unfinished"
        [line] = captured.logs
        assert line["trace_id"] == f"{1:032x}" and line["trace_flags"] == 0


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_ratio_sampler_samples_as_the_sdk_does(share: float) -> None:
    """By the trace id, so that every process of a trace decides alike."""
    from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

    reference = TraceIdRatioBased(share)
    with capturing(sampler="traceidratio", sampler_arg=share, id_generator=RandomIds()):
        for _ in range(200):
            context = tracing.get_tracer("t").start_span("root").get_span_context()
            expected = reference.should_sample(None, context.trace_id, "root").decision
            assert context.trace_flags.sampled is (expected is Decision.RECORD_AND_SAMPLE)


@pytest.mark.parametrize(("sampler", "sampled"), [("parentbased_always_off", True), ("always_off", False)])
def test_a_child_is_sampled_as_its_parent_is_where_the_sampler_says_so(sampler: str, sampled: bool) -> None:
    """Parent-based samplers continue what a caller decided."""
    with capturing(sampler=sampler):
        header = f"00-{1:032x}-{1:016x}-01"
        with tracing.extracted({"traceparent": header}), tracing.span("child") as span:
            assert span.get_span_context().trace_flags.sampled is sampled


def test_any_sampler_is_asked() -> None:
    """Somebody else's decides, adds attributes, and is told what it needs."""

    class Own(Sampler):
        def should_sample(
            self, parent_context: Any, trace_id: int, name: str, *rest: Any, **more: Any
        ) -> SamplingResult:
            if name == "no":
                return SamplingResult(Decision.DROP)
            return SamplingResult(Decision.RECORD_AND_SAMPLE, {"asked": name})

        def get_description(self) -> str:
            return "own"

    with capturing(sampler=Own()) as captured:
        with tracing.span("yes"):
            pass
        with tracing.span("no"):
            pass
        assert [(span["name"], span["attributes"]) for span in captured.spans] == [("yes", {"asked": "yes"})]
    with capturing(sampler=ALWAYS_OFF) as captured:
        with tracing.span("no"):
            pass
        assert captured.spans == []


# ---------------------------------------------------------------- ids, processors, several threads


def test_ids_repeat_neither_after_a_seed_nor_in_a_child() -> None:
    """The SDK's generator does both, since it shares the program's `random`."""
    ids = RandomIds()
    random.seed(1)
    first = {ids.span_id() for _ in range(200)}
    random.seed(1)
    second = {ids.span_id() for _ in range(200)}
    assert len(first | second) == 400
    ids.span_id()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, ids.span_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() != ids.span_id()


def test_other_peoples_processors_get_readable_spans(tracing_capture: Captured) -> None:
    """Whatever they export to, the SDK's own classes can read it."""
    exporter = InMemorySpanExporter()
    tracing.spans.provider.add_span_processor(SimpleSpanProcessor(exporter))
    with tracing.span("parent"), pytest.raises(KeyError), tracing.span("child", kind="client", n=1):
        raise KeyError("k")
    child, parent = exporter.get_finished_spans()
    assert isinstance(child, ReadableSpan)
    assert child.name == "child" and child.kind is SpanKind.CLIENT and child.attributes["n"] == 1  # type: ignore[index]
    assert child.parent == parent.get_span_context()
    assert child.status.status_code is StatusCode.ERROR and child.events[0].name == "exception"
    assert child.resource.attributes["service.name"] == "test"
    assert child.to_json()


def test_a_processor_that_fails_does_no_harm(tracing_capture: Captured) -> None:
    """Its errors are counted; the program and our line go on."""

    class Broken(SimpleSpanProcessor):
        def __init__(self) -> None:
            pass

        def on_end(self, span: ReadableSpan) -> None:
            raise RuntimeError("broken")

    pipeline.processors = (Broken(),)
    with tracing.span("work"):
        pass
    assert len(tracing_capture.spans) == 1


def test_a_span_ended_by_many_threads_at_once_is_one_line(tracing_capture: Captured) -> None:
    """And no attribute set meanwhile raises."""
    for _ in range(50):
        span = tracing.get_tracer("t").start_span("work")
        barrier = threading.Barrier(4)

        def end(span: trace.Span = span, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            span.set_attribute("a", 1)
            span.end()

        threads = [threading.Thread(target=end) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(tracing_capture.spans) == 50


def test_before_configure_spans_do_nothing() -> None:
    """A library may use them without knowing whether anybody listens."""
    tracing.uninstall()
    with tracing.span("nobody listens") as span:
        assert not span.is_recording()
        assert tracing.current_trace_id() is None


def test_odd_arguments_do_no_harm(tracing_capture: Captured) -> None:
    """Names that are no text, attributes that are no mapping of text."""
    with tracing.span(7):  # type: ignore[arg-type]
        pass
    with tracing.span("odd", {1: object(), "x": {2: {3}}}):  # type: ignore[dict-item]
        pass
    with tracing.span("lone \ud800") as span:
        wrong: Any = 7
        span.set_attributes(wrong)
        span.add_event(wrong, wrong, wrong)
        span.add_link(wrong, wrong)
        span.record_exception(wrong, wrong)
        span.update_name(wrong)
        span.set_status(wrong, wrong)
    assert len(tracing_capture.spans) == 3
