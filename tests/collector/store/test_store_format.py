"""Formats of partitions: older ones are brought up to date by a writer, newer ones are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.errors import CollectorError
from collector.store.embedded import EmbeddedStore, partition
from collector.store.embedded.partitions import PARTITIONS
from collector.testing.store_samples import DAY_NS, START_NS, log, numbered


def test_an_older_format_is_upgraded_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash repeats the step it interrupted and no other; a reader asks for a writer."""
    store = EmbeddedStore.open(tmp_path)
    store.append(numbered([log(1), log(2, received_ns=START_NS + DAY_NS)]))
    store.close()
    steps: list[tuple[str, int]] = []
    crashes = iter([False, True, False, False, False])

    def step(number: int, path: Path) -> None:
        if next(crashes):
            raise KeyboardInterrupt
        steps.append((path.name, number))

    monkeypatch.setattr(partition, "FORMAT_VERSION", 3)
    for number in (1, 2):
        monkeypatch.setitem(partition.UPGRADES, number, lambda path, number=number: step(number, path))
    with pytest.raises(CollectorError, match="brought up to date"):
        EmbeddedStore.open(tmp_path, read_only=True)
    with pytest.raises(KeyboardInterrupt):
        EmbeddedStore.open(tmp_path)
    store = EmbeddedStore.open(tmp_path)
    assert store.count() == 2
    store.close()
    first, second = "2025-11-24.0", "2025-11-25.0"
    assert steps == [(second, 1), (second, 2), (first, 1), (first, 2)]
    EmbeddedStore.open(tmp_path).close()
    assert len(steps) == 4


def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    """With a sentence that says what to do; it is no damage."""
    store = EmbeddedStore.open(tmp_path)
    store.append(numbered([log(1)]))
    store.close()
    (note,) = (tmp_path / PARTITIONS).glob("*/partition.json")
    note.write_bytes(b'{"format":99}')
    for read_only in (True, False):
        with pytest.raises(CollectorError, match=r"format 99.*newer one"):
            EmbeddedStore.open(tmp_path, read_only=read_only)
    assert note.exists()
