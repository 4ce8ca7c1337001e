"""When the disk runs short: what goes first, what stays, and that nothing else is lost by it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from collector.errors import StoreFailed
from collector.model import Record
from collector.store.conditions import Equals
from collector.store.embedded import EmbeddedStore, shedding
from collector.store.embedded.partition import Partition
from collector.store.embedded.partitions import PARTITIONS
from collector.testing.store_samples import DAY_NS, START_NS, span

DEBUG = 5
DEBUG_MAX = 8


def day(number: int, *, records: int = 60, first_seq: int) -> list[Record]:
    """A day of logs, two of three DEBUG, and a span."""
    made = [
        Record(
            uid=f"{number}-{at}",
            seq=first_seq + at,
            kind="log",
            timestamp_ns=START_NS + number * DAY_NS + at,
            received_ns=START_NS + number * DAY_NS + at,
            level="DEBUG" if at % 3 else "INFO",
            severity_number=DEBUG if at % 3 else 9,
            service="orders",
            message=f"message {number} {at} " + "x" * (at * 37 % 500),
        )
        for at in range(records)
    ]
    spans = [span(90_000 + number, received_ns=START_NS + number * DAY_NS, seq=first_seq + records)]
    return [*made, *spans]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    """Three days."""
    opened = EmbeddedStore.open(tmp_path)
    for number in range(3):
        opened.append(day(number, first_seq=1 + number * 100))
    opened.commit()
    yield opened
    opened.close()


def levels(store: EmbeddedStore) -> dict[str, int]:
    """How many records of each level."""
    return {bucket.value: bucket.count for bucket in store.facets("level")}


def test_the_oldest_debug_goes_first(store: EmbeddedStore, tmp_path: Path) -> None:
    """Day by day; what is more than DEBUG stays, and so does every span; the space is there again."""
    before = store.stats().bytes
    assert levels(store) == {"DEBUG": 120, "INFO": 63}
    assert store.shed_logs(DEBUG_MAX) == 40
    assert levels(store) == {"DEBUG": 80, "INFO": 63}
    assert store.count(Equals("level", "DEBUG"), end_ns=START_NS + DAY_NS) == 0
    assert store.stats().bytes < before
    assert store.shed_logs(DEBUG_MAX) == 40
    assert store.shed_logs(DEBUG_MAX) == 0  # the newest day has too few to be worth it
    assert (store.stats().durable_seq, store.stats().spans) == (261, 3)
    store.close()
    again = EmbeddedStore.open(tmp_path)
    assert levels(again) == {"DEBUG": 40, "INFO": 63}
    again.close()


def test_of_what_is_being_written_debug_goes_once_it_is_much(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes afterwards begins another partition of the day, and nothing comes twice."""
    monkeypatch.setattr(shedding, "SEAL_RECORDS_MIN", 40)
    assert [store.shed_logs(DEBUG_MAX) for _ in range(4)] == [40, 40, 40, 0]
    assert levels(store) == {"INFO": 63}
    assert store.purge() == 0  # all of their space is there again
    late = msgspec.structs.replace(day(2, first_seq=0)[0], uid="late", seq=300)
    again = day(2, first_seq=201)[0]
    appended = store.append([again, late])
    assert (appended.stored, appended.already_stored) == (1, 1)
    store.commit()
    assert levels(store) == {"INFO": 64}


def test_whole_days_go_but_never_the_newest(store: EmbeddedStore) -> None:
    """The last day stays, whatever it holds."""
    assert [store.drop_oldest_day() for _ in range(3)] == [61, 61, 0]
    assert levels(store) == {"DEBUG": 40, "INFO": 21}


def test_without_room_to_write_anew_nothing_half_done_stays(
    store: EmbeddedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was begun is removed; the records are gone from answers, and their bytes go another time."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Partition, "add", full)
        with pytest.raises(StoreFailed, match="cannot be written anew"):
            store.shed_logs(DEBUG_MAX)
    assert not [path for path in (tmp_path / PARTITIONS).iterdir() if path.name.startswith(".")]
    assert levels(store) == {"DEBUG": 80, "INFO": 63}
    assert store.purge_beside() == 1


def test_who_appends_hears_of_a_failure_that_another_thread_met(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the number of what it appends next would stand for what was lost, and the log be released."""
    store.append([msgspec.structs.replace(day(2, first_seq=0)[0], uid="lost", seq=300)])

    def full(self: Partition) -> None:
        raise StoreFailed("No space left on device")

    failures: list[StoreFailed] = []

    def purge() -> None:
        try:
            store.shed_logs(DEBUG_MAX)
        except StoreFailed as error:
            failures.append(error)

    with monkeypatch.context() as patch:
        patch.setattr(Partition, "commit", full)
        other = threading.Thread(target=purge)
        other.start()
        other.join()
    assert len(failures) == 1
    with pytest.raises(StoreFailed):
        store.append([msgspec.structs.replace(day(2, first_seq=0)[0], uid="next", seq=301)])
        store.commit()
    assert store.stats().durable_seq == 261
    store.append(
        [
            msgspec.structs.replace(day(2, first_seq=0)[0], uid=uid, seq=seq)
            for uid, seq in (("lost", 300), ("next", 301))
        ]
    )
    assert store.commit() == 301
    assert store.existing({"lost", "next"}) == {"lost", "next"}
