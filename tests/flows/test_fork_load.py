"""Two hundred forks while threads log: no deadlock, every record once, each under its own process."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from tracing.line import encode
from tracing.spool import Spool, SpoolLimits, open_spool
from tracing.spool.adoption import spools
from tracing.spool.reader import read_lines, segment_paths

FORKS = 200
THREADS = 4
LINES_PER_CHILD = 3
DEADLINE_S = 60.0


def log(spool: Spool, message: str) -> None:
    """One log call's line."""
    fields = {"timestamp": 1, "level": "INFO", "service": "orders", "message": message}
    spool.write(encode(fields), 9)


def ended_in_time(child: int) -> bool:
    """Wait for a child; a child that hangs is killed."""
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s:
        if os.waitpid(child, os.WNOHANG)[0] == child:
            return True
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


@pytest.mark.flow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("mode", ["write", "mapped"])
def test_forks_under_load(tmp_path: Path, mode: Any) -> None:
    """The children log at once, from two threads, as a server's workers do."""
    limits = SpoolLimits(segment_bytes_max=16_384, disk_free_bytes_min=0, mode=mode)
    spool = open_spool(tmp_path, service="orders", resource={"service.name": "orders"}, limits=limits)
    log(spool, "parent first")
    parent_id = spool.spool_id
    stop = threading.Event()
    logged = Counter[int]()

    def work(thread: int) -> None:
        while not stop.is_set():
            log(spool, f"parent {thread}-{logged[thread]}")
            logged[thread] += 1

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    children = []
    for _ in range(FORKS):
        child = os.fork()
        if child == 0:
            second = threading.Thread(target=log, args=(spool, f"child {os.getpid()} second"))
            second.start()
            for number in range(LINES_PER_CHILD - 1):
                log(spool, f"child {os.getpid()} {number}")
            second.join()
            os._exit(0)
        children.append(child)
    in_time = [ended_in_time(child) for child in children]
    stop.set()
    for thread in threads:
        thread.join()
    assert all(in_time), f"{in_time.count(False)} children hung"

    by_process: dict[int, Counter[str]] = {}
    for directory in spools(tmp_path / "orders"):
        header = orjson.loads(segment_paths(directory)[0].read_bytes().partition(b"\n")[0])
        pid = header["resource"]["process.pid"]
        if directory.name != parent_id:
            assert header["parent"] == {"spool_id": parent_id, "pid": os.getpid()}
        found = by_process.setdefault(pid, Counter())
        found.update(orjson.loads(line)["message"] for _, line in read_lines(directory))
    own = by_process.pop(os.getpid())
    assert own == Counter(
        [
            "parent first",
            *(f"parent {thread}-{n}" for thread in range(THREADS) for n in range(logged[thread])),
        ]
    )
    assert sum(map(len, by_process.values())) == FORKS * LINES_PER_CHILD
    for pid, messages in by_process.items():
        names = [*(str(number) for number in range(LINES_PER_CHILD - 1)), "second"]
        assert messages == Counter(f"child {pid} {name}" for name in names)
    spool.close("test over")
