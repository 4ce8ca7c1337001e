"""Threads and executors: what is current goes along, and nothing else changes."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import threading
import traceback
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
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
    assert own.__dict__.keys() == threading.Thread().__dict__.keys(), "the thread is as it was"


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
    variable: ContextVar[str] = ContextVar("variable", default="default")
    variable.set("caller's")
    seen: list[str] = []
    with tracing.span("parent"):
        thread = threading.Thread(target=lambda: seen.append(variable.get()))
        thread.start()
        thread.join()
    assert seen == ["default"]


def test_errors_of_start_are_the_program_s(tracing_capture: Captured) -> None:
    """Started twice."""
    with tracing.span("parent"):
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        with pytest.raises(RuntimeError, match="once"):
            thread.start()


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


def _all_that_is_shown() -> list[str]:
    """Stacks and tracebacks of a thread, a timer and an executor, as the program's own handlers see them."""
    shown: list[str] = []

    def fail(depth: int = 1) -> None:
        shown.extend(traceback.format_stack())
        shown.append(str(inspect.stack()[1].function))
        if depth:
            fail(depth - 1)
        raise ZeroDivisionError("the program's own")

    def hook(arguments: Any) -> None:
        shown.extend(traceback.format_exception(arguments.exc_value))

    before, threading.excepthook = threading.excepthook, hook
    try:
        for thread in (threading.Thread(target=fail), threading.Timer(0, fail)):
            thread.start()
            thread.join()
    finally:
        threading.excepthook = before
    executor = ThreadPoolExecutor(1)
    works: list[tuple[Callable[..., Any], dict[str, Any]]] = [(fail, {"depth": 2}), (int, {"wrong": 1})]
    for function, arguments in works:
        error = executor.submit(function, **arguments).exception()
        assert error is not None
        shown.extend(traceback.format_exception(error))
    error = executor.submit(5).exception()  # type: ignore[arg-type]
    assert error is not None
    shown.extend(traceback.format_exception(error))
    executor.shutdown()
    try:
        executor.submit(fail)
    except RuntimeError as refused:
        shown.extend(traceback.format_exception(refused))
    return shown


def test_no_frame_of_ours_is_shown(tracing_capture: Captured) -> None:
    """Neither in tracebacks, nor in stacks, nor when there is nothing to hand on."""
    with_us = []
    for fields in ({"a": 1}, {}):
        with tracing.bound(**fields):
            with_us.append(_all_that_is_shown())
    tracing.uninstrument()
    with tracing.bound(a=1):
        without = _all_that_is_shown()
    # The call itself is on another line of this test.
    texts = ["".join(shown).replace("with_us.append(_all", "without = _all").split("\n") for shown in with_us]
    expected = "".join(without).split("\n")
    for text in texts:
        assert [line for line in text if "in test_no_frame" not in line and "_all_that" not in line] == [
            line for line in expected if "in test_no_frame" not in line and "_all_that" not in line
        ]


def test_a_context_of_the_program_s_own_is_what_its_work_runs_in(tracing_capture: Captured) -> None:
    """What work sets on a worker stays there for the next, as without us."""
    variable: ContextVar[str] = ContextVar("variable", default="default")
    executor = ThreadPoolExecutor(1, initializer=variable.set, initargs=("worker's",))
    with executor, tracing.span("parent"):
        assert executor.submit(variable.get).result() == "worker's"
        executor.submit(variable.set, "set by work").result()
        assert executor.submit(variable.get).result() == "set by work"
        assert executor.submit(tracing.current_span_id).result() == f"{1:016x}"


def test_work_inside_work(tracing_capture: Captured) -> None:
    """Work that submits work to its own executor, and calls what it was given more than once."""

    def outer(executor: ThreadPoolExecutor) -> tuple[str | None, str | None, str | None]:
        before = tracing.current_span_id()
        with tracing.span("outer"):
            inner = executor.submit(tracing.current_span_id).result()
        return before, inner, tracing.current_span_id()

    with ThreadPoolExecutor(2) as executor, tracing.span("parent"):
        assert executor.submit(outer, executor).result() == (f"{1:016x}", f"{2:016x}", f"{1:016x}")


def test_a_thread_leaves_nothing_behind(tracing_capture: Captured) -> None:
    """No cycle: what it held goes when it is let go of."""

    class Kept:
        pass

    kept = Kept()
    gone = weakref.ref(kept)
    gc.disable()
    try:
        with tracing.span("parent"):
            thread = threading.Thread(target=id, args=(kept,))
            thread.start()
            thread.join()
        del kept, thread
        assert gone() is None
    finally:
        gc.enable()


def test_removal_puts_the_methods_back() -> None:
    """And a wrapper of somebody else's, put on top of ours, is left where it is."""
    ours = ThreadPoolExecutor.submit

    def theirs(self: ThreadPoolExecutor, /, *args: Any, **kwargs: Any) -> Any:
        return ours(self, *args, **kwargs)

    ThreadPoolExecutor.submit = theirs  # type: ignore[method-assign, assignment]
    try:
        tracing.uninstrument()
        assert ThreadPoolExecutor.submit is theirs
        with tracing.span("nobody listens"), ThreadPoolExecutor(1) as executor:
            assert executor.submit(tracing.current_span_id).result() is None
        tracing.instrument("executors")
    finally:
        ThreadPoolExecutor.submit = ours  # type: ignore[method-assign]
    tracing.uninstrument()
    assert threading.Thread.__dict__["_bootstrap"].__module__ == "threading"
    assert ThreadPoolExecutor.submit.__module__.startswith("concurrent.futures")
    assert not any(handoff.on for handoff in HANDOFFS.values())
