"""Changes and findings over HTTP, by the client, and on a data directory: the same answers."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.api.answers import Answers
from collector.changes import ATTRIBUTES_MAX, ToldChange
from collector.client import AsyncCollectorClient, CollectorClient
from collector.errors import CollectorError, QueryError, Refused
from collector.service import Collector
from collector.settings import Settings
from collector.store.memory import MemoryStore
from collector.watch import FindingEvent, event_line

PATIENCE_S = 30.0
SECOND = 1_000_000_000
START_NS = 1_800_000_000 * SECOND


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A collector in this process."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("events") / "data", port=0, store="memory")
    with Collector(settings) as running:
        yield running


@pytest.fixture
def client(collector: Collector) -> Iterator[CollectorClient]:
    """Connected to it."""
    with CollectorClient(collector.url) as connected:
        yield connected


def post(collector: Collector, body: bytes) -> tuple[int, dict[str, Any]]:
    """Tell a change as `curl` would."""
    connection = http.client.HTTPConnection(collector.url.removeprefix("http://"), timeout=PATIENCE_S)
    try:
        connection.request("POST", "/api/v1/changes", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_a_change_that_is_told_is_listed(collector: Collector, client: CollectorClient) -> None:
    """With everything that was said, and found by search like any record."""
    told = client.changes.record(
        "flag",
        "pricing",
        name="new-tax",
        old=False,
        new=True,
        timestamp=START_NS,
        attributes={"ticket": "OPS-7"},
    )
    assert collector.pipeline.drain(PATIENCE_S)
    [change] = client.changes.list(service="pricing")["changes"]
    assert change.pop("attributes")["ticket"] == "OPS-7"
    assert change == {
        "uid": told["uid"],
        "timestamp": "2027-01-15T08:00:00.000000000Z",
        "kind": "flag",
        "service": "pricing",
        "name": "new-tax",
        "old": "False",
        "new": "True",
        "message": "flag new-tax changed from False to True",
    }
    [record] = client.logs('service:pricing "new-tax"')["records"]
    assert record["uid"] == told["uid"]


def test_telling_it_twice_is_harmless_where_a_time_is_named(
    collector: Collector, client: CollectorClient
) -> None:
    """A pipeline that tries again; without a time they are two."""
    for _ in range(2):
        client.changes.record("deployment", "twice", new="1.4.2", timestamp=START_NS)
        client.changes.record("deployment", "each-time", new="1.4.2")
    assert collector.pipeline.drain(PATIENCE_S)
    assert len(client.changes.list(service="twice")["changes"]) == 1
    assert len(client.changes.list(service="each-time")["changes"]) == 2


def test_changes_are_filtered_and_paged(collector: Collector, client: CollectorClient) -> None:
    """By service, kind and time; what concerns everybody concerns each."""
    for number in range(5):
        kind = "config" if number % 2 else "deployment"
        client.changes.record(kind, "paged", new=number, timestamp=START_NS + number * SECOND)
    client.changes.record("infrastructure", "*", name="power", timestamp=START_NS + 9 * SECOND)
    assert collector.pipeline.drain(PATIENCE_S)
    first = client.changes.list(service="paged", limit=4)
    assert [change["new"] for change in first["changes"]] == [None, "4", "3", "2"]
    assert first["changes"][0]["service"] is None
    second = client.changes.list(service="paged", limit=4, cursor=first["cursor"])
    assert [change["new"] for change in second["changes"]] == ["1", "0"]
    assert len(client.changes.list(service="paged", kind="config")["changes"]) == 2
    window = client.changes.list(service="paged", start=START_NS + SECOND, end=START_NS + 3 * SECOND)
    assert [change["new"] for change in window["changes"]] == ["2", "1"]


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b"{}", 422, "kind"),
        (b"not json", 422, "body"),
        (b'{"kind":"flag"}', 422, "service"),
        (b'{"kind":"flag","service":"a","colour":"red"}', 422, "colour"),
        (b'{"kind":"","service":"a"}', 422, "kind"),
        (b'{"kind":"flag","service":"a","timestamp":"yesterday"}', 400, "yesterday"),
        (
            json.dumps({"kind": "f", "service": "a", "attributes": {str(n): n for n in range(65)}}).encode(),
            400,
            str(ATTRIBUTES_MAX),
        ),
    ],
)
def test_what_is_no_change_is_refused_with_the_reason(
    collector: Collector, body: bytes, status: int, word: str
) -> None:
    """Which field, and what was expected."""
    answered, problem = post(collector, body)
    assert answered == status
    assert word in problem["detail"]


def test_the_client_raises_what_the_service_says(client: CollectorClient) -> None:
    """As it does for everything else."""
    with pytest.raises(CollectorError, match="RFC 3339"):
        client.changes.record("flag", "orders", timestamp="soon")
    with pytest.raises(CollectorError, match="limit"):
        client.changes.list(limit=0)


def test_where_there_is_no_service_a_change_cannot_be_told() -> None:
    """The message says where it can."""
    answers = Answers(MemoryStore())
    with pytest.raises(QueryError, match="running collector"):
        answers.changes.record(ToldChange(kind="flag", service="orders"))
    with pytest.raises(QueryError, match="limit 0"):
        answers.changes.list(limit=0)


def finding(number: int, state: Any = "began") -> FindingEvent:
    """An episode at `orders` in one minute."""
    return FindingEvent(
        id=f"episode-{number}",
        state=state,
        service="orders",
        fault="slow",
        summary=f"orders is slow ({number})",
        confidence=0.9,
        decades=6.0,
        start_ns=START_NS + number * 60 * SECOND,
        end_ns=START_NS + (number + 1) * 60 * SECOND,
        began_ns=START_NS,
        entries=["gateway POST /orders"],
        traces=["ab" * 16],
    )


def test_findings_are_listed_and_filtered(collector: Collector, client: CollectorClient) -> None:
    """Newest first, by state, service and time, a page at a time."""
    for event in (finding(1), finding(2), finding(3, "ended")):
        collector.pipeline.take_own(*event_line(event))
    assert collector.pipeline.drain(PATIENCE_S)
    listed = client.findings.list(service="orders")["findings"]
    assert [(item["id"], item["state"]) for item in listed] == [
        ("episode-3", "ended"),
        ("episode-2", "began"),
        ("episode-1", "began"),
    ]
    assert listed[1]["entries"] == ["gateway POST /orders"]
    assert listed[1]["traces"] == ["ab" * 16]
    assert [item["id"] for item in client.findings.list(state="ended")["findings"]] == ["episode-3"]
    assert client.findings.list(service="payments")["findings"] == []
    first = client.findings.list(limit=2)
    second = client.findings.list(limit=2, cursor=first["cursor"])
    assert [item["id"] for item in second["findings"]] == ["episode-1"]
    [found] = client.logs("event.name:backtrail.finding finding.state:ended")["records"]
    assert found["service"] == "backtrail"


def test_the_async_client_has_the_same(collector: Collector) -> None:
    """Each method of both."""

    async def ask() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        async with AsyncCollectorClient(collector.url) as client:
            told = await client.changes.record("config", "awaited", name="x")
            return told, await client.changes.list(), await client.findings.list()

    told, changes, findings = asyncio.run(ask())
    assert set(told) == {"uid"}
    assert "changes" in changes
    assert "findings" in findings


def test_a_record_of_our_own_that_cannot_be_taken_is_refused(collector: Collector) -> None:
    """Nothing is lost in silence."""
    with pytest.raises(Refused):
        collector.pipeline.take_own("uid-1", b'{"level":"INFO"}')


def test_the_watch_runs_as_the_settings_say(tmp_path: Path) -> None:
    """On by default; its figures are there either way."""
    for number, wanted in enumerate((True, False)):
        settings = Settings(data_dir=tmp_path / str(number), port=0, store="memory", watch=wanted)
        with Collector(settings) as running:
            alive = running.pipeline.watch.is_running
            assert alive is wanted
            assert running.pipeline.watch.stats()["minutes"] == 0
    assert Settings(data_dir=tmp_path).watch is True
