"""Headers: what goes out comes in again, and no header can hurt."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.span import TraceState

import tracing
from tracing import context, health
from tracing.errors import ConfigurationError
from tracing.propagation import Propagator
from tracing.propagation.b3 import B3Single
from tracing.propagation.w3c import (
    BAGGAGE_CHARS_MAX,
    BAGGAGE_MEMBERS_MAX,
    baggage_header,
    parse_baggage,
    parse_traceparent,
    parse_tracestate,
)
from tracing.propagation.x_trace_id import CORRELATION_CHARS_MAX, parse
from tracing.testing import Captured, capturing

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
log = logging.getLogger("app")


@pytest.fixture(autouse=True)
def nothing_declared() -> Iterator[None]:
    """Each test begins and ends with no field declared as baggage."""
    yield
    context.declared.baggage = frozenset()
    context.declared.kinds.clear()


def found(carrier: Any, *names: str) -> SpanContext:
    """The span that a propagator reads out of headers."""
    propagator = Propagator(names) if names else Propagator()
    return trace.get_current_span(propagator.extract(carrier)).get_span_context()


def outgoing(span: SpanContext, *names: str, members: dict[str, str] | None = None) -> dict[str, str]:
    """The headers that a propagator writes for a span."""
    around = trace.set_span_in_context(NonRecordingSpan(span), Context())
    for key, value in (members or {}).items():
        around = baggage.set_baggage(key, value, around)
    carrier: dict[str, str] = {}
    Propagator(names).inject(carrier, around)
    return carrier


keys = st.from_regex(r"[a-z][a-z0-9_\-*/]{0,12}", fullmatch=True)
members = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=",="), min_size=1, max_size=12
)
states = st.dictionaries(keys, members, max_size=5).map(lambda pairs: TraceState(list(pairs.items())))
spans = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.just(True),
    st.integers(0, 1).map(TraceFlags),
    states,
)


@given(spans, st.sampled_from(["tracecontext", "b3", "b3multi", "jaeger"]))
def test_what_inject_writes_extract_reads(span: SpanContext, name: str) -> None:
    """The two halves of each format are inverses; only W3C carries the state of vendors."""
    read = found(outgoing(span, name), name)
    assert (read.trace_id, read.span_id, read.trace_flags) == (span.trace_id, span.span_id, span.trace_flags)
    assert read.is_remote
    if name == "tracecontext":
        assert dict(read.trace_state) == dict(span.trace_state)


sent_members = st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text(max_size=12), max_size=4)


@given(spans, sent_members)
def test_opentelemetry_reads_what_we_write(span: SpanContext, sent: dict[str, str]) -> None:
    """Trace context and baggage; it takes the spaces around a value off."""
    ours = outgoing(span, "tracecontext", "baggage", members=sent)
    read = TraceContextTextMapPropagator().extract(ours)
    assert trace.get_current_span(read).get_span_context() == span
    members = baggage.get_all(W3CBaggagePropagator().extract(ours))
    assert dict(members) == {key: value.strip() for key, value in sent.items()}


@given(spans, sent_members)
def test_we_read_what_opentelemetry_writes(span: SpanContext, sent: dict[str, str]) -> None:
    """It writes a space as a plus, which by the specification is a plus, so spaces are left out here."""
    sent = {key: "".join(value.split(" ")) for key, value in sent.items()}
    around = trace.set_span_in_context(NonRecordingSpan(span), Context())
    for key, value in sent.items():
        around = baggage.set_baggage(key, value, around)
    theirs: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(theirs, around)
    W3CBaggagePropagator().inject(theirs, around)
    read = Propagator().extract(theirs)
    assert trace.get_current_span(read).get_span_context() == span
    assert dict(baggage.get_all(read)) == sent


# ---------------------------------------------------------------- W3C trace context, from its text


@pytest.mark.parametrize(
    "header",
    [
        PARENT,
        f" {PARENT}\t",
        f"00-{TRACE}-{SPAN}-00",
        f"00-{TRACE}-{SPAN}-03",  # level 2: random
        f"01-{TRACE}-{SPAN}-01",  # a version to come
        f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like",
    ],
)
def test_a_traceparent_that_is_right(header: str) -> None:
    """Section 3.2; later versions may append fields."""
    parsed = parse_traceparent(header)
    assert parsed is not None and (parsed.trace_id, parsed.span_id) == (TRACE, SPAN)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN.upper()}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
        f"cc-{TRACE}-{SPAN}-01.what",
        f"00-{TRACE}-{SPAN}-0x",
        f"{PARENT},{PARENT}",
        "00-" + "g" * 32 + f"-{SPAN}-01",
        "٠٠-" + TRACE + f"-{SPAN}-01",
        "x" * 10_000,
    ],
)
def test_a_traceparent_that_is_wrong_is_counted_and_a_new_trace_begins(header: str) -> None:
    """A bad peer must not fail the request; its tracestate is not looked at."""
    before = health.counts["malformed_traceparent"]
    assert not found({"traceparent": header, "tracestate": "a=1"}).is_valid
    assert health.counts["malformed_traceparent"] == before + 1


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("a=1", {"a": "1"}),
        ("a=1,b=2", {"a": "1", "b": "2"}),
        ("a=1 , ,\tb=2,", {"a": "1", "b": "2"}),
        ("tenant@vendor=x", {"tenant@vendor": "x"}),
        ("0tenant@v=x", {"0tenant@v": "x"}),
        ("a= 1", {"a": " 1"}),
        ("a-_*/0=x", {"a-_*/0": "x"}),
    ],
)
def test_a_tracestate_that_is_right(header: str, expected: dict[str, str]) -> None:
    """Section 3.3.1: order kept, empty members and spaces around allowed."""
    state = parse_tracestate(header)
    assert state is not None and list(state.items()) == list(expected.items())


@pytest.mark.parametrize(
    "header",
    [
        *(
            "a",
            "a=",
            "=1",
            "A=1",
            "a=1,a=2",
            "a b=1",
            "a=b=c",
            "@v=1",
            "é=1",
            "a=é",
        ),
        "a=" + "x" * 257,
        "x" * 257 + "=1",
        ",".join(f"k{number}=1" for number in range(33)),
    ],
)
def test_a_tracestate_that_is_wrong_costs_only_itself(header: str, caplog: pytest.LogCaptureFixture) -> None:
    """The span is taken all the same, the state counted; OpenTelemetry would log a warning."""
    before = health.counts["malformed_tracestate"]
    read = found({"traceparent": PARENT, "tracestate": header})
    assert read.is_valid and not read.trace_state
    assert health.counts["malformed_tracestate"] == before + 1
    assert not caplog.records


def test_a_state_that_is_long_is_cut_at_its_oldest_members() -> None:
    """What everybody must pass on is 512 characters; the newest come first."""
    state = TraceState([(f"key{number}", "x" * 60) for number in range(20)])
    header = outgoing(SpanContext(1, 2, True, TraceFlags(1), state), "tracecontext")["tracestate"]
    assert len(header) <= 512 and header.startswith("key0=") and not header.endswith(",")


# ---------------------------------------------------------------- baggage


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,8}", fullmatch=True), st.text(max_size=10), max_size=5
    )
)
def test_baggage_keeps_every_character(sent: dict[str, str]) -> None:
    """Percent-encoded on the way."""
    header = baggage_header(sent)
    assert header.isascii() and " " not in header
    assert parse_baggage(header) == sent


def test_baggage_limits_are_counted() -> None:
    """In both directions; what fits is kept."""
    before = health.counts["baggage_over_limit"]
    many = {f"key{number}": "x" for number in range(BAGGAGE_MEMBERS_MAX + 5)}
    assert len(parse_baggage(baggage_header(many))) == BAGGAGE_MEMBERS_MAX
    assert (
        len(parse_baggage(",".join(f"{key}={value}" for key, value in many.items()))) == BAGGAGE_MEMBERS_MAX
    )
    long = "a=1," + "b=" + "x" * BAGGAGE_CHARS_MAX
    assert parse_baggage(long) == {"a": "1"}
    assert len(baggage_header({"a": "x" * BAGGAGE_CHARS_MAX})) == 0
    assert health.counts["baggage_over_limit"] > before + 3


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("a=1;property=x,b=2", {"a": "1", "b": "2"}),
        ("a = 1 , b=2", {"a": "1", "b": "2"}),
        ("a,b=2", {"b": "2"}),
        ("=1,b=2", {"b": "2"}),
        ("a b=1,b=2", {"b": "2"}),
        (",,", {}),
        ("a=%zz", {"a": "%zz"}),
    ],
)
def test_odd_baggage(header: str, expected: dict[str, str]) -> None:
    """The good members are kept."""
    assert parse_baggage(header) == expected


def test_only_declared_fields_travel(tracing_capture: Captured) -> None:
    """What is bound may be about people, and the other side may not be ours."""
    tracing.declare("tenant", baggage=True)
    with tracing.bound(tenant="acme", email="ann@example.org"), tracing.span("client"):
        headers = tracing.inject({})
    assert headers["baggage"] == "tenant=acme"
    with tracing.extracted({**headers, "baggage": "tenant=acme,other=1"}):
        log.info("received")
        with tracing.span("server", kind="server"):
            log.info("inside")
            assert tracing.inject({})["baggage"] == "tenant=acme,other=1", "what came in is passed on"
    received, inside = tracing_capture.logs
    assert received["attributes"] == {"tenant": "acme"} == inside["attributes"]
    assert tracing_capture.span("server")["attributes"] == {"tenant": "acme"}


def test_declared_baggage_reaches_the_logs_inside_a_server_span(tracing_capture: Captured) -> None:
    """Instrumentations extract a context and start a span with it; nobody binds anything."""
    tracing.declare("tenant", baggage=True)
    around = propagate.extract({"traceparent": PARENT, "baggage": "tenant=acme"})
    tracer = tracing.get_tracer("lib")
    with (
        trace.use_span(
            tracer.start_span("server", context=around, kind=trace.SpanKind.SERVER), end_on_exit=True
        ),
        tracing.span("child"),
    ):
        log.info("deep inside")
    assert tracing_capture.logs[0]["attributes"] == {"tenant": "acme"}
    assert tracing_capture.span("server")["attributes"] == {"tenant": "acme"}


# ---------------------------------------------------------------- X-Trace-ID


@pytest.mark.parametrize(
    ("header", "trace_id", "correlation_id"),
    [
        (TRACE, TRACE, None),
        (TRACE.upper(), TRACE, None),
        (f" {TRACE} ", TRACE, None),
        ("0af76519-16cd-43dd-8448-eb211c80319c", TRACE, None),
        ("0AF76519-16CD-43DD-8448-EB211C80319C", TRACE, None),
        ("0" * 32, None, "0" * 32),
        ("order-7", None, "order-7"),
        (TRACE[:-1], None, TRACE[:-1]),
        ("0af7651916cd-43dd-8448-eb21-1c80319c", None, "0af7651916cd-43dd-8448-eb21-1c80319c"),
        ("x" * 500, None, "x" * CORRELATION_CHARS_MAX),
        ("a\x00b\nc\x7fd é", None, "abcd "),
        ("\x00", None, None),
        ("", None, None),
    ],
)
def test_x_trace_id(header: str, trace_id: str | None, correlation_id: str | None) -> None:
    """32 hex digits or a UUID are a trace id; anything else is 128 printable characters of an attribute."""
    assert parse(header) == (trace_id, correlation_id)


def test_an_x_trace_id_is_the_trace_to_be_in(tracing_capture: Captured) -> None:
    """Before the first span already; the first span is its root."""
    with tracing.extracted({"X-Trace-ID": TRACE}):
        assert tracing.current_trace_id() == TRACE and tracing.current_span_id() is None
        log.info("before")
        assert tracing.inject({}) == {"X-Trace-ID": TRACE}
        with tracing.span("root"), tracing.span("child"):
            log.info("inside")
    before, inside = tracing_capture.logs
    assert before["trace_id"] == TRACE and "span_id" not in before
    assert inside["trace_id"] == TRACE
    root = tracing_capture.span("root")
    assert root["trace_id"] == TRACE and "parent_span_id" not in root
    assert tracing_capture.span("child")["parent_span_id"] == root["span_id"]


def test_traceparent_goes_before_x_trace_id(tracing_capture: Captured) -> None:
    """Another id beside it is kept, so that it finds the trace."""
    other = "1" * 32
    with tracing.extracted({"traceparent": PARENT, "X-Trace-ID": other}), tracing.span("server"):
        pass
    server = tracing_capture.span("server")
    assert server["trace_id"] == TRACE and server["parent_span_id"] == SPAN
    assert server["attributes"] == {"correlation.id": other}


def test_another_id_becomes_an_attribute(tracing_capture: Captured) -> None:
    """On the span and the log lines of the request."""
    with tracing.extracted({"x-trace-id": "order-7"}), tracing.span("server"):
        log.info("inside")
    assert tracing_capture.span("server")["attributes"] == {"correlation.id": "order-7"}
    assert tracing_capture.logs[0]["attributes"] == {"correlation.id": "order-7"}
    assert tracing_capture.span("server")["trace_id"] == f"{1:032x}"


def test_an_id_that_the_program_sends_is_not_overwritten(tracing_capture: Captured) -> None:
    """A gateway passes its caller's id on in its own way."""
    with tracing.span("client"):
        assert tracing.inject({"X-Trace-ID": "mine"})["X-Trace-ID"] == "mine"


