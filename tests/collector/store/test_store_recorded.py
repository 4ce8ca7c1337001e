"""Two recorded systems, asked of the embedded store and of every record in turn: the same answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import islice
from math import ceil
from pathlib import Path

import pytest

from collector.model import Record
from collector.query import parse_query
from collector.receive.files import read_records
from collector.store.codec import storable
from collector.store.conditions import And, Condition, Equals, Not, Range, Words
from collector.store.contract import EVERYTHING, MINUTE_NS
from collector.store.embedded import EmbeddedStore
from collector.store.memory import MemoryStore
from collector.store.paging import place_of, place_of_trace

SAMPLE = Path(__file__).resolve().parents[2] / "data" / "rca-sample"
BATCH_RECORDS = 5_000


class Pair:
    """The same records in both stores."""

    def __init__(self, files: list[Path], directory: Path) -> None:
        self.embedded, self.memory = EmbeddedStore.open(directory), MemoryStore()
        self.records: list[Record] = []
        records = read_records(files)
        while batch := list(islice(records, BATCH_RECORDS)):
            self.records += map(storable, batch)
            for store in (self.embedded, self.memory):
                assert store.append(batch, check_uids=True).stored == len(batch)
                store.commit()

    def ask(self, condition: Condition) -> None:
        """Count, newest page and total, the whole and the middle of the time."""
        times = sorted(record.timestamp_ns for record in self.records)
        middle = {"start_ns": times[len(times) // 3], "end_ns": times[2 * len(times) // 3]}
        for window in ({}, middle):
            found = self.embedded.search(condition, limit=50, with_total=True, **window)
            assert found == self.memory.search(condition, limit=50, with_total=True, **window), condition
            assert self.embedded.count(condition, **window) == found.total

    def ask_everything(self) -> None:
        """Every method of the contract that reads."""
        services = [name for name, _ in Counter(record.service for record in self.records).most_common(3)]
        busiest = services[0]
        words = next(record.message for record in self.records if record.message and " " in record.message)
        conditions: list[Condition] = [
            EVERYTHING,
            Equals("level", "ERROR"),
            And((Equals("service", busiest), Equals("kind", "span"), Range("duration_ns", low=50_000_000))),
            Not(Equals("kind", "span")),
            Words(tuple(words.lower().split()[:1])),
            parse_query('level:>=WARN -"not found" message:*'),
            parse_query("name:*order* duration:>20ms"),
        ]
        for condition in conditions:
            self.ask(condition)
            for field in ("name", "instance"):
                assert self.embedded.facets(field, condition) == self.memory.facets(field, condition)
        assert self.embedded.services() == self.memory.services()
        for service in services:
            assert self.embedded.operations(service) == self.memory.operations(service)
        self.ask_for_percentiles(busiest)
        for condition in (EVERYTHING, Equals("service", busiest), Equals("status", "ERROR")):
            assert self.embedded.edges(condition) == self.memory.edges(condition)
            for step_ns in (MINUTE_NS, 7 * MINUTE_NS):
                window = self.window() | {"step_ns": step_ns}
                found_rates = self.embedded.rates(condition, **window)
                assert found_rates == self.memory.rates(condition, **window), condition
        for asked in ({"error": True, "limit": 100}, {"min_duration_ns": 2 * 10**9}, {"error": False}):
            found = self.embedded.find_traces(Equals("service", busiest), **asked)  # type: ignore[arg-type]
            assert found == self.memory.find_traces(Equals("service", busiest), **asked), asked  # type: ignore[arg-type]
            if found:
                asked = {**asked, "before": place_of_trace(found[len(found) // 2])}
                found = self.embedded.find_traces(Equals("service", busiest), **asked)  # type: ignore[arg-type]
                assert found == self.memory.find_traces(Equals("service", busiest), **asked), asked  # type: ignore[arg-type]
        mine, theirs = self.embedded.stats(), self.memory.stats()
        for figure in ("records", "logs", "spans", "oldest_ns", "newest_ns"):
            assert getattr(mine, figure) == getattr(theirs, figure)

    def window(self) -> dict[str, int]:
        """As much of the time of the records as is asked for by the minute, from their middle."""
        times = sorted(record.timestamp_ns for record in self.records)
        start_ns = times[len(times) // 2] - 600 * MINUTE_NS
        return {"start_ns": start_ns, "end_ns": start_ns + 1_200 * MINUTE_NS}

    def ask_for_percentiles(self, service: str) -> None:
        """Counts are exact, and percentiles within the width that the contract states."""
        durations: dict[str, list[int]] = defaultdict(list)
        for record in self.records:
            if record.kind == "span" and record.service == service:
                durations[record.name or ""].append(record.duration_ns or 0)
        operations = {one.name: one for one in self.embedded.operations(service)}
        assert {name: one.spans for name, one in operations.items()} == {
            name: len(all_of_it) for name, all_of_it in durations.items()
        }
        for name, all_of_it in durations.items():
            true = sorted(all_of_it)[ceil(0.95 * len(all_of_it)) - 1]
            assert abs(operations[name].duration_p95_ns - true) <= 0.026 * true + 500, name

    def ask_for_every_trace(self) -> None:
        """Each trace, whole, in order; against a plain grouping of the records."""
        traces: dict[str, list[Record]] = defaultdict(list)
        for record in self.records:
            if record.trace_id is not None:
                traces[record.trace_id].append(record)
        for trace_id, records in traces.items():
            assert self.embedded.trace(trace_id, records_max=10**6) == sorted(records, key=place_of)

    def ask_again(self, files: list[Path]) -> None:
        """Importing the same files again stores nothing."""
        records = read_records(files)
        while batch := list(islice(records, BATCH_RECORDS)):
            assert self.embedded.append(batch, check_uids=True).already_stored == len(batch)
        self.embedded.commit()
        assert self.embedded.stats().records == len(self.records)


def test_a_sample_of_both_systems(tmp_path: Path) -> None:
    """A few traces of each, in every run of the tests."""
    files = sorted(SAMPLE.rglob("*.ndjson*"))
    assert files
    pair = Pair(files, tmp_path)
    pair.ask_everything()
    pair.ask_for_every_trace()
    pair.ask_again(files)
    pair.embedded.close()


@pytest.mark.shared
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("day", "count"),
    [
        ("trainticket-2023-01-29", 186_978),
        pytest.param(
            "onlineboutique-2022-08-23", 521_791, marks=[pytest.mark.soak, pytest.mark.timeout(3_600)]
        ),
    ],
)
def test_a_recorded_day(tmp_path: Path, shared_rca: Path, day: str, count: int) -> None:
    """Every record, every trace."""
    files = sorted((shared_rca / day).glob("*.ndjson.zst"))
    pair = Pair(files, tmp_path)
    assert pair.embedded.stats().records == len(pair.records) == count
    pair.ask_everything()
    pair.ask_for_every_trace()
    pair.ask_again(files)
    pair.embedded.close()
