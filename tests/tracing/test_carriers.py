"""Header objects of the standard library, which are no `Mapping`; and what holds no headers is counted."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from email.message import EmailMessage, Message
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from wsgiref.headers import Headers

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanContext

import tracing
from tracing import health
from tracing.propagation import Propagator
from tracing.propagation.carriers import names
from tracing.testing import Captured

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
REASON = "unreadable_carrier"


def found(carrier: Any, *formats: str) -> SpanContext:
    """The span that a propagator reads out of headers."""
    propagator = Propagator(formats) if formats else Propagator()
    return trace.get_current_span(propagator.extract(carrier)).get_span_context()


@pytest.mark.parametrize("kind", [Message, EmailMessage, HTTPMessage, Headers])
@pytest.mark.parametrize("name", ["traceparent", "Traceparent"])
def test_header_objects_of_the_standard_library_are_read(kind: Callable[[], Any], name: str) -> None:
    """Those of `http.server`, `http.client`, `email` and `wsgiref`."""
    carrier = kind()
    carrier["Host"] = "payments"
    carrier[name] = PARENT
    before = health.counts[REASON]
    assert found(carrier).trace_id == int(TRACE, 16)
    assert set(names(carrier)) == {"host", "traceparent"}
    assert health.counts[REASON] == before


def test_a_header_that_is_there_twice_is_joined() -> None:
    """Not cut to its first value, as `Message.get` does."""
    carrier = Message()
    carrier["traceparent"] = PARENT
    carrier["tracestate"] = "a=1"
    carrier["tracestate"] = "b=2"
    assert dict(found(carrier).trace_state) == {"a": "1", "b": "2"}


@pytest.mark.parametrize("carrier", [7, "traceparent", b"x", object(), [1, 2], [("a",)], ["Traceparent"]])
def test_what_no_header_can_be_read_from_is_counted(carrier: Any) -> None:
    """Whoever hands over the wrong object loses the trace, so that must show."""
    before = health.counts[REASON]
    assert not found(carrier).is_valid
    assert health.counts[REASON] == before + 1


@pytest.mark.parametrize("carrier", [None, {}, [], (), Message(), Headers(), {"host": "a"}, [("host", "a")]])
def test_having_no_headers_is_nothing_to_count(carrier: Any) -> None:
    """`None` is what brokers' clients give for a message without headers."""
    before = health.counts[REASON]
    assert not found(carrier).is_valid
    assert health.counts[REASON] == before


class _Charge(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        with tracing.extracted(self.headers), tracing.span("charge"):
            pass
        self.send_response(204)  # after the span, so that whoever has the answer finds it
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Not on standard error."""


@pytest.fixture
def payments() -> Iterator[int]:
    """Port of a service on the standard library's server."""
    with HTTPServer(("127.0.0.1", 0), _Charge) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_call_of_the_standard_librarys_server_is_one_trace(
    tracing_capture: Captured, payments: int
) -> None:
    """`extracted(self.headers)` is all that a handler has to say."""
    connection = http.client.HTTPConnection("127.0.0.1", payments, timeout=10)
    with tracing.span("pay"):
        connection.request("GET", "/", headers=tracing.inject({}))
        assert connection.getresponse().status == 204
    connection.close()
    pay, charge = tracing_capture.span("pay"), tracing_capture.span("charge")
    assert (charge["trace_id"], charge["parent_span_id"]) == (pay["trace_id"], pay["span_id"])
