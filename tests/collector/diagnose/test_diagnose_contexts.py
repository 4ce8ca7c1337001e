"""Lost contexts: what is told, and what is not although it looks alike."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.diagnose.contexts.ask import losses_of
from collector.diagnose.contexts.chance import Stretches, tail
from collector.diagnose.contexts.losses import Evidence, context_losses
from collector.diagnose.contexts.model import EXAMPLES_MAX, ContextLoss
from collector.model import Link, Record, Source, Trace, TraceStatus
from collector.receive.files import read_records
from collector.store.embedded import EmbeddedStore
from collector.store.memory import MemoryStore
from collector.trace.build import build_trace

MS = 1_000_000
SECOND = 1_000 * MS
START_NS = 1_800_000_000 * SECOND
HOUR_NS = 3_600 * SECOND
NOTHING = Evidence([], [])
ROUNDS = 12

HTTP = {"http.request.method": "POST"}
QUEUE = {"messaging.destination.name": "mails"}


class Recording:
    """Records of a made-up system; each service is one process, with a spool of its own."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def _add(self, service: str, at_ms: float, **fields: Any) -> Record:
        spool = f"{sum(service.encode()):032x}"
        record = Record(
            uid=f"{spool}-{len(self.records)}",
            timestamp_ns=START_NS + round(at_ms * MS),
            level="INFO",
            severity_number=9,
            service=service,
            resource={"service.name": service, "host.name": "one"},
            **fields,
        )
        self.records.append(record)
        return record

    def span(
        self,
        service: str,
        name: str,
        at_ms: float,
        ms: float,
        *,
        kind: str = "INTERNAL",
        below: Record | None = None,
        parent_id: str | None = None,
        **fields: Any,
    ) -> Record:
        """One span; it begins a trace unless it is below another."""
        number = len(self.records) + 1
        return self._add(
            service,
            at_ms,
            kind="span",
            name=name,
            span_kind=kind,
            trace_id=below.trace_id if below is not None else f"{number:032x}",
            span_id=f"{number:016x}",
            parent_span_id=below.span_id if below is not None else parent_id,
            duration_ns=round(ms * MS),
            **fields,
        )

    def line(self, service: str, at_ms: float, text: str, line: int, inside: Record | None = None) -> None:
        """One log line, outside any trace unless it is inside a span."""
        ids = {} if inside is None else {"trace_id": inside.trace_id, "span_id": inside.span_id}
        source = Source(file="app.py", line=line, function="work")
        self._add(service, at_ms, message=text, logger=service, source=source, **ids)

    def evidence(self, status: TraceStatus | None = None) -> Evidence:
        """What was recorded, as traces and lines outside them."""
        traces = defaultdict(list)
        for record in self.records:
            if record.trace_id is not None:
                traces[record.trace_id].append(record)
        built = [build_trace(trace_id, records, status=status) for trace_id, records in traces.items()]
        return Evidence(built, [record for record in self.records if record.trace_id is None])


def told(now: Evidence, before: Evidence = NOTHING) -> list[ContextLoss]:
    """What is told when everything is settled."""
    return context_losses(now, before, settled_ns=START_NS + HOUR_NS)


def mails(*, is_kept: bool, **consumed: Any) -> Evidence:
    """Messages that a worker takes somewhat later."""
    recording = Recording()
    for number in range(ROUNDS):
        at_ms = number * 1_000
        order = recording.span("shop", "POST /orders", at_ms, 30, kind="SERVER")
        sent = recording.span(
            "shop", "send mails", at_ms + 10, 2, kind="PRODUCER", below=order, attributes=QUEUE
        )
        below = sent if is_kept else None
        fields = {"attributes": QUEUE, **consumed}
        recording.span("mailer", "process mails", at_ms + 80, 20, kind="CONSUMER", below=below, **fields)
    return recording.evidence()


# ---------------------------------------------------------------- messages


