"""Flipped bits and missing files: the damaged partition is set aside and counted, the rest answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from collector.store.embedded import EmbeddedStore, StoreLimits
from collector.store.embedded.aside import DAMAGED
from collector.store.embedded.damage import damage_of_file, damaged_files
from collector.store.embedded.partition import DICTIONARY, INDEX, NOTE
from collector.store.embedded.partitions import PARTITIONS
from collector.testing.store_samples import DAY_NS, START_NS, log, numbered, span

FIRST, SECOND = "2025-11-24.0", "2025-11-25.0"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two days, 40 records each."""
    directory = tmp_path_factory.mktemp("sound")
    store = EmbeddedStore.open(directory)
    for day in (0, 1):
        records = [log(n, uid=f"{day}-{n}", received_ns=START_NS + day * DAY_NS) for n in range(39)]
        records.append(span(50, uid=f"{day}-span", received_ns=START_NS + day * DAY_NS))
        store.append(numbered(records, first=1 + 40 * day))
    store.commit()
    store.close()
    return directory


@pytest.fixture
def directory(sound: Path, tmp_path: Path) -> Path:
    """A copy of it to be damaged."""
    return Path(shutil.copytree(sound, tmp_path / "store"))


def flip(path: Path, position: int = -1) -> None:
    """Flip one bit, by default in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if position < 0 else position] ^= 0x10
    path.write_bytes(content)


def index_file(directory: Path, suffix: str) -> Path:
    """A file of the first day's index."""
    return sorted((directory / PARTITIONS / FIRST / INDEX).glob(f"*{suffix}"))[0]


DAMAGES: dict[str, Callable[[Path], None]] = {
    **{
        f"flip in {suffix}": lambda directory, suffix=suffix: flip(index_file(directory, suffix))
        for suffix in (".store", ".term", ".idx", ".pos", ".fast", ".fieldnorm")
    },
    "flip in a footer": lambda directory: flip(
        index_file(directory, ".idx"), index_file(directory, ".idx").stat().st_size - 20
    ),
    "cut off": lambda directory: index_file(directory, ".store").write_bytes(b"\0" * 40),
    "emptied": lambda directory: index_file(directory, ".fast").write_bytes(b""),
    "missing": lambda directory: index_file(directory, ".term").unlink(),
    "no meta": lambda directory: index_file(directory, "meta.json").unlink(),
    "meta is nonsense": lambda directory: index_file(directory, "meta.json").write_bytes(b"{}"),
    "meta counts fewer": lambda directory: index_file(directory, "meta.json").write_bytes(
        index_file(directory, "meta.json").read_bytes().replace(b'"max_doc": 40', b'"max_doc": 30')
    ),
    "flip in the dictionary": lambda directory: flip(directory / PARTITIONS / FIRST / DICTIONARY),
    "no note": lambda directory: (directory / PARTITIONS / FIRST / NOTE).unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_set_aside_at_open(directory: Path, damage: str) -> None:
    """The start is not blocked, the other day answers, the loss is counted, the files are kept."""
    DAMAGES[damage](directory)
    store = EmbeddedStore.open(directory)
    stats = store.stats()
    assert (stats.damaged_partitions, stats.damaged_records, stats.records) == (1, 40, 40)
    assert {record.uid[0] for record in store.search(limit=99).records} == {"1"}
    assert [path.name for path in (directory / DAMAGED).iterdir()] == [f"{FIRST}-1"]
    # A new partition takes the place, and the write-ahead log may send again what it still has.
    store.append(numbered([log(1, uid="new", received_ns=START_NS)], first=81))
    store.commit()
    store.close()
    store = EmbeddedStore.open(directory)
    assert (store.stats().damaged_partitions, store.stats().records) == (1, 41)
    store.close()


@pytest.mark.parametrize("damage", ["flip in .store", "flip in .fast", "flip in the dictionary", "no meta"])
def test_a_reader_leaves_damage_where_it_is(directory: Path, damage: str) -> None:
    """It may be another process's business; it answers from the rest, and says so."""
    DAMAGES[damage](directory)
    store = EmbeddedStore.open(directory, read_only=True)
    assert (store.stats().damaged_partitions, store.stats().records) == (1, 40)
    store.refresh()
    assert store.stats().records == 40
    store.close()
    assert (directory / PARTITIONS / FIRST).is_dir()


def test_scrub_finds_what_was_not_verified_at_open(directory: Path) -> None:
    """Large stores are not read from end to end at each start."""
    flip(index_file(directory, ".store"), 5)
    store = EmbeddedStore.open(directory, limits=StoreLimits(verify_at_open_bytes_max=0))
    assert store.stats().damaged_partitions == 0
    assert store.scrub(is_stopping=lambda: True) == 0
    assert store.scrub() == 1
    assert (store.stats().damaged_partitions, store.stats().records) == (1, 40)
    assert store.scrub() == 0
    store.close()


def test_a_question_that_meets_damage_is_answered_without_it(directory: Path) -> None:
    """tantivy panics on some flips; the process lives, and the answer comes from what is sound."""
    store = EmbeddedStore.open(directory, limits=StoreLimits(verify_at_open_bytes_max=0))
    for suffix in (".store", ".fast", ".idx", ".term"):
        path = index_file(directory, suffix)
        # In place: the file is mapped.
        with path.open("r+b") as file:
            file.write(b"\xff" * (path.stat().st_size - 120))
    assert {record.uid[0] for record in store.search(limit=99).records} == {"1"}
    assert store.count() == 40
    assert store.stats().damaged_partitions == 1
    store.close()


def test_an_error_on_sound_files_stays_an_error(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of ours must not be taken for damage, nor make each question read the whole store."""
    store = EmbeddedStore.open(directory)
    scrubs: list[int] = []
    monkeypatch.setattr(store._partitions, "set_damaged_aside", lambda: scrubs.append(1))
    for error, suspicious in ((ZeroDivisionError, False), (ValueError, True), (ValueError, False)):
        scrubs.clear()
        monkeypatch.setattr("collector.store.embedded.store.plans", _raising(error))
        with pytest.raises(error):
            store.count()
        assert bool(scrubs) == suspicious
    assert store.stats().damaged_partitions == 0
    store.close()


def _raising(error: type[Exception]) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


def test_every_flipped_bit_of_every_file_is_found(directory: Path) -> None:
    """The checksums cover all that tantivy reads: a bit at twenty places of each file."""
    index = directory / PARTITIONS / SECOND / INDEX
    assert damaged_files(index) == []
    for path in index.iterdir():
        if path.suffix in (".json", ".lock") or path.name.startswith("."):
            continue
        content = path.stat().st_size - 100  # without the footer, of which only the checksum matters
        for position in range(0, content, max(1, content // 20)):
            flip(path, position)
            assert damage_of_file(path) is not None, (path.name, position)
            flip(path, position)
        assert damage_of_file(path) is None
