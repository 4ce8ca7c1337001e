"""Both stores keep every promise of the contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, cast

import pytest

from collector.store.contract import Store
from collector.store.embedded import EmbeddedStore, StoreLimits
from collector.store.memory import MemoryStore
from collector.testing.store_contract import Reopen, StoreContract
from collector.testing.store_rates import TimelineContract

_IN_MEMORY = "a store in memory ends with its process"


class TestMemoryStore(StoreContract, TimelineContract):
    cannot_keep: ClassVar = {
        "test_what_is_committed_survives_a_crash": _IN_MEMORY,
        "test_replaying_everything_after_a_crash_stores_nothing_twice": _IN_MEMORY,
        "test_closing_commits_and_may_be_repeated": _IN_MEMORY,
        "test_what_was_deleted_stays_out": _IN_MEMORY,
    }

    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()

    @pytest.fixture
    def reopen(self) -> Reopen:
        return lambda store: store


class TestEmbeddedStore(StoreContract, TimelineContract):
    limits = StoreLimits()

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = EmbeddedStore.open(tmp_path / "store", limits=self.limits)
        yield store
        store.close()

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Iterator[Reopen]:
        opened: list[EmbeddedStore] = []

        def crash_and_open(store: Store) -> Store:
            cast("EmbeddedStore", store).abandon()
            opened.append(EmbeddedStore.open(tmp_path / "store", limits=self.limits))
            return opened[-1]

        yield crash_and_open
        for store in opened:
            store.close()


class TestEmbeddedStoreInManyPartitions(TestEmbeddedStore):
    """The same with a partition for every seven records, one writer, and no memory of parents."""

    limits = StoreLimits(partition_records_max=7, writers_max=1, parents_remembered_max=1)