def test_messages_that_lost_the_context_are_matched_by_their_destination() -> None:
    """In the order in which they were sent; nothing is known from before."""
    [loss] = told(mails(is_kept=False))
    assert (loss.kind, loss.hop, loss.service, loss.operation) == (
        "new_trace",
        "message",
        "mailer",
        "process mails",
    )
    assert (loss.parent.service, loss.parent.operation, loss.parent.matched) == ("shop", "send mails", ROUNDS)
    assert (loss.count, loss.seen, len(loss.examples)) == (ROUNDS, ROUNDS, EXAMPLES_MAX)


def test_what_was_normal_before_makes_it_surer() -> None:
    """A parent that is known adds to what the destination says."""
    [alone], [known] = told(mails(is_kept=False)), told(mails(is_kept=False), mails(is_kept=True))
    assert alone.confidence < known.confidence < 1


def test_messages_of_the_same_id_are_as_good_as_certain() -> None:
    """The message's own identity beats destination and time."""
    recording = Recording()
    for number in range(ROUNDS):
        attributes = {**QUEUE, "messaging.message.id": f"m{number}"}
        at_ms = number * 1_000
        recording.span("shop", "send mails", at_ms, 2, kind="PRODUCER", attributes=attributes)
        late_ms = 100_000 - at_ms  # taken the other way round
        recording.span("mailer", "process mails", late_ms, 2, kind="CONSUMER", attributes=attributes)
    [loss] = told(recording.evidence())
    assert (loss.parent.how, loss.confidence) == ("its message has the same id", 0.99)


def test_a_batch_that_links_to_its_producers_has_lost_nothing() -> None:
    """A root with links says itself what it follows from."""
    links = (Link(trace_id="1" * 32, span_id="1" * 16),)
    assert told(mails(is_kept=False, links=links), mails(is_kept=True)) == []


# ---------------------------------------------------------------- calls


def calls(*, is_kept: bool, has_client: bool = True, path: str = "/charge") -> Evidence:
    """A service calls another; with or without a span of the call."""
    recording = Recording()
    for number in range(ROUNDS):
        at_ms = number * 1_000
        order = recording.span("shop", "POST /orders", at_ms, 30, kind="SERVER")
        caller = order
        if has_client:
            url = {**HTTP, "url.full": f"http://bank{path}"}
            caller = recording.span("shop", "POST", at_ms + 5, 20, kind="CLIENT", below=order, attributes=url)
        asked = {**HTTP, "url.path": "/charge"}
        below = caller if is_kept else None
        recording.span("bank", "POST /charge", at_ms + 10, 10, kind="SERVER", below=below, attributes=asked)
    return recording.evidence()


def test_a_call_that_nobody_answered_is_the_parent() -> None:
    """The same method and path at the same time."""
    [loss] = told(calls(is_kept=False))
    assert (loss.kind, loss.hop, loss.service) == ("new_trace", "http", "bank")
    assert (loss.parent.service, loss.parent.span_kind, loss.parent.matched) == ("shop", "CLIENT", ROUNDS)
    assert loss.parent.how == "it called the same thing at that time, and nobody answered"
    assert "shop sends no `traceparent`" in loss.advice


def test_a_call_without_a_span_of_its_own_is_found_by_time() -> None:
    """The client's library is not instrumented: what it was called from was going on each time."""
    [loss] = told(calls(is_kept=False, has_client=False))
    assert (loss.parent.service, loss.parent.operation) == ("shop", "POST /orders")
    assert loss.confidence < told(calls(is_kept=False))[0].confidence


def test_what_is_called_from_outside_begins_its_traces() -> None:
    """Whoever calls the entry point is not traced: nothing else is going on when it begins."""
    assert told(calls(is_kept=True), calls(is_kept=True)) == []


def test_a_service_that_is_called_from_inside_and_outside_is_no_loss() -> None:
    """It begins traces now as it did before."""
    recording = Recording()
    for number in range(2 * ROUNDS):
        at_ms = number * 1_000
        order = recording.span("shop", "POST /orders", at_ms, 30, kind="SERVER")
        inside = order if number % 2 else None
        at_ms += 10 if number % 2 else 500
        recording.span("bank", "POST /charge", at_ms, 10, kind="SERVER", below=inside, attributes=HTTP)
    assert told(recording.evidence(), recording.evidence()) == []


