"""One instance against the others of its service."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from collector.diagnose.baseline import Baseline
from collector.diagnose.engine import SIGNALS, diagnose_window
from collector.diagnose.signals import siblings
from collector.diagnose.window import Window
from collector.model import Trace


def spread_over(shop: Any, plans: Any, plan_of: Any, names: tuple[str, ...], count: int = 60) -> list[Trace]:
    """Orders whose inventories take turns; `plan_of` says what happens in which."""
    records = []
    for number in range(count):
        name = names[number % len(names)]
        records += [
            structs.replace(r, resource={"service.instance.id": name}) if r.service == "inventory" else r
            for r in shop.records(plan_of(name))
        ]
    built: list[Trace] = plans.built(records)
    return built


def test_instances_that_do_the_same_are_not_told_apart(shop: Any, plans: Any) -> None:
    """Three alike: nothing to say."""
    traces = spread_over(shop, plans, lambda _: None, ("a", "b", "c"))
    assert siblings.find(Window(traces, Baseline())) == []


@pytest.mark.parametrize(("fault", "kind"), [("exception", "error"), ("slow", "slow")])
def test_the_instance_that_differs_is_named_without_any_baseline(
    fault: str, kind: str, shop: Any, faults: Any, plans: Any
) -> None:
    """Its siblings are the measure."""
    plan = getattr(faults, fault)()
    traces = spread_over(shop, plans, lambda name: plan if name == "b" else None, ("a", "b", "c"))
    [finding] = siblings.find(Window(traces, Baseline()))
    assert (finding.service, finding.instance, finding.fault) == ("inventory", "b", kind)
    assert {item.service for item in finding.evidence} == {"inventory"}


def test_a_lone_instance_and_a_rare_one_are_no_measure(shop: Any, faults: Any, plans: Any) -> None:
    """Without others, or with a handful of runs, nothing is said."""
    alone = spread_over(shop, plans, lambda _: faults.slow(), ("a",))
    assert siblings.find(Window(alone, Baseline())) == []
    few = spread_over(shop, plans, lambda name: faults.slow() if name == "b" else None, ("a", "b"), count=10)
    assert siblings.find(Window(few, Baseline())) == []


def test_it_makes_the_service_likelier_and_raises_no_alarm_by_itself(
    new_shop: Any, faults: Any, plans: Any
) -> None:
    """With a baseline in which one instance was always slower, that is no fault; beside a fault it counts."""
    shop, baseline = new_shop(5), Baseline()
    slow = plans.checkout().edited("find stock", lambda call: plans.slower(call, 20))
    usual = spread_over(shop, plans, lambda name: slow if name == "b" else None, ("a", "b"))
    baseline.learn(usual)
    again = spread_over(shop, plans, lambda name: slow if name == "b" else None, ("a", "b"))
    assert siblings.find(Window(again, baseline)) != []
    assert diagnose_window(again, baseline).causes == []
    plan = faults.exception()
    broken = spread_over(shop, plans, lambda name: plan if name == "b" else None, ("a", "b"))
    without = {name: signal for name, signal in SIGNALS.items() if name != siblings.SIGNAL}
    first, less = (diagnose_window(broken, baseline, signals=s).causes[0] for s in (SIGNALS, without))
    assert (first.service, first.instance) == ("inventory", "b")
    assert siblings.SIGNAL in first.signals
    assert first.confidence >= less.confidence