def test_ids_of_callers_can_be_refused() -> None:
    """At the edge, whose callers may send anything; the id is kept for whoever looks for it."""
    with capturing(trust_remote_ids=False) as captured:
        before = health.counts["refused_remote_id"]
        for headers in ({"traceparent": PARENT}, {"X-Trace-ID": TRACE}):
            with tracing.extracted(headers), tracing.span("edge"):
                pass
        assert health.counts["refused_remote_id"] == before + 2
        for span in captured.spans:
            assert span["trace_id"] != TRACE and "parent_span_id" not in span
            assert span["attributes"] == {"correlation.id": TRACE}


# ---------------------------------------------------------------- B3, Jaeger


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"{TRACE}-{SPAN}-1", (TRACE, SPAN, 1)),
        (f"{TRACE}-{SPAN}-d", (TRACE, SPAN, 1)),
        (f"{TRACE}-{SPAN}-0", (TRACE, SPAN, 0)),
        (f"{TRACE}-{SPAN}", (TRACE, SPAN, 1)),
        (f"{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90", (TRACE, SPAN, 1)),
        (f"{TRACE[16:]}-{SPAN}-1", ("0" * 16 + TRACE[16:], SPAN, 1)),
        ("0", None),
        ("1", None),
        ("", None),
        (f"{TRACE}-{SPAN}-x", None),
        (f"{TRACE}-{'0' * 16}-1", None),
        (f"{TRACE}", None),
        (f"{TRACE}-{SPAN}-1-2-3", None),
        ("x" * 5000, None),
    ],
)
def test_b3_in_one_header(header: str, expected: tuple[str, str, int] | None) -> None:
    """64-bit ids are filled up; a lone decision names no span."""
    read = found({"b3": header}, "b3")
    assert read.is_valid is (expected is not None)
    if expected is not None:
        assert (f"{read.trace_id:032x}", f"{read.span_id:016x}", int(read.trace_flags)) == expected


