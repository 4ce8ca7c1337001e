"""The ledger: a fold over the log, exact after a crash, honest about traces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from collector.admit import Close, Loss
from collector.ledger import Ledger, LedgerLimits
from collector.ledger.file import NAME
from collector.model import Record
from collector.wal import Envelope, Wal, WalBatch, WalFrame, WalLimits

SPOOL, OTHER = "aa" * 16, "bb" * 16
TRACE = "0af7651916cd43dd8448eb211c80319c"
SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1_000 * DAY_NS

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reopen(tmp_path: Path, clock: Clock) -> Callable[..., Ledger]:
    """Open the ledger of this test, as often as wanted."""

    def open_it(**limits: float) -> Ledger:
        return Ledger.open(tmp_path, limits=LedgerLimits(**limits), clock_ns=clock)  # type: ignore[arg-type]

    return open_it


def frame(seq: int, count: int = 1, **envelope: object) -> WalFrame:
    fields: dict[str, object] = {
        "received_ns": 1_000 * DAY_NS,
        "origin": SPOOL,
        "resource": {"service.name": "orders", "process.pid": 7},
    }
    return WalFrame(seq, count, Envelope(**{**fields, **envelope}), b"{}\n" * count)  # type: ignore[arg-type]


def record(uid: str, at_s: float, received_s: float = 0.0) -> Record:
    return Record(
        uid=uid,
        timestamp_ns=int(at_s * SECOND_NS),
        level="INFO",
        severity_number=9,
        service="orders",
        trace_id=TRACE,
        received_ns=1_000 * DAY_NS + int(received_s * SECOND_NS),
    )


def test_what_was_saved_is_there_after_a_restart(reopen: Callable[..., Ledger]) -> None:
    """Marks, holes, endings, counters, the number up to which all of it is true."""
    ledger = reopen()
    ledger.apply(frame(1, 3, first=0, end=100, refused={"not_json": 2}, mended={"text_cut": 1}))
    ledger.apply(
        frame(4, 1, first=300, end=400, losses=[Loss(reason="damaged", count=5, start=400, end=500)])
    )
    ledger.apply(frame(5, 1, origin=OTHER, first=0, end=10, close=Close(ended="killed")))
    assert ledger.saved_seq == 0
    assert ledger.save() == ledger.saved_seq == ledger.seq == 5
    before = ledger.spools(), ledger.stats()
    ledger.close()
    again = reopen()
    assert (again.spools(), again.stats()) == before
    assert again.wanted(SPOOL, 0, 600) == [(100, 300), (400, 600)]
    assert {spool["spool_id"]: spool["ended"] for spool in again.spools()} == {SPOOL: None, OTHER: "killed"}
    counted = {"lines", "refused.not_json", "mended.text_cut", "lost.damaged"}
    assert {name: before[1][name] for name in counted} == {
        "lines": 5,
        "refused.not_json": 2,
        "mended.text_cut": 1,
        "lost.damaged": 5,
    }


def test_a_frame_is_taken_note_of_once(reopen: Callable[..., Ledger]) -> None:
    """Replaying what was saved changes nothing."""
    ledger = reopen()
    frames = [frame(1, 2, first=0, end=50, refused={"bad_id": 1}), frame(3, first=50, end=60)]
    for one in frames:
        ledger.apply(one)
    ledger.save()
    expected = ledger.stats(), ledger.spools()
    for one in frames:
        ledger.apply(one)
    assert (ledger.stats(), ledger.spools()) == expected


def test_what_was_not_saved_comes_back_from_the_log(tmp_path: Path, reopen: Callable[..., Ledger]) -> None:
    """A crash at any moment: saved state and replay together are what it was."""
    ledger = reopen()
    limits = WalLimits(segment_bytes_max=4096, frame_bytes_max=1024, disk_free_bytes_min=0)
    wal = Wal.open(tmp_path / "wal", limits=limits, observer=ledger.apply)
    offset = 0
    for number in range(60):
        lines = b'{"n":"%d"}\n' % number * 5
        envelope = Envelope(
            received_ns=1_000 * DAY_NS + number,
            resource={"service.name": "orders"},
            origin=SPOOL if number % 3 else OTHER,
            first=offset,
            end=offset + len(lines),
            refused={"not_json": 1} if number % 7 == 0 else {},
        )
        wal.append(WalBatch(envelope, lines))
        offset += len(lines)
        if number == 30:
            ledger.save()
    expected = ledger.spools(), {**ledger.stats(), "saved_seq": None}
    ledger.close()
    wal.close()
    again = reopen()
    assert 0 < again.saved_seq < wal.last_seq
    again.replay(Wal.open(tmp_path / "wal", limits=limits))
    again.save()
    assert (again.spools(), {**again.stats(), "saved_seq": None}) == (
        expected[0],
        {**expected[1], "spools": 2},
    )


def test_a_request_is_remembered_for_the_window(reopen: Callable[..., Ledger], clock: Clock) -> None:
    """How far it got, whether it is whole; after the window it is a new one."""
    ledger = reopen(foreign_dedupe_window_s=60.0)
    ledger.apply(frame(1, 2, origin=OTHER, digest="d1", first=0, end=2))
    half = ledger.request("d1")
    assert half is not None and (half.done, half.complete) == (2, False)
    ledger.apply(frame(3, 1, origin=OTHER, digest="d1", first=2, end=3, complete=True))
    ledger.save()
    ledger.close()
    again = reopen(foreign_dedupe_window_s=60.0)
    whole = again.request("d1")
    assert whole is not None and (whole.done, whole.complete, whole.origin) == (3, True, OTHER)
    assert again.request("d2") is None
    clock.now_ns += 61 * SECOND_NS
    assert again.request("d1") is None
    again.apply(frame(4, 1, origin=SPOOL, digest="d1", first=0, end=1, received_ns=clock.now_ns))
    new = again.request("d1")
    assert new is not None and (new.origin, new.done, new.complete) == (SPOOL, 1, False)
    assert again.spools() == [], "a request is no spool"


def test_requests_are_bounded(reopen: Callable[..., Ledger]) -> None:
    """The oldest go first, in memory and after a restart."""
    ledger = reopen(foreign_requests_max=3)
    for number in range(5):
        ledger.apply(
            frame(number + 1, digest=f"d{number}", first=0, end=1, received_ns=1_000 * DAY_NS + number)
        )
    assert [ledger.request(f"d{number}") is not None for number in range(5)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    ledger.save()
    ledger.close()
    assert [reopen(foreign_requests_max=2).request(f"d{n}") is not None for n in range(5)] == [
        False,
        False,
        False,
        True,
        True,
    ]


def test_spools_are_forgotten_after_a_long_silence(reopen: Callable[..., Ledger], clock: Clock) -> None:
    """Nothing of them is on any sender's disk any more."""
    ledger = reopen(forget_spool_after_s=86_400.0)
    ledger.apply(frame(1, first=0, end=10))
    ledger.save()
    clock.now_ns += 2 * DAY_NS
    ledger.apply(frame(2, origin=OTHER, first=0, end=10, received_ns=clock.now_ns))
    ledger.save()
    ledger.close()
    assert [spool["spool_id"] for spool in reopen().spools()] == [OTHER]


