"""The embedded store answers every question as the store in memory does, whatever the records are."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.model import ExceptionInfo, Record, Source, Status
from collector.store.conditions import (
    And,
    Condition,
    Equals,
    Everything,
    Exists,
    Not,
    Or,
    Range,
    Wildcard,
    Words,
)
from collector.store.embedded import EmbeddedStore, StoreLimits, calls, counting, finding, rates, windows
from collector.store.memory import MemoryStore
from collector.store.paging import place_of_trace
from collector.testing.store_samples import DAY_NS, NASTY_KEYS, NASTY_VALUES, SECOND_NS, START_NS, numbered

TRACES = [f"{n:032x}" for n in range(1, 6)]
SPANS = [f"{n:016x}" for n in range(1, 40)]
TEXTS = ("Card declined", "card_declined, twice", "Straße ½ 東京", "order-7 placed", "", "*", "a" * 300)
FIELDS = (
    *NASTY_KEYS,
    "attributes.k",
    "resource.k",
    "instance",
    "service",
    "level",
    "kind",
    "name",
    "status",
    "logger",
    "span_kind",
    "uid",
    "trace_id",
    "span_id",
    "parent_span_id",
    "exception.type",
    "exception.message",
    "message",
    "source.file",
    "source.line",
    "severity_number",
    "timestamp_ns",
    "duration_ns",
)

scalars = st.one_of(
    st.sampled_from([value for value in NASTY_VALUES if isinstance(value, str | int | float)]),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
values = st.one_of(scalars, st.sampled_from(NASTY_VALUES), st.lists(scalars, max_size=3))
attributes = st.dictionaries(st.sampled_from(NASTY_KEYS), values, max_size=3)
times = st.one_of(
    st.integers(0, 12).map(lambda seconds: START_NS + seconds * SECOND_NS),
    st.integers(0, 400).map(lambda minutes: START_NS + minutes * 60 * SECOND_NS),
    st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**63 + 1, 253_402_300_799_999_999_999]),
)
texts = st.one_of(st.sampled_from(TEXTS), st.text(max_size=12))


@st.composite
def records(draw: st.DrawFn, number: int) -> Record:
    """One record; span ids are used once, as they are by everybody."""
    kind = draw(st.sampled_from(["log", "log", "span", "span", "span_start", "loss"]))
    is_span = kind in ("span", "span_start")
    level, severity = draw(st.sampled_from([("DEBUG", 5), ("INFO", 9), ("ERROR", 17)]))
    traced = is_span or draw(st.booleans())
    return Record(
        uid=draw(st.sampled_from([f"uid-{number}", f"{number:0300}"])),
        timestamp_ns=draw(times),
        level=level,
        severity_number=severity,
        service=draw(st.sampled_from(["orders", "pay", "Été"])),
        kind=kind,
        trace_id=draw(st.sampled_from(TRACES)) if traced else None,
        span_id=(SPANS[number % len(SPANS)] if is_span else draw(st.sampled_from(SPANS))) if traced else None,
        message=draw(st.none() | texts) if kind == "log" else None,
        logger=draw(st.none() | st.sampled_from(["shop.pay", "shop.cart"])),
        attributes=draw(attributes),
        exception=draw(
            st.none()
            | st.builds(ExceptionInfo, type=st.none() | st.just("ValueError"), message=st.none() | texts)
        ),
        source=draw(
            st.none() | st.builds(Source, file=st.just("/app/a.py"), line=st.none() | st.integers(1, 3))
        ),
        name=draw(st.sampled_from(["GET /a", "GET /b", ""])) if is_span else None,
        span_kind=draw(st.none() | st.just("SERVER")) if is_span else None,
        parent_span_id=draw(st.none() | st.sampled_from(SPANS)) if is_span else None,
        duration_ns=draw(st.integers(0, 10**10) | st.just(2**64)) if kind == "span" else None,
        status=draw(st.none() | st.sampled_from([Status(), Status(code="ERROR")]))
        if kind == "span"
        else None,
        resource=draw(st.dictionaries(st.sampled_from(["k", "service.instance.id"]), scalars, max_size=2)),
        received_ns=START_NS + draw(st.integers(0, 2)) * DAY_NS,
    )


@st.composite
def batches(draw: st.DrawFn) -> list[list[Record]]:
    """Batches of a write-ahead log, the later arriving no earlier."""
    count = draw(st.integers(0, 30))
    made = numbered(sorted((draw(records(n)) for n in range(count)), key=lambda one: one.received_ns))
    cuts = sorted(draw(st.lists(st.integers(0, count), max_size=3)))
    return [made[start:end] for start, end in zip([0, *cuts], [*cuts, count], strict=True)]


leaves = st.one_of(
    st.just(Everything()),
    st.builds(Exists, st.sampled_from(FIELDS)),
    st.builds(Equals, st.sampled_from(FIELDS), scalars),
    st.builds(Equals, st.sampled_from(FIELDS), st.sampled_from([*TEXTS, "orders", "ERROR", *TRACES, 9, "9"])),
    st.builds(Wildcard, st.sampled_from(FIELDS), st.text("*?[a-z]é0129.", max_size=5)),
    st.builds(
        Range,
        st.sampled_from(FIELDS),
        st.none() | times | st.integers(-5, 5) | st.floats(),
        st.none() | times | st.integers(-5, 5) | st.floats(),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(
        Words,
        st.lists(st.sampled_from(["card", "declined", "straße", "7", "Card", "½"]), max_size=2).map(tuple),
        st.sampled_from(["message", "exception.message", "k", "service"]),
    ),
)
conditions: st.SearchStrategy[Condition] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=4,
)
windows_of_time = st.fixed_dictionaries({"start_ns": st.none() | times, "end_ns": st.none() | times})


@contextmanager
def both_stores(
    written: list[list[Record]], limits: StoreLimits
) -> Iterator[tuple[EmbeddedStore, MemoryStore]]:
    """An embedded store and one in memory with the same records."""
    with tempfile.TemporaryDirectory() as directory:
        embedded, memory = EmbeddedStore.open(Path(directory), limits=limits), MemoryStore()
        for number, batch in enumerate(written):
            assert embedded.append(batch) == memory.append(batch)
            if number % 2:
                assert embedded.commit() == memory.commit()
        assert embedded.commit() == memory.commit()
        yield embedded, memory
        embedded.abandon()


@pytest.fixture(autouse=True, scope="module")
def every_way_is_taken() -> Iterator[None]:
    """What is done only to large partitions is done to these small ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "LARGE_RECORDS_MIN", 1)
        patch.setattr(windows, "_RESERVE", 0)
        patch.setattr(finding, "_REJECTED_MAX", 1)
        patch.setattr(finding, "_RECORDS_AT_ONCE", 3)
        patch.setattr(counting, "_QUERIES_MAX", 1)
        patch.setattr(rates, "_STEPS_AT_ONCE", 20)
        patch.setattr(calls, "_LOOKED_UP_MAX", 1)
        yield


