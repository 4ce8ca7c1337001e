"""Answers: what a question means, and what is said when it means nothing."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from collector.api import traces
from collector.api.answers import AnswerLimits, Answers
from collector.api.words import checked_trace_id
from collector.errors import NotFound, QueryError, StoreFailed
from collector.model import Record, Status
from collector.store.contract import StoreStats
from collector.store.memory import MemoryStore

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
OTHER = "0af7651916cd43dd8448eb211c80319c"
NOW_NS = 1_795_498_331_000_000_000
S = 1_000_000_000


def log(number: int, at_ns: int, **fields: Any) -> Record:
    """A log record at a time before now."""
    given = {"level": "INFO", "severity_number": 9, "service": "orders", **fields}
    return Record(uid=f"log-{number}", timestamp_ns=NOW_NS - at_ns, message=f"message {number}", **given)


def span(name: str, span_id: str, parent: str | None, at_ns: int, **fields: Any) -> Record:
    """A span of `TRACE` that took a second, unless the fields say otherwise."""
    given = {"level": "INFO", "severity_number": 9, "service": "orders", "trace_id": TRACE, **fields}
    return Record(
        uid=f"span-{span_id}",
        kind="span",
        timestamp_ns=NOW_NS - at_ns,
        name=name,
        span_id=span_id,
        parent_span_id=parent,
        **{"duration_ns": S, **given},
    )


RECORDS = [
    span("GET /", "a" * 16, None, 60 * S, service="gateway", duration_ns=3 * S),
    span("POST /orders", "b" * 16, "a" * 16, 59 * S, status=Status(code="ERROR")),
    log(1, 58 * S, trace_id=TRACE, span_id="b" * 16, level="ERROR", severity_number=17),
    log(2, 7200 * S),
    span("GET /", "c" * 16, None, 30 * S, trace_id=OTHER, service="gateway"),
]


@pytest.fixture
def answers() -> Answers:
    """Over a few records, a minute old."""
    store = MemoryStore()
    store.append(RECORDS)
    store.refresh()
    return Answers(store, clock_ns=lambda: NOW_NS)


def uids(answer: dict[str, Any]) -> list[str]:
    """Identities of the records, in their order."""
    return [record["uid"] for record in answer["records"]]


def test_a_trace_is_its_spans_parents_first_with_their_logs(answers: Answers) -> None:
    """Depth and order are the tree; times are relative to the trace's start."""
    trace = answers.trace(TRACE)
    assert [(n["name"], n["depth"], n["service"], n["offset_ns"]) for n in trace["nodes"]] == [
        ("GET /", 0, "gateway", 0),
        ("POST /orders", 1, "orders", S),
    ]
    assert [(log["uid"], log["offset_ns"]) for log in trace["nodes"][1]["logs"]] == [("log-1", 2 * S)]
    assert (trace["service"], trace["name"], trace["error"], trace["duration_ns"]) == (
        "gateway",
        "GET /",
        True,
        3 * S,
    )
    assert (trace["records"], trace["spans"], trace["logs"], trace["completeness"]) == (3, 2, 1, "unknown")


@pytest.mark.parametrize("written", [TRACE.upper(), f" {TRACE} ", "4bf92f35-77b3-4da6-a3ce-929d0e0e4736"])
def test_a_trace_id_may_be_written_as_a_uuid(answers: Answers, written: str) -> None:
    """As other tools show them."""
    assert answers.trace(written)["trace_id"] == TRACE


@pytest.mark.parametrize("written", ["", "xyz", TRACE[:-1], TRACE + "0", "g" * 32, "4bf92f3577b34da6\n"])
def test_what_is_no_trace_id_is_said(written: str) -> None:
    """Before anything is searched."""
    with pytest.raises(QueryError, match="32 hexadecimal digits"):
        checked_trace_id(written)


@pytest.mark.parametrize("ask", ["trace", "root_cause", "export_trace"])
def test_an_unknown_trace_is_not_found(answers: Answers, ask: str) -> None:
    """Never an empty chain or a verdict about nothing."""
    with pytest.raises(NotFound, match="nothing"):
        getattr(answers, ask)("f" * 32)


