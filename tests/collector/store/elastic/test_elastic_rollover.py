"""Once, whatever happens between a record and the answer: rollovers, lost answers, restarts."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from collector.model import Record
from collector.store.contract import Appended
from collector.store.elastic import ElasticStore, open_store
from collector.store.elastic.connection import Unavailable
from collector.store.elastic.streams import Streams
from collector.testing.store_samples import log, numbered, span

VERSION = "9.4.3"


class LosesAnswers:
    """A proxy in front of a server; while `losing`, bulks get through and their answers do not."""

    def __init__(self, server_url: str) -> None:
        self.losing = False
        self.after_bulk: Callable[[], object] = lambda: None  # called once a bulk has been carried out
        host, _, port = server_url.removeprefix("http://").partition(":")
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65_537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                upstream = http.client.HTTPConnection(host, int(port), timeout=60)
                upstream.request(self.command, self.path, body, dict(self.headers))
                answer = upstream.getresponse()
                content = answer.read()
                if self.path.startswith("/_bulk"):
                    proxy.after_bulk()
                    if proxy.losing:
                        self.close_connection = True
                        return
                self.send_response_only(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("content-length", "transfer-encoding"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def proxy(elasticsearch: Callable[[str], str]) -> Iterator[LosesAnswers]:
    proxy = LosesAnswers(elasticsearch(VERSION))
    yield proxy
    proxy.close()


OpenStore = Callable[..., ElasticStore]


@pytest.fixture
def open_one(elasticsearch: Callable[[str], str], tmp_path: Path) -> Iterator[OpenStore]:
    """Opens a store in the test's own namespace; by default straight at the server."""
    namespace = uuid4().hex
    opened: list[ElasticStore] = []

    def open_(url: str | None = None, name: str = "store", patience_s: float = 60) -> ElasticStore:
        at = url or elasticsearch(VERSION)
        options = {"namespace": namespace, "replicas": 0, "patience_s": patience_s}
        store = open_store(at, tmp_path / name, **options)
        opened.append(store)
        return store

    yield open_
    for store in opened:
        store.close()


RECORDS = numbered([log(1), span(2), log(3)])


def uids(store: ElasticStore) -> list[str]:
    store.refresh()
    return sorted(record.uid for record in store.search(limit=1_000).records)


EXPECTED = sorted(record.uid for record in RECORDS)


def lose_the_first_answer(proxy: LosesAnswers, meanwhile: Callable[[], object]) -> None:
    """The first bulk is carried out, its answer is lost, and something happens before it is sent again."""

    def once() -> None:
        proxy.losing = not proxy.losing
        if proxy.losing:
            meanwhile()

    proxy.after_bulk = once


def test_a_rollover_between_a_lost_answer_and_the_retry(open_one: OpenStore, proxy: LosesAnswers) -> None:
    """The new write index does not know the records; the old one is asked."""
    direct = open_one(name="direct")
    store = open_one(proxy.url)
    lose_the_first_answer(proxy, direct.roll_over)
    assert store.append(RECORDS) == Appended(stored=0, already_stored=3)
    assert store.health()["retries.connection"] == 1
    store.commit()
    assert uids(store) == EXPECTED
    assert store.stats().partitions == 4


def test_without_the_look_up_they_would_be_stored_twice(
    open_one: OpenStore, proxy: LosesAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof that the test above can fail."""
    direct = open_one(name="direct")
    store = open_one(proxy.url)
    monkeypatch.setattr(Streams, "in_older", lambda *_: set())
    lose_the_first_answer(proxy, direct.roll_over)
    assert store.append(RECORDS) == Appended(stored=3, already_stored=0)
    assert uids(store) == sorted(EXPECTED * 2)


def test_a_lost_answer_without_a_rollover(open_one: OpenStore, proxy: LosesAnswers) -> None:
    """The write index itself refuses the second copy."""
    store = open_one(proxy.url)
    lose_the_first_answer(proxy, lambda: None)
    assert store.append(RECORDS) == Appended(stored=0, already_stored=3)
    assert uids(store) == EXPECTED


def test_a_process_that_ends_before_the_answer_and_a_rollover(
    open_one: OpenStore, proxy: LosesAnswers
) -> None:
    """The next process reads the same numbers from the write-ahead log, and looks exactly those up."""
    store = open_one(proxy.url, patience_s=0)
    proxy.after_bulk = lambda: setattr(proxy, "losing", True)
    with pytest.raises(OSError, match="cannot be reached"):
        store.append(RECORDS)
    proxy.losing = False
    proxy.after_bulk = lambda: None
    open_one(name="direct").roll_over()
    again = open_one()
    assert again.stats().durable_seq == 0
    assert again.append(RECORDS) == Appended(stored=0, already_stored=3)
    assert again.commit() == 3
    assert uids(again) == EXPECTED


def test_a_rollover_between_the_look_up_and_the_bulk(open_one: OpenStore, proxy: LosesAnswers) -> None:
    """What was looked up and not found in the older indices is in the one that has just become old."""
    first = open_one(name="first")
    first.append(unnumbered())
    store = open_one(proxy.url)
    real, direct = store._connection.request, open_one(name="direct")  # the moment cannot be met from outside

    def roll_over_first(method: str, path: str, *rest: object, **more: object) -> bytes:
        if path == "/_bulk":
            direct.roll_over()
        return real(method, path, *rest, **more)  # type: ignore[arg-type]

    store._connection.request = roll_over_first  # type: ignore[method-assign]
    assert store.append(unnumbered(), check_uids=True) == Appended(stored=0, already_stored=3)
    store._connection.request = real  # type: ignore[method-assign]
    assert uids(store) == EXPECTED


def unnumbered() -> list[Record]:
    """As an import sends them."""
    return [log(1), span(2), log(3)]


def test_an_import_after_many_rollovers_stores_nothing_twice(open_one: OpenStore) -> None:
    """Every older index is asked."""
    store = open_one()
    for record in unnumbered():
        store.append([record])
        store.roll_over()
    assert store.append(unnumbered(), check_uids=True) == Appended(stored=0, already_stored=3)
    assert uids(store) == EXPECTED


def test_a_shard_that_does_not_answer_is_not_taken_for_one_that_has_nothing(
    open_one: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its records would be stored again, and an index be dropped that is still needed."""
    monkeypatch.setattr("collector.store.elastic.connection._READ_PATIENCE_S", 0.2)
    store = open_one()
    store.append(unnumbered())
    store.commit()
    silent = f"silent-{uuid4().hex}"
    settings = {"index.routing.allocation.include._name": "no-such-node", "index.number_of_replicas": 0}
    store._connection.request(
        "PUT", f"/{silent}?wait_for_active_shards=0", {"settings": settings}, timeout_s=60
    )
    store._streams.reload()
    (there,) = store._streams.backing(store.names.logs)
    indices = [there, silent]
    every = {"match_all": {}}
    try:
        for ask in (
            lambda: store._streams.in_indices(indices, {log(1).uid}),
            lambda: store._reader.count_documents(",".join(indices), every),
            lambda: store._reader._many(",".join(indices), [{"query": every}]),
            lambda: store._reader.aggregate(",".join(indices), every, {}),
        ):
            with pytest.raises(Unavailable):
                ask()
    finally:
        store._connection.request("DELETE", f"/{silent}")