examples = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
some_limits = st.sampled_from(
    [
        StoreLimits(),
        StoreLimits(partition_records_max=5, writers_max=1, parents_remembered_max=2),
        StoreLimits(partition_profiles_max=3, partition_resources_max=2),
    ]
)


@examples
@given(
    written=batches(), limits=some_limits, asked=st.lists(st.tuples(conditions, windows_of_time), max_size=12)
)
def test_searches_counts_and_pages(
    written: list[list[Record]], limits: StoreLimits, asked: list[tuple[Condition, dict[str, Any]]]
) -> None:
    """The same records in the same order, the same totals, page by page."""
    with both_stores(written, limits) as (embedded, memory):
        for condition, window in asked:
            assert embedded.count(condition, **window) == memory.count(condition, **window)
            cursor = None
            while True:
                asking: dict[str, Any] = {"limit": 4, "cursor": cursor, "with_total": True, **window}
                page = embedded.search(condition, **asking)
                assert page == memory.search(condition, **asking), condition
                cursor = page.cursor
                if cursor is None:
                    break


@examples
@given(
    written=batches(),
    limits=some_limits,
    condition=conditions,
    window=windows_of_time,
    limit=st.integers(1, 9),
)
def test_lists_and_facets(
    written: list[list[Record]],
    limits: StoreLimits,
    condition: Condition,
    window: dict[str, Any],
    limit: int,
) -> None:
    """Services, operations, calls, values, figures."""
    with both_stores(written, limits) as (embedded, memory):
        for figure in ("records", "logs", "spans", "span_starts", "losses", "oldest_ns", "newest_ns"):
            assert getattr(embedded.stats(), figure) == getattr(memory.stats(), figure)
        assert embedded.services(**window) == memory.services(**window)
        assert embedded.services(condition, **window) == memory.services(condition, **window)
        assert embedded.edges(**window) == memory.edges(**window)
        assert embedded.edges(condition, **window) == memory.edges(condition, **window)
        for step_ns in (60 * SECOND_NS, 7 * 60 * SECOND_NS, DAY_NS):
            time: dict[str, Any] = {"start_ns": START_NS + 30, "end_ns": START_NS + 500 * 60 * SECOND_NS}
            found = embedded.rates(condition, step_ns=step_ns, **time)
            assert found == memory.rates(condition, step_ns=step_ns, **time)
        for service in ("orders", "pay", "Été", "none"):
            assert embedded.operations(service, **window) == memory.operations(service, **window)
            found_here = embedded.operations(service, condition, **window)
            assert found_here == memory.operations(service, condition, **window)
        for field in FIELDS:
            if field in ("message", "exception.message", "timestamp_ns", "duration_ns"):
                continue
            for asked in (condition, Everything()):
                found = embedded.facets(field, asked, limit=limit, **window)
                assert found == memory.facets(field, asked, limit=limit, **window), field


