"""A stretch of time against what came before: culprits are named, victims are not, silence is told."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import structs

from collector.diagnose.baseline import Baseline
from collector.diagnose.engine import SIGNALS, diagnose_window
from collector.diagnose.localisation import Suspect, strongest
from collector.diagnose.signals import repeats
from collector.diagnose.window import Window
from collector.model import Record, Trace, Verdict
from collector.trace.build import build_trace


@pytest.fixture
def baseline(shop: Any) -> Baseline:
    learned = Baseline()
    learned.learn(shop.traces(60))
    return learned


def mixed(shop: Any, plan: Any, *, broken: int = 20, healthy: int = 20) -> list[Trace]:
    """Broken and healthy orders in turns."""
    traces = []
    for number in range(broken + healthy):
        is_broken = number % 2 == 0 if number < 2 * min(broken, healthy) else broken > healthy
        traces.append(shop.trace(plan if is_broken else None))
    return traces


@pytest.mark.parametrize(
    ("name", "service", "fault"),
    [
        ("exception", "inventory", "exception"),
        ("slow", "inventory", "slow"),
        ("missing_step", "orders", "missing_step"),
        ("slow_network", "inventory", "slow_calls"),
        ("slow_queue", "payments", "queue_delay"),
        ("error_line", "orders", "error"),
        ("crash", "payments", "process_died"),
        ("too_many_calls", "inventory", "more_calls"),
        ("retries", "inventory", "error"),
        ("dependency_down", "inventory", "no_answer"),
        ("missing_message", "payments", "not_taken_up"),
    ],
)
def test_a_fault_in_half_of_the_traces_is_named(
    name: str, service: str, fault: str, shop: Any, faults: Any, baseline: Baseline
) -> None:
    """Service and kind, whatever else goes on."""
    verdict = diagnose_window(mixed(shop, getattr(faults, name)()), baseline)
    assert verdict.causes, verdict
    assert (verdict.causes[0].service, verdict.causes[0].fault) == (service, fault)
    assert verdict.causes[0].confidence > 0.5


def test_healthy_windows_raise_no_alarm(new_shop: Any) -> None:
    """Thirty minutes of healthy orders, each measured by another half hour."""
    shop = new_shop(3)
    baseline = Baseline()
    baseline.learn(shop.traces(60))
    for _ in range(30):
        assert diagnose_window(shop.traces(40), baseline).causes == []


def test_an_empty_window_is_normal(baseline: Baseline) -> None:
    """Nothing happened, nothing is wrong."""
    assert diagnose_window([], baseline).causes == []


def test_a_machine_that_is_slower_as_a_whole_is_no_fault(shop: Any, baseline: Baseline) -> None:
    """What all services have in common is taken off first."""
    slow = [_scaled(shop.records(), 3) for _ in range(40)]
    assert diagnose_window(_built(slow), baseline).causes == []


def test_scaling_all_times_does_not_change_the_ranking(shop: Any, faults: Any, baseline: Baseline) -> None:
    """Neither of the window alone nor of window and baseline."""
    records = [shop.records(faults.slow() if n % 2 else None) for n in range(40)]
    plain = diagnose_window(_built(records), baseline)
    scaled = diagnose_window(_built([_scaled(same, 3) for same in records]), baseline)
    assert scaled.services[:1] == plain.services[:1] == ["inventory"]


def test_names_and_dates_do_not_matter(shop: Any, new_shop: Any, faults: Any) -> None:
    """Every service renamed, every time shifted: the same ranking under the new names."""

    def renamed(records: list[Record]) -> list[Record]:
        return [
            structs.replace(r, service=f"x-{r.service[::-1]}", timestamp_ns=r.timestamp_ns + 10**17)
            for r in records
        ]

    verdicts = []
    for change in (list, renamed):
        shop = new_shop(5)
        baseline = Baseline()
        baseline.learn(_built([change(shop.records()) for _ in range(60)]))
        window = [change(shop.records(faults.exception() if n % 2 else None)) for n in range(40)]
        verdicts.append(diagnose_window(_built(window), baseline))
    assert [f"x-{service[::-1]}" for service in verdicts[0].services] == verdicts[1].services
    assert [c.confidence for c in verdicts[0].causes] == [c.confidence for c in verdicts[1].causes]


def test_a_caller_that_waits_everywhere_is_behind_it_itself(new_shop: Any, plans: Any) -> None:
    """All ways out of one service are long, those of others to the same callees are not."""

    def plan(out_ms: float) -> Any:
        def ask(who: str, whom: str, ms: float) -> Any:
            answer = plans.Call(whom, f"{whom}.get", "SERVER", (plans.Work(2),), out_ms=ms)
            return plans.Call(who, f"{whom}.get", "CLIENT", (answer,))

        front = plans.Call(
            "front", "page", "SERVER", tuple(ask("front", whom, out_ms) for whom in ("ads", "cart", "stock"))
        )
        other = plans.Call("side", "job", "SERVER", tuple(ask("side", whom, 0.3) for whom in ("ads", "cart")))
        return plans.Call("edge", "get", "SERVER", (front, other))

    shop, baseline = new_shop(2), Baseline()
    baseline.learn(shop.traces(60, plan(0.3)))
    verdict = diagnose_window(shop.traces(30, plan(60)), baseline)
    assert verdict.services[0] == "front"
    assert verdict.causes[0].fault == "slow_calls"


def test_an_answer_that_stops_every_caller_is_held_against_who_gave_it(new_shop: Any, plans: Any) -> None:
    """One caller that stops may be broken itself; when all stop after the same answer, it is the answer."""

    def plan(*, stopping: Sequence[str], users: Sequence[str] = ("web", "app")) -> Any:
        def user(name: str) -> Any:
            answer = plans.Call("catalogue", "get", "SERVER", (plans.Work(2),))
            steps = (
                plans.Call(name, "get", "CLIENT", (answer,)),
                plans.Call(name, "convert", None, (plans.Work(1),)),
                plans.Call(name, "render", None, (plans.Work(1),)),
            )
            return plans.Call(name, f"{name} page", "SERVER", steps[: 1 if name in stopping else 3])

        return plans.Call("edge", "all", "SERVER", tuple(user(name) for name in users))

    shop, baseline = new_shop(2), Baseline()
    baseline.learn(shop.traces(60, plan(stopping=())))
    both = diagnose_window(shop.traces(30, plan(stopping=("web", "app"))), baseline)
    assert (both.services[0], both.causes[0].fault) == ("catalogue", "bad_answer")
    # Nobody knows how a caller went on whose span was lost: it is not one that goes on as usual.
    records = [record for _ in range(30) for record in shop.records(plan(stopping=("web", "app")))]
    lost = [record for record in records if record.span_kind == "CLIENT"][::20]
    partly = diagnose_window(_built([[record for record in records if record not in lost]]), baseline)
    assert (partly.services[0], partly.causes[0].fault) == ("catalogue", "bad_answer")
    one = diagnose_window(shop.traces(30, plan(stopping=("app",))), baseline)
    assert (one.services[0], one.causes[0].fault) == ("app", "stopped_early")
    alone = Baseline()
    alone.learn(shop.traces(60, plan(stopping=(), users=("web",))))
    only = diagnose_window(shop.traces(30, plan(stopping=("web",), users=("web",))), alone)
    assert (only.services[0], only.causes[0].fault) == ("web", "stopped_early")
    # Nobody else asks, so that it may also be the answer: the first is not called sure.
    assert (only.causes[1].service, only.causes[1].fault) == ("catalogue", "bad_answer")
    assert 0.6 < only.causes[0].confidence < 0.8 < one.causes[0].confidence


def test_a_short_fault_in_a_long_window_is_found(shop: Any, faults: Any, baseline: Baseline) -> None:
    """One minute of twenty: too thin for the whole, plain in its own slice."""
    traces = [
        shop.trace(faults.missing_step() if 600 <= at_s < 660 else None, at_s=at_s) for at_s in range(1200)
    ]
    verdict = diagnose_window(traces, baseline)
    assert verdict.services[:1] == ["orders"]
    assert verdict.causes[0].operation == "check credit"


def test_looking_at_many_slices_is_paid_for() -> None:
    """The best of ten looks is worth less than the same in one."""
    suspects = [
        Suspect(service="a", decades=4.0, findings=[]),
        Suspect(service="b", decades=2.0, findings=[]),
    ]
    best = strongest([suspects, *([[Suspect(service="b", decades=3.5, findings=[])]] * 9)])
    assert [(suspect.service, suspect.decades) for suspect in best] == [("a", 3.0), ("b", 2.5)]


def test_a_line_that_a_new_version_moved_and_another_that_it_lost(
    shop: Any, plans: Any, baseline: Baseline
) -> None:
    """The moved one is no fault; the lost one is, and the place that is named is the new one."""

    def changed(call: Any) -> Any:
        kept = [step for step in call.steps if not (isinstance(step, plans.Line) and step.line == 70)]
        moved = [plans.Line(s.text, s.line + 7) if isinstance(s, plans.Line) else s for s in kept]
        return plans.Call(**(vars(call) | {"steps": tuple(moved)}))

    plan = plans.checkout().edited("POST /orders", lambda c: changed(c) if c.service == "orders" else c)
    [cause] = diagnose_window(shop.traces(40, plan), baseline).causes
    assert (cause.service, cause.fault) == ("orders", "stopped_early")
    assert "shop/orders.py:68" in (cause.location or "")


def test_two_faults_at_once_are_both_named(shop: Any, faults: Any, baseline: Baseline) -> None:
    """One does not hide the other."""
    traces = [shop.trace((faults.slow_queue(), faults.error_line(), None)[n % 3]) for n in range(60)]
    assert set(diagnose_window(traces, baseline).services[:2]) == {"payments", "orders"}


def test_repeated_calls_in_vain_are_called_retries(shop: Any, plans: Any, baseline: Baseline) -> None:
    """Where the callee says nothing of its own, the caller that asks again and again is named."""
    in_vain = plans.Call("orders", "price order", None, (plans.Work(1),), error=True)
    plan = plans.checkout().edited(
        "POST /orders",
        lambda c: (
            plans.Call(**(vars(c) | {"steps": (*c.steps, *[in_vain] * 6)})) if c.service == "orders" else c
        ),
    )
    found = repeats.find(Window(shop.traces(20, plan), baseline))
    assert [(finding.service, finding.fault) for finding in found] == [("orders", "retries")]
    assert "6 of them in vain" in found[0].summary


def _versioned(records: list[Record], versions: dict[str, str]) -> list[Record]:
    return [
        structs.replace(r, resource=r.resource | {"service.version": versions.get(r.service, "1.0")})
        for r in records
    ]


def test_a_new_version_is_told_and_makes_its_service_likelier(shop: Any, faults: Any) -> None:
    """It is no fault by itself; of two suspects it points at the one that changed."""
    baseline = Baseline()
    baseline.learn(_built([_versioned(shop.records(), {}) for _ in range(60)]))

    def verdict(versions: dict[str, str], *plans: Any) -> Verdict:
        plan = [plans[n % len(plans)] if plans else None for n in range(60)]
        return diagnose_window(_built([_versioned(shop.records(p), versions) for p in plan]), baseline)

    deployed = verdict({"orders": "2.0"})
    assert deployed.causes == []
    assert deployed.notes == ["orders runs version 2.0, which the healthy traces do not know"]
    both = (faults.error_line(), faults.slow_queue(), None)
    before, after = verdict({}, *both), verdict({"orders": "2.0"}, *both)

    def share(of: Verdict) -> float:
        return next(cause.confidence for cause in of.causes if cause.service == "orders")

    assert share(after) > share(before)


def test_more_requests_than_usual_are_told(shop: Any, baseline: Baseline) -> None:
    """So that load can be told from a fault."""
    traces = [shop.trace(at_s=1_000 + number / 4) for number in range(100)]
    verdict = diagnose_window(traces, baseline)
    assert verdict.causes == []
    assert verdict.notes == ["4 times as many requests as usual came in at POST /orders in gateway"]


@pytest.mark.parametrize(
    ("attributes", "fails"),
    [
        ({"http.response.status_code": 503}, True),
        ({"http.response.status_code": 404}, False),
        ({"rpc.grpc.status_code": 14}, True),
        ({"rpc.grpc.status_code": 5}, False),
        ({"http.response.status_code": "503"}, False),
    ],
)
def test_codes_are_read_where_the_status_says_nothing(
    attributes: dict[str, Any], fails: bool, shop: Any, plans: Any, baseline: Baseline
) -> None:
    """A server's failure is one whatever its span's status is; a client's mistake is none."""
    plan = plans.checkout().edited(
        "price order", lambda call: plans.Call(**(vars(call) | {"attributes": attributes}))
    )
    causes = diagnose_window(shop.traces(30, plan), baseline).causes
    assert [(cause.service, cause.fault) for cause in causes] == ([("orders", "error")] if fails else [])


