"""The rules for queues inside a process, one by one."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tracing
from tracing.handoff.deliveries import BESIDE
from tracing.testing import Captured

DEADLINE_S = 30


@pytest.fixture(autouse=True)
def handed_over(tracing_capture: Captured) -> Iterator[None]:
    """With the hand-offs on, and off again."""
    tracing.instrument("queues", "asyncio-queues", "threads")
    yield
    tracing.uninstrument()


def put(source: Any, *items: Any) -> list[str]:
    """Put each item inside a span of its own; the spans' ids."""
    ids = []
    for item in items:
        with tracing.span(f"request {item}"):
            ids.append(tracing.current_span_id() or "")
            source.put(item)
    return ids


def in_worker(function: Callable[[], Any]) -> Any:
    """Call a function in a thread that nothing is current in, and give back what it returns."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join(DEADLINE_S)
    [result] = found
    return result


def test_an_item_s_context_lasts_until_the_next_get() -> None:
    """And ends before that waits: what the worker does while there is nothing belongs to nobody."""
    errands: queue.Queue[str] = queue.Queue()
    first, second = put(errands, "a", "b")

    def work() -> list[Any]:
        seen: list[Any] = [tracing.current_span_id()]
        for _ in range(2):
            errands.get()
            seen.append(tracing.current_span_id())
        with pytest.raises(queue.Empty):
            errands.get(timeout=0.001)
        seen.append(tracing.current_span_id())
        return seen

    assert in_worker(work) == [None, first, second, None]


def test_it_ends_with_task_done_of_the_same_queue() -> None:
    """Of another queue says nothing about this item."""
    errands: queue.Queue[str] = queue.Queue()
    other: queue.Queue[str] = queue.Queue()
    other.put("without a context")
    [first] = put(errands, "a")

    def work() -> list[Any]:
        other.get()
        errands.get()
        other.task_done()
        seen = [tracing.current_span_id()]
        errands.task_done()
        return [*seen, tracing.current_span_id()]

    assert in_worker(work) == [first, None]


def test_a_getter_with_a_span_of_its_own_keeps_that() -> None:
    """It asked for something; what comes does not take its place. Once the span has ended, it may."""
    results: queue.Queue[str] = queue.Queue()
    first, second = put(results, "a", "b")
    with tracing.span("own") as own:
        mine = tracing.current_span_id()
        results.get()
        assert tracing.current_span_id() == mine != first
        own.end()
        results.get()
        assert tracing.current_span_id() == second
        results.task_done()
        assert tracing.current_span_id() == mine


def test_a_span_inside_an_item_s_context_keeps_it_underneath() -> None:
    """A worker's own span is a child of the item's; getting something else inside it ends nothing."""
    errands: queue.Queue[str] = queue.Queue()
    results: queue.Queue[str] = queue.Queue()
    [first] = put(errands, "a")
    put(results, "b")

    def work() -> list[Any]:
        errands.get()
        with tracing.span("work"):
            mine = tracing.current_span_id()
            results.get()
            inside = tracing.current_span_id()
        return [inside == mine, tracing.current_span_id()]

    assert in_worker(work) == [True, first]


def test_what_a_worker_began_with_is_not_its_own() -> None:
    """A worker that a request started, while that goes on, works for other requests, too."""
    errands: queue.Queue[str] = queue.Queue()
    [first] = put(errands, "a")

    def work() -> list[Any]:
        seen = [tracing.current_span_id()]
        errands.get()
        seen.append(tracing.current_span_id())
        errands.task_done()
        return [*seen, tracing.current_span_id()]

    with tracing.span("starts the worker"):
        starter = tracing.current_span_id()
        assert in_worker(work) == [starter, first, starter]


def test_that_a_span_was_handed_over_is_not_known_where_it_was_entered() -> None:
    """A copy of the span's context gets items as nobody's; the span's own goes on to keep what it has."""
    source: queue.Queue[str] = queue.Queue()
    with tracing.span("other"):
        source.put("first")
        source.put("second")
        source.put("third")
        others = tracing.current_span_id()
    with tracing.span("own"):
        copied = contextvars.copy_context()
        for _ in range(2):  # the second time the answer is remembered
            copied.run(source.get)
            assert copied.run(tracing.current_span_id) == others
        own = tracing.current_span_id()
        source.get()
        assert tracing.current_span_id() == own != others


