"""What the matrix does not show: batches, consumers with a span of their own, peers without the library."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from opentelemetry import baggage
from redis.commands.core import StreamCommands

import tracing
from tracing.handoff.deliveries import current_delivery
from tracing.instrumentation.messaging import finished, looped, processing, received
from tracing.propagation import messages
from tracing.testing import Captured, capturing

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "deploy" / "dev"))

from devservers import ServerUnavailable  # found by the line above
from devservers.redis import Redis


@pytest.fixture(scope="module")
def client(need: Callable[[bool, str], None]) -> Iterator[Any]:
    """A client of a real server."""
    try:
        server = Redis()
    except ServerUnavailable as error:
        need(False, str(error))
        raise
    with server:
        yield redis.Redis.from_url(server.url)


@pytest.fixture
def captured() -> Iterator[Captured]:
    """With streams instrumented, and put back."""
    with capturing() as lines:
        tracing.instrument("redis")
        yield lines
        finished(None)
        gc.collect()  # ends what tasks had got that are no more
        tracing.uninstrument()


def add(client: Any, stream: str, count: int) -> None:
    """Add entries, each inside a request of its own."""
    for number in range(count):
        with tracing.span(f"request {number}"):
            client.xadd(stream, {"order": number})


def producers(captured: Captured) -> list[dict[str, Any]]:
    """The spans of what was sent."""
    return [span for span in captured.spans if span["span_kind"] == "PRODUCER"]


def test_a_batch_has_one_span_with_links_to_every_producer(client: Any, captured: Captured) -> None:
    """In a trace of its own: it belongs to none of them more than to the others."""
    add(client, "batch", 3)
    client.xread({"batch": "0"})
    inside = tracing.current_span_id()
    assert client.xread({"batch": "$"}) == [], "the next read ends it"
    assert tracing.current_span_id() is None
    sent, batch = producers(captured), captured.span("process batch")
    assert [(link["trace_id"], link["span_id"]) for link in batch["links"]] == [
        (span["trace_id"], span["span_id"]) for span in sent
    ]
    assert batch["span_id"] == inside and batch["trace_id"] not in {span["trace_id"] for span in sent}
    assert batch["attributes"]["messaging.batch.message_count"] == 3 and batch["span_kind"] == "CONSUMER"


def test_one_message_is_a_child_of_its_producer(client: Any, captured: Captured) -> None:
    """And the producer's span one of the request's."""
    add(client, "single", 1)
    client.xread({"single": "0"})
    client.xread({"single": "$"})
    [sent] = producers(captured)
    consumer, request = captured.span("process single"), captured.span("request 0")
    assert consumer["parent_span_id"] == sent["span_id"] and sent["parent_span_id"] == request["span_id"]
    assert consumer["trace_id"] == sent["trace_id"] == request["trace_id"]


def test_a_consumer_with_a_span_of_its_own_gets_links(client: Any, captured: Captured) -> None:
    """It asked for something; what comes does not take its place."""
    add(client, "asked", 2)
    with tracing.span("own"):
        mine = tracing.current_span_id()
        client.xread({"asked": "0"})
        assert tracing.current_span_id() == mine
    links = captured.span("own")["links"]
    assert [link["span_id"] for link in links] == [span["span_id"] for span in producers(captured)]


def test_a_consumer_without_the_library_reads_the_message(client: Any, captured: Captured) -> None:
    """The program's fields are as they were sent; ours alone come beside them."""
    add(client, "old", 1)
    tracing.uninstrument()
    [[_, [[_, fields]]]] = client.xread({"old": "0"})
    assert fields.pop(b"order") == b"0" and set(fields) <= {b"traceparent", b"X-Trace-ID"}
    tracing.instrument("redis")
    [[_, [[_, fields]]]] = client.xread({"old": "0"})
    assert fields == {b"order": b"0"}


def test_a_message_of_a_producer_without_the_library_begins_a_trace(client: Any, captured: Captured) -> None:
    """And nothing is missing from it."""
    tracing.uninstrument()
    client.xadd("foreign", {"order": 1})
    tracing.instrument("redis")
    [[_, [[_, fields]]]] = client.xread({"foreign": "0"})
    assert fields == {b"order": b"1"} and tracing.current_trace_id() is not None
    client.xread({"foreign": "$"})
    assert "parent_span_id" not in captured.span("process foreign")


def test_removal_puts_the_commands_back(captured: Captured) -> None:
    """Each is the library's own again."""
    tracing.uninstrument()
    for name in ("xadd", "xread", "xreadgroup"):
        assert not hasattr(getattr(StreamCommands, name), "__wrapped__")