def test_more_spools_than_memory_holds(reopen: Callable[..., Ledger]) -> None:
    """Short-lived processes leave one each; the file remembers them all."""
    ledger = reopen(spools_in_memory_max=10)
    for number in range(1_200):
        ledger.apply(frame(number + 1, origin=f"{number:032x}", first=0, end=10))
        if number % 100 == 99:
            ledger.save()
    assert len(ledger._spools) <= 1_110
    assert all(ledger.wanted(f"{number:032x}", 0, 20) == [(10, 20)] for number in range(0, 1_200, 17))


def test_a_damaged_file_is_set_aside(tmp_path: Path, reopen: Callable[..., Ledger], clock: Clock) -> None:
    """The start is not stopped; for a day what senders repeat is looked up before it is stored."""
    ledger = reopen()
    ledger.apply(frame(1, first=0, end=10))
    ledger.save()
    ledger.close()
    (tmp_path / NAME).write_bytes(b"no database" * 1_000)
    again = reopen()
    assert again.stats()["set_aside"] == 1 and again.seq == 0
    assert again.may_have_forgotten()
    again.save()
    again.close()
    later = reopen()
    assert later.stats()["set_aside"] == 0 and later.may_have_forgotten()
    clock.now_ns += 2 * DAY_NS
    assert not later.may_have_forgotten()
    assert [path.name for path in tmp_path.glob("*damaged*")] == ["ledger.damaged-1"]


def test_a_damaged_page_is_found_at_the_start(tmp_path: Path, reopen: Callable[..., Ledger]) -> None:
    """Not at the first question."""
    ledger = reopen()
    for number in range(500):
        ledger.apply(frame(number + 1, origin=f"{number:032x}", first=0, end=10))
    ledger.save()
    ledger.close()
    content = bytearray((tmp_path / NAME).read_bytes())
    for at in range(4096 * 3, len(content), 4096):
        content[at : at + 64] = b"\xa5" * 64
    (tmp_path / NAME).write_bytes(content)
    assert reopen().stats()["set_aside"] == 1


