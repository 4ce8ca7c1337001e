"""A small disk that fills up with DEBUG under a running collector: it goes, the rest stays, senders go on."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.client import CollectorClient

pytestmark = pytest.mark.flow

PATIENCE_S = 120.0
BATCH_RECORDS = 2_000


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
    """Records that nobody packs small, nine of ten DEBUG."""
    chance = random.Random(number)
    return [
        (
            f"u-{number}-{at}",
            b'{"timestamp":"2026-11-24T05:32:11.%09dZ","level":"%b","service":"orders","message":"%b"}'
            % (
                number * BATCH_RECORDS + at,
                b"DEBUG" if at % 10 else b"INFO",
                chance.randbytes(200).hex().encode(),
            ),
        )
        for at in range(BATCH_RECORDS)
    ]


def shed(client: CollectorClient) -> int:
    """How many records the audit trail says have been shed."""
    notes = client.logs("event.name:backtrail.audit", limit=1_000)["records"]
    return sum(note["attributes"]["audit.count"] for note in notes)


def test_debug_goes_and_the_rest_stays(small_disk: Path, collector_process: Callable[..., Any]) -> None:
    """Each INFO record is still there; what DEBUG is not there is exactly what was counted."""
    collector = collector_process(
        data_dir=str(small_disk / "data"),
        wal_bytes_max="8MiB",
        disk_free_bytes_min="4MiB",
        shed_free_bytes_min="42MiB",
        commit_interval_s="0.2",
    )
    collector.start()
    sent = 0
    deadline = time.monotonic() + PATIENCE_S
    with CollectorClient(collector.url) as client:
        while not shed(client):
            assert time.monotonic() < deadline, client.stats()
            client.import_records(batch(sent), overloaded_s_max=PATIENCE_S)
            sent += 1
        for _ in range(3):
            client.import_records(batch(sent), overloaded_s_max=PATIENCE_S)
            sent += 1
        while client.stats()["indexing"]["lag_records"]:
            assert time.monotonic() < deadline, client.stats()
            time.sleep(0.05)
        assert (
            client.logs("service:orders level:INFO", limit=1, total=True)["total"]
            == sent * BATCH_RECORDS // 10
        )
        debug = sent * BATCH_RECORDS * 9 // 10
        # a partition may be shed between two questions
        while client.logs("service:orders level:DEBUG", limit=1, total=True)["total"] + shed(client) != debug:
            assert time.monotonic() < deadline, (debug, shed(client), client.stats())
            time.sleep(0.05)
    assert collector.terminate() == 0
