"""What a spool does when the disk, the directory or its descriptors are taken away: the program goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tracing.spool import Spool, SpoolLimits, open_spool
from tracing.spool.directory import OwnDirectory
from tracing.spool.reader import read_lines, segment_paths
from tracing.spool.usage import service_bytes

OpenOrders = Callable[..., Spool]


@pytest.fixture(params=["write", "mapped"])
def mode(request: pytest.FixtureRequest) -> str:
    """What a spool does in trouble does not depend on how it writes."""
    chosen: str = request.param
    return chosen


NOBODY = 65534


@pytest.fixture
def small_disk(tmp_path: Path, need: Callable[[bool, str], None]) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], check=False)
    need(made.returncode == 0, "the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte of a disk free; the file returned holds what was free."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        block = 65_536
        while block:
            try:
                file.write(b"x" * block)
            except OSError:
                block //= 2
    return ballast


def offsets_are_whole(directory: Path) -> bool:
    """Whether each line begins where the one before has ended."""
    position = 0
    for offset, line in read_lines(directory):
        if offset != position:
            return False
        position = offset + len(line)
    return True


def test_a_full_disk_moves_lines_to_memory_and_back(small_disk: Path, helpers: Any, mode: Any) -> None:
    """Nothing is lost while memory has room, and a disk with space again takes everything, in order."""
    limits = SpoolLimits(disk_free_bytes_min=0, recheck_interval_s=0.0, mode=mode, segment_bytes_max=16_384)
    spool = open_spool(small_disk / "spool", service="orders", resource={}, limits=limits)
    for number in range(100):
        spool.write(helpers.line(f"m{number}"), 9)
    ballast = fill(small_disk)
    for number in range(100, 400):
        spool.write(helpers.line(f"m{number}"), 9)
    stats = spool.stats()
    assert stats["memory_bytes"] > 0
    assert stats["lost_memory_full"] == 0
    ballast.unlink()
    for number in range(400, 500):
        spool.write(helpers.line(f"m{number}"), 9)
    directory = small_disk / "spool" / "orders" / spool.spool_id
    assert helpers.messages(directory) == [f"m{number}" for number in range(500)]
    assert offsets_are_whole(directory)
    assert spool.stats()["memory_bytes"] == 0
    spool.close("test over")


def test_memory_is_bounded_and_says_what_it_did_not_take(small_disk: Path, helpers: Any) -> None:
    """With the disk full, DEBUG is shed first, then INFO, then all; the counts are exact."""
    limits = SpoolLimits(
        disk_free_bytes_min=0, recheck_interval_s=0.0, loss_interval_s=0.0, memory_bytes_max=16_384
    )
    fill(small_disk)
    spool = open_spool(small_disk / "spool", service="orders", resource={}, limits=limits)
    for number in range(600):
        spool.write(
            helpers.line(f"m{number}", ("DEBUG", "INFO", "ERROR")[number % 3]), (5, 9, 17)[number % 3]
        )
    stats = spool.stats()
    assert stats["lost_memory_full"] > 300
    assert stats["memory_bytes"] < 16_384 + 4096  # one line over it, and the loss lines
    (small_disk / "ballast").unlink()
    spool.write(helpers.line("after"), 9)
    spool.close("exit")
    directory = small_disk / "spool" / "orders" / spool.spool_id
    kept = helpers.messages(directory)
    losses = helpers.special_lines(directory, "loss")
    assert sum(loss["count"] for loss in losses) == stats["lost_memory_full"]
    assert {loss["reason"] for loss in losses} == {"memory_full"}
    assert len(kept) - 1 + stats["lost_memory_full"] == 600
    by_level = [sum(f"m{n}" in kept for n in range(level, 600, 3)) for level in range(3)]
    assert by_level == sorted(by_level)
    assert by_level[2] > by_level[1] > by_level[0]
    spool.close("test over")


def test_the_programs_own_files_come_first(small_disk: Path, helpers: Any) -> None:
    """The last of a disk is left alone, although a line would fit."""
    limits = SpoolLimits(disk_free_bytes_min=1024 * 1024, recheck_interval_s=0.0)
    spool = open_spool(small_disk / "spool", service="orders", resource={}, limits=limits)
    spool.write(helpers.line("m"), 9)
    assert not (small_disk / "spool").exists()
    assert spool.stats()["memory_lines"] == 1


def test_a_file_that_may_not_grow_is_a_full_disk(root: Path) -> None:
    """RLIMIT_FSIZE tears a line in the middle: the part is taken back, and the line kept whole."""
    program = f"""
        import resource
        from pathlib import Path
        from tracing.line import encode
        from tracing.spool import SpoolLimits, open_spool
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        limits = SpoolLimits(disk_free_bytes_min=0, recheck_interval_s=0.0)
        spool = open_spool(Path({str(root)!r}), service="orders", resource={{}}, limits=limits)
        for number in range(300):
            line = encode({{"timestamp": 1, "level": "INFO", "service": "orders", "message": f"m{{number}}"}})
            spool.write(line, 9)
        spool.close("exit")
        print(spool.spool_id)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    directory = root / "orders" / done.stdout.strip()
    found = [line for _, line in read_lines(directory)]
    assert len(found) == 301
    assert offsets_are_whole(directory)
    assert all(path.stat().st_size <= 10_000 for path in segment_paths(directory))
    assert all(path.read_bytes().endswith(b"\n") for path in segment_paths(directory))


