"""One trace against healthy ones: each fault is named, with its service, its place and its proof."""

from __future__ import annotations

from typing import Any

import pytest

from collector.diagnose.baseline import Baseline
from collector.diagnose.engine import HEALTHY_TRACES_MIN, SIGNALS, diagnose_trace
from collector.diagnose.verdict import EVIDENCE_MAX, EVIDENCE_MIN, FAULTS
from collector.model import Cause, Trace, Verdict


@pytest.fixture
def baseline(shop: Any) -> Baseline:
    learned = Baseline()
    learned.learn(shop.traces(40))
    return learned


def first(verdict: Verdict) -> Cause:
    assert verdict.causes, verdict
    assert verdict.insufficient is None
    return verdict.causes[0]


def uids(trace: Trace) -> set[str]:
    return {node.record.uid for node in trace.walk()} | {
        log.uid for node in trace.walk() for log in node.logs
    }


KNOWN = {
    "exception": ("inventory", "exception", "shop/inventory.py:52 in shelf_label"),
    "slow": ("inventory", "slow", "find stock"),
    "missing_step": ("orders", "missing_step", "check credit"),
    "slow_network": ("inventory", "slow_calls", "/shop/Reserve"),
    "slow_queue": ("payments", "queue_delay", "charge"),
    "error_line": ("orders", "error", "shop/orders.py:99 in f"),
    "too_many_calls": ("inventory", "more_calls", "find stock"),
    "retries": ("inventory", "error", "/shop/Reserve"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_fault_is_named_by_service_kind_and_place(
    name: str, shop: Any, faults: Any, baseline: Baseline
) -> None:
    """The first cause is the injected one, and its records are of this trace."""
    service, fault, where = KNOWN[name]
    trace = shop.trace(getattr(faults, name)())
    verdict = diagnose_trace(trace, baseline)
    cause = first(verdict)
    assert (cause.service, cause.fault) == (service, fault)
    assert where in f"{cause.location} {cause.operation}"
    assert EVIDENCE_MIN <= len(cause.evidence) <= EVIDENCE_MAX
    assert {item.uid for item in cause.evidence} <= uids(trace)
    assert cause.refuted_by
    assert verdict.traces_compared == 40


@pytest.mark.parametrize(
    ("name", "service", "fault"),
    [("missing_step", "orders", "missing_step"), ("error_line", "orders", "error")],
)
@pytest.mark.parametrize("stalled", ["hold items", "authorise", "/shop/Reserve"])
def test_what_healthy_runs_never_do_is_named_before_a_stall(
    name: str, service: str, fault: str, stalled: str, shop: Any, faults: Any, plans: Any, baseline: Baseline
) -> None:
    """A machine holds up an order now and then by several times its length; no machine leaves out a step."""
    plan = getattr(faults, name)().edited(stalled, lambda call: plans.slower(call, 60))
    cause = first(diagnose_trace(shop.trace(plan), baseline))
    assert (cause.service, cause.fault) == (service, fault)


def test_a_step_that_healthy_runs_leave_out_as_well_is_not_named_before_a_delay(
    new_shop: Any, faults: Any, plans: Any
) -> None:
    """It is no rule of the program, so that the delay is more of a surprise."""
    shop, baseline = new_shop(4), Baseline()
    baseline.learn([*shop.traces(30), *shop.traces(4, faults.missing_step()), *shop.traces(6)])
    plan = faults.missing_step().edited("find stock", lambda call: plans.slower(call, 300))
    assert diagnose_trace(shop.trace(plan), baseline).services[:1] == ["inventory"]


def test_a_killed_process_is_named_with_its_last_words(shop: Any, faults: Any, baseline: Baseline) -> None:
    """The span that never ended, the line before it, and the place of that line."""
    cause = first(diagnose_trace(shop.trace(faults.crash(), killed=True), baseline))
    assert (cause.service, cause.fault, cause.operation) == ("payments", "process_died", "authorise")
    assert cause.confidence > 0.9
    assert "killed" in cause.summary
    assert any("charging order" in item.quote for item in cause.evidence)


def test_a_span_without_an_end_is_doubted_while_nobody_knows_of_a_death(
    shop: Any, faults: Any, baseline: Baseline
) -> None:
    """Without the ledger's word the process may just still be running: named, but less surely."""
    trace = shop.trace(faults.crash())
    verdict = diagnose_trace(trace, baseline)
    assert first(verdict).service == "payments"
    assert first(verdict).confidence < 0.9
    assert any("still open" in note for note in verdict.notes)


def test_a_message_that_nobody_took_up_is_held_against_who_should_have(
    shop: Any, faults: Any, baseline: Baseline
) -> None:
    """The sender did its part."""
    cause = first(diagnose_trace(shop.trace(faults.missing_message()), baseline))
    assert (cause.service, cause.fault, cause.operation) == ("payments", "not_taken_up", "charge")
    assert "orders" in cause.summary


def test_a_service_that_is_not_there_is_named_although_it_says_nothing(
    shop: Any, faults: Any, baseline: Baseline
) -> None:
    """Its caller raises and logs; what it raises for is the answer that did not come."""
    verdict = diagnose_trace(shop.trace(faults.dependency_down()), baseline)
    cause = first(verdict)
    assert (cause.service, cause.fault, cause.operation) == ("inventory", "no_answer", "/shop/Reserve")


def test_a_callee_whose_spans_are_missing_is_not_accused_while_nobody_fails(
    shop: Any, plans: Any, baseline: Baseline
) -> None:
    """Perhaps only its telemetry is gone."""
    plan = plans.checkout().edited(
        "/shop/Reserve",
        lambda call: plans.shortened(call, 0, plans.Work(12)) if call.kind == "CLIENT" else call,
    )
    assert diagnose_trace(shop.trace(plan), baseline).causes == []


def test_whoever_only_noticed_an_exception_is_not_named_first(
    shop: Any, faults: Any, baseline: Baseline
) -> None:
    """Orders and gateway log errors too; they are explained by the inventory."""
    verdict = diagnose_trace(shop.trace(faults.exception()), baseline)
    assert verdict.services[0] == "inventory"
    assert first(verdict).confidence > 0.7
    assert all(cause.confidence < 0.2 for cause in verdict.causes[1:])


def test_what_fails_after_an_answer_that_failed_is_not_named_either(
    shop: Any, faults: Any, plans: Any
) -> None:
    """A span beside the failed call, later in the same run, is a consequence as much as one above it."""

    def with_answer(error: bool) -> Any:
        send = plans.Call("gateway", "send answer", None, (plans.Work(0.2),), error=error)
        plan = faults.exception() if error else plans.checkout()
        return plan.edited(
            "POST /orders",
            lambda c: plans.Call(**(vars(c) | {"steps": (*c.steps, send)})) if c.service == "gateway" else c,
        )

    learned = Baseline()
    learned.learn(shop.traces(40, with_answer(error=False)))
    verdict = diagnose_trace(shop.trace(with_answer(error=True)), learned)
    assert first(verdict).service == "inventory"
    assert all(cause.confidence < 0.1 for cause in verdict.causes[1:])


def test_what_costs_the_request_nothing_is_not_why_it_is_slow(shop: Any, plans: Any) -> None:
    """A step that takes twenty times as long, and still next to nothing."""

    def plan(extra_ms: float) -> Any:
        tidy = plans.Call("orders", "tidy", None, (plans.Work(0.1), plans.Work(extra_ms)))
        return plans.checkout().edited(
            "POST /orders",
            lambda c: plans.Call(**(vars(c) | {"steps": (*c.steps, tidy)})) if c.service == "orders" else c,
        )

    learned = Baseline()
    learned.learn(shop.traces(40, plan(0)))
    assert diagnose_trace(shop.trace(plan(2)), learned).causes == []
    assert first(diagnose_trace(shop.trace(plan(200)), learned)).operation == "tidy"


def test_a_healthy_trace_is_called_normal(shop: Any, baseline: Baseline) -> None:
    """Nothing is named, and what was looked at is listed."""
    verdict = diagnose_trace(shop.trace(), baseline)
    assert (verdict.causes, verdict.insufficient) == ([], None)
    assert len(verdict.normal) == len(SIGNALS)


def test_healthy_traces_are_rarely_accused(new_shop: Any) -> None:
    """Of two hundred healthy orders, hardly any is said to be broken."""
    shop = new_shop(7)
    baseline = Baseline()
    baseline.learn(shop.traces(40))
    accused = [trace for trace in shop.traces(200) if diagnose_trace(trace, baseline).causes]
    assert len(accused) <= 4


def test_without_healthy_traces_only_what_shows_by_itself_is_named(shop: Any, faults: Any) -> None:
    """An exception does; a missing step does not, and then the verdict says what is lacking."""
    few = Baseline()
    few.learn(shop.traces(HEALTHY_TRACES_MIN - 1))
    lacking = diagnose_trace(shop.trace(faults.missing_step()), few)
    assert lacking.causes == []
    assert str(HEALTHY_TRACES_MIN) in (lacking.insufficient or "")
    assert lacking.normal == []
    shown = diagnose_trace(shop.trace(faults.exception()), Baseline())
    assert first(shown).service == "inventory"
    assert "healthy traces" in shown.notes[0]


def test_an_exception_that_healthy_runs_raise_too_is_no_cause(shop: Any, faults: Any) -> None:
    """Handled every day, it explains nothing today."""
    used_to_it = Baseline()
    used_to_it.learn(shop.traces(20) + shop.traces(20, faults.exception()))
    verdict = diagnose_trace(shop.trace(faults.exception()), used_to_it)
    assert all(cause.fault != "exception" for cause in verdict.causes)


def test_a_new_version_that_moved_its_lines_is_no_fault(shop: Any, plans: Any, baseline: Baseline) -> None:
    """Log lines at other line numbers, otherwise the same program."""

    def moved(call: Any) -> Any:
        steps = tuple(
            plans.Line(step.text, step.line + 7) if isinstance(step, plans.Line) else step
            for step in call.steps
        )
        return call.__class__(**(vars(call) | {"steps": steps}))

    plan = plans.checkout()
    for name in ("POST /orders", "find stock", "check credit", "charge"):
        plan = plan.edited(name, moved)
    assert diagnose_trace(shop.trace(plan), baseline).causes == []


def test_the_same_question_has_the_same_answer(shop: Any, faults: Any, baseline: Baseline) -> None:
    """No chance, no clock, no order of dictionaries."""
    trace = shop.trace(faults.exception())
    assert diagnose_trace(trace, baseline) == diagnose_trace(trace, baseline)


def test_every_fault_is_a_word_of_the_closed_list(shop: Any, faults: Any, baseline: Baseline) -> None:
    """Whatever is named can be a label."""
    for name in KNOWN:
        for cause in diagnose_trace(shop.trace(getattr(faults, name)()), baseline).causes:
            assert cause.fault in FAULTS


@pytest.mark.parametrize("sort", ["gap", "self"])
def test_what_a_healthy_trace_did_as_well_is_not_held_against_one(
    sort: str, new_shop: Any, plans: Any
) -> None:
    """A call, or a step, that is slow and no slower than the slowest healthy one."""

    def plan(ms: float) -> Any:
        def edit(call: Any) -> Any:
            if sort == "gap":
                return plans.Call(**(vars(call) | {"out_ms": ms})) if call.kind == "SERVER" else call
            return plans.slower(call, ms) if call.kind == "SERVER" else call

        return plans.checkout().edited("/shop/Reserve", edit)

    shop, baseline = new_shop(8), Baseline()
    baseline.learn([shop.trace(plan(400) if number == 20 else None) for number in range(40)])
    assert diagnose_trace(shop.trace(plan(200)), baseline).causes == []
    assert diagnose_trace(shop.trace(plan(4_000)), baseline).services[:1] == ["inventory"]
