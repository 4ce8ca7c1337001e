"""The mapped segment: reserved before it is used, safe in forked children, read while it is written."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracing.spool import Spool, SpoolLimits, open_spool, start_shipper
from tracing.spool import mapped as mapped_module
from tracing.spool.adoption import Claim, spools
from tracing.spool.mapped import MappedSegment, is_mappable
from tracing.spool.reader import read_lines, segment_paths

OpenOrders = Callable[..., Spool]


@pytest.fixture
def mode() -> str:
    """All spools of this module are mapped."""
    return "mapped"


def test_a_line_is_in_the_file_without_a_system_call(
    open_orders: OpenOrders, root: Path, helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process reads it at once."""
    spool = open_orders()
    spool.write(helpers.line("first"), 9)

    def fail(*_: Any) -> int:
        raise AssertionError("a system call")

    monkeypatch.setattr(os, "write", fail)
    spool.write(helpers.line("second"), 9)
    monkeypatch.undo()
    assert helpers.messages(root / "orders" / spool.spool_id) == ["first", "second"]
    assert spool.stats()["lost_write_failed"] == 0


def test_the_room_is_on_the_disk_before_it_is_mapped(
    open_orders: OpenOrders, root: Path, helpers: Any
) -> None:
    """No block is missing that a copy could need: a sparse map on a full disk ends the process."""
    spool = open_orders()
    spool.write(helpers.line("m"), 9)
    (segment,) = segment_paths(root / "orders" / spool.spool_id)
    status = segment.stat()
    assert status.st_size > 4 * 1024 * 1024
    assert status.st_blocks * 512 >= status.st_size


def test_a_segment_that_is_left_gives_its_room_back(
    open_orders: OpenOrders, root: Path, helpers: Any
) -> None:
    """Only the open one is longer than its lines."""
    spool = open_orders(segment_bytes_max=8192)
    for number in range(300):
        spool.write(helpers.line(f"m{number}"), 9)
    *closed, current = segment_paths(root / "orders" / spool.spool_id)
    assert closed
    assert all(path.read_bytes().endswith(b"\n") for path in closed)
    assert current.read_bytes().endswith(b"\0")
    spool.close("shutdown")
    assert current.read_bytes().endswith(b"\n")


