"""The watch: quiet on healthy minutes, one event where an episode begins and one where it ends."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from collector.diagnose.baseline import Baseline
from collector.errors import Overloaded
from collector.model import Record
from collector.receive.lines import record_from_line
from collector.store.memory import MemoryStore
from collector.watch import FindingEvent, Watch, event_line, event_of, findings_condition, read_baseline
from collector.watch.kept import WARM_MINUTES, KeptBaseline, known_baseline
from collector.watch.minute import TRACES_READ_MAX, look, sample
from collector.watch.watching import CATCH_UP_MINUTES, QUIET_MINUTES, SETTLE_NS

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
START_NS = 1_800_000_000 * SECOND
ORDERS = 30  # a minute


class Town:
    """A shop, a store, and a watch over both; time is moved by hand."""

    def __init__(self, shop: Any, directory: Path) -> None:
        self.shop = shop
        self.store = MemoryStore()
        self.directory = directory
        self.minute = 0
        self.seq = 0
        self.full = False
        self.watch = self.new_watch()

    def new_watch(self) -> Watch:
        return Watch(self.store, self.directory, self.write, clock_ns=lambda: self.now_ns)

    @property
    def now_ns(self) -> int:
        return START_NS + self.minute * MINUTE + SETTLE_NS

    def write(self, uid: str, line: bytes) -> None:
        if self.full:
            raise Overloaded("no room", retry_after_s=1)
        self.keep([record_from_line(line, uid=uid, resource={})])

    def keep(self, records: list[Record]) -> None:
        numbered = [structs.replace(record, seq=self.seq + n) for n, record in enumerate(records, 1)]
        self.seq += len(numbered)
        self.store.append(numbered, check_uids=True)
        self.store.refresh()

    def pass_minute(self, plan: Any = None, *, orders: int = ORDERS, share: float = 1.0) -> None:
        """A minute with so many orders, a share of them by a plan."""
        records = []
        for number in range(orders):
            at_s = self.minute * 60 + 1 + number * 50 / max(1, orders)
            records += self.shop.records(plan if number < share * orders else None, at_s=at_s)
        self.keep(records)
        self.minute += 1

    def spend(self, minutes: int, plan: Any = None, **how: Any) -> list[FindingEvent]:
        """Minutes that are looked at one by one; what is told of them."""
        told = []
        for _ in range(minutes):
            self.pass_minute(plan, **how)
            told += self.watch.look_at(START_NS + (self.minute - 1) * MINUTE)
        return told

    def events(self) -> list[FindingEvent]:
        """What the store has of findings, earliest first."""
        records = self.store.search(findings_condition(), limit=100).records
        return [event for record in reversed(records) if (event := event_of(record))]


@pytest.fixture
def town(shop: Any, tmp_path: Path) -> Town:
    """Known well enough to be watched."""
    town = Town(shop, tmp_path / "baseline")
    assert town.spend(WARM_MINUTES) == []
    assert town.watch.stats()["warm"] == 1
    return town


def test_nothing_is_told_before_enough_is_known(shop: Any, faults: Any, tmp_path: Path) -> None:
    """Whoever knows nothing calls nothing unusual."""
    town = Town(shop, tmp_path)
    assert town.spend(WARM_MINUTES - 1, faults.exception()) == []
    assert town.watch.stats()["warm"] == 0
    assert town.watch.baseline() is None


def test_an_episode_begins_goes_on_and_ends(town: Town, faults: Any) -> None:
    """Two events, however long it takes; found by search like any record."""
    [began] = town.spend(1, faults.exception())
    assert (began.state, began.service, began.fault) == ("began", "inventory", "exception")
    assert began.entries == ["gateway POST /orders"]
    assert began.start_ns == START_NS + WARM_MINUTES * MINUTE
    assert 1 <= len(began.evidence) <= 10
    assert town.store.existing(began.evidence) == set(began.evidence)
    assert all(town.store.trace(trace_id, records_max=9) for trace_id in began.traces)
    assert town.spend(5, faults.exception()) == []
    assert town.watch.stats()["ongoing"] == 1
    assert town.spend(QUIET_MINUTES - 1) == []
    [ended] = town.spend(1)
    assert (ended.state, ended.id, ended.began_ns) == ("ended", began.id, began.start_ns)
    assert town.events() == [began, ended]
    assert town.watch.stats()["ongoing"] == 0


def test_a_fault_of_some_orders_is_enough(town: Town, faults: Any) -> None:
    """One in five."""
    [began] = town.spend(1, faults.exception(), share=0.2)
    assert began.service == "inventory"


def doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on nothing is sure in one minute."""
    monkeypatch.setattr("collector.watch.minute.DECADES_SURE", 1_000.0)


