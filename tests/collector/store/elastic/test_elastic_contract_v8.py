"""The contract kit, unchanged, on a live Elasticsearch 8.14.1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from collector.store.contract import Store
from collector.store.elastic import ElasticStore, open_store
from collector.testing.store_contract import Reopen, StoreContract
from collector.testing.store_rates import TimelineContract

VERSION = "8.14.1"
OpenStore = Callable[[], ElasticStore]


@pytest.fixture
def open_one(elasticsearch: Callable[[str], str], tmp_path: Path) -> Iterator[OpenStore]:
    """Opens a store in a namespace of its own, the same data each time."""
    url, namespace = elasticsearch(VERSION), uuid4().hex
    opened: list[ElasticStore] = []

    def open_() -> ElasticStore:
        opened.append(open_store(url, tmp_path / "store", namespace=namespace, replicas=0))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


class TestElasticStore(StoreContract, TimelineContract):
    @pytest.fixture
    def store(self, open_one: OpenStore) -> Store:
        return open_one()

    @pytest.fixture
    def reopen(self, open_one: OpenStore) -> Reopen:
        # Nothing of ours is told before the process ends: what a crash leaves is what is there now.
        return lambda _: open_one()
