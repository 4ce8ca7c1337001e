"""Retention: what is older or larger than it may be goes, and is counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from collector.client import import_bodies
from collector.errors import Overloaded, StoreFailed
from collector.service.housekeeping import Housekeeping
from collector.service.pipeline import Pipeline
from collector.settings import Settings
from collector.store.conditions import Equals
from collector.store.contract import Store
from collector.store.memory import MemoryStore

PATIENCE_S = 30.0
MIB = 1024 * 1024
DAY_NS = 86_400 * 1_000_000_000
LINE = b'{"timestamp":"2026-11-24T05:32:11Z","level":"INFO","service":"orders","message":"hello"}'


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    """With ten records that arrived just now."""
    with Pipeline.open(Settings(data_dir=tmp_path / "data")) as opened:
        for body in import_bodies((f"u-{number}", LINE) for number in range(10)):
            opened.intake.records({"backtrail-import": "1"}, body)
        assert opened.drain(PATIENCE_S)
        yield opened


def now_ns(pipeline: Pipeline) -> int:
    """When the records arrived."""
    return pipeline.store.search(limit=1).records[0].received_ns


def records(pipeline: Pipeline) -> int:
    """How many are stored."""
    return pipeline.store.stats().records


def test_age(pipeline: Pipeline) -> None:
    """Records stay for their days, as whole partitions, and then go."""
    arrived_ns = now_ns(pipeline)
    clock = {"now": arrived_ns + 6 * DAY_NS}
    keeper = Housekeeping(pipeline.indexer, Settings(retention_days=7), clock_ns=lambda: clock["now"])
    keeper.look()
    assert (records(pipeline), keeper.stats()["dropped.age"]) == (10, 0)
    clock["now"] = arrived_ns + 9 * DAY_NS
    keeper.look()
    assert (records(pipeline), keeper.stats()["dropped.age"]) == (0, 10)


def test_size(pipeline: Pipeline) -> None:
    """The newest partition stays, however small the bound; without a bound nothing is asked."""
    keeper = Housekeeping(pipeline.indexer, Settings(retention_bytes_max=1024 * 1024))  # type: ignore[arg-type]
    keeper.look()
    assert (records(pipeline), keeper.stats()["dropped.bytes"]) == (10, 0)


def test_it_looks_by_itself_and_ends_when_told(pipeline: Pipeline) -> None:
    """In its own thread; a failure is counted and the next look tries again."""
    arrived_ns = now_ns(pipeline)
    keeper = Housekeeping(
        pipeline.indexer,
        Settings(retention_days=1),
        clock_ns=lambda: arrived_ns + 9 * DAY_NS,
        interval_s=0.01,
    )
    gone = threading.Event()

    def fails_once(before: object = pipeline.store.drop_before) -> object:
        calls: list[int] = []

        def drop(received_ns: int) -> int:
            calls.append(received_ns)
            if len(calls) == 1:
                raise OSError("the disk is away")
            gone.set()
            return before(received_ns)  # type: ignore[no-any-return, operator]

        return drop

    pipeline.store.drop_before = fails_once()  # type: ignore[method-assign, assignment]
    keeper.start()
    assert gone.wait(PATIENCE_S)
    keeper.stop()
    assert (keeper.stats()["failures"], keeper.stats()["dropped.age"], records(pipeline)) == (1, 10, 0)


def test_without_a_retention_there_is_no_thread(pipeline: Pipeline) -> None:
    """Nothing is ever dropped by default."""
    keeper = Housekeeping(pipeline.indexer, Settings())
    keeper.start()
    assert not keeper._thread.is_alive()
    keeper.stop()


def test_work_on_the_store_waits_its_turn_and_brings_its_errors_home(pipeline: Pipeline) -> None:
    """In the indexer's thread, after everything that was taken in; the indexer goes on."""
    for body in import_bodies([("late", LINE)]):
        pipeline.intake.records({"backtrail-import": "1"}, body)

    def work(store: Store) -> tuple[int, str]:
        return store.stats().records, threading.current_thread().name

    assert pipeline.indexer.perform(work, timeout_s=PATIENCE_S) == (11, "backtrail-indexer")
    with pytest.raises(ZeroDivisionError):
        pipeline.indexer.perform(lambda store: 1 / 0, timeout_s=PATIENCE_S)
    assert pipeline.indexer.perform(lambda store: 7, timeout_s=PATIENCE_S) == 7
    pipeline.indexer.stop()
    with pytest.raises(Overloaded):
        pipeline.indexer.perform(lambda store: 7, timeout_s=0.01)


