"""Elasticsearch with users and TLS on: the least that suffices, and credentials that go away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

import pytest
from devservers.elasticsearch import PASSWORD, USER
from devservers.tls import make_certificates

from collector.client import CollectorClient
from collector.errors import CollectorError, ConfigurationError
from collector.store.conditions import Equals
from collector.store.elastic import ElasticStore, open_store
from collector.store.elastic.connection import Forbidden, Unavailable
from collector.store.elastic.names import Names
from collector.store.elastic.privileges import collector_role, operator_role, reader_role
from collector.testing.store_samples import TRACE, log, numbered, span, span_start

pytestmark = [pytest.mark.flow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server(start_elasticsearch: Callable[..., Any]) -> Any:
    return start_elasticsearch(heap_mb=512, security=True)


@pytest.fixture
def namespace(server: Any, tmp_path: Path) -> str:
    """A namespace whose templates an administrator has made."""
    namespace = uuid4().hex
    open_store(
        server.url,
        tmp_path / "administrator",
        namespace=namespace,
        replicas=0,
        username=USER,
        password=PASSWORD,
        ca_file=server.certificates.authority,
    ).close()
    return namespace


OpenWith = Callable[..., ElasticStore]


@pytest.fixture
def open_with(server: Any, namespace: str, tmp_path: Path) -> Iterator[OpenWith]:
    """Opens a store with a new API key that has exactly the privileges of a role."""
    opened: list[ElasticStore] = []

    def open_(role: Callable[[Names], dict[str, Any]], *, write: bool = True) -> ElasticStore:
        key = server.request(
            "POST",
            "/_security/api_key",
            {"name": uuid4().hex, "role_descriptors": {"only": role(Names(namespace=namespace))}},
        )["encoded"]
        store = open_store(
            server.url,
            tmp_path / uuid4().hex if write else None,
            namespace=namespace,
            replicas=0,
            api_key=key,
            ca_file=server.certificates.authority,
            patience_s=1,
        )
        opened.append(store)
        return store

    yield open_
    for store in opened:
        store.close()


RECORDS = numbered([log(1), span(2), span_start(3)])


def test_a_collectors_key_takes_in_and_answers(open_with: OpenWith) -> None:
    """With nothing but the privileges of `collector_role`."""
    store = open_with(collector_role)
    assert store.append(RECORDS).stored == 3
    assert store.append(RECORDS, check_uids=True).already_stored == 3
    assert store.commit() == 3
    assert store.count() == 2
    assert store.existing({RECORDS[0].uid}) == {RECORDS[0].uid}
    assert [record.uid for record in store.trace(TRACE, records_max=9)] == [RECORDS[1].uid, RECORDS[2].uid]
    assert [found.service for found in store.services()] == ["orders"]
    assert (store.stats().records, store.stats().partitions) == (2, 3)
    assert store.stats().bytes > 0


def test_a_collectors_key_cannot_change_or_delete_anything(open_with: OpenWith, server: Any) -> None:
    """Neither ours nor anybody else's."""
    store = open_with(collector_role)
    store.append(RECORDS)
    store.commit()
    for forbidden in (
        lambda: store.delete(Equals("service", "orders")),
        store.roll_over,
        lambda: store.drop_before(2**62),
    ):
        with pytest.raises(Forbidden):
            forbidden()
    server.request("PUT", "/somebody-elses/_doc/1?refresh=true", {"secret": 1})
    for method, path, body in (
        ("GET", "/somebody-elses/_search", None),
        ("PUT", "/somebody-elses/_doc/2", {"ours": 1}),
        ("PUT", "/_index_template/mine", {"index_patterns": ["x"]}),
        ("DELETE", "/somebody-elses", None),
        ("PUT", "/_cluster/settings", {"persistent": {"action.auto_create_index": "false"}}),
    ):
        with pytest.raises(Forbidden):
            store._connection.request(method, path, body)
    assert store.count() == 2


