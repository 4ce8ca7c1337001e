"""Bound fields and the current ids: where they hold, and that they end where they should."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tracing
from tracing import context, health
from tracing.context import FIELD_CHARS_MAX, FIELDS_MAX, get_fields
from tracing.current import current
from tracing.testing import Captured, capturing

log = logging.getLogger("app")


@pytest.fixture(autouse=True)
def nothing_bound() -> Iterator[None]:
    """Each test begins and ends with nothing bound and nothing declared."""
    yield
    context.fields_variable.set(context.NO_FIELDS)
    context.declared.kinds.clear()
    context.declared.baggage = frozenset()


def test_bound_fields_are_on_every_line_and_span(tracing_capture: Captured) -> None:
    """On those that follow, until they are unbound; a call's own word goes before them."""
    tracing.bind(tenant="acme", order=7)
    log.info("placed", extra={"order": 8})
    with tracing.span("charge", order=9):
        log.info("charging")
    tracing.unbind("order", "never bound")
    log.info("done")
    placed, charging, done = tracing_capture.logs
    assert placed["attributes"] == {"tenant": "acme", "order": 8}
    assert charging["attributes"] == {"tenant": "acme", "order": 7}
    assert done["attributes"] == {"tenant": "acme"}
    assert tracing_capture.span("charge")["attributes"] == {"tenant": "acme", "order": 9}


def test_binding_inside_a_span_is_seen_on_the_span(tracing_capture: Captured) -> None:
    """What is learnt on the way belongs to the work that learnt it."""
    with tracing.span("charge"):
        tracing.bind(customer="c-1")
    assert tracing_capture.span("charge")["attributes"] == {"customer": "c-1"}


def test_a_block_takes_back_exactly_its_fields() -> None:
    """What was bound inside stays, what was hidden comes back."""
    tracing.bind(a=1)
    with tracing.bound(a=2, b=3):
        tracing.bind(c=4)
        assert get_fields() == {"a": 2, "b": 3, "c": 4}
    assert get_fields() == {"a": 1, "c": 4}


def test_a_field_that_was_bound_anew_inside_is_left_alone() -> None:
    """The program's later word counts."""
    with tracing.bound(a=2):
        tracing.bind(a=3)
    assert get_fields() == {"a": 3}


def test_a_generator_closed_early_takes_nothing_of_others_along(caplog: pytest.LogCaptureFixture) -> None:
    """The block is left in the context of whoever closes it."""

    def numbers() -> Iterator[int]:
        with tracing.bound(inner=1):
            yield 1
            yield 2

    generator = numbers()
    next(generator)
    tracing.bind(outer=2)
    generator.close()
    assert get_fields() == {"outer": 2}
    assert not caplog.records


def test_an_async_generator_closed_in_another_task_logs_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """ "Failed to detach context" floods the logs of those who use tokens (open-telemetry #2606)."""

    async def numbers() -> AsyncIterator[int]:
        async with tracing.bound(inner=1), tracing.span("numbers"):
            yield 1
            yield 2

    async def main() -> None:
        generator = numbers()
        await anext(generator)
        await asyncio.create_task(generator.aclose())  # type: ignore[attr-defined]

    with capturing():
        asyncio.run(main())
    assert not caplog.records


def test_tasks_do_not_see_each_others_fields() -> None:
    """1 000 at once, each with its own."""

    async def task(number: int) -> None:
        tracing.bind(number=number)
        await asyncio.sleep(0)
        with tracing.bound(inner=number):
            await asyncio.sleep(0)
            assert get_fields() == {"number": number, "inner": number}
        assert get_fields() == {"number": number}

    async def main() -> None:
        await asyncio.gather(*(task(number) for number in range(1000)))

    asyncio.run(main())
    assert get_fields() == {}