class Shedding(MemoryStore):
    """A store that has something to give up, and says what was asked of it."""

    def __init__(self, debug: int, days: int, *, no_room: bool = False) -> None:
        super().__init__()
        self.debug, self.days, self.no_room = debug, days, no_room
        self.asked: list[str] = []

    def purge_beside(self, is_stopping: object) -> int:
        """Nothing was deleted."""
        self.asked.append("purge")
        return 0

    def shed_logs(self, severity_max: int, is_stopping: object) -> int:
        """Ten of a day."""
        self.asked.append(f"shed {severity_max}")
        if self.no_room:
            raise StoreFailed("no room to write anew")
        self.debug -= (count := min(10, self.debug))
        return count

    def drop_oldest_day(self) -> int:
        """A hundred of each but the last."""
        self.asked.append("drop")
        self.days -= (gone := int(self.days > 1))
        return 100 * gone


def sheds(
    pipeline: Pipeline, store: Shedding, free: Sequence[int]
) -> tuple[dict[str, int], list[tuple[str, int]]]:
    """What one look at a disk with so much room, from time to time, drops and tells."""
    rooms, told = iter(free), list[tuple[str, int]]()
    keeper = Housekeeping(
        pipeline.indexer,
        Settings(shed_free_bytes_min=MIB * 200),  # type: ignore[arg-type]
        store=store,
        tell=lambda why, count: told.append((why, count)),
        free_bytes=lambda: next(rooms) * MIB,
    )
    keeper.make_room()
    return {reason: keeper.stats()[f"dropped.{reason}"] for reason in ("debug", "disk")}, told


def test_a_disk_that_runs_short_is_given_room(pipeline: Pipeline) -> None:
    """DEBUG first, then whole days, until there is room; what goes is counted by its reason and told."""
    enough = Shedding(debug=25, days=3)
    assert sheds(pipeline, enough, [300])[0] == {"debug": 0, "disk": 0}
    assert enough.asked == []
    first = Shedding(debug=25, days=3)
    counts, told = sheds(pipeline, first, [100, 100, 150, 250])
    assert counts == {"debug": 20, "disk": 0}
    assert told == [("a disk that runs short: logs up to DEBUG", 10)] * 2
    assert first.asked == ["purge", "shed 8", "shed 8"]
    then = Shedding(debug=10, days=3)
    assert sheds(pipeline, then, [100] * 4 + [250])[0] == {"debug": 10, "disk": 200}
    all_of_it = Shedding(debug=0, days=2)
    assert sheds(pipeline, all_of_it, [100] * 9)[0] == {"debug": 0, "disk": 100}
    crammed = Shedding(debug=99, days=2, no_room=True)
    assert sheds(pipeline, crammed, [1, 1, 250])[0] == {"debug": 0, "disk": 100}


def test_what_is_dropped_is_written_down(tmp_path: Path) -> None:
    """As a record that is searched like any other, which outlives the counters."""
    with Pipeline.open(Settings(data_dir=tmp_path / "data")) as opened:
        opened.housekeeping._take_note("debug", 7)
        assert opened.drain(PATIENCE_S)
        (record,) = opened.store.search(Equals("event.name", "backtrail.audit")).records
    assert (record.attributes["audit.action"], record.attributes["audit.count"]) == ("records.dropped", 7)
    assert record.attributes["audit.target"] == "a disk that runs short: logs up to DEBUG"