def test_a_readers_key_reads_and_cannot_write(open_with: OpenWith) -> None:
    """What the CLI on somebody's desk needs."""
    writing = open_with(collector_role)
    writing.append(RECORDS)
    writing.commit()
    assert open_with(reader_role, write=False).count() == 2
    store = open_with(reader_role)
    with pytest.raises(Forbidden):
        store.append(numbered([log(9)], first=4))
    assert "security_exception" in str(store.hold)
    assert store.health()["held"] == 1
    with pytest.raises(ConfigurationError, match="opened for reading"):
        open_with(reader_role, write=False).append(RECORDS)


def test_a_key_that_may_write_and_not_make_visible_is_a_hold(open_with: OpenWith) -> None:
    """Also when the records themselves were taken, and each time anew until the privilege is there."""

    def without_maintenance(names: Names) -> dict[str, Any]:
        role = collector_role(names)
        role["indices"][0]["privileges"].remove("maintenance")
        return role

    store = open_with(without_maintenance)
    for _ in range(2):
        store.append(RECORDS)
        with pytest.raises(Forbidden):
            store.commit()
        assert "indices:admin/refresh" in str(store.hold)


def test_an_operators_key_does_the_rest(open_with: OpenWith) -> None:
    """Templates, deletion, rollover, retention."""
    store = open_with(operator_role)
    store.append(RECORDS)
    store.commit()
    assert len(store.roll_over()) == 3
    assert store.delete(Equals("kind", "span")) == 1
    assert store.drop_before(2**62) == 2


def test_a_server_that_another_authority_vouches_for_is_refused(
    server: Any, namespace: str, tmp_path: Path
) -> None:
    """Nothing is sent to it, not even the key."""
    other = make_certificates(tmp_path / "other").authority
    with pytest.raises(Unavailable, match="no secure connection") as caught:
        open_store(server.url, None, namespace=namespace, api_key="c2VjcmV0", ca_file=other)
    assert caught.value.reason == "tls"
    with pytest.raises(ConfigurationError, match="no such file"):
        open_store(server.url, None, ca_file=tmp_path / "missing.pem")


def test_credentials_that_are_taken_away_for_a_while(
    server: Any,
    namespace: str,
    collector_process: Callable[..., Any],
    steady_load: Any,
    wait_for: Any,
    stored_uids: Any,
) -> None:
    """Everything is held, nothing is dropped, and it goes on by itself when they are back."""
    user = f"collector-{namespace}"
    server.request("PUT", f"/_security/role/{user}", collector_role(Names(namespace=namespace)))
    server.request("PUT", f"/_security/user/{user}", {"password": "a password", "roles": [user]})
    place = server.url.removeprefix("https://")
    collector = collector_process(
        store=f"https://{user}:a%20password@{place}?namespace={namespace}&replicas=0",
        store_ca_file=str(server.certificates.authority),
        commit_interval_s="0.5",
        ready_stall_s="2",
    )
    collector.start()

    def indexing() -> dict[str, Any]:
        with CollectorClient(collector.url) as client, suppress(CollectorError):
            found: dict[str, Any] = client.stats()["indexing"]
            return found
        return {}

    with steady_load(collector.url, lines_per_s=1_000) as load:
        wait_for(lambda: indexing().get("stored", 0) > 0, "nothing is stored")
        server.request("PUT", f"/_security/user/{user}/_disable")
        with CollectorClient(collector.url) as client:
            wait_for(lambda: "security_exception" in client.health()["detail"], "the hold is not quoted")
            wait_for(lambda: client.health()["status"] == "stalled", "nobody notices")
        with urlopen(f"{collector.url}/metrics", timeout=30) as page:
            assert b"\nbacktrail_cluster_held 1" in page.read()
        acknowledged = load.acknowledged
        wait_for(lambda: load.acknowledged > acknowledged + 1_000, "the senders are held up")
        server.request("PUT", f"/_security/user/{user}/_enable")
    wait_for(lambda: indexing().get("lag_records") == 0, "not everything is indexed")
    assert set(load.statuses) == {200}
    assert stored_uids(server, namespace) == load.uids
