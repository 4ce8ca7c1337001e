"""plan, apply, check: what is made in the cluster, on both versions."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from uuid import uuid4

import msgspec
import pytest

from collector.store.conditions import Equals
from collector.store.elastic import ElasticOptions, ElasticStore, open_store
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


def test_a_retention_that_nobody_keeps_is_seen(cluster: Cluster, tmp_path: Path) -> None:
    """Where the server has no lifecycle of its own, and no collector with these settings runs."""
    options = msgspec.structs.replace(cluster.options, retention_days=7.0)
    store = open_store(
        cluster.options.hosts[0], tmp_path / "store", dataset=cluster.names.dataset, replicas=0
    )
    day_ns = 86_400 * 10**9
    store.append([log(1, received_ns=time.time_ns() - 8 * day_ns)])
    store.commit()
    assert check(cluster.connection, cluster.names, options, cluster.server) == []
    store.append([log(2, received_ns=time.time_ns() - 10 * day_ns)])
    store.close()
    (late,) = check(cluster.connection, cluster.names, options, cluster.server)
    assert "1 records are older than 7 days" in late.message
    options = msgspec.structs.replace(options, retention_days=None, rollover_age_s=0)
    (late,) = check(cluster.connection, cluster.names, options, cluster.server)
    assert "not rolled over" in late.message


def test_a_stream_of_an_older_template_begins_a_new_index(cluster: Cluster, tmp_path: Path) -> None:
    """What is in the older index stays, and both are one store to whoever asks."""
    older = component_template(cluster.names.logs, cluster.names, cluster.options, cluster.server)
    older["version"] = older["template"]["mappings"]["_meta"]["version"] = TEMPLATE_VERSION - 1
    older["template"]["mappings"]["properties"]["span_id"] = {"type": "keyword"}
    cluster.apply()
    name = cluster.names.template_of(cluster.names.logs)
    cluster.connection.request("PUT", f"/_component_template/{name}", older)
    before = log(1, seq=1, trace_id="a" * 32, span_id="b" * 16)
    after = log(2, seq=2, trace_id="a" * 32, span_id="c" * 16)
    options = cluster.options
    with closing(ElasticStore.open(options, tmp_path / "first", apply=False)) as store:
        store.append([before])
        store.commit()
    with closing(ElasticStore.open(options, tmp_path / "second")) as store:
        store.append([after])
        store.commit()
        assert store.stats().partitions == 2
        assert store.trace("a" * 32, records_max=9) == [before, after]
        assert store.search(Equals("uid", before.uid)).records == [before]
        found = {bucket.value: bucket.count for bucket in store.facets("span_id")}
        assert found == {"b" * 16: 1, "c" * 16: 1}
    assert cluster.findings() == []
    assert set(cluster.actions()) == {"keep"}


def test_the_lifecycle_in_our_templates_is_one_that_servers_take(cluster: Cluster) -> None:
    """Also these builds, which read it and lack the module that would act on it."""
    server = msgspec.structs.replace(cluster.server, modules=cluster.server.modules | {"data-streams"})
    options = msgspec.structs.replace(cluster.options, retention_days=2)
    for stream in cluster.names.streams:
        path = f"/_component_template/{cluster.names.template_of(stream)}"
        wanted = component_template(stream, cluster.names, options, server)
        cluster.connection.request("PUT", path, wanted)
        (found,) = cluster.connection.ask("GET", path)["component_templates"]
        lifecycle = found["component_template"]["template"]["lifecycle"]
        assert lifecycle == wanted["template"]["lifecycle"] == {"enabled": True, "data_retention": "48h"}


# What a server with the data-streams module answers, after Elastic's reference of 9.1, "Get data stream
# lifecycles": the builds that can be had here leave that module out.
LIFECYCLES = {
    "/_data_stream/logs-backtrail.otel-default/_lifecycle": {"enabled": True, "data_retention": "7d"},
    "/_data_stream/traces-backtrail.otel-default/_lifecycle": {"enabled": True, "data_retention": "48h"},
}


@pytest.fixture
def full_server() -> Iterator[tuple[Connection, list[tuple[str, str, bytes]]]]:
    """A connection to what answers as such a server, and what it was asked."""
    asked: list[tuple[str, str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append((self.command, self.path, body))
            lifecycle = LIFECYCLES.get(self.path)
            known = {"data_streams": [{"name": self.path.split("/")[-2], "lifecycle": lifecycle}]}
            self.send_response(200 if lifecycle else 404)
            self.send_header("X-Elastic-Product", "Elasticsearch")
            self.send_header("Content-Type", "application/json")
            content = json.dumps(known if lifecycle else {"error": {"type": "index_not_found_exception"}})
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content.encode())

        do_GET = do_PUT = answer

        def log_message(self, *_: object) -> None:
            """Not to the test's output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        Thread(target=httpd.serve_forever, daemon=True).start()
        connection = Connection(ElasticOptions(hosts=(f"http://127.0.0.1:{httpd.server_port}",)))
        yield connection, asked
        connection.close()
        httpd.shutdown()


def test_a_stream_that_runs_is_told_of_another_retention(
    full_server: tuple[Connection, list[tuple[str, str, bytes]]],
) -> None:
    """A template alone would change it for streams that are made later."""
    connection, asked = full_server
    server = Server(version=(9, 1), cluster_uuid="u", modules=frozenset({"data-streams"}))
    options = ElasticOptions(hosts=("http://h:9200",), retention_days=2)
    steps = [step for step in plan(connection, Names(), options, server) if "lifecycle of" in step.what]
    logs, spans = steps  # the third stream is not there yet
    assert (logs.action, logs.differences) == ("change", ["data_retention: '7d' -> '48h'"])
    assert spans.action == "keep"
    assert apply(connection, steps) == 1
    method, path, body = asked[-1]
    assert (method, path) == ("PUT", "/_data_stream/logs-backtrail.otel-default/_lifecycle")
    assert json.loads(body) == {"enabled": True, "data_retention": "48h"}
    unset = msgspec.structs.replace(options, retention_days=None)
    assert all("lifecycle of" not in step.what for step in plan(connection, Names(), unset, server))


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
