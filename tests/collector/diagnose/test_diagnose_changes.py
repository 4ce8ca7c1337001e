"""What was changed just before: cited beside what was found, and never a fault by itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import structs

from collector.changes import Change, ToldChange, change_line, change_of
from collector.diagnose.ask import recorded_changes, root_cause_of_window
from collector.diagnose.baseline import Baseline
from collector.diagnose.engine import judge_window
from collector.diagnose.localisation import CHANGE_DECADES
from collector.model import Record, Trace
from collector.receive.lines import record_from_line
from collector.store.memory import MemoryStore

SECOND = 1_000_000_000


def change(service: str, *, at_ns: int, **told: Any) -> Change:
    """A change as it is found again after it was told over HTTP."""
    body = {"kind": "flag", "name": "new-pricing", "old": "off", "new": "on", "service": service, **told}
    uid, line = change_line(msgspec.convert(body, ToldChange), now_ns=at_ns)
    found = change_of(record_from_line(line, uid=uid, resource={}))
    assert found is not None
    return found


@pytest.fixture
def baseline(shop: Any) -> Baseline:
    """Sixty healthy orders."""
    learned = Baseline()
    learned.learn(shop.traces(60))
    return learned


def test_a_change_of_the_service_at_fault_is_cited_and_makes_it_likelier(
    shop: Any, faults: Any, baseline: Baseline
) -> None:
    """The first thing that a person would look at."""
    traces: list[Trace] = shop.traces(30, faults.error_line())
    changed = change("orders", at_ns=traces[0].start_ns - 60 * SECOND)
    before, after = judge_window(traces, baseline), judge_window(traces, baseline, changes=[changed])
    assert (before.suspects[0].service, after.suspects[0].service) == ("orders", "orders")
    assert after.suspects[0].decades >= before.suspects[0].decades + CHANGE_DECADES
    without, with_it = before.verdict.causes[0], after.verdict.causes[0]
    assert "changes" in with_it.signals
    [cited] = [item for item in with_it.evidence if item.uid == changed.uid]
    assert cited.quote == "INFO flag new-pricing changed from off to on"
    assert "changes" not in without.signals


def test_a_change_without_harm_is_no_fault(shop: Any, baseline: Baseline) -> None:
    """Deploys are healthy; the verdict only mentions it."""
    traces = shop.traces(30)
    changed = change("orders", at_ns=traces[0].start_ns)
    verdict = judge_window(traces, baseline, changes=[changed]).verdict
    assert verdict.causes == []
    assert any("new-pricing" in note and "orders" in note for note in verdict.notes)


def test_a_change_of_somebody_else_accuses_nobody(shop: Any, faults: Any, baseline: Baseline) -> None:
    """It is no second cause either."""
    traces = shop.traces(30, faults.error_line())
    verdict = judge_window(traces, baseline, changes=[change("payments", at_ns=traces[0].start_ns)]).verdict
    assert verdict.services[0] == "orders"
    assert "payments" not in verdict.services


def test_a_change_that_concerns_everybody_is_a_note(shop: Any, faults: Any, baseline: Baseline) -> None:
    """No single service is likelier for it."""
    traces = shop.traces(30, faults.error_line())
    without = judge_window(traces, baseline).verdict
    verdict = judge_window(traces, baseline, changes=[change("*", at_ns=traces[0].start_ns)]).verdict
    assert [cause.confidence for cause in verdict.causes] == [cause.confidence for cause in without.causes]
    assert any("concerns everybody" in note for note in verdict.notes)


def test_changes_are_found_in_the_store_for_a_while(shop: Any) -> None:
    """Those of half an hour before count, older ones and later ones do not."""
    store = MemoryStore()
    at_ns = 1_800_000_000 * SECOND
    for number, seconds in enumerate((-2_000, -1_700, 10, 90)):
        record = change("orders", at_ns=at_ns + seconds * SECOND).record
        store.append([structs.replace(record, seq=number + 1)])
    store.refresh()
    found = recorded_changes(store, at_ns, at_ns + 60 * SECOND)
    assert [(item.timestamp_ns - at_ns) // SECOND for item in found] == [-1_700, 10]


def test_a_window_of_a_store_cites_its_changes(shop: Any, faults: Any) -> None:
    """From the event that was told to the evidence of the verdict."""
    healthy = [record for _ in range(60) for record in shop.records()]
    broken = [record for _ in range(30) for record in shop.records(faults.error_line())]
    start_ns = min(record.timestamp_ns for record in broken)
    told = change("orders", at_ns=start_ns - 5 * SECOND)
    records: list[Record] = [*healthy, told.record, *broken]
    store = MemoryStore()
    store.append([structs.replace(record, seq=number) for number, record in enumerate(records, 1)])
    store.refresh()
    verdict = root_cause_of_window(store, start_ns, start_ns + 120 * SECOND)
    assert verdict.services[0] == "orders"
    assert told.uid in {item.uid for item in verdict.causes[0].evidence}
