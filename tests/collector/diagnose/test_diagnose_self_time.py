"""What is said of a service that spends more time in itself: how much, of what, and when it is no cause."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from collector.diagnose.baseline import Baseline
from collector.diagnose.engine import diagnose_trace, diagnose_window, judge_trace
from collector.model import ExceptionInfo

RAISED = """Traceback (most recent call last):
  File "/srv/shop/payments.py", line 31, in charge
    raise ValueError(f"limit of {limit} exceeded")
ValueError: limit of 100 exceeded
"""


@pytest.fixture
def baseline(shop: Any) -> Baseline:
    """Sixty healthy orders."""
    learned = Baseline()
    learned.learn(shop.traces(60))
    return learned


def payment(plans: Any, ms: float, *, raises: bool) -> Any:
    """A charge that takes so long in itself, and perhaps is over the limit."""
    raised = ExceptionInfo(type="ValueError", message="limit of 100 exceeded", stacktrace=RAISED)
    line = plans.Line("charge failed", 31, "ERROR", raised)
    charge = plans.Call("payments", "charge", None, (plans.Work(ms), *([line] if raises else ())), raises)
    return plans.Call("shop", "POST /orders", "SERVER", (plans.Work(0.2), charge), raises)


@pytest.mark.parametrize(
    ("ms", "is_explained"),
    [
        (0.95, True),  # raising, formatting and logging it takes as long
        (60, False),  # nothing that is done for an exception does
    ],
)
def test_what_an_exception_costs_is_no_delay(shop: Any, plans: Any, ms: float, is_explained: bool) -> None:
    """A run of microseconds is longer by far when it raises, and that is not what is wrong with it."""
    baseline = Baseline()
    baseline.learn(shop.traces(40, payment(plans, 0.065, raises=False)))
    judgement = judge_trace(shop.trace(payment(plans, ms, raises=True)), baseline)
    cause = judgement.verdict.causes[0]
    assert (cause.service, cause.fault) == ("payments", "exception")
    assert {"exceptions", "self_time"} <= set(cause.signals)
    (delay,) = [found for found in judgement.suspects[0].findings if found.signal == "self_time"]
    assert (delay.explained_by is not None) == is_explained


def test_a_short_run_that_raises_nothing_may_still_be_slow(shop: Any, plans: Any) -> None:
    """A millisecond counts where nothing explains it."""
    baseline = Baseline()
    baseline.learn(shop.traces(40, payment(plans, 0.065, raises=False)))
    cause = diagnose_trace(shop.trace(payment(plans, 0.95, raises=False)), baseline).causes[0]
    assert (cause.service, cause.fault) == ("payments", "slow")


def test_one_slow_operation_is_not_all_that_a_service_does(
    shop: Any, faults: Any, baseline: Baseline
) -> None:
    """A mean over all of its operations would be true of none of them."""
    cause = diagnose_window(shop.traces(20, faults.slow()), baseline).causes[0]
    assert cause.summary.startswith("find stock in inventory takes 317 ms itself")
    assert "all that" not in cause.summary


def test_a_service_that_is_slower_in_all_it_does_is_called_that(
    shop: Any, plans: Any, baseline: Baseline
) -> None:
    """By how much its whole time has grown, not by a mean over operations of which each counts the same."""

    def starved(call: Any) -> Any:
        times = 10 if call.name == "find stock" else 3
        steps = [plans.Work(times * step.ms) if isinstance(step, plans.Work) else step for step in call.steps]
        return replace(call, steps=tuple(steps)) if call.service == "inventory" else call

    plan = plans.checkout()
    for name in ("find stock", "hold items", "/shop/Reserve"):
        plan = plan.edited(name, starved)
    cause = diagnose_window(shop.traces(20, plan), baseline).causes[0]
    assert (cause.service, cause.fault) == ("inventory", "slow")
    said = cause.summary.partition("; all that inventory does takes ")[2]
    assert said.endswith(" times as long as usual")
    # (10 × 5 + 3 × 3 + 3 × 0.5) ms of 8.5 ms
    assert 6.5 < float(said.split()[0]) < 7.8


def test_the_summary_and_the_evidence_name_the_same_bound(shop: Any, faults: Any, baseline: Baseline) -> None:
    """A length that all healthy runs keep is not one of 99 % of them a line further down."""
    cause = diagnose_window(shop.traces(20, faults.slow()), baseline).causes[0]
    bound = cause.summary.rpartition(", ")[2]
    assert bound.startswith("all at most ")
    assert cause.evidence[0].why.endswith(bound)
