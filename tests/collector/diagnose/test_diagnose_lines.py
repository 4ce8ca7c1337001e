"""Log lines below an error: which speak of a fault, and what is concluded when some did not arrive."""

from __future__ import annotations

import random
from typing import Any

import pytest

from collector.diagnose.baseline import Baseline
from collector.diagnose.engine import diagnose_trace, diagnose_window
from collector.diagnose.losses import lines_lost
from collector.diagnose.signals import templates
from collector.diagnose.window import Window
from collector.model import Record


@pytest.fixture
def baseline(new_shop: Any) -> Baseline:
    """Sixty healthy orders."""
    learned = Baseline()
    learned.learn(new_shop(7).traces(60))
    return learned


def thinned(records: list[Record], rng: random.Random, share: float) -> list[Record]:
    return [record for record in records if record.kind != "log" or rng.random() >= share]


def test_a_new_warning_is_the_cause_where_nothing_else_is(shop: Any, faults: Any, baseline: Baseline) -> None:
    """In one trace and in a window; the line and its place are named."""
    for verdict in (
        diagnose_trace(shop.trace(faults.warning()), baseline),
        diagnose_window(shop.traces(40, faults.warning()), baseline),
    ):
        first = verdict.causes[0]
        assert (first.service, first.fault, first.operation) == ("orders", "warning", "price order")
        assert "unknown rounding" in (first.template or "")
        assert first.location == "shop/orders.py:97 in f"
        assert first.evidence[0].quote.startswith("WARN unknown rounding")


def test_a_new_line_without_a_level_to_speak_of_raises_no_alarm(
    shop: Any, plans: Any, baseline: Baseline
) -> None:
    """Programs have more ways than a short baseline has seen: it is noted and names nobody."""
    line = plans.Line("took the other shelf", 45)
    plan = plans.checkout().edited(
        "find stock", lambda call: plans.Call(**(vars(call) | {"steps": (*call.steps, line)}))
    )
    window = Window(shop.traces(40, plan), baseline)
    assert [finding.summary.rpartition(": ")[2] for finding in templates.find(window)] == [line.text]
    assert diagnose_window(shop.traces(40, plan), baseline).causes == []


def test_a_warning_that_healthy_runs_log_as_often_is_none(shop: Any, faults: Any) -> None:
    """What is usual is no finding; what has become more usual is."""
    baseline = Baseline()
    baseline.learn(shop.trace(faults.warning() if number % 5 == 0 else None) for number in range(60))
    as_often = [shop.trace(faults.warning() if number % 5 == 0 else None) for number in range(40)]
    assert templates.find(Window(as_often, baseline)) == []
    more = [shop.trace(faults.warning() if number % 5 else None) for number in range(40)]
    [finding] = templates.find(Window(more, baseline))
    assert "log less often" in finding.summary


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_how_many_lines_were_lost_is_told_by_the_service_in_the_middle(
    share: float, shop: Any, plans: Any, baseline: Baseline
) -> None:
    """Lines lost at random everywhere are measured, and nobody is accused of leaving out steps.

    Traces of which hardly a line is left do not count, so that it is less than was taken away.
    """
    rng = random.Random(3)
    traces = plans.built(record for _ in range(80) for record in thinned(shop.records(), rng, share))
    verdict = diagnose_window(traces, baseline)
    assert verdict.causes == []
    assert 0.6 * share < lines_lost(Window(traces, baseline).visits, baseline.profile) < share + 0.1
    assert any("of the log lines did not arrive" in note for note in verdict.notes)


def test_one_service_that_logs_less_is_no_lost_line(shop: Any, faults: Any, baseline: Baseline) -> None:
    """A fault takes lines away where it is, not everywhere."""
    window = Window(shop.traces(40, faults.exception()), baseline)
    assert window.lines_lost == 0.0


def test_a_fault_that_spans_show_is_found_without_half_of_the_lines(
    shop: Any, faults: Any, plans: Any, baseline: Baseline
) -> None:
    """With less confidence than with all of them."""
    rng = random.Random(4)
    whole = [shop.records(faults.slow() if number % 2 else None) for number in range(60)]
    half = [thinned(records, rng, 0.5) for records in whole]

    def first(orders: list[list[Record]]) -> Any:
        return diagnose_window(plans.built(r for records in orders for r in records), baseline).causes[0]

    assert first(whole).service == first(half).service == "inventory"
    assert first(half).confidence < 0.9 * first(whole).confidence