def test_a_trace_whose_lines_did_not_arrive_is_left_out_of_account(new_shop: Any) -> None:
    """In the baseline and in the window: whole traces without lines are no missing lines."""
    shop, baseline = new_shop(6), Baseline()
    baseline.learn(_built([_silenced(shop.records(), None if n < 10 else "nobody") for n in range(60)]))
    [orders] = [
        profile
        for operation, profile in baseline.profile.operations.items()
        if (operation.service, operation.name) == ("orders", "POST /orders")
    ]
    assert sum(orders.follows["^log"].values()) == 50
    window = _built([_silenced(shop.records(), None if n % 2 else "nobody") for n in range(40)])
    assert diagnose_window(window, baseline).causes == []


# ------------------------------------------------------------------ lost telemetry


def _drop(records: list[Record], rng: random.Random, share: float) -> list[Record]:
    return [record for record in records if record.kind != "span" or rng.random() >= share]


def test_lost_spans_are_no_missing_steps(new_shop: Any) -> None:
    """A third of all spans never arrived; nobody is accused, and the verdict says what it did not see."""
    shop, baseline, rng = new_shop(4), Baseline(), random.Random(1)
    baseline.learn(shop.traces(60))
    for _ in range(10):
        traces = _built([_drop(shop.records(), rng, 0.3) for _ in range(40)])
        verdict = diagnose_window(traces, baseline)
        assert verdict.causes == []
        assert "did not arrive" in verdict.notes[0]