def test_a_child_does_not_cut_its_parents_file(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """It inherits map and descriptor, and gives both up without touching the file."""
    spool = open_orders()
    spool.write(helpers.line("parent"), 9)
    parent_id = spool.spool_id
    (segment,) = segment_paths(root / "orders" / parent_id)
    size = segment.stat().st_size
    child = os.fork()
    if child == 0:
        spool.write(helpers.line("child"), 9)
        spool.close("shutdown")
        os._exit(0)
    os.waitpid(child, 0)
    assert segment.stat().st_size == size
    spool.write(helpers.line("parent again"), 9)
    assert helpers.messages(root / "orders" / parent_id) == ["parent", "parent again"]
    (child_directory,) = [path for path in spools(root / "orders") if path.name != parent_id]
    assert helpers.messages(child_directory) == ["child"]


def test_what_a_killed_process_mapped_is_adopted(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """The zero tail is no data: the close line stands right after the last line."""
    spool = open_orders()
    child = os.fork()
    if child == 0:
        for number in range(10):
            spool.write(helpers.line(f"m{number}"), 9)
        os._exit(0)
    os.waitpid(child, 0)
    (path,) = spools(root / "orders")
    claim = Claim.try_claim(path)
    assert claim is not None
    claim.release()
    lines = list(read_lines(path))
    assert helpers.messages(path) == [f"m{number}" for number in range(10)]
    (close,) = helpers.special_lines(path, "close")
    assert close == {"count": 10, "end_offset": lines[-1][0], "ended": "killed"}


def test_the_shipper_reads_what_is_being_mapped(
    open_orders: OpenOrders, root: Path, ingest: Any, quick: Any, helpers: Any
) -> None:
    """All of it, in order, once, while it is written."""
    spool = open_orders(segment_bytes_max=65_536)
    shipper = start_shipper(root, service="orders", url=ingest.url, token=None, spool=spool, limits=quick)
    for number in range(5000):
        spool.write(helpers.line(f"m{number}"), 9)
    assert shipper.flush(30.0)
    assert [record["message"] for record in ingest.records()] == [f"m{number}" for number in range(5000)]
    assert (ingest.resent_lines, ingest.conflicts) == (0, [])
    assert spool.stats()["lost_damaged"] == 0
    shipper.stop(5.0)


def test_a_line_that_does_not_fit_is_not_half_there(tmp_path: Path) -> None:
    """0 says that the disk did not take it, as `os.write` says it of a part."""
    with (tmp_path / "file").open("w+b") as file:
        segment = MappedSegment(file.fileno(), 0, 4096)
        assert segment.append(file.fileno(), b"x" * 4000) == 4000
        assert segment.append(file.fileno(), b"y" * 100) == 0
        assert segment.append(file.fileno(), b"z" * 96) == 96
        assert segment.place == 4096
        segment.close()


def test_a_write_that_interrupts_a_copy_goes_behind_it(tmp_path: Path) -> None:
    """The place is taken before the bytes are copied: a signal handler never writes over our line."""
    with (tmp_path / "file").open("w+b") as file:
        segment = MappedSegment(file.fileno(), 0, 4096)

        class Interrupted:
            """A map during whose first copy a signal handler logs."""

            def __init__(self, real: Any) -> None:
                self._real = real
                self._is_first = True

            def __setitem__(self, where: slice, line: bytes) -> None:
                if self._is_first:
                    self._is_first = False
                    segment.append(file.fileno(), b"inner\n")
                self._real[where] = line

        real, segment._map = segment._map, Interrupted(segment._map)  # type: ignore[assignment]
        segment.append(file.fileno(), b"outer\n")
        assert real[:12] == b"outer\ninner\n"
        real.close()


CUTTER = """
    import os, sys
    from pathlib import Path

    spool, how = Path(sys.argv[1]), sys.argv[2]
    for line in sys.stdin:  # one word, one cut; the answer says that it is done
        newest = max(spool.glob("*.ndjson"))
        size = {"all": 0, "half": newest.stat().st_size // 2, "little": 4096}[how]
        os.truncate(newest, size)
        print("cut", flush=True)
"""


class Cutter:
    """Another process, which cuts the newest segment of a spool when it is told to."""

    def __init__(self, spool: Path, how: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CUTTER), str(spool), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def cut(self) -> None:
        """Cut, and wait until it is done."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("now\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "cut\n"

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=30)


@pytest.mark.parametrize("how", ["all", "half", "little"])
def test_a_process_survives_that_its_file_is_cut(
    open_orders: OpenOrders, root: Path, helpers: Any, how: str
) -> None:
    """Between calls, again and again; what was cut is counted, everything else is found once."""
    spool = open_orders()
    spool.write(helpers.line("m0"), 9)
    directory = root / "orders" / spool.spool_id
    cutter = Cutter(directory, how)
    written = 1
    for _ in range(10):
        for _ in range(50):
            spool.write(helpers.line(f"m{written}"), 9)
            written += 1
        cutter.cut()
    for _ in range(50):
        spool.write(helpers.line(f"m{written}"), 9)
        written += 1
    cutter.close()
    spool.close("exit")
    found = helpers.messages(directory)
    assert len(set(found)) == len(found)
    _all_is_accounted_for(spool, directory, helpers)
    assert found[-50:] == [f"m{number}" for number in range(written - 50, written)]
    assert spool.stats()["lost_write_failed"] == spool.stats()["memory_bytes"] == 0


def _all_is_accounted_for(spool: Spool, directory: Path, helpers: Any) -> None:
    """Each line that was taken is there or counted as lost; loss lines may have been cut off themselves."""
    losses = helpers.special_lines(directory, "loss")
    there = len(helpers.messages(directory)) + len(losses) + len(helpers.special_lines(directory, "close"))
    stats = spool.stats()
    assert there + stats["lost_deleted"] == stats["lines"]
    assert {loss["reason"] for loss in losses} <= {"deleted"}


def test_threads_survive_that_their_file_is_cut(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """Each line that no loss line tells of is found once, in whatever thread it was written."""
    spool = open_orders()
    spool.write(helpers.line("first"), 9)
    directory = root / "orders" / spool.spool_id
    cutter = Cutter(directory, "all")
    rounds, threads = 5, 4
    together = threading.Barrier(threads + 1)

    def work(thread: int) -> None:
        for turn in range(rounds):
            together.wait()
            for number in range(200):
                spool.write(helpers.line(f"{thread}-{turn}-{number}"), 9)
            together.wait()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for _ in range(rounds):  # the file is cut while no copy is under way: what remains is in the docstring
        cutter.cut()
        together.wait()
        together.wait()
    for worker in workers:
        worker.join()
    cutter.close()
    spool.close("exit")
    kept = {f"{thread}-{rounds - 1}-{number}" for thread in range(threads) for number in range(200)}
    found = helpers.messages(directory)
    assert set(found) == kept and len(found) == len(kept)
    _all_is_accounted_for(spool, directory, helpers)


def test_the_loss_of_a_cut_is_told_once(
    open_orders: OpenOrders, root: Path, ingest: Any, quick: Any, helpers: Any
) -> None:
    """What is shipped agrees with the counter, although the reader stumbles over the torn line as well."""
    spool = open_orders()
    for number in range(100):
        spool.write(helpers.line(f"m{number}"), 9)
    directory = root / "orders" / spool.spool_id
    (segment,) = segment_paths(directory)
    offsets = [offset for offset, _ in read_lines(directory)]
    header_bytes = segment.read_bytes().index(b"\n") + 1
    os.truncate(segment, header_bytes + offsets[60] + 7)
    spool.write(helpers.line("after"), 9)
    shipper = start_shipper(root, service="orders", url=ingest.url, token=None, spool=spool, limits=quick)
    assert shipper.flush(30.0)
    assert ingest.messages() == [f"m{number}" for number in range(60)] + ["after"]
    assert [record["loss"]["count"] for record in ingest.records("loss")] == [40]
    assert spool.stats()["lost_deleted"] == 40 and spool.stats()["lost_damaged"] == 0
    shipper.stop(5.0)


def test_a_full_disk_ends_no_process(tmp_path: Path, need: Callable[[bool, str], None], helpers: Any) -> None:
    """A segment for which there is no room is not mapped; what is mapped has its room."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], check=False)
    need(made.returncode == 0, "the right to mount a tmpfs")
    try:
        limits = SpoolLimits(
            disk_free_bytes_min=0, recheck_interval_s=0.0, mode="mapped", segment_bytes_max=65_536
        )
        spool = open_spool(place / "spool", service="orders", resource={}, limits=limits)
        spool.write(helpers.line("m0"), 9)
        directory = place / "spool" / "orders" / spool.spool_id
        assert segment_paths(directory)[0].read_bytes().endswith(b"\0"), "it is mapped"
        with contextlib.suppress(OSError), (place / "ballast").open("wb", buffering=0) as ballast:
            while ballast.write(b"x" * 4096):
                pass
        for number in range(1, 20_000):
            spool.write(helpers.line(f"m{number}"), 9)
        assert spool.stats()["memory_bytes"] > 0
        (place / "ballast").unlink()
        spool.write(helpers.line("m20000"), 9)
        assert helpers.messages(directory) == [f"m{number}" for number in range(20_001)]
        spool.close("test over")
    finally:
        subprocess.run(["umount", str(place)], check=True)


FORKER = """
    import ctypes, os, sys
    from pathlib import Path
    from tracing.line import encode
    from tracing.spool import SpoolLimits, open_spool

    fork = ctypes.PyDLL(None).fork  # as a server written in C forks: none of Python's hooks is run
    spool = open_spool(Path(sys.argv[1]), service="orders", resource={},
                       limits=SpoolLimits(disk_free_bytes_min=0, mode="mapped"))

    def say(message):
        spool.write(encode({"timestamp": 1, "level": "INFO", "service": "orders", "message": message}), 9)

    for number in range(20):
        say(f"parent {number}")
        pid = fork()
        if pid == 0:
            for line in range(5):
                say(f"child {number} {line}")
            os._exit(0)
        say(f"parent {number} goes on")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


def test_children_without_fork_hooks_write_their_own(root: Path, helpers: Any) -> None:
    """Under uWSGI nobody tells a child what it is; its first line finds out."""
    subprocess.run([sys.executable, "-c", textwrap.dedent(FORKER), str(root)], check=True, timeout=60)
    found = [helpers.messages(path) for path in spools(root / "orders")]
    parents = [name for number in range(20) for name in (f"parent {number}", f"parent {number} goes on")]
    children = [[f"child {number} {line}" for line in range(5)] for number in range(20)]
    assert sorted(found) == sorted([parents, *children])


def test_a_hole_of_nuls_is_passed_over_and_counted(
    open_orders: OpenOrders, root: Path, ingest: Any, quick: Any, helpers: Any
) -> None:
    """As the loss of power leaves it, or somebody who cuts a file and makes it as long again."""
    spool = open_orders()
    for number in range(100):
        spool.write(helpers.line(f"m{number}"), 9)
    directory = root / "orders" / spool.spool_id
    (segment,) = segment_paths(directory)
    offsets = [offset for offset, _ in read_lines(directory)]
    size = segment.stat().st_size
    header_bytes = segment.read_bytes().index(b"\n") + 1
    os.truncate(segment, header_bytes + offsets[60])
    os.truncate(segment, size)
    for number in range(100, 200):
        spool.write(helpers.line(f"m{number}"), 9)
    shipper = start_shipper(root, service="orders", url=ingest.url, token=None, spool=spool, limits=quick)
    assert shipper.flush(30.0)
    # The line after the hole has no newline before it that would tell them apart.
    assert ingest.messages() == [f"m{number}" for number in (*range(60), *range(101, 200))]
    assert spool.stats()["lost_damaged"] == 1
    assert ingest.conflicts == []
    shipper.stop(5.0)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("ext4", True), ("xfs", True), ("tmpfs", True), ("nfs4", False), ("overlay", False)],
)
def test_only_file_systems_that_are_known_to_be_good_are_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, expected: bool
) -> None:
    """By the table of mounts; a path that is not there yet is judged by where it would be."""
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
        f"36 35 {os.major(device)}:{os.minor(device)} / / rw,noatime shared:1 - {kind} /dev/x rw\n"
    )
    monkeypatch.setattr(mapped_module, "_MOUNTS", mounts)
    assert is_mappable(tmp_path / "not" / "yet") is expected
    mounts.write_text("nonsense\n")
    assert is_mappable(tmp_path) is False
    mounts.unlink()
    assert is_mappable(tmp_path) is False


def test_elsewhere_lines_are_written(
    open_orders: OpenOrders, root: Path, helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setting is a wish; what cannot be mapped safely is written."""
    monkeypatch.setattr("tracing.spool.directory.is_mappable", lambda _path: False)
    spool = open_orders()
    spool.write(helpers.line("m"), 9)
    (segment,) = segment_paths(root / "orders" / spool.spool_id)
    assert segment.read_bytes().endswith(b"\n")
