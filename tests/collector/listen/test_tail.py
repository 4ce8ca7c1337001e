"""Files that grow: each line once, over rotation, truncation, crashes and a full log."""

from __future__ import annotations

import json
import logging
import logging.handlers
from collections.abc import Callable
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.intake import Intake, open_log
from collector.listen.tail import FileTail, TailLimits, TailSource
from collector.wal import WalLimits

LIMITS = TailLimits(settle_s=1.0, rotated_s=5.0, search_interval_s=0.0, read_bytes=4096)


class Tailing:
    """A tail with a clock of its own, polled by hand, on a log that may crash."""

    def __init__(self, directory: Path, *sources: TailSource, wal: WalLimits | None = None) -> None:
        self.directory = directory
        self.sources = sources or (TailSource(pattern=str(directory / "*.log")),)
        self.wal_limits = wal or WalLimits(disk_free_bytes_min=0)
        self.now_s = 100.0
        self.start()

    def start(self, limits: TailLimits = LIMITS) -> None:
        self.wal, self.ledger = open_log(self.directory / "data", durable_seq=0, wal_limits=self.wal_limits)
        self.tail = FileTail(
            Intake(self.wal, self.ledger), self.sources, limits=limits, clock_s=lambda: self.now_s
        )

    def crash_and_restart(self) -> None:
        for file in self.tail._files.values():
            file.close()
        self.wal._drop_writer()
        self.ledger._file.close()
        self.start()

    def poll(self, *, seconds: float = 0.0) -> None:
        """Read until there is no more, then let time pass and read again."""
        while self.tail.poll():
            pass
        if seconds:
            self.now_s += seconds
            self.poll()

    def settle(self) -> None:
        """Until nothing waits for a next line."""
        self.poll()
        self.poll(seconds=LIMITS.settle_s * 2)

    def records(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        seen: set[str] = set()
        after = 0
        while frames := self.wal.read(after, 10_000):
            after = frames[-1].last_seq
            for frame in frames:
                for uid, text in zip(frame.uids() or [], frame.split(), strict=True):
                    assert uid not in seen, f"{uid} is there twice"
                    seen.add(uid)
                    found.append({**json.loads(text), "resource": frame.envelope.resource})
        return found

    def messages(self) -> list[str]:
        return [one["message"] for one in self.records()]


def append(path: Path, text: str) -> None:
    with path.open("a") as stream:
        stream.write(text)


@pytest.fixture
def tailing(tmp_path: Path) -> Tailing:
    return Tailing(tmp_path)


def test_what_is_there_and_what_comes(tailing: Tailing, tmp_path: Path) -> None:
    """From the beginning, line by line; half a line waits for its end."""
    log = tmp_path / "orders.log"
    append(log, "INFO one\nINFO two\nINFO th")
    tailing.settle()
    assert tailing.messages() == ["INFO one", "INFO two"]
    append(log, "ree\n")
    tailing.settle()
    assert tailing.messages() == ["INFO one", "INFO two", "INFO three"]
    (record, *_) = tailing.records()
    assert record["service"] == "orders"
    assert record["resource"] == {"service.name": "orders", "log.file.path": str(log)}


def test_the_last_line_is_not_held_back(tailing: Tailing, tmp_path: Path) -> None:
    """It waits for a traceback that may follow, and not longer."""
    append(tmp_path / "a.log", "ERROR failed\n")
    tailing.poll()
    assert tailing.messages() == []
    tailing.poll(seconds=0.5)
    append(tmp_path / "a.log", "Traceback (most recent call last):\n  File x\nKeyError: 'cart'\n")
    tailing.poll(seconds=0.5)
    assert tailing.messages() == []
    tailing.settle()
    (record,) = tailing.records()
    assert record["message"].startswith("ERROR failed\nTraceback")
    assert record["exception"]["type"] == "KeyError"


def test_json_and_text_with_ids(tmp_path: Path) -> None:
    """Services, zones and formats as they come; globs, several sources, no file twice."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    append(tmp_path / "deep" / "er" / "a.json", '{"level":"warn","msg":"hi","trace_id":"' + "a" * 32 + '"}\n')
    append(tmp_path / "b.log", f"2026-01-02 04:04:05 ERROR trace_id={'b' * 32} no\n")
    zone = timezone(timedelta(hours=1))
    tailing = Tailing(
        tmp_path,
        TailSource(pattern=str(tmp_path / "**" / "*.json"), service="shop"),
        TailSource(pattern=str(tmp_path / "b.*"), zone=zone),
        TailSource(pattern=str(tmp_path / "*.log")),
    )
    tailing.settle()
    by_service = {one["service"]: one for one in tailing.records()}
    assert (by_service["shop"]["level"], by_service["shop"]["trace_id"]) == ("WARN", "a" * 32)
    assert by_service["b"]["timestamp"] == "2026-01-02T03:04:05.000000000Z"
    assert (by_service["b"]["level"], by_service["b"]["trace_id"]) == ("ERROR", "b" * 32)


def test_rotation_by_renaming(tailing: Tailing, tmp_path: Path) -> None:
    """What was written to the old file until it was let go is read, then the new one; each once."""
    log = tmp_path / "a.log"
    append(log, "1\n")
    tailing.settle()
    with log.open("a") as still_open:
        log.rename(tmp_path / "a.log.1")
        append(log, "3\n")
        still_open.write("2\n")
    tailing.settle()
    assert sorted(tailing.messages()) == ["1", "2", "3"]
    tailing.poll(seconds=LIMITS.rotated_s + 1)
    assert tailing.tail.stats()["open_files"] == 1
    tailing.crash_and_restart()
    append(log, "4\n")
    tailing.settle()
    assert sorted(tailing.messages()) == ["1", "2", "3", "4"]


def test_a_renamed_file_that_still_matches_is_the_same(tmp_path: Path) -> None:
    """Its name is not what it is."""
    tailing = Tailing(tmp_path, TailSource(pattern=str(tmp_path / "a.log*")))
    append(tmp_path / "a.log", "1\n")
    tailing.settle()
    (tmp_path / "a.log").rename(tmp_path / "a.log.1")
    tailing.settle()
    tailing.crash_and_restart()
    append(tmp_path / "a.log.1", "2\n")
    append(tmp_path / "a.log.2.gz", "packed\n")
    tailing.settle()
    assert tailing.messages() == ["1", "2"]


@pytest.mark.parametrize("same_first_line", [False, True])
def test_rotation_by_copying_and_truncating(tailing: Tailing, tmp_path: Path, same_first_line: bool) -> None:
    """The same file with other content, shorter or longer than before, seen or missed, over a crash."""
    log = tmp_path / "a.log"
    expected = []
    for turn in range(4):
        lines = ["start\n" if same_first_line else f"start {turn}\n"]
        lines += [f"{turn} {n} {'x' * 20}\n" for n in range(3 if turn % 2 else 9)]
        if same_first_line or turn % 2 == 0:
            log.write_text("")
            tailing.settle()  # else the truncation is noticed by the new content only
        log.write_text("".join(lines))
        tailing.settle()
        expected += [line.rstrip("\n") for line in lines]
        assert tailing.messages() == expected
        if turn == 2:
            tailing.crash_and_restart()
            tailing.settle()
    assert tailing.messages() == expected


def test_a_truncation_loses_no_line_that_was_read(tailing: Tailing, tmp_path: Path) -> None:
    """The one that waited for a traceback is handed over."""
    log = tmp_path / "a.log"
    append(log, "1\n2\n")
    tailing.poll()
    log.write_text("")
    tailing.settle()
    assert tailing.messages() == ["1", "2"]


def test_the_standard_library_s_rotating_handler(tmp_path: Path) -> None:
    """A real writer that renames as it goes."""
    tailing = Tailing(tmp_path, TailSource(pattern=str(tmp_path / "a.log*")))
    handler = logging.handlers.RotatingFileHandler(tmp_path / "a.log", maxBytes=300, backupCount=3)
    logger = logging.Logger("test.tail")
    logger.addHandler(handler)
    for number in range(200):
        logger.info("line %d", number)
        tailing.poll()
    handler.close()
    tailing.settle()
    assert sorted(tailing.messages(), key=lambda text: int(text[5:])) == [f"line {n}" for n in range(200)]


@pytest.mark.parametrize("batch_records_max", [20, 400])
def test_a_full_log_is_waited_for(tmp_path: Path, batch_records_max: int) -> None:
    """Nothing is lost: the file itself is the buffer. What is too much for a small log at once is cut."""
    wal = WalLimits(bytes_max=16_384, segment_bytes_max=4096, frame_bytes_max=1024, disk_free_bytes_min=0)
    tailing = Tailing(tmp_path, wal=wal)
    tailing.start(TailLimits(batch_records_max=batch_records_max, search_interval_s=0.0))
    append(tmp_path / "a.log", "".join(f"line {n}\n" for n in range(400)))
    found: list[str] = []
    for _ in range(30):
        tailing.now_s += 2
        tailing.tail.poll()
        found += [one for one in tailing.messages() if one not in found]
        tailing.wal.release(tailing.wal.last_seq)
    assert found == [f"line {n}" for n in range(400)]
    assert tailing.tail.stats()["overloaded"] > 0


def test_lines_and_records_are_bounded(tailing: Tailing, tmp_path: Path) -> None:
    """A line without an end is cut, so that it is passed."""
    append(tmp_path / "a.log", "x" * 10_000 + "\nnext\n")
    tailing.settle()
    assert [len(one) for one in tailing.messages()] == [4096, 4096, 10_000 - 8192, 4]


def test_a_file_without_a_whole_line_is_not_known_yet(tailing: Tailing, tmp_path: Path) -> None:
    """It would be another one when the line is whole."""
    append(tmp_path / "a.log", "begi")
    tailing.settle()
    tailing.crash_and_restart()
    append(tmp_path / "a.log", "nning\n")
    tailing.settle()
    assert tailing.messages() == ["beginning"]


def test_what_cannot_be_read_harms_nobody(tailing: Tailing, tmp_path: Path) -> None:
    """Directories, broken links, bytes that are no text, blank lines, a file that goes away."""
    (tmp_path / "dir.log").mkdir()
    (tmp_path / "link.log").symlink_to(tmp_path / "nowhere")
    (tmp_path / "b.log").write_bytes(b"\xff\xfe\n\n\x00\n")
    append(tmp_path / "gone.log", "1\n")
    tailing.poll()
    (tmp_path / "gone.log").unlink()
    tailing.settle()
    assert sorted(tailing.messages()) == ["\x00", "1", "\ufffd\ufffd"]


def test_the_number_of_files_is_bounded(tmp_path: Path) -> None:
    """And what is not read for want of room is counted."""
    tailing = Tailing(tmp_path)
    tailing.start(TailLimits(files_max=2, search_interval_s=0.0))
    for number in range(5):
        append(tmp_path / f"{number}.log", "x\n")
    tailing.poll()
    stats = tailing.tail.stats()
    assert (stats["open_files"], stats["files_beyond_the_limit"] > 0) == (2, True)


def test_it_runs_by_itself(tmp_path: Path, wait_for: Callable[[Callable[[], bool]], None]) -> None:
    """With its own thread, in real time."""
    tailing = Tailing(tmp_path)
    limits = TailLimits(poll_interval_s=0.01, search_interval_s=0.01, settle_s=0.02)
    tailing.tail = FileTail(Intake(tailing.wal, tailing.ledger), tailing.sources, limits=limits)
    tailing.tail.start()
    append(tmp_path / "a.log", "1\n2\n")
    wait_for(lambda: tailing.messages() == ["1", "2"])
    tailing.tail.stop()


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool]], None]:
    import threading

    def wait(condition: Callable[[], bool]) -> None:
        pause = threading.Event()
        for _ in range(3000):
            if condition():
                return
            pause.wait(0.01)
        raise AssertionError("it did not happen in time")

    return wait


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_history_of_a_file_is_read_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Appends in pieces, polls, rotations and crashes in any order."""
    directory = tmp_path_factory.mktemp("history")
    tailing = Tailing(directory, TailSource(pattern=str(directory / "a.log*")))
    log, number, rotations = directory / "a.log", 0, 0
    expected: list[str] = []
    for _ in range(data.draw(st.integers(1, 25))):
        match data.draw(st.sampled_from(["append", "append", "poll", "settle", "rotate", "crash"])):
            case "append":
                lines = [f"line {number + n}" for n in range(data.draw(st.integers(1, 4)))]
                number += len(lines)
                expected += lines
                append(log, "".join(line + "\n" for line in lines))
            case "poll":
                tailing.poll(seconds=0.1)
            case "settle":
                tailing.settle()
            case "rotate" if log.exists():
                rotations += 1
                log.rename(directory / f"a.log.{rotations}")
            case "crash":
                tailing.crash_and_restart()
    tailing.settle()
    assert sorted(tailing.messages()) == sorted(expected)
