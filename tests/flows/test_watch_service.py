"""The watch in a whole collector: from the records of a minute to a finding that is found everywhere."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from collector.api.openapi import document
from collector.cli import OK, main
from collector.client import CollectorClient
from collector.service import Collector
from collector.settings import Settings
from collector.store.contract import MINUTE_NS
from collector.watch.kept import WARM_MINUTES
from collector.watch.watching import QUIET_MINUTES

pytestmark = pytest.mark.flow

PATIENCE_S = 60.0
START_NS = 1_800_000_000_000_000_000  # in the future, so that the running clock looks at none of it

Orders = Callable[..., list[tuple[str, bytes]]]


def pass_minutes(running: Collector, orders: Orders, first: int, count: int, *, fault: bool = False) -> None:
    """Let records of so many minutes come in, and each be looked at when it is over."""
    with CollectorClient(running.url) as client:
        for number in range(first, first + count):
            start_ns = START_NS + number * MINUTE_NS
            client.import_records(orders(start_ns, fault=fault))
            assert running.pipeline.drain(PATIENCE_S)
            running.pipeline.watch.look_at(start_ns)
    assert running.pipeline.drain(PATIENCE_S)


def verdict_schema() -> dict[str, Any]:
    """What the OpenAPI document says of a verdict, able to stand alone."""
    schemas = json.dumps(document("1")["components"]["schemas"])
    return {"$defs": json.loads(schemas.replace("#/components/schemas/", "#/$defs/")), **_VERDICT}


_VERDICT = {"$ref": "#/$defs/VerdictObject"}


def metric(running: Collector, name: str) -> float:
    """A sample of `/metrics`."""
    with urllib.request.urlopen(f"{running.url}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(f"backtrail_{name}")))


def test_a_finding_is_a_record_an_answer_and_a_figure(tmp_path: Path, orders_of_minute: Orders) -> None:
    """And goes on over a restart; the question about the time measures by what was learned."""
    settings = Settings(data_dir=tmp_path / "data", port=0)
    with Collector(settings) as running:
        pass_minutes(running, orders_of_minute, 0, WARM_MINUTES)
        assert metric(running, "watch_warm") == 1
        with CollectorClient(running.url) as client:
            before = client.stats()["records"]
            pass_minutes(running, orders_of_minute, WARM_MINUTES, 2, fault=True)
            [found] = client.findings.list()["findings"]
            assert (found["state"], found["service"]) == ("began", "watched-stock")
            assert found["entries"] == ["watched-gateway POST /orders"]
            [record] = client.logs("event.name:backtrail.finding")["records"]
            assert (record["level"], record["uid"]) == ("WARN", found["uid"])
            for uid in found["evidence"]:
                assert client.logs(f"uid:{uid}", total=True)["total"] == 1
            assert client.stats()["records"] == before + 2 * 20 * 4 + 1
            assert metric(running, "watch_ongoing") == 1
            assert metric(running, 'watch_findings_total{state="began"}') == 1
            asked: dict[str, Any] = client.root_cause(
                start=found["timestamp"], end=START_NS + (WARM_MINUTES + 2) * MINUTE_NS
            )
            assert asked["services"][0] == "watched-stock"
            assert asked["traces_compared"] == WARM_MINUTES * 20
            assert asked["measured_by"] == "kept_baseline"
            assert "explanation" not in asked
            alone = client.root_cause(found["traces"][0], explain=True)
            jsonschema_rs.validate(verdict_schema(), alone)
            assert alone["explanation"]["noticed"][0]["service"] == "watched-stock"
            page = tmp_path / "why.html"
            command = ["why", found["traces"][0], "--url", running.url, "--html", str(page)]
            assert main(command) == OK
            assert found["traces"][0] in page.read_text(encoding="utf-8")
            assert alone["services"][0] == "watched-stock"
            assert alone["traces_compared"] == WARM_MINUTES * 20
    with Collector(settings) as running:
        pass_minutes(running, orders_of_minute, WARM_MINUTES + 2, QUIET_MINUTES)
        with CollectorClient(running.url) as client:
            states = [item["state"] for item in client.findings.list()["findings"]]
            assert states == ["ended", "began"]
            assert metric(running, "watch_ongoing") == 0


def test_a_minute_that_was_looked_at_before_a_crash_is_told_once(
    tmp_path: Path, orders_of_minute: Orders
) -> None:
    """The baseline on disk is older than the finding in the store."""
    settings = Settings(data_dir=tmp_path / "data", port=0)
    with Collector(settings) as running:
        pass_minutes(running, orders_of_minute, 0, WARM_MINUTES)
        running.pipeline.watch.stop()
        kept = {file: file.read_bytes() for file in (settings.data_dir / "baseline").iterdir()}
        pass_minutes(running, orders_of_minute, WARM_MINUTES, 1, fault=True)
    for file, data in kept.items():
        file.write_bytes(data)
    with Collector(settings) as running:
        running.pipeline.watch.look_at(START_NS + WARM_MINUTES * MINUTE_NS)
        assert running.pipeline.drain(PATIENCE_S)
        with CollectorClient(running.url) as client:
            assert len(client.findings.list()["findings"]) == 1