def test_a_deleted_directory_is_made_again(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """What the open segment held is written again; nobody who looks for it notices."""
    spool = open_orders()
    for number in range(10):
        spool.write(helpers.line(f"m{number}"), 9)
    shutil.rmtree(root)
    spool.write(helpers.line("m10"), 9)
    spool.current().look_again()
    spool.write(helpers.line("m11"), 9)
    directory = root / "orders" / spool.spool_id
    assert helpers.messages(directory) == [f"m{number}" for number in range(12)]
    assert offsets_are_whole(directory)


def test_deleted_segments_are_a_loss_that_is_told(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """Closed segments that somebody removed cannot be written again: a loss line says how many lines."""
    spool = open_orders(segment_bytes_max=4096)
    for number in range(100):
        spool.write(helpers.line(f"m{number}"), 9)
    directory = root / "orders" / spool.spool_id
    held = spool.current().directory
    assert held is not None
    header = held.header
    shutil.rmtree(root)
    spool.current().look_again()
    found = helpers.messages(directory)
    assert found == [f"m{number}" for number in range(header.first_line, 100)]
    (loss,) = helpers.special_lines(directory, "loss")
    assert loss == {
        "reason": "deleted",
        "count": header.first_line,
        "from": 0,
        "to": header.first_offset,
    }


def test_a_deleted_segment_file_is_written_again(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """Only the file went: the directory and the lock stay."""
    spool = open_orders()
    spool.write(helpers.line("m0"), 9)
    directory = root / "orders" / spool.spool_id
    (directory / "00000000.ndjson").unlink()
    spool.current().look_again()
    spool.write(helpers.line("m1"), 9)
    assert helpers.messages(directory) == ["m0", "m1"]


def test_a_segment_that_somebody_cut_is_left_behind(
    open_orders: OpenOrders, root: Path, helpers: Any
) -> None:
    """After `> file`, offsets go on as if nothing had happened: none is used twice."""
    spool = open_orders()
    for number in range(20):
        spool.write(helpers.line(f"m{number}"), 9)
    position = spool.stats()["bytes"]
    directory = root / "orders" / spool.spool_id
    os.truncate(directory / "00000000.ndjson", 0)
    spool.current().look_again()
    spool.write(helpers.line("after"), 9)
    (loss,) = helpers.special_lines(directory, "loss")
    assert (loss["reason"], loss["count"], loss["to"]) == ("deleted", 20, position)
    assert helpers.messages(directory) == ["after"]
    assert all(offset >= position for offset, _ in read_lines(directory))


def test_closed_descriptors_make_a_new_incarnation(
    open_orders: OpenOrders, root: Path, helpers: Any, mode: str
) -> None:
    """A program that closes everything above 2, as daemons do, goes on under a new identity."""
    spool = open_orders()
    spool.write(helpers.line("before"), 9)
    first, own = spool.spool_id, spool.current()
    assert own.directory is not None
    os.close(own.directory.fd)
    os.close(own.directory._lock.fd)
    if mode == "mapped":  # the map is still there: it is noticed with the next look, not with the next line
        own.look_again()
    spool.write(helpers.line("after"), 9)
    assert spool.spool_id != first
    assert helpers.messages(root / "orders" / first) == ["before"]
    assert helpers.messages(root / "orders" / spool.spool_id) == ["after"]


def test_descriptors_that_became_somebody_elses_are_not_closed(
    open_orders: OpenOrders, tmp_path: Path, helpers: Any
) -> None:
    """The number may belong to a socket of the program by now."""
    spool = open_orders()
    spool.write(helpers.line("before"), 9)
    directory = spool.current().directory
    assert isinstance(directory, OwnDirectory)
    number = directory.fd
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    os.dup2(other, number)
    spool.current().leave()
    assert os.fstat(number).st_ino == os.fstat(other).st_ino
    os.close(number)
    os.close(other)


def test_a_directory_that_nobody_may_write_keeps_lines_in_memory(tmp_path: Path) -> None:
    """Root may write anywhere, so a child without that right tries; then the right is given back."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become somebody else")
    place = tmp_path / "place"
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == 0 and parent.is_relative_to(tempfile.gettempdir()):
            parent.chmod(parent.stat().st_mode | 0o011)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            status = _unwritable_then_writable(place)
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def _unwritable_then_writable(place: Path) -> int:
    closed = place / "closed"
    closed.mkdir(mode=0o500)
    limits = SpoolLimits(disk_free_bytes_min=0, recheck_interval_s=0.0, segment_bytes_max=4096)
    spool = open_spool(closed / "spool", service="orders", resource={}, limits=limits)
    line = b'{"timestamp":"2026-01-01T00:00:00.000000000Z","level":"INFO","service":"orders","message":"m"}\n'
    spool.write(line, 9)
    if spool.stats()["memory_lines"] != 1:
        return 2
    closed.chmod(0o700)
    spool.write(line, 9)
    directory = closed / "spool" / "orders" / spool.spool_id
    if len(list(read_lines(directory))) != 2 or spool.stats()["memory_bytes"]:
        return 3
    directory.chmod(0o500)  # made read-only while running: no new segment, so the open one grows
    for _ in range(200):
        spool.write(line, 9)
    if len(list(read_lines(directory))) != 202 or spool.stats()["memory_bytes"]:
        return 4
    directory.chmod(0o700)
    spool.write(line, 9)
    for _ in range(200):
        spool.write(line, 9)
    return 0 if len(segment_paths(directory)) > 1 else 5


def test_without_record_locks_lines_stay_in_memory(root: Path) -> None:
    """Windows has no fcntl, and much else is missing there: it imports, runs, and ships from memory."""
    program = f"""
        import os, signal, sys
        sys.modules["fcntl"] = None
        for name in ("fork", "register_at_fork", "statvfs", "pread", "pwrite", "posix_fallocate"):
            delattr(os, name)
        for name in ("pthread_sigmask", "SIGBUS", "SIGHUP", "SIGQUIT"):
            delattr(signal, name)
        import tracing.agent, tracing.launch
        from pathlib import Path
        from tracing.line import encode
        from tracing.spool import open_spool, start_shipper
        spool = open_spool(Path({str(root)!r}), service="orders", resource={{}})
        shipper = start_shipper(
            spool.root, service="orders", url="http://127.0.0.1:9", token=None, spool=spool
        )
        for number in range(100):
            line = encode({{"timestamp": 1, "level": "INFO", "service": "orders", "message": f"m{{number}}"}})
            spool.write(line, 9)
        assert not shipper.flush(0.5)
        shipper.stop(5.0)
        stats = spool.stats() | shipper.stats()
        print(stats["memory_lines"], stats["lost_write_failed"], stats["ship_errors"])
        spool.close("exit")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("100 0 0\n", "")
    assert not root.exists()


def test_what_others_left_counts_against_the_bound(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """The bound is the service's: a process that finds it filled takes what matters most only."""
    first = open_orders(service_bytes_max=65_536, segment_bytes_max=8192, mode="write")
    while first.stats()["lost_over_bound"] == 0:
        first.write(helpers.line("m", "DEBUG"), 5)
    second = open_orders(service_bytes_max=65_536, segment_bytes_max=8192, mode="write")
    second.write(helpers.line("first"), 9)
    second.write(helpers.line("debug", "DEBUG"), 5)
    second.write(helpers.line("error", "ERROR"), 17)
    assert helpers.messages(root / "orders" / second.spool_id) == ["first", "error"]
    assert second.stats()["lost_over_bound"] == 1


def test_a_service_with_many_spools_is_measured_by_some(root: Path) -> None:
    """The first line of a process must not wait for thousands of directories."""
    service = root / "orders"
    for number in range(200):
        directory = service / f"{number:032x}"
        directory.mkdir(parents=True)
        (directory / "00000000.ndjson").write_bytes(b"x" * 100)
        (directory / "lock").write_bytes(b"y" * 77)
    assert service_bytes(service, besides=f"{7:032x}") == 199 * 100
    assert service_bytes(root / "absent", besides="") == 0


def test_shedding_near_the_bound_starts_with_what_matters_least(
    open_orders: OpenOrders, root: Path, helpers: Any
) -> None:
    """Each line that was not taken is counted, in a loss line too, and errors go on longest."""
    spool = open_orders(service_bytes_max=65_536, segment_bytes_max=8192, loss_interval_s=0.0)
    levels = (("DEBUG", 5), ("INFO", 9), ("ERROR", 17))
    for number in range(3000):
        level, severity = levels[number % 3]
        spool.write(helpers.line(f"{level} {number}", level), severity)
    spool.close("exit")
    directory = root / "orders" / spool.spool_id
    found = helpers.messages(directory)
    kept = [sum(message.startswith(level) for message in found) for level, _ in levels]
    assert 0 < kept[0] < kept[1] < kept[2] < 1000
    losses = helpers.special_lines(directory, "loss")
    assert {loss["reason"] for loss in losses} == {"over_bound"}
    assert sum(loss["count"] for loss in losses) == 3000 - len(found) == spool.stats()["lost_over_bound"]
    assert all(loss["from"] <= loss["to"] for loss in losses)


def test_room_again_ends_the_shedding(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """What was sent and deleted, by whomever, no longer counts against the bound."""
    spool = open_orders(
        service_bytes_max=65_536, segment_bytes_max=8192, recheck_interval_s=0.0, mode="write"
    )
    while not spool.stats()["lost_over_bound"]:
        spool.write(helpers.line("m", "DEBUG"), 5)
    for path in segment_paths(root / "orders" / spool.spool_id)[:-1]:
        path.unlink()
    lines = spool.stats()["lines"]
    spool.write(helpers.line("m", "DEBUG"), 5)
    assert spool.stats()["lines"] > lines
    assert spool.stats()["lost_over_bound"] == 1


def test_with_fsync_a_line_is_synchronised_before_write_returns(
    open_orders: OpenOrders, helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`fsync=True` asks the disk for each record, and for nothing else."""
    synchronised: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synchronised.append)
    spool = open_orders(fsync=True)
    spool.write(helpers.line("first"), 9)
    before = len(synchronised)
    for number in range(5):
        spool.write(helpers.line(f"m{number}"), 9)
    assert len(synchronised) == before + 5


def test_limits_say_what_they_would_accept() -> None:
    """A limit that cannot work stops the start."""
    from tracing.errors import ConfigurationError

    for wrong in (
        {"segment_bytes_max": 10},
        {"memory_bytes_max": -1},
        {"mode": "mmap"},
        {"recheck_interval_s": -1.0},
        {"disk_free_bytes_min": -1},
    ):
        with pytest.raises(ConfigurationError, match=next(iter(wrong)).replace("mode", "spool mode")):
            SpoolLimits(**wrong)  # type: ignore[arg-type]