def test_what_is_not_sure_takes_a_second_minute(
    town: Town, faults: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began in the first; neither is learned."""
    doubt(monkeypatch)
    known = town.watch.stats()["baseline_minutes"]
    assert town.spend(1, faults.exception()) == []
    assert town.watch.stats()["ongoing"] == 0
    [began] = town.spend(1, faults.exception())
    assert began.began_ns == START_NS + WARM_MINUTES * MINUTE
    assert began.start_ns == began.began_ns + MINUTE
    assert town.watch.stats()["baseline_minutes"] == known


def test_a_doubt_that_passes_is_not_told(town: Town, faults: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One minute that is not quite as usual, then one that is, then one that is not again."""
    doubt(monkeypatch)
    for plan in (faults.exception(), None, faults.exception(), None):
        assert town.spend(1, plan) == []


def test_an_episode_goes_on_while_it_is_doubted(
    town: Town, faults: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not end and begin again with every weaker minute."""
    assert len(town.spend(1, faults.exception())) == 1
    doubt(monkeypatch)
    assert town.spend(2 * QUIET_MINUTES, faults.exception()) == []
    assert town.watch.stats()["ongoing"] == 1


@pytest.mark.parametrize("name", ["DECADES_SURE", "DECADES_DOUBTED"])
def test_a_suspicion_needs_its_decades(
    town: Town, faults: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A little less than what is asked for is not enough."""
    town.pass_minute(faults.exception(), share=0.5)
    start_ns = START_NS + (town.minute - 1) * MINUTE
    taken, known = sample(town.store, start_ns, start_ns + MINUTE), read_baseline_of(town)

    def ask() -> list[bool]:
        found = look(taken, known, start_ns=start_ns, end_ns=start_ns + MINUTE).suspicions
        return [suspicion.is_sure for suspicion in found]

    assert ask() == [True]
    [suspicion] = look(taken, known, start_ns=start_ns, end_ns=start_ns + MINUTE).suspicions
    monkeypatch.setattr(f"collector.watch.minute.{name}", suspicion.decades + 0.01)
    assert ask() == ([False] if name == "DECADES_SURE" else [])


def read_baseline_of(town: Town) -> Baseline:
    """What the watch of a town has learned."""
    known = town.watch.baseline()
    assert known is not None
    return known


def test_healthy_minutes_are_quiet(shop: Any, tmp_path: Path) -> None:
    """Fifty of them, with load that changes."""
    town = Town(shop, tmp_path)
    chance = random.Random(7)
    told = [event for _ in range(50) for event in town.spend(1, orders=chance.choice((6, 12, 24)))]
    assert told == []
    assert town.watch.stats()["minutes_not_learned"] == 0


def test_a_minute_without_requests_says_nothing(town: Town, faults: Any) -> None:
    """It neither begins an episode nor ends one."""
    town.spend(1, faults.exception())
    assert town.spend(QUIET_MINUTES + 1, orders=0) == []
    assert town.watch.stats()["ongoing"] == 1


def test_what_is_not_as_usual_is_not_learned(town: Town, faults: Any) -> None:
    """A fault of an hour is as unusual at its end as at its beginning."""
    before = town.watch.stats()["baseline_minutes"]
    town.spend(10, faults.exception())
    assert town.watch.stats()["baseline_minutes"] == before
    town.spend(QUIET_MINUTES + 1)
    assert town.watch.stats()["baseline_minutes"] > before


def test_what_lasts_for_long_is_how_things_are(
    town: Town, faults: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new version that does things another way is told, told once more, and then learned."""
    monkeypatch.setattr("collector.watch.watching.USUAL_MINUTES", 6)
    plan = faults.missing_step()
    told = town.spend(8, plan, orders=10)
    assert [event.state for event in told] == ["began", "usual"]
    assert told[1].id == told[0].id
    assert town.spend(20, plan, orders=10) == []
    assert town.watch.stats()["ongoing"] == 0
    assert town.watch.stats()["baseline_minutes"] >= WARM_MINUTES + 20


def test_what_could_not_be_told_is_told_at_the_next_attempt(town: Town, faults: Any) -> None:
    """And the minute stays due."""
    town.pass_minute(faults.exception())
    town.full = True
    with pytest.raises(Overloaded):
        town.watch.look_at_due()
    town.full = False
    assert town.watch.look_at_due() == 1
    assert [event.state for event in town.events()] == ["began"]


def test_a_minute_that_cannot_be_dealt_with_does_not_end_the_watch(
    town: Town, faults: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted and said, and the next one is looked at."""
    town.pass_minute()
    with monkeypatch.context() as broken:
        broken.setattr("collector.watch.watching.sample", lambda *_, **__: 1 / 0)
        assert town.watch.look_at_due() == 1
    assert town.watch.stats()["minutes_failed"] == 1
    assert "could not be looked at" in caplog.text
    town.pass_minute(faults.exception())
    assert town.watch.look_at_due() == 1
    assert [event.state for event in town.events()] == ["began"]


def test_the_copy_for_questions_knows_the_newest_minute(town: Town) -> None:
    """It is made anew after each that was learned, and the watch's own is out of reach."""
    before = read_baseline_of(town)
    town.spend(1)
    after = read_baseline_of(town)
    assert after.profile.traces == before.profile.traces + ORDERS
    after.learn(town.shop.traces(5))
    assert read_baseline_of(town).profile.traces == before.profile.traces + ORDERS


def test_looking_again_after_a_crash_tells_nothing_twice(town: Town, faults: Any) -> None:
    """The baseline on disk is some minutes old; the events are there already."""
    town.watch.stop()
    [began] = town.spend(1, faults.exception())
    again = town.new_watch()
    assert again.look_at_due() == 1
    assert town.events() == [began]
    assert again.stats()["ongoing"] == 1


def test_a_restart_goes_on_with_baseline_and_episodes(town: Town, faults: Any) -> None:
    """What began before it ends after it, once."""
    [began] = town.spend(1, faults.exception())
    town.watch.stop()
    town.watch = town.new_watch()
    assert town.watch.stats()["warm"] == 1
    assert town.spend(1, faults.exception()) == []
    [ended] = town.spend(QUIET_MINUTES)
    assert (ended.state, ended.id) == ("ended", began.id)


def test_minutes_that_were_missed_are_looked_at_up_to_a_bound(town: Town) -> None:
    """A service that was away for hours does not work them off."""
    town.minute += 200
    assert town.watch.look_at_due() == CATCH_UP_MINUTES
    assert town.watch.look_at_due() == 0


def test_the_baseline_is_a_file_that_others_read(town: Town) -> None:
    """`why --baseline` takes the file and the directory."""
    town.watch.stop()
    for path in (town.directory, town.directory / "steady.baseline"):
        assert read_baseline(path).profile.traces == WARM_MINUTES * ORDERS
    known = known_baseline(town.directory)
    assert known is not None
    assert known.profile.traces == WARM_MINUTES * ORDERS


@pytest.mark.parametrize("name", ["steady.baseline", "fresh.baseline", "state.json"])
def test_a_damaged_file_costs_the_learning_only(
    town: Town, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, and learned anew."""
    town.watch.stop()
    (town.directory / name).write_bytes(b"\x93garbage")
    watch = town.new_watch()
    assert watch.stats()["warm"] == 0
    assert "learned anew" in caplog.text


def test_the_baseline_forgets_what_is_older_than_two_terms(
    shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is bounded, and follows how things change."""
    monkeypatch.setattr("collector.watch.kept.TERM_TRACES_MAX", 100)
    kept = KeptBaseline(tmp_path)
    sizes = []
    for minute in range(20):
        kept.learn(shop.traces(30), end_ns=START_NS + minute * MINUTE)
        sizes.append(kept.steady.profile.traces)
    assert max(sizes) <= 240
    assert min(sizes[8:]) >= 120
    assert kept.minutes == 20


def test_a_busy_minute_is_sampled_evenly(shop: Any, plans: Any, tmp_path: Path) -> None:
    """Each entry point has its share, and what is read is bounded."""
    town = Town(shop, tmp_path)
    records: list[Record] = []
    for number in range(900):
        records += shop.records(plans.Call("gateway", "GET /health", "SERVER"), at_s=number / 16)
    for number in range(20):
        records += shop.records(at_s=number * 2.5)
    town.keep(records)
    taken = sample(town.store, START_NS, START_NS + MINUTE)
    sizes = {entry.operation: len(traces) for entry, traces in taken.traces.items()}
    assert sizes == {"GET /health": TRACES_READ_MAX // 2, "POST /orders": 20}
    first_half = [t for t in taken.all_traces if t.start_ns < START_NS + 28 * SECOND]
    assert 0.4 < len(first_half) / len(taken.all_traces) < 0.6


def test_an_event_is_read_as_it_was_written() -> None:
    """And records that are no findings, or are damaged, are none."""
    event = FindingEvent(
        id="ab",
        state="began",
        service="orders",
        fault="slow",
        summary="slow",
        confidence=0.5,
        decades=4.5,
        start_ns=START_NS,
        end_ns=START_NS + MINUTE,
        began_ns=START_NS,
        entries=["gateway POST /orders"],
    )
    uid, line = event_line(event)
    record = record_from_line(line, uid=uid, resource={})
    assert (record.service, record.level, record.timestamp_ns) == ("backtrail", "WARN", START_NS)
    assert event_of(record) == event
    assert event_of(structs.replace(record, attributes={})) is None
    damaged = {**record.attributes, "finding.state": "melted"}
    assert event_of(structs.replace(record, attributes=damaged)) is None


def test_each_state_has_a_record_of_its_own(faults: Any, town: Town) -> None:
    """Under one id; the uids differ, so the store keeps all."""
    [began] = town.spend(1, faults.exception())
    ended: Callable[[], Any] = lambda: structs.replace(began, state="ended")  # noqa: E731
    assert began.uid != ended().uid
    assert began.uid == structs.replace(began, summary="other words").uid
