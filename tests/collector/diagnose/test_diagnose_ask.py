"""Asking a store: the right traces are compared, limits are kept, and a lack of data is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import structs

from collector.diagnose import ask
from collector.diagnose.ask import healthy_traces, root_cause_of_trace, root_cause_of_window
from collector.diagnose.baseline import Baseline
from collector.errors import NotFound
from collector.model import Record, TraceStatus
from collector.store.memory import MemoryStore
from collector.trace.build import build_trace


@pytest.fixture
def baseline(new_shop: Any) -> Baseline:
    """Sixty healthy orders."""
    learned = Baseline()
    learned.learn(new_shop(9).trace(at_s=number / 2) for number in range(60))
    return learned


def filled(*groups: Sequence[Record]) -> MemoryStore:
    store = MemoryStore()
    for records in groups:
        store.append(list(records))
    store.commit()
    return store


def trace_id(records: Sequence[Record]) -> str:
    assert records[0].trace_id
    return records[0].trace_id


def test_a_trace_is_compared_with_healthy_ones_of_its_entry_point(shop: Any, faults: Any) -> None:
    """Found in the store by themselves, those before it first."""
    healthy = [shop.records() for _ in range(20)]
    broken = shop.records(faults.exception())
    verdict = root_cause_of_trace(filled(*healthy, broken), trace_id(broken))
    assert verdict.causes[0].service == "inventory"
    assert (verdict.traces_compared, verdict.trace_id) == (20, trace_id(broken))
    assert verdict.measured_by == "neighbours"


def test_other_entry_points_and_failed_traces_are_no_measure(shop: Any, faults: Any, plans: Any) -> None:
    """Neither what came in elsewhere nor what went wrong says what is normal here."""
    healthy = [shop.records() for _ in range(8)]
    failed = [shop.records(faults.exception()) for _ in range(8)]
    elsewhere = [
        shop.records(plans.Call("gateway", "GET /health", "SERVER", (plans.Work(1),))) for _ in range(8)
    ]
    asked = shop.records()
    store = filled(*healthy, *failed, *elsewhere, asked)
    chosen = healthy_traces(store, build_trace(trace_id(asked), asked), traces_max=50)
    assert {trace.trace_id for trace in chosen} == {trace_id(records) for records in healthy}


def test_the_nearest_before_are_taken_and_later_ones_only_to_fill_up(shop: Any) -> None:
    """A limit keeps those just before the trace."""
    records = [shop.records(at_s=number) for number in range(20)]
    asked = build_trace(trace_id(records[10]), records[10])
    store = filled(*records)
    near = healthy_traces(store, asked, traces_max=4)
    assert {trace.trace_id for trace in near} == {trace_id(records[n]) for n in (6, 7, 8, 9)}
    more = healthy_traces(store, asked, traces_max=14)
    assert {trace.trace_id for trace in more} == {trace_id(records[n]) for n in (*range(10), 11, 12, 13, 14)}


def test_a_neighbour_that_took_for_ever_is_no_measure(shop: Any, faults: Any) -> None:
    """It may suffer from the same fault."""
    healthy = [shop.records() for _ in range(9)]
    slow = [shop.records(faults.slow()) for _ in range(3)]
    asked = shop.records(faults.slow())
    chosen = healthy_traces(
        filled(*healthy, *slow, asked), build_trace(trace_id(asked), asked), traces_max=50
    )
    assert {trace.trace_id for trace in chosen} == {trace_id(records) for records in healthy}


def test_names_with_ids_in_them_are_compared_all_the_same(shop: Any, plans: Any) -> None:
    """`GET /users/17` and `GET /users/18` are one entry point."""
    records = [
        shop.records(plans.Call("users", f"GET /users/{number}", "SERVER", (plans.Work(2),)))
        for number in range(12)
    ]
    asked = build_trace(trace_id(records[-1]), records[-1])
    assert len(healthy_traces(filled(*records), asked, traces_max=50)) == 11


def test_what_the_ledger_knows_is_asked_for(shop: Any, faults: Any) -> None:
    """With it, a span without an end is a death."""
    healthy = [shop.records() for _ in range(10)]
    broken = shop.records(faults.crash())
    store = filled(*healthy, broken)

    def killed(records: Sequence[Record]) -> TraceStatus:
        return TraceStatus(ended={record.uid.partition("-")[0]: "killed" for record in records})

    with_ledger = root_cause_of_trace(store, trace_id(broken), status_of=killed).causes[0]
    without = root_cause_of_trace(store, trace_id(broken)).causes[0]
    assert (with_ledger.service, without.service) == ("payments", "payments")
    assert with_ledger.confidence > without.confidence


def test_a_trace_that_nobody_knows_is_an_error(shop: Any) -> None:
    """The message names it, and says what to do as it does where the chain is asked for."""
    with pytest.raises(NotFound, match=r"feed: nothing is stored under this id;.* `backtrail stats` shows"):
        root_cause_of_trace(filled(shop.records()), "feed" * 8)


def test_a_trace_alone_lacks_a_measure(shop: Any, faults: Any) -> None:
    """Nothing is guessed."""
    broken = shop.records(faults.missing_step())
    verdict = root_cause_of_trace(filled(broken), trace_id(broken))
    assert verdict.causes == []
    assert "0 healthy traces" in (verdict.insufficient or "")


def test_a_trace_of_nothing_but_lines_is_answered(shop: Any) -> None:
    """Without any span there is no entry point to compare with, and still an answer."""
    lines = [record for record in shop.records() if record.kind == "log"]
    verdict = root_cause_of_trace(filled(lines), trace_id(lines))
    assert verdict.causes or verdict.insufficient or verdict.normal


def test_a_window_is_measured_by_what_came_before(shop: Any, faults: Any) -> None:
    """Only traces that began inside it are asked about, only earlier ones are the measure."""
    before = [shop.records(at_s=number) for number in range(60)]
    inside = [shop.records(faults.slow(), at_s=100 + number) for number in range(30)]
    after = [shop.records(faults.error_line(), at_s=200 + number) for number in range(30)]
    start_ns, end_ns = inside[0][0].timestamp_ns, inside[-1][0].timestamp_ns + 1
    store = filled(*before, *inside, *after)
    verdict = root_cause_of_window(store, start_ns, end_ns)
    assert verdict.services == ["inventory"]
    assert (verdict.start_ns, verdict.end_ns, verdict.traces_compared) == (start_ns, end_ns, 60)
    assert verdict.measured_by == "earlier_traces"


def test_a_window_without_a_measure_does_not_call_its_errors_none(shop: Any, faults: Any) -> None:
    """Errors that nothing can be compared with are weak proof, and still there: the answer counts them."""
    records = [*(shop.records() for _ in range(40)), shop.records(faults.error_line())]
    end_ns = records[-1][0].timestamp_ns + 1
    verdict = root_cause_of_window(filled(*records), records[0][0].timestamp_ns, end_ns)
    assert verdict.causes == []
    assert verdict.insufficient is not None
    assert "is surprising enough by itself" in verdict.insufficient
    assert verdict.insufficient.endswith("; 1 of 41 traces holds an error")
    healthy = root_cause_of_window(filled(*records), records[0][0].timestamp_ns, records[-2][0].timestamp_ns)
    assert "an error" not in (healthy.insufficient or "").partition("by itself")[2]


def test_a_window_may_be_measured_by_a_baseline_of_ones_own(shop: Any, faults: Any) -> None:
    """For instance one that was learned last week."""
    baseline = Baseline()
    baseline.learn(shop.traces(40))
    inside = [shop.records(faults.slow()) for _ in range(20)]
    start_ns, end_ns = inside[0][0].timestamp_ns, inside[-1][0].timestamp_ns + 1
    verdict = root_cause_of_window(filled(*inside), start_ns, end_ns, baseline=baseline)
    assert verdict.services == ["inventory"]


def test_an_empty_window_says_so(shop: Any) -> None:
    """Not "normal": nothing was there to look at."""
    verdict = root_cause_of_window(filled(shop.records()), 0, 1)
    assert (verdict.causes, verdict.insufficient) == ([], "no trace began in this time")


def test_more_traces_than_the_limit_are_a_note(shop: Any) -> None:
    """Nothing is left out in silence."""
    records = [shop.records() for _ in range(12)]
    end_ns = max(record.timestamp_ns for same in records for record in same) + 1
    start_ns = records[2][0].timestamp_ns
    verdict = root_cause_of_window(filled(*records), start_ns, end_ns, traces_max=5)
    assert any("more than was looked at: 5 traces" in note for note in verdict.notes)


def test_a_trace_over_the_limit_on_records_is_a_note(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end was not looked at, so nothing is concluded from its absence without saying so."""
    monkeypatch.setattr(ask, "TRACE_RECORDS_MAX", 6)
    healthy = [shop.records() for _ in range(10)]
    asked = shop.records()
    verdict = root_cause_of_trace(filled(*healthy, asked), trace_id(asked))
    assert any("limit on records" in note for note in verdict.notes)