def test_tasks_that_a_request_started_work_for_others() -> None:
    """The same on an event loop, where a task begins with a copy of everything."""

    async def main() -> list[Any]:
        errands: asyncio.Queue[str] = asyncio.Queue()
        seen: list[Any] = []

        async def worker() -> None:
            await errands.get()
            seen.append(tracing.current_span_id())
            errands.task_done()
            seen.append(tracing.current_span_id())

        with tracing.span("starts the worker"):
            starter = tracing.current_span_id()
            task = asyncio.create_task(worker())
            await asyncio.sleep(0)
            with tracing.span("request"):
                sender = tracing.current_span_id()
                errands.put_nowait("a")
            await task
        return [seen, [sender, starter]]

    seen, expected = asyncio.run(main())
    assert seen == expected


@pytest.mark.parametrize("kind", [queue.LifoQueue, queue.SimpleQueue])
def test_pools_of_connections_carry_nothing(kind: Any) -> None:
    """A connection that was put back inside one request is nobody's in the next."""
    pool = kind()
    put(pool, "connection")

    def work() -> str | None:
        pool.get()
        return tracing.current_span_id()

    assert in_worker(work) is None


def test_a_connection_taken_while_an_item_is_worked_on_ends_nothing() -> None:
    """The LIFO queue of a pool is no queue of work."""
    errands: queue.Queue[str] = queue.Queue()
    pool: queue.LifoQueue[str] = queue.LifoQueue()
    pool.put("connection")
    [first] = put(errands, "a")

    def work() -> str | None:
        errands.get()
        pool.get()
        return tracing.current_span_id()

    assert in_worker(work) == first


def test_bound_fields_travel_and_are_put_back() -> None:
    """Beside the ids."""
    errands: queue.Queue[str] = queue.Queue()
    with tracing.bound(order=7):
        errands.put("a")

    def work() -> list[Any]:
        from tracing.context import get_fields

        tracing.bind(worker=1)
        errands.get()
        inside = dict(get_fields())
        errands.task_done()
        return [inside, dict(get_fields())]

    assert in_worker(work) == [{"order": 7}, {"worker": 1}]


@given(st.lists(st.integers(0, 5), max_size=30))
def test_order_and_content_are_as_they_were(items: list[int]) -> None:
    """What `q.queue` shows, and what a priority queue gives first; the same object may be there twice."""
    plain: queue.Queue[int] = queue.Queue()
    ordered: queue.PriorityQueue[int] = queue.PriorityQueue()
    for source in (plain, ordered):
        put(source, *items)
    assert list(plain.queue) == items
    assert [plain.get() for _ in items] == items
    assert [ordered.get() for _ in items] == sorted(items)
    ordered.task_done() if items else None


def test_the_same_object_twice_has_both_contexts_in_turn() -> None:
    """Sentinels and small numbers are one object wherever they come from."""
    errands: queue.Queue[None] = queue.Queue()
    errands.put(None)
    ids = put(errands, None)
    errands.put(None)
    ids = [None, *ids, None, *put(errands, None)]  # type: ignore[list-item]

    def work() -> list[Any]:
        seen = []
        for _ in ids:
            errands.get()
            seen.append(tracing.current_span_id())
        return seen

    assert in_worker(work) == ids


def test_items_taken_out_behind_the_queue_s_back_leave_no_context() -> None:
    """A program may clear what a queue holds; a later item is not mistaken for one that was there."""
    errands: queue.Queue[Any] = queue.Queue()
    put(errands, None, *range(1000))
    errands.queue.clear()
    errands.put(None)
    assert in_worker(lambda: (errands.get(), tracing.current_span_id())) == (None, None)
    for _ in range(1000):
        with tracing.span("request"):
            errands.put(object())
            errands.queue.clear()
    assert len(errands.__dict__[BESIDE]) <= 1


def test_a_queue_that_is_full_or_closed_for_the_item_keeps_no_context() -> None:
    """What never got in is not remembered."""
    errands: queue.Queue[str] = queue.Queue(maxsize=1)
    put(errands, "a")
    with tracing.span("refused"), pytest.raises(queue.Full):
        errands.put_nowait("b")
    assert len(errands.__dict__[BESIDE]) == 1


def test_removal_puts_the_queues_back() -> None:
    """And what is still under way is got without its context."""
    errands: queue.Queue[str] = queue.Queue()
    put(errands, "a")
    tracing.uninstrument()
    for owner in (queue.Queue, queue.PriorityQueue):
        assert owner._put.__module__ == owner._get.__module__ == "queue"  # type: ignore[attr-defined]
    assert queue.Queue.get.__module__ == queue.Queue.task_done.__module__ == "queue"
    assert asyncio.Queue.get.__module__ == asyncio.Queue._put.__module__ == "asyncio.queues"  # type: ignore[attr-defined]
    assert asyncio.wait_for.__module__ == asyncio.tasks.wait_for.__module__ == "asyncio.tasks"
    assert in_worker(lambda: (errands.get(), tracing.current_span_id())) == ("a", None)
