"""The mapped segment: reserved before it is used, safe in forked children, read while it is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracing.spool import Spool, start_shipper
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
        assert segment.append(0, b"x" * 4000) == 4000
        assert segment.append(0, b"y" * 100) == 0
        assert segment.append(0, b"z" * 96) == 96
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
                    segment.append(0, b"inner\n")
                self._real[where] = line

        real, segment._map = segment._map, Interrupted(segment._map)  # type: ignore[assignment]
        segment.append(0, b"outer\n")
        assert real[:12] == b"outer\ninner\n"
        real.close()


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