def test_reading_while_another_writes(tmp_path: Path, reopen: Callable[..., Ledger]) -> None:
    """What was saved last, and nothing is written."""
    nothing = Ledger.open(tmp_path / "absent", read_only=True)
    assert nothing.spools() == [] and not (tmp_path / "absent").exists()
    ledger = reopen()
    ledger.apply(frame(1, first=0, end=10))
    ledger.save()
    reader = Ledger.open(tmp_path, read_only=True)
    ledger.apply(frame(2, first=10, end=20))
    assert [spool["mark"] for spool in reader.spools()] == [10]


# ---------------------------------------------------------------- what a trace is told


def test_a_trace_is_all_in_when_its_processes_are_heard_out(
    reopen: Callable[..., Ledger], clock: Clock
) -> None:
    """No hole at its time, and every process ended, or silent for the settling time."""
    ledger = reopen(settle_s=2.0)
    ledger.apply(frame(1, first=0, end=10, last_written_ns=5 * SECOND_NS))
    records = [record(f"{SPOOL}-0", 5), record(f"{OTHER}-0", 4)]
    ledger.apply(frame(2, origin=OTHER, first=0, end=10, last_written_ns=4 * SECOND_NS))
    fresh = ledger.trace_status(records)
    assert fresh.open_since_ns == 4 * SECOND_NS, "the other may still send what it wrote since"
    clock.now_ns += 3 * SECOND_NS
    settled = ledger.trace_status(records)
    assert (settled.open_since_ns, settled.gaps, settled.foreign, settled.ended) == (None, [], False, {})


def test_a_trace_whose_processes_have_ended_is_all_in_at_once(reopen: Callable[..., Ledger]) -> None:
    """And how they ended is told."""
    ledger = reopen()
    ledger.apply(frame(1, first=0, end=10, last_written_ns=1, close=Close(ended="killed")))
    status = ledger.trace_status([record(f"{SPOOL}-0", 5)])
    assert (status.open_since_ns, status.ended) == (None, {SPOOL: "killed"})


def test_a_hole_concerns_the_traces_of_its_time_only(reopen: Callable[..., Ledger]) -> None:
    """Not every trace that the process ever takes part in."""
    ledger = reopen()
    ledger.apply(frame(1, first=0, end=100, first_written_ns=SECOND_NS, last_written_ns=10 * SECOND_NS))
    ledger.apply(
        frame(2, first=400, end=500, first_written_ns=20 * SECOND_NS, last_written_ns=30 * SECOND_NS)
    )

    def gaps(at_s: float) -> list[str]:
        return [gap.message for gap in ledger.trace_status([record(f"{SPOOL}-0", at_s)]).gaps]

    assert gaps(5) == gaps(25) == []
    assert gaps(15) == ["300 bytes that orders (pid 7) wrote before offset 400 never arrived"]


def test_a_loss_is_a_gap_with_the_sender_s_reason(reopen: Callable[..., Ledger]) -> None:
    """And its count."""
    ledger = reopen()
    loss = Loss(reason="over_bound", count=12, written_ns=6 * SECOND_NS)
    ledger.apply(frame(1, first=0, end=100, last_written_ns=2 * SECOND_NS))
    ledger.apply(frame(2, first=100, end=200, losses=[loss]))
    (gap,) = ledger.trace_status([record(f"{SPOOL}-0", 5)]).gaps
    assert (gap.kind, gap.message, gap.count, gap.service) == (
        "lost",
        "orders (pid 7) lost 12 lines: over_bound",
        12,
        "orders",
    )


@pytest.mark.parametrize("uid", ["cd" * 16, f"{OTHER}-0", f"{SPOOL}-x", "imported", "cd" * 16 + "-7"])
def test_a_trace_with_records_of_strangers_is_unknown(reopen: Callable[..., Ledger], uid: str) -> None:
    """Nobody can tell what else they meant to send."""
    ledger = reopen()
    ledger.apply(frame(1, first=0, end=100))
    assert not ledger.trace_status([record(f"{SPOOL}-0", 5)]).foreign
    assert ledger.trace_status([record(f"{SPOOL}-0", 5), record(uid, 5)]).foreign
    assert ledger.trace_status([]).foreign
    assert [spool["spool_id"] for spool in ledger.spools()] == [SPOOL], "asking makes nothing known"


def test_limits_are_positive() -> None:
    """A window of nothing is a mistake that the start names."""
    with pytest.raises(ValueError, match="settle_s"):
        LedgerLimits(settle_s=0)
