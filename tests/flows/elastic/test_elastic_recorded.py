"""A recorded day in Elasticsearch and in the embedded store: every answer is the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from collector.api.answers import Answers
from collector.receive.files import read_records
from collector.store.contract import Store
from collector.store.elastic import open_store
from collector.store.embedded import EmbeddedStore

pytestmark = [pytest.mark.flow, pytest.mark.shared, pytest.mark.timeout(1_200)]

DAY = "trainticket-2023-01-29"
BATCH_RECORDS = 5_000
SEARCHES = (
    "",
    "level:ERROR",
    "level:>=WARN",
    "order",
    '"get order"',
    "service:ts-order-service error",
    "NOT level:INFO",
    "duration:>250ms",
    "kind:span duration:>1s",
    "logger:*Controller*",
    "source.line:>100",
    "message:*fail*",
)


class Both(NamedTuple):
    elastic: Answers
    embedded: Answers
    start_ns: int
    end_ns: int

    def agree(self, ask: Callable[[Answers], Any]) -> Any:
        """Ask both; return what they agree on."""
        found = ask(self.elastic)
        assert found == ask(self.embedded)
        return found


@pytest.fixture(scope="module")
def both(shared_rca: Path, patient_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """The same day in both stores."""
    directory = tmp_path_factory.mktemp("recorded")
    url = patient_server.start().url
    stores: list[Store] = [
        open_store(url, directory / "elastic", namespace=uuid4().hex, replicas=0, patience_s=120),
        EmbeddedStore.open(directory / "embedded"),
    ]
    batch = []
    for record in read_records(sorted((shared_rca / DAY).glob("*.ndjson.zst"))):
        batch.append(record)
        if len(batch) == BATCH_RECORDS:
            for store in stores:
                store.append(batch)
            batch = []
    for store in stores:
        store.append(batch)
        store.commit()
    stats = stores[1].stats()
    assert stats.oldest_ns is not None
    assert stats.newest_ns is not None
    elastic, embedded = (Answers(store, clock_ns=lambda: stats.newest_ns + 1) for store in stores)
    yield Both(elastic, embedded, stats.oldest_ns, stats.newest_ns + 1)
    for store in stores:
        store.close()


def test_figures(both: Both) -> None:
    """As many records of each kind, from and to the same times."""
    own = {"bytes", "partitions", "damaged_partitions", "damaged_records", "durable_seq"}
    found = both.agree(lambda answers: {k: v for k, v in answers.stats().items() if k not in own})
    assert found["records"] > 180_000


def test_services_and_operations(both: Both) -> None:
    """Counts, errors and percentiles, of all and of a part of the day."""
    window = {"start": both.start_ns, "end": both.end_ns}
    services = both.agree(lambda answers: answers.services(**window))["services"]
    assert len(services) > 20
    for service in services:
        both.agree(lambda answers, name=service["service"]: answers.operations(name, **window))
    middle = (both.start_ns + both.end_ns) // 2
    both.agree(lambda answers: answers.services(start=middle, end=both.end_ns))


def test_topology(both: Both) -> None:
    """Every call between services."""
    found = both.agree(lambda answers: answers.topology(start=both.start_ns, end=both.end_ns))
    assert len(found["edges"]) > 20


@pytest.mark.parametrize("q", SEARCHES)
def test_searches(both: Both, q: str) -> None:
    """The same records page by page, the same totals, the same values of fields."""
    asking: dict[str, Any] = {"start": both.start_ns, "end": both.end_ns}
    cursor = None
    for _ in range(3):
        page = both.agree(
            lambda answers, at=cursor: answers.logs(q, limit=50, cursor=at, total=True, **asking)
        )
        cursor = page["cursor"]
        if cursor is None:
            break
    both.agree(lambda answers: answers.traces(q, limit=20, **asking))
    for field in ("service", "level", "name"):
        both.agree(lambda answers, of=field: answers.facets(of, q, **asking))


def test_traces_and_their_causes(both: Both) -> None:
    """Call chains and verdicts."""
    listed = both.agree(lambda answers: answers.traces(limit=200, start=both.start_ns, end=both.end_ns))
    ids = random.Random(3).sample([one["trace_id"] for one in listed["traces"]], 20)
    for trace_id in ids:
        both.agree(lambda answers, one=trace_id: answers.trace(one))
    for trace_id in ids[:2]:
        both.agree(lambda answers, one=trace_id: answers.root_cause(trace_id=one))


def test_rates(both: Both) -> None:
    """Minute by minute."""
    end_ns = both.start_ns + 3_600 * 10**9
    both.agree(lambda answers: answers.rates("", start=both.start_ns, end=end_ns, step="1m"))