# ---------------------------------------------------------------- inside a process


def threads(*, busy_share: float = 0.05, chance: random.Random | None = None) -> Evidence:
    """Something is done beside each order, or at moments of chance."""
    recording = Recording()
    for number in range(ROUNDS):
        at_ms = number * 1_000
        order = recording.span("shop", "order", at_ms, 1_000 * busy_share)
        recording.line("shop", at_ms + 1, "ordered", 3, inside=order)
        begin_ms = at_ms + 1_000 * busy_share / 2 if chance is None else chance.uniform(0, ROUNDS * 1_000)
        recording.span("shop", "count", begin_ms, 1)
        recording.line("shop", begin_ms - 5, "counts", 7)
    return recording.evidence()


def test_what_a_thread_does_is_found_by_what_was_going_on() -> None:
    """The span that begins a trace, and the line without ids, each with its place."""
    spans, lines = sorted(told(threads()), key=lambda loss: loss.kind, reverse=True)
    assert (spans.kind, spans.operation, spans.hop) == ("no_ids", None, "process")
    assert (spans.source, spans.logger) == ("app.py:7 in work", "shop")
    assert (lines.kind, lines.operation, lines.parent.operation) == ("new_trace", "count", "order")


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("busy_share", [0.05, 0.5, 0.9, 1.0])
def test_jobs_at_moments_of_chance_are_no_losses(seed: int, busy_share: float) -> None:
    """A job of the process's own begins traces and writes lines without ids, whatever else is going on."""
    assert told(threads(busy_share=busy_share, chance=random.Random(seed))) == []


def test_a_process_that_is_always_busy_proves_nothing() -> None:
    """Where something is always going on, that it was says nothing; what was before does."""
    assert told(threads(busy_share=1.0)) == []


def test_few_of_a_kind_are_not_told() -> None:
    """Two may be a person trying something."""
    whole = mails(is_kept=False)
    few = Evidence(whole.traces[:4], [])
    assert told(few, mails(is_kept=True)) == []


# ---------------------------------------------------------------- parents that never came


def orphans(*, is_kept: bool, status: TraceStatus | None = None) -> Evidence:
    """A call whose client's span is there, or never came."""
    recording = Recording()
    for number in range(ROUNDS):
        at_ms = number * 1_000
        call = recording.span("shop", "POST", at_ms, 20, kind="CLIENT")
        recording.span("bank", "POST /charge", at_ms + 5, 10, kind="SERVER", below=call)
        if not is_kept:
            recording.records.remove(call)
    return recording.evidence(status)


def test_a_parent_that_never_came_is_told_where_it_comes_normally() -> None:
    """With the place of the span that is missing."""
    [loss] = told(orphans(is_kept=False), orphans(is_kept=True))
    assert (loss.kind, loss.service, loss.parent.service, loss.parent.matched) == (
        "missing_parent",
        "bank",
        "shop",
        0,
    )


def test_a_parent_outside_is_not_missed() -> None:
    """A browser that makes ids and records nothing: it was so before, too."""
    assert told(orphans(is_kept=False), orphans(is_kept=False)) == []


@pytest.mark.parametrize(
    "status", [TraceStatus(open_since_ns=START_NS)], ids=["what is still open may still come"]
)
def test_an_open_trace_misses_nothing(status: TraceStatus) -> None:
    """A process may still send what it wrote."""
    assert told(orphans(is_kept=False, status=status), orphans(is_kept=True)) == []


def test_what_is_fresh_misses_nothing() -> None:
    """A caller's span comes when the call has ended, after its callee's."""
    assert context_losses(orphans(is_kept=False), orphans(is_kept=True), settled_ns=START_NS) == []


# ---------------------------------------------------------------- chance


def test_stretches_are_merged() -> None:
    """Overlaps count once, gaps do not count."""
    busy = Stretches([(0, 10), (5, 20), (40, 50)])
    assert [time_ns in busy for time_ns in (0, 15, 20, 21, 45, 51)] == [True, True, True, False, True, False]
    assert busy.share_of(0, 100) == pytest.approx(0.3)
    assert busy.share_of(7, 7) == 1.0