def test_a_cut_trace_says_so(answers: Answers) -> None:
    """A limit keeps the earliest records and marks the answer."""
    small = Answers(answers._store, limits=AnswerLimits(trace_records_max=2))
    assert (small.trace(TRACE)["truncated"], small.trace(TRACE)["records"]) == (True, 2)
    assert answers.trace(TRACE)["truncated"] is False


def test_logs_are_filtered_and_paged(answers: Answers) -> None:
    """Newest first; the pages together are the whole, nothing twice."""
    everything = answers.logs()
    assert uids(everything) == [f"span-{'c' * 16}", "log-1", f"span-{'b' * 16}", f"span-{'a' * 16}", "log-2"]
    assert everything["cursor"] is None
    paged: list[str] = []
    cursor = None
    for _ in range(3):
        page = answers.logs(limit=2, cursor=cursor)
        paged += uids(page)
        cursor = page["cursor"]
    assert (paged, cursor) == (uids(everything), None)
    assert uids(answers.logs(service="gateway", limit=1, total=True)) == [f"span-{'c' * 16}"]
    assert answers.logs(service="gateway", limit=1, total=True)["total"] == 2
    assert uids(answers.logs(level="ERROR")) == ["log-1"]
    assert uids(answers.logs(trace_id=TRACE.upper(), q="message")) == ["log-1"]
    assert uids(answers.logs(start="2h", end="1h")) == ["log-2"]
    assert uids(answers.logs(start=NOW_NS - 58 * S, end=NOW_NS - 30 * S)) == ["log-1"]


def test_traces_are_filtered(answers: Answers) -> None:
    """By the whole trace's duration and error, by a record's service and operation."""

    def found(**given: Any) -> list[str]:
        return [trace["trace_id"] for trace in answers.traces(**given)["traces"]]

    assert found() == [OTHER, TRACE]
    assert found(error=True) == [TRACE]
    assert found(error=False) == [OTHER]
    assert found(operation="POST /orders") == [TRACE]
    assert found(service="orders", operation="GET /") == []
    assert found(min_duration="2s") == [TRACE]
    assert found(min_duration=4 * S) == []
    assert found(limit=1) == [OTHER]


@pytest.mark.parametrize("limit", [0, -1, 1_001])
def test_a_limit_out_of_range_is_said(answers: Answers, limit: int) -> None:
    """Rather than silently made to fit."""
    for ask in (answers.logs, answers.traces):
        with pytest.raises(QueryError, match=r"must be in 1\.\.1000"):
            ask(limit=limit)


@pytest.mark.parametrize(
    "given",
    [{}, {"trace_id": TRACE, "start": "15m"}, {"end": "1h", "start": "30m"}, {"trace_id": "nonsense"}],
)
def test_a_root_cause_is_of_a_trace_or_of_a_time_range(answers: Answers, given: dict[str, Any]) -> None:
    """Neither, both, or an empty range is a mistake."""
    with pytest.raises(QueryError):
        answers.root_cause(**given)


def test_services_operations_and_topology(answers: Answers) -> None:
    """Who there is, what they do, and who calls whom."""
    services = {service["service"]: service for service in answers.services()["services"]}
    assert (services["orders"]["spans"], services["orders"]["logs"], services["orders"]["errors"]) == (
        1,
        2,
        2,
    )
    assert [o["name"] for o in answers.operations("gateway")["operations"]] == ["GET /"]
    assert answers.operations("nobody") == {"service": "nobody", "operations": []}
    assert answers.topology() == {
        "services": ["gateway", "orders"],
        "edges": [{"caller": "gateway", "callee": "orders", "calls": 1, "errors": 1}],
    }


def test_facets_count_values(answers: Answers) -> None:
    """Of the records that match, the most frequent first."""
    assert answers.facets("service") == {
        "field": "service",
        "values": [{"value": "orders", "count": 3}, {"value": "gateway", "count": 2}],
    }
    assert answers.facets("service", level="ERROR")["values"] == [{"value": "orders", "count": 1}]
    assert answers.facets("nobody.has.this")["values"] == []
    with pytest.raises(QueryError):
        answers.facets("message")


