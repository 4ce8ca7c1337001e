"""Exit with 100 000 unsent records and a dead collector: nothing is waited for, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import orjson
import pytest

from tracing.spool import ShipperLimits, drain
from tracing.spool.reader import Batch
from tracing.spool.transport import Acknowledgement

RECORDS = 100_000

PROGRAM = """
    import atexit, json, sys, threading

    # What the main thread does between its last statement and the end of the process.
    WATCHED = ("socket.", "subprocess.", "os.fork")
    seen = []
    main = threading.get_ident()
    is_ending = False

    def watch(event, arguments):
        if is_ending and threading.get_ident() == main and event.startswith(WATCHED):
            seen.append(event)

    def report():
        with open(sys.argv[2], "w") as file:
            json.dump(seen, file)

    def end():
        global is_ending
        is_ending = True
        real_join = threading.Thread.join
        real_wait = threading.Event.wait

        def join(self, timeout=None):
            seen.append(f"join {self.name}")
            return real_join(self, timeout)

        def wait(self, timeout=None):
            if threading.get_ident() == main:
                seen.append("wait")
            return real_wait(self, timeout)

        threading.Thread.join, threading.Event.wait = join, wait

    sys.addaudithook(watch)
    atexit.register(report)  # the first to be registered is the last to run

    import logging
    import tracing

    tracing.configure(service="orders", spool_dir=sys.argv[1], collector_url="http://127.0.0.1:9")
    atexit.register(end)  # and the last one the first
    logger = logging.getLogger("shop")
    for number in range(int(sys.argv[3])):
        logger.warning("record %d", number)
"""


class Keeper:
    """A carrier whose other side is a list."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.end_offset = 0

    def send(self, batch: Batch) -> Acknowledgement:
        """Keep the lines; they must begin where the last ones ended."""
        assert batch.offset == self.end_offset
        self.end_offset = batch.end_offset
        self.lines += batch.data.splitlines()
        return Acknowledgement(batch.end_offset, 0)

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.flow
def test_exit_joins_no_thread_touches_no_network_and_loses_nothing(tmp_path: Path) -> None:
    """The main thread writes the close line; the next one who ships finds all the records."""
    root, report = tmp_path / "spool", tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(root), str(report), str(RECORDS)],
        timeout=120,
        check=True,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("", "".join(f"record {n}\n" for n in range(RECORDS)))
    assert orjson.loads(report.read_bytes()) == []

    keeper = Keeper()
    assert drain(root, keeper, timeout_s=60, limits=ShipperLimits(batch_bytes_max=4 * 1024 * 1024))
    lines = [orjson.loads(line) for line in keeper.lines]
    assert [line["message"] for line in lines[:-1]] == [f"record {number}" for number in range(RECORDS)]
    assert lines[-1]["close"]["ended"] == "exit"
    assert lines[-1]["close"]["count"] == RECORDS
    assert list((root / "orders").iterdir()) == []
