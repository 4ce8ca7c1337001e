"""What dead processes leave: who may take it, how it is ended, and that it is taken once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from tracing.spool import Spool
from tracing.spool.adoption import (
    UNFINISHED_AGE_S_MAX,
    Claim,
    delete_before,
    delete_spool,
    spools,
    write_sent,
)
from tracing.spool.format import LOSS_REASONS, OtherFormat, SegmentHeader, loss_line, segment_name
from tracing.spool.locks import is_held, try_lock
from tracing.spool.losses import Loss
from tracing.spool.reader import READ_BYTES, open_segment, segment_paths, sent_offset
from tracing.spool.untold import keep_untold, read_untold, untold_text

OpenOrders = Callable[..., Spool]


def leave_behind(spool: Spool, root: Path, lines: list[bytes]) -> Path:
    """Have a child write lines and die by SIGKILL; return its spool."""
    before = set(spools(root / "orders"))
    child = os.fork()
    if child == 0:
        for line in lines:
            spool.write(line, 9)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = set(spools(root / "orders")) - before
    return left


def claimed(path: Path) -> Claim:
    """Take a spool that must be free."""
    claim = Claim.try_claim(path)
    assert claim is not None
    return claim


def test_a_living_owner_is_alive(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """Another process may ship it meanwhile, and must not end or delete it."""
    spool = open_orders()
    spool.write(helpers.line("m"), 9)
    path = root / "orders" / spool.spool_id
    child = os.fork()
    if child == 0:
        claim = Claim.try_claim(path)
        is_right = claim is not None and not claim.is_dead and not claim.is_closed
        os._exit(0 if is_right else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert helpers.special_lines(path, "close") == []


def test_what_a_killed_owner_shed_is_told_by_its_adopter(
    open_orders: OpenOrders, root: Path, helpers: Any
) -> None:
    """Near the bound a loss line comes once a minute; what was shed since dies with nobody."""
    spool = open_orders(service_bytes_max=65_536, segment_bytes_max=8_192, recheck_interval_s=0.0)
    line = helpers.line("x" * 200)
    path = leave_behind(spool, root, [line] * 1_000)
    told_by_owner = sum(loss["count"] for loss in helpers.special_lines(path, "loss"))
    kept = len(helpers.messages(path))
    assert kept + told_by_owner < 1_000, "all of it was told before the kill: nothing is left to be tested"
    claimed(path).release()
    claimed(path).release()
    losses = helpers.special_lines(path, "loss")
    assert kept + sum(loss["count"] for loss in losses) == 1_000
    assert {loss["reason"] for loss in losses} == {"over_bound"}


def test_a_loss_is_not_told_twice(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """The owner was killed after its loss line, before it could note that it is written."""
    spool = open_orders()
    path = leave_behind(spool, root, [helpers.line("m")])
    end = segment_paths(path)[0].stat().st_size
    loss = Loss("over_bound", 7, 100, 200)
    told = loss_line("orders", 1, reason="over_bound", count=7, begin=100, end=200)
    with segment_paths(path)[0].open("ab") as segment:
        segment.write(told)
    assert segment_paths(path)[0].stat().st_size > end
    keep_untold(path, [loss, Loss("damaged", 1, 0, 5)])
    claimed(path).release()
    assert [(one["reason"], one["count"]) for one in helpers.special_lines(path, "loss")] == [
        ("over_bound", 7),
        ("damaged", 1),
    ]


@pytest.mark.parametrize("spoiled", [b"", b"nonsense", untold_text([Loss("damaged", 1, 0, 5)])[:18]])
def test_what_is_no_note_of_losses_says_nothing(spoiled: bytes) -> None:
    """Half written, overwritten, or a reason that nobody knows."""
    assert read_untold(spoiled) == []
    assert read_untold(untold_text([Loss("bad luck", 1, 0, 5)])) == []
    several = [Loss(reason, 10**15, 10**17, 10**18) for reason in LOSS_REASONS]
    assert read_untold(untold_text(several)) == several
    assert len(untold_text(several)) == len(untold_text([]))


def left_with_damaged_header(spool: Spool, root: Path, helpers: Any, damaged: int) -> tuple[Path, int]:
    """A dead spool of three segments whose first is sent and gone; its `damaged`th header is nonsense.

    Returns:
        Its directory, and how many lines it had.
    """
    path = leave_behind(spool, root, [helpers.line(f"m{number} " + "x" * 200) for number in range(40)])
    paths = segment_paths(path)
    assert len(paths) == 3
    lines = len(helpers.messages(path))
    second = open_segment(paths[1])
    assert second is not None
    second.close()
    write_sent(path, second.header.first_offset)
    delete_before(path, second.header.first_offset)
    with paths[damaged].open("r+b") as file:
        file.write(b"nonsense")
    return path, lines


def test_a_segment_with_a_damaged_header_is_placed_by_the_one_behind_it(
    open_orders: OpenOrders, root: Path, helpers: Any
) -> None:
    """The one before it is sent and gone; no line is lost."""
    spool = open_orders(segment_bytes_max=4_096)
    path, _ = left_with_damaged_header(spool, root, helpers, 1)
    segment = open_segment(segment_paths(path)[0])
    assert segment is not None
    segment.close()
    claim = claimed(path)
    batch = claim.read(READ_BYTES)
    claim.release()
    assert batch is not None
    assert batch.offset == sent_offset(path) == segment.header.first_offset


def test_lines_that_nobody_can_place_are_counted_and_the_spool_ends(
    open_orders: OpenOrders, root: Path, helpers: Any, ingest: Any, ship: Any
) -> None:
    """The last segment's header is nonsense, and everything before it is sent and gone."""
    spool = open_orders(segment_bytes_max=4_096)
    path, lines = left_with_damaged_header(spool, root, helpers, 2)
    third = len(segment_paths(path)[1].read_bytes().splitlines()) - 1
    with_second = len(segment_paths(path)[0].read_bytes().splitlines()) - 1
    second = open_segment(segment_paths(path)[0])
    assert second is not None
    write_sent(path, second.header.first_offset + second.data_bytes)
    second.close()
    segment_paths(path)[0].unlink()
    assert lines > third + with_second
    ship(spool)
    helpers.eventually(lambda: not path.exists(), "the spool is left for ever")
    assert [(loss["loss"]["reason"], loss["loss"]["count"]) for loss in ingest.records("loss")] == [
        ("damaged", third)
    ]
    (close,) = ingest.records("close")
    assert close["close"]["ended"] == "killed"