def test_another_source_does_not_end_a_message(captured: Captured) -> None:
    """Who works on a message may ask for others, which become links; its own source ends it."""
    headers = [
        {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"},
        {"traceparent": f"00-{'c' * 32}-{'d' * 16}-01"},
    ]
    received("kafka", "orders", headers[:1], "consumer")
    inside = tracing.current_span_id()
    finished("another consumer")
    received("redis", "replies", headers[1:], "another consumer")
    assert tracing.current_span_id() == inside
    finished("consumer")
    assert tracing.current_span_id() is None and current_delivery() is None
    [link] = captured.span("process orders")["links"]
    assert link["trace_id"] == "c" * 32


def test_a_message_ends_with_the_thread_or_the_task_that_got_it(captured: Captured) -> None:
    """A loop may end without asking for more, and what it has started goes on in the message's trace."""

    def last(destination: str) -> None:
        received("redis", destination, [{}], "source")
        assert tracing.current_span_id() is not None

    thread = threading.Thread(target=last, args=("thread",))
    thread.start()
    thread.join()
    assert captured.span("process thread")

    async def main() -> None:
        release = asyncio.Event()

        async def later() -> None:
            await release.wait()
            with tracing.span("later"):
                pass

        async def work() -> asyncio.Task[None]:
            last("task")
            return asyncio.create_task(later())

        started = await asyncio.create_task(work())
        release.set()
        await started

    asyncio.run(main())
    assert captured.span("later")["parent_span_id"] == captured.span("process task")["span_id"]


def test_a_loop_that_is_left_ends_its_message(captured: Captured) -> None:
    """By `break`, by an exception or by the last message."""
    closed: list[bool] = []

    def consume() -> Iterator[str]:
        try:
            yield from "abc"
        finally:
            closed.append(True)

    for _ in looped(consume(), "source", lambda item: received("kafka", item, [{}], "source")):
        assert tracing.current_span_id() is not None
        break
    assert tracing.current_span_id() is None and closed == [True]
    assert captured.span("process a")


def test_an_exception_of_a_callback_is_on_the_span_and_passes_on(captured: Captured) -> None:
    """Whatever the headers are."""
    with pytest.raises(ZeroDivisionError), processing("rabbitmq", "orders", {"traceparent": 7, 5: object()}):
        1 / 0
    assert captured.span("process orders")["level"] == "ERROR"
    assert tracing.current_span_id() is None


def test_a_callback_has_only_the_baggage_of_its_message(captured: Captured) -> None:
    """Not that of the request in which the thread or the task was started that calls it."""
    with tracing.extracted({"baggage": "tenant=startup"}):
        with processing("mqtt", "orders", {"baggage": "kind=order"}):
            assert baggage.get_all() == {"kind": "order"}
        with processing("mqtt", "orders", None):
            assert baggage.get_all() == {}
        assert baggage.get_all() == {"tenant": "startup"}


@pytest.mark.parametrize("body", [b"", b"plain", b"\xffBTM1", b"\xffBTM1\x00\x05nonsense", b"{}"])
def test_an_envelope_is_opened_and_everything_else_is_left_alone(captured: Captured, body: bytes) -> None:
    """A subscriber may get both, while producers are changed one after the other."""
    assert messages.unwrap(body) == (body, {})
    with tracing.span("request"):
        here = tracing.current_trace_id()
        wrapped = messages.wrap(body)
    opened, headers = messages.unwrap(wrapped)
    assert opened == body
    with tracing.extracted(headers):
        assert tracing.current_trace_id() == here


def test_headers_of_a_message_that_is_passed_on_are_replaced(captured: Captured) -> None:
    """The program's own stay, in their order; the trace is named once."""
    old = [("traceparent", b"old"), ("kind", b"order"), ("X-Trace-Id", b"old")]
    with tracing.span("request"):
        told = messages.told_pairs(old)
        mapping = messages.told_mapping({"TraceParent": "old", "kind": 1})
        here = f"00-{tracing.current_trace_id()}-{tracing.current_span_id()}-01"
    assert told[0] == ("kind", b"order") and dict(told)["traceparent"] == here.encode() and len(told) == 3
    assert mapping["traceparent"] == here and mapping["kind"] == 1 and "TraceParent" not in mapping
    assert old[0] == ("traceparent", b"old")


def test_a_frame_is_added_and_taken_off(captured: Captured) -> None:
    """At the end, and only in a trace; what nobody added is not taken off, nor an envelope with a body."""
    frames = [b"topic", b"", b"body"]
    assert messages.told_frames(frames) == frames == messages.open_frames(frames)[0]
    with tracing.span("request"):
        told = messages.told_frames(iter(frames))
        wrapped = [b"topic", messages.wrap(b"body")]
    assert told[:3] == frames and len(told) == 4
    opened, headers = messages.open_frames(told)
    assert opened == frames and tracing.extract(headers)
    assert messages.open_frames(wrapped) == (wrapped, {})
    assert messages.open_frames([]) == ([], {})
