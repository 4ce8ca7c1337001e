"""A batch is on its way while the next is made: on a live server, also when it refuses the first of two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from collector.errors import StoreFailed
from collector.model import Record
from collector.store.contract import AppendsAhead
from collector.store.elastic import ElasticStore, open_store
from collector.store.elastic.connection import Connection
from collector.testing.store_samples import log, span


@pytest.fixture
def store(elasticsearch: Callable[[str], str], tmp_path: Path) -> Iterator[ElasticStore]:
    """An empty store that loses patience soon."""
    opened = open_store(
        elasticsearch("9.4.3"), tmp_path / "store", namespace=uuid4().hex, replicas=0, patience_s=0.3
    )
    yield opened
    opened.close()


def logs(first: int, count: int) -> list[Record]:
    return [log(number, seq=number) for number in range(first, first + count)]


def block(store: ElasticStore, stream: str, *, blocked: bool) -> None:
    """Forbid writing to a stream, as a disk that is nearly full does."""
    connection = Connection(store.options)
    connection.request("PUT", f"/{stream}/_settings", {"index.blocks.write": blocked})
    connection.close()


def test_two_batches_are_on_their_way_at_once(store: ElasticStore) -> None:
    """Each gives what `append` gives; what was begun before is a repetition."""
    assert isinstance(store, AppendsAhead)
    first = store.begin_append(logs(1, 30))
    second = store.begin_append(logs(21, 30))
    assert (first().stored, second().stored) == (30, 20)
    assert store.commit() == 50
    assert store.count() == 50


def test_when_the_first_fails_both_come_again_and_none_is_twice(store: ElasticStore) -> None:
    """The second was stored meanwhile, and nobody was told."""
    store.append([log(1, seq=1), span(2, seq=2)])
    assert store.commit() == 2
    some, more = logs(3, 5), [span(number, seq=number) for number in range(8, 14)]
    block(store, store.names.logs, blocked=True)
    first, second = store.begin_append(some), store.begin_append(more)
    for finish in (first, second):
        with pytest.raises(StoreFailed):
            finish()
    assert store.commit() == 2
    block(store, store.names.logs, blocked=False)
    again = store.append([*some, *more])
    assert (again.stored, again.already_stored) == (5, 6)
    assert store.commit() == 13
    assert store.count() == 13


def test_a_batch_that_cannot_even_begin_fails_the_one_before(
    store: ElasticStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stored, and comes again, because what was begun is no longer known to end well."""
    writer = store._writer
    assert writer is not None

    def full(seq: int) -> None:
        raise OSError("no space left on the device")

    first = store.begin_append(logs(1, 5))
    with monkeypatch.context() as patched:
        patched.setattr(writer._state, "reserve", full)
        with pytest.raises(OSError, match="no space"):
            store.begin_append(logs(6, 5))
    with pytest.raises(StoreFailed):
        first()
    again = store.append(logs(1, 10))
    assert (again.stored, again.already_stored) == (5, 5)
    assert store.commit() == 10