def test_an_owner_killed_before_it_wrote_a_header_loses_nothing(
    open_orders: OpenOrders, root: Path, helpers: Any
) -> None:
    """An empty segment behind whole ones says nothing of them: every line before it is still read."""
    spool = open_orders(segment_bytes_max=4_096)
    path = leave_behind(spool, root, [helpers.line(f"m{number}") for number in range(100)])
    before = helpers.messages(path)
    assert len(before) == 100
    last = segment_paths(path)[-1]
    last.with_name(segment_name(len(segment_paths(path)))).touch()
    claimed(path).release()
    assert helpers.messages(path) == before


def test_what_another_version_wrote_waits_for_one_that_reads_it(
    open_orders: OpenOrders, root: Path, helpers: Any
) -> None:
    """It is whole and says that it is of format 2: nobody takes it for damaged, ships or deletes it."""
    path = leave_behind(open_orders(), root, [helpers.line("m")])
    (segment,) = segment_paths(path)
    header, _, lines = segment.read_bytes().partition(b"\n")
    body = header.rpartition(b',"crc32":')[0].replace(b'"backtrail_spool":1', b'"backtrail_spool":2')
    content = b'%b,"crc32":%d}\n%b' % (body, crc32(body), lines)
    segment.write_bytes(content)
    with pytest.raises(OtherFormat, match="format 2, this version reads 1"):
        SegmentHeader.decode(content[: content.index(b"\n") + 1])
    assert Claim.try_claim(path) is None
    assert segment.read_bytes() == content


