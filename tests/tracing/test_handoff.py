"""Threads and executors: what is current goes along, and nothing else changes."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import trace

import tracing
from tracing.context import NO_FIELDS, get_fields
from tracing.handoff import HANDOFFS
from tracing.testing import Captured

log = logging.getLogger("app")


@pytest.fixture(autouse=True)
def handed_over() -> Iterator[None]:
    """With the hand-offs on, and off again."""
    tracing.instrument("threads", "executors")
    yield
    tracing.uninstrument()


def test_a_thread_begins_where_it_was_started(tracing_capture: Captured) -> None:
    """With the span and the fields; its own spans are children."""

    def work() -> None:
        log.info("in the thread")
        with tracing.span("child"):
            pass

    with tracing.bound(tenant="acme"), tracing.span("parent"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    parent = tracing_capture.span("parent")
    assert tracing_capture.logs[0]["span_id"] == parent["span_id"]
    assert tracing_capture.logs[0]["attributes"] == {"tenant": "acme"}
    assert tracing_capture.span("child")["parent_span_id"] == parent["span_id"]


def test_subclasses_and_timers(tracing_capture: Captured) -> None:
    """A thread whose class has a `run` of its own."""
    seen: list[str | None] = []

    class Own(threading.Thread):
        def run(self) -> None:
            seen.append(tracing.current_span_id())

    with tracing.span("parent"):
        own, timer = Own(), threading.Timer(0, lambda: seen.append(tracing.current_span_id()))
        for thread in (own, timer):
            thread.start()
            thread.join()
    assert seen == [f"{1:016x}"] * 2
    assert "run" not in own.__dict__, "the thread is as it was"


def test_submit_and_map(tracing_capture: Captured) -> None:
    """What an executor runs belongs to who submitted it, and its workers forget it."""
    with ThreadPoolExecutor(1) as executor:
        with tracing.span("first"):
            first = executor.submit(tracing.current_span_id).result()
            mapped = list(executor.map(lambda _: tracing.current_span_id(), range(3)))
        outside = executor.submit(tracing.current_span_id).result()
        with tracing.bound(a=1):
            fields = executor.submit(lambda: dict(get_fields())).result()
        none = executor.submit(get_fields).result()
    assert first == f"{1:016x}" and mapped == [first] * 3
    assert outside is None and fields == {"a": 1} and none is NO_FIELDS


def test_a_worker_that_was_started_inside_a_request_does_not_keep_it(tracing_capture: Captured) -> None:
    """Executors start their threads when work comes, which is inside somebody's request."""
    with ThreadPoolExecutor(2) as executor:
        with tracing.span("request"):
            executor.submit(int).result()
        assert executor.submit(tracing.current_span_id).result() is None


def test_a_thousand_contexts_never_mix(tracing_capture: Captured) -> None:
    """On a few threads."""
    with ThreadPoolExecutor(8) as executor:
        futures = []
        for _ in range(1000):
            with tracing.span("request"):
                expected = tracing.current_span_id()
                futures.append((expected, executor.submit(tracing.current_span_id)))
        for expected, future in futures:
            assert future.result() == expected


def test_exceptions_pass_and_the_worker_goes_on(tracing_capture: Captured) -> None:
    """The future has the program's exception, and the next piece of work its own context."""
    with ThreadPoolExecutor(1) as executor, tracing.span("parent"):
        with pytest.raises(ZeroDivisionError):
            executor.submit(lambda: 1 / 0).result()
        assert executor.submit(tracing.current_span_id).result() == f"{1:016x}"


def test_other_context_variables_stay_as_they_were(tracing_capture: Captured) -> None:
    """A thread begins with an empty context, and the program may rely on it."""
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="default")
    variable.set("caller's")
    seen: list[str] = []
    with tracing.span("parent"):
        thread = threading.Thread(target=lambda: seen.append(variable.get()))
        thread.start()
        thread.join()
    assert seen == ["default"]


def test_errors_of_start_are_the_program_s(tracing_capture: Captured) -> None:
    """Started twice, and without anything to hand over."""
    with tracing.span("parent"):
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        with pytest.raises(RuntimeError, match="once"):
            thread.start()
        assert "run" not in thread.__dict__


def test_a_scope_of_opentelemetry_s_that_is_left_elsewhere_logs_no_error(
    tracing_capture: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    """Instrumentations use its scopes inside generators, which are closed by whoever holds them."""

    async def stream() -> AsyncIterator[int]:
        with trace.use_span(tracing.get_tracer("lib").start_span("stream"), end_on_exit=True):
            yield 1

    async def main() -> None:
        generator = stream()
        await anext(generator)
        await asyncio.create_task(generator.aclose())  # type: ignore[attr-defined]

    tracing.instrument("generators")
    asyncio.run(main())
    assert tracing_capture.span("stream")
    assert "Failed to detach" not in caplog.text
    tracing.uninstrument()
    asyncio.run(main())
    assert "Failed to detach" in caplog.text, "else the test above proves nothing"


def test_removal_puts_the_methods_back() -> None:
    """And a wrapper of somebody else's, put on top of ours, is left where it is."""
    ours = threading.Thread.start

    def theirs(self: threading.Thread) -> None:
        ours(self)

    threading.Thread.start = theirs  # type: ignore[method-assign]
    try:
        tracing.uninstrument()
        assert threading.Thread.start is theirs
        with tracing.span("nobody listens"):
            seen: queue.Queue[Any] = queue.Queue()
            thread = threading.Thread(target=lambda: seen.put(tracing.current_span_id()))
            thread.start()
            thread.join()
            assert seen.get() is None
        tracing.instrument("threads")
    finally:
        threading.Thread.start = ours  # type: ignore[method-assign]
    tracing.uninstrument()
    assert threading.Thread.start.__module__ == "threading"
    assert ThreadPoolExecutor.submit.__module__.startswith("concurrent.futures")
    assert not any(handoff.on for handoff in HANDOFFS.values())
