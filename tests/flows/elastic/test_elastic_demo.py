"""The demo on a collector in front of Elasticsearch: causes are named, and dashboards show something."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

import pytest

from collector.client import CollectorClient
from collector.dashboards import files
from collector.demo.episode import play, warm_up
from collector.demo.faults import FAULTS
from collector.demo.shop import SERVICES, Shop
from collector.service.gauges import PREFIX
from collector.testing.store_samples import TRACE

pytestmark = [pytest.mark.flow, pytest.mark.timeout(600)]

_SPEC = importlib.util.spec_from_file_location(
    "queries_of_dashboards",
    Path(__file__).resolve().parents[2] / "collector" / "store" / "elastic" / "test_elastic_dashboards.py",
)
assert _SPEC is not None
assert _SPEC.loader is not None
dashboards = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = dashboards
_SPEC.loader.exec_module(dashboards)


@contextmanager
def shop_before(collector: Any, directory: Path) -> Iterator[Shop]:
    """The demo's services, which ship to a collector of ours."""
    shop = Shop(directory=directory, collector_url=collector.url)
    try:
        for service in SERVICES:
            shop.launch(service, f"collector.demo.{service}")
        shop.wait_for(*SERVICES)
        yield shop
    finally:
        shop.stop()


def test_the_demo_on_elasticsearch(
    server: Any, collector_process: Callable[..., Any], wait_for: Any, tmp_path: Path
) -> None:
    """The cause is named, the tail shows records as they come, and every panel of the dashboards has data."""
    dataset, namespace = f"demo{uuid4().hex}", uuid4().hex
    collector = collector_process(
        store=f"{server.url}?dataset={dataset}&namespace={namespace}&replicas=0", commit_interval_s="0.2"
    )
    collector.start()
    with (
        CollectorClient(collector.url) as client,
        shop_before(collector, tmp_path) as shop,
        ThreadPoolExecutor(1) as watching,
    ):
        tail = client.tail("service:gateway")
        seen = watching.submit(next, tail)
        wait_for(lambda: f"{PREFIX}tail_watchers 1" in metrics_of(collector), "nobody watches the tail")
        warm_up(shop, seed=7)
        episode = play(shop, FAULTS["exception"])
        kind, record = seen.result(60)
        tail.close()
        assert (kind, record["service"]) == ("record", "gateway")
        assert episode.is_named, json.dumps(episode.verdict, indent=2)
        assert episode.chain_is_in, episode.trace["gaps"]

        def search(index: str, body: dict[str, Any]) -> dict[str, Any]:
            ours = index.replace("*.otel", f"{dataset}.otel")
            wanted = json.loads(json.dumps(body).replace(TRACE, episode.trace_id))
            found: dict[str, Any] = server.request("POST", f"/{ours}/_search", wanted)
            return found

        for title, index, body in dashboards.QUERIES:
            print(title)
            dashboards.has_data(search(index, body), body)

        refuse_and_lose(client)
        every_panel_has_samples(metrics_of(collector))


def metrics_of(collector: Any) -> str:
    """The page, as Prometheus reads it."""
    with urlopen(f"{collector.url}/metrics", timeout=30) as answer:
        page: str = answer.read().decode()
        return page


def refuse_and_lose(client: CollectorClient) -> None:
    """Make happen what some figures count: a line that is refused, and a sender that lost some."""
    loss = {"timestamp": "2026-11-24T05:32:11Z", "level": "INFO", "service": "shop", "kind": "loss"}
    loss["loss"] = {"reason": "over_bound", "count": 3, "from": 0, "to": 0}  # type: ignore[assignment]
    spool = uuid4().hex
    header = {"backtrail_spool": 1, "spool_id": spool, "segment": 0, "first_offset": 0, "resource": {}}
    lines = [json.dumps(one).encode() + b"\n" for one in (header, loss, {"no": "record"})]
    headers = {"Backtrail-Format": "1", "Backtrail-Spool": spool, "Backtrail-Offset": "0"}
    answer = client._wire.call("POST", "/v1/records", body=b"".join(lines), headers=headers)
    assert len(answer["refused"]) == 1


def every_panel_has_samples(page: str) -> None:
    """Each figure that the collector's own dashboard draws is there, with the label that its legend names."""
    panels = json.loads(files()["grafana-collector.json"])["panels"]
    targets = [target for panel in panels for target in panel["targets"]]
    assert len(targets) > 10
    for target in targets:
        (name,) = re.findall(rf"{PREFIX}\w+", target["expr"])
        samples = re.findall(rf"^{name}(?:\{{(.*)\}})? [\d.e+-]+$", page, re.MULTILINE)
        assert samples, target["expr"]
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            assert all(f'{label}="' in labels for labels in samples), target
