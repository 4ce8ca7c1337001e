"""A damaged partition is built anew from the records that are kept beside its index."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from collector.errors import StoreFailed
from collector.model import Record
from collector.store.conditions import Equals
from collector.store.embedded import EmbeddedStore, StoreLimits
from collector.store.embedded.aside import DAMAGED, damage_of
from collector.store.embedded.partition import INDEX
from collector.store.embedded.partitions import PARTITIONS
from collector.store.embedded.records import RECORDS, RecordsFile, kept_records
from collector.testing.store_samples import DAY_NS, START_NS, log, numbered, span

FIRST, SECOND = "2025-11-24.0", "2025-11-25.0"
EXAMPLES = [log(n, uid=f"a-{n}", received_ns=START_NS, attributes={"n": n}) for n in range(39)]
EXAMPLES += [span(50, uid="a-span", received_ns=START_NS)]
RECORDS_OF_DAY = numbered(EXAMPLES)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two days: forty records in two commits, and one on the next day."""
    directory = tmp_path_factory.mktemp("sound")
    store = EmbeddedStore.open(directory)
    for part in (RECORDS_OF_DAY[:20], RECORDS_OF_DAY[20:]):
        store.append(part)
        store.commit()
    store.append(numbered([log(1, uid="b", received_ns=START_NS + DAY_NS)], first=41))
    store.close()
    return directory


@pytest.fixture
def directory(sound: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(sound, tmp_path / "store"))


def damage_index(directory: Path) -> None:
    """Flip a bit of the first day's index."""
    flip(sorted((directory / PARTITIONS / FIRST / INDEX).glob("*.term"))[0])


def flip(path: Path, position: int = -1) -> None:
    """Flip one bit, by default in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if position < 0 else position] ^= 0x10
    path.write_bytes(content)


def stored(store: EmbeddedStore) -> list[str]:
    """The uids of all records."""
    return sorted(record.uid for record in store.search(limit=999).records)


ALL = sorted([record.uid for record in RECORDS_OF_DAY] + ["b"])


def test_all_of_it_is_back(directory: Path) -> None:
    """The start goes on without it; then each record is there as it was, found, counted and durable."""
    expected = EmbeddedStore.open(directory)
    before = expected.search(limit=99).records, expected.services(), expected.edges()
    expected.close()
    damage_index(directory)
    store = EmbeddedStore.open(directory)
    assert stored(store) == ["b"]
    assert store.rebuild() == 40
    assert (store.search(limit=99).records, store.services(), store.edges()) == before
    stats = store.stats()
    assert (stats.damaged_partitions, stats.damaged_records) == (1, 40)
    assert (stats.rebuilt_partitions, stats.rebuilt_records, stats.records) == (1, 40, 41)
    assert store.rebuild() == 0
    store.close()
    assert list((directory / DAMAGED).iterdir()) == []
    with_reader = EmbeddedStore.open(directory, read_only=True)
    assert stored(with_reader) == ALL
    with_reader.close()


def test_what_came_meanwhile_stays_and_numbers_go_on(directory: Path) -> None:
    """The day goes on in another partition while the damaged one waits; nothing is stored twice."""
    damage_index(directory)
    store = EmbeddedStore.open(directory)
    late = numbered([log(n, uid=f"late-{n}", received_ns=START_NS) for n in range(3)], first=42)
    store.append(late[:1])
    assert store.rebuild() == 40
    store.append(late[:2])  # as the log would send it again
    store.commit()
    store.append(late)
    store.append(RECORDS_OF_DAY)
    store.commit()
    assert stored(store) == sorted([*ALL, "late-0", "late-1", "late-2"])
    store.close()


def crash_before_a_commit(directory: Path) -> list[Record]:
    """Keep four more records of the first day, crash, and damage its index; what was kept."""
    committed = sorted((directory / PARTITIONS / FIRST / INDEX).glob("*.term"))[0]
    store = EmbeddedStore.open(directory)
    late = numbered([log(n, uid=f"late-{n}", received_ns=START_NS) for n in range(4)], first=42)
    store.append(late)
    kept = store._partitions.all[0]._records
    assert kept is not None
    kept.save()
    store.abandon()
    flip(committed)
    return late


@pytest.mark.parametrize("replayed", ["before", "in the middle", "afterwards"])
def test_what_was_kept_and_not_committed_is_there_once(directory: Path, replayed: str) -> None:
    """A crash between the two: the log has it still, and brings it again before or after the rebuilding."""
    late = crash_before_a_commit(directory)
    store = EmbeddedStore.open(directory)
    assert store.stats().durable_seq < 42
    if replayed != "afterwards":
        store.append(late if replayed == "before" else late[:2])
        store.commit()
    assert store.rebuild() == 40
    store.append(late)
    store.commit()
    assert stored(store) == sorted([*ALL, *(record.uid for record in late)])
    store.close()


def test_what_the_log_has_no_more_is_taken_from_what_is_kept(directory: Path) -> None:
    """The state was behind, as after a loss of power: what the log has passed comes from nowhere else."""
    late = crash_before_a_commit(directory)
    store = EmbeddedStore.open(directory)
    store.append(late[3:])  # the log begins here
    store.commit()
    assert store.rebuild() == 43
    assert stored(store) == sorted([*ALL, *(record.uid for record in late)])
    store.close()


def test_what_was_deleted_does_not_come_back(directory: Path) -> None:
    """Not even when the one note of it is damaged, for there are two, or while it waits."""
    store = EmbeddedStore.open(directory)
    assert store.delete(Equals("n", 7)) == 1
    store.close()
    damage_index(directory)
    kept = directory / PARTITIONS / FIRST / RECORDS
    flip(kept, kept.stat().st_size - 1)
    store = EmbeddedStore.open(directory)
    assert store.delete(Equals("n", 8)) == 1
    assert stored(store) == [uid for uid in ALL if uid not in ("a-7", "a-8")]
    store.close()


def test_a_damaged_block_is_lost_and_said(directory: Path) -> None:
    """One block goes with a flipped bit, the others are read; what is left for a person says how many."""
    damage_index(directory)
    flip(directory / PARTITIONS / FIRST / RECORDS, 60)
    store = EmbeddedStore.open(directory)
    assert store.rebuild() == 20
    assert stored(store) == sorted([record.uid for record in RECORDS_OF_DAY[20:]] + ["b"])
    (place,) = (directory / DAMAGED).iterdir()
    assert (damage_of(place).records, damage_of(place).rebuilt_records) == (40, 20)
    assert store.rebuild() == 0
    store.close()


def test_a_crash_after_the_work_and_before_the_note(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next start sees that it was done; nothing is built twice."""
    damage_index(directory)
    store = EmbeddedStore.open(directory)

    def crash(*_: object) -> None:
        raise OSError("killed here")

    with monkeypatch.context() as broken:
        broken.setattr("collector.store.embedded.partitions.settle", crash)
        with pytest.raises(OSError, match="killed here"):
            store.rebuild()
    store.abandon()
    store = EmbeddedStore.open(directory)
    assert (store.rebuild(), stored(store)) == (0, ALL)
    store.close()


