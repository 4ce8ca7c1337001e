"""Headers come in many shapes, and whatever is in them does no harm."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import SpanContext

import tracing
from tracing import health
from tracing.propagation import FORMATS, Propagator
from tracing.testing import Captured

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def found(carrier: Any, *names: str) -> SpanContext:
    """The span that a propagator reads out of headers."""
    propagator = Propagator(names) if names else Propagator()
    return trace.get_current_span(propagator.extract(carrier)).get_span_context()


@pytest.mark.parametrize(
    "carrier",
    [
        {"traceparent": PARENT},
        {"Traceparent": PARENT},
        {"TRACEPARENT": [PARENT]},
        {b"traceparent": PARENT.encode()},
        {"HTTP_TRACEPARENT": PARENT, "wsgi.version": (1, 0)},
        [("traceparent", PARENT)],
        [(b"traceparent", PARENT.encode()), (b"host", b"x")],
        (("Traceparent", PARENT),),
    ],
)
def test_carriers_of_every_kind(carrier: Any) -> None:
    """Dictionaries in any case, WSGI environments, raw headers of ASGI, metadata of gRPC."""
    assert found(carrier).trace_id == int(TRACE, 16)


@pytest.mark.parametrize(
    "carrier", [None, 7, "traceparent", b"x", [1, 2], [("a",)], {"traceparent": object()}, {}, object()]
)
def test_what_is_no_carrier_does_no_harm(carrier: Any) -> None:
    """Nothing is found, nothing raised."""
    assert not found(carrier).is_valid
    Propagator().inject(carrier)


def test_a_list_takes_names_in_lower_case(tracing_capture: Captured) -> None:
    """gRPC refuses metadata whose names have capitals."""
    metadata: list[tuple[str, str]] = []
    with tracing.span("client"):
        tracing.inject(metadata)
    assert [name for name, _ in metadata] == ["traceparent", "x-trace-id"]


def test_a_getter_that_raises_does_no_harm() -> None:
    """It belongs to an instrumentation."""

    class Broken(Getter[Any]):
        def get(self, carrier: Any, key: str) -> list[str]:
            raise RuntimeError("broken")

        def keys(self, carrier: Any) -> list[str]:
            raise RuntimeError("broken")

    for name in FORMATS:
        assert (
            not trace.get_current_span(Propagator([name]).extract({}, getter=Broken()))
            .get_span_context()
            .is_valid
        )


header_names = st.sampled_from(
    [
        "traceparent",
        "tracestate",
        "baggage",
        "x-trace-id",
        "b3",
        "x-b3-traceid",
        "x-b3-spanid",
        "x-b3-sampled",
        "uber-trace-id",
    ]
)
scraps = st.one_of(
    st.text(max_size=80),
    st.sampled_from([PARENT, TRACE, SPAN, "a=1", "0", "", f"{TRACE}-{SPAN}-1", f"{TRACE}:{SPAN}:0:1"]),
)


@given(
    st.dictionaries(header_names, scraps | st.lists(scraps, max_size=3)),
    st.sampled_from([(), tuple(FORMATS)]),
)
def test_no_header_raises_logs_or_reaches_a_fuse(carrier: dict[str, Any], names: tuple[str, ...]) -> None:
    """Whatever a peer sends: a valid span, or none."""
    before = health.counts["hook_failed"]
    read = found(carrier, *names)
    assert read.is_valid or read.trace_id == 0
    assert health.counts["hook_failed"] == before


def test_our_quick_way_and_the_formats_agree(tracing_capture: Captured) -> None:
    """The usual headers take a shorter path; a spoiled one, the formats' own."""
    with tracing.span("client"):
        quick = tracing.inject({})
        slow: dict[str, str] = {}
        Propagator(["x-trace-id", "tracecontext", "baggage"]).inject(slow)
    assert quick == slow
    for headers in (
        quick,
        {**quick, "traceparent": quick["traceparent"] + "x"},
        {**quick, "tracestate": "a=1"},
    ):
        read = Propagator().extract(headers)
        reference = Propagator(["baggage", "tracecontext", "x-trace-id"]).extract(headers)
        ours, theirs = (trace.get_current_span(one).get_span_context() for one in (read, reference))
        assert ours == theirs
        assert set(read) == set(reference)
