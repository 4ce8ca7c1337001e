"""A recorded day in Elasticsearch and in the embedded store: every answer is the same."""

from __future__ import annotations

import json
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
    stores: list[Store]
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
    yield Both(stores, elastic, embedded, stats.oldest_ns, stats.newest_ns + 1)
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


def test_what_caused_the_faults_of_a_window(both: Both, shared_rca: Path) -> None:
    """The same causes in the same order, with the same evidence; of two minutes that hold a known fault."""
    labels = json.loads((shared_rca / DAY / "labels.json").read_text())
    causes = []
    for label in labels[4:34:14]:
        window = {"start": label["inject_time_ns"], "end": label["inject_time_ns"] + 120 * 10**9}
        causes += both.agree(lambda answers, given=window: answers.root_cause(**given))["causes"]
    assert causes


def test_traces_by_structure_page_by_page(both: Both) -> None:
    """One span below another, each page behind the one before."""
    q = "service:ts-order-service >> kind:span"
    asking: dict[str, Any] = {"limit": 7, "start": both.start_ns, "end": both.start_ns + 900 * 10**9}
    cursor, seen = None, []
    for _ in range(4):
        page = both.agree(lambda answers, at=cursor: answers.traces(q, cursor=at, **asking))
        seen += [one["trace_id"] for one in page["traces"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) > 7


def test_rates_and_templates(both: Both) -> None:
    """Minute by minute, of all and of one service; and what the logs say."""
    asking: dict[str, Any] = {"start": both.start_ns, "end": both.start_ns + 3_600 * 10**9}
    both.agree(lambda answers: answers.rates("", step="1m", **asking))
    both.agree(lambda answers: answers.service_rates("ts-order-service", step="5m", **asking))
    for q in ("", "level:ERROR"):
        found = both.agree(lambda answers, of=q: answers.templates(of, limit=100, **asking))
        assert found["templates"]


def test_filters_by_deployment(both: Both) -> None:
    """Where nothing was said of environment and version, nothing is found by them."""
    asking: dict[str, Any] = {"start": both.start_ns, "end": both.end_ns}
    for given in ({"environment": "production"}, {"version": "1"}):
        both.agree(lambda answers, by=given: answers.topology(**by, **asking))
        both.agree(lambda answers, by=given: answers.services(**by, **asking))
        both.agree(lambda answers, by=given: answers.logs(**by, **asking))


@pytest.mark.parametrize("format", ["ndjson", "csv", "otlp-json"])
def test_exports(both: Both, format: str) -> None:
    """The same bytes, over several pages."""
    asking: dict[str, Any] = {"start": both.start_ns, "end": both.end_ns, "limit": 2_500}
    exported = both.agree(lambda answers: b"".join(answers.export(format, q="level:>=WARN", **asking)))
    assert len(exported) > 100_000


def test_a_chain_for_other_tools(both: Both) -> None:
    """The same Chrome trace."""
    (one,) = both.agree(lambda answers: answers.traces(limit=1, end=both.end_ns))["traces"]
    both.agree(lambda answers: b"".join(answers.export_trace(one["trace_id"])))


def test_what_is_deleted_and_what_expires(both: Both) -> None:
    """As many records go, and every answer stays the same; the last test, since it changes the day."""
    hour_ns = both.start_ns + 3_600 * 10**9
    deletions = ("level:>=WARN", "service:ts-order-service kind:span duration:>20ms")
    for q in deletions:
        gone = [store.delete(both.embedded.to_delete(q, end=hour_ns)) for store in both.stores]
        assert gone[0] == gone[1] > 0
    for store in both.stores:
        store.commit()
    asking: dict[str, Any] = {"start": both.start_ns, "end": both.end_ns}
    both.agree(lambda answers: answers.services(**asking))
    both.agree(lambda answers: answers.topology(**asking))
    gone = [store.drop_before(2**62) for store in both.stores]
    assert gone[0] == gone[1] > 100_000
    assert both.agree(lambda answers: answers.logs(total=True, **asking))["total"] == 0
