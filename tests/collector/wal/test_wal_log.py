"""The write-ahead log on a real disk: durable, numbered, bounded, forgiving."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from collector.errors import Overloaded, Refused
from collector.wal import Envelope, Wal, WalBatch, WalFrame, WalLimits, segments

LIMITS = WalLimits(
    bytes_max=1024**2, segment_bytes_max=8192, frame_bytes_max=2048, disk_free_bytes_min=0, retry_after_s=3.5
)


def batch(text: str, lines: int = 1) -> WalBatch:
    return WalBatch(Envelope(received_ns=1), f'{{"m":"{text}"}}\n'.encode() * lines)


def texts(wal: Wal, after: int = 0) -> list[bytes]:
    """Every line that can be read, asking for few at once."""
    found: list[bytes] = []
    while frames := wal.read(after, 3):
        assert frames[0].last_seq > after
        for frame in frames:
            assert frame.first_seq > after, "numbers rise"
            after = frame.last_seq
            found += frame.split()
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "wal"


def test_what_was_appended_is_read_in_order(directory: Path) -> None:
    """Over several segments, within one life and in the next."""
    wal = Wal.open(directory, limits=LIMITS)
    expected = []
    for number in range(300):
        assert wal.append(batch(f"line {number:04d}" + "x" * 90)) == number + 1
        expected.append(f'{{"m":"line {number:04d}{"x" * 90}"}}'.encode())
    assert wal.stats()["segments"] > 3
    assert texts(wal) == expected
    assert texts(wal, after=250) == expected[250:]
    wal.close()
    again = Wal.open(directory, limits=LIMITS)
    assert texts(again) == expected
    assert again.last_seq == 300
    assert again.append(batch("next")) == 301


def test_several_batches_are_appended_together(directory: Path) -> None:
    """One sync for all of them, and the number of the last line."""
    wal = Wal.open(directory, limits=LIMITS)
    assert wal.append(batch("a", 2), batch("b", 3)) == 5
    assert wal.stats()["syncs"] == 1
    assert texts(wal) == [b'{"m":"a"}'] * 2 + [b'{"m":"b"}'] * 3


def test_a_number_is_never_given_twice(directory: Path) -> None:
    """Not after everything was released, not after a restart, not below what the store has."""
    wal = Wal.open(directory, limits=LIMITS)
    last = [wal.append(batch("x" * 500, 4)) for _ in range(20)][-1]
    assert wal.release(last) > 0
    wal.close()
    again = Wal.open(directory, limits=LIMITS)
    assert again.append(batch("y")) == last + 1
    again.close()
    emptied = Wal.open(directory.with_name("other"), limits=LIMITS, seq_after=1000)
    assert (emptied.last_seq, emptied.append(batch("z"))) == (0, 1001)


def test_release_gives_space_back_and_keeps_what_is_not_durable(directory: Path) -> None:
    """A segment goes when its last line is durable, and not one line earlier."""
    wal = Wal.open(directory, limits=LIMITS)
    for _ in range(100):
        wal.append(batch("x" * 400))
    before = wal.stats()
    second = sorted(int(path.stem) for path in directory.iterdir())[1]
    assert not wal.releasable(second - 2)
    assert wal.release(second - 2) == 0
    assert wal.releasable(second - 1)
    freed = wal.release(second - 1)
    assert freed > 0 and wal.stats()["bytes"] == before["bytes"] - freed
    assert len(texts(wal, after=second - 1)) == 100 - (second - 1)
    wal.release(100)
    assert wal.stats()["segments"] == 1, "the newest one remembers the numbers"


def test_the_observer_sees_each_frame_in_order_before_the_answer(directory: Path) -> None:
    """The ledger depends on it: what was acknowledged has been taken note of."""
    seen: list[WalFrame] = []
    wal = Wal.open(directory, limits=LIMITS, observer=seen.append)
    with ThreadPoolExecutor(8) as pool:

        def append(number: int) -> None:
            last = wal.append(batch(f"{number}", 3))
            assert any(frame.last_seq == last for frame in seen)

        list(pool.map(append, range(200)))
    assert [frame.first_seq for frame in seen] == list(range(1, 601, 3))
    assert wal.read(0, 10**6) == seen


def test_concurrent_appends_share_a_sync(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one thread syncs, the others queue; the next sync is for all of them."""
    started, go_on = threading.Event(), threading.Event()
    sync = segments._datasync

    def slow_first_sync(fd: int) -> None:
        if not started.is_set():
            started.set()
            assert go_on.wait(30)
        sync(fd)

    monkeypatch.setattr(segments, "_datasync", slow_first_sync)
    wal = Wal.open(directory, limits=LIMITS)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(wal.append, batch("first"))
        assert started.wait(30)
        others = [pool.submit(wal.append, batch(f"other {n}")) for n in range(8)]
        wait_for(lambda: len(wal._queue) == 8)
        go_on.set()
        assert first.result(30) == 1
        assert sorted(other.result(30) for other in others) == list(range(2, 10))
    assert wal.stats()["syncs"] == 2
    assert len(texts(wal)) == 9


