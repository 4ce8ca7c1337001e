"""Rates, templates, and the filters by environment and version: what they count."""

from __future__ import annotations

from typing import Any

import pytest

from collector.api import templates as counting
from collector.api.answers import Answers
from collector.errors import QueryError
from collector.model import Record, Status
from collector.store.conditions import Everything
from collector.store.memory import MemoryStore

NOW_NS = 1_795_498_320_000_000_000  # 2026-11-24T05:32:00Z, the beginning of a minute
S = 1_000_000_000
MINUTE = 60 * S
PRODUCTION = {"deployment.environment.name": "production", "service.version": "2.0"}
ERROR = {"level": "ERROR", "severity_number": 17}
STAGING = {"deployment.environment": "staging", "service.version": "2.1"}


def answers_about(*records: Record) -> Answers:
    """Over a few records, at `NOW_NS`."""
    store = MemoryStore()
    store.append(records)
    store.refresh()
    return Answers(store, clock_ns=lambda: NOW_NS)


def log(uid: str, before_ns: int, message: str, **fields: Any) -> Record:
    """A log record at a time before now."""
    given = {"level": "INFO", "severity_number": 9, "service": "orders", **fields}
    return Record(uid=uid, timestamp_ns=NOW_NS - before_ns, message=message, **given)


def span(uid: str, before_ns: int, **fields: Any) -> Record:
    """A span of a second at a time before now."""
    given = {"span_kind": "SERVER", "name": "GET /", "service": "orders", "duration_ns": S, **fields}
    return Record(
        uid=uid,
        kind="span",
        timestamp_ns=NOW_NS - before_ns,
        level="INFO",
        severity_number=9,
        trace_id=uid * 32,
        span_id=uid * 16,
        **given,
    )


def steps(answer: dict[str, Any], *keys: str) -> list[tuple[Any, ...]]:
    """Some values of each step."""
    return [tuple(step[key] for key in keys) for step in answer["steps"]]


def test_rates_of_a_service_are_its_requests() -> None:
    """Neither its inner spans, nor its logs, nor what others answered."""
    answers = answers_about(
        span("a", 90 * S),
        span("b", 80 * S, span_kind="CONSUMER", status=Status(code="ERROR")),
        span("c", 80 * S, span_kind="INTERNAL", status=Status(code="ERROR")),
        span("d", 80 * S, service="gateway"),
        log("e", 80 * S, "failed", level="ERROR", severity_number=17),
    )
    found = answers.service_rates("orders", start="2m", step="1m")
    assert found["step_ns"] == MINUTE
    assert steps(found, "spans", "logs", "errors") == [(2, 0, 1), (0, 0, 0)]
    assert found["steps"][1]["duration_p50_ns"] is None
    every = answers.rates(start="2m", step="1m")
    assert steps(every, "spans", "logs", "errors") == [(4, 1, 3), (0, 0, 0)]
    assert steps(answers.service_rates("orders", operation="none", start="1m"), "spans") == [(0,)]


def test_steps_are_chosen_to_be_few() -> None:
    """An hour by the minute; a week in steps that make at most 120."""
    answers = answers_about()
    hour = answers.rates()
    assert (hour["step_ns"], len(hour["steps"])) == (MINUTE, 60)
    week = answers.rates(start="7d")
    assert week["step_ns"] == 84 * MINUTE
    assert len(week["steps"]) in (120, 121)  # the first and the last may be cut


@pytest.mark.parametrize(
    "given", [{"step": "90s"}, {"start": "30d", "step": "1m"}, {"start": "1m", "end": "2m"}, {"step": "x"}]
)
def test_rates_that_make_no_sense_are_refused(given: dict[str, Any]) -> None:
    """With a word for it, before anything is counted."""
    with pytest.raises(QueryError):
        answers_about().rates(**given)


def test_templates_count_what_logs_say_and_how_it_changes() -> None:
    """Values left out, most frequent first; the worst level, the newest message and its trace."""
    answers = answers_about(
        *(log(f"o{n}", n * MINUTE - 1, f"order {n} placed", trace_id=f"{n:032x}") for n in range(1, 6)),
        log(
            "p", 50 * MINUTE, "card of customer 7 declined", service="pay", level="ERROR", severity_number=17
        ),
        log("q", 59 * MINUTE, "card of customer 8 declined"),
        span("a", MINUTE),
    )
    found = answers.templates(start="60m")
    assert (found["read"], found["found"], found["truncated"]) == (7, 2, False)
    placed, declined = found["templates"]
    assert (placed["text"], placed["count"], placed["example"]) == ("order <num> placed", 5, "order 1 placed")
    assert placed["trend"] == [0] * 11 + [5]
    assert placed["trace_id"] == f"{1:032x}"
    assert (declined["level"], declined["services"]) == ("ERROR", ["orders", "pay"])
    assert declined["trend"] == [1, 0, 1] + [0] * 9
    assert (declined["first"], declined["last"]) == (
        "2026-11-24T04:33:00.000000000Z",
        "2026-11-24T04:42:00.000000000Z",
    )
    assert answers.templates(start="60m", limit=1)["templates"] == [placed]
    assert answers.templates(start="60m", service="pay")["found"] == 1


def test_templates_of_too_many_logs_answer_for_a_shorter_time() -> None:
    """The newest are read, and the trend is that of their time."""
    store = MemoryStore()
    store.append([log(str(n), n * MINUTE, "tick") for n in range(1, 60)])
    store.refresh()
    found = counting.templates(
        store, Everything(), NOW_NS - 60 * MINUTE, NOW_NS, limit=9, read_records_max=12
    )
    assert (found.read, found.truncated, found.start) == (12, True, "2026-11-24T05:20:00.000000000Z")
    assert [one.trend for one in found.templates] == [[1] * 12]


@pytest.mark.parametrize(
    ("given", "uids"),
    [
        ({"environment": "production"}, ["a"]),
        ({"environment": "staging"}, ["b"]),
        ({"version": "2.1"}, ["b"]),
        ({"environment": "production", "version": "2.1"}, []),
    ],
)
def test_environment_and_version_are_filters(given: dict[str, str], uids: list[str]) -> None:
    """In every question about records; the environment also under the name it had before."""
    answers = answers_about(span("a", S, resource=PRODUCTION), span("b", S, resource=STAGING), span("c", S))
    assert [record["uid"] for record in answers.logs(**given)["records"]] == uids
    assert [trace["trace_id"][0] for trace in answers.traces(**given)["traces"]] == uids
    assert sum(count for (count,) in steps(answers.rates(start="1m", **given), "spans")) == len(uids)
    assert sum(count for (count,) in steps(answers.service_rates("orders", **given), "spans")) == len(uids)
    assert sum(bucket["count"] for bucket in answers.facets("service", **given)["values"]) == len(uids)
    assert sum(service["spans"] for service in answers.services(**given)["services"]) == len(uids)
    operations = answers.operations("orders", **given)["operations"]
    assert sum(operation["spans"] for operation in operations) == len(uids)
    assert answers.to_delete(**given) == answers.condition(**given)
