"""A backup is a store: of a moment, while others write, and independent of what comes after."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.errors import StoreFailed
from collector.store.conditions import Equals
from collector.store.embedded import EmbeddedStore
from collector.testing.store_samples import DAY_NS, START_NS, log, numbered

RECORDS = numbered([log(n, received_ns=START_NS + n % 2 * DAY_NS, logger=f"l{n}") for n in range(60)])


def seqs(store: EmbeddedStore) -> list[int]:
    """What is stored, by number."""
    return sorted(record.seq for record in store.search(limit=1_000).records)


def test_a_backup_is_the_store_of_that_moment(tmp_path: Path) -> None:
    """Deletions, drops, merges and later records do not reach it."""
    store = EmbeddedStore.open(tmp_path / "store")
    store.append(RECORDS[:40])
    assert store.backup(tmp_path / "backup") > 0
    for start in range(40, 60):
        store.append(RECORDS[start : start + 1])
        store.commit()
    store.delete(Equals("uid", RECORDS[0].uid))
    store.drop_before(START_NS + DAY_NS)
    store.close()

    restored = EmbeddedStore.open(tmp_path / "backup")
    assert seqs(restored) == list(range(1, 41))
    assert restored.stats().durable_seq == 40
    restored.append(RECORDS)
    restored.commit()
    assert seqs(restored) == list(range(1, 61))
    assert restored.scrub() == 0
    restored.close()


def test_a_reader_backs_up_what_another_writes(tmp_path: Path) -> None:
    """Without stopping it; what it had committed by then is there, whole."""
    store = EmbeddedStore.open(tmp_path / "store")
    store.append(RECORDS[:1])
    store.commit()
    reader = EmbeddedStore.open(tmp_path / "store", read_only=True)
    for number, start in enumerate(range(1, 60, 6)):
        store.append(RECORDS[start : start + 6])
        store.commit()
        reader.refresh()
        target = tmp_path / f"backup-{number}"
        reader.backup(target)
        copy = EmbeddedStore.open(target, read_only=True)
        assert seqs(copy) == list(range(1, min(start + 6, 60) + 1))
        assert copy.stats().damaged_partitions == 0
        copy.close()
    store.close()


def test_a_target_with_something_in_it_is_refused(tmp_path: Path) -> None:
    """Two stores in one directory would be none."""
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "precious").write_text("!")
    store = EmbeddedStore.open(tmp_path / "store")
    with pytest.raises(StoreFailed, match="not empty"):
        store.backup(tmp_path / "backup")
    store.close()


def test_a_backup_of_an_empty_store(tmp_path: Path) -> None:
    """Is an empty store."""
    store = EmbeddedStore.open(tmp_path / "store")
    store.backup(tmp_path / "backup")
    store.close()
    restored = EmbeddedStore.open(tmp_path / "backup")
    assert restored.stats().records == 0
    restored.close()
