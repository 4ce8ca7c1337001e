"""Elasticsearch away, overloaded, full: nothing is lost, nothing is stored twice, the senders notice nothing.

Each test runs a real collector between a sender of 2 000 lines a second and a live server.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen
from uuid import uuid4

import pytest

from collector.client import CollectorClient
from collector.errors import CollectorError
from collector.store.deadletters import DeadLetters

pytestmark = [pytest.mark.flow, pytest.mark.timeout(600)]

LINES_PER_S = 2_000


class Scene:
    """A collector in front of the server, in a namespace of its own."""

    def __init__(self, server: Any, collector: Any, namespace: str) -> None:
        self.server = server
        self.collector = collector
        self.namespace = namespace

    @property
    def indexing(self) -> dict[str, Any]:
        """What the collector says of the way into the cluster; empty while it cannot say."""
        with CollectorClient(self.collector.url) as client, suppress(CollectorError):
            found: dict[str, Any] = client.stats()["indexing"]
            return found
        return {}

    @property
    def metrics(self) -> dict[str, float]:
        """Every sample of `/metrics`, by its name without our prefix and its labels."""
        with urlopen(f"{self.collector.url}/metrics", timeout=30) as answer:
            lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
        samples = (line.rpartition(" ") for line in lines)
        return {name.removeprefix("backtrail_"): float(value) for name, _, value in samples}


@pytest.fixture
def make_scene(server: Any, collector_process: Callable[..., Any]) -> Callable[..., Scene]:
    """Call it, with settings of the collector and options of the store, for a running collector."""

    def make(settings: dict[str, str] | None = None, **options: object) -> Scene:
        namespace = uuid4().hex
        query = {"namespace": namespace, "replicas": 0, "patience_s": 2, **options}
        collector = collector_process(
            store=f"{server.url}?{urlencode(query)}",
            commit_interval_s="0.5",
            ready_stall_s="3",
            **(settings or {}),
        )
        collector.start()
        return Scene(server, collector, namespace)

    return make


@pytest.fixture
def scene(make_scene: Callable[..., Scene]) -> Scene:
    return make_scene()


def everything_is_indexed(scene: Scene) -> bool:
    return scene.indexing.get("lag_records") == 0


def soak(outage_s: float) -> Any:
    """A long outage: as long again to catch up, and then some."""
    marks = [pytest.mark.soak, pytest.mark.timeout(600 + 3 * outage_s)]
    return pytest.param(outage_s, marks=marks, id=f"{outage_s / 60:g}-minutes")


@pytest.mark.parametrize("outage_s", [pytest.param(60.0, id="1-minute"), soak(600.0), soak(3_600.0)])
def test_a_server_killed_in_the_middle_of_bulks_and_away_for_a_while(
    make_scene: Callable[..., Scene], steady_load: Any, wait_for: Any, stored_uids: Any, outage_s: float
) -> None:
    """The log takes what comes; what was half stored when the server died is found and not stored again."""
    scene = make_scene({"wal_bytes_max": "4GiB"})
    with steady_load(scene.collector.url, lines_per_s=LINES_PER_S) as load:
        wait_for(lambda: load.acknowledged > 3 * LINES_PER_S, "nothing is acknowledged")
        wait_for(lambda: scene.indexing.get("stored", 0) > 0, "nothing is stored")
        scene.server.kill()
        gone_at, gone_s = load.acknowledged, time.monotonic()
        back_s = gone_s + outage_s
        wait_for(lambda: time.monotonic() > back_s, "time stands still", outage_s + 60)
        missed = load.acknowledged - gone_at
        assert missed > outage_s * LINES_PER_S * 0.9
        assert set(load.statuses) == {200}
        with CollectorClient(scene.collector.url) as client:
            assert client.health()["status"] == "stalled"
            told = client.stats()
        assert told["store_error"], "nobody can know what is stored"
        assert told["records"] is None
        assert told["indexing"]["lag_records"] >= missed
        away = scene.metrics
        assert away["indexing_lag_records"] >= missed
        assert away["indexing_lag_s"] >= outage_s
        assert away['cluster_retries_total{reason="connection"}'] > 0
        assert away["cluster_in_flight_limit"] == 1, "the backlog would fall on a server that just came up"
        scene.server.start()
        taken, started_s = scene.indexing.get("stored", 0), time.monotonic()
        wait_for(lambda: scene.indexing.get("stored", 0) > taken, "nothing of the backlog moves")
        wait_for(
            lambda: scene.indexing.get("lag_records", missed) < 5 * LINES_PER_S,
            "the backlog does not get shorter",
            300 + outage_s,
        )
        caught_up_s = time.monotonic() - started_s
    wait_for(lambda: everything_is_indexed(scene), "not everything is indexed")
    assert set(load.statuses) == {200}
    sent = load.uids
    assert stored_uids(scene.server, scene.namespace) == sent
    rate = (missed + LINES_PER_S * caught_up_s) / caught_up_s
    print(
        f"away for {outage_s:.0f} s at {LINES_PER_S} records/s: {missed} waited, caught up in"
        f" {caught_up_s:.0f} s ({rate:.0f} records/s), {sent.total()} sent and stored once;"
        f" slowest answer {load.slowest_s:.2f} s"
    )


def test_a_server_that_is_too_busy(
    make_scene: Callable[..., Scene], steady_load: Any, wait_for: Any, stored_uids: Any
) -> None:
    """429 for single records of a bulk: those, and only those, go again."""
    scene = make_scene(bulk_bytes=100_000, bulks_in_flight_start=8)
    with steady_load(scene.collector.url, lines_per_s=8 * LINES_PER_S) as load:
        wait_for(lambda: load.acknowledged > 60_000, "nothing is acknowledged")
    wait_for(lambda: everything_is_indexed(scene), "not everything is indexed")
    assert scene.metrics['cluster_retries_total{reason="busy"}'] > 0
    assert stored_uids(scene.server, scene.namespace) == load.uids


def test_a_disk_that_is_nearly_full(scene: Scene, steady_load: Any, wait_for: Any, stored_uids: Any) -> None:
    """The server makes its indices read-only; when there is room again, everything goes on by itself."""
    with steady_load(scene.collector.url, lines_per_s=LINES_PER_S) as load:
        wait_for(lambda: scene.indexing.get("stored", 0) > 0, "nothing is stored")
        path = f"/logs-*.otel-{scene.namespace}/_settings"
        scene.server.request("PUT", path, {"index.blocks.read_only_allow_delete": True})
        wait_for(lambda: scene.indexing.get("failures", 0) > 0, "the block is not noticed")
        stored = scene.indexing["stored"]
        acknowledged = load.acknowledged
        wait_for(lambda: load.acknowledged > acknowledged + LINES_PER_S, "the senders are held up")
        assert scene.indexing["stored"] == stored
        scene.server.request("PUT", path, {"index.blocks.read_only_allow_delete": None})
    wait_for(lambda: everything_is_indexed(scene), "not everything is indexed")
    assert set(load.statuses) == {200}
    assert stored_uids(scene.server, scene.namespace) == load.uids


def one_in_a_hundred(number: int) -> dict[str, object]:
    """A line with a status that the user's mapping cannot take."""
    refused = {"status": {"code": "OK", "message": "no number"}} if number % 100 == 7 else {}
    return {"message": f"line {number}", **refused}


