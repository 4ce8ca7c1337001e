"""Elasticsearch answers every question as the store in memory does, whatever the records are.

The records and questions are those that the embedded store is tried with.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from collector.model import Record
from collector.store.conditions import Everything, Exists
from collector.store.contract import MINUTE_NS
from collector.store.elastic import ElasticStore, open_store
from collector.store.memory import MemoryStore
from collector.store.paging import place_of_trace
from collector.testing.store_samples import DAY_NS, START_NS

_SPEC = importlib.util.spec_from_file_location(
    "strategies_of_stores", Path(__file__).resolve().parents[1] / "test_store_equal.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
strategies = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = strategies
_SPEC.loader.exec_module(strategies)

VERSIONS = ["8.14.1", "9.4.3"]
# A store is a second's work in the cluster: few examples, many questions to each.
few = settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module", params=VERSIONS)
def url(request: pytest.FixtureRequest, elasticsearch: Callable[[str], str]) -> str:
    return elasticsearch(request.param)


@contextmanager
def both_stores(url: str, written: list[list[Record]]) -> Iterator[tuple[ElasticStore, MemoryStore]]:
    """A store in the cluster and one in memory with the same records."""
    with tempfile.TemporaryDirectory() as directory:
        elastic = open_store(url, Path(directory), namespace=uuid4().hex, replicas=0)
        memory = MemoryStore()
        try:
            for number, batch in enumerate(written):
                assert elastic.append(batch) == memory.append(batch)
                if number == 1:
                    elastic.roll_over()
            assert elastic.commit() == memory.commit()
            yield elastic, memory
        finally:
            elastic.close()


Questions = list[tuple[Any, dict[str, Any]]]
questions = st.lists(st.tuples(strategies.conditions, strategies.windows_of_time), min_size=12, max_size=12)


@few
@given(written=strategies.batches(), asked=questions)
def test_searches_counts_and_pages(url: str, written: list[list[Record]], asked: Questions) -> None:
    """The same records in the same order, the same totals, page by page."""
    with both_stores(url, written) as (elastic, memory):
        for condition, window in asked:
            assert elastic.count(condition, **window) == memory.count(condition, **window), condition
            cursor = None
            while True:
                asking: dict[str, Any] = {"limit": 9, "cursor": cursor, "with_total": True, **window}
                page = elastic.search(condition, **asking)
                assert page == memory.search(condition, **asking), condition
                cursor = page.cursor
                if cursor is None:
                    break


@few
@given(written=strategies.batches(), asked=questions, limit=st.integers(1, 9))
def test_lists_and_facets(url: str, written: list[list[Record]], asked: Questions, limit: int) -> None:
    """Services, operations, calls, values, rates."""
    fields = [
        field
        for field in strategies.FIELDS
        if field not in ("message", "exception.message", "timestamp_ns", "duration_ns")
    ]
    with both_stores(url, written) as (elastic, memory):
        for number, (condition, window) in enumerate(asked):
            field = fields[number % len(fields)]
            found = elastic.facets(field, condition, limit=limit, **window)
            assert found == memory.facets(field, condition, limit=limit, **window), (field, condition)
        for field in fields:
            assert elastic.facets(field, Everything(), limit=99) == memory.facets(field, limit=99), field
        for condition, window in asked[:4]:
            assert elastic.services(**window) == memory.services(**window)
            assert elastic.edges(**window) == memory.edges(**window)
            assert elastic.edges(condition, **window) == memory.edges(condition, **window), condition
            for service in ("orders", "Été", "none"):
                assert elastic.operations(service, **window) == memory.operations(service, **window)
        for condition, _ in asked[:4]:
            for step_ns in (MINUTE_NS, 7 * MINUTE_NS, DAY_NS):
                time: dict[str, Any] = {"start_ns": START_NS + 30, "end_ns": START_NS + 500 * MINUTE_NS}
                found = elastic.rates(condition, step_ns=step_ns, **time)
                assert found == memory.rates(condition, step_ns=step_ns, **time)


@few
@given(
    written=strategies.batches(),
    asked=questions,
    min_duration_ns=st.none() | st.integers(0, 10**11),
    error=st.none() | st.booleans(),
    limit=st.integers(1, 6),
)
def test_traces(
    url: str,
    written: list[list[Record]],
    asked: Questions,
    min_duration_ns: int | None,
    error: bool | None,
    limit: int,
) -> None:
    """By id, many at once, and as lists by what is in them."""
    traces = strategies.TRACES
    with both_stores(url, written) as (elastic, memory):
        for trace_id in traces:
            found = elastic.trace(trace_id, records_max=limit)
            assert found == memory.trace(trace_id, records_max=limit)
        assert elastic.traces(traces, records_max=50) == memory.traces(traces, records_max=50)
        for condition, window in asked:
            asking: dict[str, Any] = {"min_duration_ns": min_duration_ns, "error": error, "limit": limit}
            found = elastic.find_traces(condition, **asking, **window)
            assert found == memory.find_traces(condition, **asking, **window), condition
            before = place_of_trace(found[0]) if found else (START_NS, "")
            found = elastic.find_traces(condition, before=before, **asking, **window)
            assert found == memory.find_traces(condition, before=before, **asking, **window), condition


@few
@given(written=strategies.batches(), condition=strategies.conditions)
def test_deletions(url: str, written: list[list[Record]], condition: Any) -> None:
    """The same records leave, and the same stay."""
    with both_stores(url, written) as (elastic, memory):
        uids = {record.uid for batch in written for record in batch}
        assert elastic.existing(uids) == memory.existing(uids) == uids
        assert elastic.delete(condition) == memory.delete(condition)
        assert elastic.existing(uids) == memory.existing(uids)
        every = Exists("kind")
        assert elastic.search(every, limit=99) == memory.search(every, limit=99)