@pytest.mark.parametrize(
    ("tries", "hits", "share", "probability"),
    [
        (1, 1, 0.25, 0.25),
        (2, 1, 0.5, 0.75),
        (3, 3, 0.1, 0.001),
        (5, 0, 0.3, 1.0),
        (4, 2, 0.0, 0.0),
        (4, 2, 1.0, 1.0),
    ],
)
def test_the_tail_of_the_binomial_distribution(
    tries: int, hits: int, share: float, probability: float
) -> None:
    """So many or more."""
    assert tail(tries, hits, share) == pytest.approx(probability)


# ---------------------------------------------------------------- stores, and what was recorded


def test_both_stores_give_the_same(tmp_path: Path) -> None:
    """Lines outside traces, and traces before and after a moment, come from either store alike."""
    recording = Recording()
    for number in range(2 * ROUNDS):
        at_ms = number * 1_000
        order = recording.span("shop", "order", at_ms, 40)
        inside = order if number < ROUNDS else None
        recording.line("shop", at_ms + 5, f"order {number}", 3, inside=inside)
        recording.line("shop", at_ms + 6, f"order {number} priced", 4, inside=order)
    records = [msgspec.structs.replace(one, seq=seq) for seq, one in enumerate(recording.records, 1)]
    at_ns = START_NS + ROUNDS * SECOND
    answers = []
    for store in (MemoryStore(), EmbeddedStore.open(tmp_path / "store")):
        store.append(records)
        store.commit()
        answers.append(losses_of(store, at_ns, START_NS + HOUR_NS, now_ns=START_NS + HOUR_NS))
        store.close()
    assert answers[0] == answers[1]
    [loss] = answers[0].losses
    assert (loss.kind, loss.source, loss.count, loss.parent.operation) == (
        "no_ids",
        "app.py:3 in work",
        ROUNDS,
        "order",
    )
    assert (answers[0].traces, answers[0].loose_lines, answers[0].is_whole) == (ROUNDS, ROUNDS, True)


def recorded(path: Path, *, cut: tuple[str, str] | None = None) -> Evidence:
    """A recorded stretch of time; with `cut`, spans of one operation begin traces of their own."""
    records = list(read_records([path]))
    if cut is not None:
        records = list(_severed(records, cut))
    traces = defaultdict(list)
    for record in records:
        if record.trace_id is not None:
            traces[record.trace_id].append(record)
    built: Sequence[Trace] = [build_trace(trace_id, found) for trace_id, found in traces.items()]
    return Evidence(built, [record for record in records if record.trace_id is None])


def _severed(records: Iterable[Record], cut: tuple[str, str]) -> Iterable[Record]:
    for record in records:
        if (record.service, record.name) == cut and record.span_id is not None:
            own = {"trace_id": f"{int(record.span_id, 16):032x}", "parent_span_id": None}
            record = msgspec.structs.replace(record, **own)
        yield record


@pytest.mark.parametrize("system", ["onlineboutique-2022-08-23", "trainticket-2023-01-29"])
def test_a_recorded_day_loses_nothing_but_what_is_cut(shared_rca: Path, system: str) -> None:
    """Two systems as they ran, faults and all: nothing is told; one operation severed: that one is told."""
    before, *others = sorted((shared_rca / system).glob("*.ndjson.zst"))[:4]
    usual = recorded(before)
    settled_ns = 2**62
    for path in others:
        assert context_losses(recorded(path), usual, settled_ns=settled_ns) == []
    called = defaultdict(int)
    for trace in usual.traces:
        for node in trace.walk():
            for child in node.children:
                if child.service != node.service:
                    called[child.service, child.record.name or ""] += 1
    victim = max(called, key=lambda one: (called[one], one))
    losses = context_losses(recorded(others[0], cut=victim), usual, settled_ns=settled_ns)
    assert [loss.service for loss in losses if loss.kind == "new_trace"] == [victim[0]]
    # What was below the severed spans stays where it was, and misses them.
    assert {loss.parent.service for loss in losses if loss.kind == "missing_parent"} <= {victim[0]}