def test_one_record_in_a_hundred_that_the_server_refuses(
    scene: Scene, steady_load: Any, wait_for: Any, stored_uids: Any
) -> None:
    """Exactly those are dead letters; their neighbours are stored."""
    strict = {"type": "long", "ignore_malformed": False}
    custom = {"template": {"mappings": {"properties": {"status": {"properties": {"message": strict}}}}}}
    scene.server.request("PUT", "/_component_template/logs-backtrail.otel@custom", custom)
    try:
        with steady_load(scene.collector.url, lines_per_s=LINES_PER_S, line=one_in_a_hundred) as load:
            wait_for(lambda: load.acknowledged > 2 * LINES_PER_S, "nothing is acknowledged")
        wait_for(lambda: everything_is_indexed(scene), "not everything is indexed")
    finally:
        scene.server.request("DELETE", "/_component_template/logs-backtrail.otel@custom")
    uids = list(load.uids)
    refused = Counter(uids[number] for number in range(len(uids)) if number % 100 == 7)
    assert stored_uids(scene.server, scene.namespace) == load.uids - refused
    letters = DeadLetters(scene.collector.data_dir / "store" / "dead-letters.ndjson", bytes_max=10**9)
    assert Counter(letter.uid for letter in letters.page(limit=10**6)) == refused
    (letter,) = letters.page(limit=1)
    assert (letter.reason, letter.field) == ("document_parsing_exception", "status.message")
