"""Several collectors on one cluster, and senders that would break its mapping."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest

from collector.client import CollectorClient
from collector.errors import CollectorError

pytestmark = [pytest.mark.flow, pytest.mark.timeout(600)]

KEYS = 100_000
KEYS_IN_LINE = 50
FIELDS_MAX = 300


def indexing(collector: Any) -> dict[str, Any]:
    with CollectorClient(collector.url) as client, suppress(CollectorError):
        found: dict[str, Any] = client.stats()["indexing"]
        return found
    return {}


def test_two_collectors_of_which_one_is_killed(
    server: Any, collector_process: Callable[..., Any], steady_load: Any, wait_for: Any, stored_uids: Any
) -> None:
    """Each has its own log and its own numbers; what both store is there once, and both find all of it."""
    namespace = uuid4().hex
    store = f"{server.url}?namespace={namespace}&replicas=0"
    one, two = (collector_process(name, store=store, commit_interval_s="0.3") for name in ("one", "two"))
    one.start()
    two.start()
    with steady_load(one.url, lines_per_s=1_000) as first, steady_load(two.url, lines_per_s=1_000) as second:
        for _ in range(3):
            acknowledged = first.acknowledged
            wait_for(lambda least=acknowledged: first.acknowledged > least + 1_000, "one takes nothing")
            one.kill()
            one.start()
        wait_for(lambda: second.acknowledged > 3_000, "two takes nothing")
    for collector in (one, two):
        wait_for(lambda which=collector: indexing(which).get("lag_records") == 0, "not everything is indexed")
    assert set(second.statuses) == {200}
    assert stored_uids(server, namespace) == Counter({**first.uids, **second.uids})
    for collector in (one, two):
        with CollectorClient(collector.url) as client:
            assert client.stats()["records"] == len(first.uids) + len(second.uids)


def exploding(number: int) -> dict[str, object]:
    """A line with attributes that nobody else has."""
    keys = range(number * KEYS_IN_LINE, (number + 1) * KEYS_IN_LINE)
    return {
        "message": f"explosion {number}",
        "trace_id": f"{number + 1:032x}",
        "attributes": {f"key.{key}": key for key in keys},
    }


def test_a_hundred_thousand_attribute_keys(
    server: Any, collector_process: Callable[..., Any], steady_load: Any, wait_for: Any, stored_uids: Any
) -> None:
    """The field count stays under its limit; every record is stored, and found by every means."""
    namespace = uuid4().hex
    options = f"namespace={namespace}&replicas=0&dataset=explosion&fields_max={FIELDS_MAX}"
    collector = collector_process(store=f"{server.url}?{options}", commit_interval_s="0.3")
    collector.start()
    lines = KEYS // KEYS_IN_LINE
    with steady_load(collector.url, lines_per_s=500, line=exploding) as load:
        wait_for(lambda: load.acknowledged >= lines, "nothing is acknowledged")
    wait_for(lambda: indexing(collector).get("lag_records") == 0, "not everything is indexed")
    assert stored_uids(server, namespace) == load.uids
    (mapping,) = server.request("GET", f"/logs-explosion.otel-{namespace}/_mapping").values()
    fields = mapping["mappings"]["properties"]["attributes"]["properties"]
    assert 0 < len(fields) <= FIELDS_MAX
    last = lines - 1
    with CollectorClient(collector.url) as client:
        for question in (f'"explosion {last}"', f"key.{last * KEYS_IN_LINE + 7}:{last * KEYS_IN_LINE + 7}"):
            (found,) = client.logs(question)["records"]
            assert found["message"] == f"explosion {last}"
            assert len(found["attributes"]) == KEYS_IN_LINE
        assert client.trace(f"{last + 1:032x}")["records"] == 1
    assert "index.mapping" not in collector.log.read_text()