def test_it_can_be_told_to_stop(directory: Path) -> None:
    """A service that ends does not wait for it; the next start begins again."""
    damage_index(directory)
    store = EmbeddedStore.open(directory)
    assert store.rebuild(is_stopping=lambda: True) == 0
    store.close()
    store = EmbeddedStore.open(directory)
    assert (store.rebuild(), stored(store)) == (40, ALL)
    store.close()


def test_what_was_not_committed_is_asked_for_again(directory: Path) -> None:
    """Damage that a scrub finds in the partition that is being written costs the log a repetition."""
    store = EmbeddedStore.open(directory, limits=StoreLimits(verify_at_open_bytes_max=0))
    late = numbered([log(n, uid=f"late-{n}", received_ns=START_NS) for n in range(3)], first=42)
    store.append(late)
    damage_index(directory)
    assert store.scrub() == 1
    with pytest.raises(StoreFailed, match="not committed"):
        store.commit()
    assert store.append(late).stored == 3
    assert store.rebuild() == 40
    store.commit()
    assert stored(store) == sorted([*ALL, "late-0", "late-1", "late-2"])
    store.close()


def test_purge_and_backup_take_it_along(directory: Path, tmp_path: Path) -> None:
    """A partition that is written anew, and a copy of the store, can be built anew in their turn."""
    store = EmbeddedStore.open(directory)
    store.delete(Equals("n", 7))
    assert store.purge() == 1
    (rewritten,) = (directory / PARTITIONS).glob(f"{FIRST}~1")
    assert b"a-7" not in b"".join(str(kept).encode() for kept in kept_records(rewritten / RECORDS))
    assert store.backup(tmp_path / "copy")
    store.close()
    copied = tmp_path / "copy" / PARTITIONS / rewritten.name
    flip(sorted((copied / INDEX).glob("*.term"))[0])
    store = EmbeddedStore.open(tmp_path / "copy")
    assert store.rebuild() == 39
    assert stored(store) == [uid for uid in ALL if uid != "a-7"]
    store.close()


def test_without_a_second_copy_there_is_nothing_to_build_from(tmp_path: Path) -> None:
    """It can be switched off; what was damaged stays for a person to look at."""
    store = EmbeddedStore.open(tmp_path, limits=StoreLimits(keep_records=False))
    store.append(RECORDS_OF_DAY)
    store.close()
    assert not (tmp_path / PARTITIONS / FIRST / RECORDS).exists()
    damage_index(tmp_path)
    store = EmbeddedStore.open(tmp_path)
    assert (store.rebuild(), stored(store)) == (0, [])
    assert len(list((tmp_path / DAMAGED).iterdir())) == 1
    store.close()


TAILS: dict[str, Callable[[Path], None]] = {
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "half a block behind": lambda path: path.write_bytes(path.read_bytes() + path.read_bytes()[:30]),
    "zeroes behind": lambda path: path.write_bytes(path.read_bytes() + bytes(4096)),
}


@pytest.mark.parametrize("tail", TAILS)
def test_a_torn_end_is_cut_away_before_more_is_written(tmp_path: Path, tail: str) -> None:
    """What a crash leaves is no damage, and hides nothing that comes behind it."""
    path = tmp_path / RECORDS
    path.touch()
    first, second = RECORDS_OF_DAY[:3], RECORDS_OF_DAY[3:6]
    for part in (first, second):
        file = RecordsFile(path)
        for record in part:
            file.add(
                record,
                b'{"uid":"%b","timestamp_ns":1,"level":"INFO","severity_number":9,'
                b'"service":"s","seq":%d}' % (record.uid.encode(), record.seq),
                resource=0,
            )
        file.save()
        file.close()
        if part is first:
            whole = path.read_bytes()
            path.write_bytes(whole + whole[:-1])  # a copy that a crash cut off
            TAILS[tail](path)
    kept = list(kept_records(path))
    assert [record.uid for block in kept for record in block.records] == [r.uid for r in RECORDS_OF_DAY[:6]]
    assert [block.damaged_bytes for block in kept] == [0, 0]