def test_traces_come_page_by_page(answers: Answers) -> None:
    """In the order of one long list; the last page has no cursor, and a foreign cursor is refused."""
    first = answers.traces(limit=1)
    second = answers.traces(limit=1, cursor=first["cursor"])
    assert [page["traces"][0]["trace_id"] for page in (first, second)] == [OTHER, TRACE]
    assert (first["cursor"] is None, second["cursor"]) == (False, None)
    assert answers.traces(limit=2)["cursor"] is None
    with pytest.raises(QueryError, match="not a cursor of ours"):
        answers.traces(cursor="nonsense")


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("service:gateway >> service:orders", [TRACE]),
        ("service:gateway > level:ERROR", [TRACE]),
        ("service:orders >> service:gateway", []),
        ("service:gateway >> message", [TRACE]),
        ("service:gateway", [OTHER, TRACE]),
    ],
)
def test_traces_are_found_by_how_spans_stand(answers: Answers, q: str, found: list[str]) -> None:
    """By spans and by their log lines; everything else that can be asked of a trace holds as well."""
    assert [trace["trace_id"] for trace in answers.traces(q)["traces"]] == found
    assert answers.traces(q, min_duration="1h")["traces"] == []
    narrow = answers.traces(q, start=NOW_NS - 60 * S, end=NOW_NS - 59 * S)["traces"]
    assert [trace["trace_id"] for trace in narrow] == [one for one in found if one == TRACE and ">" not in q]


def test_every_step_of_a_structure_lies_in_the_time(answers: Answers) -> None:
    """The gateway's span, below which the error is, began before it."""
    q = "kind:span >> level:ERROR"
    assert len(answers.traces(q, start=NOW_NS - 60 * S)["traces"]) == 1
    assert answers.traces(q, start=NOW_NS - 59 * S)["traces"] == []


def test_a_structure_of_one_service(answers: Answers) -> None:
    """Filters hold for the record of every step."""
    assert answers.traces("service:gateway >> level:ERROR", service="orders")["traces"] == []
    assert answers.traces("span_kind:* >> level:ERROR", service="orders")["traces"] == []


def test_a_rare_structure_is_looked_for_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many chains for a page, also none that fits; the cursors lead to the end, and nothing twice."""
    monkeypatch.setattr(traces, "CHAIN_RECORDS_MAX", 10)
    monkeypatch.setattr(traces, "CANDIDATES_AT_ONCE", 3)
    store = MemoryStore()
    rare = {7, 31, 32}
    for n in range(40):
        trace_id, at_ns, parent = f"{n + 1:032x}", (100 - n) * S, "a" * 16 if n in rare else None
        top = span("top", "a" * 16, None, at_ns, service="top", trace_id=trace_id)
        leaf = span("leaf", "b" * 16, parent, at_ns, service="leaf", trace_id=trace_id)
        store.append([structs.replace(one, uid=f"{n}-{one.uid}") for one in (top, leaf)])
    store.refresh()
    answers = Answers(store, clock_ns=lambda: NOW_NS)
    found: list[int] = []
    pages = 0
    cursor = None
    while pages == 0 or cursor is not None:
        page = answers.traces("service:top > service:leaf", limit=2, cursor=cursor)
        found += [int(trace["trace_id"], 16) - 1 for trace in page["traces"]]
        cursor, pages = page["cursor"], pages + 1
    assert found == sorted(rare, reverse=True)
    assert pages > 3


class _StoreAway(MemoryStore):
    """A store on the other side of a network that is gone."""

    def stats(self) -> StoreStats:
        raise StoreFailed("the cluster does not answer")


def test_stats_say_what_is_known_while_the_store_is_away() -> None:
    """What waits for the store is counted, what is in it is not guessed."""

    class Counts:
        def stats(self) -> dict[str, int]:
            return {"lag_records": 7}

    stats = Answers(_StoreAway(), indexing=Counts()).stats()
    assert stats["store_error"] == "the cluster does not answer"
    assert stats["indexing"] == {"lag_records": 7}
    assert all(stats[name] is None for name in ("records", "logs", "spans", "bytes", "oldest", "durable_seq"))


def test_stats_of_a_cluster_that_was_never_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not zero records: nobody knows how many; what we remember ourselves is told."""
    store = MemoryStore()
    unknown = structs.replace(store.stats(), durable_seq=7, away="the cluster has not been reached yet")
    monkeypatch.setattr(store, "stats", lambda: unknown)
    stats = Answers(store).stats()
    assert (stats["store_error"], stats["records"], stats["durable_seq"]) == (unknown.away, None, 7)


