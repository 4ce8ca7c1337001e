"""Purging takes the bytes of deleted records off the disk and changes no answer."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from collector.model import Record
from collector.store.conditions import Equals
from collector.store.embedded import EmbeddedStore, StoreLimits
from collector.store.embedded.partition import Partition
from collector.store.embedded.partitions import PARTITIONS
from collector.testing.store_samples import (
    DAY_NS,
    START_NS,
    nasty_records,
    numbered,
    span,
    span_id,
)

SECRET = "s3cr3t-value-of-a-person"


def records() -> list[Record]:
    """Two days; of the first a few records hold the secret, in every place where one can be."""
    first = [msgspec.structs.replace(record, received_ns=START_NS) for record in nasty_records()]
    first += [
        span(2_000, service="pay", parent_span_id=span_id(2_001)),  # its parent comes later
        span(2_001, service="gateway"),
        span(2_002, service="mail", parent_span_id=span_id(2_001)),
        span(2_003, uid="a", trace_id=f"{7:032x}", attributes={"user": SECRET}),
        span(2_004, uid="b", trace_id=f"{7:032x}", name=SECRET, resource={"user": SECRET}),
    ]
    second = [span(3_000, received_ns=START_NS + DAY_NS)]
    return numbered(first + second)


def bytes_with(directory: Path, text: str) -> list[Path]:
    """The files that hold a text in so many bytes; tantivy compresses some, so none proves little."""
    return [path for path in directory.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def answers(store: EmbeddedStore) -> list[object]:
    """A bit of everything."""
    return [
        store.search(limit=1_000),
        store.search(Equals("kind", "span_start")),
        store.services(),
        store.edges(),
        store.facets("k"),
        store.find_traces(),
        store.stats().records,
        store.stats().durable_seq,
    ]


def test_purging_changes_no_answer_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Not in the index, not in the dictionary; the other day is not touched."""
    store = EmbeddedStore.open(tmp_path)
    store.append(records())
    store.commit()
    assert store.delete(Equals("trace_id", f"{7:032x}")) == 2
    assert bytes_with(tmp_path, SECRET)
    before = answers(store)
    assert store.purge() == 1
    assert answers(store) == before
    assert bytes_with(tmp_path, SECRET) == []
    names = sorted(path.name for path in (tmp_path / PARTITIONS).iterdir())
    assert names == ["2025-11-24.0~1", "2025-11-25.0"]
    assert store.purge() == 0
    store.append(records())  # what was deleted stays out, although its number is gone from the index
    store.commit()
    assert answers(store) == before
    store.close()
    store = EmbeddedStore.open(tmp_path, limits=StoreLimits(partition_records_max=10))
    assert answers(store) == before
    assert store.stats().damaged_partitions == 0
    store.append(numbered([span(4_000, received_ns=START_NS)], first=10_000))
    store.commit()
    names = sorted(path.name for path in (tmp_path / PARTITIONS).iterdir())
    assert names == ["2025-11-24.0~1", "2025-11-24.1", "2025-11-25.0"]
    store.close()


def test_a_crash_between_the_new_and_the_old_leaves_one(tmp_path: Path) -> None:
    """Both are there then, and the new one says which it replaces."""
    store = EmbeddedStore.open(tmp_path / "store")
    store.append(records())
    store.delete(Equals("uid", "a"))
    before = answers(store)
    shutil.copytree(tmp_path / "store" / PARTITIONS / "2025-11-24.0", tmp_path / "old")
    store.purge()
    store.close()
    shutil.copytree(tmp_path / "old", tmp_path / "store" / PARTITIONS / "2025-11-24.0")
    for read_only in (True, False):
        store = EmbeddedStore.open(tmp_path / "store", read_only=read_only)
        assert answers(store) == before
        store.close()
    assert not (tmp_path / "store" / PARTITIONS / "2025-11-24.0").exists()


def test_what_nobody_writes_to_is_purged_beside_the_others(tmp_path: Path) -> None:
    """All but the newest partition; no answer changes, and nothing of the secret stays."""
    store = EmbeddedStore.open(tmp_path)
    store.append(records())
    store.append(numbered([span(3_001, received_ns=START_NS + DAY_NS)], first=9_000))
    assert store.delete(Equals("trace_id", f"{7:032x}")) == 2
    assert store.delete(Equals("uid", span(3_000).uid)) == 1
    before = answers(store)
    assert store.purge_beside(is_stopping=lambda: True) == 0
    assert store.purge_beside() == 1
    assert answers(store) == before
    assert bytes_with(tmp_path, SECRET) == []
    names = sorted(path.name for path in (tmp_path / PARTITIONS).iterdir())
    assert names == ["2025-11-24.0~1", "2025-11-25.0"]
    store.append(numbered([span(4_000, received_ns=START_NS)], first=10_000))
    store.close()
    store = EmbeddedStore.open(tmp_path, read_only=True)
    assert {record.uid for record in store.search(limit=1_000).records} >= {span(4_000).uid}
    store.close()


def test_what_changes_meanwhile_is_purged_another_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late record, or another deletion, while the partition is written anew: neither is lost."""
    store = EmbeddedStore.open(tmp_path)
    store.append(records())
    store.delete(Equals("uid", "a"))
    write_anew = store._partitions.rewritten

    def disturbed(change: Callable[[], object]) -> Callable[[Partition], Partition]:
        def rewritten(partition: Partition) -> Partition:
            made = write_anew(partition)
            change()
            return made

        return rewritten

    late = numbered([span(4_000, received_ns=START_NS)], first=10_000)

    def delete_and_close() -> None:
        store.delete(Equals("uid", "b"))
        store._partitions.all[0].close_writer()  # as when too many others are open

    for change in (lambda: store.append(late), delete_and_close):
        monkeypatch.setattr(store._partitions, "rewritten", disturbed(change))
        assert store.purge_beside() == 0
        assert list((tmp_path / PARTITIONS).glob(".*")) == []
    monkeypatch.setattr(store._partitions, "rewritten", write_anew)
    before = answers(store)
    assert store.purge_beside() == 1
    assert answers(store) == before
    assert store.existing(["a", "b", late[0].uid]) == {late[0].uid}
    store.close()
