"""`@traced` and `span()` on every kind of function, and scopes that survive generators."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import logging
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest

import tracing
from tracing.testing import Captured

log = logging.getLogger("app")


def own(captured: Captured) -> list[dict[str, Any]]:
    """The lines of this file's logger; asyncio has one too."""
    return [line for line in captured.logs if line["logger"] == "app"]


def test_a_function(tracing_capture: Captured) -> None:
    """Its span has its name and its place; the function stays itself."""

    @tracing.traced
    def charge(order: int) -> int:
        "Take money."
        return order + 1

    assert charge(6) == 7
    assert charge.__name__ == "charge" and charge.__doc__ == "Take money."
    [span] = tracing_capture.spans
    assert span["name"].endswith("charge") and span["logger"] == __name__
    assert span["attributes"]["code.file.path"] == __file__
    assert span["attributes"]["code.function.name"].startswith(f"{__name__}.")


def test_with_a_name_a_kind_and_attributes(tracing_capture: Captured) -> None:
    """What a person would rather read."""

    @tracing.traced("charge the card", kind="client", attributes={"provider": "p"})
    def charge() -> None:
        raise KeyError("k")

    with pytest.raises(KeyError):
        charge()
    span = tracing_capture.span("charge the card")
    assert (
        span["span_kind"] == "CLIENT" and span["attributes"]["provider"] == "p" and span["level"] == "ERROR"
    )


def test_methods_class_methods_partials_and_callables(tracing_capture: Captured) -> None:
    """Whatever can be called can be traced."""

    class Shop:
        @tracing.traced
        def method(self) -> int:
            return 1

        @classmethod
        @tracing.traced
        def of_class(cls) -> int:
            return 2

        @staticmethod
        @tracing.traced
        def static() -> int:
            return 3

        def __call__(self) -> int:
            return 4

    traced_partial = tracing.traced(functools.partial(max, 5))
    shop = Shop()
    found = [shop.method(), Shop.of_class(), Shop.static(), tracing.traced(shop)(), traced_partial(4)]
    assert found == [1, 2, 3, 4, 5]
    assert len(tracing_capture.spans) == 5


def test_recursion_nests(tracing_capture: Captured) -> None:
    """Each call has a span of its own."""

    @tracing.traced("down")
    def down(depth: int) -> None:
        if depth:
            down(depth - 1)

    down(2)
    inner, middle, outer = tracing_capture.spans
    assert inner["parent_span_id"] == middle["span_id"] and middle["parent_span_id"] == outer["span_id"]


def test_a_coroutine(tracing_capture: Captured) -> None:
    """The span lasts over its awaits, and tasks do not mix."""

    @tracing.traced("work")
    async def work(number: int) -> int:
        await asyncio.sleep(0)
        log.info("%d", number)
        await asyncio.sleep(0)
        return number

    async def main() -> list[int]:
        return await asyncio.gather(*(work(number) for number in range(100)))

    assert inspect.iscoroutinefunction(work)
    assert asyncio.run(main()) == list(range(100))
    assert len({span["trace_id"] for span in tracing_capture.spans}) == 100
    spans = {line["span_id"] for line in own(tracing_capture)}
    assert spans == {span["span_id"] for span in tracing_capture.spans}


def test_async_with(tracing_capture: Captured) -> None:
    """`span()` is both kinds of context manager."""

    async def main() -> None:
        async with tracing.span("outer"), tracing.span("inner"):
            await asyncio.sleep(0)

    asyncio.run(main())
    assert [span["name"] for span in tracing_capture.spans] == ["inner", "outer"]


def test_a_cancelled_task_is_no_error(tracing_capture: Captured) -> None:
    """The span ends, and says nothing bad."""

    async def main() -> None:
        @tracing.traced("work")
        async def work() -> None:
            await asyncio.sleep(60)

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert tracing_capture.span("work")["level"] == "INFO"


# ---------------------------------------------------------------- generators


@tracing.traced("numbers")
def numbers(up_to: int) -> Generator[int, Any, str]:
    """Yields, receives, and logs on the way."""
    for number in range(up_to):
        log.info("inside %d", number)
        received = yield number
        if received is not None:
            log.info("received %s", received)
    return "done"


def test_a_generator_is_inside_its_span_only_while_it_runs(tracing_capture: Captured) -> None:
    """Between two steps the caller's span is the current one."""
    with tracing.span("caller"):
        before = tracing.current_span_id()
        for _ in numbers(2):
            assert tracing.current_span_id() == before
            log.info("outside")
        assert tracing.current_span_id() == before
    inside, caller = tracing_capture.span("numbers"), tracing_capture.span("caller")
    assert inside["parent_span_id"] == caller["span_id"]
    for line in tracing_capture.logs:
        expected = caller if line["message"] == "outside" else inside
        assert line["span_id"] == expected["span_id"]