def test_limits_are_kept_and_counted() -> None:
    """Fields are on every line, so there are few and short ones."""
    before = health.counts["fields_over_limit"]
    tracing.bind(**{f"field{number}": number for number in range(FIELDS_MAX + 3)})
    assert len(get_fields()) == FIELDS_MAX
    assert health.counts["fields_over_limit"] == before + 3
    tracing.bind(field0="x" * 5000)
    assert len(get_fields()["field0"]) < FIELD_CHARS_MAX + 64


def test_a_declared_field_has_its_type() -> None:
    """A value of another type is converted; one that cannot be is kept and counted."""
    tracing.declare("order", int)
    tracing.bind(order="7")
    assert get_fields()["order"] == 7
    before = health.counts["field_of_wrong_type"]
    tracing.bind(order="seven")
    assert get_fields()["order"] == "seven"
    assert health.counts["field_of_wrong_type"] == before + 1


def test_the_registry_shows_the_fields() -> None:
    """Programs that use contextvars-extras see ours as one of their variables."""
    with tracing.bound(a=1):
        assert dict(current.fields) == {"a": 1}
        assert "fields" in dict(current)


def test_odd_values_do_no_harm(tracing_capture: Captured) -> None:
    """What JSON cannot say, and what cannot even be printed."""

    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    tracing.bind(odd=Odd(), big=2**80, text="lone \ud800")
    log.info("hello")
    attributes = tracing_capture.logs[0]["attributes"]
    assert attributes["odd"] == "<unprintable Odd: RuntimeError>"
    assert attributes["big"] == str(2**80)


def test_the_current_ids(tracing_capture: Captured) -> None:
    """None outside, and never zeroes."""
    assert tracing.current_trace_id() is None and tracing.current_span_id() is None
    with tracing.span("a"):
        assert tracing.current_trace_id() == f"{1:032x}"
        assert tracing.current_span_id() == f"{1:016x}"
        with tracing.span("b"):
            assert tracing.current_span_id() == f"{2:016x}"
        assert tracing.current_span_id() == f"{1:016x}"
    assert tracing.current_trace_id() is None


def test_a_task_that_outlives_its_parent_s_span_is_still_in_it(tracing_capture: Captured) -> None:
    """Fire and forget: what was started inside belongs there, whenever it runs."""

    async def main() -> None:
        async def later() -> str | None:
            await asyncio.sleep(0)
            return tracing.current_span_id()

        with tracing.span("parent"):
            task = asyncio.create_task(later())
        assert tracing.current_span_id() is None
        assert await task == f"{1:016x}"

    asyncio.run(main())


def test_a_chain_of_tasks_keeps_nothing(tracing_capture: Captured) -> None:
    """Each started inside the span of the one before, for ever."""
    seen: list[weakref.ref[Any]] = []

    async def link(number: int) -> None:
        with tracing.span("link") as span:
            seen.append(weakref.ref(span))
            if number:
                await asyncio.create_task(link(number - 1)) if number > 95 else asyncio.create_task(
                    link(number - 1)
                )

    async def main() -> None:
        await link(100)
        while len(seen) < 101:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()
        assert sum(one() is not None for one in seen[:90]) == 0

    asyncio.run(main())


operations = st.lists(
    st.tuples(st.sampled_from(["enter", "leave", "leave an older one"]), st.integers(0, 5)), max_size=30
)


@given(operations)
def test_scopes_left_in_any_order_leave_nothing_behind(steps: list[tuple[str, int]]) -> None:
    """The current span is always the youngest one whose scope is open; in the end there is none."""
    with capturing():
        open_scopes: list[Any] = []
        for step, which in steps:
            if step == "enter":
                scope = tracing.span(f"span {which}")
                open_scopes.append((scope, scope.__enter__()))
            elif open_scopes:
                index = -1 if step == "leave" else which % len(open_scopes)
                scope, _ = open_scopes.pop(index)
                scope.__exit__(None, None, None)
            expected = f"{open_scopes[-1][1].get_span_context().span_id:016x}" if open_scopes else None
            assert tracing.current_span_id() == expected
        for scope, _ in open_scopes:
            scope.__exit__(None, None, None)
        assert tracing.current_span_id() is None