def wait_for(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    pause = threading.Event()
    for _ in range(int(timeout_s / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it did not happen in time")


def test_a_full_log_refuses_and_takes_again_after_a_release(directory: Path) -> None:
    """Refused means: nothing of the batch is there, and the sender knows when to come back."""
    wal = Wal.open(directory, limits=replace(LIMITS, bytes_max=20_000))
    taken = 0
    with pytest.raises(Overloaded, match=r"full: \d+ of 20000 bytes") as refusal:
        while True:
            wal.append(batch("x" * 500))
            taken += 1
    assert refusal.value.retry_after_s == 3.5
    assert wal.stats()["bytes"] <= 20_000
    assert len(texts(wal)) == taken == wal.last_seq
    assert wal.stats()["overloaded"] == 1
    wal.release(taken)
    assert wal.append(batch("again")) == taken + 1


def test_what_would_never_fit_is_refused_for_good(directory: Path) -> None:
    """A sender would come back with it for ever; the largest that is taken always fits in time."""
    limits = replace(LIMITS, bytes_max=40_000)
    wal = Wal.open(directory, limits=limits)
    line_bytes = len(batch("x" * 500).lines)
    fitting = limits.append_bytes_max // (line_bytes + 30)  # the rest is for heads and envelopes
    with pytest.raises(Refused, match=r"send fewer at once") as refusal:
        wal.append(batch("x" * 500, lines=fitting + 4))
    assert refusal.value.reason == "body_too_large"
    for _ in range(5):
        wal.release(wal.append(batch("x" * 500, lines=fitting)))
    assert wal.stats()["overloaded"] == 0


def test_room_is_left_for_the_store(directory: Path) -> None:
    """A disk that is filled to the brim could never commit, and the log never shrink again."""
    wal = Wal.open(directory, limits=replace(LIMITS, disk_free_bytes_min=2**60))
    with pytest.raises(Overloaded, match="nearly full"):
        wal.append(batch("x"))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_failed_write_leaves_nothing_behind(
    directory: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Half of a batch reached the file: it is cut away, since the sender will send all of it again."""
    wal = Wal.open(directory, limits=LIMITS)
    wal.append(batch("before"))
    write = os.pwritev

    def half_a_write(fd: int, buffers: list[bytes], offset: int) -> int:
        os.pwrite(fd, buffers[0][: len(buffers[0]) // 2], offset)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "pwritev", half_a_write)
    with pytest.raises(Overloaded, match=os.strerror(code)):
        wal.append(batch("lost"))
    monkeypatch.setattr(os, "pwritev", write)
    assert wal.append(batch("after")) == 2
    assert texts(wal) == texts(Wal.open(directory, limits=LIMITS)) == [b'{"m":"before"}', b'{"m":"after"}']
    assert wal.stats()["write_errors"] == 1


def test_a_failed_sync_leaves_nothing_behind(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are in the file and may even survive; nobody may read them beside their repetition."""
    wal = Wal.open(directory, limits=LIMITS)
    wal.append(batch("before"))
    sync = segments._datasync
    failing = iter([True, True, False])  # the sync, then the sync of the cut; after that the disk is well

    def datasync(fd: int) -> None:
        if next(failing, False):
            raise OSError(errno.EIO, "bad sector")
        sync(fd)

    monkeypatch.setattr(segments, "_datasync", datasync)
    with pytest.raises(Overloaded, match="bad sector"):
        wal.append(batch("in doubt"))
    assert texts(wal) == [b'{"m":"before"}']
    assert wal.append(batch("after")) == 2
    assert texts(wal) == [b'{"m":"before"}', b'{"m":"after"}']
    assert wal.stats()["segments"] == 2, "a file that failed a sync is not written again"
    wal.close()
    assert texts(Wal.open(directory, limits=LIMITS)) == [b'{"m":"before"}', b'{"m":"after"}']


def test_while_doubt_lasts_nothing_is_taken(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as what a failed write left cannot be cut away, every append is refused."""
    wal = Wal.open(directory, limits=LIMITS)

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "broken disk")

    with monkeypatch.context() as patched:
        patched.setattr(segments, "_datasync", broken)
        patched.setattr(os, "ftruncate", broken)
        for _ in range(3):
            with pytest.raises(Overloaded, match="broken disk"):
                wal.append(batch("x"))
    assert wal.append(batch("well again")) == 1
    assert texts(wal) == [b'{"m":"well again"}']


def test_a_torn_tail_is_counted_and_passed(directory: Path) -> None:
    """Cut the file at every byte of its last frame: the log opens, and goes on in a new file."""
    wal = Wal.open(directory, limits=LIMITS)
    wal.append(batch("first"))
    whole = wal.stats()["bytes"]
    wal.append(batch("second"))
    wal.close()
    (path,) = directory.iterdir()
    content = path.read_bytes()
    for size in range(whole, len(content)):
        for old in directory.iterdir():
            old.unlink()
        path.write_bytes(content[:size])
        torn = Wal.open(directory, limits=LIMITS)
        assert torn.stats()["torn_bytes"] == size - whole
        assert torn.append(batch("third")) >= 2
        assert texts(torn) == [b'{"m":"first"}', b'{"m":"third"}']
        torn.close()
        assert path.read_bytes() == content[:size], "what is not understood is left alone"


def test_numbers_of_an_unreadable_tail_are_not_given_again(directory: Path) -> None:
    """The tail may have been acknowledged and indexed, and damaged only afterwards."""
    wal = Wal.open(directory, limits=LIMITS)
    wal.append(batch("first"))
    last = wal.append(batch("x", 50))
    wal.close()
    (path,) = directory.iterdir()
    content = bytearray(path.read_bytes())
    content[-1] ^= 0xFF
    path.write_bytes(content)
    again = Wal.open(directory, limits=LIMITS)
    assert again.last_seq == 1
    assert again.append(batch("y")) > last


def test_damage_in_the_middle_costs_one_frame_and_is_counted_once(directory: Path) -> None:
    """However often it is read: bytes, and the numbers that are missing."""
    wal = Wal.open(directory, limits=LIMITS)
    for number in range(5):
        wal.append(batch(f"{number}", 10))
    wal.close()
    (path,) = directory.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    again = Wal.open(directory, limits=LIMITS)
    assert [line[6:7] for line in texts(again)] == [b"0"] * 10 + [b"1"] * 10 + [b"3"] * 10 + [b"4"] * 10
    assert len(texts(again)) == 40
    stats = again.stats()
    assert (stats["damaged_bytes"], stats["lost_records"]) == (len(content) // 5, 10)


def test_a_stranger_in_the_directory_is_left_alone(directory: Path) -> None:
    """Other files are neither read nor deleted."""
    directory.mkdir(parents=True)
    (directory / "notes.txt").write_text("mine")
    (directory / "x.wal").write_text("mine too")
    wal = Wal.open(directory, limits=LIMITS)
    wal.append(batch("a"))
    wal.release(1)
    assert texts(wal) == [b'{"m":"a"}']
    assert (directory / "x.wal").read_text() == "mine too"


def test_reading_beside_the_process_that_writes(directory: Path) -> None:
    """The CLI looks into the log of a running collector, which may release what it was about to read."""
    wal = Wal.open(directory, limits=LIMITS)
    for _ in range(100):
        wal.append(batch("x" * 400))
    reader = Wal.open(directory, limits=LIMITS)
    wal.release(100)
    left = texts(reader)
    assert 0 < len(left) < 100 and reader.stats()["damaged_bytes"] == 0
    assert texts(wal) == left


def test_waiting_ends_with_news_or_a_nudge(directory: Path) -> None:
    """The indexer sleeps in here."""
    wal = Wal.open(directory, limits=LIMITS)
    assert not wal.wait_beyond(0, 0.0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wal.wait_beyond, 0, 60.0)
        wal.append(batch("a"))
        assert waiting.result(30)
        waiting = pool.submit(wal.wait_beyond, 1, 60.0)
        wait_for(lambda: bool(wal._grown._waiters))  # type: ignore[attr-defined]
        wal.nudge()
        assert not waiting.result(30)


def test_a_closed_log_takes_nothing(directory: Path) -> None:
    """The sender keeps what it has; closing twice is harmless."""
    wal = Wal.open(directory, limits=LIMITS)
    wal.append(batch("a"))
    wal.close()
    wal.close()
    with pytest.raises(Overloaded, match="shutting down"):
        wal.append(batch("b"))


def test_limits_must_fit_together() -> None:
    """A segment larger than the whole, or no pause at all, is a mistake that the start names."""
    with pytest.raises(ValueError, match="frame_bytes_max"):
        WalLimits(bytes_max=1000)
    with pytest.raises(ValueError, match="retry_after_s"):
        WalLimits(retry_after_s=0)