@pytest.mark.parametrize("name", ["exception", "slow", "slow_network", "error_line"])
def test_a_fault_is_found_among_lost_spans(name: str, shop: Any, faults: Any, baseline: Baseline) -> None:
    """What did arrive still shows it."""
    rng = random.Random(2)
    plan = getattr(faults, name)()
    traces = _built([_drop(shop.records(plan if n % 2 else None), rng, 0.3) for n in range(60)])
    service = {"error_line": "orders"}.get(name, "inventory")
    assert diagnose_window(traces, baseline).services[:1] == [service]


def _silenced(records: list[Record], service: str | None) -> list[Record]:
    return [r for r in records if r.kind != "log" or (service is not None and r.service != service)]


def test_a_service_whose_lines_do_not_arrive_is_not_accused(shop: Any, baseline: Baseline) -> None:
    """Its spans say that it works; the verdict says that its lines are missing."""
    verdict = diagnose_window(_built([_silenced(shop.records(), "inventory") for _ in range(40)]), baseline)
    assert verdict.causes == []
    assert "inventory" in verdict.notes[0]


def test_a_fault_elsewhere_is_still_found_then(shop: Any, faults: Any, baseline: Baseline) -> None:
    """The silence of a healthy service does not hide it."""
    records = [
        _silenced(shop.records(faults.error_line() if n % 2 else None), "inventory") for n in range(40)
    ]
    assert diagnose_window(_built(records), baseline).services[:1] == ["orders"]