@examples
@given(
    written=batches(),
    limits=some_limits,
    condition=conditions,
    window=windows_of_time,
    min_duration_ns=st.none() | st.integers(0, 10**11),
    error=st.none() | st.booleans(),
    limit=st.integers(1, 6),
)
def test_traces(
    written: list[list[Record]],
    limits: StoreLimits,
    condition: Condition,
    window: dict[str, Any],
    min_duration_ns: int | None,
    error: bool | None,
    limit: int,
) -> None:
    """By id, many at once, and as lists by what is in them."""
    with both_stores(written, limits) as (embedded, memory):
        for trace_id in TRACES:
            records_found = embedded.trace(trace_id, records_max=limit)
            assert records_found == memory.trace(trace_id, records_max=limit)
        assert embedded.traces(TRACES, records_max=50) == memory.traces(TRACES, records_max=50)
        asking: dict[str, Any] = {
            "min_duration_ns": min_duration_ns,
            "error": error,
            "limit": limit,
            **window,
        }
        found = embedded.find_traces(condition, **asking)
        assert found == memory.find_traces(condition, **asking)
        for before in map(place_of_trace, found):
            next_page = embedded.find_traces(condition, before=before, **asking)
            assert next_page == memory.find_traces(condition, before=before, **asking)


@examples
@given(written=batches(), limits=some_limits, condition=conditions)
def test_deletions(written: list[list[Record]], limits: StoreLimits, condition: Condition) -> None:
    """The same records leave, and the same stay, also for the uids that are asked for."""
    with both_stores(written, limits) as (embedded, memory):
        uids = {record.uid for batch in written for record in batch}
        assert embedded.existing(uids) == memory.existing(uids) == uids
        assert embedded.delete(condition) == memory.delete(condition)
        assert embedded.existing(uids) == memory.existing(uids)
        every = Exists("kind")
        assert embedded.search(every, limit=99) == memory.search(every, limit=99)
        assert embedded.stats().records == memory.stats().records
