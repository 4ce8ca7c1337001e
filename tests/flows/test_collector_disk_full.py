"""A disk that fills up and is cleared again, under a running collector."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.client import CollectorClient
from collector.errors import Overloaded

pytestmark = pytest.mark.flow

PATIENCE_S = 60.0
MIB = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path, need: Callable[[bool, str], None]) -> Iterator[Path]:
    """A file system of its own with 64 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)]
    done = subprocess.run(mount, check=False, capture_output=True) if shutil.which("mount") else None
    need(done is not None and done.returncode == 0, "the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def batch(number: int) -> list[tuple[str, bytes]]:
    """Some records that nobody packs small: about 200 KiB."""
    text = (
        "".join(chr(33 + (number * 7 + at * at) % 90) for at in range(2_000))
        .replace("\\", "/")
        .replace('"', "'")
    )
    return [
        (
            f"u-{number}-{at}",
            b'{"timestamp":"2026-11-24T05:32:11.%09dZ","level":"INFO","service":"orders","message":"%b"}'
            % (number * 100 + at, text.encode()),
        )
        for at in range(100)
    ]


def test_it_refuses_while_the_disk_is_full_and_goes_on_afterwards(
    small_disk: Path, collector_process: Callable[..., Any]
) -> None:
    """503 while there is no room; no restart; what was acknowledged is stored once, what was not is not."""
    collector = collector_process(data_dir=str(small_disk / "data"), disk_free_bytes_min="16MiB")
    collector.start()
    (small_disk / "ballast").write_bytes(bytes(24 * MIB))
    acknowledged: list[int] = []
    number = 0
    with CollectorClient(collector.url) as client:
        while True:
            try:
                client.import_records(batch(number), overloaded_s_max=0.0)
            except Overloaded:
                break
            acknowledged.append(number)
            number += 1
            assert number < 1_000, "the disk never gets full"
        assert acknowledged
        assert client.health()["status"] == "full"  # it answers, and says how it is
        (small_disk / "ballast").unlink()
        client.import_records(batch(number), overloaded_s_max=PATIENCE_S)
        acknowledged.append(number)
        deadline = time.monotonic() + PATIENCE_S
        while client.health()["status"] != "ready" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert client.health()["status"] == "ready"
        while client.stats()["indexing"]["lag_records"] and time.monotonic() < deadline:
            time.sleep(0.05)
        found: Counter[str] = Counter()
        cursor = None
        while True:
            page = client.logs(limit=1_000, cursor=cursor)
            found.update(record["uid"] for record in page["records"])
            cursor = page["cursor"]
            if cursor is None:
                break
    assert found == Counter(uid for number in acknowledged for uid, _ in batch(number))
    assert collector.terminate() == 0
