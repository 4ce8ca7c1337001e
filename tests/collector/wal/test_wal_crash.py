"""The log when its process is killed, and when the disk is full. Real processes, real limits."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from collector.errors import Overloaded
from collector.wal import Envelope, Wal, WalBatch, WalLimits

APPENDER = Path(__file__).with_name("wal_appender.py")


def killed_after(directory: Path, acknowledged_bytes: int) -> list[str]:
    """Let a process append with 4 threads, kill it when it has acknowledged so much, return what it did."""
    with subprocess.Popen(
        [sys.executable, APPENDER, directory, "4"], stdout=subprocess.PIPE, bufsize=0
    ) as child:
        assert child.stdout is not None
        said = b""
        while len(said) < acknowledged_bytes:
            part = child.stdout.read(65_536)
            assert part, "the process ended by itself"
            said += part
        child.send_signal(signal.SIGKILL)
        said += child.stdout.read()
    return said.decode().splitlines()


def readable(wal: Wal) -> list[str]:
    found, after = [], 0
    while frames := wal.read(after, 10_000):
        after = frames[-1].last_seq
        found += [json.loads(line)["m"] for frame in frames for line in frame.split()]
    return found


def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    """Twelve lives of one directory, each ended at another moment: nothing missing, nothing twice."""
    seed = random.Random(20_260_101)
    acknowledged: list[str] = []
    for _ in range(12):
        acknowledged += killed_after(tmp_path, seed.randrange(1, 40_000))
    wal = Wal.open(tmp_path)
    found = readable(wal)
    assert [text for text, count in Counter(found).items() if count > 1] == []
    assert set(acknowledged) <= set(found)
    assert wal.stats()["lost_records"] == wal.stats()["damaged_bytes"] == 0


@pytest.fixture
def small_disk(tmp_path: Path, need: Callable[[bool, str], None]) -> Iterator[Path]:
    """A file system of 1 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path], check=False, capture_output=True
        ).returncode
    )
    need(mounted, "the right to mount a small file system")
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_full_disk_refuses_and_takes_again_without_a_restart(small_disk: Path) -> None:
    """Nothing acknowledged is lost, nothing refused is there, and space again means taken again."""
    limits = WalLimits(bytes_max=2**30, segment_bytes_max=65_536, disk_free_bytes_min=0)
    wal = Wal.open(small_disk / "wal", limits=limits)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 300_000)
    acknowledged: list[str] = []
    refused = 0
    for number in range(400):
        text = f"{number}-{'x' * 3000}"
        if number == 300:
            assert refused, "the disk was never full"
            ballast.unlink()
        try:
            wal.append(WalBatch(Envelope(received_ns=1), json.dumps({"m": text}).encode() + b"\n"))
        except Overloaded as error:
            assert "No space left" in str(error)
            refused += 1
        else:
            acknowledged.append(text)
    assert any(text.startswith("300-") for text in acknowledged), "space again, and still refused"
    assert readable(wal) == acknowledged
    wal.close()
    again = Wal.open(small_disk / "wal", limits=limits)
    assert readable(again) == acknowledged
    assert again.stats()["torn_bytes"] == 0


def test_a_limit_on_the_size_of_files_is_a_full_disk(tmp_path: Path) -> None:
    """Whatever the reason that the system gives: a short write is cut away, the sender keeps its data."""
    limits = WalLimits(bytes_max=2**30, segment_bytes_max=2**29, disk_free_bytes_min=0)
    wal = Wal.open(tmp_path / "wal", limits=limits)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    acknowledged: list[str] = []
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(Overloaded, match="File too large"):
            while True:
                text = f"{len(acknowledged)}-{'x' * 7000}"
                wal.append(WalBatch(Envelope(received_ns=1), json.dumps({"m": text}).encode() + b"\n"))
                acknowledged.append(text)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(acknowledged) == 14
    assert readable(wal) == acknowledged
    wal.append(WalBatch(Envelope(received_ns=1), b'{"m":"more"}\n'))
    assert readable(Wal.open(tmp_path / "wal", limits=limits)) == [*acknowledged, "more"]