def test_whether_a_lock_is_held_can_be_seen_without_taking_it(tmp_path: Path) -> None:
    """By its holder and by others; a process that is gone holds none, and a look costs nobody a lock."""
    path = tmp_path / "lock"

    def seen_by_another() -> bool:
        child = os.fork()
        if child == 0:
            os._exit(int(is_held(path)))
        return bool(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    assert not is_held(path)
    lock = try_lock(path, create=True)
    assert lock is not None
    assert is_held(path) and seen_by_another(), "its own look has not cost the holder its lock"
    lock.release()
    assert not is_held(path) and not seen_by_another()
    again = try_lock(path)
    assert again is not None, "nor has a look left one behind"
    again.release()


def test_asking_does_not_take_the_owners_lock_away(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """Closing any descriptor of a locked file would give the lock up: the process must not open its own."""
    spool = open_orders()
    spool.write(helpers.line("m"), 9)
    path = root / "orders" / spool.spool_id
    assert not claimed(path).is_dead
    child = os.fork()
    if child == 0:
        os._exit(0 if try_lock(path / "lock") is None else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "somebody else could lock it"


def test_the_lock_ends_with_the_owner_although_its_children_live(
    open_orders: OpenOrders, root: Path, helpers: Any
) -> None:
    """A child inherits the descriptor, and not the lock: `flock` would say that the owner lives."""
    spool = open_orders()
    release_read, release_write = os.pipe()
    owner = os.fork()
    if owner == 0:
        spool.write(helpers.line("m"), 9)
        if os.fork() == 0:
            os.close(release_write)
            os.read(release_read, 1)  # lives until the test has looked
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(owner, 0)
    (path,) = spools(root / "orders")
    claim = claimed(path)
    assert claim.is_dead
    claim.release()
    os.close(release_write)
    os.close(release_read)


def test_the_adopter_says_that_the_owner_was_killed(
    open_orders: OpenOrders, root: Path, helpers: Any
) -> None:
    """With the count and the end that are there, and the time of the last write; once."""
    lines = [helpers.line(f"m{number}") for number in range(50)]
    path = leave_behind(open_orders(segment_bytes_max=4096), root, lines)
    os.utime(segment_paths(path)[-1], ns=(0, 1_700_000_000_123_456_789))
    for _ in range(2):
        claimed(path).release()
    (close,) = helpers.special_lines(path, "close")
    assert close == {"count": 50, "end_offset": sum(map(len, lines)), "ended": "killed"}
    assert b"2023-11-14T22:13:20.123456789Z" in segment_paths(path)[-1].read_bytes()


def test_the_end_is_written_over_a_torn_line(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """Its call never returned; what of it is longer than the close line has no newline, so it is no line."""
    path = leave_behind(open_orders(), root, [helpers.line("whole")])
    (segment,) = segment_paths(path)
    with segment.open("ab") as file:
        file.write(helpers.line("torn " * 300)[:-20] + bytes(3000))
    size = segment.stat().st_size
    claimed(path).release()
    assert helpers.messages(path) == ["whole"]
    assert len(helpers.special_lines(path, "close")) == 1
    assert segment.stat().st_size == size


def test_a_spool_that_was_closed_stays_as_it_is(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """Its owner has had the last word, also when late lines followed."""
    spool = open_orders()
    child = os.fork()
    if child == 0:
        spool.write(helpers.line("m"), 9)
        spool.close("exit")
        spool.write(helpers.line("late"), 9)
        os._exit(0)
    os.waitpid(child, 0)
    (path,) = spools(root / "orders")
    claimed(path).release()
    assert [close["ended"] for close in helpers.special_lines(path, "close")] == ["exit"]


def test_only_one_may_ship(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """Neither a second claim in this process nor one in another: not before the first is released."""
    path = leave_behind(open_orders(), root, [helpers.line("m")])
    claim = claimed(path)
    assert Claim.try_claim(path) is None
    child = os.fork()
    if child == 0:
        os._exit(0 if Claim.try_claim(path) is None else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    claim.release()
    claimed(path).release()


def test_what_was_acknowledged_is_not_sent_again(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """`sent` outlives the one who wrote it."""
    lines = [helpers.line(f"m{number}") for number in range(3)]
    path = leave_behind(open_orders(), root, lines)
    claim = claimed(path)
    claim.acknowledge(len(lines[0]))
    claim.release()
    assert sent_offset(path) == len(lines[0])
    claim = claimed(path)
    batch = claim.read(READ_BYTES)
    assert batch is not None
    assert batch.offset == len(lines[0])
    assert batch.data.startswith(lines[1] + lines[2])
    claim.release()


@pytest.mark.parametrize("content", ["", "garbage", "-5\n", "00000000000000000050 00000000\n"])
def test_without_a_word_on_what_was_sent_all_is_sent_again(
    open_orders: OpenOrders, root: Path, helpers: Any, content: str
) -> None:
    """A collector skips what it has; to skip something it has not would be a loss."""
    path = leave_behind(open_orders(), root, [helpers.line("m")])
    (path / "sent").write_text(content)
    claim = claimed(path)
    assert claim.sent == 0
    claim.release()


def test_sent_segments_are_deleted_and_at_last_the_spool(
    open_orders: OpenOrders, root: Path, helpers: Any
) -> None:
    """Disk is given back as soon as the collector has the lines; the last segment goes with the rest."""
    lines = [helpers.line(f"m{number}") for number in range(200)]
    path = leave_behind(open_orders(segment_bytes_max=4096), root, lines)
    claim = claimed(path)
    segments = segment_paths(path)
    batch = claim.read(READ_BYTES)
    assert batch is not None
    claim.acknowledge(batch.end_offset)
    batch = claim.read(READ_BYTES)
    assert batch is not None
    claim.acknowledge(batch.end_offset)
    assert claim.tidy(is_all_sent=False) is False
    assert segment_paths(path) == segments[2:]
    while (batch := claim.read(READ_BYTES)) is not None:
        claim.acknowledge(batch.end_offset)
    assert claim.tidy(is_all_sent=True) is True
    claim.release()
    assert not path.exists()


def test_holes_become_loss_lines_of_the_dead(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """They are sent like any other line, before the spool is deleted."""
    lines = [helpers.line(f"m{number}") for number in range(3)]
    path = leave_behind(open_orders(), root, lines)
    (segment,) = segment_paths(path)
    data = segment.read_bytes()
    place = data.index(lines[1])
    segment.write_bytes(data[:place] + bytes(len(lines[1])) + data[place + len(lines[1]) :])
    claim = claimed(path)
    while (batch := claim.read(READ_BYTES)) is not None:
        claim.acknowledge(batch.end_offset)
    assert claim.tidy(is_all_sent=True) is False
    assert claim.read(READ_BYTES) is not None
    claim.release()
    (loss,) = helpers.special_lines(path, "loss")
    hole_end = len(lines[0] + lines[1] + lines[2])
    assert loss == {"reason": "damaged", "count": 1, "from": len(lines[0]), "to": hole_end}


def test_a_directory_that_is_being_made_is_left_alone(root: Path) -> None:
    """Unfinished ones are not spools; after an hour, whoever made one has died on the way."""
    service = root / "orders"
    for name, age_s in (("young", 0.0), ("old", UNFINISHED_AGE_S_MAX + 60)):
        unfinished = service / f".new-{name}"
        unfinished.mkdir(parents=True)
        (unfinished / "lock").touch()
        os.utime(unfinished, (time.time() - age_s,) * 2)
    assert list(spools(service)) == []
    assert [path.name for path in service.iterdir()] == [".new-young"]


def test_what_is_no_spool_is_left_alone(root: Path) -> None:
    """Somebody's file or directory in the wrong place is not ours to read or delete."""
    (root / "orders" / "notes").mkdir(parents=True)
    (root / "orders" / "file").touch()
    assert list(spools(root / "orders")) == []
    assert list(spools(root / "absent")) == []
    delete_spool(root / "orders" / "absent")


def test_the_dead_come_oldest_first(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """What has waited longest goes first."""
    spool = open_orders()
    left = [leave_behind(spool, root, [helpers.line("m")]) for _ in range(3)]
    for age, path in enumerate(left):
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    assert list(spools(root / "orders")) == left[::-1]