def test_b3_in_several_headers() -> None:
    """Names in any case, as HTTP has them."""
    read = found({"X-B3-TRACEID": TRACE, "x-b3-spanid": SPAN, "X-B3-Flags": "1"}, "b3multi")
    assert f"{read.trace_id:032x}" == TRACE and read.trace_flags.sampled
    before = health.counts["malformed_b3"]
    assert not found({"X-B3-TraceId": TRACE}, "b3multi").is_valid
    assert health.counts["malformed_b3"] == before + 1


@pytest.mark.parametrize(
    ("header", "valid"),
    [
        (f"{TRACE}:{SPAN}:0:1", True),
        (f"{TRACE}%3A{SPAN}%3A0%3A3", True),
        ("abc:def:0:1", True),
        (f"{TRACE}:{SPAN}:0", False),
        (f"{TRACE}:{SPAN}:0:x", False),
        (f"{TRACE}:0:0:1", False),
        (f"{TRACE}0:{SPAN}:0:1", False),
        (":::", False),
    ],
)
def test_jaeger(header: str, valid: bool) -> None:
    """Leading zeroes may be missing."""
    assert found({"uber-trace-id": header}, "jaeger").is_valid is valid


def test_jaeger_baggage() -> None:
    """One header a member."""
    read = Propagator(["jaeger"]).extract({"uber-trace-id": f"{TRACE}:{SPAN}:0:1", "Uberctx-Tenant": "a%20b"})
    assert dict(baggage.get_all(read)) == {"tenant": "a b"}
    headers = outgoing(SpanContext(1, 2, False), "jaeger", members={"tenant": "a b"})
    assert headers["uberctx-tenant"] == "a%20b"


def test_the_first_format_that_names_a_span_wins() -> None:
    """In the order of the setting, X-Trace-ID last."""
    headers = {"traceparent": PARENT, "b3": f"{'1' * 32}-{SPAN}-1", "x-trace-id": "2" * 32}
    assert found(headers, "x-trace-id", "b3", "tracecontext").trace_id == int("1" * 32, 16)
    assert found(headers, "x-trace-id", "tracecontext", "b3").trace_id == int(TRACE, 16)


def test_propagators_of_others_are_taken_by_name() -> None:
    """Whatever is registered with OpenTelemetry; an unknown name stops the start."""
    assert Propagator(["tracecontext"]).fields >= {"traceparent"}
    with pytest.raises(ConfigurationError, match=r"pigeon.*built in are tracecontext"):
        Propagator(["pigeon"])
    with pytest.raises(ConfigurationError, match="pigeon"):
        tracing.configure(service="test", propagators=("pigeon",), exporter="none")


def test_writing_b3_directly() -> None:
    """Each format stands alone."""
    assert B3Single().fields == {"b3"}
    assert outgoing(SpanContext(1, 2, False, TraceFlags(1)), "b3")["b3"] == f"{1:032x}-{2:016x}-1"
