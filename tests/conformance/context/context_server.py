"""What the tests of one client library each share: its server, and the library on for one test."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import context_matrix  # which also knows where the servers are
from devservers import ServerUnavailable

import tracing
from tracing.handoff.deliveries import current_delivery
from tracing.instrumentation.messaging import finished
from tracing.testing import Captured, capturing

GATEWAY_TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


@contextmanager
def broker_url(name: str, need: Callable[[bool, str], None]) -> Iterator[str]:
    """Start a broker; skip, or fail in CI, where it is not to be had."""
    with server_url(context_matrix.BROKERS[name], need) as found:
        yield found


@contextmanager
def server_url(make: Callable[[], Any], need: Callable[[bool, str], None]) -> Iterator[str]:
    """Start any server, in the same way."""
    try:
        server = make()
    except ServerUnavailable as error:
        need(False, str(error))
        raise
    with server:
        yield server.url


@contextmanager
def instrumented(name: str, **settings: Any) -> Iterator[Captured]:
    """Only one library is on, and nothing of its last message is left afterwards."""
    with capturing(**settings) as captured:
        assert name in tracing.instrument(name)
        try:
            yield captured
        finally:
            while (delivery := current_delivery()) is not None:
                finished(delivery.source)
            gc.collect()  # ends what tasks had got that are no more
            tracing.uninstrument()


def from_gateway() -> Any:
    """A request as a gateway passes it on: all that it knows of tracing is `X-Trace-ID`."""
    return tracing.extracted({"X-Trace-ID": GATEWAY_TRACE_ID})


def producers(captured: Captured) -> list[dict[str, Any]]:
    """The spans of what was sent."""
    return [span for span in captured.spans if span["span_kind"] == "PRODUCER"]


def ids(spans: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What a link to each of them says; also of links themselves."""
    return [(span["trace_id"], span["span_id"]) for span in spans]