def test_records_of_a_store_come_back_as_evidence(shop: Any, faults: Any) -> None:
    """Each cited record is one that the store has."""
    healthy = [shop.records() for _ in range(10)]
    broken = shop.records(faults.exception())
    store = filled(*healthy, broken)
    for cause in root_cause_of_trace(store, trace_id(broken)).causes:
        cited = {item.uid for item in cause.evidence}
        assert store.existing(cited) == cited
        assert structs.asdict(cause)["evidence"]


def test_of_a_busy_time_every_part_is_looked_at(
    shop: Any, faults: Any, baseline: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault in the beginning is found although there is more than may be read, and the verdict says so."""
    records = [shop.records(faults.missing_step() if n < 120 else None, at_s=n / 2) for n in range(600)]
    start_ns, end_ns = records[0][0].timestamp_ns, records[-1][0].timestamp_ns + 1
    store = filled(*records)
    verdict = root_cause_of_window(store, start_ns, end_ns, baseline=baseline, traces_max=200)
    assert verdict.services[:1] == ["orders"]
    note = "there is more than was looked at: 200 traces, from every part of this time"
    assert note in verdict.notes
    monkeypatch.setattr(ask, "WINDOW_RECORDS_MAX", 100 * len(records[-1]))
    verdict = root_cause_of_window(store, start_ns, end_ns, baseline=baseline, traces_max=1_000)
    assert any("more than was looked at" in note for note in verdict.notes)
    monkeypatch.undo()
    assert root_cause_of_window(store, start_ns, end_ns, baseline=baseline).notes == []