def test_without_any_lines_nobody_is_accused_of_silence(shop: Any, baseline: Baseline) -> None:
    """What brings the lines has failed, not every program."""
    verdict = diagnose_window(_built([_silenced(shop.records(), None) for _ in range(40)]), baseline)
    assert verdict.causes == []
    assert "hardly any log lines" in verdict.notes[0]


# ------------------------------------------------------------------ the engine


# These never name a cause by themselves; their own tests show what they add.
SUPPORTING = ("changes", "siblings")


@pytest.mark.parametrize("removed", [name for name in SIGNALS if name not in SUPPORTING])
def test_each_signal_sees_what_no_other_does(
    removed: str, shop: Any, faults: Any, baseline: Baseline
) -> None:
    """Without it, some fault is not named as what it is any more: none is there for decoration."""
    names = ["exception", "slow", "missing_step", "slow_network", "error_line", "crash", "too_many_calls"]
    names += ["warning"]
    windows = {name: mixed(shop, getattr(faults, name)()) for name in names}
    signals = {name: signal for name, signal in SIGNALS.items() if name != removed}

    def answers(chosen: Any) -> list[tuple[str, str] | None]:
        verdicts: list[Verdict] = [diagnose_window(w, baseline, signals=chosen) for w in windows.values()]
        return [(v.causes[0].service, v.causes[0].fault) if v.causes else None for v in verdicts]

    assert answers(signals) != answers(SIGNALS)