def test_a_generator_keeps_its_protocol(tracing_capture: Captured) -> None:
    """send, throw, close and the return value pass through."""
    assert inspect.isgeneratorfunction(numbers)
    generator = numbers(3)
    assert next(generator) == 0 and generator.send("hello") == 1
    with pytest.raises(KeyError):
        generator.throw(KeyError("k"))
    assert "received hello" in tracing_capture.messages
    assert tracing_capture.span("numbers")["status"]["code"] == "ERROR"

    def delegating() -> Iterator[Any]:
        result = yield from numbers(1)
        yield result

    assert list(delegating()) == [0, "done"]


def test_a_generator_that_handles_what_is_thrown(tracing_capture: Captured) -> None:
    """And one that does something in its `finally`."""
    cleaned = []

    @tracing.traced("careful")
    def careful() -> Iterator[int]:
        try:
            try:
                yield 1
            except KeyError:
                yield 2
        finally:
            cleaned.append(tracing.current_span_id())

    generator = careful()
    next(generator)
    assert generator.throw(KeyError("k")) == 2  # type: ignore[attr-defined]
    generator.close()  # type: ignore[attr-defined]
    span = tracing_capture.span("careful")
    assert cleaned == [span["span_id"]] and span["level"] == "INFO"


def test_generators_closed_early_leave_nothing_behind(
    tracing_capture: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    """By `break`, by the garbage collector, interleaved with others."""
    first, second = numbers(5), numbers(5)
    next(first)
    next(second)
    next(first)
    del first
    gc.collect()
    assert tracing.current_span_id() is None
    for _ in second:
        break
    second.close()
    assert tracing.current_span_id() is None
    assert len(tracing_capture.spans) == 2
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


@pytest.mark.parametrize("how", ["exhausted", "closed", "closed in another task", "collected", "cancelled"])
def test_an_async_generator_ends_however_it_ends(
    tracing_capture: Captured, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """No "Failed to detach context", no span left current, one span."""

    @tracing.traced("ticks")
    async def ticks() -> AsyncIterator[int]:
        for number in range(3):
            await asyncio.sleep(0)
            log.info("inside")
            yield number

    async def main() -> None:
        generator = ticks()
        with tracing.span("caller"):
            before = tracing.current_span_id()
            async for _ in generator:
                assert tracing.current_span_id() == before
                if how != "exhausted":
                    break
            if how == "closed":
                await generator.aclose()  # type: ignore[attr-defined]
            elif how == "closed in another task":
                await asyncio.create_task(generator.aclose())  # type: ignore[attr-defined]
            elif how == "cancelled":

                async def forward(numbers: AsyncIterator[int]) -> None:
                    await anext(numbers)

                task = asyncio.create_task(forward(generator))
                await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            assert tracing.current_span_id() == before
        del generator
        gc.collect()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert tracing.current_span_id() is None

    asyncio.run(main())
    span = tracing_capture.span("ticks")
    assert span["parent_span_id"] == tracing_capture.span("caller")["span_id"]
    assert all(line["span_id"] == span["span_id"] for line in own(tracing_capture))
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


def test_a_span_around_a_yield_ends_where_the_generator_is_closed(
    tracing_capture: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    """A plain `with span()` in a generator, closed in another context: open-telemetry #2606."""

    async def stream() -> AsyncIterator[int]:
        with tracing.span("stream"):
            yield 1
            yield 2

    async def main() -> None:
        generator = stream()
        await anext(generator)
        await asyncio.create_task(generator.aclose())  # type: ignore[attr-defined]
        # What was left in this task's context is a scope that has ended; nobody becomes its child.
        assert tracing.current_span_id() is None
        with tracing.span("next"):
            log.info("inside")

    asyncio.run(main())
    assert "parent_span_id" not in tracing_capture.span("next")
    assert own(tracing_capture)[0]["span_id"] == tracing_capture.span("next")["span_id"]
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


def test_the_tracer_s_own_scope_decorates_too(tracing_capture: Captured) -> None:
    """`tracer.start_as_current_span(...)` as OpenTelemetry's users know it."""
    tracer = tracing.get_tracer("lib")

    @tracer.start_as_current_span("plain")  # type: ignore[operator]
    def plain() -> None: ...

    @tracer.start_as_current_span("coroutine")  # type: ignore[operator]
    async def coroutine() -> None: ...

    plain()
    plain()
    asyncio.run(coroutine())
    assert [span["name"] for span in tracing_capture.spans] == ["plain", "plain", "coroutine"]
    with tracer.start_as_current_span("open", end_on_exit=False) as span:
        pass
    assert span.is_recording()
