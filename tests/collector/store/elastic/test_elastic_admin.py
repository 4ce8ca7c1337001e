"""plan, apply, check: what is made in the cluster, on both versions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from collector.store.elastic import ElasticOptions, open_store
from collector.store.elastic.admin import apply, check, plan
from collector.store.elastic.connection import Connection
from collector.store.elastic.mapping import TEMPLATE_VERSION, component_template
from collector.store.elastic.names import Names
from collector.store.elastic.server import Server, ask_server
from collector.testing.store_samples import log


class Cluster:
    """A live server and names that nobody else uses."""

    def __init__(self, url: str) -> None:
        self.options = ElasticOptions.from_url(url, dataset=f"admin{uuid4().hex}", replicas=0)
        self.connection = Connection(self.options)
        self.names = Names(self.options.dataset)
        self.server = ask_server(self.connection)

    def actions(self) -> list[str]:
        return [step.action for step in plan(self.connection, self.names, self.options, self.server)]

    def apply(self) -> int:
        steps = plan(self.connection, self.names, self.options, self.server)
        return apply(self.connection, steps)

    def findings(self) -> list[str]:
        found = check(self.connection, self.names, self.options, self.server)
        return [finding.message.partition(": ")[2] for finding in found]


@pytest.fixture(params=["8.14.1", "9.4.3"])
def cluster(request: pytest.FixtureRequest, elasticsearch: Callable[[str], str]) -> Cluster:
    return Cluster(elasticsearch(request.param))


def test_applying_again_changes_nothing(cluster: Cluster) -> None:
    """And planning alone makes nothing."""
    assert cluster.actions() == ["create"] * 6
    assert cluster.actions() == ["create"] * 6
    assert cluster.apply() == 6
    assert cluster.actions() == ["keep"] * 6
    assert cluster.apply() == 0


def test_a_change_is_named_and_made(cluster: Cluster) -> None:
    """Only what differs; what a newer collector made is left alone."""
    cluster.apply()
    name = cluster.names.template_of(cluster.names.logs)
    path = f"/_component_template/{name}"
    changed = component_template(cluster.names.logs, cluster.names, cluster.options, cluster.server)
    changed["template"]["settings"]["index"]["refresh_interval"] = "1s"
    cluster.connection.request("PUT", path, changed)
    (step,) = (
        step
        for step in plan(cluster.connection, cluster.names, cluster.options, cluster.server)
        if step.action == "change"
    )
    assert step.differences == ["template.settings.index.refresh_interval: '1s' -> '10s'"]
    assert cluster.apply() == 1
    cluster.connection.request("PUT", path, {**changed, "version": TEMPLATE_VERSION + 1})
    assert cluster.actions().count("leave") == 1
    assert cluster.apply() == 0


def test_a_users_component_goes_over_ours_and_is_never_touched(cluster: Cluster, tmp_path: Path) -> None:
    """Starting applies; the user's own stands."""
    custom = cluster.names.custom_of(cluster.names.logs)
    theirs = {"template": {"settings": {"index": {"refresh_interval": "42s"}}}}
    cluster.connection.request("PUT", f"/_component_template/{custom}", theirs)
    store = open_store(
        cluster.options.hosts[0], tmp_path / "store", dataset=cluster.names.dataset, replicas=0
    )
    store.append([log(1)])
    store.close()
    found = cluster.connection.ask("GET", f"/{cluster.names.logs}/_settings")
    (index,) = found.values()
    assert index["settings"]["index"]["refresh_interval"] == "42s"
    (kept,) = cluster.connection.ask("GET", f"/_component_template/{custom}")["component_templates"]
    assert kept["component_template"]["template"] == theirs["template"]


def test_a_running_stream_is_held_against_the_template(cluster: Cluster, tmp_path: Path) -> None:
    """A field of another type is harmful; a template that has moved on is said, too."""
    store = open_store(
        cluster.options.hosts[0], tmp_path / "store", dataset=cluster.names.dataset, replicas=0
    )
    store.append([log(1, attributes={"k": 1})])
    assert cluster.findings() == []
    custom = cluster.names.custom_of(cluster.names.logs)
    wrong = {"template": {"mappings": {"properties": {"name": {"type": "text"}}}}}
    cluster.connection.request("PUT", f"/_component_template/{custom}", wrong)
    store.roll_over()
    store.close()
    assert "mapping properties.name.type is 'text', wanted 'keyword'" in cluster.findings()


@pytest.mark.parametrize(
    ("modules", "lifecycle", "constant"),
    [(frozenset(), False, False), (frozenset({"data-streams", "constant-keyword"}), True, True)],
)
def test_what_a_server_has_is_used_where_it_is(
    modules: frozenset[str], lifecycle: bool, constant: bool
) -> None:
    """Retention by the server itself, and constants said once for an index."""
    server = Server(version=(9, 4), cluster_uuid="u", modules=modules)
    options = ElasticOptions(hosts=("http://h:9200",), retention_days=2)
    template = component_template(Names().logs, Names(), options, server)["template"]
    assert (template.get("lifecycle") == {"enabled": True, "data_retention": "48h"}) is lifecycle
    assert ("data_stream" in template["mappings"]["properties"]) is constant


@pytest.mark.parametrize("version", [(8, 14), (8, 17), (9, 4)])
def test_templates_are_made_for_the_version(version: tuple[int, int]) -> None:
    """Logs mode and passthrough objects as soon as they are what they are now."""
    server = Server(version=version, cluster_uuid="u")
    options = ElasticOptions(hosts=("http://h:9200",))
    template = component_template(Names().spans, Names(), options, server)["template"]
    modern = version > (8, 14)
    assert (template["settings"]["index"].get("mode") == "logsdb") is modern
    attributes = template["mappings"]["properties"]["attributes"]
    assert attributes["type"] == ("passthrough" if modern else "object")
