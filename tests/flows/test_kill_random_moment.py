"""SIGKILL at random moments under load from four threads: what a call returned for is there, once."""

from __future__ import annotations

import mmap
import os
import random
import shutil
import signal
import struct
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tracing.line import encode
from tracing.spool import Spool, SpoolLimits, open_spool
from tracing.spool.adoption import Claim, spools
from tracing.spool.reader import read_lines

THREADS = 4
MOMENTS = 100
SEED = 20261124
COUNTER = struct.Struct("<Q")


def log_for_ever(spool: Spool, returned: mmap.mmap) -> None:
    """In a child: four threads log as fast as they can; each says how many of its calls have returned."""

    def work(thread: int) -> None:
        number = 0
        while True:
            message = f"{thread}-{number}-{'x' * (number % 300)}"
            fields = {"timestamp": 1, "level": "INFO", "service": "orders", "message": message}
            spool.write(encode(fields), 9)
            number += 1
            COUNTER.pack_into(returned, thread * COUNTER.size, number)

    for thread in range(1, THREADS):
        threading.Thread(target=work, args=(thread,), daemon=True).start()
    work(0)


def numbers_by_thread(directory: Path) -> dict[int, Counter[int]]:
    """Which numbers each thread's lines have, and how often."""
    found: dict[int, Counter[int]] = {thread: Counter() for thread in range(THREADS)}
    for _, line in read_lines(directory, skipped := Counter()):
        message = line.partition(b'"message":"')[2]
        if message:
            thread, number, _ = message.split(b"-", 2)
            found[int(thread)][int(number)] += 1
    assert not skipped, "a kill tears the last line at most, and that is cut off"
    return found


@pytest.mark.flow
@pytest.mark.parametrize("mode", ["write", "mapped"])
def test_each_record_whose_call_had_returned_is_found_once(tmp_path: Path, mode: Any) -> None:
    """The only other line that may be there is the one whose call was under way."""
    moments = random.Random(SEED)
    limits = SpoolLimits(segment_bytes_max=16_384, disk_free_bytes_min=0, mode=mode)
    for moment in range(MOMENTS):
        root = tmp_path / str(moment)
        spool = open_spool(root, service="orders", resource={}, limits=limits)
        with mmap.mmap(-1, THREADS * COUNTER.size) as returned:
            target = moments.randrange(1, 1500)
            child = os.fork()
            if child == 0:
                log_for_ever(spool, returned)
            deadline_s = time.monotonic() + 30
            while sum(struct.unpack(f"<{THREADS}Q", returned)) < target:
                assert time.monotonic() < deadline_s, f"moment {moment}: the child does not log"
                time.sleep(0)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            counts = struct.unpack(f"<{THREADS}Q", returned)
        (directory,) = spools(root / "orders")
        claim = Claim.try_claim(directory)
        assert claim is not None
        assert claim.is_dead
        claim.release()
        for thread, numbers in numbers_by_thread(directory).items():
            where = f"seed {SEED}, moment {moment}, thread {thread}"
            assert set(numbers.values()) <= {1}, where
            assert len(numbers) in (counts[thread], counts[thread] + 1), where
            assert set(numbers) == set(range(len(numbers))), where
        shutil.rmtree(root)
