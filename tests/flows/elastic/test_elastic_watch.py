"""The watch over Elasticsearch: the same findings, through the same questions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collector.client import CollectorClient
from collector.service import Collector
from collector.settings import Settings
from collector.store.contract import MINUTE_NS
from collector.watch.kept import WARM_MINUTES

pytestmark = [pytest.mark.flow, pytest.mark.timeout(900)]

PATIENCE_S = 120.0
START_NS = 1_800_000_000_000_000_000  # in the future, so that the running clock looks at none of it


def test_a_fault_is_found_and_told_in_the_cluster(
    server: Any, tmp_path: Path, orders_of_minute: Callable[..., list[tuple[str, bytes]]]
) -> None:
    """Learned from it, measured in it, written to it."""
    settings = Settings(data_dir=tmp_path / "data", port=0, store=server.url)
    with Collector(settings) as running, CollectorClient(running.url, timeout_s=PATIENCE_S) as client:
        for number in range(WARM_MINUTES + 1):
            lines = orders_of_minute(START_NS + number * MINUTE_NS, fault=number == WARM_MINUTES)
            client.import_records(lines)
        assert running.pipeline.drain(PATIENCE_S)
        watch = running.pipeline.watch
        told = [watch.look_at(START_NS + number * MINUTE_NS) for number in range(WARM_MINUTES + 1)]
        assert told[:-1] == [[]] * WARM_MINUTES
        assert [(event.state, event.service) for event in told[-1]] == [("began", "watched-stock")]
        assert running.pipeline.drain(PATIENCE_S)
        client.changes.record("flag", "watched-stock", name="shelves", timestamp=START_NS)
        assert running.pipeline.drain(PATIENCE_S)
        [found] = client.findings.list(service="watched-stock")["findings"]
        assert found["uid"] == told[-1][0].uid
        assert len(client.changes.list(service="watched-stock")["changes"]) == 1
