"""Makes `collector/api/examples.json`: what the API answers about one small incident.

Run it after a change of the shapes: `python tests/collector/api/example_answers.py`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from collector.api import views
from collector.api.answers import Answers
from collector.api.letters import DeadLetterAnswers
from collector.api.shapes import JsonObject, plain
from collector.changes import ToldChange, change_line
from collector.model import Cause, Event, Evidence, ExceptionInfo, Record, Source, Status, Verdict
from collector.receive.lines import record_from_line
from collector.store.deadletters import DeadLetters, make_letter
from collector.store.memory import MemoryStore
from collector.watch import FindingEvent, event_line

FILE = Path(__file__).resolve().parents[3] / "collector" / "api" / "examples.json"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
START_NS = 1_795_498_331_000_000_000  # 2026-11-24T05:32:11Z
MS = 1_000_000


def _record(service: str, offset: int, at_ns: int, **fields: Any) -> Record:
    level, number = ("ERROR", 17) if fields.pop("error", False) else ("INFO", 9)
    spool = {"gateway": "5b0e6a0c9f4d4f0e8a3c0d7e1b2f4a66", "orders": "c2a1f00d8e7b4b7f9d3e5a6c7b8d9e0f"}[
        service
    ]
    return Record(
        uid=f"{spool}-{offset}",
        timestamp_ns=START_NS + at_ns,
        level=level,
        severity_number=number,
        service=service,
        trace_id=TRACE,
        resource={"service.name": service, "service.instance.id": f"{service}-1"},
        **fields,
    )


RECORDS = [
    _record(
        "gateway",
        0,
        0,
        error=True,
        kind="span",
        span_id="00f067aa0ba902b7",
        name="POST /checkout",
        span_kind="SERVER",
        duration_ns=48 * MS,
        status=Status(code="ERROR"),
        attributes={"http.request.method": "POST", "http.response.status_code": 500},
    ),
    _record(
        "orders",
        0,
        6 * MS,
        error=True,
        kind="span",
        span_id="53995c3f42cd8ad8",
        parent_span_id="00f067aa0ba902b7",
        name="POST /orders",
        span_kind="SERVER",
        duration_ns=39 * MS,
        status=Status(code="ERROR", message="price is missing"),
        events=(Event(timestamp_ns=START_NS + 40 * MS, name="exception"),),
    ),
    _record(
        "orders",
        612,
        40 * MS,
        error=True,
        span_id="53995c3f42cd8ad8",
        message="cannot price order 41",
        logger="shop.orders",
        exception=ExceptionInfo(
            type="KeyError", message="'price'", stacktrace="Traceback (most recent call last): …"
        ),
        source=Source(file="orders.py", line=57, function="total"),
    ),
]

CHANGE = change_line(
    ToldChange(
        kind="flag",
        service="orders",
        name="new-pricing",
        old="off",
        new="on",
        timestamp="2026-11-24T05:31:40Z",
    ),
    now_ns=START_NS,
)
FINDING = FindingEvent(
    id="41c8d0f25a7b9e36",
    state="began",
    service="orders",
    operation="POST /orders",
    instance="orders-1",
    fault="exception",
    summary="KeyError 'price' was raised in orders, in total (orders.py:57), and failed the request",
    confidence=0.93,
    decades=7.4,
    start_ns=START_NS - 11_000 * MS,
    end_ns=START_NS + 49_000 * MS,
    began_ns=START_NS - 11_000 * MS,
    entries=["gateway POST /checkout"],
    signals=["exception"],
    evidence=[RECORDS[2].uid],
    traces=[TRACE],
    location="orders.py:57 in total",
)

VERDICT = Verdict(
    trace_id=TRACE,
    causes=[
        Cause(
            rank=1,
            service="orders",
            instance="orders-1",
            operation="POST /orders",
            fault="exception",
            location="orders.py:57 in total",
            summary="KeyError 'price' was raised in orders, in total (orders.py:57), and failed the request",
            confidence=0.93,
            signals=["exception"],
            evidence=[
                Evidence(
                    uid=RECORDS[2].uid,
                    timestamp_ns=RECORDS[2].timestamp_ns,
                    service="orders",
                    quote="cannot price order 41: KeyError 'price'",
                    why="the exception was born here; no callee failed before it",
                    trace_id=TRACE,
                    span_id="53995c3f42cd8ad8",
                )
            ],
            refuted_by="a failed call below orders that ended before 05:32:11.040",
        )
    ],
    normal=["durations of 2 spans against 40 healthy traces"],
    traces_compared=40,
    measured_by="neighbours",
)

SPOOL: JsonObject = {
    "spool_id": "c2a1f00d8e7b4b7f9d3e5a6c7b8d9e0f",
    "service": "orders",
    "instance": "orders-1",
    "host": "web-1",
    "pid": 4711,
    "mark": 2048,
    "lines": 3,
    "missing": [{"start": 1024, "end": 1400, "after_ns": START_NS, "before_ns": START_NS + 40 * MS}],
    "last_written_ns": START_NS + 45 * MS,
    "first_received_ns": START_NS + 300 * MS,
    "last_received_ns": START_NS + 900 * MS,
}


LETTER = make_letter(
    RECORDS[2],
    "logs-backtrail.otel-default",
    reason="document_parsing_exception",
    message='failed to parse field [attributes.order.id] of type [long]: For input string: "forty-one"',
    field="attributes.order.id",
    refused_ns=START_NS + 900 * MS,
    document=b'{"@timestamp":"2026-11-24T05:32:11.040000000Z"}',
)


def dead_letter_answers() -> dict[str, JsonObject]:
    """Likewise about one record that was refused."""
    with tempfile.TemporaryDirectory() as directory:
        letters = DeadLetters(Path(directory) / "letters", bytes_max=10**6)
        letters.add([LETTER])
        answers = DeadLetterAnswers(letters)
        return {"listDeadLetters": answers.list(), "getDeadLetter": answers.show(LETTER.uid)}


def event_answers() -> dict[str, JsonObject]:
    """Likewise about what was changed before, and what the watch has found."""
    store = MemoryStore()
    store.append(
        [
            record_from_line(line, uid=uid, resource={}, seq=number)
            for number, (uid, line) in enumerate((CHANGE, event_line(FINDING)), start=1)
        ]
    )
    store.refresh()
    answers = Answers(store)
    return {"listChanges": answers.changes.list(), "listFindings": answers.findings.list()}


def context_answers() -> dict[str, JsonObject]:
    """Likewise about messages that stopped to carry the context."""
    store = MemoryStore()
    store.append([record for number in range(8) for record in _charge(number, is_kept=number < 4)])
    store.refresh()
    answers = Answers(store, clock_ns=lambda: START_NS + 120_000 * MS)
    return {"listContextLosses": answers.context_losses(start=START_NS + 4_000 * MS)}


def _charge(number: int, *, is_kept: bool) -> list[Record]:
    """One order a second, and the charge for it."""
    at_ns, message = number * 1_000 * MS, {"messaging.destination.name": "payments"}
    trace_id, own_id = f"{number + 1:032x}", f"{number + 101:032x}"
    queued = _record(
        "gateway",
        1000 + number,
        at_ns,
        kind="span",
        span_id=f"{number + 1:016x}",
        name="send payments",
        span_kind="PRODUCER",
        duration_ns=MS,
        attributes=message,
    )
    charged = _record(
        "orders",
        1000 + number,
        at_ns + 20 * MS,
        kind="span",
        span_id=f"{number + 101:016x}",
        parent_span_id=queued.span_id if is_kept else None,
        name="charge",
        span_kind="CONSUMER",
        duration_ns=5 * MS,
        attributes=message,
    )
    return [
        msgspec.structs.replace(queued, trace_id=trace_id),
        msgspec.structs.replace(charged, trace_id=trace_id if is_kept else own_id),
    ]


def example_answers() -> dict[str, JsonObject]:
    """One answer for each question, by the question's name."""
    store = MemoryStore()
    store.append(RECORDS)
    store.refresh()
    answers = Answers(store)
    return {
        "findTraces": answers.traces(),
        "getTrace": answers.trace(TRACE),
        "findLogs": answers.logs(total=True),
        "countValues": answers.facets("level"),
        "getRootCause": plain(views.verdict_view(VERDICT)),
        "listServices": answers.services(),
        "listOperations": answers.operations("orders"),
        "getServiceRates": answers.service_rates("orders", start=START_NS, end=START_NS + 1000 * MS),
        "getRates": answers.rates(start=START_NS, end=START_NS + 1000 * MS),
        "listTemplates": answers.templates(start=START_NS, end=START_NS + 1000 * MS),
        "getTopology": answers.topology(),
        "getStats": answers.stats(),
        "getLedger": {"spools": [plain(views.spool_view(SPOOL))]},
        **event_answers(),
        **context_answers(),
        **dead_letter_answers(),
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(example_answers(), indent=1) + "\n")