def test_stats_count_logs_and_spans(answers: Answers) -> None:
    """`records` is both; what does not run is null."""
    stats = answers.stats()
    assert (stats["records"], stats["logs"], stats["spans"], stats["intake"]) == (5, 2, 3, None)
    assert (stats["oldest"], stats["store_error"]) == ("2026-11-24T03:32:11.000000000Z", None)


def test_an_export_is_everything_page_by_page(answers: Answers) -> None:
    """The pieces together are all that matches; a limit is kept over the pages' border."""
    assert b"".join(answers.export()).count(b"\n") == 5
    assert b"".join(answers.export(limit=3)).count(b"\n") == 3
    small = Answers(answers._store, limits=AnswerLimits(page_records_max=2))
    assert b"".join(small.export()) == b"".join(answers.export())
    assert [piece.count(b"\n") for piece in small.export(limit=3)] == [2, 1]
    assert b"".join(small.export("csv")).count(b"\r\n") == 6
    assert b"".join(small.export("csv", q="message", level="FATAL")).count(b"\r\n") == 1
    with pytest.raises(QueryError, match="ndjson, csv, otlp-json are known"):
        answers.export("xml")


def _deployed(number: int, environment: str, version: str, at_ns: int, **fields: Any) -> list[Record]:
    """A call from the gateway to the orders of some deployment."""
    resource = {"deployment.environment.name": environment, "service.version": version}
    ids = {"trace_id": f"{number + 1:032x}", "resource": resource}
    spans = [
        span("GET /", "a" * 16, None, at_ns, service="gateway", **ids),
        span("POST /orders", "b" * 16, "a" * 16, at_ns - 1, **ids, **fields),
    ]
    return [structs.replace(one, uid=f"{number}-{one.uid}") for one in spans]


@pytest.fixture
def deployments() -> Answers:
    """Production has always failed; staging fails since version 2."""
    store = MemoryStore()
    failed: dict[str, Any] = {"status": Status(code="ERROR"), "level": "ERROR", "severity_number": 17}
    for n in range(40):
        is_new = n >= 35
        more = failed if is_new else {}
        store.append(_deployed(n, "staging", "2" if is_new else "1", (400 - 10 * n) * S, **more))
        store.append(_deployed(100 + n, "production", "1", (401 - 10 * n) * S, **failed))
    store.refresh()
    return Answers(store, clock_ns=lambda: NOW_NS)


def test_environment_and_version_are_filters_of_the_map(deployments: Answers) -> None:
    """Those of the called service."""

    def calls(**asked: Any) -> list[tuple[int, int]]:
        return [(edge["calls"], edge["errors"]) for edge in deployments.topology(**asked)["edges"]]

    assert calls() == [(80, 45)]
    assert calls(environment="staging") == [(40, 5)]
    assert calls(environment="staging", version="2") == [(5, 5)]
    assert deployments.topology(environment="nowhere") == {"services": [], "edges": []}


def test_environment_and_version_are_filters_of_the_root_cause(deployments: Answers) -> None:
    """Staging is measured by staging, where failing is new; in production it is as it always was."""
    window: dict[str, Any] = {"start": NOW_NS - 55 * S}
    staging = deployments.root_cause(environment="staging", **window)
    assert [cause["service"] for cause in staging["causes"]][:1] == ["orders"]
    assert deployments.root_cause(environment="staging", version="2", **window)["causes"]
    assert deployments.root_cause(environment="production", **window)["causes"] == []
    nothing = deployments.root_cause(environment="nowhere", **window)
    assert nothing["insufficient"]


def test_a_trace_is_named_by_its_id_alone(answers: Answers) -> None:
    """An environment beside it would be a second question."""
    with pytest.raises(QueryError, match="not both"):
        answers.root_cause(TRACE, environment="production")
    assert answers.root_cause(TRACE, environment=None, version=None)["trace_id"] == TRACE