def test_a_cause_cites_records_of_the_window(shop: Any, faults: Any, baseline: Baseline) -> None:
    """Proof is what can be looked up, each record once."""
    traces = mixed(shop, faults.exception())
    uids = {node.record.uid for trace in traces for node in trace.walk()}
    uids |= {log.uid for trace in traces for node in trace.walk() for log in node.logs}
    for cause in diagnose_window(traces, baseline).causes:
        cited = [item.uid for item in cause.evidence]
        assert set(cited) <= uids
        assert len(cited) == len(set(cited)) > 0


def test_an_instance_that_alone_is_slow_is_named(shop: Any, faults: Any, baseline: Baseline) -> None:
    """When all that is slow ran in one instance, the cause says which."""
    traces = []
    for number in range(40):
        records = shop.records(faults.slow() if number % 2 else None)
        name = "inventory-bad" if number % 2 else "inventory-good"
        traces.append(
            [
                structs.replace(r, resource={"service.instance.id": name}) if r.service == "inventory" else r
                for r in records
            ]
        )
    [first, *_] = diagnose_window(_built(traces), baseline).causes
    assert (first.service, first.instance) == ("inventory", "inventory-bad")


def test_confidence_is_shared_among_rivals(shop: Any, faults: Any, baseline: Baseline) -> None:
    """All causes together are never surer than certain, and the first is the surest."""
    traces = [shop.trace((faults.slow_queue(), faults.error_line(), faults.slow())[n % 3]) for n in range(60)]
    confidences = [cause.confidence for cause in diagnose_window(traces, baseline).causes]
    assert sum(confidences) <= 1.001
    assert confidences == sorted(confidences, reverse=True)


def _scaled(records: list[Record], factor: int) -> list[Record]:
    start = min(record.timestamp_ns for record in records)
    return [
        structs.replace(
            record,
            timestamp_ns=start + factor * (record.timestamp_ns - start),
            duration_ns=None if record.duration_ns is None else factor * record.duration_ns,
        )
        for record in records
    ]


def _built(orders: list[list[Record]]) -> list[Trace]:
    return [build_trace(records[0].trace_id or "", records) for records in orders if records]
