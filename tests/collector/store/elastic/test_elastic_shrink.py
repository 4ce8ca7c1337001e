"""The retention by size in a cluster: the oldest backing indices go, what is written to stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from collector.service.housekeeping import Shrinkable
from collector.store.elastic import ElasticStore, open_store
from collector.testing.store_samples import log, numbered

VERSION = "9.4.3"


@pytest.fixture
def store(elasticsearch: Callable[[str], str], tmp_path: Path) -> Iterator[ElasticStore]:
    """With three backing indices of logs, ten records in each."""
    opened = open_store(
        elasticsearch(VERSION), tmp_path / "store", namespace=uuid4().hex, replicas=0, patience_s=60
    )
    for number in range(3):
        if number:
            opened.roll_over()
        opened.append(numbered([log(number * 10 + at) for at in range(10)], first=number * 10 + 1))
        opened.commit()
    yield opened
    opened.close()


def test_the_oldest_indices_go_and_the_newest_stays(store: ElasticStore) -> None:
    """None while there is room; one when that is enough; all but the newest when nothing is."""
    assert isinstance(store, Shrinkable)
    assert store.stats().logs == 30
    size = store.stats().bytes
    assert store.shrink_to(size * 10) == 0
    assert store.shrink_to(size - 1) == 10
    assert sorted(record.uid for record in store.search(limit=99).records)[0] == "uid-000010"
    assert store.shrink_to(1) == 10
    assert store.shrink_to(1) == 0
    store.refresh()
    assert store.stats().logs == 10
